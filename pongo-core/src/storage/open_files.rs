//! [`OpenFiles`]: a storage that keeps few descriptors open. Files that are needed occasionally
//! ([`Reopened`]) stay open while they are among the most recently used, and are reopened when they
//! are needed later. If the process or the system runs out of descriptors, they are closed first.
//!
//! **A written file is closed only if another object will report a failed write-back.** The kernel
//! reports a failure once to each open file description, and may not report it to one that is
//! opened later. So closing a written file leaves a [`Syncer`]: for real files a map, which keeps
//! the open file description alive without a descriptor. If no syncer can be created, the file
//! stays open. A sync uses the handle or syncer that has been open for longest.
//!
//! Maps are limited too, to a much larger number. If a process has more of them than its stores
//! should, unused objects ([`Idle`]) release their maps. If none can, needed maps are created all
//! the same, as long as the kernel permits it.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::error::FileError;
use super::{ByHandle, File, Storage, Syncer, maps};

/// A file that is opened when it is needed, and may be closed while no other code uses its handle.
#[derive(Debug)]
pub struct Reopened {
    /// Length of the file in bytes.
    len: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    path: String,
    file: Option<Arc<dyn File>>,
    /// Whether the file may have been written since the last sync.
    written: bool,
    /// Set if the file was closed after writes: a syncer of an open file description that is older
    /// than the first of them.
    syncer: Option<Arc<dyn Syncer>>,
}

impl Reopened {
    /// Registers a file that is open and was not written.
    #[must_use]
    pub fn opened(storage: &dyn Storage, path: String, len: u64, file: Arc<dyn File>) -> Arc<Self> {
        let made = Self::new(path, len, file, false);
        storage.note_open(&made);
        made
    }

    /// Registers an open file that the caller created and wrote to.
    #[must_use]
    pub fn made(storage: &dyn Storage, path: String, len: u64, file: Arc<dyn File>) -> Arc<Self> {
        let made = Self::new(path, len, file, true);
        storage.note_open(&made);
        made
    }

