//! How the keys of a table are given: [`InRow`], as fields of its records, or [`External`], as bytes
//! beside them. The kind is the last type parameter of [`Table`](crate::Table),
//! [`TableMut`](crate::TableMut) and the types that they return.
//!
//! A kind names the type of the stored rows ([`KeyKind::Row`]) and converts a row into what iterators
//! return ([`Keys::Item`]). All code that does not take a key from the caller is written once, for
//! any [`Keys`]. `docs/design/public-api.md` has the reasons.

use std::borrow::Borrow;
use std::marker::PhantomData;

use pongo_core::error::ReadError;
use pongo_core::fields::{HeapRead, key_digest};
use pongo_core::layout::EXTERNAL_HEAD;
use pongo_core::padding::copy_of;
use pongo_core::record::{ExternalRecord, PongoRecord};

/// Keys that are fields of the record, by `#[pongo(key)]`. The rows of the table are the records.
#[derive(Debug)]
pub enum InRow {}

/// Keys of arbitrary bytes beside the record, by `#[pongo(key = "external")]`. The rows of the table
/// are `R`s: a digest of the key, its address in the heap, and the record. Aliases such as
/// [`ExternalTable`](crate::ExternalTable) name `R`.
pub struct External<R>(PhantomData<fn() -> R>);

impl<R> core::fmt::Debug for External<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("External")
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::InRow {}
    impl<R> Sealed for super::External<R> {}
}

/// A kind of keys: [`InRow`] or [`External`]. Names the type of the rows of a table of `T`s.
///
/// Implemented for every `T`, so that the bounds of the tables' types are always met and a mistake
/// in `T` is reported once, by the function that opens the table.
pub trait KeyKind<T>: sealed::Sealed + Sized {
    /// The type of the rows.
    type Row: 'static;
}

impl<T: 'static> KeyKind<T> for InRow {
    type Row = T;
}

impl<T, R: 'static> KeyKind<T> for External<R> {
    type Row = R;
}

/// The kind of keys of a record `T`: [`InRow`] for a [`PongoRecord`], [`External`] for an
/// [`ExternalRecord`]. Functions over tables can be generic in it:
///
/// ```
/// use pongo::prelude::*;
/// use pongo::{Keys, ReadError};
///
/// fn read_all<T, K: Keys<T>>(table: &Table<'_, T, K>) -> Result<usize, ReadError> {
///     table.rows().try_fold(0, |rows, row| row.map(|_| rows + 1))
/// }
///
/// # #[pongo::record]
/// # #[pongo(table = "trades")]
/// # struct Trade { #[pongo(key)] id: u64 }
/// # #[pongo::record]
/// # #[pongo(table = "images", key = "external")]
/// # struct Image { taken: u32 }
/// # let store = Store::in_memory()?;
/// # let tx = store.begin_write()?;
/// # tx.table::<Trade>()?.put(&Trade { id: 1 })?;
/// # tx.external::<Image>()?.extend(["a", "b"].map(|key| (key, Image { taken: 7 })))?;
/// # tx.commit()?;
/// let snapshot = store.begin_read()?;
/// assert_eq!(read_all(&snapshot.table::<Trade>()?)?, 1);
/// assert_eq!(read_all(&snapshot.external::<Image>()?)?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{T}` is not a record with keys of the kind `{Self}`",
    note = "the table of a record with `#[pongo(key)]` is a `Table<'_, T>`, that of one with \
            `#[pongo(key = \"external\")]` an `ExternalTable<'_, T>`"
)]
pub trait Keys<T>: KeyKind<T, Row: PongoRecord> {
    /// A key: the type of the key field, or a tuple of field types; or `[u8]`.
    type Key: ?Sized;
    /// An owned key.
    type KeyBuf: Borrow<Self::Key>;
    /// The items of iterators over a table: `&T`; or the key and the value, `(&[u8], &T)`.
    type Item<'s>: Send;
    /// The items that are removed from a table: `T`; or `(Vec<u8>, T)`.
    type Taken;
    /// Whether a row that was found by the bytes of its key may have another external key.
    #[doc(hidden)]
    const EXTERNAL: bool;
    /// The offset in bytes of the `T` in a row.
    #[doc(hidden)]
    const VALUE_OFFSET: usize;

