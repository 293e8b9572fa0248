//! The N-th system call fails, at the kernel's real interface, below the complete product.
//!
//! The test starts itself again as a process that works on a store, and traces it with ptrace: at
//! the N-th call of a kind the tracer answers in the kernel's place. Each case checks that there is
//! no panic, signal, hang or wrong value; that transactions that were acknowledged are present when
//! the store is opened again, and that refused ones are not.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod call;
mod case;
mod child;
mod sweep;
mod trace;

use call::{Call, How};
use case::Place;
use child::Work;
use pongo_test_support::{Outcome, Random, folder};
use sweep::{Series, Start, Sweep, Tally};

/// Performs the work that this process was started for, if it is a child; then it does not return.
fn work_if_asked() -> Outcome {
    let Some(role) = pongo_test_support::child::role() else { return Ok(()) };
    let mut words = role.splitn(5, ' ');
    let mut next = || words.next().ok_or("a role is five words");
    let work = [Work::Life, Work::Reopen].into_iter();
    let name = next()?;
    let work = work.into_iter().find(|work| format!("{work:?}") == name).ok_or("no such work")?;
    let watched = next()?.parse()?;
    let (from, count) = (next()?.parse()?, next()?.parse()?);
    work.run(next()?.as_ref(), watched, from, count);
    Err("the child came back".into())
}

fn all_of(name: &'static str, sweeps: Vec<Sweep>) -> Outcome {
    let mut rng = Random::seeded(name);
    let began = std::time::Instant::now();
    let mut sum = Tally::default();
    for sweep in sweeps {
        let Some(tally) = sweep.try_all(&mut rng)? else {
            println!("{name}: skipped, since ptrace or seccomp is not allowed here");
            return Ok(());
        };
        sum.cases += tally.cases;
        sum.struck += tally.struck;
        sum.calls += tally.calls;
        sum.failures.extend(tally.failures);
        tally.unheard.into_iter().for_each(|(call, times)| *sum.unheard.entry(call).or_default() += times);
    }
    println!(
        "{name}: {} cases, {} of them with {} failed calls, {} failures, {:.1} s; no error was told of after \
         {:?}",
        sum.cases,
        sum.struck,
        sum.calls,
        sum.failures.len(),
        began.elapsed().as_secs_f64(),
        sum.unheard,
    );
    assert!(sum.failures.is_empty(), "{} cases failed:\n{}", sum.failures.len(), sum.failures.join("\n"));
    assert!(
        sum.struck * 10 >= sum.cases * 9,
        "most cases never came to their call: {} of {}",
        sum.struck,
        sum.cases
    );
    Ok(())
}

#[test]
fn a_call_fails_once() -> Outcome {
    work_if_asked()?;
    let test = "a_call_fails_once";
    let series = || sweep::errors(Place::Store, false);
    all_of(
        test,
        vec![
            Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 120 },
            Sweep { test, work: Work::Reopen, start: Start::Killed, count: 2, series: series(), cases: 30 },
            Sweep { test, work: Work::Reopen, start: Start::Copied, count: 2, series: series(), cases: 60 },
            Sweep { test, work: Work::Reopen, start: Start::Closed, count: 2, series: series(), cases: 30 },
        ],
    )
}

/// Opens, reads and closes a store, with each `stat` of a file failing in turn: each failure is
/// reported, except where only time or space is lost (`Strike::may_be_silent`).
#[test]
fn file_stat_errors_are_reported() -> Outcome {
    work_if_asked()?;
    let test = "file_stat_errors_are_reported";
    let series = vec![Series {
        place: Place::Store,
        calls: vec![Call::LookAt],
        how: How::Error(libc::EIO),
        lasting: false,
    }];
    let sweep = Sweep { test, work: Work::Reopen, start: Start::Closed, count: 0, series, cases: u64::MAX };
    all_of(test, vec![sweep])
}

