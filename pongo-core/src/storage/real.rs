//! [`RealStorage`]: a folder of the file system.
//!
//! All paths are resolved relative to one descriptor of the folder, so that a store keeps working
//! when its folder is renamed. Every descriptor is closed on `exec`. Files are opened for reading
//! and writing even if they are only read: on overlayfs, a read-only handle that was opened before
//! another process first writes to the file would keep showing the old copy.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::{Errno, retry_on_intr};

use super::error::FileError;
use super::file_system::FileSystem;
use super::maps::Counted;
use super::validate::{check_folder_path, check_map, check_path, end_of_some, invalid, lock_range};
use super::{AtomicWords, File, Host, LockMode, PAGE, RawFile, Reservation, Storage, Syncer, linux};

/// `STATX_MNT_ID_UNIQUE`, since Linux 6.8: requests the mount ID that is never reused within one
/// boot.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// A folder of the file system, held open.
///
/// ```
/// use pongo_core::storage::{RealStorage, Storage};
///
/// let folder = tempfile::tempdir()?;
/// let storage = RealStorage::create(folder.path().join("flights.pongo"))?;
/// storage.create("super")?.write_at(b"hello", 0)?;
/// assert_eq!(storage.list("")?, ["super"]);
/// # std::io::Result::Ok(())
/// ```
pub struct RealStorage {
    folder: OwnedFd,
    name: String,
    system: FileSystem,
}

impl RealStorage {
    /// Opens an existing folder.
    ///
    /// Returns `NotFound`, `NotADirectory` or `PermissionDenied` if it cannot be opened, and
    /// `Unsupported` on a system whose memory pages are larger than [`PAGE`].
    pub fn open(path: impl AsRef<Path>) -> io::Result<RealStorage> {
        let name = path.as_ref().display().to_string();
        let page = rustix::param::page_size();
        if page as u64 > PAGE {
            let message =
                format!("files are mapped in pages of {PAGE} bytes; this system maps pages of {page}");
            return Err(FileError::wrap(
                "open folder",
                &name,
                io::Error::new(ErrorKind::Unsupported, message),
            ));
        }
        let folder = open_folder(rustix::fs::CWD, path.as_ref())
            .map_err(|errno| FileError::wrap("open folder", &name, errno))?;
        let system = FileSystem::of(&folder);
        Ok(RealStorage { folder, name, system })
    }

    /// Creates the folder durably if it does not exist, and opens it. Its parent folder must exist.
    pub fn create(path: impl AsRef<Path>) -> io::Result<RealStorage> {
        let path = path.as_ref();
        let fail = |e: io::Error| FileError::wrap("make folder", &path.display().to_string(), e);
        match fs::create_dir(path) {
            Ok(()) => sync_above(path).map_err(fail)?,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                let storage = RealStorage::open(path)?;
                if !storage.has("super")? {
                    sync_above_existing(path).map_err(fail)?;
                }
                return Ok(storage);
            }
            Err(e) => return Err(fail(e)),
        }
        RealStorage::open(path)
    }

    /// Creates the folder and its missing parent folders durably, and opens it.
    ///
    /// Each parent folder has a durable name before a folder in it is created. The names of
    /// existing parent folders are made durable too, unless the folder holds a store already: the
    /// process that created them may have crashed before they were.
    pub fn create_all(path: impl AsRef<Path>) -> io::Result<RealStorage> {
        let path = path.as_ref();
        let has_store = path.join("super").symlink_metadata().is_ok();
        if let Some(parent) = path.parent().filter(|_| !has_store) {
            let mut above: Vec<&Path> = parent.ancestors().collect();
            above.reverse();
            for folder in above {
                // `/`, `..` and the empty path are not names in a folder that could be created.
                if folder.file_name().is_some() {
                    create_parent(folder)
                        .map_err(|e| FileError::wrap("make folder", &folder.display().to_string(), e))?;
                }
            }
        }
        RealStorage::create(path)
    }

    /// Returns whether a directory entry exists.
    fn has(&self, path: &str) -> io::Result<bool> {
        match rustix::fs::statat(&self.folder, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("look at", path, errno)),
        }
    }

    /// Returns another descriptor of the folder, for code that keeps files in it by itself.
    pub fn share_folder(&self) -> io::Result<OwnedFd> {
        self.folder.try_clone().map_err(|error| self.error("share", "", error))
    }

    fn error(&self, operation: &'static str, path: &str, source: impl Into<io::Error>) -> io::Error {
        FileError::wrap(operation, &self.full(path), source)
    }

    fn full(&self, path: &str) -> String {
        if path.is_empty() { self.name.clone() } else { format!("{}/{path}", self.name) }
    }

    /// Opens a file below the folder, and verifies that it is a regular file.
    fn open_file(&self, path: &str, extra: OFlags) -> io::Result<Arc<dyn File>> {
        check_path(path)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | extra;
        let mode = Mode::from_raw_mode(0o666);
        let fd = retry_on_intr(|| rustix::fs::openat(&self.folder, path, flags, mode))?;
        let stat = rustix::fs::fstat(&fd)?;
        // Opening a pipe or a device instead of a file could block or have side effects.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(invalid("expected a regular file; move the other file out of the store".into()));
        }
        if extra.contains(OFlags::EXCL) {
            self.system.prepare_new(&fd);
        }
        let system = self.system;
        Ok(Arc::new(RealFile { file: fs::File::from(fd), path: self.full(path), inode: stat.st_ino, system }))
    }

    /// Opens a new descriptor of a folder below this one, or of this one.
    fn folder(&self, path: &str) -> io::Result<OwnedFd> {
        check_folder_path(path)?;
        Ok(open_folder(&self.folder, Path::new(if path.is_empty() { "." } else { path }))?)
    }

    fn is_folder(&self, path: &str) -> Result<bool, Errno> {
        let stat = rustix::fs::statat(&self.folder, path, AtFlags::empty())?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }
}

