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
//! A snapshot is published by writing the next record of the ring and then storing its number in
//! one word. A reader copies the record that the word names and trusts the copy if the word has
//! since advanced by fewer than `RECORDS - 1` records.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::error::Fault;
use crate::fork::LockDescriptor;
use crate::guard::{fails, holds, removable};
use crate::ids::{JournalPos, Salt, Seq, TableId};
use crate::place::{self, Obstacle, Place};
use crate::state::{HeapState, MAX_TABLES, State, TableState};
use crate::storage::{File, LockMode, PAGE, Storage, Words};
use crate::sync::{Ordering, fence};

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
    words: Words,
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

/// How long to wait for the right to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Without limit.
    Forever,
    /// Until this moment, exceeded by at most some milliseconds. A moment in the past means no
    /// wait.
    Until(Instant),
}

impl Wait {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Until(end) if Instant::now() >= end)
    }
}

/// The result of entering a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entered {
    /// This process has the store to itself and must recover it.
    Alone,
    /// Other processes have the store open and ready.
    Joined,
    /// Other processes have the store open, and this one cannot share it with them.
    Refused(Obstacle),
}

/// How a process holds the right to write.
///
/// A process that is the only one with the store open needs no system call to write: it stores the
/// number of its reader group in the `BUSY` word and then checks whether another process has been
/// counted. A process that joins is counted first, and reads the `BUSY` word once it has the lock.
/// Both words are stored and loaded in one total order (`SeqCst`), so at least one of the two
/// processes sees the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// It is the only process; the `BUSY` word holds the number of its group.
    Alone,
    /// It holds the lock.
    Lock,
}

/// The result of one attempt to enter.
enum Attempt {
    Entered(Entered),
    /// Another process holds presence exclusively.
    Busy,
    /// Other processes hold presence, and the store is not ready.
    Unready,
}

/// Poll interval while waiting for the writer lock until a deadline and, with the lock held, for a
/// process that writes without it.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// Shortest and longest sleep of a process that cannot enter yet because another one recovers,
/// creates or closes the store.
const WAIT: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));
/// How long other processes may hold shared presence without the store being ready. A process that
/// follows the protocol never does.
const PATIENCE: Duration = Duration::from_millis(500);

