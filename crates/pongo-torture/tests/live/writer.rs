//! The life of a process that writes to a store until it is stopped.
//!
//! It says, a line each: `opening`; `base S D`: there is a store at `Seq` S, with a world of digest D; `looked`; `begin S T`,
//! at nanosecond T; `acknowledged S sync` or `relaxed`; `settling`; `settled OPEN PAIRS ASIDE`: whether it has the blocks of
//! the ordered indexes open, with so many pairs, and how often they were set aside; `rebuilding`, `rebuilt`, `verifying`,
//! `verified`, `closing`, `closed S`; `failed WHAT` if an error came in place of an answer, and `wrong WHAT` if what it found
//! cannot be.

use std::path::Path;

use pongo::prelude::*;
use pongo_sim::Random;
use pongo_torture::{Look, World, look_at, options};
use rustix::time::{ClockId, clock_gettime};

use super::Outcome;
use super::history;
use super::process::say;

/// What a writer is told.
pub(crate) struct Orders {
    /// Of its commits, and of what it does beside.
    pub(crate) seed: u64,
    /// What it does often.
    pub(crate) focus: String,
    /// Whether it keeps ordered indexes.
    pub(crate) ordered: bool,
    pub(crate) path: String,
}

impl Orders {
    pub(crate) fn role(&self) -> String {
        let Self { seed, focus, ordered, path } = self;
        format!("write {seed} {focus} {ordered} {path}")
    }

    /// From the words behind `write`.
    pub(crate) fn read(words: &str) -> Outcome<Self> {
        let mut words = words.splitn(4, ' ');
        let mut word = || words.next().ok_or("a word is missing");
        Ok(Self {
            seed: word()?.parse()?,
            focus: word()?.to_owned(),
            ordered: word()?.parse()?,
            path: word()?.to_owned(),
        })
    }
}

/// Opens a store as all processes of these tests do: the ordered indexes are worth a file, are merged in several slices and
/// compacted behind each merge.
pub(crate) fn open(path: &Path, ordered: bool) -> Result<Store, pongo::OpenError> {
    let options = options().ordered_tuning(16, 4096, 200, 64).ordered_compact_from(0).ordered(ordered);
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    unsafe { options.open(path) }
}

/// Looks in every way; says what is wrong.
pub(crate) fn looked(snapshot: &Snapshot, world: &World) -> Outcome {
    let mut look = Look::default();
    look_at(snapshot, world, &mut look);
    if !look.wrong.is_empty() {
        say(&format!("wrong {:?}", look.wrong));
    }
    match look.errors.first() {
        Some(error) => Err(error.clone().into()),
        None => Ok(()),
    }
}

/// What a snapshot shows, or says what cannot be.
pub(crate) fn shown(snapshot: &Snapshot) -> Outcome<World> {
    history::shown(snapshot).inspect_err(|error| {
        if error.downcast_ref::<pongo::ReadError>().is_none() {
            say(&format!("wrong {error}"));
        }
    })
}

struct Writer {
    orders: Orders,
    random: Random,
    /// As far as this process knows.
    world: World,
}

impl Writer {
    /// The store, compared with itself; what must be in it the parent knows.
    fn open(&mut self) -> Outcome<Store> {
        say("opening");
        let store = open(Path::new(&self.orders.path), self.orders.ordered)?;
        let snapshot = store.begin_read()?;
        self.world = shown(&snapshot)?;
        say(&format!("base {} {}", self.world.seq, history::digest(&self.world)));
        looked(&snapshot, &self.world)?;
        say("looked");
        Ok(store)
    }

    /// Others may have written between this process's last commit and this one.
    fn commit(&mut self, store: &Store) -> Outcome {
        let relaxed = self.random.one_in(3);
        let tx = store.begin_write_with(if relaxed { Durability::Relaxed } else { Durability::Sync })?;
        let snapshot = store.begin_read()?;
        if snapshot.seq().0 != self.world.seq {
            self.world = shown(&snapshot)?;
            say(&format!("base {} {}", self.world.seq, history::digest(&self.world)));
        }
        drop(snapshot);
        let transaction = history::next(self.orders.seed, &self.world);
        let now = clock_gettime(ClockId::Monotonic);
        say(&format!("begin {} {}", transaction.after.seq, now.tv_sec * 1_000_000_000 + now.tv_nsec));
        let seq = transaction.perform_in(&self.world, tx).map_err(|failure| failure.to_string())?;
        if seq.0 != transaction.after.seq {
            say(&format!("wrong a commit behind {} has number {seq}", self.world.seq));
        }
        say(&format!("acknowledged {seq} {}", if relaxed { "relaxed" } else { "sync" }));
        self.world = history::settled(transaction.after);
        Ok(())
    }

    fn verify(&mut self, store: &Store) -> Outcome {
        say("verifying");
        let report = store.verify(|_| ())?;
        if !report.is_sound() {
            // Not `wrong`: on a disk that fails that is how it must be.
            return Err(format!("not sound: {report}: {:?}", report.problems).into());
        }
        say("verified");
        Ok(())
    }

    fn settle(&mut self, store: &Store) -> Outcome {
        say("settling");
        store.settle()?;
        let snapshot = store.begin_read()?;
        let world = shown(&snapshot)?;
        looked(&snapshot, &world)?;
        let status = store.stats()?.ordered;
        let doubt = status.last_doubt.unwrap_or_default().replace('\n', " ");
        say(&format!("settled {} {} {} {doubt}", status.open, status.pairs, status.set_aside));
        Ok(())
    }

    fn rebuild(&mut self, store: &Store) -> Outcome {
        say("rebuilding");
        store.rebuild_indexes()?;
        let snapshot = store.begin_read()?;
        let world = shown(&snapshot)?;
        looked(&snapshot, &world)?;
        say("rebuilt");
        Ok(())
    }

    fn close(&mut self, store: Store) -> Outcome<Store> {
        say("closing");
        store.close()?;
        say(&format!("closed {}", self.world.seq));
        self.open()
    }

    fn write(&mut self) -> Outcome {
        let mut store = self.open()?;
        if self.random.one_in(3) {
            self.verify(&store)?;
        }
        loop {
            let steps = 1 + self.random.below(8);
            for _ in 0..steps {
                self.commit(&store)?;
            }
            let all = ["settle", "rebuild", "verify", "close", "commit", "commit"];
            let step = match self.random.below(2) {
                0 => self.orders.focus.as_str(),
                _ => all[self.random.below(all.len() as u64) as usize],
            };
            match step {
                "settle" => self.settle(&store)?,
                "rebuild" => self.rebuild(&store)?,
                "verify" => self.verify(&store)?,
                "close" => store = self.close(store)?,
                _ => {}
            }
        }
    }

    /// Everything there is to compare, once; then the store is closed.
    fn check(&mut self) -> Outcome {
        let store = self.open()?;
        self.verify(&store)?;
        self.settle(&store)?;
        self.verify(&store)?;
        say("closing");
        store.close()?;
        say(&format!("closed {}", self.world.seq));
        Ok(())
    }
}

/// The life. Does not end before the process is stopped, but after a check.
pub(crate) fn live(orders: Orders) -> Outcome {
    let random = Random(orders.seed);
    let mut writer = Writer { orders, random, world: World::default() };
    let outcome = if writer.orders.focus == "check" { writer.check() } else { writer.write() };
    if let Err(error) = outcome {
        say(&format!("failed {}", error.to_string().replace('\n', " ")));
    }
    say("ended");
    loop {
        std::thread::park();
    }
}
