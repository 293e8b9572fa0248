//! [`MemoryStorage`]: a folder that exists in this process only, and behaves like a real one.
//!
//! It keeps the properties that the engine relies on: an unlinked file stays usable while it is
//! open; every handle, word map and view of a file accesses the same bytes; locks belong to
//! handles; a full disk is an error. It makes no system calls except to reserve address space (and
//! under Miri none at all).
//!
//! It differs from real files in three ways:
//! - A store through an [`AtomicWords`] map is visible to [`read_at`](File::read_at) and other word
//!   maps, but not to read-only views of the same bytes in a [`Reservation`]. (No part of the store
//!   views words that change.)
//! - An unlinked file's space is freed when no handle and no word map is left, even if a view of it
//!   is.
//! - A truncated file under a map reads as zero, where a real one would raise a signal.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::block::PageBlock;
use super::error::FileError;
use super::extents::Extents;
use super::locks::LockTable;
use super::memory_quota::{MemoryQuota, Pages};
use super::reservation::Region;
use super::validate::{check_folder_path, check_map, check_path, end_of, end_of_some, lock_range};
use super::{AtomicWords, ByHandle, File, LockMode, RawFile, Reservation, Storage, Syncer};

/// Counter for the numbers of storages, files and handles, which are unique in this process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

fn next_number() -> u64 {
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Files in this process's memory. They are deleted when the storage is dropped; stores that are to
/// use the same files share one storage.
///
/// ```
/// use pongo_core::storage::{File, MemoryStorage, Storage};
///
/// let storage = MemoryStorage::new();
/// let file = storage.create("super")?;
/// file.write_at(b"hello", 3)?;
/// let mut buf = [9; 8];
/// storage.open("super")?.read_at(&mut buf, 0)?;
/// assert_eq!(&buf, b"\0\0\0hello");
/// # std::io::Result::Ok(())
/// ```
pub struct MemoryStorage {
    number: u64,
    space: Arc<MemoryQuota>,
    /// Everything except the root, by its full path.
    tree: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Clone)]
enum Entry {
    Folder,
    File(Arc<Node>),
}

impl Entry {
    fn is_folder(&self) -> bool {
        matches!(self, Entry::Folder)
    }
}

type Tree = BTreeMap<String, Entry>;

impl MemoryStorage {
    /// Creates an empty storage without a limit.
    pub fn new() -> MemoryStorage {
        MemoryStorage::with_capacity_limit(u64::MAX)
    }

    /// Creates an empty storage whose files together use at most `bytes`, counted in whole pages
    /// that were allocated or written. Beyond that, [`File::allocate`] and [`File::write_at`]
    /// return `StorageFull`.
    pub fn with_capacity_limit(bytes: u64) -> MemoryStorage {
        MemoryStorage {
            number: next_number(),
            space: Arc::new(MemoryQuota::new(bytes)),
            tree: Mutex::default(),
        }
    }

