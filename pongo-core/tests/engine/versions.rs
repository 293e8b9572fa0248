//! Stores with a format version other than the one that this library writes: a newer version is
//! refused with its number, an older one is upgraded only by a process that has the store open
//! alone. Fixtures test the content of older stores (`tests/format/` of `pongo`).

use pongo_core::engine::Durability;
use pongo_core::error::OpenError;
use pongo_sim::{Disk, Random};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::mutation_gaps::{open, put, try_open};

const PAGE: u64 = 4096;

/// Writes another version into slots of `super`, with valid checksums.
fn say(disk: &Disk, slots: impl IntoIterator<Item = u64>, version: u32) {
    let file = disk.inner().open("super").unwrap();
    for slot in slots {
        let mut page = [0; 80];
        file.read_at(&mut page, slot * PAGE).unwrap();
        page[12..16].copy_from_slice(&version.to_le_bytes());
        let sum = xxh3_64_with_seed(&page[..72], 0x504f_4e47_4f44_4201);
        page[72..].copy_from_slice(&sum.to_le_bytes());
        file.write_at(&page, slot * PAGE).unwrap();
    }
}

/// Returns the slot with the higher generation.
fn newest(disk: &Disk) -> u64 {
    let file = disk.inner().open("super").unwrap();
    let generation = |slot: u64| {
        let mut word = [0; 8];
        file.read_at(&mut word, slot * PAGE + 32).unwrap();
        u64::from_le_bytes(word)
    };
    u64::from(generation(1) > generation(0))
}

fn store() -> Disk {
    let disk = Disk::new();
    put(&open(&disk.process()), "table", 24, 0..10, false, Durability::Sync);
    disk
}

#[test]
fn newer_version_is_refused() {
    for slots in ["both", "newest"] {
        let disk = store();
        let version = 3;
        match slots {
            "both" => say(&disk, 0..2, version),
            _ => say(&disk, [newest(&disk)], version),
        }
        let error = try_open(&disk.process()).unwrap_err();
        assert!(matches!(error, OpenError::Version { expected: 2, found: 3, .. }), "{slots}: {error}");
        assert!(error.to_string().contains("format version 3"), "{error}");
        // The failed open changed nothing: with the version restored, all data is present.
        say(&disk, 0..2, 2);
        assert_eq!(open(&disk.process()).begin_read().unwrap().seq().0, 1);
    }
}

#[test]
fn unknown_version_is_refused() {
    let disk = store();
    say(&disk, 0..2, 0);
    let error = try_open(&disk.process()).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 0, .. }), "{error}");
}

/// The process that has the store open can read only entries of the version that it writes.
#[test]
fn older_store_in_use_stays_old() {
    let disk = store();
    let engine = open(&disk.process());
    say(&disk, 0..2, 1);
    let error = try_open(&disk.process()).unwrap_err();
    assert!(matches!(error, OpenError::OlderInUse { expected: 2, found: 1, .. }), "{error}");
    assert!(error.to_string().contains("close it there"), "{error}");
    // The same holds if `control` has another version, as that of a release with format version 1
    // has.
    let control = disk.inner().open("control").unwrap();
    let mut version = [0; 8];
    control.read_at(&mut version, 8).unwrap();
    control.write_at(&1_u64.to_le_bytes(), 8).unwrap();
    let error = try_open(&disk.process()).unwrap_err();
    assert!(matches!(error, OpenError::OlderInUse { expected: 2, found: 1, .. }), "{error}");
    control.write_at(&version, 8).unwrap();
    say(&disk, 0..2, 2);
    drop(engine);
    say(&disk, 0..2, 1);
    let engine = open(&disk.process());
    assert_eq!(engine.begin_read().unwrap().seq().0, 1);
    // Both slots are upgraded before another process joins: an older program must find no slot that
    // it would read.
    let mut pages = [0; 2 * PAGE as usize];
    disk.inner().open("super").unwrap().read_at(&mut pages, 0).unwrap();
    assert_eq!([12, PAGE as usize + 12].map(|at| pages[at]), [2, 2]);
    // The upgrade is durable.
    let after = disk.power_cycle(&mut Random(1));
    put(&open(&after.process()), "table", 24, 10..20, true, Durability::Sync);
}
