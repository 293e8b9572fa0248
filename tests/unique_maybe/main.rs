//! `#[pongo(unique)]` on fields that may be absent: any number of rows without a value, and one row
//! for each value. Random transactions compared with a map, and the single cases: operations that
//! give a row a value or remove it, bulk loads, savepoints, cursors, damaged indexes, several
//! processes, and kills.

mod model;
mod people;

use std::path::Path;
use std::time::Duration;

use people::{Map, Of, Outcome, Person, check, mail, person, verify};
use pongo::prelude::*;
use pongo::{CommitError, ReadError, WriteError};
use pongo_test_support::running::{Running, say};
use pongo_test_support::{Random, child};

fn options() -> Options {
    Options::new().chunk_size(64 << 10).checkpoint_bytes(1 << 20)
}

fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    unsafe { options().open(path) }
}

fn with_mail(number: u64) -> Of {
    Of { mail: Some(number), ..Of::default() }
}

/// Asserts that a row was rejected for its mail, and that the message names the mail and the row
/// with this id.
fn assert_refused<R: std::fmt::Debug>(result: Result<R, WriteError>, number: u64, id: u64) {
    let error = result.expect_err("another row has the mail");
    assert!(matches!(error, WriteError::UniqueViolation { .. }), "{error}");
    let expected = format!("found mail = {:?} in the row with key id = {id}", mail(number).as_str());
    assert!(error.to_string().contains(&expected), "{error}");
}

