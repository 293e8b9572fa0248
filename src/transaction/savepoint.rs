//! Savepoints: states of a write transaction that it can be rolled back to ([`Savepoint`]).
//!
//! While a savepoint exists, each part of a transaction records its changes in a log
//! ([`UndoLog`](crate::write_set::undo_log::UndoLog)), and a rollback undoes them step by step. The rollback
//! abandons rows that were written to the chunks since the savepoint: later writes overwrite them.

use std::sync::atomic::{AtomicU64, Ordering};

use pongo_core::engine::EngineTransaction;
use pongo_core::error::WriteError;

/// A state of a [`WriteTransaction`](crate::WriteTransaction) that it can be rolled back to.
/// Created by [`savepoint`](crate::WriteTransaction::savepoint); valid for any number of calls to
/// [`rollback_to`](crate::WriteTransaction::rollback_to) until it ends.
///
/// It cannot be cloned, so a released savepoint can no longer be used:
///
/// ```compile_fail,E0382
/// # use pongo::prelude::*;
/// # let store = Store::in_memory()?;
/// let mut tx = store.begin_write()?;
/// let savepoint = tx.savepoint()?;
/// tx.release(savepoint)?;
/// tx.rollback_to(&savepoint)?; // borrow of moved value
/// # Ok::<(), pongo::WriteError>(())
/// ```
#[derive(Debug)]
#[must_use = "a savepoint is useful only for a rollback to it"]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

/// The transaction's record of an existing savepoint.
#[derive(Debug)]
pub(crate) struct SavepointEntry {
    pub(crate) number: u64,
    /// Number of staged heap bytes.
    pub(crate) heap: u64,
    /// Number of tables opened in the transaction, and of those that it created.
    pub(crate) tables: usize,
    made: usize,
}

/// The existing savepoints of one transaction, the innermost last.
#[derive(Debug, Default)]
pub(crate) struct Savepoints {
    /// The transaction's number; 0 until it has a savepoint.
    transaction: u64,
    points: Vec<SavepointEntry>,
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Savepoints {
    pub(crate) fn begin(&mut self, guard: &EngineTransaction, tables: usize) -> Savepoint {
        if self.transaction == 0 {
            self.transaction = next_number();
        }
        let number = next_number();
        let heap = guard.staged_heap_len();
        self.points.push(SavepointEntry { number, heap, tables, made: guard.new_table_count() });
        Savepoint { transaction: self.transaction, number }
    }

    /// Returns the numbers of all existing savepoints, outer ones first.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.points.iter().map(|point| point.number)
    }

    fn place(&self, savepoint: &Savepoint) -> Result<usize, WriteError> {
        if savepoint.transaction != self.transaction {
            return Err(WriteError::Savepoint { found: "one of another transaction" });
        }
        let place = self.points.iter().position(|point| point.number == savepoint.number);
        place.ok_or(WriteError::Savepoint { found: "one that ended" })
    }

    /// Ends the savepoints after this one, and removes the tables created since.
    pub(crate) fn go_back(
        &mut self,
        savepoint: &Savepoint,
        guard: &mut EngineTransaction,
    ) -> Result<&SavepointEntry, WriteError> {
        let place = self.place(savepoint)?;
        self.points.truncate(place + 1);
        let point = &self.points[place];
        guard.truncate_new_tables(point.made);
        Ok(point)
    }

    /// Ends this savepoint and those after it. Returns its number.
    pub(crate) fn end(&mut self, savepoint: &Savepoint) -> Result<u64, WriteError> {
        let place = self.place(savepoint)?;
        self.points.truncate(place);
        Ok(savepoint.number)
    }
}
