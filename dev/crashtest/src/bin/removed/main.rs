//! Tests the tests: disables each safeguard in turn and reports which test detects that.
//!
//! ```text
//! cargo run -p pongo-crashtest --bin removed -- [--out FILE] [--jobs N] [--budget SECONDS] [NAME...]
//! ```
//!
//! The test programs are built once, with `--cfg pongo_removable`, in a separate folder. Each test
//! is run once with all safeguards enabled: it must pass, and the safeguards that it reaches are
//! recorded. Then, for each safeguard (or those named), the tests that reach it are run without it
//! until one fails. The test that detected it last time, according to FILE, is run first. The
//! others are run by duration, with those that are made for this kind of safeguard earlier. The
//! result is a table, and an error if no test detected a safeguard's absence, unless
//! `pongo_crashtest::safeguards` lists it as redundant.
//!
//! `PONGO_CARGO` contains the command for cargo with its arguments, `PONGO_TORTURE` makes random
//! tests larger.

#![forbid(unsafe_code)]

mod baseline;
mod program;
mod suites;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pongo_crashtest::safeguards::{ALL, Safeguard};

use baseline::Known;
use program::End;
use table::{Outcome, Row};

struct Options {
    out: PathBuf,
    jobs: usize,
    budget: Duration,
    names: Vec<String>,
}

fn options(root: &Path) -> Result<Options, String> {
    let mut options = Options {
        out: root.join("docs/removed.md"),
        jobs: 2,
        budget: Duration::from_secs(300),
        names: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--out" => options.out = value()?.into(),
            "--jobs" => options.jobs = value()?.parse().map_err(|_| "--jobs needs a number")?,
            "--budget" => {
                options.budget =
                    Duration::from_secs(value()?.parse().map_err(|_| "--budget needs a number")?);
            }
            name if ALL.iter().any(|safeguard| safeguard.name == name) => options.names.push(name.to_owned()),
            other => return Err(format!("`{other}` is neither an option nor a safeguard's name")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match try_main() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn try_main() -> Result<bool, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let options = options(&root)?;
    let logs = root.join("target/removed");
    std::fs::create_dir_all(&logs)?;
    let mut tests = Vec::new();
    for build in suites::BUILDS {
        tests.extend(program::tests_of(build, &root, &root.join("target").join(build.name))?);
    }
    eprintln!("{} tests with all safeguards in place", tests.len());
    let known = baseline::run(&tests, &logs, options.jobs)?;
    let before = table::read(&options.out);
    let asked: Vec<&Safeguard> = ALL
        .iter()
        .filter(|safeguard| {
            options.names.is_empty() || options.names.iter().any(|name| name == safeguard.name)
        })
        .collect();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                while let Some(safeguard) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let last = before.iter().find(|row| row.name == safeguard.name);
                    let row = leave_out(safeguard, &known, last, &logs, options.budget);
                    eprintln!("{}", row.line());
                    rows.lock().expect("no thread panics with it").push(row);
                }
            });
        }
    });
    let rows = rows.into_inner()?;
    let rows = table::merge(before, rows);
    table::write(&options.out, &rows)?;
    let missed = table::missed(&rows);
    eprintln!("{} safeguards, {} not caught; {}", rows.len(), missed.len(), options.out.display());
    Ok(missed.is_empty())
}

/// Runs the tests that reach a safeguard without it, until one fails.
fn leave_out(
    safeguard: &Safeguard,
    known: &[Known],
    last: Option<&Row>,
    logs: &Path,
    budget: Duration,
) -> Row {
    let mut tests: Vec<&Known> = known.iter().filter(|test| test.reached.contains(safeguard.name)).collect();
    let noticed_before = |test: &Known| last.is_some_and(|row| row.outcome.is_by(&test.test.title));
    let is_likely =
        |test: &Known| suites::likely(safeguard.kind).iter().any(|word| test.test.title.contains(word));
    // Tests that are not made for this kind of safeguard come as late as if they took ten times as
    // long.
    let weight = |test: &Known| if is_likely(test) { test.took } else { test.took * 10 };
    tests.sort_by_key(|test| (!noticed_before(test), weight(test)));
    let log = logs.join(format!("{}.log", safeguard.name));
    let mut spent = Duration::ZERO;
    let mut tried = 0;
    for test in &tests {
        if spent > budget {
            break;
        }
        let limit = Duration::from_secs(30) + test.took * 10;
        let Ok((end, took)) = test.test.run(Some(safeguard.name), None, &log, limit) else { continue };
        spent += took;
        tried += 1;
        if end != End::Passed && is_sure(test, safeguard, logs, limit) {
            let late = end == End::Late;
            let outcome = Outcome::Caught { test: test.test.title.clone(), after: took, late };
            return Row { name: safeguard.name.to_owned(), outcome };
        }
    }
    Row { name: safeguard.name.to_owned(), outcome: Outcome::NotCaught { tried, of: tests.len() } }
}

/// Returns whether a failed test fails again, and passes with the safeguard enabled, so that the
/// failure is not random.
fn is_sure(test: &Known, safeguard: &Safeguard, logs: &Path, limit: Duration) -> bool {
    let log = logs.join(format!("{}.again.log", safeguard.name));
    let passes = |removed| test.test.run(removed, None, &log, limit).is_ok_and(|(end, _)| end == End::Passed);
    !passes(Some(safeguard.name)) && passes(None)
}
