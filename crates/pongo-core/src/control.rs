//! The `control` file: what processes share while the store is open. Volatile: whoever opens the store alone makes it
//! anew. A shared writable map of atomic words; nothing in it is needed to recover.
//!
//! | words | what |
//! | --- | --- |
//! | 0..64 | identity, state, poison, writer's words, durable position, published counter, count of processes |
//! | 64..512 | live count of marks files for each table |
//! | 512.. | reader slots: groups of 64, one group a process |
//! | after | the snapshot ring: records of 1,024 words |
//!
//! | bytes that are locked, beyond the file's end | by whom |
//! | --- | --- |
//! | presence | shared: by each process that has the store open; alone: by one that recovers, makes or closes it |
//! | entry | by the one process that tries to take presence |
//! | writer, groups | by the process that writes; by each process, its group of reader slots |
//!
//! A snapshot is published by writing the next record of the ring and then storing its number in one word. A reader
//! copies the record that the word names and believes the copy if the word has not moved on by a whole ring since.

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
/// Processes that can have a store open for reading at the same time with pins of their own.
pub(crate) const GROUPS: usize = if cfg!(loom) { 2 } else { 64 };
/// Pins of one process before it has to share.
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

/// Byte ranges of the file that are locked; the bytes themselves mean nothing.
mod lock {
    pub(super) const PRESENCE: u64 = 1 << 32;
    pub(super) const WRITER: u64 = PRESENCE + 1;
    pub(super) const ENTRY: u64 = PRESENCE + 2;
    pub(super) const GROUPS: u64 = PRESENCE + 1024;
}

/// The open control file, mapped.
#[derive(Debug)]
pub(crate) struct Control {
    words: Words,
    /// Stand before the files, so that they are dropped before those are closed.
    _noted: [LockDescriptor; 2],
    /// Holds presence and the reader group.
    presence: Arc<dyn File>,
    /// Holds the writer lock, on a description of its own.
    writer: Arc<dyn File>,
    /// Where this process sees the store.
    place: Place,
    /// Whether this process is counted among those that have the store open.
    counted: AtomicBool,
    /// Held by who does something alone.
    alone: Mutex<()>,
    /// Presence is held alone.
    shut_out: AtomicBool,
}

/// How long to wait for the right to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// As long as it takes.
    Forever,
    /// Not beyond this moment, by at most some milliseconds; the past means not at all.
    Until(Instant),
}

impl Wait {
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Until(end) if Instant::now() >= end)
    }
}

/// How a process comes to a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entered {
    /// It has the store to itself: it recovers it.
    Alone,
    /// Others have the store open and ready.
    Joined,
    /// Others have it open, and it can share nothing with them.
    Refused(Obstacle),
}

/// How a process has the right to write.
///
/// A process that is the only one with the store open needs no system call for it: it says in a word that it is busy, and
/// then looks whether another one has come. Whoever comes is counted first, and looks at that word once it has the
/// lock. Both words are stored and loaded in one order for all (`SeqCst`), so at least one of the two sees the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// It is the only process; its word says that it is busy.
    Alone,
    /// It has the lock.
    Lock,
}

/// What came of trying to enter once.
enum Attempt {
    Entered(Entered),
    /// Another process has the store alone.
    Busy,
    /// Others hold presence, and the store is not ready.
    Unready,
}

/// How often someone who has the lock looks whether a process that had no need for it is still busy.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// How long a process that cannot enter yet sleeps, at first and in the end: another one recovers, makes or closes the store.
const WAIT: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));
/// How long others may hold presence together without the store being ready. Nobody does who goes by the protocol.
const PATIENCE: Duration = Duration::from_millis(500);

