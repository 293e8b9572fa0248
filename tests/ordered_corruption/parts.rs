//! A store of parts, and a check that its ranges agree with its rows.

use std::path::Path;
use std::time::Duration;

use pongo::OrderedStatus;
use pongo::prelude::*;
use pongo_test_support::mix;

pub(crate) use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "parts")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    #[pongo(key)]
    pub(crate) id: u64,
    #[pongo(index)]
    pub(crate) bin: u32,
    _pad: u32,
}

/// A little longer than the time for which a refusal of the index blocks is remembered.
pub(crate) const PATIENCE: Duration = Duration::from_millis(2100);

/// Opens the store with small merges and a compaction after each.
pub(crate) fn open(path: &Path) -> Outcome<Store> {
    let options = Options::new().ordered_tuning(50, 1 << 20, 5000, 1 << 18).ordered_compact_from(0);
    // SAFETY: a folder of these tests, to which only PongoDB processes write.
    Ok(unsafe { options.open(path)? })
}

/// Puts the parts of these numbers in no particular order. Every eighth has the id of an earlier
/// one.
pub(crate) fn put(store: &Store, numbers: std::ops::Range<u64>) -> Outcome {
    let tx = store.begin_write_with(Durability::Relaxed)?;
    for number in numbers {
        let of = if number % 8 == 7 { mix(number) % number } else { number };
        tx.table::<Part>()?.put(&Part { id: mix(of), bin: (mix(number) % 97) as u32, _pad: 0 })?;
    }
    tx.commit()?;
    Ok(())
}

/// Compares ranges by key and by bin, in both directions, with a sort of the rows.
#[track_caller]
pub(crate) fn check(store: &Store) -> Outcome {
    let snapshot = store.begin_read()?;
    let parts = snapshot.table::<Part>()?;
    let mut rows = parts.rows().map(|row| row.copied()).collect::<Result<Vec<Part>, _>>()?;
    assert_eq!(rows.len() as u64, parts.len());
    rows.sort_unstable_by_key(|part| part.id);
    let found = parts.range(..)?.map(|row| row.copied()).collect::<Result<Vec<_>, _>>()?;
    assert!(found == rows, "{} by key, {} rows", found.len(), rows.len());
    let mut back = parts.range(..)?.rev().map(|row| row.copied()).collect::<Result<Vec<_>, _>>()?;
    back.reverse();
    assert!(back == rows, "{} by key in reverse, {} rows", back.len(), rows.len());
    let (low, high) = (u64::MAX / 5, u64::MAX / 3);
    let between = rows.iter().filter(|part| (low..high).contains(&part.id)).count();
    assert_eq!(parts.range(low..high)?.count(), between);
    for bin in [0, 13, 96] {
        let mut found = Vec::new();
        for part in parts.by(Part::BIN).eq(bin)? {
            found.push(*part?);
        }
        found.sort_unstable_by_key(|part| part.id);
        let expected: Vec<Part> = rows.iter().filter(|part| part.bin == bin).copied().collect();
        assert!(found == expected, "{} in bin {bin}, {} rows", found.len(), expected.len());
    }
    Ok(())
}

pub(crate) fn status(store: &Store) -> Outcome<OrderedStatus> {
    Ok(store.stats()?.ordered)
}

/// Checks that the index is open, sound, and has every row.
#[track_caller]
pub(crate) fn is_back(store: &Store) -> Outcome {
    store.catch_up_indexes()?;
    check(store)?;
    let stats = store.stats()?;
    assert!(stats.ordered.open && stats.ordered.unavailable_reason.is_none(), "{stats}");
    assert!(stats.tables[0].indexes.iter().all(|index| index.lag == 0 && index.pairs > 0), "{stats}");
    let report = store.verify(|_| ())?;
    assert!(report.is_valid(), "{report}");
    Ok(())
}
