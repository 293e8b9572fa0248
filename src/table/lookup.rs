//! Lookups of rows by key: [`Table::get`] and its relatives.
//!
//! A lookup asks the hash index for candidates, compares the key in the row, and follows versions
//! that are newer than the view.

use std::borrow::Borrow;

use pongo_core::error::ReadError;
use pongo_core::ids::RowId;
use pongo_core::record::PongoRecord;
use pongo_core::table::{Resolved, TableView};
use pongo_index::{Candidate, HashError, HashIndex, key_hash};

use super::{Parts, Table};
use crate::index::error::fault;
use crate::index::versions::{Newest, VERSION_PROBE_LIMIT};
use crate::keys::{InRow, KeyBytes, Keys, LookupKey};
use crate::ordered_index::{KeyEncoder, newest};
use crate::shared::Source;

/// Finds the row with a key that is visible in a view. `newest` asks the ordered index for the
/// key's newest version in the view.
///
/// The common case takes few instructions and reads no memory except the index line and the row, so
/// that the processor starts the next lookup while it waits for the row of this one.
///
/// `SITE` is one of the constants of [`site`].
#[inline]
pub(crate) fn find<'v, T: PongoRecord, const SITE: usize>(
    view: &'v TableView,
    index: &HashIndex,
    hash: u64,
    key: &T::KeyBytes,
    newest: impl FnOnce() -> Result<Newest, ReadError>,
) -> Result<Option<(RowId, &'v T)>, ReadError> {
    match find_near::<T, SITE>(view, index, hash, key, VERSION_PROBE_LIMIT) {
        Ok(seen) => Ok(seen),
        Err(stop) => match *stop {
            Stop::Far => find_far::<T>(view, index, hash, key, newest()),
            Stop::Failed(error) => Err(error),
        },
    }
}

/// The callers of [`find`]. Each instantiates it with a constant that no other caller uses: the
/// compiler inlines an instance with a single caller, which saves `get_many` a tenth of its
/// instructions.
pub(crate) mod site {
    pub(crate) const GET: usize = 0;
    pub(crate) const GET_MANY: usize = 1;
    pub(crate) const GET_MANY_SINGLE: usize = 2;
    pub(crate) const EXTERNAL: usize = 3;
    pub(crate) const MANY_VERSIONS: usize = 4;
}

/// The reason why a lookup had no result. Separate from the result, so that the common case does
/// not carry it.
enum Stop {
    /// The key has more versions that are newer than the view than were followed.
    Far,
    Failed(ReadError),
}

impl<E: Into<ReadError>> From<E> for Box<Stop> {
    #[cold]
    fn from(error: E) -> Self {
        Self::new(Stop::Failed(error.into()))
    }
}

// Always inlined, because the cold path calls it too: a separate call costs a lookup about 5 ns.
#[allow(clippy::inline_always)]
#[inline(always)]
fn find_near<'v, T: PongoRecord, const SITE: usize>(
    view: &'v TableView,
    index: &HashIndex,
    hash: u64,
    key: &T::KeyBytes,
    versions: usize,
) -> Result<Seen<'v, T>, Box<Stop>> {
    let mut alive = None;
    let mut stopped = None;
    let found = index.find(hash, |candidate| match view.get_if_verified::<T>(candidate.row) {
        Some((value, false)) => (value.key_bytes() == *key).then(|| alive = Some((candidate.row, value))),
        _ => match check::<T>(view, candidate, key, versions) {
            Ok(Some(seen)) => {
                alive = seen;
                Some(())
            }
            Ok(None) => None,
            Err(stop) => {
                stopped = Some(stop);
                Some(())
            }
        },
    });
    match (found, stopped) {
        (Ok(_), None) => Ok(alive),
        (Err(error), _) => Err(in_index(view, error).into()),
        (Ok(_), Some(stop)) => Err(stop),
    }
}

