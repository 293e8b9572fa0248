//! The steps performed on a store while a call of it fails.

use pongo::prelude::*;
use pongo_crashtest::Change;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Opens the store, and creates it if it does not exist.
    Open,
    /// Performs a transaction.
    Commit(Durability, Vec<Change>),
    /// Reads everything and compares it.
    Look,
    /// Takes a snapshot and keeps it.
    Hold,
    /// Reads and compares the kept snapshot.
    LookHeld,
    /// Calls [`Store::stats`].
    Stats,
    /// Calls [`Store::catch_up_indexes`].
    Settle,
    /// Calls [`Store::verify`].
    Verify,
    /// Calls [`Store::rebuild_indexes`].
    Rebuild,
    /// Another process, whose calls do not fail, writes; this process takes over afterwards.
    Other(Vec<Change>),
    /// Calls [`Store::close`].
    Close,
    /// Kills the process.
    Kill,
    /// Cuts the power.
    Cut,
}

fn sync(changes: impl Into<Vec<Change>>) -> Step {
    Step::Commit(Durability::Sync, changes.into())
}

fn relaxed(changes: impl Into<Vec<Change>>) -> Step {
    Step::Commit(Durability::Relaxed, changes.into())
}

/// Returns a change with a different value in each commit, so that every commit changes something.
fn mark(visits: u32) -> Change {
    Change::PutStop { id: 1_000_000, visits }
}

fn seat(row: u16, place: u16, who: u64) -> Change {
    Change::PutSeat { seat: (row, place), who }
}

fn note(key: &[u8], group: u32) -> Change {
    Change::PutNote { key: key.to_vec(), group }
}

/// Returns a workload that does everything once: each kind of commit, reads, close, takeover,
/// recovery.
pub(crate) fn work() -> Vec<Step> {
    let long_key = vec![b'k'; 700];
    vec![
        Step::Open,
        sync([mark(0), Change::PutStop { id: 3, visits: 31 }, seat(1, 1, 5), note(b"a", 1)]),
        Step::Look,
        relaxed([mark(1), Change::LoadStops { from: 2, rows: 9, visits: 7 }]),
        sync([mark(2), Change::FillStops { from: 8, rows: 8, visits: 4 }, Change::DeleteStop { id: 4 }]),
        Step::Hold,
        // Refused by the unique index, and rolled back.
        sync([
            mark(3),
            seat(1, 2, 5),
            seat(1, 1, 6),
            Change::RolledBack(vec![
                Change::LoadStops { from: 40, rows: 5, visits: 1 },
                seat(2, 2, 7),
                note(b"b", 2),
            ]),
            Change::UpdateStop { id: 3, visits: 15 },
        ]),
        relaxed([mark(4), note(&long_key, 3), note(b"a", 2), seat(2, 3, 5)]),
        Step::Look,
        // More rows than a chunk holds; all are deleted soon.
        relaxed([mark(5), Change::LoadStops { from: 5000, rows: 2080, visits: 0 }]),
        sync([mark(6), Change::DeleteStops { from: 5000, keys: 2080 }, Change::DeleteNote { key: long_key }]),
        Step::Stats,
        Step::Settle,
        Step::LookHeld,
        Step::Rebuild,
        Step::Look,
        Step::Other(vec![mark(7), seat(3, 3, 9), note(b"c", 4)]),
        sync([mark(8), Change::DeleteSeat { seat: (3, 3) }, seat(0, 0, 9), Change::DeleteStop { id: 2 }]),
        Step::Verify,
        Step::LookHeld,
        Step::Close,
        Step::Open,
        Step::Look,
        sync([mark(9), note(b"d", 0)]),
        relaxed([mark(10), seat(0, 1, 8), Change::LoadStops { from: 60, rows: 6, visits: 20 }]),
        Step::Kill,
        Step::Open,
        Step::Look,
        sync([mark(11), seat(0, 1, 11), note(b"d", 1)]),
        relaxed([mark(12), Change::DeleteStops { from: 60, keys: 3 }]),
        Step::Cut,
        Step::Open,
        Step::Look,
        sync([mark(13), Change::FillStops { from: 70, rows: 4, visits: 8 }]),
        Step::Settle,
        Step::Close,
    ]
}
