//! What can go wrong, by operation. Each message says what was expected, what was found, where, and what to do.

use std::io;

use thiserror::Error;

use crate::storage::{FileError, is_of_opening, is_out_of_descriptors, is_out_of_memory};

/// What a program prints that returns an error from `main`: the message, not the enum around it. Every public error type has
/// this in place of a derived `Debug`.
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
    Fault,
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

/// An operation of the file system that failed.
#[derive(Error)]
#[error("{what} {path} failed: {source}{}", mend(.source))]
pub struct IoFailure {
    /// What was being done, e.g. `writing`.
    pub what: &'static str,
    /// To which file, relative to the store's folder.
    pub path: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; the disk (or quota) is full: what was committed is safe, free some space and try again"
        }
        io::ErrorKind::PermissionDenied => {
            "; a store is opened for reading and writing by everyone who shares it: give this user write permission on the folder and its files"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the file system is mounted read-only: a store needs to write its control file even to be read, so copy it elsewhere or remount"
        }
        io::ErrorKind::NotFound => {
            "; a file of the store is missing: restore it, or the whole store, from a backup"
        }
        io::ErrorKind::IsADirectory => {
            "; a file of the store is expected there: move the folder out of the store and restore the file from a backup"
        }
        io::ErrorKind::OutOfMemory => {
            "; the system has no memory for it, no more maps for this process (`vm.max_map_count`), or too low a limit on its addresses (`ulimit -v`)"
        }
        _ if is_out_of_descriptors(error) => {
            "; this process, or the system, has too many files open: close some, or raise the limit (`ulimit -n`), and try again"
        }
        _ => "",
    }
}

fn detail(error: &io::Error) -> Option<&FileError> {
    error.get_ref()?.downcast_ref()
}

/// The error of the file system below another one, if that is what it comes from.
fn io_below<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e io::Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// As [`mend`], for an error of another layer.
fn mend_below(error: &(dyn std::error::Error + Send + Sync + 'static)) -> &'static str {
    io_below(error).map_or("", |error| match error.kind() {
        io::ErrorKind::NotFound => {
            "; a file of the index is missing: the index can be made anew from the rows (`Store::rebuild_indexes`)"
        }
        _ => mend(error),
    })
}

/// As [`mend`], for the folder of a store.
fn mend_folder(error: &io::Error) -> &'static str {
    let tried = detail(error).map(FileError::operation);
    match error.kind() {
        io::ErrorKind::NotFound if tried == Some("open folder") => {
            "; name the folder of a store that is there, or let it be made (`Options::create(true)`)"
        }
        io::ErrorKind::NotFound => {
            "; a store makes its own folder, not those above it: make the folder it is to lie in first, or mend the path"
        }
        io::ErrorKind::NotADirectory => {
            "; a store is a folder: name one, or a path in a folder where nothing is yet"
        }
        _ => mend(error),
    }
}

/// Bytes on disk that are not what they must be.
#[derive(Clone, PartialEq, Eq, Error)]
#[error(
    "{file} is damaged at byte {offset}: expected {expected}, found {found}; restore this file (or the whole store) from a backup"
)]
pub struct Corruption {
    /// The file, relative to the store's folder.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What belongs there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

/// What the layers below the store can meet: every operation's error wraps it.
#[derive(Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file system said no.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// Bytes on disk are not what they must be.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A chunk that a snapshot needs is gone: the snapshot was pinned by no one for too long.
    #[error("{file} is gone: it held only rows that no live snapshot sees; begin a new read transaction")]
    SnapshotTooOld {
        /// The chunk's file.
        file: String,
    },
    /// A limit of this version was reached.
    #[error("{what}: the limit is {limit}")]
    Limit {
        /// What was too many or too long.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The index layer failed.
    #[error("index of table {table}: {source}{}", mend_below(&**.source))]
    Index {
        /// Which table's.
        table: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Fault {
    /// Wraps an I/O error with what was being done to which file.
    pub fn io<P: Into<String>>(what: &'static str, path: P) -> impl FnOnce(io::Error) -> Self {
        // The path becomes a `String` only if there is an error.
        move |source| Self::Io(IoFailure { what, path: path.into(), source })
    }

    /// A damaged place.
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

    /// Whether a sync ran and failed: then no one can say what the disk holds, and no later sync will tell. One that did not
    /// come to run, because the file or folder could not be opened, is none.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io(failure) if failure.what == Self::SYNCING && !is_of_opening(&failure.source))
    }

    /// Whether the process or the system had no descriptor, no map or no memory for it at that moment. Nothing was done: what
    /// asked can be tried again.
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

    /// What [`IoFailure::what`] says of every sync, and of nothing else.
    pub(crate) const SYNCING: &str = "syncing";

    /// Whether this is a full disk or quota, which a caller can mend and try again. A sync that met a full disk is not:
    /// what it should have written may be lost.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let error = match self {
            Self::Io(failure) => Some(&failure.source),
            Self::Index { source, .. } => io_below(&**source),
            _ => None,
        };
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
        !self.is_failed_sync() && error.is_some_and(|error| full.contains(&error.kind()))
    }
}

