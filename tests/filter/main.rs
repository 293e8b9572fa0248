//! Filters: whatever a filter skips, its rows are those that a test of each row gives. The tests
//! also check that something is skipped.

mod mix;

use std::path::{Path, PathBuf};

use mix::{Mix, condition};
use pongo::prelude::*;
use pongo::rayon::prelude::*;
use pongo::{Durability, ReadError, RowId};
use pongo_test_support::{Outcome, Random, folder};

/// Applies random conditions to one snapshot, by every method.
fn check(snapshot: &Snapshot, rng: &mut Random, conditions: usize) -> Outcome {
    let table = snapshot.table::<Mix>()?;
    let all: Vec<(RowId, &Mix)> = table.entries().collect::<Result<_, _>>()?;
    for _ in 0..conditions {
        let (predicate, plain) = condition(rng, 6000, 2);
        let expected: Vec<_> = all.iter().filter(|(_, row)| plain(row)).map(|(number, _)| *number).collect();
        let filter = table.filter(&predicate);
        let what = format!("{filter:?}");
        let explain = filter.explain()?;
        let found: Vec<_> =
            filter.entries().map(|entry| entry.map(|(row, _)| row)).collect::<Result<_, _>>()?;
        assert_eq!(found, expected, "{what}");
        let mut folded = Vec::new();
        table.filter(&predicate).for_each(|row| folded.push(row.map(|row| row.id)));
        let folded: Vec<_> = folded.into_iter().collect::<Result<_, _>>()?;
        let ids: Vec<_> = all.iter().filter(|(_, row)| plain(row)).map(|(_, row)| row.id).collect();
        assert_eq!(folded, ids, "{what}");
        assert_eq!(table.filter(&predicate).count(), ids.len(), "{what}");
        let mut halves = table.filter(&predicate);
        let first = halves.by_ref().take(ids.len() / 2).count();
        assert_eq!(first + halves.count(), ids.len(), "{what}");
        let parallel: Vec<_> =
            table.filter(&predicate).par().map(|row| row.map(|row| row.id)).collect::<Result<_, _>>()?;
        assert_eq!(parallel, ids, "{what}");

        let rows = explain.pruned.rows + explain.matched.rows + explain.scanned.rows;
        assert_eq!(rows, explain.total.rows, "{what}");
        assert!(explain.matched.rows + explain.scanned.rows >= ids.len() as u64, "{what}\n{explain}");
    }
    let ids: Vec<_> = all.iter().map(|(_, row)| row.id).collect();
    let parallel: Vec<_> = table.par_rows().map(|row| row.map(|row| row.id)).collect::<Result<_, _>>()?;
    assert_eq!(parallel, ids);
    let slices: Vec<&[Mix]> = table.par_slices().collect::<Result<_, _>>()?;
    assert_eq!(slices.concat().iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    Ok(())
}

/// Commits one transaction of random changes.
fn change(store: &Store, rng: &mut Random, next: &mut u64) -> Outcome {
    let tx =
        store.begin_write_with(if rng.below(4) == 0 { Durability::Sync } else { Durability::Relaxed })?;
    let mut table = tx.table::<Mix>()?;
    if rng.below(3) != 0 {
        let new = rng.below(900);
        let rows: Vec<_> = (*next..*next + new).map(|id| mix::mix(id, rng)).collect();
        table.extend(rows)?;
        *next += new;
    }
    for _ in 0..rng.below(60) {
        let id = rng.below(*next + 1);
        if rng.below(2) == 0 {
            table.delete(id)?;
        } else {
            let wanted = rng.below(*next + 1);
            let row = Mix { id, ..mix::mix(wanted, rng) };
            table.put(&row)?;
            *next = (*next).max(id + 1);
        }
    }
    if rng.below(4) == 0 {
        let from = rng.below(*next + 1);
        for id in from..(from + rng.below(700)).min(*next) {
            table.delete(id)?;
        }
    }
    drop(table);
    tx.commit()?;
    Ok(())
}

fn random_life(store: &Store, rng: &mut Random, next: &mut u64, steps: u64) -> Outcome {
    let mut pinned: Vec<Snapshot> = Vec::new();
    for _ in 0..steps {
        change(store, rng, next)?;
        pinned.push(store.begin_read()?);
        if pinned.len() > 3 {
            let old = rng.below(pinned.len() as u64) as usize;
            pinned.swap_remove(old);
        }
        let place = rng.below(pinned.len() as u64) as usize;
        check(&pinned[place], rng, 4)?;
    }
    pinned.iter().try_for_each(|snapshot| check(snapshot, rng, 6))
}

#[test]
fn filter_matches_full_scan() -> Outcome {
    let mut rng = Random::seeded("filter_matches_full_scan");
    for chunk in [64 << 10, 192 << 10, 1 << 20] {
        let store = Options::new().chunk_size(chunk).in_memory()?;
        random_life(&store, &mut rng, &mut 0, 12)?;
    }
    Ok(())
}

#[test]
fn filter_matches_after_reopening() -> Outcome {
    let mut rng = Random::seeded("filter_matches_after_reopening");
    let folder = tempfile::tempdir()?;
    let mut next = 0;
    for _ in 0..4 {
        let store = open(folder.path(), 128 << 10)?;
        check(&store.begin_read()?, &mut rng, 8)?;
        random_life(&store, &mut rng, &mut next, 5)?;
        store.close()?;
    }
    assert!(!zones_files(folder.path())?.is_empty());
    Ok(())
}

#[allow(unsafe_code, reason = "a folder of the test's own")]
fn open(path: &Path, chunk: u64) -> Outcome<Store> {
    // SAFETY: no other process knows the folder.
    Ok(unsafe { Options::new().chunk_size(chunk).open(path) }?)
}

fn zones_files(store: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for table in std::fs::read_dir(store.join("tables"))? {
        for file in std::fs::read_dir(table?.path())? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "zones") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A row of 64 bytes, so that a zone is 1024 rows.
#[pongo::record]
#[pongo(table = "trades")]
#[derive(Debug, PartialEq)]
struct Trade {
    #[pongo(key)]
    id: u64,
    at: Timestamp,
    price: f64,
    fee: Maybe<f32>,
    who: FixedStr<24>,
    day: u32,
    side: i32,
}

fn trade(id: u64) -> Trade {
    Trade {
        id,
        at: Timestamp::from_micros(id as i64 * 10),
        price: if id / 1024 == 3 { f64::NAN } else { (id % 4096) as f64 },
        fee: if id / 1024 == 5 { Maybe::none() } else { Maybe::some(id as f32) },
        who: format!("t{id:08}").parse().unwrap_or_default(),
        day: (id / 1024) as u32,
        side: if id.is_multiple_of(2) { 1 } else { -1 },
    }
}

fn trades(store: &Store, ids: std::ops::Range<u64>) -> Outcome {
    let tx = store.begin_write()?;
    tx.table::<Trade>()?.extend(ids.map(trade))?;
    tx.commit()?;
    Ok(())
}

#[test]
fn all_skippable_zones_are_skipped() -> Outcome {
    assert_eq!(size_of::<Trade>(), 64);
    let store = Options::new().chunk_size(1 << 20).in_memory()?;
    trades(&store, 0..32 * 1024 + 100)?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Trade>()?;
    let chunk_of = |row| table.locate(RowId(row)).map(|place| place.chunk);
    let mut chunks: Vec<_> = (0..33).filter_map(|zone| chunk_of(zone * 1024)).collect();
    chunks.dedup();
    let numbers = |explain: &pongo::Explain| {
        let share = |share: &pongo::ScanStats| (share.zones, share.rows);
        [share(&explain.pruned), share(&explain.matched), share(&explain.scanned)]
    };
    let rest = (1, 100);

    // Half of one zone, all of the next, half of a third; in addition the rows after the last whole
    // zone.
    let late = Trade::ID.between(1536..3584);
    let explain = table.filter(&late).explain()?;
    assert_eq!(numbers(&explain), [(29, 29 * 1024), (1, 1024), (2 + rest.0, 2048 + rest.1)]);
    assert_eq!((explain.total.zones, explain.total.rows), (33, 32 * 1024 + 100));
    assert_eq!(explain.total.chunks, chunks.len() as u64);
    let touched = [1024, 2048, 3072, 32 * 1024].map(chunk_of);
    let untouched = chunks.iter().filter(|chunk| !touched.contains(&Some(**chunk))).count();
    assert!(untouched > 0);
    assert_eq!(explain.pruned.chunks, untouched as u64);
    assert_eq!(explain.conditions[0].pruned.rows, 29 * 1024);
    assert_eq!(table.filter(&late).count(), 2048);
    let said = explain.to_string();
    assert!(said.contains("33 zones, 32868 rows") && said.contains("`id in 1536..3584` prunes"), "{said}");

    // The zone in which all values are NaN, which sorts after all numbers, and the zone without a
    // value.
    let explain = table.filter(Trade::PRICE.ge(0.0)).explain()?;
    assert_eq!(numbers(&explain), [(0, 0), (32, 32 * 1024), rest]);
    for not_nan in [Trade::PRICE.between(0.0..f64::NAN), Trade::PRICE.between(..=f64::INFINITY)] {
        let explain = table.filter(&not_nan).explain()?;
        assert_eq!(numbers(&explain), [(1, 1024), (31, 31 * 1024), rest]);
    }
    let explain = table.filter(Trade::PRICE.eq(-f64::NAN)).explain()?;
    assert_eq!(numbers(&explain), [(31, 31 * 1024), (1, 1024), rest]);
    let explain = table.filter(Trade::PRICE.ge(f64::NAN).not()).explain()?;
    assert_eq!(numbers(&explain), [(1, 1024), (31, 31 * 1024), rest]);
    assert_eq!(explain.conditions[0].condition, "not price >= NaN");
    let explain = table.filter(Trade::FEE.is_none()).explain()?;
    assert_eq!(numbers(&explain), [(31, 31 * 1024), (1, 1024), rest]);
    let explain = table.filter(Trade::FEE.ge(0.0)).explain()?;
    assert_eq!(numbers(&explain), [(1, 1024), (31, 31 * 1024), rest]);

    // Two conditions that no row meets together; strings; a condition about which zones record
    // nothing; a list.
    let explain = table.filter(Trade::DAY.eq(2).and(Trade::WHO.gt("t00004096".parse()?))).explain()?;
    assert_eq!(numbers(&explain), [(32, 32 * 1024), (0, 0), rest]);
    assert_eq!(explain.conditions.iter().map(|part| part.pruned.zones).collect::<Vec<_>>(), [31, 4]);
    let explain = table.filter(Trade::SIDE.eq(1)).explain()?;
    assert_eq!(numbers(&explain), [(0, 0), (0, 0), (33, 32 * 1024 + 100)]);
    let explain = table.filter(Trade::DAY.is_in(&[0, 31, 77]).or(Trade::ID.lt(2048))).explain()?;
    assert_eq!(numbers(&explain), [(29, 29 * 1024), (3, 3 * 1024), rest]);
    Ok(())
}

#[test]
fn deleted_rows_are_always_excluded() -> Outcome {
    let store = Options::new().chunk_size(1 << 20).in_memory()?;
    trades(&store, 0..8192)?;
    let before = store.begin_read()?;
    assert_eq!(before.table::<Trade>()?.filter(Trade::DAY.eq(2)).count(), 1024);
    let tx = store.begin_write()?;
    for id in 2048..2100 {
        tx.table::<Trade>()?.delete(id)?;
    }
    tx.table::<Trade>()?.put(&Trade { day: 7, ..trade(3000) })?;
    tx.commit()?;
    let after = store.begin_read()?;
    let table = after.table::<Trade>()?;
    let filter = table.filter(Trade::DAY.eq(2));
    assert_eq!(filter.explain()?.matched.rows, 1024);
    assert_eq!(filter.count(), 1024 - 53);
    assert_eq!(table.filter(Trade::DAY.eq(2)).par().count(), 1024 - 53);
    assert_eq!(before.table::<Trade>()?.filter(Trade::DAY.eq(2)).count(), 1024);
    Ok(())
}

#[test]
fn missing_table_has_no_matches() -> Outcome {
    let store = Store::in_memory()?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Trade>()?;
    assert_eq!(table.filter(Trade::DAY.ge(0)).count(), 0);
    assert_eq!(table.par_rows().count() + table.par_slices().count(), 0);
    assert_eq!(table.filter(Trade::DAY.ge(0)).explain()?.total, pongo::ScanStats::default());
    Ok(())
}

#[test]
fn zones_cover_checkpointed_rows_only() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path(), 256 << 10)?;
    trades(&store, 0..20_000)?;
    let skipped = |store: &Store| -> Outcome<u64> {
        let snapshot = store.begin_read()?;
        let filter = snapshot.table::<Trade>()?.filter(Trade::DAY.eq(2));
        let explain = filter.explain()?;
        assert_eq!(filter.count(), 1024);
        Ok(explain.pruned.rows)
    };
    assert_eq!(skipped(&store)?, 18 * 1024);
    // Rows that a power failure may lose have no zones file: it could describe other rows that take
    // their place later.
    assert_eq!(zones_files(folder.path())?, Vec::<PathBuf>::new());
    store.close()?;

    let store = open(folder.path(), 256 << 10)?;
    assert_eq!(skipped(&store)?, 18 * 1024);
    let snapshot = store.begin_read()?;
    let tail = snapshot.table::<Trade>()?.locate(RowId(19_999)).ok_or("it was written")?.chunk;
    let files = zones_files(folder.path())?;
    assert_eq!(files.len() as u64, tail.0);
    assert!(!files.iter().any(|file| file.ends_with(format!("{tail}.zones"))));
    Ok(())
}

