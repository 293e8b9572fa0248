//! One damaged store: opened, looked at, verified, written to, closed, opened again and looked at again.

use std::cell::Cell;
use std::sync::Arc;

use pongo::Store;
use pongo::prelude::*;
use pongo_core::storage::Storage;
use pongo_torture::{Change, Failure, Look, Transaction, World, look};

use crate::sight;

/// What came of a damage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Outcome {
    /// The store did not open.
    Refused,
    /// Some answers were errors, the others right.
    Unreadable,
    /// Everything was right.
    Right,
    /// The damage is a torn tail for whoever sees it: an earlier whole state.
    Tail,
    /// Wrong, where no checksum is yet: `docs/DURABILITY.md` says so.
    Uncovered,
}

/// What may come of it.
pub(crate) struct Judge<'a> {
    /// What the store held at each `Seq`.
    pub(crate) worlds: &'a [World],
    pub(crate) newest: usize,
    /// Whether it may end earlier, behind this `Seq`.
    pub(crate) may_end_at: &'a dyn Fn(u64) -> bool,
    /// How many problems `verify` told of, behind the first look.
    pub(crate) problems: Cell<usize>,
    /// Opens it, each time as another process would.
    pub(crate) open: &'a dyn Fn() -> Result<Store, pongo::OpenError>,
}

impl Judge<'_> {
    /// Says what came of it, or what is wrong.
    pub(crate) fn judge(&self) -> Result<Outcome, String> {
        let Ok(store) = (self.open)() else { return Ok(Outcome::Refused) };
        let found = store.begin_read().map_err(|error| format!("begin_read: {error}"))?.seq().0;
        let newest = self.newest as u64;
        if found != newest && !(found < newest && (self.may_end_at)(found)) {
            return Err(format!("found commit {found} of {newest}"));
        }
        let world = &self.worlds[found as usize];
        let first = see(&store, world, "at first");
        let problems = store.verify(|_| ()).map_or(1, |report| report.problems.len() + report.unread.len());
        self.problems.set(problems);
        let mut errors = first?;
        if errors > 0 && problems == 0 && see(&store, world, "once more")? > 0 {
            return Err(format!("{errors} errors, and `verify` finds nothing"));
        }
        errors += see(&store, world, "after `verify`")?;
        let transaction = Self::another(world);
        let after = match transaction.perform(world, &store) {
            Ok(_) => &transaction.after,
            Err(failure) if failure.is_refusal() => {
                errors += 1;
                world
            }
            Err(Failure::Commit(error)) => {
                errors += 1;
                drop(store);
                return self.again(&error.to_string(), [world, &transaction.after], errors, found);
            }
            Err(failure) => return Err(format!("staging is no refusal: {failure}")),
        };
        errors += see(&store, after, "after a transaction")?;
        if let Err(error) = store.close() {
            errors += 1;
            return self.again(&error.to_string(), [after, after], errors, found);
        }
        self.again("a close", [after, after], errors, found)
    }

    /// The store opened again: one of two worlds.
    fn again(&self, behind: &str, worlds: [&World; 2], errors: usize, found: u64) -> Result<Outcome, String> {
        let outcome = match (errors, found == self.newest as u64) {
            (0, true) => Outcome::Right,
            (_, true) => Outcome::Unreadable,
            (_, false) => Outcome::Tail,
        };
        let Ok(store) = (self.open)() else { return Ok(outcome) };
        let seq = store.begin_read().map_err(|error| format!("begin_read: {error}"))?.seq().0;
        let Some(world) = worlds.iter().find(|world| world.seq == seq) else {
            return Err(format!("behind {behind}: found commit {seq}, expected {}", worlds[0].seq));
        };
        see(&store, world, "opened again")?;
        Ok(outcome)
    }

    /// A transaction that touches each table, rows that are there and one that is not.
    fn another(world: &World) -> Transaction {
        let mut changes = vec![
            Change::PutStop { id: 2_000_000, visits: 15 },
            Change::PutSeat { seat: (3, 5), who: 29 },
            Change::PutNote { key: b"another".to_vec(), group: 1 },
        ];
        let ids: Vec<u64> = world.stops.keys().copied().collect();
        if let [first, .., last] = ids[..] {
            changes.push(Change::UpdateStop { id: first, visits: 7 });
            changes.push(Change::DeleteStop { id: last });
        }
        if let Some((key, _)) = world.notes.first_key_value() {
            changes.push(Change::PutNote { key: key.clone(), group: 3 });
        }
        if let Some((&seat, &(who, _))) = world.seats.last_key_value() {
            changes.push(Change::PutSeat { seat, who });
        }
        Transaction::of(world, changes, Durability::Sync)
    }
}

/// Looks at everything; gives the number of errors.
fn see(store: &Store, world: &World, when: &str) -> Result<usize, String> {
    let looks = [look(store, world), sight::filters(store, world)];
    let all = |of: fn(&Look) -> &Vec<String>| looks.iter().flat_map(of).cloned().collect::<Vec<_>>();
    let wrong = all(|look| &look.wrong);
    if wrong.is_empty() {
        return Ok(all(|look| &look.errors).len());
    }
    Err(format!("{when}: wrong: {wrong:#?}, errors: {:#?}", all(|look| &look.errors)))
}

/// How a store in memory is opened.
pub(crate) fn in_memory(storage: &Arc<dyn Storage>) -> Result<Store, pongo::OpenError> {
    crate::bases::open(Arc::clone(storage))
}
