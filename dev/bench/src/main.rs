//! Benchmarks of PongoDB and other embedded stores on the same data.
//!
//! `cargo run --release -p pongo-bench -- figures` measures everything and ends with one line per
//! figure. The modules, in reading order:
//!
//! | module | purpose |
//! | --- | --- |
//! | [`trade`] | the records, as a function of a row's number |
//! | [`engine`] | the operations of an engine, and the list of engines |
//! | [`engines`] | one module per engine, with its configuration |
//! | [`ordered`], [`indexed`] | operations of engines with ordered and secondary indexes |
//! | [`measure`] | carries out one order on one engine and checks the results |
//! | [`child`] | an engine in a separate process |
//! | [`run`], [`run_ordered`] | the order of the measurements |
//! | [`loads`] | long-running loads: queues, retention, versions |
//! | [`figures`] | goals and verdicts |
//! | [`compare`] | comparison of this working tree with another commit: `figures --base` |
//! | [`report`], [`machine`] | the tables; properties of the machine |

mod child;
mod compare;
mod engine;
mod engines;
mod figures;
mod indexed;
mod loads;
mod machine;
mod measure;
mod ordered;
mod report;
mod run;
mod run_ordered;
mod trade;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use compare::Comparison;
use engine::{ENGINES, Entry};
use run::{Effort, Numbers, Part, Place};

/// Benchmarks of PongoDB and other embedded stores on the same data.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Measures every engine and prints tables, then one line a figure. With `--base`, compares
    /// this working tree with another commit; exits with 1 if a load became worse, with 2 if the
    /// comparison failed.
    Figures {
        /// Only these engines (pongo, lmdb, redb, fjall, sled, native_db), or with `--base` these
        /// loads.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        #[command(flatten)]
        base: BaseArgs,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Measures one engine and prints its numbers as JSON lines.
    Run {
        /// pongo, lmdb, redb, fjall, sled or native_db.
        engine: String,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Measures whether a queue, a retention load and keys with many versions become slower over
    /// time.
    Loads {
        /// Run only these loads.
        #[arg(value_enum)]
        only: Vec<loads::Load>,
        /// Number of rows that the queue and retention loads write.
        #[arg(long, value_parser = rows, default_value = "2M")]
        rows: u64,
        /// Number of versions of the key that is updated repeatedly.
        #[arg(long, value_parser = rows, default_value = "400k")]
        versions: u64,
        /// Total number of versions of ten thousand keys.
        #[arg(long, value_parser = rows, default_value = "50M")]
        all_versions: u64,
        /// Folder in which the stores are created.
        #[arg(long, default_value = "target/bench")]
        dir: PathBuf,
    },
    /// Runs one engine with orders from standard input; started by the other commands.
    #[command(hide = true)]
    Serve {
        engine: String,
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
struct BaseArgs {
    /// Builds this commit too, runs it in turn with the working tree, and compares both.
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["part", "quick"])]
    base: Option<String>,
    /// Number of rounds. A load that is outside its spread after them is run for the same number
    /// again.
    #[arg(long, requires = "base", default_value_t = 9, value_parser = clap::value_parser!(u8).range(3..))]
    rounds: u8,
    /// Counts instructions too, if valgrind is installed: they decide when the times are within the
    /// spread.
    #[arg(long, requires = "base")]
    callgrind: bool,
    /// Compares two programs that are already built.
    #[arg(long, hide = true, requires = "base", num_args = 2, value_names = ["FIRST", "BASE"])]
    programs: Vec<PathBuf>,
}

/// Default sizes.
const SIZES: [u64; 2] = [2_000_000, 10_000_000];
/// Default sizes with `--base`.
const SIZES_OF_BASE: [u64; 1] = [1_000_000];

#[derive(Args, Debug)]
struct RunArgs {
    /// Number of rows: 2M, 500k, 1234 [default: 2M,10M; with --base 1M].
    #[arg(long, value_delimiter = ',', value_parser = rows)]
    rows: Vec<u64>,
    /// Folder in which the stores are created, on the disk to be measured.
    #[arg(long, alias = "work", default_value = "target/bench")]
    dir: PathBuf,
    /// Measure only this part.
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Few rounds, to test that everything runs; the numbers mean little.
    #[arg(long)]
    quick: bool,
}

impl RunArgs {
    /// Returns the requested sizes, or `default`.
    fn sizes<'a>(&'a self, default: &'a [u64]) -> &'a [u64] {
        if self.rows.is_empty() { default } else { &self.rows }
    }

    /// Returns an iterator that measures each size when it is advanced.
    fn measure(&self, place: &Place, engines: &[&'static Entry]) -> impl Iterator<Item = Result<Numbers>> {
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        self.sizes(&SIZES).iter().map(move |&rows| run::run(rows, engines, self.part, place, effort))
    }
}

fn rows(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.to_ascii_lowercase() {
        t if t.ends_with('m') => (t[..t.len() - 1].to_owned(), 1_000_000),
        t if t.ends_with('k') => (t[..t.len() - 1].to_owned(), 1000),
        t => (t, 1),
    };
    let number: u64 =
        digits.parse().map_err(|_| format!("{text:?} is no number of rows such as 2M, 500k or 1234"))?;
    match number.checked_mul(unit) {
        Some(rows @ 1..=1_000_000_000) => Ok(rows),
        _ => Err(format!("{text} rows: from 1 to 1000M can be measured")),
    }
}

fn main() -> Result<ExitCode> {
    match Cli::parse().what {
        What::Figures { only, base: BaseArgs { base: Some(base), rounds, callgrind, programs }, run } => {
            let (rounds, sizes) = (usize::from(rounds), run.sizes(&SIZES_OF_BASE));
            let comparison =
                Comparison { base: &base, programs: &programs, only: &only, rounds, sizes, callgrind };
            return match Place::take(&run.dir).and_then(|place| compare::run(&comparison, &place)) {
                Ok(worse) => Ok(ExitCode::from(u8::from(worse))),
                Err(error) => {
                    eprintln!("Error: {error:?}");
                    Ok(ExitCode::from(2))
                }
            };
        }
        What::Figures { only, run, .. } => {
            let engines = match only.as_slice() {
                [] => ENGINES.iter().collect(),
                names => names.iter().map(|name| engine::find(name)).collect::<Result<Vec<_>>>()?,
            };
            let place = Place::take(&run.dir)?;
            println!("{}\n", machine::facts(place.folder()));
            let mut figures = Vec::new();
            for numbers in run.measure(&place, &engines) {
                let numbers = numbers?;
                println!("{}\n{}", report::table(&numbers), report::ordered(&numbers));
                figures.extend(figures::figures(&numbers));
            }
            for figure in figures {
                println!("{figure}");
            }
        }
        What::Run { engine, run } => {
            let entry = engine::find(&engine)?;
            let place = Place::take(&run.dir)?;
            for numbers in run.measure(&place, &[entry]) {
                print!("{}", numbers?.json_lines()?);
            }
        }
        What::Loads { only, rows, versions, all_versions, dir } => {
            let place = Place::take(&dir)?;
            loads::run(&only, loads::Size { rows, versions, all_versions }, place.folder())?;
        }
        What::Serve { engine, dir } => child::serve(engine::find(&engine)?, &dir)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rows_are_read() {
        assert_eq!(
            [rows("2M"), rows("10m"), rows("500k"), rows("7")],
            [Ok(2_000_000), Ok(10_000_000), Ok(500_000), Ok(7)]
        );
        for wrong in ["", "M", "0", "-1", "2G", "99999999999999999999M", "2000M"] {
            assert!(rows(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
