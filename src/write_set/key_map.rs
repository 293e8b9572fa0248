//! The keys that a write transaction touched in one table: the location of the newest version of
//! each key, replaced rows, and deleted rows.
//!
//! New rows are of two kinds. *Written* rows are already in the chunks, after the applied length,
//! and have their row number. *Staged* rows are in memory and get their number when the transaction
//! commits or a bulk load writes them. Written rows come first, so no staged row is older than a
//! written one.
//!
//! The keys of written rows are kept in a hash table that grows part by part ([`Sharded`]), because
//! a transaction may write hundreds of millions of rows.

use hashbrown::HashTable;
use pongo_core::ids::RowId;

use crate::write_set::undo_log::UndoLog;

/// A row that the next version of its key replaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PriorVersion {
    pub(crate) row: RowId,
    /// Whether the row is live and must be deleted when it is replaced.
    pub(crate) alive: bool,
}

/// A transaction's change to one key. At least one of `staged` and `base` is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PendingChange {
    pub(crate) hash: u64,
    /// Index of the key's row among the staged rows, or `None` if the key is deleted.
    pub(crate) staged: Option<usize>,
    /// The previous row of the key, which is deleted already or is deleted by this transaction.
    pub(crate) base: Option<PriorVersion>,
}

/// The location of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyLocation {
    /// This transaction put or deleted the key.
    Modified(PendingChange),
    /// The key is in a row that this transaction wrote in bulk.
    Bulk(RowId),
    /// The key is in a row from before this transaction, its newest one, which is live or deleted.
    Committed(PriorVersion),
    /// The key was not found.
    Absent,
}

impl KeyLocation {
    /// Returns the row of a key whose row is in the table's chunks. Returns `None` if the row is
    /// staged, deleted, or does not exist.
    #[inline]
    pub(super) fn written_row(self) -> Option<RowId> {
        match self {
            Self::Modified(PendingChange { staged: Some(_), .. }) => None,
            Self::Modified(PendingChange { base: Some(PriorVersion { row, alive: true }), .. })
            | Self::Bulk(row)
            | Self::Committed(PriorVersion { row, alive: true }) => Some(row),
            Self::Modified(_) | Self::Committed(_) | Self::Absent => None,
        }
    }
}

/// The state of one key. Kept as small as possible because a transaction may change millions of
/// keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KeyEntry {
    /// The key has a staged row.
    Staged(PendingChange),
    /// The key has a written row.
    Written { hash: u64, row: RowId },
    /// The key is deleted.
    Gone(DeletedKey),
}

/// The last row of a deleted key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct DeletedKey {
    hash: u64,
    row: RowId,
}

impl From<PendingChange> for KeyEntry {
    fn from(touched: PendingChange) -> Self {
        match (touched.staged, touched.base) {
            (None, Some(base)) => Self::Gone(DeletedKey { hash: touched.hash, row: base.row }),
            _ => Self::Staged(touched),
        }
    }
}

/// A change to [`Keys`]: the removed entry and the entry that replaced it.
#[derive(Clone, Copy, Debug)]
struct KeyStep {
    before: Option<KeyEntry>,
    now: Option<KeyEntry>,
}

/// A point to which [`Keys::rewind`] can return.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeysMark {
    steps: usize,
    resolved: u64,
    previous: usize,
    deleted_rows: usize,
}

/// The keys that a transaction touched; see the module documentation. A key is in one of the three
/// tables, or in none if it was not changed.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Number of the first written row.
    first: u64,
    /// Keys with staged rows.
    touched: HashTable<PendingChange>,
    /// The newest written row of each key that has one, among the first `resolved` written rows.
    written: Sharded<Place>,
    /// Deleted keys.
    gone: Sharded<DeletedKey>,
    /// Number of written rows whose keys have been looked up and recorded here.
    pub(super) resolved: u64,
    /// Pairs of a row and the row it replaced, sorted by the first.
    pub(super) previous: Vec<(RowId, RowId)>,
    pub(super) deleted_rows: Vec<RowId>,
    log: UndoLog<KeyStep>,
}

