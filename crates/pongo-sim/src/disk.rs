//! A simulated disk that several processes use. Each process can be killed, the power can be cut,
//! and operations can fail, each at any operation.
//!
//! The disk counts operations: every change of a folder, write, allocation and sync, and every
//! store to a mapped word. When a process is killed, its handles return errors, its locks are
//! released, and its stores have no effect.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pongo_core::storage::{File, MemoryStorage, Storage};

use crate::Random;
use crate::image::Image;
use crate::leave::{Draw, Leave};
use crate::names::{NameBook, Names};
use crate::past::{Content, Past};
use crate::process::Process;
use crate::watch::{Moment, Watcher};

/// A fault that is injected at a later operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// No fault.
    Nothing,
    /// Kills the process that does this operation, before the operation.
    Kill(u64),
    /// Cuts the power during this operation.
    Cut(u64),
    /// Makes this operation fail with this error. If the flag is set, all later operations of its
    /// kind fail too.
    Fail(u64, io::ErrorKind, bool),
    /// Kills the process that first does an operation of this kind on a name that contains this
    /// text, before the operation.
    KillOn(Kind, &'static str),
    /// Makes every operation of this kind fail on files whose name contains this text.
    FailOn(Kind, &'static str, io::ErrorKind),
}

/// Kind of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file or folder is created, renamed or removed.
    Name,
    /// A folder is synced.
    SyncDir,
    /// Bytes are written, or the length is set.
    Write,
    /// Space is allocated.
    Allocate,
    /// A file is synced.
    Sync,
    /// A word of a map is written.
    Store,
}

/// A simulated disk; see the module documentation.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) inner: Arc<dyn Storage>,
    pub(crate) operations: AtomicU64,
    pub(crate) quiet: AtomicBool,
    /// Number of syncs of journal segments.
    pub(crate) journal_syncs: AtomicU64,
    pub(crate) sync_micros: AtomicU64,
    pub(crate) state: Mutex<State>,
    /// Locked after `state`.
    pub(crate) watcher: Mutex<Option<Watcher>>,
    pub(crate) processes: Mutex<Vec<Weak<Process>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// State of the simulated files and names, and the planned fault.
pub(crate) struct State {
    pub(crate) plan: Plan,
    /// The first operation that the plan made fail, if any.
    pub(crate) failed: Option<(Kind, String)>,
    pub(crate) random: Random,
    pub(crate) files: HashMap<u64, (Arc<dyn File>, Past)>,
    pub(crate) names: NameBook,
    /// Stores to holes of maps: on a full disk each of them would raise a signal.
    pub(crate) hole_stores: Vec<(String, u64)>,
}

impl State {
    /// Returns the image that a power cut at this moment leaves.
    pub(crate) fn image(&self, random: &mut Random, leave: Leave) -> Image {
        let mut draw = Draw::new(random, leave);
        let names = self.names.draw(&mut draw);
        let mut drawn: HashMap<u64, Arc<Content>> = HashMap::new();
        let mut content = |number| {
            let draw = || self.files.get(&number).map_or_else(Arc::default, |(_, past)| past.draw(&mut draw));
            Arc::clone(drawn.entry(number).or_insert_with(draw))
        };
        let entries = names.into_iter().map(|(path, what)| (path, what.map(&mut content))).collect();
        Image { entries }
    }
}

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
        files: Vec<(Arc<dyn File>, Arc<Content>)>,
        names: Names,
    ) -> Self {
        let files = files.into_iter().map(|(file, content)| (file.id(), (file, Past::holding(&content))));
        let state = State {
            plan: Plan::Nothing,
            failed: None,
            random: Random(0),
            files: files.collect(),
            names: NameBook::holding(names),
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
    pub fn plan(&self, seed: u64, plan: impl FnOnce(u64) -> Plan) {
        let mut state = self.0.state.lock().unwrap();
        state.plan = plan(self.0.operations.load(Ordering::SeqCst));
        if state.plan != Plan::Nothing {
            // What failed by an earlier plan excuses nothing that goes wrong by this one.
            state.failed = None;
        }
        state.random = Random(seed);
    }

    /// Runs `something` with operations that are neither counted nor affected by the plan.
    pub fn quietly(&self, something: impl FnOnce()) {
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
    pub fn failed(&self) -> Option<(Kind, String)> {
        self.0.state.lock().unwrap().failed.clone()
    }

    /// Returns the storage with the bytes of the files, so that tests can read or damage them.
    pub fn inner(&self) -> &Arc<dyn Storage> {
        &self.0.inner
    }

    pub(crate) fn kill_all(shared: &Shared) {
        let processes: Vec<_> = shared.processes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        // Mark all processes first: while threads of one process still run here, none may acquire
        // the locks of another and write.
        processes.iter().for_each(|process| process.dead.store(true, Ordering::SeqCst));
        processes.iter().for_each(|process| process.kill());
    }

    /// Returns the image that a power cut at this moment leaves. Changes nothing.
    #[must_use]
    pub fn image(&self, random: &mut Random, leave: Leave) -> Image {
        self.0.state.lock().unwrap().image(random, leave)
    }

    /// Replaces the watcher. It is called for every counted operation while the disk is paused, so
    /// that it can take images of the disk, open them and compare them. It must not use this disk.
    pub fn watch(&self, watcher: impl FnMut(&Moment<'_>) + Send + 'static) {
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
    pub fn reboot(&self, random: &mut Random) -> Self {
        Self::kill_all(&self.0);
        let leave = Leave::any(random);
        self.image(random, leave).disk()
    }
}
