//! Atomics: std's, except in a build with `--cfg loom`, where a model checker sees every access.
//!
//! What the models are about (`control`, `pins`, the words of a map, the hash index) takes its atomics and
//! fences from here. In a usual build these are std's own, under another path: the code is the same to the letter. With
//! `--cfg loom` they are those of `modelled`, and `model` tries the schedules and the old values that the memory model
//! allows. `docs/LOOM.md` says which models there are and what they found.

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
