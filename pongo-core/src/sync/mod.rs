//! Atomics: those of `std`, or, in a build with `--cfg loom`, ones whose accesses a model checker
//! observes.
//!
//! The modelled code (`control`, `snapshot_tracker`, the words of a map, the hash index) imports
//! its atomics and fences from here. In a normal build these are re-exports from `std`, so the code
//! is identical. With `--cfg loom` they are those of `modelled`, and `model` explores the schedules
//! and the stale values that the memory model allows. `docs/design/testing.md` lists the models.

#[cfg(loom)]
#[allow(unsafe_code, reason = "reads a word of a run that is registered")]
mod explore;
#[cfg(loom)]
#[allow(unsafe_code, reason = "a record of accesses that threads share")]
mod modelled;

#[cfg(loom)]
pub use explore::{Access, Explored, Site, model, threads, with_orders, without_each};
#[cfg(loom)]
pub use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
pub use modelled::{AtomicU32, AtomicU64, OnceLock, Plain, fence};
pub use std::sync::atomic::Ordering;
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, fence};
#[cfg(not(loom))]
pub use std::sync::{Mutex, MutexGuard, OnceLock};

#[cfg(loom)]
pub(crate) use explore::register;
