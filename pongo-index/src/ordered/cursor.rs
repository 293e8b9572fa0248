//! [`BlockCursor`]: rows of one version of an index, in key order or in reverse key order.

use std::sync::Arc;

use pongo_core::ids::RowId;

use super::block::Leaf;
use super::directory::{BlockIndex, Position};
use super::hidden::ReadPoint;
use super::sorted::Sorted;
use super::{Edge, KeyExtractor, OrderedError};

/// A position in one version of an index, with a direction: see [`Sorted::forward`] and
/// [`Sorted::backward`].
///
/// It owns what it needs, so it can be kept and used at any time.
#[derive(Clone, Debug)]
pub struct BlockCursor {
    sorted: Arc<Sorted>,
    at: Position,
    forward: bool,
    /// The block at `at.spot`, once it was read.
    leaf: Option<Arc<Leaf>>,
    /// Forward: the first block that is not read. Backward: the last block that is read.
    stop: BlockIndex,
}

/// Which pairs of which block [`BlockCursor::fill_block`] has returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    spot: BlockIndex,
    /// Whether they start at the block's first pair, in the cursor's direction.
    pub from_start: bool,
    /// Whether they continue to the block's last pair, in the cursor's direction.
    pub to_end: bool,
}

impl BlockCursor {
    pub(super) fn new(sorted: Arc<Sorted>, at: Position, forward: bool) -> BlockCursor {
        let stop = if forward { sorted.directory.end() } else { BlockIndex { part: 0, block: 0 } };
        BlockCursor { sorted, at, forward, leaf: None, stop }
    }

    /// Limits the cursor to blocks that are not wholly beyond `edge`. The last block may still
    /// return pairs beyond it; the caller compares the keys of the rows. Costs a search in memory.
    #[must_use]
    pub fn until(mut self, edge: Edge<'_>) -> BlockCursor {
        self.stop =
            if self.forward { self.sorted.first_behind(edge) } else { self.sorted.first_reaching(edge) };
        self
    }

    /// Returns the version that the cursor reads.
    #[must_use]
    pub fn sorted(&self) -> &Arc<Sorted> {
        &self.sorted
    }

    /// Appends the next rows, at most `max`. Returns `false` if none are left; then nothing was
    /// appended. Costs about a nanosecond per row, and for each block a cache lookup, or a read
    /// from the store and a checksum.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`] or [`OrderedError::Store`]. Rows that were appended before
    /// are correct; the cursor stays where it was.
    pub fn fill(&mut self, out: &mut Vec<RowId>, max: usize) -> Result<bool, OrderedError> {
        let before = out.len();
        let end = before + max;
        while out.len() < end {
            let more = if self.forward { self.forward(out, end)? } else { self.backward(out, end)? };
            if !more {
                break;
            }
        }
        Ok(out.len() > before)
    }

    /// Appends the next rows of one block, at most `max`. Skips blocks in which `sight` is known to
    /// see no row, at about a nanosecond each, and parts of the directory that contain only such
    /// blocks. Returns `None` if no pairs are left.
    ///
    /// # Errors
    /// Returns the same errors as [`fill`](BlockCursor::fill).
    pub fn fill_block(
        &mut self,
        out: &mut Vec<RowId>,
        max: usize,
        sight: ReadPoint,
    ) -> Result<Option<Taken>, OrderedError> {
        let from_start = if self.forward { self.skip_forward(sight) } else { self.skip_backward(sight) };
        let before = out.len();
        let end = before + max.max(1);
        let spot = if self.forward || !from_start {
            self.at.spot
        } else {
            // The first step moves to the previous block.
            self.sorted.directory.previous(self.at.spot).unwrap_or(self.at.spot)
        };
        let more = if self.forward { self.forward(out, end)? } else { self.backward(out, end)? };
        if !more {
            return Ok(None);
        }
        let to_end = if self.forward { self.at.spot != spot } else { self.at.pair == 0 };
        Ok(Some(Taken { spot, from_start, to_end }))
    }

    /// Records that all rows of the block that `taken` refers to were deleted by a published
    /// commit. Readers that see that commit skip the block from now on.
    pub fn note_deleted_by(&self, taken: Taken, seq: u64) {
        if let Some(part) = self.sorted.directory.parts.get(taken.spot.part) {
            part.hidden.note_deleted_by(taken.spot.block, seq);
        }
    }

