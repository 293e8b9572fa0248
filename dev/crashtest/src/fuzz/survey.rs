//! Runs all operations on a store of any content. Values are not compared with expected ones,
//! errors are allowed, and all operations must terminate.

use std::fmt::Display;
use std::sync::Arc;

use pongo::prelude::*;
use pongo::{ReadError, WriteError};
use pongo_core::storage::Storage;

use crate::{Note, Seat, Stop};

/// Opens the store, reads everything, writes, closes it, and repeats this once.
pub(crate) fn live_with(storage: &Arc<dyn Storage>, options: Options) {
    for round in 0..2 {
        let store = match options.open_on(Arc::clone(storage)) {
            Ok(store) => store,
            Err(error) => return said(&error),
        };
        survey(&store, round == 0);
        if let Err(error) = write(&store, round) {
            said(&error);
        }
        survey(&store, true);
        if round == 0 {
            if let Err(error) = store.close() {
                said(&error);
            }
        } else if let Err(error) = store.rebuild_indexes() {
            said(&error);
        }
    }
}

/// Checks that the error can be formatted and is not empty.
fn said(error: &dyn Display) {
    assert!(!error.to_string().is_empty());
}

/// Reads items up to the first error, and returns their number.
fn all<T, E: Display>(items: Result<impl Iterator<Item = Result<T, E>>, E>, mut look: impl FnMut(T)) -> u64 {
    let mut count = 0;
    match items {
        Err(error) => said(&error),
        Ok(items) => {
            for item in items {
                match item {
                    Ok(item) => look(item),
                    Err(error) => {
                        said(&error);
                        break;
                    }
                }
                count += 1;
            }
        }
    }
    count
}

fn survey(store: &Store, verify: bool) {
    // Number of existing rows, including deleted ones. The number of live rows comes from a file
    // and is trusted by the store, so it bounds nothing here.
    let mut most = u64::MAX;
    match store.stats() {
        Ok(stats) => {
            said(&stats);
            most = stats.tables.iter().map(|table| table.rows).max().unwrap_or(0);
        }
        Err(error) => said(&error),
    }
    match store.begin_read() {
        Ok(snapshot) => {
            stops(&snapshot, most).unwrap_or_else(|error| said(&error));
            seats(&snapshot).unwrap_or_else(|error| said(&error));
            notes(&snapshot, most).unwrap_or_else(|error| said(&error));
        }
        Err(error) => said(&error),
    }
    if verify {
        match store.verify(|_| ()) {
            Ok(report) => said(&report),
            Err(error) => said(&error),
        }
    }
}

fn stops(snapshot: &Snapshot, most: u64) -> Result<(), ReadError> {
    let stops = snapshot.table::<Stop>()?;
    let mut ids: Vec<u64> = (0..4).collect();
    let rows = all(Ok(stops.rows()), |stop| {
        if let Err(error) = stop.name.as_str(snapshot) {
            said(&error);
        }
        ids.push(stop.id);
    });
    assert!(rows <= most, "{rows} rows of {most}");
    let mut in_slices = 0;
    all(Ok::<_, ReadError>(stops.slices()), |slice| in_slices += slice.len() as u64);
    assert!(in_slices <= most, "slices of {in_slices} rows, of {most}");
    all(Ok::<_, ReadError>(stops.entries()), |(row, stop)| {
        let location = stops.locate(row);
        assert!(location.is_none_or(|location| stops.row_at(location) == Some(row)), "row {row}");
        assert!(stops.row(row).is_ok_and(|found| found.is_some_and(|found| found == stop)), "row {row}");
    });
    ids.truncate(300);
    for id in &ids {
        match stops.get(id) {
            Ok(found) => assert!(found.is_none_or(|stop| stop.id == *id), "stop {id}"),
            Err(error) => said(&error),
        }
    }
    for (id, found) in ids.iter().zip(stops.get_many(&ids)) {
        match found {
            Ok(found) => assert!(found.is_none_or(|stop| stop.id == *id), "stop {id}"),
            Err(error) => said(&error),
        }
    }
    let mut last = 0;
    all(stops.range(2..), |stop| {
        assert!(stop.id >= last.max(2), "stop {} after {last}", stop.id);
        last = stop.id;
    });
    let mut last = u64::MAX;
    all(stops.range(..).map(Iterator::rev), |stop| {
        assert!(stop.id <= last, "stop {} before {last}", stop.id);
        last = stop.id;
    });
    let mut last = 0;
    all(stops.by(Stop::VISITS).all(), |stop| {
        assert!(stop.visits >= last, "visits {} after {last}", stop.visits);
        last = stop.visits;
    });
    let filter = || stops.filter(Stop::VISITS.gt(7).and(Stop::ID.lt(2000)));
    let found =
        all(Ok::<_, ReadError>(filter()), |stop| assert!(stop.visits > 7 && stop.id < 2000, "filter"));
    assert!(found <= most, "the filter found {found}");
    match filter().explain() {
        Ok(explain) => said(&explain),
        Err(error) => said(&error),
    }
    Ok(())
}

