//! Damaged, foreign, old and locked sled folders: every operation returns an error or the exact
//! rows, and none panics.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pongo_index::ordered::{
    Edge, IndexId, KeyExtractor, OrderedError, OrderedStore, SledBlocks, StoreError, identity, quarantine,
};

mod ordered;

use ordered::{Model, Rows, Shape, all, check, grow, merge, model_of};
use pongo_test_support::Random;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn read_files(folder: &Path, below: &Path, into: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            read_files(&entry.path(), &name, into);
        } else {
            into.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

fn files(folder: &Path) -> Files {
    let mut files = Files::new();
    read_files(folder, Path::new(""), &mut files);
    files
}

fn lay_out(files: &Files, folder: &Path) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn open(folder: &Path) -> Result<OrderedStore, OrderedError> {
    OrderedStore::open(Box::new(SledBlocks::open(folder)?))
}

/// The state after each of several merges.
struct History {
    rows: Rows,
    /// The models, by the row of the watermark.
    models: BTreeMap<u64, Model>,
    files: Vec<Files>,
}

fn history(random: &mut Random) -> History {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = Rows::default();
    let mut model = Model::new();
    let mut history = History { rows: Rows::default(), models: BTreeMap::new(), files: Vec::new() };
    for round in 1..=3 {
        let run = grow(random, Shape::Random16, &mut rows, 4000);
        model.append(&mut model_of(&run));
        let store = open(folder.path()).unwrap();
        merge(&store, 1, round, &run, &rows).unwrap();
        store.close().unwrap();
        history.models.insert(round, model.clone());
        history.files.push(files(folder.path()));
    }
    history.rows = rows;
    history
}

/// Opens the store, reads, merges and reads again. Each step may fail; results of a successful step
/// must be correct.
fn survives(folder: &Path, history: &History, random: &mut Random) -> Result<bool, OrderedError> {
    let store = open(folder)?;
    let result = (|| {
        let Some(sorted) = store.index(IndexId(1))? else { return Ok(false) };
        let model = &history.models[&sorted.watermark().row];
        let rows = all(&sorted, &history.rows, random.below(2) == 0, random)?;
        assert_eq!(rows.len(), model.len());
        check(&sorted, model, &history.rows, 5, random);
        let mut rows = history.rows.clone();
        let more = grow(random, Shape::Random16, &mut rows, 500);
        let mut both = model.clone();
        both.append(&mut model_of(&more));
        check(&merge(&store, 1, 99, &more, &rows)?, &both, &rows, 5, random);
        Ok(true)
    })();
    let _ = store.close();
    result
}

#[test]
fn flipped_bits_and_cut_files() {
    let mut random = Random::seeded("flipped_bits_and_cut_files");
    let history = history(&mut random);
    let newest = history.files.last().unwrap();
    let (mut refused, mut lost, mut whole) = (0, 0, 0);
    for trial in 0..60 {
        let mut files = newest.clone();
        let names: Vec<PathBuf> = files.keys().cloned().collect();
        // Mostly `db`, which contains all data.
        let name = match random.below(4) {
            0 => &names[random.below(names.len() as u64) as usize],
            _ => Path::new("db"),
        };
        let bytes = files.get_mut(name).unwrap();
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1) as u64;
        let what = match random.below(4) {
            _ if end == 0 => "nothing".to_owned(),
            0 => {
                let len = random.below(end);
                bytes.truncate(len as usize);
                format!("cut to {len}")
            }
            1 => {
                let (at, len) = (random.below(end) as usize, 1 + random.below(5000) as usize);
                let upto = bytes.len().min(at + len);
                bytes[at..upto].fill(0);
                format!("zeros from {at} to {upto}")
            }
            _ => {
                let flips: Vec<u64> = (0..1 + random.below(3)).map(|_| random.below(end)).collect();
                for &at in &flips {
                    bytes[at as usize] ^= 1 << random.below(8);
                }
                format!("flips at {flips:?}")
            }
        };
        println!("{trial}: {}: {what}", name.display());
        let folder = tempfile::tempdir().unwrap();
        lay_out(&files, folder.path());
        match survives(folder.path(), &history, &mut random) {
            Ok(true) => whole += 1,
            Ok(false) => lost += 1,
            Err(error) => {
                println!("    {error}");
                refused += 1;
            }
        }
        // Whatever the damage, the folder can be quarantined and a new one created.
        let path = folder.path().join("store");
        fs::create_dir(&path).unwrap();
        lay_out(&files, &path);
        quarantine(&path, identity(&path)).unwrap();
        assert!(!path.exists() && folder.path().join("store.aside").exists());
    }
    println!("{refused} errors, {lost} times no index, {whole} times all of it");
    assert!(refused > 0);
}

