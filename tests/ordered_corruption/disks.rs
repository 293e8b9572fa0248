//! The folder `ordered` on a separate disk that is full or read-only. A child mounts it in a
//! separate mount namespace; where that is not allowed the tests print that and stop.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pongo_test_support::{child, folder};

use crate::parts::{Outcome, PATIENCE, check, is_back, open, put, status};

/// Runs `test` in a process that may mount.
fn with_mounts(name: &str, test: impl FnOnce(&Path) -> Outcome) -> Outcome {
    let name = format!("disks::{name}");
    if child::role().is_some() {
        let folder = tempfile::tempdir()?;
        return test(&folder.path().join("parts.pongo"));
    }
    child::run_with_mounts(&name, "mounted", &["-m", "-rm"])?;
    Ok(())
}

/// Mounts a tmpfs at `at` with these options.
fn mount(options: &str, at: &Path) -> Outcome {
    std::fs::create_dir_all(at)?;
    let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output()?;
    if !output.status.success() {
        return Err(format!("mount -o {options}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

#[test]
fn a_full_disk_while_it_merges() -> Outcome {
    with_mounts("a_full_disk_while_it_merges", |path| {
        let mut refusals = 0;
        // sled allocates half a MiB at a time. The disk becomes full while sled is created, in the
        // first merge, in a later one, and in a compaction.
        for kib in [64, 1600, 2100, 2600, 3300] {
            let ordered = path.join("ordered");
            mount(&format!("size={kib}k"), &ordered)?;
            let store = open(path)?;
            for round in 0..4 {
                let began = Instant::now();
                put(&store, round * 15_000..(round + 1) * 15_000)?;
                let settled = store.catch_up_indexes();
                check(&store)?;
                assert!(began.elapsed() < Duration::from_secs(20), "{kib} KiB: {:?}", began.elapsed());
                let found = status(&store)?;
                match found.unavailable_reason {
                    Some(why) => {
                        assert!(!found.open && !why.is_empty());
                        refusals += 1;
                        println!("{kib} KiB, round {round}: {settled:?}; {why}");
                    }
                    None => println!("{kib} KiB, round {round}: {settled:?}, {:?}", found.last_error),
                }
            }
            // With free space the index is created.
            mount("remount,size=64m", &ordered)?;
            std::thread::sleep(PATIENCE);
            is_back(&store)?;
            store.close()?;
            let store = open(path)?;
            is_back(&store)?;
            store.close()?;
            let gone = Command::new("umount").arg(&ordered).status()?;
            assert!(gone.success());
            std::fs::remove_dir_all(path)?;
        }
        assert!(refusals > 0, "the disk did not get full");
        Ok(())
    })
}

#[test]
fn a_read_only_folder() -> Outcome {
    with_mounts("a_read_only_folder", |path| {
        let store = open(path)?;
        put(&store, 0..3000)?;
        store.catch_up_indexes()?;
        store.close()?;
        let (ordered, kept) = (path.join("ordered"), path.with_extension("kept"));
        folder::copy(&ordered, &kept)?;
        mount("size=16m", &ordered)?;
        for with_blocks in [true, false] {
            if with_blocks {
                folder::copy(&kept, &ordered)?;
            }
            mount("remount,ro", &ordered)?;
            let store = open(path)?;
            put(&store, 3000..3500)?;
            println!("settle: {:?}", store.catch_up_indexes());
            check(&store)?;
            let found = status(&store)?;
            assert!(!found.open && found.unavailable_reason.is_some(), "{found:?}");
            mount("remount,rw", &ordered)?;
            std::thread::sleep(PATIENCE);
            is_back(&store)?;
            store.close()?;
            std::fs::remove_dir_all(ordered.join("sled"))?;
        }
        Ok(())
    })
}

#[test]
fn renamed_where_there_is_no_proc() -> Outcome {
    with_mounts("renamed_where_there_is_no_proc", |path| {
        let after = path.with_file_name("after.pongo");
        mount("size=1m", Path::new("/proc"))?;
        let store = open(path)?;
        put(&store, 0..3000)?;
        store.catch_up_indexes()?;
        check(&store)?;
        // The index worker may be opening sled: without `/proc` it has only the name, which it found
        // to be right a moment before.
        std::thread::sleep(PATIENCE);
        std::fs::rename(path, &after)?;
        for round in 1..4 {
            put(&store, round * 3000..(round + 1) * 3000)?;
            if let Err(error) = store.catch_up_indexes() {
                assert!(!error.to_string().contains("backup"), "{error}");
            }
            check(&store)?;
            assert!(!path.exists(), "round {round}");
        }
        let found = status(&store)?;
        assert!(!found.open && found.quarantined == 0, "{found:?}");
        assert!(found.unavailable_reason.is_some_and(|why| why.contains("open the store again")));
        // Another store under the old name is not changed.
        let other = open(path)?;
        put(&other, 0..2000)?;
        is_back(&other)?;
        std::thread::sleep(PATIENCE);
        check(&store)?;
        assert!(!status(&store)?.open);
        is_back(&other)?;
        other.close()?;
        store.close()?;
        let store = open(&after)?;
        check(&store)?;
        is_back(&store)?;
        assert_eq!(status(&store)?.quarantined, 0);
        Ok(())
    })
}
