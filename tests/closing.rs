//! Closing a store: what it reports, what it costs and what it leaves on disk; and what a store
//! that was just opened reports about itself.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use pongo::prelude::*;
use pongo::{CloseError, OpenError, WriteError};
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_index::ordered::{BlockStore, SledBlocks};
use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "parts")]
#[derive(Debug, PartialEq)]
struct Part {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    bin: u32,
    _pad: u32,
}

/// More rows than a table may have without an index file.
const LARGE: u64 = 40_000;

fn open(path: &Path) -> Result<Store, OpenError> {
    // SAFETY: a folder of these tests, to which only PongoDB processes write.
    unsafe { Store::open(path) }
}

fn put(store: &Store, ids: std::ops::Range<u64>) -> Outcome {
    let tx = store.begin_write()?;
    let part = |id: u64| Part { id: id.wrapping_mul(0x9E37_79B9_7F4A_7C15), bin: (id % 97) as u32, _pad: 0 };
    tx.table::<Part>()?.extend(ids.map(part))?;
    tx.commit()?;
    Ok(())
}

fn ranges(store: &Store, rows: u64) -> Outcome {
    let snapshot = store.begin_read()?;
    let parts = snapshot.table::<Part>()?;
    assert_eq!(parts.range(..)?.count() as u64, rows);
    let in_bin = parts.by(Part::BIN).eq(5)?.count() as u64;
    assert_eq!(in_bin, (0..rows).filter(|id| id % 97 == 5).count() as u64);
    Ok(())
}

/// Length, times and a hash of the content.
type Seen = (u64, [i64; 4], u64);

/// Returns the state of every file and folder except `control`, through which the processes know of
/// each other.
fn files(folder: &Path) -> Outcome<BTreeMap<String, Seen>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let mut hasher = DefaultHasher::new();
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                std::fs::read(entry.path())?.hash(&mut hasher);
            }
            if entry.file_name() != "control" {
                let times =
                    [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
                let of = (metadata.len(), times, hasher.finish());
                found.insert(entry.path().display().to_string(), of);
            }
        }
    }
    Ok(found)
}

fn aside_is_empty(path: &Path, store: &Store) -> Outcome {
    let found = store.stats()?.ordered;
    assert!(found.quarantined == 0 && found.last_error.is_none(), "{found:?}");
    assert!(!path.join("ordered/sled.aside").exists());
    Ok(())
}

#[test]
fn small_store_has_no_blocks() -> Outcome {
    for rows in [10, 3000] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("parts.pongo");
        for round in 0..4 {
            let store = open(&path)?;
            put(&store, round * rows..(round + 1) * rows)?;
            ranges(&store, (round + 1) * rows)?;
            aside_is_empty(&path, &store)?;
            store.close()?;
            assert!(!path.join("ordered").exists(), "{rows} rows, round {round}");
        }
        // `catch_up_indexes` creates blocks, and they are kept unchanged afterwards.
        for round in 4..8 {
            let store = open(&path)?;
            put(&store, round * rows..(round + 1) * rows)?;
            store.catch_up_indexes()?;
            let lag = store.stats()?.tables[0].indexes.iter().map(|index| index.lag).collect::<Vec<_>>();
            assert_eq!(lag, [0, 0]);
            ranges(&store, (round + 1) * rows)?;
            aside_is_empty(&path, &store)?;
            store.close()?;
        }
    }
    Ok(())
}

#[test]
fn empty_blocks_are_no_damage() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let store = open(&path)?;
    put(&store, 0..LARGE)?;
    store.close()?;
    std::fs::remove_dir_all(path.join("ordered"))?;
    // A sled folder of a process that was killed before its first merge finished.
    SledBlocks::open(path.join("ordered/sled"))?.close()?;
    for _ in 0..2 {
        let store = open(&path)?;
        ranges(&store, LARGE)?;
        store.catch_up_indexes()?;
        aside_is_empty(&path, &store)?;
        ranges(&store, LARGE)?;
        store.close()?;
    }
    Ok(())
}

