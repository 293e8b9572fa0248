//! The same tests for a table with external keys.

use std::collections::BTreeMap;
use std::ops::Bound;

use pongo::prelude::*;
use pongo_test_support::Random;

use crate::Outcome;

#[pongo::record]
#[pongo(table = "notes", key = "external")]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Note {
    #[pongo(index)]
    rank: u32,
    version: u32,
    pad: [u64; 40],
}

type Key = Vec<u8>;
type Map = BTreeMap<Key, Note>;

fn key(rng: &mut Random) -> Key {
    let number = rng.below(250);
    let len = [0, 1, 3, 40][number as usize % 4];
    format!("{number}").into_bytes().into_iter().cycle().take(len + usize::from(number > 3)).collect()
}

fn note(rng: &mut Random) -> Note {
    Note { rank: rng.below(30) as u32, version: rng.next() as u32, pad: [rng.next(); 40] }
}

fn check(table: &ExternalTableMut<'_, Note>, map: &Map, rng: &mut Random) -> Outcome {
    let pair = |(key, note): (&[u8], &Note)| (key.to_vec(), *note);
    let all: Vec<(Key, Note)> = map.iter().map(|(key, note)| (key.clone(), *note)).collect();
    assert_eq!(table.len()?, map.len() as u64);
    let looked: Vec<Key> = (0..6).map(|_| key(rng)).collect();
    for key in &looked {
        assert_eq!(table.get(key)?, map.get(key));
        assert_eq!(table.contains(key)?, map.contains_key(key));
    }
    let many = table.get_many(&looked)?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(many, looked.iter().map(|key| map.get(key)).collect::<Vec<_>>());
    let mut rows = table.rows()?.map(|item| item.map(pair)).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(rows, all);
    let rank = rng.below(30) as u32;
    let mut rows =
        table.filter(Note::RANK.lt(rank))?.map(|item| item.map(pair)).collect::<Result<Vec<_>, _>>()?;
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(rows, all.iter().filter(|(_, note)| note.rank < rank).cloned().collect::<Vec<_>>());
    let (a, b) = (key(rng), key(rng));
    let bounds = (Bound::Excluded(a.clone().min(b.clone())), Bound::Included(a.max(b)));
    let expected: Vec<_> = map.range(bounds.clone()).map(|(key, note)| (key.clone(), *note)).collect();
    let found = table.range(bounds.clone())?.map(|item| item.map(pair)).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(found, expected);
    let mut back =
        table.range(bounds.clone())?.rev().map(|item| item.map(pair)).collect::<Result<Vec<_>, _>>()?;
    back.reverse();
    assert_eq!(back, expected);
    assert_eq!(table.count(bounds)?, expected.len() as u64);
    let prefixed = table.prefix("1")?.map(|item| item.map(pair)).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(prefixed, all.iter().filter(|(key, _)| key.starts_with(b"1")).cloned().collect::<Vec<_>>());
    assert_eq!(table.first()?.map(pair), all.first().cloned());
    assert_eq!(table.last()?.map(pair), all.last().cloned());
    assert_eq!(
        table.by(Note::RANK)?.eq(rank)?.count(),
        map.values().filter(|note| note.rank == rank).count()
    );
    let first = table.by(Note::RANK)?.first()?.map(|(_, note)| note.rank);
    assert_eq!(first, map.values().map(|note| note.rank).min());
    Ok(())
}