fn commit<R>(store: &Store, change: impl FnOnce(&mut TableMut<'_, Person>) -> Outcome<R>) -> Outcome {
    let tx = store.begin_write()?;
    change(&mut tx.table::<Person>()?)?;
    tx.commit()?;
    Ok(())
}

#[test]
fn any_number_of_rows_lack_the_value() -> Outcome {
    let store = Store::in_memory()?;
    let mut map = Map::new();
    for round in 0..3 {
        commit(&store, |people| {
            for id in round * 700..(round + 1) * 700 {
                let of = Of { team: (id % 3) as u16, ..Of::default() };
                match id % 3 {
                    0 => drop(people.put(&person(id, of))?),
                    1 => people.insert(&person(id, of))?,
                    _ => drop(people.extend([person(id, of)])?),
                }
                map.insert(id, of);
            }
            Ok(())
        })?;
    }
    check(&store.begin_read()?, &map)?;
    verify(&store)
}

#[test]
fn present_values_are_in_conflict() -> Outcome {
    let store = Store::in_memory()?;
    commit(&store, |people| {
        people.put(&person(1, with_mail(1)))?;
        people.put(&person(2, Of::default()))?;
        // In the same transaction.
        assert_refused(people.put(&person(3, with_mail(1))), 1, 1);
        assert_refused(people.insert(&person(3, with_mail(1))), 1, 1);
        assert_refused(people.update(2, |row| row.mail = mail(1).into()), 1, 1);
        Ok(())
    })?;
    commit(&store, |people| {
        // With a committed row, by every operation.
        assert_refused(people.put(&person(3, with_mail(1))), 1, 1);
        assert_refused(people.update(2, |row| row.mail = mail(1).into()), 1, 1);
        assert_refused(people.entry(3)?.or_insert(&person(3, with_mail(1))).map(|row| row.id), 1, 1);
        assert_refused(people.entry(2)?.and_modify(|row| row.mail = mail(1).into()).map(|_| ()), 1, 1);
        let none = person(2, Of::default());
        assert_refused(people.compare_and_set(2, Some(&none), Some(&person(2, with_mail(1)))), 1, 1);
        // Rows without a value are in conflict with no other row.
        assert!(people.compare_and_set(2, Some(&none), Some(&person(2, with_mail(2))))?);
        people.entry(4)?.or_insert(&person(4, Of::default()))?;
        people.entry(4)?.and_modify(|row| row.mail = mail(4).into())?;
        assert_refused(people.put(&person(5, with_mail(4))), 4, 4);
        // Deleted, and put again in another row.
        assert!(people.delete(1)?);
        people.insert(&person(6, with_mail(1)))?;
        assert_refused(people.put(&person(1, with_mail(1))), 1, 6);
        people.put(&person(1, Of::default()))?;
        Ok(())
    })?;
    let expected = [(1, Of::default()), (2, with_mail(2)), (4, with_mail(4)), (6, with_mail(1))];
    check(&store.begin_read()?, &expected.into())?;
    verify(&store)
}

/// A row loses its value and gets it back, in one transaction and in several. Snapshots keep the
/// state in between.
#[test]
fn updates_between_absent_and_present() -> Outcome {
    let store = Store::in_memory()?;
    let mut pinned: Vec<(Snapshot, Map)> = Vec::new();
    commit(&store, |people| Ok(people.extend((1..3).map(|id| person(id, Of::default())))?))?;
    for round in 0..40 {
        let number = round % 3;
        commit(&store, |people| {
            people.update(1, |row| row.mail = mail(number).into())?;
            assert_refused(people.update(2, |row| row.mail = mail(number).into()), number, 1);
            if round % 4 == 0 {
                // Every state of one transaction.
                people.update(1, |row| row.mail = Maybe::none())?;
                people.update(2, |row| row.mail = mail(number).into())?;
                assert_refused(people.update(1, |row| row.mail = mail(number).into()), number, 2);
                people.update(2, |row| row.mail = Maybe::none())?;
                people.update(1, |row| row.mail = mail(number).into())?;
            }
            Ok(())
        })?;
        pinned.push((store.begin_read()?, [(1, with_mail(number)), (2, Of::default())].into()));
        commit(&store, |people| {
            people.update(1, |row| row.mail = Maybe::none())?;
            people.update(2, |row| row.mail = mail(number).into())?;
            Ok(())
        })?;
        pinned.push((store.begin_read()?, [(1, Of::default()), (2, with_mail(number))].into()));
        commit(&store, |people| Ok(people.update(2, |row| row.mail = Maybe::none())?))?;
        pinned.push((store.begin_read()?, [(1, Of::default()), (2, Of::default())].into()));
        if round == 20 {
            store.rebuild_index::<Person>()?;
        }
        verify(&store)?;
    }
    for (snapshot, map) in &pinned {
        check(snapshot, map)?;
    }
    Ok(())
}

/// The empty string, 0 and 0.0 are values.
#[test]
fn zero_bytes_are_a_value() -> Outcome {
    let store = Store::in_memory()?;
    let zero = Of { mail: Some(0), score: Some(0), seat: Some(0), ..Of::default() };
    commit(&store, |people| {
        people.put(&person(1, zero))?;
        people.extend((2..5).map(|id| person(id, Of::default())))?;
        Ok(())
    })?;
    commit(&store, |people| {
        assert_refused(people.put(&person(5, with_mail(0))), 0, 1);
        for of in [Of { score: Some(1), ..Of::default() }, Of { seat: Some(0), ..Of::default() }] {
            let error = people.put(&person(5, of)).expect_err("row 1 has it");
            assert!(error.to_string().contains("in the row with key id = 1"), "{error}");
        }
        Ok(())
    })?;
    let mut map: Map = (2..5).map(|id| (id, Of::default())).collect();
    map.insert(1, zero);
    check(&store.begin_read()?, &map)?;
    verify(&store)
}

/// Of several fields, one that is absent frees the row from the index.
#[test]
fn partly_absent_values_have_no_entry() -> Outcome {
    let store = Store::in_memory()?;
    let seat = |seat, team| Of { seat, team, ..Of::default() };
    let rows = [(1, seat(None, 1)), (2, seat(None, 1)), (3, seat(Some(1), 1)), (4, seat(Some(1), 2))];
    commit(&store, |people| Ok(rows.iter().try_for_each(|&(id, of)| people.insert(&person(id, of)))?))?;
    commit(&store, |people| {
        for id in [1, 5] {
            let error = people.put(&person(id, seat(Some(1), 1))).expect_err("row 3 has it");
            let expected = "found seat = 1, team = 1 in the row with key id = 3 (row 2)";
            assert!(error.to_string().contains(expected), "{error}");
        }
        people.put(&person(5, seat(None, 1)))?;
        people.put(&person(3, seat(None, 1)))?;
        people.put(&person(1, seat(Some(1), 1)))?;
        Ok(())
    })?;
    let mut map: Map = rows.into();
    map.extend([(5, seat(None, 1)), (3, seat(None, 1)), (1, seat(Some(1), 1))]);
    check(&store.begin_read()?, &map)?;
    verify(&store)
}

/// Two rows exchange their values, of which one may be absent: through a row without the value, and
/// in one load.
#[test]
fn exchanged_values() -> Outcome {
    let store = Store::in_memory()?;
    let mut map: Map = [(1, with_mail(1)), (2, with_mail(2)), (3, Of::default())].into();
    commit(&store, |people| Ok(people.extend(map.iter().map(|(&id, &of)| person(id, of)))?))?;
    for (a, b) in [(1, 2), (2, 3), (1, 3), (3, 2), (1, 2)] {
        let (of_a, of_b) = (map[&a], map[&b]);
        commit(&store, |people| {
            people.update(a, |row| row.mail = Maybe::none())?;
            people.put(&person(b, of_a))?;
            people.put(&person(a, of_b))?;
            Ok(())
        })?;
        map.extend([(a, of_b), (b, of_a)]);
        check(&store.begin_read()?, &map)?;
        let rows = [person(a, of_a), person(b, of_b)];
        commit(&store, |people| Ok(people.extend(rows)?))?;
        map.extend([(a, of_a), (b, of_b)]);
        check(&store.begin_read()?, &map)?;
        commit(&store, |people| Ok(people.extend([person(a, of_b), person(b, of_a)])?))?;
        map.extend([(a, of_b), (b, of_a)]);
        verify(&store)?;
    }
    check(&store.begin_read()?, &map)
}

#[test]
fn savepoints_restore_values() -> Outcome {
    let store = Store::in_memory()?;
    commit(&store, |people| {
        Ok(people.extend([(1, with_mail(1)), (2, Of::default())].map(|(id, of)| person(id, of)))?)
    })?;
    let mut tx = store.begin_write()?;
    let both = tx.savepoint()?;
    tx.table::<Person>()?.update(1, |row| row.mail = Maybe::none())?;
    tx.table::<Person>()?.update(2, |row| row.mail = mail(1).into())?;
    let moved = tx.savepoint()?;
    tx.table::<Person>()?.extend((10..2000).map(|id| person(id, Of::default())))?;
    tx.table::<Person>()?.put(&person(3, Of::default()))?;
    tx.table::<Person>()?.put(&person(4, with_mail(4)))?;
    // Moves the last staged row.
    tx.table::<Person>()?.delete(3)?;
    assert_refused(tx.table::<Person>()?.put(&person(5, with_mail(4))), 4, 4);
    tx.table::<Person>()?.update(4, |row| row.mail = Maybe::none())?;
    tx.table::<Person>()?.put(&person(5, with_mail(4)))?;
    tx.rollback_to(&moved)?;
    assert_refused(tx.table::<Person>()?.put(&person(1, with_mail(1))), 1, 2);
    tx.table::<Person>()?.put(&person(6, with_mail(4)))?;
    tx.rollback_to(&both)?;
    assert_refused(tx.table::<Person>()?.put(&person(2, with_mail(1))), 1, 1);
    tx.table::<Person>()?.put(&person(6, with_mail(4)))?;
    tx.commit()?;
    let expected = [(1, with_mail(1)), (2, Of::default()), (6, with_mail(4))];
    check(&store.begin_read()?, &expected.into())?;
    verify(&store)
}

/// 100,000 rows of which every other one lacks the value, loaded, replaced, and loaded again with
/// one duplicate.
#[test]
fn bulk_loads_of_half_absent_rows() -> Outcome {
    const ROWS: u64 = 100_000;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bulk.pongo");
    let of = |id: u64| {
        let number = id.is_multiple_of(2).then_some(id);
        Of { mail: number, score: None, seat: number.map(|id| id as u32), team: 1, version: id }
    };
    let store = open(&path)?;
    commit(&store, |people| Ok(people.extend((0..ROWS).map(|id| person(id, of(id))))?))?;
    let found = |store: &Store, shift: u64| -> Outcome {
        let snapshot = store.begin_read()?;
        let people = snapshot.table::<Person>()?;
        let by_mail = people.by(Person::MAIL);
        for id in (0..ROWS).step_by(997) {
            let expected = of(id).mail.map(|_| (id + shift) % ROWS);
            assert_eq!(by_mail.eq(mail(id))?.next().transpose()?.map(|row| row.id), expected);
        }
        assert_eq!(by_mail.eq(Maybe::none())?.count_rows()?, ROWS / 2);
        assert_eq!(people.by(Person::SCORE).eq(Maybe::none())?.count_rows()?, ROWS);
        assert_eq!(by_mail.all()?.count_rows()?, ROWS);
        verify(store)
    };
    found(&store, 0)?;
    // Each row gets the values of the one before it: those with a value lose it, and the others get
    // one.
    let shifted = |id: u64| person(id, of((id + ROWS - 1) % ROWS));
    commit(&store, |people| Ok(people.extend((0..ROWS).map(shifted))?))?;
    found(&store, 1)?;
    // The last row of a load has the mail of its first one, or of a row that is not in the load.
    for first in [0, 10] {
        let tx = store.begin_write()?;
        let rows =
            (first..ROWS).map(|id| if id == ROWS - 1 { person(id, with_mail(2)) } else { shifted(id) });
        tx.table::<Person>()?.extend(rows)?;
        let error = tx.commit().expect_err("row 3 has the mail");
        let CommitError::Refused(error) = error else { return Err(error.into()) };
        assert_refused(Err::<(), _>(error), 2, 3);
    }
    found(&store, 1)?;
    // The same after the load was compared with other rows, and repaired by deleting one.
    commit(&store, |people| {
        people.extend([person(ROWS, with_mail(2)), person(ROWS + 1, Of::default())])?;
        assert_refused(people.put(&person(ROWS + 2, Of::default())), 2, 3);
        assert!(people.delete(ROWS)?);
        people.put(&person(ROWS + 2, Of::default()))?;
        assert!(people.delete(ROWS + 1)? && people.delete(ROWS + 2)?);
        Ok(())
    })?;
    store.close()?;
    let store = open(&path)?;
    found(&store, 1)?;
    store.close()?;
    std::fs::remove_dir_all(path.join("hash"))?;
    found(&open(&path)?, 1)
}

/// Pages through an index return every row once, also those that lack the value, forwards and
/// backwards, in snapshots and in a transaction.
#[test]
fn cursors_across_absent_values() -> Outcome {
    let store = Store::in_memory()?;
    let of = |id: u64| if id.is_multiple_of(3) { with_mail(id) } else { Of::default() };
    commit(&store, |people| Ok(people.extend((0..20).map(|id| person(id, of(id))))?))?;
    let tx = store.begin_write()?;
    let mut people = tx.table::<Person>()?;
    people.extend((20..40).map(|id| person(id, of(id))))?;
    let snapshot = store.begin_read()?;
    let committed = snapshot.table::<Person>()?;
    let all = |own: bool| -> Result<pongo::Range<'_, Person>, ReadError> {
        if own { people.by(Person::MAIL)?.all() } else { committed.by(Person::MAIL).all() }
    };
    for own in [false, true] {
        let expected = all(own)?.map(|row| Ok(row?.id)).collect::<Result<Vec<_>, ReadError>>()?;
        assert_eq!(expected.len(), if own { 40 } else { 20 });
        let (mut forwards, mut backwards) = (Vec::new(), Vec::new());
        let (mut front, mut back): (Option<Cursor>, Option<Cursor>) = (None, None);
        loop {
            let mut page = all(own)?;
            if let Some(cursor) = &front {
                page = page.start_after(cursor)?;
            }
            let Some(row) = page.next().transpose()? else { break };
            forwards.push(row.id);
            front = page.cursor()?;
        }
        loop {
            let mut page = all(own)?;
            if let Some(cursor) = &back {
                page = page.end_before(cursor)?;
            }
            let Some(row) = page.next_back().transpose()? else { break };
            backwards.push(row.id);
            back = page.cursor_back();
        }
        assert_eq!(forwards, expected);
        backwards.reverse();
        assert_eq!(backwards, expected);
    }
    Ok(())
}

