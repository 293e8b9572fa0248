//! Verification of a whole store: [`Store::verify`].

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use pongo_core::error::{ReadError, StorageError, WriteError};
use pongo_core::fields::{Blob, ExternalKey, HeapRead, key_digest};
use pongo_core::guard::fails;
use pongo_core::ids::{RowId, Seq};
use pongo_core::record::{ExternalRecord, PongoRecord};
use pongo_core::schema::describe_bytes;
use pongo_core::table::{TableCore, TableView};
use pongo_index::ordered::{Edge, OrderedError};
use pongo_index::{HashIndex, KeyHasher};
use zerocopy::FromBytes;

use crate::index::key_ranges::{KeyRanges, RowKeyHasher};
use crate::shared::SharedStore;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// Progress of [`Store::verify`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyProgress<'a> {
    /// The table.
    pub table: &'a str,
    /// The current step.
    pub step: VerifyStep,
    /// Number of rows done.
    pub done: u64,
    /// Number of rows in total.
    pub rows: u64,
}

/// The steps of [`Store::verify`], which it runs one after another for each table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VerifyStep {
    /// Block checksums; values that a type forbids; texts, blobs and external keys; marks.
    Rows,
    /// Hash indexes: the key index and the unique indexes.
    Hash,
    /// Ordered indexes.
    Ordered,
}

impl fmt::Display for VerifyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rows => "rows",
            Self::Hash => "hash indexes",
            Self::Ordered => "ordered indexes",
        })
    }
}

/// An inconsistency that [`Store::verify`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyIssue {
    /// The table.
    pub table: String,
    /// The step that found it.
    pub step: VerifyStep,
    /// The expected and the actual state.
    pub what: String,
}

impl fmt::Display for VerifyIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hint = match self.step {
            VerifyStep::Rows => "restore the store from a copy",
            VerifyStep::Hash | VerifyStep::Ordered => "`Store::rebuild_index` rebuilds it",
        };
        write!(f, "table {}, {}: {}; {hint}", self.table, self.step, self.what)
    }
}

/// Something that [`Store::verify`] could not read because a system call failed, for example
/// because of too many open files, an I/O error or lack of memory. It was not verified, so it is no
/// sign of damage.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Unread {
    /// The table.
    pub table: String,
    /// The step that could not verify it.
    pub step: VerifyStep,
    /// The attempted operation and the system's error.
    pub what: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, step, what } = self;
        write!(f, "table {table}, {step}: not verified: {what}; verify again once it can be read")
    }
}

/// Returns whether an error comes from the operating system and says nothing about the store. A
/// missing or truncated file is damage and not such an error.
fn is_of_the_system(error: &(dyn Error + 'static)) -> bool {
    let mut below = Some(error);
    let found = loop {
        let Some(error) = below else { return false };
        if let Some(found) = error.downcast_ref::<io::Error>() {
            break found;
        }
        below = error.source();
    };
    if let Some(fault) = found.get_ref().and_then(|inner| inner.downcast_ref::<StorageError>()) {
        return is_of_the_system(fault);
    }
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    !matches!(found.kind(), NotFound | UnexpectedEof | IsADirectory | NotADirectory)
}

/// The result of [`Store::verify`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The commit that was verified.
    pub seq: Seq,
    /// Number of tables.
    pub tables: usize,
    /// Number of rows, including deleted ones.
    pub rows: u64,
    /// Number of texts, blobs and external keys of live rows.
    pub heap_items: u64,
    /// Number of entries of hash and ordered indexes.
    pub entries: u64,
    /// Inconsistencies, at most [`VerifyReport::MAX_ISSUES`].
    pub issues: Vec<VerifyIssue>,
    /// Parts that could not be verified, at most [`VerifyReport::MAX_ISSUES`].
    pub unread: Vec<Unread>,
}

impl VerifyReport {
    /// Maximum number of problems, and of unread parts, that a report keeps.
    pub const MAX_ISSUES: usize = 1000;

