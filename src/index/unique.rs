//! Unique indexes: one hash index each, from the value to the row that has it.
//!
//! An entry refers to the newest version of a record that has the value. An older snapshot finds
//! its version through the `previous` chain, as with a key. A row that takes a value over from
//! another record gets a separate entry. The entry of the previous owner stays while a snapshot may
//! see that row; after that, a later entry of the same value reuses its slot.
//! A row without a value has no entry ([`KeyRanges::has_entry`]).
//! `docs/design/hash-index.md` explains why this is correct.

use std::collections::HashSet;

use hashbrown::HashTable;
use pongo_core::engine::{IndexError, Replay, TableChange};
use pongo_core::error::{ReadError, StorageError};
use pongo_core::ids::{RowId, Seq};
use pongo_core::padding::with_bytes;
use pongo_core::record::PongoRecord;
use pongo_core::table::{Resolved, TableView};
use pongo_index::{HashError, HashIndex, KeyHasher};

use crate::index::error::fault;
use crate::index::key_ranges::{KeyRanges, PREFETCH_DISTANCE, RowKeyHasher};
use crate::index::versions::{self, Newest};

/// Maximum number of versions of a record that are searched for one with the newest version's
/// value, which may have changed in between.
const ENTRY_PROBE_LIMIT: usize = 4;

/// An open unique index.
#[derive(Debug)]
pub(crate) struct Unique {
    /// Position among the indexes of the table's stored schema.
    pub(crate) place: usize,
    /// Location of the value in a row.
    pub(crate) ranges: KeyRanges,
    pub(crate) index: HashIndex,
}

/// Finds the row with a unique value that is visible to a view. `value` contains the value's bytes
/// ([`KeyRanges::value_of`]). `newest` queries the ordered index of the value's fields.
///
/// Costs a key look-up, and one row more for each record that had the value while some snapshot
/// existed.
pub(crate) fn find_unique<'v, T: PongoRecord>(
    view: &'v TableView,
    unique: &Unique,
    value: &[u8],
    newest: impl FnOnce() -> Result<Newest, ReadError>,
) -> Result<Option<(RowId, &'v T)>, ReadError> {
    let hash = unique.ranges.hash_of(value);
    let near = find_within::<T>(view, unique, hash, value, versions::VERSION_PROBE_LIMIT)?;
    let UniqueMatch { seen: None, far: true } = near else { return Ok(near.seen) };
    let seen = match newest()? {
        Newest::Row(row) if row.0 < view.len() => {
            seen_with::<T>(view, row, |row| unique.ranges.is(row, value))?
        }
        Newest::Nothing => return Ok(None),
        Newest::Row(_) | Newest::Unknown => None,
    };
    match seen {
        Some(seen) => Ok(Some(seen)),
        // A row that was put and replaced in one transaction was never visible, and an older one
        // may be, so all versions are searched.
        None => Ok(find_within::<T>(view, unique, hash, value, usize::MAX)?.seen),
    }
}

/// The result of a look-up.
struct UniqueMatch<'v, T> {
    seen: Option<(RowId, &'v T)>,
    /// A record has more versions newer than the view than were searched.
    far: bool,
}

fn find_within<'v, T: PongoRecord>(
    view: &'v TableView,
    unique: &Unique,
    hash: u64,
    value: &[u8],
    versions: usize,
) -> Result<UniqueMatch<'v, T>, ReadError> {
    let (mut failed, mut far) = (None, false);
    let found = unique.index.find(hash, |candidate| {
        match view.resolve_near(candidate.row, versions) {
            Ok(Resolved::Row(row)) => seen_with::<T>(view, row, |row| unique.ranges.is(row, value)),
            Ok(Resolved::Nothing) => Ok(None),
            Ok(Resolved::Far) => {
                far = true;
                Ok(None)
            }
            Err(fault) => Err(fault.into()),
        }
        .unwrap_or_else(|error| {
            failed.get_or_insert(error);
            None
        })
    });
    match (found, failed) {
        (Err(error), _) => Err(fault(view.core(), error).into()),
        (Ok(None), Some(error)) => Err(error),
        (Ok(seen), _) => Ok(UniqueMatch { seen, far }),
    }
}

/// Returns a row if the view sees it and it has the value. The row must be below the view's length.
fn seen_with<T: PongoRecord>(
    view: &TableView,
    row: RowId,
    has_value: impl Fn(&[u8]) -> bool,
) -> Result<Option<(RowId, &T)>, ReadError> {
    if !view.is_live(row)? {
        return Ok(None);
    }
    let value = view.row::<T>(row)?;
    Ok(with_bytes(value, has_value).then_some((row, value)))
}

