//! Tests that the simulated disk allows the same outcomes as a real one; the crash tests depend on
//! that.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use pongo_core::storage::{File, Storage};
use pongo_sim::{CrashPolicy, Disk, Image, OpKind, Random};

/// Returns the distinct outcomes of many random power cuts, as texts.
fn outcomes(disk: &Disk, say: impl Fn(&Image) -> String) -> BTreeSet<String> {
    let mut random = Random(1);
    let mut draw = |_| {
        let leave = CrashPolicy::any(&mut random);
        say(&disk.image(&mut random, leave))
    };
    (0..600).map(&mut draw).collect()
}

fn names(image: &Image) -> String {
    image.files().map(|(path, bytes)| format!("{path}:{} ", bytes.first().unwrap_or(&0))).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn begin() -> (Disk, Arc<dyn Storage>) {
    let disk = Disk::new();
    let storage = disk.process().storage();
    (disk, storage)
}

fn synced(storage: &dyn Storage, path: &str, byte: u8) -> Arc<dyn File> {
    let file = storage.create(path).unwrap();
    file.write_at(&[byte; 1024], 0).unwrap();
    file.sync().unwrap();
    storage.sync_dir("").unwrap();
    file
}

#[test]
fn each_sector_has_any_version() {
    let (disk, storage) = begin();
    let file = synced(&*storage, "a", 1);
    file.write_at(&[2; 512], 0).unwrap();
    file.write_at(&[3; 1024], 0).unwrap();
    let say = |image: &Image| format!("{}{}", image.get("a").unwrap()[0], image.get("a").unwrap()[1023]);
    assert_eq!(outcomes(&disk, say), set(&["11", "13", "21", "23", "31", "33"]));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, say), set(&["33"]));
}

#[test]
fn words_have_all_their_versions() {
    let (disk, storage) = begin();
    let file = storage.create("a").unwrap();
    file.allocate(0, 4096).unwrap();
    file.sync().unwrap();
    storage.sync_dir("").unwrap();
    let words = file.map_words(0, 4096).unwrap();
    (1..=40).for_each(|value| words.store(5, value, Ordering::Relaxed));
    let found = outcomes(&disk, |image| image.get("a").unwrap()[40].to_string());
    assert_eq!(found, (0..=40).map(|value| value.to_string()).collect());
}

#[test]
fn name_may_precede_length_and_bytes() {
    let (disk, storage) = begin();
    let file = storage.create("a.new").unwrap();
    file.write_at(&[7; 600], 0).unwrap();
    storage.rename("a.new", "a").unwrap();
    storage.sync_dir("").unwrap();
    let say = |image: &Image| {
        let bytes = image.get("a").expect("the name was synced");
        format!("{} {:?}", bytes.len(), bytes.first())
    };
    assert_eq!(outcomes(&disk, say), set(&["0 None", "600 Some(0)", "600 Some(7)"]));
}

#[test]
fn rename_is_atomic() {
    let (disk, storage) = begin();
    synced(&*storage, "a", 1);
    synced(&*storage, "b", 2);
    storage.rename("a", "b").unwrap();
    assert_eq!(outcomes(&disk, names), set(&["a:1 b:2 ", "b:1 "]));
}

#[test]
fn only_chained_names_keep_their_order() {
    let (disk, storage) = begin();
    synced(&*storage, "a", 1);
    synced(&*storage, "b", 2);
    storage.remove("a").unwrap();
    storage.rename("b", "c").unwrap();
    // If the first change of a chain is lost, so is the next one; independent changes may survive.
    storage.rename("c", "d").unwrap();
    assert_eq!(outcomes(&disk, names), set(&["a:1 b:2 ", "a:1 c:2 ", "a:1 d:2 ", "b:2 ", "c:2 ", "d:2 "]));
}

#[test]
fn removed_file_may_return() {
    let (disk, storage) = begin();
    drop(synced(&*storage, "a", 1));
    storage.remove("a").unwrap();
    let file = storage.create("a").unwrap();
    file.write_at(&[2; 8], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, names), set(&["", "a:1 ", "a:2 "]));
}

#[test]
fn unsynced_folder_loses_its_content() {
    let (disk, storage) = begin();
    storage.create_dir("x").unwrap();
    let file = storage.create("x/a").unwrap();
    file.write_at(&[1; 8], 0).unwrap();
    file.sync().unwrap();
    storage.sync_dir("x").unwrap();
    assert_eq!(outcomes(&disk, names), set(&["", "x/a:1 "]));
    storage.sync_dir("").unwrap();
    assert_eq!(outcomes(&disk, names), set(&["x/a:1 "]));
}

#[test]
fn truncated_bytes_read_zero_after_growth() {
    let (disk, storage) = begin();
    let file = synced(&*storage, "a", 1);
    file.set_len(0).unwrap();
    file.set_len(1024).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk, names), set(&["a:0 "]));
}

#[test]
fn stores_into_holes_are_recorded() {
    let (disk, storage) = begin();
    let file = storage.create("a").unwrap();
    file.set_len(8192).unwrap();
    file.sync().unwrap();
    storage.sync_dir("").unwrap();
    file.allocate(4096, 4096).unwrap();
    let store = |storage: &dyn Storage| {
        storage.open("a").unwrap().map_words(0, 8192).unwrap().store(600, 1, Ordering::Relaxed);
    };
    let before = disk.image(&mut Random(1), CrashPolicy::Newest);
    file.sync().unwrap();
    let after = disk.image(&mut Random(1), CrashPolicy::Newest);
    store(&*storage);
    assert_eq!(disk.hole_stores(), []);
    for (image, holes) in [(before, vec![("a".to_owned(), 4800)]), (after, vec![])] {
        let disk = image.disk();
        store(&*disk.process().storage());
        assert_eq!(disk.hole_stores(), holes);
    }
}

#[test]
fn observer_sees_syncs_before_and_after() {
    let (disk, storage) = begin();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    disk.watch(move |moment| {
        let image = moment.image(&mut Random(1), CrashPolicy::Newest);
        tell.lock().unwrap().push((moment.kind(), moment.is_done(), names(&image)));
    });
    let file = storage.create("a").unwrap();
    file.write_at(&[1], 0).unwrap();
    file.sync().unwrap();
    disk.unwatch();
    storage.sync_dir("").unwrap();
    let expected = [
        (OpKind::Name, true, "a:0 ".to_owned()),
        (OpKind::Write, true, "a:1 ".to_owned()),
        (OpKind::Sync, false, "a:1 ".to_owned()),
        (OpKind::Sync, true, "a:1 ".to_owned()),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
    assert_eq!(outcomes(&disk, names), set(&["a:1 "]));
}

#[test]
fn image_can_be_used_repeatedly() {
    let (disk, storage) = begin();
    synced(&*storage, "a", 1);
    let mut image = disk.image(&mut Random(1), CrashPolicy::Oldest);
    let before = image.hash(|_| false);
    image.storage().open("a").unwrap().write_at(&[9], 0).unwrap();
    assert_eq!(image.get("a"), Some(&[1; 1024][..]));
    assert_eq!(Image::of(&*image.storage()).unwrap().hash(|_| false), before);
    assert_eq!(image.disk().image(&mut Random(1), CrashPolicy::Oldest).hash(|_| false), before);
    image.set("a", vec![2]);
    assert_ne!(image.hash(|_| false), before);
    image.remove("a");
    assert_eq!(image.files().count(), 0);
}
