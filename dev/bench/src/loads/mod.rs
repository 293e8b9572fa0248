//! Long-running loads, which show whether costs grow with everything written before instead of with
//! the live rows only.
//!
//! | module | load |
//! | --- | --- |
//! | [`queue`] | jobs are inserted at one end and removed at the other |
//! | [`retention`] | new rows are inserted, and the oldest are deleted |
//! | [`versions`] | keys with hundreds of thousands of versions, and snapshots of all ages |

mod queue;
mod retention;
mod versions;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use pongo::{Options, Store};

/// A long-running load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Load {
    Queue,
    Retention,
    Versions,
}

/// Sizes of the loads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Rows written by the queue and retention loads.
    pub(crate) rows: u64,
    /// Versions of the hot key.
    pub(crate) versions: u64,
    /// Versions of the ten thousand keys of the second part, in total.
    pub(crate) all_versions: u64,
}

/// Runs the loads, each in a separate folder, and prints their times.
pub(crate) fn run(loads: &[Load], size: Size, dir: &Path) -> Result<()> {
    let is_asked = |load| loads.is_empty() || loads.contains(&load);
    if is_asked(Load::Queue) {
        queue::run(size.rows, &dir.join("queue"))?;
    }
    if is_asked(Load::Retention) {
        retention::run(size.rows, &dir.join("retention"))?;
    }
    if is_asked(Load::Versions) {
        versions::run(size.versions, size.all_versions, &dir.join("versions"))?;
    }
    Ok(())
}

/// Opens a store in a folder of this run.
fn open(options: Options, dir: &Path) -> Result<Store> {
    std::fs::create_dir_all(dir)?;
    // SAFETY: the folder is inside the one that belongs to this run; no other program writes,
    // truncates or replaces files there.
    let store = unsafe { options.open(dir) }?;
    Ok(store)
}

/// Measurements of the tenths of a run, with one column for each thing that is timed.
struct Tenths {
    title: String,
    names: Vec<&'static str>,
    /// Largest acceptable ratio of the last tenth to the first, for each column.
    goals: Vec<f64>,
    /// Times by tenth, then by column.
    times: Vec<Vec<Vec<Times>>>,
    yardstick: Yardstick,
    /// Times of the yardstick's work, by tenth.
    same_work: Vec<Vec<Duration>>,
    calls: usize,
}

/// A constant amount of work. Its time shows how much of the machine other programs use at that
/// moment.
struct Yardstick {
    /// Each element is the index of the next one; together they are larger than the inner caches.
    next: Vec<u32>,
}

impl Yardstick {
    const PLACES: u32 = 1 << 20;
    const STEPS: u32 = 2000;
    /// Number of timed operations between two runs of the yardstick.
    const EVERY: usize = 20;

    fn new() -> Self {
        // A full cycle through all elements: the multiplier is 1 modulo 4, the increment odd.
        let next =
            (0..Self::PLACES).map(|at| at.wrapping_mul(0x9e37_79b5).wrapping_add(0x1234_5677) % Self::PLACES);
        Self { next: next.collect() }
    }

    fn work(&self) -> Duration {
        let began = Instant::now();
        let at = (0..Self::STEPS).fold(1, |at: u32, _| self.next[at as usize]);
        std::hint::black_box(at);
        began.elapsed()
    }
}

/// Duration of an operation, and the processor time that the thread used in it. Other work on the
/// machine and waiting for the disk do not count as processor time.
#[derive(Clone, Copy, Default)]
struct Times {
    wall: Duration,
    processor: Duration,
}

/// Returns the processor time that this thread used so far.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

impl Tenths {
    fn new(title: String, columns: &[(&'static str, f64)]) -> Self {
        let (names, goals) = columns.iter().copied().unzip();
        let (times, same_work) = Default::default();
        Self { title, names, goals, times, yardstick: Yardstick::new(), same_work, calls: 0 }
    }

    /// Starts the next tenth.
    fn begin(&mut self) {
        self.times.push(vec![Vec::new(); self.names.len()]);
        self.same_work.push(Vec::new());
    }

    /// Times an operation as `column` of this tenth.
    fn time<R>(&mut self, column: usize, what: impl FnOnce() -> Result<R>) -> Result<R> {
        if self.calls.is_multiple_of(Yardstick::EVERY)
            && let Some(tenth) = self.same_work.last_mut()
        {
            tenth.push(self.yardstick.work());
        }
        self.calls += 1;
        let (began, before) = (Instant::now(), processor_time());
        let result = what()?;
        let processor = processor_time().saturating_sub(before);
        let times = Times { wall: began.elapsed(), processor };
        if let Some(tenth) = self.times.last_mut() {
            tenth[column].push(times);
        }
        Ok(result)
    }

    /// Returns the median times of a column in a tenth.
    fn median(&self, tenth: usize, column: usize) -> Times {
        let median = |of: fn(&Times) -> Duration| median(self.times[tenth][column].iter().map(of).collect());
        Times { wall: median(|times| times.wall), processor: median(|times| times.processor) }
    }

    /// Prints a line for each tenth with the median times and, in brackets, the median processor
    /// times; then the ratio of the last tenth to the first, for each column and for the yardstick.
    /// If the yardstick became slower, everything else did as well.
    fn print(&self) {
        println!("{}", self.title);
        let line = |head: &str, cells: Vec<String>| println!("{head:>8} {}", cells.join(" "));
        line("tenth", self.names.iter().map(|name| format!("{name:>26}")).collect());
        for tenth in 0..self.times.len() {
            let cells = (0..self.names.len()).map(|column| {
                let Times { wall, processor } = self.median(tenth, column);
                format!("{:>26}", format!("{} ({})", micros(wall), micros(processor)))
            });
            line(&format!("{}", tenth + 1), cells.collect());
        }
        let Some(last) = self.times.len().checked_sub(1) else { return };
        let same = |tenth: usize| median(self.same_work[tenth].clone()).as_secs_f64();
        println!("the same work: last tenth {:.2} x the first", same(last) / same(0).max(1e-9));
        for (column, (name, goal)) in self.names.iter().zip(&self.goals).enumerate() {
            let (first, last) = (self.median(0, column), self.median(last, column));
            let ratio =
                |of: fn(&Times) -> Duration| of(&last).as_secs_f64() / of(&first).as_secs_f64().max(1e-9);
            let (wall, processor) = (ratio(|times| times.wall), ratio(|times| times.processor));
            let verdict = if wall <= *goal { "reached" } else { "missed" };
            println!(
                "figure {}: {name}: last tenth {wall:.2} x the first ({processor:.2} x its processor time), \
                 goal {goal}: {verdict}",
                self.title
            );
        }
        println!();
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Formats a duration in microseconds.
fn micros(time: Duration) -> String {
    format!("{:.2} us", time.as_secs_f64() * 1e6)
}

/// Runs an operation `times` times and returns its median time.
fn median_of<R>(times: usize, mut what: impl FnMut() -> Result<R>) -> Result<Duration> {
    let mut all = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        std::hint::black_box(what()?);
        all.push(began.elapsed());
    }
    Ok(median(all))
}