/// Applies a commit to a unique index. With [`Replay::Repeat`], this commit and later ones may have
/// been applied before, completely or in part. The view then shows all commits in the journal, and
/// no reader sees the states between them. `hashes` contains one hash for each new row.
pub(crate) fn apply(
    unique: &Unique,
    change: &TableChange<'_>,
    hashes: &[u64],
    replay: Replay,
) -> Result<(), IndexError> {
    let again = replay == Replay::Repeat;
    let keys = RowKeyHasher { view: &change.view, ranges: &unique.ranges };
    let first = change.rows.start;
    let new = || {
        let rows = (first.0..change.rows.end.0).map(RowId).zip(hashes.iter().copied());
        rows.filter(|&(_, hash)| unique.ranges.has_entry(hash))
    };
    // If no row was ever deleted, there is no entry to replace.
    if !again && change.view.live() == change.view.len() {
        match hashes {
            &[hash] if unique.ranges.has_entry(hash) => unique.index.insert(hash, first)?,
            _ => {
                let mut entries = Vec::with_capacity(hashes.len());
                entries.extend(new().map(|(row, hash)| (hash, row)));
                unique.index.insert_bulk(&entries)?;
            }
        }
        return Ok(());
    }
    if again {
        unique.index.reserve(&unique.ranges.with_entry(hashes), &keys)?;
        keys.make_writable(&unique.index, hashes, change.deleted_rows)?;
    }
    let pairs = change.previous_by_row();
    let before = |row: RowId| -> Result<Option<RowId>, StorageError> {
        if again || row < first {
            return change.view.previous(row);
        }
        Ok(pairs.binary_search_by_key(&row, |&(row, _)| row).ok().map(|at| pairs[at].1))
    };
    let mut update = Update { unique, keys, oldest_visible_seq: None };
    for (row, hash) in new() {
        if let Some(&ahead) = hashes.get((row.0 - first.0) as usize + PREFETCH_DISTANCE) {
            unique.index.prefetch(ahead);
        }
        // A row that was deleted in its own transaction, or in another commit being replayed, is
        // never visible.
        if change.view.is_live(row)? && !(again && update.names(hash, row)?) {
            let named = |older: RowId| again || older < first;
            update.name(hash, row, named, before)?;
        }
    }
    Ok(())
}

/// The update of a unique index by one commit.
struct Update<'a> {
    unique: &'a Unique,
    keys: RowKeyHasher<'a>,
    /// See [`TableCore::oldest_visible_seq`](pongo_core::table::TableCore::oldest_visible_seq).
    /// Computed on first use.
    oldest_visible_seq: Option<Seq>,
}

impl Update<'_> {
    fn names(&self, hash: u64, row: RowId) -> Result<bool, HashError> {
        let found = self.unique.index.find(hash, |candidate| (candidate.row == row).then_some(()))?;
        Ok(found.is_some())
    }

    /// Makes the entry of an older version with the same value refer to row `row`, the newest
    /// version of its record, or adds an entry. Only rows for which `named` returns `true` can have
    /// an entry.
    fn name(
        &mut self,
        hash: u64,
        row: RowId,
        named: impl Fn(RowId) -> bool,
        before: impl Fn(RowId) -> Result<Option<RowId>, StorageError>,
    ) -> Result<(), IndexError> {
        let mut last = row;
        for _ in 0..ENTRY_PROBE_LIMIT {
            let Some(older) = before(last)? else { break };
            // Two values can have the same hash.
            if named(older) && self.keys.same(older, row) && self.unique.index.replace(hash, older, row)? {
                return Ok(());
            }
            last = older;
        }
        self.add(hash, row)
    }

    /// Adds an entry. Reuses the slot of an entry with the same value whose row is no longer
    /// visible to any reader, if there is one.
    fn add(&mut self, hash: u64, row: RowId) -> Result<(), IndexError> {
        let view = self.keys.view;
        let (mut deleted, mut failed) = (Vec::new(), None);
        self.unique.index.find(hash, |candidate| {
            let other = candidate.row;
            match if other.0 < view.len() { view.deleted_at(other) } else { Ok(None) } {
                Ok(Some(deleted_at)) if deleted_at <= view.seq() && self.keys.same(other, row) => {
                    deleted.push((other, deleted_at))
                }
                Ok(_) => {}
                Err(fault) => failed = Some(fault),
            }
            None::<()>
        })?;
        if let Some(fault) = failed {
            return Err(fault.into());
        }
        if !deleted.is_empty() {
            let oldest_visible_seq =
                *self.oldest_visible_seq.get_or_insert_with(|| view.core().oldest_visible_seq());
            deleted.retain(|&(_, deleted_at)| deleted_at <= oldest_visible_seq);
        }
        let mut unseen = deleted.into_iter().map(|(other, _)| other);
        let taken = match unseen.next() {
            Some(other) => self.unique.index.replace(hash, other, row)?,
            None => false,
        };
        if !taken {
            self.unique.index.insert(hash, row)?;
        }
        for other in unseen {
            self.unique.index.remove(hash, other)?;
        }
        Ok(())
    }
}