/// A table's rows in the store are laid out otherwise than the program's type says.
#[derive(Error)]
#[error(
    "table `{table}` holds rows of another layout than the program's type; expected the program's, found the stored one; give the type its old layout; or name another table in the new one, and copy the rows over with both types:\n{diff}"
)]
pub struct SchemaMismatch {
    /// The table.
    pub table: String,
    /// The two layouts side by side.
    pub diff: crate::schema::SchemaDiff,
}

/// Why a store could not be opened.
#[derive(Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder holds something else.
    #[error(
        "{path} is not a PongoDB store: expected an empty folder or one with a `super` file, found {found}; name another folder"
    )]
    NotAStore {
        /// The folder.
        path: String,
        /// What is in it.
        found: String,
    },
    /// The store was written in a newer version of the format, or in one that never was.
    #[error(
        "{path} has format version {found}, this library reads versions up to {expected}; open it with the version of PongoDB that wrote it, or a newer one"
    )]
    Version {
        /// The folder.
        path: String,
        /// The newest that this library reads.
        expected: u32,
        /// What the file says.
        found: u32,
    },
    /// The store is of an older version of the format, and a process has it open, so that it cannot be
    /// upgraded.
    #[error(
        "{path} has format version {found} and is open in another process, which writes that version; close it there: whoever opens it alone upgrades it to version {expected}"
    )]
    OlderInUse {
        /// The folder.
        path: String,
        /// To which version it would be upgraded.
        expected: u32,
        /// What the file says.
        found: u32,
    },
    /// The store was written on a machine of the other byte order.
    #[error(
        "{path} was written with {found} byte order, this machine and the format are {expected}; move the rows by exporting them there"
    )]
    ByteOrder {
        /// The folder.
        path: String,
        /// This machine's.
        expected: &'static str,
        /// The file's.
        found: &'static str,
    },
    /// The path is not a folder that can be read and written.
    #[error("{path} cannot be opened as a store: {source}{}", mend_folder(.source))]
    Folder {
        /// The path.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This process has the store open with other options.
    #[error(
        "{path} is open in this process already with other options ({differs}); a process has a store open once, as long as a handle, a snapshot or a transaction of it lives: clone that handle, or open with the same options"
    )]
    AlreadyOpen {
        /// The folder.
        path: String,
        /// Which options differ.
        differs: String,
    },
    /// Another process has the store open, and this one cannot share its memory with it.
    #[error(
        "{path} is open in another process that does not share memory with this one: expected {expected}, found {found}; \
         close it there first, or open it on the same machine and through the same file system as that process"
    )]
    NotShared {
        /// The folder.
        path: String,
        /// What two processes with the store open must have in common, as this process has it.
        expected: String,
        /// What the other process has.
        found: String,
    },
    /// This machine cannot hold a store.
    #[error("PongoDB needs a 64-bit little-endian machine with pages of at most 4096 bytes, found {found}")]
    Machine {
        /// What this machine is.
        found: String,
    },
    /// Something below failed.
    #[error("opening the store: {0}")]
    Fault(#[from] Fault),
}