/// Syncs the parent of a folder. Before that, a power failure may remove the store with everything
/// that was synced in it.
fn sync_above(path: &Path) -> io::Result<()> {
    let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(rustix::fs::fsync(open_folder(rustix::fs::CWD, above)?)?)
}

/// Syncs the parent of a folder that exists: the process that created the folder may have crashed
/// or failed before its name was durable. A parent folder that cannot be read, or whose file system
/// does not sync folders, is managed by another user or process, which then created this folder.
fn sync_above_existing(path: &Path) -> io::Result<()> {
    let not_ours = [
        ErrorKind::PermissionDenied,
        ErrorKind::InvalidInput,
        ErrorKind::ReadOnlyFilesystem,
        ErrorKind::Unsupported,
    ];
    sync_above(path).or_else(|e| if not_ours.contains(&e.kind()) { Ok(()) } else { Err(e) })
}

/// Creates a folder if it does not exist, and makes its name durable. Its parent must exist.
fn create_parent(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return sync_above_existing(path);
    }
    match fs::create_dir(path) {
        Ok(()) => sync_above(path),
        // Another process created it at the same time. If it is a file, opening it as a folder
        // returns the error.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            open_folder(rustix::fs::CWD, path)?;
            sync_above_existing(path)
        }
        Err(e) => Err(e),
    }
}

/// Returns the kernel's boot ID, or `None` if `/proc` is not available.
fn boot_id() -> Option<[u8; 16]> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(uuid::Uuid::parse_str(id.trim()).ok()?.into_bytes())
}

fn open_folder(from: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(from.as_fd(), path, flags, Mode::empty()))
}