/// Returns the deleted rows that a snapshot may see, with the hashes of their values. A rebuilt
/// index has entries for them in addition to the live rows. Rows that are reachable from a newer
/// version of their record are left out.
pub(crate) fn visible_deleted(keys: &RowKeyHasher<'_>) -> Result<HashTable<(u64, RowId)>, StorageError> {
    let view = keys.view;
    let mut deleted = HashTable::new();
    if view.live() == view.len() {
        return Ok(deleted);
    }
    let oldest_visible_seq = view.core().oldest_visible_seq();
    let is_seen = |row: RowId| {
        Ok::<_, StorageError>(view.deleted_at(row)?.is_some_and(|deleted_at| deleted_at > oldest_visible_seq))
    };
    let mut led_to = HashSet::new();
    for row in (0..view.len()).map(RowId) {
        let mut last = row;
        for _ in 0..ENTRY_PROBE_LIMIT {
            let Some(older) = view.previous(last)? else { break };
            if !is_seen(older)? {
                break;
            }
            if keys.same(older, row) {
                led_to.insert(older);
                break;
            }
            last = older;
        }
    }
    for row in (0..view.len()).map(RowId).filter(|row| !led_to.contains(row)) {
        if !is_seen(row)? {
            continue;
        }
        let hash = keys.hash(row);
        if keys.ranges.has_entry(hash) {
            deleted.insert_unique(hash, (hash, row), |&(hash, _)| hash);
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use pongo::prelude::*;
    use pongo_core::engine::{Indexer, TableChange};
    use pongo_index::key_hash;

    #[pongo::record]
    #[pongo(table = "seats")]
    struct Seat {
        #[pongo(key)]
        id: u64,
        #[pongo(unique)]
        who: u64,
    }

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn entries(store: &Store) -> Result<u64, Box<dyn std::error::Error>> {
        let snapshot = store.begin_read()?;
        let handle = snapshot.handle::<Seat>()?.ok_or("the table exists")?;
        Ok(handle.unique[0].index.stats()?.entries)
    }

    /// Moves the person at seat `id` to seat `to`.
    fn go(store: &Store, id: u64, to: u64) -> Outcome {
        let tx = store.begin_write_with(Durability::Relaxed)?;
        let mut seats = tx.table::<Seat>()?;
        let who = seats.get(id)?.ok_or("someone sits there")?.who;
        seats.delete(id)?;
        seats.insert(&Seat { id: to, who })?;
        drop(seats);
        tx.commit()?;
        Ok(())
    }

    fn seat_of(snapshot: &Snapshot, who: u64) -> Result<Option<u64>, pongo::ReadError> {
        Ok(snapshot.table::<Seat>()?.by(Seat::WHO).eq(who)?.next().transpose()?.map(|seat| seat.id))
    }

    #[test]
    fn rotating_value_keeps_few_entries() -> Outcome {
        let store = Store::in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Seat>()?.extend((0..3).map(|id| Seat { id, who: id }))?;
        tx.commit()?;
        // A new key each time: no chain of previous rows leads from one to the next.
        for id in 0..5000 {
            go(&store, if id == 0 { 0 } else { 9 + id }, 10 + id)?;
        }
        // Also back and forth between two keys, and two values of one row.
        for _ in 0..1250 {
            go(&store, 1, 4)?;
            go(&store, 4, 1)?;
            for who in [7, 2] {
                let tx = store.begin_write_with(Durability::Relaxed)?;
                tx.table::<Seat>()?.update(2, |seat| seat.who = who)?;
                tx.commit()?;
            }
        }
        assert!(entries(&store)? <= 8, "{} entries of 3 rows", entries(&store)?);
        let now = store.begin_read()?;
        assert_eq!([0, 1, 2, 7].map(|who| seat_of(&now, who).unwrap()), [Some(5009), Some(1), Some(2), None]);
        Ok(())
    }

    /// Entries of visible rows are kept; others are removed when another entry is added.
    #[test]
    fn entries_stay_while_rows_are_visible() -> Outcome {
        let store = Store::in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Seat>()?.put(&Seat { id: 0, who: 5 })?;
        tx.commit()?;
        let mut pinned = Vec::new();
        for id in 0..100 {
            pinned.push((store.begin_read()?, id));
            go(&store, id, id + 1)?;
        }
        assert_eq!(entries(&store)?, 101);
        for _ in 0..2 {
            for (snapshot, id) in &pinned {
                assert_eq!(seat_of(snapshot, 5)?, Some(*id));
            }
            // Rebuilding produces the same entries.
            store.rebuild_index::<Seat>()?;
            assert_eq!(entries(&store)?, 101);
        }
        // The oldest remaining snapshot keeps all rows that were deleted after it.
        pinned.drain(..60);
        go(&store, 100, 101)?;
        // 40 pinned rows, the last deleted row, and the live row.
        assert_eq!(entries(&store)?, 42);
        for (snapshot, id) in &pinned {
            assert_eq!(seat_of(snapshot, 5)?, Some(*id));
        }
        pinned.clear();
        go(&store, 101, 102)?;
        assert!(entries(&store)? <= 2);
        store.rebuild_index::<Seat>()?;
        assert!(entries(&store)? <= 2);
        Ok(())
    }

    /// Two values of one record that are exchanged repeatedly have one entry each, whatever
    /// snapshots exist.
    #[test]
    fn alternating_record_keeps_two_entries() -> Outcome {
        let store = Store::in_memory()?;
        let mut pinned = Vec::new();
        for who in 0..400 {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            tx.table::<Seat>()?.put(&Seat { id: 1, who: who % 2 })?;
            tx.commit()?;
            pinned.push(store.begin_read()?);
            if who == 300 {
                store.rebuild_index::<Seat>()?;
            }
        }
        assert_eq!(entries(&store)?, 2);
        for (who, snapshot) in (0..400).zip(&pinned) {
            assert_eq!([seat_of(snapshot, who % 2)?, seat_of(snapshot, 1 - who % 2)?], [Some(1), None]);
        }
        Ok(())
    }

    /// The journal's commits can be applied again, completely or from some point on, also to an
    /// index that never saw them.
    #[test]
    fn reapplied_commits_keep_entries() -> Outcome {
        let store = Store::in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Seat>()?.extend((0..20).map(|id| Seat { id, who: id }))?;
        tx.commit()?;
        for id in 0..30 {
            go(&store, if id < 20 { id } else { id + 80 }, 100 + id)?;
        }
        let tx = store.begin_write()?;
        tx.table::<Seat>()?.extend((120..130).map(|id| Seat { id, who: id - 100 + 1 }))?;
        tx.commit()?;
        let find_all = || -> Result<Vec<Option<u64>>, pongo::ReadError> {
            let now = store.begin_read()?;
            (0..32).map(|who| seat_of(&now, who)).collect()
        };
        let expected = find_all()?;
        assert_eq!(expected.iter().flatten().count(), 20);
        let guard = store.shared.engine.begin_write()?;
        let core = guard.table_named("seats")?.ok_or("the table exists")?;
        let view = guard.view(&core)?;
        let index = &store.shared.indexes.of(&core)?.unique[0].index;
        for empty in [false, true] {
            if empty {
                let named = std::cell::RefCell::new(Vec::new());
                index.for_each(|candidate| named.borrow_mut().push(candidate.row))?;
                for row in named.take() {
                    let hash = key_hash(&view.row::<Seat>(row)?.who.to_le_bytes());
                    assert!(index.remove(hash, row)?);
                }
            }
            for first in [0, 7, 0] {
                let before = index.stats()?.entries;
                let rows = RowId(first)..RowId(view.len());
                let previous: Vec<(RowId, RowId)> = (first..view.len())
                    .filter_map(|row| Some((RowId(row), view.previous(RowId(row)).ok()??)))
                    .collect();
                let deleted_rows: Vec<RowId> =
                    (0..view.len()).map(RowId).filter(|&row| !view.is_live(row).unwrap_or(true)).collect();
                let change = TableChange {
                    table: &core,
                    view: view.clone(),
                    rows,
                    hashes: &[],
                    previous: &previous,
                    deleted_rows: &deleted_rows,
                };
                store
                    .shared
                    .indexes
                    .apply(&change, pongo_core::engine::Replay::Repeat)
                    .map_err(|error| error.to_string())?;
                let after = index.stats()?.entries;
                assert_eq!(after, if before == 0 { 20 } else { before });
                assert_eq!(find_all()?, expected);
            }
        }
        Ok(())
    }

    /// A value that some row has in every commit is found in every snapshot, also in snapshots
    /// taken while its entry moves to another row.
    #[test]
    fn new_snapshots_find_rotating_value() -> Outcome {
        let store = Store::in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Seat>()?.put(&Seat { id: 0, who: 5 })?;
        tx.commit()?;
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| -> Outcome {
            let readers = [(); 2].map(|()| {
                scope.spawn(|| -> Result<u64, pongo::ReadError> {
                    let (mut looks, mut last) = (0, 0);
                    while !done.load(std::sync::atomic::Ordering::Acquire) {
                        let snapshot = store.begin_read()?;
                        let seat = seat_of(&snapshot, 5)?.expect("someone has it in every commit");
                        assert!(seat >= last && snapshot.table::<Seat>()?.contains(seat)?);
                        (looks, last) = (looks + 1, seat);
                    }
                    Ok(looks)
                })
            });
            let went = (0..4000).try_for_each(|id| go(&store, id, id + 1));
            done.store(true, std::sync::atomic::Ordering::Release);
            for reader in readers {
                assert!(reader.join().expect("a reader finds it")? > 0);
            }
            went
        })?;
        assert_eq!(seat_of(&store.begin_read()?, 5)?, Some(4000));
        Ok(())
    }

    #[pongo::record]
    #[pongo(table = "people", unique(floor, desk))]
    struct Guest {
        #[pongo(key)]
        id: u64,
        #[pongo(unique)]
        badge: Maybe<u64>,
        desk: Maybe<u32>,
        floor: u32,
        _pad: [u8; 4],
    }

    fn guest(id: u64, badge: Option<u64>, desk: Option<u32>) -> Guest {
        Guest { id, badge: badge.into(), desk: desk.into(), floor: 1, _pad: [0; 4] }
    }

    /// Returns the numbers of entries of the two indexes of guests.
    fn guest_entries(store: &Store) -> Result<[u64; 2], Box<dyn std::error::Error>> {
        let snapshot = store.begin_read()?;
        let handle = snapshot.handle::<Guest>()?.ok_or("the table exists")?;
        let entries =
            |place: usize| Ok::<_, pongo_index::HashError>(handle.unique[place].index.stats()?.entries);
        Ok([entries(0)?, entries(1)?])
    }

    #[test]
    fn absent_values_have_no_entries() -> Outcome {
        let store = Store::in_memory()?;
        let change = |change: &dyn Fn(&mut TableMut<'_, Guest>) -> Outcome| -> Outcome {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            change(&mut tx.table::<Guest>()?)?;
            tx.commit()?;
            Ok(())
        };
        change(&|guests| Ok(guests.insert(&guest(0, None, None))?))?;
        assert_eq!(guest_entries(&store)?, [0, 0]);
        change(&|guests| {
            guests
                .extend((1..20_000).map(|id| guest(id, None, id.is_multiple_of(4).then_some(id as u32))))?;
            Ok(())
        })?;
        assert_eq!(guest_entries(&store)?, [0, 4999]);
        // Rows without a value take no space in the index.
        let snapshot = store.begin_read()?;
        let empty = snapshot.handle::<Guest>()?.ok_or("the table exists")?.unique[0].index.stats()?;
        assert_eq!(empty.segments, 1);
        change(&|guests| Ok(guests.put(&guest(7, Some(1), Some(1))).map(drop)?))?;
        assert_eq!(guest_entries(&store)?, [1, 5000]);
        // The entry of a value that a row lost stays, and is used again.
        for _ in 0..3 {
            change(&|guests| Ok(guests.put(&guest(7, None, None)).map(drop)?))?;
            assert_eq!(guest_entries(&store)?, [1, 5000]);
            change(&|guests| Ok(guests.put(&guest(7, Some(1), Some(1))).map(drop)?))?;
            assert_eq!(guest_entries(&store)?, [1, 5000]);
        }
        change(&|guests| Ok(guests.put(&guest(7, None, None)).map(drop)?))?;
        drop(snapshot);
        store.rebuild_index::<Guest>()?;
        // The deleted row with the value may be visible to the thread that writes ordered indexes.
        let [badges, desks] = guest_entries(&store)?;
        assert!(badges <= 1 && desks <= 5000, "{badges} {desks}");
        // Deleted rows that a snapshot sees keep an entry only if they have a value.
        change(&|guests| Ok(guests.put(&guest(7, Some(1), None)).map(drop)?))?;
        let seen = store.begin_read()?;
        change(&|guests| Ok(guests.delete_range(0..8).map(drop)?))?;
        store.rebuild_index::<Guest>()?;
        let [badges, desks] = guest_entries(&store)?;
        // The live rows, and rows 4 and 7, which were deleted.
        assert!(badges == 1 && (4999..=5000).contains(&desks), "{badges} {desks}");
        let guests = seen.table::<Guest>()?;
        assert_eq!(guests.by(Guest::BADGE).eq(1)?.next().transpose()?.map(|guest| guest.id), Some(7));
        assert_eq!(guests.by(Guest::BADGE).eq(Maybe::none())?.count_rows()?, 19_999);
        Ok(())
    }

    #[test]
    fn verify_reports_wrong_entries_of_absent_values() -> Outcome {
        let store = Store::in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Guest>()?.extend([guest(0, None, None), guest(1, Some(0), Some(0))])?;
        tx.commit()?;
        let issues = || -> Result<Vec<String>, Box<dyn std::error::Error>> {
            Ok(store.verify(|_| ())?.issues.into_iter().map(|issue| issue.what).collect())
        };
        assert_eq!(issues()?, [""; 0]);
        let snapshot = store.begin_read()?;
        let handle = snapshot.handle::<Guest>()?.ok_or("the table exists")?;
        let [by_badge, by_desk] = [0, 1].map(|place| &handle.unique[place]);
        by_badge.index.insert(7, RowId(0))?;
        assert_eq!(issues()?, ["an entry of badge names row 0, which has no value"]);
        assert!(by_badge.index.remove(7, RowId(0))?);
        let value = snapshot.table::<Guest>()?.row(RowId(1))?.ok_or("it is live")?;
        let hash = pongo_core::padding::with_bytes(value, |row| by_desk.ranges.hash(row));
        assert!(by_desk.index.remove(hash, RowId(1))?);
        assert_eq!(issues()?, ["expected an entry of row 1 in the index of floor+desk, found none"]);
        Ok(())
    }

    /// The journal's commits can be applied again, also to an index that never saw them.
    #[test]
    fn reapplied_commits_leave_out_absent_values() -> Outcome {
        let store = Store::in_memory()?;
        let tx = store.begin_write()?;
        let badge = |id: u64| id.is_multiple_of(2).then_some(id);
        tx.table::<Guest>()?.extend((0..100).map(|id| guest(id, badge(id), None)))?;
        tx.commit()?;
        // Every row with a value loses it, and the others get one.
        let tx = store.begin_write()?;
        tx.table::<Guest>()?.extend((0..100).map(|id| guest(id, badge(id + 1), None)))?;
        tx.commit()?;
        let guard = store.shared.engine.begin_write()?;
        let core = guard.table_named("people")?.ok_or("the table exists")?;
        let view = guard.view(&core)?;
        for empty in [false, true] {
            if empty {
                let indexes = &store.shared.indexes.of(&core)?;
                let index = &indexes.unique[0].index;
                let named = std::cell::RefCell::new(Vec::new());
                index.for_each(|candidate| named.borrow_mut().push(candidate.row))?;
                for row in named.take() {
                    let hash = key_hash(
                        &view.row::<Guest>(row)?.badge.to_option().ok_or("it has one")?.to_le_bytes(),
                    );
                    assert!(index.remove(hash, row)?);
                }
                assert_eq!(guest_entries(&store)?, [0, 0]);
            }
            for first in [0, 100] {
                let change = TableChange {
                    table: &core,
                    view: view.clone(),
                    rows: RowId(first)..RowId(200),
                    hashes: &[],
                    previous: &(100..200).map(|row| (RowId(row), RowId(row - 100))).collect::<Vec<_>>(),
                    deleted_rows: &(0..100).map(RowId).collect::<Vec<_>>(),
                };
                let applied = store.shared.indexes.apply(&change, pongo_core::engine::Replay::Repeat);
                applied.map_err(|error| error.to_string())?;
                let [entries, none] = guest_entries(&store)?;
                assert_eq!((entries, none), (if empty { 50 } else { 100 }, 0));
            }
        }
        Ok(())
    }
}
