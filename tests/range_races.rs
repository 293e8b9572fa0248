//! Ranges that run while their indexes are rebuilt, caught up or quarantined. A gap that these
//! operations leave would be durable.

use std::sync::atomic::{AtomicBool, Ordering};

use pongo::prelude::*;
use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "things")]
struct Thing {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    other: u64,
}

fn load(store: &Store, ids: std::ops::Range<u64>) -> Outcome {
    let tx = store.begin_write()?;
    tx.table::<Thing>()?.extend(ids.map(|id| Thing { id, other: id * 7 % 50_000 }))?;
    tx.commit()?;
    Ok(())
}

/// Checks that both indexes have every row.
fn check(store: &Store) -> Outcome {
    let snapshot = store.begin_read()?;
    let things = snapshot.table::<Thing>()?;
    assert_eq!(things.count(..)?, things.len());
    assert_eq!(things.by(Thing::OTHER).count(..)?, things.len());
    Ok(())
}

#[test]
fn index_is_rebuilt_during_reads() -> Outcome {
    let folder = tempfile::tempdir()?;
    // SAFETY: only this test uses the folder.
    let store = unsafe { Store::open(folder.path().join("things.pongo"))? };
    load(&store, 0..50_000)?;
    store.catch_up_indexes()?;
    for round in 0..3 {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| -> Outcome {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let snapshot = store.begin_read().expect("the store is open");
                    let things = snapshot.table::<Thing>().expect("not found");
                    assert_eq!(things.range(10..12).expect("a range").count(), 2);
                    assert_eq!(things.by(Thing::OTHER).range(10..12).expect("a range").count(), 2);
                }
            });
            let rebuilt = store.rebuild_index::<Thing>();
            done.store(true, Ordering::Relaxed);
            reader.join().expect("the reader found what it looked for");
            Ok(rebuilt?)
        })?;
        check(&store)?;
        load(&store, 50_000 + round * 100..50_100 + round * 100)?;
        store.catch_up_indexes()?;
        check(&store)?;
        let report = store.verify(|_| ())?;
        assert!(report.is_valid(), "{report}");
    }
    Ok(())
}

#[pongo::record]
#[pongo(table = "words")]
struct Word {
    #[pongo(key)]
    id: [u8; 32],
}

/// Returns a word with a scattered id, so that a search for one word meets rows from anywhere in
/// the table.
fn word(number: u64) -> Word {
    let mut id = [0; 32];
    let mut x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234;
    for part in id.chunks_mut(8) {
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        part.copy_from_slice(&x.to_be_bytes());
    }
    Word { id }
}

#[test]
fn old_range_is_read_backward() -> Outcome {
    let folder = tempfile::tempdir()?;
    // SAFETY: only this test uses the folder.
    let store = unsafe { Store::open(folder.path().join("words.pongo"))? };
    let add = |numbers: std::ops::Range<u64>| -> Outcome {
        let tx = store.begin_write()?;
        tx.table::<Word>()?.extend(numbers.map(word))?;
        tx.commit()?;
        Ok(store.catch_up_indexes()?)
    };
    add(0..50_000)?;
    let snapshot = store.begin_read()?;
    let words = snapshot.table::<Word>()?;
    add(50_000..70_000)?;
    let bounds = (70_000..70_200).map(|number| word(number).id);
    let mut ranges = bounds.map(|end| words.range(..end)).collect::<Result<Vec<_>, _>>()?;
    for range in &mut ranges {
        range.next().transpose()?;
    }
    add(70_000..90_000)?;
    let mut all: Vec<_> = (0..50_000).map(|number| word(number).id).collect();
    all.sort_unstable();
    for (number, range) in (70_000..).zip(&mut ranges) {
        let wanted = all[..all.partition_point(|id| *id < word(number).id)].last();
        assert_eq!(range.next_back().transpose()?.map(|word| &word.id), wanted);
    }
    Ok(())
}