fn seats(snapshot: &Snapshot) -> Result<(), ReadError> {
    let seats = snapshot.table::<Seat>()?;
    for (row, place) in (0..4).flat_map(|row| (0..6).map(move |place| (row, place))) {
        match seats.get((row, place)) {
            Ok(found) => assert!(found.is_none_or(|seat| (seat.row, seat.place) == (row, place)), "a seat"),
            Err(error) => said(&error),
        }
    }
    for who in 0..30 {
        all(seats.by(Seat::WHO).eq(who), |seat| assert_eq!(seat.who, who, "by who"));
    }
    let mut last = (0, 0);
    all(seats.range(..), |seat| {
        assert!((seat.row, seat.place) >= last, "seats in order");
        // A byte that the type forbids would not be a valid `bool`.
        assert!(u8::from(seat.even) <= 1, "a bool");
        last = (seat.row, seat.place);
    });
    all(seats.prefix((2,)), |seat| assert_eq!(seat.row, 2, "a prefix"));
    all(Ok::<_, ReadError>(seats.filter(Seat::EVEN.eq(true))), |seat| assert!(seat.even, "filter"));
    Ok(())
}

fn notes(snapshot: &Snapshot, most: u64) -> Result<(), ReadError> {
    let notes = snapshot.external::<Note>()?;
    let mut keys = vec![Vec::new(), b"k".to_vec(), vec![0xff; 70_000]];
    all(Ok::<_, ReadError>(notes.rows()), |(key, _)| keys.push(key.to_vec()));
    let values = all(Ok::<_, ReadError>(notes.values()), |_| ());
    assert!(values <= most, "{values} notes of {most}");
    for key in keys.iter().take(100) {
        if let Err(error) = notes.get(key) {
            said(&error);
        }
    }
    let mut last = Vec::new();
    all(notes.range(..), |(key, _)| {
        assert!(key >= &last[..], "notes in order");
        last = key.to_vec();
    });
    all(notes.prefix("k"), |(key, _)| assert!(key.starts_with(b"k"), "a prefix"));
    all(notes.by(Note::GROUP).eq(2), |(_, note)| assert_eq!(note.group, 2, "by group"));
    Ok(())
}

/// Commits changes of all kinds.
fn write(store: &Store, round: u64) -> Result<(), WriteError> {
    let mut tx = store.begin_write()?;
    let name = tx.text("a new name")?;
    // Each table is written separately: an error of one table does not prevent writes to the
    // others.
    let stops = (|| {
        let mut stops = tx.table::<Stop>()?;
        stops.put(&Stop::new(3, 5, name))?;
        stops.extend((0..20).map(|at| Stop::new(10 + at, at as u32, name)))?;
        stops.delete(11)?;
        stops.update(12, |stop| stop.visits += 1)?;
        stops.delete_range(14..17)
    })();
    let seats = (|| {
        let mut seats = tx.table::<Seat>()?;
        seats.put(&Seat { row: 1, place: 2, even: true, _pad: [0; 3], who: 5000 + round, version: 1 })?;
        seats.delete((0, 1))
    })();
    let point = tx.savepoint()?;
    let notes = (|| {
        let mut notes = tx.external::<Note>()?;
        notes.put(b"k", &Note { group: 2, not_group: !2, version: 9 })?;
        notes.delete(b"z\0")
    })();
    if round == 0 {
        tx.rollback_to(&point)?;
    }
    tx.release(point)?;
    for failed in [stops.map(|_| ()), seats.map(|_| ()), notes.map(|_| ())] {
        if let Err(error) = failed {
            said(&error);
        }
    }
    match tx.commit() {
        Ok(_) => Ok(()),
        Err(error) => {
            said(&error);
            Ok(())
        }
    }
}
