//! Carries out an [`Order`] on an engine, and checks the results of the engine.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pongo::rayon::ThreadPoolBuilder;
use pongo::rayon::prelude::*;

use crate::child::Order;
use crate::engine::{Durability, Engine, Entry, Found};
use crate::indexed::{self, Indexed, Posting};
use crate::machine;
use crate::ordered::{self, Ordered, Scans};
use crate::trade::{self, Trade};

/// An engine, its folder, and its store if it is open.
pub(crate) struct Bench {
    entry: &'static Entry,
    folder: PathBuf,
    engine: Option<Box<dyn Engine>>,
    indexed: Option<Box<dyn Indexed>>,
    /// Anonymous memory before the store was opened.
    memory: u64,
}

impl Bench {
    pub(crate) fn new(entry: &'static Entry, folder: &Path) -> Result<Bench> {
        Ok(Bench {
            entry,
            folder: folder.to_owned(),
            engine: None,
            indexed: None,
            memory: machine::anonymous_memory()?,
        })
    }

    fn engine(&self) -> Result<&dyn Engine> {
        self.engine.as_deref().context("the store is not open")
    }

    fn ordered(&self) -> Result<&dyn Ordered> {
        self.engine()?.ordered().with_context(|| format!("{} is not measured in key order", self.entry.name))
    }

    fn scans(&self) -> Result<&dyn Scans> {
        self.engine()?.scans().with_context(|| format!("{} has no ways to compare", self.entry.name))
    }

    fn indexed(&self) -> Result<&dyn Indexed> {
        self.indexed.as_deref().context("the store of postings is not open")
    }

    /// Carries out an order and returns the numbers that [`Order`] documents.
    pub(crate) fn carry_out(&mut self, order: Order) -> Result<Vec<f64>> {
        Ok(match order {
            Order::Open => {
                let started = Instant::now();
                self.engine = Some((self.entry.open)(&self.folder)?);
                vec![ns(started)]
            }
            Order::Load { rows } => {
                let started = Instant::now();
                self.engine()?.load(&mut (0..rows).map(trade::trade))?;
                vec![ns(started) / rows as f64]
            }
            Order::Get { rows, count, seed, missing } => {
                let (keys, sum) = if missing {
                    (trade::missing(count, seed), 0.0)
                } else {
                    trade::present(rows, count, seed)
                };
                let started = Instant::now();
                let found = self.engine()?.get(&keys)?;
                let took = ns(started);
                let expected = Found { rows: if missing { 0 } else { count as u64 }, sum };
                ensure!(found == expected, "look-ups: expected {expected:?}, found {found:?}");
                vec![took / count as f64]
            }
            Order::Scan { rows, rounds } => self.scan(rows, rounds)?,
            Order::Commit { first, rows, commits, threads, durability } => {
                vec![self.commit(first, rows, commits, threads, durability)?]
            }
            Order::CommitForever { first } => {
                let engine = self.engine()?;
                for number in first.. {
                    engine.commit(&[trade::trade(number)], Durability::Sync)?;
                }
                Vec::new()
            }
            Order::Snapshots { times } => {
                let started = Instant::now();
                self.engine()?.snapshots(times)?;
                vec![ns(started) / times as f64]
            }
            Order::Memory => vec![machine::anonymous_memory()?.saturating_sub(self.memory) as f64],
            Order::Settle => {
                let started = Instant::now();
                self.ordered()?.settle()?;
                vec![ns(started)]
            }
            Order::LoadSorted { rows } => {
                let numbers = ordered::numbers_in_key_order(rows);
                let started = Instant::now();
                self.ordered()?.load_in_order(&mut numbers.into_iter().map(trade::trade))?;
                vec![ns(started) / rows as f64]
            }
            Order::Ranges { count, each, seed } => {
                let starts = ordered::starts(count, seed);
                let started = Instant::now();
                let found = self.ordered()?.ranges(&starts, each)?;
                vec![ns(started) / count as f64, found.rows as f64, found.sum]
            }
            Order::Walk { rows } => {
                let started = Instant::now();
                let found = self.ordered()?.in_order()?;
                let took = ns(started);
                ensure!(found.rows == rows, "in key order: expected {rows} rows, found {}", found.rows);
                vec![took / rows as f64, found.rows as f64, found.sum]
            }
            Order::GetMany { rows, count, seed, rounds } => self.get_many(rows, count, seed, rounds)?,
            Order::Days { rows, rounds } => self.days(rows, rounds)?,
            Order::Threads { rows, rounds } => self.threads(rows, rounds)?,
            Order::Rebuild => {
                let started = Instant::now();
                self.scans()?.rebuild()?;
                vec![ns(started)]
            }
            Order::OpenIndexed => {
                let open = self.entry.open_indexed.context("its secondary index is not measured")?;
                let started = Instant::now();
                self.indexed = Some(open(&self.folder)?);
                vec![ns(started)]
            }
            Order::LoadIndexed { rows } => {
                let started = Instant::now();
                self.indexed()?.load(&mut (0..rows).map(|number| indexed::posting(number, rows)))?;
                vec![ns(started) / rows as f64]
            }
            Order::Equal { rows, count, seed, keys_only } => {
                let (accounts, expected) = indexed::asked(rows, count, seed);
                let started = Instant::now();
                let found = if keys_only {
                    Found { rows: self.indexed()?.equal_keys(&accounts)?, ..expected }
                } else {
                    self.indexed()?.equal(&accounts)?
                };
                let took = ns(started);
                ensure!(found == expected, "accounts: expected {expected:?}, found {found:?}");
                vec![took / count as f64]
            }
            Order::PutIndexed { first, rows, puts } => {
                let postings: Vec<Posting> =
                    (first..first + puts).map(|number| indexed::posting(number, rows)).collect();
                let started = Instant::now();
                self.indexed()?.put(&postings)?;
                vec![ns(started) / puts as f64]
            }
            Order::Close => {
                let started = Instant::now();
                self.engine = None;
                self.indexed = None;
                vec![ns(started)]
            }
        })
    }

