//! Cuts the power at the operations of a workload while it runs, and tests each image that this
//! leaves.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use pongo_sim::{CrashPolicy, Disk, DiskEvent, Image, Random};

use crate::{Depth, ExpectedStates, survives};

/// Returns whether this is the path of the file whose content is never trusted after a power cut.
/// Images that differ only in this file are counted once.
#[must_use]
pub fn is_volatile(path: &str) -> bool {
    path == "control"
}

/// Environment variable that selects a single cut to test.
pub const CUT: &str = "PONGO_CUT";
/// Environment variable that selects a single cut during the recovery from the first cut.
pub const SECOND_CUT: &str = "PONGO_SECOND_CUT";

/// A reproducible power cut: its workload, its operation, and the number of its random image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Number of the workload.
    pub workload: u64,
    /// Twice the number of the operation, plus 1 if the operation is complete.
    pub point: u64,
    /// Number of the image at this operation.
    pub draw: u64,
}

impl Cut {
    /// Reads the single cut to test from the environment variable [`CUT`] or [`SECOND_CUT`]: three
    /// numbers separated by commas.
    ///
    /// # Panics
    /// Panics if the variable has another format.
    #[must_use]
    pub fn only(variable: &str) -> Option<Self> {
        let text = std::env::var(variable).ok()?;
        let numbers: Vec<u64> =
            text.split(',').map(|part| part.trim().parse().expect("three numbers with commas")).collect();
        let [workload, point, draw] = numbers[..] else { panic!("{variable} is three numbers: {text}") };
        Some(Self { workload, point, draw })
    }

    /// Returns a random generator for this cut alone.
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

/// Number and places of the power cuts.
#[derive(Clone, Copy, Debug)]
pub struct CutPlan {
    /// Seed of all images.
    pub seed: u64,
    /// One operation in `one_in` is tested.
    pub one_in: u64,
    /// Images per operation.
    pub draws: u64,
    /// One image in `deep` is tested in depth.
    pub deep: u64,
}

impl CutPlan {
    /// Returns whether the image of this cut is tested in depth. This does not use the random
    /// numbers that determine the image; otherwise only images of one kind would be tested in
    /// depth.
    #[must_use]
    pub fn is_deep(self, cut: Cut) -> bool {
        cut.random(!self.seed).one_in(self.deep)
    }
}

/// Results of the power cuts.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Images drawn.
    pub drawn: u64,
    /// Number of distinct images among them; only these were tested.
    pub tried: u64,
    /// Descriptions of the images that failed.
    pub failures: Vec<String>,
}

impl Tally {
    /// Adds the results of another tally.
    pub fn add(&mut self, other: Self) {
        self.drawn += other.drawn;
        self.tried += other.tried;
        self.failures.extend(other.failures);
    }

    /// Prints a summary.
    ///
    /// # Panics
    /// Panics if an image failed, or if none was tested.
    pub fn conclude(&self, test: &str, seed: u64) {
        for failure in self.failures.iter().take(5) {
            println!("{test}: {failure}\n");
        }
        let Self { drawn, tried, failures } = self;
        println!("{test}: {tried} images ({drawn} drawn), seed {seed}, {} failures", failures.len());
        assert!(failures.is_empty(), "{} failures, seed {seed}", failures.len());
        // The selected cut may belong to another test.
        assert!(*tried > 0 || Cut::only(CUT).is_some(), "no image was tried");
    }
}

/// A test of an image. Returns an error if the image fails.
pub type Trial = Box<dyn FnMut(&Image, &ExpectedStates, Cut) -> Result<(), String> + Send>;

/// A tester of the images of a disk in use; see the module documentation.
pub struct Cutter {
    plan: CutPlan,
    workload: u64,
    variable: &'static str,
    only: Option<Cut>,
    book: Arc<Mutex<ExpectedStates>>,
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
    /// Creates a cutter that opens each image and compares its content.
    #[must_use]
    pub fn new(plan: CutPlan, workload: u64, book: &Arc<Mutex<ExpectedStates>>) -> Self {
        let trial = move |image: &Image, book: &ExpectedStates, cut: Cut| {
            let depth = if plan.is_deep(cut) { Depth::GoOn } else { Depth::Look };
            survives(image, book, depth).map(|_| ())
        };
        Self::trying(plan, workload, book, CUT, Box::new(trial))
    }

    /// Creates a cutter with another test. `variable` is the environment variable that selects a
    /// single cut.
    #[must_use]
    pub fn trying(
        plan: CutPlan,
        workload: u64,
        book: &Arc<Mutex<ExpectedStates>>,
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

    /// Runs `work` and tests images of the disk at its operations.
    pub fn during(self, disk: &Disk, work: impl FnOnce()) -> Tally {
        let shared = Arc::new(Mutex::new(self));
        let cutter = Arc::clone(&shared);
        disk.watch(move |moment| cutter.lock().expect("trials do not panic").at(moment));
        work();
        disk.unwatch();
        let mut cutter = shared.lock().expect("trials do not panic");
        std::mem::take(&mut cutter.tally)
    }

    fn at(&mut self, moment: &DiskEvent<'_>) {
        // Operations on `control` change no other file, so they yield no new image.
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

    fn cut(&mut self, moment: &DiskEvent<'_>, cut: Cut) {
        let mut random = cut.random(self.plan.seed);
        let leave = CrashPolicy::any(&mut random);
        let image = moment.image(&mut random, leave);
        self.tally.drawn += 1;
        if !self.seen.insert(image.hash(is_volatile)) {
            return;
        }
        self.tally.tried += 1;
        let book = self.book.lock().expect("no thread panics with it").clone();
        if let Err(what) = (self.trial)(&image, &book, cut) {
            let (seed, variable) = (self.plan.seed, self.variable);
            let which = format!("PONGO_SEED={seed} {variable}={cut}");
            self.tally.failures.push(format!("{which}, {leave:?} at {moment:?}: {what}"));
        }
    }
}
