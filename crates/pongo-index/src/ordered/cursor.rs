//! [`Cursor`]: rows of one version of an index, in key order or in the opposite one.

use std::sync::Arc;

use pongo_core::ids::RowId;

use super::block::Leaf;
use super::directory::Spot;
use super::sorted::{Position, Sorted};
use super::{Edge, OrderedError};

/// A place in one version of an index, and the way it goes: see [`Sorted::forward`] and [`Sorted::backward`].
///
/// It owns what it needs, so that it can be kept and gone on with at any time.
#[derive(Clone, Debug)]
pub struct Cursor {
    sorted: Arc<Sorted>,
    at: Position,
    forward: bool,
    /// The block at `at.spot`, once it was read.
    leaf: Option<Arc<Leaf>>,
    /// Forward: the first block that is not read. Backward: the last one that is.
    stop: Spot,
}

impl Cursor {
    pub(super) fn new(sorted: Arc<Sorted>, at: Position, forward: bool) -> Cursor {
        let stop = if forward { sorted.directory.end() } else { Spot { part: 0, block: 0 } };
        Cursor { sorted, at, forward, leaf: None, stop }
    }

    /// Reads no block that lies wholly beyond `edge`. Pairs beyond it still come, from the last block: whoever reads the
    /// rows sees them, and compares. Costs a search in memory.
    #[must_use]
    pub fn until(mut self, edge: Edge<'_>) -> Cursor {
        self.stop =
            if self.forward { self.sorted.first_behind(edge) } else { self.sorted.first_reaching(edge) };
        self
    }

    /// The version that it reads.
    #[must_use]
    pub fn sorted(&self) -> &Arc<Sorted> {
        &self.sorted
    }

    /// Appends the next rows, at most `max`: about a nanosecond each, and where a block begins, a look in the cache, or
    /// at the store and a checksum. `false` once none are left; then nothing was appended.
    ///
    /// # Errors
    /// [`OrderedError::Damaged`], [`OrderedError::Store`]. Rows that were appended before are right; the cursor stays
    /// where it was.
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

    /// Takes from one block. `false` if there is none.
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
            let Some(entry) = self.sorted.directory.entry(spot) else { return Ok(false) };
            self.leaf = Some(self.sorted.shared.leaf(entry)?);
            self.at = Position { spot, pair: usize::from(entry.pairs) };
        }
        let Some(leaf) = self.leaf()? else { return Ok(false) };
        let from = self.at.pair.saturating_sub(end - out.len());
        leaf.push_rows(from..self.at.pair, false, out);
        self.at.pair = from;
        Ok(true)
    }

    fn leaf(&mut self) -> Result<Option<Arc<Leaf>>, OrderedError> {
        if self.leaf.is_none() {
            let Some(entry) = self.sorted.directory.entry(self.at.spot) else { return Ok(None) };
            self.leaf = Some(self.sorted.shared.leaf(entry)?);
        }
        Ok(self.leaf.clone())
    }
}
