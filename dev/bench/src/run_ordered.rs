//! The second part of a run: rows in key order, secondary indexes, filters, and the cost of ordered
//! indexes.
//!
//! As in [`crate::run`], engines that are compared alternate within each round. A step that fails
//! is reported on standard error, and the others continue.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::child::{Child, Order};
use crate::engine::{self, Entry};
use crate::machine;
use crate::run::{Effort, Metric, Numbers, Place, progress, quiesce};

/// Number of rows of a range.
const RANGE: usize = 100;

/// Measures the operations of ordered indexes for the given engines.
pub(crate) fn run<'a>(
    numbers: &'a mut Numbers,
    engines: &'a [&'static Entry],
    place: &'a Place,
    effort: Effort,
) -> Result<()> {
    let mut part = Part { rows: numbers.rows, engines, place, effort, numbers };
    let steps: [(&str, Step<'a>); 4] = [
        ("loads", Part::loads),
        ("random key order", Part::random_order),
        ("key order", Part::key_order),
        ("secondary index", Part::indexed),
    ];
    for (name, step) in steps {
        if let Err(error) = step(&mut part) {
            eprintln!("{name}: left out from here on: {error:#}");
        }
        for entry in engine::ENGINES {
            part.remove(entry)?;
        }
    }
    Ok(())
}

type Step<'a> = fn(&mut Part<'a>) -> Result<()>;

struct Part<'a> {
    rows: u64,
    engines: &'a [&'static Entry],
    place: &'a Place,
    effort: Effort,
    numbers: &'a mut Numbers,
}

