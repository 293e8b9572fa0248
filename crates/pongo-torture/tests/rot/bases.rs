//! The stores that are damaged, with everything they ever held and every file they ever had.

use std::sync::Arc;

use pongo::prelude::*;
use pongo_core::storage::{MemoryStorage, Storage};
use pongo_sim::{Disk, Random};
use pongo_torture::{Change, Mix, Transaction, World, look, options};

use crate::evidence::Evidence;
use crate::image::{Image, Kernel, Placed};
use crate::sight;

/// How a store was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// Closed in order.
    Closed,
    /// By a process that was killed: the system lives on, and `control` says so.
    Killed,
    /// By a power cut, which took some of what was not synced.
    Cut,
}

/// A store that is to be damaged.
pub(crate) struct Base {
    pub(crate) name: &'static str,
    pub(crate) left: Left,
    pub(crate) image: Image,
    /// What it held at each `Seq`.
    pub(crate) worlds: Vec<World>,
    /// The `Seq` that is found if nothing is damaged.
    pub(crate) newest: usize,
    /// Its files after each commit, and at each close.
    pub(crate) history: Vec<Image>,
    pub(crate) evidence: Evidence,
}

/// Ranges are answered from the rows: ordered indexes of a store in memory are in no file.
pub(crate) fn open(storage: Arc<dyn Storage>) -> Result<Store, pongo::OpenError> {
    options().ordered(false).open_on(storage)
}

impl Base {
    pub(crate) fn kernel(&self) -> Kernel {
        if self.left == Left::Cut { Kernel::Other } else { Kernel::Same }
    }

    /// All of them, always the same but for the stores' numbers.
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
            // Begun again, and not ended.
            let process = made.disk.process();
            let store = open(process.storage()).unwrap();
            made.wander_in(&store, 9);
            if large && left == Left::Cut {
                // The last thing before the end: rows that no entry carries.
                made.commit(&store, vec![Change::LoadStops { from: 700, rows: 12, visits: 30 }]);
            }
            process.kill();
            drop(store);
            image = Image::of(&**made.disk.inner(), &image);
        }
        if left == Left::Cut {
            let disk = made.disk.reboot(&mut Random(2));
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

    /// Gives it the files of a store that was made as this one was.
    pub(crate) fn take_files(&mut self, image: Image, history: Vec<Image>) {
        assert_eq!(history.len(), self.history.len(), "{}", self.name);
        self.evidence = Evidence::of(&image);
        (self.image, self.history) = (image, history);
        if !self.name.starts_with("folder") {
            self.find_newest();
        }
    }

    /// The undamaged store is right, and what is not so would be found in every case.
    fn find_newest(&mut self) {
        let storage = self.image.storage(self.kernel());
        let store = open(storage).unwrap();
        self.newest = store.begin_read().unwrap().seq().0 as usize;
        let world = &self.worlds[self.newest];
        look(&store, world).is_right();
        sight::filters(&store, world).is_right();
        let report = store.verify(|_| ()).unwrap();
        assert!(report.is_sound(), "{}: {report}", self.name);
        assert!(world.rows() > 12, "{}: {} rows", self.name, world.rows());
        assert!(self.left == Left::Cut || self.newest + 1 == self.worlds.len(), "{}", self.name);
    }
}

/// A store that is being made.
struct Making {
    disk: Disk,
    random: Random,
    worlds: Vec<World>,
    history: Vec<Image>,
}

impl Making {
    fn new() -> Self {
        let inner = Placed { inner: MemoryStorage::new(), kernel: Kernel::Same };
        Self {
            disk: Disk::over(Arc::new(inner)),
            random: Random(11),
            worlds: vec![World::default()],
            history: Vec::new(),
        }
    }

    /// Opens it, does something, closes it.
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
        self.perform(store, transaction);
    }

    fn perform(&mut self, store: &Store, transaction: Transaction) {
        transaction.perform(self.worlds.last().expect("never empty"), store).unwrap();
        let world = &transaction.after;
        // A filter makes zones where there can be some.
        sight::filters(store, world).is_right();
        self.worlds.push(transaction.after);
        self.remember();
    }

    fn wander_in(&mut self, store: &Store, commits: usize) {
        let mix = Mix { stops: 12, changes: 4, load: 3, relaxed: 4 };
        for _ in 0..commits {
            let before = self.worlds.last().expect("never empty");
            let transaction = Transaction::make_up(before, &mut self.random, mix);
            self.perform(store, transaction);
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

    /// Whole blocks of rows and of heap, a second chunk of each, and few rows that are alive.
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
