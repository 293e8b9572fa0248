//! What a write transaction knows of one table's keys: where the newest version of each key it touched lies, what was
//! replaced, and what was deleted.
//!
//! New rows are of two kinds. *Written* ones lie in the chunks already, behind the applied length, and have their number;
//! *staged* ones lie in memory and get theirs when the transaction commits, or when a bulk load writes them. Written rows
//! come first, so no staged row is older than a written one.

use hashbrown::HashTable;
use pongo_core::ids::RowId;

use crate::undo::Log;

/// A row that the next version of its key replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Base {
    pub(crate) row: RowId,
    /// Whether the row has still to die for that.
    pub(crate) alive: bool,
}

/// What a transaction did to one key. Either part is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Touched {
    pub(crate) hash: u64,
    /// The key's row among the staged ones; if there is none, the key has the row in `base` if that is alive, or none.
    pub(crate) staged: Option<usize>,
    pub(crate) base: Option<Base>,
}

/// Where a key was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spot {
    /// This transaction put or deleted it.
    Touched(Touched),
    /// In a row that this transaction wrote in bulk.
    Written(RowId),
    /// In a row from before, the last one it had: alive or dead.
    Applied(Base),
    /// Nowhere.
    Nowhere,
}

/// A change to [`Keys`]: what was there, what came in its place.
#[derive(Clone, Copy, Debug)]
enum Step {
    Touched { before: Option<Touched>, now: Option<Touched> },
    Written { hash: u64, before: Option<RowId>, now: Option<RowId> },
}

/// A place to come back to with [`Keys::rewind`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeysMark {
    steps: usize,
    resolved: u64,
    previous: usize,
    deaths: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) touched: HashTable<Touched>,
    /// The newest written row of each key that was written in bulk, as far as `resolved` says.
    pub(crate) written: HashTable<RowId>,
    /// How many of the written rows were compared with the others.
    pub(crate) resolved: u64,
    /// Pairs of a row and the one it replaced.
    pub(crate) previous: Vec<(RowId, RowId)>,
    pub(crate) deaths: Vec<RowId>,
    log: Log<Step>,
}

