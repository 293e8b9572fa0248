//! Key versions newer than a snapshot: how many versions a look-up follows one by one, and what the
//! ordered index answers beyond that.

use pongo_core::ids::RowId;

/// Maximum number of versions that a look-up follows one by one, from each to its predecessor.
/// After that it queries an ordered index.
pub(crate) const VERSION_PROBE_LIMIT: usize = 64;

/// The answer of an ordered index for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Newest {
    /// The newest row with the key, among the rows below the view's length that are visible to a
    /// reader.
    Row(RowId),
    /// No row that is visible to a reader has the key.
    Nothing,
    /// The index does not cover all of these rows, or its order cannot be trusted.
    Unknown,
}