    /// Scans the store and a `Vec` alternately, so that both are measured in the same state of the
    /// machine.
    fn scan(&self, rows: u64, rounds: usize) -> Result<Vec<f64>> {
        let engine = self.engine()?;
        let vec: Vec<Trade> = (0..rows).map(trade::trade).collect();
        let expected = sum(&vec);
        let (mut stores, mut vecs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let started = Instant::now();
            black_box(sum(black_box(&vec)));
            let of_vec = ns(started) / rows as f64;
            let started = Instant::now();
            let found = engine.scan()?;
            let of_store = ns(started) / rows as f64;
            ensure!(found == expected, "scan: expected {expected:?}, found {found:?}");
            stores.push(of_store);
            vecs.push(of_vec);
            ratios.push(of_vec / of_store);
        }
        Ok(vec![median(&mut stores), median(&mut vecs), median(&mut ratios)])
    }

    fn get_many(&self, rows: u64, count: usize, seed: u64, rounds: usize) -> Result<Vec<f64>> {
        let (engine, scans) = (self.engine()?, self.scans()?);
        let (keys, sum) = trade::present(rows, count, seed);
        let expected = Found { rows: count as u64, sum };
        in_turns(rounds, count as f64, expected, || engine.get(&keys), || scans.get_many(&keys))
    }

    fn days(&self, rows: u64, rounds: usize) -> Result<Vec<f64>> {
        const DAYS: u64 = 8;
        let scans = self.scans()?;
        let days: Vec<_> = (0..DAYS).map(|nth| ordered::day(rows, 20 + nth * 43)).collect();
        let mut expected = Found::default();
        for (_, numbers) in &days {
            numbers.clone().for_each(|number| expected.add(trade::trade(number).value()));
        }
        let all = |way: &dyn Fn(std::ops::Range<i64>) -> Result<Found>| {
            days.iter().try_fold(Found::default(), |found, (times, _)| Ok(found.and(way(times.clone())?)))
        };
        let look = || all(&|times| scans.looked_through(times));
        in_turns(rounds, DAYS as f64, expected, look, || all(&|times| scans.filtered(times)))
    }

