//! External keys (keys that are not fields of their records), compared with `BTreeMap`s: random
//! operations, savepoints, snapshots of all ages, ranges of all kinds from both ends, reopening
//! after the indexes were deleted, and rejected operations.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use pongo::prelude::*;
#[cfg(feature = "rayon")]
use pongo::rayon::prelude::*;
use pongo::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use pongo::{ReadError, Savepoint, WriteError};
use pongo_test_support::{Outcome, Random, bound};

#[pongo::record]
#[pongo(table = "notes", key = "external")]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Note {
    #[pongo(index)]
    group: u16,
    _pad: [u8; 6],
    stamp: u64,
}

type Key = Vec<u8>;
type Map = BTreeMap<Key, Note>;
fn note(rng: &mut Random) -> Note {
    Note { group: rng.below(7) as u16, _pad: [0; 6], stamp: rng.next() }
}

/// Returns a random key that is hard to tell from others: prefixes of one another, least and
/// greatest bytes, long keys with long common prefixes.
fn key(rng: &mut Random) -> Key {
    let mut key = match rng.below(40) {
        0..30 => Vec::new(),
        30..36 => b"a common beginning ".repeat(1 + rng.below(8) as usize),
        36..39 => vec![0xff; 300],
        _ => vec![b'x'; 65_535 - 4],
    };
    let most = (rng.below(5)).min(65_535 - key.len() as u64);
    key.extend((0..most).map(|_| [0, 0xff, b'a', b'b'][rng.below(4) as usize]));
    key
}

fn open(path: &Path) -> Outcome<Store> {
    let options = Options::new().ordered_tuning(50, 400, 300, 30);
    // SAFETY: only this test uses the folder.
    Ok(unsafe { options.open(path)? })
}

fn owned<'s>(items: impl Iterator<Item = Result<(&'s [u8], &'s Note), ReadError>>) -> Vec<(Key, Note)> {
    items.map(|item| item.map(|(key, note)| (key.to_vec(), *note)).expect("the rows are sound")).collect()
}

struct Run {
    store: Option<Store>,
    map: Map,
    pinned: Vec<(Snapshot, Map)>,
    rng: Random,
}

impl Run {
    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    /// Commits one transaction of one or more operations, with savepoints among them.
    fn commit(&mut self) -> Outcome {
        let rng = &mut self.rng;
        let durability = if rng.below(2) == 0 { Durability::Relaxed } else { Durability::Sync };
        let mut tx = self.store.as_ref().expect("it is open").begin_write_with(durability)?;
        let mut map = self.map.clone();
        let mut savepoints: Vec<(Savepoint, Map)> = Vec::new();
        for _ in 0..rng.below(60) {
            let (key, value) = (key(rng), note(rng));
            let step = rng.below(12);
            if step < 10 {
                let mut notes = tx.external::<Note>()?;
                match step {
                    0..4 => assert_eq!(notes.put(&key, &value)?, map.insert(key, value).is_some()),
                    4 => match notes.insert(&key, &value) {
                        Ok(()) => assert!(map.insert(key, value).is_none()),
                        Err(WriteError::KeyExists { .. }) => assert!(map.contains_key(&key)),
                        Err(error) => return Err(error.into()),
                    },
                    5 => {
                        let changed = notes.update(&key, |note| {
                            note.stamp = value.stamp;
                            note.group
                        })?;
                        let note = map.get_mut(&key);
                        assert_eq!(changed, note.as_ref().map(|note| note.group));
                        if let Some(note) = note {
                            note.stamp = value.stamp;
                        }
                    }
                    6 | 7 => assert_eq!(notes.delete(&key)?, map.remove(&key).is_some()),
                    8 => {
                        let mut row = notes.alloc(&key)?;
                        assert_eq!(*row, Note { group: 0, _pad: [0; 6], stamp: 0 });
                        if rng.below(5) == 0 {
                            row.stamp = 1;
                            row.discard();
                        } else {
                            *row = value;
                            drop(row);
                            map.insert(key, value);
                        }
                    }
                    _ => {
                        let pairs: Vec<(Key, Note)> =
                            (0..rng.below(40)).map(|_| (self::key(rng), note(rng))).collect();
                        map.extend(pairs.iter().cloned());
                        assert_eq!(
                            notes.extend(pairs.iter().map(|(key, note)| (key, note)))?,
                            pairs.len() as u64
                        );
                    }
                }
            } else if step == 10 {
                savepoints.push((tx.savepoint()?, map.clone()));
            } else {
                let kept = rng.below(1 + savepoints.len() as u64) as usize;
                if let Some((savepoint, before)) = savepoints.get(kept) {
                    tx.rollback_to(savepoint)?;
                    map = before.clone();
                    savepoints.truncate(kept + 1);
                }
            }
            let looked = self::key(rng);
            let notes = tx.external::<Note>()?;
            assert_eq!(notes.get(&looked)?, map.get(&looked));
            assert_eq!(notes.len()?, map.len() as u64);
        }
        if rng.below(8) == 0 {
            tx.abort();
        } else {
            tx.commit()?;
            self.map = map;
        }
        if self.rng.below(3) == 0 && self.pinned.len() < 5 {
            self.pinned.push((self.store().begin_read()?, self.map.clone()));
        }
        Ok(())
    }