/// Stores with the same first rows and different later ones, where the zones files of one are
/// copied into the other. Filters must not trust them.
#[test]
fn foreign_zones_file_is_rejected() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let store = open(&path("a"), 64 << 10)?;
    trades(&store, 0..1000)?;
    store.close()?;
    folder::copy(&path("a"), &path("b"))?;
    let other = open(&path("c"), 64 << 10)?;
    trades(&other, 0..1000)?;
    other.close()?;

    let look = |store: &Store, day: u32| -> Result<usize, ReadError> {
        let snapshot = store.begin_read()?;
        let table = snapshot.table::<Trade>()?;
        let plain = table.rows().filter(|row| row.as_ref().is_ok_and(|row| row.day == day)).count();
        assert_eq!(table.filter(Trade::DAY.eq(day)).count(), plain, "day {day}");
        Ok(plain)
    };
    for (name, day) in [("a", 1000), ("b", 2000), ("c", 3000)] {
        let store = open(&path(name), 64 << 10)?;
        let tx = store.begin_write()?;
        let rows = (1000..9000).map(|id| Trade { day: day + (id / 1024) as u32, ..trade(id) });
        tx.table::<Trade>()?.extend(rows)?;
        tx.commit()?;
        store.close()?;
        let store = open(&path(name), 64 << 10)?;
        assert_eq!(look(&store, day + 4)?, 1024);
        store.close()?;
    }
    let own = zones_files(&path("a"))?;
    assert!(own.len() > 5);
    let right: Vec<_> = own.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    // Zones files of the same store with other rows, of another store, and of another chunk: the
    // filter rewrites each of them.
    for from in ["b", "c", "a"] {
        let foreign: Vec<_> =
            zones_files(&path(from))?.iter().map(std::fs::read).collect::<Result<_, _>>()?;
        for (place, file) in own.iter().enumerate() {
            let shift = if from == "a" { 1 } else { 0 };
            std::fs::write(file, &foreign[(place + shift) % foreign.len()])?;
        }
        let store = open(&path("a"), 64 << 10)?;
        for day in [1000, 1004, 1008, 2004, 3004, 0] {
            look(&store, day)?;
        }
        store.close()?;
        for (file, right) in own.iter().zip(&right) {
            assert_eq!(std::fs::read(file)?, *right, "{from}: {}", file.display());
        }
    }
    Ok(())
}

