//! Comparison of everything that can be read from a store with a world.

use std::fmt::Display;

use pongo::prelude::*;

use crate::StoreModel;
use crate::records::{Note, Seat, Stop, name_of};

/// Differences between a store and its expected content.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Differences {
    /// Wrong results: never allowed, even if files were damaged.
    pub wrong: Vec<String>,
    /// Errors instead of results: allowed if files were damaged.
    pub errors: Vec<String>,
}

impl Differences {
    /// Asserts that there were neither wrong results nor errors.
    #[track_caller]
    pub fn assert_ok(&self) {
        assert!(
            self.wrong.is_empty() && self.errors.is_empty(),
            "wrong: {:#?}\nerrors: {:#?}",
            self.wrong,
            self.errors
        );
    }

    /// Asserts that no result was wrong. Errors are allowed.
    #[track_caller]
    pub fn assert_no_wrong_answers(&self) {
        assert!(self.wrong.is_empty(), "wrong: {:#?}\nerrors: {:#?}", self.wrong, self.errors);
    }

    fn ok<T, E: Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.errors.push(format!("{what}: {error}"))).ok()
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, expected: &T) {
        if found != expected {
            self.wrong.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }

    /// Compares all items of an iterator with `expected`. An error ends the comparison.
    fn all<T: PartialEq + std::fmt::Debug, E: Display, I: Iterator<Item = Result<T, E>>>(
        &mut self,
        what: &str,
        found: Result<I, impl Display>,
        expected: impl IntoIterator<Item = T>,
    ) {
        let Some(found) = self.ok(what, found) else { return };
        let mut expected = expected.into_iter();
        for (place, item) in found.enumerate() {
            let Some(item) = self.ok(what, item) else { return };
            let known = expected.next();
            if known.as_ref() != Some(&item) {
                self.wrong.push(format!("{what}, item {place}: expected {known:?}, found {item:?}"));
                return;
            }
        }
        if let Some(missing) = expected.next() {
            self.wrong.push(format!("{what}: {missing:?} is missing"));
        }
    }
}

/// Reads a new snapshot of a store in every way and compares it with `world`.
#[must_use]
pub fn look(store: &Store, world: &StoreModel) -> Differences {
    let mut look = Differences::default();
    if let Some(snapshot) = look.ok("begin_read", store.begin_read()) {
        look_at(&snapshot, world, &mut look);
    }
    look
}

/// Reads a snapshot in every way and compares it with `world`.
pub fn look_at(snapshot: &Snapshot, world: &StoreModel, look: &mut Differences) {
    look.same("seq", &snapshot.seq().0, &world.seq);
    stops(snapshot, world, look);
    seats(snapshot, world, look);
    notes(snapshot, world, look);
}

