//! Access to one key of a write transaction: entries, compare-and-set, and changes that return the
//! previous row, for tables and for tables with external keys, compared with a `BTreeMap`. Keys are
//! passed as values and as references.

use std::collections::BTreeMap;
use std::collections::btree_map;

use pongo::prelude::*;
use pongo::{Entry, ExternalEntry, WriteError};
use pongo_test_support::{Outcome, Random};

#[pongo::record]
#[pongo(table = "items")]
#[derive(Debug, PartialEq, Clone, Copy)]
struct Item {
    #[pongo(key)]
    id: u64,
    #[pongo(unique)]
    code: u64,
    count: u64,
}

#[pongo::record]
#[pongo(table = "seats")]
#[derive(Debug, PartialEq)]
struct Seat {
    #[pongo(key)]
    train: FixedStr<4>,
    #[pongo(key)]
    number: u32,
    taken: u64,
}

#[pongo::record]
#[pongo(table = "users")]
struct User {
    #[pongo(key)]
    name: FixedStr<8>,
    #[pongo(key)]
    on: bool,
    _pad: [u8; 7],
    note: Text,
}

/// A row that is too large to be staged in memory.
#[pongo::record]
#[pongo(table = "maps")]
#[derive(Clone)]
struct Map {
    #[pongo(key)]
    id: u64,
    cells: [[u64; 128]; 128],
}

#[pongo::record]
#[pongo(table = "values", key = "external")]
#[derive(Debug, PartialEq, Clone, Copy)]
struct Value {
    #[pongo(unique)]
    code: u64,
    count: u64,
}

fn item(id: u64, count: u64) -> Item {
    Item { id, code: 1000 + id, count }
}

#[test]
fn keys_are_values_or_references() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let (mut items, mut seats) = (tx.table::<Item>()?, tx.table::<Seat>()?);
    items.extend((0..4).map(|id| item(id, id)))?;
    let train: FixedStr<4> = "ICE".parse()?;
    seats.put(&Seat { train, number: 3, taken: 1 })?;
    tx.table::<User>()?.put(&User { name: "ada".parse()?, on: true, _pad: [0; 7], note: Text::EMPTY })?;

    assert!(items.get(1)?.is_some() && items.get(1)?.is_some() && items.get(9)?.is_none());
    assert!(items.contains(1)? && items.contains(1)?);
    assert_eq!(items.update(1, |row| row.count)?, items.update(1, |row| row.count)?);
    assert!(items.delete(2)? && !items.delete(2)?);
    assert!(items.take(3)?.is_some() && items.take(3)?.is_none());
    assert_eq!((*items.entry(1)?.key(), *items.entry(1)?.key()), (1, 1));
    assert!(seats.contains((train, 3))? && seats.contains((train, 3))?);
    assert!(seats.get(("ICE".parse()?, 3))?.is_some() && seats.get(("ICE".parse()?, 4))?.is_none());
    drop((items, seats));
    tx.commit()?;

    let snapshot = store.begin_read()?;
    let (items, seats) = (snapshot.table::<Item>()?, snapshot.table::<Seat>()?);
    assert!(items.get(1)?.is_some() && items.get(1)?.is_some() && items.get(2)?.is_none());
    assert!(items.contains(0)? && items.get_row(0)? == items.get_row(0)? && items.get_row(0)?.is_some());
    assert!(seats.get((train, 3))?.is_some() && seats.get_row((train, 3))?.is_some());
    let ids = [0, 1, 2];
    assert_eq!(ids.iter().filter(|id| items.contains(**id).is_ok_and(|found| found)).count(), 2);
    assert!(snapshot.table::<User>()?.contains(("ada".parse()?, true))?);
    Ok(())
}

