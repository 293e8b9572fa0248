//! Hash indexes of a store's tables, kept in sync with the rows. Implements the engine's
//! [`Indexer`] interface.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashTable;
use pongo_core::engine::{CrashBounds, IndexError, Indexer, Replay, TableChange};
use pongo_core::error::StorageError;
use pongo_core::guard::holds;
use pongo_core::ids::RowId;
use pongo_core::table::{TableCore, TableView};
use pongo_index::{Candidate, HashError, HashIndex, IndexIdentity, KeyHasher, Seen, key_hash};

use crate::index::key_ranges::{KeyRanges, RowKeyHasher};
use crate::index::unique::{self, Unique};

/// The open indexes of one store in this process, by table.
#[derive(Default)]
pub(crate) struct Indexes {
    open: RwLock<Vec<Open>>,
}

/// The hash indexes of one table.
#[derive(Debug)]
pub(crate) struct TableIndexes {
    /// The key index.
    pub(crate) key: Arc<HashIndex>,
    key_ranges: KeyRanges,
    /// One entry for each unique index of the stored schema, in the same order.
    pub(crate) unique: Arc<[Unique]>,
}

/// Open indexes of a table.
struct Open {
    table: Arc<TableCore>,
    indexes: Arc<TableIndexes>,
    /// Whether the indexes were verified against their checksums or were created by this process.
    known_good: AtomicBool,
}

/// Number of bytes of rows that are hashed in one batch.
const BATCH: u64 = 1 << 20;

/// The folder and identity of one index of a table.
struct Place {
    dir: String,
    identity: IndexIdentity,
    ranges: KeyRanges,
}

/// Returns the location of the key index.
fn key_place(table: &TableCore) -> Place {
    let schema = table.schema();
    let of = table.fingerprint().wrapping_add(u128::from(table.id().0));
    Place {
        dir: format!("hash/{}", schema.table),
        identity: IndexIdentity { store: table.store_id(), table: of },
        ranges: KeyRanges::new(schema.key_ranges()),
    }
}

/// Returns the locations of the unique indexes, with their positions in the stored schema.
fn unique_places(table: &TableCore) -> impl Iterator<Item = (usize, Place)> {
    let key = key_place(table);
    table.schema().uniques().map(move |(place, index)| {
        // An index over other fields of the same table gets another identity.
        let fields = (u128::from(key_hash(index.name.as_bytes())) << 64) | (place as u128 + 1);
        let identity = IndexIdentity { table: key.identity.table ^ fields, ..key.identity };
        let ranges = KeyRanges::of(table.schema(), &index.fields);
        (place, Place { dir: format!("{}.u{place}", key.dir), identity, ranges })
    })
}

impl TableIndexes {
    /// Collects all indexes of a table, each created by `make`.
    fn gather<E>(
        table: &TableCore,
        mut make: impl FnMut(&Place, bool) -> Result<HashIndex, E>,
    ) -> Result<Self, E> {
        let place = key_place(table);
        let key = Arc::new(make(&place, false)?);
        let unique = unique_places(table).map(|(at, place)| {
            let index = make(&place, true)?;
            Ok(Unique { place: at, ranges: place.ranges, index })
        });
        Ok(Self { key, key_ranges: place.ranges, unique: unique.collect::<Result<_, E>>()? })
    }

    fn open(table: &TableCore) -> Result<Self, HashError> {
        Self::gather(table, |place, _| HashIndex::open(table.storage(), &place.dir, place.identity))
    }

    fn for_each(&self, mut f: impl FnMut(&HashIndex) -> Result<(), HashError>) -> Result<(), HashError> {
        f(&self.key)?;
        self.unique.iter().try_for_each(|unique| f(&unique.index))
    }

    fn all(&self, mut f: impl FnMut(&HashIndex) -> bool) -> bool {
        f(&self.key) && self.unique.iter().all(|unique| f(&unique.index))
    }

    fn note(&self, seen: Seen) {
        self.key.note(seen);
        self.unique.iter().for_each(|unique| unique.index.note(seen));
    }

    /// Splits hashes in the layout of [`TableChange::hashes`] into those of the key and those of
    /// each unique index.
    fn split<'h>(&self, hashes: &'h [u64]) -> (&'h [u64], impl Iterator<Item = (&Unique, &'h [u64])>) {
        let rows = if self.unique.is_empty() { hashes.len() } else { hashes.len() / (1 + self.unique.len()) };
        let (of_key, others) = hashes.split_at(rows);
        let of_unique = move |place| &others[place * rows..(place + 1) * rows];
        (of_key, self.unique.iter().enumerate().map(move |(place, unique)| (unique, of_unique(place))))
    }
}

