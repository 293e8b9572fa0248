//! A process's view of a disk: the storage of the engine, until the process is killed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use pongo_core::storage::{File, Host, Reservation, Storage};

use crate::disk::{Disk, Shared};
use crate::handle::Handle;
use crate::leave::{Draw, Leave};
use crate::past::Past;
use crate::state::{Kind, Plan, State};
use crate::watch::Moment;

/// One process's view of a disk.
pub struct Process {
    pub(crate) disk: Arc<Shared>,
    pub(crate) dead: AtomicBool,
    pub(crate) files: Mutex<Vec<Weak<Handle>>>,
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
    /// Returns the storage for the engine.
    pub fn storage(self: &Arc<Self>) -> Arc<dyn Storage> {
        Arc::new(Seen(Arc::clone(self)))
    }

    /// Kills the process: its operations have no effect from now on, and its locks are released.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for handle in self.files.lock().unwrap().drain(..).filter_map(|handle| handle.upgrade()) {
            handle.file.lock().unwrap().take();
        }
    }

    /// Returns whether the process was killed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Records a failed sync of a file: the kernel considers its pages clean, and no later sync
    /// writes them.
    pub(crate) fn lose_unsynced(&self, id: u64) {
        let mut state = self.disk.state.lock().unwrap();
        let state = &mut *state;
        if let Some((_, past)) = state.files.get_mut(&id) {
            past.settle(&mut Draw::new(&mut state.random, Leave::Any));
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
        kind: Kind,
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
            Plan::KillOn(wanted, part) if wanted == kind && name.contains(part) => {
                state.plan = Plan::Nothing;
                drop(state);
                self.kill();
                return Err(dead());
            }
            Plan::Kill(at) if at == number => {
                drop(state);
                self.kill();
                return Err(dead());
            }
            Plan::Cut(at) if at == number => {
                if kind != Kind::Sync
                    && kind != Kind::SyncDir
                    && let Ok(done) = operation()
                {
                    note(&mut state, &done);
                }
                drop(state);
                Disk::kill_all(&self.disk);
                return Err(dead());
            }
            // A store to mapped memory cannot fail.
            Plan::Fail(at, error, on)
                if kind != Kind::Store && (at == number || (on && at < number && is_kind(&state, kind))) =>
            {
                state.failed.get_or_insert((kind, name.to_owned()));
                return Err(error.into());
            }
            Plan::FailOn(wanted, part, error) if wanted == kind && name.contains(part) => {
                state.failed.get_or_insert((kind, name.to_owned()));
                return Err(error.into());
            }
            _ => {}
        }
        let tell = |state: &State, is_done| {
            if let Some(watcher) = &mut *self.disk.watcher.lock().unwrap() {
                watcher(&Moment { number, kind, path: name, is_done, state });
            }
        };
        if matches!(kind, Kind::Sync | Kind::SyncDir) {
            tell(&state, false);
        }
        let done = operation()?;
        note(&mut state, &done);
        tell(&state, true);
        Ok(done)
    }

    pub(crate) fn handle(self: &Arc<Self>, file: Arc<dyn File>, path: &str) -> Arc<dyn File> {
        let handle = Arc::new(Handle {
            process: Arc::clone(self),
            id: file.id(),
            path: path.to_owned(),
            file: Mutex::new(Some(file)),
        });
        let mut files = self.files.lock().unwrap();
        files.retain(|handle| handle.strong_count() > 0);
        files.push(Arc::downgrade(&handle));
        handle
    }
}

fn is_kind(state: &State, kind: Kind) -> bool {
    state.failed.as_ref().is_some_and(|(failed, _)| *failed == kind)
}

#[derive(Debug)]
struct Seen(Arc<Process>);

impl Seen {
    fn inner(&self) -> &Arc<dyn Storage> {
        &self.0.disk.inner
    }
}

impl Storage for Seen {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let file = self.0.run(
            Kind::Name,
            path,
            || self.inner().create(path),
            |state, file| {
                state.files.insert(file.id(), (Arc::clone(file), Past::default()));
                state.names.note_made(path, Some(file.id()));
            },
        )?;
        // Open a separate handle: locks belong to handles, and the disk's state keeps the first
        // one.
        let file = self.inner().open(path).unwrap_or(file);
        Ok(self.0.handle(file, path))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.0.alive()?;
        Ok(self.0.handle(self.inner().open(path)?, path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let id = self.inner().open(from).map(|file| file.id());
        self.0.run(
            Kind::Name,
            from,
            || self.inner().rename(from, to),
            |state, ()| state.names.note_renamed(from, to, id.ok()),
        )
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        // Most removals are of files that do not exist; these are not counted.
        self.0.alive()?;
        self.inner().open(path)?;
        self.0.run(Kind::Name, path, || self.inner().remove(path), |state, ()| state.names.note_removed(path))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.alive()?;
        if self.inner().list(path).is_ok() {
            return Ok(());
        }
        self.0.run(
            Kind::Name,
            path,
            || self.inner().create_dir(path),
            |state, ()| state.names.note_made(path, None),
        )
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.0.alive()?;
        self.inner().list(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.0.run(
            Kind::SyncDir,
            path,
            || self.inner().sync_dir(path),
            |state, ()| state.names.note_synced(path),
        )
    }

    fn reserve(&self, len: usize) -> io::Result<Reservation> {
        self.inner().reserve(len)
    }

    fn cache_identity(&self) -> Option<[u8; 32]> {
        self.inner().cache_identity()
    }

    fn host(&self) -> io::Result<Host> {
        self.inner().host()
    }

    fn folder_identity(&self) -> io::Result<(u64, u64)> {
        self.inner().folder_identity()
    }

    fn name(&self) -> String {
        self.inner().name()
    }
}
