//! Changing and deleting the rows of a range in a write transaction.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use pongo_core::engine::WriteGuard;
use pongo_core::error::{ReadError, WriteError};
use pongo_core::fields::{HeapError, HeapRead};
use pongo_core::ids::{HeapAddr, RowId};
use pongo_core::record::PongoRecord;

use crate::ordered::{Limits, OrderedIndex, Stream};
use crate::range::limits;
use crate::table_mut::TableMut;

/// The heap as a transaction sees it: what was applied, and what it staged.
pub(crate) struct WriterHeap<'a> {
    pub(crate) guard: &'a WriteGuard,
    pub(crate) staged: &'a [u8],
}

impl HeapRead for WriterHeap<'_> {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.guard.read_heap(self.staged, addr, len, hash)
    }
}

impl<T: PongoRecord> TableMut<'_, T> {
    /// Changes all rows whose keys lie within bounds, in key order, as [`update`](Self::update) changes one: rows of before this
    /// transaction and its own. Returns how many.
    ///
    /// The keys are collected first, so that the change does not meet its own rows: some 40 bytes and the key a row. Each row costs
    /// a look-up and a copy.
    ///
    /// # Errors
    /// As for [`update`](Self::update), [`ReadError::StartAfterEnd`] and other [`ReadError`]s. Rows before the one that was refused are
    /// changed then; a [savepoint](crate::WriteTransaction::savepoint) takes them back.
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// # #[pongo::record]
    /// # #[pongo(table = "accounts")]
    /// # struct Account { #[pongo(key)] number: u64, cents: i64 }
    /// # let store = Store::in_memory()?;
    /// let mut tx = store.begin_write()?;
    /// let mut accounts = tx.table::<Account>()?;
    /// accounts.extend((0..100).map(|number| Account { number, cents: 500 }))?;
    /// assert_eq!(accounts.modify(10..20, |account| account.cents += 5)?, 10);
    /// assert_eq!(accounts.get(&19)?.map(|account| account.cents), Some(505));
    /// assert_eq!(accounts.delete_range(50..)?, 50);
    /// assert_eq!(accounts.len()?, 50);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn modify<R>(
        &mut self,
        bounds: impl RangeBounds<T::Key>,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<u64, WriteError> {
        let mut changed = 0;
        for key in self.keys_within(bounds)?.into_values() {
            changed += u64::from(self.update_bytes(&key, &mut change)?.is_some());
        }
        Ok(changed)
    }

    /// Deletes all rows whose keys lie within bounds. Returns how many. Costs what [`modify`](Self::modify) costs.
    ///
    /// # Errors
    /// [`ReadError::StartAfterEnd`] and other [`ReadError`]s.
    pub fn delete_range(&mut self, bounds: impl RangeBounds<T::Key>) -> Result<u64, WriteError> {
        let mut deleted = 0;
        for key in self.keys_within(bounds)?.into_values() {
            deleted += u64::from(self.delete_bytes(&key)?);
        }
        Ok(deleted)
    }

    /// Keys within bounds, as they are put in order, of rows of before and of this transaction's own; some may be deleted by now.
    fn keys_within(
        &self,
        bounds: impl RangeBounds<T::Key>,
    ) -> Result<BTreeMap<Vec<u8>, T::KeyBytes>, ReadError> {
        let mut found = BTreeMap::new();
        let raw = |key: &T::Key| T::encode_key(key).as_ref().to_vec();
        let (start, end): (Bound<Vec<u8>>, _) = (bounds.start_bound().map(raw), bounds.end_bound().map(raw));
        let staging = &*self.staging;
        let ordered = &self.shared.ordered;
        let index = if staging.view.is_empty() {
            ordered.unlisted(&staging.core, T::SCHEMA.key)
        } else {
            ordered.index(&staging.core, T::SCHEMA.key)
        };
        let Some(index) = index else { return Ok(found) };
        let Some(limits) = limits(&index, start, end, T::SCHEMA.table)? else { return Ok(found) };
        staging.resolve(self.guard)?;
        let heap = WriterHeap { guard: self.guard, staged: self.heap };
        let mut add = |row: &T, limits: Option<&Limits>, index: &OrderedIndex| -> Result<(), ReadError> {
            let mut key = Vec::new();
            index.keys().put(T::SCHEMA.table, row.as_bytes(), &heap, &mut key)?;
            if limits.is_none_or(|limits| limits.contain(&key, RowId(0))) {
                found.insert(key, row.key_bytes());
            }
            Ok(())
        };
        // This transaction's own, written and staged.
        let first = staging.view.len();
        for row in (first..first + staging.hashes.len() as u64).map(RowId) {
            add(staging.row(self.guard, row)?, Some(&limits), &index)?;
        }
        for row in &staging.staged {
            add(row, Some(&limits), &index)?;
        }
        if staging.view.is_empty() {
            return Ok(found);
        }
        let mut stream =
            Stream::new(self.shared, &staging.view, &heap, std::sync::Arc::clone(&index), limits);
        while let Some(row) = stream.next()? {
            add(staging.view.row(row)?, None, &index)?;
        }
        Ok(found)
    }
}
