//! A store on a simulated disk that is worked with step by step, and a book kept of it.

use std::sync::{Arc, Mutex, MutexGuard};

use pongo::prelude::*;
use pongo_sim::{Disk, Process};

use crate::{Book, Change, Choice, Mix, Transaction, options};

/// Something short that is done with a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A row, durable.
    Put,
    /// A row that need not be durable yet.
    PutRelaxed,
    /// A deletion, an update and a row, durable.
    Change,
    /// Rows in bulk: their entry cites them.
    Load,
    /// Rows filled in place, not durable yet but for what is cited.
    Fill,
    /// A row with a unique field, and one that is refused.
    Seat,
    /// Rows with external keys, one of them long, one deleted.
    Note,
    /// A savepoint, changes in two tables, back, and a row; not durable yet.
    RolledBack,
    /// Texts of several sectors: a segment rolls, and every third time a checkpoint is made.
    Texts,
    /// A clean close; opened again.
    Reopen,
    /// The process dies; another one recovers.
    Kill,
    /// Indexes are made anew, minima and maxima written.
    Rebuild,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Put,
        Self::PutRelaxed,
        Self::Change,
        Self::Load,
        Self::Fill,
        Self::Seat,
        Self::Note,
        Self::RolledBack,
        Self::Texts,
        Self::Reopen,
        Self::Kill,
        Self::Rebuild,
    ];

    /// What it changes as the `n`th step.
    fn changes(self, n: u32) -> Option<(Durability, Vec<Change>)> {
        let number = u64::from(n);
        let stop = |id, visits| Change::PutStop { id, visits };
        let note = |key: &[u8]| Change::PutNote { key: key.to_vec(), group: n };
        Some(match self {
            Self::Put => (Durability::Sync, vec![stop(1, n)]),
            Self::PutRelaxed => (Durability::Relaxed, vec![stop(2, n)]),
            Self::Change => (
                Durability::Sync,
                vec![
                    Change::DeleteStop { id: 1 },
                    Change::UpdateStop { id: 3, visits: n },
                    Change::DeleteStops { from: 100, keys: 4 },
                    stop(900, n),
                ],
            ),
            Self::Load => (Durability::Sync, vec![Change::LoadStops { from: 100, rows: 20, visits: n }]),
            Self::Fill => {
                (Durability::Relaxed, vec![Change::FillStops { from: 110, rows: 20, visits: 4 * n }])
            }
            Self::Seat => (
                Durability::Sync,
                vec![
                    Change::PutSeat { seat: (0, n as u16 % 3), who: number },
                    Change::PutSeat { seat: (1, n as u16 % 3), who: number },
                ],
            ),
            Self::Note => (
                Durability::Sync,
                vec![note(b"a"), note(&[b'k'; 700]), Change::DeleteNote { key: b"b".to_vec() }, note(b"c")],
            ),
            Self::RolledBack => (
                Durability::Relaxed,
                vec![
                    stop(4, n),
                    Change::RolledBack(vec![stop(5, n), Change::DeleteStop { id: 3 }, note(b"not there")]),
                    stop(901, n),
                ],
            ),
            Self::Texts => (Durability::Sync, (0..7).map(|at| stop(200 + at, 15 + 16 * n)).collect()),
            Self::Reopen | Self::Kill | Self::Rebuild => return None,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Life {
    /// The disk.
    pub disk: Disk,
    /// What may be found after a cut. Locked only for a moment at a time.
    pub book: Arc<Mutex<Book>>,
    process: Option<(Arc<Process>, Store)>,
    steps: u32,
}

/// As the other tests open it, but no thread works beside: operations have the same numbers each time.
#[must_use]
pub fn alone() -> Options {
    options().ordered_tuning(1 << 40, 8, 16, 8)
}

impl Life {
    /// A store that will be made on an empty disk.
    #[must_use]
    pub fn new(disk: Disk) -> Self {
        Self { disk, book: Arc::default(), process: None, steps: 0 }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics with it")
    }

    fn store(&self) -> &Store {
        &self.process.as_ref().expect("it is open").1
    }

    /// Opens the store, or makes it.
    ///
    /// # Panics
    /// If that fails.
    pub fn open(&mut self) {
        let process = self.disk.process();
        let store = alone().open_on(process.storage()).unwrap_or_else(|error| panic!("opening: {error}"));
        let seq = store.begin_read().expect("it is open").seq().0;
        assert_eq!(seq, self.book().newest().seq, "what was published is there");
        self.book().is_durable();
        self.process = Some((process, store));
    }

    /// Closes it in order.
    ///
    /// # Panics
    /// If that fails.
    pub fn close(&mut self) {
        let (_, store) = self.process.take().expect("it is open");
        store.close().unwrap_or_else(|error| panic!("closing: {error}"));
        self.book().is_durable();
    }

    /// Its process dies.
    pub fn kill(&mut self) {
        if let Some((process, store)) = self.process.take() {
            process.kill();
            drop(store);
        }
    }

    /// Does a step.
    ///
    /// # Panics
    /// If anything fails or is answered wrongly.
    pub fn step(&mut self, step: Step) {
        self.steps += 1;
        match step {
            Step::Reopen => {
                self.close();
                self.open();
            }
            Step::Kill => {
                self.kill();
                self.open();
            }
            Step::Rebuild => {
                self.store().rebuild_indexes().unwrap_or_else(|error| panic!("rebuilding: {error}"));
                self.store().settle().unwrap_or_else(|error| panic!("settling: {error}"));
            }
            change => {
                let (durability, changes) = change.changes(self.steps).expect("the others are done");
                let before = self.book().newest().clone();
                self.commit(&Transaction::of(&before, changes, durability));
            }
        }
    }

    /// Does something made up: mostly transactions.
    ///
    /// # Panics
    /// If anything fails or is answered wrongly.
    pub fn make_up(&mut self, choice: &mut impl Choice, mix: Mix) {
        match choice.below(16) {
            0 => self.step(Step::Reopen),
            1 => self.step(Step::Kill),
            2 => self.step(Step::Rebuild),
            _ => {
                let before = self.book().newest().clone();
                self.commit(&Transaction::make_up(&before, choice, mix));
            }
        }
    }

    fn commit(&self, transaction: &Transaction) {
        let before = self.book().newest().clone();
        self.book().begins(transaction);
        let committed = transaction.perform(&before, self.store());
        let seq = committed.unwrap_or_else(|error| panic!("committing: {error}"));
        assert_eq!(seq.0, transaction.after.seq);
        self.book().is_acknowledged(transaction);
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // A close would be told to whoever watches.
        self.kill();
    }
}
