//! Disks that are full or read-only, and files of another user. A child mounts the disks in a
//! separate mount namespace, so that they disappear with it. Where mounting is not allowed, the
//! tests print that and stop.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use pongo::prelude::*;
use pongo::{CommitError, OpenError, WriteError};
use pongo_test_support::{child, folder};

use crate::fixtures::{self, Guest, Outcome, Room, says};

/// Runs `test` in a process that may mount, in a folder where that process mounts a tmpfs.
fn with_a_disk(name: &str, test: impl FnOnce(&Path) -> Outcome) -> Outcome {
    if let Some(folder) = child::role() {
        mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs", &folder])?;
        return test(Path::new(&folder));
    }
    let folder = tempfile::tempdir()?;
    let role = folder.path().display().to_string();
    child::run_with_mounts(&format!("disk::{name}"), &role, &["-m", "-rm"])?;
    Ok(())
}

fn mount(arguments: &[&str]) -> Outcome {
    let output = Command::new("mount").args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("mount {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

/// Fills the disk except for `spare` bytes. Deleting the returned file frees the space.
fn fill(disk: &Path, spare: u64) -> Outcome<std::path::PathBuf> {
    let filler = disk.join("filler");
    let mut size = 0_u64;
    let mut step = 8 << 20;
    while step >= 4096 {
        let more = vec![0xee; step as usize];
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&filler)?;
        match std::os::unix::fs::FileExt::write_all_at(&file, &more, size) {
            Ok(()) => size += step,
            Err(_) => step /= 2,
        }
        file.set_len(size)?;
    }
    fs::OpenOptions::new().write(true).open(&filler)?.set_len(size.saturating_sub(spare) / 4096 * 4096)?;
    Ok(filler)
}

/// Asserts that an error reports a full disk: in its message, and in an [`std::io::Error`] among
/// its sources.
#[track_caller]
fn is_full<E: Error + 'static>(error: E) {
    let error = says(error, &["free some space"]);
    let mut source: Option<&dyn Error> = Some(&error);
    while let Some(at) = source {
        if let Some(io) = at.downcast_ref::<std::io::Error>()
            && io.kind() == ErrorKind::StorageFull
        {
            return;
        }
        source = at.source();
    }
    panic!("no source says that the disk is full: {error:?}");
}

#[test]
fn commits_on_a_full_disk() -> Outcome {
    with_a_disk("commits_on_a_full_disk", |disk| {
        let path = disk.join("full.pongo");
        let store = fixtures::build(&path)?;
        for (spare, rows) in [(0, 1), (256 << 10, 1), (0, 500), (512 << 10, 500), (1 << 20, 100)] {
            let filler = fill(disk, spare)?;
            let mut refused = false;
            let mut done = store.begin_read()?.table::<Guest>()?.len();
            // Without free space some commits may still fit into space that is already allocated.
            for _ in 0..100_000 {
                let tx = store.begin_write_with(Durability::Relaxed)?;
                let name = tx.text(&"x".repeat(300))?;
                let staged = (0..rows).try_for_each(|number| -> Result<(), WriteError> {
                    let number = 1_000_000 + done * rows + number;
                    tx.table::<Room>()?.insert(&Room::new(number, 0.0, name))
                });
                staged?;
                let guest = FixedStr::try_from(format!("guest {done}").as_str())?;
                tx.table::<Guest>()?.insert(&Guest { name: guest, room: done })?;
                match tx.commit() {
                    Ok(_) => done += 1,
                    Err(error) => {
                        assert!(matches!(error, CommitError::Refused(_)), "{error:?}");
                        is_full(error);
                        refused = true;
                        break;
                    }
                }
            }
            assert!(refused, "the disk did not get full");
            // Reading still works; the acknowledged commits are present, the rejected one is not.
            assert_eq!(store.begin_read()?.table::<Guest>()?.len(), done);
            assert!(!store.begin_read()?.table::<Room>()?.contains(1_000_000 + done * rows)?);
            fs::remove_file(filler)?;
            // With free space, writing works again. The loaded rows are deleted, so that the disk
            // stays large enough.
            let tx = store.begin_write()?;
            let mut rooms = tx.table::<Room>()?;
            let numbers: Vec<u64> = store
                .begin_read()?
                .table::<Room>()?
                .rows()
                .filter_map(|room| room.map(|room| room.number).ok())
                .filter(|number| *number >= 1_000_000)
                .collect();
            for number in numbers {
                assert!(rooms.delete(number)?);
            }
            drop(rooms);
            tx.commit()?;
            let guests = store.begin_read()?.table::<Guest>()?.len();
            assert_eq!(guests, done);
        }
        drop(store);
        fixtures::assert_whole(&fixtures::open(&path)?);
        Ok(())
    })
}

