//! The bytes of PongoDB: storage, chunks, maps, journal, checkpoint, snapshots. Knows rows, knows no keys.
//!
//! In reading order: [`ids`] (numbers), [`storage`] (files and maps), `codec`, `superblock` (where the newest checkpoint
//! is), `journal` (the redo log), `space` (rows and heap in chunk files), `marks` (deaths and previous rows), `baseline`
//! (what a checkpoint says of them), `heap` (items), `control` and `pins` (what processes share), [`table`], [`snapshot`], [`engine`] (commits, recovery).
//! Beside them, what the macros implement and emit: [`record`], [`fields`], [`schema`], [`mod@column`].
//!
//! Unsafe code is in `storage`, `space::view` and its callers that promise what it asks, `cast`, `fork` and `heap`; see
//! `docs/UNSAFE.md`.

mod append_vec;
mod baseline;
mod cast;
mod codec;
mod control;
pub mod engine;
pub mod error;
mod fork;
mod heap;
mod journal;
mod marks;
mod pins;
pub mod snapshot;
mod space;
pub mod state;
mod superblock;
pub mod table;

pub use space::Sizes;
pub use superblock::FORMAT_VERSION;

#[doc(hidden)]
pub mod __private;
pub mod column;
pub mod fields;
pub mod ids;
#[doc(hidden)]
pub mod layout;
pub mod record;
pub mod schema;
pub mod storage;
