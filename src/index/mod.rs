//! Hash indexes over the rows of a table: the key, and unique values.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`hash`] | the [`Indexer`](pongo_core::engine::Indexer) that the engine calls at a commit; rebuilding |
//! | [`unique`] | unique indexes: entries, look-ups, and enforcement at a commit |
//! | [`key_ranges`] | the location of keys and unique values in rows |
//! | [`versions`] | look-up of versions of a row |
//! | [`error`] | conversion of index errors into engine errors |

pub(crate) mod error;
pub(crate) mod hash;
pub(crate) mod key_ranges;
pub(crate) mod unique;
pub(crate) mod versions;
