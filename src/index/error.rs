//! The error of a store whose hash index failed.

use pongo_core::error::StorageError;
use pongo_core::table::TableCore;
use pongo_index::HashError;

/// Converts the error of a table's hash index, and adds the table's name.
pub(crate) fn fault(table: &TableCore, source: HashError) -> StorageError {
    StorageError::Index { table: table.schema().table.clone(), source: Box::new(source) }
}
