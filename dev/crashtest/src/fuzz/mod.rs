//! The fuzz targets: plain functions of bytes, which panic if they find a defect. `fuzz/` passes
//! them to libFuzzer; `tests/corpora.rs` runs them on the stable toolchain with the stored inputs
//! and with mutations of them.
//!
//! | module | purpose |
//! | --- | --- |
//! | `image` | the files of a store in memory, and the four stores to which damage is applied |
//! | `seal` | recomputes checksums, so that the code after their check is reached |
//! | `damage` | conversion of bytes to changes of an image |
//! | `survey` | runs all operations on a store of any content |
//! | `open_image`, `journal`, `schema`, `key_encoding` | one target each |
//! | `operations`, `cursor`, `predicate`, `fields` | one target each |
//! | `mutate` | random mutations of inputs, for the stable toolchain |
//!
//! There is no target for document nodes, because this version has no documents. The closest are
//! the references of rows to the heap (`Text`, `Blob`, external keys), which `fields` forges.

mod cursor;
mod damage;
mod fields;
mod image;
mod journal;
mod key_encoding;
mod mutate;
mod open_image;
mod operations;
mod predicate;
mod schema;
mod seal;
mod survey;

pub use cursor::cursor;
pub use damage::one_word_each;
pub use fields::fields;
pub use journal::journal;
pub use key_encoding::key_encoding;
pub use mutate::mutate;
pub use open_image::open_image;
pub use operations::operations;
pub use predicate::predicate;
pub use schema::schema;

/// A target: panics if the bytes reveal a defect.
pub type Target = fn(&[u8]);

/// All targets, by the names of their folders in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 8] = [
    ("open_image", open_image),
    ("journal", journal),
    ("schema", schema),
    ("key_encoding", key_encoding),
    ("operations", operations),
    ("cursor", cursor),
    ("predicate", predicate),
    ("fields", fields),
];
