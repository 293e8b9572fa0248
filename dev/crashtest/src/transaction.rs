//! Transactions that are generated from a world and performed on a store.
//!
//! A generated transaction contains its expected results. If the store returns another result,
//! [`Transaction::apply`] panics, because the tests search for wrong results. Errors are
//! returned.

use pongo::prelude::*;
use pongo::{CommitError, Seq, WriteError};

use crate::records::{Note, Seat, Stop, name_of};
use crate::{RandomSource, StoreModel};

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// `put` of a stop.
    PutStop {
        /// Its key.
        id: u64,
        /// Its value.
        visits: u32,
    },
    /// `update` of a stop.
    UpdateStop {
        /// Its key.
        id: u64,
        /// Its value.
        visits: u32,
    },
    /// `delete` of a stop.
    DeleteStop {
        /// Its key.
        id: u64,
    },
    /// `delete_range` of stops.
    DeleteStops {
        /// The first key.
        from: u64,
        /// Number of keys in the range.
        keys: u64,
    },
    /// `extend` of stops.
    LoadStops {
        /// The first key.
        from: u64,
        /// Number of rows.
        rows: u64,
        /// Value of the first row; later rows increase it.
        visits: u32,
    },
    /// `alloc_slice` of stops, without names.
    FillStops {
        /// The first key.
        from: u64,
        /// Number of rows.
        rows: u64,
        /// Value of the first row, a multiple of 4, so that names are empty.
        visits: u32,
    },
    /// `put` of a seat, which is rejected if `who` has another seat.
    PutSeat {
        /// Its key.
        seat: (u16, u16),
        /// The person who sits there.
        who: u64,
    },
    /// `delete` of a seat.
    DeleteSeat {
        /// Its key.
        seat: (u16, u16),
    },
    /// `put` of a note.
    PutNote {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        group: u32,
    },
    /// `delete` of a note.
    DeleteNote {
        /// Its key.
        key: Vec<u8>,
    },
    /// A savepoint, other changes, and a rollback.
    RolledBack(Vec<Change>),
}

/// Limits of generated transactions.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Stops have ids below this.
    pub stops: u64,
    /// Maximum number of changes.
    pub changes: u64,
    /// Maximum number of rows of a load.
    pub load: u64,
    /// One transaction in `relaxed` is `Relaxed`; 0 means none.
    pub relaxed: u64,
}

impl Mix {
    /// A few rows.
    pub const SMALL: Self = Self { stops: 24, changes: 4, load: 12, relaxed: 3 };
    /// Enough to fill chunks and roll segments.
    pub const LARGE: Self = Self { stops: 4000, changes: 8, load: 3000, relaxed: 3 };
}

/// A transaction and the expected state of the store after it.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Expected content after the commit.
    pub after: StoreModel,
    /// How it is committed.
    pub durability: Durability,
    /// What it does.
    pub changes: Vec<Change>,
}

/// The step at which a transaction failed.
#[derive(Debug)]
pub enum Failure {
    /// It failed before its commit and was dropped: none of its changes may be visible.
    Staging(WriteError),
    /// Its commit failed.
    Commit(CommitError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Staging(error) => error.fmt(f),
            Self::Commit(error) => error.fmt(f),
        }
    }
}

impl<E: Into<WriteError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Staging(error.into())
    }
}

impl Failure {
    /// Returns whether the transaction is certain not to be committed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Staging(_) | Self::Commit(CommitError::Refused(_)))
    }
}

const GROUPS: u64 = 5;
const WHO: u64 = 30;

fn seat(choice: &mut impl RandomSource) -> (u16, u16) {
    (choice.below(4) as u16, choice.below(6) as u16)
}

fn key(choice: &mut impl RandomSource) -> Vec<u8> {
    let len = match choice.below(12) {
        11 => 700,
        few => few as usize % 4,
    };
    let mut key = vec![b'k'; len];
    key.push(choice.below(6) as u8);
    key
}

