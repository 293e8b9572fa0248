//! Runs every fuzz target on the inputs in `fuzz/corpus` and on mutations of them, with the stable
//! toolchain.
//!
//! An input that shows a defect is printed as hex. `PONGO_INPUT=file` runs a target on that file
//! only.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pongo_crashtest::fuzz::{TARGETS, Target, mutate, one_word_each};
use pongo_crashtest::{seed, size};
use pongo_sim::Random;

/// Time limit of one input, sufficient on a busy machine: an input that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest single allocation that an input may cause, in bytes: the stores are a few MiB.
const LARGEST: usize = 16 << 20;
/// The same limit for zeroed memory, which uses no memory before it is written to: a file in memory
/// that is mapped reserves 64 MiB to grow.
const LARGEST_OF_ZEROS: usize = 96 << 20;

/// The system's allocator; records the largest allocation that was requested.
struct Watched;

static ASKED: AtomicUsize = AtomicUsize::new(0);
static ASKED_ZEROS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Watched = Watched;

// SAFETY: every call is passed to the system's allocator with unchanged arguments, and its result
// is returned unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller makes the same promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ASKED_ZEROS.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller makes the same promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller makes the same promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller makes the same promise.
        unsafe { System.dealloc(old, layout) }
    }
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has inputs", folder.display());
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).expect("an input"))).collect()
}

fn hex(input: &[u8]) -> String {
    input.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs one input. Panics with the input if it shows a defect.
fn try_one(target: Target, what: &str, input: &[u8]) {
    let failed = |why: String| panic!("{what}: {why}\ninput, as `xxd -r -p` takes it:\n{}", hex(input));
    ASKED.store(0, Ordering::Relaxed);
    ASKED_ZEROS.store(0, Ordering::Relaxed);
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        failed("see the panic above".to_owned());
    }
    for (asked, largest) in [(&ASKED, LARGEST), (&ASKED_ZEROS, LARGEST_OF_ZEROS)] {
        let asked = asked.load(Ordering::Relaxed);
        if asked > largest {
            failed(format!("{asked} bytes of memory were asked for at once"));
        }
    }
}

/// Runs the inputs one after the other, each with a description. Returns the number of inputs.
fn all_of(target: Target, inputs: impl Iterator<Item = (String, Vec<u8>)>) -> u64 {
    let (tell, told) = channel::<String>();
    // A hang ends the whole test run: nothing else can end the thread that hangs.
    let watch = std::thread::spawn(move || {
        let mut current = String::new();
        loop {
            match told.recv_timeout(PATIENCE) {
                Ok(next) => current = next,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("{current} takes more than {PATIENCE:?}");
                    std::process::abort();
                }
            }
        }
    });
    let mut count = 0;
    for (what, input) in inputs {
        tell.send(format!("{what}: {}", hex(&input))).expect("the watch is there");
        try_one(target, &what, &input);
        count += 1;
    }
    drop(tell);
    watch.join().expect("the watch ends");
    count
}

/// Runs the inputs of the corpus and `changed` mutated ones; prints their numbers.
fn run(name: &str, changed: u64) {
    let (_, target) = *TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    if let Ok(file) = std::env::var("PONGO_INPUT") {
        return target(&std::fs::read(file).expect("an input"));
    }
    let seed = seed(name, 1);
    let kept = corpus(name);
    all_of(target, kept.iter().map(|(path, input)| (path.display().to_string(), input.clone())));
    let mut random = Random(seed);
    let changed = all_of(
        target,
        (0..changed * size()).map(|number| {
            let (path, input) = &kept[random.below(kept.len() as u64) as usize];
            let (_, other) = &kept[random.below(kept.len() as u64) as usize];
            (format!("{}, changed, number {number}", path.display()), mutate(input, other, &mut random))
        }),
    );
    println!("{name}: {} inputs kept, {changed} changed ones, seed {seed}, 0 failures", kept.len());
}

/// Runs a sample of the inputs of `open_image` that change one word of a store's files and then
/// make all checksums valid again.
fn words(changed: u64) {
    let seed = seed("words", 1);
    let (_, target) = TARGETS[0];
    let all = one_word_each();
    let mut random = Random(seed);
    let count = (changed * size()).min(all.len() as u64);
    let start = random.below(all.len() as u64);
    // Each image at most once, in an order whose beginning contains all kinds of images.
    let step = (all.len() as u64 * 5 / 8) | 1;
    let step = (step..).find(|step| gcd(*step, all.len() as u64) == 1).expect("there is one");
    let place = |number: u64| ((start + number * step) % all.len() as u64) as usize;
    let tried =
        all_of(target, (0..count).map(|number| (format!("word {number}"), all[place(number)].clone())));
    println!(
        "words: {tried} of {} images with one word changed and sealed again, seed {seed}, 0 failures",
        all.len()
    );
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Runs all targets in one test, because the allocator is observed for one input at a time.
#[test]
fn no_input_shows_anything() {
    for (name, changed) in [
        ("open_image", 1000),
        ("journal", 1000),
        ("schema", 20_000),
        ("key_encoding", 100_000),
        ("operations", 100),
        ("cursor", 2000),
        ("predicate", 2000),
        ("fields", 20_000),
    ] {
        if std::env::var("PONGO_TARGET").is_ok_and(|only| only != name) {
            continue;
        }
        run(name, changed);
    }
    if std::env::var("PONGO_TARGET").is_ok_and(|only| only != "words") {
        return;
    }
    words(1500);
}