/// Finds the row of a key with many versions that are newer than the view.
#[cold]
#[inline(never)]
fn find_far<'v, T: PongoRecord>(
    view: &'v TableView,
    index: &HashIndex,
    hash: u64,
    key: &T::KeyBytes,
    newest: Result<Newest, ReadError>,
) -> Result<Option<(RowId, &'v T)>, ReadError> {
    match newest? {
        // The ordered index may name a row with another key by mistake; the versions are followed
        // then.
        Newest::Row(row) if row.0 < view.len() => {
            let value = view.row::<T>(row)?;
            if value.key_bytes() == *key {
                return Ok(view.is_live(row)?.then_some((row, value)));
            }
        }
        Newest::Nothing => return Ok(None),
        Newest::Row(_) | Newest::Unknown => {}
    }
    match find_near::<T, { site::MANY_VERSIONS }>(view, index, hash, key, usize::MAX) {
        Ok(seen) => Ok(seen),
        Err(stop) => match *stop {
            Stop::Far => Ok(None),
            Stop::Failed(error) => Err(error),
        },
    }
}

#[cold]
fn in_index(view: &TableView, error: HashError) -> ReadError {
    fault(view.core(), error).into()
}

/// A row that is visible in a view, with its row number.
type Seen<'v, T> = Option<(RowId, &'v T)>;

/// Resolves a candidate of the index for a view. Returns `None` if the candidate has another key or
/// no version old enough for the view. Otherwise returns the row if it is live; if it is not, all
/// older versions were deleted before it.
#[inline(never)]
fn check<'v, T: PongoRecord>(
    view: &'v TableView,
    candidate: Candidate,
    key: &T::KeyBytes,
    versions: usize,
) -> Result<Option<Seen<'v, T>>, Box<Stop>> {
    let row = match view.resolve_near(candidate.row, versions)? {
        Resolved::Row(row) => row,
        Resolved::Nothing => return Ok(None),
        Resolved::Far => return Err(Box::new(Stop::Far)),
    };
    let value = view.row::<T>(row)?;
    if value.key_bytes() != *key {
        return Ok(None);
    }
    Ok(Some(view.is_live(row)?.then_some((row, value))))
}

impl<'s, T: PongoRecord> Table<'s, T> {
    /// Returns the row with this key, given as a value or as a reference: `get(7)` or `get(&7)`.
    /// The row is a reference into the mapped file. Costs a cache miss in the index and one in the
    /// rows.
    ///
    /// If the key was put again after the snapshot, each of these newer versions costs about 50 ns,
    /// for up to 64 of them; for more, a search in the ordered index costs a few microseconds. In a
    /// store without ordered indexes ([`Options::ordered`](crate::Options::ordered)), or while they
    /// are unavailable, every version is followed: 400,000 take 25 ms.
    ///
    /// # Errors
    /// [`ReadError::Storage`] if the index, the row's block or its chunk's marks are damaged;
    /// [`ReadError::InvalidRow`] if the row's bytes are not a valid `T`.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "seats")]
    /// # struct Seat { #[pongo(key)] train: u32, #[pongo(key)] number: u32, taken: u64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Seat>()?.put(&Seat { train: 15, number: 3, taken: 1 })?;
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let seats = snapshot.table::<Seat>()?; // of the key (train, number)
    /// let key = (15, 3);
    /// assert!(seats.get(key)?.is_some() && seats.get(&key)?.is_some() && seats.get((15, 4))?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn get(&self, key: impl Borrow<T::Key>) -> Result<Option<&'s T>, ReadError> {
        Ok(self.find_key(key.borrow())?.map(|(_, value)| value))
    }

    /// Returns the row with this key and its row number, like [`get`](Self::get).
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    #[inline]
    pub fn get_row(&self, key: impl Borrow<T::Key>) -> Result<Option<(RowId, &'s T)>, ReadError> {
        self.find_key(key.borrow())
    }

    /// Not generic in the type of the argument, so that it is compiled once.
    #[inline]
    fn find_key(&self, key: &T::Key) -> Result<Option<(RowId, &'s T)>, ReadError> {
        let key = T::encode_key(key);
        self.find::<{ site::GET }>(key_hash(key.as_ref()), &key, None)
    }

    /// Returns whether a row with this key exists.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    #[inline]
    pub fn contains(&self, key: impl Borrow<T::Key>) -> Result<bool, ReadError> {
        Ok(self.find_key(key.borrow())?.is_some())
    }

    /// Looks up many keys and returns the results in the order of the keys. The cache misses of the
    /// lookups overlap: in a large table it costs about half of the same number of
    /// [`get`](Self::get) calls.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64, price: f64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Trade>()?.extend((0..10).map(|id| Trade { id, price: 0.5 }))?;
    /// # tx.commit()?;
    /// let snapshot = store.begin_read()?;
    /// let found = snapshot.table::<Trade>()?.get_many(&[3, 77]).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(found.iter().map(|trade| trade.map(|t| t.id)).collect::<Vec<_>>(), [Some(3), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many<'k>(&self, keys: &'k [T::Key]) -> GetMany<'s, 'k, T> {
        GetMany::new(self.clone(), keys)
    }
}

