//! The stores that are damaged, with all their states and all their files.

use std::sync::Arc;

use pongo::prelude::*;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_crashtest::{Change, Mix, StoreModel, Transaction, look, options};
use pongo_sim::{Disk, Random};

use crate::evidence::Evidence;
use crate::image::{Image, Kernel, Placed};
use crate::sight;

/// How a store was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// It was closed cleanly.
    Closed,
    /// Its process was killed; the system continues to run, and `control` says so.
    Killed,
    /// A power cut lost some of the data that was not synced.
    Cut,
}

/// A store that is to be damaged.
pub(crate) struct Base {
    pub(crate) name: &'static str,
    pub(crate) left: Left,
    pub(crate) image: Image,
    /// Its content at each `Seq`.
    pub(crate) worlds: Vec<StoreModel>,
    /// The `Seq` that is found if nothing is damaged.
    pub(crate) newest: usize,
    /// Its files after each commit, and at each close.
    pub(crate) history: Vec<Image>,
    pub(crate) evidence: Evidence,
}

/// Opens a store in memory. Ordered indexes are disabled, so ranges are read from the rows: the
/// ordered indexes of a store in memory are in no file.
pub(crate) fn open(storage: Arc<dyn Storage>) -> Result<Store, pongo::OpenError> {
    options().ordered(false).open_on(storage)
}

impl Base {
    pub(crate) fn kernel(&self) -> Kernel {
        if self.left == Left::Cut { Kernel::Other } else { Kernel::Same }
    }

    /// Returns all bases. They are always the same, except for the stores' numbers.
    pub(crate) fn all() -> Vec<Self> {
        vec![
            Self::make("small, closed", false, Left::Closed),
            Self::make("small, killed", false, Left::Killed),
            Self::make("small, power cut", false, Left::Cut),
            Self::make("large, closed", true, Left::Closed),
            Self::make("large, killed", true, Left::Killed),
            Self::make("large, power cut", true, Left::Cut),
        ]
    }

    fn make(name: &'static str, large: bool, left: Left) -> Self {
        let mut made = Making::new();
        made.live(|made| {
            if large {
                made.fill();
            }
            made.wander(6);
        });
        made.live(|made| made.wander(if large { 5 } else { 3 }));
        let mut image = made.history.last().expect("it lived").clone();
        if left != Left::Closed {
            // Opened again, and not closed.
            let process = made.disk.process();
            let store = open(process.storage()).unwrap();
            made.wander_in(&store, 9);
            if large && left == Left::Cut {
                // The last commit: rows that no entry contains.
                made.commit(&store, vec![Change::LoadStops { from: 700, rows: 12, visits: 30 }]);
            }
            process.kill();
            drop(store);
            image = Image::of(&**made.disk.inner(), &image);
        }
        if left == Left::Cut {
            let disk = made.disk.power_cycle(&mut Random(2));
            image = Image::of(&**disk.inner(), &image);
        }
        let worlds = made.worlds;
        let mut base = Self {
            name,
            left,
            evidence: Evidence::of(&image),
            image,
            newest: 0,
            worlds,
            history: made.history,
        };
        base.find_newest();
        base
    }

    /// Replaces its files by those of a store that was made in the same way.
    pub(crate) fn take_files(&mut self, image: Image, history: Vec<Image>) {
        assert_eq!(history.len(), self.history.len(), "{}", self.name);
        self.evidence = Evidence::of(&image);
        (self.image, self.history) = (image, history);
        if !self.name.starts_with("folder") {
            self.find_newest();
        }
    }

    /// Determines `newest`, and checks that the undamaged store is correct: an error in it would
    /// appear in every case.
    fn find_newest(&mut self) {
        let storage = self.image.storage(self.kernel());
        let store = open(storage).unwrap();
        self.newest = store.begin_read().unwrap().seq().0 as usize;
        let world = &self.worlds[self.newest];
        look(&store, world).assert_ok();
        sight::filters(&store, world).assert_ok();
        let report = store.verify(|_| ()).unwrap();
        assert!(report.is_valid(), "{}: {report}", self.name);
        assert!(world.rows() > 12, "{}: {} rows", self.name, world.rows());
        assert!(self.left == Left::Cut || self.newest + 1 == self.worlds.len(), "{}", self.name);
    }
}

/// A store that is being made.
struct Making {
    disk: Disk,
    random: Random,
    worlds: Vec<StoreModel>,
    history: Vec<Image>,
}

impl Making {
    fn new() -> Self {
        let inner = Placed { inner: MemoryStorage::new(), kernel: Kernel::Same };
        Self {
            disk: Disk::over(Arc::new(inner)),
            random: Random(11),
            worlds: vec![StoreModel::default()],
            history: Vec::new(),
        }
    }

    /// Opens the store, runs `something`, and closes the store.
    fn live(&mut self, something: impl FnOnce(&mut Session<'_>)) {
        let process = self.disk.process();
        let store = open(process.storage()).unwrap();
        something(&mut Session { made: self, store: &store });
        store.close().unwrap();
        self.remember();
    }

    fn remember(&mut self) {
        let none = Image::default();
        let image = Image::of(&**self.disk.inner(), self.history.last().unwrap_or(&none));
        self.history.push(image);
    }

    fn commit(&mut self, store: &Store, changes: Vec<Change>) {
        let before = self.worlds.last().expect("never empty");
        let transaction = Transaction::of(before, changes, Durability::Sync);
        self.apply(store, transaction);
    }

    fn apply(&mut self, store: &Store, transaction: Transaction) {
        transaction.apply(self.worlds.last().expect("never empty"), store).unwrap();
        let world = &transaction.after;
        // A filter builds zone maps where that is possible.
        sight::filters(store, world).assert_ok();
        self.worlds.push(transaction.after);
        self.remember();
    }

    fn wander_in(&mut self, store: &Store, commits: usize) {
        let mix = Mix { stops: 12, changes: 4, load: 3, relaxed: 4 };
        for _ in 0..commits {
            let before = self.worlds.last().expect("never empty");
            let transaction = Transaction::arbitrary(before, &mut self.random, mix);
            self.apply(store, transaction);
        }
    }
}

struct Session<'a> {
    made: &'a mut Making,
    store: &'a Store,
}

impl Session<'_> {
    fn wander(&mut self, commits: usize) {
        self.made.wander_in(self.store, commits);
    }

    /// Fills whole blocks of rows and of heap and a second chunk of each, and leaves few live rows.
    fn fill(&mut self) {
        for changes in [
            vec![Change::FillStops { from: 10_000, rows: 2100, visits: 0 }],
            vec![Change::DeleteStops { from: 10_000, keys: 2085 }],
            vec![Change::LoadStops { from: 5000, rows: 520, visits: 0 }],
            vec![Change::DeleteStops { from: 5000, keys: 505 }],
        ] {
            self.made.commit(self.store, changes);
        }
    }
}
