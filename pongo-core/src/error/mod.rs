//! The error types, one per operation. Each message states what was expected, what was found,
//! where, and what to do.
//!
//! | module | purpose |
//! | --- | --- |
//! | here | the errors of operations |
//! | `storage` | errors of the layers below: a failed file system operation, corruption, limits |
//! | `hint` | what to do about an I/O error |

mod hint;
mod storage;

use std::io;

use thiserror::Error;

pub use storage::{Corruption, IoFailure, StorageError};

use crate::storage::FileError;
use hint::folder_hint;

/// Implements `Debug` as `Display`, so that a program that returns an error from `main` prints the
/// message and not the enum around it. Every public error type uses this instead of a derived
/// `Debug`.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_is_display {
    ($($error:ty),* $(,)?) => {$(
        impl core::fmt::Debug for $error {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }
    )*};
}

debug_is_display!(
    StorageError,
    SchemaMismatch,
    OpenError,
    ReadError,
    WriteError,
    CommitError,
    CloseError,
    IoFailure,
    Corruption,
    crate::fields::FixedStrError,
    crate::fields::HeapError,
    crate::fields::UuidError,
    crate::schema::SchemaParseError,
    FileError,
);

/// The stored layout of a table's rows differs from the layout of the program's type.
#[derive(Error)]
#[error(
    "table `{table}` holds rows of another layout than the program's type; expected the program's, found the \
     stored one; give the type its old layout; or name another table in the new one, and copy the rows over \
     with both types:\n{diff}"
)]
pub struct SchemaMismatch {
    /// The table.
    pub table: String,
    /// A comparison of the two layouts.
    pub diff: crate::schema::SchemaDiff,
}

/// An error while opening a store.
#[derive(Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder holds something else.
    #[error(
        "{path} is not a PongoDB store: expected an empty folder or one with a `super` file, found {found}; \
         name another folder"
    )]
    NotAStore {
        /// The folder.
        path: String,
        /// The content of the folder.
        found: String,
    },
    /// The store has a newer format version, or one that no release wrote.
    #[error(
        "{path} has format version {found}, this library reads versions up to {expected}; open it with the \
         version of PongoDB that wrote it, or a newer one"
    )]
    Version {
        /// The folder.
        path: String,
        /// The newest version that this library reads.
        expected: u32,
        /// The version in the file.
        found: u32,
    },
    /// The store has an older format version and cannot be upgraded because another process has it
    /// open.
    #[error(
        "{path} has format version {found} and is open in another process, which writes that version; close \
         it there: the next process that opens it alone upgrades it to version {expected}"
    )]
    OlderInUse {
        /// The folder.
        path: String,
        /// The version to which the store would be upgraded.
        expected: u32,
        /// The version in the file.
        found: u32,
    },
    /// The store was written on a machine with the other byte order.
    #[error(
        "{path} was written with {found} byte order, this machine and the format are {expected}; move the \
         rows by exporting them there"
    )]
    ByteOrder {
        /// The folder.
        path: String,
        /// The byte order of this machine.
        expected: &'static str,
        /// The byte order of the file.
        found: &'static str,
    },
    /// The path is not a folder that can be read and written.
    #[error("{path} cannot be opened as a store: {source}{}", folder_hint(.source))]
    Folder {
        /// The path.
        path: String,
        /// The error that the operating system returned.
        #[source]
        source: io::Error,
    },
    /// This process has the store open with other options.
    #[error(
        "{path} is open in this process already with other options ({differs}); a process has a store open \
         once, as long as a handle, a snapshot or a transaction of it lives: clone that handle, or open with \
         the same options"
    )]
    AlreadyOpen {
        /// The folder.
        path: String,
        /// The options that differ.
        differs: String,
    },
    /// Another process has the store open, and this process cannot share its memory with it.
    #[error(
        "{path} is open in another process that does not share memory with this one: expected {expected}, \
         found {found}; close it there first, or open it on the same machine and through the same file \
         system as that process"
    )]
    NotShared {
        /// The folder.
        path: String,
        /// The environment of this process, which all processes with the store open must share.
        expected: String,
        /// The environment of the other process.
        found: String,
    },
    /// This machine cannot hold a store.
    #[error("PongoDB needs a 64-bit little-endian machine with pages of at most 4096 bytes, found {found}")]
    Machine {
        /// A description of this machine.
        found: String,
    },
    /// A lower layer failed.
    #[error("opening the store: {0}")]
    Storage(#[from] StorageError),
}

