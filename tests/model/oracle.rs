//! The two tables of the model test, the maps with their expected contents, and the comparison.

use std::collections::BTreeMap;

use pongo::prelude::*;

pub(crate) use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "stops")]
#[derive(pongo::zerocopy::IntoBytes, Debug)]
pub(crate) struct Stop {
    #[pongo(key)]
    pub(crate) id: u64,
    pub(crate) visits: i64,
    /// Contains `visits` as text, so that a text of another row is detected.
    pub(crate) name: Text,
}

/// Compares the bytes: rows are equal if their text is at the same address.
impl PartialEq for Stop {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

/// A record with two key fields, which are ordered differently from the fields, and a field with
/// invalid bit patterns. Rows cross chunk boundaries.
#[pongo::record]
#[pongo(table = "legs")]
#[derive(Debug, PartialEq)]
pub(crate) struct Leg {
    #[pongo(key)]
    pub(crate) to: u16,
    pub(crate) closed: bool,
    pub(crate) _pad: u8,
    #[pongo(key)]
    pub(crate) from: u32,
    pub(crate) minutes: i64,
}

/// Expected contents of the tables.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Maps {
    pub(crate) stops: BTreeMap<u64, i64>,
    pub(crate) legs: BTreeMap<(u16, u32), (bool, i64)>,
}

pub(crate) fn name_of(visits: i64) -> String {
    match visits % 7 {
        0 => String::new(),
        times => format!("visited {visits} times; ").repeat(times as usize),
    }
}

/// Reads one table by every method and compares the results with the expected rows.
fn check_table<'s, T>(
    table: &Table<'s, T>,
    keys: &[T::Key],
    expected: impl Fn(&T::Key) -> bool,
) -> Outcome<Vec<&'s T>>
where
    T: PongoRecord + PartialEq + std::fmt::Debug,
    T::Key: std::fmt::Debug,
{
    let rows: Vec<&T> = table.rows().collect::<Result<_, _>>()?;
    assert_eq!(rows.len() as u64, table.len());
    assert_eq!(table.is_empty(), rows.is_empty());
    let slices: Vec<&[T]> = table.slices().collect::<Result<_, _>>()?;
    assert!(slices.iter().all(|slice| !slice.is_empty()));
    assert!(slices.into_iter().flatten().eq(rows.iter().copied()), "slices and rows differ");
    let mut last = None;
    for (entry, row) in table.entries().zip(&rows) {
        let (number, value) = entry?;
        assert!(std::ptr::eq(value, *row));
        assert!(last < Some(number), "row {number} comes after {last:?}");
        last = Some(number);
        assert!(table.row(number)?.is_some_and(|found| std::ptr::eq(found, value)));
        let place = table.locate(number).ok_or("a row has a place")?;
        assert_eq!(table.row_at(place), Some(number));
    }
    let beyond = last.map_or(RowId(0), RowId::next);
    assert_eq!(table.row(RowId(beyond.0 + 1_000_000))?, None);
    assert_eq!(table.locate(RowId(u64::MAX)), None);
    let mut found = 0;
    for (key, many) in keys.iter().zip(table.get_many(keys)) {
        let one = table.get(key)?;
        assert_eq!(one.is_some(), expected(key), "key {key:?}");
        assert_eq!(one.map(std::ptr::from_ref), many?.map(std::ptr::from_ref), "key {key:?}");
        assert_eq!(table.contains(key)?, one.is_some());
        if let Some((number, row)) = table.get_row(key)? {
            assert!(one.is_some_and(|one| std::ptr::eq(one, row)));
            assert!(table.row(number)?.is_some_and(|found| std::ptr::eq(found, row)));
            found += 1;
        }
    }
    assert_eq!(found, rows.len(), "rows that no key finds");
    Ok(rows)
}

/// Compares a snapshot with its expected contents.
pub(crate) fn check_snapshot(snapshot: &Snapshot, maps: &Maps, stops: u64, legs: u32) -> Outcome {
    let keys: Vec<u64> = (0..stops + 3).collect();
    let rows = check_table(&snapshot.table::<Stop>()?, &keys, |id| maps.stops.contains_key(id))?;
    for stop in &rows {
        assert_eq!(stop.name.as_str(snapshot)?, name_of(stop.visits));
    }
    let found: BTreeMap<u64, i64> = rows.iter().map(|stop| (stop.id, stop.visits)).collect();
    assert_eq!(found, maps.stops);

    let keys: Vec<(u16, u32)> =
        (0..=legs as u16).flat_map(|to| (0..=legs).map(move |from| (to, from))).collect();
    let rows = check_table(&snapshot.table::<Leg>()?, &keys, |key| maps.legs.contains_key(key))?;
    let found: BTreeMap<_, _> =
        rows.iter().map(|leg| ((leg.to, leg.from), (leg.closed, leg.minutes))).collect();
    assert_eq!(found, maps.legs);
    Ok(())
}

/// Compares the reads of a write transaction with its own changes.
pub(crate) fn check_transaction(tx: &mut WriteTransaction, maps: &Maps) -> Outcome {
    let mut texts = Vec::new();
    let stops = tx.table::<Stop>()?;
    assert_eq!(stops.len()?, maps.stops.len() as u64);
    assert_eq!(stops.is_empty()?, maps.stops.is_empty());
    let last = maps.stops.last_key_value().map_or(0, |(id, _)| *id);
    for id in 0..=last + 1 {
        let stop = stops.get(id)?;
        assert_eq!(stop.map(|stop| stop.visits), maps.stops.get(&id).copied(), "stop {id}");
        assert_eq!(stops.contains(id)?, stop.is_some());
        texts.extend(stop.map(|stop| (stop.name, stop.visits)));
    }
    for (text, visits) in texts {
        assert_eq!(text.as_str(tx)?, name_of(visits));
    }
    let legs = tx.table::<Leg>()?;
    assert_eq!(legs.len()?, maps.legs.len() as u64);
    for (key, expected) in &maps.legs {
        assert_eq!(legs.get(key)?.map(|leg| (leg.closed, leg.minutes)), Some(*expected), "leg {key:?}");
    }
    Ok(())
}