impl Control {
    /// Opens the file, creating it if it does not exist, and maps it. Takes no lock.
    pub(crate) fn open(storage: &dyn Storage) -> Result<Self, Fault> {
        let file = match storage.open(PATH) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match storage.create(PATH) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => storage.open(PATH),
                made => made,
            },
            opened => opened,
        }
        .map_err(Fault::io("opening", PATH))?;
        // Space is allocated once this process is alone. Other processes may be storing to the file
        // now, and this changes no byte.
        if file.len().map_err(Fault::io("measuring", PATH))? < BYTES {
            file.set_len(BYTES).map_err(Fault::io("sizing", PATH))?;
        }
        if storage.reading_holes_takes_space() {
            file.allocate(0, BYTES).map_err(Fault::io("allocating", PATH))?;
        }
        // Mapped through a description on which no lock is ever held: the map survives in a child
        // made by `fork`, and would keep the lock.
        let words = file.map_words(0, BYTES).map_err(Fault::io("mapping", PATH))?;
        let open = || storage.open(PATH).map_err(Fault::io("opening", PATH));
        // If the second open fails, the first note is dropped before its file is closed: a noted
        // number always belongs to an open descriptor.
        let (presence, presence_noted) = LockDescriptor::open(open)?;
        let (writer, writer_noted) = LockDescriptor::open(open)?;
        let place = Place::of(storage).map_err(Fault::io("looking at", PATH))?;
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

    /// Waits until this process is alone or other processes have made the store ready.
    ///
    /// Waits without limit while another process recovers, creates or closes the store: that
    /// process holds presence exclusively, and the kernel releases the lock if it is killed. There
    /// is no other unlimited wait.
    pub(crate) fn enter(&self) -> Result<Entered, Fault> {
        let (mut wait, mut unready) = (WAIT.0, None);
        loop {
            let attempt = match self.try_enter() {
                Ok(attempt) => attempt,
                Err(fault) => {
                    self.leave();
                    return Err(fault);
                }
            };
            match attempt {
                Attempt::Entered(entered) => return Ok(entered),
                Attempt::Busy => unready = None,
                Attempt::Unready if unready.get_or_insert_with(Instant::now).elapsed() > PATIENCE => {
                    return Ok(Entered::Refused(Obstacle {
                        expected: "a store that those who have it open have recovered".to_owned(),
                        found: "a `control` file that says neither that nor that one recovers it (end these processes)"
                            .to_owned(),
                    }));
                }
                Attempt::Unready => {}
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(WAIT.1);
        }
    }

    /// Tries to enter once.
    ///
    /// Only one process at a time runs this, and a process that does not enter does not keep
    /// presence. So a process that holds presence together with this one has the store open, and
    /// the words in `control` date from its lifetime: they were not left by an earlier boot, nor by
    /// a process that had the store alone and was killed before it started recovery.
    fn try_enter(&self) -> Result<Attempt, Fault> {
        let io = || Fault::io("locking", PATH);
        removable!("lock.entry", self.presence.lock(lock::ENTRY, 1, LockMode::Exclusive)).map_err(io())?;
        let share = || self.presence.try_lock(lock::PRESENCE, 1, LockMode::Shared);
        let attempt = if !removable!("lock.presence", share()).map_err(io())? {
            Attempt::Busy
        } else if self.try_be_alone()? {
            Attempt::Entered(Entered::Alone)
        } else {
            self.judge()
        };
        // Before the first store, which on a full disk would raise a signal.
        match attempt {
            Attempt::Entered(Entered::Alone) => {
                let set_aside = removable!("space.control", self.presence.allocate(0, BYTES));
                set_aside.map_err(Fault::io("allocating", PATH))?;
                self.make_writable()?;
            }
            Attempt::Entered(Entered::Joined) => self.make_writable()?,
            _ => {}
        }
        match attempt {
            Attempt::Entered(Entered::Joined) => self.count(),
            Attempt::Entered(Entered::Alone) | Attempt::Busy => {}
            Attempt::Entered(Entered::Refused(_)) | Attempt::Unready => {
                self.presence.unlock(lock::PRESENCE, 1).map_err(io())?;
            }
        }
        self.presence.unlock(lock::ENTRY, 1).map_err(io())?;
        Ok(attempt)
    }

    /// Checks whether this process can join those that have the store open.
    fn judge(&self) -> Attempt {
        if self.words.load(word::READY, Ordering::Acquire) != READY {
            return Attempt::Unready;
        }
        let head = [word::MAGIC, word::VERSION].map(|word| self.words.load(word, Ordering::Relaxed));
        let obstacle = if fails!("join.version", head != [MAGIC, VERSION]) {
            Some(Obstacle {
                expected: format!("a `control` file of version {VERSION}, as this build of PongoDB has it"),
                found: format!("one of version {}", head[1]),
            })
        } else {
            let noted = std::array::from_fn(|i| self.words.load(word::PLACE + i, Ordering::Relaxed));
            self.place.obstacle(noted)
        };
        Attempt::Entered(obstacle.map_or(Entered::Joined, Entered::Refused))
    }

    /// Reserves the space that stores to the file may need; called before this process stores to
    /// it. Does nothing on most file systems.
    pub(crate) fn make_writable(&self) -> Result<(), Fault> {
        self.words.make_writable(0..WORDS).map_err(Fault::io("making pages writable of", PATH))
    }

    /// Reserves the space that stores to the words of this group may need; called before one of its
    /// pins is set or cleared. Makes a system call only where stores may need space.
    #[inline]
    pub(crate) fn make_pins_writable(&self, group: usize) -> Result<(), Fault> {
        if !self.words.stores_may_take_space() {
            return Ok(());
        }
        let first = Self::slot(group, 0);
        self.words
            .make_writable(first..first + GROUP_SLOTS)
            .map_err(Fault::io("making pages writable of", PATH))
    }

    /// Marks the store ready and lets other processes join. Called after recovery.
    pub(crate) fn admit_others(&self) -> Result<(), Fault> {
        self.make_writable()?;
        self.words.store(word::READY, READY, Ordering::Release);
        self.share()
    }

    /// Makes presence shared, so that other processes can have the store open too, if it is ready.
    fn share(&self) -> Result<(), Fault> {
        self.presence.try_lock(lock::PRESENCE, 1, LockMode::Shared).map_err(Fault::io("locking", PATH))?;
        self.shut_out.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `work` while no other process has the store open or can open it. Does nothing if one
    /// has it open. Afterwards presence is shared again; if that fails,
    /// [`let_others_in`](Self::let_others_in) retries.
    pub(crate) fn while_alone<E: From<Fault>>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.try_be_alone()? {
            return Ok(());
        }
        self.shut_out.store(true, Ordering::Relaxed);
        let done = work();
        let shared = self.share();
        done.and(shared.map_err(E::from))
    }

    /// Shares presence if that failed after work that was done alone, so that processes waiting to
    /// open the store can do so.
    #[inline]
    pub(crate) fn let_others_in(&self) {
        if self.shut_out.load(Ordering::Relaxed) {
            self.share_again();
        }
    }

    #[cold]
    fn share_again(&self) {
        // While another thread works alone, this one must not share presence.
        match self.alone.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            // Also if that thread panicked.
            _alone => _ = self.share(),
        }
    }

    /// Returns whether this process has the store to itself. If so, it holds presence exclusively
    /// from now on.
    pub(crate) fn try_be_alone(&self) -> Result<bool, Fault> {
        self.presence.try_lock(lock::PRESENCE, 1, LockMode::Exclusive).map_err(Fault::io("locking", PATH))
    }

    /// Counts this process: from here on other processes see it.
    fn count(&self) {
        self.counted.store(true, Ordering::Relaxed);
        self.words.fetch_add(word::PROCESSES, 1, Ordering::SeqCst);
    }

    /// Releases presence and every other lock of this process. Closing the files would not be
    /// enough: a child that is being created by `fork` may have them too.
    pub(crate) fn leave(&self) {
        // If there is no space for the store, this process stays counted, like one that was killed.
        if self.counted.swap(false, Ordering::Relaxed) && self.make_writable().is_ok() {
            self.words.fetch_add(word::PROCESSES, u64::MAX, Ordering::SeqCst);
        }
        let _ = self.writer.unlock(lock::WRITER, 1);
        let _ = self.presence.unlock(lock::PRESENCE, lock::GROUPS + GROUPS as u64 - lock::PRESENCE);
    }

    /// Returns whether the last holder left a ready, unpoisoned file for this store under this
    /// cache identity: then every byte that any process wrote is still readable.
    pub(crate) fn survived(&self, store: u128, identity: Option<[u8; 32]>) -> bool {
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
    /// [`heal`](Self::heal): if this recovery does not complete, the next one must know. The caller
    /// holds presence exclusively.
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

    /// Waits for the right to write. Returns `None` if another process still has it when the wait
    /// is over. `group` is this process's group of reader slots.
    pub(crate) fn lock_writer(&self, group: usize, wait: Wait) -> Result<Option<Hold>, Fault> {
        let io = || Fault::io("locking", PATH);
        let mine = group as u64 + 1;
        let swap = |from, to| {
            self.words.compare_exchange(word::BUSY, from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        // Not where storing to a mapped word may need disk space: the store that releases the right
        // might find none.
        if !self.words.stores_may_take_space() && self.is_lone() && swap(0, mine) {
            // This load sees every process that was counted before it; a process that is counted
            // after it sees the word stored above.
            if self.is_lone() {
                return Ok(Some(Hold::Alone));
            }
            swap(mine, 0);
        }
        if !removable!("lock.writer", self.lock_writer_file(wait)).map_err(io())? {
            return Ok(None);
        }
        match self.wait_for_busy(wait) {
            Ok(true) => Ok(Some(Hold::Lock)),
            not_now => {
                // The caller does not learn that the lock is held.
                let _ = self.writer.unlock(lock::WRITER, 1);
                not_now.map(|_| None).map_err(io())
            }
        }
    }

    /// Locks the writer's byte. Returns `false` if the wait is over.
    fn lock_writer_file(&self, wait: Wait) -> std::io::Result<bool> {
        if wait == Wait::Forever {
            return self.writer.lock(lock::WRITER, 1, LockMode::Exclusive).map(|()| true);
        }
        loop {
            if self.writer.try_lock(lock::WRITER, 1, LockMode::Exclusive)? {
                return Ok(true);
            }
            if wait.is_over() {
                return Ok(false);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until no process writes without the lock. Returns `false` if the wait is over first.
    fn wait_for_busy(&self, wait: Wait) -> std::io::Result<bool> {
        while let Some(busy) = self.words.load(word::BUSY, Ordering::SeqCst).checked_sub(1) {
            // It keeps the right while it runs; its lock on its group shows that it does.
            if !self.writer.is_locked(lock::GROUPS + busy, 1, LockMode::Exclusive)? {
                break;
            }
            if wait.is_over() {
                return Ok(false);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(true)
    }

    /// Releases the right to write.
    pub(crate) fn unlock_writer(&self, hold: Hold) {
        match hold {
            Hold::Alone => self.words.store(word::BUSY, 0, Ordering::SeqCst),
            Hold::Lock => {
                let _ = self.writer.unlock(lock::WRITER, 1);
            }
        }
    }

    /// Returns whether no other process has the store open, as far as is known: a process that was
    /// killed may still be counted.
    #[inline]
    pub(crate) fn is_lone(&self) -> bool {
        self.words.load(word::PROCESSES, Ordering::SeqCst) == 1
    }

    /// Claims a group of reader slots for this process. Returns `None` if all groups are taken.
    pub(crate) fn claim_group(&self) -> Result<Option<usize>, Fault> {
        for group in 0..GROUPS {
            let place = lock::GROUPS + group as u64;
            let held = removable!("pin.group", self.presence.try_lock(place, 1, LockMode::Exclusive));
            if held.map_err(Fault::io("locking", PATH))? {
                for slot in 0..GROUP_SLOTS {
                    self.words.store(word::SLOTS + group * GROUP_SLOTS + slot, 0, Ordering::Release);
                }
                // The process that had the group may have been killed while `BUSY` held its number,
                // so the word is cleared.
                let stale = group as u64 + 1;
                let _ =
                    self.words.compare_exchange(word::BUSY, stale, 0, Ordering::SeqCst, Ordering::Relaxed);
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Returns the index of the word of one reader slot. The word is 0, or the pinned `Seq` + 1.
    #[inline]
    fn slot(group: usize, slot: usize) -> usize {
        word::SLOTS + group * GROUP_SLOTS + slot
    }

    #[inline]
    pub(crate) fn try_pin(&self, group: usize, slot: usize, seq: Seq) -> bool {
        let word = Self::slot(group, slot);
        let swap = || self.words.compare_exchange(word, 0, seq.0 + 1, Ordering::SeqCst, Ordering::Relaxed);
        self.words.load(word, Ordering::Relaxed) == 0 && holds!("pin.slot", swap().is_ok())
    }

    #[inline]
    pub(crate) fn set_pin(&self, group: usize, slot: usize, value: u64) {
        removable!("pin.shared", self.words.store(Self::slot(group, slot), value, Ordering::SeqCst));
    }

    #[inline]
    pub(crate) fn unpin(&self, group: usize, slot: usize) {
        self.words.store(Self::slot(group, slot), 0, Ordering::Release);
    }

    /// Returns the `Seq` below which snapshots may have lost rows.
    #[inline]
    pub(crate) fn horizon(&self) -> Seq {
        Seq(self.words.load(word::HORIZON, Ordering::SeqCst))
    }

    /// Returns the lowest `Seq` that any snapshot shows, of those that exist and those that will
    /// begin.
    ///
    /// The horizon is raised to the newest published `Seq` first, and the pins are read after that.
    /// A reader sets its pin first and reads the horizon after that. All four operations are in one
    /// total order (`SeqCst`). So a pin that is not seen here belongs to a reader that sees the
    /// horizon, and that starts again if its `Seq` is below it.
    pub(crate) fn seen_from(&self) -> Seq {
        if self.make_writable().is_err() {
            // Without space to store the horizon, readers cannot be told: every `Seq` may still be
            // seen.
            return Seq(0);
        }
        let (_, published) = self.published();
        let newest = published.seq.max(self.horizon());
        // A maximum: concurrent callers never lower the horizon.
        removable!("pin.horizon.write", {
            self.words.fetch_max(word::HORIZON, newest.0, Ordering::SeqCst);
        });
        let mut oldest = newest.0;
        for group in 0..GROUPS {
            let pins =
                (0..GROUP_SLOTS).map(|slot| self.words.load(Self::slot(group, slot), Ordering::SeqCst));
            let Some(lowest) = pins.filter_map(|word| word.checked_sub(1)).min() else { continue };
            if lowest < oldest && self.is_group_held(group) {
                oldest = lowest;
            }
        }
        Seq(oldest)
    }

    /// Returns whether a running process holds a group of reader slots; `true` if that cannot be
    /// determined.
    fn is_group_held(&self, group: usize) -> bool {
        self.writer.is_locked(lock::GROUPS + group as u64, 1, LockMode::Exclusive).unwrap_or(true)
    }

    /// Clears the poison word: a recovery completed, so everything in memory is on disk.
    pub(crate) fn heal(&self) {
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
    pub(crate) fn owner(&self) -> u64 {
        self.words.load(word::OWNER, Ordering::Acquire)
    }

    pub(crate) fn set_owner(&self, owner: u64) {
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
    pub(crate) fn is_foreign_dirty(&self) -> bool {
        self.words.load(word::FOREIGN_DIRTY, Ordering::Acquire) != 0
    }

    pub(crate) fn set_foreign_dirty(&self, dirty: bool) {
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

    fn record(counter: u64) -> usize {
        RING + (counter % RECORDS) as usize * RECORD_WORDS
    }

    /// Publishes a state. The caller is the only publisher: it holds the writer lock, or its
    /// process does.
    pub(crate) fn publish(&self, state: &State) {
        if cfg!(all(debug_assertions, not(loom))) {
            self.assert_grows(state);
        }
        let counter = self.words.load(word::PUBLISHED, Ordering::Relaxed) + 1;
        let at = Self::record(counter);
        // A reader that sees a word of this record also sees that the record before it was
        // published.
        removable!("control.publish.fence", fence(Ordering::Release));
        let put = |i: usize, value: u64| self.words.store(at + i, value, Ordering::Relaxed);
        put(0, state.seq.0);
        put(1, state.tables.len() as u64);
        put(2, state.heap.len);
        put(3, state.heap.summed);
        put(4, state.segment);
        put(5, state.journal_end.0);
        for (i, table) in state.tables.iter().enumerate() {
            let at = RECORD_HEADER + 3 * i;
            put(at, table.len);
            put(at + 1, table.live);
            put(at + 2, table.summed);
        }
        self.words.store(word::PUBLISHED, counter, Ordering::Release);
    }

    /// Asserts that the published `Seq` and lengths never decrease while a process holds presence.
    fn assert_grows(&self, state: &State) {
        let (_, before) = self.published();
        assert!(before.seq <= state.seq, "{} was published, now {}", before.seq, state.seq);
        assert!(before.heap.len <= state.heap.len && before.heap.summed <= state.heap.summed);
        assert!(before.tables.len() <= state.tables.len());
        for (before, now) in before.tables.iter().zip(&state.tables) {
            assert!(before.len <= now.len && before.summed <= now.summed && now.live <= now.len);
        }
    }

    /// Returns the number of the newest published record, which changes whenever a state is
    /// published.
    #[inline]
    pub(crate) fn published_counter(&self) -> u64 {
        self.words.load(word::PUBLISHED, Ordering::Acquire)
    }

    /// Copies the newest published state and returns it with the number of its record.
    pub(crate) fn published(&self) -> (u64, State) {
        loop {
            let counter = self.published_counter();
            let at = Self::record(counter);
            let get = |i: usize| self.words.load(at + i, Ordering::Relaxed);
            let tables = (get(1) as usize).min(MAX_TABLES);
            let state = State {
                seq: Seq(get(0)),
                heap: HeapState { len: get(2), summed: get(3) },
                segment: get(4),
                journal_end: JournalPos(get(5)),
                tables: (0..tables)
                    .map(|i| {
                        let at = RECORD_HEADER + 3 * i;
                        TableState { len: get(at), live: get(at + 1), summed: get(at + 2) }
                    })
                    .collect(),
            };
            removable!("control.read.fence", fence(Ordering::Acquire));
            // The record is overwritten only for `counter + RECORDS`, which begins after
            // `counter + RECORDS - 1` was published.
            if self.words.load(word::PUBLISHED, Ordering::Relaxed).wrapping_sub(counter) < RECORDS - 1 {
                return (counter, state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    /// Tests opening with a control file left by a killed process, perhaps in an earlier boot,
    /// which says that the store is ready. Of several processes that open the store at once, one
    /// finds itself alone, and the others wait until it has recovered.
    #[test]
    #[cfg(not(loom))]
    fn no_process_joins_before_recovery() -> Result<(), Fault> {
        use std::sync::Barrier;
        use std::sync::atomic::AtomicUsize;

        let storage = MemoryStorage::new();
        let control = Control::open(&storage)?;
        assert_eq!(control.enter()?, Entered::Alone);
        control.rebuild(1, None, Salt(1));
        control.admit_others()?;
        control.leave();
        for round in 0..300 {
            let (recovered, alone) = (AtomicBool::new(false), AtomicUsize::new(0));
            let together = Barrier::new(4);
            std::thread::scope(|scope| {
                let come = || {
                    let control = Control::open(&storage).expect("memory");
                    together.wait();
                    match control.enter().expect("memory") {
                        Entered::Alone => {
                            alone.fetch_add(1, Ordering::SeqCst);
                            if round % 2 == 0 {
                                std::thread::yield_now();
                            }
                            recovered.store(true, Ordering::SeqCst);
                            control.rebuild(1, None, Salt(1));
                            control.admit_others().expect("memory");
                        }
                        Entered::Joined => assert!(recovered.load(Ordering::SeqCst), "round {round}"),
                        Entered::Refused(obstacle) => panic!("{obstacle:?}"),
                    }
                    // So that no process finds itself alone because the others left.
                    together.wait();
                    control.leave();
                };
                (0..4).for_each(|_| _ = scope.spawn(come));
            });
            assert_eq!(alone.into_inner(), 1, "round {round}");
        }
        Ok(())
    }

    #[test]
    fn what_may_still_be_seen() -> Result<(), Fault> {
        let storage = MemoryStorage::new();
        let control = Control::open(&storage)?;
        assert_eq!(control.enter()?, Entered::Alone);
        control.rebuild(1, None, Salt(1));
        control.admit_others()?;
        let group = control.claim_group()?.expect("all are free");
        assert_eq!(control.seen_from(), Seq(0));
        control.publish(&State { seq: Seq(7), ..State::default() });
        assert_eq!((control.seen_from(), control.horizon()), (Seq(7), Seq(7)));
        // A reader that read the `Seq` before, and pins now, sees the horizon above it.
        assert!(control.try_pin(group, 3, Seq(5)) && control.horizon() > Seq(5));
        control.unpin(group, 3);
        assert!(control.try_pin(group, 3, Seq(7)));
        control.publish(&State { seq: Seq(9), ..State::default() });
        assert_eq!((control.seen_from(), control.horizon()), (Seq(7), Seq(9)));
        // Another process pins, and ends without clearing its pin.
        let other = Control::open(&storage)?;
        assert_eq!(other.enter()?, Entered::Joined);
        let group_of_other = other.claim_group()?.expect("there are others");
        assert!(other.try_pin(group_of_other, 0, Seq(6)));
        assert_eq!(control.seen_from(), Seq(6));
        assert_eq!(other.seen_from(), Seq(6));
        other.leave();
        assert_eq!(control.seen_from(), Seq(7));
        control.unpin(group, 3);
        assert_eq!(control.seen_from(), Seq(9));
        Ok(())
    }
}
