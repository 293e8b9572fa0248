//! Reader slots: the `Seq`s that snapshots of all processes pin, and the horizon, which tells a
//! reader that its pin came too late.
//!
//! A process claims one group of slots and holds a lock on it, so that the pins of a process that
//! was killed do not count.

use super::{Control, GROUP_SLOTS, GROUPS, PATH, lock, word};
use crate::error::StorageError;
use crate::guard::{holds, removable};
use crate::ids::Seq;
use crate::storage::LockMode;
use crate::sync::Ordering;

impl Control {
    /// Reserves the space that stores to the words of this group may need; called before one of its
    /// pins is set or cleared. Makes a system call only where stores may need space.
    #[inline]
    pub(crate) fn make_pins_writable(&self, group: usize) -> Result<(), StorageError> {
        if !self.words.stores_may_allocate() {
            return Ok(());
        }
        let first = Self::slot(group, 0);
        self.words
            .make_writable(first..first + GROUP_SLOTS)
            .map_err(StorageError::io("making pages writable of", PATH))
    }

    /// Claims a group of reader slots for this process. Returns `None` if all groups are taken.
    pub(crate) fn claim_group(&self) -> Result<Option<usize>, StorageError> {
        for group in 0..GROUPS {
            let place = lock::GROUPS + group as u64;
            let held = removable!("pin.group", self.presence.try_lock(place, 1, LockMode::Exclusive));
            if held.map_err(StorageError::io("locking", PATH))? {
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
    pub(crate) fn oldest_visible_seq(&self) -> Seq {
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
}

#[cfg(test)]
mod tests {
    use super::super::Entered;
    use super::*;
    use crate::ids::Salt;
    use crate::state::StoreState;
    use crate::storage::MemoryStorage;

    #[test]
    fn what_may_still_be_seen() -> Result<(), StorageError> {
        let storage = MemoryStorage::new();
        let control = Control::open(&storage)?;
        assert_eq!(control.register_process()?, Entered::Solo);
        control.rebuild(1, None, Salt(1));
        control.mark_ready()?;
        let group = control.claim_group()?.expect("all are free");
        assert_eq!(control.oldest_visible_seq(), Seq(0));
        control.publish(&StoreState { seq: Seq(7), ..StoreState::default() });
        assert_eq!((control.oldest_visible_seq(), control.horizon()), (Seq(7), Seq(7)));
        // A reader that read the `Seq` before, and pins now, sees the horizon above it.
        assert!(control.try_pin(group, 3, Seq(5)) && control.horizon() > Seq(5));
        control.unpin(group, 3);
        assert!(control.try_pin(group, 3, Seq(7)));
        control.publish(&StoreState { seq: Seq(9), ..StoreState::default() });
        assert_eq!((control.oldest_visible_seq(), control.horizon()), (Seq(7), Seq(9)));
        // Another process pins, and ends without clearing its pin.
        let other = Control::open(&storage)?;
        assert_eq!(other.register_process()?, Entered::Joined);
        let group_of_other = other.claim_group()?.expect("there are others");
        assert!(other.try_pin(group_of_other, 0, Seq(6)));
        assert_eq!(control.oldest_visible_seq(), Seq(6));
        assert_eq!(other.oldest_visible_seq(), Seq(6));
        other.deregister();
        assert_eq!(control.oldest_visible_seq(), Seq(7));
        control.unpin(group, 3);
        assert_eq!(control.oldest_visible_seq(), Seq(9));
        Ok(())
    }
}