impl Indexes {
    /// Returns the indexes of a table and opens them first if necessary.
    pub(crate) fn of(&self, table: &Arc<TableCore>) -> Result<Arc<TableIndexes>, HashError> {
        if let Some(indexes) = self.known(table) {
            return Ok(indexes);
        }
        let indexes = match self.opened(table) {
            Some(indexes) => indexes,
            None => self.keep(table, TableIndexes::open(table)?, false),
        };
        self.verify(table, &indexes)?;
        Ok(indexes)
    }

    /// Verifies the indexes against their checksums, which are valid only as long as no process has
    /// written since the store was closed. This is done once per process.
    fn verify(&self, table: &Arc<TableCore>, indexes: &TableIndexes) -> Result<(), HashError> {
        if table.is_clean()
            && let Err(error) = indexes.for_each(|index| index.verify(table.version_stamp()))
            && table.is_clean()
        {
            return Err(error);
        }
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = open.iter().find(|known| Arc::ptr_eq(&known.table, table)) {
            known.known_good.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn opened(&self, table: &Arc<TableCore>) -> Option<Arc<TableIndexes>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().find(|known| Arc::ptr_eq(&known.table, table)).map(|known| Arc::clone(&known.indexes))
    }

    fn known(&self, table: &Arc<TableCore>) -> Option<Arc<TableIndexes>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().find(|known| Arc::ptr_eq(&known.table, table))?;
        known.known_good.load(Ordering::Acquire).then(|| Arc::clone(&known.indexes))
    }

    fn keep(&self, table: &Arc<TableCore>, indexes: TableIndexes, good: bool) -> Arc<TableIndexes> {
        let indexes = Arc::new(indexes);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Remove an uncommitted table with the same number.
        open.retain(|known| known.table.id() != table.id());
        let known_good = AtomicBool::new(good);
        open.push(Open { table: Arc::clone(table), indexes: Arc::clone(&indexes), known_good });
        indexes
    }

    /// Rebuilds the indexes of a table from its rows. If `deleted` is set, deleted rows keep the
    /// entries that they need for snapshots which still see them.
    pub(crate) fn rebuild_from(&self, view: &TableView, deleted: bool) -> Result<(), IndexError> {
        let table = view.core();
        let made = TableIndexes::gather(table, |place, unique| {
            let keys = RowKeyHasher { view, ranges: &place.ranges };
            let deleted = match (deleted, unique) {
                (false, _) => HashTable::new(),
                (true, false) => newest_deleted(&keys)?,
                (true, true) => unique::visible_deleted(&keys)?,
            };
            rebuild_one(place, &keys, deleted, unique)
        })?;
        made.note(seen_of(view));
        // Handles of the old indexes switch to the new ones by themselves.
        if self.known(table).is_none() {
            self.keep(table, made, true);
        }
        Ok(())
    }
}

/// Rebuilds one index from all live rows and the given deleted rows.
fn rebuild_one(
    place: &Place,
    keys: &RowKeyHasher<'_>,
    deleted: HashTable<(u64, RowId)>,
    unique: bool,
) -> Result<HashIndex, IndexError> {
    let deleted = RefCell::new(deleted);
    let live = LiveHashes { keys, run: 0..0, from: RowId(0), batch: Vec::new().into_iter() };
    let live = live.inspect(|item| {
        if let Ok((hash, candidate)) = item
            && !unique
        {
            // The key was put again in a row that has no link to the deleted one.
            forget(&mut deleted.borrow_mut(), *hash, |row| keys.same(row, candidate.row));
        }
    });
    let deleted = std::iter::once_with(|| deleted.take()).flatten();
    let deleted = deleted.map(|(hash, row)| (hash, Candidate { row, deleted: true }));
    HashIndex::try_rebuild::<IndexError>(
        keys.view.core().storage(),
        &place.dir,
        place.identity,
        keys.view.live(),
        keys,
        live.chain(deleted.map(Ok)),
    )
}

/// Returns the last version of each deleted key, with the key's hash.
///
/// A deleted row that was not replaced need not be the last one of its key. Recovery leaves deleted
/// keys out of the index it rebuilds, so a row that is put later has no link to them. No snapshot
/// that saw those rows exists any more, so only the newest row is kept.
fn newest_deleted(keys: &RowKeyHasher<'_>) -> Result<HashTable<(u64, RowId)>, StorageError> {
    let view = keys.view;
    let mut newest = HashTable::new();
    if view.live() == view.len() {
        return Ok(newest);
    }
    let mut replaced = HashSet::new();
    for row in 0..view.len() {
        replaced.extend(view.previous(RowId(row))?);
    }
    for row in (0..view.len()).map(RowId).filter(|row| !replaced.contains(row)) {
        if view.is_live(row)? {
            continue;
        }
        let hash = keys.hash(row);
        forget(&mut newest, hash, |older| keys.same(older, row));
        newest.insert_unique(hash, (hash, row), |&(hash, _)| hash);
    }
    Ok(newest)
}

