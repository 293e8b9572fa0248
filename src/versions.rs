//! Versions of a key that are newer than a snapshot: how far a look-up follows them one by one, and what the ordered index
//! answers beyond that.

use pongo_core::ids::RowId;

/// The number of versions that a look-up follows one by one, each to the one before it. Beyond that it asks an ordered index.
pub(crate) const NEAR: usize = 64;

/// The answer of an ordered index for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Newest {
    /// The newest row below the view's length that has the key, among those that a reader may still see.
    Row(RowId),
    /// No row that a reader may see has the key.
    Nothing,
    /// The index is not sorted that far, or its order cannot be trusted.
    Unknown,
}
