//! The decoded pairs of the blocks that a merge rewrites: the known bytes of their keys, and their
//! rows.

use std::cmp::Ordering;

use pongo_core::ids::RowId;

use super::block::{Item, Leaf, cmp_padded, full_key};
use super::edge::At;
use super::{KeyExtractor, OrderedError};

/// If at least one in this many neighbours is ambiguous, all keys are read from the rows and
/// truncated again.
const MAX_AMBIGUOUS: usize = 8;

/// Pairs in order, of one block or of several consecutive ones.
#[derive(Debug, Default)]
pub(super) struct MergeBuffer {
    keys: Vec<u8>,
    ends: Vec<usize>,
    rows: Vec<u64>,
    /// Whether the keys are whole; otherwise all are truncated to `depth`, or padded with zeros up
    /// to it.
    whole: bool,
    depth: usize,
    /// Maximum number of neighbours that the truncated keys do not distinguish.
    ambiguous: usize,
}

impl MergeBuffer {
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.ends.clear();
        self.rows.clear();
        (self.whole, self.depth, self.ambiguous) = (true, usize::MAX, 0);
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the number of known bytes of each key, or `None` if the keys are whole.
    pub(super) fn known(&self) -> Option<usize> {
        (!self.whole).then_some(self.depth)
    }

    pub(super) fn ambiguous(&self) -> usize {
        self.ambiguous
    }

    pub(super) fn key(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.keys[start..self.ends[i]]
    }

    /// Adds the pairs of the next block, without those whose rows are to be dropped.
    pub(super) fn extend_from(&mut self, leaf: &Leaf, drop: &(dyn Fn(RowId) -> bool + Sync)) {
        let before = self.len();
        for i in 0..leaf.len() {
            let row = leaf.row(i);
            if !drop(RowId(row)) {
                leaf.push_key(i, &mut self.keys);
                self.ends.push(self.keys.len());
                self.rows.push(row);
            }
        }
        self.ambiguous += leaf.ambiguous();
        if leaf.is_whole() && self.whole {
            return;
        }
        let depth = if leaf.is_whole() { self.depth } else { self.depth.min(leaf.depth()) };
        let all_at_depth = !leaf.is_whole() && leaf.depth() == depth && (before == 0 || self.depth == depth);
        (self.whole, self.depth) = (false, depth);
        if !all_at_depth {
            self.cut();
        }
    }

    /// Truncates the keys to `depth`, or pads them with zeros up to it.
    fn cut(&mut self) {
        let mut keys = Vec::with_capacity(self.len() * self.depth);
        for i in 0..self.len() {
            let key = self.key(i);
            keys.extend_from_slice(&key[..key.len().min(self.depth)]);
            keys.resize((i + 1) * self.depth, 0);
        }
        for (i, end) in self.ends.iter_mut().enumerate() {
            *end = (i + 1) * self.depth;
        }
        self.keys = keys;
    }

    /// Reads all keys from the rows, if too many truncated keys are ambiguous.
    pub(super) fn load_full_keys(&mut self, keys: &dyn KeyExtractor) -> Result<(), OrderedError> {
        if self.whole || self.ambiguous <= self.len() / MAX_AMBIGUOUS {
            return Ok(());
        }
        let (mut key, mut all) = (Vec::new(), Vec::with_capacity(self.keys.len()));
        for i in 0..self.len() {
            if let Some(&ahead) = self.rows.get(i + 8) {
                keys.prefetch(RowId(ahead));
            }
            full_key(keys, self.rows[i], &mut key)?;
            all.extend_from_slice(&key);
            self.ends[i] = all.len();
        }
        self.keys = all;
        (self.whole, self.ambiguous) = (true, 0);
        Ok(())
    }

    /// Returns the number of pairs before (`key`, `row`), and whether the search found a row with
    /// an equal key. The first `from` pairs must be before it.
    pub(super) fn before(
        &self,
        from: usize,
        key: &[u8],
        row: u64,
        keys: &dyn KeyExtractor,
        scratch: &mut Vec<u8>,
    ) -> Result<(usize, bool), OrderedError> {
        let at = At { key, below: u128::from(row) };
        let (mut low, mut high, mut met) = (from, self.len(), false);
        while low < high {
            let middle = low.midpoint(high);
            let mut order = if self.whole {
                self.key(middle).cmp(key)
            } else {
                cmp_padded(key, 0, self.key(middle)).reverse()
            };
            if order == Ordering::Equal && !self.whole {
                full_key(keys, self.rows[middle], scratch)?;
                order = scratch.as_slice().cmp(key);
            }
            met |= order == Ordering::Equal;
            let before = match order {
                Ordering::Less => true,
                Ordering::Equal => at.rows_before(self.rows[middle]),
                Ordering::Greater => false,
            };
            if before { low = middle + 1 } else { high = middle }
        }
        Ok((low, met))
    }

    pub(super) fn item(&self, i: usize) -> Item<'_> {
        Item { key: self.key(i), row: self.rows[i], is_truncated: !self.whole, same: false }
    }
}
