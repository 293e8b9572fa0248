//! An engine in a separate process: [`serve`] runs in the child, [`Child`] is the parent's handle.
//!
//! The parent writes each [`Order`] as one line to the child's standard input; the child writes
//! each [`Answer`] as one line to its standard output. Both are JSON. Because of the separate
//! processes, each engine's memory is measured alone, a kill hits one engine only, and rounds of
//! several engines can alternate.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::engine::{Durability, Entry};
use crate::measure::Bench;

/// A measurement that the parent asks of a child. Each returns the numbers given after the
/// semicolon.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open the store; ns.
    Open,
    /// Load rows `0..rows`; ns per row.
    Load { rows: u64 },
    /// Look up random keys; ns per key.
    Get { rows: u64, count: usize, seed: u64, missing: bool },
    /// Scan the store and a `Vec` of the same rows alternately; median ns per row of the store, of
    /// the `Vec`, and the median of the rounds' ratios `Vec` / store.
    Scan { rows: u64, rounds: usize },
    /// Commit `commits` transactions of `rows` rows each, distributed over `threads` threads; ns
    /// per transaction.
    Commit { first: u64, rows: u64, commits: u64, threads: u64, durability: Durability },
    /// Commit single rows until killed. The child answers once, before the first commit.
    CommitForever { first: u64 },
    /// Begin and end snapshots; ns each.
    Snapshots { times: u64 },
    /// Growth of the anonymous memory since before the store was opened, in bytes.
    Memory,
    /// Finish all pending work that range queries would otherwise do; ns.
    Settle,
    /// Load rows `0..rows` in key order; ns per row.
    LoadSorted { rows: u64 },
    /// Read `count` ranges of `each` rows from random keys; ns per range, number of rows returned,
    /// their sum.
    Ranges { count: usize, each: usize, seed: u64 },
    /// Read all rows one by one in key order; ns per row, number of rows, their sum.
    Walk { rows: u64 },
    /// Look up the same keys one by one and in batches, alternately; median ns per key of single
    /// lookups, of batch lookups, and the median of the rounds' ratios.
    GetMany { rows: u64, count: usize, seed: u64, rounds: usize },
    /// Find the rows of days of the year over which the rows are spread, by testing each row and by
    /// a filter, alternately; median ns per day of both, and the median ratio.
    Days { rows: u64, rounds: usize },
    /// Sum by one thread and by two, alternately; median ns per row of both and the median ratio,
    /// for the store and then for a `Vec`.
    Threads { rows: u64, rounds: usize },
    /// Rebuild all indexes; ns.
    Rebuild,
    /// Open a store of postings; ns.
    OpenIndexed,
    /// Load postings `0..rows` and settle; ns per row.
    LoadIndexed { rows: u64 },
    /// Look up random accounts; ns each.
    Equal { rows: u64, count: usize, seed: u64, keys_only: bool },
    /// Insert postings from number `first` into a store that has `rows`, each in a separate relaxed
    /// transaction; ns each.
    PutIndexed { first: u64, rows: u64, puts: u64 },
    /// Close the store; ns.
    Close,
}

/// Reply of a child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The requested numbers.
    Done(Vec<f64>),
    /// The order failed, with this error message.
    Failed(String),
}

/// Runs the child's side: carries out orders until standard input ends.
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

/// The parent's handle of a child process. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) entry: &'static Entry,
    process: std::process::Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a process for one engine on a folder. [`Order::Open`] opens the store.
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

    /// Sends one order and waits for its answer.
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

    /// Sends an order with a single number, like [`Child::ask`], and returns the number.
    pub(crate) fn number(&mut self, order: Order) -> Result<f64> {
        self.ask(order)?.first().copied().with_context(|| format!("no number for {order:?}"))
    }

    /// Closes the store and ends the process cleanly.
    pub(crate) fn end(mut self) -> Result<()> {
        self.ask(Order::Close)?;
        self.orders = None;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("{} ended with {status}", self.entry.name);
        }
        Ok(())
    }

    /// Ends the process with `SIGKILL`, even during an order.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended, which is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
