//! Carries one [`Order`] out on one engine, and checks what the engine answers.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::child::Order;
use crate::engine::{Durability, Engine, Entry, Found};
use crate::machine;
use crate::trade::{self, Trade};

/// One engine, its folder, and its store once it is open.
pub(crate) struct Bench {
    entry: &'static Entry,
    folder: PathBuf,
    engine: Option<Box<dyn Engine>>,
    /// Anonymous memory before the store was opened.
    memory: u64,
}

impl Bench {
    pub(crate) fn new(entry: &'static Entry, folder: &Path) -> Result<Bench> {
        Ok(Bench { entry, folder: folder.to_owned(), engine: None, memory: machine::anonymous_memory()? })
    }

    fn engine(&self) -> Result<&dyn Engine> {
        self.engine.as_deref().context("the store is not open")
    }

    /// The numbers that [`Order`] names.
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
            Order::Close => {
                let started = Instant::now();
                self.engine = None;
                vec![ns(started)]
            }
        })
    }

    /// Store and `Vec` in turns, so that both see the same state of the machine.
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

    /// The rows are made before the clock starts.
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

/// The middle one, or the mean of the two middle ones; NaN of none.
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