#[test]
fn bulk_load_on_full_disk() -> Outcome {
    with_a_disk("bulk_load_on_full_disk", |disk| {
        let path = disk.join("full.pongo");
        let store = fixtures::build(&path)?;
        let load = || (0..400_000).map(|number| Room::new(1_000_000 + number, 0.0, Text::EMPTY));
        for spare in [0, 100 << 10, 1 << 20, 9 << 20, 17 << 20] {
            let filler = fill(disk, spare)?;
            let tx = store.begin_write()?;
            let loaded = tx.table::<Room>()?.extend(load());
            match loaded {
                Err(error) => is_full(error),
                Ok(_) => is_full(tx.commit().expect_err("the disk has no space for it")),
            }
            fixtures::assert_whole(&store);
            fs::remove_file(filler)?;
        }
        // With free space, the same load succeeds.
        let tx = store.begin_write()?;
        assert_eq!(tx.table::<Room>()?.extend(load())?, 400_000);
        tx.commit()?;
        drop(store);
        let store = fixtures::open(&path)?;
        let snapshot = store.begin_read()?;
        let rooms = snapshot.table::<Room>()?;
        assert_eq!(rooms.len(), 400_000 + fixtures::rooms_after(&fixtures::history()).len() as u64);
        assert!(rooms.contains(1_399_999)?);
        Ok(())
    })
}

/// Allocates many rooms, fills the disk, and then fills the rooms. Returns whether there was space
/// for them.
fn fill_rooms(rooms: &mut TableMut<'_, Room>, disk: &Path) -> Outcome<bool> {
    let mut rows = match rooms.alloc_slice(100_000) {
        Ok(rows) => rows,
        Err(error) => {
            is_full(error);
            return Ok(false);
        }
    };
    fill(disk, 0)?;
    for (number, row) in (1_000_000..).zip(rows.iter_mut()) {
        *row = Room::new(number, 0.0, Text::EMPTY);
    }
    rows.insert()?;
    Ok(true)
}

/// Rows that are filled in place: without free space their allocation is rejected. Rows that were
/// allocated can be written to, however full the disk becomes.
#[test]
fn filling_in_place_on_full_disk() -> Outcome {
    with_a_disk("filling_in_place_on_full_disk", |disk| {
        let path = disk.join("full.pongo");
        let store = fixtures::build(&path)?;
        let mut filled = 0;
        for spare in [0, 100 << 10, 1 << 20, 9 << 20, 17 << 20] {
            let lower = disk.join("lower");
            fs::rename(fill(disk, spare)?, &lower)?;
            let tx = store.begin_write()?;
            let mut rooms = tx.table::<Room>()?;
            let is_filled = fill_rooms(&mut rooms, disk)?;
            filled += u32::from(is_filled);
            if is_filled {
                assert!(rooms.contains(1_099_999)?);
                // There is no space for index, journal and marks.
                drop(rooms);
                is_full(tx.commit().expect_err("the disk has no space for it"));
            }
            fs::remove_file(lower)?;
            let _ = fs::remove_file(disk.join("filler"));
            fixtures::assert_whole(&store);
        }
        assert!((1..5).contains(&filled), "filled {filled} times of 5");
        let tx = store.begin_write()?;
        let mut rooms = tx.table::<Room>()?;
        let mut rows = rooms.alloc_slice(100_000)?;
        for (number, row) in (1_000_000..).zip(rows.iter_mut()) {
            assert_eq!((row.number, row.area), (0, 0.0), "what was refused before shines through");
            *row = Room::new(number, 0.5, Text::EMPTY);
        }
        drop(rows);
        drop(rooms);
        tx.commit()?;
        drop(store);
        let store = fixtures::open(&path)?;
        assert_eq!(store.begin_read()?.table::<Room>()?.get(1_099_999)?.map(|room| room.area), Some(0.5));
        Ok(())
    })
}

#[pongo::record]
#[pongo(table = "late")]
struct Late {
    #[pongo(key)]
    id: u64,
}

