//! A table larger than the memory that the process may use, page cache included: scans, look-ups,
//! ranges and filters still work.
//!
//! Needs root and the kernel's memory controller (cgroup version 1 or 2). Without them the test
//! prints that and passes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pongo::prelude::*;
use pongo_test_support::running::{Running, say};
use pongo_test_support::{Outcome, child};

const ROWS: u64 = 2_500_000;
/// Memory limit in bytes: less than a third of the bytes of the rows.
const LIMIT: u64 = 48 << 20;

#[pongo::record]
#[pongo(table = "samples")]
struct Sample {
    #[pongo(key)]
    id: u64,
    time: u64,
    values: [f64; 6],
}

fn sample(id: u64) -> Sample {
    Sample { id: id.wrapping_mul(0x9e37_79b9_7f4a_7c15), time: id, values: [id as f64; 6] }
}

fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: only this test uses the folder.
    Ok(unsafe { Store::open(path)? })
}

/// A control group whose processes together get `LIMIT` bytes. It is removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let name = format!("pongo-test-{}", std::process::id());
        let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        roots.into_iter().find_map(|(root, limit)| {
            let path = Path::new(root).join(&name);
            std::fs::create_dir(&path).ok()?;
            let group = Self(path);
            std::fs::write(group.0.join(limit), LIMIT.to_string()).ok()?;
            group.0.join("cgroup.procs").exists().then_some(group)
        })
    }

    fn add(&self, process: u32) -> std::io::Result<()> {
        std::fs::write(self.0.join("cgroup.procs"), process.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Drops the files from the page cache, since cached pages would not count against the child's
/// limit.
fn drop_from_cache(folder: &Path) -> Outcome {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_from_cache(&path)?;
        } else {
            let of = format!("of={}", path.display());
            let status = Command::new("dd")
                .args([&of[..], "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"])
                .status()?;
            assert!(status.success(), "dd {of}");
        }
    }
    Ok(())
}

fn ask_everything(path: &Path) -> Outcome {
    say("ready");
    // Continue only after this process was added to the group.
    std::io::stdin().read_line(&mut String::new())?;
    let store = open(path)?;
    let snapshot = store.begin_read()?;
    let samples = snapshot.table::<Sample>()?;
    for _ in 0..2 {
        let mut sum = 0.0;
        for rows in samples.slices() {
            sum += rows?.iter().map(|row| row.values[3]).sum::<f64>();
        }
        assert_eq!(sum, (ROWS * (ROWS - 1) / 2) as f64);
    }
    for step in 0..2000 {
        let id = step * 7919 % ROWS;
        let wanted = sample(id);
        let found = samples.get(wanted.id)?.ok_or("a row that was put")?;
        assert_eq!((found.time, found.values), (wanted.time, wanted.values));
    }
    let mut last = 0;
    for row in samples.range(1 << 62..)?.take(500) {
        let row = row?;
        assert!(row.id >= 1 << 62 && row.id > last);
        last = row.id;
    }
    let hour = samples.filter(Sample::TIME.between(1_000_000..1_003_600));
    assert_eq!(hour.map(|row| row.map(|_| 1)).sum::<Result<u64, _>>()?, 3600);
    say("done");
    Ok(())
}

#[test]
fn table_larger_than_memory() -> Outcome {
    if let Some(role) = child::role() {
        return ask_everything(Path::new(&role));
    }
    let Some(group) = Group::new() else {
        println!("skipped: this needs root and the kernel's memory controller");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("large.pongo");
    let store = open(&path)?;
    let tx = store.begin_write()?;
    tx.table::<Sample>()?.extend((0..ROWS).map(sample))?;
    tx.commit()?;
    store.close()?;
    drop_from_cache(&path)?;
    let test = "table_larger_than_memory";
    let mut other = Running::start(&mut child::command(test, &path.display().to_string()));
    let hear = |other: &Running| other.lines.recv_timeout(Duration::from_secs(300));
    assert_eq!(hear(&other)?, "ready");
    group.add(other.process.id())?;
    writeln!(other.process.stdin.as_mut().ok_or("stdin is piped")?)?;
    assert_eq!(hear(&other)?, "done");
    let mut most = ["memory.max_usage_in_bytes", "memory.peak"].iter();
    let most = most.find_map(|name| std::fs::read_to_string(group.0.join(name)).ok()).unwrap_or_default();
    println!("{ROWS} rows of 64 bytes; the group used at most {} bytes", most.trim());
    assert!(most.trim().parse::<u64>().is_ok_and(|most| most <= LIMIT), "{most}");
    assert!(other.process.wait()?.success());
    Ok(())
}
