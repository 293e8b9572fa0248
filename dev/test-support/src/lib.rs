//! Shared parts of the tests of all crates.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`random`] | reproducible random numbers with a seed that is printed |
//! | [`child`] | starts the test binary again in another role |
//! | [`running`] | a child process that prints lines to its parent |
//! | [`folder`] | copies a folder |
//! | [`wait`] | waits and retries, with limits |
//! | [`bounds`] | bounds of all kinds |
//! | `agent` | a second process that uses the same store and obeys commands |
//! | `workload` | numbered transactions, and a model of their results |
//! | `packed` | unpacks the fixtures of old formats |
//! | `written` | the contents of these fixtures |
//!
//! The last four open stores and need the feature `store`, which makes this crate depend on
//! `pongo`. The others depend on `std` only.

#[cfg(feature = "store")]
pub mod agent;
pub mod bounds;
pub mod child;
pub mod folder;
#[cfg(feature = "store")]
pub mod packed;
pub mod random;
pub mod running;
pub mod wait;
#[cfg(feature = "store")]
pub mod workload;
#[cfg(feature = "store")]
pub mod written;

pub use bounds::bound;
pub use random::{Random, mix};

/// The result of a test, or of a part of one: any error ends the test.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