impl Keys {
    /// Whether the transaction put, deleted or loaded nothing, as far as `resolved` says.
    pub(crate) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.written.is_empty()
    }

    /// Notes what was done to a key that was found at `spot`.
    pub(crate) fn touch(&mut self, spot: Spot, now: Touched) {
        let before = match spot {
            Spot::Touched(before) => Some(before),
            Spot::Written(row) => {
                // From now on the key is a touched one.
                self.swap_written(now.hash, Some(row), None, |_| unreachable!("nothing is added"));
                self.log.note(|| Step::Written { hash: now.hash, before: Some(row), now: None });
                None
            }
            Spot::Applied(_) | Spot::Nowhere => None,
        };
        self.change_touched(before, Some(now));
    }

    /// Forgets a key that was put and deleted again, and had no row before.
    pub(crate) fn forget(&mut self, touched: Touched) {
        self.change_touched(Some(touched), None);
    }

    /// The staged row of the key with this hash has another place now.
    pub(crate) fn move_staged(&mut self, hash: u64, from: usize, to: usize) {
        if let Some(&before) = self.touched.find(hash, |known| known.staged == Some(from)) {
            self.change_touched(Some(before), Some(Touched { staged: Some(to), ..before }));
        }
    }

    fn change_touched(&mut self, before: Option<Touched>, now: Option<Touched>) {
        self.swap_touched(before, now);
        self.log.note(|| Step::Touched { before, now });
    }

    /// Puts `to`, of the same key, in the place of `from`.
    fn swap_touched(&mut self, from: Option<Touched>, to: Option<Touched>) {
        match (from, to) {
            (Some(from), Some(to)) => match self.touched.find_mut(from.hash, |known| *known == from) {
                Some(place) => *place = to,
                None => self.swap_touched(None, Some(to)),
            },
            (Some(from), None) => {
                if let Ok(entry) = self.touched.find_entry(from.hash, |known| *known == from) {
                    entry.remove();
                }
            }
            (None, Some(to)) => {
                self.touched.insert_unique(to.hash, to, |known| known.hash);
            }
            (None, None) => {}
        }
    }

    fn swap_written(
        &mut self,
        hash: u64,
        from: Option<RowId>,
        to: Option<RowId>,
        hash_of: impl Fn(RowId) -> u64,
    ) {
        match (from, to) {
            (Some(from), Some(to)) => {
                if let Some(place) = self.written.find_mut(hash, |known| *known == from) {
                    *place = to;
                }
            }
            (Some(from), None) => {
                if let Ok(entry) = self.written.find_entry(hash, |known| *known == from) {
                    entry.remove();
                }
            }
            (None, Some(to)) => {
                self.written.insert_unique(hash, to, |known| hash_of(*known));
            }
            (None, None) => {}
        }
    }

    /// A place to come back to.
    pub(crate) fn mark(&mut self) -> KeysMark {
        KeysMark {
            steps: self.log.keep(),
            resolved: self.resolved,
            previous: self.previous.len(),
            deaths: self.deaths.len(),
        }
    }

    /// Takes back what was done since a mark. `hash_of` knows all rows that were written, those given up too.
    pub(crate) fn rewind(&mut self, mark: KeysMark, hash_of: impl Fn(RowId) -> u64) {
        while let Some(step) = self.log.pop_to(mark.steps) {
            match step {
                Step::Touched { before, now } => self.swap_touched(now, before),
                Step::Written { hash, before, now } => self.swap_written(hash, now, before, &hash_of),
            }
        }
        self.resolved = mark.resolved;
        self.previous.truncate(mark.previous);
        self.deaths.truncate(mark.deaths);
    }

    /// How many rows of before, which end at `first`, were live and are gone with their keys.
    pub(crate) fn deleted<E>(
        &self,
        first: u64,
        was_live: impl Fn(RowId) -> Result<bool, E>,
    ) -> Result<u64, E> {
        let gone =
            |touched: &&Touched| touched.staged.is_none() && touched.base.is_some_and(|base| !base.alive);
        let mut sorted = Vec::new();
        let mut deleted = 0;
        for touched in self.touched.iter().filter(gone) {
            let Some(mut base) = touched.base.map(|base| base.row) else { continue };
            if base.0 >= first && sorted.is_empty() {
                sorted.clone_from(&self.previous);
                sorted.sort_unstable();
            }
            // Down to the row of before that the first own version replaced, if it did one.
            while base.0 >= first {
                let Ok(at) = sorted.binary_search_by_key(&base, |&(row, _)| row) else { break };
                base = sorted[at].1;
            }
            deleted += u64::from(base.0 < first && was_live(base)?);
        }
        Ok(deleted)
    }

    /// No mark is left.
    pub(crate) fn forget_marks(&mut self) {
        self.log.end();
    }

    /// The next version of a key is there, or the key is deleted: the last one dies. Returns what the next one replaces.
    pub(crate) fn bury(&mut self, base: Option<Base>) -> Option<Base> {
        let base = base?;
        if base.alive {
            self.deaths.push(base.row);
        }
        Some(Base { alive: false, ..base })
    }

    /// Row `row`, which was written in bulk, has a key that was found at `spot`.
    pub(crate) fn note_written(&mut self, spot: Spot, hash: u64, row: RowId, hash_of: impl Fn(RowId) -> u64) {
        let base = match spot {
            Spot::Touched(touched) => touched.base,
            Spot::Written(row) => Some(Base { row, alive: true }),
            Spot::Applied(base) => Some(base),
            Spot::Nowhere => None,
        };
        if let Some(base) = self.bury(base) {
            self.previous.push((row, base.row));
        }
        match spot {
            Spot::Touched(touched) => {
                let now = Touched { staged: None, base: Some(Base { row, alive: true }), ..touched };
                self.touch(spot, now);
            }
            Spot::Written(_) | Spot::Applied(_) | Spot::Nowhere => {
                let before = match spot {
                    Spot::Written(before) => Some(before),
                    _ => None,
                };
                self.swap_written(hash, before, Some(row), hash_of);
                self.log.note(|| Step::Written { hash, before, now: Some(row) });
            }
        }
    }

    /// The staged rows get their numbers: what they replace is noted, and from now on they are rows like others.
    pub(crate) fn settle(&mut self, number: impl Fn(usize) -> RowId) {
        let Self { touched, previous, log, .. } = self;
        for touched in touched.iter_mut() {
            let before = *touched;
            let Some(place) = touched.staged.take() else { continue };
            let row = number(place);
            if let Some(base) = touched.base {
                previous.push((row, base.row));
            }
            touched.base = Some(Base { row, alive: true });
            log.note(|| Step::Touched { before: Some(before), now: Some(*touched) });
        }
    }
}