impl<'s, T, K: Keys<T>> Table<'s, T, K> {
    /// Finds the row with a key, and its row number. For an external key, `key` is its digest and
    /// `external` its bytes.
    #[inline]
    pub(crate) fn find<const SITE: usize>(
        &self,
        hash: u64,
        key: &KeyBytes<T, K>,
        external: Option<&[u8]>,
    ) -> Result<Option<(RowId, &'s K::Row)>, ReadError> {
        let found = match &self.plain {
            Some(plain) => find::<K::Row, SITE>(plain.view, &plain.index, hash, key, || {
                self.newest(K::Row::SCHEMA.key, key.as_ref(), external)
            }),
            None => self.find_own(key),
        };
        if K::EXTERNAL { self.with_external_key(found?, external) } else { found }
    }

    /// Returns a row that was found by the bytes of its key if it has the external key. A row whose
    /// key is a field has no other key than these bytes.
    #[inline(always)]
    fn with_external_key(
        &self,
        found: Option<(RowId, &'s K::Row)>,
        external: Option<&[u8]>,
    ) -> Result<Option<(RowId, &'s K::Row)>, ReadError> {
        match found {
            Some((_, row)) if K::EXTERNAL && !K::has_external_key(self.source.heap, row, external)? => {
                Ok(None)
            }
            found => Ok(found),
        }
    }

    /// Finds a row in a table that the transaction changed, or that does not exist.
    #[inline(never)]
    fn find_own(&self, key: &KeyBytes<T, K>) -> Result<Option<(RowId, &'s K::Row)>, ReadError> {
        // A transaction reads the newest state, so there are no newer versions to follow.
        self.own.as_ref().map_or(Ok(None), |own| own.get(key))
    }

    /// Returns the newest row with a value according to the ordered index over some fields. Without
    /// ordered indexes it returns [`Newest::Unknown`], and does not build one in memory.
    #[cold]
    pub(crate) fn newest(
        &self,
        fields: &[usize],
        value: &[u8],
        external: Option<&[u8]>,
    ) -> Result<Newest, ReadError> {
        let Some(view) = self.view() else { return Ok(Newest::Nothing) };
        let Source { shared, heap } = self.source;
        let index = shared.ordered.is_enabled().then(|| self.ordered_index(view, fields)).flatten();
        let Some(index) = index else { return Ok(Newest::Unknown) };
        let key = match (index.keys(), external) {
            (KeyEncoder::Fields(_), None) => index.keys().bound(value.to_vec()),
            (KeyEncoder::Heap { .. }, Some(key)) => key.to_vec(),
            _ => return Ok(Newest::Unknown),
        };
        newest(&shared.ordered, &shared.engine, view, heap, &index, &key)
    }
}

/// Number of keys whose cache lines are fetched together.
const GROUP: usize = 16;

/// An iterator over the rows of many keys, without the keys. See [`Table::get_many`].
pub struct GetMany<'s, 'k, T, K: Keys<T> = InRow, Q = <T as PongoRecord>::Key> {
    table: Table<'s, T, K>,
    keys: &'k [Q],
    /// The keys of the current group, taken from the front of `keys`, with their hashes and bytes.
    keys_of_group: &'k [Q],
    group: [Option<(u64, KeyBytes<T, K>)>; GROUP],
    /// The rows of the first `found_to` keys of the group.
    found: [Option<&'s T>; GROUP],
    found_to: usize,
    /// Index of the next key of the group.
    at: usize,
}

impl<T, K: Keys<T>, Q> Clone for GetMany<'_, '_, T, K, Q> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), ..*self }
    }
}

