//! The table of safeguards and the tests that detect their absence. It is also read, so that the
//! next run starts with that test.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use pongo_torture::safeguards::{ALL, REDUNDANT};

/// Result of the tests without a safeguard.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Caught { test: String, after: Duration, late: bool },
    NotCaught { tried: usize, of: usize },
}

impl Outcome {
    /// Returns whether this test detected the absence.
    pub(crate) fn is_by(&self, title: &str) -> bool {
        matches!(self, Outcome::Caught { test, .. } if test == title)
    }
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

const NOT_CAUGHT: &str = "**not caught**";

impl Row {
    /// Returns the line of the table.
    pub(crate) fn line(&self) -> String {
        let purpose =
            ALL.iter().find(|safeguard| safeguard.name == self.name).map_or("", |known| known.purpose);
        let (by, after) = match &self.outcome {
            Outcome::Caught { test, after, late } => {
                let hangs = if *late { ", which then hangs" } else { "" };
                (format!("`{test}`{hangs}"), format!("{:.1} s", after.as_secs_f64()))
            }
            Outcome::NotCaught { tried, of } => match argument(&self.name) {
                Some(argument) => (format!("no test: {argument}"), String::new()),
                None => (format!("{NOT_CAUGHT} by {tried} tests of {of} that come by it"), String::new()),
            },
        };
        format!("| `{}` | {purpose} | {by} | {after} |", self.name)
    }
}

/// Returns the reason to keep a safeguard whose absence no test detects.
fn argument(name: &str) -> Option<&'static str> {
    REDUNDANT.iter().find(|(redundant, _)| *redundant == name).map(|(_, argument)| *argument)
}

/// Reads the table of an earlier run; empty if there was none.
pub(crate) fn read(path: &Path) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let name = cells.next()?.strip_suffix('`')?.to_owned();
    let (by, after) = (cells.nth(1)?, cells.next()?);
    let outcome = match by.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
        Some((test, rest)) => {
            let seconds = after.split(' ').next()?.parse().ok()?;
            Outcome::Caught {
                test: test.to_owned(),
                after: Duration::try_from_secs_f64(seconds).ok()?,
                late: !rest.is_empty(),
            }
        }
        None => {
            let mut numbers = by.split(' ').filter_map(|word| word.parse().ok());
            Outcome::NotCaught { tried: numbers.next().unwrap_or(0), of: numbers.next().unwrap_or(0) }
        }
    };
    Some(Row { name, outcome })
}

/// Merges the rows of this run with those of the run before for safeguards not tested now, in the
/// order of the list.
pub(crate) fn merge(before: Vec<Row>, now: Vec<Row>) -> Vec<Row> {
    let all: Vec<Row> = now.into_iter().chain(before).collect();
    ALL.iter().filter_map(|safeguard| all.iter().find(|row| row.name == safeguard.name).cloned()).collect()
}

/// Returns the names of safeguards whose absence no test detects and for which no reason is listed.
pub(crate) fn missed(rows: &[Row]) -> Vec<&str> {
    let is_missed =
        |row: &&Row| matches!(row.outcome, Outcome::NotCaught { .. }) && argument(&row.name).is_none();
    rows.iter().filter(is_missed).map(|row| row.name.as_str()).collect()
}

/// Writes the table.
pub(crate) fn write(path: &Path, rows: &[Row]) -> io::Result<()> {
    let by_test = rows.iter().filter(|row| matches!(row.outcome, Outcome::Caught { .. })).count();
    let mut text = format!(
        "# What catches a missing safeguard\n\n\
         Made by `cargo run -p pongo-torture --bin removed`, which leaves out each safeguard in turn, in a build that can do\n\
         so (`pongo_core::guard`), and runs the tests that come by it until one fails. {} safeguards: {by_test} are missed\n\
         by a test, {} are kept though none misses them, for the reason that stands there, {} are neither.\n\n\
         | safeguard | what it is for | missed by | after |\n| --- | --- | --- | --- |\n",
        rows.len(),
        rows.len() - by_test - missed(rows).len(),
        missed(rows).len(),
    );
    for row in rows {
        text.push_str(&row.line());
        text.push('\n');
    }
    fs::write(path, text)
}
