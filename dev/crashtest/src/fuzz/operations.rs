//! Random operations on a store, compared with a model, while processes are killed, the power is
//! cut, and operations fail.

use std::io::ErrorKind;
use std::sync::Arc;

use pongo::prelude::*;
use pongo_sim::{Disk, FaultPlan, Process, Random};

use crate::fuzz::image::quiet;
use crate::look::{Differences, look, look_at};
use crate::{Bytes, Mix, RandomSource, StoreModel, Transaction, options};

/// Maximum number of steps.
const MOST_STEPS: usize = 40;
const MOST_SNAPSHOTS: usize = 3;

/// The kind of fault that is planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    None,
    Kill,
    Cut,
    Fail,
}

/// A store, its disk, and its expected content.
struct Sea {
    disk: Disk,
    process: Arc<Process>,
    options: Options,
    store: Option<Store>,
    /// Content of the store at each `Seq`.
    worlds: Vec<StoreModel>,
    /// The newest `Seq` that must survive a power cut.
    sure: usize,
    harm: Harm,
    random: Random,
    snapshots: Vec<(Snapshot, StoreModel)>,
}

/// Runs the steps that the bytes describe. The first byte selects whether ordered indexes are kept
/// (bit 0) and the size of transactions (bit 1).
pub fn operations(data: &[u8]) {
    let mut bytes = Bytes(data);
    let how = bytes.below(256);
    let disk = Disk::new();
    let process = disk.process();
    let options = if how & 1 == 0 { quiet() } else { options() };
    let mix = if how & 2 == 0 { Mix::SMALL } else { Mix { stops: 200, load: 120, ..Mix::SMALL } };
    let mut sea = Sea {
        disk,
        process,
        options,
        store: None,
        worlds: vec![StoreModel::default()],
        sure: 0,
        harm: Harm::None,
        random: Random(how),
        snapshots: Vec::new(),
    };
    for _ in 0..MOST_STEPS {
        if bytes.is_empty() {
            break;
        }
        sea.step(&mut bytes, mix);
    }
    sea.calm();
    sea.crash(0);
    sea.open();
    sea.right();
    sea.sound();
}

impl Sea {
    fn world(&self) -> &StoreModel {
        self.worlds.last().expect("there is always one")
    }