impl Keys {
    /// Creates an empty set for a transaction whose first written row has this number.
    pub(crate) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// Returns whether the transaction has put, deleted or loaded nothing, considering only the
    /// first `resolved` written rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.written.is_empty() && self.gone.is_empty()
    }

    /// Returns the transaction's change to the key with this hash, or `None` if it did not change
    /// the key. The closures return whether the key is the key of the staged row at an index, of a
    /// written row, or of any row.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: u64,
        of_staged: impl Fn(usize) -> bool,
        of_written: impl Fn(RowId) -> bool,
        of_row: impl Fn(RowId) -> bool,
    ) -> Option<KeyLocation> {
        let staged = |known: &PendingChange| known.hash == hash && known.staged.is_some_and(&of_staged);
        if let Some(touched) = self.touched.find(hash, staged) {
            return Some(KeyLocation::Modified(*touched));
        }
        let row_of = |place: &Place| RowId(self.first + place.get());
        if let Some(place) = self.written.find(hash, |place| of_written(row_of(place))) {
            return Some(KeyLocation::Bulk(row_of(place)));
        }
        let grave = self.gone.find(hash, |grave| grave.hash == hash && of_row(grave.row))?;
        let base = PriorVersion { row: grave.row, alive: false };
        Some(KeyLocation::Modified(PendingChange { hash, staged: None, base: Some(base) }))
    }

    /// Returns whether a written row is the newest version of its key.
    pub(crate) fn has_written(&self, hash: u64, row: RowId) -> bool {
        self.written.find(hash, |known| self.first + known.get() == row.0).is_some()
    }

    /// Records a change to a key that was found at `spot`: it now has a staged row or is deleted.
    pub(crate) fn touch(&mut self, spot: KeyLocation, now: PendingChange) {
        let before = Self::entry(spot, now.hash);
        if before.is_none() && now.staged.is_some() {
            // The most common case: the first change to a key.
            self.touched.insert_unique(now.hash, now, |known| known.hash);
            if self.log.enabled {
                self.log.push(KeyStep { before: None, now: Some(KeyEntry::Staged(now)) });
            }
            return;
        }
        self.change(before, Some(now.into()), |_| unreachable!("no written row is added"));
    }

    /// Removes a key that was put and deleted in this transaction and had no row before.
    pub(crate) fn forget(&mut self, touched: PendingChange) {
        self.change(Some(touched.into()), None, |_| unreachable!("no row is added"));
    }

    /// Updates the index of the staged row of the key with this hash after the row moved.
    pub(crate) fn move_staged(&mut self, hash: u64, from: usize, to: usize) {
        if let Some(&before) = self.touched.find(hash, |known| known.staged == Some(from)) {
            self.touch(KeyLocation::Modified(before), PendingChange { staged: Some(to), ..before });
        }
    }

    /// Returns the recorded state of a key that was found at `spot`.
    fn entry(spot: KeyLocation, hash: u64) -> Option<KeyEntry> {
        match spot {
            KeyLocation::Modified(touched) => Some(touched.into()),
            KeyLocation::Bulk(row) => Some(KeyEntry::Written { hash, row }),
            KeyLocation::Committed(_) | KeyLocation::Absent => None,
        }
    }

    fn change(&mut self, before: Option<KeyEntry>, now: Option<KeyEntry>, hash_of: impl Fn(RowId) -> u64) {
        self.swap(before, now, hash_of);
        if self.log.enabled {
            self.log.push(KeyStep { before, now });
        }
    }

    /// Replaces `from` by `to`, which has the same key.
    fn swap(&mut self, from: Option<KeyEntry>, to: Option<KeyEntry>, hash_of: impl Fn(RowId) -> u64) {
        match from {
            Some(KeyEntry::Staged(from)) => {
                if let Ok(entry) = self.touched.find_entry(from.hash, |known| *known == from) {
                    entry.remove();
                }
            }
            Some(KeyEntry::Written { hash, row }) => {
                let first = self.first;
                self.written.remove(hash, |known| first + known.get() == row.0);
            }
            Some(KeyEntry::Gone(from)) => {
                self.gone.remove(from.hash, |known| *known == from);
            }
            None => {}
        }
        match to {
            Some(KeyEntry::Staged(to)) => {
                self.touched.insert_unique(to.hash, to, |known| known.hash);
            }
            Some(KeyEntry::Written { hash, row }) => self.insert_written(hash, row, hash_of),
            Some(KeyEntry::Gone(to)) => self.gone.insert(to.hash, to, |known| known.hash),
            None => {}
        }
    }

    fn insert_written(&mut self, hash: u64, row: RowId, hash_of: impl Fn(RowId) -> u64) {
        let first = self.first;
        let hash_of = |place: &Place| hash_of(RowId(first + place.get()));
        self.written.insert(hash, Place::new(row.0 - first), hash_of);
    }

    /// Returns a mark for [`rewind`](Self::rewind) and starts the undo log.
    pub(crate) fn mark(&mut self) -> KeysMark {
        KeysMark {
            steps: self.log.enable(),
            resolved: self.resolved,
            previous: self.previous.len(),
            deleted_rows: self.deleted_rows.len(),
        }
    }

    /// Undoes everything since a mark. `hash_of` must return the hash of every written row,
    /// including discarded ones.
    pub(crate) fn rewind(&mut self, mark: KeysMark, hash_of: impl Fn(RowId) -> u64) {
        while let Some(KeyStep { before, now }) = self.log.pop_until(mark.steps) {
            self.swap(now, before, &hash_of);
        }
        self.resolved = mark.resolved;
        self.previous.truncate(mark.previous);
        self.deleted_rows.truncate(mark.deleted_rows);
    }

    /// Returns the number of rows from before the transaction that were live and whose keys are
    /// deleted.
    pub(crate) fn deleted<E>(&self, was_live: impl Fn(RowId) -> Result<bool, E>) -> Result<u64, E> {
        debug_assert!(self.previous.is_sorted());
        let mut deleted = 0;
        for grave in self.gone.iter() {
            let mut row = grave.row;
            // Follow the replaced rows back to the row from before the transaction, if there is
            // one.
            while row.0 >= self.first {
                let Ok(at) = self.previous.binary_search_by_key(&row, |&(row, _)| row) else { break };
                row = self.previous[at].1;
            }
            deleted += u64::from(row.0 < self.first && was_live(row)?);
        }
        Ok(deleted)
    }

    /// Clears the undo log. Called when no savepoint is left.
    pub(crate) fn forget_marks(&mut self) {
        self.log.clear();
    }

    /// Deletes the last row of a key, because it is replaced or the key is deleted. Returns the
    /// base of the next version.
    pub(crate) fn mark_deleted(&mut self, base: Option<PriorVersion>) -> Option<PriorVersion> {
        let base = base?;
        if base.alive {
            self.deleted_rows.push(base.row);
        }
        Some(PriorVersion { alive: false, ..base })
    }

    /// Records that row `row`, which was written in bulk, has a key that was found at `spot`.
    pub(crate) fn note_written(
        &mut self,
        spot: KeyLocation,
        hash: u64,
        row: RowId,
        hash_of: impl Fn(RowId) -> u64,
    ) {
        let base = match spot {
            KeyLocation::Modified(touched) => touched.base,
            KeyLocation::Bulk(row) => Some(PriorVersion { row, alive: true }),
            KeyLocation::Committed(base) => Some(base),
            KeyLocation::Absent => None,
        };
        if let Some(base) = self.mark_deleted(base) {
            self.previous.push((row, base.row));
        }
        self.change(Self::entry(spot, hash), Some(KeyEntry::Written { hash, row }), hash_of);
    }

    /// Turns the staged rows into written rows and records which rows they replace. Their numbers
    /// are higher than those of all rows written before.
    pub(crate) fn assign_rows(&mut self, number: impl Fn(usize) -> RowId, hash_of: impl Fn(RowId) -> u64) {
        let touched = std::mem::take(&mut self.touched);
        self.note_replaced(&touched, &number);
        for touched in touched {
            let Some(place) = touched.staged else { continue };
            let (hash, row) = (touched.hash, number(place));
            self.insert_written(hash, row, &hash_of);
            if self.log.enabled {
                let (before, now) = (Some(KeyEntry::Staged(touched)), Some(KeyEntry::Written { hash, row }));
                self.log.push(KeyStep { before, now });
            }
        }
    }

    /// Records which rows the staged rows replace, at commit. After this, keys cannot be looked up
    /// and marks cannot be restored.
    pub(crate) fn finish(&mut self, number: impl Fn(usize) -> RowId) {
        let touched = std::mem::take(&mut self.touched);
        (self.written, self.log) = (Sharded::default(), UndoLog::default());
        self.note_replaced(&touched, number);
    }

    fn note_replaced(&mut self, touched: &HashTable<PendingChange>, number: impl Fn(usize) -> RowId) {
        let from = self.previous.len();
        let pairs = touched.iter().filter_map(|touched| Some((number(touched.staged?), touched.base?.row)));
        self.previous.extend(pairs);
        self.previous[from..].sort_unstable();
    }
}

