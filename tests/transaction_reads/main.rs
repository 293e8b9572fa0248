//! Reads inside write transactions, compared with a model: every read of a table that is being
//! changed returns what a `BTreeMap` with the same changes returns, before and after puts, deletes,
//! bulk loads, changes by ranges, savepoints and rollbacks, with rows in memory and spilled ones,
//! in several threads whose transactions wait for one another's syncs, and in several processes.

#[path = "transaction_reads/changes.rs"]
mod changes;
#[path = "transaction_reads/keyed.rs"]
mod keyed;
#[path = "transaction_reads/model.rs"]
mod model;
#[path = "transaction_reads/shared.rs"]
mod shared;

use pongo_test_support::Outcome;
