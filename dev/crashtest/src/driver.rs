//! A store on a simulated disk that is changed step by step, and an [`ExpectedStates`] of the
//! states it may have.

use std::sync::{Arc, Mutex, MutexGuard};

use pongo::prelude::*;
use pongo_sim::{Disk, FaultPlan, Process};

use crate::{Change, ExpectedStates, Mix, RandomSource, Transaction, options};

/// A short operation on a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Puts a row, durably.
    Put,
    /// Puts a row that need not be durable yet.
    PutRelaxed,
    /// Deletes, updates and puts rows, durably.
    Change,
    /// Loads rows in bulk: their journal entry refers to them instead of containing them.
    Load,
    /// Fills rows in place. They need not be durable yet, except those that a journal entry refers
    /// to.
    Fill,
    /// Puts a row with a unique field, and another that is rejected.
    Seat,
    /// Puts rows with external keys, one of them long, and deletes one.
    Note,
    /// Sets a savepoint, changes two tables, rolls back, and puts a row that need not be durable
    /// yet.
    RolledBack,
    /// Puts texts of several sectors: a new segment is started, and every third time a checkpoint
    /// is written.
    Texts,
    /// Closes the store cleanly and opens it again.
    Reopen,
    /// Kills the process; another one recovers.
    Kill,
    /// Rebuilds the indexes and writes minima and maxima.
    Rebuild,
}

impl Step {
    /// All steps.
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

    /// Returns the changes of the `n`th step.
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
                // Both `who` are used by no other step, so the first put is not rejected.
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

/// A store under test; see the module documentation.
#[derive(Debug)]
pub struct StoreDriver {
    /// The disk.
    pub disk: Disk,
    /// The states that may be found after a cut. Locked only for a moment at a time.
    pub book: Arc<Mutex<ExpectedStates>>,
    open: Option<Opened>,
    /// Another process, which has the store open and does nothing.
    onlooker: Option<Opened>,
    /// The most recently started process, even if it was killed.
    last: Option<Arc<Process>>,
    steps: u32,
}

/// Returns options like those of the other tests, but without background threads, so that
/// operations have the same numbers in each run.
#[must_use]
pub fn alone() -> Options {
    options().ordered_tuning(1 << 40, 8, 16, 8)
}

impl StoreDriver {
    /// Creates the driver. The store will be created on an empty disk.
    #[must_use]
    pub fn new(disk: Disk) -> Self {
        Self { disk, book: Arc::default(), open: None, onlooker: None, last: None, steps: 0 }
    }

    fn book(&self) -> MutexGuard<'_, ExpectedStates> {
        self.book.lock().expect("no thread panics with it")
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

    /// Opens or creates the store.
    ///
    /// # Panics
    /// Panics if that fails.
    pub fn open(&mut self) {
        self.try_open().unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_open(&mut self) -> Result<(), String> {
        let opened = self.start()?;
        self.find(&opened.store)?;
        if self.onlooker.is_none() {
            // Opening made everything durable.
            self.book().is_durable();
        }
        self.open = Some(opened);
        Ok(())
    }

    /// Checks that the store's content is one of the allowed states.
    fn find(&self, store: &Store) -> Result<(), String> {
        let seq = store.begin_read().map_err(|error| format!("reading: {error}"))?.seq().0;
        self.book().is_left(seq)
    }

    /// Opens the store in another process, which then stays idle.
    ///
    /// # Panics
    /// Panics if that fails.
    pub fn open_beside(&mut self) {
        let last = self.last.clone();
        self.onlooker = Some(self.start().unwrap_or_else(|error| panic!("{error}")));
        self.last = last;
    }

    /// Closes the store cleanly.
    ///
    /// # Panics
    /// Panics if that fails.
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

    /// Kills the process.
    pub fn kill(&mut self) {
        if let Some(opened) = self.open.take() {
            opened.die();
        }
    }

    /// Starts a step and kills its process at the `at`th operation from now. Returns whether the
    /// process was killed; otherwise the step is complete.
    ///
    /// # Panics
    /// Panics if anything else fails.
    pub fn dies_in(&mut self, step: Step, at: u64) -> bool {
        self.disk.plan(0, |now| FaultPlan::Kill(now + at));
        let done = self.try_step(step);
        self.disk.plan(0, |_| FaultPlan::Nothing);
        if self.last.as_ref().is_some_and(|last| last.is_dead()) {
            self.kill();
            return true;
        }
        done.unwrap_or_else(|error| panic!("{error}"));
        false
    }

    /// Continues after the process was killed: in the process of [`StoreDriver::open_beside`], or,
    /// if there is none, in a new one that opens the store.
    ///
    /// # Panics
    /// Panics if that fails.
    pub fn succeed(&mut self) {
        let Some(opened) = self.onlooker.take() else { return self.open() };
        self.last = Some(Arc::clone(&opened.process));
        // Only a writer checks for unfinished work of the killed process.
        let transaction = opened.store.begin_write().unwrap_or_else(|error| panic!("taking over: {error}"));
        drop(transaction);
        self.find(&opened.store).unwrap_or_else(|error| panic!("{error}"));
        self.open = Some(opened);
    }

    /// Performs a step.
    ///
    /// # Panics
    /// Panics if an operation fails or returns a wrong result.
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
                self.store().catch_up_indexes().map_err(|error| format!("settling: {error}"))
            }
            change => {
                let (durability, changes) = change.changes(self.steps).expect("the others are done");
                let before = self.book().newest().clone();
                self.try_commit(&Transaction::of(&before, changes, durability))
            }
        }
    }

    /// Performs a generated step, mostly a transaction.
    ///
    /// # Panics
    /// Panics if an operation fails or returns a wrong result.
    pub fn arbitrary(&mut self, choice: &mut impl RandomSource, mix: Mix) {
        match choice.below(16) {
            0 => self.step(Step::Reopen),
            1 => self.step(Step::Kill),
            2 => self.step(Step::Rebuild),
            _ => {
                let before = self.book().newest().clone();
                let transaction = Transaction::arbitrary(&before, choice, mix);
                self.try_commit(&transaction).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    fn try_commit(&self, transaction: &Transaction) -> Result<(), String> {
        let before = self.book().newest().clone();
        self.book().begins(transaction);
        let committed = transaction.apply(&before, self.store());
        let seq = committed.map_err(|error| format!("committing: {error}"))?;
        assert_eq!(seq.0, transaction.after.seq);
        self.book().is_acknowledged(transaction);
        Ok(())
    }
}

impl Drop for StoreDriver {
    fn drop(&mut self) {
        // Closing would be reported to the watcher, so the processes are killed instead.
        self.kill();
        if let Some(onlooker) = self.onlooker.take() {
            onlooker.die();
        }
    }
}