/// Returns whether a hash occurs twice. Sorts the hashes in parts that fit the processor's cache.
/// Costs about 20 ns per hash, and as much memory as the hashes take.
pub(crate) fn has_duplicates(hashes: &[u64]) -> bool {
    /// Average number of hashes per part.
    const PART: usize = 4096;
    let bits = (hashes.len() / PART).next_power_of_two().trailing_zeros();
    if bits == 0 {
        return sorted_has_duplicates(&mut hashes.to_vec());
    }
    let part_of = |hash: u64| (hash >> (64 - bits)) as usize;
    let mut ends = vec![0_usize; 1 << bits];
    for &hash in hashes {
        ends[part_of(hash)] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += std::mem::replace(end, sum);
    }
    let mut parted = vec![0; hashes.len()];
    for &hash in hashes {
        let place = &mut ends[part_of(hash)];
        parted[*place] = hash;
        *place += 1;
    }
    let mut start = 0;
    ends.iter().any(|&end| {
        let twins = sorted_has_duplicates(&mut parted[start..end]);
        start = end;
        twins
    })
}

fn sorted_has_duplicates(hashes: &mut [u64]) -> bool {
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair[0] == pair[1])
}

/// Entries indexed by their hashes. When a single table grows, the old and the new table are in
/// memory at the same time and take three times the space of the entries. The parts of this table
/// grow one after the other.
#[derive(Debug)]
pub(crate) struct Sharded<E> {
    /// No part, one part, or [`PARTS`] parts.
    parts: Vec<HashTable<E>>,
    len: usize,
}

