//! A benchmark run: which engine measures what, in which order, and which engines alternate.
//!
//! Engines that are compared with each other (PongoDB, LMDB, redb) form one group. Their stores are
//! open at the same time, each in a separate process, and every round of lookups and commits runs
//! on all of them, so that a ratio compares measurements of the same period. The latency of
//! `fdatasync` drifts within minutes. Therefore the bare file takes part in each group's commits,
//! and all dirty data is written out (`sync`) before. Every other engine is a group of one, so that
//! at most three stores are on the disk at a time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::child::{Child, Order};
use crate::engine::{self, Durability, Entry};
use crate::machine;
use crate::measure::median;
use crate::run_ordered;

/// A measured quantity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
pub(crate) enum Metric {
    /// Nanoseconds per row, in random key order, synced at the end.
    Load,
    /// Nanoseconds per lookup of a key that exists.
    Get,
    /// Nanoseconds per lookup of a key that does not exist.
    Missing,
    /// Nanoseconds per row.
    Scan,
    /// Nanoseconds per row of a `Vec` of the same rows, alternating with `Scan`.
    VecScan,
    /// Median ratio of `VecScan` to `Scan`.
    ScanOfVec,
    /// Nanoseconds per transaction of one row.
    Sync1,
    /// Nanoseconds of the bare file, divided by those of the engine, in the same round.
    Sync1OfBare,
    /// Nanoseconds per transaction of 1000 rows.
    Sync1000,
    /// Nanoseconds per transaction of one row that does not wait for the disk.
    Relaxed1,
    /// Nanoseconds of a random memory read whose address depends on the read before.
    DependentRead,
    /// Number of one-row transactions that 8 threads commit in the time in which one thread commits
    /// one.
    Threads8,
    /// Nanoseconds to begin and end a snapshot.
    Snapshot,
    /// Nanoseconds to open a store after a clean close.
    OpenClean,
    /// Nanoseconds to open a store whose process was killed during a commit.
    OpenKilled,
    /// Bytes of journal that the open after a kill had to replay.
    Journal,
    /// Nanoseconds to open a store in the state in which a power cut leaves it.
    OpenCut,
    /// Bytes on disk after the load.
    Disk,
    /// Bytes of anonymous memory after lookups.
    Memory,
    /// Like `Load`, with and without ordered indexes alternately.
    LoadInTurns,
    /// Nanoseconds per row to bring the ordered index up to date right after a load.
    Settle,
    /// Like `Settle`, in a process that opened a store without an ordered index.
    SettleClosed,
    /// Nanoseconds to rebuild both indexes.
    Rebuild,
    /// Bytes of anonymous memory after a load, settling and a scan in key order in one process.
    OrderedMemory,
    /// Bytes of anonymous memory after opening, lookups and a scan in key order.
    OrderedMemoryReopened,
    /// Bytes on disk after load and close.
    DiskSettled,
    /// Nanoseconds per range of 100 rows from a random key; `InOrder`: nanoseconds per row of a
    /// full scan in key order. The rows were loaded in random key order.
    Range,
    InOrder,
    /// Nanoseconds of the first range query in a process.
    FirstRange,
    /// Like `Load`, `Disk`, `Range` and `InOrder`, for rows loaded in key order.
    LoadSorted,
    DiskSorted,
    RangeSorted,
    InOrderSorted,
    /// Nanoseconds per key of single lookups and of batch lookups, and the median ratio.
    GetInTurns,
    GetMany,
    ManyOfGet,
    /// Nanoseconds to find the rows of a day, by testing each row and by a filter, and the median
    /// ratio.
    DayLooked,
    Day,
    DayOfLooked,
    /// Nanoseconds per row of a sum by one thread and by two, and the median ratio; for the store
    /// and for a `Vec`.
    OneThread,
    TwoThreads,
    ThreadsOfOne,
    VecOne,
    VecTwo,
    VecThreadsOfOne,
    /// Nanoseconds per row of a load with a secondary index, including settling.
    LoadIndexed,
    /// Nanoseconds for the ten rows of one value of a secondary index, and for their keys or their
    /// number only.
    Equal,
    EqualKeys,
    /// Mean nanoseconds of a relaxed transaction of one row with a secondary index.
    PutIndexed,
}