    fn check_all(&mut self) -> Outcome {
        let newest = self.store().begin_read()?;
        check(&newest, &self.map, &mut self.rng)?;
        for (snapshot, map) in &self.pinned {
            check(snapshot, map, &mut self.rng)?;
        }
        Ok(())
    }
}

/// Checks every read method on one snapshot.
fn check(snapshot: &Snapshot, map: &Map, rng: &mut Random) -> Outcome {
    let notes = snapshot.external::<Note>()?;
    let pairs = |map: &Map| map.iter().map(|(key, note)| (key.clone(), *note)).collect::<Vec<_>>();
    assert_eq!(notes.len(), map.len() as u64);
    for (key, note) in map {
        assert_eq!(notes.get(key)?, Some(note));
    }
    for _ in 0..20 {
        let key = key(rng);
        assert_eq!(notes.get(&key)?, map.get(&key));
        assert_eq!(notes.contains(&key)?, map.contains_key(&key));
    }
    let all = pairs(map);
    assert!(owned(notes.range(..)?) == all, "all in the order of the keys");
    assert!(owned(notes.range(..)?.rev()).into_iter().rev().eq(all.iter().cloned()));
    let first = notes.first()?.map(|(key, note)| (key.to_vec(), *note));
    let last = notes.last()?.map(|(key, note)| (key.to_vec(), *note));
    assert_eq!((first, last), (all.first().cloned(), all.last().cloned()));
    let mut rows = owned(notes.rows());
    let values: Vec<Note> = notes.values().map(|note| note.copied()).collect::<Result<_, _>>()?;
    assert!(rows.iter().map(|(_, note)| *note).eq(values));
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert!(rows == all, "all rows");
    check_row_numbers(&notes, map, rng)?;
    check_filter(&notes, map, rng.below(7) as u16)?;

    for _ in 0..6 {
        // Sometimes an existing key.
        let mut pick = || match map.keys().nth(rng.below(1 + 2 * map.len() as u64) as usize) {
            Some(key) => key.clone(),
            None => key(rng),
        };
        let (from, to) = (pick(), pick());
        let (start, end) = (bound(rng.next(), from.clone()), bound(rng.next(), to.clone()));
        // `BTreeMap::range` panics if both bounds are equal and excluded.
        let within = |key: &Key| {
            (match &start {
                Bound::Included(start) => key >= start,
                Bound::Excluded(start) => key > start,
                Bound::Unbounded => true,
            }) && match &end {
                Bound::Included(end) => key <= end,
                Bound::Excluded(end) => key < end,
                Bound::Unbounded => true,
            }
        };
        let wanted: Vec<_> = all.iter().filter(|(key, _)| within(key)).cloned().collect();
        let bounds = || (start.clone(), end.clone());
        let mut range = notes.range(bounds())?;
        let (mut front, mut back) = (Vec::new(), Vec::new());
        while front.len() + back.len() <= wanted.len() {
            let take_back = rng.below(3) == 0;
            match if take_back { range.next_back() } else { range.next() } {
                None => break,
                Some(item) if take_back => back.push(item.map(|(key, note)| (key.to_vec(), *note))?),
                Some(item) => front.push(item.map(|(key, note)| (key.to_vec(), *note))?),
            }
        }
        assert!(range.next().is_none() && range.next_back().is_none());
        front.extend(back.into_iter().rev());
        assert!(front == wanted, "a range from both ends");
        assert_eq!(notes.count(bounds())?, wanted.len() as u64);

        let mut paged = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let range = notes.range(bounds())?;
            let mut range = match &cursor {
                Some(cursor) => range.start_after(cursor)?,
                None => range,
            };
            let before = paged.len();
            paged.extend(owned(range.by_ref().take(1 + rng.below(20) as usize)));
            if paged.len() == before {
                break;
            }
            cursor = range.cursor()?.and_then(|cursor| Cursor::from_bytes(&cursor.to_bytes()));
        }
        assert!(paged == wanted, "pages");
        let mut back = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let range = notes.range(bounds())?;
            let mut range = match &cursor {
                Some(cursor) => range.end_before(cursor)?,
                None => range,
            };
            let before = back.len();
            back.extend(owned(range.by_ref().rev().take(1 + rng.below(20) as usize)));
            if back.len() == before {
                break;
            }
            cursor = range.cursor_back();
        }
        assert!(back.into_iter().rev().eq(wanted.iter().cloned()), "pages from the end");

        let mut prefix = key(rng);
        prefix.truncate(rng.below(4) as usize * prefix.len() / 3);
        let wanted: Vec<_> = all.iter().filter(|(key, _)| key.starts_with(&prefix)).cloned().collect();
        assert!(owned(notes.prefix(&prefix)?) == wanted, "a prefix");
        assert!(owned(notes.prefix(&prefix)?.rev()).into_iter().rev().eq(wanted), "a prefix, from its end");
    }
    let group = rng.below(7) as u16;
    let mut found = owned(notes.by(Note::GROUP).eq(group)?);
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    assert!(found.iter().eq(all.iter().filter(|(_, note)| note.group == group)));
    let groups = owned(notes.by(Note::GROUP).rev()?);
    assert!(groups.len() == all.len() && groups.is_sorted_by(|a, b| a.1.group >= b.1.group));
    Ok(())
}