const PARTS: usize = 64;
/// Number of entries at which the table is split into parts.
const SPLIT: usize = 1 << 16;

impl<E> Default for Sharded<E> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }
}

impl<E> Sharded<E> {
    /// Returns the part for a hash. It is chosen by bits that select no bucket and are not stored
    /// in a bucket's tag.
    fn part_of(&self, hash: u64) -> usize {
        (hash >> 48) as usize & (self.parts.len().max(1) - 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&E) -> bool) -> Option<&E> {
        self.parts.get(self.part_of(hash))?.find(hash, is)
    }

    /// Adds an entry. `hash_of` is called for the hashes of the entries that move.
    pub(crate) fn insert(&mut self, hash: u64, entry: E, hash_of: impl Fn(&E) -> u64) {
        if self.parts.is_empty() {
            self.parts.push(HashTable::new());
        } else if self.len == SPLIT && self.parts.len() == 1 {
            let whole = std::mem::take(&mut self.parts[0]);
            self.parts.resize_with(PARTS, HashTable::new);
            for entry in whole {
                let hash = hash_of(&entry);
                let part = self.part_of(hash);
                self.parts[part].insert_unique(hash, entry, &hash_of);
            }
        }
        let part = self.part_of(hash);
        self.parts[part].insert_unique(hash, entry, &hash_of);
        self.len += 1;
    }

