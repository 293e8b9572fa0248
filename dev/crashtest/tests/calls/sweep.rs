//! Series of cases: which calls are made to fail, and how many cases a test run tries.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use pongo_test_support::{Random, folder, workload};

use crate::call::{Call, How};
use crate::case::{Bench, Fault, Place, Run};
use crate::child::Work;

/// The content of the folder when the child starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// No store.
    Nothing,
    /// A store whose only process ended without closing it.
    Killed,
    /// A copy of such a store: as far as a process can determine, the machine was restarted since.
    Copied,
    /// A copy of a closed store.
    Closed,
    /// A copy of a closed store, which this process has open all the time.
    Shared,
}

/// Number of transactions before a child that opens an existing store.
const BEFORE: u64 = 9;

/// One way in which calls fail; the cases of a series differ in the number of the first call that
/// fails.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) place: Place,
    pub(crate) calls: Vec<Call>,
    pub(crate) how: How,
    pub(crate) lasting: bool,
}

/// A workload with its series.
pub(crate) struct Sweep {
    pub(crate) test: &'static str,
    pub(crate) work: Work,
    pub(crate) start: Start,
    /// Number of transactions of the child.
    pub(crate) count: u64,
    pub(crate) series: Vec<Series>,
    /// Number of cases in CI; `PONGO_TORTURE` multiplies it, up to the number of possible cases.
    pub(crate) cases: u64,
}

/// Counts of the results.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) cases: u64,
    /// Cases in which a call failed.
    pub(crate) struck: u64,
    /// Calls that failed, in all cases.
    pub(crate) calls: u64,
    /// Cases in which no error was reported, by the call that failed.
    pub(crate) unheard: BTreeMap<Call, u64>,
    pub(crate) failures: Vec<String>,
}