    fn new(path: String, len: u64, file: Arc<dyn File>, written: bool) -> Arc<Self> {
        Arc::new(Self { len, state: Mutex::new(State { path, file: Some(file), written, syncer: None }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single assignment, or leaves a state that is valid too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the open file, for anything but writing. It stays open as long as the caller holds
    /// it.
    pub fn file(self: &Arc<Self>, storage: &dyn Storage) -> io::Result<Arc<dyn File>> {
        self.open(storage, false)
    }

    /// Returns the open file, for writing.
    pub fn file_to_write(self: &Arc<Self>, storage: &dyn Storage) -> io::Result<Arc<dyn File>> {
        self.open(storage, true)
    }

    fn open(self: &Arc<Self>, storage: &dyn Storage, to_write: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if let Some(file) = state.file.clone() {
            state.written |= to_write;
            drop(state);
            storage.note_open(self);
            return Ok(file);
        }
        let path = state.path.clone();
        drop(state);
        // The lock is not held here: to get a descriptor, `open` may have to close other files,
        // this one's own handle among them.
        let opened = storage.open(&path)?;
        let file = {
            let mut state = self.state();
            state.written |= to_write;
            Arc::clone(state.file.get_or_insert(opened))
        };
        storage.note_open(self);
        Ok(file)
    }

    /// Returns an object that syncs the file: after its `sync`, everything that any process wrote
    /// before is on the disk.
    ///
    /// Opens the file if it is not open and this process wrote nothing to it. An error here is not
    /// a failed sync.
    pub fn to_sync(self: &Arc<Self>, storage: &dyn Storage) -> io::Result<ToSync> {
        // Read both under one lock: a thread that closes the file concurrently replaces the handle
        // by a syncer.
        let (syncer, file) = {
            let state = self.state();
            (state.syncer.clone(), state.file.clone())
        };
        let by = match (syncer, file) {
            (Some(syncer), _) => syncer,
            (None, Some(file)) => Arc::new(ByHandle(file)),
            (None, None) => Arc::new(ByHandle(self.file(storage)?)),
        };
        Ok(ToSync { file: Arc::clone(self), by })
    }

    /// Notes that the file was renamed.
    pub fn renamed(&self, path: &str) {
        path.clone_into(&mut self.state().path);
    }

    /// Closes the file if no write-back error can be lost by it. Returns whether the file was open.
    fn close(&self) -> bool {
        let mut state = self.state();
        let Some(file) = &state.file else { return false };
        if state.written && state.syncer.is_none() {
            match Arc::clone(file).syncer(self.len) {
                Ok(syncer) => state.syncer = Some(syncer),
                // The limit on maps is reached as well: the file stays open.
                Err(_) => return false,
            }
        }
        state.file = None;
        true
    }
}

/// A file that is about to be synced.
#[derive(Debug)]
pub struct ToSync {
    file: Arc<Reopened>,
    by: Arc<dyn Syncer>,
}

impl ToSync {
    /// Syncs the file (`fdatasync`). No thread may write to it during the call.
    pub fn sync(self) -> io::Result<()> {
        self.by.sync()?;
        let mut state = self.file.state();
        state.syncer = None;
        state.written = false;
        Ok(())
    }
}

/// An object with maps that can be released while it is unused.
pub trait Idle: Send + Sync + std::fmt::Debug {
    /// Releases the maps, unless the object is in use. Never waits for a lock.
    fn give_up_maps(&self);
}

/// Maximum number of reopenable files that stay open. A store has only a few other files open.
pub(crate) const MAX_OPEN_FILES: usize = 24;

/// A storage on top of another one; see the module documentation.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    inner: Arc<dyn Storage>,
    most: usize,
    /// Open files; the most recently used one is last.
    recent: Mutex<VecDeque<Weak<Reopened>>>,
    /// Held while files are closed to free descriptors.
    closing: Mutex<()>,
    /// How often files were closed for this reason.
    freed: AtomicUsize,
    /// Objects with maps; the first one is asked first.
    idle: Mutex<VecDeque<Weak<dyn Idle>>>,
    /// Number of further checks for which no maps are released, because the last attempt released
    /// too few.
    patience: AtomicUsize,
    crowded: AtomicBool,
}

impl OpenFiles {
    pub(crate) fn over(inner: Arc<dyn Storage>, most: usize) -> Self {
        Self {
            inner,
            most,
            recent: Mutex::default(),
            closing: Mutex::default(),
            freed: AtomicUsize::new(0),
            idle: Mutex::default(),
            patience: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
        }
    }

    /// Releases maps until their number is an eighth below the limit, so that this is rarely
    /// needed.
    #[cold]
    fn give_up_maps(&self, limit: usize) {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let all = idle().len();
        for _ in 0..all {
            if maps::count() < limit - limit / 8 {
                break;
            }
            let mut queue = idle();
            let Some(next) = queue.pop_front() else { break };
            let Some(what) = next.upgrade() else { continue };
            queue.push_back(next);
            drop(queue);
            what.give_up_maps();
        }
        let left = maps::count();
        if left >= limit {
            self.crowded.store(true, Ordering::Relaxed);
            self.patience.store(limit / 16, Ordering::Relaxed);
        }
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Weak<Reopened>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs an operation that needs a descriptor. If none is left, closes files and retries.
    /// One thread at a time does that; waiting threads then use the descriptors that it freed.
    fn with_descriptor<T>(&self, something: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let freed = self.freed.load(Ordering::Relaxed);
        let error = match something() {
            Err(error) if is_out_of_descriptors(&error) => error,
            done => return done,
        };
        let _one = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.freed.load(Ordering::Relaxed) != freed {
            match something() {
                Err(error) if is_out_of_descriptors(&error) => {}
                done => return done,
            }
        }
        let files = std::mem::take(&mut *self.recent());
        let closed = files.iter().filter_map(Weak::upgrade).filter(|file| file.close()).count();
        if closed == 0 {
            return Err(error);
        }
        self.freed.fetch_add(1, Ordering::Relaxed);
        something()
    }
}

/// Returns whether the error means that the process or the system has no descriptor left.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let number = os_number(error);
    number == Some(libc::EMFILE) || number == Some(libc::ENFILE)
}

/// Returns whether the error comes from a preliminary step of the operation: opening or mapping a
/// file.
pub(crate) fn is_of_opening(error: &io::Error) -> bool {
    let detail = below(error).find_map(|error| error.get_ref()?.downcast_ref::<FileError>());
    detail
        .is_some_and(|detail| detail.operation().starts_with("open") || detail.operation().starts_with("map"))
}

/// Returns whether the system had no memory for the operation, or the process no address space or
/// map.
pub(crate) fn is_out_of_memory(error: &io::Error) -> bool {
    below(error).any(|error| error.kind() == io::ErrorKind::OutOfMemory)
}

/// Returns the operating system's number for an error, however it was wrapped.
fn os_number(error: &io::Error) -> Option<i32> {
    below(error).find_map(io::Error::raw_os_error)
}

/// Returns the error and its I/O error sources.
fn below<'e>(error: &'e io::Error) -> impl Iterator<Item = &'e io::Error> {
    let next = |error: &&'e (dyn Error + 'static)| -> Option<&'e (dyn Error + 'static)> { (*error).source() };
    std::iter::successors(Some(error as &'e (dyn Error + 'static)), next)
        .filter_map(|error| error.downcast_ref())
}

