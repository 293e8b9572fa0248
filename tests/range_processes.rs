//! Ranges in several processes: one has sled open, the others read the rows, and all return the
//! same results.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pongo::prelude::*;
use pongo_test_support::running::{Running, say};
use pongo_test_support::{Outcome, child};

#[pongo::record]
#[pongo(table = "parts")]
struct Part {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    bin: u32,
    _pad: u32,
}

/// Opens the store. With `scan` nothing is sorted in memory: every range in a process without sled
/// scans the rows.
fn open(path: &Path, scan: bool) -> Outcome<Store> {
    let in_memory = if scan { 10 } else { 1 << 20 };
    // SAFETY: a folder of this test, to which only PongoDB processes write.
    Ok(unsafe { Options::new().ordered_tuning(50, in_memory, 200, 64).open(path)? })
}

fn put(store: &Store, ids: impl Iterator<Item = u64>) -> Outcome {
    let tx = store.begin_write_with(Durability::Relaxed)?;
    for id in ids {
        tx.table::<Part>()?.put(&Part { id, bin: (id * 7 % 13) as u32, _pad: 0 })?;
    }
    tx.commit()?;
    Ok(())
}

/// Returns what this process reads: counts and sums by key and by bin, in both directions.
fn seen(store: &Store) -> Outcome<String> {
    let snapshot = store.begin_read()?;
    let parts = snapshot.table::<Part>()?;
    let mut ids = Vec::new();
    for part in parts.range(100..900)? {
        ids.push(part?.id);
    }
    let mut back = Vec::new();
    for part in parts.range(100..900)?.rev() {
        back.push(part?.id);
    }
    back.reverse();
    assert!(ids == back && ids.is_sorted());
    let in_bin = parts.by(Part::BIN).eq(5)?.map(|part| part.map(|p| p.id)).collect::<Result<Vec<_>, _>>()?;
    assert!(in_bin.iter().all(|id| id * 7 % 13 == 5));
    let (first, last) = (parts.first()?.map(|p| p.id), parts.last()?.map(|p| p.id));
    Ok(format!(
        "{} of {}, sum {}; {} in the bin, sum {}; {first:?} to {last:?}",
        ids.len(),
        parts.len(),
        ids.iter().sum::<u64>(),
        in_bin.len(),
        in_bin.iter().sum::<u64>()
    ))
}

/// Runs the other process: executes the commands from its standard input.
fn obey(role: &str) -> Outcome {
    let (kind, path) = role.split_once(' ').ok_or("kind and path")?;
    let store = open(Path::new(path), kind == "scan")?;
    say("ready");
    for line in std::io::stdin().lines() {
        match line?.split_once(' ') {
            Some(("put", range)) => {
                let (from, to) = range.split_once(' ').ok_or("from and to")?;
                put(&store, from.parse()?..to.parse()?)?;
                say("done");
            }
            Some(("settle", _)) => {
                store.catch_up_indexes()?;
                say("done");
            }
            _ => say(&seen(&store)?),
        }
    }
    Ok(())
}

fn hear(other: &Running) -> String {
    other.lines.recv_timeout(Duration::from_secs(60)).expect("the other process answers")
}

fn ask(other: &mut Running, line: &str) -> String {
    let stdin = other.process.stdin.as_mut().expect("stdin is piped");
    writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("the other process listens");
    hear(other)
}

fn both(test: &str, kind: &str) -> Outcome {
    if let Some(role) = child::role() {
        return obey(&role);
    }
    let folder = tempfile::tempdir()?;
    let path: PathBuf = folder.path().join("parts.pongo");
    let store = open(&path, kind == "scan")?;
    put(&store, 0..300)?;
    store.catch_up_indexes()?;
    let mut other = Running::start(&mut child::command(test, &format!("{kind} {}", path.display())));
    assert_eq!(hear(&other), "ready");
    for round in 0..6_u64 {
        assert_eq!(ask(&mut other, "seen"), seen(&store)?, "round {round}");
        // Both processes write; the results of each include what the other has just put.
        assert_eq!(ask(&mut other, &format!("put {} {}", 300 + round * 100, 350 + round * 100)), "done");
        put(&store, 350 + round * 100..400 + round * 100)?;
        // Both processes replace rows.
        assert_eq!(ask(&mut other, &format!("put {} {}", round * 20, round * 20 + 70)), "done");
        assert_eq!(ask(&mut other, "seen"), seen(&store)?, "round {round}");
        if round % 2 == 0 {
            store.catch_up_indexes()?;
            // `catch_up_indexes` in a process without sled does nothing and returns no error.
            assert_eq!(ask(&mut other, "settle all"), "done");
        }
    }
    let before = seen(&store)?;
    // The first process closes the store: the other returns the same results, and opens sled a
    // little later.
    store.close()?;
    assert_eq!(ask(&mut other, "seen"), before);
    std::thread::sleep(Duration::from_millis(2200));
    assert_eq!(ask(&mut other, "settle all"), "done");
    assert_eq!(ask(&mut other, "seen"), before);
    let sled = std::fs::read_dir(path.join("ordered"))?.count();
    assert!(sled > 0, "blocks are in the folder `ordered`");
    // It is killed with sled open: the next process finds all rows.
    other.kill();
    let store = open(&path, kind == "scan")?;
    assert_eq!(seen(&store)?, before);
    store.catch_up_indexes()?;
    assert_eq!(seen(&store)?, before);
    Ok(())
}

#[test]
fn process_without_sled_sorts_rows() -> Outcome {
    both("process_without_sled_sorts_rows", "sort")
}

#[test]
fn process_without_sled_scans_rows() -> Outcome {
    both("process_without_sled_scans_rows", "scan")
}
