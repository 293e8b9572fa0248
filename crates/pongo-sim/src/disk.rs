//! A storage as several processes see it, each of which can be killed, over a disk whose power can be cut and whose
//! operations can fail, each at any operation.
//!
//! Operations are counted: every change of a folder, write, allocation, sync, and every store into mapped words. A
//! process that is killed is left with handles that err, locks that are gone, and stores that have no effect.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pongo_core::storage::{File, MemoryStorage, Storage};

use crate::image::Image;
use crate::leave::{Draw, Leave};
use crate::names::{NameBook, Names};
use crate::past::{Content, Past};
use crate::process::Process;
use crate::random::Random;
use crate::watch::{Moment, Watcher};

/// What is going to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing but what is asked for.
    Nothing,
    /// The process that does this operation is killed before it.
    Kill(u64),
    /// The power goes while this operation is done.
    Cut(u64),
    /// This operation fails with this error, and, if asked for, so do all later ones of its kind.
    Fail(u64, io::ErrorKind, bool),
    /// The process that first does an operation of this kind on a name with this in it is killed before it.
    KillOn(Kind, &'static str),
    /// Every operation of this kind on files whose name has this in it fails.
    FailOn(Kind, &'static str, io::ErrorKind),
}

/// What an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file or folder is made, renamed or removed.
    Name,
    /// A folder is synced.
    SyncDir,
    /// Bytes are written, or the length is set.
    Write,
    /// Space is set aside.
    Allocate,
    /// A file is synced.
    Sync,
    /// A word of a map is stored to.
    Store,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) inner: Arc<dyn Storage>,
    pub(crate) operations: AtomicU64,
    pub(crate) quiet: AtomicBool,
    /// Syncs of journal segments, and how long each takes, in microseconds.
    pub(crate) journal_syncs: AtomicU64,
    pub(crate) sync_micros: AtomicU64,
    pub(crate) state: Mutex<State>,
    /// Locked behind `state`.
    pub(crate) watcher: Mutex<Option<Watcher>>,
    pub(crate) processes: Mutex<Vec<Weak<Process>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The books, and what is planned.
pub(crate) struct State {
    pub(crate) plan: Plan,
    /// What failed, if something did.
    pub(crate) failed: Option<(Kind, String)>,
    pub(crate) random: Random,
    pub(crate) files: HashMap<u64, (Arc<dyn File>, Past)>,
    pub(crate) names: NameBook,
    /// Stores into holes of maps: on a full disk each is a signal.
    pub(crate) hole_stores: Vec<(String, u64)>,
}

impl State {
    /// What a power cut leaves if it comes now.
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
    /// An empty disk.
    pub fn new() -> Self {
        Self::over(Arc::new(MemoryStorage::new()))
    }

    /// A disk that is empty now.
    pub fn over(inner: Arc<dyn Storage>) -> Self {
        Self::holding(inner, Vec::new(), Names::new())
    }

    /// A disk on which these files are durable, under these names.
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

    /// A process that sees the disk.
    pub fn process(&self) -> Arc<Process> {
        let process = Arc::new(Process {
            disk: Arc::clone(&self.0),
            dead: AtomicBool::new(false),
            files: Mutex::default(),
        });
        self.0.processes.lock().unwrap().push(Arc::downgrade(&process));
        process
    }

    /// What happens at the operation `after` from now.
    pub fn plan(&self, seed: u64, plan: impl FnOnce(u64) -> Plan) {
        let mut state = self.0.state.lock().unwrap();
        state.plan = plan(self.0.operations.load(Ordering::SeqCst));
        if state.plan != Plan::Nothing {
            // What failed by an earlier plan excuses nothing that goes wrong by this one.
            state.failed = None;
        }
        state.random = Random(seed);
    }

    /// Does something that neither counts nor is hit by the plan.
    pub fn quietly(&self, something: impl FnOnce()) {
        self.0.quiet.store(true, Ordering::SeqCst);
        something();
        self.0.quiet.store(false, Ordering::SeqCst);
    }

    /// From now on a sync of the journal takes this long.
    pub fn slow_down(&self, micros: u64) {
        self.0.sync_micros.store(micros, Ordering::SeqCst);
    }

    /// Syncs of the journal so far.
    pub fn journal_syncs(&self) -> u64 {
        self.0.journal_syncs.load(Ordering::SeqCst)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::SeqCst)
    }

    /// What the plan made fail.
    pub fn failed(&self) -> Option<(Kind, String)> {
        self.0.state.lock().unwrap().failed.clone()
    }

    /// The bytes of a file, to be looked at or damaged.
    pub fn inner(&self) -> &Arc<dyn Storage> {
        &self.0.inner
    }

    pub(crate) fn kill_all(shared: &Shared) {
        let processes: Vec<_> = shared.processes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        // All at once: none may get the locks of another, and write, while the first one's threads still run here.
        processes.iter().for_each(|process| process.dead.store(true, Ordering::SeqCst));
        processes.iter().for_each(|process| process.kill());
    }

    /// What a power cut leaves if it comes now. Changes nothing.
    #[must_use]
    pub fn image(&self, random: &mut Random, leave: Leave) -> Image {
        self.0.state.lock().unwrap().image(random, leave)
    }

    /// Tells `watcher` of every operation that counts, in place of whoever was told before, while the disk stands still:
    /// images can be taken of it, opened, and compared on the spot. It must not use this disk.
    pub fn watch(&self, watcher: impl FnMut(&Moment<'_>) + Send + 'static) {
        *self.0.watcher.lock().unwrap() = Some(Box::new(watcher));
    }

    /// Nobody is told any more.
    pub fn unwatch(&self) {
        *self.0.watcher.lock().unwrap() = None;
    }

    /// Stores through maps where no space was set aside, by file and byte: on a full disk each would be a signal.
    #[must_use]
    pub fn hole_stores(&self) -> Vec<(String, u64)> {
        self.0.state.lock().unwrap().hole_stores.clone()
    }

    /// The power goes now, if it has not yet, and comes back: the disk as it is then.
    pub fn reboot(&self, random: &mut Random) -> Self {
        Self::kill_all(&self.0);
        let leave = Leave::any(random);
        self.image(random, leave).disk()
    }
}
