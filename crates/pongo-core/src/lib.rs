//! The bytes of PongoDB.
pub mod ids;
pub mod record;
pub mod schema;
pub mod storage;