    /// Returns the number of bytes that currently count towards the limit.
    pub fn used_bytes(&self) -> u64 {
        self.space.used()
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    fn error(&self, operation: &'static str, path: &str, source: impl Into<io::Error>) -> io::Error {
        FileError::wrap(operation, &self.full(path), source)
    }

    fn full(&self, path: &str) -> String {
        format!("{}/{path}", self.name())
    }

    fn handle(&self, path: &str, node: Arc<Node>) -> Arc<dyn File> {
        Arc::new(MemoryFile { node, path: self.full(path), owner: next_number() })
    }
}

impl Default for MemoryStorage {
    fn default() -> MemoryStorage {
        MemoryStorage::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("name", &self.name())
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

/// Returns an error unless every parent folder of `path` exists.
fn check_parents(tree: &Tree, path: &str) -> Result<(), ErrorKind> {
    for (end, _) in path.match_indices('/') {
        match tree.get(&path[..end]) {
            None => return Err(ErrorKind::NotFound),
            Some(Entry::File(_)) => return Err(ErrorKind::NotADirectory),
            Some(Entry::Folder) => {}
        }
    }
    Ok(())
}

fn check_folder(tree: &Tree, path: &str) -> Result<(), ErrorKind> {
    check_parents(tree, path)?;
    match tree.get(path) {
        _ if path.is_empty() => Ok(()),
        Some(Entry::Folder) => Ok(()),
        Some(Entry::File(_)) => Err(ErrorKind::NotADirectory),
        None => Err(ErrorKind::NotFound),
    }
}

fn find_file(tree: &Tree, path: &str) -> Result<Arc<Node>, ErrorKind> {
    check_parents(tree, path)?;
    match tree.get(path) {
        Some(Entry::File(node)) => Ok(node.clone()),
        Some(Entry::Folder) => Err(ErrorKind::IsADirectory),
        None => Err(ErrorKind::NotFound),
    }
}

impl Storage for MemoryStorage {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let fail = |e: io::Error| self.error("create", path, e);
        check_path(path).map_err(fail)?;
        let mut tree = self.tree();
        check_parents(&tree, path).map_err(|kind| fail(kind.into()))?;
        if tree.contains_key(path) {
            return Err(fail(ErrorKind::AlreadyExists.into()));
        }
        let node = Arc::new(Node::new(self.space.clone()));
        tree.insert(path.to_owned(), Entry::File(node.clone()));
        Ok(self.handle(path, node))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        check_path(path).map_err(|e| self.error("open", path, e))?;
        let node = find_file(&self.tree(), path).map_err(|kind| self.error("open", path, kind))?;
        Ok(self.handle(path, node))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let fail = |e: io::Error| self.error("rename", &format!("{from} to {to}"), e);
        check_path(from).and_then(|()| check_path(to)).map_err(fail)?;
        let mut tree = self.tree();
        let node = find_file(&tree, from).map_err(|kind| fail(kind.into()))?;
        check_parents(&tree, to).map_err(|kind| fail(kind.into()))?;
        if tree.get(to).is_some_and(Entry::is_folder) {
            return Err(fail(ErrorKind::IsADirectory.into()));
        }
        tree.remove(from);
        tree.insert(to.to_owned(), Entry::File(node));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        check_path(path).map_err(|e| self.error("remove", path, e))?;
        let mut tree = self.tree();
        find_file(&tree, path).map_err(|kind| self.error("remove", path, kind))?;
        tree.remove(path);
        Ok(())
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let fail = |e: io::Error| self.error("make folder", path, e);
        check_path(path).map_err(fail)?;
        let mut tree = self.tree();
        check_parents(&tree, path).map_err(|kind| fail(kind.into()))?;
        if tree.entry(path.to_owned()).or_insert(Entry::Folder).is_folder() {
            return Ok(());
        }
        Err(fail(ErrorKind::AlreadyExists.into()))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        check_folder_path(path).map_err(|e| self.error("list", path, e))?;
        let tree = self.tree();
        check_folder(&tree, path).map_err(|kind| self.error("list", path, kind))?;
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names = Vec::new();
        for key in tree.range(prefix.clone()..).map(|(key, _)| key) {
            match key.strip_prefix(&prefix) {
                None => break,
                Some(name) if name.contains('/') => {}
                Some(name) => names.push(name.to_owned()),
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        check_folder_path(path).map_err(|e| self.error("sync folder", path, e))?;
        check_folder(&self.tree(), path).map_err(|kind| self.error("sync folder", path, kind))
    }

    fn reserve(&self, len: usize) -> io::Result<Reservation> {
        if cfg!(miri) { Reservation::in_heap(len) } else { Reservation::in_kernel(len) }
    }

    fn cache_identity(&self) -> Option<[u8; 32]> {
        // No data are ever lost while the storage lives, and no other storage has its number.
        let mut token = [0; 32];
        token[..16].copy_from_slice(b"memory in this p");
        token[16..24].copy_from_slice(&self.number.to_le_bytes());
        token[24..].copy_from_slice(&u64::from(std::process::id()).to_le_bytes());
        Some(token)
    }

    fn folder_identity(&self) -> io::Result<(u64, u64)> {
        // No device has this number.
        Ok((u64::MAX, self.number))
    }

    fn name(&self) -> String {
        format!("memory:{}", self.number)
    }
}

/// A file, independent of its name and of whether it has one: an inode.
struct Node {
    number: u64,
    locks: LockTable,
    contents: Mutex<Contents>,
}

struct Contents {
    len: u64,
    bytes: Extents,
    pages: Pages,
    views: Vec<View>,
}

/// A part of the file that is mapped read-only.
struct View {
    region: Weak<Region>,
    at: usize,
    offset: u64,
    len: usize,
}

/// The keeper of a word map: the map's words and the file that they belong to.
struct Mapped {
    _block: Arc<PageBlock>,
    _node: Arc<Node>,
}

impl Node {
    fn new(space: Arc<MemoryQuota>) -> Node {
        let contents =
            Contents { len: 0, bytes: Extents::default(), pages: Pages::new(space), views: Vec::new() };
        Node { number: next_number(), locks: LockTable::default(), contents: Mutex::new(contents) }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        lock(&self.contents)
    }
}

impl Contents {
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = end_of(offset, bytes.len() as u64)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.bytes.ensure(end)?;
        // Like the kernel, writes what still fits when the disk becomes full.
        let (fits, outcome) = self.pages.write(offset, end);
        let bytes = &bytes[..(fits - offset) as usize];
        self.bytes.write(bytes, offset);
        self.notify_views(bytes, offset);
        if !bytes.is_empty() {
            self.len = self.len.max(fits);
        }
        outcome
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.bytes.clear(len, self.len);
            let zeros = vec![0; 1 << 16];
            let mut at = len;
            while at < self.len && !self.views.is_empty() {
                let n = (self.len - at).min(zeros.len() as u64);
                self.notify_views(&zeros[..n as usize], at);
                at += n;
            }
            self.pages.truncate(len);
        }
        self.len = len;
    }

    /// Copies written bytes to every place where they are mapped, and removes views that were
    /// dropped.
    fn notify_views(&mut self, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        self.views.retain(|view| {
            let begin = offset.max(view.offset);
            let end = end.min(view.offset + view.len as u64);
            if begin >= end {
                return true;
            }
            let part = &bytes[(begin - offset) as usize..(end - offset) as usize];
            let position = (begin - view.offset) as usize;
            view.region.upgrade().is_some_and(|region| region.write(view.at, view.len, position, part))
        });
    }
}

/// One open handle: in POSIX terms an open file description.
struct MemoryFile {
    node: Arc<Node>,
    path: String,
    owner: u64,
}

impl MemoryFile {
    fn error(&self, operation: &'static str, source: impl Into<io::Error>) -> io::Error {
        FileError::wrap(operation, &self.path, source)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.node.locks.unlock_all(self.owner);
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile")
            .field("path", &self.path)
            .field("id", &self.node.number)
            .finish_non_exhaustive()
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.node.contents().len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let contents = self.node.contents();
        let end = end_of(offset, buf.len() as u64).map_err(|e| self.error("read", e))?;
        if end > contents.len && !buf.is_empty() {
            let message = format!("bytes {offset}..{end} of a file that ends at byte {}", contents.len);
            return Err(self.error("read", io::Error::new(ErrorKind::UnexpectedEof, message)));
        }
        contents.bytes.read(buf, offset);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.node.contents().write(bytes, offset).map_err(|e| self.error("write", e))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let allocate = |contents: &mut Contents| {
            let end = end_of_some(offset, len)?;
            contents.bytes.ensure(end)?;
            contents.pages.allocate(offset, end)?;
            contents.len = contents.len.max(end);
            Ok(())
        };
        allocate(&mut self.node.contents()).map_err(|e: io::Error| self.error("allocate space in", e))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        end_of(0, len).map_err(|e| self.error("set the length of", e))?;
        self.node.contents().set_len(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn syncer(self: Arc<Self>, _len: u64) -> io::Result<Arc<dyn Syncer>> {
        Ok(Arc::new(ByHandle(self)))
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn map_words(&self, offset: u64, len: u64) -> io::Result<AtomicWords> {
        let mut contents = self.node.contents();
        let file_len = contents.len;
        let size = check_map(offset, len, file_len).map_err(|e| self.error("map words of", e))?;
        let (block, at) =
            contents.bytes.pin(offset, size, file_len).map_err(|e| self.error("map words of", e))?;
        let words = &block.words()[at / size_of::<u64>()..][..size / size_of::<u64>()];
        let (start, len) = (std::ptr::NonNull::from(words).cast(), words.len());
        let keeper = Arc::new(Mapped { _block: block.clone(), _node: self.node.clone() });
        // SAFETY: the words are in the block, which the keeper holds and which exposes its bytes as
        // atomics only. The block does not move while it is held.
        Ok(unsafe { AtomicWords::from_raw(start, len, keeper) })
    }

    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()> {
        let mut contents = self.node.contents();
        let size = check_map(offset, len, contents.len).map_err(|e| self.error("map", e))?;
        let bytes = &contents.bytes;
        let region = reservation
            .map_memory(at, size, |page, position| bytes.read(page, offset + position as u64))
            .map_err(|e| self.error("map", e))?;
        contents.views.retain(|view| view.region.strong_count() > 0);
        contents.views.push(View { region, at, offset, len: size });
        Ok(())
    }

    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        let bytes = lock_range(start, len).map_err(|e| self.error("lock", e))?;
        Ok(self.node.locks.try_lock(self.owner, bytes, mode))
    }

    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()> {
        let bytes = lock_range(start, len).map_err(|e| self.error("lock", e))?;
        self.node.locks.lock(self.owner, bytes, mode);
        Ok(())
    }

    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        let bytes = lock_range(start, len).map_err(|e| self.error("unlock", e))?;
        self.node.locks.unlock(self.owner, &bytes);
        Ok(())
    }

    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        let bytes = lock_range(start, len).map_err(|e| self.error("look for locks on", e))?;
        Ok(self.node.locks.is_locked(self.owner, &bytes, mode))
    }

    fn raw(&self) -> RawFile<'_> {
        RawFile::Memory
    }

    fn id(&self) -> u64 {
        self.node.number
    }
}

/// Locks the mutex, ignoring poison: the data in these mutexes are valid after every single
/// statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
