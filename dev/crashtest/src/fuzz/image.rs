//! The files of a store in memory, and the stores to which damage is applied.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use pongo::Options;
use pongo::prelude::*;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_sim::Random;

use crate::{Mix, Note, Seat, Stop, StoreModel, Transaction, options};

/// Files by path, and folders.
#[derive(Clone, Debug, Default)]
pub(crate) struct FuzzImage {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    folders: Vec<String>,
}

impl FuzzImage {
    /// Copies everything in a storage.
    fn of(storage: &dyn Storage) -> Self {
        let mut image = Self::default();
        image.take(storage, "");
        image
    }

    fn take(&mut self, storage: &dyn Storage, folder: &str) {
        for name in storage.list(folder).expect("the folder exists") {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match storage.open(&path) {
                Ok(file) => {
                    let mut bytes = vec![0; file.len().expect("a length") as usize];
                    file.read_at(&mut bytes, 0).expect("existing bytes");
                    self.files.insert(path, bytes);
                }
                Err(_) => {
                    self.folders.push(path.clone());
                    self.take(storage, &path);
                }
            }
        }
    }

    /// Creates a storage with these files. With `same_boot`, `control` contains the identity of
    /// this storage's page cache, so nothing counts as lost since it was written.
    pub(crate) fn load(mut self, same_boot: bool) -> Arc<dyn Storage> {
        let storage = MemoryStorage::new();
        if same_boot
            && let Some(identity) = storage.cache_identity()
            && let Some(words) = self.files.get_mut("control").and_then(|control| control.get_mut(128..160))
        {
            words.copy_from_slice(&identity);
        }
        for folder in &self.folders {
            storage.create_dir(folder).expect("a new folder");
        }
        for (path, bytes) in &self.files {
            let file = storage.create(path).expect("a new file");
            if !bytes.is_empty() {
                file.allocate(0, bytes.len() as u64).expect("memory");
                file.write_at(bytes, 0).expect("memory");
            }
        }
        Arc::new(storage)
    }
}

/// Returns the options of the stores here: without the background thread, so that an input has the
/// same effect each time. The number of rows kept per pass is small enough that ranges need several
/// passes, and large enough that they are fast.
pub(crate) fn quiet() -> Options {
    options().ordered_tuning(4, 8, 16, 500).ordered(false)
}

/// Performs generated transactions, the same for each seed.
fn work(store: &Store, world: &mut StoreModel, seed: u64, mix: Mix, transactions: u64) {
    let mut random = Random(seed);
    for _ in 0..transactions {
        let transaction = Transaction::arbitrary(world, &mut random, mix);
        transaction.apply(world, store).expect("nothing goes wrong");
        *world = transaction.after;
    }
}

fn base(number: usize) -> FuzzImage {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let store = quiet().open_on(Arc::clone(&storage)).expect("a new store");
    let mut world = StoreModel::default();
    match number {
        0 | 1 => work(&store, &mut world, 1, Mix::SMALL, 14),
        2 => {
            work(&store, &mut world, 2, Mix { load: 900, ..Mix::LARGE }, 6);
            // Close the store, so that zones are created: the first part of the rows is in a
            // checkpoint.
            store.close().expect("nothing goes wrong");
            let store = quiet().open_on(Arc::clone(&storage)).expect("a store");
            let snapshot = store.begin_read().expect("a store that is well");
            let stops = snapshot.table::<Stop>().expect("the table");
            let _ = stops.filter(Stop::VISITS.gt(3)).count();
            drop(snapshot);
            work(&store, &mut world, 3, Mix::SMALL, 3);
            return FuzzImage::of(&*storage);
        }
        _ => work(&store, &mut world, 4, Mix::SMALL, 1),
    }
    if number == 1 {
        store.close().expect("nothing goes wrong");
        return FuzzImage::of(&*storage);
    }
    let image = FuzzImage::of(&*storage);
    drop(store);
    image
}

/// Number of base stores: one whose process was killed, the same store closed, a larger one that
/// was closed and then used until its process was killed, and one with a single commit.
pub(crate) const BASES: usize = 4;

/// Returns a base store.
pub(crate) fn base_image(number: usize) -> &'static FuzzImage {
    static IMAGES: [OnceLock<FuzzImage>; BASES] = [const { OnceLock::new() }; BASES];
    IMAGES[number].get_or_init(|| base(number))
}

/// Returns a store in memory whose rows are never changed, and its expected content.
pub(crate) fn still_store() -> &'static (Store, StoreModel) {
    static STORE: OnceLock<(Store, StoreModel)> = OnceLock::new();
    STORE.get_or_init(|| {
        let store = options().in_memory().expect("a new store");
        let mut world = StoreModel::default();
        work(&store, &mut world, 5, Mix::SMALL, 30);
        let snapshot = store.begin_read().expect("a store that is well");
        assert!(snapshot.table::<Stop>().is_ok_and(|stops| !stops.is_empty()));
        assert!(snapshot.table::<Seat>().is_ok_and(|seats| !seats.is_empty()));
        assert!(snapshot.external::<Note>().is_ok_and(|notes| !notes.is_empty()));
        drop(snapshot);
        (store, world)
    })
}