    fn step(&mut self, bytes: &mut Bytes<'_>, mix: Mix) {
        let what = bytes.below(32);
        if self.store.is_none() {
            self.open();
        }
        match what {
            0..16 => self.transact(bytes, mix),
            16 | 17 => self.keep(),
            18 | 19 => self.look_back(),
            20 => self.reopen(),
            21 => self.beside(),
            22 => self.settle(),
            23 => self.right(),
            _ => self.plan(bytes),
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("a step opens it")
    }

    /// Plans a fault, unless one is planned already.
    fn plan(&mut self, bytes: &mut Bytes<'_>) {
        let what = bytes.below(8);
        let (after, seed) = (bytes.below(1024), bytes.below(256));
        if self.harm != Harm::None {
            return;
        }
        let error = [ErrorKind::StorageFull, ErrorKind::Other][(seed % 2) as usize];
        self.harm = [Harm::Kill, Harm::Cut, Harm::Cut, Harm::Fail][(what / 2) as usize];
        self.disk.plan(seed, |now| match self.harm {
            Harm::Kill => FaultPlan::Kill(now + after / 4),
            Harm::Cut => FaultPlan::Cut(now + after / 4),
            _ => FaultPlan::Fail(now + after / 4, error, what % 2 == 1),
        });
    }

    /// Removes the planned fault.
    fn calm(&mut self) {
        self.disk.plan(0, |_| FaultPlan::Nothing);
    }

    /// Returns whether the planned fault has occurred.
    fn was_hit(&self) -> bool {
        match self.harm {
            Harm::None => false,
            Harm::Kill | Harm::Cut => self.process.is_dead(),
            Harm::Fail => self.disk.failed().is_some(),
        }
    }

    /// Kills the process and recovers. The last `more` commits are uncertain: recovery may find
    /// them or not.
    fn crash(&mut self, more: usize) {
        let hit = self.was_hit();
        self.calm();
        self.process.kill();
        self.snapshots.clear();
        self.store = None;
        let least = match self.harm {
            Harm::Cut if hit => {
                self.disk = self.disk.power_cycle(&mut self.random);
                self.sure
            }
            // A failed sync may lose what was not synced.
            Harm::Fail if hit => self.sure,
            _ => self.worlds.len() - 1 - more,
        };
        self.process = self.disk.process();
        self.harm = Harm::None;
        // The disk keeps the record of the failure until it is replaced by a new one.
        let seq = self.recover();
        assert!(
            (least..self.worlds.len()).contains(&seq),
            "Seq {seq} after a crash, expected {least} to {}",
            self.worlds.len() - 1
        );
        self.worlds.truncate(seq + 1);
        self.sure = seq;
        self.right();
    }

    /// Opens the store without faults and returns its `Seq`.
    fn recover(&mut self) -> usize {
        let store = self.options.open_on(self.process.storage());
        let store =
            store.unwrap_or_else(|error| panic!("recovery failed though nothing goes wrong: {error}"));
        let seq = store.begin_read().expect("a snapshot").seq().0 as usize;
        self.store = Some(store);
        seq
    }

    fn open(&mut self) {
        if self.store.is_some() {
            return;
        }
        match self.options.open_on(self.process.storage()) {
            Ok(store) => {
                self.store = Some(store);
                self.right();
            }
            Err(error) => {
                assert!(self.was_hit(), "open failed though nothing went wrong: {error}");
                self.crash(0);
            }
        }
    }

    /// Checks that the newest state is the expected one.
    fn right(&mut self) {
        let seen = look(self.store(), self.world());
        self.judge(&seen);
    }

    fn judge(&mut self, seen: &Differences) {
        if !seen.errors.is_empty() && self.was_hit() {
            seen.assert_no_wrong_answers();
            self.crash(0);
        } else {
            seen.assert_ok();
        }
    }

    fn transact(&mut self, bytes: &mut Bytes<'_>, mix: Mix) {
        let before = self.world().clone();
        let transaction = Transaction::arbitrary(&before, bytes, mix);
        match transaction.apply(&before, self.store()) {
            Ok(seq) => {
                assert_eq!(seq.0 as usize, self.worlds.len(), "commits have numbers in turn");
                self.worlds.push(transaction.after);
                if transaction.durability == Durability::Sync {
                    self.sure = self.worlds.len() - 1;
                }
                if self.was_hit() && self.harm != Harm::Fail {
                    self.crash(0);
                }
            }
            Err(failure) => {
                assert!(self.was_hit(), "a transaction failed though nothing went wrong: {failure}");
                let more = if failure.is_refusal() { 0 } else { 1 };
                if more == 1 {
                    self.worlds.push(transaction.after);
                }
                self.crash(more);
            }
        }
    }

    fn keep(&mut self) {
        match self.store().begin_read() {
            Ok(snapshot) => {
                if self.snapshots.len() == MOST_SNAPSHOTS {
                    self.snapshots.remove(0);
                }
                let world = self.world().clone();
                self.snapshots.push((snapshot, world));
            }
            Err(error) => {
                assert!(self.was_hit(), "a snapshot failed though nothing went wrong: {error}");
                self.crash(0);
            }
        }
    }

    /// Checks that old snapshots still have their content.
    fn look_back(&mut self) {
        let mut seen = Differences::default();
        for (snapshot, world) in &self.snapshots {
            look_at(snapshot, world, &mut seen);
        }
        self.judge(&seen);
    }

    fn reopen(&mut self) {
        self.snapshots.clear();
        let Some(store) = self.store.take() else { return };
        match store.close() {
            Ok(()) if !self.was_hit() => {
                self.sure = self.worlds.len() - 1;
                self.open();
            }
            Ok(()) => self.crash(0),
            Err(error) => {
                assert!(self.was_hit(), "closing failed though nothing went wrong: {error}");
                self.crash(0);
            }
        }
    }

    /// Opens the store in another process, checks its content and closes it.
    fn beside(&mut self) {
        let other = self.disk.process();
        match self.options.open_on(other.storage()) {
            Ok(store) => {
                let seen = look(&store, self.world());
                drop(store);
                if !seen.errors.is_empty() && (self.was_hit() || other.is_dead()) {
                    seen.assert_no_wrong_answers();
                    other.kill();
                    self.crash(0);
                } else {
                    seen.assert_ok();
                }
            }
            Err(error) => {
                assert!(self.was_hit() || other.is_dead(), "another process cannot open the store: {error}");
                self.crash(0);
            }
        }
    }

    fn settle(&mut self) {
        if let Err(error) = self.store().catch_up_indexes() {
            assert!(self.was_hit(), "settling failed though nothing went wrong: {error}");
            return self.crash(0);
        }
        self.sound();
    }

    /// Checks that `verify` finds no defect.
    fn sound(&mut self) {
        match self.store().verify(|_| ()) {
            Ok(report) if report.is_valid() => {}
            Ok(report) => {
                assert!(self.was_hit(), "{report}");
                self.crash(0);
            }
            Err(error) => {
                assert!(self.was_hit(), "verify failed though nothing went wrong: {error}");
                self.crash(0);
            }
        }
    }
}
