//! What a write transaction holds of one table until it commits: staged rows in memory, rows written to the chunks, and
//! what its keys say of both.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use pongo_core::engine::{TableBatch, WriteGuard};
use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::Blob;
use pongo_core::ids::RowId;
use pongo_core::record::PongoRecord;
use pongo_core::schema::HeapField;
use pongo_core::table::{TableCore, TableView};
use pongo_index::{HashIndex, key_hash};
use zerocopy::{FromBytes, IntoBytes};

use crate::indexes;
use crate::keys::{Base, Keys, Spot, has_twins};

/// Index lines that are fetched ahead in bulk look-ups.
const AHEAD: usize = 16;

/// What a transaction does to one table, as `T`s.
pub(crate) struct Staging<T> {
    pub(crate) core: Arc<TableCore>,
    index: Arc<HashIndex>,
    /// The table as applied before this transaction.
    pub(crate) view: TableView,
    heap_fields: Vec<HeapField>,
    /// Rows in memory.
    pub(crate) staged: Vec<T>,
    /// Of the keys of all written rows; in the end of the staged ones, too.
    pub(crate) hashes: Vec<u64>,
    pub(crate) keys: RefCell<Keys>,
    /// A bulk load is at work, or was broken off; so for rows of `alloc` that are given out.
    pub(crate) loading: bool,
    /// Why rows of `alloc` were not added when they came back: the commit's error.
    pub(crate) refused: Option<WriteError>,
}

pub(crate) trait AnyStaging: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn core(&self) -> &Arc<TableCore>;
    /// Everything is staged: what replaces what is settled.
    fn finish(&mut self, guard: &WriteGuard) -> Result<(), WriteError>;
    /// What the commit is to do; `None` if nothing.
    fn batch(&self) -> Option<TableBatch<'_>>;
}

impl<T: PongoRecord> AnyStaging for Staging<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn core(&self) -> &Arc<TableCore> {
        &self.core
    }

    fn finish(&mut self, guard: &WriteGuard) -> Result<(), WriteError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.refuse_broken()?;
        let written = self.hashes.len() as u64;
        self.resolve_all(guard)?;
        let first = self.view.len() + written;
        self.keys.get_mut().settle(|place| RowId(first + place as u64));
        self.hashes.extend(self.staged.iter().map(hash_of));
        Ok(())
    }

    fn batch(&self) -> Option<TableBatch<'_>> {
        let keys = self.keys.borrow();
        if self.hashes.is_empty() && keys.deaths.is_empty() {
            return None;
        }
        Some(TableBatch {
            table: Arc::clone(&self.core),
            rows: self.staged.as_slice().as_bytes(),
            hashes: &self.hashes,
            previous: keys.previous.clone(),
            deaths: keys.deaths.clone(),
        })
    }
}

pub(crate) fn hash_of<T: PongoRecord>(row: &T) -> u64 {
    key_hash(row.key_bytes().as_ref())
}

/// A second value with the same bytes.
pub(crate) fn copy<T: PongoRecord>(row: &T) -> T {
    T::try_read_from_bytes(row.as_bytes())
        .unwrap_or_else(|_| unreachable!("the bytes of a value are a value"))
}

impl<T: PongoRecord> Staging<T> {
    pub(crate) fn new(core: Arc<TableCore>, index: Arc<HashIndex>, view: TableView) -> Self {
        Self {
            heap_fields: core.schema().heap_fields(),
            core,
            index,
            view,
            staged: Vec::new(),
            hashes: Vec::new(),
            keys: RefCell::default(),
            loading: false,
            refused: None,
        }
    }

    /// Errs if a bulk load was broken off, or rows of `alloc` never came back.
    pub(crate) fn refuse_broken(&self) -> Result<(), WriteError> {
        if self.loading {
            return Err(WriteError::BrokenOff { table: self.core.schema().table.clone() });
        }
        Ok(())
    }

    /// The row with a number: of before, or written by this transaction.
    pub(crate) fn row<'a>(&'a self, guard: &'a WriteGuard, row: RowId) -> Result<&'a T, ReadError> {
        if row.0 < self.view.len() { self.view.row(row) } else { guard.appended_row(&self.core, row) }
    }

    /// Where a key is. Written rows beyond `keys.resolved` are not looked at.
    pub(crate) fn locate(
        &self,
        guard: &WriteGuard,
        keys: &Keys,
        hash: u64,
        key: &T::KeyBytes,
    ) -> Result<Spot, ReadError> {
        let failed = RefCell::new(None);
        let has_key = |row: RowId| match self.row(guard, row) {
            Ok(row) => row.key_bytes() == *key,
            Err(error) => {
                failed.borrow_mut().get_or_insert(error);
                false
            }
        };
        let touched = keys.touched.find(hash, |touched| {
            touched.hash == hash
                && match (touched.staged, touched.base) {
                    (Some(place), _) => self.staged[place].key_bytes() == *key,
                    (None, Some(base)) => has_key(base.row),
                    (None, None) => false,
                }
        });
        if let Some(touched) = touched {
            return Ok(Spot::Touched(*touched));
        }
        if let Some(row) = keys.written.find(hash, |row| self.hash_of_written(*row) == hash && has_key(*row))
        {
            return Ok(Spot::Written(*row));
        }
        let applied = self.find_applied(hash, has_key)?;
        match failed.take() {
            Some(error) => Err(error),
            None => Ok(applied.map_or(Spot::Nowhere, Spot::Applied)),
        }
    }

