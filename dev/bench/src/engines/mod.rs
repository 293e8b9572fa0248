//! The engines, one module each. Each module documents the configuration of its engine and the
//! reasons for it.

#[expect(clippy::disallowed_methods, reason = "measures the syncs of the system")]
pub(crate) mod bare;
pub(crate) mod fjall;
pub(crate) mod lmdb;
pub(crate) mod native_db;
pub(crate) mod pongo;
pub(crate) mod redb;
pub(crate) mod sled;
