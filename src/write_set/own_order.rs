//! A transaction's own rows in index order ([`OwnOrder`]).

use std::sync::Arc;

use crate::ordered_index::{Passed, Recent};

/// Own rows sorted by one index, as far as they were queried.
#[derive(Debug)]
pub(crate) struct OwnOrder {
    pub(crate) fields: Vec<usize>,
    /// Sorted runs, older and larger ones first, each with the part of it that may still contain
    /// valid pairs.
    pub(crate) runs: Vec<(Arc<Recent>, std::ops::Range<usize>)>,
    /// Number of own rows that the runs cover.
    pub(crate) upto: u64,
    /// Rows below `upto` that were changed or moved since.
    pub(crate) pending: Vec<u64>,
    /// Pairs from before that this transaction removed, for each direction: index 1 is forward, 0
    /// backward.
    pub(crate) passed: [Option<Passed>; 2],
}

impl OwnOrder {
    /// Creates the order of an index over these fields, without rows.
    pub(crate) fn new(fields: Vec<usize>) -> Self {
        Self { fields, runs: Vec::new(), upto: 0, pending: Vec::new(), passed: [None, None] }
    }

    /// Records that the own row at this index changed or was replaced by another one.
    pub(crate) fn note_changed(&mut self, place: u64) {
        if place < self.upto {
            self.pending.push(place);
        }
    }

    /// Records that only `count` own rows are left.
    pub(crate) fn note_count(&mut self, count: u64) {
        self.upto = self.upto.min(count);
    }
}