/// All numbers of one size, by engine and metric. Several rounds yield several numbers.
#[derive(Debug)]
pub(crate) struct Numbers {
    pub(crate) rows: u64,
    rounds: BTreeMap<(&'static str, Metric), Vec<f64>>,
}

impl Numbers {
    /// Creates an empty collection.
    pub(crate) fn new(rows: u64) -> Numbers {
        Numbers { rows, rounds: BTreeMap::new() }
    }

    /// Records the number of one round.
    pub(crate) fn add(&mut self, engine: &'static str, metric: Metric, number: f64) {
        self.rounds.entry((engine, metric)).or_default().push(number);
    }

    /// Returns the median over the rounds, or `None` if the metric was not measured.
    pub(crate) fn get(&self, engine: &str, metric: Metric) -> Option<f64> {
        let rounds = self.rounds.iter().find(|((name, of), _)| *name == engine && *of == metric)?.1;
        Some(median(&mut rounds.clone()))
    }

    /// Returns the ratio of `slow` to `fast`: the median of the ratios of alternating rounds.
    pub(crate) fn ratio(&self, slow: &str, fast: &str, metric: Metric) -> Option<f64> {
        let of = |engine: &str| {
            self.rounds
                .iter()
                .find(|((name, m), _)| *name == engine && *m == metric)
                .map(|(_, rounds)| rounds)
        };
        let mut ratios: Vec<f64> = of(slow)?.iter().zip(of(fast)?).map(|(slow, fast)| slow / fast).collect();
        Some(median(&mut ratios))
    }

    /// Formats every median as a JSON object on a separate line.
    pub(crate) fn json_lines(&self) -> Result<String> {
        let mut lines = String::new();
        for ((engine, metric), rounds) in &self.rounds {
            let median = median(&mut rounds.clone());
            let line = serde_json::json!({
                "rows": self.rows, "engine": engine, "metric": metric, "median": median, "rounds": rounds,
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        Ok(lines)
    }
}

/// A part of the benchmark to which a run can be limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Part {
    /// Lookups, scans, commits and opens of each engine.
    Engines,
    /// Ordered and secondary indexes, filters.
    Ordered,
}

/// Amount of work per round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) loads: usize,
    pub(crate) keys: usize,
    pub(crate) commits: u64,
    pub(crate) kill_after: Duration,
}

impl Effort {
    /// Used to measure the figures.
    pub(crate) const FULL: Effort =
        Effort { rounds: 5, loads: 3, keys: 400_000, commits: 300, kill_after: Duration::from_secs(2) };
    /// Used to test that everything runs.
    pub(crate) const QUICK: Effort =
        Effort { rounds: 2, loads: 1, keys: 20_000, commits: 20, kill_after: Duration::from_millis(300) };
}

/// The folder of a run. Only one run can hold it at a time; the next run deletes what an
/// interrupted run left in it.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    _lock: File,
}

impl Place {
    /// Locks `parent` and creates an empty `parent/pongo-bench-run`.
    pub(crate) fn take(parent: &Path) -> Result<Place> {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let lock = File::create(parent.join("pongo-bench.lock"))?;
        if lock.try_lock().is_err() {
            bail!("another run uses {}: wait for it, or give another folder with --dir", parent.display());
        }
        let folder = parent.join("pongo-bench-run");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(Place { folder: folder.canonicalize()?, _lock: lock })
    }

