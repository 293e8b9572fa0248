//! Stores that older releases wrote: each is opened, compared row by row, written to, closed and
//! opened again.
//!
//! `tests/fixtures/vN.NAME.zst` are whole folders, packed by [`write_fixtures`] at the last release
//! that wrote format version N. They are never written again: a release that changes the format
//! adds the fixtures of the previous version.

mod folders;

use std::path::{Path, PathBuf};

use pongo::prelude::*;
use pongo_test_support::packed::unpack;
use pongo_test_support::written::{FIRST, SECOND, Step, World, compare, options, perform};
use pongo_test_support::{Outcome, child};

fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    Ok(unsafe { options().open(path)? })
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{name}.zst"))
}

/// The format version of this release.
const WRITES: u32 = 2;

/// Writes the fixtures of this release's format. Run it at the last release that writes the format:
/// `cargo test --test format write_fixtures -- --ignored`.
#[test]
#[ignore = "run at the release that is the last to write a format"]
fn write_fixtures() -> Outcome {
    if let Some(role) = child::role() {
        let (how, path) = role.split_once(' ').ok_or("a role is two words")?;
        write(how, Path::new(path))?;
        // Exits like a killed process: nothing is dropped, so nothing is closed.
        std::process::exit(0);
    }
    let folder = tempfile::tempdir()?;
    for name in ["closed", "killed", "killed-early"] {
        let path = folder.path().join(name);
        let status = child::command("write_fixtures", &format!("{name} {}", path.display()))
            .arg("--ignored")
            .status()?;
        assert!(status.success());
        let packed = folders::pack(&folders::read(&path)?)?;
        println!("{name}: {} bytes", packed.len());
        std::fs::write(fixture(&format!("v{WRITES}.{name}")), packed)?;
    }
    Ok(())
}

/// Writes the store of a fixture, up to the end of its process.
fn write(how: &str, path: &Path) -> Outcome {
    let store = open(path)?;
    for (number, steps) in FIRST.iter().enumerate() {
        perform(&store, steps, if number == 2 { Durability::Relaxed } else { Durability::Sync })?;
    }
    if how == "killed-early" {
        // Never closed: the only checkpoint is the initial one.
        std::process::exit(0);
    }
    store.catch_up_indexes()?;
    store.close()?;
    if how == "killed" {
        let store = open(path)?;
        for (number, steps) in SECOND.iter().enumerate() {
            perform(&store, steps, if number == 3 { Durability::Relaxed } else { Durability::Sync })?;
        }
        std::process::exit(0);
    }
    Ok(())
}

/// The fixtures, and the transactions of each.
const FIXTURES: [(&str, &[&[&[Step]]]); 3] =
    [("v1.closed", &[FIRST]), ("v1.killed", &[FIRST, SECOND]), ("v1.killed-early", &[FIRST])];

/// Opens each fixture with its hash and ordered indexes and without them: every row is present, the
/// store can be written to, closed and opened again, and `verify` finds nothing.
#[test]
fn stores_of_older_formats_open() -> Outcome {
    for (name, done) in FIXTURES {
        let files = unpack(&std::fs::read(fixture(name))?)?;
        for (hash, ordered) in [(true, true), (false, true), (true, false), (false, false)] {
            let what = format!("{name}, hash {hash}, ordered {ordered}");
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("store");
            let mut files = files.clone();
            let is_in = |path: &str, folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
            files.retain(|path, _| (hash || !is_in(path, "hash")) && (ordered || !is_in(path, "ordered")));
            folders::lay_out(&files, &path)?;
            let mut world = World::after(&done.concat());
            let store = open(&path).map_err(|error| format!("{what}: {error}"))?;
            compare(&store, &world).map_err(|error| format!("{what}: {error}"))?;
            let report = store.verify(|_| ())?;
            assert!(report.is_valid(), "{what}: {report}");
            let more = [
                Step::PutTrips(0, 50, 9),
                Step::DeleteTrips(30, 60),
                Step::Load(4000, 6000, 9),
                Step::PutTile(1, 9),
                Step::PutNotes(0, 90, 9),
                Step::DeleteNotes(20, 40),
            ];
            perform(&store, &more, Durability::Sync)?;
            more.iter().for_each(|&step| world.apply(step));
            compare(&store, &world).map_err(|error| format!("{what}, written to: {error}"))?;
            store.close()?;
            let store = open(&path)?;
            compare(&store, &world).map_err(|error| format!("{what}, opened again: {error}"))?;
            let report = store.verify(|_| ())?;
            assert!(report.is_valid(), "{what}, opened again: {report}");
        }
    }
    Ok(())
}