/// Whether some hash occurs twice. Sorted in parts that fit the processor's cache: some 20 ns a hash, and as much memory as
/// they take themselves.
pub(crate) fn has_twins(hashes: &[u64]) -> bool {
    /// Hashes of one part, on average.
    const PART: usize = 4096;
    let bits = (hashes.len() / PART).next_power_of_two().trailing_zeros();
    if bits == 0 {
        return sorted_has_twins(&mut hashes.to_vec());
    }
    let part_of = |hash: u64| (hash >> (64 - bits)) as usize;
    let mut ends = vec![0_usize; 1 << bits];
    for &hash in hashes {
        ends[part_of(hash)] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += std::mem::replace(end, sum);
    }
    let mut parted = vec![0; hashes.len()];
    for &hash in hashes {
        let place = &mut ends[part_of(hash)];
        parted[*place] = hash;
        *place += 1;
    }
    let mut start = 0;
    ends.iter().any(|&end| {
        let twins = sorted_has_twins(&mut parted[start..end]);
        start = end;
        twins
    })
}

fn sorted_has_twins(hashes: &mut [u64]) -> bool {
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_found_wherever_they_are() {
        let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for len in [0, 1, 2, 4095, 4096, 8192, 100_000_u64] {
            let mut hashes: Vec<u64> = (0..len).map(hash).collect();
            assert!(!has_twins(&hashes), "{len}");
            if len > 1 {
                hashes[len as usize / 3] = hashes[len as usize - 1];
                assert!(has_twins(&hashes), "{len}");
            }
        }
        assert!(has_twins(&[0; 100_000]));
    }

    #[test]
    fn a_key_that_is_put_deleted_and_put_again_replaces_its_row_once() {
        let mut keys = Keys::default();
        let applied = Base { row: RowId(3), alive: true };
        let base = keys.bury(Some(applied));
        keys.touch(Spot::Applied(applied), Touched { hash: 9, staged: Some(0), base });
        let spot = Touched { hash: 9, staged: Some(0), base };
        keys.touch(Spot::Touched(spot), Touched { staged: None, ..spot });
        let spot = Touched { staged: None, ..spot };
        assert_eq!(spot.base, Some(Base { row: RowId(3), alive: false }));
        keys.touch(Spot::Touched(spot), Touched { staged: Some(1), ..spot });
        keys.settle(|place| RowId(10 + place as u64));
        assert_eq!((&keys.deaths[..], &keys.previous[..]), (&[RowId(3)][..], &[(RowId(11), RowId(3))][..]));
        assert_eq!(keys.touched.len(), 1);
    }

    #[test]
    fn what_was_done_since_a_mark_is_taken_back() {
        let mut keys = Keys::default();
        let hash_of = |row: RowId| row.0 % 4;
        let first = Touched { hash: 9, staged: Some(0), base: None };
        keys.touch(Spot::Nowhere, first);
        keys.note_written(Spot::Nowhere, 1, RowId(21), hash_of);
        let state = |keys: &Keys| {
            let mut touched: Vec<_> = keys.touched.iter().copied().collect();
            touched.sort_by_key(|touched| touched.hash);
            let mut written: Vec<_> = keys.written.iter().copied().collect();
            written.sort_unstable();
            (touched, written, keys.previous.clone(), keys.deaths.clone(), keys.resolved)
        };
        let before = state(&keys);
        let mark = keys.mark();
        for _ in 0..3 {
            keys.touch(Spot::Nowhere, Touched { hash: 7, staged: Some(1), base: None });
            keys.forget(first);
            keys.move_staged(7, 1, 0);
            keys.note_written(Spot::Written(RowId(21)), 1, RowId(25), hash_of);
            keys.note_written(Spot::Nowhere, 2, RowId(26), hash_of);
            keys.settle(|place| RowId(30 + place as u64));
            keys.resolved = 5;
            assert_ne!(state(&keys), before);
            keys.rewind(mark, hash_of);
            assert_eq!(state(&keys), before);
        }
    }
}