#[test]
fn a_call_fails_from_then_on() -> Outcome {
    work_if_asked()?;
    let test = "a_call_fails_from_then_on";
    let series = || {
        let mut series = sweep::errors(Place::Store, true);
        let calls = vec![
            Call::WriteAt,
            Call::Allocate,
            Call::SetLen,
            Call::SyncData,
            Call::SyncAll,
            Call::SyncMap,
            Call::Open,
        ];
        for error in [libc::EIO, libc::ENOSPC] {
            series.push(Series {
                place: Place::Store,
                calls: calls.clone(),
                how: How::Error(error),
                lasting: true,
            });
        }
        series
    };
    all_of(
        test,
        vec![
            Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 120 },
            Sweep { test, work: Work::Reopen, start: Start::Copied, count: 2, series: series(), cases: 60 },
            Sweep { test, work: Work::Reopen, start: Start::Closed, count: 2, series: series(), cases: 30 },
        ],
    )
}

#[test]
fn interruptions_and_short_transfers_are_handled() -> Outcome {
    work_if_asked()?;
    let test = "interruptions_and_short_transfers_are_handled";
    let series = || sweep::hindrances(Place::Store);
    all_of(
        test,
        vec![
            Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 60 },
            Sweep { test, work: Work::Reopen, start: Start::Copied, count: 2, series: series(), cases: 40 },
        ],
    )
}

#[test]
fn the_ordered_indexes_fail() -> Outcome {
    work_if_asked()?;
    let test = "the_ordered_indexes_fail";
    let series = || {
        let mut series = sweep::errors(Place::Ordered, false);
        series.extend(sweep::errors(Place::Ordered, true));
        series.extend(sweep::hindrances(Place::Ordered));
        series
    };
    all_of(
        test,
        vec![
            Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 80 },
            Sweep { test, work: Work::Reopen, start: Start::Closed, count: 2, series: series(), cases: 40 },
        ],
    )
}

/// The parent has the store open, so that the child joins it, takes over from it, and the parent
/// takes over from the child.
#[test]
fn calls_fail_beside_another_process() -> Outcome {
    work_if_asked()?;
    let test = "calls_fail_beside_another_process";
    let sweep = |lasting, cases| {
        let series = sweep::errors(Place::Store, lasting);
        Sweep { test, work: Work::Reopen, start: Start::Shared, count: 6, series, cases }
    };
    all_of(test, vec![sweep(false, 60), sweep(true, 40)])
}

/// A folder with rows and without the super file is a store that lost the file, not a place for a
/// new store, even if a disk error prevents reading the rows.
#[test]
fn store_without_super_is_never_recreated() -> Outcome {
    work_if_asked()?;
    let test = "store_without_super_is_never_recreated";
    let bench = case::Bench::new(test)?;
    bench.run_free(Work::Life, 1, 6)?;
    let template = bench.store().with_extension("template");
    folder::copy(&bench.store(), &template)?;
    std::fs::remove_file(template.join("super"))?;
    let names = |dir: &str| -> std::io::Result<Vec<_>> {
        std::fs::read_dir(bench.store().join(dir))?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let mut cases = 0;
    for call in Call::ALL {
        for nth in 1.. {
            let how = How::Error(libc::EIO);
            let fault = case::Fault { place: Place::Store, calls: vec![call], nth, lasting: false, how };
            bench.begin_with(Some(&template))?;
            let run = match bench.run(Work::Reopen, 7, 1, Some(&fault)) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    println!("{test}: skipped, since ptrace is not allowed here");
                    return Ok(());
                }
                run => run?,
            };
            if run.said.first().is_some_and(|line| line.starts_with("not-watched")) {
                println!("{test}: skipped, since seccomp is not allowed here");
                return Ok(());
            }
            let refused = run.said.iter().any(|line| line.starts_with("not-opened"));
            assert!(refused && !run.said.contains(&"opened".to_owned()), "{fault}: {:?}", run.said);
            let lost = names("journal")?.is_empty() || names("")?.iter().any(|name| name == "super");
            assert!(!lost, "{fault}: a new store was created over the old one");
            cases += 1;
            if run.strike.is_none() {
                break;
            }
        }
    }
    println!("{test}: {cases} cases, 0 failures");
    Ok(())
}
