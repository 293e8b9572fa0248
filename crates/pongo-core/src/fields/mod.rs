//! What a record's fields can be.
//!
//! Every type here is a run of bytes that means the same in every process: no pointers, no padding, no sizes that
//! depend on the machine.
//!
//! | module | types |
//! | --- | --- |
//! | `plain` | `u8` … `u128`, `i8` … `i128`, `f32`, `f64`, `bool`, `[F; N]` |
//! | [`fixed_str`] | [`FixedStr`]: short text inside the row |
//! | [`timestamp`] | [`Timestamp`]: microseconds since 1970, UTC |
//! | [`uuid`] | [`Uuid`]: 16 bytes |
//! | [`maybe`] | [`Maybe`]: a value that may be missing |
//! | [`heap`] | [`Text`] and [`Blob`]: bytes of any length, in the heap |
//! | [`external`] | what stands in front of a record whose key is not a field of it |
//!
//! Structs and enums of the user's own become field types with `#[pongo::record]`.

pub mod external;
pub mod fixed_str;
pub mod heap;
pub mod maybe;
mod plain;
pub mod timestamp;
pub mod uuid;

pub use external::{ExternalKey, MAX_EXTERNAL_KEY, key_digest};
pub use fixed_str::{FixedStr, FixedStrError};
pub use heap::{Blob, HeapError, HeapRead, Text, content_hash};
pub use maybe::Maybe;
pub use timestamp::Timestamp;
pub use uuid::{Uuid, UuidError};
