//! Exploration of a model: selection of the words that loom models, and runs over all schedules.
//!
//! A store has thousands of words, and loom's effort grows with each word that it models. It needs
//! to model only the words that one thread writes and another reads or writes while the threads of
//! the model run; all others stay plain. These words are detected automatically: a run records for
//! each plain word which threads read and wrote it. If a word turns out to be shared, the model is
//! explored again with that word among the modelled ones, until no more are found. So every access
//! that two threads could order in two ways is covered, and a model is set up and inspected at full
//! speed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{self as plain, Ordering};

use loom::sync::atomic::AtomicU64 as Seen;
use loom::thread::{JoinHandle, ThreadId};

/// A word that is the same in each execution: the number of its run, in order of creation, and the
/// index in that run.
type Place = (usize, usize);

/// The kind of an access to a word, or of a fence between two accesses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// A read.
    Load,
    /// A write.
    Store,
    /// A read-modify-write.
    Change,
    /// A fence, not tied to a word.
    Fence,
}

impl Access {
    /// Returns the strongest ordering below `SeqCst`.
    pub(super) fn strongest(self) -> Ordering {
        match self {
            Access::Load => Ordering::Acquire,
            Access::Store => Ordering::Release,
            Access::Change | Access::Fence => Ordering::AcqRel,
        }
    }
}

/// A run of words in memory.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    bytes: usize,
    word: usize,
}

/// The threads that accessed a plain word.
struct Touched {
    first: ThreadId,
    by_others: bool,
    written: bool,
}

#[derive(Default)]
struct Exploration {
    /// Words known to be shared by several threads.
    shared: BTreeSet<Place>,
    /// Shared words that were found in this exploration.
    found: BTreeSet<Place>,
    runs: Vec<Run>,
    /// Keepers of the runs' memory: words are stored to after the model has dropped everything.
    kept: Vec<Arc<dyn Any + Send + Sync>>,
    /// Whether the threads of the model run.
    is_running: bool,
    seen: HashMap<usize, Rc<Seen>>,
    touched: HashMap<usize, Touched>,
    executions: u64,
}

thread_local! {
    /// State of the exploration. Loom runs all threads of a model on one system thread.
    static EXPLORATION: RefCell<Exploration> = RefCell::default();
    /// Every fence and every ordered access that a model executed.
    static MET: RefCell<BTreeSet<Site>> = RefCell::default();
    /// Whether models run to test their fences and orderings, not to explore further.
    static TRYING: Cell<bool> = const { Cell::new(false) };
    /// The fence or access that is left out or weakened.
    static WITHOUT: RefCell<Option<Site>> = RefCell::default();
}

/// A fence, or an access of a shared word, in the code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Site {
    /// The file.
    pub file: &'static str,
    /// The line in the file.
    pub line: u32,
    /// The column in the line.
    pub column: u32,
    /// The kind of access.
    pub what: Access,
}

/// Returns the ordering to use at the caller's location: `o`, except at the one site under test.
/// There `SeqCst` is weakened to `AcqRel`, any other ordering is removed, and a fence is removed as
/// well.
#[track_caller]
pub(super) fn in_force(o: Ordering, what: Access) -> Option<Ordering> {
    if o == Ordering::Relaxed {
        return Some(o);
    }
    let place = Location::caller();
    let site = Site { file: place.file(), line: place.line(), column: place.column(), what };
    MET.with_borrow_mut(|met| met.insert(site));
    if WITHOUT.with_borrow(|without| *without != Some(site)) {
        return Some(o);
    }
    (o == Ordering::SeqCst && what != Access::Fence).then_some(Ordering::AcqRel)
}

/// Returns whether to put a fence before `SeqCst` loads, and whether to put one after `SeqCst`
/// stores. One of the two is sufficient; to test a weaker ordering on one side, the fences on the
/// other side must be absent.
pub(super) fn fences_for_all() -> (bool, bool) {
    match WITHOUT.with_borrow(|without| without.map(|site| site.what)) {
        Some(Access::Load) => (true, false),
        Some(Access::Store | Access::Change) => (false, true),
        _ => (true, true),
    }
}

