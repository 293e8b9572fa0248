//! A hash table for millions of small entries that grows part by part: [`Sharded`].

use hashbrown::HashTable;

/// Entries indexed by their hashes. When a single table grows, the old and the new table are in
/// memory at the same time and take three times the space of the entries. The parts of this table
/// grow one after the other.
#[derive(Debug)]
pub(crate) struct Sharded<E> {
    /// No part, one part, or [`PARTS`] parts.
    parts: Vec<HashTable<E>>,
    len: usize,
}

const PARTS: usize = 64;
/// Number of entries at which the table is split into parts.
const SPLIT: usize = 1 << 16;

impl<E> Default for Sharded<E> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }
}

impl<E> Sharded<E> {
    /// Returns the part for a hash. It is chosen by bits that select no bucket and are not stored
    /// in a bucket's tag.
    fn part_of(&self, hash: u64) -> usize {
        (hash >> 48) as usize & (self.parts.len().max(1) - 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<&E> {
        self.parts.get(self.part_of(hash))?.find(hash, is)
    }

    /// Adds an entry. `hash_of` is called for the hashes of the entries that move.
    pub(crate) fn insert(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) {
        if self.parts.is_empty() {
            self.parts.push(HashTable::new());
        } else if self.len == SPLIT && self.parts.len() == 1 {
            let whole = std::mem::take(&mut self.parts[0]);
            self.parts.resize_with(PARTS, HashTable::new);
            for entry in whole {
                let hash = hash_of(&entry);
                let part = self.part_of(hash);
                self.parts[part].insert_unique(hash, entry, &hash_of);
            }
        }
        let part = self.part_of(hash);
        self.parts[part].insert_unique(hash, entry, &hash_of);
        self.len += 1;
    }

    /// Removes an entry. Returns whether it existed.
    pub(crate) fn remove(&mut self, hash: u64, is: impl FnMut(&E) -> bool) -> bool {
        let part = self.part_of(hash);
        let Some(part) = self.parts.get_mut(part) else { return false };
        match part.find_entry(hash, is) {
            Ok(entry) => {
                entry.remove();
                self.len -= 1;
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> {
        self.parts.iter().flat_map(HashTable::iter)
    }
}

/// Index of a row among those that a transaction wrote, in five bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place([u8; 5]);

impl Place {
    /// Creates the index.
    ///
    /// # Panics
    /// Panics if `place` is 2⁴⁰ or more. This cannot happen: the hashes of that many rows, eight
    /// bytes each, would already be in memory.
    pub(crate) fn new(place: u64) -> Self {
        let bytes = place.to_le_bytes();
        assert!(bytes[5..] == [0; 3], "a transaction writes fewer than 2^40 rows to a table");
        Self([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])
    }

    pub(crate) fn get(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_around_the_split() {
        let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash_of = |place: &Place| hash(place.get());
        let mut table = Sharded::default();
        assert!(table.is_empty() && table.find(3, |_| true).is_none() && !table.remove(3, |_| true));
        let count = 3 * SPLIT as u64;
        for i in 0..count {
            table.insert(hash(i), Place::new(i), hash_of);
            if i % 3 == 0 {
                assert!(table.remove(hash(i), |known| known.get() == i));
            }
        }
        assert_eq!(table.iter().count() as u64, count - count / 3);
        assert_eq!(table.len, table.iter().count());
        for i in 0..count {
            let found = table.find(hash(i), |known| known.get() == i);
            assert_eq!(found.copied(), (i % 3 != 0).then(|| Place::new(i)));
        }
        for i in (0..count).filter(|i| i % 3 != 0) {
            assert!(table.remove(hash(i), |known| known.get() == i));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_place_takes_five_bytes() {
        assert_eq!(size_of::<Place>(), 5);
        for place in [0, 1, 255, 256, (1 << 40) - 1] {
            assert_eq!(Place::new(place).get(), place);
        }
        assert!(std::panic::catch_unwind(|| Place::new(1 << 40)).is_err());
    }
}
