//! The hash indexes of a store's tables, kept in step with the rows: what the engine asks of the layer that knows keys.

use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::HashTable;
use pongo_core::engine::{Change, IndexError, Indexer};
use pongo_core::error::Fault;
use pongo_core::ids::RowId;
use pongo_core::table::{TableCore, TableView};
use pongo_index::{Candidate, HashError, HashIndex, Identity, KeyHashes, key_hash};

/// The open indexes of one store in one process, by table.
#[derive(Default)]
pub(crate) struct Indexes {
    open: RwLock<Vec<Open>>,
}

/// An open index.
struct Open {
    table: Arc<TableCore>,
    index: Arc<HashIndex>,
    /// Whether it was compared with its checksum, or made by this process.
    known_good: AtomicBool,
}

/// Rows that are prefetched before their keys are hashed.
const AHEAD: usize = 16;
/// Bytes of rows that are looked at together.
const BATCH: u64 = 1 << 20;

fn dir(table: &TableCore) -> String {
    format!("hash/{}", table.schema().table)
}

fn identity(table: &TableCore) -> Identity {
    Identity { store: table.store_id(), table: table.fingerprint().wrapping_add(u128::from(table.id().0)) }
}

pub(crate) fn fault(table: &TableCore, source: HashError) -> Fault {
    Fault::Index { table: table.schema().table.clone(), source: Box::new(source) }
}

impl Indexes {
    /// The index of a table, opened if it is not open yet.
    pub(crate) fn of(&self, table: &Arc<TableCore>) -> Result<Arc<HashIndex>, HashError> {
        if let Some(index) = self.known(table) {
            return Ok(index);
        }
        let index = match self.opened(table) {
            Some(index) => index,
            None => self.keep(table, HashIndex::open(table.storage(), &dir(table), identity(table))?, false),
        };
        self.verify(table, &index)?;
        Ok(index)
    }

    /// As long as nobody wrote since the store was closed, an index is what its checksum says: compared once a process.
    fn verify(&self, table: &Arc<TableCore>, index: &HashIndex) -> Result<(), HashError> {
        if table.is_clean()
            && let Err(error) = index.verify()
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

    fn opened(&self, table: &Arc<TableCore>) -> Option<Arc<HashIndex>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().find(|known| Arc::ptr_eq(&known.table, table)).map(|known| Arc::clone(&known.index))
    }

    fn known(&self, table: &Arc<TableCore>) -> Option<Arc<HashIndex>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let known = open.iter().find(|known| Arc::ptr_eq(&known.table, table))?;
        known.known_good.load(Ordering::Acquire).then(|| Arc::clone(&known.index))
    }

    fn keep(&self, table: &Arc<TableCore>, index: HashIndex, good: bool) -> Arc<HashIndex> {
        let index = Arc::new(index);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // A table of the same number that never was committed is forgotten here.
        open.retain(|known| known.table.id() != table.id());
        let known_good = AtomicBool::new(good);
        open.push(Open { table: Arc::clone(table), index: Arc::clone(&index), known_good });
        index
    }

    /// Makes the index of a table from its rows. With `dead`, keys whose row is deleted keep an entry, for snapshots that
    /// still see it.
    pub(crate) fn rebuild_from(&self, view: &TableView, dead: bool) -> Result<(), IndexError> {
        let table = view.core();
        let keys = RowKeys::new(view);
        let dead = RefCell::new(if dead { newest_dead(view, &keys)? } else { HashTable::new() });
        let live = LiveHashes { keys: &keys, run: 0..0, from: RowId(0), batch: Vec::new().into_iter() };
        let live = live.inspect(|item| {
            if let Ok((hash, candidate)) = item {
                // A key that was put anew in a row without a link to the dead one.
                forget(&mut dead.borrow_mut(), *hash, |row| keys.same_key(row, candidate.row));
            }
        });
        let dead = std::iter::once_with(|| dead.take()).flatten();
        let dead = dead.map(|(hash, row)| (hash, Candidate { row, dead: true }));
        let index = HashIndex::try_rebuild::<IndexError>(
            table.storage(),
            &dir(table),
            identity(table),
            view.live(),
            &keys,
            live.chain(dead.map(Ok)),
        )?;
        // Handles of the old one go over to the new one by themselves.
        if self.known(table).is_none() {
            self.keep(table, index, true);
        }
        Ok(())
    }
}

