//! The `control` file: the state that processes share while the store is open. It is volatile: a
//! process that opens the store alone rebuilds it. It is a shared writable map of atomic words;
//! recovery needs nothing in it.
//!
//! | words | purpose |
//! | --- | --- |
//! | 0..64 | identity, state, poison, writer, durable position, published counter, processes |
//! | 64..512 | marks epoch of each table |
//! | 512.. | reader slots: groups of 64, one group per process |
//! | after | the snapshot ring: records of 1,024 words |
//!
//! | locked bytes, beyond the file's end | holder |
//! | --- | --- |
//! | presence | shared: processes with the store open; exclusive: recovery, creation, closing |
//! | entry | the one process that is trying to acquire presence |
//! | writer, groups | the process that writes; each process, for its group of reader slots |
//!
//! | module | purpose |
//! | --- | --- |
//! | here | layout of the file, mapping and rebuilding it; words that stand alone |
//! | `presence` | which processes have the store open, and whether one has it alone |
//! | `writer_lock` | the right to write, among processes |
//! | `reader_slots` | pins of all processes, and the horizon |
//! | `ring` | publishing a state, and reading the newest one |

mod presence;
mod reader_slots;
mod ring;
mod writer_lock;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

pub(crate) use presence::Entered;
pub use writer_lock::Wait;
pub(crate) use writer_lock::WriteHold;

use crate::error::StorageError;
use crate::fork::LockDescriptor;
use crate::guard::holds;
use crate::ids::{JournalPos, Salt, TableId};
use crate::place::{self, Place};
use crate::state::MAX_TABLES;
use crate::storage::{AtomicWords, File, PAGE, Storage};
use crate::sync::Ordering;

pub(crate) const PATH: &str = "control";

/// Layout of the file, in words.
mod word {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 1;
    pub(super) const STORE_LOW: usize = 2;
    pub(super) const STORE_HIGH: usize = 3;
    pub(super) const READY: usize = 4;
    pub(super) const POISON: usize = 5;
    pub(super) const SALT: usize = 6;
    pub(super) const OWNER: usize = 7;
    pub(super) const DURABLE: usize = 8;
    pub(super) const PUBLISHED: usize = 9;
    pub(super) const HORIZON: usize = 10;
    pub(super) const CLEAN: usize = 11;
    pub(super) const CHECKPOINT: usize = 12;
    pub(super) const FOREIGN_DIRTY: usize = 13;
    pub(super) const PROCESSES: usize = 14;
    pub(super) const BUSY: usize = 15;
    pub(super) const CACHE_IDENTITY: usize = 16;
    pub(super) const PLACE: usize = 20;
    pub(super) const MARKS_EPOCH: usize = 64;
    pub(super) const SLOTS: usize = 512;
}

const MAGIC: u64 = u64::from_le_bytes(*b"PONGOCTL");
const VERSION: u64 = 2;
const READY: u64 = u64::from_le_bytes(*b"READY..!");
/// Number of processes that can have a store open for reading at the same time with their own pins.
pub(crate) const GROUPS: usize = if cfg!(loom) { 2 } else { 64 };
/// Number of pins that one process can hold before snapshots share them.
pub(crate) const GROUP_SLOTS: usize = if cfg!(loom) { 2 } else { 64 };
const RING: usize = word::SLOTS + GROUPS * GROUP_SLOTS;
const RECORDS: u64 = if cfg!(loom) { 2 } else { 8 };
const RECORD_WORDS: usize = 1024;
const RECORD_HEADER: usize = 8;
const WORDS: usize = RING + RECORDS as usize * RECORD_WORDS;
const BYTES: u64 = (WORDS as u64 * 8).next_multiple_of(PAGE);

const _: () = assert!(RECORD_HEADER + 3 * MAX_TABLES <= RECORD_WORDS);
const _: () = assert!(word::MARKS_EPOCH + MAX_TABLES <= word::SLOTS);
const _: () = assert!(word::PLACE + place::WORDS <= word::MARKS_EPOCH);

/// Byte ranges of the file that are locked. The bytes themselves have no meaning.
mod lock {
    pub(super) const PRESENCE: u64 = 1 << 32;
    pub(super) const WRITER: u64 = PRESENCE + 1;
    pub(super) const ENTRY: u64 = PRESENCE + 2;
    pub(super) const GROUPS: u64 = PRESENCE + 1024;
}

