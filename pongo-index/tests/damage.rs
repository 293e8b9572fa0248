//! Corrupt files: no byte on disk causes a panic or an endless loop, at once or later. The tests
//! overwrite every word of every file, truncate or remove files, and call every operation.

mod support;

use std::sync::Arc;

use pongo_core::ids::RowId;
use pongo_core::storage::Storage;
use pongo_index::{HashError, HashIndex};
use pongo_test_support::Random;
use support::{DIR, IDENTITY, Rows, contents, mix, storage_of};

const KEYS: u64 = 9000;
const SAME: u64 = 4200;

/// Creates an index with a few segments, an overflow chain, free segments, and deleted and removed
/// entries.
fn sample() -> (Vec<(String, Vec<u8>)>, Rows) {
    let mut rows = Rows::of(0..KEYS + SAME);
    rows.same = (KEYS..KEYS + SAME).map(|key| (key, mix(5))).collect();
    let storage = storage_of(&Vec::new());
    let index = HashIndex::create(&storage, DIR, IDENTITY, 0).unwrap();
    for key in 0..KEYS + SAME {
        index.reserve(&[rows.hash_of(key)], &rows).unwrap();
        index.insert(rows.hash_of(key), RowId(key)).unwrap();
    }
    (0..KEYS).step_by(9).for_each(|key| assert!(index.set_deleted(mix(key), RowId(key)).unwrap()));
    (1..KEYS).step_by(9).for_each(|key| assert!(index.remove(mix(key), RowId(key)).unwrap()));
    // The last split leaves the segment that it replaced on the free list.
    let coming: Vec<u64> = (1 << 50..).map(mix).take(25_000).collect();
    index.reserve(&coming, &rows).unwrap();
    let stats = index.stats().unwrap();
    assert!(stats.overflow >= 1 && stats.free >= 1 && stats.removed > 0, "{stats:?}");
    (contents(&storage), rows)
}

/// Does look-ups in a damaged index: any result except a panic or a row with another key is valid.
fn look(index: &HashIndex, rows: &Rows, from: u64) {
    for i in 0..6 {
        let key = (from.wrapping_mul(31) + i * 1601) % (KEYS + SAME + 500);
        index.prefetch(rows.hash_of(key));
        if let Ok(Some(c)) = rows.try_find(index, key) {
            assert_eq!(rows.key(c.row), Some(key));
        }
    }
}

/// Calls every writer operation. Errors are allowed.
fn write(index: &HashIndex, rows: &Rows, random: &mut Random) {
    let base = random.below(1 << 40);
    let more: Vec<u64> = (base..base + 3000).map(mix).collect();
    let pairs: Vec<_> = more.iter().map(|&hash| (hash, RowId(1))).collect();
    if index.reserve(&more, rows).is_ok() {
        let _ = index.insert_bulk(&pairs);
    }
    for _ in 0..20 {
        let key = random.below(KEYS + SAME);
        let (hash, row) = (rows.hash_of(key), RowId(key));
        let _ = index.replace(hash, row, RowId(key + 1));
        let _ = index.set_deleted(hash, row);
        let _ = index.upsert_checked(hash, row, &mut |row| rows.key(row) == Some(key));
        let _ = index.remove(hash, row);
        let _ = index.reserve(&[hash], rows);
        let _ = index.insert(hash, row);
    }
    let _ = index.for_each(|_| {});
    let _ = index.stats();
    let _ = index.recover();
    let _ = index.reserve(&more, rows);
    let _ = index.sync(1);
    look(index, rows, base);
}

/// Returns replacements for a word: zero, all ones, two values close to the old one, and a random
/// one.
fn garbage(word: u64, random: &mut Random) -> [u64; 5] {
    [0, u64::MAX, word ^ 1 << random.below(64), word.wrapping_add(1 + random.below(9)), random.next()]
}

#[test]
fn readers_survive_any_word() {
    let (files, rows) = sample();
    let storage = storage_of(&files);
    let before = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
    let mut random = Random(1);
    let mut refused = 0;
    for (name, bytes) in &files {
        let file = storage.open(&format!("{DIR}/{name}")).unwrap();
        for at in (0..bytes.len()).step_by(8) {
            let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let values = garbage(word, &mut random);
            // There are many entries, so each is overwritten with one value only.
            let header = name == "head" || at % (4096 * 8) < 64;
            let picked = if header { &values[..] } else { &values[at / 8 % 5..][..1] };
            for value in picked {
                file.write_at(&value.to_le_bytes(), at as u64).unwrap();
                look(&before, &rows, at as u64 / 8);
                match HashIndex::open(&storage, DIR, IDENTITY) {
                    Ok(index) => look(&index, &rows, at as u64 / 8),
                    Err(_) => refused += 1,
                }
            }
            file.write_at(&bytes[at..at + 8], at as u64).unwrap();
        }
    }
    assert!(refused > 50, "{refused}");
    HashIndex::open(&storage, DIR, IDENTITY).unwrap().recover().unwrap();
}

