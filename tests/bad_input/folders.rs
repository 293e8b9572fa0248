//! Folders that are not a store, or not a store for this program: they are rejected and left
//! unchanged.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use pongo::prelude::*;
use pongo::{OpenError, StorageError};
use pongo_test_support::folder;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::fixtures::{self, Outcome, says};

/// Returns the contents of all files of a folder, to check that nothing was changed.
fn all_bytes(folder: &Path) -> Outcome<Vec<(String, Vec<u8>)>> {
    let read = |file: String| Ok((file.clone(), fs::read(folder.join(file))?));
    // `control` holds the locks. It is volatile, and every process that opens the folder creates
    // it.
    fixtures::files(folder)?.into_iter().filter(|file| file != "control").map(read).collect()
}

/// Opens a folder that must be rejected, and checks that the folder is unchanged.
#[track_caller]
fn refused(path: &Path) -> Outcome<OpenError> {
    let before = all_bytes(path)?;
    let error = fixtures::open(path).expect_err("it is no store");
    assert!(all_bytes(path)? == before, "the folder was changed");
    Ok(error)
}

/// Changes a field in both slots of `super` and updates their checksums (docs/FORMAT.md).
fn forge(path: &Path, at: usize, field: [u8; 4]) -> Outcome {
    let file = path.join("super");
    let mut bytes = fs::read(&file)?;
    for slot in bytes.chunks_mut(4096) {
        slot[at..at + 4].copy_from_slice(&field);
        let sum = xxh3_64_with_seed(&slot[..72], 0x504f_4e47_4f44_4201);
        slot[72..80].copy_from_slice(&sum.to_le_bytes());
    }
    Ok(fs::write(file, bytes)?)
}

fn closed_store(path: &Path) -> Outcome {
    Ok(fixtures::build(path)?.close()?)
}

#[test]
fn a_store_of_another_version() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("newer.pongo");
    closed_store(&path)?;
    for version in [3_u32, 0, 77] {
        forge(&path, 12, version.to_le_bytes())?;
        let error = refused(&path)?;
        let found = format!("version {version}");
        let error = says(error, &["newer.pongo", &found, "versions up to 2", "wrote it"]);
        assert!(
            matches!(error, OpenError::Version { expected: 2, found, .. } if found == version),
            "{error:?}"
        );
    }
    // No data was lost: with the right version everything is present.
    forge(&path, 12, 2_u32.to_le_bytes())?;
    fixtures::assert_whole(&fixtures::open(&path)?);
    Ok(())
}

#[test]
fn a_store_of_another_byte_order() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("big.pongo");
    closed_store(&path)?;
    forge(&path, 8, 0x0102_0304_u32.to_be_bytes())?;
    let error = says(refused(&path)?, &["big.pongo", "big-endian", "little-endian", "exporting"]);
    assert!(
        matches!(error, OpenError::ByteOrder { expected: "little-endian", found: "big-endian", .. }),
        "{error:?}"
    );
    forge(&path, 8, 0x0102_0304_u32.to_le_bytes())?;
    fixtures::assert_whole(&fixtures::open(&path)?);
    Ok(())
}

#[test]
fn a_super_file_of_something_else() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sqlite.pongo");
    fs::create_dir(&path)?;
    fs::write(path.join("super"), b"SQLite format 3\0".repeat(600))?;
    let error =
        says(refused(&path)?, &["sqlite.pongo", "not a PongoDB store", "`SQLite f`", "another folder"]);
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    // The magic number of PongoDB, followed by other bytes.
    let mut bytes = b"PONGODB\n".to_vec();
    bytes.resize(8192, 0xa5);
    fs::write(path.join("super"), bytes)?;
    let error = says(refused(&path)?, &["super", "checksum", "backup"]);
    assert!(matches!(error, OpenError::Storage(StorageError::Corrupt(_))), "{error:?}");
    Ok(())
}

#[test]
fn folder_with_foreign_files() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("photos");
    fs::create_dir(&path)?;
    fs::write(path.join("cat.jpg"), b"\xff\xd8\xff")?;
    let error = says(refused(&path)?, &["photos", "not a PongoDB store", "cat.jpg", "another folder"]);
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    assert_eq!(fixtures::files(&path)?, ["cat.jpg"], "something was made beside the photo");
    // A foreign file beside a store's own files is allowed and left unchanged.
    let path = folder.path().join("store.pongo");
    closed_store(&path)?;
    fs::write(path.join("NOTES.txt"), b"mine")?;
    fixtures::assert_whole(&fixtures::open(&path)?);
    assert_eq!(fs::read(path.join("NOTES.txt"))?, b"mine");
    Ok(())
}

