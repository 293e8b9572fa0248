//! Byte-range locks of one file inside one process, with the behaviour of the kernel's open-file-description locks.
//!
//! A lock belongs to an owner, which stands for an open file description: owners conflict with each other, never with
//! themselves, and an owner that locks bytes it holds changes their mode in one step. A waiting owner keeps what it has,
//! so two that hold a range shared and both wait for it exclusively wait for ever, as they would in the kernel.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::LockMode;

/// All locks on one file.
#[derive(Default)]
pub(super) struct LockTable {
    held: Mutex<Vec<Held>>,
    /// Notified whenever a lock goes or becomes shared.
    eased: Condvar,
}

struct Held {
    owner: u64,
    bytes: Range<u64>,
    mode: LockMode,
}

impl LockTable {
    /// Takes the lock unless another owner stands in the way.
    pub(super) fn try_lock(&self, owner: u64, bytes: Range<u64>, mode: LockMode) -> bool {
        let mut held = self.held();
        if conflict(&held, owner, &bytes, mode) {
            return false;
        }
        self.take(&mut held, owner, bytes, mode);
        true
    }

    /// Takes the lock when nobody stands in the way any more.
    pub(super) fn lock(&self, owner: u64, bytes: Range<u64>, mode: LockMode) {
        let mut held = self
            .eased
            .wait_while(self.held(), |held| conflict(held, owner, &bytes, mode))
            .unwrap_or_else(PoisonError::into_inner);
        self.take(&mut held, owner, bytes, mode);
    }

    /// Gives up what the owner holds of these bytes.
    pub(super) fn unlock(&self, owner: u64, bytes: &Range<u64>) {
        carve(&mut self.held(), owner, bytes);
        self.eased.notify_all();
    }

    /// Gives up all the owner holds.
    pub(super) fn unlock_all(&self, owner: u64) {
        self.held().retain(|h| h.owner != owner);
        self.eased.notify_all();
    }

    /// Whether another owner stands in the way.
    pub(super) fn is_locked(&self, owner: u64, bytes: &Range<u64>, mode: LockMode) -> bool {
        conflict(&self.held(), owner, bytes, mode)
    }

    fn take(&self, held: &mut Vec<Held>, owner: u64, bytes: Range<u64>, mode: LockMode) {
        carve(held, owner, &bytes);
        held.push(Held { owner, bytes, mode });
        if mode == LockMode::Shared {
            self.eased.notify_all();
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        // Nothing panics between two states of the table.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn conflict(held: &[Held], owner: u64, bytes: &Range<u64>, mode: LockMode) -> bool {
    let exclusive = |h: &Held| mode == LockMode::Exclusive || h.mode == LockMode::Exclusive;
    held.iter().any(|h| h.owner != owner && overlap(&h.bytes, bytes) && exclusive(h))
}

/// Removes `bytes` from the owner's locks, splitting those that reach beyond.
fn carve(held: &mut Vec<Held>, owner: u64, bytes: &Range<u64>) {
    let mut rest = Vec::new();
    held.retain(|h| {
        if h.owner != owner || !overlap(&h.bytes, bytes) {
            return true;
        }
        for part in [h.bytes.start..bytes.start, bytes.end..h.bytes.end] {
            if part.start < part.end {
                rest.push(Held { owner, bytes: part, mode: h.mode });
            }
        }
        false
    });
    held.append(&mut rest);
}
