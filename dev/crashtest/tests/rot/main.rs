//! Damaged files never make a store return wrong data.
//!
//! Every byte, every length, every page and every file of small stores is damaged, one at a time.
//! The result is an error, correct answers, or an index that is rebuilt: never a wrong answer, a
//! panic, a signal, a hang, or excessive memory use. The damage that cannot be detected according
//! to `docs/design/failures.md` is identified by means of the undamaged journal (`evidence`).
//!
//! | module | purpose |
//! | --- | --- |
//! | `bases` | the stores that are damaged |
//! | `kept` | their files, saved for child processes and for another run |
//! | `image` | their files as bytes, and a storage made of them |
//! | `damage`, `plan` | the kinds of damage, and the list of cases |
//! | `evidence` | damage that cannot be detected |
//! | `judge`, `sight` | the checks of a damaged store |
//! | `folders` | the same in real files, with real maps and sled |
//! | `cases` | regression tests |
//! | `worker`, `memory` | child processes, so that a crash names its case; a counting allocator |
//!
//! To repeat one case, set `PONGO_CASE`, the same `PONGO_SEED` and `PONGO_TORTURE`, and
//! `PONGO_BASES` as printed by the failure.

mod bases;
mod cases;
mod damage;
mod evidence;
mod folders;
mod image;
mod judge;
mod kept;
mod memory;
mod plan;
mod sight;
mod worker;

use std::cell::Cell;

use bases::{Base, Left};
use damage::Damage;
use image::Image;
use judge::{Judge, Outcome, in_memory};
use kept::Kept;
use plan::Plan;
use worker::Cases;

/// Memory that a store may use in addition to twice its size: tables of address ranges (64 KiB
/// each), windows and zeros of journal segments (1 MiB each).
const SLACK: usize = 4 << 20;

#[test]
fn no_damage_shows_a_wrong_value() {
    let seed = pongo_crashtest::seed("no_damage_shows_a_wrong_value", 7);
    let mut bases = Base::all();
    let kept = Kept::of(&mut bases);
    let plan = Plan::new(&bases, seed, pongo_crashtest::size());
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
        let (entries, referenced) = base.evidence.counts();
        let bytes = base.image.bytes();
        let files = base.image.files.len();
        println!(
            "`{}`: {files} files, {bytes} bytes, {entries} commits after the checkpoint, {referenced} bytes \
             referenced",
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
    // A plan that covers too few outcomes would prove nothing.
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
fn damage_gives_no_wrong_value() {
    let seed = pongo_crashtest::seed("damage_gives_no_wrong_value", 7);
    let mut bases = folders::bases();
    let kept = Kept::of(&mut bases);
    let size = pongo_crashtest::size();
    let plan = Plan::new(&bases, seed, size);
    // Every second case changes the length of a file: a map must never be longer than its file.
    let lengths: Vec<u64> =
        (0..plan.len()).filter(|&number| plan.case(number).1.changes_a_length()).collect();
    let count = (FOLDERS * size).min(plan.len());
    let number_of = |case: u64| match case % 2 {
        0 => lengths[plan::pick(case / 2 % lengths.len() as u64, lengths.len() as u64, seed) as usize],
        _ => plan::pick(case, plan.len(), seed),
    };
    let cases = Cases {
        test: "damage_gives_no_wrong_value",
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
    println!("damage_gives_no_wrong_value: {count} images, seed {seed}, {} failures", sum.failures.len());
    assert!(sum.failures.is_empty(), "{:#?}", sum.failures);
}

/// Number of cases in real folders that CI runs.
const FOLDERS: u64 = 1500;

/// Additional memory that sled uses.
const SLED: usize = 24 << 20;

/// Damages a store in a folder, and returns the outcome.
fn try_folder(base: &Base, damage: &Damage, number: u64) -> Result<String, String> {
    let Some(image) = damage.done_to(&base.image) else { return Ok("same".to_owned()) };
    let place = folders::place(number);
    let path = place.path().join("store");
    folders::lay_out(&image, &path);
    try_on(base, damage, &image, &|| folders::open(&path), SLACK + SLED)
}

/// Damages a store in memory, and returns the outcome.
fn try_one(base: &Base, damage: &Damage) -> Result<String, String> {
    let Some(image) = damage.done_to(&base.image) else { return Ok("same".to_owned()) };
    let storage = image.storage(base.kernel());
    try_on(base, damage, &image, &|| in_memory(&storage), SLACK)
}

/// Checks a damaged store, and the memory that this used in addition to twice the store's size.
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
        // Assertions compare the results of transactions, so a panic in them is a wrong answer.
        (_, Some(panic)) if uncovered && panic.contains("pongo-crashtest/src") => {
            Ok(format!("{:?}", Outcome::Uncovered))
        }
        (_, panic) => Err(panic.unwrap_or_else(|| "a panic".to_owned())),
    }
}

/// Returns whether the damage is in bytes that no checksum covers, according to
/// `docs/design/failures.md`: hash indexes of a store whose last process was killed, if the system
/// has been running since. `verify` must report such damage.
fn is_uncovered(base: &Base, damage: &Damage, problems: usize) -> bool {
    let is_hash = |path: &str| path.starts_with("hash");
    base.left == Left::Killed && damage.touches(is_hash) && problems > 0
}
