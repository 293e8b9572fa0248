//! [`Edge`]: a position between two pairs.

use std::cmp::Ordering;

use pongo_core::ids::RowId;

/// A position between two pairs, or before or after all of them. A forward cursor returns the pairs
/// after it, a backward cursor those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge<'a> {
    /// Before all pairs.
    Start,
    /// After all pairs.
    End,
    /// Before the first pair with this key or a higher one.
    Before(&'a [u8]),
    /// After the last pair with this key or a lower one.
    After(&'a [u8]),
    /// Before this pair, whether or not it exists.
    BeforePair(&'a [u8], RowId),
    /// After this pair, whether or not it exists.
    AfterPair(&'a [u8], RowId),
}

impl<'a> Edge<'a> {
    /// Returns whether the edge is after the pair.
    #[must_use]
    pub fn is_behind(self, key: &[u8], row: RowId) -> bool {
        match self.parts() {
            Parts::Start => false,
            Parts::End => true,
            Parts::At(at) => match key.cmp(at.key) {
                Ordering::Less => true,
                Ordering::Equal => at.rows_before(row.0),
                Ordering::Greater => false,
            },
        }
    }

    pub(super) fn parts(self) -> Parts<'a> {
        let (key, below) = match self {
            Edge::Start => return Parts::Start,
            Edge::End => return Parts::End,
            Edge::Before(key) => (key, 0),
            Edge::After(key) => (key, 1 << 64),
            Edge::BeforePair(key, row) => (key, u128::from(row.0)),
            Edge::AfterPair(key, row) => (key, u128::from(row.0) + 1),
        };
        Parts::At(At { key, below })
    }
}

/// An edge in a form that is easier to compare.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parts<'a> {
    Start,
    End,
    At(At<'a>),
}

/// The position after all pairs with a lower key, and after those with this key and a row below
/// `below`.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) key: &'a [u8],
    pub(super) below: u128,
}

impl At<'_> {
    #[inline]
    pub(super) fn rows_before(&self, row: u64) -> bool {
        u128::from(row) < self.below
    }
}
