//! sled's folder is missing, replaced by another one, or locked by another process.

use std::fs;
use std::path::Path;
use std::time::Instant;

use pongo_index::ordered::SledBlocks;
use pongo_test_support::running::{Running, say};
use pongo_test_support::{child, folder};

use crate::parts::{Outcome, PATIENCE, check, is_back, open, put, status};

fn build(path: &Path, rows: u64) -> Outcome {
    let store = open(path)?;
    put(&store, 0..rows)?;
    store.catch_up_indexes()?;
    assert!(status(&store)?.open);
    Ok(store.close()?)
}

fn exchange(of: &Path, with: &Path) -> Outcome {
    fs::remove_dir_all(of.join("ordered"))?;
    Ok(folder::copy(&with.join("ordered"), &of.join("ordered"))?)
}

#[test]
fn deleted_folder_is_rebuilt() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    build(&path, 3000)?;
    for part in ["ordered", "ordered/sled", "ordered/sled/db", "ordered/sled/conf"] {
        match part.rsplit('/').next() {
            Some("db" | "conf") => fs::remove_file(path.join(part))?,
            _ => fs::remove_dir_all(path.join(part))?,
        }
        let store = open(&path)?;
        check(&store)?;
        is_back(&store)?;
        store.close()?;
    }
    Ok(())
}

#[test]
fn another_stores() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (path, other) = (folder.path().join("a.pongo"), folder.path().join("b.pongo"));
    build(&path, 3000)?;
    build(&other, 2500)?;
    exchange(&path, &other)?;
    let store = open(&path)?;
    check(&store)?;
    let found = status(&store)?;
    assert!(found.quarantined > 0, "{found:?}");
    assert!(found.last_error.is_some_and(|reason| reason.contains("of this store")));
    is_back(&store)
}

#[test]
fn older_and_newer_folder_of_store() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let at = |time: u64| folder.path().join(format!("{time}.pongo"));
    for time in 1..=4 {
        let store = open(&path)?;
        put(&store, (time - 1) * 1500..time * 1500)?;
        store.catch_up_indexes()?;
        store.close()?;
        folder::copy(&path, &at(time))?;
    }
    // Each state of the store with each state of the index: an older index is continued, a newer
    // one is quarantined.
    for rows in 1..=4 {
        for index in 1..=4 {
            let mixed = folder.path().join("mixed.pongo");
            folder::copy(&at(rows), &mixed)?;
            exchange(&mixed, &at(index))?;
            let store = open(&mixed)?;
            check(&store)?;
            let found = status(&store)?;
            assert_eq!(found.quarantined > 0, index > rows, "rows of {rows}, index of {index}: {found:?}");
            is_back(&store)?;
            store.close()?;
            fs::remove_dir_all(&mixed)?;
        }
    }
    Ok(())
}

#[test]
fn older_folder_after_diverging_rows() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (path, other) = (folder.path().join("parts.pongo"), folder.path().join("other.pongo"));
    build(&path, 2000)?;
    folder::copy(&path, &other)?;
    // Two diverged copies of one store, with the same number of rows and commits.
    for (store, shift) in [(open(&path)?, 10_000), (open(&other)?, 20_000)] {
        put(&store, shift..shift + 1000)?;
        store.catch_up_indexes()?;
        store.close()?;
    }
    exchange(&path, &other)?;
    let store = open(&path)?;
    check(&store)?;
    let found = status(&store)?;
    assert!(found.last_error.is_some_and(|reason| reason.contains("digest")));
    is_back(&store)
}

#[test]
fn files_in_place_of_folders() -> Outcome {
    for part in ["ordered", "ordered/sled"] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("parts.pongo");
        build(&path, 2000)?;
        fs::remove_dir_all(path.join(part))?;
        fs::write(path.join(part), "a note")?;
        let store = open(&path)?;
        check(&store)?;
        // If the index cannot catch up, `catch_up_indexes` returns an error or does nothing; the
        // process does not end.
        println!("{part}: settle: {:?}", store.catch_up_indexes());
        check(&store)?;
        let found = status(&store)?;
        assert!(found.unavailable_reason.is_some() || found.quarantined > 0, "{part}: {found:?}");
        if path.join(part).is_file() {
            fs::remove_file(path.join(part))?;
            std::thread::sleep(PATIENCE);
        }
        is_back(&store)?;
    }
    Ok(())
}

/// Runs the other process of `locked_by_another_process`.
fn hold(path: &Path) -> Outcome {
    let store = open(path)?;
    store.catch_up_indexes()?;
    check(&store)?;
    assert!(status(&store)?.open);
    say("held");
    std::thread::sleep(std::time::Duration::from_secs(60));
    Ok(())
}