#[test]
fn file_of_another_store() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (one, two) = (folder.path().join("one.pongo"), folder.path().join("two.pongo"));
    closed_store(&one)?;
    closed_store(&two)?;
    for (file, rebuilt) in [
        ("tables/rooms/0.chunk", false),
        ("tables/rooms/0.marks", false),
        ("heap/1.chunk", false),
        ("journal/1.log", false),
        ("hash/rooms/head", true),
        ("control", true),
    ] {
        let mixed = folder.path().join("mixed.pongo");
        folder::copy(&one, &mixed)?;
        // The name of the journal's newest segment varies.
        let file = if file.starts_with("journal") {
            let files = fixtures::files(&mixed)?;
            files.into_iter().rfind(|file| file.ends_with(".log")).ok_or("a store has a journal")?
        } else {
            file.to_owned()
        };
        fs::copy(two.join(&file), mixed.join(&file))?;
        match fixtures::open(&mixed) {
            Ok(store) => {
                let read = || -> Outcome {
                    let snapshot = store.begin_read()?;
                    let contents = fixtures::read(&snapshot)?;
                    assert_eq!(fixtures::missed(&snapshot, &contents)?, []);
                    Ok(())
                };
                match read() {
                    Ok(()) => {
                        assert!(rebuilt, "{file} of another store was taken for one's own");
                        fixtures::assert_whole(&store);
                    }
                    Err(error) => {
                        let message = error.to_string();
                        let stem = file.rsplit_once('.').map_or("hash/rooms", |(stem, _)| stem);
                        assert!(message.contains(stem), "{file}: {message}");
                    }
                }
            }
            Err(error) => {
                let stem = file.rsplit_once('.').map_or(file.as_str(), |(stem, _)| stem);
                says(error, &[stem, "damaged", "backup"]);
            }
        }
        fs::remove_dir_all(&mixed)?;
    }
    Ok(())
}

#[test]
fn a_path_that_is_no_folder() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("a-file");
    fs::write(&file, b"text")?;
    let error = says(fixtures::open(&file).unwrap_err(), &["a-file", "a store is a folder"]);
    assert!(
        matches!(&error, OpenError::Folder { source, .. } if source.kind() == ErrorKind::NotADirectory),
        "{error:?}"
    );
    assert_eq!(fs::read(&file)?, b"text");

    let orphan = folder.path().join("missing").join("store.pongo");
    let error =
        says(fixtures::open(&orphan).unwrap_err(), &["missing/store.pongo", "`Options::create_all(true)`"]);
    assert!(
        matches!(&error, OpenError::Folder { source, .. } if source.kind() == ErrorKind::NotFound),
        "{error:?}"
    );
    assert!(!folder.path().join("missing").exists());

    // A path below a file.
    let error = says(fixtures::open(&file.join("store.pongo")).unwrap_err(), &["a-file/store.pongo"]);
    assert!(matches!(error, OpenError::Folder { .. }), "{error:?}");
    Ok(())
}

#[test]
fn create_all_creates_parent_folders() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (file, path) = (folder.path().join("a-file"), folder.path().join("one/two/../two/store.pongo"));
    fs::write(&file, b"text")?;
    let open = |options: Options, path: &Path| {
        // SAFETY: only this test uses the folder.
        #[allow(unsafe_code)]
        unsafe {
            options.open(path)
        }
    };
    // A store that must exist is not created, nor are its parent folders.
    let strict = Options::new().create_all(true).create_if_missing(false);
    says(open(strict, &path).unwrap_err(), &["one/two/../two/store.pongo", "create_if_missing"]);
    assert!(!folder.path().join("one").exists());
    // Twice: the second time all folders exist, and the third time the store.
    for _ in 0..2 {
        let store = open(Options::new().create_all(true), &path)?;
        drop(store.begin_write()?);
        store.close()?;
    }
    assert!(folder.path().join("one/two/store.pongo/super").exists());
    fs::remove_dir_all(&path)?;
    open(Options::new().create_all(true), &path)?.close()?;
    // Without the option the same path opens too, now that its parent folders exist.
    open(Options::new(), &path)?.close()?;

    // A file among the parent folders, and a parent folder that is a link to a missing one.
    let error = open(Options::new().create_all(true), &file.join("below/store.pongo")).unwrap_err();
    assert!(matches!(says(error, &["a-file"]), OpenError::Folder { .. }));
    assert_eq!(fs::read(&file)?, b"text");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link)?;
    let error = open(Options::new().create_all(true), &link.join("store.pongo")).unwrap_err();
    assert!(matches!(says(error, &["link"]), OpenError::Folder { .. }));
    assert!(!folder.path().join("nowhere").exists());
    Ok(())
}

