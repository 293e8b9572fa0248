//! What a failed operation on a file looks like: the [`io::Error`] keeps its kind, and says what was tried on which file.

use std::io;

/// The payload of the [`io::Error`]s that come out of a storage: what failed, where, and the error behind it.
///
/// ```
/// use pongo_core::storage::{FileError, MemoryStorage, Storage};
///
/// let error = MemoryStorage::new().open("super").unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
/// let detail = error.get_ref().and_then(|e| e.downcast_ref::<FileError>()).unwrap();
/// assert_eq!(detail.operation(), "open");
/// assert!(detail.path().ends_with("/super"));
/// ```
#[derive(thiserror::Error)]
#[error("cannot {operation} {path}: {source}")]
pub struct FileError {
    operation: &'static str,
    path: String,
    source: io::Error,
}

impl FileError {
    /// Wraps an error in an [`io::Error`] of the same kind.
    pub(super) fn wrap(operation: &'static str, path: &str, source: impl Into<io::Error>) -> io::Error {
        let source = source.into();
        io::Error::new(source.kind(), FileError { operation, path: path.to_owned(), source })
    }

    /// What was tried, as a verb: "open", "sync".
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The file or folder it was tried on, with the storage's name before it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The operating system's number for the error, if it came from there. ([`io::Error::raw_os_error`] itself is `None`
    /// on an error with a payload.)
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}