/// An error of a read operation.
#[derive(Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The handle was inherited through `fork`.
    #[error("this store handle was inherited through fork(): a child process must open the store again")]
    Forked,
    /// The table has another layout than the type.
    #[error(transparent)]
    Schema(#[from] Box<SchemaMismatch>),
    /// The bytes of a row are not a valid value of its type.
    #[error(
        "row {row} of table {table} holds bytes that are not a valid `{record}`: a bool, enum or other \
         restricted field has a forbidden value; the file was changed from outside, restore it from a backup"
    )]
    InvalidRow {
        /// The table.
        table: String,
        /// The type.
        record: &'static str,
        /// The row.
        row: crate::ids::RowId,
    },
    /// No index begins with the requested columns.
    #[error(
        "table {table} has no index that begins with `{asked}`: it has its key and `{known}`; write \
         `#[pongo(index)]` above the field, or `#[pongo(index({asked}))]` above the struct"
    )]
    NoIndex {
        /// The table.
        table: &'static str,
        /// The columns.
        asked: String,
        /// The existing indexes, separated by "`, `".
        known: String,
    },
    /// The cursor belongs to another table or index.
    #[error(
        "the cursor was not made by this index of table {table}: give it to a range of the index that made it"
    )]
    Cursor {
        /// The table.
        table: &'static str,
    },
    /// The bytes of a row's external key cannot be read.
    #[error("the key of a row of table {table}: {source}")]
    ExternalKey {
        /// The table.
        table: String,
        /// The cause.
        source: crate::fields::HeapError,
    },
    /// A lower layer failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn numbered(row: &Option<crate::ids::RowId>) -> String {
    row.map_or_else(String::new, |row| format!(" (row {row})"))
}

/// An error that keeps a write transaction from starting or continuing. Nothing was changed.
#[derive(Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The handle was inherited through `fork`.
    #[error("this store handle was inherited through fork(): a child process must open the store again")]
    Forked,
    /// An earlier write or sync of this store failed.
    #[error(
        "the store is poisoned: a write or sync failed earlier ({reason}), so what the disk holds is not \
         known; close it in every process and open it again, which recovers every acknowledged commit"
    )]
    Poisoned {
        /// The operation that failed, as far as this process knows.
        reason: String,
    },
    /// The table has another layout than the type.
    #[error(transparent)]
    Schema(#[from] Box<SchemaMismatch>),
    /// A read inside the transaction failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An external key has too many bytes.
    #[error("a key for table {table} has {len} bytes and may have {max}; take its hash as the key, and put \
             the bytes into a `Blob`",
        max = crate::fields::MAX_EXTERNAL_KEY)]
    KeyTooLong {
        /// The table.
        table: String,
        /// The length of the key in bytes.
        len: usize,
    },
    /// Two external keys have the same 128-bit digest. In practice only keys that were searched for
    /// have this property.
    #[error(
        "key {key} has the same digest (xxh3, 128 bits) as key {existing_key}, which is in table {table}; a \
         table holds one of the two: put another byte behind this one, say, or delete that one first"
    )]
    DigestCollision {
        /// The table.
        table: String,
        /// The key to be inserted.
        key: String,
        /// The existing key.
        existing_key: String,
    },
    /// `insert` found a row with the same key.
    #[error(
        "table {table} has a row with key {key} already; use `put` to replace it or `update` to change it"
    )]
    KeyExists {
        /// The table.
        table: String,
        /// The key, field by field.
        key: String,
    },
    /// Another row has the same value in a unique field or combination of fields.
    #[error(
        "table {table} takes one row for each `{index}`: expected a new value, found {value} in the row with \
         key {existing_key}{}; change or delete that row first, or give this one another value",
        numbered(.row)
    )]
    UniqueViolation {
        /// The table.
        table: String,
        /// The names of the index's fields.
        index: String,
        /// The value, field by field.
        value: String,
        /// The key of the existing row, field by field.
        existing_key: String,
        /// The number of the existing row. `None` for a row that this transaction inserted, which
        /// has no number yet.
        row: Option<crate::ids::RowId>,
    },
    /// The type declares an index as unique that is not unique in the table.
    #[error(
        "`{record}` says that `{index}` is unique, and table {table} was made without that: expected an \
         index `unique {index}`, found {found}; take `unique` off the type, or name another table in it, \
         which is then made with the index, and copy the rows over"
    )]
    MissingUniqueIndex {
        /// The table.
        table: String,
        /// The type.
        record: &'static str,
        /// The names of the index's fields.
        index: String,
        /// The table's unique indexes.
        found: String,
    },
    /// The transaction cannot roll back to this savepoint.
    #[error(
        "expected a savepoint of this transaction that has not ended, found {found}; a savepoint ends with \
         its transaction, when it is released, and when an outer one is released or rolled back to: make \
         another with `tx.savepoint()`"
    )]
    Savepoint {
        /// The transaction to which the savepoint belongs, or its state.
        found: &'static str,
    },
    /// The closure of `update` changed the row's key.
    #[error(
        "a row of table {table} had key {before} and came back from `update` with key {after}; a row keeps \
         its key: delete the old one and put the new one"
    )]
    KeyChanged {
        /// The table.
        table: String,
        /// The key before the call.
        before: String,
        /// The key after the call.
        after: String,
    },
    /// A row was passed for another key than its own, to an entry or to `compare_and_set`.
    #[error(
        "a row for table {table} was passed for another key: expected key {expected}, found {found}; pass a row \
         with the expected key, or use `put`, which takes the key from the row"
    )]
    EntryKey {
        /// The table.
        table: String,
        /// The key for which the row was passed, field by field.
        expected: String,
        /// The key of the row, field by field.
        found: String,
    },
    /// A change of many rows was interrupted, which leaves it incomplete:
    ///
    /// - a write of `extend` failed, or its iterator panicked, so that rows are lost;
    /// - a function that was passed to `modify`, `retain` or `extract_if` panicked between two
    ///   changes;
    /// - rows of `alloc` were forgotten, or dropped by a panic, so that it is unknown which of them
    ///   are filled.
    #[error(
        "a change of many rows of table {table} was broken off (a write of `extend` failed, a function or an \
         iterator that was given to it panicked, or rows of `alloc` were forgotten or dropped by a panic), \
         and is half done; abort this transaction, or roll it back to a savepoint from before, and do it \
         again"
    )]
    IncompleteChange {
        /// The table.
        table: String,
    },
    /// This thread started the write transaction that is open in this store, or was the last to
    /// open a table of it. A second one would wait for the first forever.
    #[error(
        "this thread has a write transaction of this store open already, and would wait for itself: commit \
         or drop that one first, or do this in it"
    )]
    OpenInThread,
    /// A table is opened a second time while a `TableMut` of it exists, or after one was passed to
    /// `mem::forget`.
    #[error(
        "table {table} is open in this transaction already: use the `TableMut` that is there, or drop it \
         first (one that was given to `mem::forget` stays open: such a transaction can only be aborted)"
    )]
    TableAlreadyOpen {
        /// The table.
        table: String,
    },
    /// `alloc` was called for a type for which all zero bytes are not a valid value.
    #[error(
        "table {table} cannot return zeroed rows: a `{record}` whose bytes are all zero has a forbidden \
         value in some field; give its enums a variant of value 0 and put what may not be zero into a \
         `Maybe`, or build the rows and use `put` or `extend`"
    )]
    NotZeroable {
        /// The table.
        table: String,
        /// The type.
        record: &'static str,
    },
    /// One transaction changes one table through two types.
    #[error(
        "this transaction changes table {table} as another type than `{record}`; use one type for a table in \
         a transaction, or commit in between"
    )]
    TableTypeMismatch {
        /// The table.
        table: String,
        /// The second type.
        record: &'static str,
    },
    /// A `Text` or `Blob` field does not refer to bytes of this store.
    #[error(
        "field `{field}` of a row for table {table}: {source}; make it with `tx.text(…)` or `tx.blob(…)` of \
         this transaction, or copy it from a row of this store"
    )]
    HeapField {
        /// The table.
        table: String,
        /// The row's field, or the field in which it is nested.
        field: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A lower layer failed; nothing was changed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// An error of a commit that was not acknowledged.
#[derive(Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The commit was rejected before anything durable was written: the store is unchanged, the
    /// transaction is discarded.
    #[error("the transaction was not committed, nothing was changed: {0}")]
    Refused(#[from] WriteError),
    /// The write or sync of the journal failed midway. After the next recovery the transaction is
    /// present either completely or not at all; which of the two is unknown.
    #[error(
        "the outcome of the commit is unknown ({reason}); the store is poisoned: close it in every process, \
         open it again and check whether the transaction is present"
    )]
    OutcomeUnknown {
        /// The operation that failed.
        reason: String,
    },
}

