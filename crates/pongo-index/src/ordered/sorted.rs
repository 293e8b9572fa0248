//! [`Sorted`]: one version of one index, which never changes.

use std::sync::Arc;

use pongo_core::ids::RowId;

use super::block::full_key;
use super::cache::Shared;
use super::directory::{Directory, Spot};
use super::edge::Parts;
use super::{Cursor, Edge, FullKeys, IndexId, OrderedError, Watermark};

/// One version of one index. It never changes, may be read by any number of threads, and its blocks stay in the store
/// for as long as it lives.
#[derive(Debug)]
pub struct Sorted {
    pub(super) id: IndexId,
    pub(super) watermark: Watermark,
    pub(super) directory: Directory,
    pub(super) shared: Arc<Shared>,
}

/// A place between two pairs: the pairs before it are those of the blocks before `spot`, and `pair` of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    pub(super) spot: Spot,
    pub(super) pair: usize,
}

impl Sorted {
    /// Which index this is.
    #[must_use]
    pub fn id(&self) -> IndexId {
        self.id
    }

    /// The state of the rows of which this has every pair.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// How many pairs it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.directory.pairs()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs behind `edge`, in order. Costs a search in memory and one block, and the keys of a few rows where the
    /// block does not tell.
    ///
    /// # Errors
    /// [`OrderedError::Damaged`], [`OrderedError::Store`], [`OrderedError::Keys`].
    pub fn forward(self: &Arc<Self>, edge: Edge<'_>, keys: &dyn FullKeys) -> Result<Cursor, OrderedError> {
        Ok(Cursor::new(self.clone(), self.position(edge, keys)?, true))
    }

    /// The pairs before `edge`, in the opposite order. Costs what [`forward`](Sorted::forward) costs.
    ///
    /// # Errors
    /// [`OrderedError::Damaged`], [`OrderedError::Store`], [`OrderedError::Keys`].
    pub fn backward(self: &Arc<Self>, edge: Edge<'_>, keys: &dyn FullKeys) -> Result<Cursor, OrderedError> {
        Ok(Cursor::new(self.clone(), self.position(edge, keys)?, false))
    }

    /// How many pairs lie before `edge`: the difference of two is the number of pairs between them, dead ones included.
    /// Costs what [`forward`](Sorted::forward) costs.
    ///
    /// # Errors
    /// [`OrderedError::Damaged`], [`OrderedError::Store`], [`OrderedError::Keys`].
    pub fn rank(&self, edge: Edge<'_>, keys: &dyn FullKeys) -> Result<u64, OrderedError> {
        let Position { spot, pair } = self.position(edge, keys)?;
        Ok(self.directory.pairs_before(spot) + pair as u64)
    }

    /// How many pairs lie before `edge`, and how far that can be off: what memory knows, without reading a block.
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

    pub(super) fn position(&self, edge: Edge<'_>, keys: &dyn FullKeys) -> Result<Position, OrderedError> {
        let spot = self.directory.first_not_before(edge);
        let Parts::At(at) = edge.parts() else { return Ok(Position { spot, pair: 0 }) };
        // The block before may go on beyond the edge.
        let Some(previous) = self.directory.previous(spot) else { return Ok(Position { spot, pair: 0 }) };
        let Some(entry) = self.directory.entry(previous) else { return Ok(Position { spot, pair: 0 }) };
        let leaf = self.shared.leaf(entry)?;
        let pair = leaf.rank(at, keys, &mut Vec::new())?;
        Ok(if pair < leaf.len() { Position { spot: previous, pair } } else { Position { spot, pair: 0 } })
    }

    /// Walks through all blocks: that each one is there and has its checksum, that its pairs are in order and its keys
    /// those of its rows. Costs the whole key of every row. `progress` is told how many pairs were looked at.
    ///
    /// # Errors
    /// [`OrderedError::Damaged`] with the first thing that is wrong.
    pub fn verify(&self, keys: &dyn FullKeys, progress: &mut dyn FnMut(u64)) -> Result<(), OrderedError> {
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
                                "pair {i} of block {number}, row {row}, does not lie behind row {last_row}"
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

    /// Numbers of all blocks and parts.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let parts = self.directory.parts.iter().map(|part| part.number);
        self.directory.iter().map(|entry| entry.number).chain(parts).collect()
    }

    /// The spot of the first block that lies wholly behind `edge`.
    pub(super) fn first_behind(&self, edge: Edge<'_>) -> Spot {
        self.directory.first_not_before(edge)
    }

    /// The spot of the first block that does not lie wholly before `edge`, as far as memory knows.
    pub(super) fn first_reaching(&self, edge: Edge<'_>) -> Spot {
        let spot = self.directory.first_not_before(edge);
        self.directory.previous(spot).unwrap_or(spot)
    }
}