#[test]
fn locked_by_another_process() -> Outcome {
    let name = "folders::locked_by_another_process";
    if let Some(path) = child::role() {
        return hold(Path::new(&path));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    build(&path, 3000)?;
    let mut other = Running::start(&mut child::command(name, &path.display().to_string()));
    assert_eq!(other.lines.recv_timeout(std::time::Duration::from_secs(60))?, "held");
    let store = open(&path)?;
    put(&store, 3000..3500)?;
    let began = Instant::now();
    store.catch_up_indexes()?;
    check(&store)?;
    assert!(began.elapsed().as_secs() < 5);
    let found = status(&store)?;
    assert!(!found.open && found.unavailable_reason.is_some_and(|why| why.contains("open elsewhere")));
    other.kill();
    std::thread::sleep(PATIENCE);
    is_back(&store)
}

#[test]
fn locked_by_a_foreign_program() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    build(&path, 3000)?;
    // A lock of another open file description excludes this process like a lock of another process.
    let file = fs::File::open(path.join("ordered/sled/db"))?;
    file.try_lock()?;
    let store = open(&path)?;
    put(&store, 3000..3500)?;
    store.catch_up_indexes()?;
    check(&store)?;
    let found = status(&store)?;
    assert!(!found.open && found.unavailable_reason.is_some_and(|why| why.contains("open elsewhere")));
    assert_eq!(found.quarantined, 0);
    file.unlock()?;
    std::thread::sleep(PATIENCE);
    is_back(&store)?;
    assert_eq!(status(&store)?.quarantined, 0);
    Ok(())
}

#[test]
fn what_a_compaction_left_goes() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (path, other) = (folder.path().join("parts.pongo"), folder.path().join("other.pongo"));
    build(&path, 3000)?;
    build(&other, 1000)?;
    let left = path.join("ordered/sled.new");
    // An unfinished copy, and an index from before the compaction that was not yet removed.
    for kind in ["part", "other", "file"] {
        match kind {
            "part" => {
                folder::copy(&path.join("ordered/sled"), &left)?;
                fs::File::options().write(true).open(left.join("db"))?.set_len(70_000)?;
            }
            "other" => folder::copy(&other.join("ordered/sled"), &left)?,
            _ => fs::write(&left, "a file")?,
        }
        let store = open(&path)?;
        check(&store)?;
        is_back(&store)?;
        assert_eq!(status(&store)?.quarantined, 0);
        assert!(!left.exists(), "{kind}");
        store.close()?;
    }
    Ok(())
}

#[test]
fn renamed_while_it_is_open() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (before, after) = (folder.path().join("before.pongo"), folder.path().join("after.pongo"));
    let store = open(&before)?;
    put(&store, 0..3000)?;
    store.catch_up_indexes()?;
    fs::rename(&before, &after)?;
    // Merges, compactions, and a sled that panics and is quarantined.
    for round in 1..=6 {
        put(&store, round * 3000..(round + 1) * 3000)?;
        if round == 4 {
            SledBlocks::panic_after(after.canonicalize()?.join("ordered/sled"), 0);
            println!("{:?}", store.catch_up_indexes());
        }
        is_back(&store)?;
        assert!(!before.exists(), "round {round}");
    }
    let found = store.stats()?;
    assert_eq!(found.ordered.quarantined, 1);
    assert!(after.join("ordered/sled.aside").exists() && found.bytes.ordered > 0);
    // Another store uses the old name: the two do not affect each other.
    let other = open(&before)?;
    put(&other, 0..2000)?;
    is_back(&other)?;
    for round in 7..=9 {
        put(&store, round * 3000..(round + 1) * 3000)?;
        is_back(&store)?;
        put(&other, round * 1000..(round + 1) * 1000)?;
        is_back(&other)?;
    }
    store.close()?;
    other.close()?;
    for path in [before, after] {
        let store = open(&path)?;
        check(&store)?;
        is_back(&store)?;
        assert_eq!(status(&store)?.quarantined, 0);
    }
    Ok(())
}

#[test]
fn panicking_reader_harms_nothing() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    build(&path, 3000)?;
    let sled = path.canonicalize()?.join("ordered/sled");
    let (mut rows, mut panicked) = (3000, 0);
    for calls in (0..24).chain([30, 40, 60, 80]) {
        let store = open(&path)?;
        put(&store, rows..rows + 200)?;
        rows += 200;
        SledBlocks::panic_after(&sled, calls);
        check(&store)?;
        // `catch_up_indexes` may return an error if the panic happens in it; later results are
        // correct.
        let settled = store.catch_up_indexes();
        check(&store)?;
        // Cancel the panic if it has not happened.
        SledBlocks::panic_after("", 0);
        let found = status(&store)?;
        if let Some(reason) = found.last_error {
            assert!(reason.contains("panicked"), "{reason}");
            panicked += 1;
        } else {
            settled?;
        }
        is_back(&store)?;
        store.close()?;
    }
    assert!(panicked > 10, "{panicked}");
    Ok(())
}