    /// Returns whether everything was read and no problem was found.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.issues.is_empty() && self.unread.is_empty()
    }

    fn add(&mut self, table: &str, step: VerifyStep, what: impl fmt::Display) {
        if self.issues.len() < Self::MAX_ISSUES {
            self.issues.push(VerifyIssue { table: table.to_owned(), step, what: what.to_string() });
        }
    }

    fn add_unread(&mut self, table: &str, step: VerifyStep, what: impl fmt::Display) {
        if self.unread.len() < Self::MAX_ISSUES {
            self.unread.push(Unread { table: table.to_owned(), step, what: what.to_string() });
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tables, {} rows, {} texts and blobs, {} index entries at commit {}: ",
            self.tables, self.rows, self.heap_items, self.entries, self.seq
        )?;
        if self.is_valid() {
            return f.write_str("sound");
        }
        write!(f, "{} problems", self.issues.len())?;
        if !self.unread.is_empty() {
            write!(f, ", {} errors of the system", self.unread.len())?;
        }
        self.issues.iter().try_for_each(|problem| write!(f, "\n{problem}"))?;
        self.unread.iter().try_for_each(|unread| write!(f, "\n{unread}"))
    }
}

/// Number of rows between two progress reports.
const PROGRESS_INTERVAL: u64 = 1 << 16;

/// Returns whether a row is live. The marks have been verified before, so reading them cannot fail.
fn is_live(view: &TableView, row: RowId) -> bool {
    view.is_live(row).unwrap_or(true)
}

/// The verification of one table.
struct Work<'a> {
    snapshot: &'a Snapshot,
    shared: &'a Arc<SharedStore>,
    core: &'a Arc<TableCore>,
    report: &'a mut VerifyReport,
    progress: &'a mut dyn FnMut(VerifyProgress<'_>),
}

