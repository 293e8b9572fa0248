//! Marks: per-row data of a chunk in addition to the rows' bytes. For each row, the `Seq` of its
//! deletion (0: not deleted) and the row it replaced (0: none, else `RowId + 1`).
//!
//! They are atomic words in a shared writable map of a sparse file beside the chunk. The file is
//! created when a row in the chunk is first deleted or first replaces another. A word changes from
//! 0 to its value once; recovery clears what a lost commit left. Words are stored only in pages for
//! which [`Marks::allocate`] reserved space. Only pages that were stored to are read in bulk,
//! because reading a page of a hole takes memory.
//!
//! A checkpoint keeps a checksum of the words that it found ([`Marks::sum`]). The process that
//! opened the store alone compares it when it first maps the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::{ByteReader, Put, Summing, page_is_sealed, sealed_page};
use crate::error::StorageError;
use crate::guard::{fails, holds, removable};
use crate::ids::{ChunkId, RowId, Seq, TableId};
use crate::mark_checksums::{CheckpointBound, CheckpointMarks, no_marks};
use crate::storage::{AtomicWords, File, PAGE, Reopened, Storage};

const MAGIC: [u8; 8] = *b"PONGOMRK";
const VERSION: u64 = 1;
const CONTENT: usize = 8 + 8 + 16 + 8 * 4;
const WORDS_PER_PAGE: u64 = PAGE / 8;

/// The rows that a marks file describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowExtent {
    pub(crate) store: u128,
    pub(crate) table: TableId,
    pub(crate) chunk: ChunkId,
    /// The first row whose first byte is in the chunk.
    pub(crate) first: RowId,
    /// Number of rows that begin in the chunk.
    pub(crate) rows: u64,
}

impl RowExtent {
    /// Returns the number of words of one of the two arrays, padded to whole pages.
    fn array_words(&self) -> u64 {
        self.rows.next_multiple_of(WORDS_PER_PAGE)
    }

    fn file_len(&self) -> u64 {
        PAGE + 2 * self.array_words() * 8
    }

    fn header(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.put_u64(VERSION);
        out.put_u128(self.store);
        out.put_u64(u64::from(self.table.0));
        out.put_u64(self.chunk.0);
        out.put_u64(self.first.0);
        out.put_u64(self.rows);
        debug_assert_eq!(out.len(), CONTENT);
        out
    }
}

/// Numbers of marks that commits stored in a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) deleted_rows: u64,
    pub(crate) previous: u64,
}

/// Chunks whose marks changed since the last checkpoint.
pub(crate) type DirtyMarks = BTreeMap<(TableId, ChunkId), Stored>;

/// The mapped marks of one chunk.
#[derive(Debug)]
pub(crate) struct Marks {
    extent: RowExtent,
    path: String,
    /// Mapped before the first mark is stored, so that their sync reports every failed write-back.
    words: AtomicWords,
    /// Used to allocate space and to find the pages with marks. Nothing is written through it.
    file: Arc<Reopened>,
    /// Pages that this process knows to be allocated.
    pages: Mutex<BTreeSet<u64>>,
    /// Whether this process stored to the words since they were last synced.
    stored: AtomicBool,
}

impl Marks {
    /// Creates the file, at full length but sparse, under a temporary name, and renames it. It is
    /// durable when this returns.
    pub(crate) fn create(
        storage: &dyn Storage,
        dir: &str,
        path: String,
        extent: RowExtent,
    ) -> Result<Self, StorageError> {
        let temporary = format!("{path}.new");
        let _ = storage.remove(&temporary);
        let file = storage.create(&temporary).map_err(StorageError::io("making", &temporary))?;
        file.set_len(extent.file_len()).map_err(StorageError::io("sizing", &temporary))?;
        file.write_at(&sealed_page(extent.header()), 0).map_err(StorageError::io("writing", &temporary))?;
        removable!("marks.create.sync", file.sync()).map_err(StorageError::io("syncing", &temporary))?;
        storage.rename(&temporary, &path).map_err(StorageError::io("renaming", &temporary))?;
        removable!("marks.create.folder", storage.sync_dir(dir)).map_err(StorageError::io("syncing", dir))?;
        Self::map(storage, &file, path, extent)
    }

