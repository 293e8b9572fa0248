//! The error of a failed file operation: the [`io::Error`] keeps its kind and names the operation
//! and the file.

use std::io;

/// The payload of the [`io::Error`]s that a storage returns: the operation, the path, and the
/// underlying error.
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
    /// Wraps an error in an [`io::Error`] of the same kind. `operation` is a verb, as in the error
    /// message.
    ///
    /// ```
    /// use std::io;
    ///
    /// use pongo_core::storage::FileError;
    ///
    /// let error = FileError::wrap("open", "super", io::ErrorKind::NotFound);
    /// assert_eq!(error.kind(), io::ErrorKind::NotFound);
    /// assert_eq!(error.to_string(), "cannot open super: entity not found");
    /// ```
    pub fn wrap(operation: &'static str, path: &str, source: impl Into<io::Error>) -> io::Error {
        let source = source.into();
        io::Error::new(source.kind(), FileError { operation, path: path.to_owned(), source })
    }

    /// Returns the failed operation, as a verb: "open", "sync".
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the path of the file or folder, prefixed by the storage's name.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the operating system's error number, if there is one. ([`io::Error::raw_os_error`]
    /// itself returns `None` for an error with a payload.)
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// Returns whether the operation failed because the disk, the quota, or the limit on a file's size
/// is exhausted. The caller can free space and try again.
///
/// ```
/// use pongo_core::storage::{MemoryStorage, Storage, is_out_of_space};
///
/// let file = MemoryStorage::with_capacity_limit(4096).create("a")?;
/// file.allocate(0, 4096)?;
/// let error = file.allocate(4096, 4096).unwrap_err();
/// assert!(is_out_of_space(&error));
/// # std::io::Result::Ok(())
/// ```
#[must_use]
pub fn is_out_of_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
