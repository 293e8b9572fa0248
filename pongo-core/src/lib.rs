//! The storage layer of PongoDB: storage, chunks, maps, journal, checkpoint, snapshots. It knows
//! rows, but no keys.
//!
//! In reading order: [`ids`] (numbers), [`storage`] (files and maps), `codec`, `superblock` (the
//! location of the newest checkpoint), `journal` (the redo log), `space` (rows and heap in chunk
//! files), `marks` (deletions and previous rows), `mark_checksums` (the checksums of marks at a
//! checkpoint), `heap` (items), `control`, `place` and `snapshot_tracker` (state shared between
//! processes), [`table`], [`snapshot`], [`engine`] (commits, recovery), [`zones`] (bounds of
//! fields, which let scans skip rows), [`predicate`] (conditions on columns), [`order`] (of
//! floats). In addition, the items that the macros implement and emit: [`record`], [`fields`],
//! [`schema`], [`mod@column`], and [`padding`] and [`rows`] (values as bytes).
//!
//! Unsafe code is only in the modules that allow it by name: `storage`,
//! `space::{view, writable_window}` and those of their callers that must uphold their contracts,
//! `arena`, `cast`, `fork`, `heap`, `padding` and `rows`; see `docs/UNSAFE.md`. All other modules
//! forbid it.
//!
//! Programs use the crate `pongo`, which re-exports what they need; the rest of this API is for
//! `pongo` and can change in any release.

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
#[forbid(unsafe_code)]
pub mod zones;

pub use space::Sizes;
pub use superblock::FORMAT_VERSION;

#[doc(hidden)]
#[forbid(unsafe_code)]
pub mod __private;
#[forbid(unsafe_code)]
pub mod column;
#[forbid(unsafe_code)]
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
#[allow(unsafe_code, reason = "views values without padding as bytes")]
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
