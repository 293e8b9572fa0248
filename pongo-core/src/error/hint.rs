//! Hints: what to do about an I/O error, as the end of a message.

use std::io;

use crate::storage::{FileError, is_out_of_descriptors, is_out_of_space};

/// Returns the hint for an I/O error.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; a store is opened for reading and writing by everyone who shares it: give this user write \
             permission on the folder and its files"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is mounted read-only: a store needs to write its control file even to be \
             read, so copy it elsewhere or remount"
        }
        io::ErrorKind::NotFound => {
            "; a file of the store is missing: restore it, or the whole store, from a backup"
        }
        io::ErrorKind::IsADirectory => {
            "; a file of the store is expected there: move the folder out of the store and restore the file \
             from a backup"
        }
        io::ErrorKind::OutOfMemory => {
            "; the system has no memory for it, no more maps for this process (`vm.max_map_count`), or too \
             low a limit on its addresses (`ulimit -v`)"
        }
        _ if is_out_of_space(error) => {
            "; the disk (or quota) is full: what was committed is safe, free some space and try again"
        }
        _ if is_out_of_descriptors(error) => {
            "; this process, or the system, has too many files open: close some, or raise the limit (`ulimit \
             -n`), and try again"
        }
        _ => "",
    }
}

fn detail(error: &io::Error) -> Option<&FileError> {
    error.get_ref()?.downcast_ref()
}

/// Returns the I/O error in an error's source chain, if one is present.
pub(super) fn io_below<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e io::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// Returns the hint for an error of another layer.
pub(super) fn hint_below(error: &(dyn std::error::Error + Send + Sync + 'static)) -> &'static str {
    io_below(error).map_or("", |error| match error.kind() {
        io::ErrorKind::NotFound => {
            "; a file of the index is missing: the index can be rebuilt from the rows \
             (`Store::rebuild_indexes`)"
        }
        _ => hint(error),
    })
}

/// Returns the hint for an error at the folder of a store.
pub(super) fn folder_hint(error: &io::Error) -> &'static str {
    let tried = detail(error).map(FileError::operation);
    match error.kind() {
        io::ErrorKind::NotFound if tried == Some("open folder") => {
            "; name the folder of an existing store, or let it be created \
             (`Options::create_if_missing(true)`)"
        }
        io::ErrorKind::NotFound => {
            "; its parent folder does not exist: create it first, or with `Options::create_all(true)`, or \
             correct the path"
        }
        io::ErrorKind::NotADirectory => {
            "; a store is a folder: name one, or a path in a folder where nothing is yet"
        }
        _ => hint(error),
    }
}
