//! Deleted rows and old versions in tables with ordered indexes. Their pairs are removed in time
//! and are skipped until then; snapshots of all ages keep seeing their own rows.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use pongo::prelude::*;
use pongo_test_support::{Outcome, Random, wait};

const MINUTE: Duration = Duration::from_secs(60);

#[pongo::record]
#[pongo(table = "jobs")]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Job {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    at: i64,
    #[pongo(unique)]
    name: u64,
}

fn job(id: u64) -> Job {
    Job { id, at: id as i64 / 3, name: !id }
}

fn open(options: Options, path: &Path) -> Outcome<Store> {
    // SAFETY: only this test uses the folder.
    Ok(unsafe { options.open(path)? })
}

/// Returns options under which small tables get index files and only few rows may lag.
fn small() -> Options {
    Options::new().ordered_tuning(64, 1 << 20, 1 << 20, 1000)
}

/// Returns the number of pairs in blocks and of lagging rows, for each index of the jobs table.
fn indexes(store: &Store) -> Outcome<Vec<(u64, u64)>> {
    let stats = store.stats()?;
    let jobs = stats.tables.iter().find(|table| table.name == "jobs").ok_or("there are jobs")?;
    Ok(jobs.indexes.iter().map(|index| (index.pairs, index.lag)).collect())
}

fn load(store: &Store, ids: std::ops::Range<u64>) -> Outcome {
    let tx = store.begin_write_with(Durability::Relaxed)?;
    tx.table::<Job>()?.extend(ids.map(job))?;
    tx.commit()?;
    Ok(())
}

/// Returns the first and the last job in both orders.
fn ends(snapshot: &Snapshot) -> Outcome<[Option<u64>; 4]> {
    let jobs = snapshot.table::<Job>()?;
    let id = |job: Option<&Job>| job.map(|job| job.id);
    Ok([id(jobs.first()?), id(jobs.last()?), id(jobs.by(Job::AT).first()?), id(jobs.by(Job::AT).last()?)])
}

#[test]
fn settling_drops_deleted_pairs() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("jobs.pongo");
    let store = open(Options::new(), &path)?;
    load(&store, 0..60_000)?;
    store.catch_up_indexes()?;
    assert_eq!(indexes(&store)?, [(60_000, 0); 3]);
    let tx = store.begin_write()?;
    tx.table::<Job>()?.delete_range(..59_990)?;
    tx.commit()?;
    for _ in 0..2 {
        store.catch_up_indexes()?;
        assert_eq!(indexes(&store)?, [(10, 0); 3]);
        assert_eq!(ends(&store.begin_read()?)?, [Some(59_990), Some(59_999), Some(59_990), Some(59_999)]);
    }
    let tx = store.begin_write()?;
    tx.table::<Job>()?.delete_range(..)?;
    tx.commit()?;
    store.catch_up_indexes()?;
    assert_eq!(indexes(&store)?, [(0, 0); 3]);
    assert_eq!(ends(&store.begin_read()?)?, [None; 4]);
    load(&store, 100..103)?;
    store.catch_up_indexes()?;
    assert_eq!(indexes(&store)?, [(3, 0); 3]);
    store.close()?;
    let store = open(Options::new(), &path)?;
    let snapshot = store.begin_read()?;
    assert_eq!(ends(&snapshot)?, [Some(100), Some(102), Some(100), Some(102)]);
    assert_eq!(snapshot.table::<Job>()?.by(Job::NAME).first()?.map(|job| job.id), Some(102));
    assert_eq!(indexes(&store)?, [(3, 0); 3]);
    assert!(store.verify(|_| {})?.is_valid());
    Ok(())
}

#[test]
fn deletions_alone_call_the_keeper() -> Outcome {
    let store = Options::new().in_memory()?;
    load(&store, 0..60_000)?;
    store.catch_up_indexes()?;
    // If fewer than an eighth of the rows are deleted, their pairs stay.
    let tx = store.begin_write()?;
    tx.table::<Job>()?.delete_range(..5_000)?;
    tx.commit()?;
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(indexes(&store)?, [(60_000, 0); 3]);
    let tx = store.begin_write()?;
    tx.table::<Job>()?.delete_range(..40_000)?;
    tx.commit()?;
    let are_done = || indexes(&store).is_ok_and(|found| found == [(20_000, 0); 3]);
    assert!(wait::until(MINUTE, are_done), "{:?}", indexes(&store)?);
    assert_eq!(ends(&store.begin_read()?)?, [Some(40_000), Some(59_999), Some(40_000), Some(59_999)]);
    Ok(())
}

