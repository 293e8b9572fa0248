//! The power is cut again at every operation of the recovery from a first cut: the second recovery
//! must produce the same bytes. Recovering the same image twice, without a second cut, must also
//! produce the same bytes in every file.
//!
//! A failure names both cuts; with `PONGO_CUT` and `PONGO_SECOND_CUT` set to them only these are
//! tried.

use std::sync::{Arc, Mutex};

use pongo_crashtest::{
    CUT, Cut, CutPlan, Cutter, Depth, ExpectedStates, Mix, Recovered, SECOND_CUT, StoreDriver, Tally, alone,
    is_volatile, seed, size, survives,
};
use pongo_sim::{Disk, Image, Random};

/// Recovers an image on a simulated disk. Returns all its files, read while the store is still
/// open.
fn recover(image: &Image) -> Result<Image, String> {
    let disk = image.disk();
    let process = disk.process();
    let store = alone().open_on(process.storage()).map_err(|error| format!("opening: {error}"))?;
    let after = Image::of(&**disk.inner()).map_err(|error| error.to_string())?;
    process.kill();
    drop(store);
    match disk.hole_stores().as_slice() {
        [] => Ok(after),
        holes => Err(format!("stores into holes, on a full disk a signal: {holes:?}")),
    }
}

/// Removes the words that may differ between two recoveries of one image: in `control`, the words
/// that name this open store (owner, word 7) and this boot and folder (cache identity and place,
/// words 16 to 24), all of them random.
fn without_random_words(image: &Image) -> Image {
    let mut image = image.clone();
    let mut control = image.get("control").expect("a store that is open").to_vec();
    for word in [7].into_iter().chain(16..25) {
        control[8 * word..8 * word + 8].fill(0);
    }
    image.set("control", control);
    image
}

/// Returns a description of the first file that differs, if one does.
fn difference(one: &Image, other: &Image) -> Option<String> {
    let names = |image: &Image| image.files().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
    if names(one) != names(other) {
        return Some(format!("{:?}\nand {:?}", names(one), names(other)));
    }
    one.files().find(|(path, bytes)| other.get(path) != Some(bytes)).map(|(path, bytes)| {
        let other = other.get(path).expect("both have it");
        let at = bytes.iter().zip(other).position(|(one, other)| one != other);
        format!("{path}, {} and {} bytes, from {at:?} on", bytes.len(), other.len())
    })
}

/// Recovers an image twice, then with a cut at each operation.
fn cut_recovery(image: &Image, book: &ExpectedStates, plan: CutPlan, cut: Cut) -> Result<Tally, String> {
    let first = recover(image)?;
    let expected = Recovered::of(&first);
    book.found(expected.seq)?;
    // A store that was not created yet gets another number each time.
    if image.get("super").is_some() {
        let again = recover(image)?;
        if let Some(what) = difference(&without_random_words(&first), &without_random_words(&again)) {
            return Err(format!("recovered twice: {what}"));
        }
    }
    let trial = move |image: &Image, book: &ExpectedStates, second: Cut| {
        let depth = if plan.is_deep(second) { Depth::GoOn } else { Depth::Look };
        if depth == Depth::GoOn {
            expected.same(&Recovered::of(&recover(image)?))?;
        }
        expected.same(&Recovered::of(&survives(image, book, depth)?))
    };
    let book = Arc::new(Mutex::new(book.clone()));
    // Each first cut has its own random draws.
    let workload = cut.random(plan.seed).below(1 << 32);
    let cutter = Cutter::trying(plan, workload, &book, SECOND_CUT, Box::new(trial));
    let disk = image.disk();
    let process = disk.process();
    let tally = cutter.during(&disk, || {
        let store = alone().open_on(process.storage());
        // Before it is closed, which is not part of recovery.
        disk.unwatch();
        process.kill();
        drop(store);
    });
    Ok(tally)
}

/// Number of second cuts after which no further first cut is tried in a life.
const SECONDS_OF_A_LIFE: u64 = 2500;

fn cut_twice(test: &str, seed: u64, lives: u64, first_in: u64) {
    let (first, second) = (
        CutPlan { seed, one_in: first_in, draws: 1, deep: 1 },
        CutPlan { seed, one_in: 1, draws: 1, deep: 32 },
    );
    let mut failures = Tally::default();
    let seconds = Arc::new(Mutex::new(Tally::default()));
    for workload in (0..lives * size()).filter(|&one| Cut::only(CUT).is_none_or(|only| only.workload == one))
    {
        let mut random = Random(seed ^ workload << 32);
        let mut life = StoreDriver::new(Disk::new());
        let disk = life.disk.clone();
        let total = Arc::clone(&seconds);
        let enough = total.lock().unwrap().tried + SECONDS_OF_A_LIFE;
        let trial = move |image: &Image, book: &ExpectedStates, cut: Cut| {
            if total.lock().unwrap().tried >= enough {
                return Ok(());
            }
            let mut tally = cut_recovery(image, book, second, cut)?;
            let failed = std::mem::take(&mut tally.failures);
            total.lock().unwrap().add(tally);
            if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
        };
        let cutter = Cutter::trying(first, workload, &life.book, CUT, Box::new(trial));
        let tally = cutter.during(&disk, || {
            life.open();
            (0..25).for_each(|_| life.arbitrary(&mut random, Mix::SMALL));
        });
        failures.add(tally);
    }
    let mut tally = std::mem::take(&mut *seconds.lock().unwrap());
    println!("{test}: at most {} first cuts", failures.tried);
    tally.failures = failures.failures;
    tally.conclude(test, seed);
}

#[test]
fn power_cut_at_each_recovery_step() {
    let test = "power_cut_at_each_recovery_step";
    cut_twice(test, seed(test, 11), 4, 256);
}

#[test]
fn power_cut_in_other_recoveries() {
    let test = "power_cut_in_other_recoveries";
    cut_twice(test, seed(test, 12), 4, 256);
}

/// Images that differ in any file except `control` are tested separately.
#[test]
fn only_control_is_volatile() {
    assert!(is_volatile("control") && !is_volatile("super") && !is_volatile("journal/0.log"));
}