impl Storage for OpenFiles {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.with_descriptor(|| self.inner.create(path))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.with_descriptor(|| self.inner.open(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.with_descriptor(|| self.inner.list(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.with_descriptor(|| self.inner.sync_dir(path))
    }

    fn note_open(&self, file: &Arc<Reopened>) {
        let mut recent = self.recent();
        let is_it = |known: &Weak<Reopened>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(file));
        if recent.back().is_some_and(is_it) {
            return;
        }
        if let Some(place) = recent.iter().position(is_it) {
            recent.remove(place);
        }
        recent.push_back(Arc::downgrade(file));
        let oldest = if recent.len() > self.most { recent.pop_front() } else { None };
        drop(recent);
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            oldest.close();
        }
    }

    fn note_idle(&self, what: Weak<dyn Idle>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(what);
    }

    fn check_maps(&self) {
        let limit = maps::limit();
        if maps::count() < limit {
            return;
        }
        let wait = |patience: usize| patience.checked_sub(1);
        if self.patience.fetch_update(Ordering::Relaxed, Ordering::Relaxed, wait).is_err() {
            self.give_up_maps(limit);
        }
    }

    fn take_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) && self.crowded.swap(false, Ordering::Relaxed)
    }

    crate::forward_storage!(self => self.inner; rename, remove, create_dir, reserve, cache_identity, host);
    crate::forward_storage!(self => self.inner; hole_reads_allocate, stores_may_allocate);
    crate::forward_storage!(self => self.inner; folder_identity, name);
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::storage::{RealStorage, Reservation};

    fn storage(most: usize) -> (tempfile::TempDir, Arc<OpenFiles>) {
        let folder = tempfile::tempdir().unwrap();
        let inner = Arc::new(RealStorage::open(folder.path()).unwrap());
        (folder, Arc::new(OpenFiles::over(inner, most)))
    }

    fn make(storage: &OpenFiles, name: &str) -> Arc<Reopened> {
        let file = storage.create(name).unwrap();
        file.write_at(&[0; 8192], 0).unwrap();
        Reopened::made(storage, name.to_owned(), 8192, file)
    }

    fn is_open(file: &Reopened) -> bool {
        file.state().file.is_some()
    }

    #[test]
    fn recently_used_files_are_open() {
        let (_folder, storage) = storage(2);
        let files = ["a", "b", "c"].map(|name| make(&storage, name));
        assert_eq!(files.each_ref().map(|file| is_open(file)), [false, true, true]);
        files[1].file(&*storage).unwrap();
        files[0].file(&*storage).unwrap();
        assert_eq!(files.each_ref().map(|file| is_open(file)), [true, true, false]);
        // A file whose handle is held elsewhere stays open for the holder.
        let held = files[0].file_to_write(&*storage).unwrap();
        for _ in 0..2 {
            files[1].file(&*storage).unwrap();
            files[2].file(&*storage).unwrap();
        }
        assert!(!is_open(&files[0]));
        held.write_at(b"more", 4).unwrap();
        let mut read = [0; 8];
        files[0].file(&*storage).unwrap().read_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"\0\0\0\0more");
    }

    #[test]
    fn written_files_close_with_a_syncer() {
        let (_folder, storage) = storage(1);
        let written = make(&storage, "a");
        make(&storage, "b");
        assert!(!is_open(&written) && written.state().syncer.is_some());
        // A later handle may not report earlier failures, so the first syncer is used.
        written.file_to_write(&*storage).unwrap().write_at(b"x", 0).unwrap();
        assert!(is_open(&written) && written.state().syncer.is_some());
        written.to_sync(&*storage).unwrap().sync().unwrap();
        assert!(written.state().syncer.is_none() && !written.state().written);
        // Now nothing unsynced is left to report on.
        make(&storage, "c");
        assert!(!is_open(&written) && written.state().syncer.is_none());
        written.file(&*storage).unwrap();
        make(&storage, "d");
        assert!(!is_open(&written) && written.state().syncer.is_none());
    }

    #[test]
    fn threads_share_freed_descriptors() {
        let (_folder, storage) = storage(8);
        let _files = ["a", "b"].map(|name| make(&storage, name));
        let both_failed = std::sync::Barrier::new(2);
        let open = || {
            let tries = AtomicUsize::new(0);
            storage.with_descriptor(|| {
                if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                    both_failed.wait();
                    return Err(io::Error::from_raw_os_error(libc::EMFILE));
                }
                let none_left = !storage.recent().is_empty();
                if none_left { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(()) }
            })
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(open);
            open().unwrap();
            other.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_file_keeps_its_names() {
        let (_folder, storage) = storage(1);
        let file = make(&storage, "a.new");
        make(&storage, "other");
        storage.rename("a.new", "a").unwrap();
        file.renamed("a");
        assert_eq!(file.file(&*storage).unwrap().len().unwrap(), 8192);
    }

    #[test]
    fn failed_open_fails_the_sync() {
        use crate::error::StorageError;
        let failure = |operation, number| {
            let error = FileError::wrap(operation, "a", io::Error::from_raw_os_error(number));
            StorageError::io(StorageError::SYNCING, "a")(error)
        };
        for (operation, number, failed, exhausted) in [
            ("sync", libc::EIO, true, false),
            ("sync folder", libc::ENOSPC, true, false),
            ("sync", libc::ENOMEM, true, false),
            ("open folder", libc::EMFILE, false, true),
            ("open", libc::ENFILE, false, true),
            ("open folder", libc::ENOMEM, false, true),
            ("open", libc::EIO, false, false),
            ("map", libc::ENOMEM, false, true),
        ] {
            let fault = failure(operation, number);
            assert_eq!((fault.is_failed_sync(), fault.is_exhausted()), (failed, exhausted), "{fault}");
            // An index reports its failed syncs in this form.
            let StorageError::Io(failure) = fault else { unreachable!() };
            let wrapped = StorageError::io(StorageError::SYNCING, "an index")(io::Error::other(failure));
            assert_eq!((wrapped.is_failed_sync(), wrapped.is_exhausted()), (failed, exhausted), "{wrapped}");
        }
    }

    #[derive(Debug)]
    struct Maps(Mutex<Option<Reservation>>);

    impl Idle for Maps {
        fn give_up_maps(&self) {
            self.0.lock().unwrap().take();
        }
    }

    #[test]
    fn oldest_idle_maps_are_released_first() {
        let (_folder, storage) = storage(1);
        let idle: Vec<Arc<Maps>> =
            (0..400).map(|_| Arc::new(Maps(Mutex::new(Some(storage.reserve(4096).unwrap()))))).collect();
        for idle in &idle {
            storage.note_idle(Arc::downgrade(idle) as _);
        }
        // Other tests create and drop a few maps at the same time.
        storage.give_up_maps(maps::count() - 100);
        let given_up = idle.iter().take_while(|idle| idle.0.lock().unwrap().is_none()).count();
        assert!((100..300).contains(&given_up), "{given_up}");
        assert!(idle[given_up..].iter().all(|idle| idle.0.lock().unwrap().is_some()));
        assert!(!storage.take_crowded());
        let _kept = storage.reserve(4096).unwrap();
        storage.give_up_maps(1);
        assert!(storage.take_crowded() && !storage.take_crowded());
    }
}