#[test]
fn entries_work_as_in_a_map() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.put(&item(1, 10))?;
    tx.commit()?;

    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    // A committed row, changed several times through one entry.
    let Entry::Occupied(mut entry) = items.entry(1)? else { panic!("it was committed") };
    assert_eq!((*entry.key(), entry.get()?.count), (1, 10));
    assert_eq!(entry.insert(&item(1, 11))?, item(1, 10));
    assert_eq!(entry.get()?.count, 11);
    assert_eq!(entry.update(|row| std::mem::replace(&mut row.count, 12))?, 11);
    assert_eq!(entry.insert(&item(1, 13))?.count, 12);
    assert_eq!(entry.into_row()?, &item(1, 13));
    // A new key.
    let Entry::Vacant(entry) = items.entry(2)? else { panic!("it is new") };
    assert_eq!(*entry.key(), 2);
    assert_eq!(entry.insert(&item(2, 20))?, &item(2, 20));
    assert_eq!(items.entry(2)?.or_insert(&item(2, 99))?.count, 20);
    assert_eq!(items.entry(3)?.or_insert_with(|| item(3, 30))?.count, 30);
    assert_eq!(items.entry(4)?.or_insert_with_key(|id| item(*id, id * 10))?.count, 40);
    items.entry(3)?.or_insert_with(|| unreachable!("the row exists"))?;
    // A deleted key is vacant, whether its row was committed or not.
    for id in [1, 2] {
        let Entry::Occupied(entry) = items.entry(id)? else { panic!("it exists") };
        assert_eq!(entry.remove()?.id, id);
        assert!(matches!(items.entry(id)?, Entry::Vacant(_)) && !items.contains(id)?);
        assert_eq!(items.entry(id)?.and_modify(|row| row.count = 0)?.or_insert(&item(id, 5))?.count, 5);
        assert_eq!(items.entry(id)?.and_modify(|row| row.count += 1)?.or_insert(&item(id, 5))?.count, 6);
    }
    drop(items);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let counts =
        snapshot.table::<Item>()?.range(..)?.map(|row| Ok(row?.count)).collect::<Outcome<Vec<_>>>()?;
    assert_eq!(counts, [6, 6, 30, 40]);
    Ok(())
}

#[test]
fn rows_with_other_keys_are_rejected() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    items.put(&item(1, 10))?;
    let is_key = |error: WriteError| {
        assert!(matches!(error, WriteError::EntryKey { .. }), "{error}");
        assert!(error.to_string().contains("expected key id = "), "{error}");
        assert!(error.to_string().contains("found id = 7"), "{error}");
    };
    is_key(items.entry(2)?.or_insert(&item(7, 1)).map(|_| ()).unwrap_err());
    is_key(items.entry(2)?.or_insert_with(|| item(7, 1)).map(|_| ()).unwrap_err());
    let Entry::Occupied(mut entry) = items.entry(1)? else { panic!("it was put") };
    is_key(entry.insert(&item(7, 1)).map(|_| ()).unwrap_err());
    let changed = entry.update(|row| row.id = 7);
    assert!(matches!(changed, Err(WriteError::KeyChanged { .. })));
    assert_eq!(entry.get()?, &item(1, 10));
    is_key(items.compare_and_set(1, Some(&item(1, 10)), Some(&item(7, 1))).map(|_| ()).unwrap_err());
    is_key(items.compare_and_set(1, Some(&item(7, 1)), None).map(|_| ()).unwrap_err());
    // A unique value that another row has.
    let taken = Item { code: 1001, ..item(2, 1) };
    assert!(matches!(items.entry(2)?.or_insert(&taken), Err(WriteError::UniqueViolation { .. })));
    assert!(matches!(items.replace(&taken), Err(WriteError::UniqueViolation { .. })));
    assert!(matches!(items.compare_and_set(2, None, Some(&taken)), Err(WriteError::UniqueViolation { .. })));
    assert_eq!((items.len()?, items.get(1)?), (1, Some(&item(1, 10))));
    // An entry whose change was rejected can be used again.
    let Entry::Occupied(mut entry) = items.entry(1)? else { panic!("it was put") };
    assert!(entry.update(|row| row.id = 7).is_err());
    assert_eq!(entry.update(|row| row.count)?, 10);
    assert_eq!(entry.remove()?, item(1, 10));

    // Keys of several fields and texts are named field by field.
    let mut seats = tx.table::<Seat>()?;
    let seat = |number| Ok::<_, pongo::FixedStrError>(Seat { train: "ICE".parse()?, number, taken: 0 });
    let error = seats.entry(("ICE".parse()?, 3))?.or_insert(&seat(4)?).map(|_| ()).unwrap_err();
    let wanted = "expected key train = \"ICE\", number = 3, found train = \"ICE\", number = 4";
    assert!(error.to_string().contains(wanted), "{error}");
    // A text that was not written in this store.
    let mut users = tx.table::<User>()?;
    let note = Text::new(pongo::HeapAddr(1 << 40), 3, 7);
    let user = User { name: "ada".parse()?, on: true, _pad: [0; 7], note };
    let error = users.entry(("ada".parse()?, true))?.or_insert(&user).map(|_| ()).unwrap_err();
    assert!(matches!(error, WriteError::HeapField { .. }), "{error}");
    assert!(users.is_empty()?);
    Ok(())
}

