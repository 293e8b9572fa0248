//! Which processes have the store open, and whether one has it alone.
//!
//! Each process with the store open holds shared presence. A process that recovers, creates or
//! closes the store holds it exclusively. The kernel releases presence when its process ends.

use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::{BYTES, Control, GROUPS, MAGIC, PATH, READY, VERSION, lock, word};
use crate::error::StorageError;
use crate::guard::{fails, removable};
use crate::place::Obstacle;
use crate::storage::LockMode;
use crate::sync::Ordering;

/// The result of entering a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entered {
    /// This process has the store to itself and must recover it.
    Solo,
    /// Other processes have the store open and ready.
    Joined,
    /// Other processes have the store open, and this one cannot share it with them.
    Refused(Obstacle),
}

/// The result of one attempt to enter.
enum Attempt {
    Entered(Entered),
    /// Another process holds presence exclusively.
    Busy,
    /// Other processes hold presence, and the store is not ready.
    Unready,
}

/// Shortest and longest sleep of a process that cannot enter yet because another one recovers,
/// creates or closes the store.
const RETRY_SLEEP: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));
/// How long other processes may hold shared presence without the store being ready. A process that
/// follows the protocol never does.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

impl Control {
    /// Waits until this process is alone or other processes have made the store ready.
    ///
    /// Waits without limit while another process recovers, creates or closes the store: that
    /// process holds presence exclusively, and the kernel releases the lock if it is killed. There
    /// is no other unlimited wait.
    pub(crate) fn register_process(&self) -> Result<Entered, StorageError> {
        let (mut wait, mut unready) = (RETRY_SLEEP.0, None);
        loop {
            let attempt = match self.try_register() {
                Ok(attempt) => attempt,
                Err(fault) => {
                    self.deregister();
                    return Err(fault);
                }
            };
            match attempt {
                Attempt::Entered(entered) => return Ok(entered),
                Attempt::Busy => unready = None,
                Attempt::Unready if unready.get_or_insert_with(Instant::now).elapsed() > READY_TIMEOUT => {
                    return Ok(Entered::Refused(Obstacle {
                        expected: "a store that those who have it open have recovered".to_owned(),
                        found: "a `control` file that says neither that nor that one recovers it (end these \
                                processes)"
                            .to_owned(),
                    }));
                }
                Attempt::Unready => {}
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY_SLEEP.1);
        }
    }