#[test]
fn creating_table_on_full_disk() -> Outcome {
    with_a_disk("creating_table_on_full_disk", |disk| {
        let path = disk.join("full.pongo");
        let store = fixtures::build(&path)?;
        let mut refused = 0;
        // With a little more space each time, until it is enough.
        for spare in (0..).step_by(8 << 10) {
            let filler = fill(disk, spare)?;
            let tx = store.begin_write()?;
            let error = match tx.table::<Late>().and_then(|mut late| late.put(&Late { id: 1 })) {
                Err(error) => CommitError::Refused(error),
                Ok(_) => match tx.commit() {
                    Err(error) => error,
                    Ok(_) => break,
                },
            };
            is_full(error);
            refused += 1;
            assert!(store.begin_read()?.table::<Late>()?.is_empty());
            fixtures::assert_whole(&store);
            fs::remove_file(filler)?;
        }
        assert!(refused > 3, "a table was made with hardly any space");
        drop(store);
        let store = fixtures::open(&path)?;
        fixtures::assert_whole(&store);
        assert!(store.begin_read()?.table::<Late>()?.contains(1)?);
        Ok(())
    })
}

#[test]
fn opening_on_a_full_disk() -> Outcome {
    with_a_disk("opening_on_a_full_disk", |disk| {
        // Create a new store, with more and more space.
        let path = disk.join("new.pongo");
        let mut refused = 0;
        for spare in (0..2_000).step_by(100) {
            let filler = fill(disk, spare << 10)?;
            let opened = fixtures::open(&path);
            fs::remove_file(filler)?;
            match opened {
                Err(error) => {
                    refused += 1;
                    is_full(error);
                }
                Ok(_) => break,
            }
        }
        assert!(refused > 1, "nothing was refused");
        fixtures::open(&path)?.close()?;
        // Open an existing store that was closed, and one that was not.
        let made = disk.join("made.pongo");
        let store = fixtures::build(&made)?;
        folder::copy(&made, &disk.join("cut.pongo"))?;
        store.close()?;
        for name in ["made.pongo", "cut.pongo"] {
            let path = disk.join(name);
            let filler = fill(disk, 0)?;
            match fixtures::open(&path) {
                Ok(store) => {
                    fixtures::assert_whole(&store);
                    drop(store);
                }
                Err(error) => is_full(error),
            }
            fs::remove_file(filler)?;
            fixtures::assert_whole(&fixtures::open(&path)?);
        }
        Ok(())
    })
}

#[test]
fn a_read_only_disk() -> Outcome {
    with_a_disk("a_read_only_disk", |disk| {
        let path = disk.join("kept.pongo");
        fixtures::build(&path)?.close()?;
        let at = disk.display().to_string();
        mount(&["-o", "remount,ro", &at])?;
        for path in [path.clone(), disk.join("new.pongo")] {
            let name = path.display().to_string();
            let error = says(fixtures::open(&path).unwrap_err(), &[&name, "read-only", "remount"]);
            assert!(matches!(error, OpenError::Folder { .. } | OpenError::Storage(_)), "{error:?}");
        }
        mount(&["-o", "remount,rw", &at])?;
        fixtures::assert_whole(&fixtures::open(&path)?);
        Ok(())
    })
}

#[test]
fn files_of_another_user() -> Outcome {
    const NAME: &str = "files_of_another_user";
    if let Some(path) = child::role() {
        let error = says(fixtures::open(Path::new(&path)).unwrap_err(), &[&path, "write permission"]);
        assert!(matches!(error, OpenError::Folder { .. } | OpenError::Storage(_)), "{error:?}");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("mine.pongo");
    fixtures::build(&made)?.close()?;
    // Other users may list the folder and nothing more. The test binary is copied to where they can
    // start it.
    let everyone =
        |path: &Path, mode| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode));
    everyone(folder.path(), 0o755)?;
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    everyone(&program, 0o755)?;
    for path in [made.clone(), folder.path().join("new.pongo")] {
        let inner = child::command(&format!("disk::{NAME}"), &path.display().to_string());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.arg(&program).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !said.contains("running 1 test") {
            println!("{NAME}: skipped, since `setpriv` cannot start a program as another user here");
            return Ok(());
        }
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    fixtures::assert_whole(&fixtures::open(&made)?);
    Ok(())
}