#[test]
fn snapshot_keeps_its_pairs() -> Outcome {
    let store = Options::new().in_memory()?;
    load(&store, 0..50_000)?;
    store.catch_up_indexes()?;
    let old = store.begin_read()?;
    let tx = store.begin_write()?;
    tx.table::<Job>()?.delete_range(..49_000)?;
    tx.commit()?;
    for _ in 0..2 {
        store.catch_up_indexes()?;
        assert_eq!(indexes(&store)?, [(50_000, 0); 3]);
        assert_eq!(ends(&old)?, [Some(0), Some(49_999), Some(0), Some(49_999)]);
        assert_eq!(old.table::<Job>()?.count(..)?, 50_000);
        assert_eq!(ends(&store.begin_read()?)?, [Some(49_000), Some(49_999), Some(49_000), Some(49_999)]);
    }
    drop(old);
    store.catch_up_indexes()?;
    // A block in which fewer than an eighth of the pairs are deleted is not rewritten.
    let left = indexes(&store)?;
    assert!(
        left.iter().all(|&(pairs, lag)| (1_000..1_000 + 1024 / 8).contains(&pairs) && lag == 0),
        "{left:?}"
    );
    Ok(())
}

#[test]
fn lag_follows_live_rows() -> Outcome {
    let store = small().in_memory()?;
    // 100 rows are live at a time; 30,000 are written in all.
    let jobs = 30_000;
    for id in 0..jobs {
        let tx = store.begin_write_with(Durability::Relaxed)?;
        let mut table = tx.table::<Job>()?;
        table.put(&job(id))?;
        if id >= 100 {
            assert!(table.delete(id - 100)?);
        }
        drop(table);
        tx.commit()?;
        if id % 1000 == 999 {
            let first = id.saturating_sub(99);
            assert_eq!(ends(&store.begin_read()?)?, [Some(first), Some(id), Some(first), Some(id)]);
            // The index worker finishes its current work soon. An eighth of all written rows would
            // be thousands.
            let are_small = || {
                indexes(&store)
                    .is_ok_and(|found| found.iter().all(|&(pairs, lag)| pairs <= 600 && lag <= 600))
            };
            assert!(wait::until(MINUTE, are_small), "{:?}", indexes(&store)?);
        }
    }
    Ok(())
}

#[test]
fn deleted_keys_leave_the_hash_index() -> Outcome {
    let store = Options::new().in_memory()?;
    let hash_bytes = |store: &Store| Ok::<_, Box<dyn std::error::Error>>(store.stats()?.bytes.hash);
    let batch = 500;
    let mut small = 0;
    for round in 0..200 {
        let tx = store.begin_write_with(Durability::Relaxed)?;
        let mut jobs = tx.table::<Job>()?;
        jobs.extend((round * batch..(round + 1) * batch).map(job))?;
        if round > 1 {
            jobs.delete_range(..(round - 1) * batch)?;
        }
        drop(jobs);
        tx.commit()?;
        if round == 20 {
            small = hash_bytes(&store)?;
        }
        if round == 100 {
            // Deleted keys are looked up as well: they must not be found.
            let snapshot = store.begin_read()?;
            let jobs = snapshot.table::<Job>()?;
            for id in 0..(round + 1) * batch {
                let expected = (id >= (round - 1) * batch).then(|| job(id));
                assert_eq!(jobs.get(id)?, expected.as_ref());
                assert_eq!(jobs.by(Job::NAME).eq(!id)?.next().transpose()?, expected.as_ref());
            }
        }
    }
    assert_eq!(hash_bytes(&store)?, small);
    // Deleted rows stay while a snapshot can see them.
    let old = store.begin_read()?;
    let alive = 198 * batch..200 * batch;
    for round in 200..260 {
        let tx = store.begin_write_with(Durability::Relaxed)?;
        let mut jobs = tx.table::<Job>()?;
        jobs.delete_range(..(round - 1) * batch)?;
        jobs.extend((round * batch..(round + 1) * batch).map(job))?;
        drop(jobs);
        tx.commit()?;
    }
    let jobs = old.table::<Job>()?;
    for id in alive {
        assert_eq!(jobs.get(id)?, Some(&job(id)));
        assert_eq!(jobs.by(Job::NAME).eq(!id)?.next().transpose()?, Some(&job(id)));
    }
    assert!(jobs.get(220 * batch)?.is_none());
    assert!(store.verify(|_| {})?.is_valid());
    Ok(())
}

