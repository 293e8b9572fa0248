//! Loom models of the hash index: one active writer, and readers that take no lock. See
//! `docs/design/testing.md`.
//!
//! Under `--cfg loom` a segment has two lines of entries (16 slots, split at 14) and the initial
//! top has two words, so that a few entries fill, split and rewrite segments. Everything else is as
//! in a store. Readers have their own handles, as other processes do.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Ghost, Ordering};

use pongo_core::ids::RowId;
use pongo_core::storage::{AtomicWords, MemoryStorage, Storage};
use pongo_core::sync::{Access, Mutex, model, threads, without_each};
use pongo_index::{Candidate, HashIndex, IndexIdentity, KeyHasher};

const IDENTITY: IndexIdentity = IndexIdentity { store: 5, table: 7 };
const DIR: &str = "hash/table";

/// Returns a hash. The upper bits select the top entry, the middle bits the line, and the lowest
/// bits are the tag.
const fn hash(top: u64, line: u64, tag: u64) -> u64 {
    top << 60 | line << 31 | tag
}

/// The rows of a table. Only the hash of the key matters: two rows have the same key if their
/// hashes are equal. The words of the rows are part of the model, and are stored before the index
/// refers to them.
struct Rows(AtomicWords);

impl Rows {
    fn new() -> Arc<Rows> {
        Arc::new(Rows(AtomicWords::atomic_words_in_heap(64)))
    }

    fn put(&self, row: u64, hash: u64) -> RowId {
        self.0.store(row as usize, hash, Ordering::Relaxed);
        RowId(row)
    }
}

impl KeyHasher for Rows {
    fn hash(&self, row: RowId) -> u64 {
        self.0.load(row.0 as usize, Ordering::Relaxed)
    }
}

/// A table with an index, and the handle of its writer.
struct Table {
    storage: Arc<dyn Storage>,
    rows: Arc<Rows>,
    index: HashIndex,
    next: Ghost,
}

impl Table {
    fn new() -> Table {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let index = HashIndex::create(&storage, DIR, IDENTITY, 0).expect("memory");
        Table { storage, rows: Rows::new(), index, next: Ghost::new(1) }
    }

    fn insert(&self, hash: u64) -> RowId {
        let row = self.rows.put(self.next.fetch_add(1, Ordering::Relaxed), hash);
        self.index.insert(hash, row).expect("there is space");
        row
    }

    fn reserve(&self, hashes: &[u64]) {
        self.index.reserve(hashes, &*self.rows).expect("there is space");
    }

    /// Opens a handle like another process's, which has already done a look-up.
    fn reader(&self, warm: u64) -> Reader {
        let reader = self.cold_reader();
        let _ = reader.find(warm);
        reader
    }

    /// Opens a handle that has not done a look-up: its first one takes the slow path.
    fn cold_reader(&self) -> Reader {
        let index = HashIndex::open(&self.storage, DIR, IDENTITY).expect("it was made");
        Reader { index, rows: Arc::clone(&self.rows) }
    }
}

struct Reader {
    index: HashIndex,
    rows: Arc<Rows>,
}

impl Reader {
    /// Returns the candidate of the key with this hash. Every candidate must be an existing row:
    /// its word was stored before the entry.
    fn find(&self, hash: u64) -> Option<Candidate> {
        let same_key = |candidate: Candidate| {
            let found = self.rows.hash(candidate.row);
            assert_ne!(found, 0, "the index names {}, which cannot be seen yet", candidate.row);
            (found == hash).then_some(candidate)
        };
        self.index.find(hash, same_key).expect("a writer at work is no error")
    }
}

fn alive(row: RowId) -> Option<Candidate> {
    Some(Candidate { row, deleted: false })
}

/// The outcomes of the executions of a model. A model whose threads never interact must not pass.
#[derive(Default)]
struct Met([Ghost; 2]);

impl Met {
    fn new() -> Arc<Met> {
        Arc::default()
    }

    fn note(&self, which: bool) {
        self.0[usize::from(which)].fetch_add(1, Ordering::Relaxed);
    }

