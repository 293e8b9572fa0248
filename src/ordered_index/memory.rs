//! [`Memory`]: the memory budget for the sorted rows of a store's ordered indexes in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A budget in bytes, shared by all indexes of a store.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    used: AtomicU64,
}

/// Bytes reserved in a [`Memory`], released on drop.
#[derive(Debug)]
pub(super) struct Reserved {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`, if at most `most` bytes are then in use. Returns `None` otherwise.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64, most: u64) -> Option<Reserved> {
        let more = |used: u64| used.checked_add(bytes).filter(|&used| used <= most.min(self.limit));
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Reserved { memory: Arc::clone(self), bytes })
    }
}

impl Reserved {
    /// Sets the reservation to the number of bytes in use, which is usually smaller.
    pub(super) fn set(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.memory.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.memory.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let memory = Memory::new(100);
        let mut one = memory.reserve(60, 80).unwrap();
        assert!(memory.reserve(21, 80).is_none() && memory.reserve(u64::MAX, u64::MAX).is_none());
        let two = memory.reserve(40, 200).unwrap();
        assert!(memory.reserve(1, 200).is_none());
        one.set(10);
        assert_eq!((memory.used(), one.bytes), (50, 10));
        one.set(30);
        drop(two);
        assert_eq!(memory.used(), 30);
        drop(one);
        assert_eq!(memory.used(), 0);
    }
}
