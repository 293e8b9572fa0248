//! A process that writes to a store until it is stopped.
//!
//! It prints one line for each of these events:
//!
//! - `opening`
//! - `base S D`: the store is open at `Seq` S, with a world of digest D
//! - `looked`
//! - `begin S T`: a commit starts at nanosecond T
//! - `acknowledged S sync` or `acknowledged S relaxed`
//! - `settling`
//! - `settled OPEN PAIRS ASIDE`: whether the blocks of the ordered indexes are open, their number
//!   of pairs, and how often they were quarantined
//! - `rebuilding`, `rebuilt`, `verifying`, `verified`, `closing`, `closed S`
//! - `failed WHAT`: an error occurred instead of an answer
//! - `wrong WHAT`: the process found something that cannot be correct

use std::path::Path;

use pongo::prelude::*;
use pongo_crashtest::{Differences, StoreModel, look_at, options};
use pongo_sim::Random;
use rustix::time::{ClockId, clock_gettime};

use super::Outcome;
use super::history;
use super::process::say;

/// Parameters of a writer.
pub(crate) struct Orders {
    /// Seed of its commits and of its other steps.
    pub(crate) seed: u64,
    /// Step that it performs often.
    pub(crate) focus: String,
    /// Whether it maintains ordered indexes.
    pub(crate) ordered: bool,
    pub(crate) path: String,
}

impl Orders {
    pub(crate) fn role(&self) -> String {
        let Self { seed, focus, ordered, path } = self;
        format!("write {seed} {focus} {ordered} {path}")
    }

    /// Parses the words after `write`.
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

/// Opens a store as all processes of these tests do: the ordered indexes are stored in a file,
/// merged in several slices, and compacted after each merge.
pub(crate) fn open(path: &Path, ordered: bool) -> Result<Store, pongo::OpenError> {
    let options = options().ordered_tuning(16, 4096, 200, 64).ordered_compact_from(0).ordered(ordered);
    // SAFETY: the folder belongs to the test; only PongoDB writes to it.
    unsafe { options.open(path) }
}

/// Compares everything that a snapshot shows with a world, and prints differences.
///
/// # Errors
///
/// Returns the first read error.
pub(crate) fn looked(snapshot: &Snapshot, world: &StoreModel) -> Outcome {
    let mut look = Differences::default();
    look_at(snapshot, world, &mut look);
    if !look.wrong.is_empty() {
        say(&format!("wrong {:?}", look.wrong));
    }
    match look.errors.first() {
        Some(error) => Err(error.clone().into()),
        None => Ok(()),
    }
}

/// Returns the world that a snapshot shows, and prints content that cannot be correct.
pub(crate) fn shown(snapshot: &Snapshot) -> Outcome<StoreModel> {
    history::shown(snapshot).inspect_err(|error| {
        if error.downcast_ref::<pongo::ReadError>().is_none() {
            say(&format!("wrong {error}"));
        }
    })
}

struct Writer {
    orders: Orders,
    random: Random,
    /// The world, as far as this process knows it.
    world: StoreModel,
}

impl Writer {
    /// Opens the store and compares it with itself; only the parent knows what it must contain.
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

    /// Performs a transaction. Another process may have written since this process's last commit.
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
            say(&format!("wrong a commit after {} has number {seq}", self.world.seq));
        }
        say(&format!("acknowledged {seq} {}", if relaxed { "relaxed" } else { "sync" }));
        self.world = history::settled(transaction.after);
        Ok(())
    }

    fn verify(&mut self, store: &Store) -> Outcome {
        say("verifying");
        let report = store.verify(|_| ())?;
        if !report.is_valid() {
            // Not `wrong`: on a failing disk this is the correct result.
            return Err(format!("not sound: {report}: {:?}", report.issues).into());
        }
        say("verified");
        Ok(())
    }

    fn settle(&mut self, store: &Store) -> Outcome {
        say("settling");
        store.catch_up_indexes()?;
        let snapshot = store.begin_read()?;
        let world = shown(&snapshot)?;
        looked(&snapshot, &world)?;
        let status = store.stats()?.ordered;
        let reason = status.last_error.unwrap_or_default().replace('\n', " ");
        say(&format!("settled {} {} {} {reason}", status.open, status.pairs, status.quarantined));
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

    /// Runs all comparisons once, then closes the store.
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

/// Runs a writer and never returns: after a check or an error it waits until the process is killed.
pub(crate) fn live(orders: Orders) -> Outcome {
    let random = Random(orders.seed);
    let mut writer = Writer { orders, random, world: StoreModel::default() };
    let outcome = if writer.orders.focus == "check" { writer.check() } else { writer.write() };
    if let Err(error) = outcome {
        say(&format!("failed {}", error.to_string().replace('\n', " ")));
    }
    say("ended");
    loop {
        std::thread::park();
    }
}
