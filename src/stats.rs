//! Statistics about a store's content and its disk and memory usage: [`Store::stats`].

use std::fmt;
use std::io::ErrorKind;

use pongo_core::error::{ReadError, StorageError};
use pongo_core::ids::Seq;
use pongo_core::storage::Storage;

use crate::store::Store;

/// A store's content and its disk and memory usage. Byte counts are file lengths; a sparse file
/// takes less space on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoreStats {
    /// The commit that the statistics describe.
    pub seq: Seq,
    /// The tables of that commit.
    pub tables: Vec<TableStats>,
    /// Bytes by part.
    pub bytes: DiskUsage,
    /// State of the ordered indexes in this process.
    pub ordered: OrderedStatus,
}

/// Statistics of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TableStats {
    /// The table's name.
    pub name: String,
    /// Number of rows, including deleted ones.
    pub rows: u64,
    /// Number of live rows.
    pub live: u64,
    /// Number of rows that were replaced or deleted.
    pub deleted: u64,
    /// Number of chunk files.
    pub chunks: u64,
    /// Size of a row in bytes.
    pub row_bytes: u64,
    /// The table's ordered indexes.
    pub indexes: Vec<IndexStats>,
}

/// Statistics of one ordered index of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct IndexStats {
    /// Its fields, joined with `+`; `external key` for the index over keys that are not fields.
    pub fields: String,
    /// Number of index entries stored in blocks, as far as this process knows.
    pub pairs: u64,
    /// Number of rows at the table's end that are not stored in blocks. A range sorts them in
    /// memory.
    pub lag: u64,
    /// Number of rows that the last range had to scan. They are not in blocks that this process can
    /// read and not sorted in memory, either not yet or because
    /// [`Options::index_memory`](crate::Options::index_memory) leaves no space for them.
    pub scanned: u64,
}

/// File sizes in bytes, by kind of file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DiskUsage {
    /// Chunks of rows.
    pub rows: u64,
    /// Marks: the commit that deleted a row, and the row that it replaced.
    pub marks: u64,
    /// Checksums of blocks.
    pub sums: u64,
    /// Zone maps: minima and maxima for filters.
    pub zones: u64,
    /// Texts and blobs.
    pub heap: u64,
    /// Journal segments, including spare ones.
    pub journal: u64,
    /// Hash indexes.
    pub hash: u64,
    /// The folder of the ordered indexes, whichever process has them open.
    pub ordered: u64,
    /// Everything else.
    pub other: u64,
}

impl DiskUsage {
    /// Returns the sum of all parts.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { rows, marks, sums, zones, heap, journal, hash, ordered, other } = *self;
        rows + marks + sums + zones + heap + journal + hash + ordered + other
    }
}

/// State of the ordered indexes in this process.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OrderedStatus {
    /// Whether this process has the blocks open. If not, it answers ranges from the rows.
    pub open: bool,
    /// The reason why opening failed, for example because another process has the blocks open.
    pub unavailable_reason: Option<String>,
    /// Number of times this process found them damaged, quarantined them and rebuilt them.
    pub quarantined: u64,
    /// The error found the last time.
    pub last_error: Option<String>,
    /// Total number of index entries.
    pub pairs: u64,
    /// Memory in bytes of the block directory, which holds the blocks' first keys, and of the cache
    /// of recently read blocks. Sled's own cache has a separate limit.
    pub memory_bytes: u64,
    /// Memory in bytes of sorted rows that are not in blocks, or not in blocks that this process
    /// can read.
    pub sorted_bytes: u64,
    /// Limit of `sorted_bytes`: [`Options::index_memory`](crate::Options::index_memory).
    pub sorted_limit: u64,
}

impl fmt::Display for StoreStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
        writeln!(f, "commit {}, {} tables, {}", self.seq, self.tables.len(), mib(self.bytes.total()))?;
        for table in &self.tables {
            writeln!(
                f,
                "  {}: {} rows of {} bytes, {} live, {} deleted, {} chunks",
                table.name, table.rows, table.row_bytes, table.live, table.deleted, table.chunks
            )?;
            for index in &table.indexes {
                write!(f, "    by {}: {} in blocks, lag {}", index.fields, index.pairs, index.lag)?;
                match index.scanned {
                    0 => writeln!(f)?,
                    scanned => writeln!(f, "; a range scanned {scanned} rows")?,
                }
            }
        }
        let DiskUsage { rows, marks, sums, zones, heap, journal, hash, ordered, other } = self.bytes;
        writeln!(
            f,
            "  rows {}, heap {}, journal {}, hash {}, ordered {}, marks {}, sums {}, zones {}, other {}",
            mib(rows),
            mib(heap),
            mib(journal),
            mib(hash),
            mib(ordered),
            mib(marks),
            mib(sums),
            mib(zones),
            mib(other)
        )?;
        let OrderedStatus {
            open,
            unavailable_reason,
            quarantined,
            last_error,
            memory_bytes,
            sorted_bytes,
            sorted_limit,
            ..
        } = &self.ordered;
        match (open, unavailable_reason) {
            (true, _) => write!(f, "  ordered indexes: open, {} of memory", mib(*memory_bytes))?,
            (false, Some(reason)) => write!(f, "  ordered indexes: not open: {reason}")?,
            (false, None) => write!(f, "  ordered indexes: not open")?,
        }
        write!(f, "; sorted rows take {} of {}", mib(*sorted_bytes), mib(*sorted_limit))?;
        if let Some(reason) = last_error {
            write!(f, "; quarantined {quarantined} times, last because: {reason}")?;
        }
        Ok(())
    }
}

