//! The program of `figures --base COMMIT`: the same loads, compiled against the libraries of two
//! commits and timed alternately.
//!
//! `pongo-bench` builds these files twice, in a separate crate whose only dependency is `pongo`:
//! once against the working tree, once against a checkout of the other commit. So everything here
//! must
//! - use nothing but `pongo` and the standard library: no other databases, no C;
//! - compile against both commits without warnings that are errors. Call only what both commits
//!   have, and rely on nothing in which they differ: `let mut tx` (one commit needs the `mut`, the
//!   other does not), one `TableMut` at a time in a separate block, the value of `commit` and
//!   `extend` ignored by `let _ =`;
//! - check what it reads: the time of a wrong answer is meaningless.
//!
//! Modules in reading order:
//!
//! | module | purpose |
//! | --- | --- |
//! | [`world`] | the stores of one process, and the clock |
//! | [`records`] | the rows, as functions of their numbers |
//! | [`tables`] | loads of one table: lookups, bulk loads, scans, ranges, commits, opening |
//! | [`growth`] | loads whose cost must not grow: queue, retention, versions, a second process |
//!
//! A new load is a function and a line in [`tables::LOADS`] or [`growth::LOADS`]; the harness asks
//! the program for its list of loads.

// Older commits take keys as references only.
#![allow(clippy::needless_borrows_for_generic_args)]
// The commit decides whether `let mut tx` needs its `mut` and whether a returned value may be
// dropped.
#![allow(unused_mut, unused_must_use)]

mod growth;
mod records;
mod tables;
mod world;

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;

use world::{Clock, Load, Outcome, World};

const USAGE: &str = "usage: pongo-base list
       pongo-base serve DIR ROWS          names of loads on standard input, one a line
       pongo-base count DIR ROWS LOAD...  each load twice, for callgrind
       pongo-base second PATH RANGES SEED   the second process of the load second_range";

/// Returns all loads, in the order in which they run.
fn loads() -> impl Iterator<Item = &'static Load> {
    tables::LOADS.iter().chain(growth::LOADS)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["list"] => list(),
        ["serve", folder, rows] => serve(Path::new(folder), rows),
        ["count", folder, rows, names @ ..] => count(Path::new(folder), rows, names),
        ["second", path, ranges, seed] => growth::second(Path::new(path), ranges, seed),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pongo-base: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one line for each load: name, unit, `disk` or `cpu`, `counted` or `uncounted`, and
/// description, separated by tabs.
fn list() -> Outcome {
    for Load { name, unit, disk, counted, what, .. } in loads() {
        let disk = if *disk { "disk" } else { "cpu" };
        let counted = if *counted { "counted" } else { "uncounted" };
        println!("{name}\t{unit}\t{disk}\t{counted}\t{what}");
    }
    Ok(())
}

fn find(name: &str) -> Outcome<&'static Load> {
    Ok(loads().find(|load| load.name == name).ok_or_else(|| format!("no load is called {name:?}"))?)
}

/// Runs a load. Returns the nanoseconds of one operation and the number of operations.
fn run(load: &Load, world: &mut World) -> Outcome<(f64, u64)> {
    let mut clock = Clock::default();
    (load.run)(world, &mut clock)?;
    let (took, operations) = clock.read().ok_or("the load did not use the clock exactly once")?;
    Ok((took.as_nanos() as f64 / operations as f64, operations))
}

/// Reads the name of a load from each line of standard input, runs it and answers with one line:
/// `ok NANOSECONDS` or `error TEXT`.
fn serve(folder: &Path, rows: &str) -> Outcome {
    let mut world = World::new(folder, rows.parse()?)?;
    for line in std::io::stdin().lock().lines() {
        let answer = match find(&line?).and_then(|load| run(load, &mut world)) {
            Ok((nanoseconds, _)) => format!("ok {nanoseconds}"),
            Err(error) => format!("error {}", error.to_string().replace('\n', " ")),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Runs each load twice and prints the number of operations of each run; callgrind writes its dumps
/// in the same order. Work that only the first run does (checksums of blocks, sorting keys in
/// memory) is not part of the cost of an operation.
fn count(folder: &Path, rows: &str, names: &[&str]) -> Outcome {
    let mut world = World::new(folder, rows.parse()?)?;
    for name in names {
        for _ in 0..2 {
            let (_, operations) = run(find(name)?, &mut world)?;
            println!("{name} {operations}");
        }
    }
    Ok(())
}
