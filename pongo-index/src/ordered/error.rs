//! Errors of the ordered index. It can always be rebuilt from the rows, which is the remedy for
//! most of them.

use std::error::Error;
use std::io;

use pongo_core::ids::RowId;
use pongo_core::storage::is_out_of_space;

/// Why an operation of a block store failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process, or another handle of this one, has it open.
    #[error("{path} is open elsewhere (sled allows one process); answer from the rows, or close it there")]
    Locked {
        /// The folder.
        path: String,
    },
    /// The bytes read cannot be the bytes written.
    #[error("{path} is damaged: {what}; set it aside and rebuild the index")]
    Damaged {
        /// The folder.
        path: String,
        /// What was expected and what was found.
        what: String,
    },
    /// The disk is full. Data written before is unchanged; the handle can no longer be used.
    #[error("no space in {path} to {doing}: {source}; free some space, then open it again")]
    Full {
        /// The operation.
        doing: &'static str,
        /// The folder.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The operation: `open`, `write`, ...
        doing: &'static str,
        /// The folder or file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// sled cannot have the threads that it needs.
    #[error(
        "{path} cannot be opened: sled needs threads, which this process cannot create ({source}); answer \
         from the rows, or raise its limit of threads (`ulimit -u`, `pids.max`)"
    )]
    NoThreads {
        /// The folder.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// It was closed, by a call or because of an earlier error.
    #[error("{path} was closed; open it again")]
    Closed {
        /// The folder.
        path: String,
    },
}

impl StoreError {
    /// Creates an error from a system error; a full disk has its own variant.
    pub(super) fn io(doing: &'static str, path: String, source: io::Error) -> StoreError {
        if is_out_of_space(&source) {
            StoreError::Full { doing, path, source }
        } else {
            StoreError::Io { doing, path, source }
        }
    }

    /// Replaces the prefix `from` of the error's path with `to`.
    pub(super) fn shown(mut self, from: &str, to: &str) -> StoreError {
        let (StoreError::Locked { path }
        | StoreError::Damaged { path, .. }
        | StoreError::Full { path, .. }
        | StoreError::Io { path, .. }
        | StoreError::NoThreads { path, .. }
        | StoreError::Closed { path }) = &mut self;
        if let Some(rest) = path.strip_prefix(from) {
            *path = format!("{to}{rest}");
        }
        self
    }
}

/// Why an operation on the ordered index failed. A failed operation leaves every version unchanged.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OrderedError {
    /// The bytes read differ from the bytes written, or are inconsistent.
    #[error("the ordered index is damaged: {what}; set it aside and rebuild it from the rows")]
    Damaged {
        /// What was expected and what was found.
        what: String,
    },
    /// The block store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The key of a row, needed for a comparison, could not be read.
    #[error("the ordered index needs the key of row {row}, which could not be read: {source}")]
    Keys {
        /// The row.
        row: RowId,
        /// The error from reading the row.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A key is longer than the format allows.
    #[error("a key of {len} bytes is too long for an ordered index, which takes at most \
             {max}", max = super::MAX_KEY)]
    KeyTooLong {
        /// The key's length.
        len: usize,
    },
    /// A run has too many pairs.
    #[error("a run takes at most {} pairs; merge them in several", u32::MAX)]
    TooManyPairs,
    /// The merge was stopped by its caller. Nothing has changed.
    #[error("the merge was stopped; nothing has changed")]
    Stopped,
    /// An earlier write failed: the state on disk is unknown until the index is opened again.
    #[error("the ordered index takes no writes since one of them failed ({why}); open it again")]
    Poisoned {
        /// The message of the earlier error.
        why: String,
    },
}

pongo_core::debug_is_display!(StoreError, OrderedError);

impl From<StoreError> for OrderedError {
    fn from(error: StoreError) -> OrderedError {
        match error {
            StoreError::Damaged { path, what } => OrderedError::Damaged { what: format!("{path}: {what}") },
            other => OrderedError::Store(other),
        }
    }
}

impl OrderedError {
    pub(super) fn damaged(what: impl Into<String>) -> OrderedError {
        OrderedError::Damaged { what: what.into() }
    }
}
