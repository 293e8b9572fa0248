//! Kills the process, or cuts the power, at every operation of short workloads and at some of long
//! ones. Every acknowledged commit must be present, the result must be a prefix of whole commits,
//! and a second recovery must give the same result.

use std::sync::Arc;

use pongo_core::engine::{Durability, Engine};
use pongo_core::error::CommitError;

use crate::indexer::MapIndexer;
use crate::model::Model;
use crate::work::{Mix, SMALL, arbitrary, options};
use pongo_sim::Random;
use pongo_sim::{Disk, FaultPlan, Process};

/// The states that may be found after a crash: every state that was tried, oldest first, and the
/// oldest that is allowed.
struct Tried {
    states: Vec<Model>,
    /// The newest `Seq` that was acknowledged; it must survive a killed process.
    killed: u64,
    /// The newest `Seq` that was acknowledged as durable; it must survive a power cut.
    cut: u64,
}

impl Tried {
    fn from(model: Model) -> Self {
        let seq = model.seq;
        Self { states: vec![model], killed: seq, cut: seq }
    }

    fn newest(&self) -> &Model {
        self.states.last().unwrap()
    }
}

fn open(process: &Arc<Process>) -> Option<(Arc<Engine>, Arc<MapIndexer>)> {
    let indexer = Arc::new(MapIndexer::default());
    match Engine::open(process.storage(), options(), Arc::clone(&indexer) as _) {
        Ok(engine) => Some((engine, indexer)),
        Err(error) if process.is_dead() => {
            drop(error);
            None
        }
        Err(error) => panic!("opening: {error:?}"),
    }
}

/// Opens the store and commits until the process is killed or `commits` commits are done.
fn work(disk: &Disk, process: &Arc<Process>, tried: &mut Tried, random: &mut Random, commits: u64, mix: Mix) {
    let Some((engine, indexer)) = open(process) else { return };
    disk.without_faults(|| {
        settle(&engine, tried);
        tried.newest().check_engine(&engine, &indexer);
    });
    for _ in 0..commits {
        let transaction = arbitrary(tried.newest(), random, mix);
        let result = transaction.commit(&engine);
        tried.states.push(transaction.after);
        match result {
            // A killed process acknowledges nothing: its writes had no effect.
            Ok(_) if process.is_dead() => return,
            Ok(seq) => {
                tried.killed = seq.0;
                if transaction.durability == Durability::Sync {
                    tried.cut = seq.0;
                }
            }
            Err(CommitError::Refused(_)) if process.is_dead() => {
                // A refused commit must never become visible, but the answer of a killed process
                // cannot be trusted.
                return;
            }
            Err(CommitError::OutcomeUnknown { .. }) if process.is_dead() => return,
            Err(error) => panic!("commit: {error:?}"),
        }
    }
    disk.without_faults(|| tried.newest().check_engine(&engine, &indexer));
    if random.one_in(2) {
        drop(engine);
    } else {
        process.kill();
    }
}

/// Determines the state of the store among those that were tried, and removes the others.
fn settle(engine: &Arc<Engine>, tried: &mut Tried) {
    let seq = engine.begin_read().unwrap().seq().0;
    let found = tried.states.iter().find(|model| model.seq == seq);
    let found = found.unwrap_or_else(|| panic!("found Seq {seq}, tried {}", tried.newest().seq)).clone();
    *tried = Tried::from(found);
}

/// Opens the store twice after a crash and compares the results; the power may be cut once more in
/// between.
fn recover(disk: Disk, tried: &mut Tried, random: &mut Random, lost_power: bool) -> Disk {
    let mut disk = disk;
    let mut lost_power = lost_power;
    if random.one_in(2) {
        lost_power = true;
        let at = random.below(60);
        disk.plan(random.next(), |now| FaultPlan::Cut(now + at));
        drop(open(&disk.process()));
        disk.plan(0, |_| FaultPlan::Nothing);
        disk = disk.power_cycle(random);
    }
    let must = if lost_power { tried.cut } else { tried.killed };
    let process = disk.process();
    let (engine, indexer) = open(&process).expect("nothing kills it");
    let seq = engine.begin_read().unwrap().seq().0;
    assert!(seq >= must, "commit {must} was acknowledged, found {seq}");
    settle(&engine, tried);
    tried.newest().check_engine(&engine, &indexer);
    process.kill();
    let disk = if random.one_in(2) { disk.power_cycle(random) } else { disk };
    let (engine, indexer) = open(&disk.process()).unwrap();
    tried.newest().check_engine(&engine, &indexer);
    disk
}