impl Storage for RealStorage {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.open_file(path, OFlags::CREATE | OFlags::EXCL).map_err(|e| self.error("create", path, e))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.open_file(path, OFlags::empty()).map_err(|e| self.error("open", path, e))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = || {
            check_path(from)?;
            check_path(to)?;
            if self.is_folder(from)? {
                return Err(ErrorKind::IsADirectory.into());
            }
            Ok(rustix::fs::renameat(&self.folder, from, &self.folder, to)?)
        };
        rename().map_err(|e: io::Error| self.error("rename", &format!("{from} to {to}"), e))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let remove = || Ok(rustix::fs::unlinkat(&self.folder, path, AtFlags::empty())?);
        check_path(path).and_then(|()| remove()).map_err(|e| self.error("remove", path, e))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let create = || match rustix::fs::mkdirat(&self.folder, path, Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) if self.is_folder(path)? => Ok(()),
            outcome => Ok(outcome?),
        };
        check_path(path).and_then(|()| create()).map_err(|e| self.error("make folder", path, e))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let list = || {
            let mut names = Vec::new();
            for entry in Dir::new(self.folder(path)?)? {
                // A name that is not UTF-8 does not belong to the store; it must not prevent
                // listing the others.
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        };
        list().map_err(|e: io::Error| self.error("list", path, e))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        // Opening the folder is not part of the sync: if it fails, no data were lost.
        let folder = self.folder(path).map_err(|e| self.error("open folder", path, e))?;
        rustix::fs::fsync(folder).map_err(|errno| self.error("sync folder", path, errno))
    }

    fn reserve(&self, len: usize) -> io::Result<Reservation> {
        Reservation::in_kernel(len)
    }

    fn cache_identity(&self) -> Option<[u8; 32]> {
        // A new boot has a new ID, and a file system that was remounted, perhaps after it lost
        // pages, has a new mount ID. The folder's inode and birth time distinguish a store from a
        // copy of it, even if the copy replaced it at the same path.
        let boot = boot_id()?;
        let wanted = StatxFlags::from_bits_retain(MNT_ID_UNIQUE) | StatxFlags::INO | StatxFlags::BTIME;
        let stat = rustix::fs::statx(&self.folder, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        if stat.stx_mask & MNT_ID_UNIQUE == 0 {
            return None;
        }
        let (mut seconds, mut nanoseconds) = (0, 0);
        if stat.stx_mask & StatxFlags::BTIME.bits() != 0 {
            (seconds, nanoseconds) = (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
        }
        let folder = [
            stat.stx_mnt_id,
            u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            stat.stx_ino,
            seconds.cast_unsigned(),
            u64::from(nanoseconds),
        ];
        let folder: Vec<u8> = folder.iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut token = [0; 32];
        token[..16].copy_from_slice(&boot);
        token[16..].copy_from_slice(&xxhash_rust::xxh3::xxh3_128(&folder).to_le_bytes());
        Some(token)
    }

    fn hole_reads_allocate(&self) -> bool {
        self.system.hole_reads_allocate()
    }

    fn stores_may_allocate(&self) -> bool {
        self.system.stores_may_allocate()
    }

    fn host(&self) -> io::Result<Host> {
        let system = rustix::fs::fstatfs(&self.folder)
            .map_err(|errno| self.error("read the file system type of", "", errno))?;
        Ok(Host::of_file_system(system.f_type as u64, boot_id()))
    }

    fn folder_identity(&self) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.folder).map_err(|errno| self.error("look at", "", errno))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl fmt::Debug for RealStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealStorage").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One open file description.
struct RealFile {
    file: fs::File,
    path: String,
    inode: u64,
    system: FileSystem,
}

impl RealFile {
    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn error(&self, operation: &'static str, source: impl Into<io::Error>) -> io::Error {
        FileError::wrap(operation, &self.path, source)
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.file).map_err(|errno| self.error("look at", errno))?;
        Ok(stat.st_size.cast_unsigned())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|e| self.error("read", e))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Continues after an interruption and after a short write.
        self.file.write_all_at(bytes, offset).map_err(|e| self.error("write", e))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let fail = |e: io::Error| self.error("allocate space in", e);
        let end = end_of_some(offset, len).map_err(fail)?;
        match self.system.preallocate(self.fd(), offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill_zeros(&self.file, offset, end).map_err(fail),
            Err(errno) => Err(fail(errno.into())),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|e| self.error("set the length of", e))
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let len = self.len()?;
        if from >= len {
            return Ok(None);
        }
        if !self.system.knows_holes() {
            return Ok(Some(from..len));
        }
        // The kernel counts preallocated space as a hole until a page of it is in memory, whether
        // stored to or only read.
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // A file system that cannot report holes is treated as having none.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(from..len)),
            Err(errno) => return Err(self.error("look for data in", errno)),
        };
        match rustix::fs::seek(&self.file, SeekFrom::Hole(start)) {
            Ok(end) => Ok(Some(start..end)),
            Err(errno) => Err(self.error("look for holes in", errno)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        // Never retried: after a failure the kernel marks the pages as clean and returns `Ok`
        // (docs/design/failures.md).
        rustix::fs::fdatasync(&self.file).map_err(|errno| self.error("sync", errno))
    }

    fn syncer(self: Arc<Self>, len: u64) -> io::Result<Arc<dyn Syncer>> {
        // The map holds this open file description, which was opened for writing: `msync` on a map
        // of a read-only one writes nothing and still reports success. No page of the map is
        // accessed.
        let len = usize::try_from(len).map_err(|_| self.error("map", ErrorKind::OutOfMemory))?;
        let map = MmapOptions::new().len(len).map_raw_read_only(&self.file);
        Ok(Arc::new(RealMap::new(map.map_err(|e| self.error("map", e))?, &self.path)))
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        linux::start_writeback(self.fd(), offset, len);
    }

    fn map_words(&self, offset: u64, len: u64) -> io::Result<AtomicWords> {
        let map = || {
            let size = check_map(offset, len, self.len()?)?;
            MmapOptions::new().offset(offset).len(size).map_raw(&self.file)
        };
        let map = map().map_err(|e| self.error("map words of", e))?;
        Ok(AtomicWords::from_map(RealMap::new(map, &self.path), self.system.stores_may_allocate()))
    }

    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()> {
        let map = || {
            let size = check_map(offset, len, self.len()?)?;
            reservation.map_file(self.fd(), offset, size, at)
        };
        map().map_err(|e| self.error("map", e))
    }

    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        let locked = lock_range(start, len).and_then(|bytes| linux::try_lock(self.fd(), bytes, mode));
        locked.map_err(|e| self.error("lock", e))
    }

    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()> {
        let locked = lock_range(start, len).and_then(|bytes| linux::lock(self.fd(), bytes, mode));
        locked.map_err(|e| self.error("lock", e))
    }

    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        let unlocked = lock_range(start, len).and_then(|bytes| linux::unlock(self.fd(), bytes));
        unlocked.map_err(|e| self.error("unlock", e))
    }

    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        let found = lock_range(start, len).and_then(|bytes| linux::is_locked(self.fd(), bytes, mode));
        found.map_err(|e| self.error("look for locks on", e))
    }

    fn raw(&self) -> RawFile<'_> {
        RawFile::Real(self.fd())
    }

    fn id(&self) -> u64 {
        self.inode
    }
}

