//! The file `head`: the identity of the index, the root word, and two accounts. The root selects
//! one of the accounts.
//!
//! The file is one page that every process maps. The writer changes it in place by single stores. A
//! build stores the root last: while the root is zero, there is no index.

use std::sync::atomic::{AtomicBool, Ordering};

use pongo_core::guard::{fails, removable};
use pongo_core::storage::{AtomicWords, PAGE, Storage};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{BoxedError, HashError};
use super::layout::{CAPACITY, HashRoot, LINE, SEGMENT_WORDS, head_word};
use super::maps::HashFolder;

/// The identity of the store and table that an index belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexIdentity {
    /// The store's uuid.
    pub store: u128,
    /// The fingerprint of the table and of the key.
    pub table: u128,
}

/// The newest commit that an index may contain changes of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// `Seq` of the commit.
    pub seq: u64,
    /// Number of rows in the table at this commit.
    pub rows: u64,
}

/// The format that this build reads and writes.
pub(super) const VERSION: u64 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"PONGOHSH");
const SHAPE: u64 = (SEGMENT_WORDS as u64) << 32 | (CAPACITY as u64) << 8 | LINE as u64;
const NAME: &str = "head";

/// The mapped file.
#[derive(Debug)]
pub(super) struct IndexHeader {
    words: AtomicWords,
    path: String,
    /// Whether this process knows that the file's space is allocated.
    preallocated: AtomicBool,
}

fn identity_words(identity: IndexIdentity) -> [u64; head_word::CHECK] {
    let halves = |id: u128| [id as u64, (id >> 64) as u64];
    let [[store_low, store_high], [table_low, table_high]] = [halves(identity.store), halves(identity.table)];
    [MAGIC, VERSION, store_low, store_high, table_low, table_high, SHAPE]
}