fn seeded(seed: u64) -> (Random, Tried) {
    (Random(seed), Tried::from(Model::default()))
}

/// Returns the number of operations of a workload.
fn length(seed: u64, commits: u64) -> u64 {
    let (mut random, mut tried) = seeded(seed);
    let disk = Disk::new();
    work(&disk, &disk.process(), &mut tried, &mut random, commits, SMALL);
    disk.operations()
}

fn run(seed: u64, commits: u64, plan: FaultPlan) {
    let (mut random, mut tried) = seeded(seed);
    let disk = Disk::new();
    disk.plan(seed, |_| plan);
    let process = disk.process();
    work(&disk, &process, &mut tried, &mut random, commits, SMALL);
    disk.plan(0, |_| FaultPlan::Nothing);
    let cut = matches!(plan, FaultPlan::Cut(_));
    let number = if let FaultPlan::Cut(at) | FaultPlan::Kill(at) = plan { at } else { 0 };
    let mut random = Random(seed ^ number << 20);
    let disk = if cut { disk.power_cycle(&mut random) } else { disk };
    process.kill();
    let disk = recover(disk, &mut tried, &mut random, cut);
    // The store can be written again.
    work(&disk, &disk.process(), &mut tried, &mut random, 3, SMALL);
}

/// Returns the base of the seeds; `PONGO_SEED=n` selects other workloads for all these tests.
fn other_seed() -> u64 {
    std::env::var("PONGO_SEED").map_or(0, |seed| seed.parse::<u64>().unwrap().wrapping_mul(1000))
}

fn at_every_operation(seed: u64, commits: u64, step: u64, plan: impl Fn(u64) -> FaultPlan) {
    let seed = seed.wrapping_add(other_seed());
    let all = length(seed, commits);
    assert!(all > 100, "a workload of {all} operations");
    for at in (seed % step..all).step_by(step as usize) {
        let plan = plan(at);
        let result = std::panic::catch_unwind(|| run(seed, commits, plan));
        assert!(result.is_ok(), "seed {seed}, {commits} commits, {plan:?}");
    }
}

#[test]
fn killed_at_every_operation() {
    at_every_operation(11, 8, 1, FaultPlan::Kill);
}

#[test]
fn power_cut_at_every_operation() {
    at_every_operation(12, 8, 1, FaultPlan::Cut);
}

#[test]
fn killed_in_longer_workloads() {
    for seed in 100..104 {
        at_every_operation(seed, 40, 97, FaultPlan::Kill);
    }
}

#[test]
fn power_cut_in_longer_workloads() {
    for seed in 200..204 {
        at_every_operation(seed, 40, 89, FaultPlan::Cut);
    }
}

/// One store through many crashes of both kinds.
#[test]
fn a_store_survives_a_hard_life() {
    for seed in 300_u64..304 {
        let seed = seed.wrapping_add(other_seed());
        let (mut random, mut tried) = seeded(seed);
        let mut disk = Disk::new();
        for round in 0..25 {
            let cut = random.one_in(2);
            let at = random.below(400);
            disk.plan(
                random.next(),
                |now| if cut { FaultPlan::Cut(now + at) } else { FaultPlan::Kill(now + at) },
            );
            let process = disk.process();
            work(&disk, &process, &mut tried, &mut random, 1 + round % 12, SMALL);
            disk.plan(0, |_| FaultPlan::Nothing);
            process.kill();
            if cut {
                disk = disk.power_cycle(&mut random);
            }
            disk = recover(disk, &mut tried, &mut random, cut);
        }
    }
}