#[test]
fn each_of_many_versions_is_found() -> Outcome {
    for settle in [false, true] {
        let store = Options::new().in_memory()?;
        // Between any two of these keys there is a key with a single version.
        let hot = |key: u64| 2 * key + 1;
        load(&store, 0..201)?;
        let put = |key: u64, version: i64| {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            tx.table::<Job>()?.put(&Job { at: version, ..job(hot(key)) })?;
            tx.commit()?;
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        // Key k has k % 23 more versions before the snapshot, and k more after it.
        for key in 0..100 {
            (1..=key as i64 % 23).try_for_each(|version| put(key, version))?;
        }
        let old = store.begin_read()?;
        for key in 0..100 {
            (1..=key as i64).try_for_each(|version| put(key, 1000 + version))?;
        }
        if settle {
            store.catch_up_indexes()?;
        }
        let new = store.begin_read()?;
        let tx = store.begin_write()?;
        let inside = tx.table::<Job>()?;
        let old = old.table::<Job>()?;
        let new = new.table::<Job>()?;
        // In the second pass it is already known which versions can be skipped.
        for key in (0..100).chain(0..100) {
            let id = hot(key);
            let before = match key as i64 % 23 {
                0 => job(id).at,
                version => version,
            };
            let after = if key == 0 { before } else { 1000 + key as i64 };
            let found = |job: Option<&Job>| job.map(|job| (job.id, job.at));
            for (jobs, at) in [(&old, before), (&new, after)] {
                assert_eq!(found(jobs.range(id..)?.next().transpose()?), Some((id, at)), "{settle}");
                assert_eq!(found(jobs.range(..=id)?.next_back().transpose()?), Some((id, at)), "{settle}");
                let next = Some((id + 1, job(id + 1).at));
                assert_eq!(found(jobs.range(id..)?.nth(1).transpose()?), next);
                assert_eq!(found(jobs.range(..=id + 1)?.rev().nth(1).transpose()?), Some((id, at)));
            }
            assert_eq!(found(inside.range(id..)?.next().transpose()?), Some((id, after)), "{settle}");
            assert_eq!(found(inside.range(..=id)?.next_back().transpose()?), Some((id, after)), "{settle}");
        }
        // The transaction deletes the newest version, or puts another; all remaining ones are
        // older.
        drop(inside);
        let mut inside = tx.table::<Job>()?;
        for key in (0..100).filter(|key| key % 2 == 1) {
            assert!(inside.delete(hot(key))?);
        }
        for key in (0..100).filter(|key| key % 4 == 3) {
            inside.put(&Job { at: 5000, ..job(hot(key)) })?;
        }
        for key in (0..100).filter(|key| key % 2 == 1) {
            let own = (key % 4 == 3).then_some(5000);
            let (id, found) = (hot(key), |job: Option<&Job>| job.map(|job| (job.id, job.at)));
            let next = own.map_or((id + 1, job(id + 1).at), |at| (id, at));
            assert_eq!(found(inside.range(id..)?.next().transpose()?), Some(next), "{settle}");
            let previous = own.map_or((id - 1, job(id - 1).at), |at| (id, at));
            assert_eq!(found(inside.range(..=id)?.next_back().transpose()?), Some(previous), "{settle}");
        }
        assert_eq!(inside.range(..)?.count_rows()?, 201 - 25);
    }
    Ok(())
}

#[test]
fn transaction_reads_across_deleted_rows() -> Outcome {
    for settle in [false, true] {
        let store = Options::new().in_memory()?;
        load(&store, 0..30_000)?;
        if settle {
            store.catch_up_indexes()?;
        }
        let old = store.begin_read()?;
        let tx = store.begin_write()?;
        tx.table::<Job>()?.delete_range(10..29_990)?;
        tx.commit()?;
        // A reader finds that no row is left in between; all later reads reuse this result.
        let reader = store.begin_read()?;
        for _ in 0..2 {
            let jobs = reader.table::<Job>()?;
            assert_eq!(jobs.range(10..)?.next().transpose()?.map(|job| job.id), Some(29_990));
            assert_eq!(jobs.range(..29_990)?.next_back().transpose()?.map(|job| job.id), Some(9));
        }
        let mut tx = store.begin_write()?;
        let mut jobs = tx.table::<Job>()?;
        assert_eq!(jobs.range(10..)?.next().transpose()?.map(|job| job.id), Some(29_990));
        // The transaction's own rows are in the range in which no other row is left.
        for id in [15_000, 10, 29_989, 15_001] {
            jobs.put(&job(id))?;
        }
        assert!(jobs.delete(15_001)? && jobs.delete(29_990)? && jobs.delete(9)?);
        let ids = |range: pongo::Range<'_, Job>| {
            range.map(|job| Ok(job?.id)).collect::<Result<Vec<_>, pongo::ReadError>>()
        };
        let expected: Vec<u64> = (0..9).chain([10, 15_000, 29_989]).chain(29_991..30_000).collect();
        for _ in 0..2 {
            assert_eq!(ids(jobs.range(..)?)?, expected);
            let mut back = jobs.range(..)?.rev().map(|job| Ok(job?.id)).collect::<Outcome<Vec<u64>>>()?;
            back.reverse();
            assert_eq!(back, expected);
            assert_eq!(jobs.by(Job::AT)?.count(..)?, expected.len() as u64);
            assert_eq!(jobs.range(11..29_989)?.next().transpose()?.map(|job| job.id), Some(15_000));
        }
        drop(jobs);
        let savepoint = tx.savepoint()?;
        let mut jobs = tx.table::<Job>()?;
        // Pop alternately from both ends.
        let mut left: std::collections::VecDeque<u64> = expected.iter().copied().collect();
        while let Some(first) = jobs.pop_first()? {
            assert_eq!(Some(first.id), left.pop_front());
            assert_eq!(jobs.pop_last()?.map(|job| job.id), left.pop_back());
        }
        assert!(left.is_empty() && jobs.is_empty()?);
        drop(jobs);
        tx.rollback_to(&savepoint)?;
        assert_eq!(ids(tx.table::<Job>()?.range(..)?)?, expected);
        tx.commit()?;
        // Older snapshots still see their own state; new ones see what was committed.
        assert_eq!(reader.table::<Job>()?.count(..)?, 20);
        assert_eq!(old.table::<Job>()?.count(..)?, 30_000);
        assert_eq!(old.table::<Job>()?.by(Job::AT).count(..)?, 30_000);
        let new = store.begin_read()?;
        assert_eq!(ids(new.table::<Job>()?.range(..)?)?, expected);
        assert_eq!(new.table::<Job>()?.by(Job::AT).count(..)?, expected.len() as u64);
    }
    Ok(())
}