    /// Skips versions of one key, of which a reader sees at most one: the newest whose row is below
    /// `row`. Moves to that pair, or, if the cursor is past it, to the end of the key's pairs. The
    /// last returned pair must have this key. Costs one or two searches.
    ///
    /// # Errors
    /// Returns the same errors as [`Sorted::forward`].
    pub fn jump(&mut self, key: &[u8], row: RowId, keys: &dyn KeyExtractor) -> Result<(), OrderedError> {
        let sorted = &self.sorted;
        let behind = sorted.position(Edge::BeforePair(key, row), keys)?;
        let to = if self.forward {
            match sorted.directory.pair_before(behind) {
                Some(newest) if newest >= self.at => newest,
                _ => sorted.position(Edge::After(key), keys)?.max(self.at),
            }
        } else if self.at >= behind {
            behind
        } else {
            sorted.position(Edge::Before(key), keys)?.min(self.at)
        };
        if to.spot != self.at.spot {
            self.leaf = None;
        }
        self.at = to;
        Ok(())
    }

    /// Skips blocks that `sight` does not see. Returns whether the cursor is at the start of a
    /// block.
    fn skip_forward(&mut self, sight: ReadPoint) -> bool {
        let directory = &self.sorted.directory;
        if self.at.pair > 0 {
            if self.at.spot >= self.stop || !directory.is_hidden_from(self.at.spot, sight) {
                return false;
            }
            (self.at, self.leaf) = (Position { spot: directory.next(self.at.spot), pair: 0 }, None);
        }
        while self.at.spot < self.stop
            && let Some(part) = directory.parts.get(self.at.spot.part)
        {
            let behind = BlockIndex { part: self.at.spot.part + 1, block: 0 };
            if self.at.spot.block == 0 && behind <= self.stop && part.hidden.is_from(sight) {
                self.at.spot = behind;
            } else if directory.is_hidden_from(self.at.spot, sight) {
                self.at.spot = directory.next(self.at.spot);
            } else {
                break;
            }
            self.leaf = None;
        }
        true
    }

    /// Does the same in the opposite direction: the cursor is at the end of the block that comes
    /// next.
    fn skip_backward(&mut self, sight: ReadPoint) -> bool {
        let directory = &self.sorted.directory;
        if self.at.pair > 0 {
            if !directory.is_hidden_from(self.at.spot, sight) {
                return false;
            }
            (self.at.pair, self.leaf) = (0, None);
        }
        while let Some(spot) = directory.previous(self.at.spot)
            && spot >= self.stop
            && let Some(part) = directory.parts.get(spot.part)
        {
            let first = BlockIndex { part: spot.part, block: 0 };
            if spot.block + 1 == part.len() && first >= self.stop && part.hidden.is_from(sight) {
                self.at.spot = first;
            } else if directory.is_hidden_from(spot, sight) {
                self.at.spot = spot;
            } else {
                break;
            }
            self.leaf = None;
        }
        true
    }

    /// Takes rows from one block. Returns `false` if none is left.
    fn forward(&mut self, out: &mut Vec<RowId>, end: usize) -> Result<bool, OrderedError> {
        if self.at.spot >= self.stop {
            return Ok(false);
        }
        let Some(leaf) = self.leaf()? else { return Ok(false) };
        let to = leaf.len().min(self.at.pair + (end - out.len()));
        leaf.push_rows(self.at.pair..to, true, out);
        self.at.pair = to;
        if to == leaf.len() {
            self.at = Position { spot: self.sorted.directory.next(self.at.spot), pair: 0 };
            self.leaf = None;
        }
        Ok(true)
    }

    fn backward(&mut self, out: &mut Vec<RowId>, end: usize) -> Result<bool, OrderedError> {
        if self.at.pair == 0 {
            let Some(spot) = self.sorted.directory.previous(self.at.spot) else { return Ok(false) };
            if spot < self.stop {
                return Ok(false);
            }
            let Some(leaf) = self.read(spot)? else { return Ok(false) };
            self.at = Position { spot, pair: leaf.len() };
            self.leaf = Some(leaf);
        }
        let Some(leaf) = self.leaf()? else { return Ok(false) };
        let from = self.at.pair.saturating_sub(end - out.len());
        leaf.push_rows(from..self.at.pair, false, out);
        self.at.pair = from;
        Ok(true)
    }

    fn leaf(&mut self) -> Result<Option<Arc<Leaf>>, OrderedError> {
        if self.leaf.is_none() {
            self.leaf = self.read(self.at.spot)?;
        }
        Ok(self.leaf.clone())
    }

    fn read(&self, spot: BlockIndex) -> Result<Option<Arc<Leaf>>, OrderedError> {
        let Some(part) = self.sorted.directory.parts.get(spot.part) else { return Ok(None) };
        let Some(entry) = self.sorted.directory.entry(spot) else { return Ok(None) };
        let leaf = self.sorted.shared.leaf(entry)?;
        part.hidden.note_least_row(spot.block, leaf.least_row());
        Ok(Some(leaf))
    }
}
