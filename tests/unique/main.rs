//! `#[pongo(unique)]`: random transactions compared with a map, with snapshots of all ages that
//! must find their own rows by a unique value; rejected rows, operations that free a value, several
//! processes, and kills.

mod people;

use std::path::Path;
use std::time::Duration;

use people::{Map, Of, Outcome, Person, by_mail, by_seat, check, conflicting_id, mail, person};
use pongo::prelude::*;
use pongo::{CommitError, Seq, WriteError};
use pongo_test_support::running::{Running, say};
use pongo_test_support::{Random, child};

const IDS: u64 = 30;
const MAILS: u64 = 40;
const SEATS: u32 = 9;
const TEAMS: u16 = 5;

struct Run {
    store: Store,
    map: Map,
    pinned: Vec<(Snapshot, Map)>,
    rng: Random,
    version: u64,
    refused: u32,
    refused_at_commit: u32,
}

fn options() -> Options {
    Options::new().chunk_size(64 << 10).checkpoint_bytes(1 << 20)
}

fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    unsafe { options().open(path) }
}

impl Run {
    fn new(store: Store, rng: Random) -> Self {
        Self { store, map: Map::new(), pinned: Vec::new(), rng, version: 0, refused: 0, refused_at_commit: 0 }
    }

    fn draw(&mut self) -> (u64, Of) {
        self.version += 1;
        let rng = &mut self.rng;
        let of = Of {
            mail: rng.below(MAILS),
            seat: rng.below(u64::from(SEATS)) as u32,
            team: rng.below(u64::from(TEAMS)) as u16,
            version: self.version,
        };
        (rng.below(IDS), of)
    }

    /// Draws a change that often keeps one or both unique values of a person, since most real
    /// changes are to other fields.
    fn draw_near(&mut self, map: &Map) -> (u64, Of) {
        let (id, mut of) = self.draw();
        if let Some(known) = map.get(&id) {
            if self.rng.below(2) == 0 {
                of.mail = known.mail;
            }
            if self.rng.below(2) == 0 {
                (of.seat, of.team) = (known.seat, known.team);
            }
        }
        (id, of)
    }

    fn note(&mut self, result: Result<(), WriteError>, map: &Map, id: u64, of: Of) -> Outcome<bool> {
        let other = conflicting_id(map, id, of);
        match result {
            Ok(()) => assert_eq!(other, None, "{id}: {of:?} was taken"),
            Err(WriteError::UniqueViolation { table, existing_key, .. }) => {
                assert!(other.is_some(), "{id}: {of:?} was refused for {existing_key}");
                assert_eq!(table, "people");
                let known = existing_key.strip_prefix("id = ").ok_or("a key in words")?.parse()?;
                assert_eq!(people::conflicting_id(&[(known, map[&known])].into(), id, of), Some(known));
                self.refused += 1;
            }
            Err(other) => return Err(other.into()),
        }
        Ok(other.is_none())
    }

    fn change(&mut self, tx: &mut WriteTransaction, map: &mut Map) -> Outcome {
        let (id, of) = self.draw_near(map);
        let mut people = tx.table::<Person>()?;
        match self.rng.below(8) {
            0..4 => {
                let result = people.put(&person(id, of)).map(drop);
                if self.note(result, map, id, of)? {
                    map.insert(id, of);
                }
            }
            4 => match people.insert(&person(id, of)) {
                Err(WriteError::KeyExists { .. }) => assert!(map.contains_key(&id)),
                result => {
                    if self.note(result, map, id, of)? {
                        assert_eq!(map.insert(id, of), None);
                    }
                }
            },
            5 => match people.update(id, |known| *known = person(id, of)) {
                Ok(None) => assert!(!map.contains_key(&id)),
                result => {
                    if self.note(result.map(drop), map, id, of)? {
                        assert!(map.insert(id, of).is_some());
                    }
                }
            },
            _ => assert_eq!(people.delete(id)?, map.remove(&id).is_some()),
        }
        drop(people);
        assert_eq!(tx.table::<Person>()?.get(id)?.copied(), map.get(&id).map(|&of| person(id, of)));
        Ok(())
    }

