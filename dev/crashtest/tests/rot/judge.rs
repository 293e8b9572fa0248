//! Checks of one damaged store: it is opened, read, verified, written to, closed, opened again and
//! read again.

use std::cell::Cell;
use std::sync::Arc;

use pongo::Store;
use pongo::prelude::*;
use pongo_core::storage::Storage;
use pongo_crashtest::{Change, Differences, Failure, StoreModel, Transaction, look};

use crate::sight;

/// The outcome of a damage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Outcome {
    /// The store did not open.
    Refused,
    /// Some answers were errors, the others correct.
    Unreadable,
    /// All answers were correct.
    Right,
    /// The damage cannot be told from a torn tail: an earlier complete state was found.
    Tail,
    /// A wrong answer from data that has no checksum yet, as documented in
    /// `docs/design/failures.md`.
    Uncovered,
}

/// The allowed outcomes.
pub(crate) struct Judge<'a> {
    /// The content of the store at each `Seq`.
    pub(crate) worlds: &'a [StoreModel],
    pub(crate) newest: usize,
    /// Returns whether the store may end earlier, after this `Seq`.
    pub(crate) may_end_at: &'a dyn Fn(u64) -> bool,
    /// Number of problems that `verify` reported after the first read.
    pub(crate) problems: Cell<usize>,
    /// Opens the store, each time as another process would.
    pub(crate) open: &'a dyn Fn() -> Result<Store, pongo::OpenError>,
}

impl Judge<'_> {
    /// Returns the outcome, or the error found.
    pub(crate) fn judge(&self) -> Result<Outcome, String> {
        let Ok(store) = (self.open)() else { return Ok(Outcome::Refused) };
        let found = store.begin_read().map_err(|error| format!("begin_read: {error}"))?.seq().0;
        let newest = self.newest as u64;
        if found != newest && !(found < newest && (self.may_end_at)(found)) {
            return Err(format!("found commit {found} of {newest}"));
        }
        let world = &self.worlds[found as usize];
        let first = see(&store, world, "at first");
        let problems = store.verify(|_| ()).map_or(1, |report| report.issues.len() + report.unread.len());
        self.problems.set(problems);
        let mut errors = first?;
        if errors > 0 && problems == 0 && see(&store, world, "once more")? > 0 {
            return Err(format!("{errors} errors, and `verify` finds nothing"));
        }
        errors += see(&store, world, "after `verify`")?;
        let transaction = Self::another(world);
        let after = match transaction.apply(world, &store) {
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

    /// Opens the store again and checks that it has the content of one of two worlds.
    fn again(
        &self,
        behind: &str,
        worlds: [&StoreModel; 2],
        errors: usize,
        found: u64,
    ) -> Result<Outcome, String> {
        let outcome = match (errors, found == self.newest as u64) {
            (0, true) => Outcome::Right,
            (_, true) => Outcome::Unreadable,
            (_, false) => Outcome::Tail,
        };
        let Ok(store) = (self.open)() else { return Ok(outcome) };
        let seq = store.begin_read().map_err(|error| format!("begin_read: {error}"))?.seq().0;
        let Some(world) = worlds.iter().find(|world| world.seq == seq) else {
            return Err(format!("after {behind}: found commit {seq}, expected {}", worlds[0].seq));
        };
        see(&store, world, "opened again")?;
        Ok(outcome)
    }

    /// Returns a transaction that changes each table, with existing rows and a new one.
    fn another(world: &StoreModel) -> Transaction {
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

/// Reads and compares everything. Returns the number of errors.
fn see(store: &Store, world: &StoreModel, when: &str) -> Result<usize, String> {
    let looks = [look(store, world), sight::filters(store, world)];
    let all = |of: fn(&Differences) -> &Vec<String>| looks.iter().flat_map(of).cloned().collect::<Vec<_>>();
    let wrong = all(|look| &look.wrong);
    if wrong.is_empty() {
        return Ok(all(|look| &look.errors).len());
    }
    Err(format!("{when}: wrong: {wrong:#?}, errors: {:#?}", all(|look| &look.errors)))
}

/// Opens a store in memory.
pub(crate) fn in_memory(storage: &Arc<dyn Storage>) -> Result<Store, pongo::OpenError> {
    crate::bases::open(Arc::clone(storage))
}
