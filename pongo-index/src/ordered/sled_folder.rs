//! The folder in which sled stores its files: path, lock on the parent folder, size on disk,
//! quarantine. Nothing here calls sled.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pongo_core::guard::{fails, removable};
use rustix::fs::{Mode, OFlags};

use super::sled_thread::DROP_TIMEOUT;
use super::{Folder, StoreError};

/// Path of sled's folder.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The folder that the path is relative to, unless it is absolute or relative to the current
    /// one.
    pub(super) within: Option<Arc<Folder>>,
    pub(super) path: PathBuf,
}

impl Place {
    /// Returns a path that currently leads to the folder.
    pub(super) fn path(&self) -> Result<PathBuf, StoreError> {
        match &self.within {
            None => Ok(self.path.clone()),
            Some(within) => match within.path() {
                Ok(within) => Ok(within.join(&self.path)),
                Err(error) => Err(StoreError::io("find", self.shown(), error)),
            },
        }
    }

    /// Returns the path that errors name.
    pub(super) fn shown(&self) -> String {
        let shown = match &self.within {
            None => self.path.clone(),
            Some(within) => within.shown().join(&self.path),
        };
        shown.display().to_string()
    }

    pub(super) fn sibling(&self, suffix: &str) -> Place {
        Place { within: self.within.clone(), path: sibling(&self.path, suffix) }
    }
}

/// A lock on the parent of sled's folder. Processes that open sled hold it shared, since sled opens
/// the files in its folder one by one; a process that exchanges the folder holds it exclusively.
/// Without the lock a process could open one file from the old folder and the next from the new
/// one.
pub(super) struct FolderLock(Option<File>);

impl FolderLock {
    /// Takes the lock. Waits a limited time for processes that open or exchange the folder.
    pub(super) fn take(path: &Path, alone: bool) -> Result<FolderLock, StoreError> {
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // If the parent cannot be created or opened, sled reports the reason.
        let folder =
            fs::create_dir_all(above).and_then(|()| Ok(rustix::fs::open(above, flags, Mode::empty())?));
        let Ok(folder) = folder else { return Ok(FolderLock(None)) };
        let folder = File::from(folder);
        let began = Instant::now();
        loop {
            match if alone { folder.try_lock() } else { folder.try_lock_shared() } {
                Ok(()) => return Ok(FolderLock(Some(folder))),
                Err(TryLockError::WouldBlock) if began.elapsed() < DROP_TIMEOUT / 10 => {
                    std::thread::sleep(Duration::from_micros(50));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Locked { path: path.display().to_string() });
                }
                // The file system does not lock folders. A folder that is opened during an exchange
                // is then found damaged, or fails to open.
                Err(TryLockError::Error(_)) => return Ok(FolderLock(None)),
            }
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file would not release the lock: a child created by `fork` may have inherited
        // the descriptor.
        let _ = self.0.as_ref().map(File::unlock);
    }
}

/// Returns the bytes that the files of a folder and its subfolders take on disk. Files that are
/// removed concurrently count as 0.
///
/// # Errors
/// Returns an error if a folder cannot be listed.
pub fn bytes_on_disk(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path())?,
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0, // sled removed it concurrently
        };
    }
    Ok(bytes)
}

/// Returns device and inode of the `db` file in a sled folder, or `None` if it does not exist.
#[must_use]
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    path.join("db").metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Quarantines a damaged or suspect folder: moves it to `<path>.aside` for inspection, replacing a
/// folder moved there before. If it cannot be moved, it is removed. Returns its new path, or `None`
/// if it was removed, left in place, or did not exist.
///
/// `found` is the [`identity`] of the folder that was found damaged: if another process has put
/// another folder in its place, that one is left in place.
///
/// # Errors
/// Returns an error if the folder can be neither moved nor removed, or if another process opens or
/// exchanges it for longer than a second.
pub fn quarantine(path: &Path, found: Option<(u64, u64)>) -> Result<Option<PathBuf>, StoreError> {
    let failed = |source| StoreError::io("quarantine", path.display().to_string(), source);
    // Before the lock, which creates the folder above if there is none.
    if !path.try_exists().map_err(failed)? {
        return Ok(None);
    }
    let _alone = FolderLock::take(path, true)?;
    // Again: another process may have moved it in between. Two folders without `db` have no identity
    // that differs.
    if !path.try_exists().map_err(failed)? {
        return Ok(None);
    }
    if fails!("ordered.aside.identity", identity(path) != found) {
        return Ok(None);
    }
    let aside = sibling(path, ".aside");
    let moved = remove(&aside).and_then(|()| fs::rename(path, &aside));
    let place = match moved {
        Ok(()) => Some(aside),
        Err(_) => {
            remove(path).map_err(failed)?;
            None
        }
    };
    removable!("ordered.aside.folder", sync_parent(path)).map_err(failed)?;
    Ok(place)
}

pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Returns the path with `suffix` appended to its last component.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut sibling = path.as_os_str().to_owned();
    sibling.push(suffix);
    PathBuf::from(sibling)
}

/// Removes a folder or file. Succeeds if it does not exist.
pub(super) fn remove(path: &Path) -> io::Result<()> {
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
