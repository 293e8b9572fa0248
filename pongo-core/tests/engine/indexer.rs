//! An index for tests: for each table, the live rows by their first eight bytes, in memory only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pongo_core::engine::{CrashBounds, IndexError, Indexer, Replay, TableChange};
use pongo_core::ids::RowId;
use pongo_core::table::{TableCore, TableView};

type Keys = HashMap<u64, RowId>;

/// An in-memory index; see the module.
#[derive(Default)]
pub(crate) struct MapIndexer {
    /// The keys by table name. `None`: another process wrote to the table, so its keys are no
    /// longer known.
    tables: Mutex<HashMap<String, Option<Keys>>>,
    trusting: bool,
}

pub(crate) fn key_of(row: &[u8]) -> u64 {
    u64::from_le_bytes(row[..8].try_into().unwrap())
}

impl MapIndexer {
    /// Creates an index that claims to be complete for a cleanly closed store, so that its recovery
    /// has nothing to do.
    pub(crate) fn trusting() -> Self {
        Self { trusting: true, ..Self::default() }
    }

    /// Returns the live rows of a table by key; `None` if this index is not up to date.
    pub(crate) fn keys(&self, table: &str) -> Option<Keys> {
        self.tables.lock().unwrap().get(table)?.clone()
    }
}

fn name(table: &TableCore) -> String {
    table.schema().table.clone()
}

impl Indexer for MapIndexer {
    fn reuse(&self, table: &Arc<TableCore>, crash_bounds: Option<&CrashBounds>) -> Result<(), IndexError> {
        if !self.trusting || crash_bounds.is_some() {
            return Err("nothing on disk".into());
        }
        self.tables.lock().unwrap().insert(name(table), None);
        Ok(())
    }

    fn verify_checksum(&self, _table: &Arc<TableCore>) -> Result<(), IndexError> {
        Ok(())
    }

    fn rebuild(&self, view: &TableView) -> Result<(), IndexError> {
        let mut keys = Keys::new();
        let mut from = RowId(0);
        while let Some(run) = view.next_run(from)? {
            for row in run.start.0..run.end.0 {
                if keys.insert(key_of(view.row_bytes(RowId(row))?), RowId(row)).is_some() {
                    return Err(format!("two live rows with the key of row {row}").into());
                }
            }
            from = run.end;
        }
        self.tables.lock().unwrap().insert(name(view.core()), Some(keys));
        Ok(())
    }

    fn create(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.tables.lock().unwrap().insert(name(table), Some(Keys::new()));
        Ok(())
    }

    fn reserve(&self, _view: &TableView, _hashes: &[u64], _deaths: &[RowId]) -> Result<(), IndexError> {
        Ok(())
    }

    fn apply(&self, change: &TableChange<'_>, _replay: Replay) -> Result<(), IndexError> {
        let mut tables = self.tables.lock().unwrap();
        let Some(keys) = tables.entry(name(change.table)).or_default() else { return Ok(()) };
        for row in change.rows.start.0..change.rows.end.0 {
            keys.insert(key_of(change.view.row_bytes(RowId(row))?), RowId(row));
        }
        for &row in change.deleted_rows {
            let key = key_of(change.view.row_bytes(row)?);
            if keys.get(&key) == Some(&row) {
                keys.remove(&key);
            }
        }
        Ok(())
    }

    fn repair_after_crash(&self, table: &Arc<TableCore>) -> Result<(), IndexError> {
        self.tables.lock().unwrap().insert(name(table), None);
        Ok(())
    }

    fn sync(&self, _table: &Arc<TableCore>) -> Result<(), IndexError> {
        Ok(())
    }
}