/// The cursor of a value still stands for it after its row was changed: the new version of the row
/// is not returned again.
#[test]
fn cursor_of_changed_row() -> Outcome {
    let store = Store::in_memory()?;
    commit(&store, |people| Ok(people.extend((1..4).map(|id| person(id, with_mail(id))))?))?;
    let before = store.begin_read()?;
    let table = before.table::<Person>()?;
    let mut page = table.by(Person::MAIL).all()?;
    assert_eq!(page.next().transpose()?.map(|row| row.id), Some(1));
    let cursor = page.cursor()?.ok_or("a row was returned")?;
    commit(&store, |people| Ok(people.update(1, |row| row.version += 1)?))?;
    let after = store.begin_read()?;
    let table = after.table::<Person>()?;
    let rest = table.by(Person::MAIL).all()?.start_after(&cursor)?;
    let rest = rest.map(|row| Ok(row?.id)).collect::<Result<Vec<_>, ReadError>>()?;
    assert_eq!(rest, [2, 3]);
    Ok(())
}

/// A row may be built from bytes: any first byte of a tag but 0 is a value, and the bytes of an
/// absent value have no meaning.
#[test]
fn rows_built_from_bytes() -> Outcome {
    use pongo::zerocopy::TryFromBytes;
    let build = |id: u64, tag: u8, score: u8| -> Person {
        let at = std::mem::offset_of!(Person, score);
        let mut bytes = [0; size_of::<Person>()];
        bytes[..8].copy_from_slice(&id.to_le_bytes());
        (bytes[at], bytes[at + 8]) = (tag, score);
        // The rest of the tag.
        bytes[at + 7] = id as u8;
        Person::try_read_from_bytes(&bytes).expect("any bytes are a number")
    };
    let store = Store::in_memory()?;
    commit(&store, |people| {
        people.extend((1..5).map(|id| build(id, 0, 7)))?;
        people.put(&build(5, 0, 7))?;
        people.put(&build(6, 2, 7))?;
        for id in [1, 7] {
            for tag in [1, 2, 255] {
                let error = people.put(&build(id, tag, 7)).expect_err("row 6 has the value");
                assert!(error.to_string().contains("in the row with key id = 6"), "{error}");
            }
        }
        people.put(&build(7, 255, 8))?;
        Ok(())
    })?;
    commit(&store, |people| {
        assert!(people.put(&build(8, 1, 8)).is_err());
        // The same value with another tag.
        assert!(people.put(&build(7, 1, 8))?);
        Ok(())
    })?;
    for rebuilt in [false, true] {
        if rebuilt {
            store.rebuild_index::<Person>()?;
        }
        let snapshot = store.begin_read()?;
        let people = snapshot.table::<Person>()?;
        let by_score = people.by(Person::SCORE);
        for (bits, id) in [(7, 6), (8, 7)] {
            let found = by_score.eq(f64::from_bits(bits))?.next().transpose()?;
            assert_eq!(found.map(|row| row.id), Some(id));
        }
        assert_eq!(by_score.eq(Maybe::none())?.count_rows()?, 5);
        // Tags that `Maybe` does not write are reported; the indexes are sound.
        let issues = store.verify(|_| ())?.issues;
        assert!(issues.iter().all(|issue| issue.step == pongo::VerifyStep::Rows), "{issues:?}");
    }
    Ok(())
}

