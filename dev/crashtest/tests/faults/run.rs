//! One store while a call of it fails: the answers that it may give, and the states that it may be
//! in.

use std::sync::Arc;

use pongo::prelude::*;
use pongo::{CommitError, Options, Snapshot, WriteError};
use pongo_crashtest::{Change, Differences, Failure, StoreModel, Transaction, look, look_at, options};
use pongo_sim::{Call, Disk, Faults, Process, Random};

use crate::Setting;
use crate::work::Step;

/// A store, the faults of its storage, and the states that are allowed.
pub(crate) struct Run {
    disk: Disk,
    pub(crate) faults: Faults,
    process: Arc<Process>,
    store: Option<Store>,
    held: Option<(Snapshot, StoreModel)>,
    /// Another process that has the store open all the time, if the setting has one.
    company: Option<Store>,
    setting: Setting,
    /// The acknowledged state, which this and every other process must see.
    world: StoreModel,
    /// The state after a commit whose outcome is unknown.
    unknown: Option<StoreModel>,
    /// Earlier acknowledged states, any of which a power cut may leave.
    older: Vec<StoreModel>,
    /// Whether the power was cut since a process last read the store.
    cut: bool,
    pub(crate) random: Random,
}

/// Text in an error of a poisoned store.
const POISONED: &str = "is poisoned";

impl Run {
    pub(crate) fn new(seed: u64, setting: Setting) -> Self {
        let disk = Disk::new();
        let process = disk.process();
        Self {
            disk,
            faults: Faults::new(),
            process,
            store: None,
            held: None,
            company: None,
            setting,
            world: StoreModel::default(),
            unknown: None,
            older: Vec::new(),
            cut: false,
            random: Random(seed),
        }
    }

    /// Returns the options of the store. In all settings but `Keeper` they leave no work to the
    /// thread that maintains ordered indexes: it makes calls at unpredictable times, and without it
    /// the same work makes the same calls.
    fn options(&self) -> Options {
        if self.setting == Setting::Keeper {
            options()
        } else {
            options().ordered_tuning(1 << 30, 1 << 30, 16, 8)
        }
    }

    /// Runs `something` without faults.
    fn without_faults<T>(&self, something: impl FnOnce() -> T) -> T {
        self.faults.pause(true);
        let done = something();
        self.faults.pause(false);
        done
    }

    /// Checks that an error results from a call that failed, and that it names the file.
    #[track_caller]
    fn is_explained(&self, text: &str, failures: usize) {
        let failed = self.faults.failed(failures);
        if text.contains(POISONED) {
            assert!(self.faults.failures() > 0, "poisoned by nothing: {text}");
            return;
        }
        assert!(!failed.is_empty(), "an error, and nothing failed: {text}");
        let named = failed.iter().any(|(_, path)| text.contains(path.trim_end_matches(".new")));
        assert!(named, "names none of {failed:?}: {text}");
        let full = text.contains("No space left");
        assert!(!full || text.contains("free some space"), "does not say what to do: {text}");
    }

    /// Performs a step.
    pub(crate) fn step(&mut self, step: &Step) {
        let failures = self.faults.failures();
        match step {
            Step::Open => self.open(),
            Step::Commit(durability, changes) => self.commit(*durability, changes),
            Step::Look => {
                if let Some(store) = &self.store {
                    self.judge(look(store, &self.world), failures);
                }
            }
            Step::Hold => self.hold(failures),
            Step::LookHeld => self.look_held(failures),
            Step::Stats => self.with_store(failures, |store| store.stats().map(drop)),
            Step::Settle => self.with_store(failures, Store::catch_up_indexes),
            Step::Rebuild => self.with_store(failures, Store::rebuild_indexes),
            Step::Verify => self.with_store(failures, |store| {
                let report = store.verify(|_| ()).map_err(|error| error.to_string())?;
                // Nothing was damaged.
                assert!(report.issues.is_empty(), "{report}");
                report.unread.first().map_or(Ok(()), |unread| Err(unread.to_string()))
            }),
            Step::Other(changes) => self.other(changes),
            Step::Close => self.close(),
            Step::Kill => {
                self.process.kill();
                self.leave();
            }
            Step::Cut => self.cut(),
        }
    }

    /// Checks that all answers are correct, and that all errors result from calls that failed.
    #[track_caller]
    fn judge(&self, look: Differences, failures: usize) {
        look.assert_no_wrong_answers();
        look.errors.iter().for_each(|text| self.is_explained(text, failures));
    }

    fn with_store<E: std::fmt::Display>(
        &self,
        failures: usize,
        something: impl FnOnce(&Store) -> Result<(), E>,
    ) {
        if let Some(store) = &self.store
            && let Err(error) = something(store)
        {
            self.is_explained(&error.to_string(), failures);
        }
    }

    fn hold(&mut self, failures: usize) {
        let Some(store) = &self.store else { return };
        match store.begin_read() {
            Ok(snapshot) => self.held = Some((snapshot, self.world.clone())),
            Err(error) => self.is_explained(&error.to_string(), failures),
        }
    }

    fn look_held(&self, failures: usize) {
        let Some((snapshot, world)) = &self.held else { return };
        let mut look = Differences::default();
        look_at(snapshot, world, &mut look);
        self.judge(look, failures);
    }

    fn commit(&mut self, durability: Durability, changes: &[Change]) {
        let Some(store) = &self.store else { return };
        let failures = self.faults.failures();
        let transaction = Transaction::of(&self.world, changes.to_vec(), durability);
        match transaction.apply(&self.world, store) {
            Ok(seq) => {
                assert_eq!(seq.0, transaction.after.seq);
                self.acknowledge(transaction);
            }
            Err(failure) => {
                self.is_explained(&failure.to_string(), failures);
                self.refused(&failure, failures);
                if !failure.is_refusal() {
                    self.unknown = Some(transaction.after);
                }
            }
        }
    }

