//! PongoDB.

// So that `::pongo`, which the macros name, is this crate in its own modules and tests too.
extern crate self as pongo;

pub use pongo_core::column::Column;
pub use pongo_core::fields::{
    Blob, FixedStr, FixedStrError, HeapError, HeapRead, Maybe, Text, Timestamp, Uuid, content_hash,
};
pub use pongo_core::record::{FieldType, KeyField, PongoRecord};
pub use pongo_core::schema;
pub use pongo_derive::{PongoRecord, record};
/// The crate whose traits say what a record's bytes may be.
pub use zerocopy;

/// What most programs name: `use pongo::prelude::*;`
pub mod prelude {
    pub use crate::{
        Blob, Column, FieldType, FixedStr, HeapRead, KeyField, Maybe, PongoRecord, Text, Timestamp, Uuid,
    };
}

#[doc(hidden)]
pub use pongo_core::__private;