/// Checks lookups of many keys, and that each row is found by its number and at its place.
fn check_row_numbers(notes: &ExternalTable<'_, Note>, map: &Map, rng: &mut Random) -> Outcome {
    let mut asked: Vec<Key> = map.keys().filter(|_| rng.below(3) == 0).cloned().collect();
    asked.extend((0..20).map(|_| key(rng)));
    let many = notes.get_many(&asked).collect::<Result<Vec<_>, _>>()?;
    assert!(many.into_iter().eq(asked.iter().map(|key| map.get(key))));
    let mut seen = 0;
    for entry in notes.entries() {
        let (number, (key, note)) = entry?;
        assert_eq!(notes.get_row(key)?, Some((number, note)));
        assert_eq!(notes.row(number)?, Some((key, note)));
        let place = notes.locate(number).ok_or("it was written")?;
        assert_eq!(notes.row_at(place), Some(number));
        seen += 1;
    }
    assert_eq!(seen, map.len());
    for entry in notes.range(..)?.entries() {
        let (number, (key, note)) = entry?;
        assert_eq!(notes.get_row(key)?, Some((number, note)));
    }
    for entry in notes.filter(Note::GROUP.lt(3)).entries() {
        let (number, (key, note)) = entry?;
        assert_eq!(notes.get_row(key)?, Some((number, note)));
    }
    Ok(())
}

