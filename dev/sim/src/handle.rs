//! A process's handle of a file, and of the words that it maps.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pongo_core::storage::{AtomicWords, ByHandle, File, LockMode, RawFile, Reservation, StoreHook, Syncer};

use crate::process::{OpenFile, Process, dead};
use crate::state::{OpKind, State};

/// A process's handle of a file, usable until the process is killed.
#[derive(Debug)]
pub(crate) struct FileHandle {
    pub(crate) process: Arc<Process>,
    pub(crate) id: u64,
    pub(crate) path: String,
    pub(crate) file: Arc<OpenFile>,
}

impl FileHandle {
    fn file(&self) -> io::Result<Arc<dyn File>> {
        self.process.alive()?;
        self.file.lock().unwrap().clone().ok_or_else(dead)
    }

    fn note(&self, state: &mut State, from: u64, to: u64) {
        note_range(state, self.id, from, to);
        self.note_allocated(state, from, to);
    }

    fn note_allocated(&self, state: &mut State, from: u64, to: u64) {
        if let Some((_, past)) = state.files.get_mut(&self.id) {
            past.note_allocated(from, to);
        }
    }
}

/// Records the current length of a file and its bytes in a range.
fn note_range(state: &mut State, id: u64, from: u64, to: u64) {
    let Some((file, past)) = state.files.get_mut(&id) else { return };
    let len = file.len().unwrap();
    past.note_len(len);
    let (from, to) = (from / 512 * 512, to.next_multiple_of(512).min(len));
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    file.read_at(&mut bytes, from).unwrap();
    past.note_bytes(from, &bytes);
}

impl File for FileHandle {
    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file()?.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset + bytes.len() as u64;
        self.process.run(
            OpKind::Write,
            &self.path,
            || file.write_at(bytes, offset),
            |state, ()| self.note(state, offset, end),
        )
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let file = self.file()?;
        self.process.run(
            OpKind::Allocate,
            &self.path,
            || file.allocate(offset, len),
            |state, ()| {
                note_range(state, self.id, 0, 0);
                self.note_allocated(state, offset, offset + len);
            },
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file()?;
        self.process.run(
            OpKind::Write,
            &self.path,
            || file.set_len(len),
            |state, ()| {
                note_range(state, self.id, 0, 0);
            },
        )
    }

    fn sync(&self) -> io::Result<()> {
        let file = self.file()?;
        let disk = &self.process.disk;
        if self.path.starts_with("journal/") {
            disk.journal_syncs.fetch_add(1, Ordering::SeqCst);
            match disk.sync_micros.load(Ordering::SeqCst) {
                0 => {}
                micros => std::thread::sleep(Duration::from_micros(micros)),
            }
        }
        let done = self.process.run(
            OpKind::Sync,
            &self.path,
            || file.sync(),
            |state, ()| {
                if let Some((_, past)) = state.files.get_mut(&self.id) {
                    past.synced();
                }
            },
        );
        if done.is_err() && !self.process.is_dead() {
            self.process.drop_unsynced(self.id);
        }
        done
    }

    fn syncer(self: Arc<Self>, _len: u64) -> io::Result<Arc<dyn Syncer>> {
        Ok(Arc::new(ByHandle(self)))
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn map_words(&self, offset: u64, len: u64) -> io::Result<AtomicWords> {
        let words = self.file()?.map_words(offset, len)?;
        let hook = Hook {
            process: Arc::clone(&self.process),
            path: self.path.clone(),
            words: words.clone(),
            offset,
        };
        // Like a real map, the words keep a separate open file.
        let file = FileHandle {
            process: Arc::clone(&self.process),
            id: self.id,
            path: self.path.clone(),
            file: Arc::new(Mutex::new(Some(self.file()?))),
        };
        Ok(words.with_hook(self.id, offset, Arc::new(hook)).with_syncer(Arc::new(ByHandle(Arc::new(file)))))
    }

    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()> {
        self.file()?.map_into(offset, len, reservation, at)
    }

    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.file()?.try_lock(start, len, mode)
    }

    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()> {
        self.file()?.lock(start, len, mode)
    }

    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        self.file()?.unlock(start, len)
    }

    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.file()?.is_locked(start, len, mode)
    }

    fn raw(&self) -> RawFile<'_> {
        RawFile::Memory
    }

    fn id(&self) -> u64 {
        self.id
    }
}

/// Counts stores to words, and undoes those of a killed process.
struct Hook {
    process: Arc<Process>,
    path: String,
    words: AtomicWords,
    offset: u64,
}

impl StoreHook for Hook {
    fn stored(&self, file: u64, byte_offset: u64, old: u64, new: u64) {
        if old == new {
            // The page is dirty in any case, so a later sync also writes what a failed sync lost of
            // it.
            if !self.process.is_dead() {
                note_range(&mut self.process.disk.state.lock().unwrap(), file, byte_offset, byte_offset + 8);
            }
            return;
        }
        let undo = || self.words.store(((byte_offset - self.offset) / 8) as usize, old, Ordering::SeqCst);
        let note = |state: &mut State, (): &()| {
            if state.files.get(&file).is_some_and(|(_, past)| past.is_hole(byte_offset)) {
                state.hole_stores.push((self.path.clone(), byte_offset));
            }
            note_range(state, file, byte_offset, byte_offset + 8);
        };
        if self.process.run(OpKind::Store, &self.path, || Ok(()), note).is_err() {
            // The store was recorded, so a power cut may still leave it.
            undo();
        }
    }
}
