//! Random merges, deletions, seeks and reopenings of ordered indexes, compared with a `BTreeSet` of
//! pairs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pongo_core::ids::RowId;
use pongo_index::ordered::{
    Edge, IndexId, MemoryBlocks, OrderedError, OrderedStore, Pairs, ReadPoint, Rewrite, SledBlocks, Sorted,
    Watermark,
};

mod ordered;

use ordered::{Model, Rows, SHAPES, Shape, check, grow, merge, model_of};
use pongo_test_support::Random;

/// Runs random operations on one index. Keeps and checks old versions.
fn life(shape: Shape, store: &OrderedStore, random: &mut Random, merges: u64) {
    let never = AtomicBool::new(false);
    let id = IndexId(7);
    let mut rows = Rows::default();
    let mut model = Model::new();
    let mut deleted: BTreeSet<u64> = BTreeSet::new();
    let mut old: Vec<(Arc<Sorted>, Model)> = Vec::new();
    for _ in 0..merges {
        let count = match random.below(4) {
            0 => random.below(10),
            1 => random.below(300),
            _ => random.below(4000),
        };
        let count = if matches!(shape, Shape::Long) { count / 4 } else { count };
        let run = grow(random, shape, &mut rows, count);
        for (_, row) in model.iter() {
            if random.below(20) == 0 {
                deleted.insert(*row);
            }
        }
        model.append(&mut model_of(&run));
        let rewrite = match random.below(4) {
            0 => Rewrite::All,
            1 => Rewrite::Deleted,
            _ => Rewrite::Touched,
        };
        let watermark = Watermark { store: 5 << 100, row: rows.0.len() as u64, ..Watermark::default() };
        let is_dead = |row: RowId| deleted.contains(&row.0);
        let sorted = store.merge(id, watermark, &run, &rows, &is_dead, rewrite, &never).unwrap();
        assert_eq!(sorted.watermark(), watermark);
        // A pair of a deleted row may remain in a block that was not rewritten.
        let kept: BTreeSet<u64> = ordered::all(&sorted, &rows, true, random).unwrap().into_iter().collect();
        model.retain(|(_, row)| kept.contains(row) || !deleted.contains(row));
        if rewrite == Rewrite::All {
            assert!(kept.iter().all(|row| !deleted.contains(row) || run.iter().any(|(_, r)| r.0 == *row)));
        }
        if rewrite == Rewrite::Deleted {
            // A block that was not rewritten contains fewer than an eighth of pairs of deleted
            // rows.
            let new: BTreeSet<u64> = run.iter().map(|(_, row)| row.0).collect();
            let left = kept.iter().filter(|row| deleted.contains(row) && !new.contains(row)).count();
            assert!(left == 0 || left * 8 < kept.len(), "{left} of {}", kept.len());
        }
        check(&sorted, &model, &rows, 60, random);
        old.push((sorted, model.clone()));
        if random.below(3) == 0 && old.len() > 2 {
            old.remove(random.below(old.len() as u64 - 1) as usize);
            store.tidy().unwrap();
        }
        if let Some((sorted, model)) = old.first() {
            check(sorted, model, &rows, 5, random);
        }
    }
    old.clear();
    store.tidy().unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.pairs, stats.retired), (model.len() as u64, 0));
}

#[test]
fn in_memory() {
    let mut random = Random::seeded("in_memory");
    for shape in SHAPES {
        println!("{shape:?}");
        let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
        life(shape, &store, &mut random, 14);
    }
}

#[test]
fn small_caches_give_same_results() {
    let mut random = Random::seeded("small_caches_give_same_results");
    for bytes in [0, 400_000] {
        let store = OrderedStore::open_with(Box::new(MemoryBlocks::default()), bytes).unwrap();
        life(Shape::Random16, &store, &mut random, 8);
        assert!(store.stats().unwrap().cache_bytes <= bytes as u64);
    }
}