#[test]
fn damaged_zones_file_is_rebuilt() -> Outcome {
    let mut rng = Random::seeded("damaged_zones_file_is_rebuilt");
    let folder = tempfile::tempdir()?;
    let store = open(folder.path(), 64 << 10)?;
    trades(&store, 0..5000)?;
    store.close()?;
    let days = || -> Outcome<Vec<usize>> {
        let store = open(folder.path(), 64 << 10)?;
        let snapshot = store.begin_read()?;
        let table = snapshot.table::<Trade>()?;
        let counts = (0..6).map(|day| table.filter(Trade::DAY.eq(day)).count()).collect();
        assert!(table.filter(Trade::DAY.eq(2)).explain()?.pruned.rows >= 3 * 1024);
        drop(snapshot);
        store.close()?;
        Ok(counts)
    };
    assert_eq!(days()?, [1024, 1024, 1024, 1024, 904, 0]);
    let files = zones_files(folder.path())?;
    let right: Vec<_> = files.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    for round in 0..40 {
        for (file, right) in files.iter().zip(&right) {
            let mut bytes = right.clone();
            let at = rng.below(bytes.len() as u64) as usize;
            match round % 4 {
                0..2 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes.truncate(at),
                _ => bytes.extend_from_slice(&[0; 8]),
            }
            std::fs::write(file, bytes)?;
        }
        assert_eq!(days()?, [1024, 1024, 1024, 1024, 904, 0]);
        for (file, right) in files.iter().zip(&right) {
            assert_eq!(std::fs::read(file)?, *right);
        }
    }
    // The leftover of a process that was killed while it wrote a zones file: no file is created
    // while the leftover exists, and filters still work.
    let leftover = files[0].with_extension("zones.new");
    std::fs::remove_file(&files[0])?;
    let store = open(folder.path(), 64 << 10)?;
    std::fs::write(&leftover, &right[0][..50])?;
    assert_eq!(store.begin_read()?.table::<Trade>()?.filter(Trade::DAY.eq(0)).count(), 1024);
    assert!(!files[0].exists());
    store.close()?;
    assert_eq!(days()?, [1024, 1024, 1024, 1024, 904, 0]);
    assert!(files[0].exists() && !leftover.exists());
    Ok(())
}