fn check(words: &[u64; head_word::CHECK]) -> u64 {
    let mut bytes = [0; head_word::CHECK * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64(&bytes)
}

impl IndexHeader {
    /// Maps the file without checking its contents. Returns `None` if it does not exist or is too
    /// short.
    fn map(folder: &HashFolder) -> Result<Option<IndexHeader>, BoxedError> {
        let path = folder.path(NAME);
        let file = match folder.storage.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HashError::io("open", &path, error)),
        };
        if file.len().map_err(|error| HashError::io("measure", &path, error))? < PAGE {
            return Ok(None);
        }
        if folder.storage.hole_reads_allocate() {
            file.allocate(0, PAGE).map_err(|error| HashError::io("preallocate space of", &path, error))?;
        }
        let words = file.map_words(0, PAGE).map_err(|error| HashError::io("map", &path, error))?;
        Ok(Some(IndexHeader { words, path, preallocated: AtomicBool::new(false) }))
    }

    /// Makes sure that the page's space is allocated. *Writer.*
    ///
    /// A copy of the store may have holes instead of pages of zeros, or share blocks with the
    /// original. A store into such a page on a full disk raises a signal. The file is opened only
    /// for the allocation, as for the pieces.
    pub(super) fn preallocate(&self, storage: &dyn Storage) -> Result<(), BoxedError> {
        if !self.preallocated.load(Ordering::Relaxed) {
            storage
                .open(&self.path)
                .and_then(|file| file.allocate(0, PAGE))
                .map_err(|error| HashError::io("preallocate space of", &self.path, error))?;
            self.preallocated.store(true, Ordering::Relaxed);
        }
        self.words
            .make_writable(0..self.words.len())
            .map_err(|error| HashError::io("make pages writable of", &self.path, error))
    }

    /// Opens the head of an existing index. Returns an error if it is missing or not `identity`'s.
    pub(super) fn open(folder: &HashFolder, identity: IndexIdentity) -> Result<IndexHeader, BoxedError> {
        let head = IndexHeader::map(folder)?.ok_or_else(|| HashError::Missing { dir: folder.dir.clone() })?;
        head.check(folder, identity)?;
        Ok(head)
    }

    fn check(&self, folder: &HashFolder, identity: IndexIdentity) -> Result<(), BoxedError> {
        let dir = || folder.dir.clone();
        let found: [u64; head_word::CHECK] = std::array::from_fn(|i| self.get(i));
        if found[head_word::MAGIC] != MAGIC {
            return Err(folder.damaged(format!("`head` begins with {:#x}, expected {MAGIC:#x}", found[0])));
        }
        if found[head_word::VERSION] != VERSION {
            let found = found[head_word::VERSION];
            return Err(Box::new(HashError::Version { dir: dir(), expected: VERSION, found }));
        }
        let (sum, stored) = (check(&found), self.get(head_word::CHECK));
        if fails!("hash.head.checksum", sum != stored) {
            return Err(
                folder.damaged(format!("the checksum in `head` is {stored:#x}, its words give {sum:#x}"))
            );
        }
        if found[head_word::SHAPE] != SHAPE {
            let found = found[head_word::SHAPE];
            return Err(Box::new(HashError::Version { dir: dir(), expected: SHAPE, found }));
        }
        let id = |low: usize| u128::from(found[low]) | u128::from(found[low + 1]) << 64;
        for (what, expected, found) in [
            ("store", identity.store, id(head_word::STORE_LOW)),
            ("table", identity.table, id(head_word::TABLE_LOW)),
        ] {
            if fails!("hash.head.identity", expected != found) {
                return Err(Box::new(HashError::Foreign { dir: dir(), what, expected, found }));
            }
        }
        Ok(())
    }

    /// Opens or creates the head of an index that is about to be built. *Writer.*
    ///
    /// An index of `identity` stays in force until the new root is stored. The root of any other
    /// index is cleared first, so that its files are never used under the new identity.
    pub(super) fn prepare(folder: &HashFolder, identity: IndexIdentity) -> Result<IndexHeader, BoxedError> {
        let head = match IndexHeader::map(folder)? {
            Some(head) => head,
            None => IndexHeader::make(folder)?,
        };
        head.preallocate(&*folder.storage)?;
        if head.check(folder, identity).is_err() {
            head.set(head_word::ROOT, 0);
            let words = identity_words(identity);
            for (i, &word) in words.iter().enumerate() {
                head.set(i, word);
            }
            head.set(head_word::CHECK, check(&words));
        }
        Ok(head)
    }

    fn make(folder: &HashFolder) -> Result<IndexHeader, BoxedError> {
        let (path, storage) = (folder.path(NAME), &folder.storage);
        match storage.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(HashError::io("remove", &path, error));
            }
            _ => {}
        }
        let made = storage.create(&path).and_then(|file| {
            file.allocate(0, PAGE)?;
            file.map_words(0, PAGE)
        });
        let words = made.map_err(|error| HashError::io("make", &path, error))?;
        Ok(IndexHeader { words, path, preallocated: AtomicBool::new(true) })
    }

    #[inline]
    pub(super) fn get(&self, word: usize) -> u64 {
        self.words.load(word, Ordering::Relaxed)
    }

    /// Stores a word. *Writer.*
    pub(super) fn set(&self, word: usize, value: u64) {
        self.words.store(word, value, Ordering::Release);
    }

    /// Returns the root word. The load is an acquire load, because the files that the root refers
    /// to were written before it.
    #[inline]
    pub(super) fn root_word(&self) -> u64 {
        self.words.load(head_word::ROOT, Ordering::Acquire)
    }

    pub(super) fn seen(&self) -> Seen {
        Seen { seq: self.get(head_word::SEEN), rows: self.get(head_word::SEEN + 1) }
    }

    /// Records a commit. *Writer.*
    pub(super) fn note(&self, seen: Seen) {
        self.set(head_word::SEEN, seen.seq);
        self.set(head_word::SEEN + 1, seen.rows);
    }

    /// Publishes a root. *Writer.*
    pub(super) fn publish(&self, root: HashRoot) {
        self.set(head_word::ROOT, root.to_word());
    }

    pub(super) fn sync(&self) -> Result<(), BoxedError> {
        removable!("hash.head.sync", self.words.sync())
            .map_err(|error| HashError::io("sync", &self.path, error))
    }
}
