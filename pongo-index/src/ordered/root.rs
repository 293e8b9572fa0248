//! The roots: a named value that lists a store's indexes. Only what it refers to is valid. See
//! `docs/design/ordered-index.md`.

use pongo_core::guard::holds;
use xxhash_rust::xxh3::xxh3_64;

use super::{IndexId, OrderedError, Watermark};

/// The name under which the roots are stored.
pub(super) const NAME: &[u8] = b"roots";

const MAGIC: u64 = u64::from_le_bytes(*b"PONGOORD");
const VERSION: u64 = 1;

/// The root of one index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct IndexRoot {
    pub(super) id: IndexId,
    pub(super) watermark: Watermark,
    pub(super) pairs: u64,
    /// Number and checksum of each part of the directory.
    pub(super) parts: Vec<(u64, u64)>,
}

/// All of a store's roots.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Roots {
    /// The first unused number of a block or part.
    pub(super) next: u64,
    pub(super) indexes: Vec<IndexRoot>,
    /// Numbers that only older versions refer to.
    pub(super) retired: Vec<u64>,
}

impl Roots {
    pub(super) fn encode(&self) -> Vec<u8> {
        let ranges = ranges(&self.retired);
        let mut words: Vec<u64> =
            vec![MAGIC, VERSION, self.next, self.indexes.len() as u64, ranges.len() as u64];
        for root in &self.indexes {
            let Watermark { store, salt, seq, row, digest } = root.watermark;
            words.extend([root.id.0, store as u64, (store >> 64) as u64, salt, seq, row, digest, root.pairs]);
            words.push(root.parts.len() as u64);
            words.extend(root.parts.iter().flat_map(|&(number, sum)| [number, sum]));
        }
        words.extend(ranges.into_iter().flat_map(|(from, count)| [from, count]));
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Roots, OrderedError> {
        let sum = bytes.split_last_chunk::<8>().map(|(rest, sum)| (xxh3_64(rest), u64::from_le_bytes(*sum)));
        match sum {
            Some((found, expected)) if holds!("ordered.roots.checksum", found == expected) => {}
            _ => {
                return Err(OrderedError::damaged(format!(
                    "the roots ({} bytes) do not have their checksum",
                    bytes.len()
                )));
            }
        }
        Roots::decode(&bytes[..bytes.len() - 8])
            .ok_or_else(|| OrderedError::damaged("the roots contradict themselves or are of another version"))
    }

    fn decode(bytes: &[u8]) -> Option<Roots> {
        let mut words = WordReader(bytes);
        if words.next()? != MAGIC || words.next()? != VERSION {
            return None;
        }
        let next = words.next()?;
        let (indexes, ranges) = (words.next()?, words.next()?);
        let mut roots = Roots { next, ..Roots::default() };
        for _ in 0..indexes {
            let id = IndexId(words.next()?);
            let store = u128::from(words.next()?) | u128::from(words.next()?) << 64;
            let (salt, seq, row, digest) = (words.next()?, words.next()?, words.next()?, words.next()?);
            let pairs = words.next()?;
            let count = words.next()?;
            let mut parts = Vec::new();
            for _ in 0..count {
                let part = (words.next()?, words.next()?);
                if part.0 >= next {
                    return None;
                }
                parts.push(part);
            }
            let watermark = Watermark { store, salt, seq, row, digest };
            roots.indexes.push(IndexRoot { id, watermark, pairs, parts });
        }
        for _ in 0..ranges {
            let (from, count) = (words.next()?, words.next()?);
            // Limited to the numbers that may have been assigned to blocks, so that corrupt input
            // cannot create a list of unbounded size.
            let to = from.checked_add(count).filter(|&to| to <= next && roots.retired.len() < 1 << 28)?;
            if count > 1 << 28 {
                return None;
            }
            roots.retired.extend(from..to);
        }
        words.0.is_empty().then_some(roots)
    }
}

struct WordReader<'a>(&'a [u8]);

impl WordReader<'_> {
    fn next(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }
}

/// Returns the numbers as ranges: the start of each, and its length.
fn ranges(numbers: &[u64]) -> Vec<(u64, u64)> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in sorted {
        match ranges.last_mut() {
            Some((from, count)) if *from + *count == number => *count += 1,
            _ => ranges.push((number, 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Roots {
        let watermark = Watermark { store: 7 << 70, salt: 1, seq: 2, row: 3, digest: 4 };
        let root = |id| IndexRoot { id: IndexId(id), watermark, pairs: 9, parts: vec![(5, 55), (6, 66)] };
        Roots { next: 20, indexes: vec![root(1), root(2)], retired: vec![1, 2, 3, 8, 10, 11] }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Roots::read(&sample().encode()).unwrap(), sample());
        assert_eq!(Roots::read(&Roots::default().encode()).unwrap(), Roots::default());
    }

    #[test]
    fn flips_and_truncations_are_detected() {
        let bytes = sample().encode();
        for at in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(Roots::read(&bytes).is_err(), "bit {at}");
        }
        for len in 0..bytes.len() {
            assert!(Roots::read(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn sealed_contradictions_are_errors() {
        let bytes = sample().encode();
        for word in 0..bytes.len() / 8 - 1 {
            for value in [u64::MAX, 1 << 40, 1 << 63] {
                let mut bytes = bytes[..bytes.len() - 8].to_vec();
                bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
                let sum = xxh3_64(&bytes);
                bytes.extend_from_slice(&sum.to_le_bytes());
                // Returns an error or other numbers, but does not panic or create a list of
                // unbounded size.
                if let Ok(roots) = Roots::read(&bytes) {
                    assert!(roots.retired.len() < 100 && roots.indexes.len() == 2);
                }
            }
        }
    }
}
