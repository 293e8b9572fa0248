//! Readers continue while indexes are merged and compacted.

use std::sync::atomic::{AtomicBool, Ordering};

use pongo_index::ordered::SledBlocks;

use crate::parts::{Outcome, Part, check, is_back, open, put, status};

#[test]
fn a_compaction_disturbs_no_reader() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let store = open(&path)?;
    put(&store, 0..4000)?;
    store.catch_up_indexes()?;
    let ended = AtomicBool::new(false);
    // A range that starts before the compactions and continues after each of them.
    let snapshot = store.begin_read()?;
    let parts = snapshot.table::<Part>()?;
    let expected = parts.len();
    let mut long = parts.range(..)?;
    let mut found = 0;
    std::thread::scope(|scope| -> Outcome {
        let reader = scope.spawn(|| {
            let mut rounds = 0;
            while !ended.load(Ordering::Relaxed) {
                check(&store).map_err(|error| error.to_string())?;
                rounds += 1;
            }
            Ok::<u64, String>(rounds)
        });
        for round in 0..12 {
            put(&store, 4000 + round * 300..4300 + round * 300)?;
            store.catch_up_indexes()?;
            for part in long.by_ref().take(200) {
                part?;
                found += 1;
            }
        }
        ended.store(true, Ordering::Relaxed);
        let rounds = reader.join().expect("it does not panic")?;
        assert!(rounds > 0);
        Ok(())
    })?;
    for part in long {
        part?;
        found += 1;
    }
    assert_eq!(found, expected);
    let found = status(&store)?;
    assert!(found.open && found.quarantined == 0 && found.last_error.is_none(), "{found:?}");
    assert!(!path.join("ordered/sled.new").exists());
    is_back(&store)
}

#[test]
fn range_survives_repeated_quarantines() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let store = open(&path)?;
    put(&store, 0..6000)?;
    store.catch_up_indexes()?;
    let sled = path.canonicalize()?.join("ordered/sled");
    let snapshot = store.begin_read()?;
    let mut rows =
        snapshot.table::<Part>()?.rows().map(|row| row.map(|part| part.id)).collect::<Result<Vec<_>, _>>()?;
    rows.sort_unstable();
    let parts = snapshot.table::<Part>()?;
    let (mut long, mut found) = (parts.range(..)?, Vec::new());
    for round in 1..=6 {
        for part in long.by_ref().take(600) {
            found.push(part?.id);
        }
        SledBlocks::panic_after(&sled, 0);
        put(&store, 6000 + round * 10..6010 + round * 10)?;
        println!("round {round}: {:?}", store.catch_up_indexes());
        store.catch_up_indexes()?;
        // Once per panic: a later access that finds the old handles closed quarantines nothing.
        let status = status(&store)?;
        assert_eq!((status.open, status.quarantined), (true, round), "{status:?}");
    }
    for part in long {
        found.push(part?.id);
    }
    assert!(found == rows, "{} of {}", found.len(), rows.len());
    assert_eq!(status(&store)?.quarantined, 6);
    is_back(&store)
}
