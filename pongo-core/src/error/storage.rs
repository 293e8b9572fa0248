//! Errors of the layers below the store, which the error of every operation wraps.

use std::io;

use thiserror::Error;

use super::hint::{hint, hint_below, io_below};
use crate::storage::{is_of_opening, is_out_of_descriptors, is_out_of_memory, is_out_of_space};

/// A failed file system operation.
#[derive(Error)]
#[error("{what} {path} failed: {source}{}", hint(.source))]
pub struct IoFailure {
    /// The operation, e.g. `writing`.
    pub what: &'static str,
    /// The file, relative to the store's folder.
    pub path: String,
    /// The error that the operating system returned.
    #[source]
    pub source: io::Error,
}

/// Bytes on disk that differ from the expected ones.
#[derive(Clone, PartialEq, Eq, Error)]
#[error(
    "{file} is damaged at byte {offset}: expected {expected}, found {found}; restore this file (or the whole \
     store) from a backup"
)]
pub struct Corruption {
    /// The file, relative to the store's folder.
    pub file: String,
    /// The offset of the damage in the file.
    pub offset: u64,
    /// The expected content.
    pub expected: String,
    /// The content that was found.
    pub found: String,
}

/// An error of the layers below the store. The error of every operation wraps it.
#[derive(Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The file system returned an error.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// Bytes on disk differ from the expected ones.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A chunk that a snapshot needs was deleted: the snapshot was unpinned for too long.
    #[error("{file} is gone: it held only rows that no live snapshot sees; begin a new read transaction")]
    SnapshotTooOld {
        /// The chunk's file.
        file: String,
    },
    /// A limit of this version was reached.
    #[error("{what}: the limit is {limit}")]
    Limit {
        /// The quantity that is too large.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The index layer failed.
    #[error("index of table {table}: {source}{}", hint_below(&**.source))]
    Index {
        /// The table of the index.
        table: String,
        /// The error of the index layer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StorageError {
    /// Returns a function that wraps an I/O error with the operation and the file.
    pub fn io<P: Into<String>>(what: &'static str, path: P) -> impl FnOnce(io::Error) -> Self {
        // The path becomes a `String` only if there is an error.
        move |source| Self::Io(IoFailure { what, path: path.into(), source })
    }

    /// Creates a [`Corruption`] error.
    pub fn corrupt(
        file: impl Into<String>,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Corrupt(Corruption {
            file: file.into(),
            offset,
            expected: expected.into(),
            found: found.into(),
        })
    }

    /// Returns whether a sync was executed and failed. The content of the disk is then unknown, and
    /// no later sync can establish it. A sync that was not executed, because the file or folder
    /// could not be opened, does not count.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io(failure) if failure.what == Self::SYNCING && !is_of_opening(&failure.source))
    }

    /// Returns whether the process or the system had no descriptor, map or memory left for the
    /// operation. Nothing was done, so the caller can try again.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        let out_of = |error: &io::Error| is_out_of_descriptors(error) || is_out_of_memory(error);
        let error = match self {
            Self::Io(failure) => Some(&failure.source),
            Self::Index { source, .. } => io_below(&**source),
            _ => None,
        };
        !self.is_failed_sync() && error.is_some_and(out_of)
    }

    /// The value of [`IoFailure::what`] for every sync, and for no other operation.
    pub(crate) const SYNCING: &str = "syncing";

    /// Returns whether the cause is a full disk or quota, so that the caller can free space and try
    /// again. Returns `false` for a sync that failed on a full disk: the data that it should have
    /// written may be lost.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let error = match self {
            Self::Io(failure) => Some(&failure.source),
            Self::Index { source, .. } => io_below(&**source),
            _ => None,
        };
        !self.is_failed_sync() && error.is_some_and(is_out_of_space)
    }
}
