//! What a store holds and what it takes: [`Store::stats`].

use std::fmt;
use std::io::ErrorKind;

use pongo_core::error::{Fault, ReadError};
use pongo_core::ids::Seq;
use pongo_core::storage::Storage;

use crate::store::Store;

/// What a store holds and what it takes. Bytes are the lengths of files; a file with holes takes less on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct StoreStats {
    /// The commit that was looked at.
    pub seq: Seq,
    /// Its tables.
    pub tables: Vec<TableStats>,
    /// Bytes by part.
    pub bytes: BytesByPart,
    /// What the ordered indexes are and take in this process.
    pub ordered: OrderedStatus,
}

/// One table.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TableStats {
    /// Its name.
    pub name: String,
    /// Rows, dead ones included.
    pub rows: u64,
    /// Rows that are alive.
    pub live: u64,
    /// Rows that were replaced or deleted.
    pub dead: u64,
    /// Chunk files with them.
    pub chunks: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Its ordered indexes.
    pub indexes: Vec<IndexStats>,
}

/// One ordered index of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct IndexStats {
    /// Its fields, joined with `+`; `external key` for one over keys that are no fields.
    pub fields: String,
    /// Pairs that lie in blocks, as far as this process knows.
    pub pairs: u64,
    /// Rows at the table's end that are not in blocks: a range puts them in order in memory.
    pub lag: u64,
    /// Rows that the last range had to look through, since they are not in blocks that this process can read, and not yet sorted
    /// in memory, or [`Options::index_memory`](crate::Options::index_memory) leaves no room for them.
    pub scanned: u64,
}

/// Bytes of files, by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct BytesByPart {
    /// Chunks of rows.
    pub rows: u64,
    /// Marks: which rows died, and which they replaced.
    pub marks: u64,
    /// Checksums of blocks.
    pub sums: u64,
    /// Minima and maxima for filters.
    pub zones: u64,
    /// Texts and blobs.
    pub heap: u64,
    /// Journal segments, spare ones included.
    pub journal: u64,
    /// Hash indexes.
    pub hash: u64,
    /// The folder of the ordered indexes, whoever has them open: blocks on the disk.
    pub ordered: u64,
    /// Everything else.
    pub other: u64,
}

impl BytesByPart {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { rows, marks, sums, zones, heap, journal, hash, ordered, other } = *self;
        rows + marks + sums + zones + heap + journal + hash + ordered + other
    }
}

/// The ordered indexes in this process.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OrderedStatus {
    /// Whether this process has the blocks open. If not, it answers ranges from the rows.
    pub open: bool,
    /// Why not, if it tried: another process has them, say.
    pub refused: Option<String>,
    /// How often this process found them damaged, set them aside and made them anew.
    pub set_aside: u64,
    /// What was wrong the last time.
    pub last_doubt: Option<String>,
    /// Pairs in all of them.
    pub pairs: u64,
    /// Memory that the blocks' first keys and the blocks read lately take; sled's own cache is bounded beside.
    pub memory_bytes: u64,
    /// Memory that sorted rows take that are not in blocks, or not in blocks that this process can read.
    pub sorted_bytes: u64,
    /// What they may take: [`Options::index_memory`](crate::Options::index_memory).
    pub sorted_limit: u64,
}

impl fmt::Display for StoreStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
        writeln!(f, "commit {}, {} tables, {}", self.seq, self.tables.len(), mib(self.bytes.total()))?;
        for table in &self.tables {
            writeln!(
                f,
                "  {}: {} rows of {} bytes, {} alive, {} dead, {} chunks",
                table.name, table.rows, table.row_bytes, table.live, table.dead, table.chunks
            )?;
            for index in &table.indexes {
                write!(f, "    by {}: {} in blocks, {} behind", index.fields, index.pairs, index.lag)?;
                match index.scanned {
                    0 => writeln!(f)?,
                    scanned => writeln!(f, "; a range looked through {scanned} rows")?,
                }
            }
        }
        let BytesByPart { rows, marks, sums, zones, heap, journal, hash, ordered, other } = self.bytes;
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
            refused,
            set_aside,
            last_doubt,
            memory_bytes,
            sorted_bytes,
            sorted_limit,
            ..
        } = &self.ordered;
        match (open, refused) {
            (true, _) => write!(f, "  ordered indexes: open, {} of memory", mib(*memory_bytes))?,
            (false, Some(reason)) => write!(f, "  ordered indexes: not open: {reason}")?,
            (false, None) => write!(f, "  ordered indexes: not open")?,
        }
        write!(f, "; sorted rows take {} of {}", mib(*sorted_bytes), mib(*sorted_limit))?;
        if let Some(doubt) = last_doubt {
            write!(f, "; set aside {set_aside} times, the last time because: {doubt}")?;
        }
        Ok(())
    }
}

/// Lengths of all files in a folder, each with its name. One that is gone by the time it is looked at has none.
fn files(storage: &dyn Storage, dir: &str) -> Result<Vec<(String, u64)>, Fault> {
    let names = storage.list(dir).map_err(Fault::io("listing", dir))?;
    let path = |name: &str| if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
    let measured = names.into_iter().map(|name| {
        let path = path(&name);
        match storage.open(&path).and_then(|file| file.len()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((name, 0)),
            // Folders, and what others put beside the store's own files.
            Err(_) if dir.is_empty() => Ok((name, 0)),
            measured => Ok((name, measured.map_err(Fault::io("measuring", path))?)),
        }
    });
    measured.collect()
}

fn sum(storage: &dyn Storage, dir: &str) -> Result<u64, Fault> {
    Ok(files(storage, dir)?.iter().map(|(_, len)| len).sum())
}

impl Store {
    /// What the store holds at the newest commit, and what it takes on disk and in memory. Costs a look at each file's length;
    /// the first time, ordered indexes that are there are opened, unless another process has them.
    ///
    /// # Errors
    /// [`ReadError`] if folders cannot be listed or tables not read.
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
    /// assert_eq!((stats.tables[0].rows, stats.tables[0].live, stats.tables[0].dead), (10, 9, 1));
    /// println!("{stats}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Result<StoreStats, ReadError> {
        let snapshot = self.begin_read()?;
        let shared = snapshot.shared();
        let storage = &**shared.engine.storage();
        let mut bytes = BytesByPart {
            heap: 0,
            journal: sum(storage, "journal")?,
            other: files(storage, "")?.iter().map(|(_, len)| len).sum::<u64>() + sum(storage, "schema")?,
            ..BytesByPart::default()
        };
        for (name, len) in files(storage, "heap")? {
            *if name.ends_with(".sums") { &mut bytes.sums } else { &mut bytes.heap } += len;
        }
        for name in storage.list("hash").map_err(Fault::io("listing", "hash"))? {
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
                dead: view.len() - view.live(),
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
                    shared.ordered.doubt(&store, &error);
                }
            }
        }
        bytes.ordered = shared.ordered.disk_bytes();
        let state = shared.ordered.state();
        let ordered = OrderedStatus {
            open: state.held,
            refused: state.refused,
            set_aside: state.set_aside,
            last_doubt: state.last_doubt,
            pairs,
            memory_bytes,
            sorted_bytes: shared.ordered.memory().used(),
            sorted_limit: shared.ordered.memory().limit(),
        };
        Ok(StoreStats { seq: snapshot.seq(), tables, bytes, ordered })
    }
}
