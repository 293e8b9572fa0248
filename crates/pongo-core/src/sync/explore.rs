//! Exploring a model: which words loom has to see, and the runs that try all schedules.
//!
//! A store has thousands of words, and loom's effort grows with each one it sees. It needs to see only those that one
//! thread writes and another reads or writes while the threads of the model run; all others stay plain. Which ones these
//! are is found, not said: a run notes for each plain word who read and who wrote it, and if a word turns out to be
//! shared, the model is explored anew with that word among those that loom sees, until there is no more. So no
//! access that two threads could order in two ways escapes, and a model is set up and looked at afterwards at full speed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{self as plain, Ordering};

use loom::sync::atomic::AtomicU64 as Seen;
use loom::thread::{JoinHandle, ThreadId};

/// A word of a run of words that is the same in each execution: which run, in the order they were made, and where in it.
type Place = (usize, usize);

/// What is done with a word, or between two accesses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    /// It is read.
    Load,
    /// It is written.
    Store,
    /// Both at once.
    Change,
    /// A fence, of no word.
    Fence,
}

impl Access {
    /// What is strongest short of `SeqCst`.
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

/// Who touched a plain word.
struct Touched {
    first: ThreadId,
    by_others: bool,
    written: bool,
}

#[derive(Default)]
struct Exploration {
    /// Words that several threads share, as far as is known.
    shared: BTreeSet<Place>,
    /// Those of them that were not known when this exploration began.
    found: BTreeSet<Place>,
    runs: Vec<Run>,
    /// What the runs lie in: words are stored to when the model has dropped everything.
    kept: Vec<Arc<dyn Any + Send + Sync>>,
    /// Threads are at work.
    is_running: bool,
    seen: HashMap<usize, Rc<Seen>>,
    touched: HashMap<usize, Touched>,
    executions: u64,
}

thread_local! {
    /// Loom runs all threads of a model on one thread of the system.
    static EXPLORATION: RefCell<Exploration> = RefCell::default();
    /// Every fence and every ordered access that a model met.
    static MET: RefCell<BTreeSet<Site>> = RefCell::default();
    /// Models run to see what they need, not to find more.
    static TRYING: Cell<bool> = const { Cell::new(false) };
    /// The one that is left out, or weakened by a step.
    static WITHOUT: RefCell<Option<Site>> = RefCell::default();
}

/// A fence, or an access of a word that threads share, in the code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Site {
    /// The file.
    pub file: &'static str,
    /// The line in it.
    pub line: u32,
    /// The place in the line.
    pub column: u32,
    /// What it is.
    pub what: Access,
}

/// The order that holds at the place in the code that asks: the one it says, but at the one place that is tried without.
/// There `SeqCst` is weakened to `AcqRel`, any other to none, and a fence is none at all.
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

/// Whether a fence stands before loads that are `SeqCst`, and whether one stands behind such stores. One of the two is
/// enough; to try without it, the other must not be there.
pub(super) fn fences_for_all() -> (bool, bool) {
    match WITHOUT.with_borrow(|without| without.map(|site| site.what)) {
        Some(Access::Load) => (true, false),
        Some(Access::Store | Access::Change) => (false, true),
        _ => (true, true),
    }
}

/// Whether orders are tried without as well, which takes minutes: only with a `PONGO_TORTURE` above 1.
pub fn with_orders() -> bool {
    number("PONGO_TORTURE").is_some_and(|times| times > 1)
}

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tries the models once as they are, and then without each fence they met that `which` picks, and with
/// each order weakened by a step. Gives for each such place the first model that fails without it.
///
/// # Panics
///
/// If a model fails as it is.
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
    // A weaker order is tried with half of the fences that stand for `SeqCst`: without a weaker one, each half has to do.
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

/// Loom's word in the place of the one at this address, if it has to see it.
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

/// Makes a run of words known: those that are shared among threads are to be found in such runs.
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
                "threads of the model share a word that lies in no run that is registered: the model misses what it does",
            );
            let place = (run, (address - self.runs[run].start) / self.runs[run].word);
            self.found.insert(place);
        }
    }

    /// Lets loom see the shared words of a run.
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

    /// Before an execution.
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

    /// From here on all words are plain again. `last` has the values of those that loom saw.
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
    // SAFETY: both callers look the address up among the runs that are registered, whose keepers `kept` holds until the runs
    // are forgotten; the reference ends in the callers' expression. The words are atomics of this width, reached as nothing else.
    unsafe { &*std::ptr::with_exposed_provenance::<T>(address) }
}

/// Runs the threads of a model, at most four, and waits for them. Before and behind it all words are plain.
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

/// A thread whose stack is large enough for the making of a store. Loom's own are of 32 KiB.
fn spawn(body: Box<dyn FnOnce() + Send>) -> JoinHandle<()> {
    const STACK_WORDS: usize = 32 << 10;
    let spawned = loom::thread::Builder::new().stack_size(STACK_WORDS).spawn(body);
    spawned.expect("memory for a stack")
}

fn last_value(word: &Seen) -> u64 {
    // SAFETY: all other threads were joined, so nothing is stored at the same time. (Loom checks it.)
    unsafe { word.unsync_load() }
}

/// How much was tried.
#[derive(Clone, Copy, Debug)]
pub struct Explored {
    /// Executions: schedules, and in each the values that loads may give.
    pub executions: u64,
    /// Words that threads share.
    pub words: usize,
}

/// Executions of a model that are tried at most, times `PONGO_TORTURE`. Loom looks at its bound once in 20,000 only.
const MOST: usize = 20_000;

/// Tries the executions of `body` (the first [`MOST`] of them, if there are more) in which threads are interrupted at most `preemptions` times. The environment sets
/// another bound with `LOOM_MAX_PREEMPTIONS`, or one more with a `PONGO_TORTURE` above 1.
///
/// # Panics
///
/// If an execution does, and says which one it was.
pub fn model(name: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) -> Explored {
    let more = usize::from(with_orders() && !TRYING.get());
    let bound = number("LOOM_MAX_PREEMPTIONS").unwrap_or(preemptions + more);
    let most = MOST * number("PONGO_TORTURE").unwrap_or(1).max(1);
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
            // A word that loom does not see orders nothing: a failure may be due to that alone.
            if outcome.is_err() {
                println!(
                    "{name}: explored anew with {} more words, what failed above does not count",
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
                "{name}: {part}{executions} executions, {} shared words, at most {bound} preemptions, 0 failures",
                shared.len()
            );
            return Explored { executions, words: shared.len() };
        }
    }
}
