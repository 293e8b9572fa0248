//! The bodies of the fuzz targets: plain functions of bytes, which panic if they find something. `fuzz/` hands them to
//! libFuzzer; `tests/corpora.rs` runs them on the stable toolchain over the inputs that are kept, and over changed ones.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `image` | the files of a store in memory, and the four stores that damage begins with |
//! | `seal` | checksums made right again, so that what lies behind them is reached |
//! | `damage` | bytes as changes of an image |
//! | `survey` | everything done to a store that may hold anything |
//! | `open_image`, `journal`, `schema`, `key_encoding`, `operations`, `cursor`, `predicate`, `fields` | one target each |
//! | `mutate` | inputs changed by chance, for the stable runner |
//!
//! There is no target for document nodes: this version has no documents. What a row says of the heap (`Text`, `Blob`,
//! external keys) is what comes nearest, and `fields` forges it.

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

/// A target: panics if the bytes show a defect.
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
