//! Checksums of blocks that journal entries since the newest checkpoint reference. The entries state
//! them, so the next checkpoint stores them without reading the blocks.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::ids::TableId;
use crate::space::{BLOCK, parts_of};

/// Checksums of blocks, computed when the blocks were written, by space (`None`: the heap) and
/// first byte.
#[derive(Debug, Default)]
pub(crate) struct BlockSums {
    sums: BTreeMap<(Option<TableId>, u64), u64>,
    referenced: u64,
}

impl BlockSums {
    /// Adds the checksums of a run that an entry references. Partial blocks are left out: their
    /// other bytes have no checksum yet.
    pub(crate) fn note(&mut self, space: Option<TableId>, run: Range<u64>, sums: &[u64]) {
        self.referenced += run.end - run.start;
        let whole = |part: &Range<u64>| part.end - part.start == BLOCK;
        let parts = parts_of(run).zip(sums).filter(|(part, _)| whole(part));
        self.sums.extend(parts.map(|(part, &sum)| ((space, part.start), sum)));
    }

    pub(crate) fn get(&self, space: Option<TableId>, block: u64) -> Option<u64> {
        self.sums.get(&(space, block)).copied()
    }

    /// Returns the number of bytes that entries since the newest checkpoint reference: a recovery
    /// reads them.
    pub(crate) fn referenced(&self) -> u64 {
        self.referenced
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