    fn acknowledge(&mut self, transaction: Transaction) {
        let before = std::mem::replace(&mut self.world, transaction.after);
        match transaction.durability {
            Durability::Sync => self.older.clear(),
            Durability::Relaxed => self.older.push(before),
        }
    }

    /// Checks that the store continues or is poisoned, as required after such a failure.
    fn refused(&self, failure: &Failure, failures: usize) {
        let store = self.store.as_ref().expect("it refused");
        let begun = self.without_faults(|| store.begin_write().map(drop));
        let poisoned = matches!(begun, Err(WriteError::Poisoned { .. }));
        assert!(poisoned || begun.is_ok(), "{begun:?} after {failure}");
        let failed = self.faults.failed(failures);
        let is_sync = |call: &Call| [Call::Sync, Call::SyncDir].contains(call);
        if matches!(failure, Failure::Commit(CommitError::OutcomeUnknown { .. })) {
            assert!(poisoned, "not poisoned by {failure}");
        } else if failed.iter().any(|(call, _)| is_sync(call)) {
            assert!(poisoned, "not poisoned by a failed sync: {failure}");
        } else if let [(Call::WriteAt | Call::Allocate | Call::SetLen | Call::Create, _)] = &failed[..]
            && failure.to_string().contains("No space left")
        {
            assert!(!poisoned, "poisoned by a full disk: {failure}");
        }
    }

    fn open(&mut self) {
        if self.store.is_some() {
            return;
        }
        let failures = self.faults.failures();
        self.process = self.disk.process();
        match self.options().open_on(self.faults.storage(&self.process)) {
            Ok(store) => self.opened(store),
            Err(error) => {
                self.is_explained(&error.to_string(), failures);
                // The failed open left everything as it was: another process can open the store.
                self.faults.pause(true);
                match self.options().open_on(self.disk.process().storage()) {
                    Ok(other) => self.found(&other),
                    Err(error) => panic!("{error} in another process"),
                }
                self.faults.pause(false);
                if let Ok(store) = self.options().open_on(self.faults.storage(&self.process)) {
                    self.opened(store);
                }
            }
        }
        if self.setting == Setting::Company && self.store.is_some() {
            self.company = Some(self.options().open_on(self.disk.process().storage()).unwrap());
        }
    }

    fn opened(&mut self, store: Store) {
        self.faults.pause(true);
        self.found(&store);
        self.faults.pause(false);
        self.store = Some(store);
    }

    /// Checks a store that a process opened alone: it is in one of the allowed states, which is
    /// durable from now on.
    #[track_caller]
    fn found(&mut self, store: &Store) {
        let seq = store.begin_read().unwrap().seq().0;
        let older = self.older.iter().filter(|_| self.cut);
        let known = std::iter::once(&self.world).chain(&self.unknown).chain(older);
        let Some(world) = known.into_iter().find(|world| world.seq == seq).cloned() else {
            panic!("commit {seq} is the last, acknowledged was {}", self.world.seq)
        };
        look(store, &world).assert_ok();
        (self.world, self.unknown, self.cut) = (world, None, false);
        self.older.clear();
    }

    fn other(&mut self, changes: &[Change]) {
        let transaction = Transaction::of(&self.world, changes.to_vec(), Durability::Sync);
        let done = self.without_faults(|| {
            let store = self.options().open_on(self.disk.process().storage()).unwrap();
            self.store.as_ref()?;
            transaction
                .apply(&self.world, &store)
                .map_err(|error| self.is_explained(&error.to_string(), 0))
                .ok()
        });
        if done.is_some() {
            self.acknowledge(transaction);
        }
    }

    fn leave(&mut self) {
        (self.held, self.company, self.store) = (None, None, None);
    }

    fn close(&mut self) {
        (self.held, self.company) = (None, None);
        let failures = self.faults.failures();
        if let Some(store) = self.store.take() {
            match store.close() {
                Ok(()) => self.older.clear(),
                Err(error) => self.is_explained(&error.to_string(), failures),
            }
        }
    }

    fn cut(&mut self) {
        self.disk = self.disk.power_cycle(&mut self.random);
        self.leave();
        self.cut = true;
    }

    /// Checks after the first failure that this and every other process see all that was
    /// acknowledged and nothing else.
    pub(crate) fn aftermath(&self) {
        self.without_faults(|| {
            if let Some(store) = &self.store {
                look(store, &self.world).assert_ok();
                self.look_held(self.faults.failures());
                match &self.company {
                    Some(company) => look(company, &self.world).assert_ok(),
                    None => {
                        let other = self.options().open_on(self.disk.process().storage()).unwrap();
                        look(&other, &self.world).assert_ok();
                    }
                }
            }
        });
    }

    /// Leaves the store, removes the fault, and checks that a new process can continue.
    pub(crate) fn end(mut self, cut: bool) {
        if cut {
            self.cut();
        } else {
            // Drops the open store while calls fail.
            self.leave();
        }
        self.faults.clear();
        self.open();
        assert!(self.store.is_some());
        let change =
            [Change::PutStop { id: 1_000_001, visits: 77 }, Change::PutSeat { seat: (3, 5), who: 29 }];
        let before = self.world.seq;
        self.commit(Durability::Sync, &change);
        assert_eq!(self.world.seq, before + 1);
        self.step(&Step::Look);
        let report = self.store.as_ref().unwrap().verify(|_| ()).unwrap();
        assert!(report.is_valid(), "{report}");
        self.close();
        self.open();
        self.step(&Step::Look);
    }
}
