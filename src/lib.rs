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
//! In reading order: [`Store`] and [`Options`]; [`WriteTransaction`] and [`TableMut`]; [`Snapshot`]
//! and [`Table`]; [`Table::filter`] and the predicates of [`Column`]; [`ExternalTable`], for keys
//! that are not fields; the field types [`Text`], [`Blob`], [`FixedStr`], [`Maybe`], [`Timestamp`],
//! [`Uuid`]. The [`cookbook`] has recipes for common tasks.
//!
//! # Features
//! - **`rayon`** (on by default): parallel scans with `Table::par_slices`, `Table::par_rows` and
//!   `Filtered::par`; several threads sort the pairs of ordered indexes. `pongo::rayon` is the crate
//!   whose iterators these methods return.
//!
//! Features change neither the files of a store nor which stores can be opened.
//!
//! # Platforms
//! Linux on 64-bit little-endian machines.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

// Lets the `::pongo` paths that the macros generate resolve in this crate's own modules and tests.
extern crate self as pongo;

pub mod cookbook;
mod external;
mod external_entry;
mod external_mut;
mod index;
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

pub use external::{
    ExternalFiltered, ExternalGetMany, ExternalIndexView, ExternalRange, ExternalRows, ExternalTable,
    ExternalValues, KeyBounds,
};
pub use external_entry::{ExternalEntry, ExternalOccupiedEntry, ExternalVacantEntry};
pub use external_mut::{ExternalExtractIf, ExternalRowMut, ExternalTableMut};
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
pub use table::filter::{Filtered, FilteredEntries};
pub use table::index_view::IndexView;
pub use table::iter::{Entries, Rows, Slices};
pub use table::lookup::GetMany;
pub use table::range::{Cursor, Range, RangeEntries};
pub use table_mut::alloc::{RowMut, RowsMut};
pub use table_mut::entry::{Entry, OccupiedEntry, VacantEntry};
pub use table_mut::range::{ExtractIf, IndexViewMut};
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