/// The last version of each deleted key, with the key's hash.
///
/// A dead row that no other replaced need not be the last one of its key: recovery leaves deleted keys out of the index it
/// rebuilds, so that a row put later has no link to them. No snapshot lives that saw them; the newest row counts.
fn newest_dead(view: &TableView, keys: &RowKeys<'_>) -> Result<HashTable<(u64, RowId)>, Fault> {
    let mut newest = HashTable::new();
    if view.live() == view.len() {
        return Ok(newest);
    }
    let mut replaced = HashSet::new();
    for row in 0..view.len() {
        replaced.extend(view.previous(RowId(row))?);
    }
    for row in (0..view.len()).map(RowId).filter(|&row| !view.is_live(row) && !replaced.contains(&row)) {
        let hash = keys.hash(row);
        forget(&mut newest, hash, |older| keys.same_key(older, row));
        newest.insert_unique(hash, (hash, row), |&(hash, _)| hash);
    }
    Ok(newest)
}

/// Takes the row with a key out, if there is one.
fn forget(rows: &mut HashTable<(u64, RowId)>, hash: u64, same_key: impl Fn(RowId) -> bool) {
    if let Ok(entry) = rows.find_entry(hash, |&(known, row)| known == hash && same_key(row)) {
        entry.remove();
    }
}

/// Hashes of the keys of a table's rows, taken from their bytes.
struct RowKeys<'a> {
    view: &'a TableView,
    /// Where the key lies in a row, once someone asks.
    ranges: OnceCell<Vec<(usize, usize)>>,
}

impl<'a> RowKeys<'a> {
    fn new(view: &'a TableView) -> Self {
        Self { view, ranges: OnceCell::new() }
    }

    fn ranges(&self) -> &[(usize, usize)] {
        self.ranges.get_or_init(|| self.view.core().schema().key_ranges())
    }

    fn hash_of(&self, row: &[u8]) -> u64 {
        match *self.ranges() {
            [(offset, len)] => key_hash(&row[offset..offset + len]),
            _ => key_hash(&self.key_of(row)),
        }
    }

    fn key_of(&self, row: &[u8]) -> Vec<u8> {
        self.ranges().iter().flat_map(|&(offset, len)| &row[offset..offset + len]).copied().collect()
    }

    fn same_key(&self, a: RowId, b: RowId) -> bool {
        let (Ok(a), Ok(b)) = (self.view.row_bytes(a), self.view.row_bytes(b)) else { return false };
        self.ranges().iter().all(|&(offset, len)| a[offset..offset + len] == b[offset..offset + len])
    }
}

impl KeyHashes for RowKeys<'_> {
    fn hash(&self, row: RowId) -> u64 {
        self.view.row_bytes(row).map_or(0, |bytes| self.hash_of(bytes))
    }

    fn hashes(&self, rows: &[RowId], out: &mut Vec<u64>) {
        for (place, &row) in rows.iter().enumerate() {
            if let Some(&ahead) = rows.get(place + AHEAD) {
                self.view.prefetch(ahead);
            }
            out.push(self.hash(row));
        }
    }
}

/// All live rows with the hashes of their keys. An error, and the end, at the first run that cannot be read.
struct LiveHashes<'a> {
    keys: &'a RowKeys<'a>,
    run: std::ops::Range<u64>,
    from: RowId,
    batch: std::vec::IntoIter<u64>,
}