pub(crate) fn torture() -> u64 {
    std::env::var("PONGO_TORTURE").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Returns a series for each error of each call.
pub(crate) fn errors(place: Place, lasting: bool) -> Vec<Series> {
    let of = |call: Call| call.errors().iter().map(move |&error| (call, error));
    let one = |(call, error)| Series { place, calls: vec![call], how: How::Error(error), lasting };
    Call::ALL.into_iter().flat_map(of).map(one).collect()
}

/// Returns a series for each event that can affect a call without being a failure.
pub(crate) fn hindrances(place: Place) -> Vec<Series> {
    let of = |call: Call| call.hindrances().iter().map(move |&how| (call, how));
    let all = || Call::ALL.into_iter().flat_map(of);
    let one = |(call, how), lasting| Series { place, calls: vec![call], how, lasting };
    // A call that is interrupted every time never completes; a call with short transfers does.
    let again = all().filter(|(_, how)| *how != How::Error(libc::EINTR)).map(|what| one(what, true));
    all().map(|what| one(what, false)).chain(again).collect()
}

impl Sweep {
    fn bench(&self) -> io::Result<(Bench, Option<PathBuf>)> {
        let bench = Bench::new(self.test)?;
        if !matches!(self.start, Start::Copied | Start::Closed | Start::Shared) {
            return Ok((bench, None));
        }
        bench.run_free(Work::Life, 1, BEFORE)?;
        if self.start != Start::Copied {
            bench.run_free(Work::Reopen, 1, 0)?;
        }
        let template = bench.store().with_extension("template");
        folder::copy(&bench.store(), &template)?;
        Ok((bench, Some(template)))
    }

    fn before(&self) -> Vec<u64> {
        if self.start == Start::Nothing { Vec::new() } else { (1..=BEFORE).collect() }
    }

    fn run(&self, bench: &Bench, template: Option<&Path>, fault: Option<&Fault>) -> io::Result<Run> {
        bench.begin_with(template)?;
        if self.start == Start::Killed {
            bench.run_free(Work::Life, 1, BEFORE)?;
        }
        let from = self.before().len() as u64 + 1;
        if self.start != Start::Shared {
            return bench.run(self.work, from, self.count, fault);
        }
        let store = workload::open(&bench.store()).map_err(io::Error::other)?;
        let mut run = bench.run(self.work, from, self.count, fault)?;
        run.judge_beside(&store);
        Ok(run)
    }

    /// Runs the cases. Returns `None` if the kernel does not allow this process to trace another.
    pub(crate) fn try_all(&self, rng: &mut Random) -> io::Result<Option<Tally>> {
        let (bench, template) = self.bench()?;
        let template = template.as_deref();
        let mut tally = Tally::default();
        let clean = match self.run(&bench, template, None) {
            Ok(run) => run,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            Err(error) => return Err(error),
        };
        if clean.said.first().is_some_and(|line| line.starts_with("not-watched")) {
            return Ok(None);
        }
        let wrong = clean.judge(&bench, None, &self.before());
        assert!(wrong.is_empty(), "without a fault: {wrong:?}, {}", clean.output);

        let length = |series: &Series| -> u64 {
            let of = |call: &Call| clean.counts.get(&(series.place, *call)).copied().unwrap_or(0);
            series.calls.iter().map(of).sum()
        };
        let total: u64 = self.series.iter().map(length).sum();
        let step = total.div_ceil(self.cases.saturating_mul(torture()).max(1)).max(1);
        for series in &self.series {
            let length = length(series);
            let mut nth = 1 + rng.below(step);
            // In a full run, continue until a case runs without a fault; in a sample, also run the
            // last call.
            loop {
                let within = nth <= length;
                if !within && (step > 1 || length == 0) {
                    break;
                }
                let fault = Fault {
                    place: series.place,
                    calls: series.calls.clone(),
                    nth,
                    lasting: series.lasting,
                    how: series.how,
                };
                let struck = self.try_case(&bench, template, fault, step > 1, &mut tally)?;
                if !within && !struck {
                    break;
                }
                nth += step;
            }
        }
        Ok(Some(tally))
    }

    /// Runs a case. The timing of some calls depends on the clock (sled's threads, the index
    /// worker), so that a busy machine can make fewer of them than were counted: in a `sample`, an
    /// earlier call then fails instead of one that was not made.
    fn try_case(
        &self,
        bench: &Bench,
        template: Option<&Path>,
        mut fault: Fault,
        sample: bool,
        tally: &mut Tally,
    ) -> io::Result<bool> {
        tally.cases += 1;
        loop {
            let struck = self.try_one(bench, template, &fault, tally)?;
            if struck || !sample || fault.nth == 1 {
                tally.struck += u64::from(struck);
                return Ok(struck);
            }
            fault.nth = fault.nth.div_ceil(2);
        }
    }

    fn try_one(
        &self,
        bench: &Bench,
        template: Option<&Path>,
        fault: &Fault,
        tally: &mut Tally,
    ) -> io::Result<bool> {
        let run = self.run(bench, template, Some(fault))?;
        let wrong = run.judge(bench, Some(fault), &self.before());
        tally.calls += run.strikes;
        if let Some(strike) = &run.strike
            && run.is_untold()
        {
            *tally.unheard.entry(strike.call).or_default() += 1;
            if std::env::var_os("PONGO_SHOW").is_some() {
                println!(
                    "unheard: {fault}: {strike:?} at {:?}",
                    strike.said.checked_sub(1).map(|at| &run.said[at])
                );
            }
        }
        if !wrong.is_empty() {
            let strike = run
                .strike
                .as_ref()
                .map(|strike| (&strike.path, strike.said.checked_sub(1).map(|at| &run.said[at])));
            let case = format!(
                "{:?} on {:?}, {fault}, at {strike:?}:\n  {}",
                self.work,
                self.start,
                wrong.join("\n  ")
            );
            println!("{case}\n{}", run.output);
            tally.failures.push(case);
        }
        Ok(run.strike.is_some())
    }
}
