//! Random merges, drops, seeks and reopenings of ordered indexes, beside a `BTreeSet` of pairs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pongo_core::ids::RowId;
use pongo_index::ordered::{
    Edge, IndexId, MemoryBlocks, OrderedError, OrderedStore, Pairs, Rewrite, SledBlocks, Sorted, Watermark,
};

#[path = "ordered/support.rs"]
mod support;

use support::{Model, Random, Rows, SHAPES, Shape, check, grow, merge, model_of};

/// One index under random operations, old versions kept.
fn life(shape: Shape, store: &OrderedStore, random: &mut Random, merges: u64) {
    let never = AtomicBool::new(false);
    let id = IndexId(7);
    let mut rows = Rows::default();
    let mut model = Model::new();
    let mut dead: BTreeSet<u64> = BTreeSet::new();
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
                dead.insert(*row);
            }
        }
        model.append(&mut model_of(&run));
        let rewrite = if random.below(4) == 0 { Rewrite::All } else { Rewrite::Touched };
        let watermark = Watermark { store: 5 << 100, row: rows.0.len() as u64, ..Watermark::default() };
        let is_dead = |row: RowId| dead.contains(&row.0);
        let sorted = store.merge(id, watermark, &run, &rows, &is_dead, rewrite, &never).unwrap();
        assert_eq!(sorted.watermark(), watermark);
        // A dead pair may stay where nothing was rewritten; it must be one that was asked about, though.
        let kept: BTreeSet<u64> = support::all(&sorted, &rows, true, random).unwrap().into_iter().collect();
        model.retain(|(_, row)| kept.contains(row) || !dead.contains(row));
        if rewrite == Rewrite::All {
            assert!(kept.iter().all(|row| !dead.contains(row) || run.iter().any(|(_, r)| r.0 == *row)));
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
    let mut random = Random::new("in_memory");
    for shape in SHAPES {
        println!("{shape:?}");
        let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
        life(shape, &store, &mut random, 14);
    }
}

#[test]
fn with_a_cache_that_holds_nothing_or_little() {
    let mut random = Random::new("with_a_cache_that_holds_nothing_or_little");
    for bytes in [0, 400_000] {
        let store = OrderedStore::open_with(Box::new(MemoryBlocks::default()), bytes).unwrap();
        life(Shape::Random16, &store, &mut random, 8);
        assert!(store.stats().unwrap().cache_bytes <= bytes as u64);
    }
}

#[test]
fn in_sled_and_reopened() {
    let mut random = Random::new("in_sled_and_reopened");
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
fn many_rows_of_one_key_over_many_blocks() {
    let mut random = Random::new("many_rows_of_one_key_over_many_blocks");
    let store = OrderedStore::open(Box::new(MemoryBlocks::default())).unwrap();
    let mut rows = Rows::default();
    let mut model = Model::new();
    for _ in 0..4 {
        let run = grow(&mut random, Shape::Few, &mut rows, 9000);
        model.append(&mut model_of(&run));
        let sorted = merge(&store, 1, 0, &run, &rows).unwrap();
        check(&sorted, &model, &rows, 200, &mut random);
    }
    // The key is the same in a whole block: it takes the rows' bytes only.
    let stats = store.stats().unwrap();
    assert!(stats.block_bytes / stats.pairs <= 4, "{stats:?}");
}

#[test]
fn indexes_do_not_mix_and_go_alone() {
    let mut random = Random::new("indexes_do_not_mix_and_go_alone");
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
    let mut random = Random::new("a_stopped_merge_changes_nothing");
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
fn pairs_that_came_in_any_order_are_sorted() {
    let mut random = Random::new("pairs_that_came_in_any_order_are_sorted");
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
fn readers_go_on_while_versions_come() {
    let mut random = Random::new("readers_go_on_while_versions_come");
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
                let mut random = Random::new(["one reader", "another reader"][n]);
                scope.spawn(move || {
                    let mut versions = BTreeSet::new();
                    loop {
                        let last = done.load(std::sync::atomic::Ordering::Acquire);
                        let sorted = store.index(IndexId(1)).unwrap().unwrap();
                        let version = sorted.watermark().row;
                        let all = support::all(&sorted, rows, n == 0, &mut random).unwrap();
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
