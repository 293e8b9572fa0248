//! PongoDB stores your structs on disk in their memory layout.
//!
//! `#[pongo::record]` turns a struct into a record. Records of one type form a table, and tables
//! are stored in a store: a folder of memory-mapped files that several processes can have open.
//! Lookups return `&T` and scans `&[T]`, directly from the mapped files. Commits are transactions
//! that survive power failures.
//!
//! ```
//! use pongo::prelude::*;
//!
//! #[pongo::record]
//! #[pongo(table = "flights")]
//! struct Flight {
//!     #[pongo(key)]
//!     id: u64,
//!     tail: Text,
//!     delay: f32,
//!     carrier: FixedStr<4>,
//! }
//!
//! let store = Store::in_memory()?; // on disk: unsafe { Store::open("flights.pongo")? }
//! let tx = store.begin_write()?;
//! let tail = tx.text("N14228")?;
//! tx.table::<Flight>()?.put(&Flight { id: 1545, tail, delay: 2.0, carrier: "UA".parse()? })?;
//! tx.commit()?;
//!
//! let snapshot = store.begin_read()?;
//! let flight = snapshot.table::<Flight>()?.get(&1545)?.ok_or("it was put")?;
//! assert_eq!((flight.delay, flight.tail.as_str(&snapshot)?), (2.0, "N14228"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading order
//! 1. [`Store`] and [`Options`]: open a store, or make one in memory.
//! 2. [`record`] and the field types [`Text`], [`Blob`], [`FixedStr`], [`Maybe`], [`Timestamp`],
//!    [`Uuid`].
//! 3. [`WriteTransaction`] and [`TableMut`]: change rows. [`Snapshot`] and [`Table`]: read them.
//! 4. [`Table::range`], [`Table::by`] and [`Table::filter`]: rows by key, by index, by condition.
//! 5. [`ExternalTable`]: keys that are not fields.
//!
//! The [`cookbook`] has recipes for common tasks. `examples/` has small programs.
//!
//! # I want to …
//! A table in a transaction ([`TableMut`]) reads as one in a snapshot ([`Table`]) does; the links of
//! reading methods lead to [`Table`].
//!
//! | task | type or method |
//! | --- | --- |
//! | open or create a store | [`Store::open`], [`Options::create_if_missing`], [`Options::create_all`] |
//! | keep a store in memory only | [`Store::in_memory`] |
//! | use a store from several processes | open it in each; [recipe](cookbook#several-processes) |
//! | begin to write, waiting for another writer | [`Store::begin_write`], [`Store::begin_write_timeout`] |
//! | begin to write without waiting | [`Store::try_begin_write`] |
//! | choose durability | [`Store::begin_write_with`], [`Durability`] |
//! | define a table | [`record`], with `#[pongo(table = "…")]` and `#[pongo(key)]` |
//! | insert or replace; insert only | [`TableMut::put`]; [`TableMut::insert`] |
//! | insert or replace, or delete, and get the old row | [`TableMut::replace`]; [`TableMut::take`] |
//! | insert what is missing, else change it | [`TableMut::entry`] |
//! | change a row only if it is as expected | [`TableMut::compare_and_set`] |
//! | change one row; delete it | [`TableMut::update`]; [`TableMut::delete`] |
//! | look up one key, or many | [`Table::get`], [`Table::contains`], [`Table::get_many`] |
//! | read all rows | [`Table::slices`], [`Table::rows`], [`Table::entries`], [`Table::len`] |
//! | read all rows with all cores | `Table::par_slices`, `Table::par_rows` (feature `rayon`) |
//! | read a range or prefix of keys | [`Table::range`], [`Table::prefix`], in reverse with `.rev()` |
//! | read the first or last row, or count | [`Table::first`], [`Table::last`], [`Table::count`] |
//! | continue a page later | [`Range::cursor`], [`Range::start_after`], [`Range::end_before`] |
//! | keep a secondary key | `#[pongo(index)]`, or `index(a, b)` for several fields; [`Table::by`] |
//! | keep values unique | `#[pongo(unique)]`; look up with [`Table::by`] and [`IndexView::first`] |
//! | keep a set of keys, or one fixed row | a record of key fields only; a key of one constant value |
//! | keep several values per key | a key of several fields; [recipe](cookbook#several-values-per-key) |
//! | find rows without an index | [`Table::filter`] with methods of [`Column`]; [`Filtered::explain`] |
//! | use any bytes as keys | `#[pongo(key = "external")]`; [`Snapshot::external`] |
//! | compare or group texts | [`Text::content_eq`]; [recipe](cookbook#comparing-and-grouping-by-texts) |
//! | load many rows | [`TableMut::extend`], [`TableMut::try_extend`] |
//! | change or delete many rows | [`TableMut::modify`], [`TableMut::retain`], [`TableMut::delete_range`] |
//! | remove rows and get them | [`TableMut::extract_if`], [`TableMut::pop_first`], [`TableMut::pop_last`] |
//! | do so by another index | [`TableMut::by_mut`] |
//! | store large values | [`Blob`]; rows of up to 1 GiB with [`TableMut::alloc`] |
//! | read my own uncommitted changes | the reading methods of [`TableMut`] |
//! | use several tables at once | [`WriteTransaction::table`], once for each; also in threads |
//! | read or send a table between threads | [`TableMut`] and [`Snapshot`] are `Sync`; iterators are `Send` |
//! | undo a part of a transaction | [`WriteTransaction::savepoint`], [`WriteTransaction::rollback_to`] |
//! | know what a commit changed | [`Committed`] |
//! | serialize rows; convert times | the features `serde`, `jiff`, `chrono` |
//! | check a store; rebuild indexes | [`Store::verify`]; [`Store::rebuild_indexes`] |
//! | measure content and disk usage | [`Store::stats`] |
//! | back a store up | [recipe](cookbook#backups) |
//! | close with an error, or open faster | [`Store::close`], [`Store::catch_up_indexes`] |
//! | compact a store; watch for changes | not yet |
//! | drop or rename a table; name it at run time | not yet |
//! | open read-only; keep a savepoint over restarts | not yet |
//! | index a computed key or a text of any length | not yet |
//! | migrate to a changed struct | not yet in place; [recipe](cookbook#schema-changes) |
//!
//! # Features
//! - **`rayon`** (on by default): parallel scans with `Table::par_slices`, `Table::par_rows` and
//!   `Filtered::par`; several threads sort the pairs of ordered indexes. `pongo::rayon` is the crate
//!   whose iterators these methods return.
//! - **`serde`**: `Serialize` and `Deserialize` for all field types. `pongo::serde` has the functions
//!   that give serializers access to the contents of a [`Text`] or [`Blob`].
//! - **`jiff`**: conversions between [`Timestamp`] and `jiff::Timestamp`.
//! - **`chrono`**: conversions between [`Timestamp`] and `chrono::DateTime`.
//!
//! Features change neither the files of a store nor which stores can be opened.
//!
//! # Platforms
//! Linux on 64-bit little-endian machines; Rust 1.89 or later.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

