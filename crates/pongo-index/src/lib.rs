//! The key indexes of PongoDB: they map a key to its row.
//!
//! In reading order:
//!
//! | module | purpose |
//! | --- | --- |
//! | [`encoding`] | keys as bytes whose byte order is the order of the values |
//! | [`hash`] | the hash index: key -> `RowId` for point look-ups, in shared memory-mapped files |
//! | [`ordered`] | the ordered index: keys in order, in blocks that are stored in sled |
//!
//! `docs/design/hash-index.md` describes the hash index's format and proves that its readers need no
//! lock. `docs/design/ordered-index.md` describes the ordered index's format.
#![forbid(unsafe_code)]

pub mod encoding;
pub mod hash;
pub mod ordered;

pub use encoding::{Encoding, after_prefix};
pub use hash::{Candidate, HashError, HashIndex, Identity, KeyHashes, Seen, Stats, Upsert, key_hash};
