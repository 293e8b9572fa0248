//! [`Recent`]: sorted pairs of rows that are not in blocks yet, divided into stretches. Readers
//! record which stretches are deleted, so that later readers skip them as a whole.

use pongo_core::ids::RowId;
use pongo_index::ordered::{HiddenGroup, OrderedError, Pairs, ReadPoint, Run};

use super::memory::Reserved;

/// Number of pairs in a stretch, the unit in which pairs are known to be invisible to a reader.
const STRETCH: usize = 128;
/// Number of stretches in a group.
const GROUP: usize = 64;

/// Sorted pairs of a range of the table's rows.
#[derive(Debug)]
pub(crate) struct Recent {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) run: Run,
    hidden: Vec<HiddenGroup>,
    /// Memory reservation, if the run is retained.
    pub(super) reserved: Option<Reserved>,
}

impl Recent {
    /// Wraps pairs that do not cover a range of the table, such as a transaction's own. No
    /// deletions are recorded for them.
    pub(crate) fn of(run: Run) -> Self {
        Self { from: 0, to: 0, run, hidden: Vec::new(), reserved: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.run.len()
    }

    pub(crate) fn pair(&self, place: usize) -> (&[u8], RowId) {
        self.run.get(place)
    }

    /// Returns the index of the first pair that `admits` accepts. `admits` must accept all pairs
    /// after it as well.
    pub(crate) fn first_admitted(&self, admits: impl Fn(&[u8], RowId) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            let (key, row) = self.pair(middle);
            if admits(key, row) {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        from
    }

    /// Sorts the pairs of the rows in `from..to`. Pairs that no reader will need may be missing.
    pub(super) fn new(from: u64, to: u64, pairs: Pairs) -> Self {
        Self::sorted(from, to, pairs.sort())
    }

    fn sorted(from: u64, to: u64, run: Run) -> Self {
        let stretches = run.len().div_ceil(STRETCH);
        let sizes = (0..stretches).step_by(GROUP).map(|first| GROUP.min(stretches - first));
        let hidden: Vec<_> = sizes.map(HiddenGroup::new).collect();
        for stretch in 0..stretches {
            let pairs = stretch * STRETCH..((stretch + 1) * STRETCH).min(run.len());
            let least = pairs.map(|i| run.get(i).1.0).min().unwrap_or(0);
            hidden[stretch / GROUP].note_least_row(stretch % GROUP, least);
        }
        Self { from, to, run, hidden, reserved: None }
    }

    /// Joins several consecutive runs, without the pairs of rows that are `dropped`.
    pub(super) fn join(parts: &[&Self], dropped: impl Fn(u64) -> bool) -> Result<Self, OrderedError> {
        let from = parts.first().map_or(0, |first| first.from);
        let to = parts.last().map_or(from, |last| last.to);
        let run = Run::join(parts.iter().map(|part| &part.run), |row| !dropped(row.0))?;
        Ok(Self::sorted(from, to, run))
    }

    /// Returns the bytes of memory that the pairs take.
    pub(super) fn memory(&self) -> u64 {
        self.run.memory()
    }

    /// Returns the index of the first pair in `at..end` that the reader may see, or `end`. Skips
    /// only whole stretches known to be invisible to the reader.
    pub(super) fn skip(&self, mut at: usize, end: usize, sight: ReadPoint) -> usize {
        while at < end {
            let (group, stretch) = (at / (STRETCH * GROUP), at / STRETCH % GROUP);
            let Some(known) = self.hidden.get(group) else { break };
            if at.is_multiple_of(STRETCH * GROUP) && known.is_from(sight) {
                at += STRETCH * GROUP;
            } else if known.get(stretch).is_some_and(|stretch| stretch.is_from(sight)) {
                at = (at / STRETCH + 1) * STRETCH;
            } else {
                break;
            }
        }
        at.min(end)
    }

    /// Does the same in the opposite direction: returns the end of `at..end` without the invisible
    /// stretches before it.
    pub(super) fn skip_back(&self, at: usize, mut end: usize, sight: ReadPoint) -> usize {
        while at < end {
            let last = end - 1;
            let (group, stretch) = (last / (STRETCH * GROUP), last / STRETCH % GROUP);
            let Some(known) = self.hidden.get(group) else { break };
            let is_whole = end.is_multiple_of(STRETCH * GROUP) || end == self.run.len();
            if is_whole && known.is_from(sight) {
                end = group * STRETCH * GROUP;
            } else if known.get(stretch).is_some_and(|stretch| stretch.is_from(sight)) {
                end = last / STRETCH * STRETCH;
            } else {
                break;
            }
        }
        end.max(at)
    }

    /// Returns whether a stretch starts with this pair, in the given direction.
    fn begins(&self, place: usize, forward: bool) -> bool {
        if forward {
            place.is_multiple_of(STRETCH)
        } else {
            (place + 1).is_multiple_of(STRETCH) || place + 1 == self.run.len()
        }
    }
}

/// State that one reader keeps while it reads a run: the commit by which all pairs of the current
/// stretch so far were deleted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Learning {
    /// Index of the expected next pair, and the commit by which all pairs before it in the stretch
    /// were deleted.
    so_far: Option<(usize, u64)>,
}

impl Learning {
    /// Records that the reader does not see the pair at `place`. `deleted` is the commit that
    /// deleted it, if that is the reason.
    ///
    /// When a whole stretch is known to be deleted, and `is_published` confirms that the commit is
    /// permanent, the stretch is marked for all readers.
    pub(super) fn pass(
        &mut self,
        recent: &Recent,
        place: usize,
        forward: bool,
        deleted: Option<u64>,
        is_published: impl FnOnce(u64) -> bool,
    ) {
        let before = match self.so_far {
            _ if recent.begins(place, forward) => Some(0),
            Some((expected, before)) if expected == place => Some(before),
            _ => None,
        };
        let Some((before, deleted)) = before.zip(deleted) else {
            self.so_far = None;
            return;
        };
        let by = before.max(deleted);
        // The start of a stretch in the opposite direction is its end in this one.
        if recent.begins(place, !forward) {
            if is_published(by) {
                let stretch = place / STRETCH;
                recent.hidden[stretch / GROUP].note_deleted_by(stretch % GROUP, by);
            }
            self.so_far = None;
        } else {
            self.so_far = Some((if forward { place + 1 } else { place - 1 }, by));
        }
    }
}

#[cfg(test)]
mod tests {
    use pongo_core::ids::RowId;

