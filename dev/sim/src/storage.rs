//! A process's view of a disk: the storage of the engine, until the process is killed.

use std::io;
use std::sync::{Arc, Mutex};

use pongo_core::forward_storage;
use pongo_core::storage::{File, Storage};

use crate::file_history::FileHistory;
use crate::handle::FileHandle;
use crate::process::Process;
use crate::state::OpKind;

impl Process {
    /// Returns the storage for the engine.
    pub fn storage(self: &Arc<Self>) -> Arc<dyn Storage> {
        Arc::new(Seen(Arc::clone(self)))
    }

    fn handle(self: &Arc<Self>, file: Arc<dyn File>, path: &str) -> Arc<dyn File> {
        let handle = Arc::new(FileHandle {
            process: Arc::clone(self),
            id: file.id(),
            path: path.to_owned(),
            file: Arc::new(Mutex::new(Some(file))),
        });
        let mut files = self.files.lock().unwrap();
        files.retain(|file| file.strong_count() > 0);
        files.push(Arc::downgrade(&handle.file));
        handle
    }
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
            OpKind::Name,
            path,
            || self.inner().create(path),
            |state, file| {
                state.files.insert(file.id(), (Arc::clone(file), FileHistory::default()));
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
            OpKind::Name,
            from,
            || self.inner().rename(from, to),
            |state, ()| state.names.note_renamed(from, to, id.ok()),
        )
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        // Most removals are of files that do not exist; these are not counted.
        self.0.alive()?;
        self.inner().open(path)?;
        self.0.run(
            OpKind::Name,
            path,
            || self.inner().remove(path),
            |state, ()| state.names.note_removed(path),
        )
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.alive()?;
        if self.inner().list(path).is_ok() {
            return Ok(());
        }
        self.0.run(
            OpKind::Name,
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
            OpKind::SyncDir,
            path,
            || self.inner().sync_dir(path),
            |state, ()| state.names.note_synced(path),
        )
    }

    forward_storage!(self => self.inner(); reserve, cache_identity, host, folder_identity, name);
}