#[test]
fn large_rows_have_entries() -> Outcome {
    let store = Store::in_memory()?;
    let map = |id, first| {
        let mut map = Map { id, cells: [[0; 128]; 128] };
        map.cells[0][0] = first;
        map
    };
    let tx = store.begin_write()?;
    let mut maps = tx.table::<Map>()?;
    assert_eq!(maps.entry(1)?.or_insert(&map(1, 10))?.cells[0][0], 10);
    assert_eq!(maps.entry(2)?.or_insert(&map(2, 20))?.cells[0][0], 20);
    let changed = maps.entry(1)?.and_modify(|map| map.cells[0][0] += 1)?.or_insert(&map(1, 0))?;
    assert_eq!((changed.id, changed.cells[0][0]), (1, 11));
    assert_eq!(maps.replace(&map(2, 21))?.map(|map| map.cells[0][0]), Some(20));
    assert!(maps.compare_and_set(2, Some(&map(2, 21)), Some(&map(2, 22)))?);
    assert!(!maps.compare_and_set(2, Some(&map(2, 21)), None)?);
    assert_eq!(maps.take(1)?.map(|map| map.cells[0][0]), Some(11));
    drop(maps);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let maps = snapshot.table::<Map>()?;
    assert_eq!((maps.len(), maps.get(2)?.map(|map| map.cells[0][0])), (1, Some(22)));
    Ok(())
}

/// Random changes of a table, of one with external keys, and of a map, in transactions that are
/// committed, rolled back to savepoints or aborted, some with little memory.
fn compare_with_map(options: Options, seed: &str) -> Outcome {
    let store = options.in_memory()?;
    let mut rng = Random::seeded(seed);
    let mut committed: BTreeMap<u64, Item> = BTreeMap::new();
    for _ in 0..40 {
        let mut tx = store.begin_write()?;
        let mut map = committed.clone();
        for _ in 0..rng.below(4) {
            let savepoint = tx.savepoint()?;
            let before = map.clone();
            if rng.below(4) == 0 {
                let new = (0..50).map(|_| item(rng.below(100), rng.next()));
                let rows: BTreeMap<u64, Item> = new.map(|row| (row.id, row)).collect();
                tx.table::<Item>()?.extend(rows.values())?;
                let values = rows.values().map(|row| (external_key(row.id), value(row)));
                tx.external::<Value>()?.extend(values)?;
                map.extend(rows);
            }
            for _ in 0..rng.below(60) {
                change(&tx, &mut map, &mut rng)?;
            }
            if rng.below(4) == 0 {
                tx.rollback_to(&savepoint)?;
                map = before;
            }
        }
        if rng.below(5) > 0 {
            tx.commit()?;
            committed = map;
        } else {
            tx.abort();
        }
        let snapshot = store.begin_read()?;
        let rows = snapshot.table::<Item>()?.range(..)?.map(|row| Ok(*row?)).collect::<Outcome<Vec<_>>>()?;
        assert_eq!(rows, committed.values().copied().collect::<Vec<_>>());
        let values = snapshot.external::<Value>()?;
        assert_eq!(values.len(), committed.len() as u64);
        for (id, row) in &committed {
            assert_eq!(values.get(external_key(*id))?, Some(&value(row)));
        }
    }
    assert!(store.verify(|_| {})?.is_valid());
    Ok(())
}