    /// Returns the path of the folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // If it cannot be removed now, the next run removes it.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Engines that are compared round by round.
const COMPARED: [&str; 3] = ["pongo", "lmdb", "redb"];

/// Measures all engines at one size. An engine that fails is reported on standard error and
/// excluded.
pub(crate) fn run(
    rows: u64,
    engines: &[&'static Entry],
    part: Option<Part>,
    place: &Place,
    effort: Effort,
) -> Result<Numbers> {
    let mut numbers = Numbers::new(rows);
    if part != Some(Part::Ordered) {
        run_engines(&mut numbers, engines, place, effort)?;
    }
    if part != Some(Part::Engines) {
        run_ordered::run(&mut numbers, engines, place, effort)?;
    }
    Ok(numbers)
}

fn run_engines(
    numbers: &mut Numbers,
    engines: &[&'static Entry],
    place: &Place,
    effort: Effort,
) -> Result<()> {
    let rows = numbers.rows;
    let stores = || engines.iter().copied().filter(|entry| entry.stores);
    let mut groups: Vec<Vec<&'static Entry>> =
        vec![stores().filter(|entry| COMPARED.contains(&entry.name)).collect()];
    groups.extend(stores().filter(|entry| !COMPARED.contains(&entry.name)).map(|entry| vec![entry]));
    for group in groups.into_iter().filter(|group| !group.is_empty()) {
        let names: Vec<_> = group.iter().map(|entry| entry.name).collect();
        if let Err(error) = (Group { rows, effort, place, numbers: &mut *numbers }).run(&group) {
            eprintln!("{}: left out from here on: {error:#}", names.join(", "));
        }
        for name in names {
            let folder = place.folder().join(name);
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
    }
    Ok(())
}

struct Group<'a> {
    rows: u64,
    effort: Effort,
    place: &'a Place,
    numbers: &'a mut Numbers,
}

impl Group<'_> {
    fn run(&mut self, group: &[&'static Entry]) -> Result<()> {
        let needed = self.rows * (100 + 150 * group.len() as u64) + (1 << 30);
        let free = machine::free_bytes(self.place.folder())?;
        if free < needed {
            bail!(
                "{} MiB of free disk are needed, {} has {}: make room, or give another folder with --dir",
                needed >> 20,
                self.place.folder().display(),
                free >> 20
            );
        }
        for entry in group {
            self.load(entry)?;
        }
        let mut children = Vec::new();
        for entry in group {
            let (child, took) = self.open(entry)?;
            self.numbers.add(entry.name, Metric::OpenClean, took);
            children.push(child);
        }
        self.reads(&mut children)?;
        self.commits(&mut children)?;
        for child in children {
            child.end()?;
        }
        for entry in group {
            self.reopen(entry)?;
        }
        Ok(())
    }

    fn folder(&self, entry: &Entry) -> PathBuf {
        self.place.folder().join(entry.name)
    }

    /// Starts a process that opens the store. Also returns how long the open took.
    fn open(&self, entry: &'static Entry) -> Result<(Child, f64)> {
        let folder = self.folder(entry);
        fs::create_dir_all(&folder)?;
        let mut child = Child::start(entry, &folder)?;
        let took = child.number(Order::Open)?;
        Ok((child, took))
    }

    fn load(&mut self, entry: &'static Entry) -> Result<()> {
        quiesce();
        let (mut child, _) = self.open(entry)?;
        let took = child.number(Order::Load { rows: self.rows })?;
        // The time to close is included, because some data becomes durable only then (PongoDB's
        // hash index).
        let took = took + child.number(Order::Close)? / self.rows as f64;
        child.end()?;
        self.numbers.add(entry.name, Metric::Load, took);
        self.numbers.add(entry.name, Metric::Disk, machine::disk_bytes(&self.folder(entry))? as f64);
        progress(entry.name, self.rows, &format!("loaded, {took:.0} ns a row"));
        Ok(())
    }

    fn reads(&mut self, children: &mut [Child]) -> Result<()> {
        quiesce();
        let (rows, count) = (self.rows, self.effort.keys);
        self.numbers.add("machine", Metric::DependentRead, machine::dependent_read(rows * 64));
        // Round 0 warms the caches and is not counted.
        for round in 0..=self.effort.rounds as u64 {
            for (metric, missing) in [(Metric::Get, false), (Metric::Missing, true)] {
                for child in &mut *children {
                    let took = child.number(Order::Get { rows, count, seed: round, missing })?;
                    if round > 0 {
                        self.numbers.add(child.entry.name, metric, took);
                    }
                }
            }
        }
        for child in children {
            let name = child.entry.name;
            self.numbers.add(name, Metric::Memory, child.number(Order::Memory)?);
            self.numbers.add(name, Metric::Snapshot, child.number(Order::Snapshots { times: 1_000_000 })?);
            let scans = child.ask(Order::Scan { rows, rounds: self.effort.rounds })?;
            for (metric, number) in [Metric::Scan, Metric::VecScan, Metric::ScanOfVec].into_iter().zip(scans)
            {
                self.numbers.add(name, metric, number);
            }
            progress(name, rows, "read");
        }
        Ok(())
    }

    fn commits(&mut self, children: &mut Vec<Child>) -> Result<()> {
        let (bare, _) = self.open(engine::find("bare")?)?;
        children.push(bare);
        let mut next = self.rows;
        let commits = self.effort.commits;
        quiesce();
        for _ in 0..self.effort.rounds + 2 {
            let mut took = Vec::new();
            for child in &mut *children {
                took.push(child.number(commit(&mut next, 1, commits, 1, Durability::Sync))?);
            }
            let bare = took.last().copied().unwrap_or(f64::NAN);
            for (child, took) in children.iter().zip(took) {
                self.numbers.add(child.entry.name, Metric::Sync1, took);
                self.numbers.add(child.entry.name, Metric::Sync1OfBare, bare / took);
            }
        }
        for _ in 0..self.effort.rounds {
            for child in &mut *children {
                let one = child.number(commit(&mut next, 1, commits, 1, Durability::Sync))?;
                let eight = child.number(commit(&mut next, 1, commits * 8, 8, Durability::Sync))?;
                self.numbers.add(child.entry.name, Metric::Threads8, one / eight);
            }
        }
        for _ in 0..self.effort.rounds {
            quiesce();
            for child in &mut *children {
                let took = child.number(commit(&mut next, 1000, commits / 20, 1, Durability::Sync))?;
                self.numbers.add(child.entry.name, Metric::Sync1000, took);
            }
        }
        for _ in 0..self.effort.rounds {
            quiesce();
            for child in children.iter_mut().filter(|child| child.entry.relaxed) {
                let took = child.number(commit(&mut next, 1, commits * 20, 1, Durability::Relaxed))?;
                self.numbers.add(child.entry.name, Metric::Relaxed1, took);
            }
        }
        progress("all of the group", self.rows, "committed");
        Ok(())
    }

    /// Opens the store after a kill, and after a simulated power cut.
    fn reopen(&mut self, entry: &'static Entry) -> Result<()> {
        quiesce();
        let (mut child, _) = self.open(entry)?;
        child.ask(Order::CommitForever { first: self.rows * 2 })?;
        std::thread::sleep(self.effort.kill_after);
        child.kill()?;
        if let Some(journal_bytes) = entry.journal_bytes {
            self.numbers.add(entry.name, Metric::Journal, journal_bytes(&self.folder(entry))? as f64);
        }
        let (mut child, took) = self.open(entry)?;
        child.ask(Order::Get { rows: self.rows, count: 1000, seed: 9, missing: false })?;
        child.end()?;
        self.numbers.add(entry.name, Metric::OpenKilled, took);
        if let Some(cut_power) = entry.cut_power {
            cut_power(&self.folder(entry))?;
            let (mut child, took) = self.open(entry)?;
            child.ask(Order::Get { rows: self.rows, count: 1000, seed: 9, missing: false })?;
            child.end()?;
            self.numbers.add(entry.name, Metric::OpenCut, took);
        }
        progress(entry.name, self.rows, "opened again");
        Ok(())
    }
}

/// Returns an order to commit rows that no earlier order committed.
fn commit(next: &mut u64, rows: u64, commits: u64, threads: u64, durability: Durability) -> Order {
    let commits = commits.max(threads);
    let first = *next;
    *next += rows * commits;
    Order::Commit { first, rows, commits, threads, durability }
}

/// Writes all dirty data to disk, so that a timed sync has to write only its own data.
pub(crate) fn quiesce() {
    rustix::fs::sync();
}

pub(crate) fn progress(who: &str, rows: u64, what: &str) {
    static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    eprintln!("{:6.1} s  {rows} rows  {who}: {what}", STARTED.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_median_of_rounds() {
        let mut numbers = Numbers::new(1);
        for (slow, fast) in [(10.0, 1.0), (30.0, 10.0), (8.0, 2.0)] {
            numbers.add("slow", Metric::Sync1, slow);
            numbers.add("fast", Metric::Sync1, fast);
        }
        assert_eq!(numbers.ratio("slow", "fast", Metric::Sync1), Some(4.0));
        assert_eq!(numbers.get("slow", Metric::Sync1), Some(10.0));
        assert_eq!(numbers.ratio("slow", "absent", Metric::Sync1), None);
    }

    #[test]
    fn folder_is_claimed_once_and_emptied() {
        let parent = tempfile::tempdir().unwrap();
        let stale = parent.path().join("pongo-bench-run");
        fs::create_dir(&stale).unwrap();
        fs::write(stale.join("left"), "over").unwrap();
        let place = Place::take(parent.path()).unwrap();
        assert!(!stale.join("left").exists());
        assert!(Place::take(parent.path()).unwrap_err().to_string().contains("another run"));
        drop(place);
        assert!(!stale.exists());
    }
}
