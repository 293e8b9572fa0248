//! Shared helpers for the tests of the hash index: rows, hashes, and a storage whose maps call a
//! hook after every store.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, RwLock};

use pongo_core::forward_storage;
use pongo_core::ids::RowId;
use pongo_core::storage::{
    AtomicWords, ByHandle, File, LockMode, MemoryStorage, RawFile, Reservation, Storage, StoreHook, Syncer,
};
use pongo_index::{Candidate, HashIndex, IndexIdentity, KeyHasher};
use pongo_test_support::Random;

pub(crate) const IDENTITY: IndexIdentity =
    IndexIdentity { store: 0xA11CE << 90 | 5, table: 0xB0B << 100 | 7 };
pub(crate) const DIR: &str = "hash/table";

pub(crate) fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

/// Returns the SplitMix64 hash of a number. No two numbers have the same hash.
pub(crate) fn mix(x: u64) -> u64 {
    Random(x).next()
}

/// The rows of a table: row -> key. Other fields do not matter.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) keys: RwLock<Vec<u64>>,
    /// Keys with an explicit hash, so that several keys can share one: key -> hash.
    pub(crate) same: HashMap<u64, u64>,
}

impl Rows {
    pub(crate) fn of(keys: impl IntoIterator<Item = u64>) -> Rows {
        Rows { keys: RwLock::new(keys.into_iter().collect()), same: HashMap::new() }
    }

    pub(crate) fn push(&self, key: u64) -> RowId {
        let mut keys = self.keys.write().unwrap();
        keys.push(key);
        RowId(keys.len() as u64 - 1)
    }

    pub(crate) fn key(&self, row: RowId) -> Option<u64> {
        self.keys.read().unwrap().get(row.0 as usize).copied()
    }

    pub(crate) fn hash_of(&self, key: u64) -> u64 {
        self.same.get(&key).copied().unwrap_or_else(|| mix(key))
    }

    /// Returns the candidate of the key: its row, or the last row of a deleted key.
    pub(crate) fn find(&self, index: &HashIndex, key: u64) -> Option<Candidate> {
        self.try_find(index, key).unwrap()
    }

    pub(crate) fn try_find(
        &self,
        index: &HashIndex,
        key: u64,
    ) -> Result<Option<Candidate>, pongo_index::HashError> {
        index.find(self.hash_of(key), |c| (self.key(c.row) == Some(key)).then_some(c))
    }
}

impl KeyHasher for Rows {
    fn hash(&self, row: RowId) -> u64 {
        self.key(row).map_or(0, |key| self.hash_of(key))
    }
}

/// A storage that adds a hook to every map of words.
#[derive(Debug)]
pub(crate) struct Hooked {
    pub(crate) inner: Arc<dyn Storage>,
    pub(crate) hook: HookOf,
}

#[derive(Clone)]
pub(crate) struct HookOf(pub(crate) Arc<dyn StoreHook>);

impl std::fmt::Debug for HookOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hook")
    }
}

impl Hooked {
    pub(crate) fn storage(inner: &Arc<dyn Storage>, hook: Arc<dyn StoreHook>) -> Arc<dyn Storage> {
        Arc::new(Hooked { inner: inner.clone(), hook: HookOf(hook) })
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(HookedFile { inner: file, hook: self.hook.clone() })
    }
}

impl Storage for Hooked {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.inner.create(path)?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.inner.open(path)?))
    }

    forward_storage!(self => self.inner; rename, remove, create_dir, list, sync_dir, reserve);
    forward_storage!(self => self.inner; cache_identity, host, folder_identity, name);
}

#[derive(Debug)]
struct HookedFile {
    inner: Arc<dyn File>,
    hook: HookOf,
}

impl File for HookedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.allocate(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
    fn syncer(self: Arc<Self>, _len: u64) -> io::Result<Arc<dyn Syncer>> {
        Ok(Arc::new(ByHandle(self)))
    }
    fn start_writeback(&self, offset: u64, len: u64) {
        self.inner.start_writeback(offset, len);
    }
    fn map_words(&self, offset: u64, len: u64) -> io::Result<AtomicWords> {
        Ok(self.inner.map_words(offset, len)?.with_hook(self.inner.id(), offset, self.hook.0.clone()))
    }
    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()> {
        self.inner.map_into(offset, len, reservation, at)
    }
    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.inner.try_lock(start, len, mode)
    }
    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()> {
        self.inner.lock(start, len, mode)
    }
    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        self.inner.unlock(start, len)
    }
    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.inner.is_locked(start, len, mode)
    }
    fn raw(&self) -> RawFile<'_> {
        self.inner.raw()
    }
    fn id(&self) -> u64 {
        self.inner.id()
    }
}

/// Returns every file of the index with its contents.
pub(crate) fn contents(storage: &Arc<dyn Storage>) -> Vec<(String, Vec<u8>)> {
    let names = storage.list(DIR).unwrap();
    let read = |name: String| {
        let file = storage.open(&format!("{DIR}/{name}")).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// Creates a storage that contains these files.
pub(crate) fn storage_of(files: &[(String, Vec<u8>)]) -> Arc<dyn Storage> {
    let storage = memory();
    storage.create_dir("hash").unwrap();
    storage.create_dir(DIR).unwrap();
    for (name, bytes) in files {
        let file = storage.create(&format!("{DIR}/{name}")).unwrap();
        file.write_at(bytes, 0).unwrap();
    }
    storage
}