/// Expected contents of the store.
type Map = BTreeMap<u64, Job>;

fn check(snapshot: &Snapshot, map: &Map, rng: &mut Random) -> Outcome {
    let jobs = snapshot.table::<Job>()?;
    assert_eq!(jobs.len(), map.len() as u64);
    let (from, to) = (rng.below(400), rng.below(400));
    let (from, to) = (from.min(to), from.max(to));
    let ids: Vec<u64> = map.range(from..to).map(|(&id, _)| id).collect();
    let got = |range: pongo::Range<'_, Job>| {
        range.map(|job| Ok(job?.id)).collect::<Result<Vec<_>, pongo::ReadError>>()
    };
    assert_eq!(got(jobs.range(from..to)?)?, ids);
    let back: Vec<u64> =
        jobs.range(from..to)?.rev().map(|job| Ok(job?.id)).collect::<Result<_, pongo::ReadError>>()?;
    assert!(back.iter().eq(ids.iter().rev()));
    let mut by_time: Vec<(i64, u64)> = map.values().map(|job| (job.at, job.id)).collect();
    by_time.sort_unstable();
    let bounds = (Bound::Included(from as i64), Bound::Unbounded);
    let mut found: Vec<(i64, u64)> = jobs
        .by(Job::AT)
        .range(bounds)?
        .map(|job| job.map(|job| (job.at, job.id)))
        .collect::<Result<_, _>>()?;
    assert!(found.is_sorted_by_key(|&(at, _)| at));
    found.sort_unstable();
    assert!(found.iter().eq(by_time.iter().filter(|&&(at, _)| at >= from as i64)));
    for id in [from, to, rng.below(400)] {
        assert_eq!(jobs.get(id)?, map.get(&id));
        let many = jobs.get_many(&[id]).next().transpose()?.flatten();
        assert_eq!(many, map.get(&id));
    }
    for (_, job) in map.range(from..).take(2) {
        assert_eq!(jobs.by(Job::NAME).eq(job.name)?.next().transpose()?, Some(job));
    }
    assert!(jobs.by(Job::NAME).eq(12_345_u64)?.next().is_none());
    Ok(())
}