/// Checks filters, in one thread and in several.
fn check_filter(notes: &ExternalTable<'_, Note>, map: &Map, group: u16) -> Outcome {
    let sorted = |mut items: Vec<(Key, Note)>| {
        items.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        items
    };
    let wanted: Vec<_> = map.iter().filter(|(_, note)| note.group < group).collect();
    let is_wanted =
        |found: Vec<(Key, Note)>| sorted(found).iter().map(|(key, note)| (key, note)).eq(wanted.clone());
    let less = || notes.filter(Note::GROUP.lt(group));
    assert!(is_wanted(owned(less())));
    assert_eq!(less().count(), wanted.len());
    let folded = less().fold(Vec::new(), |mut all, item| {
        all.push(item);
        all
    });
    assert!(is_wanted(owned(folded.into_iter())));
    #[cfg(feature = "rayon")]
    assert!(is_wanted(owned(less().par().collect::<Vec<_>>().into_iter())));
    #[cfg(feature = "rayon")]
    let rows = owned(notes.par_rows().collect::<Vec<_>>().into_iter());
    #[cfg(not(feature = "rayon"))]
    let rows = owned(notes.rows());
    assert!(sorted(rows).iter().map(|(key, note)| (key, note)).eq(map));
    Ok(())
}

/// Zone maps are over fields of rows, and conditions over fields of values.
#[test]
fn filters_skip_zones() -> Outcome {
    let store = Options::new().chunk_size(1 << 20).in_memory()?;
    let tx = store.begin_write()?;
    let pairs = (0..50_000_u64).map(|stamp| (stamp.to_le_bytes(), Note { group: 3, _pad: [0; 6], stamp }));
    tx.external::<Note>()?.extend(pairs)?;
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let notes = snapshot.external::<Note>()?;
    let late = notes.filter(Note::STAMP.ge(49_000));
    let explain = late.explain()?;
    assert_eq!(explain.total.rows, 50_000);
    assert!(explain.pruned.rows > 40_000, "{explain}");
    let stamps = late.map(|item| Ok(item?.1.stamp)).collect::<Result<Vec<_>, ReadError>>()?;
    assert!(stamps.into_iter().eq(49_000..50_000));
    let all = notes.filter(Note::GROUP.eq(3));
    assert!(all.explain()?.matched.rows > 40_000, "{}", all.explain()?);
    assert_eq!(all.count(), 50_000);
    assert_eq!(notes.filter(Note::GROUP.eq(4)).count(), 0);
    Ok(())
}

/// Deleting the indexes loses no data.
#[test]
fn random_operations_agree_with_a_map() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let rng = Random::seeded("external");
    let mut run = Run { store: Some(open(&path)?), map: Map::new(), pinned: Vec::new(), rng };
    for round in 0..60 {
        run.commit()?;
        match run.rng.below(12) {
            0 => run.store().catch_up_indexes()?,
            1 if round % 2 == 0 => run.store().rebuild_indexes()?,
            1 => run.store().rebuild_external_index::<Note>()?,
            2 | 3 => {
                run.pinned.clear();
                drop(run.store.take());
                if run.rng.below(2) == 0 {
                    for lost in ["hash", "ordered"] {
                        let lost = path.join(lost);
                        if lost.exists() {
                            std::fs::remove_dir_all(lost)?;
                        }
                    }
                }
                run.store = Some(open(&path)?);
            }
            4 => drop(run.pinned.drain(..run.pinned.len() / 2)),
            _ => {}
        }
        if round % 3 == 0 {
            run.check_all()?;
        }
        if round % 20 == 19 {
            let report = run.store().verify(|_| ())?;
            assert!(report.is_valid(), "{report}");
            let stats = run.store().stats()?;
            let table = stats.tables.iter().find(|table| table.name == "notes").ok_or("it was made")?;
            assert_eq!((table.live, table.row_bytes), (run.map.len() as u64, 48));
            assert!(table.indexes.iter().any(|index| index.fields == "external key"));
        }
    }
    run.check_all()
}