#[pongo::record]
#[pongo(table = "pages", key = "external")]
struct Page {
    #[pongo(unique)]
    number: Maybe<u32>,
}

#[test]
fn tables_with_external_keys() -> Outcome {
    let store = Store::in_memory()?;
    let page = |number: Option<u32>| Page { number: number.into() };
    for round in 0..2 {
        let tx = store.begin_write()?;
        let mut pages = tx.external::<Page>()?;
        for name in ["a", "b", "c"] {
            pages.put(format!("{name}{round}"), &page(None))?;
        }
        pages.put(format!("d{round}"), &page(Some(round)))?;
        let error = pages.put("e", &page(Some(0))).expect_err("`d0` has it");
        assert!(error.to_string().contains("found number = 0 in the row with key \"d0\""), "{error}");
        assert!(pages.update("a0", |page| page.number = Maybe::some(round)).is_err());
        pages.extend([("x", page(None)), ("y", page(None))])?;
        drop(pages);
        tx.commit()?;
        verify(&store)?;
    }
    assert_eq!(store.begin_read()?.external::<Page>()?.len(), 10);
    Ok(())
}

/// A row that is too large to be staged in memory.
#[pongo::record]
#[pongo(table = "plans")]
struct Plan {
    #[pongo(key)]
    id: u64,
    #[pongo(unique)]
    name: Maybe<u64>,
    cells: [[u64; 128]; 65],
}