    /// Loads random rows in bulk. Their final state usually has no duplicates. Returns `false` if
    /// it has.
    fn load(&mut self, tx: &mut WriteTransaction, map: &mut Map) -> Outcome<bool> {
        let any = self.rng.below(4) == 0;
        let mut rows = Vec::new();
        for _ in 0..self.rng.below(20) {
            let (id, of) = self.draw_near(map);
            if any || conflicting_id(map, id, of).is_none() {
                map.insert(id, of);
                rows.push(person(id, of));
            }
        }
        // Two people exchange their values.
        let two: Vec<(u64, Of)> = map.iter().take(2).map(|(&id, &of)| (id, of)).collect();
        if let (&[(a, of_a), (b, of_b)], 0) = (&two[..], self.rng.below(3)) {
            map.extend([(a, of_b), (b, of_a)]);
            rows.extend([person(a, of_b), person(b, of_a)]);
        }
        if self.rng.below(2) == 0 {
            tx.table::<Person>()?.alloc_slice(rows.len())?.copy_from_slice(&rows);
        } else {
            tx.table::<Person>()?.extend(rows)?;
        }
        Ok(map.iter().all(|(&id, &of)| conflicting_id(map, id, of).is_none()))
    }

    fn transaction(&mut self) -> Outcome {
        let mut tx = self.store.begin_write_with(Durability::Relaxed)?;
        let mut map = self.map.clone();
        let mut fits = true;
        for _ in 0..self.rng.below(12) {
            if self.rng.below(6) == 0 {
                fits = self.load(&mut tx, &mut map)?;
                if !fits {
                    break;
                }
            } else {
                self.change(&mut tx, &mut map)?;
            }
        }
        if !fits {
            // The load is rejected when the next row is put, or at the commit.
            if self.rng.below(2) == 0 {
                let error = tx.table::<Person>()?.put(&person(IDS, Of { mail: MAILS, ..of_nobody() }));
                assert!(matches!(error, Err(WriteError::UniqueViolation { .. })), "{error:?}");
            }
            let error = tx.commit().expect_err("two rows have one value");
            assert!(matches!(error, CommitError::Refused(WriteError::UniqueViolation { .. })), "{error:?}");
            self.refused_at_commit += 1;
        } else if self.rng.below(6) == 0 {
            tx.abort();
        } else {
            tx.commit()?;
            self.map = map;
        }
        Ok(())
    }

    fn check(&self) -> Outcome {
        check(&self.store.begin_read()?, &self.map, MAILS, SEATS, TEAMS)?;
        for (snapshot, map) in &self.pinned {
            check(snapshot, map, MAILS, SEATS, TEAMS)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Outcome {
        match self.rng.below(12) {
            0 => self.pinned.push((self.store.begin_read()?, self.map.clone())),
            1 if !self.pinned.is_empty() => {
                let place = self.rng.below(self.pinned.len() as u64) as usize;
                self.pinned.swap_remove(place);
            }
            2 if self.rng.below(4) == 0 => self.store.rebuild_index::<Person>()?,
            _ => self.transaction()?,
        }
        if self.pinned.len() > 5 {
            self.pinned.remove(0);
        }
        self.check()
    }
}

fn of_nobody() -> Of {
    Of { mail: MAILS + 1, seat: SEATS, team: TEAMS, version: 0 }
}

#[test]
fn in_memory() -> Outcome {
    let mut run = Run::new(options().in_memory()?, Random::seeded("in_memory"));
    for _ in 0..1500 {
        run.step()?;
    }
    assert!(run.refused > 100 && run.refused_at_commit > 10, "{} {}", run.refused, run.refused_at_commit);
    Ok(())
}

/// The store is closed and opened, copied without being closed, and opened after its hash folder,
/// or a part of it, was deleted.
#[test]
fn on_disk() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("unique.pongo");
    let mut run = Run::new(open(&path)?, Random::seeded("on_disk"));
    for round in 0..12 {
        for _ in 0..30 {
            run.step()?;
        }
        run.pinned.clear();
        let Run { store, map, rng, version, .. } = run;
        store.close()?;
        match round % 4 {
            1 => std::fs::remove_dir_all(path.join("hash"))?,
            2 => {
                let mut removed = 0;
                for entry in std::fs::read_dir(path.join("hash"))? {
                    let entry = entry?;
                    if entry.file_name().to_string_lossy().starts_with("people.u") {
                        std::fs::remove_dir_all(entry.path())?;
                        removed += 1;
                    }
                }
                assert_eq!(removed, 2);
            }
            3 => std::fs::remove_file(path.join("control"))?,
            _ => {}
        }
        run = Run { map, version, ..Run::new(open(&path)?, rng) };
        run.check()?;
    }
    Ok(())
}

fn of(number: u64) -> Of {
    Of { mail: number, seat: number as u32, team: 0, version: number }
}

#[test]
fn conflict_names_the_other_row() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Person>()?.extend((0..4).map(|id| person(id, of(id))))?;
    tx.commit()?;
    let tx = store.begin_write()?;
    let mut people = tx.table::<Person>()?;
    let error = people.put(&person(9, Of { seat: 77, ..of(3) })).expect_err("mail 3 is taken");
    assert_eq!(
        error.to_string(),
        "table people takes one row for each `mail`: expected a new value, found mail = \"3@pongo\" in the \
         row with key id = 3 (row 3); change or delete that row first, or give this one another value"
    );
    let WriteError::UniqueViolation { row, .. } = error else { return Err(error.into()) };
    assert_eq!(row, Some(RowId(3)));
    assert!(people.put(&person(8, of(8))).is_ok_and(|was_there| !was_there));
    let error = people.insert(&person(9, Of { mail: 9, ..of(8) })).expect_err("seat 8 of team 0 is taken");
    assert!(error.to_string().contains("found seat = 8, team = 0 in the row with key id = 8;"), "{error}");
    assert_eq!((people.len()?, people.get(9)?), (5, None));
    // A row does not conflict with itself, and a deleted row frees its values.
    assert!(people.put(&person(3, Of { version: 4, ..of(3) }))?);
    assert!(people.put(&person(3, Of { mail: 33, ..of(3) }))?);
    people.insert(&person(9, Of { seat: 9, ..of(3) }))?;
    assert!(people.delete(2)? && !people.put(&person(20, of(2)))?);
    assert!(people.delete(20)? && !people.put(&person(2, of(2)))?);
    drop(people);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    assert_eq!(by_mail(&snapshot, 3)?.map(|found| found.id), Some(9));
    assert_eq!(by_mail(&snapshot, 33)?.map(|found| found.id), Some(3));
    assert_eq!(by_seat(&snapshot, 2, 0)?.map(|found| found.id), Some(2));
    Ok(())
}

