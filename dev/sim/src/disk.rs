//! A simulated disk that several processes use. Each process can be killed, the power can be cut,
//! and operations can fail, each at any operation.
//!
//! The disk counts operations: every change of a folder, write, allocation and sync, and every
//! store to a mapped word. When a process is killed, its handles return errors, its locks are
//! released, and its stores have no effect.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pongo_core::storage::{File, MemoryStorage, Storage};

use crate::Random;
use crate::crash_policy::CrashPolicy;
use crate::dirents::{DirentHistory, Names};
use crate::file_history::{FileContent, FileHistory};
use crate::image::Image;
use crate::observer::DiskEvent;
use crate::process::{Process, Shared};
use crate::state::{FaultPlan, OpKind, State};

/// A simulated disk; see the module documentation.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk {
    /// Creates an empty disk.
    pub fn new() -> Self {
        Self::over(Arc::new(MemoryStorage::new()))
    }

    /// Creates a disk over `inner`, which must be empty.
    pub fn over(inner: Arc<dyn Storage>) -> Self {
        Self::holding(inner, Vec::new(), Names::new())
    }

    /// Creates a disk on which these files are durable under these names.
    pub(crate) fn holding(
        inner: Arc<dyn Storage>,
        files: Vec<(Arc<dyn File>, Arc<FileContent>)>,
        names: Names,
    ) -> Self {
        let files =
            files.into_iter().map(|(file, content)| (file.id(), (file, FileHistory::holding(&content))));
        let state = State {
            plan: FaultPlan::Nothing,
            failed: None,
            random: Random(0),
            files: files.collect(),
            names: DirentHistory::holding(names),
            hole_stores: Vec::new(),
        };
        Self(Arc::new(Shared {
            inner,
            operations: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
            journal_syncs: AtomicU64::new(0),
            sync_micros: AtomicU64::new(0),
            state: Mutex::new(state),
            watcher: Mutex::default(),
            processes: Mutex::default(),
        }))
    }

    /// Creates a process that uses the disk.
    pub fn process(&self) -> Arc<Process> {
        let process = Arc::new(Process {
            disk: Arc::clone(&self.0),
            dead: AtomicBool::new(false),
            files: Mutex::default(),
        });
        self.0.processes.lock().unwrap().push(Arc::downgrade(&process));
        process
    }

    /// Plans a fault. `plan` receives the current operation number.
    pub fn plan(&self, seed: u64, plan: impl FnOnce(u64) -> FaultPlan) {
        let mut state = self.0.state.lock().unwrap();
        state.plan = plan(self.0.operations.load(Ordering::SeqCst));
        if state.plan != FaultPlan::Nothing {
            // What failed by an earlier plan excuses nothing that goes wrong by this one.
            state.failed = None;
        }
        state.random = Random(seed);
    }

    /// Runs `something` with operations that are neither counted nor affected by the plan.
    pub fn without_faults(&self, something: impl FnOnce()) {
        self.0.quiet.store(true, Ordering::SeqCst);
        something();
        self.0.quiet.store(false, Ordering::SeqCst);
    }

    /// Makes each later sync of the journal take this long.
    pub fn slow_down(&self, micros: u64) {
        self.0.sync_micros.store(micros, Ordering::SeqCst);
    }

    /// Returns the number of journal syncs so far.
    pub fn journal_syncs(&self) -> u64 {
        self.0.journal_syncs.load(Ordering::SeqCst)
    }

    /// Returns the number of operations so far.
    pub fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::SeqCst)
    }

    /// Returns the operation that the plan made fail.
    pub fn failed(&self) -> Option<(OpKind, String)> {
        self.0.state.lock().unwrap().failed.clone()
    }

    /// Returns the storage with the bytes of the files, so that tests can read or damage them.
    pub fn inner(&self) -> &Arc<dyn Storage> {
        &self.0.inner
    }

    /// Returns the image that a power cut at this moment leaves. Changes nothing.
    #[must_use]
    pub fn image(&self, random: &mut Random, leave: CrashPolicy) -> Image {
        self.0.state.lock().unwrap().image(random, leave)
    }

    /// Replaces the watcher. It is called for every counted operation while the disk is paused, so
    /// that it can take images of the disk, open them and compare them. It must not use this disk.
    pub fn watch(&self, watcher: impl FnMut(&DiskEvent<'_>) + Send + 'static) {
        *self.0.watcher.lock().unwrap() = Some(Box::new(watcher));
    }

    /// Removes the watcher.
    pub fn unwatch(&self) {
        *self.0.watcher.lock().unwrap() = None;
    }

    /// Returns the stores through maps to unallocated space, by file and byte. On a full disk each
    /// would raise a signal.
    #[must_use]
    pub fn hole_stores(&self) -> Vec<(String, u64)> {
        self.0.state.lock().unwrap().hole_stores.clone()
    }

    /// Cuts the power now, unless it was cut before, and returns the disk after the restart.
    pub fn power_cycle(&self, random: &mut Random) -> Self {
        self.0.kill_all();
        let leave = CrashPolicy::any(random);
        self.image(random, leave).disk()
    }
}

impl Image {
    /// Creates a disk on which this content is durable.
    #[must_use]
    pub fn disk(&self) -> Disk {
        let (mut files, mut names) = (Vec::new(), BTreeMap::new());
        let storage = self.build(|path, file, content| {
            names.insert(path.to_owned(), Some(file.id()));
            files.push((Arc::clone(file), Arc::clone(content)));
        });
        names.extend(self.folders().map(|path| (path.to_owned(), None)));
        Disk::holding(Arc::new(storage), files, names)
    }
}
