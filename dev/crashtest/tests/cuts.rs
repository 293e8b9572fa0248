//! The power is cut at every operation of short workloads, and at many operations of longer ones;
//! the files that are left are opened, recovered and compared.
//!
//! `PONGO_SEED` selects other workloads and other random choices; `PONGO_CUT=workload,point,draw`,
//! as printed with a failure, repeats that case. With `PONGO_TORTURE=16` every sequence of three
//! steps is tried.

use std::sync::{Arc, Mutex};

use pongo_crashtest::{CUT, Cut, CutPlan, Cutter, Mix, Step, StoreDriver, Tally, seed, size};
use pongo_sim::{CrashPolicy, Disk, Random};

/// Returns the sequence of steps with this number, and whether it starts from a store with a few
/// rows instead of an empty disk.
fn sequence(workload: u64) -> (bool, Vec<Step>) {
    let all = Step::ALL.len() as u64;
    let (filled, mut digits) = (workload % 2 == 1, workload / 2);
    let mut steps = Vec::new();
    // The digits count from 1, so that each sequence has exactly one number.
    while digits > 0 {
        digits -= 1;
        steps.push(Step::ALL[(digits % all) as usize]);
        digits /= all;
    }
    (filled, steps)
}

/// Returns the number of sequences of at most `steps` steps.
fn sequences(steps: u32) -> u64 {
    let all = Step::ALL.len() as u64;
    2 * (0..=steps).map(|steps| all.pow(steps)).sum::<u64>()
}

/// Cuts the power during the last step. The steps before it are the last ones of other sequences.
fn cut_sequence(plan: CutPlan, workload: u64) -> Tally {
    let (filled, mut steps) = sequence(workload);
    let mut life = StoreDriver::new(Disk::new());
    let disk = life.disk.clone();
    let cutter = Cutter::new(plan, workload, &life.book);
    if !filled && steps.is_empty() {
        return cutter.during(&disk, || life.open());
    }
    life.open();
    if filled {
        for step in [Step::Load, Step::Note, Step::Seat, Step::PutRelaxed, Step::Put] {
            life.step(step);
        }
    }
    let last = steps.pop();
    steps.into_iter().for_each(|step| life.step(step));
    let tally = cutter.during(&disk, || match last {
        Some(step) => life.step(step),
        None => life.close(),
    });
    assert_eq!(disk.hole_stores(), [], "workload {workload}: on a full disk these would be signals");
    tally
}

fn cut_sequences(test: &str, plan: CutPlan, workloads: impl Iterator<Item = u64>) {
    let mut tally = Tally::default();
    for workload in workloads.filter(|&one| Cut::only(CUT).is_none_or(|only| only.workload == one)) {
        tally.add(cut_sequence(plan, workload));
    }
    tally.conclude(test, plan.seed);
}

#[test]
fn all_sequences_of_two_steps() {
    let test = "all_sequences_of_two_steps";
    let plan = CutPlan { seed: seed(test, 1), one_in: 1, draws: size(), deep: 16 };
    cut_sequences(test, plan, 0..sequences(2));
}

#[test]
fn sequences_of_three_steps() {
    let test = "sequences_of_three_steps";
    let plan = CutPlan { seed: seed(test, 2), one_in: 1, draws: 1, deep: 16 };
    let chosen = |&one: &u64| Cut::only(CUT).is_some() || Random(plan.seed ^ one << 20).below(32) < size();
    cut_sequences(test, plan, (sequences(2)..sequences(3)).filter(chosen));
}

fn cut_lives(test: &str, plan: CutPlan, lives: u64, mix: Mix) {
    let mut tally = Tally::default();
    for workload in (0..lives * size()).filter(|&one| Cut::only(CUT).is_none_or(|only| only.workload == one))
    {
        let mut random = Random(plan.seed ^ workload << 32);
        let mut life = StoreDriver::new(Disk::new());
        let disk = life.disk.clone();
        let cutter = Cutter::new(plan, workload, &life.book);
        tally.add(cutter.during(&disk, || {
            life.open();
            (0..30).for_each(|_| life.arbitrary(&mut random, mix));
        }));
        assert_eq!(disk.hole_stores(), [], "life {workload}: on a full disk these would be signals");
    }
    tally.conclude(test, plan.seed);
}

#[test]
fn lives_of_a_small_store() {
    let test = "lives_of_a_small_store";
    cut_lives(test, CutPlan { seed: seed(test, 3), one_in: 8, draws: 2, deep: 8 }, 4, Mix::SMALL);
}

#[test]
fn lives_of_a_larger_store() {
    let test = "lives_of_a_larger_store";
    cut_lives(test, CutPlan { seed: seed(test, 4), one_in: 32, draws: 1, deep: 16 }, 1, Mix::LARGE);
}

/// `PONGO_CUT` identifies a case because a life has the same operations each time. Only the store's
/// own number differs.
#[test]
fn equal_seeds_have_equal_operations() {
    let told = [(); 2].map(|()| {
        let mut life = StoreDriver::new(Disk::new());
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        life.disk.watch(move |moment| {
            let image = moment.image(&mut Random(moment.number()), CrashPolicy::Any);
            let files: Vec<_> = image.files().map(|(path, bytes)| (path.to_owned(), bytes.len())).collect();
            tell.lock().unwrap().push((format!("{moment:?}"), files));
        });
        let mut random = Random(5);
        life.open();
        (0..25).for_each(|_| life.arbitrary(&mut random, Mix::SMALL));
        life.disk.unwatch();
        std::mem::take(&mut *told.lock().unwrap())
    });
    assert!(told[0].len() > 1000, "a life of {} operations", told[0].len());
    let differing = told[0].iter().zip(&told[1]).find(|(one, other)| one != other);
    assert_eq!(differing, None);
    assert_eq!(told[0].len(), told[1].len());
}