// Lets the `::pongo` paths that the macros generate resolve in this crate's own modules and tests.
extern crate self as pongo;

pub mod cookbook;
mod index;
mod keys;
mod options;
mod ordered_index;
mod shared;
mod snapshot;
mod stats;
mod store;
mod table;
mod table_mut;
mod transaction;
mod verify;
mod write_set;

pub use keys::{External, InRow, KeyKind, Keys, LookupKey};
pub use options::Options;
pub use pongo_core::column::Column;
pub use pongo_core::engine::Durability;
pub use pongo_core::error::{
    CloseError, CommitError, Corruption, IoFailure, OpenError, ReadError, SchemaMismatch, StorageError,
    WriteError,
};
#[cfg(any(feature = "jiff", feature = "chrono"))]
pub use pongo_core::fields::TimestampRangeError;
#[cfg(feature = "serde")]
pub use pongo_core::fields::serde;
pub use pongo_core::fields::{
    Blob, FixedStr, FixedStrError, HeapError, HeapRead, Maybe, Text, Timestamp, TimestampError, Uuid,
    UuidError, content_hash, key_digest,
};
pub use pongo_core::ids::{ChunkId, HeapAddr, Location, RowId, Seq};
pub use pongo_core::padding::PaddingFree;
pub use pongo_core::predicate::{self, Predicate};
pub use pongo_core::record::{ExternalRecord, FieldType, KeyField, PongoRecord};
pub use pongo_core::schema;
pub use pongo_core::search::{
    BoundValue, IndexColumns, IndexField, IntoValue, KeyPrefix, UniqueField, ValueBounds,
};
pub use pongo_derive::{PongoRecord, record};
/// The crate that defines the parallel iterators returned by [`Table::par_slices`],
/// [`Table::par_rows`] and [`Filtered::par`].
#[cfg(feature = "rayon")]
pub use rayon;
pub use snapshot::Snapshot;
pub use stats::{DiskUsage, IndexStats, OrderedStatus, StoreStats, TableStats};
pub use store::Store;
pub use table::Table;
pub use table::explain::{Explain, PredicateStats, ScanStats};
pub use table::external::{
    ExternalEntries, ExternalFiltered, ExternalFilteredEntries, ExternalGetMany, ExternalIndexView,
    ExternalRange, ExternalRangeEntries, ExternalRows, ExternalTable, ExternalValues, KeyBounds,
};
pub use table::filter::{Filtered, FilteredEntries};
pub use table::index_view::IndexView;
pub use table::iter::{Entries, Rows, Slices, Values};
pub use table::lookup::GetMany;
pub use table::range::{Cursor, Range, RangeEntries};
pub use table_mut::alloc::{RowMut, RowsMut};
pub use table_mut::entry::{
    Entry, ExternalEntry, ExternalOccupiedEntry, ExternalVacantEntry, OccupiedEntry, VacantEntry,
};
pub use table_mut::external::{ExternalRowMut, ExternalTableMut};
pub use table_mut::place::KeysMut;
#[doc(hidden)]
pub use table_mut::place::{Internal, Place};
pub use table_mut::range::{ExternalExtractIf, ExternalIndexViewMut, ExtractIf, IndexViewMut};
pub use table_mut::{ExtendError, TableMut};
pub use transaction::savepoint::Savepoint;
pub use transaction::{Committed, WriteTransaction};
pub use verify::{Unread, VerifyIssue, VerifyProgress, VerifyReport, VerifyStep};
pub use write_set::TableChanges;
/// The crate whose traits define which bytes are a valid record.
pub use zerocopy;

/// The names that most programs use: `use pongo::prelude::*;`
pub mod prelude {
    pub use crate::{
        Blob, Column, Cursor, Durability, ExternalRecord, ExternalTable, ExternalTableMut, FieldType,
        FixedStr, HeapRead, KeyField, Location, Maybe, Options, PongoRecord, Predicate, RowId, Savepoint,
        Snapshot, Store, Table, TableMut, Text, Timestamp, Uuid, WriteTransaction,
    };
}

#[doc(hidden)]
pub use pongo_core::__private;

/// Compiles the README's program as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
