//! [`Hidden`] and [`HiddenGroup`]: facts about many pairs at once, so that a reader that sees none
//! of their rows can skip them together.
//!
//! Nothing here is stored: readers record the facts while they read the pairs, and the facts are
//! lost with the memory. So they never contradict the rows.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The rows that a reader sees: those below a length that were not deleted at or before a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadPoint {
    /// The table's length.
    pub len: u64,
    /// The commit.
    pub seq: u64,
}

/// Facts about all rows of some pairs. Once a fact holds it holds permanently, so each one is
/// stored and loaded independently.
#[derive(Debug, Default)]
pub struct Hidden {
    /// The commit by which all rows were deleted; 0 if unknown.
    deleted_by: AtomicU64,
    /// A lower bound of the row numbers; 0 if unknown.
    least_row: AtomicU64,
}

impl Clone for Hidden {
    fn clone(&self) -> Hidden {
        Hidden { deleted_by: self.deleted_by().into(), least_row: self.least_row().into() }
    }
}

impl Hidden {
    /// Returns whether the reader sees none of the rows.
    #[inline]
    #[must_use]
    pub fn is_from(&self, sight: ReadPoint) -> bool {
        let deleted_by = self.deleted_by();
        (deleted_by != 0 && deleted_by <= sight.seq) || self.least_row() >= sight.len
    }

    /// Records that all rows were deleted by this commit. The commit must be published: an
    /// unpublished one may be lost, and its number reused. Returns `true` if this was not known.
    pub fn note_deleted_by(&self, seq: u64) -> bool {
        self.deleted_by.swap(seq, Ordering::Relaxed) == 0 && seq != 0
    }

    /// Records the lowest row number. Returns `true` if it was not known.
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

/// Several [`Hidden`]s, and the facts that hold for all of them together.
#[derive(Debug, Default)]
pub struct HiddenGroup {
    each: Vec<Hidden>,
    all: Hidden,
    /// Number of members whose commit of deletion, and whose lowest row, are known.
    deleted: AtomicU32,
    begun: AtomicU32,
}

impl HiddenGroup {
    /// Creates a group of `len` members about which nothing is known.
    #[must_use]
    pub fn new(len: usize) -> HiddenGroup {
        HiddenGroup::of(vec![Hidden::default(); len])
    }

    /// Creates a group of these members.
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

    /// Returns the facts about one member.
    #[inline]
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&Hidden> {
        self.each.get(i)
    }

    /// Returns whether the reader sees no row of any member.
    #[inline]
    #[must_use]
    pub fn is_from(&self, sight: ReadPoint) -> bool {
        self.all.is_from(sight)
    }

    /// Calls [`Hidden::note_deleted_by`] for one member.
    pub fn note_deleted_by(&self, i: usize, seq: u64) {
        if self.get(i).is_some_and(|one| one.note_deleted_by(seq)) {
            self.deleted.fetch_add(1, Ordering::AcqRel);
            self.sum_deleted();
        }
    }

    /// Calls [`Hidden::note_least_row`] for one member.
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

    /// Returns the bytes of memory that the members take.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.each.capacity() * size_of::<Hidden>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_rows_are_not_hidden() {
        let group = HiddenGroup::new(2);
        let sight = ReadPoint { len: 1, seq: u64::MAX };
        assert!(!group.is_from(sight) && !group.get(0).unwrap().is_from(sight));
        // A reader that sees no row at all sees none of these.
        assert!(group.is_from(ReadPoint { len: 0, seq: 1 }));
    }

    #[test]
    fn group_is_hidden_when_complete() {
        let group = HiddenGroup::new(3);
        let at = |seq| ReadPoint { len: 100, seq };
        group.note_deleted_by(0, 7);
        group.note_deleted_by(2, 5);
        group.note_deleted_by(2, 5);
        assert!(group.get(2).unwrap().is_from(at(5)) && !group.get(2).unwrap().is_from(at(4)));
        assert!(!group.is_from(at(9)));
        group.note_deleted_by(1, 6);
        assert!(group.is_from(at(7)) && !group.is_from(at(6)));

        let group = HiddenGroup::new(2);
        let below = |len| ReadPoint { len, seq: 0 };
        group.note_least_row(1, 20);
        group.note_least_row(1, 20);
        assert!(!group.is_from(below(10)));
        group.note_least_row(0, 30);
        assert!(group.is_from(below(20)) && !group.is_from(below(21)));
    }

    #[test]
    fn new_group_keeps_known_rows() {
        let group = HiddenGroup::new(2);
        group.note_deleted_by(0, 3);
        group.note_deleted_by(1, 4);
        let copy = HiddenGroup::of((0..2).map(|i| group.get(i).unwrap().clone()).collect());
        assert!(copy.is_from(ReadPoint { len: 9, seq: 4 }));
        assert!(!copy.is_from(ReadPoint { len: 9, seq: 3 }));
    }
}