    fn both(&self) -> bool {
        self.0.iter().all(|times| times.load(Ordering::Relaxed) > 0)
    }
}

#[test]
fn loom_new_entry_has_its_row() {
    let met = Met::new();
    let seen = Arc::clone(&met);
    model("insert", 3, move || {
        let table = Table::new();
        table.insert(hash(1, 0, 1));
        let reader = table.reader(hash(1, 0, 1));
        let met = Arc::clone(&seen);
        threads([
            Box::new(move || _ = table.insert(hash(1, 0, 2))),
            Box::new(move || met.note(reader.find(hash(1, 0, 2)).is_some())),
        ]);
    });
    assert!(met.both(), "found in some executions and not in others");
}

#[test]
fn loom_replaced_key_stays_found() {
    let met = Met::new();
    let seen = Arc::clone(&met);
    model("replace", 3, move || {
        let table = Table::new();
        let key = hash(1, 0, 1);
        let old = table.insert(key);
        let reader = table.reader(key);
        let met = Arc::clone(&seen);
        threads([
            Box::new(move || {
                let new = table.rows.put(40, key);
                assert!(table.index.replace(key, old, new).expect("memory"));
                assert!(table.index.set_deleted(key, new).expect("memory"));
            }),
            Box::new(move || {
                let first = reader.find(key).expect("a key that was there all the while");
                let second = reader.find(key).expect("a key that was there all the while");
                assert!(
                    first.row <= second.row && first.deleted <= second.deleted,
                    "{first:?}, then {second:?}"
                );
                met.note(first.deleted);
            }),
        ]);
    });
    assert!(met.both(), "found alive in some executions and dead in others");
}

#[test]
fn loom_reused_slot_has_right_row() {
    let met = Met::new();
    let seen = Arc::clone(&met);
    model("remove and insert", 3, move || {
        let table = Table::new();
        // All three hashes have the same tag, so that the reader checks each of them.
        let (gone, stays, comes) = (hash(1, 0, 1), hash(2, 0, 1), hash(3, 0, 1));
        let row = table.insert(gone);
        let stays_at = table.insert(stays);
        let reader = table.reader(stays);
        let met = Arc::clone(&seen);
        threads([
            Box::new(move || {
                assert!(table.index.remove(gone, row).expect("memory"));
                table.insert(comes);
            }),
            Box::new(move || {
                assert_eq!(reader.find(stays), alive(stays_at));
                met.note(reader.find(comes).is_some());
            }),
        ]);
    });
    assert!(met.both(), "found in some executions and not in others");
}

/// Creates a table with one segment that has fourteen entries: one more splits it. `key` is
/// inserted last and may be in either half of the hashes.
fn about_to_split(key: u64) -> (Table, RowId) {
    let table = Table::new();
    for i in 0..7 {
        table.insert(hash(i % 4, 0, 10 + i));
    }
    for i in 0..6 {
        table.insert(hash(8 + i % 4, 1, 20 + i));
    }
    let row = table.insert(key);
    (table, row)
}

#[test]
fn loom_key_is_found_during_split() {
    for key in [hash(2, 0, 1), hash(11, 1, 1)] {
        model("split", 2, move || {
            let (table, row) = about_to_split(key);
            let reader = table.reader(key);
            threads([
                Box::new(move || table.reserve(&[hash(3, 0, 2)])),
                Box::new(move || assert_eq!(reader.find(key), alive(row))),
            ]);
        });
    }
}

/// Creates an index with two segments, one for each half of the hashes. Both are filled to the
/// split limit, partly by slots whose entries were removed, so the next reservation rewrites them:
/// the writer allocates a free segment for the first, and frees the old segment. `key` is in the
/// lower half.
fn about_to_renew(key: u64) -> (Table, RowId) {
    let (table, _) = about_to_split(hash(11, 1, 1));
    table.reserve(&[hash(3, 0, 2)]);
    let stats = table.index.stats().expect("memory");
    assert_eq!((stats.segments, stats.free, stats.depth), (2, 1, 1), "it was split");
    let row = table.insert(key);
    for half in [0, 8] {
        // Fills both segments to 14 slots: the lower half has eight entries, the upper half seven.
        let more: Vec<u64> =
            (0..if half == 0 { 6 } else { 7 }).map(|i| hash(half + i % 4, i % 2, 30 + i)).collect();
        let rows: Vec<RowId> = more.iter().map(|&hash| table.insert(hash)).collect();
        for (&hash, &row) in more.iter().zip(&rows) {
            assert!(table.index.remove(hash, row).expect("memory"));
        }
    }
    (table, row)
}

