//! Runs cases in child processes of the same binary, so that a signal, an abort or a hang can be
//! attributed to its case.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kept::BASES;

const ROLE: &str = "PONGO_ROT_ROLE";
/// Time limit of a case: a case that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);
/// Number of failures after which no more are reported.
const ENOUGH: usize = 40;

/// The cases of a child: every `step`-th case from `next` up to `end`.
#[derive(Clone, Copy, Debug)]
struct Share {
    next: u64,
    step: u64,
    end: u64,
}

/// The result of a case: its outcome, or the error found.
pub(crate) type Verdict = Result<String, String>;

/// Location and message of the last panic.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// The cases of one test.
pub(crate) struct Cases<'a> {
    /// The test's name.
    pub(crate) test: &'static str,
    /// Folder with the files of the stores.
    pub(crate) bases: &'a Path,
    pub(crate) count: u64,
    /// Runs a case. A panic is a failure.
    pub(crate) run: &'a dyn Fn(u64) -> Verdict,
    pub(crate) describe: &'a dyn Fn(u64) -> String,
}

/// Results of all cases.
#[derive(Default, Debug)]
pub(crate) struct Sum {
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) failures: Vec<String>,
}

/// Installs a hook that records each panic with its location, in whichever thread it occurs.
fn note_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let what = match info.payload().downcast_ref::<String>() {
            Some(what) => what.as_str(),
            None => info.payload().downcast_ref::<&str>().copied().unwrap_or("a panic"),
        };
        *PANICKED.lock().unwrap() = Some(format!("panic at {place}: {what}"));
    }));
}

/// Returns the location and message of a panic in this process since the last call.
pub(crate) fn panicked() -> Option<String> {
    PANICKED.lock().unwrap().take()
}

impl Cases<'_> {
    /// Runs all cases in two child processes. In a child, runs its share and returns `None`.
    pub(crate) fn run_all(&self) -> Option<Sum> {
        if let Ok(role) = std::env::var(ROLE) {
            self.work(&role);
            return None;
        }
        if let Ok(case) = std::env::var("PONGO_CASE") {
            // Runs one case by its number in this process, for debugging.
            let case: u64 = case.parse().expect("PONGO_CASE is a number");
            if case >= self.count {
                println!("{} has no case {case}: there are {}", self.test, self.count);
                return None;
            }
            println!("case {case}: {}", (self.describe)(case));
            println!("{:?}", (self.run)(case));
            return None;
        }
        let shares = [0, 1].map(|next| Share { next, step: 2, end: self.count });
        let (test, bases) = (self.test, self.bases);
        let sums = std::thread::scope(|scope| {
            shares
                .map(|share| scope.spawn(move || supervise(test, bases, share)))
                .map(|thread| thread.join().expect("it does not panic"))
        });
        let mut sum = Sum::default();
        for (outcomes, failures) in sums {
            for (outcome, count) in outcomes {
                *sum.outcomes.entry(outcome).or_default() += count;
            }
            let tell = |(case, what): &(u64, String)| {
                format!("PONGO_CASE={case}: {}: {what}", (self.describe)(*case))
            };
            sum.failures.extend(failures.iter().map(tell));
        }
        let counted = sum.outcomes.values().sum::<u64>() + sum.failures.len() as u64;
        assert!(counted == self.count || sum.failures.len() >= ENOUGH, "{counted} of {} cases", self.count);
        Some(sum)
    }

    fn work(&self, role: &str) {
        let words: Vec<&str> = role.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let share = Share { next: number(0), step: number(1), end: number(2) };
        let progress = std::fs::File::options().write(true).open(words[3]).unwrap();
        note_panics();
        let started = Instant::now();
        // Time at which the case started, in milliseconds, + 1; 0 if no case is running.
        static BEGAN: AtomicU64 = AtomicU64::new(0);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(50));
                let began = BEGAN.load(Ordering::Relaxed);
                let now = started.elapsed().as_millis() as u64;
                if began != 0 && now + 1 > began + LIMIT.as_millis() as u64 {
                    println!("rot: hang");
                    std::process::abort();
                }
            }
        });
        let mut case = share.next;
        let mut told = 0;
        while case < share.end {
            progress.write_all_at(&case.to_le_bytes(), 0).unwrap();
            BEGAN.store(started.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
            let verdict = catch_unwind(AssertUnwindSafe(|| (self.run)(case)));
            BEGAN.store(0, Ordering::Relaxed);
            let verdict = match (verdict, panicked()) {
                (Ok(verdict), None) => verdict,
                (_, place) => Err(place.unwrap_or_else(|| "a panic".to_owned())),
            };
            match verdict {
                Ok(outcome) => println!("rot: came {outcome}"),
                Err(what) => {
                    println!("rot: failed {case} {}", what.replace('\n', " "));
                    told += 1;
                    if told > ENOUGH {
                        break;
                    }
                }
            }
            case += share.step;
        }
        println!("rot: done");
    }
}

type Told = (BTreeMap<String, u64>, Vec<(u64, String)>);

/// Runs a share in a child. If the child crashes, continues in another child after the case that
/// crashed it.
fn supervise(test: &str, bases: &Path, mut share: Share) -> Told {
    let mut told = Told::default();
    let progress = tempfile::NamedTempFile::new().unwrap();
    while share.next < share.end && told.1.len() < ENOUGH {
        progress.as_file().write_all_at(&share.next.to_le_bytes(), 0).unwrap();
        let Some(death) = run_child(test, bases, share, progress.path(), &mut told) else { break };
        let mut case = [0; 8];
        progress.as_file().read_exact_at(&mut case, 0).unwrap();
        let case = u64::from_le_bytes(case);
        // On a busy machine a slow case can look like a hang. It counts as a hang if it hangs again
        // three times when run alone.
        let alone = Share { next: case, step: 1, end: case + 1 };
        let again = |_| run_child(test, bases, alone, progress.path(), &mut Told::default()).is_some();
        if !death.contains("hang") || (0..3).all(again) {
            told.1.push((case, death));
        } else {
            *told.0.entry("slow".to_owned()).or_default() += 1;
        }
        share.next = case + share.step;
    }
    told
}

/// Runs a share in a child. Returns the reason if the child crashed.
fn run_child(test: &str, bases: &Path, share: Share, progress: &Path, told: &mut Told) -> Option<String> {
    let role = format!("{} {} {} {}", share.next, share.step, share.end, progress.display());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(BASES, bases)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut done, mut hangs) = (false, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(line) = line.split_once("rot: ").map(|(_, line)| line) else { continue };
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "came" => *told.0.entry(words[1].to_owned()).or_default() += 1,
            "failed" => told.1.push((words[1].parse().unwrap(), words[2..].join(" "))),
            "done" => done = true,
            _ => hangs = true,
        }
    }
    let status = child.wait().unwrap();
    if done && status.success() {
        return None;
    }
    Some(if hangs { format!("hang: more than {LIMIT:?}") } else { format!("the process ended: {status}") })
}
