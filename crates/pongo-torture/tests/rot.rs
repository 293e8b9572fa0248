//! No byte on disk makes a store say what is wrong.
//!
//! Every byte, every length, every page and every file of small stores is damaged, one at a time. What comes of it is an
//! error, right answers, or an index that is made anew: never a wrong answer, a panic, a signal, a hang, or much memory.
//! What `docs/DURABILITY.md` says cannot be noticed is told apart by what the undamaged journal says (`evidence`).
//!
//! | module | what it owns |
//! | --- | --- |
//! | `bases` | the stores that are damaged |
//! | `kept` | their files, for children and for another run |
//! | `image` | their files as bytes, and a storage made of them |
//! | `damage`, `plan` | what is done to them, and how many such cases there are |
//! | `evidence` | what nobody can notice |
//! | `judge`, `sight` | what a damaged store is asked |
//! | `folders` | the same in real files, with real maps and sled |
//! | `cases` | what was found |
//! | `worker`, `memory` | child processes that name the case they died of; an allocator that counts |
//!
//! A case is tried alone with `PONGO_CASE`, the same `PONGO_SEED` and `PONGO_TORTURE`, and `PONGO_BASES` as a failure prints it.

#[path = "rot/bases.rs"]
mod bases;
#[path = "rot/cases.rs"]
mod cases;
#[path = "rot/damage.rs"]
mod damage;
#[path = "rot/evidence.rs"]
mod evidence;
#[path = "rot/folders.rs"]
mod folders;
#[path = "rot/image.rs"]
mod image;
#[path = "rot/judge.rs"]
mod judge;
#[path = "rot/kept.rs"]
mod kept;
#[path = "rot/memory.rs"]
mod memory;
#[path = "rot/plan.rs"]
mod plan;
#[path = "rot/sight.rs"]
mod sight;
#[path = "rot/worker.rs"]
mod worker;

use std::cell::Cell;

use bases::{Base, Left};
use damage::Damage;
use image::Image;
use judge::{Judge, Outcome, in_memory};
use kept::Kept;
use plan::Plan;
use worker::Cases;

/// Memory that a store may take beside twice its size: address ranges' tables (64 KiB each), windows and zeros of
/// journal segments (1 MiB each).
const SLACK: usize = 4 << 20;

#[test]
fn no_damage_shows_a_wrong_value() {
    let seed = pongo_torture::seed("no_damage_shows_a_wrong_value", 7);
    let mut bases = Base::all();
    let kept = Kept::of(&mut bases);
    let plan = Plan::new(&bases, seed, pongo_torture::size());
    let cases = Cases {
        test: "no_damage_shows_a_wrong_value",
        bases: kept.path(),
        count: plan.len(),
        run: &|number| {
            let (base, damage) = plan.case(number);
            try_one(&bases[base], &damage)
        },
        describe: &|number| {
            let (base, damage) = plan.case(number);
            format!("store `{}`, {damage}", bases[base].name)
        },
    };
    let Some(sum) = cases.run_all() else { return };
    kept.end(!sum.failures.is_empty());
    for base in &bases {
        let (entries, cited) = base.evidence.counts();
        let bytes = base.image.bytes();
        let files = base.image.files.len();
        println!(
            "`{}`: {files} files, {bytes} bytes, {entries} commits behind the checkpoint, {cited} bytes cited",
            base.name
        );
    }
    println!("{:?}", sum.outcomes);
    println!(
        "of {} cases, all of which are tried with PONGO_TORTURE={}; size {}",
        plan.all(),
        plan.largest(),
        plan.size()
    );
    // A plan that meets nothing would prove nothing.
    for (outcome, least) in [("Refused", 5000), ("Unreadable", 1000), ("Right", 5000), ("Tail", 10)] {
        let found = sum.outcomes.get(outcome).copied().unwrap_or(0);
        assert!(found >= least || !sum.failures.is_empty(), "{found} times {outcome}");
    }
    println!(
        "no_damage_shows_a_wrong_value: {} images, seed {seed}, {} failures",
        plan.len(),
        sum.failures.len()
    );
    assert!(sum.failures.is_empty(), "{:#?}", sum.failures);
}

