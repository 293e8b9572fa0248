//! Reads inside write transactions, compared with a model: every read of a table that is being
//! changed returns what a `BTreeMap` with the same changes returns, before and after puts, deletes,
//! bulk loads, changes by ranges, savepoints and rollbacks, with rows in memory and spilled ones,
//! in several threads whose transactions wait for one another's syncs, and in several processes.

mod changes;
mod keyed;
mod model;
mod shared;

use pongo_test_support::Outcome;