    /// Removes an entry. Returns whether it existed.
    pub(crate) fn remove(&mut self, hash: u64, is: impl FnMut(&E) -> bool) -> bool {
        let part = self.part_of(hash);
        let Some(part) = self.parts.get_mut(part) else { return false };
        match part.find_entry(hash, is) {
            Ok(entry) => {
                entry.remove();
                self.len -= 1;
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> {
        self.parts.iter().flat_map(HashTable::iter)
    }
}

/// Index of a row among those that a transaction wrote, in five bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place([u8; 5]);

impl Place {
    /// Creates the index.
    ///
    /// # Panics
    /// Panics if `place` is 2⁴⁰ or more. This cannot happen: the hashes of that many rows, eight
    /// bytes each, would already be in memory.
    pub(crate) fn new(place: u64) -> Self {
        let bytes = place.to_le_bytes();
        assert!(bytes[5..] == [0; 3], "a transaction writes fewer than 2^40 rows to a table");
        Self([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])
    }

    pub(crate) fn get(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_are_found_wherever_they_are() {
        let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for len in [0, 1, 2, 4095, 4096, 8192, 100_000_u64] {
            let mut hashes: Vec<u64> = (0..len).map(hash).collect();
            assert!(!has_duplicates(&hashes), "{len}");
            if len > 1 {
                hashes[len as usize / 3] = hashes[len as usize - 1];
                assert!(has_duplicates(&hashes), "{len}");
            }
        }
        assert!(has_duplicates(&[0; 100_000]));
    }

    #[test]
    fn reinserted_key_replaces_its_row_once() {
        let mut keys = Keys::default();
        let applied = PriorVersion { row: RowId(3), alive: true };
        let base = keys.mark_deleted(Some(applied));
        keys.touch(KeyLocation::Committed(applied), PendingChange { hash: 9, staged: Some(0), base });
        let spot = PendingChange { hash: 9, staged: Some(0), base };
        keys.touch(KeyLocation::Modified(spot), PendingChange { staged: None, ..spot });
        let spot = PendingChange { staged: None, ..spot };
        assert_eq!(spot.base, Some(PriorVersion { row: RowId(3), alive: false }));
        keys.touch(KeyLocation::Modified(spot), PendingChange { staged: Some(1), ..spot });
        keys.assign_rows(|place| RowId(10 + place as u64), |_| 9);
        assert_eq!(
            (&keys.deleted_rows[..], &keys.previous[..]),
            (&[RowId(3)][..], &[(RowId(11), RowId(3))][..])
        );
        assert!(keys.has_written(9, RowId(11)) && keys.touched.is_empty() && keys.gone.is_empty());
    }

    #[test]
    fn changes_since_mark_are_undone() {
        let mut keys = Keys::default();
        let hash_of = |row: RowId| row.0 % 4;
        let first = PendingChange { hash: 9, staged: Some(0), base: None };
        keys.touch(KeyLocation::Absent, first);
        keys.note_written(KeyLocation::Absent, 1, RowId(21), hash_of);
        let state = |keys: &Keys| {
            let mut touched: Vec<_> = keys.touched.iter().copied().collect();
            touched.sort_by_key(|touched| touched.hash);
            let mut written: Vec<_> = keys.written.iter().map(|place| place.get()).collect();
            written.sort_unstable();
            let mut gone: Vec<_> = keys.gone.iter().copied().collect();
            gone.sort_unstable_by_key(|grave| grave.row);
            (touched, written, gone, keys.previous.clone(), keys.deleted_rows.clone(), keys.resolved)
        };
        let before = state(&keys);
        let mark = keys.mark();
        for _ in 0..3 {
            keys.touch(KeyLocation::Absent, PendingChange { hash: 7, staged: Some(1), base: None });
            keys.forget(first);
            keys.move_staged(7, 1, 0);
            keys.note_written(KeyLocation::Bulk(RowId(21)), 1, RowId(25), hash_of);
            keys.note_written(KeyLocation::Absent, 2, RowId(26), hash_of);
            keys.assign_rows(|place| RowId(30 + place as u64), hash_of);
            let spot = KeyLocation::Bulk(RowId(26));
            let base = keys.mark_deleted(Some(PriorVersion { row: RowId(26), alive: true }));
            keys.touch(spot, PendingChange { hash: 2, staged: None, base });
            keys.resolved = 5;
            assert_ne!(state(&keys), before);
            keys.rewind(mark, hash_of);
            assert_eq!(state(&keys), before);
        }
    }

    #[test]
    fn entries_are_found_around_the_split() {
        let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash_of = |place: &Place| hash(place.get());
        let mut table = Sharded::default();
        assert!(table.is_empty() && table.find(3, |_| true).is_none() && !table.remove(3, |_| true));
        let count = 3 * SPLIT as u64;
        for i in 0..count {
            table.insert(hash(i), Place::new(i), hash_of);
            if i % 3 == 0 {
                assert!(table.remove(hash(i), |known| known.get() == i));
            }
        }
        assert_eq!(table.iter().count() as u64, count - count / 3);
        assert_eq!(table.len, table.iter().count());
        for i in 0..count {
            let found = table.find(hash(i), |known| known.get() == i);
            assert_eq!(found.copied(), (i % 3 != 0).then(|| Place::new(i)));
        }
        for i in (0..count).filter(|i| i % 3 != 0) {
            assert!(table.remove(hash(i), |known| known.get() == i));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_place_takes_five_bytes() {
        assert_eq!(size_of::<Place>(), 5);
        for place in [0, 1, 255, 256, (1 << 40) - 1] {
            assert_eq!(Place::new(place).get(), place);
        }
        assert!(std::panic::catch_unwind(|| Place::new(1 << 40)).is_err());
    }
}
