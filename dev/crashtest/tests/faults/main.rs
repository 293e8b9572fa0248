//! The N-th call of the storage fails, for every N of a workload that uses every function at least
//! once: with every error that the call can have, once, and from then on for the same function, the
//! same file, or all calls.
//!
//! | file | purpose |
//! | --- | --- |
//! | here | the cases, the threads that run them, and the report of those that fail |
//! | `work` | the steps performed on the store |
//! | `regress` | one test for each defect that was found |
//! | `run` | the answers that the store may give, and the states that it may be in |
//!
//! To repeat one case, set `PONGO_SEED` as it was printed, and `PONGO_FAULT` to the failing case as
//! it was printed.

mod regress;
mod run;
mod work;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use pongo_crashtest::{seed, size};
use pongo_sim::{Call, Fault, Repeat};

use run::Run;
use work::work;

const EIO: i32 = 5;
const EINTR: i32 = 4;
const ENOMEM: i32 = 12;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const ENOLCK: i32 = 37;

/// Returns the errors that a call can have, each with whether a part of the call is performed
/// before it fails.
fn errors(call: Call) -> &'static [(i32, bool)] {
    match call {
        Call::WriteAt => &[(EIO, true), (ENOSPC, false), (EIO, false), (ENOSPC, true), (EINTR, true)],
        Call::Allocate => &[(ENOSPC, false), (ENOSPC, true), (EIO, false), (EINTR, false)],
        Call::SetLen => &[(ENOSPC, false), (EIO, false), (EINTR, false)],
        Call::Sync => &[(EIO, false), (ENOSPC, false), (EINTR, false)],
        Call::SyncDir | Call::Rename | Call::CreateDir => &[(EIO, false), (ENOSPC, false)],
        Call::Create => &[(ENOSPC, false), (EMFILE, false), (EIO, false)],
        Call::Open => &[(EMFILE, false), (EIO, false), (EINTR, false)],
        Call::List => &[(EMFILE, false), (EIO, false)],
        Call::Remove | Call::Len | Call::FolderIdentity => &[(EIO, false)],
        Call::ReadAt | Call::NextData => &[(EIO, false), (EINTR, false)],
        Call::Reserve | Call::MapWords | Call::MapInto => &[(ENOMEM, false)],
        Call::TryLock | Call::Lock | Call::IsLocked => &[(ENOLCK, false), (EINTR, false)],
        // Does not fail: see `pongo_sim::Faults`.
        Call::Unlock => &[],
    }
}

const ALL: [Repeat; 4] = [Repeat::Never, Repeat::Call, Repeat::File, Repeat::All];

const SETTINGS: [Setting; 3] = [Setting::Alone, Setting::Company, Setting::Keeper];

/// One case.
#[derive(Clone, Copy, Debug)]
struct Case {
    fault: Fault,
    setting: Setting,
}

/// The other users of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Setting {
    /// None.
    Alone,
    /// Another process that has the store open all the time: locks, joining, takeover.
    Company,
    /// The background thread that maintains the ordered indexes: its calls are not counted, but a
    /// lasting fault affects them too.
    Keeper,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fault { at, errno, partly, repeat } = self.fault;
        write!(f, "{at},{errno},{partly},{repeat:?},{:?}", self.setting)
    }
}

impl Case {
    /// Parses a case as it was printed.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut next = || parts.next();
        let (at, errno, partly) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
        let (name, beside) = (next()?, next()?);
        let repeat = ALL.into_iter().find(|repeat| format!("{repeat:?}") == name)?;
        let setting = SETTINGS.into_iter().find(|setting| format!("{setting:?}") == beside)?;
        Some(Self { fault: Fault { at, errno, partly, repeat }, setting })
    }

    /// Runs the case. Returns the call that failed, if it was reached.
    fn run(self, seed: u64) -> Option<Call> {
        let Fault { at, errno, .. } = self.fault;
        let mut run = Run::new(seed ^ at << 20 ^ (errno as u64) << 8, self.setting);
        // Number of steps after the failure, and whether the power is cut then.
        let mut left = match run.random.below(4) {
            0 => u64::MAX,
            _ => run.random.below(9),
        };
        let cut = run.random.one_in(2);
        run.faults.plan(self.fault);
        for step in work() {
            let was_hit = run.faults.failures() > 0;
            if was_hit {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            if std::env::var_os("PONGO_FAULT").is_some() {
                eprintln!("{step:?}, after {} failures", run.faults.failures());
            }
            run.step(&step);
            if !was_hit && run.faults.failures() > 0 && left > 0 {
                run.aftermath();
            }
        }
        let hit = run.faults.failed(0).first().map(|(call, _)| *call);
        run.end(cut);
        hit
    }
}