/// Runs the same checks inside the transaction that made the changes.
fn check_inside(jobs: &TableMut<'_, Job>, map: &Map, rng: &mut Random) -> Outcome {
    let (from, to) = (rng.below(400), rng.below(400));
    let (from, to) = (from.min(to), from.max(to));
    let ids: Vec<u64> = map.range(from..to).map(|(&id, _)| id).collect();
    let got: Vec<u64> =
        jobs.range(from..to)?.map(|job| Ok(job?.id)).collect::<Result<_, pongo::ReadError>>()?;
    assert_eq!(got, ids);
    let back: Vec<u64> =
        jobs.range(from..to)?.rev().map(|job| Ok(job?.id)).collect::<Result<_, pongo::ReadError>>()?;
    assert!(back.iter().eq(ids.iter().rev()));
    assert_eq!(jobs.first()?, map.values().next());
    assert_eq!(jobs.last()?, map.values().next_back());
    let mut found: Vec<(i64, u64)> = jobs
        .by(Job::AT)?
        .range(from as i64..)?
        .map(|job| job.map(|job| (job.at, job.id)))
        .collect::<Result<_, _>>()?;
    assert!(found.is_sorted_by_key(|&(at, _)| at));
    found.sort_unstable();
    let mut by_time: Vec<_> =
        map.values().map(|job| (job.at, job.id)).filter(|&(at, _)| at >= from as i64).collect();
    by_time.sort_unstable();
    assert_eq!(found, by_time);
    for id in [from, to, rng.below(400)] {
        assert_eq!(jobs.get(id)?, map.get(&id));
    }
    for (_, job) in map.range(from..).take(2) {
        assert_eq!(jobs.by(Job::NAME)?.eq(job.name)?.next().transpose()?, Some(job));
    }
    Ok(())
}

/// Puts and deletes a few keys again and again, so that each has hundreds of versions, with
/// snapshots of all ages.
fn few_keys_with_many_versions(options: Options, path: Option<&Path>, seed: u64) -> Outcome {
    let reopen = || match path {
        Some(path) => open(options, path),
        None => Ok(options.in_memory()?),
    };
    let mut store = reopen()?;
    let mut rng = Random(seed);
    let mut map = Map::new();
    let mut pinned: Vec<(Snapshot, Map)> = Vec::new();
    for round in 0..400 {
        let relaxed = rng.below(2) == 0;
        let tx = store.begin_write_with(if relaxed { Durability::Relaxed } else { Durability::Sync })?;
        let mut jobs = tx.table::<Job>()?;
        for _ in 0..rng.below(60) {
            // Half of all changes are to five keys.
            let id = if rng.below(2) == 0 { 100 + rng.below(5) } else { rng.below(400) };
            let new = Job { id, at: rng.below(500) as i64, name: !(id ^ (rng.below(3) << 32)) };
            if rng.below(4) == 0 {
                assert_eq!(jobs.delete(id)?, map.remove(&id).is_some());
            } else {
                assert_eq!(jobs.put(&new)?, map.insert(id, new).is_some());
            }
        }
        if rng.below(20) == 0 {
            let (from, to) = (rng.below(400), rng.below(400));
            let count = jobs.delete_range(from..to.max(from))?;
            let before = map.len();
            map.retain(|id, _| !(from..to.max(from)).contains(id));
            assert_eq!(count, (before - map.len()) as u64);
        }
        check_inside(&jobs, &map, &mut rng)?;
        drop(jobs);
        tx.commit()?;
        if rng.below(8) == 0 {
            pinned.push((store.begin_read()?, map.clone()));
        }
        if pinned.len() > 6 {
            pinned.swap_remove(rng.below(7) as usize);
        }
        if rng.below(12) == 0 {
            store.catch_up_indexes()?;
        }
        if round % 5 == 0 {
            check(&store.begin_read()?, &map, &mut rng)?;
            for (snapshot, map) in &pinned {
                check(snapshot, map, &mut rng)?;
            }
        }
        if path.is_some() && rng.below(80) == 0 {
            pinned.clear();
            store.close()?;
            store = reopen()?;
            check(&store.begin_read()?, &map, &mut rng)?;
        }
    }
    assert!(store.verify(|_| {})?.is_valid());
    pinned.clear();
    store.catch_up_indexes()?;
    check(&store.begin_read()?, &map, &mut rng)
}

