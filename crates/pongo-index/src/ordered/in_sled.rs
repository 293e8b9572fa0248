//! [`SledBlocks`]: blocks in sled 0.34. The only file that names sled, and all that is known of its ways is here.
//!
//! What it is not trusted with: its `flush` is no sync, so its files are synced behind it; a flipped bit can make it open
//! with fewer keys, so whoever reads compares checksums and counts; opening, reading and dropping can panic, so every
//! call is caught, and after a panic it is not called again; dropping can hang, so it is dropped by a thread that
//! is not waited for without end. A panic's message still goes to the process's panic hook, which is not ours to change.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::{Block, BlockStore, StoreError};

/// Blocks are kept by [`super::OrderedStore`] once they were read. sled takes what it likes whatever this says; a low
/// number makes it take less after merges (measured at 10 M pairs: 120 MB, 190 MB with sixteen times as much).
const SLED_CACHE: u64 = 2 << 20;
/// How long a sled that is dropped may take to write what it has and to let go of its lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Blocks in a folder of sled's. One process has it open at a time.
#[derive(Debug)]
pub struct SledBlocks {
    path: PathBuf,
    /// `None` once closed.
    db: RwLock<Option<sled::Db>>,
    /// sled's `db` file: what is synced behind its back, and how its lock is seen to be gone.
    file: File,
}

impl SledBlocks {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if it is open elsewhere; [`StoreError::Full`], [`StoreError::Io`];
    /// [`StoreError::Damaged`] for everything else that keeps sled from opening.
    pub fn open(path: impl Into<PathBuf>) -> Result<SledBlocks, StoreError> {
        let path = path.into();
        let name = || path.display().to_string();
        let config = sled::Config::new().path(&path).cache_capacity(SLED_CACHE).flush_every_ms(None);
        let db = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => db,
            Ok(Err(error)) => return Err(store_error("open", name(), error)),
            Err(panic) => return Err(StoreError::Damaged { path: name(), what: panic_message(&*panic) }),
        };
        let file = path.join("db");
        match File::options().read(true).write(true).open(&file) {
            Ok(file) => Ok(SledBlocks { path, db: RwLock::new(Some(db)), file }),
            Err(source) => {
                drop_db(db);
                Err(StoreError::io("open", file.display().to_string(), source))
            }
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Calls sled. After a panic it is as good as closed.
    fn call<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        let panicked = {
            let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
            let Some(db) = db.as_ref() else { return Err(StoreError::Closed { path: self.name() }) };
            match catch_unwind(AssertUnwindSafe(|| work(db))) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => return Err(store_error(doing, self.name(), error)),
                Err(panic) => panic_message(&*panic),
            }
        };
        self.drop_inner();
        Err(StoreError::Damaged { path: self.name(), what: panicked })
    }

    /// Drops sled, and returns whether it let go of its lock.
    fn drop_inner(&self) -> bool {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(db) = db else { return true };
        if !drop_db(db) {
            return false;
        }
        // Work that sled does in threads of its own can keep its file open a little longer.
        let began = Instant::now();
        loop {
            match self.file.try_lock() {
                Ok(()) => return self.file.unlock().is_ok(),
                Err(_) if began.elapsed() < PATIENCE / 10 => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => return false,
            }
        }
    }

    fn sync_files(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let synced = if kind.is_dir() {
                self.sync_files(&entry.path())
            } else if entry.file_name() == "db" {
                self.file.sync_all()
            } else {
                File::open(entry.path()).and_then(|file| file.sync_all())
            };
            match synced {
                // sled removes files of its own when it likes.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        File::open(folder)?.sync_all()
    }
}

impl BlockStore for SledBlocks {
    fn get(&self, number: u64) -> Result<Option<Block>, StoreError> {
        Ok(self.call("read", |db| db.get(block_key(number)))?.map(Block::new))
    }

    fn put(&self, blocks: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        self.call("write", |db| {
            for (number, bytes) in blocks {
                db.insert(block_key(number), bytes)?;
            }
            // Not for safety: what is not flushed keeps sled from using space again (2 M pairs at once took 39 MB
            // without this, 24 MB with it).
            db.flush().map(|_| ())
        })
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
        self.call("flush", |db| db.flush().map(|_| ()))?;
        self.sync_files(&self.path).map_err(|error| StoreError::io("sync", self.name(), error))
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        disk_bytes(&self.path).map_err(|error| StoreError::io("list", self.name(), error))
    }

    fn close(&self) -> Result<(), StoreError> {
        if self.drop_inner() {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::TimedOut, "sled did not let go of its lock");
        Err(StoreError::Io { doing: "close", path: self.name(), source })
    }

    fn forget(&self) {
        // Not even waiting for a lock that a thread of the parent held.
        if let Ok(mut db) = self.db.try_write() {
            std::mem::forget(db.take());
        }
    }
}

impl Drop for SledBlocks {
    fn drop(&mut self) {
        self.drop_inner();
    }
}

/// Drops it in a thread, which it may keep. `false` if it does.
fn drop_db(db: sled::Db) -> bool {
    let (done, wait) = mpsc::channel();
    let dropping = std::thread::Builder::new().name("pongo-sled-close".into()).spawn(move || {
        // A panic in there has nothing left to tell: what counts was synced before.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
        let _ = done.send(());
    });
    dropping.is_ok() && wait.recv_timeout(PATIENCE).is_ok()
}

/// Blocks in order of their numbers, apart from names.
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
        // sled has no other way to say so; its version is pinned, and a test holds a lock.
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

/// What the files of a folder take on disk.
fn disk_bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path())?,
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0, // sled removed it meanwhile
        };
    }
    Ok(bytes)
}

/// Moves a folder that is damaged or doubtful out of the way, to `<path>.aside`, so that someone can look at it; what was
/// there before goes. If it cannot be moved, it is removed. Returns where it is now.
///
/// # Errors
/// If it can be neither moved nor removed.
pub fn set_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".aside");
    let aside = PathBuf::from(aside);
    if !path.try_exists()? {
        return Ok(None);
    }
    let moved = remove(&aside).and_then(|()| fs::rename(path, &aside));
    let place = match moved {
        Ok(()) => Some(aside),
        Err(_) => {
            remove(path)?;
            None
        }
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(place)
}

/// Removes a folder or file; that it is not there is as good.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