/// Removes the row with a key, if it exists.
fn forget(rows: &mut HashTable<(u64, RowId)>, hash: u64, same_key: impl Fn(RowId) -> bool) {
    if let Ok(entry) = rows.find_entry(hash, |&(known, row)| known == hash && same_key(row)) {
        entry.remove();
    }
}

/// An iterator over all live rows that have an entry, with their hashes. It returns an error at the
/// first run that cannot be read, and then ends.
struct LiveHashes<'a> {
    keys: &'a RowKeyHasher<'a>,
    run: std::ops::Range<u64>,
    from: RowId,
    batch: std::vec::IntoIter<u64>,
}

impl LiveHashes<'_> {
    /// Hashes the next rows. Returns `false` at the end.
    fn fill(&mut self) -> Result<bool, StorageError> {
        let view = self.keys.view;
        if self.run.is_empty() {
            let Some(run) = view.next_run(self.from)? else { return Ok(false) };
            self.run = run.start.0..run.end.0;
            self.from = run.end;
        }
        let size = view.core().row_size();
        let end = self.run.end.min(self.run.start + (BATCH / size).max(1));
        let bytes = view.rows_bytes(RowId(self.run.start)..RowId(end))?;
        let hashes: Vec<u64> =
            bytes.chunks_exact(size as usize).map(|row| self.keys.ranges.hash(row)).collect();
        self.batch = hashes.into_iter();
        Ok(true)
    }
}

impl Iterator for LiveHashes<'_> {
    type Item = Result<(u64, Candidate), IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(hash) = self.batch.next() {
                let row = RowId(self.run.start);
                self.run.start += 1;
                if !self.keys.ranges.has_entry(hash) {
                    continue;
                }
                return Some(Ok((hash, Candidate { row, deleted: false })));
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(fault) => {
                    self.from = RowId(self.keys.view.len());
                    self.run = 0..0;
                    return Some(Err(Box::new(fault)));
                }
            }
        }
    }
}

impl Indexer for Indexes {
    fn reuse(&self, table: &Arc<TableCore>, crash_bounds: Option<&CrashBounds>) -> Result<(), IndexError> {
        let indexes = TableIndexes::open(table)?;
        if let Some(CrashBounds { newest, rows }) = crash_bounds {
            let is_of_these = |index: &HashIndex| {
                let seen = index.seen();
                holds!("hash.seen", seen.seq <= newest.0 && rows.contains(&seen.rows))
            };
            if !indexes.all(is_of_these) {
                return Err("the index is of another copy of the store".into());
            }
            // Recovers changes that a killed process left incomplete; no other process is using the
            // store.
            indexes.for_each(HashIndex::recover)?;
        }
        self.keep(table, indexes, false);
        Ok(())
    }

    fn verify_checksum(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.of(table)?;
        Ok(())
    }

    fn rebuild(&self, view: &TableView) -> Result<(), IndexError> {
        self.rebuild_from(view, false)
    }

    fn create(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        let empty = |place: &Place, _| HashIndex::create(table.storage(), &place.dir, place.identity, 0);
        let made = TableIndexes::gather::<HashError>(table, empty)?;
        made.note(Seen::default());
        self.keep(table, made, true);
        Ok(())
    }

    fn reserve(&self, view: &TableView, hashes: &[u64], deleted_rows: &[RowId]) -> Result<(), IndexError> {
        let indexes = self.of(view.core())?;
        let (of_key, others) = indexes.split(hashes);
        let reserve = |index: &HashIndex, ranges: &KeyRanges, hashes: &[u64]| {
            let keys = RowKeyHasher { view, ranges };
            index.reserve(hashes, &keys)?;
            keys.make_writable(index, hashes, deleted_rows)
        };
        reserve(&indexes.key, &indexes.key_ranges, of_key)?;
        for (unique, hashes) in others {
            reserve(&unique.index, &unique.ranges, &unique.ranges.with_entry(hashes))?;
        }
        Ok(())
    }

    fn apply(&self, change: &TableChange<'_>, replay: Replay) -> Result<(), IndexError> {
        let indexes = self.of(change.table)?;
        indexes.note(seen_of(&change.view));
        let keys = RowKeyHasher { view: &change.view, ranges: &indexes.key_ranges };
        let rows = change.rows.end.0 - change.rows.start.0;
        let computed: Vec<u64>;
        let hashes = if replay == Replay::First
            && change.hashes.len() as u64 == rows * (1 + indexes.unique.len() as u64)
        {
            change.hashes
        } else {
            computed = hashes_of(&indexes, change);
            &computed
        };
        let (of_key, others) = indexes.split(hashes);
        match replay {
            Replay::First => apply_once(&indexes.key, change, of_key, &keys)?,
            Replay::Repeat => apply_again(&indexes.key, change, of_key, &keys)?,
        }
        for (unique, hashes) in others {
            unique::apply(unique, change, hashes, replay)?;
        }
        Ok(())
    }

