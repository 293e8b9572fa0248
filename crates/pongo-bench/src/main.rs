//! PongoDB and its peers on the same data.
//!
//! `cargo run --release -p pongo-bench -- figures` measures everything and ends with one line a figure. In reading
//! order:
//!
//! | module | what it owns |
//! | --- | --- |
//! | [`trade`] | the records, as a function of a row's number |
//! | [`engine`] | what an engine can do, and the list of engines |
//! | [`engines`] | one module an engine, with its configuration |
//! | [`ordered`], [`indexed`] | what is asked of engines with ordered and secondary indexes |
//! | [`measure`] | one order carried out on one engine, and checked |
//! | [`child`] | an engine in a process of its own |
//! | [`run`], [`run_ordered`] | the order in which things are measured |
//! | [`loads`] | what goes on for long: queues, retention, versions |
//! | [`figures`] | goals and verdicts |
//! | [`report`], [`machine`] | the tables; what the system says |

mod child;
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

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use engine::{ENGINES, Entry};
use run::{Effort, Numbers, Part, Place};

/// PongoDB and its peers on the same data.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Measures every engine and prints tables, then one line a figure.
    Figures {
        /// Only these engines (pongo, lmdb, redb, fjall, sled, native_db).
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
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
    /// Whether a queue, a retention load and keys with many versions cost more the longer they go on.
    Loads {
        /// Only these.
        #[arg(value_enum)]
        only: Vec<loads::Load>,
        /// Rows that queue and retention write.
        #[arg(long, value_parser = rows, default_value = "2M")]
        rows: u64,
        /// Versions of the key that is put again and again.
        #[arg(long, value_parser = rows, default_value = "400k")]
        versions: u64,
        /// Versions of ten thousand keys together.
        #[arg(long, value_parser = rows, default_value = "50M")]
        all_versions: u64,
        /// Where the stores are made.
        #[arg(long, default_value = "target/bench")]
        dir: PathBuf,
    },
    /// What the other commands start: one engine, orders on standard input.
    #[command(hide = true)]
    Serve {
        engine: String,
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
struct RunArgs {
    /// How many rows: 2M, 500k, 1234.
    #[arg(long, value_delimiter = ',', value_parser = rows, default_value = "2M,10M")]
    rows: Vec<u64>,
    /// Where the stores are made: on the disk that is to be measured.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Only this part of it.
    #[arg(long, value_enum)]
    part: Option<Part>,
    /// Few rounds, to see that all runs; the numbers mean little.
    #[arg(long)]
    quick: bool,
}

impl RunArgs {
    /// The numbers of each size, measured as they are asked for.
    fn measure(&self, place: &Place, engines: &[&'static Entry]) -> impl Iterator<Item = Result<Numbers>> {
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        self.rows.iter().map(move |&rows| run::run(rows, engines, self.part, place, effort))
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

fn main() -> Result<()> {
    match Cli::parse().what {
        What::Figures { only, run } => {
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
    Ok(())
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
