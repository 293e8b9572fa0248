//! A process that uses a disk until it is killed, and the state that the processes of a disk share.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pongo_core::storage::{File, Storage};

use crate::crash_policy::{CrashPolicy, CrashSampler};
use crate::observer::{DiskEvent, Watcher};
use crate::state::{FaultPlan, OpKind, State};

/// State of a disk that its processes share.
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

impl Shared {
    /// Kills all processes.
    pub(crate) fn kill_all(&self) {
        let processes: Vec<_> = self.processes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        // Mark all processes first: while threads of one process still run here, none may acquire
        // the locks of another and write.
        processes.iter().for_each(|process| process.dead.store(true, Ordering::SeqCst));
        processes.iter().for_each(|process| process.kill());
    }
}

/// A file that a process has open, or `None` once the process is killed.
pub(crate) type OpenFile = Mutex<Option<Arc<dyn File>>>;

/// One process's view of a disk.
pub struct Process {
    pub(crate) disk: Arc<Shared>,
    pub(crate) dead: AtomicBool,
    pub(crate) files: Mutex<Vec<Weak<OpenFile>>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("dead", &self.dead).finish_non_exhaustive()
    }
}

pub(crate) fn dead() -> io::Error {
    io::Error::other("this process was killed")
}

impl Process {
    /// Kills the process: its operations have no effect from now on, and its locks are released.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for file in self.files.lock().unwrap().drain(..).filter_map(|file| file.upgrade()) {
            file.lock().unwrap().take();
        }
    }

    /// Returns whether the process was killed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Records a failed sync of a file: the kernel considers its pages clean, and no later sync
    /// writes them.
    pub(crate) fn drop_unsynced(&self, id: u64) {
        let mut state = self.disk.state.lock().unwrap();
        let state = &mut *state;
        if let Some((_, past)) = state.files.get_mut(&id) {
            past.apply_policy(&mut CrashSampler::new(&mut state.random, CrashPolicy::Any));
        }
    }

    /// Records a failed sync of a folder: a prefix of the pending name changes becomes durable; the
    /// others wait for the next sync, as on file systems with a journal.
    pub(crate) fn lose_names(&self, dir: &str) {
        let mut state = self.disk.state.lock().unwrap();
        let state = &mut *state;
        state.names.note_failed_sync(dir, &mut state.random);
    }

    pub(crate) fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(dead()) } else { Ok(()) }
    }

    /// Runs an operation, or the planned fault instead. `note` records the result in the disk's
    /// state.
    pub(crate) fn run<T>(
        &self,
        kind: OpKind,
        name: &str,
        operation: impl FnOnce() -> io::Result<T>,
        note: impl FnOnce(&mut State, &T),
    ) -> io::Result<T> {
        self.alive()?;
        let mut state = self.disk.state.lock().unwrap();
        if self.disk.quiet.load(Ordering::SeqCst) {
            let done = operation()?;
            note(&mut state, &done);
            return Ok(done);
        }
        let number = self.disk.operations.fetch_add(1, Ordering::SeqCst);
        match state.plan {
            FaultPlan::KillOn(wanted, part) if wanted == kind && name.contains(part) => {
                state.plan = FaultPlan::Nothing;
                drop(state);
                self.kill();
                return Err(dead());
            }
            FaultPlan::Kill(at) if at == number => {
                drop(state);
                self.kill();
                return Err(dead());
            }
            FaultPlan::Cut(at) if at == number => {
                if kind != OpKind::Sync
                    && kind != OpKind::SyncDir
                    && let Ok(done) = operation()
                {
                    note(&mut state, &done);
                }
                drop(state);
                self.disk.kill_all();
                return Err(dead());
            }
            // A store to mapped memory cannot fail.
            FaultPlan::Fail(at, error, on)
                if kind != OpKind::Store
                    && (at == number || (on && at < number && is_kind(&state, kind))) =>
            {
                state.failed.get_or_insert((kind, name.to_owned()));
                return Err(error.into());
            }
            FaultPlan::FailOn(wanted, part, error) if wanted == kind && name.contains(part) => {
                state.failed.get_or_insert((kind, name.to_owned()));
                return Err(error.into());
            }
            _ => {}
        }
        let tell = |state: &State, is_done| {
            if let Some(watcher) = &mut *self.disk.watcher.lock().unwrap() {
                watcher(&DiskEvent { number, kind, path: name, is_done, state });
            }
        };
        if matches!(kind, OpKind::Sync | OpKind::SyncDir) {
            tell(&state, false);
        }
        let done = operation()?;
        note(&mut state, &done);
        tell(&state, true);
        Ok(done)
    }
}

fn is_kind(state: &State, kind: OpKind) -> bool {
    state.failed.as_ref().is_some_and(|(failed, _)| *failed == kind)
}