#[test]
fn unchanged_close_writes_nothing() -> Outcome {
    for rows in [10, LARGE] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("parts.pongo");
        let store = open(&path)?;
        put(&store, 0..rows)?;
        store.close()?;
        for what in ["nothing", "get", "range", "stats", "settle", "put and settle", "settle"] {
            let store = open(&path)?;
            match what {
                "get" => assert!(store.begin_read()?.table::<Part>()?.get(0)?.is_some()),
                "range" => ranges(&store, rows)?,
                "stats" => assert_eq!(store.stats()?.tables[0].rows, rows),
                "settle" => store.catch_up_indexes()?,
                "put and settle" => {
                    let tx = store.begin_write()?;
                    tx.table::<Part>()?.put(&Part { id: 0, bin: 0, _pad: 0 })?;
                    tx.commit()?;
                    store.catch_up_indexes()?;
                }
                _ => {}
            }
            let before = files(&path)?;
            store.close()?;
            let after = files(&path)?;
            let changed: Vec<_> = after.iter().filter(|(path, of)| before.get(*path) != Some(of)).collect();
            assert!(changed.is_empty() && before.len() == after.len(), "{rows} rows, {what}: {changed:?}");
        }
        let store = open(&path)?;
        assert_eq!(store.begin_read()?.table::<Part>()?.len(), rows);
        ranges(&store, rows)?;
        assert!(store.verify(|_| ())?.is_valid());
    }
    Ok(())
}

#[test]
fn store_is_writable_after_settling() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let store = open(&path)?;
    for round in 0..5 {
        put(&store, round * 1000..(round + 1) * 1000)?;
        // While a transaction is open, only the indexes are settled.
        let tx = store.begin_write()?;
        store.catch_up_indexes()?;
        drop(tx);
        store.catch_up_indexes()?;
        let snapshot = store.begin_read()?;
        assert_eq!(snapshot.table::<Part>()?.len(), (round + 1) * 1000);
    }
    assert!(store.verify(|_| ())?.is_valid());
    put(&store, 5000..5100)?;
    store.close()?;
    let store = open(&path)?;
    ranges(&store, 5100)?;
    assert!(store.verify(|_| ())?.is_valid());
    Ok(())
}

/// Returns a function each of whose calls opens the store as a separate process would.
fn processes() -> impl Fn() -> Result<Store, OpenError> + Sync {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    move || Options::new().open_on(Arc::clone(&storage))
}