#[test]
fn large_rows() -> Outcome {
    let store = Store::in_memory()?;
    let plan = |id: u64, name: Option<u64>| Plan { id, name: name.into(), cells: [[id; 128]; 65] };
    let tx = store.begin_write()?;
    let mut plans = tx.table::<Plan>()?;
    for id in 0..4 {
        plans.put(&plan(id, None))?;
    }
    plans.put(&plan(4, Some(4)))?;
    let error = plans.put(&plan(5, Some(4))).expect_err("row 4 has it");
    assert!(error.to_string().contains("found name = 4 in the row with key id = 4"), "{error}");
    assert!(plans.update(0, |plan| plan.name = Maybe::some(4)).is_err());
    plans.update(4, |plan| plan.name = Maybe::none())?;
    plans.update(0, |plan| plan.name = Maybe::some(4))?;
    drop(plans);
    tx.commit()?;
    let tx = store.begin_write()?;
    assert!(tx.table::<Plan>()?.put(&plan(5, Some(4))).is_err());
    tx.table::<Plan>()?.put(&plan(5, None))?;
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let plans = snapshot.table::<Plan>()?;
    let by_name = plans.by(Plan::NAME);
    assert_eq!(by_name.eq(4)?.next().transpose()?.map(|plan| plan.id), Some(0));
    assert_eq!(by_name.eq(Maybe::none())?.count_rows()?, 5);
    verify(&store)
}

