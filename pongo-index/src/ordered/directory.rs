//! The directory: an index's blocks in order, with their first pairs and checksums. It is divided
//! into parts of some hundreds of entries, so that a merge that changes few blocks writes few
//! parts, and versions share the others.

use pongo_core::guard::fails;
use xxhash_rust::xxh3::xxh3_64;

use super::edge::{At, Parts};
use super::hidden::{Hidden, HiddenGroup, ReadPoint};
use super::{Edge, OrderedError};

/// Maximum number of entries in a part that is written.
pub(super) const PART_FULL: usize = 256;
/// A part with fewer entries is joined with its neighbour when either is written.
pub(super) const PART_LOW: usize = 64;
/// Maximum bytes of first keys in a part with more than one entry.
const PART_BYTES: usize = 64 << 10;

const HEADER: usize = 8;
const ENTRY: usize = 32;

/// A block's entry in the directory.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The block's number in the store.
    pub(super) number: u64,
    /// xxh3 of the block's bytes.
    pub(super) sum: u64,
    /// The block's first pair.
    pub(super) first_key: Vec<u8>,
    pub(super) first_row: u64,
    pub(super) bytes: u32,
    pub(super) pairs: u16,
    /// Facts recorded by readers; not stored.
    pub(super) hidden: Hidden,
}

/// A borrowed entry, returned by [`Part::entry`].
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryRef<'a> {
    pub(super) number: u64,
    pub(super) sum: u64,
    pub(super) first_key: &'a [u8],
    pub(super) first_row: u64,
    pub(super) bytes: u32,
    pub(super) pairs: u16,
    hidden: Option<&'a Hidden>,
}

impl EntryRef<'_> {
    pub(super) fn to_entry(self) -> Entry {
        let EntryRef { number, sum, first_key, first_row, bytes, pairs, hidden } = self;
        let hidden = hidden.cloned().unwrap_or_default();
        Entry { number, sum, first_key: first_key.to_vec(), first_row, bytes, pairs, hidden }
    }
}

#[derive(Clone, Copy, Debug)]
struct Fixed {
    number: u64,
    sum: u64,
    first_row: u64,
    bytes: u32,
    pairs: u16,
    /// End of the first key in the part's keys.
    key_end: u32,
    /// Number of pairs in the part's preceding blocks.
    before: u64,
}

/// A part of a directory: a run of at least one entry.
#[derive(Debug)]
pub(super) struct Part {
    /// The part's number in the store.
    pub(super) number: u64,
    /// xxh3 of the part's bytes.
    pub(super) sum: u64,
    /// Number of pairs in all blocks of the part.
    pub(super) pairs: u64,
    /// Facts about the part's blocks, recorded by readers.
    pub(super) hidden: HiddenGroup,
    entries: Vec<Fixed>,
    keys: Vec<u8>,
}

impl Part {
    /// Splits entries evenly into as few parts as possible.
    pub(super) fn split(entries: &[Entry]) -> Vec<&[Entry]> {
        let parts = entries.len().div_ceil(PART_FULL);
        let mut all = Vec::with_capacity(parts);
        let mut rest = entries;
        for part in 0..parts {
            let take = rest.len().div_ceil(parts - part);
            let (mut these, others) = rest.split_at(take);
            rest = others;
            while !these.is_empty() {
                let mut bytes = 0;
                let fits = |entry: &&Entry| {
                    bytes += entry.first_key.len();
                    bytes <= PART_BYTES
                };
                let n = these.iter().take_while(fits).count().max(1);
                let (piece, behind) = these.split_at(n);
                all.push(piece);
                these = behind;
            }
        }
        all
    }