#[test]
fn versions_in_snapshots_of_all_ages() -> Outcome {
    for seed in 0..6 {
        let folder = tempfile::tempdir()?;
        few_keys_with_many_versions(small(), Some(&folder.path().join("jobs.pongo")), seed)
            .map_err(|error| format!("seed {seed}: {error}"))?;
        few_keys_with_many_versions(small(), None, 100 + seed).map_err(|error| format!("{seed}: {error}"))?;
    }
    Ok(())
}

#[test]
fn versions_where_no_index_is_kept() -> Outcome {
    few_keys_with_many_versions(small().ordered(false), None, 7)?;
    // Nothing is sorted in memory either: the rows are scanned.
    few_keys_with_many_versions(small().ordered(false).ordered_tuning(64, 10, 1 << 20, 100), None, 8)
}

#[test]
fn thousands_of_versions_are_found() -> Outcome {
    for (settle, ordered) in [(true, true), (false, true), (false, false)] {
        let store = Options::new().ordered(ordered).in_memory()?;
        load(&store, 0..100)?;
        let mut ages = vec![(store.begin_read()?, Some(job(50).at))];
        for version in 1..=6_000_i64 {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            let mut jobs = tx.table::<Job>()?;
            let now = (version % 500 != 0).then_some(version);
            match now {
                Some(at) => {
                    jobs.put(&Job { at, ..job(50) })?;
                }
                None => assert!(jobs.delete(50)?),
            }
            drop(jobs);
            tx.commit()?;
            if version % 100 == 0 {
                ages.push((store.begin_read()?, now));
            }
            if settle && version % 1_700 == 0 {
                store.catch_up_indexes()?;
            }
        }
        for (snapshot, at) in &ages {
            let jobs = snapshot.table::<Job>()?;
            assert_eq!(jobs.get(50)?.map(|job| job.at), *at, "{settle}");
            assert_eq!(jobs.contains(50)?, at.is_some());
            assert_eq!(jobs.by(Job::NAME).eq(!50_u64)?.next().transpose()?.map(|job| job.at), *at);
            let next = jobs.range(50..)?.next().transpose()?.map(|job| job.id);
            assert_eq!(next, Some(if at.is_some() { 50 } else { 51 }));
            let previous = jobs.range(..=50)?.next_back().transpose()?.map(|job| job.id);
            assert_eq!(previous, Some(if at.is_some() { 50 } else { 49 }));
            // A key that does not exist, and a key whose predecessor has many versions.
            assert!(jobs.get(1000)?.is_none());
            assert_eq!(jobs.get(51)?, Some(&job(51)));
        }
    }
    Ok(())
}

#[test]
fn newer_keys_are_invisible_to_snapshot() -> Outcome {
    for settle in [true, false] {
        let store = Options::new().in_memory()?;
        load(&store, 0..20)?;
        let old = store.begin_read()?;
        for version in 0..500 {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            tx.table::<Job>()?.put(&Job { at: version, ..job(77) })?;
            tx.commit()?;
        }
        if settle {
            store.catch_up_indexes()?;
        }
        let jobs = old.table::<Job>()?;
        assert!(jobs.get(77)?.is_none());
        assert!(jobs.by(Job::NAME).eq(!77_u64)?.next().is_none());
        assert_eq!(jobs.last()?.map(|job| job.id), Some(19));
    }
    Ok(())
}