/// The same in real folders.
#[test]
fn no_damage_to_a_folder_shows_a_wrong_value() {
    let seed = pongo_torture::seed("no_damage_to_a_folder_shows_a_wrong_value", 7);
    let mut bases = folders::bases();
    let kept = Kept::of(&mut bases);
    let size = pongo_torture::size();
    let plan = Plan::new(&bases, seed, size);
    // Every other one is about the length of a file: a map must never be longer.
    let lengths: Vec<u64> =
        (0..plan.len()).filter(|&number| plan.case(number).1.changes_a_length()).collect();
    let count = (FOLDERS * size).min(plan.len());
    let number_of = |case: u64| match case % 2 {
        0 => lengths[plan::pick(case / 2 % lengths.len() as u64, lengths.len() as u64, seed) as usize],
        _ => plan::pick(case, plan.len(), seed),
    };
    let cases = Cases {
        test: "no_damage_to_a_folder_shows_a_wrong_value",
        bases: kept.path(),
        count,
        run: &|case| {
            let (base, damage) = plan.case(number_of(case));
            try_folder(&bases[base], &damage, case)
        },
        describe: &|case| {
            let (base, damage) = plan.case(number_of(case));
            format!("store `{}`, {damage}", bases[base].name)
        },
    };
    let Some(sum) = cases.run_all() else { return };
    kept.end(!sum.failures.is_empty());
    println!("{:?}", sum.outcomes);
    println!(
        "no_damage_to_a_folder_shows_a_wrong_value: {count} images, seed {seed}, {} failures",
        sum.failures.len()
    );
    assert!(sum.failures.is_empty(), "{:#?}", sum.failures);
}

/// Cases in real folders that CI tries.
const FOLDERS: u64 = 1500;

/// What sled takes beside.
const SLED: usize = 24 << 20;

/// Damages a store in a folder, and says what came of it.
fn try_folder(base: &Base, damage: &Damage, number: u64) -> Result<String, String> {
    let Some(image) = damage.done_to(&base.image) else { return Ok("same".to_owned()) };
    let place = folders::place(number);
    let path = place.path().join("store");
    folders::lay_out(&image, &path);
    try_on(base, damage, &image, &|| folders::open(&path), SLACK + SLED)
}

/// Damages a store in memory, and says what came of it.
fn try_one(base: &Base, damage: &Damage) -> Result<String, String> {
    let Some(image) = damage.done_to(&base.image) else { return Ok("same".to_owned()) };
    let storage = image.storage(base.kernel());
    try_on(base, damage, &image, &|| in_memory(&storage), SLACK)
}

/// Judges a damaged store, and how much memory that took beside twice its size.
fn try_on(
    base: &Base,
    damage: &Damage,
    image: &Image,
    open: &dyn Fn() -> Result<pongo::Store, pongo::OpenError>,
    slack: usize,
) -> Result<String, String> {
    let before = memory::watch();
    let judge = Judge {
        worlds: &base.worlds,
        newest: base.newest,
        may_end_at: &|seq| base.left == Left::Cut && base.evidence.may_end_at(seq, &base.image, image),
        problems: Cell::new(0),
        open,
    };
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| judge.judge()));
    let peak = memory::peak().saturating_sub(before);
    if peak > 2 * image.bytes() as usize + slack {
        return Err(format!("{peak} bytes of memory"));
    }
    let uncovered = is_uncovered(base, damage, judge.problems.get());
    let panic = worker::panicked().filter(|panic| judged.is_err() || !folders::is_sleds(panic));
    match (judged, panic) {
        (Ok(Err(_)), None) if uncovered => Ok(format!("{:?}", Outcome::Uncovered)),
        (Ok(judged), None) => judged.map(|outcome| format!("{outcome:?}")),
        // What a transaction answers is compared by assertions.
        (_, Some(panic)) if uncovered && panic.contains("pongo-torture/src") => {
            Ok(format!("{:?}", Outcome::Uncovered))
        }
        (_, panic) => Err(panic.unwrap_or_else(|| "a panic".to_owned())),
    }
}

/// What no checksum covers, as `docs/DURABILITY.md` says: hash indexes of a store whose last process was
/// killed, if the system has been running since: those must be what `verify` tells of.
fn is_uncovered(base: &Base, damage: &Damage, problems: usize) -> bool {
    let is_hash = |path: &str| path.starts_with("hash");
    base.left == Left::Killed && damage.touches(is_hash) && problems > 0
}