    /// Opens the file of a chunk, if it exists, and compares its words with the checkpoint's
    /// record, if `mark_checksums` is given. `is_clean` is called after the words were read, and
    /// returns whether no process has written since that checkpoint.
    ///
    /// The comparison reads all pages of the file that were ever stored to.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: String,
        extent: RowExtent,
        baseline: Option<&CheckpointMarks>,
        is_clean: impl FnOnce() -> bool,
    ) -> Result<Option<Self>, StorageError> {
        let file = match storage.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("opening", &path)(error)),
        };
        let len = file.len().map_err(StorageError::io("measuring", &path))?;
        if len != extent.file_len() {
            return Err(StorageError::corrupt(
                path,
                len,
                format!("a file of {} bytes", extent.file_len()),
                format!("{len} bytes"),
            ));
        }
        let mut page = vec![0; PAGE as usize];
        file.read_at(&mut page, 0).map_err(StorageError::io("reading", &path))?;
        let header = ByteReader::new(&page).take(CONTENT).unwrap_or_default();
        if fails!("marks.header.checksum", !page_is_sealed(&page, CONTENT))
            || fails!("marks.header.identity", header != extent.header())
        {
            return Err(StorageError::corrupt(
                path,
                0,
                format!("the header of the marks of {} rows from row {}", extent.rows, extent.first),
                "another header, or one whose checksum is wrong",
            ));
        }
        let marks = Self::map(storage, &file, path, extent)?;
        if let Some(baseline) = baseline {
            marks.verify(&*file, baseline, is_clean)?;
        }
        Ok(Some(marks))
    }

    fn map(
        storage: &dyn Storage,
        file: &Arc<dyn File>,
        path: String,
        extent: RowExtent,
    ) -> Result<Self, StorageError> {
        if storage.hole_reads_allocate() {
            file.allocate(0, extent.file_len()).map_err(StorageError::io("allocating", path.as_str()))?;
        }
        storage.check_maps();
        let words = file
            .map_words(PAGE, extent.file_len() - PAGE)
            .map_err(StorageError::io("mapping", path.as_str()))?;
        let file = Reopened::opened(storage, path.clone(), extent.file_len(), Arc::clone(file));
        Ok(Self { extent, path, words, file, pages: Mutex::default(), stored: AtomicBool::new(false) })
    }

    fn verify(
        &self,
        file: &dyn File,
        baseline: &CheckpointMarks,
        is_clean: impl FnOnce() -> bool,
    ) -> Result<(), StorageError> {
        let (bound, expected) = (baseline.bound(), baseline.sum_of(self.extent.chunk));
        let (found, later) = self.sum_in(file, bound)?;
        let wrong = |expected: String, found: String| {
            Err(StorageError::corrupt(self.path.as_str(), PAGE, expected, found))
        };
        if fails!("marks.checksum", found != expected) {
            return wrong(
                format!("the marks that checkpoint {} found, with checksum {expected:016x}", bound.seq),
                format!("checksum {found:016x}: a row is wrongly dead or alive, or has a wrong previous row"),
            );
        }
        // A later mark would delete its row from the commit on that it names.
        if later > 0 && is_clean() {
            return wrong(
                format!("the marks that checkpoint {} found, and none since", bound.seq),
                format!("{later} of later commits"),
            );
        }
        Ok(())
    }

    /// Returns the checksum of the marks that existed at `bound`: of the position in the file and
    /// the value of each word that counts, in order.
    pub(crate) fn sum(&self, storage: &dyn Storage, bound: CheckpointBound) -> Result<u64, StorageError> {
        Ok(self.sum_in(&*self.file(storage)?, bound)?.0)
    }

    /// Returns that checksum, and the number of later marks.
    fn sum_in(&self, file: &dyn File, bound: CheckpointBound) -> Result<(u64, u64), StorageError> {
        let mut summing = Summing::new();
        let mut later = 0;
        self.for_each_set(file, |word, value| match self.is_within(word, value, bound) {
            Some(true) => {
                summing.add(word as u64);
                summing.add(value);
            }
            Some(false) => later += 1,
            None => {}
        })?;
        Ok((if self.extent.first.0 >= bound.len { no_marks() } else { summing.sum() }, later))
    }

    /// Calls `each` with the position and value of every nonzero word, in order.
    fn for_each_set(&self, file: &dyn File, mut each: impl FnMut(usize, u64)) -> Result<(), StorageError> {
        const LINE: usize = 8;
        let mut from = PAGE;
        while let Some(data) =
            file.next_data(from).map_err(StorageError::io("reading", self.path.as_str()))?
        {
            from = data.end.max(from + 1);
            let first = (data.start.max(PAGE) - PAGE) as usize / 8;
            let end = (data.end.max(PAGE) - PAGE).div_ceil(8) as usize;
            let lines = first / LINE * LINE..end.next_multiple_of(LINE).min(self.words.len());
            for at in lines.step_by(LINE) {
                let line = self.words.line(at);
                for (i, &value) in line.iter().enumerate().filter(|(_, value)| **value != 0) {
                    each(at + i, value);
                }
            }
        }
        Ok(())
    }

    /// Returns whether a nonzero word existed at `bound`; `None` for words that only pad a page.
    fn is_within(&self, word: usize, value: u64, bound: CheckpointBound) -> Option<bool> {
        let row = |index: u64| (index < self.extent.rows).then(|| RowId(self.extent.first.0 + index));
        match (word as u64).checked_sub(self.extent.array_words()) {
            None => row(word as u64).map(|row| bound.has_deletion(row, value)),
            Some(index) => row(index).map(|row| bound.has_previous(row)),
        }
    }

    fn file(&self, storage: &dyn Storage) -> Result<Arc<dyn File>, StorageError> {
        self.file.file(storage).map_err(StorageError::io("opening", self.path.as_str()))
    }

    fn deleted_at_word(&self, row: RowId) -> Option<usize> {
        let index = row.0.checked_sub(self.extent.first.0)?;
        (index < self.extent.rows).then_some(index as usize)
    }

    fn previous_word(&self, row: RowId) -> Option<usize> {
        Some(self.deleted_at_word(row)? + self.extent.array_words() as usize)
    }

    /// Returns the `Seq` at which the row was deleted. `Relaxed` followed by a fence in the caller
    /// would suffice; an acquire load costs the same on the machines this runs on.
    #[inline]
    pub(crate) fn deleted_at(&self, row: RowId) -> Option<Seq> {
        match self.words.load(self.deleted_at_word(row)?, Ordering::Acquire) {
            0 => None,
            seq => Some(Seq(seq)),
        }
    }

    /// Returns the row that this one replaced: always a lower one, whatever the file contains.
    #[inline]
    pub(crate) fn previous(&self, row: RowId) -> Option<RowId> {
        let word = self.words.load(self.previous_word(row)?, Ordering::Acquire);
        let previous = RowId(word.checked_sub(1)?);
        (previous < row).then_some(previous)
    }

    /// Reserves space for the marks of one row. `Err` leaves everything unchanged.
    pub(crate) fn allocate(
        &self,
        storage: &dyn Storage,
        row: RowId,
        deleted_at: bool,
        previous: bool,
    ) -> Result<(), StorageError> {
        let places = [
            deleted_at.then(|| self.deleted_at_word(row)).flatten(),
            previous.then(|| self.previous_word(row)).flatten(),
        ];
        for word in places.into_iter().flatten() {
            let page = PAGE + (word as u64 / WORDS_PER_PAGE) * PAGE;
            let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            if !pages.contains(&page) {
                let file = self.file(storage)?;
                file.allocate(page, PAGE).map_err(StorageError::io("allocating", self.path.as_str()))?;
                pages.insert(page);
            }
            drop(pages);
            // Each time: a snapshot of the file system may have been taken since the last call.
            self.make_writable(word..word + 1)?;
        }
        Ok(())
    }

    /// Reserves the space that stores to these words may need; called before they are stored.
    fn make_writable(&self, words: std::ops::Range<usize>) -> Result<(), StorageError> {
        self.words
            .make_writable(words)
            .map_err(StorageError::io("making pages writable of", self.path.as_str()))
    }

    /// Returns the numbers of the two pages that contain the marks of a row, so that a caller
    /// allocates each page once.
    pub(crate) fn pages(&self, row: RowId) -> (u64, u64) {
        let deleted_at = self.deleted_at_word(row).unwrap_or(0) as u64;
        (deleted_at / WORDS_PER_PAGE, (deleted_at + self.extent.array_words()) / WORDS_PER_PAGE)
    }

    /// Stores the deletion of a row. The store does not depend on the old value, so that a commit
    /// can be applied again: the word may contain corruption from above the checkpoint, or a mark
    /// of a lost commit.
    pub(crate) fn set_deleted_at(&self, row: RowId, seq: Seq) {
        let Some(word) = self.deleted_at_word(row) else { return };
        self.store(word, seq.0, Ordering::Release);
    }

    /// Stores the row that a row replaced. The row is not published yet.
    pub(crate) fn set_previous(&self, row: RowId, previous: RowId) {
        let Some(word) = self.previous_word(row) else { return };
        debug_assert!(previous < row, "row {row} replaces a later one, {previous}");
        self.store(word, previous.0 + 1, Ordering::Release);
    }

    fn store(&self, word: usize, value: u64, order: Ordering) {
        // Set before the word is stored: a thread that finds nothing stored may unmap the file.
        self.stored.store(true, Ordering::Release);
        self.words.store(word, value, order);
    }

    /// Returns whether this process stored to the words since they were last synced.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Acquire)
    }

    /// Stores every part of the file that may contain data again, unchanged, so that the next sync
    /// writes it: after a failed sync, memory may differ from the disk.
    pub(crate) fn rewrite(&self, storage: &dyn Storage) -> Result<(), StorageError> {
        /// Words of the smallest unit that a disk writes.
        const SECTOR: usize = 64;
        let file = self.file(storage)?;
        let mut from = PAGE;
        while let Some(data) =
            file.next_data(from).map_err(StorageError::io("reading", self.path.as_str()))?
        {
            from = data.end.max(from + 1);
            let first = (data.start.max(PAGE) - PAGE) as usize / 8;
            let end = ((data.end.max(PAGE) - PAGE).div_ceil(8) as usize).min(self.words.len());
            self.make_writable(first.min(end)..end)?;
            for word in (first / SECTOR * SECTOR..end).step_by(SECTOR) {
                self.store(word, self.words.load(word, Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Clears what lost commits left: deletions after `now`, and both marks of rows at or above its
    /// length.
    ///
    /// # Errors
    /// If the numbers of deletions and previous rows between `before` and `now` differ from those
    /// that were `stored` since.
    pub(crate) fn clear_above(
        &self,
        storage: &dyn Storage,
        before: CheckpointBound,
        now: CheckpointBound,
        stored: Stored,
    ) -> Result<(), StorageError> {
        let mut found = Stored::default();
        let mut writable = Ok(());
        self.for_each_set(&*self.file(storage)?, |word, value| {
            if !self.is_within(word, value, now).unwrap_or(true) {
                if writable.is_ok() {
                    writable = self.make_writable(word..word + 1);
                }
                if writable.is_ok() {
                    self.store(word, 0, Ordering::Relaxed);
                }
            } else if !self.is_within(word, value, before).unwrap_or(true) {
                let is_death = (word as u64) < self.extent.array_words();
                *(if is_death { &mut found.deleted_rows } else { &mut found.previous }) += 1;
            }
        })?;
        writable?;
        if holds!("marks.count", found == stored) {
            return Ok(());
        }
        let say = |stored: Stored| {
            format!(
                "{} deleted and {} previous rows since the checkpoint",
                stored.deleted_rows, stored.previous
            )
        };
        Err(StorageError::corrupt(
            self.path.as_str(),
            PAGE,
            format!("{}, as the journal has them", say(stored)),
            say(found),
        ))
    }

    /// Syncs the marks through their map, with `fdatasync`.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.words.sync().map_err(StorageError::io(StorageError::SYNCING, self.path.as_str()))?;
        self.stored.store(false, Ordering::Release);
        Ok(())
    }
}
