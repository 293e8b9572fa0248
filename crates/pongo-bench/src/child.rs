//! One engine in a process of its own, from both sides: [`serve`] is the process, [`Child`] the handle on it.
//!
//! The parent writes one [`Order`] a line to the child's standard input, the child one [`Answer`] a line to its standard
//! output, both JSON. So each engine's memory is its own, a kill hits one engine only, and rounds of several engines
//! can take turns although each runs alone.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::engine::{Durability, Entry};
use crate::measure::Bench;

/// What a child is asked to measure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open the store; ns.
    Open,
    /// Load rows `0..rows`; ns a row.
    Load { rows: u64 },
    /// Look random keys up; ns a key.
    Get { rows: u64, count: usize, seed: u64, missing: bool },
    /// Scan the store and a `Vec` of the same rows in turns: median ns a row of the store, of the `Vec`, and the median
    /// of the rounds' ratios `Vec` / store.
    Scan { rows: u64, rounds: usize },
    /// Commit so many transactions of so many rows each, on so many threads together; ns a transaction.
    Commit { first: u64, rows: u64, commits: u64, threads: u64, durability: Durability },
    /// Commit single rows until killed; answers once, before the first.
    CommitForever { first: u64 },
    /// Begin and end snapshots; ns each.
    Snapshots { times: u64 },
    /// Anonymous memory since before the store was opened, in bytes.
    Memory,
    /// Leave nothing to do for ranges; ns.
    Settle,
    /// Load rows `0..rows` in key order; ns a row.
    LoadSorted { rows: u64 },
    /// Ranges of so many rows each from random places on; ns a range, how many rows were given, their sum.
    Ranges { count: usize, each: usize, seed: u64 },
    /// All rows one by one in key order; ns a row, how many, their sum.
    Walk { rows: u64 },
    /// Look the same keys up one by one and many at a time, in turns: median ns a key of the one, of the other, and the
    /// median of the rounds' ratios.
    GetMany { rows: u64, count: usize, seed: u64, rounds: usize },
    /// Days of the year over which the rows are spread, by a filter and by a look at each row, in turns: median ns a day,
    /// and the median ratio.
    Days { rows: u64, rounds: usize },
    /// A sum by one thread and by two, in turns: median ns a row of both and the median ratio, of the store
    /// and then of a `Vec`.
    Threads { rows: u64, rounds: usize },
    /// Make all indexes anew; ns.
    Rebuild,
    /// Open a store of postings; ns.
    OpenIndexed,
    /// Load postings `0..rows` and settle; ns a row.
    LoadIndexed { rows: u64 },
    /// Look random accounts up; ns each.
    Equal { rows: u64, count: usize, seed: u64, keys_only: bool },
    /// Put postings from `first` on into a store that has `rows`, each in a relaxed transaction of its own; ns each.
    PutIndexed { first: u64, rows: u64, puts: u64 },
    /// Close the store; ns.
    Close,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The numbers asked for.
    Done(Vec<f64>),
    /// It could not be done.
    Failed(String),
}

/// The child's side: carries orders out until its standard input ends.
pub(crate) fn serve(entry: &'static Entry, folder: &Path) -> Result<()> {
    let mut bench = Bench::new(entry, folder)?;
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?).context("reading an order")?;
        let forever = matches!(order, Order::CommitForever { .. });
        if forever {
            answer(&Answer::Done(Vec::new()))?;
        }
        match bench.carry_out(order) {
            Ok(numbers) => answer(&Answer::Done(numbers))?,
            Err(error) => answer(&Answer::Failed(format!("{error:#}")))?,
        }
    }
    Ok(())
}

fn answer(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// The parent's side. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) entry: &'static Entry,
    process: std::process::Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a process for one engine on a folder. The store is opened by [`Order::Open`].
    pub(crate) fn start(entry: &'static Entry, folder: &Path) -> Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", entry.name, "--dir"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting a process for {}", entry.name))?;
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("the child has no standard output")?);
        Ok(Child { entry, process, orders, answers })
    }

    /// Has one order carried out.
    pub(crate) fn ask(&mut self, order: Order) -> Result<Vec<f64>> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        let orders = self.orders.as_mut().context("the child has been told to end")?;
        orders.write_all(&line).with_context(|| format!("{} is gone before {order:?}", self.entry.name))?;
        let mut text = String::new();
        if self.answers.read_line(&mut text)? == 0 {
            bail!("{} ended during {order:?}", self.entry.name);
        }
        match serde_json::from_str(&text)? {
            Answer::Done(numbers) => Ok(numbers),
            Answer::Failed(error) => bail!("{}: {order:?}: {error}", self.entry.name),
        }
    }

    /// As [`Child::ask`], for orders with one number.
    pub(crate) fn number(&mut self, order: Order) -> Result<f64> {
        self.ask(order)?.first().copied().with_context(|| format!("no number for {order:?}"))
    }

    /// Ends the process in order: the store is closed before.
    pub(crate) fn end(mut self) -> Result<()> {
        self.ask(Order::Close)?;
        self.orders = None;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("{} ended with {status}", self.entry.name);
        }
        Ok(())
    }

    /// Ends the process with `SIGKILL`, whatever it is doing.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