fn external_key(id: u64) -> String {
    format!("the key {id}")
}

fn value(row: &Item) -> Value {
    Value { code: row.code, count: row.count }
}

/// Applies one random change to both tables and to the map.
fn change(tx: &WriteTransaction, map: &mut BTreeMap<u64, Item>, rng: &mut Random) -> Outcome {
    let (mut items, mut values) = (tx.table::<Item>()?, tx.external::<Value>()?);
    let id = rng.below(100);
    let (key, new, known) = (external_key(id), item(id, rng.next()), map.get(&id).copied());
    match rng.below(8) {
        0 => {
            assert_eq!(items.replace(&new)?, known);
            assert_eq!(values.replace(&key, &value(&new))?, known.as_ref().map(value));
            map.insert(id, new);
        }
        1 => {
            assert_eq!(items.take(id)?, known);
            assert_eq!(values.take(&key)?, known.as_ref().map(value));
            map.remove(&id);
        }
        2 => {
            let expected = *map.entry(id).or_insert(new);
            assert_eq!(items.entry(id)?.or_insert(&new)?, &expected);
            assert_eq!(values.entry(&key)?.or_insert_with(|| value(&new))?, &value(&expected));
        }
        3 => {
            let expected = *map.entry(id).and_modify(|row| row.count /= 2).or_insert(new);
            let row = items.entry(id)?.and_modify(|row| row.count /= 2)?.or_insert_with(|| new)?;
            assert_eq!(row, &expected);
            let row = values.entry(&key)?.and_modify(|row| row.count /= 2)?.or_insert(&value(&new))?;
            assert_eq!(row, &value(&expected));
        }
        4 => {
            match (items.entry(id)?, values.entry(&key)?, map.entry(id)) {
                (Entry::Occupied(row), ExternalEntry::Occupied(entry), btree_map::Entry::Occupied(known)) => {
                    assert_eq!((row.get()?, entry.get()?), (known.get(), &value(known.get())));
                    assert_eq!((row.remove()?, value(known.get())), (*known.get(), entry.remove()?));
                    known.remove();
                }
                (Entry::Vacant(row), ExternalEntry::Vacant(entry), btree_map::Entry::Vacant(known)) => {
                    assert_eq!((row.key(), entry.key()), (known.key(), key.as_bytes()));
                    assert_eq!(row.insert(&new)?, &new);
                    assert_eq!(entry.insert(&value(&new))?, &value(&new));
                    known.insert(new);
                }
                (row, entry, known) => panic!("{row:?} {entry:?} {known:?}"),
            };
        }
        5 => {
            let (Entry::Occupied(mut row), ExternalEntry::Occupied(mut entry)) =
                (items.entry(id)?, values.entry(&key)?)
            else {
                assert_eq!(known, None);
                return Ok(());
            };
            let known = map.get_mut(&id).ok_or("the map has it too")?;
            assert_eq!((row.insert(&new)?, entry.insert(&value(&new))?), (*known, value(known)));
            assert_eq!(row.update(|row| std::mem::take(&mut row.count))?, new.count);
            assert_eq!(entry.update(|row| std::mem::take(&mut row.count))?, new.count);
            *known = Item { count: 0, ..new };
            assert_eq!((row.into_row()?, entry.into_value()?), (&*known, &value(known)));
        }
        kind => {
            // What is expected is right, is wrong, or is that there is no row.
            let expected = [known, Some(new), None][rng.below(3) as usize];
            let next = (kind == 6).then_some(new);
            let (old_value, new_value) = (expected.as_ref().map(value), next.as_ref().map(value));
            let is_set = items.compare_and_set(id, expected.as_ref(), next.as_ref())?;
            assert_eq!(is_set, expected == known);
            assert_eq!(values.compare_and_set(&key, old_value.as_ref(), new_value.as_ref())?, is_set);
            match (is_set, next) {
                (true, Some(row)) => _ = map.insert(id, row),
                (true, None) => _ = map.remove(&id),
                (false, _) => {}
            }
        }
    }
    assert_eq!(items.get(id)?, map.get(&id));
    assert_eq!(values.get(&key)?, map.get(&id).map(value).as_ref());
    assert_eq!((items.len()?, values.len()?), (map.len() as u64, map.len() as u64));
    Ok(())
}