/// Generates a change.
fn change(choice: &mut impl RandomSource, mix: Mix, depth: u32) -> Change {
    let id = |choice: &mut _| RandomSource::below(choice, mix.stops);
    let visits = |choice: &mut _| RandomSource::below(choice, 60) as u32;
    match choice.below(24) {
        0..5 => Change::PutStop { id: id(choice), visits: visits(choice) },
        5..7 => Change::UpdateStop { id: id(choice), visits: visits(choice) },
        7..10 => Change::DeleteStop { id: id(choice) },
        10 => Change::DeleteStops { from: id(choice), keys: choice.below(mix.load / 2 + 1) },
        11 => {
            Change::LoadStops { from: id(choice), rows: 1 + choice.below(mix.load), visits: visits(choice) }
        }
        12 => {
            let visits = visits(choice) / 4 * 4;
            Change::FillStops { from: id(choice), rows: 1 + choice.below(mix.load), visits }
        }
        13..17 => Change::PutSeat { seat: seat(choice), who: choice.below(WHO) },
        17 => Change::DeleteSeat { seat: seat(choice) },
        18..21 => Change::PutNote { key: key(choice), group: choice.below(GROUPS) as u32 },
        21..23 => Change::DeleteNote { key: key(choice) },
        _ if depth > 1 => Change::DeleteStop { id: id(choice) },
        _ => Change::RolledBack((0..=choice.below(2)).map(|_| change(choice, mix, depth + 1)).collect()),
    }
}

/// Generates a change that no other change undoes, because a commit without changes has no sequence
/// number.
fn certain(choice: &mut impl RandomSource) -> Change {
    match choice.below(4) {
        0..2 => Change::PutStop { id: 1_000_000 + choice.below(3), visits: choice.below(60) as u32 },
        2 => {
            let place = choice.below(3) as u16;
            Change::PutSeat { seat: (9, place), who: 1000 + u64::from(place) }
        }
        _ => Change::PutNote { key: vec![b'z', choice.below(3) as u8], group: choice.below(GROUPS) as u32 },
    }
}

impl Transaction {
    /// Generates a transaction for a store that contains `before`.
    #[must_use]
    pub fn arbitrary(before: &StoreModel, choice: &mut impl RandomSource, mix: Mix) -> Self {
        let mut changes: Vec<_> = (0..choice.below(mix.changes)).map(|_| change(choice, mix, 0)).collect();
        changes.push(certain(choice));
        let relaxed = mix.relaxed > 0 && choice.one_in(mix.relaxed);
        Self::of(before, changes, if relaxed { Durability::Relaxed } else { Durability::Sync })
    }

    /// Creates a transaction of these changes, at least one of which must change something.
    #[must_use]
    pub fn of(before: &StoreModel, changes: Vec<Change>, durability: Durability) -> Self {
        let mut after = before.clone();
        for change in &changes {
            change.predict(&mut after);
        }
        after.seq += 1;
        Self { after, durability, changes }
    }

    /// Performs the transaction and commits it. Returns the sequence number of the commit.
    ///
    /// # Errors
    /// [`Failure`].
    ///
    /// # Panics
    /// Panics if the store returns a wrong result.
    pub fn apply(&self, before: &StoreModel, store: &Store) -> Result<Seq, Failure> {
        self.perform_in(before, store.begin_write_with(self.durability)?)
    }

    /// Performs the transaction like [`Transaction::apply`], but in an open transaction, which
    /// determines the durability.
    ///
    /// # Errors
    /// [`Failure`].
    ///
    /// # Panics
    /// Panics if the store returns a wrong result.
    pub fn perform_in(&self, before: &StoreModel, mut tx: WriteTransaction) -> Result<Seq, Failure> {
        let mut world = before.clone();
        for change in &self.changes {
            change.apply(&mut tx, &mut world)?;
        }
        world.seq += 1;
        assert_eq!(world, self.after);
        Ok(tx.commit().map_err(Failure::Commit)?.seq)
    }
}

impl Change {
    /// Applies the expected effect of the change to `world`.
    fn predict(&self, world: &mut StoreModel) {
        match self {
            &Self::PutStop { id, visits } => {
                world.stops.insert(id, visits);
            }
            &Self::UpdateStop { id, visits } => {
                if let Some(known) = world.stops.get_mut(&id) {
                    *known = visits;
                }
            }
            Self::DeleteStop { id } => {
                world.stops.remove(id);
            }
            &Self::DeleteStops { from, keys } => {
                world.stops.retain(|id, _| !(from..from + keys).contains(id))
            }
            &Self::LoadStops { from, rows, visits } => {
                world.stops.extend((0..rows).map(|at| (from + at, visits + at as u32)));
            }
            &Self::FillStops { from, rows, visits } => {
                world.stops.extend((0..rows).map(|at| (from + at, visits + 16 * at as u32)));
            }
            &Self::PutSeat { seat, who } => {
                world.version += 1;
                if world.seat_of(who).is_none_or(|other| other == seat) {
                    world.seats.insert(seat, (who, world.version));
                }
            }
            Self::DeleteSeat { seat } => {
                world.seats.remove(seat);
            }
            Self::PutNote { key, group } => {
                world.version += 1;
                world.notes.insert(key.clone(), (*group, world.version));
            }
            Self::DeleteNote { key } => {
                world.notes.remove(key);
            }
            Self::RolledBack(_) => {}
        }
    }

