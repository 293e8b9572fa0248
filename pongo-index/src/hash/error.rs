//! Errors of the hash index. A hash index can always be rebuilt from the rows. A rebuild fixes
//! every variant except [`HashError::Full`], [`HashError::Io`] and [`HashError::RowTooLarge`].

use std::io;

use pongo_core::ids::RowId;
use pongo_core::storage::is_out_of_space;

use super::layout::entry;

/// The reason why an operation on a hash index failed. A failed operation leaves the index as
/// correct as it was before.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The folder contains no index.
    #[error(
        "no hash index in {dir}: there is no file `head`; `Store::rebuild_index` rebuilds it, and so does \
         the next write"
    )]
    Missing {
        /// The index's folder, in the store.
        dir: String,
    },
    /// The files belong to another store or to a table of another layout.
    #[error(
        "the hash index in {dir} belongs to {what} {found:032x}, expected {expected:032x}; \
         `Store::rebuild_index` rebuilds it, and so does the next write"
    )]
    Foreign {
        /// The index's folder, in the store.
        dir: String,
        /// `store` or `table`.
        what: &'static str,
        /// The identity that the caller expects.
        expected: u128,
        /// The identity in the file.
        found: u128,
    },
    /// The files have a format that this build does not write.
    #[error(
        "the hash index in {dir} has format {found:#x}, expected {expected:#x}; `Store::rebuild_index` of \
         this version rebuilds it"
    )]
    Version {
        /// The index's folder, in the store.
        dir: String,
        /// The format of this build.
        expected: u64,
        /// The format in the file.
        found: u64,
    },
    /// The files contradict each other or the rows.
    #[error(
        "the hash index in {dir} is damaged: {what}; `Store::rebuild_index` rebuilds it, and so does the \
         next write"
    )]
    Damaged {
        /// The index's folder, in the store.
        dir: String,
        /// What was expected and what was found.
        what: String,
    },
    /// A counter of the format has reached its maximum.
    #[error("the hash index in {dir} has used up its {what}; `Store::rebuild_index` rebuilds it")]
    Exhausted {
        /// The index's folder, in the store.
        dir: String,
        /// The name of the counter.
        what: &'static str,
    },
    /// The storage has no space for the operation. Nothing visible to readers has changed.
    #[error("no space for {path}: {source}; free some space and try again")]
    Full {
        /// The file that could not be allocated.
        path: String,
        /// The error that the storage returned.
        source: io::Error,
    },
    /// The storage failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The operation: `open`, `map`, …
        doing: &'static str,
        /// The file.
        path: String,
        /// The error that the storage returned.
        source: io::Error,
    },
    /// The row number does not fit in an entry.
    #[error("row {row} is beyond {max}, the last one a hash index can name", max = entry::MAX_ROW)]
    RowTooLarge {
        /// The row.
        row: RowId,
    },
}

pongo_core::debug_is_display!(HashError);

/// The error type inside the crate. It is one word, so that results of look-ups fit in registers.
pub(super) type BoxedError = Box<HashError>;

impl From<BoxedError> for HashError {
    fn from(fault: BoxedError) -> HashError {
        *fault
    }
}

impl HashError {
    /// Creates an error from an I/O error of the storage. A full disk becomes [`HashError::Full`].
    pub(super) fn io(doing: &'static str, path: &str, source: io::Error) -> BoxedError {
        let path = path.to_owned();
        Box::new(if is_out_of_space(&source) {
            HashError::Full { path, source }
        } else {
            HashError::Io { doing, path, source }
        })
    }
}
