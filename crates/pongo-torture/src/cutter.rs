//! Cuts the power at the operations of a life as it goes on, and tries what that leaves.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use pongo_sim::{Disk, Image, Leave, Moment, Random};

use crate::{Book, Depth, survives};

/// Whether a path is of the file that nothing of is believed after a power cut: images that differ in it alone are not
/// counted as two.
#[must_use]
pub fn is_volatile(path: &str) -> bool {
    path == "control"
}

/// The variable that names the only cut that is tried.
pub const CUT: &str = "PONGO_CUT";
/// The same for the cut while what the first left is recovered.
pub const SECOND_CUT: &str = "PONGO_SECOND_CUT";

/// A power cut that can be had again: of which workload, at which operation, and which of its draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Which workload.
    pub workload: u64,
    /// Twice the number of the operation, and 1 if it is done.
    pub point: u64,
    /// Which draw.
    pub draw: u64,
}

impl Cut {
    /// From the variable [`CUT`] or [`SECOND_CUT`], three numbers with commas: the only one that is tried then.
    ///
    /// # Panics
    /// If it is something else.
    #[must_use]
    pub fn only(variable: &str) -> Option<Self> {
        let text = std::env::var(variable).ok()?;
        let numbers: Vec<u64> =
            text.split(',').map(|part| part.trim().parse().expect("three numbers with commas")).collect();
        let [workload, point, draw] = numbers[..] else { panic!("{variable} is three numbers: {text}") };
        Some(Self { workload, point, draw })
    }

    /// Random numbers of its own.
    #[must_use]
    pub fn random(self, seed: u64) -> Random {
        let mut random = Random(seed);
        for part in [self.workload, self.point, self.draw] {
            random = Random(random.next() ^ part);
        }
        Random(random.next())
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{}", self.workload, self.point, self.draw)
    }
}

/// How many power cuts, where.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// All draws come from it.
    pub seed: u64,
    /// Operations are passed over but for one in so many.
    pub one_in: u64,
    /// Images at each.
    pub draws: u64,
    /// One image in so many is looked at in depth.
    pub deep: u64,
}

impl Plan {
    /// Whether the image of this cut is looked at in depth. Not drawn from the numbers that say what the cut leaves: images
    /// of one kind alone would be.
    #[must_use]
    pub fn is_deep(self, cut: Cut) -> bool {
        cut.random(!self.seed).one_in(self.deep)
    }
}

/// What became of it.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Images drawn.
    pub drawn: u64,
    /// Of these, different ones: these were tried.
    pub tried: u64,
    /// Those that were not as they must be.
    pub failures: Vec<String>,
}

impl Tally {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.drawn += other.drawn;
        self.tried += other.tried;
        self.failures.extend(other.failures);
    }

    /// Prints what there is to say, and panics if anything was wrong.
    ///
    /// # Panics
    /// As said.
    pub fn conclude(&self, test: &str, seed: u64) {
        for failure in self.failures.iter().take(5) {
            println!("{test}: {failure}\n");
        }
        let Self { drawn, tried, failures } = self;
        println!("{test}: {tried} images ({drawn} drawn), seed {seed}, {} failures", failures.len());
        assert!(failures.is_empty(), "{} failures, seed {seed}", failures.len());
        // The one that is asked for may be another test's.
        assert!(*tried > 0 || Cut::only(CUT).is_some(), "no image was tried");
    }
}

/// What is done with an image besides. `Err` is a failure.
pub type Trial = Box<dyn FnMut(&Image, &Book, Cut) -> Result<(), String> + Send>;

/// See the module.
pub struct Cutter {
    plan: Plan,
    workload: u64,
    variable: &'static str,
    only: Option<Cut>,
    book: Arc<Mutex<Book>>,
    seen: HashSet<u64>,
    trial: Trial,
    tally: Tally,
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cutter").field("plan", &self.plan).field("tally", &self.tally).finish_non_exhaustive()
    }
}

impl Cutter {
    /// One that opens each image and compares it.
    #[must_use]
    pub fn new(plan: Plan, workload: u64, book: &Arc<Mutex<Book>>) -> Self {
        let trial = move |image: &Image, book: &Book, cut: Cut| {
            let depth = if plan.is_deep(cut) { Depth::GoOn } else { Depth::Look };
            survives(image, book, depth).map(|_| ())
        };
        Self::trying(plan, workload, book, CUT, Box::new(trial))
    }

    /// One that does something else with each; `variable` names the only one, if set.
    #[must_use]
    pub fn trying(
        plan: Plan,
        workload: u64,
        book: &Arc<Mutex<Book>>,
        variable: &'static str,
        trial: Trial,
    ) -> Self {
        Self {
            plan,
            workload,
            variable,
            only: Cut::only(variable),
            book: Arc::clone(book),
            seen: HashSet::new(),
            trial,
            tally: Tally::default(),
        }
    }

    /// Cuts while `work` is done with the disk.
    pub fn during(self, disk: &Disk, work: impl FnOnce()) -> Tally {
        let shared = Arc::new(Mutex::new(self));
        let cutter = Arc::clone(&shared);
        disk.watch(move |moment| cutter.lock().expect("trials do not panic").at(moment));
        work();
        disk.unwatch();
        let mut cutter = shared.lock().expect("trials do not panic");
        std::mem::take(&mut cutter.tally)
    }

    fn at(&mut self, moment: &Moment<'_>) {
        // What only `control` knows of changes nothing else.
        if is_volatile(moment.path()) && self.only.is_none() {
            return;
        }
        let point = 2 * moment.number() + u64::from(moment.is_done());
        let cut = |draw| Cut { workload: self.workload, point, draw };
        if let Some(only) = self.only {
            if cut(only.draw) == only {
                println!("{moment:?}");
                self.cut(moment, only);
            }
        } else if cut(u64::MAX).random(self.plan.seed).one_in(self.plan.one_in) {
            for draw in 0..self.plan.draws {
                self.cut(moment, Cut { workload: self.workload, point, draw });
            }
        }
    }

    fn cut(&mut self, moment: &Moment<'_>, cut: Cut) {
        let mut random = cut.random(self.plan.seed);
        let leave = Leave::any(&mut random);
        let image = moment.image(&mut random, leave);
        self.tally.drawn += 1;
        if !self.seen.insert(image.hash(is_volatile)) {
            return;
        }
        self.tally.tried += 1;
        let book = self.book.lock().expect("nobody panics with it").clone();
        if let Err(what) = (self.trial)(&image, &book, cut) {
            let (seed, variable) = (self.plan.seed, self.variable);
            let which = format!("PONGO_SEED={seed} {variable}={cut}");
            self.tally.failures.push(format!("{which}, {leave:?} at {moment:?}: {what}"));
        }
    }
}
