//! Random transactions: generated from a model, applied to a store, and adopted into the model once
//! they are committed.

use std::sync::Arc;

use pongo_core::Sizes;
use pongo_core::engine::{Durability, Engine, EngineOptions, EngineTransaction, TableWriteBatch, WriteBatch};
use pongo_core::error::{CommitError, WriteError};
use pongo_core::fields::{HeapRead, content_hash};
use pongo_core::ids::{HeapAddr, RowId, Seq};

use crate::alloc_in_place;
use crate::model::{Item, Model, Row, Table, bytes, schema};
use pongo_sim::Random;

/// Returns options with sizes so small that a short workload starts new segments, creates several
/// chunks and outgrows address ranges.
pub(crate) fn options() -> EngineOptions {
    let sizes = Sizes { chunk: 256 << 10, reservation: 256 << 10, ..Sizes::default() };
    EngineOptions { sizes, checkpoint_bytes: 192 << 10, ..EngineOptions::default() }
}

/// The kinds of transactions in a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Upper bound (exclusive) of the number of rows of a small transaction.
    pub(crate) rows: u64,
    /// One in `bulk` transactions is a bulk load: rows by `append`, and inline rows and heap bytes
    /// that exceed the entry.
    pub(crate) bulk: u64,
    /// One in `relaxed` transactions is `Relaxed`.
    pub(crate) relaxed: u64,
}

pub(crate) const SMALL: Mix = Mix { rows: 6, bulk: 9, relaxed: 3 };

/// A transaction, and the expected state of the store after it.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) after: Model,
    pub(crate) durability: Durability,
    new_tables: Vec<(String, usize)>,
    parts: Vec<Part>,
    heap: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct Part {
    table: usize,
    /// The number of new rows that are appended, and the number of calls; every other call fills
    /// them in place.
    appended: usize,
    calls: usize,
    rows: Vec<u8>,
    previous: Vec<(RowId, RowId)>,
    deleted_rows: Vec<RowId>,
}

const SIZES: [usize; 4] = [24, 1000, 16, 4104];

/// Generates a transaction that can follow `before`.
pub(crate) fn arbitrary(before: &Model, random: &mut Random, mix: Mix) -> Transaction {
    let mut after = before.clone();
    after.seq += 1;
    let mut new_tables = Vec::new();
    if after.tables.len() < SIZES.len() && (after.tables.is_empty() || random.one_in(6)) {
        let place = after.tables.len();
        let (name, size) = (format!("table{place}"), SIZES[place]);
        new_tables.push((name.clone(), size));
        after.tables.push(Table { name, size, rows: Vec::new() });
    }
    let bulk = random.one_in(mix.bulk);
    let mut parts = Vec::new();
    for (place, table) in after.tables.iter_mut().enumerate() {
        if random.one_in(2) || parts.is_empty() {
            let bulk = bulk && random.one_in(2);
            parts.push(make_part(place, table, random, mix, bulk));
        }
    }
    let mut heap = Vec::new();
    let mut addr =
        before.heap.last().map_or(0, |item| item.addr.0 + 8 + (item.len as u64).next_multiple_of(8));
    for _ in 0..random.below(3) {
        let most = if bulk { 90_000 } else { 60 };
        let (len, seed) = (random.below(most) as usize, random.next());
        heap.push((len, seed));
        after.heap.push(Item { addr: HeapAddr(addr), len, seed });
        addr += 8 + (len as u64).next_multiple_of(8);
    }
    let durability = if random.one_in(mix.relaxed) { Durability::Relaxed } else { Durability::Sync };
    Transaction { after, durability, new_tables, parts, heap }
}

fn make_part(place: usize, table: &mut Table, random: &mut Random, mix: Mix, bulk: bool) -> Part {
    let first = table.rows.len();
    let staged = random.below(mix.rows) as usize;
    let appended = if bulk { (random.below(150_000) as usize / table.size).max(1) } else { 0 };
    let mut part = Part {
        table: place,
        appended,
        calls: 1 + random.below(3) as usize,
        rows: Vec::new(),
        previous: Vec::new(),
        deleted_rows: Vec::new(),
    };
    for _ in 0..appended + staged {
        let id = table.rows.len() as u64;
        let mut row = Row { key: random.next(), seed: random.next(), previous: None, deleted: false };
        // Replaces a live row, possibly one of the same transaction. Each replacement is one or two
        // stores before which a crash can happen.
        if random.one_in(if appended > 100 { 60 } else { 3 }) && id > 0 {
            let old = random.below(id);
            if !table.rows[old as usize].deleted {
                table.rows[old as usize].deleted = true;
                row.key = table.rows[old as usize].key;
                row.previous = Some(old);
                part.previous.push((RowId(id), RowId(old)));
                part.deleted_rows.push(RowId(old));
            }
        }
        part.rows.extend_from_slice(&row.bytes(table.size));
        table.rows.push(row);
    }
    for _ in 0..random.below(3) {
        let old = random.below(first as u64 + 1) as usize;
        if old < first && !table.rows[old].deleted {
            table.rows[old].deleted = true;
            part.deleted_rows.push(RowId(old as u64));
        }
    }
    part
}

impl Transaction {
    /// Writes the transaction to the store.
    pub(crate) fn commit(&self, engine: &Arc<Engine>) -> Result<Seq, CommitError> {
        let guard = engine.begin_write().map_err(CommitError::Refused)?;
        assert_eq!(guard.applied().seq.0 + 1, self.after.seq, "the store is where the model is");
        self.commit_in(guard)
    }

    /// Writes the transaction through a guard that the caller has taken.
    pub(crate) fn commit_in(&self, mut guard: Box<EngineTransaction>) -> Result<Seq, CommitError> {
        for (name, size) in &self.new_tables {
            guard.create_table(schema(name, *size))?;
        }
        let first_item = self.after.heap.len() - self.heap.len();
        for (&(len, seed), item) in self.heap.iter().zip(&self.after.heap[first_item..]) {
            let content = bytes(seed, len);
            let addr = guard.stage_heap(&content)?;
            assert_eq!(addr, item.addr);
            let read = guard.read_heap(addr, len as u32, content_hash(&content)).unwrap();
            assert!(read == content);
        }
        let mut batch = WriteBatch::default();
        for part in &self.parts {
            let model = &self.after.tables[part.table];
            let found = guard.table_named(&model.name).map_err(WriteError::from)?;
            let table = found.expect("a table of the model");
            let (appended, rest) = part.rows.split_at(part.appended * model.size);
            let calls = appended.chunks(part.appended.div_ceil(part.calls).max(1) * model.size);
            for (call, rows) in calls.enumerate() {
                if (call + part.calls).is_multiple_of(2) {
                    alloc_in_place::append(&mut guard, &table, rows)?;
                } else {
                    guard.append(&table, rows)?;
                }
            }
            batch.tables.push(TableWriteBatch {
                table,
                rows: rest,
                hashes: &[],
                previous: part.previous.clone(),
                deleted_rows: part.deleted_rows.clone(),
            });
        }
        guard.commit(&batch, self.durability)
    }
}
