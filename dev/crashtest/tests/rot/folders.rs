//! The same damages to real files and maps, with ordered indexes in sled. These are fewer cases,
//! because each needs files and threads.

use std::path::{Path, PathBuf};

use pongo::prelude::*;
use pongo_core::storage::RealStorage;
use pongo_crashtest::{Change, Mix, StoreModel, Transaction, options};
use pongo_sim::Random;

use crate::bases::{Base, Left};
use crate::evidence::Evidence;
use crate::image::Image;

/// Opens a store in a folder of these tests.
#[allow(unsafe_code, reason = "the folder is the test's own")]
pub(crate) fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: only this test, and only through PongoDB, changes the folder while the store is open.
    unsafe { options().open(path) }
}

/// Creates a folder for a case: in memory if the system supports it, and occasionally on the disk.
pub(crate) fn place(number: u64) -> tempfile::TempDir {
    let quick = Path::new("/dev/shm");
    if quick.is_dir() && !number.is_multiple_of(64) {
        tempfile::tempdir_in(quick).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// Writes the files of an image.
pub(crate) fn lay_out(image: &Image, path: &Path) {
    std::fs::create_dir_all(path).unwrap();
    for folder in &image.folders {
        std::fs::create_dir_all(path.join(folder)).unwrap();
    }
    for (name, bytes) in &image.files {
        std::fs::write(path.join(name), &**bytes).unwrap();
    }
}

fn read(path: &Path, before: &Image) -> Image {
    Image::of(&RealStorage::open(path).unwrap(), before)
}

/// Creates stores in folders: a closed one, one whose system was restarted, and a different closed
/// one.
pub(crate) fn bases() -> Vec<Base> {
    vec![
        make("folder, closed", Left::Closed, 3),
        make("folder, power cut", Left::Cut, 4),
        make("folder, another", Left::Closed, 5),
    ]
}

fn make(name: &'static str, left: Left, seed: u64) -> Base {
    let place = place(1);
    let path: PathBuf = place.path().join("store");
    let (mut worlds, mut history) = (vec![StoreModel::default()], Vec::new());
    let mut random = Random(seed);
    for life in 0..3 {
        let store = open(&path).unwrap();
        for commit in 0..5 {
            let before = worlds.last().expect("never empty");
            let mix = Mix { stops: 20, changes: 4, load: 9, relaxed: 0 };
            let transaction = if commit == 0 {
                let load = Change::LoadStops { from: 30 + life * 20, rows: 16, visits: 3 };
                Transaction::of(before, vec![load], Durability::Sync)
            } else {
                Transaction::arbitrary(before, &mut random, mix)
            };
            transaction.apply(before, &store).unwrap();
            worlds.push(transaction.after);
        }
        // The ordered indexes are brought up to date: blocks in sled.
        store.catch_up_indexes().unwrap();
        let none = Image::default();
        let before = history.last().unwrap_or(&none);
        if life == 2 && left == Left::Cut {
            // The kernel has no pages of a copy in memory: exactly the content of the copy
            // survived.
            history.push(read(&path, before));
            store.close().unwrap();
        } else {
            store.close().unwrap();
            history.push(read(&path, before));
        }
    }
    let image = history.last().expect("three lives").clone();
    assert!(image.files.keys().any(|path| path.starts_with("ordered/sled/")), "{:?}", image.files.keys());
    let evidence = Evidence::of(&image);
    let newest = worlds.len() - 1;
    Base { name, left, image, worlds, newest, history, evidence }
}

/// Returns whether sled panicked: its panics are caught where it is called, and its data is
/// quarantined.
pub(crate) fn is_sleds(panic: &str) -> bool {
    panic.contains("/sled-0.")
}
