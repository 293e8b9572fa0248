//! The engines, one a module. Each module's documentation says how the engine is set up and why.

pub(crate) mod bare;
pub(crate) mod fjall;
pub(crate) mod lmdb;
pub(crate) mod native_db;
pub(crate) mod pongo;
pub(crate) mod redb;
pub(crate) mod sled;