impl Work<'_> {
    fn say(&mut self, step: VerifyStep, done: u64, rows: u64) {
        (self.progress)(VerifyProgress { table: &self.core.schema().table, step, done, rows });
    }

    fn problem(&mut self, step: VerifyStep, what: impl fmt::Display) {
        let table = self.core.schema().table.clone();
        self.report.add(&table, step, what);
    }

    /// Reports that something could not be read, either as damage or as a system error. `of` is a
    /// prefix that names it.
    fn failure(&mut self, step: VerifyStep, of: &str, error: &(dyn Error + 'static)) {
        let (table, what) = (self.core.schema().table.clone(), format!("{of}{error}"));
        if is_of_the_system(error) {
            self.report.add_unread(&table, step, what);
        } else {
            self.report.add(&table, step, what);
        }
    }

    /// Verifies checksums, values, texts and marks.
    fn rows(&mut self, view: &TableView) {
        self.report.rows += view.len();
        let schema = self.core.schema();
        let keys = KeyRanges::new(schema.key_ranges());
        // An empty table needs none: a schema file of a few bytes can claim that a row has millions
        // of texts.
        let heap_fields = if view.is_empty() { Vec::new() } else { schema.heap_fields() };
        let plain = schema.takes_all_bytes();
        let mut live = 0;
        // One block of rows per step, so that a damaged block hides few other rows.
        let stride = (PROGRESS_INTERVAL / schema.size as u64).max(1);
        for from in (0..view.len()).step_by(stride as usize) {
            let to = view.len().min(from + stride);
            if from % PROGRESS_INTERVAL < stride {
                self.say(VerifyStep::Rows, from, view.len());
            }
            if let Err(fault) = view.compare(RowId(from)..RowId(to)) {
                self.failure(VerifyStep::Rows, "", &fault);
                live += (from..to).filter(|&row| is_live(view, RowId(row))).count() as u64;
                continue;
            }
            for row in (from..to).map(RowId) {
                let bytes = match view.row_bytes(row) {
                    Ok(bytes) => bytes,
                    Err(fault) => {
                        self.failure(VerifyStep::Rows, "", &fault);
                        live += u64::from(is_live(view, row));
                        continue;
                    }
                };
                if let Some(what) = (!plain).then(|| schema.invalid_field(bytes)).flatten() {
                    self.problem(VerifyStep::Rows, format!("row {row}, {what}"));
                }
                self.marks(view, row, bytes, &keys);
                if !is_live(view, row) {
                    continue;
                }
                live += 1;
                self.external_key(row, bytes);
                for field in &heap_fields {
                    let at = &bytes[field.offset..field.offset + size_of::<Blob>()];
                    let blob = Blob::read_from_bytes(at).unwrap_or(Blob::EMPTY);
                    if blob.is_empty() {
                        continue;
                    }
                    self.report.heap_items += 1;
                    match self.snapshot.read_heap(blob.addr(), blob.len(), blob.content_hash()) {
                        Err(error) => self.failure(VerifyStep::Rows, &format!("row {row}: "), &error),
                        Ok(bytes) if field.text && core::str::from_utf8(bytes).is_err() => {
                            self.problem(VerifyStep::Rows, format!("row {row}: a text is not UTF-8"));
                        }
                        Ok(_) => {}
                    }
                }
            }
        }
        if live != view.live() {
            let what = format!("expected {} rows alive, found {live} whose marks say so", view.live());
            self.problem(VerifyStep::Rows, what);
        }
    }

    /// Verifies that an external key matches the digest by which its row is found.
    fn external_key(&mut self, row: RowId, bytes: &[u8]) {
        let schema = self.core.schema();
        let name = schema.external_key().and_then(|at| bytes.get(at..at + size_of::<ExternalKey>()));
        let Some(name) = name.and_then(|name| ExternalKey::read_from_bytes(name).ok()) else { return };
        // A key that cannot be read is reported as damage in the heap.
        let Ok(key) = name.as_bytes(self.snapshot) else { return };
        let (digest, key_digest) = (&bytes[..16], key_digest(key));
        if fails!("verify.key.digest", digest != key_digest) {
            let what = format!(
                "row {row}: expected key {} with digest {key_digest:02x?}, found digest {digest:02x?}",
                describe_bytes(key)
            );
            self.problem(VerifyStep::Rows, what);
        }
    }

    /// Verifies that the row that `row` replaces has the same key and is deleted.
    fn marks(&mut self, view: &TableView, row: RowId, bytes: &[u8], keys: &KeyRanges) {
        let what = match view.previous(row) {
            Ok(None) => return,
            Err(fault) => return self.failure(VerifyStep::Rows, "", &fault),
            Ok(Some(before)) if before >= row => {
                format!("row {row} replaces row {before}, which is not older")
            }
            Ok(Some(before)) => match view.row_bytes(before) {
                Err(fault) => return self.failure(VerifyStep::Rows, "", &fault),
                Ok(old) if !keys.same(old, bytes) => {
                    format!("row {row} replaces row {before}, which has another key")
                }
                Ok(_) if is_live(view, before) => {
                    format!("row {row} replaces row {before}, which is alive")
                }
                Ok(_) => return,
            },
        };
        self.problem(VerifyStep::Rows, what);
    }

    /// Verifies that every hash index has an entry for every live row, except for rows without a
    /// value, and that entries refer to existing rows that have one.
    fn hashes(&mut self) -> Result<(), WriteError> {
        // Entries change with every commit, so this holds the writer lock.
        let guard = self.shared.engine.begin_write()?;
        let view = guard.view(self.core)?;
        let indexes = match self.shared.indexes.of(self.core) {
            Ok(indexes) => indexes,
            Err(error) => {
                self.failure(VerifyStep::Hash, "", &error);
                return Ok(());
            }
        };
        let key = KeyRanges::new(self.core.schema().key_ranges());
        self.say(VerifyStep::Hash, 0, view.len());
        self.hash(view, &indexes.key, &key, "key", true);
        for unique in indexes.unique.iter() {
            let name = self.core.schema().indexes[unique.place].name.clone();
            self.hash(view, &unique.index, &unique.ranges, &name, false);
        }
        Ok(())
    }

    fn hash(&mut self, view: &TableView, index: &HashIndex, ranges: &KeyRanges, name: &str, is_key: bool) {
        let keys = RowKeyHasher { view, ranges };
        let mut from = RowId(0);
        while let Some(run) = view.next_run(from).unwrap_or_default() {
            from = run.end;
            for row in (run.start.0..run.end.0).map(RowId) {
                if row.0 % PROGRESS_INTERVAL == 0 {
                    self.say(VerifyStep::Hash, row.0, view.len());
                }
                let hash = keys.hash(row);
                if !ranges.has_entry(hash) {
                    continue;
                }
                let found = index.find(hash, |candidate| (candidate.row == row).then_some(()));
                if !is_key {
                    self.check_duplicate(view, index, ranges, row, name);
                }
                match found {
                    Ok(Some(())) => {}
                    Ok(None) => self.problem(
                        VerifyStep::Hash,
                        format!("expected an entry of row {row} in the index of {name}, found none"),
                    ),
                    Err(error) => return self.failure(VerifyStep::Hash, "", &error),
                }
            }
        }
        let (mut alive, mut entries, mut wrong) = (0, 0, Vec::new());
        let walked = index.for_each(|candidate| {
            entries += 1;
            if candidate.row.0 >= view.len() {
                wrong.push(format!(
                    "an entry of {name} names row {}, there are {}",
                    candidate.row,
                    view.len()
                ));
            } else if ranges.is_optional()
                && view.row_bytes(candidate.row).is_ok_and(|row| !ranges.is_present(row))
            {
                wrong.push(format!("an entry of {name} names row {}, which has no value", candidate.row));
            } else if is_key && !candidate.deleted {
                alive += 1;
                if !is_live(view, candidate.row) {
                    wrong.push(format!("an entry of {name} says that row {} is alive", candidate.row));
                }
            }
        });
        self.report.entries += entries;
        if walked.is_ok() && is_key && alive != view.live() {
            wrong.push(format!(
                "expected {} entries of live rows in the index of {name}, found {alive}",
                view.live()
            ));
        }
        for what in wrong {
            self.problem(VerifyStep::Hash, what);
        }
        if let Err(error) = walked {
            self.failure(VerifyStep::Hash, "", &error);
        }
    }

    /// Reports another live row with the same unique value. A table can be older than its unique
    /// index.
    fn check_duplicate(
        &mut self,
        view: &TableView,
        index: &HashIndex,
        ranges: &KeyRanges,
        row: RowId,
        name: &str,
    ) {
        let Ok(bytes) = view.row_bytes(row) else { return };
        let duplicate = index.find(ranges.hash(bytes), |candidate| {
            let other = candidate.row;
            let is_other = other < row && is_live(view, other);
            (is_other && view.row_bytes(other).is_ok_and(|other| ranges.same(other, bytes))).then_some(other)
        });
        match duplicate {
            Ok(None) => {}
            Ok(Some(other)) => {
                let what = format!("rows {other} and {row} have the same {name}, which is unique");
                self.problem(VerifyStep::Hash, what);
            }
            Err(error) => self.failure(VerifyStep::Hash, "", &error),
        }
    }

    /// Verifies that every entry has its row's key, entries are sorted, and every live row below
    /// the watermark has an entry.
    fn ordered(&mut self, view: &TableView) -> Result<(), ReadError> {
        let ordered = &self.shared.ordered;
        self.say(VerifyStep::Ordered, 0, view.len());
        for index in ordered.indexes_of(self.core) {
            // Opens the files of the index if it is stored in files and they are available.
            index.sources(ordered, &self.shared.engine, view, self.snapshot)?;
            let Some((store, sorted)) = index.in_blocks() else { continue };
            // The index may contain rows of later commits.
            let newest = self.shared.engine.begin_read()?;
            let Some(newest_view) = newest.view(self.core)? else { continue };
            let (mut done, rows) = (0, newest_view.len());
            let table = self.core.schema().table.clone();
            let keys = index.keys_of(newest_view, &newest);
            let progress = &mut self.progress;
            let verified = sorted.verify(&keys, &mut |pairs| {
                if pairs / PROGRESS_INTERVAL > done / PROGRESS_INTERVAL {
                    progress(VerifyProgress { table: &table, step: VerifyStep::Ordered, done: pairs, rows });
                }
                done = pairs;
            });
            let counted = verified.and_then(|()| {
                let mut cursor = sorted.forward(Edge::Start, &keys)?;
                let (mut rows, mut alive) = (Vec::new(), 0);
                while cursor.fill(&mut rows, 1024)? {
                    alive +=
                        rows.drain(..).filter(|&row| row.0 < view.len() && is_live(view, row)).count() as u64;
                }
                let below = sorted.watermark().row.min(view.len());
                let expected = (0..below).filter(|&row| is_live(view, RowId(row))).count() as u64;
                if alive == expected {
                    return Ok(());
                }
                let what =
                    format!("expected pairs of {expected} live rows before row {below}, found {alive}");
                Err(OrderedError::Damaged { what })
            });
            self.report.entries += sorted.len();
            if let Err(error) = counted {
                self.failure(VerifyStep::Ordered, "", &error);
                ordered.handle_corruption(&store, &error);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Verifies the whole store at the newest commit: checksums of all blocks, values that their
    /// types forbid, texts and blobs, marks, and the indexes against the rows in both directions.
    /// Damage is listed in the report. A damaged ordered index is quarantined at once and rebuilt.
    /// Parts that could not be read are listed separately ([`VerifyReport::unread`]) because that
    /// is no damage. `progress` is called about ten times a second.
    ///
    /// Costs reading the whole store, and about 0.3 µs per row and index. Readers are not blocked;
    /// writers are blocked only while the hash indexes of a table are compared.
    ///
    /// # Errors
    /// Returns [`WriteError`] if the store is poisoned or was inherited through `fork`, or if a
    /// table cannot be read at all.
    ///
    /// ```
    /// use pongo::prelude::*;
    ///
    /// # #[pongo::record]
    /// # #[pongo(table = "trades")]
    /// # struct Trade { #[pongo(key)] id: u64, price: f64 }
    /// # let store = Store::in_memory()?;
    /// # let tx = store.begin_write()?;
    /// # tx.table::<Trade>()?.extend((0..10).map(|id| Trade { id, price: 0.5 }))?;
    /// # tx.commit()?;
    /// let report = store.verify(|step| {
    ///     eprintln!("{} {}: {} of {}", step.table, step.step, step.done, step.rows);
    /// })?;
    /// assert!(report.is_valid(), "{report}");
    /// assert_eq!(report.rows, 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self, mut progress: impl FnMut(VerifyProgress<'_>)) -> Result<VerifyReport, WriteError> {
        let snapshot = self.begin_read()?;
        let tables = snapshot.inner().tables()?;
        let mut report = VerifyReport {
            seq: snapshot.seq(),
            tables: tables.len(),
            rows: 0,
            heap_items: 0,
            entries: 0,
            issues: Vec::new(),
            unread: Vec::new(),
        };
        for core in &tables {
            let shared = snapshot.shared();
            let mut work =
                Work { snapshot: &snapshot, shared, core, report: &mut report, progress: &mut progress };
            let view = match snapshot.inner().owned_view(core) {
                Ok(Some(view)) => view,
                Ok(None) => continue,
                Err(error) => {
                    work.failure(VerifyStep::Rows, "", &error);
                    continue;
                }
            };
            if let Err(fault) = view.load_marks() {
                work.failure(VerifyStep::Rows, "", &fault);
                continue;
            }
            work.rows(&view);
            work.hashes()?;
            if let Err(error) = work.ordered(&view) {
                work.failure(VerifyStep::Ordered, "", &error);
            }
            work.say(VerifyStep::Ordered, view.len(), view.len());
        }
        Ok(report)
    }

    /// Rebuilds the hash indexes and ordered indexes of `T`'s table from its rows, for example to
    /// replace damaged ones.
    ///
    /// Costs about half a microsecond per row. Readers are not blocked; writers are blocked while
    /// the hash indexes are rebuilt.
    ///
    /// # Errors
    /// Fails as [`begin_write`](Self::begin_write) does. Returns [`WriteError::Storage`] if a row
    /// cannot be read or the disk is full. In that case the old hash indexes stay in use, and
    /// ranges are answered from the rows.
    pub fn rebuild_index<T: PongoRecord>(&self) -> Result<(), WriteError> {
        let snapshot = self.begin_read()?;
        let Some(core) = snapshot.inner().table_named(T::SCHEMA.table)? else { return Ok(()) };
        crate::shared::compare::<T>(&core)?;
        rebuild(snapshot.shared(), &core)
    }

    /// Rebuilds the indexes of a table with external keys as [`rebuild_index`](Self::rebuild_index)
    /// does.
    ///
    /// # Errors
    /// Fails as [`rebuild_index`](Self::rebuild_index) does.
    pub fn rebuild_external_index<T: ExternalRecord>(&self) -> Result<(), WriteError> {
        self.rebuild_index::<T::Row>()
    }

    /// Rebuilds the indexes of all tables as [`rebuild_index`](Self::rebuild_index) does.
    ///
    /// # Errors
    /// Fails as [`rebuild_index`](Self::rebuild_index) does.
    pub fn rebuild_indexes(&self) -> Result<(), WriteError> {
        let snapshot = self.begin_read()?;
        snapshot.inner().tables()?.iter().try_for_each(|core| rebuild(snapshot.shared(), core))
    }
}

fn rebuild(shared: &Arc<SharedStore>, core: &Arc<TableCore>) -> Result<(), WriteError> {
    {
        let guard = shared.engine.begin_write()?;
        guard.begin_changes()?;
        let view = guard.view(core)?;
        shared
            .indexes
            .rebuild_from(view, true)
            .map_err(|source| StorageError::Index { table: core.schema().table.clone(), source })?;
    }
    for index in shared.ordered.indexes_of(core) {
        index.rebuild(&shared.ordered, &shared.engine)?;
    }
    Ok(())
}
