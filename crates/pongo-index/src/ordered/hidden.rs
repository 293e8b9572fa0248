//! [`Hidden`]: what is known of many pairs together, so that a reader who sees none of their rows skips them at once.
//!
//! Nothing here is stored: it is learned by readers who go through the pairs, and is lost with the memory it lies in. So it can
//! never claim more than the rows say.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What a reader sees: rows below a length that were not deleted at or before a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sight {
    /// The table's length.
    pub len: u64,
    /// The commit.
    pub seq: u64,
}

/// What is known of all rows of some pairs. Facts that hold for ever, once they hold: so each is stored and loaded by itself.
#[derive(Debug, Default)]
pub struct Hidden {
    /// By this commit all of them were deleted; 0: not known.
    deleted_by: AtomicU64,
    /// None lies below this one; 0: not known.
    least_row: AtomicU64,
}

impl Clone for Hidden {
    fn clone(&self) -> Hidden {
        Hidden { deleted_by: self.deleted_by().into(), least_row: self.least_row().into() }
    }
}

impl Hidden {
    /// Whether the reader sees none of the rows.
    #[inline]
    #[must_use]
    pub fn is_from(&self, sight: Sight) -> bool {
        let deleted_by = self.deleted_by();
        (deleted_by != 0 && deleted_by <= sight.seq) || self.least_row() >= sight.len
    }

    /// Notes that all of the rows were deleted by this commit, which was published: one that was not may be lost, and its number
    /// used again. Returns `true` if that was not known.
    pub fn note_deleted_by(&self, seq: u64) -> bool {
        self.deleted_by.swap(seq, Ordering::Relaxed) == 0 && seq != 0
    }

    /// Notes the lowest of the rows. Returns `true` if it was not known.
    pub fn note_least_row(&self, row: u64) -> bool {
        self.least_row.swap(row, Ordering::Relaxed) == 0 && row != 0
    }

    #[inline]
    fn deleted_by(&self) -> u64 {
        self.deleted_by.load(Ordering::Relaxed)
    }

    #[inline]
    fn least_row(&self) -> u64 {
        self.least_row.load(Ordering::Relaxed)
    }
}

/// Several [`Hidden`]s, and what follows for all of them together.
#[derive(Debug, Default)]
pub struct HiddenGroup {
    each: Vec<Hidden>,
    all: Hidden,
    /// Of how many it is known by when they were deleted, and where they begin.
    deleted: AtomicU32,
    begun: AtomicU32,
}

impl HiddenGroup {
    /// So many, of which nothing is known.
    #[must_use]
    pub fn new(len: usize) -> HiddenGroup {
        HiddenGroup::of(vec![Hidden::default(); len])
    }

    /// These.
    #[must_use]
    pub fn of(each: Vec<Hidden>) -> HiddenGroup {
        let known = |is_known: fn(&Hidden) -> bool| each.iter().filter(|one| is_known(one)).count() as u32;
        let deleted = known(|one| one.deleted_by() != 0).into();
        let begun = known(|one| one.least_row() != 0).into();
        let group = HiddenGroup { each, all: Hidden::default(), deleted, begun };
        group.sum_deleted();
        group.sum_begun();
        group
    }

    /// What is known of one.
    #[inline]
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&Hidden> {
        self.each.get(i)
    }

    /// Whether the reader sees no row of any.
    #[inline]
    #[must_use]
    pub fn is_from(&self, sight: Sight) -> bool {
        self.all.is_from(sight)
    }

    /// [`Hidden::note_deleted_by`] for one of them.
    pub fn note_deleted_by(&self, i: usize, seq: u64) {
        if self.get(i).is_some_and(|one| one.note_deleted_by(seq)) {
            self.deleted.fetch_add(1, Ordering::AcqRel);
            self.sum_deleted();
        }
    }

    /// [`Hidden::note_least_row`] for one of them.
    pub fn note_least_row(&self, i: usize, row: u64) {
        if self.get(i).is_some_and(|one| one.least_row() == 0 && one.note_least_row(row)) {
            self.begun.fetch_add(1, Ordering::AcqRel);
            self.sum_begun();
        }
    }

    fn sum_deleted(&self) {
        if self.deleted.load(Ordering::Acquire) as usize == self.each.len()
            && let Some(last) = self.each.iter().map(Hidden::deleted_by).max()
        {
            self.all.note_deleted_by(last);
        }
    }

    fn sum_begun(&self) {
        if self.begun.load(Ordering::Acquire) as usize == self.each.len()
            && let Some(least) = self.each.iter().map(Hidden::least_row).min()
        {
            self.all.note_least_row(least);
        }
    }

    /// Memory that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.each.capacity() * size_of::<Hidden>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_hidden_of_which_nothing_is_known() {
        let group = HiddenGroup::new(2);
        let sight = Sight { len: 1, seq: u64::MAX };
        assert!(!group.is_from(sight) && !group.get(0).unwrap().is_from(sight));
        // Who sees no row at all sees none of these.
        assert!(group.is_from(Sight { len: 0, seq: 1 }));
    }

    #[test]
    fn a_group_is_hidden_once_all_of_it_is_known_to_be() {
        let group = HiddenGroup::new(3);
        let at = |seq| Sight { len: 100, seq };
        group.note_deleted_by(0, 7);
        group.note_deleted_by(2, 5);
        group.note_deleted_by(2, 5);
        assert!(group.get(2).unwrap().is_from(at(5)) && !group.get(2).unwrap().is_from(at(4)));
        assert!(!group.is_from(at(9)));
        group.note_deleted_by(1, 6);
        assert!(group.is_from(at(7)) && !group.is_from(at(6)));

        let group = HiddenGroup::new(2);
        let below = |len| Sight { len, seq: 0 };
        group.note_least_row(1, 20);
        group.note_least_row(1, 20);
        assert!(!group.is_from(below(10)));
        group.note_least_row(0, 30);
        assert!(group.is_from(below(20)) && !group.is_from(below(21)));
    }

    #[test]
    fn what_was_known_is_known_in_a_new_group() {
        let group = HiddenGroup::new(2);
        group.note_deleted_by(0, 3);
        group.note_deleted_by(1, 4);
        let copy = HiddenGroup::of((0..2).map(|i| group.get(i).unwrap().clone()).collect());
        assert!(copy.is_from(Sight { len: 9, seq: 4 }));
        assert!(!copy.is_from(Sight { len: 9, seq: 3 }));
    }
}