    /// Performs the change and applies it to `world`. Compares results with the expected ones.
    fn apply(&self, tx: &mut WriteTransaction, world: &mut StoreModel) -> Result<(), WriteError> {
        match self {
            &Self::PutStop { id, visits } => {
                let stop = Stop::new(id, visits, tx.text(&name_of(visits))?);
                let was_there = tx.table::<Stop>()?.put(&stop)?;
                assert_eq!(was_there, world.stops.contains_key(&id), "put of stop {id}");
            }
            &Self::UpdateStop { id, visits } => {
                let new = Stop::new(id, visits, tx.text(&name_of(visits))?);
                let before = tx.table::<Stop>()?.update(id, |stop| std::mem::replace(stop, new).visits)?;
                assert_eq!(before, world.stops.get(&id).copied(), "update of stop {id}");
            }
            Self::DeleteStop { id } => {
                let was_there = tx.table::<Stop>()?.delete(id)?;
                assert_eq!(was_there, world.stops.contains_key(id), "delete of stop {id}");
            }
            &Self::DeleteStops { from, keys } => {
                let deleted = tx.table::<Stop>()?.delete_range(from..from + keys)?;
                assert_eq!(deleted, world.stops.range(from..from + keys).count() as u64, "delete_range");
            }
            &Self::LoadStops { from, rows, visits } => {
                let stop = |at: u64| {
                    let visits = visits + at as u32;
                    Ok(Stop::new(from + at, visits, tx.text(&name_of(visits))?))
                };
                let stops: Vec<Stop> = (0..rows).map(stop).collect::<Result<_, WriteError>>()?;
                tx.table::<Stop>()?.extend(stops)?;
            }
            &Self::FillStops { from, rows, visits } => {
                let name = tx.text("")?;
                let mut stops = tx.table::<Stop>()?;
                let mut filled = stops.alloc_slice(rows as usize)?;
                for (at, stop) in (0..).zip(filled.iter_mut()) {
                    *stop = Stop::new(from + at, visits + 16 * at as u32, name);
                }
                filled.insert()?;
            }
            &Self::PutSeat { seat: (row, place), who } => {
                let version = world.version + 1;
                let seat = Seat { row, place, even: who % 2 == 0, _pad: [0; 3], who, version };
                let taken = world.seat_of(who).is_some_and(|other| other != (row, place));
                match tx.table::<Seat>()?.put(&seat) {
                    Err(WriteError::UniqueViolation { .. }) => assert!(taken, "{who} sits nowhere else"),
                    put => {
                        assert_eq!(put?, world.seats.contains_key(&(row, place)), "put of a seat");
                        assert!(!taken, "{who} sits elsewhere");
                    }
                }
            }
            Self::DeleteSeat { seat } => {
                let was_there = tx.table::<Seat>()?.delete(seat)?;
                assert_eq!(was_there, world.seats.contains_key(seat), "delete of a seat");
            }
            Self::PutNote { key, group } => {
                let note = Note { group: *group, not_group: !group, version: world.version + 1 };
                let was_there = tx.external::<Note>()?.put(key, &note)?;
                assert_eq!(was_there, world.notes.contains_key(key), "put of a note");
            }
            Self::DeleteNote { key } => {
                let was_there = tx.external::<Note>()?.delete(key)?;
                assert_eq!(was_there, world.notes.contains_key(key), "delete of a note");
            }
            Self::RolledBack(changes) => {
                let point = tx.savepoint()?;
                let mut elsewhere = world.clone();
                for change in changes {
                    change.apply(tx, &mut elsewhere)?;
                }
                tx.rollback_to(&point)?;
                tx.release(point)?;
            }
        }
        self.predict(world);
        Ok(())
    }
}
