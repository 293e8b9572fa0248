//! Savepoints: places in a write transaction to come back to ([`Savepoint`]).
//!
//! Each part of a transaction keeps a log of what is done to it while a savepoint lives ([`Log`](crate::undo::Log)), and
//! goes back step by step. Rows that were written to the chunks since are given up: what is written next goes there.

use std::sync::atomic::{AtomicU64, Ordering};

use pongo_core::engine::WriteGuard;
use pongo_core::error::WriteError;

/// A place in a [`WriteTransaction`](crate::WriteTransaction) to come back to: made by
/// [`savepoint`](crate::WriteTransaction::savepoint), good for any number of
/// [`rollback_to`](crate::WriteTransaction::rollback_to)s until it ends.
///
/// It cannot be cloned, so that one that was released is gone:
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
#[must_use = "a savepoint is there to be rolled back to"]
pub struct Savepoint {
    transaction: u64,
    number: u64,
}

/// A savepoint that lives, as its transaction knows it.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) number: u64,
    /// Staged heap bytes.
    pub(crate) heap: u64,
    /// Tables that were looked at, and those of them that the transaction made.
    pub(crate) tables: usize,
    made: usize,
}

/// The savepoints of one transaction that live, the innermost at the end.
#[derive(Debug, Default)]
pub(crate) struct Savepoints {
    /// Of the transaction; 0 until it has a savepoint.
    transaction: u64,
    points: Vec<Point>,
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Savepoints {
    pub(crate) fn begin(&mut self, guard: &WriteGuard, tables: usize) -> Savepoint {
        if self.transaction == 0 {
            self.transaction = next_number();
        }
        let number = next_number();
        let heap = guard.staged_heap_len();
        self.points.push(Point { number, heap, tables, made: guard.made_tables() });
        Savepoint { transaction: self.transaction, number }
    }

    /// Numbers of all that live, outer ones first.
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

    /// Ends the savepoints behind this one, and takes away the tables that were made since.
    pub(crate) fn go_back(
        &mut self,
        savepoint: &Savepoint,
        guard: &mut WriteGuard,
    ) -> Result<&Point, WriteError> {
        let place = self.place(savepoint)?;
        self.points.truncate(place + 1);
        let point = &self.points[place];
        guard.keep_made_tables(point.made);
        Ok(point)
    }

    /// Ends this savepoint and those behind it; returns its number.
    pub(crate) fn end(&mut self, savepoint: &Savepoint) -> Result<u64, WriteError> {
        let place = self.place(savepoint)?;
        self.points.truncate(place);
        Ok(savepoint.number)
    }
}