#[test]
fn rows_exchange_values_through_a_third() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Person>()?.extend([person(1, of(1)), person(2, of(2))])?;
    tx.commit()?;
    let before = store.begin_read()?;
    let tx = store.begin_write()?;
    let mut people = tx.table::<Person>()?;
    assert!(people.put(&person(1, of(2))).is_err());
    people.put(&person(1, of(3)))?;
    people.put(&person(2, of(1)))?;
    people.put(&person(1, of(2)))?;
    drop(people);
    tx.commit()?;
    let after = store.begin_read()?;
    for (snapshot, ids) in [(&before, [Some(1), Some(2), None]), (&after, [Some(2), Some(1), None])] {
        for (number, id) in (1..4).zip(ids) {
            assert_eq!(by_mail(snapshot, number)?.map(|found| found.id), id);
        }
    }
    Ok(())
}

/// Duplicates from a load can be removed before the commit.
#[test]
fn deleting_repairs_load_with_duplicates() -> Outcome {
    let store = Store::in_memory()?;
    for mended in [false, true] {
        let tx = store.begin_write()?;
        let mut people = tx.table::<Person>()?;
        people.extend((0..5000).map(|id| person(id, of(id % 4999))))?;
        let error = people.put(&person(6000, of(6000))).expect_err("0 and 4999 have one mail");
        assert!(error.to_string().contains("with key id = 0;"), "{error}");
        assert_eq!(people.get(4999)?.map(|found| found.version), Some(0));
        if mended {
            assert!(people.delete(0)? && !people.put(&person(6000, of(6000)))?);
            drop(people);
            tx.commit()?;
        } else {
            drop(people);
            let error = tx.commit().expect_err("the same");
            assert!(matches!(error, CommitError::Refused(WriteError::UniqueViolation { .. })), "{error}");
        }
    }
    assert_eq!(by_mail(&store.begin_read()?, 0)?.map(|found| found.id), Some(4999));
    // A load conflicts with rows of earlier transactions as well, also if the transaction does
    // nothing else.
    let load = |tx: &mut WriteTransaction, first: u64| {
        tx.table::<Person>()?.extend((first..first + 100).map(|id| person(id, of(id - 50))))
    };
    let mut tx = store.begin_write()?;
    load(&mut tx, 6020)?;
    let error = tx.commit().expect_err("6000 has its mail");
    assert!(error.to_string().contains("found mail = \"6000@pongo\""), "{error}");
    assert!(error.to_string().contains("id = 6000 (row "), "{error}");
    // The whole table is shifted by one: each value moves from one row to the next.
    let tx = store.begin_write()?;
    tx.table::<Person>()?.extend((1..5000).map(|id| person(id, of(id % 4999 + 1))))?;
    tx.commit()?;
    assert_eq!(by_mail(&store.begin_read()?, 17)?.map(|found| found.id), Some(16));
    Ok(())
}

/// The table of people as types without unique fields, or with other unique fields.
mod others {
    use pongo::prelude::*;

