//! The right to write, among processes: the writer lock or, for a process that is the only one with
//! the store open, the `BUSY` word.

use std::time::{Duration, Instant};

use super::{Control, PATH, lock, word};
use crate::error::StorageError;
use crate::guard::removable;
use crate::storage::LockMode;
use crate::sync::Ordering;

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

/// How a process holds the right to write.
///
/// A process that is the only one with the store open needs no system call to write: it stores the
/// number of its reader group in the `BUSY` word and then checks whether another process has been
/// counted. A process that joins is counted first, and reads the `BUSY` word once it has the lock.
/// Both words are stored and loaded in one total order (`SeqCst`), so at least one of the two
/// processes sees the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteHold {
    /// It is the only process; the `BUSY` word holds the number of its group.
    Solo,
    /// It holds the lock.
    Lock,
}

/// Poll interval while waiting for the writer lock until a deadline and, with the lock held, for a
/// process that writes without it.
const POLL_INTERVAL: Duration = Duration::from_micros(50);

impl Control {
    /// Waits for the right to write. Returns `None` if another process still has it when the wait
    /// is over. `group` is this process's group of reader slots.
    pub(crate) fn lock_writer(&self, group: usize, wait: Wait) -> Result<Option<WriteHold>, StorageError> {
        let io = || StorageError::io("locking", PATH);
        let mine = group as u64 + 1;
        let swap = |from, to| {
            self.words.compare_exchange(word::BUSY, from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        // Not where storing to a mapped word may need disk space: the store that releases the right
        // might find none.
        if !self.words.stores_may_allocate() && self.is_sole_process() && swap(0, mine) {
            // This load sees every process that was counted before it; a process that is counted
            // after it sees the word stored above.
            if self.is_sole_process() {
                return Ok(Some(WriteHold::Solo));
            }
            swap(mine, 0);
        }
        if !removable!("lock.writer", self.lock_writer_file(wait)).map_err(io())? {
            return Ok(None);
        }
        match self.wait_for_busy(wait) {
            Ok(true) => Ok(Some(WriteHold::Lock)),
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
            std::thread::sleep(POLL_INTERVAL);
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
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(true)
    }

    /// Releases the right to write.
    pub(crate) fn unlock_writer(&self, hold: WriteHold) {
        match hold {
            WriteHold::Solo => self.words.store(word::BUSY, 0, Ordering::SeqCst),
            WriteHold::Lock => {
                let _ = self.writer.unlock(lock::WRITER, 1);
            }
        }
    }
}