/// Without sled, and in memory: the rows alone give the same results.
#[test]
fn random_operations_without_an_ordered_index() -> Outcome {
    let store = Options::new().ordered(false).ordered_tuning(50, 100, 300, 30).in_memory()?;
    let rng = Random::seeded("external without an index");
    let mut run = Run { store: Some(store), map: Map::new(), pinned: Vec::new(), rng };
    for _ in 0..20 {
        run.commit()?;
    }
    run.check_all()
}

#[pongo::record]
struct Cell {
    height: f32,
    water: f32,
}

#[pongo::record]
#[pongo(table = "maps", key = "external")]
struct Map256 {
    cells: [[Cell; 256]; 256],
}

/// Nested arrays under text keys (the use case of structchunk), filled in place, modified, and put
/// as whole records.
#[test]
fn nested_arrays_under_text_keys() -> Outcome {
    let folder = tempfile::tempdir()?;
    // SAFETY: only this test uses the folder.
    let store = unsafe { Store::open(folder.path())? };
    let tx = store.begin_write()?;
    let mut maps = tx.external::<Map256>()?;
    for (number, key) in ["alps", "andes", "atlas"].into_iter().enumerate() {
        let mut map = maps.alloc(key)?;
        for (y, row) in map.cells.iter_mut().enumerate() {
            for (x, cell) in row.iter_mut().enumerate() {
                cell.height = (number * 1_000 + x + y) as f32;
            }
        }
        map.insert()?;
    }
    assert_eq!(maps.update("atlas", |map| map.cells[255][255].water = 7.0)?, Some(()));
    assert_eq!(maps.len()?, 3);
    drop(maps);
    tx.commit()?;

    let snapshot = store.begin_read()?;
    let before = snapshot.external::<Map256>()?;
    let tx = store.begin_write()?;
    let mut maps = tx.external::<Map256>()?;
    // Too large for the stack: it is put by reference.
    assert!(!maps.put("copy of andes", before.get("andes")?.ok_or("not found")?)?);
    assert!(maps.put("alps", before.get("atlas")?.ok_or("not found")?)?);
    assert!(maps.delete("atlas")?);
    drop(maps);
    tx.commit()?;
    drop(before);
    drop(snapshot);
    store.close()?;

    // SAFETY: as above.
    let store = unsafe { Store::open(folder.path())? };
    let snapshot = store.begin_read()?;
    let maps = snapshot.external::<Map256>()?;
    let found: Vec<(String, f32, f32)> = maps
        .range(..)?
        .map(|item| {
            let (key, map) = item?;
            let key = String::from_utf8_lossy(key).into_owned();
            Ok((key, map.cells[3][5].height, map.cells[255][255].water))
        })
        .collect::<Result<_, ReadError>>()?;
    let wanted = [("alps", 2008.0, 7.0), ("andes", 1008.0, 0.0), ("copy of andes", 1008.0, 0.0)];
    assert!(found.iter().map(|(key, a, b)| (&**key, *a, *b)).eq(wanted), "{found:?}");
    let report = store.verify(|_| ())?;
    assert!(report.is_valid(), "{report}");
    Ok(())
}

/// Uses the derive alone, with the largest supported alignment.
#[derive(Clone, Copy, PartialEq, Debug, PongoRecord, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[zerocopy(crate = "pongo::zerocopy")]
#[pongo(table = "wide", key = "external", unique(low))]
#[repr(C, align(32))]
struct Wide {
    low: u128,
    high: u128,
}

