//! [`SledBlocks`]: blocks in sled 0.34. Only this file and `sled_thread`, which opens and drops
//! sled, call sled. Its behaviour is documented here, its folder in `sled_folder`, its
//! files in `sled_files`.
//!
//! sled is not trusted with the following:
//!
//! - Its `flush` does not sync, so its files are synced afterwards.
//! - A flipped bit can make it open with fewer keys, so readers compare checksums and counts.
//! - Opening, reading and dropping can panic, so every call is caught, and after a panic it is not
//!   called again.
//! - Dropping can hang, so a separate thread drops it, and waiting for that thread has a timeout.
//!
//! The message of a caught panic still goes to the process's panic hook, which belongs to the
//! application and is not changed.

use pongo_core::guard::removable;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::sled_folder::{FolderLock, Place, bytes_on_disk, remove, sync_parent};
use super::sled_thread::{DROP_TIMEOUT, NotOpened, SledThread};
use super::{Block, BlockStore, Folder, StoreError, sled_files};

/// sled's cache size in bytes. [`super::OrderedStore`] caches the blocks that were read, and sled
/// takes what it needs whatever this says; a low number makes it take less after merges (measured
/// at 10 M pairs: 120 MB, 190 MB with 16 times this size).
const SLED_CACHE: u64 = 2 << 20;
/// Name of an empty file in sled's folder. sled does not touch it.
const HAD_ROOTS: &str = "had-roots";
/// Bytes of blocks that are copied between two flushes.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Path at which a call of sled panics, and the number of calls before it: see
/// [`SledBlocks::panic_after`].
static PANIC: Mutex<Option<(PathBuf, u64)>> = Mutex::new(None);
static PANIC_IS_ASKED: AtomicBool = AtomicBool::new(false);

/// Blocks stored in a sled folder. One process has it open at a time.
#[derive(Debug)]
pub struct SledBlocks {
    place: Place,
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The thread that opens and drops `db`.
    thread: Arc<SledThread>,
    /// `None` once closed.
    db: Option<sled::Db>,
    /// The message of the panic that closed it, if any; later calls return it as an error.
    panicked: Option<String>,
    /// sled's `db` file, opened separately: to sync it, and to detect that sled has released its
    /// lock.
    file: File,
}

impl SledBlocks {
    /// Opens the folder, creating it if it does not exist.
    ///
    /// # Errors
    /// Returns [`StoreError::Locked`] if it is open elsewhere; [`StoreError::NoThreads`] if sled
    /// cannot have the threads that it needs; [`StoreError::Full`] or [`StoreError::Io`] if the
    /// system fails; and [`StoreError::Damaged`] for everything else that keeps sled from opening.
    pub fn open(path: impl Into<PathBuf>) -> Result<SledBlocks, StoreError> {
        SledBlocks::open_at(Place { within: None, path: path.into() })
    }

    /// Does the same as [`open`](SledBlocks::open) for a path relative to a folder, which is
    /// followed when it is renamed.
    ///
    /// # Errors
    /// Returns the same errors as [`open`](SledBlocks::open).
    pub fn open_in(within: &Arc<Folder>, path: impl Into<PathBuf>) -> Result<SledBlocks, StoreError> {
        SledBlocks::open_at(Place { within: Some(Arc::clone(within)), path: path.into() })
    }

    fn open_at(place: Place) -> Result<SledBlocks, StoreError> {
        let thread =
            SledThread::begin().map_err(|source| StoreError::NoThreads { path: place.shown(), source })?;
        let inner = RwLock::new(Inner::open(Arc::new(thread), &place)?);
        // sled's lock is held now, so no other process uses the folder. The copy of an unfinished
        // compaction is removed; if that fails, it only takes space.
        let _ = place.sibling(".new").path().map(|path| remove(&path));
        Ok(SledBlocks { place, inner })
    }

    /// Returns whether [`note_roots`](Self::note_roots) was called for the contents of a folder.
    /// sled can open damaged files without any entries, which looks like a folder into which
    /// nothing was ever written.
    #[must_use]
    pub fn had_roots(path: &Path) -> bool {
        path.join(HAD_ROOTS).exists()
    }