#[test]
fn writers_survive_any_word() {
    let (files, rows) = sample();
    let mut random = Random(2);
    let mut tried = 0;
    for (name, bytes) in &files {
        for at in (0..bytes.len()).step_by(8) {
            let in_segment = at / 8 % 4096;
            let telling = match name.as_str() {
                "head" => at / 8 < 200,
                top if top.ends_with(".top") => at / 8 % 15 == 0,
                _ => in_segment < 8 && at / 8 / 4096 % 2 == 0 || in_segment % 2039 == 8,
            };
            if !telling {
                continue;
            }
            let word = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            for value in garbage(word, &mut random) {
                let storage = storage_of(&files);
                let before = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
                let file = storage.open(&format!("{DIR}/{name}")).unwrap();
                file.write_at(&value.to_le_bytes(), at as u64).unwrap();
                write(&before, &rows, &mut random);
                if let Ok(index) = HashIndex::open(&storage, DIR, IDENTITY) {
                    write(&index, &rows, &mut random);
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 1000);
}

#[test]
fn files_of_nothing_but_garbage() {
    let (files, rows) = sample();
    let mut random = Random(3);
    for round in 0..60 {
        let mut files = files.clone();
        for (name, bytes) in &mut files {
            // Some rounds keep the head's identity, so that the rest of the files is read.
            let from = if name == "head" && round % 2 == 0 { 64 + round / 2 % 4 * 512 } else { 0 };
            if name != "head" && round % 3 == 0 {
                continue;
            }
            for at in (from.min(bytes.len())..bytes.len()).step_by(8) {
                let sparse = round % 5 == 0 && random.below(20) != 0;
                if !sparse {
                    bytes[at..at + 8].copy_from_slice(&random.next().to_le_bytes());
                }
            }
        }
        let storage = storage_of(&files);
        if let Ok(index) = HashIndex::open(&storage, DIR, IDENTITY) {
            write(&index, &rows, &mut random);
        }
        // A rebuild fixes the index, whatever the files contained.
        let entries =
            (0..KEYS).map(|key| (mix(key), pongo_index::Candidate { row: RowId(key), deleted: false }));
        let index = HashIndex::rebuild(&storage, DIR, IDENTITY, KEYS, &rows, entries).unwrap();
        (0..KEYS).for_each(|key| assert!(rows.find(&index, key).is_some()));
        HashIndex::open(&storage, DIR, IDENTITY).unwrap();
    }
}

#[test]
fn short_and_missing_files_are_refused() {
    let (files, rows) = sample();
    let open = |files: &[(String, Vec<u8>)]| -> Result<(), HashError> {
        let storage: Arc<dyn Storage> = storage_of(files);
        let opened = HashIndex::open(&storage, DIR, IDENTITY).map(|_| ());
        let entries =
            (0..KEYS).map(|key| (mix(key), pongo_index::Candidate { row: RowId(key), deleted: false }));
        let index = HashIndex::rebuild(&storage, DIR, IDENTITY, 0, &rows, entries).unwrap();
        assert!(rows.find(&index, 1).is_some());
        opened
    };
    open(&files).unwrap();
    // Only `verify` reads the checksum.
    for i in (0..files.len()).filter(|&i| !files[i].0.ends_with("sum")) {
        let mut less = files.clone();
        less.remove(i);
        let error = open(&less).unwrap_err();
        assert!(matches!(error, HashError::Missing { .. } | HashError::Damaged { .. }), "{error}");
        for len in [0, 8, 4088, files[i].1.len() / 2, files[i].1.len() - 8] {
            let mut short = files.clone();
            short[i].1.truncate(len);
            let error = open(&short).unwrap_err();
            assert!(matches!(error, HashError::Missing { .. } | HashError::Damaged { .. }), "{error}");
        }
    }
}

#[test]
fn row_entry_contradiction_is_an_error() {
    let (files, _) = sample();
    let storage = storage_of(&files);
    let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
    let wrong = Rows::of((0..KEYS + SAME).map(|key| key + 1));
    let more: Vec<u64> = (0..90_000).map(|i| mix(1 << 50 | i)).collect();
    let error = index.reserve(&more, &wrong).unwrap_err();
    assert!(matches!(error, HashError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("has a key with hash"), "{error}");
}

/// Corrupts several words consistently: the first segment claims to cover half of the index, and
/// another one to be part of the last quarter, so that the last one seems to extend beyond the end.
#[test]
fn overlapping_segments_are_damage() {
    let rows = Rows::of(0..9000);
    let storage = storage_of(&Vec::new());
    let entries = (0..9000).map(|key| (mix(key), pongo_index::Candidate { row: RowId(key), deleted: false }));
    drop(HashIndex::rebuild(&storage, DIR, IDENTITY, 9000, &rows, entries).unwrap());
    let files = contents(&storage);
    // Four segments of depth 2, in pieces of 1, 1 and 2 segments, and a top of 9 bits.
    let set = |name: &str, word: u64, value: u64| {
        let file = storage.open(&format!("{DIR}/{name}")).unwrap();
        file.write_at(&value.to_le_bytes(), word * 8).unwrap();
    };
    let get = |name: &str, word: usize| {
        let bytes = &files.iter().find(|(known, _)| known == name).unwrap().1;
        u64::from_le_bytes(bytes[word * 8..][..8].try_into().unwrap())
    };
    let kind = get("1-0.piece", 0);
    assert_eq!((kind & 0xff, get("1-1.piece", 1), get("1-9.top", 384) & 0xff), (2, 1 << 62, 3));
    set("1-0.piece", 0, kind - 1);
    set("1-1.piece", 0, kind + 1);
    set("1-1.piece", 1, 3 << 62);
    set("1-9.top", 384, get("1-9.top", 128));
    let index = HashIndex::open(&storage, DIR, IDENTITY).unwrap();
    let more: Vec<u64> = (0..100).map(|i| mix(1 << 50 | i)).collect();
    let error = index.reserve(&more, &rows).unwrap_err();
    assert!(matches!(error, HashError::Damaged { .. }), "{error}");
}