    /// Returns the bytes of a part.
    pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        for entry in entries {
            bytes.extend_from_slice(&entry.number.to_le_bytes());
            bytes.extend_from_slice(&entry.sum.to_le_bytes());
            bytes.extend_from_slice(&entry.first_row.to_le_bytes());
            bytes.extend_from_slice(&entry.bytes.to_le_bytes());
            bytes.extend_from_slice(&entry.pairs.to_le_bytes());
            bytes.extend_from_slice(&(entry.first_key.len() as u16).to_le_bytes());
        }
        for entry in entries {
            bytes.extend_from_slice(&entry.first_key);
        }
        bytes
    }

    /// Decodes a part, whose bytes must have the checksum `sum`.
    pub(super) fn read(number: u64, sum: u64, bytes: &[u8]) -> Result<Part, OrderedError> {
        let found = xxh3_64(bytes);
        if fails!("ordered.part.checksum", found != sum) {
            return Err(OrderedError::damaged(format!(
                "directory part {number} has the checksum {found:016x}, expected {sum:016x}"
            )));
        }
        Part::decode(number, sum, bytes)
            .ok_or_else(|| OrderedError::damaged(format!("directory part {number} contradicts itself")))
    }

    fn decode(number: u64, sum: u64, bytes: &[u8]) -> Option<Part> {
        let count = usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()?;
        let fixed = bytes.get(HEADER..HEADER.checked_add(count.checked_mul(ENTRY)?)?)?;
        let keys = bytes[HEADER + fixed.len()..].to_vec();
        let mut part = Part {
            number,
            sum,
            pairs: 0,
            hidden: HiddenGroup::new(count),
            entries: Vec::with_capacity(count),
            keys,
        };
        let mut key_end = 0_u32;
        let (fixed, _) = fixed.as_chunks::<ENTRY>();
        for entry in fixed {
            let word = |at: usize| -> Option<u64> { Some(u64::from_le_bytes(*entry[at..].first_chunk()?)) };
            let sizes = word(24)?;
            let pairs = (sizes >> 32) as u16;
            key_end = key_end.checked_add((sizes >> 48) as u32)?;
            part.entries.push(Fixed {
                number: word(0)?,
                sum: word(8)?,
                first_row: word(16)?,
                bytes: sizes as u32,
                pairs,
                key_end,
                before: part.pairs,
            });
            part.pairs += u64::from(pairs);
        }
        let whole = key_end as usize == part.keys.len() && count > 0;
        let ascending = whole && (1..count).all(|i| part.first(i - 1) < part.first(i));
        (ascending && part.entries.iter().all(|entry| entry.pairs > 0)).then_some(part)
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the first pair of the `i`th block.
    pub(super) fn first(&self, i: usize) -> (&[u8], u64) {
        let start = if i == 0 { 0 } else { self.entries[i - 1].key_end };
        let entry = &self.entries[i];
        (&self.keys[start as usize..entry.key_end as usize], entry.first_row)
    }

    /// Returns the entry of the `i`th block.
    pub(super) fn entry(&self, i: usize) -> EntryRef<'_> {
        let (first_key, first_row) = self.first(i);
        let Fixed { number, sum, bytes, pairs, .. } = self.entries[i];
        EntryRef { number, sum, first_key, first_row, bytes, pairs, hidden: self.hidden.get(i) }
    }

    /// Returns the number of pairs in the blocks before the `i`th one, within this part.
    pub(super) fn pairs_before(&self, i: usize) -> u64 {
        self.entries.get(i).map_or(self.pairs, |entry| entry.before)
    }

    /// Returns the bytes of memory that the part takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Part>()
            + self.entries.capacity() * size_of::<Fixed>()
            + self.keys.capacity()
            + self.hidden.memory()
    }

    /// Returns the number of blocks whose first pair is before `at`.
    fn rank(&self, at: At<'_>) -> usize {
        self.partition(|first| before(first, at))
    }

    fn partition(&self, before: impl Fn((&[u8], u64)) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if before(self.first(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[inline]
fn before((key, row): (&[u8], u64), at: At<'_>) -> bool {
    // The first eight bytes nearly always decide.
    if let (Some(a), Some(b)) = (key.first_chunk::<8>(), at.key.first_chunk::<8>())
        && a != b
    {
        return u64::from_be_bytes(*a) < u64::from_be_bytes(*b);
    }
    match key.cmp(at.key) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => at.rows_before(row),
        std::cmp::Ordering::Greater => false,
    }
}

/// Position of a block in the directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct BlockIndex {
    pub(super) part: usize,
    pub(super) block: usize,
}

/// A position between two pairs: after all pairs of the blocks before `spot` and the first `pair`
/// pairs of that block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    pub(super) spot: BlockIndex,
    pub(super) pair: usize,
}

/// All parts of an index, in order.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) parts: Vec<std::sync::Arc<Part>>,
    /// For each part, the number of pairs in the parts before it.
    before: Vec<u64>,
    pairs: u64,
}