fn change(table: &mut ExternalTableMut<'_, Note>, map: &mut Map, rng: &mut Random) -> Outcome {
    let (key, value) = (key(rng), note(rng));
    match rng.below(14) {
        0..3 => assert_eq!(table.put(&key, &value)?, map.insert(key, value).is_some()),
        3 => {
            let changed = table.update(&key, |note| note.rank = 29 - note.rank)?;
            assert_eq!(changed, map.get_mut(&key).map(|note| note.rank = 29 - note.rank));
        }
        4 => assert_eq!(table.delete(&key)?, map.remove(&key).is_some()),
        5 => {
            let pairs: Vec<_> = (0..rng.below(40)).map(|_| (self::key(rng), note(rng))).collect();
            table.extend(pairs.iter().map(|(key, note)| (key, note)))?;
            map.extend(pairs);
        }
        6 => {
            assert_eq!(table.pop_first()?, map.pop_first());
            assert_eq!(table.pop_last()?, map.pop_last());
        }
        7 => {
            let changed = table.modify(key.clone().., |note| note.version = 0)?;
            let expected = map.range_mut(key..).map(|(_, note)| note.version = 0).count();
            assert_eq!(changed, expected as u64);
        }
        8 => {
            let before = map.len();
            let deleted = table.retain(|key, note| key.len() == 1 || note.rank != value.rank)?;
            map.retain(|key, note| key.len() == 1 || note.rank != value.rank);
            assert_eq!(deleted, (before - map.len()) as u64);
        }
        9 => {
            let (first, rank) = (value.rank % 2 == 0, |note: &Note| note.rank);
            let by_rank = table.by_mut(Note::RANK);
            let (popped, expected) = if first {
                (by_rank.pop_first()?, map.values().map(rank).min())
            } else {
                (by_rank.pop_last()?, map.values().map(rank).max())
            };
            assert_eq!(popped.as_ref().map(|(_, note)| note.rank), expected);
            if let Some((key, note)) = popped {
                assert_eq!(map.remove(&key), Some(note));
            }
        }
        10 => {
            let changed = table.by_mut(Note::RANK).modify(25.., |note| note.rank = 0)?;
            let expected = map.values_mut().filter(|note| note.rank >= 25).map(|note| note.rank = 0).count();
            assert_eq!(changed, expected as u64);
        }
        11 => {
            let taken = table.by_mut(Note::RANK).extract_if(..3, |key, _| key.len() > 1)?;
            for item in taken {
                let (key, note) = item?;
                assert!(key.len() > 1 && note.rank < 3);
                assert_eq!(map.remove(&key), Some(note));
            }
            let before = map.len();
            let deleted = table.by_mut(Note::RANK).delete_range(..3)?;
            map.retain(|_, note| note.rank >= 3);
            assert_eq!(deleted, (before - map.len()) as u64);
        }
        12 => {
            let before = map.len();
            let deleted = table.retain_in(key.clone().., |_, note| note.rank % 3 > 0)?;
            map.retain(|other, note| *other < key || note.rank % 3 > 0);
            assert_eq!(deleted, (before - map.len()) as u64);
            let pairs = (0..3).map(|number| match number {
                2 => Err("the third one"),
                _ => Ok((format!("{number}"), value)),
            });
            let error = table.try_extend(pairs).map_err(|error| error.to_string());
            assert_eq!(error, Err("a row to be loaded could not be made: the third one".to_owned()));
            map.extend([(b"0".to_vec(), value), (b"1".to_vec(), value)]);
        }
        _ => {
            let taken = table.extract_if(key.clone().., |_, note| note.rank < 10)?.take(2);
            let taken = taken.collect::<Result<Vec<_>, _>>()?;
            let expected: Vec<_> = map.range(key..).filter(|(_, note)| note.rank < 10).take(2).collect();
            assert!(taken.iter().map(|(key, note)| (key, note)).eq(expected));
            map.retain(|key, _| !taken.iter().any(|(gone, _)| gone == key));
        }
    }
    Ok(())
}

#[test]
fn all_reads_of_external_keys() -> Outcome {
    let mut rng = Random::seeded("external_keys");
    let store = Options::new().transaction_memory(64 << 10).in_memory()?;
    let mut kept = Map::new();
    for _ in 0..60 {
        let mut tx = store.begin_write_with(Durability::Relaxed)?;
        let mut map = kept.clone();
        let mut points: Vec<(Savepoint, Map)> = Vec::new();
        for _ in 0..rng.below(25) {
            match rng.below(8) {
                0 => points.push((tx.savepoint()?, map.clone())),
                1 if !points.is_empty() => {
                    let back = rng.below(points.len() as u64) as usize;
                    points.truncate(back + 1);
                    tx.rollback_to(&points[back].0)?;
                    map = points[back].1.clone();
                }
                _ => change(&mut tx.external()?, &mut map, &mut rng)?,
            }
            check(&tx.external()?, &map, &mut rng)?;
        }
        if rng.below(4) > 0 {
            tx.commit()?;
            kept = map;
        }
    }
    assert!(store.verify(|_| {})?.is_valid());
    Ok(())
}
