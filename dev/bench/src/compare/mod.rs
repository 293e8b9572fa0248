//! `figures --base COMMIT`: compares this working tree with another commit, on one machine,
//! alternately.
//!
//! Times of one run cannot be compared with those of another run: the machine, its disk and other
//! programs vary by more than the changes to be measured. Therefore the library of each commit is
//! linked into the same small program (`base/` beside `src/`), and both programs run each load
//! within the same seconds. The spread is the variation between rounds; a change counts if it is
//! larger than the spread. If it is not, and valgrind is installed, the number of instructions of
//! one operation decides; other programs do not affect it.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`build`] | the checkout of a commit, and the program built against a library |
//! | [`program`] | the program as a process |
//! | [`verdict`] | medians, ratios, spread, verdict |
//! | [`counts`] | instructions, by callgrind |
//! | [`table`] | the printed table |

mod build;
mod counts;
mod program;
mod table;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::machine;
use crate::run::{Place, progress, quiesce};
use program::{Load, Program, Running};
use verdict::{LEAST_INSTRUCTIONS, LEAST_TIME, Rounds, Verdict};

/// Options of a comparison.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    /// The commit to compare with, as a git revision.
    pub(crate) base: &'a str,
    /// Two programs that are already built, used instead of building this tree and the commit.
    pub(crate) programs: &'a [PathBuf],
    /// Names of the loads to run; empty means all.
    pub(crate) only: &'a [String],
    pub(crate) rounds: usize,
    /// Sizes of the main table, each compared separately.
    pub(crate) sizes: &'a [u64],
    /// Whether to count instructions too.
    pub(crate) callgrind: bool,
}

/// Bounds of the turns of a load in a round. Each program runs the load once in a turn, and its
/// fastest run counts: interference of other programs makes a run slower and never faster. Short
/// loads have more turns.
const LEAST_TURNS: usize = 2;
const MOST_TURNS: usize = 6;

/// A load that has taken this long in a round starts no further turn.
const ENOUGH: Duration = Duration::from_millis(400);

/// Rows of the main table when instructions are counted, which is some fifty times slower.
const ROWS_COUNTED: u64 = 20_000;

/// Number of times that instructions are counted, each in a new process; doubled for loads that
/// differ.
const COUNTS: usize = 3;

/// A load and its measurements.
pub(crate) struct Compared {
    pub(crate) load: Load,
    /// Times in nanoseconds.
    pub(crate) times: Rounds,
    /// Numbers of instructions, if they were counted.
    pub(crate) counts: Option<Rounds>,
}

impl Compared {
    /// Judges by time alone.
    pub(crate) fn by_time(&self) -> Verdict {
        self.times.summary().verdict(LEAST_TIME)
    }

    /// Judges by time; if that is within the spread, by instructions.
    pub(crate) fn verdict(&self) -> Verdict {
        match (self.by_time(), &self.counts) {
            (Verdict::Within, Some(counts)) => counts.summary().verdict(LEAST_INSTRUCTIONS),
            (by_time, _) => by_time,
        }
    }
}

/// Builds both programs, runs them alternately and prints the tables. Returns whether a load became
/// worse.
pub(crate) fn run(comparison: &Comparison<'_>, place: &Place) -> Result<bool> {
    let (first, base) = programs(comparison, place.folder())?;
    let loads = first.loads()?;
    ensure!(loads == base.loads()?, "the two programs have different loads: rebuild them");
    if let Some(name) = comparison.only.iter().find(|name| loads.iter().all(|load| load.name != **name)) {
        let names: Vec<_> = loads.iter().map(|load| load.name.as_str()).collect();
        bail!("no load is called {name:?}: there are {}", names.join(", "));
    }
    let chosen = |load: &&Load| comparison.only.is_empty() || comparison.only.contains(&load.name);
    let loads: Vec<Load> = loads.iter().filter(chosen).cloned().collect();

    println!("{}\n\nfirst: {}\nbase: {}", machine::facts(place.folder()), first.title, base.title);
    let both = [&first, &base];
    let counted = if comparison.callgrind && counts::available() {
        count(&loads, both, place)?
    } else {
        if comparison.callgrind {
            eprintln!("valgrind is not installed: instructions are not counted");
        }
        vec![None; loads.len()]
    };
    let mut worse = false;
    for &rows in comparison.sizes {
        let needed = rows * 600 + (2 << 30);
        let free = machine::free_bytes(place.folder())?;
        ensure!(
            free >= needed,
            "{} MiB of free disk are needed, {} has {}: make room, or give another folder with --dir",
            needed >> 20,
            place.folder().display(),
            free >> 20
        );
        let mut compared: Vec<Compared> = loads
            .iter()
            .zip(&counted)
            .map(|(load, counts)| Compared {
                load: load.clone(),
                times: Rounds::default(),
                counts: counts.clone(),
            })
            .collect();
        let mut all: Vec<&mut Compared> = compared.iter_mut().collect();
        rounds(&mut all, 0..comparison.rounds, both, rows, place)?;
        // A program compared with itself is outside the spread in one of fifty loads, and there are
        // two dozen loads, so loads that differ are measured again.
        let mut doubtful: Vec<&mut Compared> =
            all.into_iter().filter(|one| one.by_time() != Verdict::Within).collect();
        if !doubtful.is_empty() {
            let again = comparison.rounds..2 * comparison.rounds;
            rounds(&mut doubtful, again, both, rows, place)?;
        }
        print!("\n{}", table::table(&compared, rows));
        worse |= compared.iter().any(|one| one.verdict() == Verdict::Worse);
    }
    Ok(worse)
}

