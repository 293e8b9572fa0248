//! The table of the tests about unique values that may be absent, the map with its expected
//! contents, and the comparison.

use std::collections::BTreeMap;

use pongo::prelude::*;

pub(crate) use pongo_test_support::{Outcome, Random};

/// A record with three unique indexes: on a string, on a float with an alignment above 1, and on
/// two fields that are not adjacent, of which one may be absent.
#[pongo::record]
#[pongo(table = "people", unique(seat, team))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Person {
    #[pongo(key)]
    pub(crate) id: u64,
    pub(crate) seat: Maybe<u32>,
    #[pongo(unique)]
    pub(crate) score: Maybe<f64>,
    pub(crate) version: u64,
    pub(crate) team: u16,
    #[pongo(unique)]
    pub(crate) mail: Maybe<FixedStr<15>>,
    pub(crate) _pad: [u8; 6],
}

/// The unique values of a person, and the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Of {
    /// 0 is the empty string.
    pub(crate) mail: Option<u64>,
    /// Index in [`SCORES`].
    pub(crate) score: Option<usize>,
    pub(crate) seat: Option<u32>,
    pub(crate) team: u16,
    pub(crate) version: u64,
}

pub(crate) type Map = BTreeMap<u64, Of>;

pub(crate) const MAILS: u64 = 24;
pub(crate) const SEATS: u32 = 5;
pub(crate) const TEAMS: u16 = 4;
/// Two pairs of these are equal as unique values.
pub(crate) const SCORES: [f64; 12] =
    [0.0, -0.0, f64::NAN, -f64::NAN, 1.0, -1.0, 2.0, 3.0, 4.0, 5.0, 6.0, f64::INFINITY];

/// Returns the first of the scores that equal this one as unique values.
fn class(score: usize) -> usize {
    if score < 4 { score & !1 } else { score }
}

pub(crate) fn mail(number: u64) -> FixedStr<15> {
    let text = if number == 0 { String::new() } else { format!("{number}@pongo") };
    text.parse().expect("short enough")
}

pub(crate) fn person(id: u64, of: Of) -> Person {
    Person {
        id,
        seat: of.seat.into(),
        score: of.score.map(|score| SCORES[score]).into(),
        version: of.version,
        team: of.team,
        mail: of.mail.map(mail).into(),
        _pad: [0; 6],
    }
}

/// Returns whether two present values are equal.
fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.is_some() && a == b
}

/// Returns the person that a row would conflict with: another one with the same mail, score or
/// seat.
pub(crate) fn conflicting_id(map: &Map, id: u64, of: Of) -> Option<u64> {
    let is_taken = |other: &Of| {
        same(other.mail, of.mail)
            || same(other.score.map(class), of.score.map(class))
            || (other.team == of.team && same(other.seat, of.seat))
    };
    map.iter().find(|&(&other, known)| other != id && is_taken(known)).map(|(&other, _)| other)
}

type Found<'s> = Result<pongo::Range<'s, Person>, pongo::ReadError>;

/// Checks that rows are those with these ids, in any order.
fn are(found: Found<'_>, mut expected: Vec<u64>, what: &str) -> Outcome {
    let mut ids = found?.map(|row| Ok(row?.id)).collect::<Result<Vec<_>, pongo::ReadError>>()?;
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected, "{what}");
    Ok(())
}

/// Compares a table with a map: by key, by every possible value, and by absent ones.
pub(crate) fn check_table(people: &Table<'_, Person>, map: &Map) -> Outcome {
    assert_eq!(people.len(), map.len() as u64);
    for (&id, &of) in map {
        // NaNs are not equal.
        assert_eq!(people.get(id)?.map(|row| format!("{row:?}")), Some(format!("{:?}", person(id, of))));
    }
    let ids = |which: &dyn Fn(&Of) -> bool| -> Vec<u64> {
        map.iter().filter(|(_, of)| which(of)).map(|(&id, _)| id).collect()
    };
    let by_mail = people.by(Person::MAIL);
    for number in 0..MAILS + 1 {
        let expected = ids(&|of| of.mail == Some(number));
        assert!(expected.len() < 2);
        let text = mail(number);
        are(by_mail.eq(Maybe::some(text)), expected.clone(), "a mail")?;
        are(by_mail.eq(text.as_str()), expected.clone(), "a mail as text")?;
        are(by_mail.range(text.as_str()..=text.as_str()), expected, "a range of one mail")?;
    }
    are(by_mail.eq(Maybe::none()), ids(&|of| of.mail.is_none()), "no mail")?;
    are(by_mail.range(""..), ids(&|of| of.mail.is_some()), "any mail")?;
    are(by_mail.all(), ids(&|_| true), "all by mail")?;
    let by_score = people.by(Person::SCORE);
    for (number, score) in SCORES.into_iter().enumerate() {
        let expected = ids(&|of| same(of.score.map(class), Some(class(number))));
        assert!(expected.len() < 2);
        are(by_score.eq(score), expected, "a score")?;
    }
    are(by_score.eq(Maybe::none()), ids(&|of| of.score.is_none()), "no score")?;
    let by_seat = people.by((Person::SEAT, Person::TEAM));
    for team in 0..TEAMS + 1 {
        for seat in 0..SEATS + 1 {
            let expected = ids(&|of| (of.seat, of.team) == (Some(seat), team));
            assert!(expected.len() < 2);
            are(by_seat.eq((seat, team)), expected.clone(), "a seat")?;
            are(by_seat.eq((Maybe::some(seat), team)), expected, "a seat")?;
        }
        let expected = ids(&|of| (of.seat, of.team) == (None, team));
        are(by_seat.eq((Maybe::none(), team)), expected, "no seat")?;
    }
    are(people.by(Person::SEAT).eq(Maybe::none()), ids(&|of| of.seat.is_none()), "no seat in any team")?;
    Ok(())
}

pub(crate) fn check(snapshot: &Snapshot, map: &Map) -> Outcome {
    check_table(&snapshot.table::<Person>()?, map)
}

/// Checks that a store is consistent: each present value has an entry, and no absent one has.
pub(crate) fn verify(store: &Store) -> Outcome {
    let report = store.verify(|_| ())?;
    assert!(report.is_valid(), "{report}");
    Ok(())
}