#[test]
fn strictly_aligned_values_and_unique_fields() -> Outcome {
    let store = Store::in_memory()?;
    let wide = |low| Wide { low, high: 1 << 100 };
    let tx = store.begin_write()?;
    let mut table = tx.external::<Wide>()?;
    table.put("one", &wide(1))?;
    table.put([0xff, 0], &wide(2))?;
    let error = table.put("three", &wide(1)).unwrap_err();
    assert!(matches!(error, WriteError::UniqueViolation { .. }));
    assert!(error.to_string().contains("found low = 1 in the row with key \"one\""), "{error}");
    let error = table.update("one", |value| value.low = 2).unwrap_err();
    assert!(error.to_string().contains("in the row with key 0xff00"), "{error}");
    drop(table);
    tx.commit()?;
    let tx = store.begin_write()?;
    let error = tx.external::<Wide>()?.put("three", &wide(1)).unwrap_err();
    assert!(error.to_string().contains("found low = 1 in the row with key \"one\" (row 0)"), "{error}");
    tx.external::<Wide>()?.extend([("four", wide(4)), ("", wide(5))])?;
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let table = snapshot.external::<Wide>()?;
    for item in &table {
        let (_, value) = item?;
        assert_eq!((value as *const Wide).align_offset(32), 0);
    }
    let keys = table.range(..)?.map(|item| Ok(item?.0)).collect::<Result<Vec<_>, ReadError>>()?;
    assert_eq!(keys, [&b""[..], b"four", b"one", &[0xff, 0]]);
    let report = store.verify(|_| ())?;
    assert!(report.is_valid(), "{report}");
    Ok(())
}

/// A key may have any length up to the limit. A longer key is not put and not found.
#[test]
fn keys_have_at_most_65535_bytes() -> Outcome {
    let store = Store::in_memory()?;
    let value = Note { group: 1, _pad: [0; 6], stamp: 2 };
    let tx = store.begin_write()?;
    let mut notes = tx.external::<Note>()?;
    let (longest, longer) = (vec![7; 65_535], vec![7; 65_536]);
    assert!(!notes.put(&longest, &value)?);
    for error in [
        notes.put(&longer, &value).unwrap_err(),
        notes.insert(&longer, &value).unwrap_err(),
        notes.alloc(&longer).map(drop).unwrap_err(),
        notes.extend([(&longer, value)]).unwrap_err(),
    ] {
        assert!(matches!(error, WriteError::KeyTooLong { len: 65_536, .. }), "{error}");
        assert!(error.to_string().contains("has 65536 bytes and may have 65535"), "{error}");
    }
    assert!(notes.get(&longer)?.is_none() && !notes.delete(&longer)?);
    drop(notes);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let notes = snapshot.external::<Note>()?;
    assert!(notes.get(&longer)?.is_none());
    assert_eq!((notes.count(&longest..)?, notes.count(&longer..)?, notes.count(..=&longest)?), (1, 0, 1));
    Ok(())
}

type NoteRow = <Note as ExternalRecord>::Row;