impl<'a> Part<'a> {
    /// Returns the selected engines that have these names, in the order of the names.
    fn among(&self, names: &[&str]) -> Vec<&'static Entry> {
        let find = |name: &&str| self.engines.iter().copied().find(|entry| entry.name == *name);
        names.iter().filter_map(find).collect()
    }

    fn folder(&self, entry: &Entry) -> PathBuf {
        // PongoDB without ordered indexes opens the store that PongoDB with them created.
        self.place.folder().join(entry.name.trim_end_matches("_unordered"))
    }

    fn remove(&self, entry: &Entry) -> Result<()> {
        match fs::remove_dir_all(self.folder(entry)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn start(&self, entry: &'static Entry) -> Result<Child> {
        fs::create_dir_all(self.folder(entry))?;
        Child::start(entry, &self.folder(entry))
    }

    fn open(&self, entry: &'static Entry) -> Result<Child> {
        let mut child = self.start(entry)?;
        child.ask(Order::Open)?;
        Ok(child)
    }

    /// Measures loads of PongoDB: with the index updated at the close, without an index, and with
    /// the index updated right after the load.
    fn loads(&mut self) -> Result<()> {
        let rows = self.rows;
        for pongo in self.among(&["pongo"]) {
            for _ in 0..self.effort.loads {
                for entry in [pongo, &engine::UNORDERED] {
                    self.remove(entry)?;
                    quiesce();
                    let mut child = self.open(entry)?;
                    let took = child.number(Order::Load { rows })?;
                    let took = took + child.number(Order::Close)? / rows as f64;
                    child.end()?;
                    self.numbers.add(entry.name, Metric::LoadInTurns, took);
                }
                let disk = machine::disk_bytes(&self.folder(pongo))? as f64;
                self.numbers.add(engine::UNORDERED.name, Metric::Disk, disk);

                // Builds an index for existing rows, while nothing else runs.
                quiesce();
                let mut child = self.open(pongo)?;
                let settled = child.number(Order::Settle)?;
                self.numbers.add(pongo.name, Metric::SettleClosed, settled / rows as f64);
                child.end()?;

                self.remove(pongo)?;
                quiesce();
                let mut child = self.open(pongo)?;
                child.ask(Order::Load { rows })?;
                let settled = child.number(Order::Settle)?;
                self.numbers.add(pongo.name, Metric::Settle, settled / rows as f64);
                child.ask(Order::Walk { rows })?;
                self.numbers.add(pongo.name, Metric::OrderedMemory, child.number(Order::Memory)?);
                child.end()?;
            }
            self.rebuild(pongo)?;
            self.without(pongo)?;
            progress(pongo.name, rows, "loaded, settled, rebuilt");
        }
        Ok(())
    }

    /// Rebuilds both indexes in a process that has used neither.
    fn rebuild(&mut self, pongo: &'static Entry) -> Result<()> {
        for _ in 0..self.effort.loads {
            quiesce();
            let mut child = self.open(pongo)?;
            self.numbers.add(pongo.name, Metric::Rebuild, child.number(Order::Rebuild)?);
            child.end()?;
        }
        Ok(())
    }

    /// Measures opening, lookups and a kill with ordered indexes and without.
    fn without(&mut self, pongo: &'static Entry) -> Result<()> {
        let (rows, count) = (self.rows, self.effort.keys);
        for entry in [pongo, &engine::UNORDERED] {
            let mut child = self.start(entry)?;
            self.numbers.add(entry.name, Metric::OpenClean, child.number(Order::Open)?);
            child.ask(Order::Get { rows, count, seed: 1, missing: false })?;
            if entry.name == pongo.name {
                child.ask(Order::Walk { rows })?;
                self.numbers.add(entry.name, Metric::OrderedMemoryReopened, child.number(Order::Memory)?);
            } else {
                self.numbers.add(entry.name, Metric::Memory, child.number(Order::Memory)?);
                child.ask(Order::Scan { rows, rounds: 1 })?;
            }
            child.end()?;
        }
        for (round, entry) in [pongo, &engine::UNORDERED].into_iter().enumerate() {
            quiesce();
            let mut child = self.open(entry)?;
            child.ask(Order::CommitForever { first: rows * (2 + round as u64) })?;
            std::thread::sleep(self.effort.kill_after);
            child.kill()?;
            let mut child = self.start(entry)?;
            self.numbers.add(entry.name, Metric::OpenKilled, child.number(Order::Open)?);
            child.end()?;
        }
        Ok(())
    }

    /// Measures ranges and full scans in key order alternately, and checks that all engines return
    /// the same results.
    fn walks(&mut self, children: &mut [Child], range: Metric, walk: Metric) -> Result<()> {
        let (rows, count) = (self.rows, self.effort.keys / 100);
        for round in 0..=self.effort.rounds as u64 {
            let ranges = Order::Ranges { count, each: RANGE, seed: round };
            let whole = Order::Walk { rows };
            // Full scans take seconds if the rows are stored in another order.
            for (metric, order, counts) in
                [(range, ranges, round > 0), (walk, whole, (1..=3).contains(&round))]
            {
                if metric == walk && round > 3 {
                    continue;
                }
                let mut answers = Vec::new();
                for child in &mut *children {
                    let [took, answer @ ..] = &child.ask(order)?[..] else { continue };
                    answers.push(answer.to_vec());
                    if counts {
                        self.numbers.add(child.entry.name, metric, *took);
                    }
                }
                ensure!(answers.windows(2).all(|two| two[0] == two[1]), "{order:?}: answers {answers:?}");
            }
        }
        Ok(())
    }

    fn random_order(&mut self) -> Result<()> {
        let rows = self.rows;
        let mut children = Vec::new();
        for entry in self.among(&["pongo", "lmdb"]) {
            let mut child = self.open(entry)?;
            child.ask(Order::Load { rows })?;
            child.end()?;
            let disk = machine::disk_bytes(&self.folder(entry))? as f64;
            self.numbers.add(entry.name, Metric::DiskSettled, disk);
            progress(entry.name, rows, "loaded in random key order");
            let mut child = self.open(entry)?;
            let first = child.number(Order::Ranges { count: 1, each: 1, seed: 99 })?;
            self.numbers.add(entry.name, Metric::FirstRange, first);
            children.push(child);
        }
        quiesce();
        self.walks(&mut children, Metric::Range, Metric::InOrder)?;
        progress("all", rows, "walked in random key order");
        let (count, rounds) = (self.effort.keys, self.effort.rounds);
        for child in children.iter_mut().filter(|child| child.entry.name == "pongo") {
            let name = child.entry.name;
            let many = child.ask(Order::GetMany { rows, count, seed: 5, rounds })?;
            let days = child.ask(Order::Days { rows, rounds })?;
            let threads = child.ask(Order::Threads { rows, rounds })?;
            use Metric::{
                Day, DayLooked, DayOfLooked, GetInTurns, GetMany, ManyOfGet, OneThread, ThreadsOfOne,
                TwoThreads, VecOne, VecThreadsOfOne, VecTwo,
            };
            let metrics = [
                [GetInTurns, GetMany, ManyOfGet],
                [DayLooked, Day, DayOfLooked],
                [OneThread, TwoThreads, ThreadsOfOne],
                [VecOne, VecTwo, VecThreadsOfOne],
            ];
            let measured = [many, days, threads].concat();
            for (metric, number) in metrics.into_iter().flatten().zip(measured) {
                self.numbers.add(name, metric, number);
            }
            progress(name, rows, "many keys, days, threads");
        }
        children.into_iter().try_for_each(Child::end)
    }

    fn key_order(&mut self) -> Result<()> {
        let rows = self.rows;
        let mut children = Vec::new();
        for entry in self.among(&["pongo", "lmdb"]) {
            let mut child = self.open(entry)?;
            let took = child.number(Order::LoadSorted { rows })?;
            let took = took + child.number(Order::Close)? / rows as f64;
            child.end()?;
            self.numbers.add(entry.name, Metric::LoadSorted, took);
            let disk = machine::disk_bytes(&self.folder(entry))? as f64;
            self.numbers.add(entry.name, Metric::DiskSorted, disk);
            progress(entry.name, rows, "loaded in key order");
            children.push(self.open(entry)?);
        }
        quiesce();
        self.walks(&mut children, Metric::RangeSorted, Metric::InOrderSorted)?;
        progress("all", rows, "walked in key order");
        children.into_iter().try_for_each(Child::end)
    }

    fn indexed(&mut self) -> Result<()> {
        let rows = self.rows;
        let mut children = Vec::new();
        for entry in self.among(&["pongo", "lmdb", "redb"]) {
            let mut child = self.start(entry)?;
            child.ask(Order::OpenIndexed)?;
            let took = child.number(Order::LoadIndexed { rows })?;
            child.end()?;
            self.numbers.add(entry.name, Metric::LoadIndexed, took);
            progress(entry.name, rows, &format!("loaded with an index, {took:.0} ns a row"));
            let mut child = self.start(entry)?;
            child.ask(Order::OpenIndexed)?;
            children.push(child);
        }
        quiesce();
        let count = self.effort.keys / 20;
        for round in 0..=self.effort.rounds as u64 {
            for (metric, keys_only) in [(Metric::Equal, false), (Metric::EqualKeys, true)] {
                for child in &mut children {
                    let took = child.number(Order::Equal { rows, count, seed: round, keys_only })?;
                    if round > 0 {
                        self.numbers.add(child.entry.name, metric, took);
                    }
                }
            }
        }
        progress("all", rows, "looked accounts up");
        self.puts(&mut children)?;
        progress("all", rows, "put with an index");
        children.into_iter().try_for_each(Child::end)
    }

    /// Measures puts of postings. PongoDB puts enough rows that its indexes must be updated during
    /// the measurement. The mean over all rounds includes that cost, and it is the result.
    fn puts(&mut self, children: &mut [Child]) -> Result<()> {
        let mut next = self.rows;
        let rounds = self.effort.rounds as u64;
        let mut sums = vec![0.0; children.len()];
        for round in 0..rounds {
            quiesce();
            for (child, sum) in children.iter_mut().zip(&mut sums) {
                let puts = match child.entry.name {
                    "pongo" => (self.rows / 8 / (rounds - 1).max(1)).max(self.effort.commits),
                    _ => self.effort.commits * 20,
                };
                let took = child.number(Order::PutIndexed { first: next, rows: self.rows, puts })?;
                *sum += took;
                next += puts;
                progress(child.entry.name, self.rows, &format!("round {round} of puts, {took:.0} ns each"));
            }
        }
        for (child, sum) in children.iter().zip(sums) {
            self.numbers.add(child.entry.name, Metric::PutIndexed, sum / rounds as f64);
        }
        Ok(())
    }
}