/// Why something could not be read.
#[derive(Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The handle was inherited through `fork`.
    #[error("this store handle was inherited through fork(): a child process opens the store anew")]
    Forked,
    /// There is no table of that type in the snapshot's store, or it has another layout.
    #[error(transparent)]
    Schema(#[from] Box<SchemaMismatch>),
    /// A row's bytes are not a value of its type.
    #[error(
        "row {row} of table {table} holds bytes that are not a valid `{record}`: a bool, enum or other restricted field has a forbidden value; the file was changed from outside, restore it from a backup"
    )]
    InvalidRow {
        /// The table.
        table: String,
        /// The type.
        record: &'static str,
        /// The row.
        row: crate::ids::RowId,
    },
    /// No index begins with the columns that were asked for.
    #[error(
        "table {table} has no index that begins with `{asked}`: it has its key and `{known}`; write `#[pongo(index)]` above the field, or `#[pongo(index({asked}))]` above the struct"
    )]
    NoIndex {
        /// The table.
        table: &'static str,
        /// The columns.
        asked: String,
        /// The indexes that there are, divided by "`, `".
        known: String,
    },
    /// A range whose start is behind its end.
    #[error("a range of table {table} starts behind its end: exchange its bounds")]
    StartAfterEnd {
        /// The table.
        table: &'static str,
    },
    /// A cursor that belongs to another table or index.
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
        /// Why.
        source: crate::fields::HeapError,
    },
    /// Something below failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

fn numbered(row: &Option<crate::ids::RowId>) -> String {
    row.map_or_else(String::new, |row| format!(" (row {row})"))
}