/// Returns whether orderings are weakened too, which takes minutes: only if `PONGO_TORTURE` is
/// above 1.
pub fn with_orders() -> bool {
    number("PONGO_TORTURE").is_some_and(|times| times > 1)
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the models once unchanged, and then once without each executed fence that `which` selects
/// and with each selected ordering weakened by a step. Returns for each such site the first model
/// that fails.
///
/// # Panics
///
/// Panics if a model fails unchanged.
pub fn without_each(
    models: &[(&'static str, fn())],
    which: impl Fn(&Site) -> bool,
) -> Vec<(Site, Option<&'static str>)> {
    MET.take();
    TRYING.set(true);
    for (_, model) in models {
        model();
    }
    let sites: Vec<_> = MET.take().into_iter().filter(|site| which(site)).collect();
    // A weakened ordering is tested with half of the fences that emulate `SeqCst`, so first check
    // that either half is sufficient when nothing is weakened.
    for what in [Access::Load, Access::Store] {
        if sites.iter().any(|site| site.what == what) {
            WITHOUT.set(Some(Site { file: "", line: 0, column: 0, what }));
            models.iter().for_each(|(_, model)| model());
            WITHOUT.set(None);
            println!("with half of the fences ({what:?}): no model fails");
        }
    }
    let try_without = |site: Site| {
        WITHOUT.set(Some(site));
        let failed = models.iter().find(|(_, model)| catch_unwind(model).is_err());
        WITHOUT.set(None);
        (site, failed.map(|&(name, _)| name))
    };
    let tried: Vec<_> = sites.into_iter().map(try_without).collect();
    TRYING.set(false);
    for (Site { file, line, column, what }, model) in &tried {
        let what = if *what == Access::Fence { "without the fence" } else { "with a weaker order" };
        let file = file.rsplit('/').next().unwrap_or(file);
        println!(
            "{what} at {file}:{line}:{column}: {}",
            model.map_or("no model fails".to_owned(), |model| format!("`{model}` fails"))
        );
    }
    tried
}

fn with<R>(f: impl FnOnce(&mut Exploration) -> R) -> R {
    EXPLORATION.with_borrow_mut(f)
}

pub(super) fn is_running() -> bool {
    with(|exploration| exploration.is_running)
}

/// Returns loom's word for this address, if loom has to model it.
pub(super) fn modelled(address: usize, access: Access) -> Option<Rc<Seen>> {
    with(|exploration| {
        if !exploration.is_running {
            return None;
        }
        if let Some(word) = exploration.seen.get(&address) {
            return Some(Rc::clone(word));
        }
        exploration.note(address, access);
        None
    })
}

/// Registers a run of words. Words that threads share must be in registered runs.
pub(crate) fn register<T>(start: *const T, count: usize, keeper: Arc<dyn Any + Send + Sync>) {
    let run = Run { start: start.expose_provenance(), bytes: count * size_of::<T>(), word: size_of::<T>() };
    with(|exploration| {
        let known = exploration
            .runs
            .iter()
            .any(|other| other.start <= run.start && run.start + run.bytes <= other.start + other.bytes);
        if known {
            return;
        }
        exploration.runs.push(run);
        exploration.kept.push(keeper);
        if exploration.is_running {
            exploration.show(exploration.runs.len() - 1);
        }
    });
}

impl Exploration {
    fn note(&mut self, address: usize, access: Access) {
        let me = loom::thread::current().id();
        let touched = self.touched.entry(address).or_insert_with(|| Touched {
            first: me,
            by_others: false,
            written: false,
        });
        touched.by_others |= touched.first != me;
        touched.written |= access != Access::Load;
        if touched.by_others && touched.written {
            let inside = |run: &Run| (run.start..run.start + run.bytes).contains(&address);
            let run = self.runs.iter().rposition(inside).expect(
                "threads of the model share a word that is in no registered run: the model misses what it \
                 does",
            );
            let place = (run, (address - self.runs[run].start) / self.runs[run].word);
            self.found.insert(place);
        }
    }

    /// Adds the shared words of a run to loom's model.
    fn show(&mut self, number: usize) {
        let Run { start, word, bytes } = self.runs[number];
        for &(_, at) in self.shared.range((number, 0)..(number + 1, 0)) {
            assert!(at < bytes / word, "runs are made in the same order each time");
            let address = start + at * word;
            let value = match word {
                4 => u64::from(plain_word::<plain::AtomicU32>(address).load(Ordering::SeqCst)),
                _ => plain_word::<plain::AtomicU64>(address).load(Ordering::SeqCst),
            };
            self.seen.insert(address, Rc::new(Seen::new(value)));
        }
    }

    /// Resets the state before an execution.
    fn forget(&mut self) {
        self.executions += 1;
        self.is_running = false;
        self.runs.clear();
        self.kept.clear();
        self.seen.clear();
        self.touched.clear();
    }

    fn begin(&mut self) {
        for run in 0..self.runs.len() {
            self.show(run);
        }
        self.is_running = true;
    }

    /// Makes all words plain again. `last` has the final values of the words that loom modelled.
    fn end(&mut self, last: &[(usize, u64)]) {
        self.is_running = false;
        for &(address, value) in last {
            let inside = |run: &&Run| (run.start..run.start + run.bytes).contains(&address);
            match self.runs.iter().rfind(inside).map(|run| run.word) {
                Some(4) => plain_word::<plain::AtomicU32>(address).store(value as u32, Ordering::SeqCst),
                Some(_) => plain_word::<plain::AtomicU64>(address).store(value, Ordering::SeqCst),
                None => {}
            }
        }
    }
}

fn plain_word<'a, T>(address: usize) -> &'a T {
    // SAFETY: both callers find the address in a registered run, whose keeper stays in `kept` until
    // the runs are forgotten; the reference ends within the caller's expression. The words are
    // atomics of this width and are not accessed as anything else.
    unsafe { &*std::ptr::with_exposed_provenance::<T>(address) }
}

/// Runs the threads of a model, at most four, and waits for them. Before and after this call all
/// words are plain.
pub fn threads<const N: usize>(bodies: [Box<dyn FnOnce() + Send>; N]) {
    with(Exploration::begin);
    let mut bodies = bodies.into_iter();
    let first = bodies.next();
    let others: Vec<_> = bodies.map(spawn).collect();
    if let Some(first) = first {
        first();
    }
    for other in others {
        other.join().expect("a thread that panics ends the execution");
    }
    let words: Vec<_> =
        with(|exploration| exploration.seen.iter().map(|(&at, word)| (at, Rc::clone(word))).collect());
    let last: Vec<_> = words.into_iter().map(|(at, word)| (at, last_value(&word))).collect();
    with(|exploration| exploration.end(&last));
}

/// Spawns a thread whose stack is large enough to create a store. Loom's default is 32 KiB.
fn spawn(body: Box<dyn FnOnce() + Send>) -> JoinHandle<()> {
    const STACK_WORDS: usize = 32 << 10;
    let spawned = loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(body);
    spawned.expect("memory for a stack")
}

fn last_value(word: &Seen) -> u64 {
    // SAFETY: all other threads were joined, so no store happens concurrently. (Loom checks it.)
    unsafe { word.unsync_load() }
}

/// Statistics of an exploration.
#[derive(Clone, Copy, Debug)]
pub struct Explored {
    /// Number of executions: schedules, and in each the values that loads may return.
    pub executions: u64,
    /// Number of words that threads share.
    pub words: usize,
}

/// Maximum number of executions per model, times `PONGO_TORTURE`. Loom checks its bound only once
/// in 20,000.
const MAX_EXECUTIONS: usize = 20_000;

/// Runs the executions of `body` (at most the first [`MAX_EXECUTIONS`]) in which threads are
/// preempted at most `preemptions` times. `LOOM_MAX_PREEMPTIONS` in the environment sets another
/// bound; a `PONGO_TORTURE` above 1 raises it by one.
///
/// # Panics
///
/// Panics if an execution panics, and prints which one it was.
pub fn model(name: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) -> Explored {
    let more = usize::from(with_orders() && !TRYING.get());
    let bound = number("LOOM_MAX_PREEMPTIONS").unwrap_or(preemptions + more);
    let most = MAX_EXECUTIONS * number("PONGO_TORTURE").unwrap_or(1).max(1);
    let body = Arc::new(body);
    let mut shared = BTreeSet::new();
    let mut at = 0;
    loop {
        with(|exploration| *exploration = Exploration { shared: shared.clone(), ..Exploration::default() });
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(at);
        builder.max_branches = 20_000;
        builder.max_permutations = Some(most);
        let body = Arc::clone(&body);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            builder.check(move || {
                with(Exploration::forget);
                let body = Arc::clone(&body);
                spawn(Box::new(move || body())).join().expect("a thread that panics ends the execution");
            });
        }));
        let (found, executions) = with(|exploration| {
            exploration.forget();
            (std::mem::take(&mut exploration.found), exploration.executions - 1)
        });
        if !found.is_empty() {
            // A word that loom does not model orders nothing, which alone may cause a failure.
            if outcome.is_err() {
                println!(
                    "{name}: explored again with {} more words, what failed above does not count",
                    found.len()
                );
            }
            shared.extend(found);
        } else if let Err(panic) = outcome {
            println!("{name}: failed in execution {executions}, at most {at} preemptions");
            resume_unwind(panic);
        } else if at < bound {
            at += 1;
        } else {
            // Loom stops before the last of them.
            let part = if executions as usize + 1 >= most { "the first " } else { "all " };
            println!(
                "{name}: {part}{executions} executions, {} shared words, at most {bound} preemptions, 0 \
                 failures",
                shared.len()
            );
            return Explored { executions, words: shared.len() };
        }
    }
}
