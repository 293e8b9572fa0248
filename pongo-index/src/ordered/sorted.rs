//! [`Sorted`]: one version of one index, which never changes.

use std::sync::Arc;

use pongo_core::ids::RowId;

use super::block::full_key;
use super::cache::Shared;
use super::directory::{BlockIndex, Directory, Position};
use super::edge::Parts;
use super::{BlockCursor, Edge, IndexId, KeyExtractor, OrderedError, Watermark};

/// One version of one index. It never changes and can be read by any number of threads. Its blocks
/// stay in the store until it is dropped.
#[derive(Debug)]
pub struct Sorted {
    pub(super) id: IndexId,
    pub(super) watermark: Watermark,
    pub(super) directory: Directory,
    pub(super) shared: Arc<Shared>,
}

impl Sorted {
    /// Returns the id of the index.
    #[must_use]
    pub fn id(&self) -> IndexId {
        self.id
    }

    /// Returns the state of the rows of which this version contains every pair.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Returns the number of pairs.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.directory.pairs()
    }

    /// Returns whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a cursor over the pairs after `edge`, in order. Costs a search in memory, reading
    /// one block, and the keys of a few rows where the truncated keys do not decide.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`], [`OrderedError::Store`] or [`OrderedError::Keys`].
    pub fn forward(
        self: &Arc<Self>,
        edge: Edge<'_>,
        keys: &dyn KeyExtractor,
    ) -> Result<BlockCursor, OrderedError> {
        Ok(BlockCursor::new(self.clone(), self.position(edge, keys)?, true))
    }

    /// Returns a cursor over the pairs before `edge`, in reverse order. Costs the same as
    /// [`forward`](Sorted::forward).
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`], [`OrderedError::Store`] or [`OrderedError::Keys`].
    pub fn backward(
        self: &Arc<Self>,
        edge: Edge<'_>,
        keys: &dyn KeyExtractor,
    ) -> Result<BlockCursor, OrderedError> {
        Ok(BlockCursor::new(self.clone(), self.position(edge, keys)?, false))
    }

    /// Returns the number of pairs before `edge`. The difference of two ranks is the number of
    /// pairs between them, including those of deleted rows. Costs the same as
    /// [`forward`](Sorted::forward).
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`], [`OrderedError::Store`] or [`OrderedError::Keys`].
    pub fn rank(&self, edge: Edge<'_>, keys: &dyn KeyExtractor) -> Result<u64, OrderedError> {
        let Position { spot, pair } = self.position(edge, keys)?;
        Ok(self.directory.pairs_before(spot) + pair as u64)
    }

    /// Returns a lower bound of the number of pairs before `edge`, and by how much the number can
    /// exceed it. Uses the directory in memory and reads no block.
    #[must_use]
    pub fn rank_about(&self, edge: Edge<'_>) -> (u64, u64) {
        let behind = self.directory.first_not_before(edge);
        let most = self.directory.pairs_before(behind);
        let least = match self.directory.previous(behind) {
            Some(spot) if !matches!(edge, Edge::End) => self.directory.pairs_before(spot) + 1,
            _ => most,
        };
        (least, most - least)
    }

    pub(super) fn position(&self, edge: Edge<'_>, keys: &dyn KeyExtractor) -> Result<Position, OrderedError> {
        let spot = self.directory.first_not_before(edge);
        let Parts::At(at) = edge.parts() else { return Ok(Position { spot, pair: 0 }) };
        // The previous block may extend beyond the edge.
        let Some(previous) = self.directory.previous(spot) else { return Ok(Position { spot, pair: 0 }) };
        let Some(entry) = self.directory.entry(previous) else { return Ok(Position { spot, pair: 0 }) };
        let leaf = self.shared.leaf(entry)?;
        let pair = leaf.rank(at, keys, &mut Vec::new())?;
        Ok(if pair < leaf.len() { Position { spot: previous, pair } } else { Position { spot, pair: 0 } })
    }

    /// Verifies all blocks: each one exists and has its checksum, its pairs are in order, and its
    /// keys match those of its rows. Costs reading the whole key of every row. `progress` receives
    /// the number of pairs verified so far.
    ///
    /// # Errors
    /// Returns [`OrderedError::Damaged`] for the first inconsistency, [`OrderedError::Store`] or
    /// [`OrderedError::Keys`].
    pub fn verify(&self, keys: &dyn KeyExtractor, progress: &mut dyn FnMut(u64)) -> Result<(), OrderedError> {
        let (mut last, mut key, mut cut) = (None::<(Vec<u8>, u64)>, Vec::new(), Vec::new());
        let mut done = 0;
        for entry in self.directory.iter() {
            let leaf = self.shared.read(entry)?;
            let number = entry.number;
            for i in 0..leaf.len() {
                let row = leaf.row(i);
                if let Some(ahead) = (i + 8 < leaf.len()).then(|| leaf.row(i + 8)) {
                    keys.prefetch(RowId(ahead));
                }
                full_key(keys, row, &mut key)?;
                cut.clear();
                leaf.push_key(i, &mut cut);
                let is_cut_of = super::block::cmp_padded(&key, 0, &cut).is_eq()
                    && (!leaf.is_whole() || key.len() == cut.len());
                if !is_cut_of {
                    return Err(OrderedError::damaged(format!(
                        "pair {i} of block {number} is not the key of row {row}"
                    )));
                }
                if i == 0 && (entry.first_key, entry.first_row) != (&key[..], row) {
                    return Err(OrderedError::damaged(format!(
                        "the directory says otherwise of the first pair of block {number}"
                    )));
                }
                match &mut last {
                    Some((last, last_row)) => {
                        if (last.as_slice(), *last_row) >= (key.as_slice(), row) {
                            return Err(OrderedError::damaged(format!(
                                "pair {i} of block {number}, row {row}, is not after row {last_row}"
                            )));
                        }
                        std::mem::swap(last, &mut key);
                        *last_row = row;
                    }
                    None => last = Some((std::mem::take(&mut key), row)),
                }
            }
            done += leaf.len() as u64;
            progress(done);
        }
        Ok(())
    }

    /// Returns the numbers of all blocks and parts.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let parts = self.directory.parts.iter().map(|part| part.number);
        self.directory.iter().map(|entry| entry.number).chain(parts).collect()
    }

    /// Returns the first block that is wholly after `edge`.
    pub(super) fn first_behind(&self, edge: Edge<'_>) -> BlockIndex {
        self.directory.first_not_before(edge)
    }

    /// Returns the first block that may extend to `edge` or beyond, according to the directory in
    /// memory.
    pub(super) fn first_reaching(&self, edge: Edge<'_>) -> BlockIndex {
        let spot = self.directory.first_not_before(edge);
        self.directory.previous(spot).unwrap_or(spot)
    }
}
