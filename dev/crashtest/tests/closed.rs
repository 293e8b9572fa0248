//! Hash indexes of cleanly closed stores: the checks that protect them when they are reused, since
//! no process compares them with the rows then.

use std::sync::Arc;

use pongo::Store;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_crashtest::{Mix, StoreModel, Transaction, look, options};
use pongo_sim::{Disk, Random};

/// Creates a store with some transactions. Returns it with its expected content.
fn filled(storage: Arc<dyn Storage>, seed: u64) -> (Store, StoreModel) {
    let store = options().open_on(storage).unwrap();
    let (mut world, mut random) = (StoreModel::default(), Random(seed));
    for _ in 0..15 {
        let transaction = Transaction::arbitrary(&world, &mut random, Mix::SMALL);
        transaction.apply(&world, &store).unwrap();
        world = transaction.after;
    }
    (store, world)
}

/// Returns the paths of the files below a folder.
fn files(storage: &dyn Storage, dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in storage.list(dir).unwrap() {
        let path = format!("{dir}/{name}");
        if storage.list(&path).is_ok() { found.extend(files(storage, &path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The power is cut after a store was closed. All of its indexes are on disk then: none is rebuilt,
/// which would show in the names of its files.
#[test]
fn indexes_survive_cut_after_close() {
    for seed in 0..16 {
        let disk = Disk::new();
        let process = disk.process();
        let (store, world) = filled(process.storage(), seed);
        store.close().unwrap();
        let before = files(&**disk.inner(), "hash");
        assert!(before.iter().any(|path| path.ends_with(".piece")), "{before:?}");
        let after = disk.power_cycle(&mut Random(seed));
        let store = options().open_on(after.process().storage()).unwrap();
        look(&store, &world).assert_ok();
        assert_eq!(files(&**after.inner(), "hash"), before, "seed {seed}");
    }
}

/// The indexes of two tables are exchanged, both undamaged: a store that used them would not find
/// its rows.
#[test]
fn swapped_indexes_are_rejected() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let (store, world) = filled(Arc::clone(&storage), 3);
    store.close().unwrap();
    let (mut swapped, names) = (0, storage.list("hash").unwrap());
    let [one, other, ..] = &names[..] else { panic!("{names:?}") };
    for name in ["head", "sum"]
        .into_iter()
        .map(str::to_owned)
        .chain(storage.list(&format!("hash/{one}")).unwrap().into_iter().filter(|name| name.contains('.')))
    {
        let (one, other) = (format!("hash/{one}/{name}"), format!("hash/{other}/{name}"));
        if storage.open(&one).is_ok() && storage.open(&other).is_ok() {
            storage.rename(&one, "aside").unwrap();
            storage.rename(&other, &one).unwrap();
            storage.rename("aside", &other).unwrap();
            swapped += 1;
        }
    }
    assert!(swapped >= 4, "{swapped} files of {names:?}: head, sum, a piece, a top");
    look(&options().open_on(storage).unwrap(), &world).assert_ok();
}

/// Some bits of a closed store's indexes flip: the indexes are rebuilt, or reading them returns an
/// error.
#[test]
fn indexes_that_rot_are_not_believed() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let (store, world) = filled(Arc::clone(&storage), 5);
    store.close().unwrap();
    let mut tried = 0;
    for path in files(&*storage, "hash") {
        let file = storage.open(&path).unwrap();
        let mut content = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut content, 0).unwrap();
        let used: Vec<usize> = (0..content.len()).filter(|&at| content[at] != 0).collect();
        for &at in used.iter().step_by(used.len() / 8 + 1) {
            let other: Arc<dyn Storage> = Arc::new(copy_of(&*storage));
            other.open(&path).unwrap().write_at(&[content[at] ^ 4], at as u64).unwrap();
            look(&options().open_on(other).unwrap(), &world).assert_no_wrong_answers();
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} bits");
}

fn copy_of(storage: &dyn Storage) -> MemoryStorage {
    fn copy(from: &dyn Storage, to: &MemoryStorage, dir: &str) {
        for name in from.list(dir).unwrap() {
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            if from.list(&path).is_ok() {
                to.create_dir(&path).unwrap();
                copy(from, to, &path);
            } else {
                let file = from.open(&path).unwrap();
                let mut content = vec![0; file.len().unwrap() as usize];
                file.read_at(&mut content, 0).unwrap();
                to.create(&path).unwrap().write_at(&content, 0).unwrap();
            }
        }
    }
    let to = MemoryStorage::new();
    copy(storage, &to, "");
    to
}
