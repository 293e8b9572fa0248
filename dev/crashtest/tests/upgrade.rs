//! A process that has a store of an older format open alone upgrades it. Power is cut, or the
//! process is killed, at every operation of the upgrade: the result is a store of the old version
//! or of the new one, with every row.
//!
//! The stores are the fixtures of `tests/format/`. A failure names the operation and the draw;
//! `PONGO_SEED` selects other draws.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use pongo::prelude::*;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_crashtest::{is_volatile, seed, size};
use pongo_sim::{CrashPolicy, Disk, Image, Random};
use pongo_test_support::packed::unpack;
use pongo_test_support::written::{FIRST, SECOND, Step, World, compare, options, perform};

const PAGE: usize = 4096;

/// Loads a fixture onto a new disk. Ordered indexes are in memory there.
fn fixture(name: &str) -> Disk {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/fixtures/{name}.zst"));
    let files = unpack(&std::fs::read(path).unwrap()).unwrap();
    let storage = MemoryStorage::new();
    for (path, bytes) in files.iter().filter(|(path, _)| !path.starts_with("ordered")) {
        let Some(bytes) = bytes else {
            storage.create_dir(path).unwrap();
            continue;
        };
        let file = storage.create(path).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (page, content) in
            bytes.chunks(PAGE).enumerate().filter(|(_, content)| content.iter().any(|&b| b != 0))
        {
            file.write_at(content, (page * PAGE) as u64).unwrap();
        }
    }
    Image::of(&storage).unwrap().disk()
}

/// Returns the format version of each valid slot of `super`, the newer one first.
fn versions(image: &Image) -> Vec<u32> {
    let file = image.get("super").unwrap();
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let is_sealed = |page: usize| {
        let seed = 0x504f_4e47_4f44_4201;
        xxhash_rust::xxh3::xxh3_64_with_seed(&file[page..page + 72], seed) == word(page + 72)
    };
    let mut slots: Vec<usize> = [0, PAGE].into_iter().filter(|&page| is_sealed(page)).collect();
    slots.sort_by_key(|&page| std::cmp::Reverse(word(page + 32)));
    slots.into_iter().map(|page| (word(page + 8) >> 32) as u32).collect()
}

/// Opens an image and compares its content. `deep`: also verifies it, writes to it and opens it
/// again.
fn survives(image: &Image, world: &World, deep: bool) -> Result<(), String> {
    let disk = image.disk();
    let process = disk.process();
    let open =
        |storage: Arc<dyn Storage>| options().open_on(storage).map_err(|error| format!("opening: {error}"));
    let store = open(process.storage())?;
    compare(&store, world)?;
    let after = Image::of(&**disk.inner()).map_err(|error| error.to_string())?;
    if versions(&after) != [2, 2] {
        return Err(format!("open with slots of versions {:?}", versions(&after)));
    }
    if !deep {
        process.kill();
        return Ok(());
    }
    let report = store.verify(|_| ()).map_err(|error| error.to_string())?;
    if !report.is_valid() {
        return Err(report.to_string());
    }
    let more = [Step::PutTrips(0, 5, 9), Step::Load(8000, 9500, 9), Step::DeleteNotes(0, 90)];
    perform(&store, &more, Durability::Sync).map_err(|error| error.to_string())?;
    let mut world = world.clone();
    more.iter().for_each(|&step| world.apply(step));
    compare(&store, &world)?;
    store.close().map_err(|error| error.to_string())?;
    compare(&open(disk.process().storage())?, &world)
}

fn cut_upgrades(test: &str, name: &str, done: &[&[&[Step]]]) {
    let seed = seed(test, 21);
    let world = World::after(&done.concat());
    let disk = fixture(name);
    let tried = Arc::new(Mutex::new((HashSet::new(), [0u64; 3], Vec::new())));
    let at = Arc::clone(&tried);
    let expected = world.clone();
    disk.watch(move |moment| {
        // Tests every operation on `super` and the journal, and a sample of the others, most of
        // which store marks.
        let decides = ["super", "journal"].iter().any(|path| moment.path().starts_with(path));
        let mut some = Random(seed ^ moment.number());
        if is_volatile(moment.path()) || !(decides || some.below(16) < size()) {
            return;
        }
        for draw in 0..1 + u64::from(decides) * size() {
            let mut random = Random(seed ^ moment.number() << 8 ^ draw << 2 ^ u64::from(moment.is_done()));
            // The first draw has the result of a kill.
            let leave = if draw == 0 { CrashPolicy::Newest } else { CrashPolicy::any(&mut random) };
            let image = moment.image(&mut random, leave);
            let mut tried = at.lock().unwrap();
            if !tried.0.insert(image.hash(is_volatile)) {
                continue;
            }
            let newest = versions(&image)[0] as usize;
            tried.1[newest] += 1;
            let deep = random.one_in(16);
            if let Err(what) = survives(&image, &expected, deep) {
                tried.2.push(format!("{moment:?}, draw {draw}, {leave:?}: {what}"));
            }
        }
    });
    let process = disk.process();
    let store = options().open_on(process.storage()).unwrap();
    disk.unwatch();
    compare(&store, &world).unwrap();
    process.kill();
    drop(store);
    let (_, counts, failures) = std::mem::take(&mut *tried.lock().unwrap());
    println!("{test}: {} images of version 1, {} of version 2, seed {seed}", counts[1], counts[2]);
    assert!(failures.is_empty(), "{} failures: {:#?}", failures.len(), &failures[..failures.len().min(5)]);
    assert!(counts[1] > 3 && counts[2] > 1, "{counts:?}");
}

#[test]
fn cut_during_upgrade_of_closed_store() {
    cut_upgrades("cut_during_upgrade_of_closed_store", "v1.closed", &[FIRST]);
}

#[test]
fn cut_during_upgrade_of_killed_store() {
    cut_upgrades("cut_during_upgrade_of_killed_store", "v1.killed", &[FIRST, SECOND]);
}

#[test]
fn cut_during_upgrade_without_checkpoint() {
    cut_upgrades("cut_during_upgrade_without_checkpoint", "v1.killed-early", &[FIRST]);
}

/// Upgrades a store that then can be closed and opened again.
#[test]
fn an_upgrade_leaves_a_sound_store() {
    let disk = fixture("v1.closed");
    let store = options().open_on(disk.process().storage()).unwrap();
    store.close().unwrap();
    let store = options().open_on(disk.process().storage()).unwrap();
    compare(&store, &World::after(FIRST)).unwrap();
    drop(store);
    // A damaged index is not kept: after the upgrade, nothing would compare it with the checksum
    // written at the close.
    let disk = fixture("v1.closed");
    let file = disk.inner().open("hash/trips/1-0.piece").unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let at = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();
    let store = options().open_on(disk.process().storage()).unwrap();
    compare(&store, &World::after(FIRST)).unwrap();
    assert!(store.verify(|_| ()).unwrap().is_valid());
}
