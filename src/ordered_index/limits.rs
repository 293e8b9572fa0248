//! A range of an index's pairs ([`Limits`]).

use pongo_core::ids::RowId;
use pongo_index::ordered::Edge;

/// An owned pair of key and row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) row: RowId,
}

/// The range of pairs to return: from key `from` on, below key `below`, both encoded as in the
/// index.
#[derive(Clone, Default, Debug)]
pub(crate) struct Limits {
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) below: Option<Vec<u8>>,
    /// Only pairs after this one.
    pub(crate) after: Option<Pair>,
    /// Only pairs before this one.
    pub(crate) before: Option<Pair>,
    /// Excluded key ranges: from the first key of each on, below the second.
    pub(crate) holes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Limits {
    /// Returns the edge at which the range starts.
    pub(super) fn start(&self) -> Edge<'_> {
        match (&self.after, &self.from) {
            (Some(pair), Some(from)) if pair.key < *from => Edge::Before(from),
            (Some(pair), _) => Edge::AfterPair(&pair.key, pair.row),
            (None, Some(from)) => Edge::Before(from),
            (None, None) => Edge::Start,
        }
    }

    /// Returns the edge at which the range ends.
    pub(super) fn end(&self) -> Edge<'_> {
        match (&self.before, &self.below) {
            (Some(pair), Some(below)) if pair.key >= *below => Edge::Before(below),
            (Some(pair), _) => Edge::BeforePair(&pair.key, pair.row),
            (None, Some(below)) => Edge::Before(below),
            (None, None) => Edge::End,
        }
    }

    /// Returns a lower bound of the pairs in the range.
    pub(super) fn first(&self) -> Pair {
        let from = self.from.as_ref().map(|key| Pair { key: key.clone(), row: RowId(0) });
        let after = self.after.as_ref().map(|pair| Pair { key: pair.key.clone(), row: pair.row.next() });
        after.max(from).unwrap_or(Pair { key: Vec::new(), row: RowId(0) })
    }

    /// Returns the pair below which the whole range is, or `None` if it is unbounded.
    pub(super) fn last(&self) -> Option<Pair> {
        let below = self.below.as_ref().map(|key| Pair { key: key.clone(), row: RowId(0) });
        [below, self.before.clone()].into_iter().flatten().min()
    }

    /// Returns whether a pair is in the range.
    pub(crate) fn contain(&self, key: &[u8], row: RowId) -> bool {
        self.start_admits(key, row) && self.end_admits(key, row) && !self.is_in_hole(key)
    }

    #[inline]
    pub(super) fn is_in_hole(&self, key: &[u8]) -> bool {
        self.holes.iter().any(|(first, after)| key >= &first[..] && key < &after[..])
    }

    pub(crate) fn start_admits(&self, key: &[u8], row: RowId) -> bool {
        !self.start().is_behind(key, row)
    }

    #[inline]
    pub(crate) fn end_admits(&self, key: &[u8], row: RowId) -> bool {
        if let Some(before) = &self.before
            && (key, row) >= (&before.key[..], before.row)
        {
            return false;
        }
        self.below.as_ref().is_none_or(|below| key < &below[..])
    }

    /// Returns whether the range is unbounded in this direction.
    pub(super) fn is_open(&self, forward: bool) -> bool {
        if forward {
            self.below.is_none() && self.before.is_none()
        } else {
            self.from.is_none() && self.after.is_none()
        }
    }

    pub(super) fn admits(&self, forward: bool, key: &[u8], row: RowId) -> bool {
        if forward { self.end_admits(key, row) } else { self.start_admits(key, row) }
    }
}
