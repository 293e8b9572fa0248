//! A commit's changes follow from the state before it and from its writer's seed. A process that
//! knows which writer started which commit can therefore compute the content of a store at every
//! `Seq`. No two writers make the same changes, so that remains of a lost commit are detected.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use pongo::prelude::*;
use pongo_crashtest::{Mix, Note, Seat, Stop, StoreModel, Transaction};
use pongo_sim::Random;

use super::Outcome;

/// An occasional transaction with more rows, so that chunks fill.
const MEDIUM: Mix = Mix { stops: 300, changes: 6, load: 200, relaxed: 3 };
/// Transactions with enough rows that the journal refers to them instead of containing them.
const LARGE: Mix = Mix { stops: 400, changes: 3, load: 1200, relaxed: 3 };

/// Writers whose seeds are multiples of this insert many rows, so that chunks fill soon.
const LOADS: u64 = 8;

/// Returns a seed for a writer that inserts many rows, or for one that does not.
pub(crate) fn seed(random: u64, loads: bool) -> u64 {
    random / LOADS * LOADS + u64::from(!loads)
}

/// Returns the commit that a writer makes after this world.
pub(crate) fn next(seed: u64, before: &StoreModel) -> Transaction {
    let mut random = Random(seed ^ before.seq.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mix = match random.below(if seed.is_multiple_of(LOADS) { 4 } else { 48 }) {
        0 => LARGE,
        1..6 => MEDIUM,
        _ => Mix::SMALL,
    };
    Transaction::arbitrary(before, &mut random, mix)
}

/// Returns the world that a snapshot shows, read from its rows alone.
pub(crate) fn shown(snapshot: &Snapshot) -> Outcome<StoreModel> {
    let mut world = StoreModel { seq: snapshot.seq().0, ..StoreModel::default() };
    let twice = |what: String| Err(format!("{what} exists twice").into());
    for stop in snapshot.table::<Stop>()?.rows() {
        let stop = stop?;
        if stop.check != Stop::check(stop.id, stop.visits) {
            return Err(format!("a torn row: {stop:?}").into());
        }
        if world.stops.insert(stop.id, stop.visits).is_some() {
            return twice(format!("stop {}", stop.id));
        }
    }
    for seat in snapshot.table::<Seat>()?.rows() {
        let seat = seat?;
        if world.seats.insert((seat.row, seat.place), (seat.who, seat.version)).is_some() {
            return twice(format!("seat {} {}", seat.row, seat.place));
        }
    }
    for row in snapshot.external::<Note>()?.rows() {
        let (key, note) = row?;
        if note.not_group != !note.group {
            return Err(format!("a torn note: {note:?}").into());
        }
        if world.notes.insert(key.to_vec(), (note.group, note.version)).is_some() {
            return twice(format!("note {key:x?}"));
        }
    }
    world.version = version(world.seq);
    Ok(world)
}

/// Returns the version from which the next commit counts up. It is not stored, so it follows from
/// the `Seq`.
fn version(seq: u64) -> u64 {
    seq << 16
}

/// Returns a digest of a world. Two worlds with the same digest are the same.
pub(crate) fn digest(world: &StoreModel) -> u64 {
    let mut hasher = DefaultHasher::new();
    (world.seq, &world.stops, &world.seats, &world.notes).hash(&mut hasher);
    hasher.finish()
}

/// Returns a world after a commit, in the form that the next commit starts from.
pub(crate) fn settled(mut world: StoreModel) -> StoreModel {
    world.version = version(world.seq);
    world
}

/// The content of a store after each commit, as far as its writers reported the commits that they
/// started.
pub(crate) struct History {
    digests: Vec<u64>,
    /// The newest worlds: the next commit follows one of them.
    worlds: BTreeMap<u64, StoreModel>,
}

impl History {
    pub(crate) fn new() -> Self {
        let world = StoreModel::default();
        Self { digests: vec![digest(&world)], worlds: BTreeMap::from([(0, world)]) }
    }

    /// Returns the `Seq` of the newest commit that was started.
    pub(crate) fn begun(&self) -> u64 {
        self.digests.len() as u64 - 1
    }

    /// Records that a writer started a commit. Commits with this number or a higher one that were
    /// started before are not in the store.
    pub(crate) fn begin(&mut self, seq: u64, seed: u64) -> Outcome {
        let before = seq.checked_sub(1).and_then(|before| self.worlds.get(&before));
        let world =
            settled(next(seed, before.ok_or_else(|| format!("commit {seq} follows on nothing"))?).after);
        self.digests.truncate(seq as usize);
        self.digests.push(digest(&world));
        self.worlds.split_off(&seq);
        self.worlds.insert(seq, world);
        Ok(())
    }

    /// Records that no commit will follow one that is older than this.
    pub(crate) fn settle(&mut self, seq: u64) {
        self.worlds = self.worlds.split_off(&seq);
    }

    #[allow(dead_code, reason = "kills lose nothing")]
    /// Records that a store was found at this `Seq` by a process that had it open alone: commits
    /// that were started after it are not in the store.
    pub(crate) fn lose_behind(&mut self, seq: u64) {
        self.digests.truncate(seq as usize + 1);
        self.worlds.split_off(&(seq + 1));
    }

    /// Returns the digest of a store at this `Seq`, if a store can be at it.
    pub(crate) fn digest(&self, seq: u64) -> Option<u64> {
        self.digests.get(seq as usize).copied()
    }
}
