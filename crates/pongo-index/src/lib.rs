//! The keys of PongoDB: how a key finds its row.
//!
//! In reading order:
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`encoding`] | keys as bytes that are compared byte by byte |
//! | [`hash`] | the hash index: key -> `RowId` for point look-ups, memory-mapped and shared by processes |
//! | [`ordered`] | the ordered index: keys in order, in blocks that lie in sled |
//!
//! The hash index's format and the proof that its readers need no lock are in `docs/HASH.md`, the ordered index's format in
//! `docs/ORDERED.md`.
#![forbid(unsafe_code)]

pub mod encoding;
pub mod hash;
pub mod ordered;

pub use encoding::{Encoding, after_prefix};
pub use hash::{Candidate, HashError, HashIndex, Identity, KeyHashes, Seen, Stats, Upsert, key_hash};