    fn repair_after_crash(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        Ok(self.of(table)?.for_each(HashIndex::recover)?)
    }

    fn sync(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        // Not verified against the checksum of the last close, because this creates the next one.
        let indexes = match self.opened(table) {
            Some(indexes) => indexes,
            None => self.keep(table, TableIndexes::open(table)?, false),
        };
        Ok(indexes.for_each(|index| index.sync(table.version_stamp()))?)
    }
}

/// Returns the state of an index that contains everything in a view.
fn seen_of(view: &TableView) -> Seen {
    Seen { seq: view.seq().0, rows: view.len() }
}

/// Computes the hashes in the layout of [`TableChange::hashes`].
fn hashes_of(indexes: &TableIndexes, change: &TableChange<'_>) -> Vec<u64> {
    let of_unique = indexes.unique.iter().map(|unique| &unique.ranges);
    let all = std::iter::once(&indexes.key_ranges).chain(of_unique);
    let rows = change.rows.start.0..change.rows.end.0;
    all.flat_map(|ranges| {
        let keys = RowKeyHasher { view: &change.view, ranges };
        rows.clone().map(move |row| keys.hash(RowId(row)))
    })
    .collect()
}

/// Applies a commit that the index has not seen. Only replaced entries are searched for.
fn apply_once(
    index: &HashIndex,
    change: &TableChange<'_>,
    hashes: &[u64],
    keys: &RowKeyHasher<'_>,
) -> Result<(), IndexError> {
    let first = change.rows.start.0;
    let hash_of = |row: RowId| hashes[(row.0 - first) as usize];
    match (hashes, change.previous) {
        ([], _) => {}
        (&[hash], &[(row, before)]) => replace(index, hash, before, row)?,
        _ => {
            let pairs = change.previous_by_row();
            let rows = (first..change.rows.end.0).map(RowId);
            if pairs.is_empty() {
                let entries: Vec<_> = hashes.iter().copied().zip(rows).collect();
                index.insert_bulk(&entries)?;
                drop(entries);
                return mark_deleted(index, change, keys);
            }
            let mut replacing = pairs.iter().map(|&(row, _)| row).peekable();
            let new = |row: &RowId| replacing.next_if_eq(row).is_none();
            let mut entries = Vec::with_capacity(hashes.len().saturating_sub(pairs.len()));
            entries.extend(rows.filter(new).map(|row| (hash_of(row), row)));
            index.insert_bulk(&entries)?;
            drop(entries);
            for &(row, before) in pairs.iter() {
                replace(index, hash_of(row), before, row)?;
            }
        }
    }
    mark_deleted(index, change, keys)
}

fn replace(index: &HashIndex, hash: u64, before: RowId, row: RowId) -> Result<(), IndexError> {
    if !index.replace(hash, before, row)? {
        index.insert(hash, row)?;
    }
    Ok(())
}

/// Marks the entries of rows that were deleted and not replaced.
fn mark_deleted(
    index: &HashIndex,
    change: &TableChange<'_>,
    keys: &RowKeyHasher<'_>,
) -> Result<(), IndexError> {
    if change.deleted_rows.len() == change.previous.len() && change.deleted_rows.len() < 2 {
        if let (&[deleted], &[(_, before)]) = (change.deleted_rows, change.previous)
            && deleted != before
        {
            index.set_deleted(keys.hash(deleted), deleted)?;
        }
        return Ok(());
    }
    let mut replaced: Vec<RowId> = change.previous.iter().map(|&(_, before)| before).collect();
    replaced.sort_unstable();
    // Most are in the order of their row numbers.
    let mut next = 0;
    for &row in change.deleted_rows {
        if replaced.get(next) != Some(&row) {
            match replaced.binary_search(&row) {
                Ok(at) => next = at,
                Err(_) => {
                    index.set_deleted(keys.hash(row), row)?;
                    continue;
                }
            }
        }
        next += 1;
    }
    Ok(())
}

/// Applies a commit that the index may have seen, completely or in part, and later commits too.
fn apply_again(
    index: &HashIndex,
    change: &TableChange<'_>,
    hashes: &[u64],
    keys: &RowKeyHasher<'_>,
) -> Result<(), IndexError> {
    index.reserve(hashes, keys)?;
    keys.make_writable(index, hashes, change.deleted_rows)?;
    for (row, &hash) in (change.rows.start.0..).map(RowId).zip(hashes) {
        index.upsert_checked(hash, row, &mut |other| keys.same(other, row))?;
    }
    mark_deleted(index, change, keys)
}