/// Returns the calls of the workload when nothing fails.
fn trace(seed: u64, setting: Setting) -> Vec<Call> {
    let mut run = Run::new(seed, setting);
    run.faults.begin_trace();
    for step in work() {
        run.step(&step);
    }
    let calls = run.faults.end_trace();
    run.end(false);
    calls.into_iter().map(|(call, _)| call).collect()
}

/// Returns all cases, the most important ones first.
fn cases(seed: u64, setting: Setting, full: bool) -> Vec<Case> {
    let calls = trace(seed, setting);
    let mut cases = Vec::new();
    // A few numbers more than there are calls: with these the workload runs without a fault.
    for at in 0..calls.len() as u64 + 3 {
        let errors = calls.get(at as usize).map_or(&[(EIO, false)][..], |&call| errors(call));
        for (place, &(errno, partly)) in errors.iter().enumerate() {
            for (mode, &repeat) in ALL.iter().enumerate() {
                let few = mode == 0 || (place == 0 && mode as u64 == 1 + at % 3);
                if full || few {
                    cases.push(Case { fault: Fault { at, errno, partly, repeat }, setting });
                }
            }
        }
    }
    cases
}

/// Time limit of one case: a case that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(30);

/// Runs all cases on two threads, and prints their number.
fn try_all(name: &str, seed: u64, cases: Vec<Case>) {
    let cases = match std::env::var("PONGO_FAULT") {
        Ok(case) => vec![Case::parse(&case).expect("PONGO_FAULT is a case as it was printed")],
        Err(_) => cases,
    };
    let cases = Arc::new(cases);
    let next = Arc::new(AtomicUsize::new(0));
    let at_work = Arc::new(Mutex::new(Vec::new()));
    let (sender, done) = mpsc::channel();
    for _ in 0..2 {
        let (cases, next, sender) = (Arc::clone(&cases), Arc::clone(&next), sender.clone());
        let at_work = Arc::clone(&at_work);
        std::thread::spawn(move || {
            while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                at_work.lock().unwrap().push(case.to_string());
                let result = catch_unwind(AssertUnwindSafe(|| case.run(seed)));
                at_work.lock().unwrap().retain(|other| *other != case.to_string());
                if result.is_err() {
                    eprintln!("that was PONGO_SEED={seed} PONGO_FAULT={case}");
                }
                if sender.send((case, result.ok())).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let (mut hit, mut failed) = (BTreeMap::<Call, usize>::new(), Vec::new());
    for _ in 0..cases.len() {
        match done.recv_timeout(LONGEST) {
            Ok((_, Some(call))) => {
                if let Some(call) = call {
                    *hit.entry(call).or_default() += 1;
                }
            }
            Ok((case, None)) => failed.push(case),
            Err(_) => panic!("one of these hangs: PONGO_FAULT={:?}", at_work.lock().unwrap()),
        }
    }
    let reached: usize = hit.values().sum();
    println!("{name}: {} cases, {reached} reached {hit:?}", cases.len());
    println!("{name}: {} cases, seed {seed}, {} failures", cases.len(), failed.len());
    assert!(failed.is_empty(), "the first of {}: {}", failed.len(), failed[0]);
}

/// Returns one in `one_in` cases, or all cases if the size is above 1.
fn some(cases: Vec<Case>, one_in: usize) -> Vec<Case> {
    let one_in = if size() > 1 { 1 } else { one_in };
    cases.into_iter().step_by(one_in).collect()
}

/// Every call fails once with every error, and with the first error of each call also in one of the
/// other modes.
#[test]
fn whatever_call_fails() {
    let seed = seed("whatever_call_fails", 1);
    let cases = some(cases(seed, Setting::Alone, size() > 1), 5);
    try_all("whatever_call_fails", seed, cases);
}

#[test]
fn whatever_call_fails_in_company() {
    let seed = seed("whatever_call_fails_in_company", 2);
    let cases = some(cases(seed, Setting::Company, size() > 1), 20);
    try_all("whatever_call_fails_in_company", seed, cases);
}

#[test]
fn whatever_call_fails_beside_the_keeper() {
    let seed = seed("whatever_call_fails_beside_the_keeper", 3);
    let cases = some(cases(seed, Setting::Keeper, size() > 1), 40);
    try_all("whatever_call_fails_beside_the_keeper", seed, cases);
}