    /// Measures sums by one thread and by two. The single thread reads plain slices instead of
    /// running in a pool of one.
    fn threads(&self, rows: u64, rounds: usize) -> Result<Vec<f64>> {
        let (engine, scans) = (self.engine()?, self.scans()?);
        let rows_of_vec: Vec<Trade> = (0..rows).map(trade::trade).collect();
        let expected = sum(&rows_of_vec);
        let two = ThreadPoolBuilder::new().num_threads(2).build()?;
        let of_vec = |vec: &[Trade]| {
            two.install(|| vec.par_chunks(1024).map(sum).reduce(Found::default, |one, other| one.and(other)))
        };
        let one_of_vec = || Ok(sum(black_box(&rows_of_vec)));
        let store = in_turns(rounds, rows as f64, expected, || engine.scan(), || scans.scan_by(&two))?;
        let vec =
            in_turns(rounds, rows as f64, expected, one_of_vec, || Ok(of_vec(black_box(&rows_of_vec))))?;
        Ok([store, vec].concat())
    }

    /// Times commits. The rows are generated before the clock starts.
    fn commit(
        &self,
        first: u64,
        rows: u64,
        commits: u64,
        threads: u64,
        durability: Durability,
    ) -> Result<f64> {
        let engine = self.engine()?;
        engine.prepare(durability)?;
        let all: Vec<Trade> = (first..first + rows * commits).map(trade::trade).collect();
        let batches: Vec<&[Trade]> = all.chunks(rows as usize).collect();
        let started = Instant::now();
        if threads == 1 {
            for batch in &batches {
                engine.commit(batch, durability)?;
            }
        } else {
            std::thread::scope(|scope| {
                let share = batches.len().div_ceil(threads as usize);
                let workers: Vec<_> = batches
                    .chunks(share)
                    .map(|mine| {
                        scope.spawn(move || mine.iter().try_for_each(|b| engine.commit(b, durability)))
                    })
                    .collect();
                workers.into_iter().try_for_each(|worker| worker.join().expect("commits do not panic"))
            })?;
        }
        Ok(ns(started) / commits as f64)
    }
}

/// Measures two ways to the same result alternately: median ns of each, divided by `count`, and the
/// median ratio of the first to the second. The first round is not counted.
fn in_turns(
    rounds: usize,
    count: f64,
    expected: Found,
    mut slow: impl FnMut() -> Result<Found>,
    mut fast: impl FnMut() -> Result<Found>,
) -> Result<Vec<f64>> {
    let (mut slows, mut fasts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let started = Instant::now();
        let by_slow = slow()?;
        let of_slow = ns(started) / count;
        let started = Instant::now();
        let by_fast = fast()?;
        let of_fast = ns(started) / count;
        for found in [by_slow, by_fast] {
            ensure!(found == expected, "two ways: expected {expected:?}, found {found:?}");
        }
        if round > 0 {
            slows.push(of_slow);
            fasts.push(of_fast);
            ratios.push(of_slow / of_fast);
        }
    }
    Ok(vec![median(&mut slows), median(&mut fasts), median(&mut ratios)])
}

#[inline(never)]
fn sum(rows: &[Trade]) -> Found {
    let mut found = Found::default();
    for row in rows {
        found.add(row.value());
    }
    found
}

fn ns(started: Instant) -> f64 {
    started.elapsed().as_nanos() as f64
}

/// Returns the median: the middle number, or the mean of the two middle ones; NaN if there is none.
pub(crate) fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match numbers.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => numbers[n / 2],
        n => (numbers[n / 2 - 1] + numbers[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }
}