    /// Tries to enter once.
    ///
    /// Only one process at a time runs this, and a process that does not enter does not keep
    /// presence. So a process that holds presence together with this one has the store open, and
    /// the words in `control` date from its lifetime: they were not left by an earlier boot, nor by
    /// a process that had the store alone and was killed before it started recovery.
    fn try_register(&self) -> Result<Attempt, StorageError> {
        let io = || StorageError::io("locking", PATH);
        removable!("lock.entry", self.presence.lock(lock::ENTRY, 1, LockMode::Exclusive)).map_err(io())?;
        let share = || self.presence.try_lock(lock::PRESENCE, 1, LockMode::Shared);
        let attempt = if !removable!("lock.presence", share()).map_err(io())? {
            Attempt::Busy
        } else if self.try_lock_exclusive()? {
            Attempt::Entered(Entered::Solo)
        } else {
            self.judge()
        };
        // Before the first store, which on a full disk would raise a signal.
        match attempt {
            Attempt::Entered(Entered::Solo) => {
                let preallocated = removable!("space.control", self.presence.allocate(0, BYTES));
                preallocated.map_err(StorageError::io("allocating", PATH))?;
                self.make_writable()?;
            }
            Attempt::Entered(Entered::Joined) => self.make_writable()?,
            _ => {}
        }
        match attempt {
            Attempt::Entered(Entered::Joined) => self.count(),
            Attempt::Entered(Entered::Solo) | Attempt::Busy => {}
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

    /// Marks the store ready and lets other processes join. Called after recovery.
    pub(crate) fn mark_ready(&self) -> Result<(), StorageError> {
        self.make_writable()?;
        self.words.store(word::READY, READY, Ordering::Release);
        self.downgrade_to_shared()
    }

    /// Makes presence shared, so that other processes can have the store open too, if it is ready.
    fn downgrade_to_shared(&self) -> Result<(), StorageError> {
        self.presence
            .try_lock(lock::PRESENCE, 1, LockMode::Shared)
            .map_err(StorageError::io("locking", PATH))?;
        self.shut_out.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `work` while no other process has the store open or can open it. Does nothing if one
    /// has it open. Afterwards presence is shared again; if that fails,
    /// [`retry_shared`](Self::retry_shared) retries.
    pub(crate) fn with_exclusive<E: From<StorageError>>(
        &self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.try_lock_exclusive()? {
            return Ok(());
        }
        self.shut_out.store(true, Ordering::Relaxed);
        let done = work();
        let shared = self.downgrade_to_shared();
        done.and(shared.map_err(E::from))
    }

    /// Shares presence if that failed after work that was done alone, so that processes waiting to
    /// open the store can do so.
    #[inline]
    pub(crate) fn retry_shared(&self) {
        if self.shut_out.load(Ordering::Relaxed) {
            self.retry_downgrade();
        }
    }

    #[cold]
    fn retry_downgrade(&self) {
        // While another thread works alone, this one must not share presence.
        match self.alone.try_lock() {
            Err(TryLockError::WouldBlock) => {}
            // Also if that thread panicked.
            _alone => _ = self.downgrade_to_shared(),
        }
    }

    /// Returns whether this process has the store to itself. If so, it holds presence exclusively
    /// from now on.
    pub(crate) fn try_lock_exclusive(&self) -> Result<bool, StorageError> {
        self.presence
            .try_lock(lock::PRESENCE, 1, LockMode::Exclusive)
            .map_err(StorageError::io("locking", PATH))
    }

    /// Counts this process: from here on other processes see it.
    pub(super) fn count(&self) {
        self.counted.store(true, Ordering::Relaxed);
        self.words.fetch_add(word::PROCESSES, 1, Ordering::SeqCst);
    }

    /// Releases presence and every other lock of this process. Closing the files would not be
    /// enough: a child that is being created by `fork` may have them too.
    pub(crate) fn deregister(&self) {
        // If there is no space for the store, this process stays counted, like one that was killed.
        if self.counted.swap(false, Ordering::Relaxed) && self.make_writable().is_ok() {
            self.words.fetch_add(word::PROCESSES, u64::MAX, Ordering::SeqCst);
        }
        let _ = self.writer.unlock(lock::WRITER, 1);
        let _ = self.presence.unlock(lock::PRESENCE, lock::GROUPS + GROUPS as u64 - lock::PRESENCE);
    }

    /// Returns whether no other process has the store open, as far as is known: a process that was
    /// killed may still be counted.
    #[inline]
    pub(crate) fn is_sole_process(&self) -> bool {
        self.words.load(word::PROCESSES, Ordering::SeqCst) == 1
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Salt;
    use crate::storage::MemoryStorage;

    /// Tests opening with a control file left by a killed process, perhaps in an earlier boot,
    /// which says that the store is ready. Of several processes that open the store at once, one
    /// finds itself alone, and the others wait until it has recovered.
    #[test]
    fn no_process_joins_before_recovery() -> Result<(), StorageError> {
        use std::sync::Barrier;
        use std::sync::atomic::{AtomicBool, AtomicUsize};

        let storage = MemoryStorage::new();
        let control = Control::open(&storage)?;
        assert_eq!(control.register_process()?, Entered::Solo);
        control.rebuild(1, None, Salt(1));
        control.mark_ready()?;
        control.deregister();
        for round in 0..300 {
            let (recovered, alone) = (AtomicBool::new(false), AtomicUsize::new(0));
            let together = Barrier::new(4);
            std::thread::scope(|scope| {
                let come = || {
                    let control = Control::open(&storage).expect("memory");
                    together.wait();
                    match control.register_process().expect("memory") {
                        Entered::Solo => {
                            alone.fetch_add(1, Ordering::SeqCst);
                            if round % 2 == 0 {
                                std::thread::yield_now();
                            }
                            recovered.store(true, Ordering::SeqCst);
                            control.rebuild(1, None, Salt(1));
                            control.mark_ready().expect("memory");
                        }
                        Entered::Joined => assert!(recovered.load(Ordering::SeqCst), "round {round}"),
                        Entered::Refused(obstacle) => panic!("{obstacle:?}"),
                    }
                    // So that no process finds itself alone because the others left.
                    together.wait();
                    control.deregister();
                };
                (0..4).for_each(|_| _ = scope.spawn(come));
            });
            assert_eq!(alone.into_inner(), 1, "round {round}");
        }
        Ok(())
    }
}