#[test]
fn create_all_takes_relative_paths() -> Outcome {
    let folder = tempfile::tempdir()?;
    let to_root = "../".repeat(std::env::current_dir()?.components().count() - 1);
    let path = Path::new(&to_root).join(folder.path().strip_prefix("/")?).join("one/two/store.pongo");
    // SAFETY: only this test uses the folder.
    #[allow(unsafe_code)]
    let store = unsafe { Options::new().create_all(true).open(&path)? };
    store.close()?;
    assert!(folder.path().join("one/two/store.pongo/super").exists());
    Ok(())
}

#[test]
fn a_store_that_must_exist() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("none.pongo");
    let open = |path: &Path| {
        // SAFETY: no other process knows the folder.
        unsafe { Options::new().create_if_missing(false).open(path) }
    };
    let error =
        says(open(&path).unwrap_err(), &["none.pongo", "cannot be opened", "create_if_missing(true)"]);
    assert!(matches!(error, OpenError::Folder { .. }), "{error:?}");
    assert!(!path.exists(), "a folder was made");
    fs::create_dir(&path)?;
    let error =
        says(open(&path).unwrap_err(), &["none.pongo", "not a PongoDB store", "create_if_missing(false)"]);
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    assert_eq!(fixtures::files(&path)?, [""; 0]);
    Ok(())
}

#[test]
fn a_second_open_in_one_process() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("twice.pongo");
    let store = fixtures::build(&path)?;
    // Also through another name of the same folder.
    let link = folder.path().join("link.pongo");
    std::os::unix::fs::symlink(&path, &link)?;
    for name in [&path, &link] {
        let again = fixtures::open(name)?;
        fixtures::perform(&again, &vec![(3, Some(7.0))], false)?;
        assert_eq!(store.begin_read()?.seq(), again.begin_read()?.seq());
        // SAFETY: as in `fixtures::open`.
        let error = unsafe { Options::new().chunk_size(128 << 10).open(name) }.unwrap_err();
        let name = name.display().to_string();
        let error = says(error, &[&name, "open in this process", "same options"]);
        let error =
            says(error, &["chunk_size is 65536, asked for 131072; checkpoint_bytes is 1048576, asked"]);
        assert!(matches!(error, OpenError::AlreadyOpen { .. }), "{error:?}");
    }
    // The rejected open had no effect on the store, and closing one handle does not close the
    // other.
    says(fixtures::open(&path)?.close().unwrap_err(), &["not closed", "1 handle"]);
    fixtures::perform(&store, &vec![(3, Some(8.0))], false)?;
    store.close()?;
    // SAFETY: as in `fixtures::open`.
    let other = unsafe { Options::new().chunk_size(128 << 10).open(&path) }?;
    assert_eq!(fixtures::read(&other.begin_read()?)?.rooms.get(&3), Some(&8.0));
    Ok(())
}

#[test]
fn files_replaced_by_folders_or_links() -> Outcome {
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("made.pongo");
    closed_store(&made)?;
    for file in ["super", "tables/rooms/1.chunk", "heap/0.chunk", "schema/0.1.schema"] {
        let path = folder.path().join("odd.pongo");
        folder::copy(&made, &path)?;
        fs::remove_file(path.join(file))?;
        fs::create_dir(path.join(file))?;
        let error = says(fixtures::open(&path).unwrap_err(), &[file, "move the folder out", "backup"]);
        assert!(matches!(error, OpenError::Storage(_)), "{error:?}");
        fs::remove_dir(path.join(file))?;
        std::os::unix::fs::symlink("/nowhere/at/all", path.join(file))?;
        says(fixtures::open(&path).unwrap_err(), &[file, "backup"]);
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

/// Folders with names like those in a store, which contain foreign files.
#[test]
fn folders_named_like_a_store() -> Outcome {
    for file in ["journal/2024.md", "journal/notes.log", "heap/of-things.txt", "schema/1.sql", "hash/pepper"]
    {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(file);
        fs::create_dir(path.parent().ok_or("a folder")?)?;
        fs::write(&path, "precious")?;
        let error = says(refused(folder.path())?, &[file, "no `super` file", "name another folder"]);
        assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    }
    Ok(())
}

/// Some copy programs leave out empty folders.
#[test]
fn empty_folders_that_were_dropped() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("copied.pongo");
    let store = fixtures::open(&path)?;
    let tx = store.begin_write()?;
    tx.table::<fixtures::Guest>()?;
    tx.commit()?;
    store.close()?;
    for empty in ["heap", "tables/guests"] {
        fs::remove_dir(path.join(empty))?;
    }
    let store = fixtures::open(&path)?;
    assert!(store.begin_read()?.table::<fixtures::Guest>()?.is_empty());
    fixtures::perform(&store, &fixtures::history()[0], false)?;
    Ok(())
}
