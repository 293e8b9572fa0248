//! No or few threads can be created, or none after some time: no operation waits forever, and the
//! results are correct.
#![allow(unsafe_code, reason = "limits and users of a process are set by system calls")]

use std::path::Path;
use std::time::Duration;

use pongo::rayon::prelude::*;
use pongo_test_support::child;

use crate::parts::{Outcome, PATIENCE, Part, check, is_back, open, put, status};

/// Enough rows for a sort by several threads.
const ROWS: u64 = 70_000;

/// More threads than sled, its supervising thread and the index worker need together.
const MANY: u64 = 24;

/// A user id that no other process has.
const SOMEONE: u32 = 61_234;

fn is_root() -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::geteuid() == 0 }
}

/// Allows `threads` more threads, in addition to the existing ones.
fn allow(threads: u64) -> Outcome {
    let there = std::fs::read_dir("/proc/self/task")?.count() as u64;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a local of the right type that lives through the call.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit) };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    limit.rlim_cur = (there + threads).min(limit.rlim_max);
    // SAFETY: as above.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

/// Runs `test` with a folder in a process with a separate, unprivileged user, whose threads are
/// counted.
fn alone(name: &str, test: impl FnOnce(&Path) -> Outcome) -> Outcome {
    if let Some(path) = child::role() {
        // SAFETY: no memory is passed. The alarm ends a process that waits forever.
        unsafe { libc::alarm(120) };
        if is_root() {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::setuid(SOMEONE) }, 0);
        }
        return test(Path::new(&path));
    }
    if !is_root() {
        println!("{name}: skipped, since only root can become a user without other processes");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::chown(folder.path(), Some(SOMEONE), Some(SOMEONE))?;
    let path = folder.path().join("parts.pongo");
    let name = format!("threads::{name}");
    let output = child::command(&name, &path.display().to_string()).current_dir("/").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}: {said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("1 passed"), "the test was not run: {said}");
    Ok(())
}

/// Runs the operations under test on a store.
fn work(path: &Path, from: u64) -> Outcome<pongo::OrderedStatus> {
    let store = open(path)?;
    put(&store, from..from + ROWS)?;
    let _ = store.catch_up_indexes();
    check(&store)?;
    put(&store, from + ROWS..from + ROWS + 100)?;
    check(&store)?;
    {
        let snapshot = store.begin_read()?;
        let parts = snapshot.table::<Part>()?;
        assert_eq!(parts.par_rows().filter(Result::is_ok).count() as u64, parts.len());
        let small = parts.filter(Part::BIN.lt(9)).filter(|row| row.is_ok()).count();
        assert_eq!(parts.filter(Part::BIN.lt(9)).par().filter(Result::is_ok).count(), small);
        let in_slices: usize = parts.par_slices().map(|rows| rows.map_or(0, <[Part]>::len)).sum();
        assert_eq!(in_slices as u64, parts.len());
    }
    let found = status(&store)?;
    drop(store.clone());
    store.close()?;
    // Drop a store as well, without closing it.
    drop(open(path)?);
    Ok(found)
}

#[test]
fn none_can_be_made() -> Outcome {
    alone("none_can_be_made", |path| {
        allow(0)?;
        assert!(std::thread::Builder::new().spawn(|| ()).is_err());
        let found = work(path, 0)?;
        let refused = found.unavailable_reason.ok_or("there is a reason")?;
        assert!(!found.open && found.quarantined == 0 && refused.contains("threads"), "{refused}");
        assert!(!path.join("ordered").exists());
        // With threads available the index is created.
        allow(MANY)?;
        let store = open(path)?;
        is_back(&store)?;
        store.close()?;
        // No thread can be created again: sled has its threads already, but its supervising thread
        // is missing.
        allow(0)?;
        let found = work(path, 2 * ROWS)?;
        assert!(!found.open && found.quarantined == 0, "{found:?}");
        Ok(())
    })
}

#[test]
fn few_can_be_made() -> Outcome {
    // Each number of threads gets a separate process, so that sled is used for the first time.
    for threads in 1..=10 {
        let store = |path: &Path| {
            // The role is the path; its name is the number of threads.
            let threads: u64 = path.file_name().and_then(|name| name.to_str()).ok_or("a name")?.parse()?;
            allow(threads)?;
            let found = work(path, 0)?;
            assert!(found.open || found.unavailable_reason.is_some_and(|why| why.contains("threads")));
            allow(MANY)?;
            std::thread::sleep(PATIENCE);
            let store = open(path)?;
            is_back(&store)?;
            Ok(store.close()?)
        };
        if let Some(path) = child::role() {
            return alone("few_can_be_made", |_| store(Path::new(&path)));
        }
        if !is_root() {
            return alone("few_can_be_made", |_| Ok(()));
        }
        let folder = tempfile::tempdir()?;
        std::os::unix::fs::chown(folder.path(), Some(SOMEONE), Some(SOMEONE))?;
        let path = folder.path().join(threads.to_string());
        let mut command = child::command("threads::few_can_be_made", &path.display().to_string());
        let output = command.current_dir("/").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complains = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{threads} threads: {}: {said}\n{complains}", output.status);
    }
    Ok(())
}

#[test]
fn none_can_be_made_any_more() -> Outcome {
    alone("none_can_be_made_any_more", |path| {
        let store = open(path)?;
        put(&store, 0..3000)?;
        store.catch_up_indexes()?;
        assert!(status(&store)?.open);
        allow(0)?;
        // Merges still run; a compaction, which would open a second sled, is postponed.
        for round in 1..4 {
            put(&store, round * 3000..(round + 1) * 3000)?;
            store.catch_up_indexes()?;
            check(&store)?;
        }
        let found = status(&store)?;
        assert!(found.open && found.quarantined == 0, "{found:?}");
        store.close()?;
        // The lock was released.
        allow(MANY)?;
        std::thread::sleep(Duration::from_millis(1));
        let store = open(path)?;
        check(&store)?;
        assert!(status(&store)?.open);
        is_back(&store)
    })
}
