//! Byte-range locks of one file inside one process, with the behaviour of the kernel's open file
//! description locks.
//!
//! A lock belongs to an owner, which stands for an open file description. Owners conflict with each
//! other, never with themselves, and an owner that locks bytes it already holds changes their mode
//! atomically. A waiting owner keeps the locks that it has, so two owners that hold a range shared
//! and both wait for it exclusively deadlock, as they would in the kernel.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::LockMode;

/// All locks on one file.
#[derive(Default)]
pub(super) struct LockTable {
    held: Mutex<Vec<HeldLock>>,
    /// Notified whenever a lock is released or becomes shared.
    eased: Condvar,
}

struct HeldLock {
    owner: u64,
    bytes: Range<u64>,
    mode: LockMode,
}

impl LockTable {
    /// Takes the lock and returns `true`, unless another owner holds a conflicting one.
    pub(super) fn try_lock(&self, owner: u64, bytes: Range<u64>, mode: LockMode) -> bool {
        let mut held = self.held();
        if conflict(&held, owner, &bytes, mode) {
            return false;
        }
        self.take(&mut held, owner, bytes, mode);
        true
    }

    /// Takes the lock, waiting until no other owner holds a conflicting one.
    pub(super) fn lock(&self, owner: u64, bytes: Range<u64>, mode: LockMode) {
        let mut held = self
            .eased
            .wait_while(self.held(), |held| conflict(held, owner, &bytes, mode))
            .unwrap_or_else(PoisonError::into_inner);
        self.take(&mut held, owner, bytes, mode);
    }

    /// Releases the owner's locks on these bytes.
    pub(super) fn unlock(&self, owner: u64, bytes: &Range<u64>) {
        split_ranges(&mut self.held(), owner, bytes);
        self.eased.notify_all();
    }

    /// Releases all locks of the owner.
    pub(super) fn unlock_all(&self, owner: u64) {
        self.held().retain(|h| h.owner != owner);
        self.eased.notify_all();
    }

    /// Returns whether another owner holds a conflicting lock.
    pub(super) fn is_locked(&self, owner: u64, bytes: &Range<u64>, mode: LockMode) -> bool {
        conflict(&self.held(), owner, bytes, mode)
    }

    fn take(&self, held: &mut Vec<HeldLock>, owner: u64, bytes: Range<u64>, mode: LockMode) {
        split_ranges(held, owner, &bytes);
        held.push(HeldLock { owner, bytes, mode });
        if mode == LockMode::Shared {
            self.eased.notify_all();
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<HeldLock>> {
        // No code panics between two states of the table.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn conflict(held: &[HeldLock], owner: u64, bytes: &Range<u64>, mode: LockMode) -> bool {
    let exclusive = |h: &HeldLock| mode == LockMode::Exclusive || h.mode == LockMode::Exclusive;
    held.iter().any(|h| h.owner != owner && overlap(&h.bytes, bytes) && exclusive(h))
}

/// Removes `bytes` from the owner's locks, splitting those that extend beyond them.
fn split_ranges(held: &mut Vec<HeldLock>, owner: u64, bytes: &Range<u64>) {
    let mut rest = Vec::new();
    held.retain(|h| {
        if h.owner != owner || !overlap(&h.bytes, bytes) {
            return true;
        }
        for part in [h.bytes.start..bytes.start, bytes.end..h.bytes.end] {
            if part.start < part.end {
                rest.push(HeldLock { owner, bytes: part, mode: h.mode });
            }
        }
        false
    });
    held.append(&mut rest);
}