impl From<StorageError> for CommitError {
    fn from(fault: StorageError) -> Self {
        Self::Refused(WriteError::Storage(fault))
    }
}

/// An error while closing a store.
#[derive(Error)]
#[non_exhaustive]
pub enum CloseError {
    /// This process still uses the store elsewhere. The store stays open and is closed when the
    /// last user is dropped.
    #[error(
        "the store is not closed: this process still has {} of it; drop them first, or leave it to the last \
         of them to close it",
        in_use([("handle", *.handles), ("snapshot", *.snapshots), ("transaction", *.transactions)])
    )]
    InUse {
        /// Number of other handles.
        handles: usize,
        /// Number of read transactions.
        snapshots: usize,
        /// Number of write transactions.
        transactions: usize,
    },
    /// The store is closed, but something could not be made durable, or the store could not be
    /// marked as cleanly closed.
    #[error("the store was closed, but not in order: {0}; the next open recovers what was committed")]
    Failed(#[from] WriteError),
}

/// Formats the counts, e.g. "2 handles and 1 snapshot".
fn in_use(counts: [(&str, usize); 3]) -> String {
    let there = counts.iter().filter(|(_, count)| *count > 0);
    let said = there.map(|(what, count)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" }));
    said.collect::<Vec<_>>().join(" and ")
}