#[test]
fn random_changes_agree_with_a_map() -> Outcome {
    compare_with_map(Options::new(), "entries")
}

#[test]
fn random_changes_in_little_memory_agree_with_a_map() -> Outcome {
    compare_with_map(Options::new().transaction_memory(0), "entries in little memory")
}

#[test]
fn external_entries_reject_what_put_rejects() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut values = tx.external::<Value>()?;
    let long = vec![0; 65_536];
    assert!(matches!(values.entry(&long), Err(WriteError::KeyTooLong { .. })));
    let one = Value { code: 1, count: 1 };
    assert!(matches!(values.compare_and_set(&long, None, Some(&one)), Err(WriteError::KeyTooLong { .. })));
    assert!(matches!(values.replace(&long, &one), Err(WriteError::KeyTooLong { .. })));
    assert!(values.take(&long)?.is_none());
    // The empty key is a key.
    values.entry("")?.or_insert(&one)?;
    assert!(matches!(values.entry("b")?.or_insert(&one), Err(WriteError::UniqueViolation { .. })));
    assert!(matches!(values.replace("b", &one), Err(WriteError::UniqueViolation { .. })));
    let ExternalEntry::Occupied(mut entry) = values.entry([])? else { panic!("it was inserted") };
    assert_eq!(entry.update(|value| value.count)?, 1);
    assert_eq!(values.len()?, 1);
    drop(values);
    tx.commit()?;
    assert!(store.verify(|_| {})?.is_valid());
    Ok(())
}

/// After a change of many rows was interrupted, the table accepts no changes through entries.
#[test]
fn entries_of_an_interrupted_change_are_rejected() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    items.put(&item(1, 1))?;
    let interrupted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        items.modify(.., |_| panic!("the caller's code fails"))
    }));
    assert!(interrupted.is_err());
    let is_incomplete = |error: WriteError| assert!(matches!(error, WriteError::IncompleteChange { .. }));
    is_incomplete(items.entry(2)?.or_insert(&item(2, 1)).map(|_| ()).unwrap_err());
    let Entry::Occupied(mut entry) = items.entry(1)? else { panic!("it was put") };
    is_incomplete(entry.insert(&item(1, 2)).map(|_| ()).unwrap_err());
    is_incomplete(entry.update(|row| row.count = 3).unwrap_err());
    is_incomplete(entry.remove().map(|_| ()).unwrap_err());
    is_incomplete(items.take(1).map(|_| ()).unwrap_err());
    is_incomplete(items.replace(&item(1, 2)).map(|_| ()).unwrap_err());
    is_incomplete(items.compare_and_set(1, Some(&item(1, 1)), None).map(|_| ()).unwrap_err());
    assert_eq!(items.get(1)?, Some(&item(1, 1)));
    Ok(())
}