    #[pongo::record]
    #[pongo(table = "people")]
    pub(super) struct Plain {
        #[pongo(key)]
        pub(super) id: u64,
        pub(super) team: u16,
        pub(super) _pad: [u8; 2],
        pub(super) seat: u32,
        pub(super) mail: FixedStr<16>,
        pub(super) version: u64,
    }

    #[pongo::record]
    #[pongo(table = "people")]
    pub(super) struct More {
        #[pongo(key)]
        id: u64,
        #[pongo(index)]
        team: u16,
        _pad: [u8; 2],
        seat: u32,
        mail: FixedStr<16>,
        #[pongo(unique)]
        version: u64,
    }
}

#[test]
fn what_the_table_says_counts() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Person>()?.put(&person(1, of(1)))?;
    tx.commit()?;
    let plain =
        |id, number| others::Plain { id, team: 0, _pad: [0; 2], seat: 50, mail: mail(number), version: 0 };
    let tx = store.begin_write()?;
    let error = tx.table::<others::Plain>()?.put(&plain(2, 1)).expect_err("the table says it is unique");
    assert!(matches!(error, WriteError::UniqueViolation { .. }), "{error}");
    tx.table::<others::Plain>()?.put(&plain(2, 2))?;
    tx.commit()?;
    let error =
        store.begin_write()?.table::<others::More>().map(drop).expect_err("the table has no such index");
    assert_eq!(
        error.to_string(),
        "`More` says that `version` is unique, and table people was made without that: expected an index \
         `unique version`, found `unique mail`, `unique seat, team`; take `unique` off the type, or name \
         another table in it, which is then made with the index, and copy the rows over"
    );
    // Reading them needs no index.
    assert_eq!(store.begin_read()?.table::<others::More>()?.len(), 2);
    assert_eq!(by_mail(&store.begin_read()?, 2)?.map(|found| found.id), Some(2));
    Ok(())
}