/// Another process has put rows with and without a value.
#[test]
fn two_processes() -> Outcome {
    const NAME: &str = "two_processes";
    if let Some(path) = child::role() {
        let store = open(Path::new(&path))?;
        let mut line = String::new();
        for round in 0.. {
            let first = 100 + round * 10;
            commit(&store, |people| {
                people.put(&person(first, with_mail(first)))?;
                people.extend((first + 1..first + 5).map(|id| person(id, Of::default())))?;
                // The parent's row of the previous round.
                if round > 0 {
                    assert_refused(people.put(&person(first + 5, with_mail(round))), round, round);
                }
                Ok(())
            })?;
            say("done");
            line.clear();
            if std::io::stdin().read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shared.pongo");
    let store = open(&path)?;
    let mut map = Map::new();
    let mut other = Running::start(&mut child::command(NAME, &path.display().to_string()));
    for round in 0..20 {
        assert_eq!(other.lines.recv_timeout(Duration::from_secs(60))?, "done");
        let first = 100 + round * 10;
        map.insert(first, with_mail(first));
        map.extend((first + 1..first + 5).map(|id| (id, Of::default())));
        check(&store.begin_read()?, &map)?;
        commit(&store, |people| {
            assert_refused(people.put(&person(round + 1, with_mail(first))), first, first);
            people.put(&person(round + 1, with_mail(round + 1)))?;
            people.update(first + 1, |row| row.version = 1)?;
            Ok(())
        })?;
        map.insert(round + 1, with_mail(round + 1));
        map.insert(first + 1, Of { version: 1, ..Of::default() });
        std::io::Write::write_all(other.process.stdin.as_mut().ok_or("stdin is piped")?, b"on\n")?;
    }
    assert_eq!(other.lines.recv_timeout(Duration::from_secs(60))?, "done");
    other.kill();
    verify(&store)
}

/// The child gives people values and takes them away until the parent kills it and checks the
/// store. At every commit, half of the people have one of the values.
#[test]
fn killed_writer() -> Outcome {
    const NAME: &str = "killed_writer";
    const PEOPLE: u64 = 40;
    let of = |id: u64, by: u64| {
        let place = (id + by) % PEOPLE;
        if place < PEOPLE / 2 { with_mail(place) } else { Of::default() }
    };
    if let Some(role) = child::role() {
        let (round, path) = role.split_once(' ').ok_or("a round and a path")?;
        let store = open(Path::new(path))?;
        let mut rng = Random::of_process(NAME, round.parse()?);
        say("open");
        for number in 1_u64.. {
            let tx = store.begin_write_with(Durability::Relaxed)?;
            let mut people = tx.table::<Person>()?;
            if number % 16 == 0 {
                people.extend((0..PEOPLE).map(|id| person(id, of(id, number % 7 + 1))))?;
            } else {
                let [a, b] = [(); 2].map(|()| rng.below(PEOPLE));
                let [Some(&of_a), Some(&of_b)] = [people.get(a)?, people.get(b)?] else {
                    return Err(format!("{a} or {b} is missing").into());
                };
                people.update(a, |row| row.mail = Maybe::none())?;
                people.put(&Person { id: b, ..of_a })?;
                people.put(&Person { id: a, ..of_b })?;
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
        commit(&store, |people| Ok(people.extend((0..PEOPLE).map(|id| person(id, of(id, 0))))?))?;
    }
    for round in 0..16 {
        let mut other = Running::start(&mut child::command(NAME, &format!("{round} {}", path.display())));
        assert_eq!(other.lines.recv_timeout(Duration::from_secs(60))?, "open");
        if round % 3 != 0 {
            assert_eq!(other.lines.recv_timeout(Duration::from_secs(60))?, "at work");
        }
        std::thread::sleep(Duration::from_micros(rng.below(4_000)));
        other.kill();
        // In every other round only the next child recovers the store.
        if round % 2 == 0 {
            let store = open(&path)?;
            let snapshot = store.begin_read()?;
            let people = snapshot.table::<Person>()?;
            let by_mail = people.by(Person::MAIL);
            for place in 0..PEOPLE / 2 {
                let found = by_mail.eq(mail(place))?.collect::<Result<Vec<_>, _>>()?;
                assert_eq!(found.iter().map(|row| row.mail).collect::<Vec<_>>(), [mail(place).into()]);
            }
            assert_eq!((people.len(), by_mail.eq(Maybe::none())?.count_rows()?), (PEOPLE, PEOPLE / 2));
            verify(&store)?;
        }
    }
    Ok(())
}
