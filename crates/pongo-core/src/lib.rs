//! The bytes of PongoDB.
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