#[test]
fn filter_reports_damaged_rows() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path(), 1 << 20)?;
    trades(&store, 0..8192)?;
    store.close()?;
    let chunk = folder.path().join("tables/trades/0.chunk");
    let mut bytes = std::fs::read(&chunk)?;
    bytes[4096 + 64 * 1024 + 5] ^= 1;
    std::fs::write(&chunk, bytes)?;
    let store = open(folder.path(), 1 << 20)?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Trade>()?;
    let damaged = |row: Result<&Trade, ReadError>| matches!(row, Err(ReadError::Storage(_)));
    assert!(table.filter(Trade::DAY.eq(1)).any(damaged));
    assert!(table.filter(Trade::DAY.eq(1)).par().any(damaged));
    assert!(matches!(table.filter(Trade::DAY.eq(1)).explain(), Err(ReadError::Storage(_))));
    Ok(())
}

/// Keys of a damaged block are errors in their places among others that are looked up together.
#[test]
fn get_many_around_damaged_block() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path(), 1 << 20)?;
    trades(&store, 0..8192)?;
    store.close()?;
    let chunk = folder.path().join("tables/trades/0.chunk");
    let mut bytes = std::fs::read(&chunk)?;
    bytes[4096 + 64 * 1024 + 5] ^= 1;
    std::fs::write(&chunk, bytes)?;
    let store = open(folder.path(), 1 << 20)?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Trade>()?;
    let in_block = (64 << 10) / size_of::<Trade>() as u64;
    // Every third key is missing, every fourth is in the damaged block.
    let keys: Vec<u64> = (0..100)
        .map(|i| match i % 12 {
            0 | 4 | 8 => in_block + 1 + i,
            1 | 3 | 6 | 9 => 100_000 + i,
            _ => i,
        })
        .collect();
    let found: Vec<_> = table.get_many(&keys).collect();
    assert_eq!(found.len(), keys.len());
    for (&key, found) in keys.iter().zip(found) {
        match found {
            Ok(None) => assert!(key >= 100_000, "{key}"),
            Ok(Some(trade)) => assert!(key < 100 && trade.id == key, "{key}"),
            Err(ReadError::Storage(_)) => assert!((in_block..2 * in_block).contains(&key), "{key}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A condition in user code, together with one that can skip zones.
#[test]
fn custom_predicate_combines_with_others() -> Outcome {
    struct Odd;
    impl Predicate<Trade> for Odd {
        fn matches(&self, row: &Trade) -> bool {
            row.id % 2 == 1
        }
    }
    let store = Options::new().chunk_size(1 << 20).in_memory()?;
    trades(&store, 0..8192)?;
    let snapshot = store.begin_read()?;
    let filter = snapshot.table::<Trade>()?.filter(Odd.and(Trade::DAY.eq(2)));
    assert_eq!(filter.explain()?.pruned.rows, 7168);
    assert_eq!(filter.count(), 512);
    Ok(())
}