    fn find_applied(&self, hash: u64, has_key: impl Fn(RowId) -> bool) -> Result<Option<Base>, ReadError> {
        let len = self.view.len();
        if len == 0 {
            return Ok(None);
        }
        let found = self.index.find(hash, |candidate| {
            let row = candidate.row;
            (row.0 < len && has_key(row)).then(|| Base { row, alive: self.view.is_live(row) })
        });
        found.map_err(|error| indexes::fault(&self.core, error).into())
    }

    fn hash_of_written(&self, row: RowId) -> u64 {
        self.hashes[(row.0 - self.view.len()) as usize]
    }

    /// Compares written rows with all others, one by one, and keeps their keys for look-ups.
    pub(crate) fn resolve(&self, guard: &WriteGuard) -> Result<(), ReadError> {
        let mut keys = self.keys.borrow_mut();
        while keys.resolved < self.hashes.len() as u64 {
            let row = RowId(self.view.len() + keys.resolved);
            let hash = self.hash_of_written(row);
            let key = self.row(guard, row)?.key_bytes();
            let spot = self.locate(guard, &keys, hash, &key)?;
            keys.note_written(spot, hash, row, |row| self.hash_of_written(row));
            keys.resolved += 1;
        }
        Ok(())
    }

    /// As [`resolve`](Self::resolve), for the last time: if no key comes twice among the written rows, which is what their
    /// hashes say, only rows of before need to be looked for, and nothing is kept.
    fn resolve_all(&mut self, guard: &WriteGuard) -> Result<(), ReadError> {
        let keys = self.keys.get_mut();
        let unresolved = keys.resolved as usize;
        let alone =
            keys.touched.is_empty() && keys.written.is_empty() && !has_twins(&self.hashes[unresolved..]);
        if !alone {
            return self.resolve(guard);
        }
        let mut found = Vec::new();
        if !self.view.is_empty() {
            for (place, &hash) in self.hashes.iter().enumerate() {
                if let Some(&ahead) = self.hashes.get(place + AHEAD) {
                    self.index.prefetch(ahead);
                }
                self.resolve_alone(guard, RowId(self.view.len() + place as u64), hash, &mut found)?;
            }
        }
        let keys = self.keys.get_mut();
        for (row, base) in found {
            if let Some(base) = keys.bury(Some(base)) {
                keys.previous.push((row, base.row));
            }
        }
        keys.resolved = self.hashes.len() as u64;
        Ok(())
    }

    fn resolve_alone(
        &self,
        guard: &WriteGuard,
        row: RowId,
        hash: u64,
        found: &mut Vec<(RowId, Base)>,
    ) -> Result<(), ReadError> {
        let mut failed = None;
        let base = self.index.find(hash, |candidate| {
            if candidate.row.0 >= self.view.len() {
                return None;
            }
            let same = self.view.row::<T>(candidate.row).and_then(|old| {
                let new = self.row(guard, row)?;
                Ok(old.key_bytes() == new.key_bytes())
            });
            match same {
                Ok(same) => {
                    same.then(|| Base { row: candidate.row, alive: self.view.is_live(candidate.row) })
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    None
                }
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        found.extend(base.map_err(|error| indexes::fault(&self.core, error))?.map(|base| (row, base)));
        Ok(())
    }

    /// The name of the field that the byte at `offset` of a row belongs to.
    fn field_at(&self, offset: usize) -> String {
        let fields = &self.core.schema().fields;
        fields
            .iter()
            .rfind(|field| field.offset <= offset)
            .map_or_else(String::new, |field| field.name.clone())
    }

    /// Errs if a `Text` or `Blob` of the row does not name bytes that are there.
    pub(crate) fn check_heap(&self, guard: &WriteGuard, heap: &[u8], row: &T) -> Result<(), WriteError> {
        for field in &self.heap_fields {
            let bytes = &row.as_bytes()[field.offset..field.offset + size_of::<Blob>()];
            let blob = Blob::read_from_bytes(bytes).unwrap_or(Blob::EMPTY);
            if blob.is_empty() {
                continue;
            }
            let refuse = |source: Box<dyn std::error::Error + Send + Sync>| WriteError::HeapField {
                table: self.core.schema().table.clone(),
                field: self.field_at(field.offset),
                source,
            };
            let bytes = guard
                .read_heap(heap, blob.addr(), blob.len(), blob.content_hash())
                .map_err(|error| refuse(Box::new(error)))?;
            if field.text {
                core::str::from_utf8(bytes).map_err(|error| refuse(Box::new(error)))?;
            }
        }
        Ok(())
    }

    /// Writes the staged rows to the chunks, so that what comes behind them is newer.
    pub(crate) fn write_staged(&mut self, guard: &mut WriteGuard) -> Result<(), WriteError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        self.resolve(guard)?;
        guard.append(&self.core, self.staged.as_slice().as_bytes())?;
        let first = self.view.len() + self.hashes.len() as u64;
        self.hashes.extend(self.staged.iter().map(hash_of));
        self.staged.clear();
        let keys = self.keys.get_mut();
        keys.settle(|place| RowId(first + place as u64));
        keys.resolved = self.hashes.len() as u64;
        Ok(())
    }
}
