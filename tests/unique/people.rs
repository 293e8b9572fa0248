//! The table of the tests about unique values, the map with its expected contents, and the
//! comparison.

use std::collections::BTreeMap;

use pongo::prelude::*;

pub(crate) use pongo_test_support::Outcome;

/// A record with two unique indexes: one on a single field, and one on two fields that are not
/// adjacent and are in another order than in the row.
#[pongo::record]
#[pongo(table = "people", unique(seat, team))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Person {
    #[pongo(key)]
    pub(crate) id: u64,
    pub(crate) team: u16,
    pub(crate) _pad: [u8; 2],
    #[pongo(index)]
    pub(crate) seat: u32,
    #[pongo(unique)]
    pub(crate) mail: FixedStr<16>,
    pub(crate) version: u64,
}

/// The unique values of a person, and the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Of {
    pub(crate) mail: u64,
    pub(crate) seat: u32,
    pub(crate) team: u16,
    pub(crate) version: u64,
}

pub(crate) type Map = BTreeMap<u64, Of>;

pub(crate) fn mail(number: u64) -> FixedStr<16> {
    format!("{number}@pongo").parse().expect("short enough")
}

pub(crate) fn person(id: u64, of: Of) -> Person {
    let Of { seat, team, version, .. } = of;
    Person { id, team, _pad: [0; 2], seat, mail: mail(of.mail), version }
}

/// Returns the person that a row would conflict with: another one with the same mail or seat.
pub(crate) fn conflicting_id(map: &Map, id: u64, of: Of) -> Option<u64> {
    let same = |other: &Of| other.mail == of.mail || (other.seat, other.team) == (of.seat, of.team);
    map.iter().find(|&(&other, known)| other != id && same(known)).map(|(&other, _)| other)
}

pub(crate) fn by_mail(snapshot: &Snapshot, number: u64) -> Outcome<Option<&Person>> {
    Ok(snapshot.table::<Person>()?.by(Person::MAIL).eq(mail(number))?.next().transpose()?)
}

pub(crate) fn by_seat(snapshot: &Snapshot, seat: u32, team: u16) -> Outcome<Option<&Person>> {
    let people = snapshot.table::<Person>()?;
    let both = people.by((Person::SEAT, Person::TEAM));
    // By the unique index, and by the ordered one.
    let found = both.eq((seat, team))?.next().transpose()?;
    assert_eq!(both.range((seat, team)..=(seat, team))?.next().transpose()?, found);
    Ok(found)
}

/// Compares a snapshot with a map: by key, and by every possible value.
pub(crate) fn check(snapshot: &Snapshot, map: &Map, mails: u64, seats: u32, teams: u16) -> Outcome {
    let people = snapshot.table::<Person>()?;
    assert_eq!(people.len(), map.len() as u64);
    for (&id, &of) in map {
        assert_eq!(people.get(id)?, Some(&person(id, of)));
    }
    let expected = |of: Option<(&u64, &Of)>| of.map(|(&id, &of)| person(id, of));
    for number in 0..mails + 2 {
        let of = map.iter().find(|(_, of)| of.mail == number);
        assert_eq!(by_mail(snapshot, number)?.copied(), expected(of), "mail {number}");
    }
    for (seat, team) in (0..seats + 1).flat_map(|seat| (0..teams + 1).map(move |team| (seat, team))) {
        let of = map.iter().find(|(_, of)| (of.seat, of.team) == (seat, team));
        assert_eq!(by_seat(snapshot, seat, team)?.copied(), expected(of), "seat {seat} of team {team}");
    }
    Ok(())
}
