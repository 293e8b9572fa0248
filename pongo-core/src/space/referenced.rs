//! Checksums of bytes that a journal entry stores by reference: a run of a space has one checksum
//! for each block that it overlaps, over the run's bytes in that block. If the run contains the
//! whole block, this is the block's own checksum.
//!
//! Guarantee: the checksums are computed from the bytes that were passed to the writer, not from
//! bytes that were read back. Bytes that are read back, after a rollback into the middle of a
//! block, are compared with their checksum first.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use super::chunk::{HEADER, sum_of};
use super::{BLOCK, Space};
use crate::codec::hasher;
use crate::error::StorageError;
use crate::guard::holds;

/// Returns the number of blocks that a run overlaps.
pub(crate) fn blocks_of(run: &Range<u64>) -> u64 {
    if run.is_empty() { 0 } else { (run.end - 1) / BLOCK - run.start / BLOCK + 1 }
}

/// Returns the parts of a run, one in each block that it overlaps.
pub(crate) fn parts_of(run: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut from = run.start;
    std::iter::from_fn(move || {
        let to = (from / BLOCK + 1).saturating_mul(BLOCK).min(run.end);
        (from < run.end).then(|| std::mem::replace(&mut from, to)..to)
    })
}

/// Checksums of a run that grows as it is written.
#[derive(Clone)]
pub(crate) struct RunSums {
    /// The bytes that were added.
    run: Range<u64>,
    /// Checksums of the parts in completed blocks.
    sums: Vec<u64>,
    /// The hasher of the part in the last block, unless the run ends at a block boundary.
    last: Option<Box<Xxh3>>,
    /// If the run was cut in the middle of a part: the part's range and checksum before the cut.
    /// Replaces `last`.
    cut: Option<(Range<u64>, u64)>,
}

impl core::fmt::Debug for RunSums {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RunSums").field("run", &self.run).finish_non_exhaustive()
    }
}

impl RunSums {
    /// Creates the checksums of an empty run at `from`.
    pub(crate) fn new(from: u64) -> Self {
        Self { run: from..from, sums: Vec::new(), last: None, cut: None }
    }

    /// Adds the bytes that follow the run. After a cut, [`read_cut`](Self::read_cut) was called
    /// first.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        debug_assert!(self.cut.is_none(), "what was cut is read before it is written over");
        let mut rest = bytes;
        for part in parts_of(self.run.end..self.run.end + bytes.len() as u64) {
            let (now, behind) = rest.split_at((part.end - part.start) as usize);
            rest = behind;
            let ends = part.end.is_multiple_of(BLOCK);
            match &mut self.last {
                // Hashing the whole part in one call is faster.
                None if ends => self.sums.push(sum_of(now)),
                last => {
                    let hasher = last.get_or_insert_with(|| Box::new(hasher()));
                    hasher.update(now);
                    if ends {
                        self.sums.push(hasher.digest());
                        self.last = None;
                    }
                }
            }
            self.run.end = part.end;
        }
    }

    /// Removes the bytes after `end` from the run.
    pub(crate) fn cut(&mut self, end: u64) {
        let end = end.max(self.run.start);
        if end >= self.run.end {
            return;
        }
        let block = end / BLOCK * BLOCK;
        let kept = (end / BLOCK - self.run.start / BLOCK) as usize;
        let start = block.max(self.run.start);
        let known = self.cut.take().filter(|(part, _)| part.start == start);
        self.cut = (start < end).then(|| {
            known.unwrap_or_else(|| {
                let part = start..(block + BLOCK).min(self.run.end);
                let sum = self.sums.get(kept).copied();
                (part, sum.or_else(|| Some(self.last.as_ref()?.digest())).expect("it was added"))
            })
        });
        self.sums.truncate(kept);
        self.last = None;
        self.run.end = end;
    }

    /// Reads the remaining part of the block that was cut. Called before bytes after a cut are
    /// overwritten.
    ///
    /// # Errors
    /// Returns an error if the part cannot be read, or does not match the checksum of what was
    /// written.
    pub(crate) fn read_cut(&mut self, space: &Space) -> Result<(), StorageError> {
        let Some((part, sum)) = self.cut.clone() else { return Ok(()) };
        let bytes = space.read_part(&part)?;
        space.compare_part(&part, sum_of(&bytes), sum)?;
        let mut last = hasher();
        last.update(&bytes[..(self.run.end - part.start) as usize]);
        (self.last, self.cut) = (Some(Box::new(last)), None);
        Ok(())
    }

    /// Returns the checksums, one for each block that the run overlaps.
    pub(crate) fn sums(&self) -> Vec<u64> {
        debug_assert!(self.cut.is_none(), "what was cut is read before the sums are asked for");
        self.sums.iter().copied().chain(self.last.as_ref().map(|last| last.digest())).collect()
    }
}

impl Space {
    /// Returns an error if `found`, the checksum of a part of a block, is not `expected`, the one
    /// that was computed when the part was written.
    fn compare_part(&self, part: &Range<u64>, found: u64, expected: u64) -> Result<(), StorageError> {
        if holds!("cited.checksum", found == expected) {
            return Ok(());
        }
        let (file, offset) = match self.find_chunk(part.start)? {
            Some(chunk) => (chunk.path.clone(), HEADER + part.start - chunk.start),
            None => (self.dir.clone(), part.start),
        };
        Err(StorageError::corrupt(
            file,
            offset,
            format!("{} bytes with checksum {expected:016x}, as they were written", part.end - part.start),
            format!("checksum {found:016x}"),
        ))
    }

    /// Compares bytes that a journal entry stores by reference with their checksums. `sums` has one
    /// for each block that the run overlaps.
    pub(crate) fn compare_run(&self, run: &Range<u64>, sums: &[u64]) -> Result<(), StorageError> {
        debug_assert_eq!(blocks_of(run), sums.len() as u64);
        let mut bytes = vec![0; (run.end - run.start).min(BLOCK) as usize];
        for (part, &expected) in parts_of(run.clone()).zip(sums) {
            let bytes = &mut bytes[..(part.end - part.start) as usize];
            self.read_part_into(part.start, bytes)?;
            self.compare_part(&part, sum_of(bytes), expected)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(bytes: &[u8], from: u64) -> Vec<u64> {
        let run = from..from + bytes.len() as u64;
        parts_of(run)
            .map(|part| sum_of(&bytes[(part.start - from) as usize..(part.end - from) as usize]))
            .collect()
    }

    #[test]
    fn sums_of_pieces_equal_whole() {
        let bytes: Vec<u8> = (0..5 * BLOCK as usize).map(|at| (at * 7 / 3) as u8).collect();
        for from in [0, 8, BLOCK - 1, BLOCK, 3 * BLOCK + 100] {
            for len in [0, 1, 100, BLOCK - 100, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK - 7] {
                for piece in [1009, 4096, BLOCK as usize - 8, BLOCK as usize, 5 * BLOCK as usize] {
                    let bytes = &bytes[..len as usize];
                    let mut sums = RunSums::new(from);
                    bytes.chunks(piece).for_each(|piece| sums.add(piece));
                    let run = from..from + len;
                    assert_eq!(blocks_of(&run), parts_of(run.clone()).count() as u64);
                    assert_eq!(
                        sums.sums(),
                        expected(bytes, from),
                        "{len} bytes at {from} in pieces of {piece}"
                    );
                }
            }
        }
    }
}