/// A process that puts rows conflicts with the values of another process.
#[test]
fn two_processes() -> Outcome {
    const NAME: &str = "two_processes";
    if let Some(path) = child::role() {
        let store = open(Path::new(&path))?;
        for number in 1.. {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            // One value that both processes want, and one that only this process uses. Every third
            // row is deleted again, which frees both.
            let id = 1_000_000 + number % 50;
            let result = tx.table::<Person>()?.put(&person(id, Of { mail: 7, ..of(id) }));
            match result {
                Ok(_) if number % 3 == 0 => drop(tx.table::<Person>()?.delete(id)?),
                Ok(_) | Err(WriteError::UniqueViolation { .. }) => {}
                Err(other) => return Err(other.into()),
            }
            tx.commit()?;
            if number % 64 == 0 {
                say("on");
            }
        }
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shared.pongo");
    let store = open(&path)?;
    let mut rng = Random::seeded(NAME);
    let mut held = 0;
    for _ in 0..4 {
        let mut other = Running::start(&mut child::command(NAME, &path.display().to_string()));
        other.lines.recv_timeout(Duration::from_secs(60))?;
        let mut pinned = None;
        for number in 0..150 {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            let mut people = tx.table::<Person>()?;
            match people.put(&person(1, Of { mail: 7, ..of(number % 3) })) {
                Ok(_) => held += 1,
                Err(WriteError::UniqueViolation { existing_key, .. }) => {
                    let id: u64 = existing_key.strip_prefix("id = ").ok_or("a key")?.parse()?;
                    assert!(people.delete(id)? && id >= 1_000_000);
                }
                Err(other) => return Err(other.into()),
            }
            if rng.below(2) == 0 {
                people.delete(1)?;
            }
            drop(people);
            tx.commit()?;
            let snapshot = store.begin_read()?;
            everyone_is_found(&snapshot)?;
            if number % 20 == 0 {
                let now = by_mail(&snapshot, 7)?.map(|found| found.id);
                pinned = Some((snapshot, now));
            }
            if let Some((snapshot, id)) = &pinned {
                assert_eq!(by_mail(snapshot, 7)?.map(|found| found.id), *id);
            }
        }
        // The kill may interrupt any operation.
        other.kill();
        everyone_is_found(&store.begin_read()?)?;
    }
    assert!(held > 50, "the other process had the value nearly always");
    Ok(())
}

/// Checks that every row is found by its unique values, and that no row has the values of another.
fn everyone_is_found(snapshot: &Snapshot) -> Outcome {
    for found in snapshot.table::<Person>()?.rows() {
        let found = found?;
        let mail = found.mail.as_str().split_once('@').ok_or("a mail")?.0.parse()?;
        assert_eq!(by_mail(snapshot, mail)?, Some(found));
        assert_eq!(by_seat(snapshot, found.seat, found.team)?, Some(found));
    }
    Ok(())
}

/// The child exchanges values among people until the parent kills it and checks the store.
#[test]
fn kill_keeps_all_rows_findable() -> Outcome {
    const NAME: &str = "kill_keeps_all_rows_findable";
    const PEOPLE: u64 = 40;
    if let Some(role) = child::role() {
        let (round, path) = role.split_once(' ').ok_or("a round and a path")?;
        let store = open(Path::new(path))?;
        let mut rng = Random::of_process(NAME, round.parse()?);
        say("open");
        for number in 1_u64.. {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            let mut people = tx.table::<Person>()?;
            let by = number % 7 + 1;
            if number % 16 == 0 {
                // Replace all rows at once; each gets the values of another.
                people.extend((0..PEOPLE).map(|id| person(id, of((id + by) % PEOPLE))))?;
            } else {
                let ids = [rng.below(PEOPLE), rng.below(PEOPLE)];
                let [Some(&a), Some(&b)] = [people.get(ids[0])?, people.get(ids[1])?] else {
                    return Err(format!("one of {ids:?} is missing").into());
                };
                people.delete(b.id)?;
                people.put(&Person { id: a.id, ..b })?;
                people.put(&Person { id: b.id, ..a })?;
            }
            drop(people);
            tx.commit()?;
            if number == 1 {
                say("at work");
            }
        }
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("killed.pongo");
    let mut rng = Random::seeded(NAME);
    {
        let store = open(&path)?;
        let tx = store.begin_write()?;
        tx.table::<Person>()?.extend((0..PEOPLE).map(|id| person(id, of(id))))?;
        tx.commit()?;
    }
    for round in 0..24 {
        let mut other = Running::start(&mut child::command(NAME, &format!("{round} {}", path.display())));
        assert_eq!(other.lines.recv_timeout(Duration::from_secs(60))?, "open");
        // Kill the child in its first commit or in a later one.
        if round % 3 != 0 {
            assert_eq!(other.lines.recv_timeout(Duration::from_secs(60))?, "at work");
        }
        std::thread::sleep(Duration::from_micros(rng.below(4_000)));
        other.kill();
        // In every other round only the next child recovers the store, and has to continue with
        // what it finds.
        if round % 2 == 0 {
            let store = open(&path)?;
            let snapshot = store.begin_read()?;
            everyone_is_found(&snapshot)?;
            assert_eq!(snapshot.table::<Person>()?.len(), PEOPLE);
        }
    }
    let store = open(&path)?;
    let snapshot = store.begin_read()?;
    assert_eq!(snapshot.table::<Person>()?.len(), PEOPLE);
    assert!(snapshot.seq() > Seq(16), "only {} commits", snapshot.seq());
    everyone_is_found(&snapshot)
}

/// A range of one unique value has cursors at both ends, in a snapshot and in a transaction that
/// changed the table.
#[test]
fn cursors_of_one_value() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    for id in 0..3 {
        let of = Of { mail: id, seat: id as u32, team: 1, version: 1 };
        tx.table::<Person>()?.put(&person(id, of))?;
    }
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let tx = store.begin_write()?;
    let mut changed = tx.table::<Person>()?;
    // Another row than the one that is asked for, and that one itself.
    changed.put(&person(2, Of { mail: 2, seat: 2, team: 1, version: 2 }))?;
    changed.put(&person(0, Of { mail: 0, seat: 0, team: 1, version: 2 }))?;
    for (id, value) in [(0, mail(0)), (1, mail(1))] {
        for own in [false, true] {
            let equal = || -> Result<_, pongo::ReadError> {
                if own {
                    changed.by(Person::MAIL)?.eq(value)
                } else {
                    snapshot.table::<Person>()?.by(Person::MAIL).eq(value)
                }
            };
            let mut range = equal()?;
            assert!(range.cursor()?.is_none() && range.cursor_back().is_none());
            assert_eq!(range.next().transpose()?.map(|person| person.id), Some(id));
            let cursor = range.cursor()?.ok_or("a row was returned")?;
            assert!(range.next().is_none() && equal()?.start_after(&cursor)?.next().is_none());
            assert!(equal()?.end_before(&cursor)?.next().is_none());
            let mut range = equal()?;
            assert_eq!(range.next_back().transpose()?.map(|person| person.id), Some(id));
            let cursor = range.cursor_back().ok_or("a row was returned")?;
            assert!(range.next_back().is_none() && equal()?.end_before(&cursor)?.next_back().is_none());
        }
    }
    Ok(())
}