#[test]
fn in_sled_and_reopened() {
    let mut random = Random::seeded("in_sled_and_reopened");
    for shape in [Shape::Random16, Shape::Long, Shape::Few] {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = Rows::default();
        let mut model = Model::new();
        for round in 0..5 {
            let store = OrderedStore::open(Box::new(SledBlocks::open(folder.path()).unwrap())).unwrap();
            if round > 0 {
                let sorted = store.index(IndexId(1)).unwrap().unwrap();
                check(&sorted, &model, &rows, 30, &mut random);
            }
            for _ in 0..2 {
                let run = grow(&mut random, shape, &mut rows, 900);
                model.append(&mut model_of(&run));
                merge(&store, 1, rows.0.len() as u64, &run, &rows).unwrap();
            }
            let stats = store.stats().unwrap();
            assert!(stats.disk_bytes > stats.block_bytes);
            store.close().unwrap();
            let closed = store.index(IndexId(1)).unwrap().unwrap();
            assert!(matches!(
                closed.forward(Edge::Start, &rows).unwrap().fill(&mut Vec::new(), 1),
                Err(OrderedError::Store(_))
            ));
        }
    }
}

#[test]
fn one_key_spans_many_blocks() {
    let mut random = Random::seeded("one_key_spans_many_blocks");
    let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
    let mut rows = Rows::default();
    let mut model = Model::new();
    for _ in 0..4 {
        let run = grow(&mut random, Shape::Few, &mut rows, 9000);
        model.append(&mut model_of(&run));
        let sorted = merge(&store, 1, 0, &run, &rows).unwrap();
        check(&sorted, &model, &rows, 200, &mut random);
    }
    // A block of a single key stores only the row numbers.
    let stats = store.stats().unwrap();
    assert!(stats.block_bytes / stats.pairs <= 4, "{stats:?}");
}

#[test]
fn indexes_are_independent() {
    let mut random = Random::seeded("indexes_are_independent");
    let folder = tempfile::tempdir().unwrap();
    let open = || OrderedStore::open(Box::new(SledBlocks::open(folder.path()).unwrap())).unwrap();
    let store = open();
    let mut all = Vec::new();
    for (id, shape) in (1..).zip(SHAPES) {
        let mut rows = Rows::default();
        let run = grow(&mut random, shape, &mut rows, 500);
        merge(&store, id, 500, &run, &rows).unwrap();
        all.push((id, rows, model_of(&run)));
    }
    assert_eq!(store.indexes().len(), SHAPES.len());
    let held = store.index(IndexId(2)).unwrap().unwrap();
    store.remove(IndexId(2)).unwrap();
    store.remove(IndexId(2)).unwrap();
    assert!(store.index(IndexId(2)).unwrap().is_none());
    check(&held, &all[1].2, &all[1].1, 20, &mut random);
    drop(held);
    store.close().unwrap();
    drop(store);
    let store = open();
    for (id, rows, model) in &all {
        match store.index(IndexId(*id)).unwrap() {
            Some(sorted) => check(&sorted, model, rows, 20, &mut random),
            None => assert_eq!(*id, 2),
        }
    }
}

#[test]
fn a_stopped_merge_changes_nothing() {
    let mut random = Random::seeded("a_stopped_merge_changes_nothing");
    let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
    let mut rows = Rows::default();
    let run = grow(&mut random, Shape::Random16, &mut rows, 5000);
    let model = model_of(&run);
    merge(&store, 1, 5000, &run, &rows).unwrap();
    let more = grow(&mut random, Shape::Random16, &mut rows, 5000);
    let stop = AtomicBool::new(true);
    let watermark = Watermark::default();
    let stopped = store.merge(IndexId(1), watermark, &more, &rows, &|_| false, Rewrite::Touched, &stop);
    assert!(matches!(stopped, Err(OrderedError::Stopped)));
    check(&store.index(IndexId(1)).unwrap().unwrap(), &model, &rows, 20, &mut random);
    let mut both = model_of(&more);
    both.extend(model);
    check(&merge(&store, 1, 10_000, &more, &rows).unwrap(), &both, &rows, 20, &mut random);
}

#[test]
fn pairs_in_any_order_are_sorted() {
    let mut random = Random::seeded("pairs_in_any_order_are_sorted");
    for shape in SHAPES {
        for n in [0, 1, 2, 1000] {
            let mut pairs = Pairs::new();
            let mut model = Model::new();
            for row in 0..n {
                let (key, row) = (shape.key(&mut random, row), row ^ 5);
                pairs.push(&key, RowId(row)).unwrap();
                model.insert((key, row));
            }
            let run = pairs.sort();
            assert_eq!(run.len(), model.len());
            assert!(run.iter().zip(&model).all(|((key, row), pair)| (key, row.0) == (&pair.0[..], pair.1)));
            for (rank, (key, row)) in model.iter().enumerate() {
                assert_eq!(run.rank(Edge::BeforePair(key, RowId(*row))), rank);
                assert_eq!(run.rank(Edge::AfterPair(key, RowId(*row))), rank + 1);
            }
        }
    }
    let mut pairs = Pairs::new();
    let too_long = vec![0; 65_536];
    assert!(matches!(pairs.push(&too_long, RowId(0)), Err(OrderedError::KeyTooLong { len: 65_536 })));
    pairs.push(&too_long[1..], RowId(0)).unwrap();
}

