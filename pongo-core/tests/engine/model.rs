//! A model of the store: plain values that are changed commit by commit and compared with
//! snapshots.

use std::sync::Arc;

use pongo_core::engine::Engine;
use pongo_core::fields::HeapRead;
use pongo_core::ids::{HeapAddr, RowId};
use pongo_core::schema::StoredSchema;
use pongo_core::snapshot::EngineSnapshot;

use pongo_sim::Random;

use crate::indexer::MapIndexer;

/// A row. Its bytes are determined by key, seed and the table's row size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) key: u64,
    pub(crate) seed: u64,
    pub(crate) previous: Option<u64>,
    pub(crate) deleted: bool,
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) size: usize,
    pub(crate) rows: Vec<Row>,
}

/// A heap item.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) addr: HeapAddr,
    pub(crate) len: usize,
    pub(crate) seed: u64,
}

/// A complete store at one `Seq`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) seq: u64,
    pub(crate) tables: Vec<Table>,
    pub(crate) heap: Vec<Item>,
}

/// Returns the schema of a table of rows with an eight-byte key, followed by other bytes.
pub(crate) fn schema(name: &str, size: usize) -> StoredSchema {
    use pongo_core::schema::{Kind, StoredField, StoredKind};
    let rest = Box::leak(Box::new(Kind::U8));
    StoredSchema {
        table: name.to_owned(),
        record: "Row".to_owned(),
        version: 1,
        size,
        align: 8,
        fields: vec![
            StoredField { name: "id".to_owned(), kind: StoredKind::from(&Kind::U64), offset: 0, size: 8 },
            StoredField {
                name: "rest".to_owned(),
                kind: StoredKind::from(&Kind::Array { of: rest, len: size - 8 }),
                offset: 8,
                size: size - 8,
            },
        ],
        key: vec![0],
        indexes: Vec::new(),
    }
}

/// Returns `len` bytes that the seed determines.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(len);
    out
}

impl Row {
    pub(crate) fn bytes(&self, size: usize) -> Vec<u8> {
        let mut out = self.key.to_le_bytes().to_vec();
        out.extend_from_slice(&bytes(self.seed, size - 8));
        out
    }
}

impl Model {
    /// Compares a snapshot with the model in every respect.
    pub(crate) fn check(&self, snapshot: &EngineSnapshot) {
        assert_eq!(snapshot.seq().0, self.seq);
        for table in &self.tables {
            let core = snapshot.table_named(&table.name).unwrap().expect("a table of the model");
            let view = snapshot.view(&core).unwrap().expect("a table of this snapshot");
            let at = format!("table {} at {}", table.name, self.seq);
            assert_eq!(view.len(), table.rows.len() as u64, "{at}");
            assert_eq!(view.live(), table.rows.iter().filter(|row| !row.deleted).count() as u64, "{at}");
            for (id, row) in table.rows.iter().enumerate() {
                let id = RowId(id as u64);
                assert!(view.row_bytes(id).unwrap() == row.bytes(table.size), "row {id} of {at}");
                assert_eq!(view.is_live(id).unwrap(), !row.deleted, "row {id} of {at}");
                assert_eq!(view.previous(id).unwrap(), row.previous.map(RowId), "row {id} of {at}");
            }
            let mut from = RowId(0);
            let mut live = Vec::new();
            while let Some(run) = view.next_run(from).unwrap() {
                assert!(run.start >= from && run.end > run.start, "{run:?} of {at}");
                live.extend(run.start.0..run.end.0);
                from = run.end;
            }
            let expected = table.rows.iter().enumerate().filter(|(_, row)| !row.deleted);
            assert!(live.iter().copied().eq(expected.map(|(id, _)| id as u64)), "runs of {at}");
        }
        let missing = format!("table{}", self.tables.len());
        assert!(snapshot.table_named(&missing).unwrap().is_none());
        for item in &self.heap {
            let expected = bytes(item.seed, item.len);
            let hash = pongo_core::fields::content_hash(&expected);
            let found = snapshot.read_heap(item.addr, item.len as u32, hash).unwrap();
            assert!(found == expected, "{item:?} at {}", self.seq);
        }
    }

    /// Compares a new snapshot of the engine with the model, and the index too if it is up to date.
    pub(crate) fn check_engine(&self, engine: &Arc<Engine>, indexer: &MapIndexer) {
        self.check(&engine.begin_read().unwrap());
        for table in &self.tables {
            let Some(keys) = indexer.keys(&table.name) else { continue };
            let live = table.rows.iter().enumerate().filter(|(_, row)| !row.deleted);
            let expected = live.map(|(id, row)| (row.key, RowId(id as u64))).collect();
            assert_eq!(keys, expected, "the index of {} at {}", table.name, self.seq);
        }
    }
}
