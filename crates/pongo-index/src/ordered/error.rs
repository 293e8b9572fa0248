//! What can go wrong with the ordered index. It can always be rebuilt from the rows, so most of it comes down to that.

use std::error::Error;
use std::io;

use pongo_core::ids::RowId;

/// Why the place where blocks lie could not do what it was asked.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process, or another handle of this one, has it open.
    #[error("{path} is open elsewhere (sled allows one process); answer from the rows, or close it there")]
    Locked {
        /// The folder.
        path: String,
    },
    /// What was read cannot be what was written.
    #[error("{path} is damaged: {what}; set it aside and rebuild the index")]
    Damaged {
        /// The folder.
        path: String,
        /// What was expected and what was found.
        what: String,
    },
    /// There is no space. What was written before stays as it was; the handle is of no more use.
    #[error("no space in {path} to {doing}: {source}; free some space, then open it again")]
    Full {
        /// What was being done.
        doing: &'static str,
        /// The folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// `open`, `write`, ...
        doing: &'static str,
        /// The folder or file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// sled cannot have the threads that it needs.
    #[error(
        "{path} cannot be opened: sled needs threads of its own, which this process cannot make ({source}); answer from the rows, or raise its limit of threads (`ulimit -u`, `pids.max`)"
    )]
    NoThreads {
        /// The folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It was closed, here or by an error before.
    #[error("{path} was closed; open it again")]
    Closed {
        /// The folder.
        path: String,
    },
}

impl StoreError {
    /// An error of the system; a full disk gets its own variant.
    pub(super) fn io(doing: &'static str, path: String, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::Full { doing, path, source }
            }
            _ => StoreError::Io { doing, path, source },
        }
    }

    /// The same error, with a path that begins with `from` shown as one that begins with `to`.
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

/// Why an operation on the ordered index failed. A failed operation leaves every version as it was.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OrderedError {
    /// Bytes that were read are not the ones that were written, or contradict themselves.
    #[error("the ordered index is damaged: {what}; set it aside and rebuild it from the rows")]
    Damaged {
        /// What was expected and what was found.
        what: String,
    },
    /// The place where blocks lie failed.
    #[error(transparent)]
    Store(StoreError),
    /// The key of a row, which was needed to compare, could not be had.
    #[error("the ordered index needs the key of row {row}, which could not be read: {source}")]
    Keys {
        /// The row.
        row: RowId,
        /// What the rows said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A key longer than the format has numbers for.
    #[error("a key of {len} bytes is too long for an ordered index, which takes at most {max}", max = super::MAX_KEY)]
    KeyTooLong {
        /// Its length.
        len: usize,
    },
    /// More pairs than one run takes.
    #[error("a run takes at most {} pairs; merge them in several", u32::MAX)]
    TooManyPairs,
    /// The merge was told to stop. Nothing has changed.
    #[error("the merge was stopped; nothing has changed")]
    Stopped,
    /// An earlier write failed: what the disk has is unknown until it is opened again.
    #[error("the ordered index takes no writes since one of them failed ({why}); open it again")]
    Poisoned {
        /// What that one said.
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