/// Why a write transaction could not begin or go on. Nothing was changed.
#[derive(Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The handle was inherited through `fork`.
    #[error("this store handle was inherited through fork(): a child process opens the store anew")]
    Forked,
    /// An earlier write or sync of this store failed.
    #[error(
        "the store is poisoned: a write or sync failed earlier ({reason}), so what the disk holds is not known; close it in every process and open it again, which recovers every acknowledged commit"
    )]
    Poisoned {
        /// What failed, as far as this process knows.
        reason: String,
    },
    /// The table has another layout than the type.
    #[error(transparent)]
    Schema(#[from] Box<SchemaMismatch>),
    /// A read inside the transaction failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An external key has too many bytes.
    #[error("a key for table {table} has {len} bytes and may have {max}; take its hash as the key, and put the bytes into a `Blob`",
        max = crate::fields::MAX_EXTERNAL_KEY)]
    KeyTooLong {
        /// The table.
        table: String,
        /// Its bytes.
        len: usize,
    },
    /// Two external keys have one digest, of 128 bits: that happens where someone looks for such keys.
    #[error(
        "key {key} has the same digest (xxh3, 128 bits) as key {in_the_way}, which is in table {table}; a table holds one of the two: \
         put another byte behind this one, say, or delete that one first"
    )]
    SameDigest {
        /// The table.
        table: String,
        /// The key that was to be put.
        key: String,
        /// The key that is there.
        in_the_way: String,
    },
    /// `insert` met a row with the same key.
    #[error(
        "table {table} has a row with key {key} already; use `put` to replace it or `update` to change it"
    )]
    KeyExists {
        /// The table.
        table: String,
        /// The key, field by field.
        key: String,
    },
    /// Another row has the same value in a field, or fields, that are unique.
    #[error(
        "table {table} takes one row for each `{index}`: expected a new value, found {value} in the row with key \
         {in_the_way}{}; change or delete that row first, or give this one another value",
        numbered(.row)
    )]
    NotUnique {
        /// The table.
        table: String,
        /// The names of the index's fields.
        index: String,
        /// The value, field by field.
        value: String,
        /// The key of the row that has it, field by field.
        in_the_way: String,
        /// Its number; a row that was put by this transaction has none yet.
        row: Option<crate::ids::RowId>,
    },
    /// The type says `unique` of fields of which the table does not know it.
    #[error(
        "`{record}` says that `{index}` is unique, and table {table} was made without that: expected an index `unique \
         {index}`, found {found}; take `unique` off the type, or name another table in it, which is then made with \
         the index, and copy the rows over"
    )]
    UniqueMissing {
        /// The table.
        table: String,
        /// The type.
        record: &'static str,
        /// The names of the index's fields.
        index: String,
        /// The table's unique indexes.
        found: String,
    },
    /// A savepoint is not one that this transaction can go back to.
    #[error(
        "expected a savepoint of this transaction that has not ended, found {found}; a savepoint ends with its transaction, \
         when it is released, and when an outer one is released or rolled back to: make another with `tx.savepoint()`"
    )]
    Savepoint {
        /// Whose it is.
        found: &'static str,
    },
    /// The closure of `update` changed the row's key.
    #[error(
        "a row of table {table} had key {before} and came back from `update` with key {after}; a row keeps its key: delete \
         the old one and put the new one"
    )]
    KeyChanged {
        /// The table.
        table: String,
        /// The key before.
        before: String,
        /// And after.
        after: String,
    },
    /// A write of `extend` failed, or the iterator that was given to it panicked: rows that it had given are lost. Or a function
    /// that was given to `modify`, `retain` or `extract_if` panicked between two changes. Or rows of `alloc` were forgotten, or
    /// dropped by a panic, and nobody knows how far they were filled.
    #[error(
        "a change of many rows of table {table} was broken off (a write of `extend` failed, a function or an iterator that was given to it panicked, or rows of `alloc` were forgotten or dropped by a panic), and is half done; abort this transaction, or roll it back to a savepoint from before, and do it again"
    )]
    BrokenOff {
        /// The table.
        table: String,
    },
    /// This thread began the write transaction that is open in this store, or was the last to open a table of it: a
    /// second one would wait for the first for ever.
    #[error(
        "this thread has a write transaction of this store open already, and would wait for itself: commit or drop that \
         one first, or do this in it"
    )]
    OpenInThread,
    /// A table is opened a second time while a `TableMut` of it lives, or one was given to `mem::forget`.
    #[error(
        "table {table} is open in this transaction already: use the `TableMut` that is there, or drop it first (one that was \
         given to `mem::forget` stays open: such a transaction can only be aborted)"
    )]
    TableAlreadyOpen {
        /// The table.
        table: String,
    },
    /// `alloc` was asked for rows of a type of which all zeros are no value.
    #[error(
        "table {table} cannot give out zeroed rows: a `{record}` whose bytes are all zero has a forbidden value in some field; give its enums a variant of value 0 and put what may not be zero into a `Maybe`, or build the rows and use `put` or `extend`"
    )]
    NoZeroValue {
        /// The table.
        table: String,
        /// The type.
        record: &'static str,
    },
    /// One transaction changes one table as two types.
    #[error(
        "this transaction changes table {table} as another type than `{record}`; use one type for a table in a transaction, \
         or commit in between"
    )]
    TwoTypes {
        /// The table.
        table: String,
        /// The second type.
        record: &'static str,
    },
    /// A `Text` or `Blob` field does not name bytes of this store.
    #[error(
        "field `{field}` of a row for table {table}: {source}; make it with `tx.text(…)` or `tx.blob(…)` of this transaction, or copy it from a row of this store"
    )]
    HeapField {
        /// The table.
        table: String,
        /// The row's field, or the one in which it is nested.
        field: String,
        /// Why it is refused.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something below failed; nothing was changed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a commit was not acknowledged.
#[derive(Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Refused before anything durable was written: the store is as it was, the transaction is gone.
    #[error("the transaction was not committed, nothing was changed: {0}")]
    Refused(#[from] WriteError),
    /// The write or sync of the journal failed midway: after the next recovery the transaction is there as a whole, or
    /// not at all, and no one can say which.
    #[error(
        "the outcome of the commit is unknown ({reason}); the store is poisoned: close it in every process, open it again and look whether the transaction is there"
    )]
    OutcomeUnknown {
        /// What failed.
        reason: String,
    },
}

impl From<Fault> for CommitError {
    fn from(fault: Fault) -> Self {
        Self::Refused(WriteError::Fault(fault))
    }
}

/// Why a store was not closed, or not in order.
#[derive(Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Others of this process use the store. It stays open, and is closed when the last of them is dropped.
    #[error(
        "the store is not closed: this process still has {} of it; drop them first, or leave it to the last of them to close it",
        in_use([("handle", *.handles), ("snapshot", *.snapshots), ("transaction", *.transactions)])
    )]
    InUse {
        /// Other handles.
        handles: usize,
        /// Read transactions.
        snapshots: usize,
        /// Write transactions.
        transactions: usize,
    },
    /// The store is closed, but something could not be made durable, or not be marked as closed in order.
    #[error("the store was closed, but not in order: {0}; the next open recovers what was committed")]
    Failed(#[from] WriteError),
}

/// "2 handles and 1 snapshot".
fn in_use(counts: [(&str, usize); 3]) -> String {
    let there = counts.iter().filter(|(_, count)| *count > 0);
    let said = there.map(|(what, count)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" }));
    said.collect::<Vec<_>>().join(" and ")
}