impl<'s, 'k, T, K: LookupKey<T, Q>, Q> GetMany<'s, 'k, T, K, Q> {
    pub(super) fn new(table: Table<'s, T, K>, keys: &'k [Q]) -> Self {
        Self {
            table,
            keys,
            keys_of_group: &[],
            group: [None; GROUP],
            found: [None; GROUP],
            found_to: 0,
            at: 0,
        }
    }

    /// Takes the next group of keys, prefetches their index lines, then their rows, and then looks
    /// them up. Stops at a lookup that fails; it is repeated when its result is requested, and
    /// returns the error then.
    #[inline(never)]
    fn take_group(&mut self) {
        let (group, rest) = self.keys.split_at(self.keys.len().min(GROUP));
        (self.keys, self.keys_of_group, self.at, self.found_to) = (rest, group, 0, 0);
        let Some(Parts { view, handle }) = &self.table.parts else {
            self.found = [None; GROUP];
            self.found_to = group.len();
            return;
        };
        for (place, key) in self.group.iter_mut().zip(group) {
            let key = K::key_bytes(key);
            let hash = key_hash(key.as_ref());
            handle.index.prefetch(hash);
            *place = Some((hash, key));
        }
        let index = &*handle.index;
        let hashed = &self.group[..group.len()];
        for (hash, _) in hashed.iter().flatten() {
            // The lookup below returns the same error.
            let _ = index.find(*hash, |candidate| {
                view.prefetch(candidate.row);
                Some(())
            });
        }
        if self.table.own.is_some() {
            // A transaction that changed the table looks its keys up one by one.
            return;
        }
        for (hash, key) in hashed.iter().flatten() {
            let external = group.get(self.found_to).and_then(K::external);
            let newest = || self.table.newest(K::Row::SCHEMA.key, key.as_ref(), external);
            match find::<K::Row, { site::GET_MANY }>(view, index, *hash, key, newest) {
                Ok(found) => match self.table.with_external_key(found, external) {
                    Ok(found) => self.found[self.found_to] = found.map(|(_, row)| K::value(row)),
                    Err(_) => break,
                },
                Err(_) => break,
            }
            self.found_to += 1;
        }
    }

    /// Looks up one key of the group: in a transaction that changed the table, or after an error.
    #[inline(never)]
    fn find_one(&self, at: usize) -> Result<Option<&'s T>, ReadError> {
        let Some((hash, key)) = self.group[at] else { return Ok(None) };
        let external = K::external(&self.keys_of_group[at]);
        let found = self.table.find::<{ site::GET_MANY_SINGLE }>(hash, &key, external)?;
        Ok(found.map(|(_, row)| K::value(row)))
    }
}

impl<'s, T: 's, K: LookupKey<T, Q>, Q> Iterator for GetMany<'s, '_, T, K, Q> {
    type Item = Result<Option<&'s T>, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.keys_of_group.len() {
            if self.keys.is_empty() {
                return None;
            }
            self.take_group();
        }
        let at = self.at;
        self.at += 1;
        if at < self.found_to {
            return Some(Ok(self.found[at]));
        }
        Some(self.find_one(at))
    }
}

impl<T, K: Keys<T>, Q> core::fmt::Debug for GetMany<'_, '_, T, K, Q> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GetMany").field("table", &self.table).field("keys_left", &self.keys.len()).finish()
    }
}