impl LiveHashes<'_> {
    /// Hashes the next rows; `false` at the end.
    fn fill(&mut self) -> Result<bool, Fault> {
        let view = self.keys.view;
        if self.run.is_empty() {
            let Some(run) = view.next_run(self.from) else { return Ok(false) };
            self.run = run.start.0..run.end.0;
            self.from = run.end;
        }
        let size = view.core().row_size();
        let end = self.run.end.min(self.run.start + (BATCH / size).max(1));
        let bytes = view.rows_bytes(RowId(self.run.start)..RowId(end))?;
        let hashes: Vec<u64> = bytes.chunks_exact(size as usize).map(|row| self.keys.hash_of(row)).collect();
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
                return Some(Ok((hash, Candidate { row, dead: false })));
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
    fn adopt(&self, table: &Arc<TableCore>, clean: bool) -> Result<(), IndexError> {
        let index = HashIndex::open(table.storage(), &dir(table), identity(table))?;
        // What a process that was killed left half done is mended here; nobody else is at work.
        if !clean {
            index.recover()?;
        }
        self.keep(table, index, false);
        Ok(())
    }

    fn check(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.of(table)?;
        Ok(())
    }

    fn rebuild(&self, view: &TableView) -> Result<(), IndexError> {
        self.rebuild_from(view, false)
    }

    fn create(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        let index = HashIndex::create(table.storage(), &dir(table), identity(table), 0)?;
        self.keep(table, index, true);
        Ok(())
    }

    fn reserve(&self, view: &TableView, hashes: &[u64]) -> Result<(), IndexError> {
        Ok(self.of(view.core())?.reserve(hashes, &RowKeys::new(view))?)
    }

    fn apply(&self, change: &Change<'_>, again: bool) -> Result<(), IndexError> {
        let index = self.of(change.table)?;
        let keys = RowKeys::new(&change.view);
        if again { apply_again(&index, change, &keys) } else { apply_once(&index, change, &keys) }
    }

    fn take_over(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        Ok(self.of(table)?.recover()?)
    }

    fn sync(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        // Not compared with the checksum of the last close: this makes the next one.
        let index = match self.opened(table) {
            Some(index) => index,
            None => self.keep(table, HashIndex::open(table.storage(), &dir(table), identity(table))?, false),
        };
        Ok(index.sync()?)
    }
}

/// A commit that the index has not seen: nothing is searched for but what is replaced.
fn apply_once(index: &HashIndex, change: &Change<'_>, keys: &RowKeys<'_>) -> Result<(), IndexError> {
    let first = change.rows.start.0;
    let computed: Vec<u64>;
    let hashes = if change.hashes.len() as u64 == change.rows.end.0 - first {
        change.hashes
    } else {
        computed = (first..change.rows.end.0).map(|row| keys.hash(RowId(row))).collect();
        &computed
    };
    let hash_of = |row: RowId| hashes[(row.0 - first) as usize];
    match (hashes, change.previous) {
        ([], _) => {}
        (&[hash], &[(row, before)]) => replace(index, hash, before, row)?,
        _ => {
            let replacing: HashSet<RowId> = change.previous.iter().map(|&(row, _)| row).collect();
            let new = |row: &RowId| !replacing.contains(row);
            let entries: Vec<(u64, RowId)> = if replacing.is_empty() {
                hashes.iter().zip(first..).map(|(&hash, row)| (hash, RowId(row))).collect()
            } else {
                (first..change.rows.end.0).map(RowId).filter(new).map(|row| (hash_of(row), row)).collect()
            };
            index.insert_bulk(&entries)?;
            let mut pairs = change.previous.to_vec();
            pairs.sort_unstable();
            for (row, before) in pairs {
                replace(index, hash_of(row), before, row)?;
            }
        }
    }
    bury(index, change, keys)
}

fn replace(index: &HashIndex, hash: u64, before: RowId, row: RowId) -> Result<(), IndexError> {
    if !index.replace(hash, before, row)? {
        index.insert(hash, row)?;
    }
    Ok(())
}

/// Marks the entries of rows that died and were not replaced.
fn bury(index: &HashIndex, change: &Change<'_>, keys: &RowKeys<'_>) -> Result<(), IndexError> {
    if change.deaths.len() == change.previous.len() && change.deaths.len() < 2 {
        if let (&[dead], &[(_, before)]) = (change.deaths, change.previous)
            && dead != before
        {
            index.set_dead(keys.hash(dead), dead)?;
        }
        return Ok(());
    }
    let replaced: HashSet<RowId> = change.previous.iter().map(|&(_, before)| before).collect();
    for &row in change.deaths.iter().filter(|row| !replaced.contains(row)) {
        index.set_dead(keys.hash(row), row)?;
    }
    Ok(())
}

/// A commit that the index may have seen, whole or in part, and later ones too.
fn apply_again(index: &HashIndex, change: &Change<'_>, keys: &RowKeys<'_>) -> Result<(), IndexError> {
    let hashes: Vec<u64> =
        (change.rows.start.0..change.rows.end.0).map(|row| keys.hash(RowId(row))).collect();
    index.reserve(&hashes, keys)?;
    for (row, &hash) in (change.rows.start.0..).map(RowId).zip(&hashes) {
        index.upsert_checked(hash, row, &mut |other| keys.same_key(other, row))?;
    }
    bury(index, change, keys)
}