    /// Returns a row as an item.
    #[doc(hidden)]
    fn item<'s>(heap: &'s (dyn HeapRead + Sync), row: &'s Self::Row) -> Result<Self::Item<'s>, ReadError>;
    /// Returns a copy of a row.
    #[doc(hidden)]
    fn taken(heap: &dyn HeapRead, row: &Self::Row) -> Result<Self::Taken, ReadError>;
    #[doc(hidden)]
    fn value(row: &Self::Row) -> &T;
    #[doc(hidden)]
    fn value_mut(row: &mut Self::Row) -> &mut T;
    /// Returns whether a row that was found by the bytes of its key has the external key.
    #[doc(hidden)]
    fn has_external_key(
        heap: &dyn HeapRead,
        row: &Self::Row,
        external: Option<&[u8]>,
    ) -> Result<bool, ReadError>;
}

/// A key `Q` by which a row is looked up.
pub trait LookupKey<T, Q>: Keys<T> {
    /// Returns the bytes by which the row is found.
    #[doc(hidden)]
    fn key_bytes(key: &Q) -> KeyBytes<T, Self>;
    /// Returns the bytes of an external key.
    #[doc(hidden)]
    fn external(key: &Q) -> Option<&[u8]>;
}

/// The bytes by which a row is found.
pub(crate) type KeyBytes<T, K> = <<K as KeyKind<T>>::Row as PongoRecord>::KeyBytes;

/// The name of a table.
pub(crate) const fn table_name<T, K: Keys<T>>() -> &'static str {
    <K::Row as PongoRecord>::SCHEMA.table
}

impl<T: PongoRecord> Keys<T> for InRow {
    type Key = T::Key;
    type KeyBuf = T::Key;
    type Item<'s> = &'s T;
    type Taken = T;
    const EXTERNAL: bool = false;
    const VALUE_OFFSET: usize = 0;

    #[inline(always)]
    fn item<'s>(_: &'s (dyn HeapRead + Sync), row: &'s T) -> Result<&'s T, ReadError> {
        Ok(row)
    }

    #[inline]
    fn taken(_: &dyn HeapRead, row: &T) -> Result<T, ReadError> {
        Ok(copy_of(row))
    }

    #[inline(always)]
    fn value(row: &T) -> &T {
        row
    }

    #[inline(always)]
    fn value_mut(row: &mut T) -> &mut T {
        row
    }

    #[inline(always)]
    fn has_external_key(_: &dyn HeapRead, _: &T, _: Option<&[u8]>) -> Result<bool, ReadError> {
        Ok(true)
    }
}

impl<T: PongoRecord> LookupKey<T, T::Key> for InRow {
    #[inline(always)]
    fn key_bytes(key: &T::Key) -> T::KeyBytes {
        T::encode_key(key)
    }

    #[inline(always)]
    fn external(_: &T::Key) -> Option<&[u8]> {
        None
    }
}

impl<T: ExternalRecord> Keys<T> for External<T::Row> {
    type Key = [u8];
    type KeyBuf = Box<[u8]>;
    type Item<'s> = (&'s [u8], &'s T);
    type Taken = (Vec<u8>, T);
    const EXTERNAL: bool = true;
    // A row has the alignment of its value, which is at most the size of the head.
    const VALUE_OFFSET: usize = EXTERNAL_HEAD;

    #[inline]
    fn item<'s>(heap: &'s (dyn HeapRead + Sync), row: &'s T::Row) -> Result<(&'s [u8], &'s T), ReadError> {
        Ok((external_key::<T>(heap, row)?, T::value_of(row)))
    }

    fn taken(heap: &dyn HeapRead, row: &T::Row) -> Result<(Vec<u8>, T), ReadError> {
        Ok((external_key::<T>(heap, row)?.to_vec(), copy_of(T::value_of(row))))
    }

    #[inline(always)]
    fn value(row: &T::Row) -> &T {
        T::value_of(row)
    }

    #[inline(always)]
    fn value_mut(row: &mut T::Row) -> &mut T {
        T::value_mut(row)
    }

    #[inline]
    fn has_external_key(
        heap: &dyn HeapRead,
        row: &T::Row,
        external: Option<&[u8]>,
    ) -> Result<bool, ReadError> {
        Ok(Some(external_key::<T>(heap, row)?) == external)
    }
}

impl<T: ExternalRecord, Q: AsRef<[u8]>> LookupKey<T, Q> for External<T::Row> {
    #[inline]
    fn key_bytes(key: &Q) -> [u8; 16] {
        key_digest(key.as_ref())
    }

    #[inline]
    fn external(key: &Q) -> Option<&[u8]> {
        Some(key.as_ref())
    }
}

/// Returns the bytes of a row's external key.
pub(crate) fn external_key<'h, T: ExternalRecord>(
    heap: &'h (impl HeapRead + ?Sized),
    row: &T::Row,
) -> Result<&'h [u8], ReadError> {
    T::key_of(row)
        .as_bytes(heap)
        .map_err(|source| ReadError::ExternalKey { table: T::Row::SCHEMA.table.to_owned(), source })
}