#[test]
fn deleted_pairs_are_dropped_everywhere() {
    let mut random = Random::seeded("deleted_pairs_are_dropped_everywhere");
    let never = AtomicBool::new(false);
    for shape in [Shape::Ascending8, Shape::Random16, Shape::Few] {
        let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
        let mut rows = Rows::default();
        let run = grow(&mut random, shape, &mut rows, 600_000);
        let all = model_of(&run);
        let first = merge(&store, 1, 600_000, &run, &rows).unwrap();
        let none = Pairs::new().sort();
        let watermark = first.watermark();
        // Nothing is deleted: only the roots are written, and all blocks and parts are shared.
        let same =
            store.merge(IndexId(1), watermark, &none, &rows, &|_| false, Rewrite::Deleted, &never).unwrap();
        assert_eq!((same.len(), store.stats().unwrap().retired), (600_000, 0), "{shape:?}");
        // Too few deletions in each block to be worth a rewrite.
        let few = |row: RowId| row.0.is_multiple_of(64);
        store.merge(IndexId(1), watermark, &none, &rows, &few, Rewrite::Deleted, &never).unwrap();
        assert_eq!(store.stats().unwrap().retired, 0, "{shape:?}");
        // The first 599,000 pairs in key order.
        let kept: Model = all.iter().skip(599_000).cloned().collect();
        let gone: BTreeSet<u64> = all.iter().take(599_000).map(|(_, row)| *row).collect();
        let drop = |row: RowId| gone.contains(&row.0);
        let rest = store.merge(IndexId(1), watermark, &none, &rows, &drop, Rewrite::Deleted, &never).unwrap();
        assert!(rest.len() < 1_200, "{shape:?}: {}", rest.len());
        let all_of_rest: Model = all.iter().skip(600_000 - rest.len() as usize).cloned().collect();
        assert!(all_of_rest.is_superset(&kept));
        check(&rest, &all_of_rest, &rows, 100, &mut random);
        // Readers of the old version still see all of its pairs.
        check(&same, &all, &rows, 20, &mut random);
        let all_gone =
            store.merge(IndexId(1), watermark, &none, &rows, &|_| true, Rewrite::Deleted, &never).unwrap();
        assert!(all_gone.is_empty());
        let mut cursor = all_gone.forward(Edge::Start, &rows).unwrap();
        assert!(!cursor.fill(&mut Vec::new(), 1).unwrap());
        let more = grow(&mut random, shape, &mut rows, 100);
        check(&merge(&store, 1, 600_100, &more, &rows).unwrap(), &model_of(&more), &rows, 20, &mut random);
    }
}

