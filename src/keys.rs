//! What a write transaction knows of one table's keys: where the newest version of each key it touched lies, what was
//! replaced, and what was deleted.
//!
//! New rows are of two kinds. *Written* ones lie in the chunks already, behind the applied length, and have their number;
//! *staged* ones lie in memory and get theirs when the transaction commits, or when a bulk load writes them. Written rows
//! come first, so no staged row is older than a written one.

use hashbrown::HashTable;
use pongo_core::ids::RowId;

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
}

impl Keys {
    /// Notes what was done to a key that was found at `spot`.
    pub(crate) fn touch(&mut self, spot: Spot, now: Touched) {
        if let Spot::Touched(before) = spot
            && let Some(place) = self.touched.find_mut(before.hash, |known| *known == before)
        {
            *place = now;
            return;
        }
        self.touched.insert_unique(now.hash, now, |known| known.hash);
    }

    /// Forgets a key that was put and deleted again, and had no row before.
    pub(crate) fn forget(&mut self, touched: Touched) {
        if let Ok(entry) = self.touched.find_entry(touched.hash, |known| *known == touched) {
            entry.remove();
        }
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
            Spot::Written(before) => {
                if let Some(place) = self.written.find_mut(hash, |known| *known == before) {
                    *place = row;
                }
            }
            Spot::Applied(_) | Spot::Nowhere => {
                self.written.insert_unique(hash, row, |known| hash_of(*known));
            }
        }
    }

    /// The staged rows get their numbers: what they replace is noted, and from now on they are rows like others.
    pub(crate) fn settle(&mut self, number: impl Fn(usize) -> RowId) {
        for touched in self.touched.iter_mut() {
            let Some(place) = touched.staged.take() else { continue };
            let row = number(place);
            if let Some(base) = touched.base {
                self.previous.push((row, base.row));
            }
            touched.base = Some(Base { row, alive: true });
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
}