    /// Records beside sled's files that durable roots exist.
    ///
    /// # Errors
    /// Returns an error if the note cannot be created. Then the loss of all entries would go
    /// undetected.
    pub fn note_roots(path: &Path) -> io::Result<()> {
        File::create(path.join(HAD_ROOTS)).map(|_| ())
    }

    /// Makes a call for this folder panic, after `calls` other calls, as if sled did. For tests.
    #[doc(hidden)]
    pub fn panic_after(path: impl Into<PathBuf>, calls: u64) {
        *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.into(), calls));
        PANIC_IS_ASKED.store(true, Ordering::Relaxed);
    }

    fn name(&self) -> String {
        self.place.shown()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls sled. A panic closes it.
    fn call<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        let panicked = {
            let inner = self.read();
            let Some(db) = &inner.db else { return Err(self.closed(&inner)) };
            let work = || {
                panic_if_asked(&self.place);
                work(db)
            };
            match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => return Err(store_error(doing, self.name(), error)),
                Err(panic) => panic_message(&*panic),
            }
        };
        let mut inner = self.write();
        inner.close();
        inner.panicked.get_or_insert(panicked);
        Err(self.closed(&inner))
    }

    fn closed(&self, inner: &Inner) -> StoreError {
        match &inner.panicked {
            Some(what) => StoreError::Damaged { path: self.name(), what: what.clone() },
            None => StoreError::Closed { path: self.name() },
        }
    }

    /// Copies these blocks, and all named values, to another folder.
    fn copy_to(&self, to: &SledBlocks, numbers: &[u64]) -> Result<(), StoreError> {
        let (mut batch, mut batched) = (Vec::new(), 0);
        for &number in numbers {
            let Some(bytes) = self.call("read", |db| db.get(block_key(number)))? else {
                let what = format!("block {number} is missing");
                return Err(StoreError::Damaged { path: self.name(), what });
            };
            batched += bytes.len();
            batch.push((block_key(number), bytes));
            if batched >= COPIED_AT_ONCE {
                to.put_all(std::mem::take(&mut batch)).map_err(of_copy)?;
                batched = 0;
            }
        }
        to.put_all(batch).map_err(of_copy)?;
        let named = self.call("list", |db| db.range(named_key(b"")..).collect::<Result<Vec<_>, _>>())?;
        to.call("write", |db| named.iter().try_for_each(|(name, value)| db.insert(name, value).map(|_| ())))
            .and_then(|()| removable!("ordered.copy.sync", to.sync()))
            .map_err(of_copy)
    }

    /// Exchanges this folder with a copy, which is closed, and whose lock `copy` holds.
    fn swap(&self, sibling: &Place, copy: &File) -> Result<(), StoreError> {
        let mut inner = self.write();
        if inner.db.is_none() {
            return Err(self.closed(&inner));
        }
        let alone = FolderLock::take(&self.place.path()?, true)?;
        if !inner.close_and_lock() {
            return Err(self.not_let_go());
        }
        let exchanged = self.place.path().and_then(|path| {
            renameat_with(CWD, &path, CWD, sibling.path()?, RenameFlags::EXCHANGE)
                .map_err(io::Error::from)
                .and_then(|()| removable!("ordered.exchange.folder", sync_parent(&path)))
                .map_err(|error| StoreError::io("exchange", self.name(), error))
        });
        // Whether exchanged or not, the folder at the path is complete.
        let unlocked = copy.unlock().and_then(|()| inner.file.unlock());
        *inner = Inner::open_at(Arc::clone(&inner.thread), &self.place, &self.place.path()?)?;
        drop(alone);
        exchanged.and(unlocked.map_err(|error| StoreError::io("unlock", self.name(), error)))
    }

    fn not_let_go(&self) -> StoreError {
        let source = io::Error::new(io::ErrorKind::TimedOut, "sled did not let go of its lock");
        StoreError::Io { doing: "close", path: self.name(), source }
    }

    fn put_all<V: Into<sled::IVec>>(&self, blocks: Vec<([u8; 9], V)>) -> Result<(), StoreError> {
        self.call("write", |db| {
            for (key, bytes) in blocks {
                db.insert(key, bytes)?;
            }
            // Not for durability: sled does not reuse space before a flush (2 M pairs at once took
            // 39 MB without this, 24 MB with it).
            db.flush().map(|_| ())
        })
    }

    fn sync_files(file: &File, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let synced = if kind.is_dir() {
                Self::sync_files(file, &entry.path())
            } else if entry.file_name() == "db" {
                removable!("ordered.sled.db", file.sync_all())
            } else if kind.is_file() {
                File::open(entry.path()).and_then(|file| removable!("ordered.sled.files", file.sync_all()))
            } else {
                // Not one of sled's files, and opening it could block forever.
                Ok(())
            };
            match synced {
                // sled removes files at any time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        let folder = File::open(folder)?;
        removable!("ordered.sled.folder", folder.sync_all())
    }
}