/// The open, mapped control file.
#[derive(Debug)]
pub(crate) struct Control {
    words: AtomicWords,
    /// Declared before the files, so that these notes are dropped before the files are closed.
    _noted: [LockDescriptor; 2],
    /// The description that holds presence and the reader group.
    presence: Arc<dyn File>,
    /// The description that holds the writer lock; a separate one.
    writer: Arc<dyn File>,
    /// Where this process sees the store.
    place: Place,
    /// Whether this process is counted among those that have the store open.
    counted: AtomicBool,
    /// Held by the thread that works while this process has the store alone.
    alone: Mutex<()>,
    /// Whether presence is held exclusively.
    shut_out: AtomicBool,
}

impl Control {
    /// Opens the file, creating it if it does not exist, and maps it. Takes no lock.
    pub(crate) fn open(storage: &dyn Storage) -> Result<Self, StorageError> {
        let file = match storage.open(PATH) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match storage.create(PATH) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => storage.open(PATH),
                made => made,
            },
            opened => opened,
        }
        .map_err(StorageError::io("opening", PATH))?;
        // Space is allocated once this process is alone. Other processes may be storing to the file
        // now, and this changes no byte.
        if file.len().map_err(StorageError::io("measuring", PATH))? < BYTES {
            file.set_len(BYTES).map_err(StorageError::io("sizing", PATH))?;
        }
        if storage.hole_reads_allocate() {
            file.allocate(0, BYTES).map_err(StorageError::io("allocating", PATH))?;
        }
        // Mapped through a description on which no lock is ever held: the map survives in a child
        // made by `fork`, and would keep the lock.
        let words = file.map_words(0, BYTES).map_err(StorageError::io("mapping", PATH))?;
        let open = || storage.open(PATH).map_err(StorageError::io("opening", PATH));
        // If the second open fails, the first note is dropped before its file is closed: a noted
        // number always belongs to an open descriptor.
        let (presence, presence_noted) = LockDescriptor::open(open)?;
        let (writer, writer_noted) = LockDescriptor::open(open)?;
        let place = Place::of(storage).map_err(StorageError::io("looking at", PATH))?;
        Ok(Self {
            words,
            _noted: [presence_noted, writer_noted],
            presence,
            writer,
            place,
            counted: AtomicBool::new(false),
            alone: Mutex::new(()),
            shut_out: AtomicBool::new(false),
        })
    }

    /// Reserves the space that stores to the file may need; called before this process stores to
    /// it. Does nothing on most file systems.
    pub(crate) fn make_writable(&self) -> Result<(), StorageError> {
        self.words.make_writable(0..WORDS).map_err(StorageError::io("making pages writable of", PATH))
    }

    /// Returns whether the last holder left a ready, unpoisoned file for this store under this
    /// cache identity: then every byte that any process wrote is still readable.
    pub(crate) fn is_page_cache_intact(&self, store: u128, identity: Option<[u8; 32]>) -> bool {
        let Some(identity) = identity else { return false };
        self.words.load(word::MAGIC, Ordering::Acquire) == MAGIC
            && self.words.load(word::VERSION, Ordering::Relaxed) == VERSION
            && self.store() == store
            && self.words.load(word::READY, Ordering::Relaxed) == READY
            && holds!("survived.poison", self.words.load(word::POISON, Ordering::Relaxed) == 0)
            && holds!("survived.identity", self.has_identity(&identity))
    }

    fn has_identity(&self, identity: &[u8; 32]) -> bool {
        identity.chunks_exact(8).enumerate().all(|(i, bytes)| {
            let expected = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            self.words.load(word::CACHE_IDENTITY + i, Ordering::Relaxed) == expected
        })
    }

    /// Returns the store's number as the file states it.
    pub(crate) fn store(&self) -> u128 {
        u128::from(self.words.load(word::STORE_LOW, Ordering::Relaxed))
            | u128::from(self.words.load(word::STORE_HIGH, Ordering::Relaxed)) << 64
    }

    /// Rebuilds the file: not ready, nothing published. The poison word is kept until
    /// [`clear_poison`](Self::clear_poison): if this recovery does not complete, the next one must
    /// know. The caller holds presence exclusively.
    pub(crate) fn rebuild(&self, store: u128, identity: Option<[u8; 32]>, salt: Salt) {
        self.words.store(word::READY, 0, Ordering::Release);
        for i in 0..WORDS {
            if ![word::READY, word::POISON].contains(&i) && self.words.load(i, Ordering::Relaxed) != 0 {
                self.words.store(i, 0, Ordering::Relaxed);
            }
        }
        for (i, bytes) in identity.unwrap_or_default().chunks_exact(8).enumerate() {
            let value = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            self.words.store(word::CACHE_IDENTITY + i, value, Ordering::Relaxed);
        }
        for (i, value) in self.place.to_words().into_iter().enumerate() {
            self.words.store(word::PLACE + i, value, Ordering::Relaxed);
        }
        self.words.store(word::STORE_LOW, store as u64, Ordering::Relaxed);
        self.words.store(word::STORE_HIGH, (store >> 64) as u64, Ordering::Relaxed);
        self.words.store(word::SALT, salt.0, Ordering::Relaxed);
        self.words.store(word::VERSION, VERSION, Ordering::Relaxed);
        self.words.store(word::MAGIC, MAGIC, Ordering::Release);
        self.count();
    }

    /// Clears the poison word: a recovery completed, so everything in memory is on disk.
    pub(crate) fn clear_poison(&self) {
        self.words.store(word::POISON, 0, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.words.load(word::POISON, Ordering::Acquire) != 0
    }

    pub(crate) fn poison(&self) {
        self.words.store(word::POISON, 1, Ordering::SeqCst);
    }

    pub(crate) fn salt(&self) -> Salt {
        Salt(self.words.load(word::SALT, Ordering::Acquire))
    }

    pub(crate) fn set_salt(&self, salt: Salt) {
        self.words.store(word::SALT, salt.0, Ordering::Release);
    }

    /// Returns the last writer: a number that each open store of each process draws for itself.
    pub(crate) fn last_writer(&self) -> u64 {
        self.words.load(word::OWNER, Ordering::Acquire)
    }

    pub(crate) fn set_last_writer(&self, owner: u64) {
        self.words.store(word::OWNER, owner, Ordering::Release);
    }

    pub(crate) fn durable(&self) -> JournalPos {
        JournalPos(self.words.load(word::DURABLE, Ordering::Acquire))
    }

    pub(crate) fn note_durable(&self, pos: JournalPos) {
        self.words.fetch_max(word::DURABLE, pos.0, Ordering::AcqRel);
    }

    /// Returns the journal position directly after the newest checkpoint.
    pub(crate) fn checkpoint(&self) -> JournalPos {
        JournalPos(self.words.load(word::CHECKPOINT, Ordering::Acquire))
    }

    pub(crate) fn set_checkpoint(&self, pos: JournalPos) {
        self.words.store(word::CHECKPOINT, pos.0, Ordering::Release);
    }

    /// Returns whether the newest durable checkpoint says that the store was closed cleanly, so
    /// that the next writer must first replace it.
    pub(crate) fn is_clean(&self) -> bool {
        self.words.load(word::CLEAN, Ordering::Acquire) != 0
    }

    pub(crate) fn set_clean(&self, clean: bool) {
        self.words.store(word::CLEAN, u64::from(clean), Ordering::Release);
    }

    /// Returns whether a writer of another process may have dirtied files since the newest
    /// checkpoint.
    pub(crate) fn is_dirty_by_other_process(&self) -> bool {
        self.words.load(word::FOREIGN_DIRTY, Ordering::Acquire) != 0
    }

    pub(crate) fn set_dirty_by_other_process(&self, dirty: bool) {
        self.words.store(word::FOREIGN_DIRTY, u64::from(dirty), Ordering::Release);
    }

    /// Returns how many times a process announced new marks files of a table since `control` was
    /// rebuilt.
    #[inline]
    pub(crate) fn marks_epoch(&self, table: TableId) -> u64 {
        self.words.load(word::MARKS_EPOCH + table.0 as usize % MAX_TABLES, Ordering::Acquire)
    }

    pub(crate) fn advance_marks_epoch(&self, table: TableId) {
        self.words.fetch_add(word::MARKS_EPOCH + table.0 as usize % MAX_TABLES, 1, Ordering::AcqRel);
    }
}
