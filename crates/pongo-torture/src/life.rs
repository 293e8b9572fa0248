//! A store on a simulated disk that is worked with step by step, and a book kept of it.

use std::sync::{Arc, Mutex, MutexGuard};

use pongo::prelude::*;
use pongo_sim::{Disk, Plan, Process};

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
                // Of the two nobody else was made up: the first one is not refused.
                vec![
                    Change::PutSeat { seat: (0, n as u16 % 3), who: 500 + number },
                    Change::PutSeat { seat: (1, n as u16 % 3), who: 500 + number },
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

/// A process with the store open.
#[derive(Debug)]
struct Opened {
    process: Arc<Process>,
    store: Store,
}

impl Opened {
    fn die(self) {
        self.process.kill();
        drop(self.store);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Life {
    /// The disk.
    pub disk: Disk,
    /// What may be found after a cut. Locked only for a moment at a time.
    pub book: Arc<Mutex<Book>>,
    open: Option<Opened>,
    /// Another one, which has the store open and does nothing.
    onlooker: Option<Opened>,
    /// Of the last process, whatever became of it.
    last: Option<Arc<Process>>,
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
        Self { disk, book: Arc::default(), open: None, onlooker: None, last: None, steps: 0 }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics with it")
    }

    fn store(&self) -> &Store {
        &self.open.as_ref().expect("it is open").store
    }

    fn start(&mut self) -> Result<Opened, String> {
        let process = self.disk.process();
        self.last = Some(Arc::clone(&process));
        let store = alone().open_on(process.storage()).map_err(|error| format!("opening: {error}"))?;
        Ok(Opened { process, store })
    }

    /// Opens the store, or makes it.
    ///
    /// # Panics
    /// If that fails.
    pub fn open(&mut self) {
        self.try_open().unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_open(&mut self) -> Result<(), String> {
        let opened = self.start()?;
        self.find(&opened.store)?;
        if self.onlooker.is_none() {
            // What was not durable is so now.
            self.book().is_durable();
        }
        self.open = Some(opened);
        Ok(())
    }

    /// What is there is what may be.
    fn find(&self, store: &Store) -> Result<(), String> {
        let seq = store.begin_read().map_err(|error| format!("reading: {error}"))?.seq().0;
        self.book().is_left(seq)
    }

    /// Another process opens it, and waits.
    ///
    /// # Panics
    /// If that fails.
    pub fn open_beside(&mut self) {
        let last = self.last.clone();
        self.onlooker = Some(self.start().unwrap_or_else(|error| panic!("{error}")));
        self.last = last;
    }

    /// Closes it in order.
    ///
    /// # Panics
    /// If that fails.
    pub fn close(&mut self) {
        self.try_close().unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_close(&mut self) -> Result<(), String> {
        self.open.take().expect("it is open").store.close().map_err(|error| format!("closing: {error}"))?;
        if self.onlooker.is_none() {
            self.book().is_durable();
        }
        Ok(())
    }

    /// Its process dies.
    pub fn kill(&mut self) {
        if let Some(opened) = self.open.take() {
            opened.die();
        }
    }

    /// Begins a step, and its process dies at the operation of that number from now. Whether it came to that: if not, the
    /// step is done.
    ///
    /// # Panics
    /// If anything fails otherwise.
    pub fn dies_in(&mut self, step: Step, at: u64) -> bool {
        self.disk.plan(0, |now| Plan::Kill(now + at));
        let done = self.try_step(step);
        self.disk.plan(0, |_| Plan::Nothing);
        if self.last.as_ref().is_some_and(|last| last.is_dead()) {
            self.kill();
            return true;
        }
        done.unwrap_or_else(|error| panic!("{error}"));
        false
    }

    /// The process died, and who looked on goes on with the store, or, if there is none, another one that opens it.
    ///
    /// # Panics
    /// If that fails.
    pub fn succeed(&mut self) {
        let Some(opened) = self.onlooker.take() else { return self.open() };
        self.last = Some(Arc::clone(&opened.process));
        // Only who is to write looks for what the dead had begun.
        let transaction = opened.store.begin_write().unwrap_or_else(|error| panic!("taking over: {error}"));
        drop(transaction);
        self.find(&opened.store).unwrap_or_else(|error| panic!("{error}"));
        self.open = Some(opened);
    }

    /// Does a step.
    ///
    /// # Panics
    /// If anything fails or is answered wrongly.
    pub fn step(&mut self, step: Step) {
        self.try_step(step).unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_step(&mut self, step: Step) -> Result<(), String> {
        self.steps += 1;
        match step {
            Step::Reopen => {
                self.try_close()?;
                self.try_open()
            }
            Step::Kill => {
                self.kill();
                self.try_open()
            }
            Step::Rebuild => {
                self.store().rebuild_indexes().map_err(|error| format!("rebuilding: {error}"))?;
                self.store().settle().map_err(|error| format!("settling: {error}"))
            }
            change => {
                let (durability, changes) = change.changes(self.steps).expect("the others are done");
                let before = self.book().newest().clone();
                self.try_commit(&Transaction::of(&before, changes, durability))
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
                let transaction = Transaction::make_up(&before, choice, mix);
                self.try_commit(&transaction).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    fn try_commit(&self, transaction: &Transaction) -> Result<(), String> {
        let before = self.book().newest().clone();
        self.book().begins(transaction);
        let committed = transaction.perform(&before, self.store());
        let seq = committed.map_err(|error| format!("committing: {error}"))?;
        assert_eq!(seq.0, transaction.after.seq);
        self.book().is_acknowledged(transaction);
        Ok(())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // A close would be told to whoever watches.
        self.kill();
        if let Some(onlooker) = self.onlooker.take() {
            onlooker.die();
        }
    }
}