impl Inner {
    fn open(thread: Arc<SledThread>, place: &Place) -> Result<Inner, StoreError> {
        let path = place.path()?;
        let _shared = FolderLock::take(&path, false)?;
        Inner::open_at(thread, place, &path)
    }

    /// Does the same as `open`, with the lock on the parent folder already held.
    fn open_at(thread: Arc<SledThread>, place: &Place, path: &Path) -> Result<Inner, StoreError> {
        let opened = Inner::open_path(thread, path);
        opened.map_err(|error| error.shown(&path.display().to_string(), &place.shown()))
    }

    fn open_path(thread: Arc<SledThread>, path: &Path) -> Result<Inner, StoreError> {
        let name = || path.display().to_string();
        sled_files::check(path)?;
        let config = sled::Config::new().path(path).cache_capacity(SLED_CACHE).flush_every_ms(None);
        let db = thread.open(config).map_err(|why| match why {
            NotOpened::Sled(error) => store_error("open", name(), error),
            NotOpened::Panicked(panic) => StoreError::Damaged { path: name(), what: panic_message(&*panic) },
            NotOpened::NoThreads(source) => StoreError::NoThreads { path: name(), source },
        })?;
        let file = path.join("db");
        match File::options().read(true).write(true).open(&file) {
            Ok(file) => Ok(Inner { thread, db: Some(db), panicked: None, file }),
            Err(source) => {
                thread.drop_db(db);
                Err(StoreError::io("open", file.display().to_string(), source))
            }
        }
    }

    /// Drops sled and returns whether sled has released its lock. In that case the lock is held
    /// here until the file is closed or opened by [`Inner::open`] again.
    fn close_and_lock(&mut self) -> bool {
        let Some(db) = self.db.take() else { return self.file.try_lock().is_ok() };
        if !self.thread.drop_db(db) {
            return false;
        }
        // sled's background threads can keep its file open a little longer.
        let began = Instant::now();
        loop {
            match self.file.try_lock() {
                Ok(()) => return true,
                Err(_) if began.elapsed() < DROP_TIMEOUT / 10 => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => return false,
            }
        }
    }

    /// Drops sled and returns whether sled has released its lock.
    fn close(&mut self) -> bool {
        self.db.is_none() || self.close_and_lock() && self.file.unlock().is_ok()
    }
}

impl BlockStore for SledBlocks {
    fn get(&self, number: u64) -> Result<Option<Block>, StoreError> {
        Ok(self.call("read", |db| db.get(block_key(number)))?.map(Block::new))
    }

    fn put(&self, blocks: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        self.put_all(blocks.into_iter().map(|(number, bytes)| (block_key(number), bytes)).collect())
    }

    fn remove(&self, numbers: &[u64]) -> Result<(), StoreError> {
        self.call("remove blocks from", |db| {
            for &number in numbers {
                db.remove(block_key(number))?;
            }
            Ok(())
        })
    }

    fn numbers(&self, from: u64) -> Result<Vec<u64>, StoreError> {
        self.call("list", |db| {
            let mut numbers = Vec::new();
            for key in db.range(block_key(from)..=block_key(u64::MAX)).keys() {
                if let Some(eight) = key?.last_chunk::<8>() {
                    numbers.push(u64::from_be_bytes(*eight));
                }
            }
            Ok(numbers)
        })
    }