/// Reads a version from an edge as a reader with a sight does: finds blocks in which all rows were
/// deleted, and records them for other readers. Returns the visible rows, and the number of rows
/// that were checked.
fn walk(
    sorted: &Arc<Sorted>,
    (edge, forward): (Edge<'_>, bool),
    rows: &Rows,
    deleted_at: &std::collections::HashMap<u64, u64>,
    sight: ReadPoint,
    random: &mut Random,
) -> (Vec<u64>, usize) {
    let mut cursor = if forward { sorted.forward(edge, rows) } else { sorted.backward(edge, rows) }.unwrap();
    let (mut seen, mut looked, mut by) = (Vec::new(), 0, None);
    loop {
        let mut batch = Vec::new();
        let max = 1 + random.below(700) as usize;
        let Some(taken) = cursor.fill_block(&mut batch, max, sight).unwrap() else { return (seen, looked) };
        assert!(!batch.is_empty() && batch.len() <= max);
        looked += batch.len();
        by = if taken.from_start { Some(0) } else { by };
        for row in batch {
            let deleted = deleted_at.get(&row.0).copied().filter(|&deleted_at| deleted_at <= sight.seq);
            if row.0 < sight.len && deleted.is_none() {
                seen.push(row.0);
            }
            by = by.zip(deleted).map(|(by, deleted): (u64, u64)| by.max(deleted));
        }
        if let Some(by) = by.filter(|_| taken.to_end) {
            cursor.note_deleted_by(taken, by);
        }
    }
}

#[test]
fn blocks_without_visible_rows_are_skipped() {
    let mut random = Random::seeded("blocks_without_visible_rows_are_skipped");
    for shape in SHAPES {
        let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
        let mut rows = Rows::default();
        let count = if matches!(shape, Shape::Long) { 3000 } else { 30_000 };
        let mut model = Model::new();
        let mut sorted = None;
        for _ in 0..3 {
            let run = grow(&mut random, shape, &mut rows, count);
            model.extend(model_of(&run));
            sorted = Some(merge(&store, 1, 0, &run, &rows).unwrap());
        }
        let sorted = sorted.unwrap();
        // All keys of one range are deleted, by a hundred commits, and a few of all other keys.
        let deleted_at: std::collections::HashMap<u64, u64> = (model.iter().enumerate())
            .filter_map(|(at, (_, row))| {
                let within = (model.len() / 4..model.len() * 3 / 4).contains(&at);
                (within || random.below(30) == 0).then(|| (*row, 1 + random.below(100)))
            })
            .collect();
        let all: Vec<(Vec<u8>, u64)> = model.iter().cloned().collect();
        for round in 0..40 {
            let sight =
                ReadPoint { len: random.below(3 * count + 50), seq: [0, 50, 99, 100, 200][round % 5] };
            let at = random.below(all.len() as u64) as usize;
            let (key, row) = &all[at];
            let sees = |row: &u64| {
                *row < sight.len && deleted_at.get(row).is_none_or(|&deleted_at| deleted_at > sight.seq)
            };
            let pair = Edge::BeforePair(key, RowId(*row));
            let (found, _) = walk(&sorted, (pair, true), &rows, &deleted_at, sight, &mut random);
            assert!(
                found.iter().eq(all[at..].iter().map(|(_, row)| row).filter(|row| sees(row))),
                "{shape:?}"
            );
            let (found, _) = walk(&sorted, (pair, false), &rows, &deleted_at, sight, &mut random);
            assert!(found.iter().eq(all[..at].iter().rev().map(|(_, row)| row).filter(|row| sees(row))));
        }
        // Now all blocks of the range are known to contain no row for readers that see all
        // deletions.
        let sight = ReadPoint { len: u64::MAX, seq: 100 };
        walk(&sorted, (Edge::Start, true), &rows, &deleted_at, sight, &mut random);
        for way in [(Edge::Start, true), (Edge::End, false)] {
            let (found, looked) = walk(&sorted, way, &rows, &deleted_at, sight, &mut random);
            let alive = all.iter().filter(|(_, row)| !deleted_at.contains_key(row)).count();
            assert_eq!(found.len(), alive);
            // The rest are the blocks at both ends of the range, and deleted rows in other blocks.
            assert!(looked < all.len() * 6 / 10 + 2048, "{shape:?}: {looked} of {}", all.len());
        }
        // A reader that sees none of the rows checks none, once the blocks were read.
        for (sight, forward) in [(ReadPoint { len: 0, seq: 0 }, true), (ReadPoint { len: 0, seq: 0 }, false)]
        {
            let edge = if forward { Edge::Start } else { Edge::End };
            assert_eq!(
                walk(&sorted, (edge, forward), &rows, &deleted_at, sight, &mut random),
                (Vec::new(), 0)
            );
        }
        // A new version that shares the blocks keeps this knowledge.
        let more = grow(&mut random, Shape::Ascending8, &mut rows, 1);
        let next = merge(&store, 1, 0, &more, &rows).unwrap();
        let (_, looked) = walk(
            &next,
            (Edge::Start, true),
            &rows,
            &deleted_at,
            ReadPoint { len: u64::MAX, seq: 100 },
            &mut random,
        );
        assert!(looked < all.len() * 6 / 10 + 4096, "{shape:?}: {looked} of {}", all.len());
    }
}

#[test]
fn only_the_visible_version_is_returned() {
    let mut random = Random::seeded("only_the_visible_version_is_returned");
    let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
    let mut rows = Rows::default();
    let mut model = Model::new();
    let mut sorted = None;
    for _ in 0..4 {
        let run = grow(&mut random, Shape::Few, &mut rows, 15_000);
        model.extend(model_of(&run));
        sorted = Some(merge(&store, 1, 0, &run, &rows).unwrap());
    }
    let sorted = sorted.unwrap();
    let all: Vec<(Vec<u8>, u64)> = model.into_iter().collect();
    let everything = ReadPoint { len: u64::MAX, seq: 0 };
    let (mut to_newest, mut to_the_end) = (0, 0);
    for round in 0..6_000 {
        let (key, row) = &all[random.below(all.len() as u64) as usize];
        let first = all.partition_point(|(other, _)| other < key);
        let end = all.partition_point(|(other, _)| other <= key);
        let forward = round % 2 == 0;
        // Some pairs of the key were returned, and the next one is at `at`: before it, when reading
        // backward.
        let from = first + random.below((end - first) as u64) as usize;
        let given =
            1 + random.below(40.min(if forward { end - from } else { from + 1 - first } as u64)) as usize;
        let at = if forward { from + given } else { from + 1 - given };
        // Often the next pair, or the one returned last, is the first whose row is not below `len`.
        let len = match random.below(4) {
            0 => all.get(at).map_or(0, |(_, row)| *row),
            1 => all[at - usize::from(at > 0)].1,
            2 => 0,
            _ => *row,
        };
        let edge = Edge::BeforePair(key, RowId(all[from].1));
        let mut cursor = if forward {
            sorted.forward(edge, &rows)
        } else {
            sorted.backward(Edge::AfterPair(key, RowId(all[from].1)), &rows)
        }
        .unwrap();
        let mut batch = Vec::new();
        while batch.len() < given {
            let more = given - batch.len();
            cursor.fill_block(&mut batch, more, everything).unwrap();
        }
        cursor.jump(key, RowId(len), &rows).unwrap();
        let behind = all.partition_point(|(other, row)| (other, *row) < (key, len));
        let mut found = Vec::new();
        cursor.fill(&mut found, 50).unwrap();
        let expected: Vec<u64> = if forward {
            let next = if behind > at { behind - 1 } else { end };
            to_newest += usize::from(next < end);
            to_the_end += usize::from(next == end);
            all[next..].iter().map(|(_, row)| *row).take(50).collect()
        } else {
            let next = if behind <= at { behind } else { first };
            to_newest += usize::from(next > first);
            to_the_end += usize::from(next == first);
            all[..next].iter().rev().map(|(_, row)| *row).take(50).collect()
        };
        assert!(found.iter().map(|row| row.0).eq(expected), "round {round}, at {at} of {first} to {end}");
    }
    assert!(to_newest > 1_000 && to_the_end > 1_000, "{to_newest}, {to_the_end}");
}

#[test]
fn readers_go_on_while_versions_come() {
    let mut random = Random::seeded("readers_go_on_while_versions_come");
    let folder = tempfile::tempdir().unwrap();
    let store = OrderedStore::open_with(Box::new(SledBlocks::open(folder.path()).unwrap()), 100_000).unwrap();
    let (mut rows, mut runs) = (Rows::default(), Vec::new());
    for _ in 0..12 {
        runs.push(grow(&mut random, Shape::Random16, &mut rows, 1500));
    }
    merge(&store, 1, 1, &runs[0], &rows).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|n| {
                let (store, rows, done) = (&store, &rows, &done);
                let mut random = Random::seeded(["one reader", "another reader"][n]);
                scope.spawn(move || {
                    let mut versions = BTreeSet::new();
                    loop {
                        let last = done.load(std::sync::atomic::Ordering::Acquire);
                        let sorted = store.index(IndexId(1)).unwrap().unwrap();
                        let version = sorted.watermark().row;
                        let all = ordered::all(&sorted, rows, n == 0, &mut random).unwrap();
                        assert_eq!(all.len() as u64, 1500 * version);
                        let keys: Vec<_> = all.iter().map(|row| (&rows.0[row], row)).collect();
                        assert!(keys.windows(2).all(|two| (two[0] < two[1]) == (n == 0)));
                        versions.insert(version);
                        if last {
                            return versions;
                        }
                    }
                })
            })
            .collect();
        for (version, run) in (1..).zip(&runs).skip(1) {
            merge(&store, 1, version, run, &rows).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap().contains(&12));
        }
    });
    store.tidy().unwrap();
    assert_eq!(store.stats().unwrap().retired, 0);
}
