//! Checks of filters, which [`pongo_crashtest::look`] does not make: filters skip rows according to
//! the zone maps.

use pongo::prelude::*;
use pongo_crashtest::{Differences, Seat, Stop, StoreModel};

/// Compares the filters of a new snapshot with a world.
pub(crate) fn filters(store: &Store, world: &StoreModel) -> Differences {
    let mut look = Differences::default();
    let snapshot = match store.begin_read() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            look.errors.push(format!("begin_read: {error}"));
            return look;
        }
    };
    match snapshot.table::<Stop>() {
        Err(error) => look.errors.push(format!("stops: {error}")),
        Ok(stops) => {
            for (low, high) in [(0, 3), (4, 20), (21, 40_000)] {
                let expected = world.stops.iter().filter(|(_, visits)| (low..=high).contains(*visits));
                let found = stops.filter(Stop::VISITS.between(low..=high));
                let found = found.map(|stop| stop.map(|stop| (stop.id, stop.visits)));
                compare(&mut look, "stops.filter", found, expected.map(|(&id, &visits)| (id, visits)));
            }
            let expected = world.stops.range(10_000..).map(|(&id, &visits)| (id, visits));
            let found = stops.filter(Stop::ID.ge(10_000));
            compare(&mut look, "stops.filter by id", found.map(|s| s.map(|s| (s.id, s.visits))), expected);
        }
    }
    match snapshot.table::<Seat>() {
        Err(error) => look.errors.push(format!("seats: {error}")),
        Ok(seats) => {
            let expected = world.seats.iter().filter(|(_, known)| known.0 >= 7);
            let found = seats.filter(Seat::WHO.ge(7)).map(|s| s.map(|s| ((s.row, s.place), s.version)));
            compare(&mut look, "seats.filter", found, expected.map(|(&seat, known)| (seat, known.1)));
        }
    }
    look
}

/// Compares the rows found, in any order. An error ends the reading; rows found before it must
/// still be expected ones.
fn compare<T: Ord + std::fmt::Debug, E: std::fmt::Display>(
    look: &mut Differences,
    what: &str,
    found: impl Iterator<Item = Result<T, E>>,
    expected: impl Iterator<Item = T>,
) {
    let mut expected: Vec<T> = expected.collect();
    expected.sort_unstable();
    let mut rows = Vec::new();
    let mut whole = true;
    for item in found {
        match item {
            Ok(item) => rows.push(item),
            Err(error) => {
                look.errors.push(format!("{what}: {error}"));
                whole = false;
                break;
            }
        }
    }
    rows.sort_unstable();
    if whole && rows != expected {
        look.wrong.push(format!("{what}: expected {expected:?}, found {rows:?}"));
    }
    if let Some(other) = rows.iter().find(|row| expected.binary_search(row).is_err()) {
        look.wrong.push(format!("{what}: {other:?} is not in the world"));
    }
}