/// Copies both programs to paths of the same length: the length of the arguments moves the stack,
/// and that affects the speed of some loops.
fn programs(comparison: &Comparison<'_>, folder: &Path) -> Result<(Program, Program)> {
    let ((first, first_title), (base, base_title)) = match comparison.programs {
        [first, base] => {
            let title = |path: &Path| path.display().to_string();
            ((first.clone(), title(first)), (base.clone(), title(base)))
        }
        _ => build::both(comparison.base)?,
    };
    let install = |from: &Path, name: &str, title: String| {
        let to = folder.join(name);
        fs::create_dir(&to)?;
        let program = to.join("pongo-base");
        fs::copy(from, &program).with_context(|| format!("copying {}", from.display()))?;
        Ok::<_, anyhow::Error>(Program { path: program, stores: to.join("stores"), title })
    };
    Ok((install(&first, "first", first_title)?, install(&base, "other", base_title)?))
}

/// Counts the instructions of the loads by both programs, for each load in which they can be
/// counted.
fn count(loads: &[Load], programs: [&Program; 2], place: &Place) -> Result<Vec<Option<Rounds>>> {
    let folder = place.folder().join("counts");
    let mut counted: Vec<Option<Rounds>> =
        loads.iter().map(|load| load.counted.then(Rounds::default)).collect();
    for nth in 0..2 * COUNTS {
        // Only loads that differ are counted more often.
        let differs = |counts: &Rounds| counts.summary().verdict(LEAST_INSTRUCTIONS) != Verdict::Within;
        let (names, rounds): (Vec<&str>, Vec<&mut Rounds>) = loads
            .iter()
            .zip(&mut counted)
            .filter_map(|(load, counts)| Some((load.name.as_str(), counts.as_mut()?)))
            .filter(|(_, counts)| nth < COUNTS || differs(counts))
            .unzip();
        if names.is_empty() {
            break;
        }
        let first = counts::count(programs[0], &names, ROWS_COUNTED, &folder)?;
        let base = counts::count(programs[1], &names, ROWS_COUNTED, &folder)?;
        for (counts, (first, base)) in rounds.into_iter().zip(first.into_iter().zip(base)) {
            counts.add(first, base);
        }
        progress("both", ROWS_COUNTED, &format!("instructions of {} loads counted", names.len()));
    }
    Ok(counted)
}

/// Adds rounds to each load. Each round has new processes and new stores, so that the spread
/// includes what differs between processes by chance (pages of memory, places on the disk).
fn rounds(
    compared: &mut [&mut Compared],
    rounds: std::ops::Range<usize>,
    programs: [&Program; 2],
    rows: u64,
    place: &Place,
) -> Result<()> {
    for round in rounds.clone() {
        let mut running = [Running::start(programs[0], rows)?, Running::start(programs[1], rows)?];
        for one in &mut *compared {
            let mut best = [f64::INFINITY; 2];
            let started = Instant::now();
            for turn in 0..MOST_TURNS {
                if turn >= LEAST_TURNS && started.elapsed() > ENOUGH {
                    break;
                }
                for nth in in_turn(round + turn) {
                    if one.load.disk {
                        quiesce();
                    }
                    best[nth] = best[nth].min(running[nth].ask(&one.load.name)?);
                }
            }
            one.times.add(best[0], best[1]);
        }
        for one in running {
            one.end()?;
        }
        for program in programs {
            fs::remove_dir_all(&program.stores)
                .with_context(|| format!("emptying {}", place.folder().display()))?;
        }
        progress("both", rows, &format!("round {} of {}", round + 1, rounds.end));
    }
    Ok(())
}

/// Returns the order of the two programs in a turn: A B, B A, A B …
fn in_turn(turn: usize) -> [usize; 2] {
    if turn.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_alternates() {
        let order: Vec<_> = (0..3).flat_map(in_turn).collect();
        assert_eq!(order, [0, 1, 1, 0, 0, 1]);
    }

    #[test]
    fn counts_decide_within_the_spread_only() {
        let rounds = |ratio: f64| {
            let mut rounds = Rounds::default();
            (0..9).for_each(|_| rounds.add(ratio * 100.0, 100.0));
            rounds
        };
        let verdict = |times, counts: Option<f64>| {
            let (name, unit, what) = ("get".to_owned(), "key".to_owned(), String::new());
            let load = Load { name, unit, disk: false, counted: counts.is_some(), what };
            Compared { load, times: rounds(times), counts: counts.map(rounds) }.verdict()
        };
        assert_eq!(verdict(1.0, None), Verdict::Within);
        assert_eq!(verdict(1.0, Some(1.01)), Verdict::Within);
        assert_eq!(verdict(1.0, Some(1.03)), Verdict::Worse);
        assert_eq!(verdict(1.0, Some(0.97)), Verdict::Better);
        assert_eq!(verdict(1.2, Some(0.97)), Verdict::Worse);
        assert_eq!(verdict(0.8, Some(1.03)), Verdict::Better);
    }
}