impl Control {
    /// Opens the file, making it if it is not there, and maps it. Takes no lock.
    pub(crate) fn open(storage: &dyn Storage) -> Result<Self, Fault> {
        let file = match storage.open(PATH) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => match storage.create(PATH) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => storage.open(PATH),
                made => made,
            },
            opened => opened,
        }
        .map_err(Fault::io("opening", PATH))?;
        // Space is set aside once this process is alone; others may store to it now, and this changes no byte.
        if file.len().map_err(Fault::io("measuring", PATH))? < BYTES {
            file.set_len(BYTES).map_err(Fault::io("sizing", PATH))?;
        }
        if storage.reading_holes_takes_space() {
            file.allocate(0, BYTES).map_err(Fault::io("allocating", PATH))?;
        }
        // Through a description that no lock is ever held on: the map lives on in a child made by `fork`, and would keep
        // the lock.
        let words = file.map_words(0, BYTES).map_err(Fault::io("mapping", PATH))?;
        let open = || storage.open(PATH).map_err(Fault::io("opening", PATH));
        // Should the second fail, the first's note goes before its file: a number that is noted is open.
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

    /// Waits until this process is alone, or others have made the store ready.
    ///
    /// While another process recovers, makes or closes the store it waits for as long as that takes: that one holds presence
    /// alone, and the kernel takes the lock from it should it die. There is no other wait.
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

    /// One process at a time tries to enter, and none keeps presence that has not entered. So another one that holds it
    /// together with this one has the store open, and what `control` says is of its lifetime: not what an earlier boot left
    /// there, and not what a process left that had the store alone and died before it began.
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
        // Before the first store, which on a full disk would be a signal.
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

    /// Whether this process can join those who have the store open.
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

    /// Before this process stores to the file: takes the space that the stores may need (nothing on most file systems).
    pub(crate) fn make_writable(&self) -> Result<(), Fault> {
        self.words.make_writable(0..WORDS).map_err(Fault::io("making pages writable of", PATH))
    }

    /// Before a pin of this group is set or taken away: the same for the words of the group. A call of the system only where
    /// stores may need space.
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

    /// After recovery: others may join.
    pub(crate) fn admit_others(&self) -> Result<(), Fault> {
        self.make_writable()?;
        self.words.store(word::READY, READY, Ordering::Release);
        self.share()
    }

    /// Others may have the store open too, if it is ready.
    fn share(&self) -> Result<(), Fault> {
        self.presence.try_lock(lock::PRESENCE, 1, LockMode::Shared).map_err(Fault::io("locking", PATH))?;
        self.shut_out.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Does something while no other process has the store open, nor opens it; nothing if one has. Then others are let in again:
    /// if that fails, [`let_others_in`](Self::let_others_in) tries once more.
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

    /// Others that wait to open the store may, if they could not be let in when it was done alone what was to be.
    #[inline]
    pub(crate) fn let_others_in(&self) {
        if self.shut_out.load(Ordering::Relaxed) {
            self.share_again();
        }
    }

    #[cold]
    fn share_again(&self) {
        // While another thread is at work alone it is not for this one to let others in.
        match self.alone.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            // Also if it panicked.
            _alone => _ = self.share(),
        }
    }

    /// Whether this process has the store to itself; if so it holds presence exclusively from now on.
    pub(crate) fn try_be_alone(&self) -> Result<bool, Fault> {
        self.presence.try_lock(lock::PRESENCE, 1, LockMode::Exclusive).map_err(Fault::io("locking", PATH))
    }

    /// From here on the others know of this process.
    fn count(&self) {
        self.counted.store(true, Ordering::Relaxed);
        self.words.fetch_add(word::PROCESSES, 1, Ordering::SeqCst);
    }

    /// Gives presence and everything else up that this process has locked. To close the files would not do: a child that is
    /// being made by `fork` may have them too.
    pub(crate) fn leave(&self) {
        // Where there is no space for it, this process is counted on, as one that was killed is.
        if self.counted.swap(false, Ordering::Relaxed) && self.make_writable().is_ok() {
            self.words.fetch_add(word::PROCESSES, u64::MAX, Ordering::SeqCst);
        }
        let _ = self.writer.unlock(lock::WRITER, 1);
        let _ = self.presence.unlock(lock::PRESENCE, lock::GROUPS + GROUPS as u64 - lock::PRESENCE);
    }

    /// Whether what the last holder left was written under this cache identity for this store, unpoisoned: then every
    /// byte that any process wrote is still readable.
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

    /// The store's number, as the file says it.
    pub(crate) fn store(&self) -> u128 {
        u128::from(self.words.load(word::STORE_LOW, Ordering::Relaxed))
            | u128::from(self.words.load(word::STORE_HIGH, Ordering::Relaxed)) << 64
    }

    /// Makes the file anew: not ready, nothing published. Whether it was poisoned stays until [`heal`](Self::heal): should this
    /// recovery not get to its end, the next one is to know. The caller holds presence alone.
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

    /// Waits for the right to write: `None` if another process still has it when the wait is over. `group` is this
    /// process's group of reader slots.
    pub(crate) fn lock_writer(&self, group: usize, wait: Wait) -> Result<Option<Hold>, Fault> {
        let io = || Fault::io("locking", PATH);
        let mine = group as u64 + 1;
        let swap = |from, to| {
            self.words.compare_exchange(word::BUSY, from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        // Not where the store with which the right is given up may find no space.
        if !self.words.stores_may_take_space() && self.is_lone() && swap(0, mine) {
            // Whoever was counted before this load is seen by it; whoever is counted after it sees the word above.
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
                // Nobody knows that it is held.
                let _ = self.writer.unlock(lock::WRITER, 1);
                not_now.map(|_| None).map_err(io())
            }
        }
    }

    /// Locks the writer's byte. `false`: the wait is over.
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

    /// Waits until nobody writes who had no need for the lock. `false`: the wait is over before.
    fn wait_for_busy(&self, wait: Wait) -> std::io::Result<bool> {
        while let Some(busy) = self.words.load(word::BUSY, Ordering::SeqCst).checked_sub(1) {
            // It goes on while its process lives, which its lock on its group says.
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

    /// Gives the right to write up.
    pub(crate) fn unlock_writer(&self, hold: Hold) {
        match hold {
            Hold::Alone => self.words.store(word::BUSY, 0, Ordering::SeqCst),
            Hold::Lock => {
                let _ = self.writer.unlock(lock::WRITER, 1);
            }
        }
    }

    /// Whether no other process has the store open, as far as is known: one that was killed may still be counted.
    #[inline]
    pub(crate) fn is_lone(&self) -> bool {
        self.words.load(word::PROCESSES, Ordering::SeqCst) == 1
    }

    /// Claims a group of reader slots for this process.
    pub(crate) fn claim_group(&self) -> Result<Option<usize>, Fault> {
        for group in 0..GROUPS {
            let place = lock::GROUPS + group as u64;
            let held = removable!("pin.group", self.presence.try_lock(place, 1, LockMode::Exclusive));
            if held.map_err(Fault::io("locking", PATH))? {
                for slot in 0..GROUP_SLOTS {
                    self.words.store(word::SLOTS + group * GROUP_SLOTS + slot, 0, Ordering::Release);
                }
                // Whoever had it and died busy is busy no more.
                let stale = group as u64 + 1;
                let _ =
                    self.words.compare_exchange(word::BUSY, stale, 0, Ordering::SeqCst, Ordering::Relaxed);
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// The word of one reader slot: 0, or the pinned `Seq` + 1.
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

    /// Snapshots below this `Seq` may have lost rows.
    #[inline]
    pub(crate) fn horizon(&self) -> Seq {
        Seq(self.words.load(word::HORIZON, Ordering::SeqCst))
    }

    /// The lowest `Seq` that any snapshot shows, of those there are and those that will begin.
    ///
    /// The horizon goes to the newest published `Seq` first, and the pins are looked at behind it. A reader pins first and
    /// looks at the horizon behind that; all four are in one order for all (`SeqCst`). So a pin that is not seen here
    /// belongs to a reader that sees the horizon, and begins anew if it is below.
    pub(crate) fn seen_from(&self) -> Seq {
        if self.make_writable().is_err() {
            // Without space for the horizon nobody can be asked: everything may be seen.
            return Seq(0);
        }
        let (_, published) = self.published();
        let newest = published.seq.max(self.horizon());
        // Of several that ask at once none takes it back.
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

    /// Whether a group of reader slots is some living process's. If that cannot be said, it is.
    fn is_group_held(&self, group: usize) -> bool {
        self.writer.is_locked(lock::GROUPS + group as u64, 1, LockMode::Exclusive).unwrap_or(true)
    }

    /// A recovery got to its end: what is in memory is on the disk.
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

    /// Who wrote last: a number that each open store of each process draws for itself.
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

    /// The journal position behind the newest checkpoint.
    pub(crate) fn checkpoint(&self) -> JournalPos {
        JournalPos(self.words.load(word::CHECKPOINT, Ordering::Acquire))
    }

    pub(crate) fn set_checkpoint(&self, pos: JournalPos) {
        self.words.store(word::CHECKPOINT, pos.0, Ordering::Release);
    }

    /// Whether the newest durable checkpoint says that the store was closed cleanly, so that the next writer must first
    /// replace it.
    pub(crate) fn is_clean(&self) -> bool {
        self.words.load(word::CLEAN, Ordering::Acquire) != 0
    }

    pub(crate) fn set_clean(&self, clean: bool) {
        self.words.store(word::CLEAN, u64::from(clean), Ordering::Release);
    }

    /// Whether a writer of another process may have dirtied files since the newest checkpoint.
    pub(crate) fn is_foreign_dirty(&self) -> bool {
        self.words.load(word::FOREIGN_DIRTY, Ordering::Acquire) != 0
    }

    pub(crate) fn set_foreign_dirty(&self, dirty: bool) {
        self.words.store(word::FOREIGN_DIRTY, u64::from(dirty), Ordering::Release);
    }

    /// How often a process told that it made marks files for a table, since `control` was built.
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

    /// Publishes a state. The caller is the only publisher: it holds the writer lock, or its process does.
    pub(crate) fn publish(&self, state: &State) {
        if cfg!(all(debug_assertions, not(loom))) {
            self.assert_grows(state);
        }
        let counter = self.words.load(word::PUBLISHED, Ordering::Relaxed) + 1;
        let at = Self::record(counter);
        // Whoever sees a word of this record sees that the record before it was published.
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

    /// Published `Seq` and lengths never decrease while anyone holds presence.
    fn assert_grows(&self, state: &State) {
        let (_, before) = self.published();
        assert!(before.seq <= state.seq, "{} was published, now {}", before.seq, state.seq);
        assert!(before.heap.len <= state.heap.len && before.heap.summed <= state.heap.summed);
        assert!(before.tables.len() <= state.tables.len());
        for (before, now) in before.tables.iter().zip(&state.tables) {
            assert!(before.len <= now.len && before.summed <= now.summed && now.live <= now.len);
        }
    }

    /// Number of the newest published record: changes whenever something is published.
    #[inline]
    pub(crate) fn published_counter(&self) -> u64 {
        self.words.load(word::PUBLISHED, Ordering::Acquire)
    }

    /// Copies the newest published state, with the number of its record.
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
            // The record is written again only for `counter + RECORDS`, which begins after `counter + RECORDS - 1` was
            // published.
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

    /// What a process left that was killed, perhaps in an earlier boot, says that the store is ready. Of several that come at
    /// once one finds itself alone, and the others wait until it has recovered.
    #[test]
    #[cfg(not(loom))]
    fn nobody_enters_before_the_store_is_recovered() -> Result<(), Fault> {
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
                    // So that none is left alone by the others.
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
        // Whoever read the `Seq` before, and pins now, sees the horizon above it.
        assert!(control.try_pin(group, 3, Seq(5)) && control.horizon() > Seq(5));
        control.unpin(group, 3);
        assert!(control.try_pin(group, 3, Seq(7)));
        control.publish(&State { seq: Seq(9), ..State::default() });
        assert_eq!((control.seen_from(), control.horizon()), (Seq(7), Seq(9)));
        // Another process pins, and ends without taking its pin away.
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
