//! The result of each test with all safeguards enabled: whether it passes, its duration, and the
//! safeguards that it reaches.
//!
//! The results are stored in a file and reused until the test program changes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::program::{End, Test};

/// A test that passes.
pub(crate) struct Known {
    pub(crate) test: Test,
    pub(crate) took: Duration,
    pub(crate) reached: BTreeSet<String>,
}

/// Maximum duration of a test with all safeguards enabled.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs all tests without a stored result. Tests that reach no safeguard are excluded.
pub(crate) fn run(tests: &[Test], logs: &Path, jobs: usize) -> io::Result<Vec<Known>> {
    let file = logs.join("baseline.txt");
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for job in 0..jobs.max(1) {
            let (reached, log) =
                (logs.join(format!("reached.{job}")), logs.join(format!("baseline.{job}.log")));
            let (next, lines, failed, kept) = (&next, &lines, &failed, &kept);
            scope.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(test) = tests.get(i) else { break };
                    let key = key(test);
                    let line = match kept.lines().find(|line| line.starts_with(&key)) {
                        Some(line) => Some(line.to_owned()),
                        None => try_once(test, &key, &reached, &log),
                    };
                    match line {
                        Some(line) => lines.lock().expect("no thread panics with it").push((i, line)),
                        None => failed.lock().expect("no thread panics with it").push(test.title.clone()),
                    }
                }
            });
        }
    });
    let mut lines = lines.into_inner().map_err(|_| io::Error::other("a thread panicked"))?;
    lines.sort();
    fs::write(&file, lines.iter().map(|(_, line)| format!("{line}\n")).collect::<String>())?;
    for title in failed.into_inner().map_err(|_| io::Error::other("a thread panicked"))? {
        eprintln!("fails with all safeguards in place, and is not asked: {title}");
    }
    let known = |(i, line): &(usize, String)| {
        let mut words = line.strip_prefix(&key(&tests[*i]))?.split_whitespace();
        let took = Duration::from_millis(words.next()?.parse().ok()?);
        Some(Known { test: tests[*i].clone(), took, reached: words.map(str::to_owned).collect() })
    };
    Ok(lines.iter().filter_map(known).filter(|known| !known.reached.is_empty()).collect())
}

/// Returns the start of a line: the test, and the build time of its program.
fn key(test: &Test) -> String {
    let built = fs::metadata(&test.program).and_then(|metadata| metadata.modified());
    let built = built.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{}@{} ", test.title.replace(' ', "/"), built.map_or(0, |time| time.as_millis()))
}

fn try_once(test: &Test, key: &str, reached: &Path, log: &Path) -> Option<String> {
    let _ = fs::remove_file(reached);
    let (end, took) = test.run(None, Some(reached), log, LIMIT).ok()?;
    let names: BTreeSet<String> =
        fs::read_to_string(reached).unwrap_or_default().lines().map(str::to_owned).collect();
    let names: Vec<String> = names.into_iter().collect();
    (end == End::Passed).then(|| format!("{key}{} {}", took.as_millis(), names.join(" ")))
}