/// Returns the names and lengths of all files in a folder. A file that is deleted before it is
/// measured counts as empty.
fn files(storage: &dyn Storage, dir: &str) -> Result<Vec<(String, u64)>, StorageError> {
    let names = storage.list(dir).map_err(StorageError::io("listing", dir))?;
    let path = |name: &str| if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
    let measured = names.into_iter().map(|name| {
        let path = path(&name);
        match storage.open(&path).and_then(|file| file.len()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((name, 0)),
            // Folders, and files that do not belong to the store.
            Err(_) if dir.is_empty() => Ok((name, 0)),
            measured => Ok((name, measured.map_err(StorageError::io("measuring", path))?)),
        }
    });
    measured.collect()
}

fn sum(storage: &dyn Storage, dir: &str) -> Result<u64, StorageError> {
    Ok(files(storage, dir)?.iter().map(|(_, len)| len).sum())
}

impl Store {
    /// Returns what the store contains at the newest commit, and what it takes on disk and in
    /// memory.
    ///
    /// Costs reading the length of each file. The first call opens the existing ordered indexes
    /// unless another process has them open.
    ///
    /// # Errors
    /// Returns [`ReadError`] if folders cannot be listed or tables cannot be read.
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64, price: f64 }
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// tx.table::<Trade>()?.extend((0..10).map(|id| Trade { id, price: 0.5 }))?;
    /// tx.table::<Trade>()?.delete(&3)?;
    /// tx.commit()?;
    /// let stats = store.stats()?;
    /// assert_eq!((stats.tables[0].rows, stats.tables[0].live, stats.tables[0].deleted), (10, 9, 1));
    /// println!("{stats}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Result<StoreStats, ReadError> {
        let snapshot = self.begin_read()?;
        let shared = snapshot.shared();
        let storage = &**shared.engine.storage();
        let mut bytes = DiskUsage {
            heap: 0,
            journal: sum(storage, "journal")?,
            other: files(storage, "")?.iter().map(|(_, len)| len).sum::<u64>() + sum(storage, "schema")?,
            ..DiskUsage::default()
        };
        for (name, len) in files(storage, "heap")? {
            *if name.ends_with(".sums") { &mut bytes.sums } else { &mut bytes.heap } += len;
        }
        for name in storage.list("hash").map_err(StorageError::io("listing", "hash"))? {
            bytes.hash += sum(storage, &format!("hash/{name}"))?;
        }
        let blocks = shared.ordered.store_if_any();
        let mut tables = Vec::new();
        for core in snapshot.inner().tables()? {
            let Some(view) = snapshot.inner().owned_view(&core)? else { continue };
            let schema = core.schema();
            let mut chunks = 0;
            for (name, len) in files(storage, &format!("tables/{}", schema.table))? {
                match name.rsplit_once('.').map(|(_, kind)| kind) {
                    Some("chunk") => {
                        chunks += 1;
                        bytes.rows += len;
                    }
                    Some("marks") => bytes.marks += len,
                    Some("sums") => bytes.sums += len,
                    Some("zones") => bytes.zones += len,
                    _ => bytes.other += len,
                }
            }
            let indexes = shared.ordered.indexes_of(&core);
            if let Some(blocks) = &blocks {
                indexes.iter().try_for_each(|index| index.load(&shared.ordered, blocks, &shared.engine))?;
            }
            let indexes = indexes.into_iter().map(|index| {
                let is_external = schema.external_key().is_some() && index.fields() == schema.key;
                let name = |&place: &usize| schema.fields.get(place).map(|field| field.name.as_str());
                let pairs = index.in_blocks().map_or(0, |(_, sorted)| sorted.len());
                IndexStats {
                    fields: if is_external {
                        "external key".to_owned()
                    } else {
                        index.fields().iter().filter_map(name).collect::<Vec<_>>().join("+")
                    },
                    pairs,
                    lag: view.len().saturating_sub(index.watermark()),
                    scanned: index.scanned(),
                }
            });
            tables.push(TableStats {
                name: schema.table.clone(),
                rows: view.len(),
                live: view.live(),
                deleted: view.len() - view.live(),
                chunks,
                row_bytes: core.row_size(),
                indexes: indexes.collect(),
            });
        }
        let (mut pairs, mut memory_bytes) = (0, 0);
        if let Some(store) = shared.ordered.open_store() {
            match store.stats() {
                Ok(stats) => {
                    pairs = stats.pairs;
                    memory_bytes = stats.directory_bytes + stats.cache_bytes;
                }
                Err(error) => {
                    shared.ordered.handle_corruption(&store, &error);
                }
            }
        }
        bytes.ordered = shared.ordered.disk_bytes();
        let state = shared.ordered.state();
        let ordered = OrderedStatus {
            open: state.held,
            unavailable_reason: state.unavailable_reason,
            quarantined: state.quarantined,
            last_error: state.last_error,
            pairs,
            memory_bytes,
            sorted_bytes: shared.ordered.memory().used(),
            sorted_limit: shared.ordered.memory().limit(),
        };
        Ok(StoreStats { seq: snapshot.seq(), tables, bytes, ordered })
    }
}