    use super::*;

    /// Returns pairs of `rows` rows in row order.
    fn recent(rows: u64) -> Recent {
        let mut pairs = Pairs::new();
        for row in 0..rows {
            pairs.push(&row.to_be_bytes(), RowId(row)).unwrap();
        }
        Recent::new(0, rows, pairs)
    }

    #[test]
    fn deleted_stretches_are_skipped_later() {
        for rows in [1, 127, 128, 129, 8192, 8193, 30_000_usize] {
            for forward in [true, false] {
                let recent = recent(rows as u64);
                let mut learning = Learning::default();
                let sight = |seq| ReadPoint { len: rows as u64, seq };
                for i in 0..rows {
                    let place = if forward { i } else { rows - 1 - i };
                    learning.pass(&recent, place, forward, Some(1 + place as u64), |_| true);
                }
                let last = rows as u64;
                assert_eq!(recent.skip(0, rows, sight(last)), rows, "{rows}");
                assert_eq!(recent.skip_back(0, rows, sight(last)), 0, "{rows}");
                // A reader that does not see the last deletion skips the stretches before it.
                let seen = recent.skip(0, rows, sight(last - 1));
                assert_eq!(seen, (rows - 1) / STRETCH * STRETCH, "{rows}");
                assert_eq!(recent.skip_back(0, rows, sight(last - 1)), rows, "{rows}");
                assert_eq!(recent.skip(0, rows, sight(0)), 0, "{rows}");
                assert!(seen == 0 || recent.skip(5, rows, sight(last - 1)) == seen, "from the middle");
            }
        }
    }

    #[test]
    fn stretches_with_visible_pairs_stay() {
        let recent = recent(500);
        for (alive, is_published) in [(Some(200), true), (None, false)] {
            for forward in [true, false] {
                let mut learning = Learning::default();
                for i in 128..256 {
                    let place = if forward { i } else { 255 - (i - 128) };
                    if Some(place) != alive {
                        learning.pass(&recent, place, forward, Some(9), |_| is_published);
                    }
                }
                assert_eq!(recent.skip(128, 256, ReadPoint { len: 500, seq: 10 }), 128);
            }
        }
        // Nothing is recorded either for a stretch entered in the middle, or with a pair that is
        // not deleted.
        let mut learning = Learning::default();
        (130..256).for_each(|place| learning.pass(&recent, place, true, Some(9), |_| true));
        (256..384).for_each(|place| {
            learning.pass(&recent, place, true, (place != 300).then_some(9), |_| true);
        });
        assert_eq!(recent.skip(128, 500, ReadPoint { len: 500, seq: 10 }), 128);
        assert_eq!(recent.skip(256, 500, ReadPoint { len: 500, seq: 10 }), 256);
    }

    #[test]
    fn newer_rows_are_skipped() {
        let recent = recent(20_000);
        assert_eq!(recent.skip(0, 20_000, ReadPoint { len: 10_000, seq: 1 }), 0);
        assert_eq!(recent.skip_back(0, 20_000, ReadPoint { len: 10_000, seq: 1 }), 10_112);
        assert_eq!(recent.skip(10_112, 20_000, ReadPoint { len: 10_000, seq: 1 }), 20_000);
    }

    #[test]
    fn joined_runs_have_all_kept_pairs() {
        let mut more = Pairs::new();
        (500..600_u64).for_each(|row| more.push(&(row - 450).to_be_bytes(), RowId(row)).unwrap());
        let joined = Recent::join(&[&recent(500), &Recent::new(500, 600, more)], |row| row % 2 == 0).unwrap();
        assert_eq!((joined.from, joined.to, joined.run.len()), (0, 600, 300));
        assert!(joined.run.iter().all(|(_, row)| row.0 % 2 == 1));
        assert!(joined.run.iter().is_sorted());
    }
}
