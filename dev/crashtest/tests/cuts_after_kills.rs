//! A process is killed at any operation of a step, another process continues with the data in the
//! system's memory, and the power is cut at any operation of the second process: it must not rely
//! on data that the killed process had not synced.
//!
//! `PONGO_CUT` as printed with a failure repeats that case.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pongo_crashtest::{CUT, Cut, CutPlan, Cutter, Mix, Step, StoreDriver, Tally, seed, size};
use pongo_sim::{Disk, Random};

/// The state of the store before the step, and whether another process has it open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    /// A store that was closed cleanly and opened again: the step is its first.
    Closed,
    /// A store that has been open for some time.
    Open,
    /// The same with another process that has it open too: it takes over, and nothing is recovered.
    Shared,
    /// A store that was closed cleanly and that two processes have opened.
    SharedAnew,
}

const BEFORE: [Before; 4] = [Before::Closed, Before::Open, Before::Shared, Before::SharedAnew];

/// The steps of the next process after it opened the store or took it over, before it closes it.
const AFTER: [&[Step]; 7] = [
    &[],
    &[Step::Put],
    &[Step::PutRelaxed, Step::Load],
    &[Step::Note, Step::Seat],
    &[Step::Change, Step::Texts],
    &[Step::Reopen],
    &[Step::Rebuild, Step::Put],
];

/// Creates a store up to the step, with some rows. A few of them differ with `random`, so that
/// segments end at different positions.
fn live(before: Before, random: &mut Random) -> StoreDriver {
    let mut life = StoreDriver::new(Disk::new());
    life.open();
    for step in [Step::Load, Step::Note, Step::Seat, Step::PutRelaxed, Step::Put] {
        life.step(step);
    }
    for _ in 0..random.below(4) {
        life.arbitrary(random, Mix::SMALL);
    }
    if matches!(before, Before::Closed | Before::SharedAnew) {
        life.close();
        life.open();
    }
    if matches!(before, Before::Shared | Before::SharedAnew) {
        life.open_beside();
    }
    life
}

/// Kills a process at some operations of a step, `few` on average, and cuts the power afterwards.
fn kill_and_cut(plan: CutPlan, number: u64, few: u64) -> Tally {
    let before = BEFORE[number as usize % BEFORE.len()];
    let step = Step::ALL[number as usize / BEFORE.len() % Step::ALL.len()];
    let start = || live(before, &mut Random(plan.seed ^ number << 32));
    let operations = {
        let mut life = start();
        let first = life.disk.operations();
        life.step(step);
        life.disk.operations() - first
    };
    let (mut tally, mut panicked) = (Tally::default(), 0);
    for at in 0..operations {
        // The cases of one step have consecutive numbers.
        let workload = number << 16 | at;
        let mut random = Cut { workload, point: 0, draw: 0 }.random(plan.seed);
        if Cut::only(CUT).map_or(random.below(operations) >= few, |only| only.workload != workload) {
            continue;
        }
        let mut life = start();
        // Random numbers in the store's name occasionally make a step an operation shorter.
        if !life.dies_in(step, at) {
            assert!(at + 8 > operations, "{before:?}, {step:?}: killed at {at} of {operations}");
            continue;
        }
        let after = AFTER[Random(plan.seed ^ workload).below(AFTER.len() as u64) as usize];
        let disk = life.disk.clone();
        let which = format!("{before:?}, killed in {step:?} at {at}, then {after:?}");
        let mut next = Cutter::new(plan, workload, &life.book).during(&disk, || {
            let goes_on = catch_unwind(AssertUnwindSafe(|| {
                life.succeed();
                after.iter().for_each(|&step| life.step(step));
                life.close();
            }));
            if goes_on.is_err() {
                println!("PONGO_SEED={} PONGO_CUT={workload},0,0: {which}: see the panic above", plan.seed);
                panicked += 1;
            }
        });
        next.failures = next.failures.iter().map(|failure| format!("{which}: {failure}")).collect();
        tally.add(next);
        assert_eq!(disk.hole_stores(), [], "workload {workload}: on a full disk these would be signals");
    }
    assert_eq!(panicked, 0, "cases in which the next process could not continue");
    tally
}

#[test]
fn unsynced_data_is_not_trusted() {
    let test = "unsynced_data_is_not_trusted";
    let plan = CutPlan { seed: seed(test, 31), one_in: 4, draws: 1, deep: 16 };
    let mut tally = Tally::default();
    let pairs = (BEFORE.len() * Step::ALL.len()) as u64;
    for number in
        (0..pairs * size()).filter(|&one| Cut::only(CUT).is_none_or(|only| only.workload >> 16 == one))
    {
        tally.add(kill_and_cut(plan, number, 8));
    }
    tally.conclude(test, plan.seed);
}
