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
//!
//! Programs use the crate `pongo`; this API is for `pongo` and can change in any release.
//!
//! # Features
//! - **`rayon`** (off by default): several threads sort the pairs of an ordered index. `pongo`
//!   enables it with its own feature `rayon`.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod encoding;
pub mod hash;
pub mod ordered;

pub use encoding::{Encoding, after_prefix};
pub use hash::{
    Candidate, HashError, HashIndex, HashStats, IndexIdentity, KeyHasher, Seen, Upsert, key_hash,
};
