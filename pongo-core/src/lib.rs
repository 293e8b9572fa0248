//! The storage layer of PongoDB: storage, chunks, maps, journal, checkpoint, snapshots. It knows
//! rows, but no keys.
//!
//! In reading order:
//!
//! | module | purpose |
//! | --- | --- |
//! | [`ids`], [`state`], [`error`] | newtypes for numbers; the content at one `Seq`; error types |
//! | [`storage`] | files, maps and locks: of the file system, or in memory |
//! | `codec`, `superblock` | numbers and checksums; the location of the newest checkpoint |
//! | `journal` | the redo log, in segment files |
//! | `space`, `heap` | rows and heap in chunk files; items of any length |
//! | `marks`, `mark_checksums` | deletions and previous rows; their checksums in a checkpoint |
//! | [`table`] | a table in this process, and at one `Seq` |
//! | `control`, `place`, `snapshot_tracker` | state that processes share; whether they can; pins |
//! | [`snapshot`], [`engine`] | a read state; opening, transactions, commits, recovery |
//! | [`zones`], [`order`] | minima and maxima of fields; the order of floats |
//! | [`predicate`], [`search`] | conditions on columns; arguments of an index search |
//! | [`record`], [`fields`], [`schema`], [`mod@column`] | what the macros implement and emit |
//! | [`padding`], `unpadded`, [`rows`] | values as bytes, with zeros for padding; a list of rows as bytes |
//! | `arena`, `append_vec` | append-only bytes that never move; a list that is read without a lock |
//! | `cast`, `fork`, `lent_heap` | the only unvalidated cast; children of `fork`; the heap for `serde` |
//!
//! Unsafe code is only in the modules that allow it by name: in `storage`, `space`, `table`,
//! `engine`, and in `arena`, `cast`, `fork`, `heap`, `lent_heap`, `rows`, `unpadded` and
//! `fields::maybe`; `docs/UNSAFE.md` lists each use. All other modules forbid it.
//!
//! Programs use the crate `pongo`, which re-exports what they need; the rest of this API is for
//! `pongo` and can change in any release.
//!
//! # Features
//! All are off by default. `pongo` has features of the same names.
//! - **`serde`**: `Serialize` and `Deserialize` for all field types.
//! - **`jiff`**, **`chrono`**: conversions of `Timestamp` from and to the types of these crates.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

#[forbid(unsafe_code)]
mod append_vec;
#[allow(unsafe_code, reason = "lends bytes while others are appended after them")]
mod arena;
#[allow(unsafe_code, reason = "the cast of bytes that were validated")]
mod cast;
#[forbid(unsafe_code)]
mod codec;
#[forbid(unsafe_code)]
mod control;
pub mod engine;
#[forbid(unsafe_code)]
pub mod error;
#[allow(unsafe_code, reason = "system calls, and handlers that run in a child")]
mod fork;
#[allow(unsafe_code, reason = "reads items below the heap's length")]
mod heap;
#[forbid(unsafe_code)]
mod journal;
#[cfg(all(test, loom))]
mod loom_control;
#[forbid(unsafe_code)]
mod mark_checksums;
#[forbid(unsafe_code)]
mod marks;
#[forbid(unsafe_code)]
mod place;
#[forbid(unsafe_code)]
pub mod snapshot;
#[forbid(unsafe_code)]
mod snapshot_tracker;
mod space;
#[forbid(unsafe_code)]
pub mod state;
#[forbid(unsafe_code)]
mod superblock;
pub mod table;
#[doc(hidden)]
#[allow(unsafe_code, reason = "views values without padding as bytes")]
pub mod unpadded;
#[forbid(unsafe_code)]
pub mod zones;

pub use space::Sizes;
pub use superblock::FORMAT_VERSION;

#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod __private;
#[forbid(unsafe_code)]
pub mod column;
pub mod fields;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod guard;
#[forbid(unsafe_code)]
pub mod ids;
#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod layout;
#[cfg(feature = "serde")]
#[allow(unsafe_code, reason = "a reference whose lifetime is a call, lent to the thread that runs the call")]
mod lent_heap;
#[forbid(unsafe_code)]
pub mod order;
#[cfg_attr(not(test), forbid(unsafe_code))]
#[cfg_attr(test, allow(unsafe_code, reason = "makes padding bytes that are not zero"))]
pub mod padding;
#[forbid(unsafe_code)]
pub mod predicate;
#[forbid(unsafe_code)]
pub mod record;
#[allow(unsafe_code, reason = "views rows in memory as bytes and as values")]
pub mod rows;
#[forbid(unsafe_code)]
pub mod schema;
#[forbid(unsafe_code)]
pub mod search;
pub mod storage;
#[doc(hidden)]
pub mod sync;