#[test]
fn old_and_foreign_copies_are_distinct() {
    let mut random = Random::seeded("an_older_copy");
    let history = history(&mut random);
    for (round, files) in (1..).zip(&history.files) {
        let folder = tempfile::tempdir().unwrap();
        lay_out(files, folder.path());
        let store = open(folder.path()).unwrap();
        let sorted = store.index(IndexId(1)).unwrap().unwrap();
        assert_eq!(sorted.watermark().row, round);
        check(&sorted, &history.models[&round], &history.rows, 5, &mut random);
    }
    // One file is replaced by an older version.
    for name in history.files[2].keys() {
        let mut mixed = history.files[2].clone();
        if let Some(bytes) = history.files[0].get(name) {
            mixed.insert(name.clone(), bytes.clone());
        }
        let folder = tempfile::tempdir().unwrap();
        lay_out(&mixed, folder.path());
        if let Err(error) = survives(folder.path(), &history, &mut random) {
            println!("{}: {error}", name.display());
        }
    }
}

#[test]
fn missing_rows_are_errors_when_read() {
    struct NoRows;
    impl KeyExtractor for NoRows {
        fn key(
            &self,
            _: pongo_core::ids::RowId,
            _: &mut Vec<u8>,
        ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            Err("there is no such row".into())
        }
    }
    let mut random = Random::seeded("rows_that_another_store_has");
    let folder = tempfile::tempdir().unwrap();
    let mut rows = Rows::default();
    let run = grow(&mut random, Shape::Updates, &mut rows, 5000);
    let store = open(folder.path()).unwrap();
    let sorted = merge(&store, 1, 1, &run, &rows).unwrap();
    let (key, _) = run.get(2500);
    let mut asked = 0;
    for edge in [Edge::Before(key), Edge::After(key)] {
        match sorted.forward(edge, &NoRows) {
            Err(OrderedError::Keys { .. }) => asked += 1,
            other => drop(other.unwrap()),
        }
    }
    assert_eq!(asked, 2);
    assert!(sorted.verify(&NoRows, &mut |_| {}).is_err());
    assert!(sorted.verify(&rows, &mut |_| {}).is_ok());
}

#[test]
fn locked_folder_is_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let first = SledBlocks::open(folder.path()).unwrap();
    assert!(matches!(SledBlocks::open(folder.path()), Err(StoreError::Locked { .. })));
    drop(first);
    // A folder can be opened again immediately after it was closed.
    for _ in 0..10 {
        drop(SledBlocks::open(folder.path()).unwrap());
    }
    fs::write(folder.path().join("conf"), b"not what sled wrote").unwrap();
    assert!(matches!(
        SledBlocks::open(folder.path()),
        Err(StoreError::Damaged { .. } | StoreError::Io { .. })
    ));
}

#[test]
fn setting_aside_keeps_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ordered");
    assert_eq!(quarantine(&path, identity(&path)).unwrap(), None);
    for content in [b"1", b"2"] {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("db"), content).unwrap();
        let aside = quarantine(&path, identity(&path)).unwrap().unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(aside.join("db")).unwrap(), content);
    }
    // Another process has already quarantined the folder and created a new one.
    fs::create_dir(&path).unwrap();
    fs::write(path.join("db"), b"3").unwrap();
    let found = identity(&path);
    fs::rename(&path, folder.path().join("kept")).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("db"), b"4").unwrap();
    assert_eq!(quarantine(&path, found).unwrap(), None);
    assert_eq!(quarantine(&path, None).unwrap(), None);
    assert_eq!(fs::read(path.join("db")).unwrap(), b"4");
}