/// Rewrites the segment that a reader is using, and then reuses the freed segment for other hashes.
/// Even without preemption, a reader that starts late may still see the old number of the segment
/// and any mix of its words.
fn renew_and_take(name: &str, reader: fn(&Table, u64) -> Reader) {
    let key = hash(2, 0, 1);
    model(name, 0, move || {
        let (table, row) = about_to_renew(key);
        let reader = reader(&table, key);
        threads([
            Box::new(move || {
                table.reserve(&[hash(3, 0, 3)]);
                table.reserve(&[hash(11, 1, 3)]);
            }),
            Box::new(move || assert_eq!(reader.find(key), alive(row))),
        ]);
    });
}

#[test]
fn loom_key_is_found_during_reuse() {
    renew_and_take("renew and take", Table::reader);
}

#[test]
fn loom_first_lookup_succeeds_during_reuse() {
    renew_and_take("renew and take, first look-up", |table, _| table.cold_reader());
}

/// Runs the same model with a second writer that has its own handle and reuses the segment. The
/// stores that the first writer made before it freed the segment are not ordered by the second
/// writer's fences.
#[test]
fn loom_other_writer_may_reuse_segment() {
    let key = hash(2, 0, 1);
    model("renew and take by another", 0, move || {
        let (table, row) = about_to_renew(key);
        let reader = table.reader(key);
        let other = HashIndex::open(&table.storage, DIR, IDENTITY).expect("it was made");
        let rows = Arc::clone(&table.rows);
        // Replaces the store's writer lock: `true` once the first writer has finished.
        let lock = Arc::new(Mutex::new(false));
        let same_lock = Arc::clone(&lock);
        threads([
            Box::new(move || {
                let mut is_done = lock.lock().expect("no thread panics");
                table.reserve(&[hash(3, 0, 3)]);
                *is_done = true;
            }),
            Box::new(move || {
                if *same_lock.lock().expect("no thread panics") {
                    other.reserve(&[hash(11, 1, 3)], &*rows).expect("there is space");
                }
            }),
            Box::new(move || assert_eq!(reader.find(key), alive(row))),
        ]);
    });
}

#[test]
fn loom_overflow_segment_has_its_words() {
    let met = Met::new();
    let seen = Arc::clone(&met);
    model("overflow", 2, move || {
        let table = Table::new();
        for i in 0..16 {
            table.insert(hash(i % 4, i % 2, 10 + i));
        }
        let new = hash(2, 0, 1);
        let reader = table.reader(new);
        let met = Arc::clone(&seen);
        threads([
            Box::new(move || _ = table.insert(new)),
            Box::new(move || met.note(reader.find(new).is_some())),
        ]);
    });
    assert!(met.both(), "found in some executions and not in others");
}

/// The file of a fence that no model needs: each store after it is a release store, no reader reads
/// these words, and `Segment::write` has its own fence before it overwrites a freed segment.
const SPARE: &str = "/hash/allocator.rs";

#[test]
fn loom_each_hash_fence_is_needed() {
    let models: [(_, fn()); 4] = [
        ("overflow", loom_overflow_segment_has_its_words),
        ("renew and take", loom_key_is_found_during_reuse),
        ("renew and take, first look-up", loom_first_lookup_succeeds_during_reuse),
        ("renew and take by another", loom_other_writer_may_reuse_segment),
    ];
    let tried = without_each(&models, |site| {
        site.what == Access::Fence && site.file.contains("/hash/") && !site.file.ends_with(SPARE)
    });
    assert_eq!(tried.len(), 4, "the models pass all fences: {tried:?}");
    for (site, model) in tried {
        assert!(model.is_some(), "no model fails without {site:?}");
    }
}