impl fmt::Debug for RealFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealFile").field("path", &self.path).field("id", &self.inode).finish_non_exhaustive()
    }
}

/// A shared map of a file that was opened for writing. It holds that open file without a
/// descriptor.
#[derive(Debug)]
pub(super) struct RealMap {
    map: MmapRaw,
    path: String,
    _counted: Counted,
}

impl RealMap {
    fn new(map: MmapRaw, path: &str) -> Self {
        Self { map, path: path.to_owned(), _counted: Counted::new(1) }
    }

    pub(super) fn map(&self) -> &MmapRaw {
        &self.map
    }
}

impl Syncer for RealMap {
    fn sync(&self) -> io::Result<()> {
        // Calls `msync` on the whole map: writes the file's range back and syncs the file as
        // `fdatasync` does. Never retried either.
        self.map.flush().map_err(|e| FileError::wrap("sync", &self.path, e))
    }
}

/// Allocates space where the file system has no `fallocate`: writes zeros over the pages of
/// `[offset, end)` that contain only zeros, and beyond the end of the file. The pages are read for
/// this, because such a file system may report a page as a hole although it was just stored to. No
/// other thread or process may write to these pages during the call. If the disk becomes full
/// during the call, the file stays extended. (On a file system that stores zeros as holes, this
/// cannot reserve space.)
fn fill_zeros(file: &fs::File, offset: u64, end: u64) -> io::Result<()> {
    let len = file.metadata()?.len();
    let inside = end.min(len);
    let mut page = [0; PAGE as usize];
    let mut at = offset;
    while at < inside {
        let next = (at / PAGE * PAGE + PAGE).min(inside);
        let part = &mut page[..(next - at) as usize];
        file.read_exact_at(part, at)?;
        if part.iter().all(|&byte| byte == 0) {
            file.write_all_at(part, at)?;
        }
        at = next;
    }
    write_zeros(file, offset.max(len), end)
}

fn write_zeros(file: &fs::File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; to.saturating_sub(from).min(1 << 20) as usize];
    let mut at = from;
    while at < to {
        let n = (to - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn filling_holes_keeps_the_data() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(&[7; 5000], 100_000).unwrap();
        file.write_all_at(&[8; 10], 700_000).unwrap();
        let mut expected = vec![0; 3 << 19];
        file.read_exact_at(&mut expected[..1 << 20], 0).unwrap();
        file.sync_all().unwrap();
        fill_zeros(&file, 4096, 3 << 19).unwrap();
        file.sync_all().unwrap();
        let mut after = vec![1; 3 << 19];
        file.read_exact_at(&mut after, 0).unwrap();
        assert!(after == expected, "data changed, or what was added is not zero");
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 3 << 19);
        assert!(metadata.blocks() * 512 >= (3 << 19) - 4096, "{} blocks", metadata.blocks());
    }
}
