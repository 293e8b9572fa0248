//! The types that a record's fields can have.
//!
//! Every type here is a sequence of bytes with the same meaning in every process: no pointers, no
//! padding, no machine-dependent sizes.
//!
//! | module | types |
//! | --- | --- |
//! | `plain` | `u8` … `i128`, `NonZeroU8` … `NonZeroI128`, `f32`, `f64`, `bool`, `char`, `[F; N]` |
//! | [`fixed_str`] | [`FixedStr`]: short text inside the row |
//! | [`timestamp`], `timestamp_text` | [`Timestamp`]: microseconds since 1970, UTC; RFC 3339 |
//! | [`uuid`] | [`Uuid`]: 16 bytes |
//! | [`maybe`] | [`Maybe`]: a value that may be absent |
//! | [`heap`] | [`Text`] and [`Blob`]: bytes of any length, in the heap |
//! | [`external`] | the fields before a record with an external key |
//! | `conversions` | from and to types of `jiff` and `chrono`, with these features |
//! | `serde` | (de)serialization of all types, with the feature `serde` |
//!
//! `#[pongo::record]` makes a user's structs and enums field types.

#[cfg(any(feature = "jiff", feature = "chrono"))]
#[forbid(unsafe_code)]
mod conversions;
#[forbid(unsafe_code)]
pub mod external;
#[forbid(unsafe_code)]
pub mod fixed_str;
#[forbid(unsafe_code)]
pub mod heap;
#[allow(unsafe_code, reason = "claims that a `Maybe` has one field, and that a cell has no padding")]
pub mod maybe;
#[forbid(unsafe_code)]
mod plain;
#[cfg(feature = "serde")]
#[forbid(unsafe_code)]
pub mod serde;
#[forbid(unsafe_code)]
pub mod timestamp;
#[forbid(unsafe_code)]
mod timestamp_text;
#[forbid(unsafe_code)]
pub mod uuid;

#[cfg(any(feature = "jiff", feature = "chrono"))]
pub use conversions::TimestampRangeError;
pub use external::{ExternalKey, MAX_EXTERNAL_KEY, key_digest};
pub use fixed_str::{FixedStr, FixedStrError};
pub use heap::{Blob, HeapError, HeapRead, Text, content_hash};
pub use maybe::Maybe;
pub use timestamp::Timestamp;
pub use timestamp_text::TimestampError;
pub use uuid::{Uuid, UuidError};