/// Two keys with the same digest. No such pair is known for xxh3, so the test forges one: a row
/// that stores another key's digest.
#[test]
fn keys_with_equal_digests_are_distinct() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let value = |stamp| Note { group: 0, _pad: [0; 6], stamp };
    let tx = store.begin_write()?;
    // The row of "a twin" stores the digest of "asked for".
    let twin = tx.blob(b"a twin")?.into();
    let digest = pongo::key_digest(b"asked for");
    tx.table::<NoteRow>()?.put(&value(7).into_row(digest, twin))?;
    let check = |notes: &mut pongo::ExternalTableMut<'_, Note>| -> Outcome {
        assert_eq!(notes.get("asked for")?, None);
        assert!(!notes.contains("asked for")? && !notes.delete("asked for")?);
        assert_eq!(notes.update("asked for", |note| note.stamp = 9)?, None);
        for error in [
            notes.put("asked for", &value(8)).unwrap_err(),
            notes.insert("asked for", &value(8)).unwrap_err(),
            notes.alloc("asked for").map(drop).unwrap_err(),
            notes.extend([("asked for", value(8))]).unwrap_err(),
        ] {
            assert!(matches!(error, WriteError::DigestCollision { .. }), "{error}");
            let message = error.to_string();
            assert!(
                message.contains("key \"asked for\" has the same digest")
                    && message.contains("as key \"a twin\"")
            );
        }
        assert_eq!(notes.len()?, 1);
        Ok(())
    };
    check(&mut tx.external()?)?;
    tx.commit()?;
    check(&mut store.begin_write()?.external()?)?;

    let old = store.begin_read()?;
    assert_eq!(old.external::<Note>()?.get("asked for")?, None);
    let report = store.verify(|_| ())?;
    assert!(report.to_string().contains("expected key \"a twin\" with digest"), "{report}");

    // After the one is deleted the other can be inserted, and each snapshot sees its own.
    let tx = store.begin_write()?;
    assert!(tx.table::<NoteRow>()?.delete(digest)?);
    tx.external::<Note>()?.insert("asked for", &value(8))?;
    tx.commit()?;
    let new = store.begin_read()?;
    assert_eq!(new.external::<Note>()?.get("asked for")?, Some(&value(8)));
    assert_eq!(old.external::<Note>()?.get("asked for")?, None);
    assert_eq!(owned(old.external::<Note>()?.range(..)?), [(b"a twin".to_vec(), value(7))]);
    assert_eq!(owned(new.external::<Note>()?.range(..)?), [(b"asked for".to_vec(), value(8))]);
    assert!(store.verify(|_| ())?.is_valid());
    Ok(())
}

/// A key's bytes are written once, however often its value is replaced, and are not written if
/// nothing was put.
#[test]
fn key_bytes_are_written_once() -> Outcome {
    let store = Store::in_memory()?;
    let value = |stamp| Note { group: 0, _pad: [0; 6], stamp };
    let key = vec![b'k'; 1000];
    let place = |store: &Store| -> Outcome<Blob> {
        let snapshot = store.begin_read()?;
        let row = snapshot.table::<NoteRow>()?.rows().next().ok_or("there is a row")??;
        Ok(Note::key_of(row).blob())
    };
    let tx = store.begin_write()?;
    tx.external::<Note>()?.put(&key, &value(1))?;
    assert!(tx.external::<Note>()?.insert(&key, &value(2)).is_err());
    tx.commit()?;
    let first = place(&store)?;
    for stamp in 2..6 {
        let tx = store.begin_write()?;
        let mut notes = tx.external::<Note>()?;
        notes.put(&key, &value(stamp))?;
        notes.update(&key, |note| note.group = 3)?;
        notes.alloc(&key)?.stamp = stamp;
        // Nothing was written after it: the next bytes start where the heap ends.
        drop(notes);
        tx.commit()?;
        assert_eq!(place(&store)?.addr(), first.addr());
    }
    let tx = store.begin_write()?;
    let next = tx.blob(b"next")?;
    assert_eq!(next.addr().0, first.addr().0 + 8 + 1000);
    Ok(())
}

/// A row whose key bytes are not in the heap is rejected, like a row with a forged text.
#[test]
fn row_without_key_is_refused() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let forged = Blob::new(pongo::HeapAddr(8000), 5, 1).into();
    let row = Note { group: 0, _pad: [0; 6], stamp: 0 }.into_row([1; 16], forged);
    let error = tx.table::<NoteRow>()?.put(&row).unwrap_err();
    assert!(matches!(&error, WriteError::HeapField { field, .. } if field == "_key"), "{error}");
    Ok(())
}