    fn get_named(&self, name: &[u8]) -> Result<Option<Block>, StoreError> {
        Ok(self.call("read", |db| db.get(named_key(name)))?.map(Block::new))
    }

    fn put_named(&self, name: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.call("write", |db| db.insert(named_key(name), value).map(|_| ()))
    }

    fn sync(&self) -> Result<(), StoreError> {
        removable!("ordered.sled.flush", self.call("flush", |db| db.flush().map(|_| ())))?;
        let synced = Self::sync_files(&self.read().file, &self.place.path()?);
        synced.map_err(|error| StoreError::io("sync", self.name(), error))
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        bytes_on_disk(&self.place.path()?).map_err(|error| StoreError::io("list", self.name(), error))
    }

    /// Copies the blocks to `<path>.new` and exchanges the two folders. At every moment, also after
    /// a power failure, a complete folder is at `<path>`, since the two names are exchanged
    /// atomically. No other process can interfere: the locks of both folders and of their parent
    /// are held.
    fn compact(&self, numbers: &[u64]) -> Result<(), StoreError> {
        let sibling = self.place.sibling(".new");
        let failed = |doing, error| StoreError::io(doing, sibling.shown(), error);
        let remove_copy = || remove(&sibling.path()?).map_err(|error| failed("remove", error));
        remove_copy()?;
        let copied = SledBlocks::open_at(sibling.clone()).map_err(of_copy).and_then(|copy| {
            self.copy_to(&copy, numbers)?;
            let mut inner = copy.write();
            if !inner.close_and_lock() {
                return Err(copy.not_let_go());
            }
            if SledBlocks::had_roots(&self.place.path()?) {
                SledBlocks::note_roots(&sibling.path()?).map_err(|error| failed("write", error))?;
            }
            inner.file.try_clone().map_err(|error| failed("lock", error))
        });
        let swapped = copied.and_then(|copy| self.swap(&sibling, &copy));
        // `<path>.new` is now the old folder, or a copy that is of no use.
        let removed = remove_copy();
        swapped.and(removed)
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.read().file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    fn close(&self) -> Result<(), StoreError> {
        if self.write().close() { Ok(()) } else { Err(self.not_let_go()) }
    }

    fn forget(&self) {
        // Does not wait for the lock, which a thread of the parent may have held.
        if let Ok(mut inner) = self.inner.try_write() {
            std::mem::forget(inner.db.take());
        }
    }
}

impl Drop for SledBlocks {
    fn drop(&mut self) {
        self.write().close();
    }
}

/// Converts an error of a copy, so that damage to the copy is not attributed to the original.
fn of_copy(error: StoreError) -> StoreError {
    match error {
        StoreError::Damaged { path, what } => {
            StoreError::Io { doing: "copy blocks to", path, source: io::Error::other(what) }
        }
        other => other,
    }
}

#[inline]
fn panic_if_asked(place: &Place) {
    if PANIC_IS_ASKED.load(Ordering::Relaxed) {
        let path = &Path::new(&place.shown()).to_owned();
        let mut asked = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *asked {
            Some((here, 0)) if here == path => {
                *asked = None;
                panic!("as asked by a test");
            }
            Some((here, left)) if here == path => *left -= 1,
            _ => {}
        }
    }
}

/// Returns the key of a block. Keys ascend with block numbers and are distinct from those of names.
fn block_key(number: u64) -> [u8; 9] {
    let mut key = [0; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn named_key(name: &[u8]) -> Vec<u8> {
    [&[1], name].concat()
}

fn store_error(doing: &'static str, path: String, error: sled::Error) -> StoreError {
    match error {
        // sled has no other way to report this. Its version is pinned, and a test covers it by
        // holding a lock.
        sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => {
            StoreError::Locked { path }
        }
        sled::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StoreError::Damaged { path, what: format!("sled cannot {doing} it: {error}") }
        }
        sled::Error::Io(source) => StoreError::io(doing, path, source),
        other => StoreError::Damaged { path, what: format!("sled cannot {doing} it: {other}") },
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    format!("sled panicked: {message}")
}