#[test]
fn settling_goes_on_beside_everything_else() -> Outcome {
    const ROUNDS: u64 = 300;
    let open = processes();
    let store = open()?;
    put(&store, 0..1000)?;
    let ended = AtomicBool::new(false);
    let settle = || -> Result<(), String> {
        while !ended.load(Ordering::Relaxed) {
            store.catch_up_indexes().map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    // Each thread puts separate rows, in this process or in processes that start and end.
    let work = |other: bool| -> Result<(), String> {
        for round in 0..ROUNDS {
            let from = 1000 + round + if other { ROUNDS } else { 0 };
            let result = if other {
                open().map_err(Into::into).and_then(|store| {
                    put(&store, from..from + 1)?;
                    assert!(store.begin_read()?.table::<Part>()?.get(0)?.is_some());
                    if round % 2 == 0 {
                        store.catch_up_indexes()?;
                    }
                    Ok(store.close()?)
                })
            } else {
                put(&store, from..from + 1)
            };
            result.map_err(|error| format!("round {round}: {error}"))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let settling = [scope.spawn(settle), scope.spawn(settle)];
        let working = [scope.spawn(|| work(false)), scope.spawn(|| work(true))];
        let worked = working.map(|thread| thread.join().expect("it does not panic"));
        ended.store(true, Ordering::Relaxed);
        let settled = settling.map(|thread| thread.join().expect("it does not panic"));
        for result in worked.into_iter().chain(settled) {
            assert_eq!(result, Ok(()));
        }
    });
    for _ in 0..2 {
        let store = open()?;
        assert!(store.verify(|_| ())?.is_valid());
        ranges(&store, 1000 + 2 * ROUNDS)?;
    }
    store.close()?;
    let store = open()?;
    assert!(store.verify(|_| ())?.is_valid());
    ranges(&store, 1000 + 2 * ROUNDS)
}

#[test]
fn first_index_use_during_settling() -> Outcome {
    let open = processes();
    for round in 0..400 {
        let store = open()?;
        let other = open()?;
        put(&other, round..round + 1)?;
        other.close()?;
        // The index state written by the last close is outdated, and the one of this close is not
        // written yet.
        let both = Barrier::new(2);
        std::thread::scope(|scope| -> Outcome {
            let settled = scope.spawn(|| {
                both.wait();
                store.catch_up_indexes().map_err(|error| error.to_string())
            });
            both.wait();
            let snapshot = store.begin_read()?;
            assert!(snapshot.table::<Part>()?.get(0)?.is_some());
            settled.join().expect("it does not panic")?;
            Ok(())
        })
        .map_err(|error| format!("round {round}: {error}"))?;
    }
    Ok(())
}

#[test]
fn closing_says_what_still_lives() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    for in_memory in [true, false] {
        let open = || if in_memory { Store::in_memory() } else { open(&path) };
        let store = open()?;
        put(&store, 0..100)?;
        let (other, third) = (store.clone(), store.clone());
        let (one, two) = (store.begin_read()?, store.begin_read()?);
        let tx = store.begin_write()?;
        let error = store.close().expect_err("it is in use");
        assert_eq!(
            error.to_string(),
            "the store is not closed: this process still has 2 handles and 2 snapshots and 1 transaction of \
             it; drop them first, or leave it to the last of them to close it"
        );
        assert!(matches!(error, CloseError::InUse { handles: 2, snapshots: 2, transactions: 1 }));
        // They still work.
        assert_eq!(one.table::<Part>()?.len(), 100);
        tx.table::<Part>()?.put(&Part { id: 1, bin: 1, _pad: 0 })?;
        tx.commit()?;
        drop(third);
        assert!(matches!(
            other.close(),
            Err(CloseError::InUse { handles: 0, snapshots: 2, transactions: 0 })
        ));
        drop(one);
        assert_eq!(two.table::<Part>()?.range(..)?.count(), 100);
        drop(two);
        if !in_memory {
            // Dropping the last of them closed the store.
            let store = open()?;
            assert_eq!(store.begin_read()?.table::<Part>()?.len(), 101);
            let second = open()?;
            assert!(matches!(
                store.close(),
                Err(CloseError::InUse { handles: 1, snapshots: 0, transactions: 0 })
            ));
            second.close()?;
        }
    }
    Ok(())
}

#[test]
fn one_of_concurrent_closes_succeeds() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    for _ in 0..50 {
        let stores = [open(&path)?, open(&path)?, open(&path)?, open(&path)?];
        let closed = std::thread::scope(|scope| {
            let closing = stores.map(|store| {
                scope.spawn(move || {
                    drop(store.begin_read());
                    match store.close() {
                        Ok(()) => 1,
                        Err(CloseError::InUse { .. }) => 0,
                        Err(error) => panic!("{error}"),
                    }
                })
            });
            closing.map(|thread| thread.join().expect("it does not panic")).iter().sum::<u32>()
        });
        assert_eq!(closed, 1);
    }
    Ok(())
}

#[test]
fn close_separates_failures_from_live_handles() -> Outcome {
    let error: Box<dyn std::error::Error> = Box::new(CloseError::from(WriteError::Forked));
    assert!(error.source().is_some_and(|source| source.is::<WriteError>()));
    assert!(error.to_string().starts_with("the store was closed, but not in order: "));
    Ok(())
}

#[test]
fn opened_store_knows_its_indexes() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let store = open(&path)?;
    put(&store, 0..LARGE)?;
    store.catch_up_indexes()?;
    let settled = store.stats()?;
    store.close()?;
    for _ in 0..2 {
        let store = open(&path)?;
        let stats = store.stats()?;
        let counts = |stats: &pongo::StoreStats| {
            stats.tables[0].indexes.iter().map(|index| (index.pairs, index.lag)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&stats), [(LARGE, 0), (LARGE, 0)], "{stats}");
        assert_eq!((stats.ordered.pairs, stats.ordered.open), (2 * LARGE, true));
        assert!(stats.bytes.ordered >= settled.bytes.ordered / 2 && stats.bytes.ordered > 100_000, "{stats}");
        store.close()?;
    }
    // A store without ordered indexes still reports the space that they take.
    // SAFETY: as in `open`.
    let store = unsafe { Options::new().ordered(false).open(&path)? };
    assert!(store.stats()?.bytes.ordered > 100_000);
    store.close()?;
    // No index is created for the statistics.
    let path = folder.path().join("small.pongo");
    let store = open(&path)?;
    put(&store, 0..10)?;
    let stats = store.stats()?;
    assert_eq!((stats.tables[0].indexes[0].pairs, stats.tables[0].indexes[0].lag), (0, 10));
    assert!(!path.join("ordered").exists());
    Ok(())
}