impl Directory {
    /// Creates a directory from parts.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`] if the parts are not in ascending order.
    pub(super) fn new(parts: Vec<std::sync::Arc<Part>>) -> Result<Directory, OrderedError> {
        if let Some(two) = parts.windows(2).find(|two| two[0].first(two[0].len() - 1) >= two[1].first(0)) {
            return Err(OrderedError::damaged(format!(
                "directory part {} is not after part {}",
                two[1].number, two[0].number
            )));
        }
        let mut pairs = 0;
        let mut before = Vec::with_capacity(parts.len());
        for part in &parts {
            before.push(pairs);
            pairs += part.pairs;
        }
        Ok(Directory { parts, before, pairs })
    }

    pub(super) fn pairs(&self) -> u64 {
        self.pairs
    }

    /// Returns the number of pairs before a block.
    pub(super) fn pairs_before(&self, spot: BlockIndex) -> u64 {
        match self.parts.get(spot.part) {
            Some(part) => self.before[spot.part] + part.pairs_before(spot.block),
            None => self.pairs,
        }
    }

    pub(super) fn entry(&self, spot: BlockIndex) -> Option<EntryRef<'_>> {
        let part = self.parts.get(spot.part)?;
        (spot.block < part.len()).then(|| part.entry(spot.block))
    }

    /// Returns whether a reader is known to see no row of a block.
    #[inline]
    pub(super) fn is_hidden_from(&self, spot: BlockIndex, sight: ReadPoint) -> bool {
        let block = self.parts.get(spot.part).and_then(|part| part.hidden.get(spot.block));
        block.is_some_and(|block| block.is_from(sight))
    }

    /// Returns the position after this block, which must exist.
    pub(super) fn next(&self, spot: BlockIndex) -> BlockIndex {
        if spot.block + 1 < self.parts[spot.part].len() {
            BlockIndex { part: spot.part, block: spot.block + 1 }
        } else {
            BlockIndex { part: spot.part + 1, block: 0 }
        }
    }

    /// Returns the position of the previous block.
    pub(super) fn previous(&self, spot: BlockIndex) -> Option<BlockIndex> {
        if spot.block > 0 {
            return Some(BlockIndex { part: spot.part, block: spot.block - 1 });
        }
        let part = spot.part.checked_sub(1)?;
        Some(BlockIndex { part, block: self.parts[part].len() - 1 })
    }

    /// Returns the position of the pair before a position.
    pub(super) fn pair_before(&self, Position { spot, pair }: Position) -> Option<Position> {
        match pair.checked_sub(1) {
            Some(pair) => Some(Position { spot, pair }),
            None => {
                let spot = self.previous(spot)?;
                Some(Position { spot, pair: usize::from(self.entry(spot)?.pairs).checked_sub(1)? })
            }
        }
    }

    /// Returns the position after the last block.
    pub(super) fn end(&self) -> BlockIndex {
        BlockIndex { part: self.parts.len(), block: 0 }
    }

    /// Returns the first block whose first pair is not before the edge.
    pub(super) fn first_not_before(&self, edge: Edge<'_>) -> BlockIndex {
        let at = match edge.parts() {
            Parts::Start => return BlockIndex { part: 0, block: 0 },
            Parts::End => return self.end(),
            Parts::At(at) => at,
        };
        let behind = self.parts.partition_point(|part| before(part.first(0), at));
        let Some(part) = behind.checked_sub(1) else { return BlockIndex { part: 0, block: 0 } };
        let block = self.parts[part].rank(at);
        if block < self.parts[part].len() {
            BlockIndex { part, block }
        } else {
            BlockIndex { part: behind, block: 0 }
        }
    }

    /// Returns an iterator over all entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> {
        self.parts.iter().flat_map(|part| (0..part.len()).map(|i| part.entry(i)))
    }

    pub(super) fn memory(&self) -> usize {
        self.parts.iter().map(|part| part.memory() + size_of::<usize>() * 2).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_and_truncations_are_detected() {
        let entry = |number: u64, key: &[u8]| Entry {
            number,
            sum: number * 3,
            first_key: key.to_vec(),
            first_row: number + 7,
            bytes: 900,
            pairs: 40,
            hidden: Hidden::default(),
        };
        let bytes = Part::encode(&[entry(4, b"apple"), entry(5, b"fig"), entry(9, b"pear")]);
        let sum = xxh3_64(&bytes);
        assert_eq!(Part::read(1, sum, &bytes).unwrap().len(), 3);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Part::read(1, sum, &bytes).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Part::read(1, sum, &bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
