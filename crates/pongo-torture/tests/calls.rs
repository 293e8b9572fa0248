//! The N-th system call fails, at the kernel's real interface, under the whole product.
//!
//! The test starts itself again, as a process that works on a store, and watches it with ptrace: at the N-th call of a kind it
//! answers in the kernel's place. Each time: no panic, signal, hang or wrong value; what was acknowledged is there when the
//! store is opened again, what was refused is not.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "calls/call.rs"]
mod call;
#[path = "calls/case.rs"]
mod case;
#[path = "calls/child.rs"]
mod child;
#[path = "../../../tests/support/folder.rs"]
mod folder;
#[path = "../../../tests/support/child.rs"]
mod respawn;
#[path = "../../../tests/support/rng.rs"]
mod rng;
#[path = "calls/sweep.rs"]
mod sweep;
#[path = "calls/trace.rs"]
mod trace;
#[path = "calls/world.rs"]
mod world;


use call::{Call, How};
use case::Place;
use child::Work;
use rng::Rng;
use sweep::{Series, Start, Sweep, Tally};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// In a child: does what it was started for, and does not come back.
fn work_if_asked() -> Outcome {
    let Some(role) = respawn::role() else { return Ok(()) };
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
    let mut rng = Rng::seeded(name);
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
        "{name}: {} cases, {} of them with {} failed calls, {} failures, {:.1} s; no error was told of after {:?}",
        sum.cases,
        sum.struck,
        sum.calls,
        sum.failures.len(),
        began.elapsed().as_secs_f64(),
        sum.unheard,
    );
    assert!(sum.failures.is_empty(), "{} cases failed:\n{}", sum.failures.len(), sum.failures.join("\n"));
    assert!(sum.struck * 10 >= sum.cases * 9, "most cases never came to their call: {} of {}", sum.struck, sum.cases);
    Ok(())
}

#[test]
fn a_call_fails_once() -> Outcome {
    work_if_asked()?;
    let test = "a_call_fails_once";
    let series = || sweep::errors(Place::Store, false);
    all_of(test, vec![
        Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 120 },
        Sweep { test, work: Work::Reopen, start: Start::Killed, count: 2, series: series(), cases: 30 },
        Sweep { test, work: Work::Reopen, start: Start::Copied, count: 2, series: series(), cases: 60 },
        Sweep { test, work: Work::Reopen, start: Start::Closed, count: 2, series: series(), cases: 30 },
    ])
}

#[test]
fn a_call_fails_from_then_on() -> Outcome {
    work_if_asked()?;
    let test = "a_call_fails_from_then_on";
    let series = || {
        let mut series = sweep::errors(Place::Store, true);
        let calls = vec![Call::WriteAt, Call::Allocate, Call::SetLen, Call::SyncData, Call::SyncAll, Call::Open];
        for error in [libc::EIO, libc::ENOSPC] {
            series.push(Series { place: Place::Store, calls: calls.clone(), how: How::Error(error), lasting: true });
        }
        series
    };
    all_of(test, vec![
        Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 120 },
        Sweep { test, work: Work::Reopen, start: Start::Copied, count: 2, series: series(), cases: 60 },
        Sweep { test, work: Work::Reopen, start: Start::Closed, count: 2, series: series(), cases: 30 },
    ])
}

#[test]
fn interruptions_and_short_transfers_are_not_noticed() -> Outcome {
    work_if_asked()?;
    let test = "interruptions_and_short_transfers_are_not_noticed";
    let series = || sweep::hindrances(Place::Store);
    all_of(test, vec![
        Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 60 },
        Sweep { test, work: Work::Reopen, start: Start::Copied, count: 2, series: series(), cases: 40 },
    ])
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
    all_of(test, vec![
        Sweep { test, work: Work::Life, start: Start::Nothing, count: 12, series: series(), cases: 80 },
        Sweep { test, work: Work::Reopen, start: Start::Closed, count: 2, series: series(), cases: 40 },
    ])
}