fn stops(snapshot: &Snapshot, world: &StoreModel, look: &mut Differences) {
    let Some(stops) = look.ok("stops", snapshot.table::<Stop>()) else { return };
    look.same("stops.len", &stops.len(), &(world.stops.len() as u64));
    let pair = |stop: &Stop| (stop.id, stop.visits, stop.check);
    let known = |(&id, &visits): (&u64, &u32)| (id, visits, Stop::check(id, visits));
    // Slices are in row order, which the world does not know. Compare the sorted rows if no slice
    // is missing.
    let mut rows = Vec::new();
    let mut whole = true;
    for slice in stops.slices() {
        match look.ok("stops.slices", slice) {
            Some(slice) => rows.extend(slice.iter().map(pair)),
            None => whole = false,
        }
    }
    rows.sort_unstable();
    if whole {
        look.same("stops.slices", &rows, &world.stops.iter().map(known).collect());
    } else if let Some(other) = rows.iter().find(|row| world.stops.get(&row.0) != Some(&row.1)) {
        look.wrong.push(format!("stops.slices: {other:?} is not in the world"));
    }
    let ids: Vec<u64> = world.stops.keys().copied().chain((0..8).map(|at| at * 977 % 5003)).collect();
    for (id, many) in ids.iter().zip(stops.get_many(&ids)) {
        let expected = world.stops.get(id).copied();
        if let Some(found) = look.ok("stops.get_many", many) {
            look.same(
                "stops.get_many",
                &found.map(|stop| (stop.id, stop.visits)),
                &expected.map(|visits| (*id, visits)),
            );
        }
        let Some(found) = look.ok("stops.get", stops.get(id)) else { continue };
        look.same(
            "stops.get",
            &found.map(|stop| (stop.id, stop.visits)),
            &expected.map(|visits| (*id, visits)),
        );
        if let Some(stop) = found
            && let Some(name) = look.ok("a stop's name", stop.name.as_str(snapshot))
        {
            let expected = name_of(stop.visits);
            look.same("a stop's name", &name, &expected.as_str());
        }
    }
    let found = stops.range(..).map(|range| range.map(|stop| stop.map(pair)));
    look.all("stops.range", found, world.stops.iter().map(known));
    let found = stops.range(3..).map(|range| range.rev().map(|stop| stop.map(pair)));
    look.all("stops.range.rev", found, world.stops.range(3..).rev().map(known));
    let found =
        stops.by(Stop::VISITS).all().map(|range| range.map(|stop| stop.map(|stop| (stop.visits, stop.id))));
    // Rows with the same value come in any order.
    let mut by: Vec<_> = world.stops.iter().map(|(&id, &visits)| (visits, id)).collect();
    by.sort_unstable();
    if let Some(found) = look.ok("stops.by", found) {
        let found: Result<Vec<_>, _> = found.collect();
        if let Some(mut found) = look.ok("stops.by", found) {
            let sorted = found.is_sorted_by_key(|pair| pair.0);
            look.same("stops.by is in order", &sorted, &true);
            found.sort_unstable();
            look.same("stops.by", &found, &by);
        }
    }
}

fn seats(snapshot: &Snapshot, world: &StoreModel, look: &mut Differences) {
    let Some(seats) = look.ok("seats", snapshot.table::<Seat>()) else { return };
    look.same("seats.len", &seats.len(), &(world.seats.len() as u64));
    let all = |seat: &Seat| ((seat.row, seat.place), seat.who, seat.version);
    for row in 0..4 {
        for place in 0..6 {
            let Some(found) = look.ok("seats.get", seats.get((row, place))) else { continue };
            let expected = world.seats.get(&(row, place)).map(|&(who, version)| ((row, place), who, version));
            look.same("seats.get", &found.map(all), &expected);
            look.same("seats.even", &found.is_none_or(|seat| seat.even == (seat.who % 2 == 0)), &true);
        }
    }
    for who in 0..30 {
        let found = seats.by(Seat::WHO).eq(who).map(|range| range.map(|seat| seat.map(all)));
        let expected = world.seat_of(who).map(|seat| (seat, who, world.seats[&seat].1));
        look.all("seats.by", found, expected);
    }
    let found = seats.range(..).map(|range| range.map(|seat| seat.map(all)));
    look.all("seats.range", found, world.seats.iter().map(|(&seat, &(who, version))| (seat, who, version)));
}

fn notes(snapshot: &Snapshot, world: &StoreModel, look: &mut Differences) {
    let Some(notes) = look.ok("notes", snapshot.external::<Note>()) else { return };
    look.same("notes.len", &notes.len(), &(world.notes.len() as u64));
    let all = |note: &Note| (note.group, note.not_group, note.version);
    let known = |&(group, version): &(u32, u64)| (group, !group, version);
    for (key, value) in &world.notes {
        if let Some(found) = look.ok("notes.get", notes.get(key)) {
            look.same("notes.get", &found.map(all), &Some(known(value)));
        }
    }
    if let Some(found) = look.ok("notes.get", notes.get(b"not there")) {
        look.same("notes.get", &found.map(all), &None);
    }
    let found =
        notes.range(..).map(|range| range.map(|item| item.map(|(key, note)| (key.to_vec(), all(note)))));
    look.all("notes.range", found, world.notes.iter().map(|(key, value)| (key.clone(), known(value))));
}