/// Corruption in the bytes of a key is an error wherever they are needed, and never a result.
#[test]
fn corrupt_key_is_an_error() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let value = Note { group: 0, _pad: [0; 6], stamp: 0 };
    let tx = store.begin_write()?;
    // More than one block. A whole block is verified when it is first read; the bytes after the
    // last whole block are verified at each open.
    let others = (0..3000).map(|number| format!("another key {number:040}"));
    tx.external::<Note>()?
        .extend(std::iter::once("a key".to_owned()).chain(others).map(|key| (key, value)))?;
    tx.commit()?;
    store.close()?;
    let heap = folder.path().join("heap/0.chunk");
    let mut bytes = std::fs::read(&heap)?;
    let at = bytes.windows(5).position(|bytes| bytes == b"a key").ok_or("the key is in the heap")?;
    bytes[at] = b'A';
    std::fs::write(&heap, bytes)?;

    let store = open(folder.path())?;
    let report = store.verify(|_| ())?;
    assert!(report.to_string().contains("heap/0.chunk is damaged"), "{report}");
    let snapshot = store.begin_read()?;
    let notes = snapshot.external::<Note>()?;
    assert!(matches!(notes.get("a key"), Err(ReadError::ExternalKey { .. })));
    assert_eq!(notes.get("A key")?, None);
    assert!(notes.get(format!("another key {:040}", 2999))?.is_some());
    assert!(notes.rows().any(|item| item.is_err()));
    assert!(notes.range(..).and_then(|range| range.collect::<Result<Vec<_>, _>>()).is_err());
    // The cursor of a page that ended with an error is after the row that failed: pages that continue
    // from there return every row once.
    let (mut read, mut failed, mut cursor) = (0, 0, None);
    loop {
        let all = notes.by(Note::GROUP).all()?;
        let mut page = if let Some(cursor) = &cursor { all.start_after(cursor)? } else { all };
        let items: Vec<bool> = page.by_ref().map(|item| item.is_ok()).collect();
        if items.is_empty() {
            break;
        }
        read += items.iter().filter(|is_ok| **is_ok).count();
        failed += items.iter().filter(|is_ok| !**is_ok).count();
        cursor = page.cursor()?;
        assert!(cursor.is_some() && failed <= 3001);
    }
    assert_eq!(read + failed, 3001);
    assert!(read > 1000, "the other blocks are whole");
    let tx = store.begin_write()?;
    assert!(tx.external::<Note>()?.put("a key", &value).is_err());
    Ok(())
}

#[pongo::record]
#[pongo(table = "notes")]
struct OtherNote {
    #[pongo(key)]
    group: u16,
    _pad: [u8; 6],
    stamp: u64,
}

#[test]
fn external_keys_change_the_layout() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.external::<Note>()?.put("key", &Note { group: 0, _pad: [0; 6], stamp: 0 })?;
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let error = snapshot.table::<OtherNote>().unwrap_err().to_string();
    assert!(error.contains("_key: external"), "{error}");
    Ok(())
}

/// Keys of many lengths with no memory, or almost none, for sorting them: each range scans rows and
/// terminates.
#[test]
fn little_memory_is_no_endless_search() -> Outcome {
    for memory in [0, 1, 10, 100, 1000, 100_000] {
        let store = Options::new().ordered(false).index_memory(memory).in_memory()?;
        let tx = store.begin_write()?;
        for id in (0..300_u64).rev() {
            let key = "k".repeat(id as usize % 7) + &id.to_string();
            let value = Note { group: (id % 7) as u16, _pad: [0; 6], stamp: id };
            tx.external::<Note>()?.put(key.as_bytes(), &value)?;
        }
        tx.commit()?;
        let snapshot = store.begin_read()?;
        let notes = snapshot.external::<Note>()?;
        for _ in 0..3 {
            let found = owned(notes.range(..)?);
            assert!(found.len() == 300 && found.is_sorted_by_key(|(key, _)| key.clone()), "{memory} bytes");
        }
        assert!(store.stats()?.ordered.sorted_bytes <= memory + 200, "{memory} bytes");
    }
    Ok(())
}
