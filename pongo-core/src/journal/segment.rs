//! Segment files of the journal. They are zero-filled, so that syncing an entry writes no metadata;
//! identified by their header; and recycled once a durable checkpoint is in a later segment.
//!
//! Guarantees: a segment is synced before the first byte is written to the next one. A segment that
//! a durable super slot names, or a later one, is never recycled.

use std::sync::Arc;

use super::entry::PIECE;
use crate::codec::{ByteReader, LIMIT, Put, page_is_sealed, sealed_page};
use crate::error::StorageError;
use crate::guard::{fails, removable};
use crate::ids::{JournalPos, Salt};
use crate::storage::{File, PAGE, Storage};

pub(crate) const DIR: &str = "journal";
const MAGIC: [u8; 8] = *b"PONGOJNL";
const VERSION: u64 = 1;
const CONTENT: usize = 8 + 8 + 16 + 8 * 4;
/// Bytes before the first entry of a segment.
const HEADER: u64 = PAGE;
/// Bytes for entries in the first segment, unless a test sets less.
pub(crate) const SMALLEST: u64 = 1 << 20;
const LARGEST: u64 = 16 << 20;
/// Number of recycled files that are kept for reuse.
const SPARE: usize = 6;

/// The content of a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) store: u128,
    pub(crate) number: u64,
    pub(crate) salt: Salt,
    /// The position of its first entry.
    pub(crate) start: JournalPos,
    /// Bytes for entries.
    pub(crate) len: u64,
}

impl SegmentHeader {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.put_u64(VERSION);
        out.put_u128(self.store);
        out.put_u64(self.number);
        out.put_u64(self.salt.0);
        out.put_u64(self.start.0);
        out.put_u64(self.len);
        debug_assert_eq!(out.len(), CONTENT);
        sealed_page(out)
    }

    fn decode(page: &[u8]) -> Option<Self> {
        if fails!("journal.segment.checksum", !page_is_sealed(page, CONTENT)) || !page.starts_with(&MAGIC) {
            return None;
        }
        let mut reader = ByteReader::new(page);
        reader.take(8)?;
        if reader.u64()? != VERSION {
            return None;
        }
        let header = Self {
            store: reader.u128()?,
            number: reader.u64()?,
            salt: Salt(reader.u64()?),
            start: JournalPos(reader.u64()?),
            len: reader.u64()?,
        };
        // Numbers that are incremented must have a successor.
        let sane = [header.number, header.salt.0, header.start.0, header.len].iter().all(|&n| n < LIMIT);
        sane.then_some(header)
    }
}

/// One open segment.
#[derive(Clone, Debug)]
pub(crate) struct JournalSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn File>,
}

pub(crate) fn path_of(number: u64) -> String {
    format!("{DIR}/{number}.log")
}

/// Returns the numbers of the segment files, sorted. The name of a spare file has no number.
pub(crate) fn numbers(storage: &dyn Storage) -> Result<Vec<u64>, StorageError> {
    let names = storage.list(DIR).map_err(StorageError::io("listing", DIR))?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| name.strip_suffix(".log")?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl JournalSegment {
    /// Opens segment `number` of a store; `None` if there is no such file. A segment gets its name
    /// after its header was synced, so a file of that name with another header is damaged.
    pub(crate) fn open(
        storage: &dyn Storage,
        store: u128,
        number: u64,
    ) -> Result<Option<Self>, StorageError> {
        let path = path_of(number);
        let file = match storage.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("opening", path)(error)),
        };
        let actual = file.len().map_err(StorageError::io("measuring", path.as_str()))?;
        let damaged = |found: &str| {
            StorageError::corrupt(
                path.as_str(),
                0,
                format!("the header of segment {number} of this store"),
                found,
            )
        };
        if actual < PAGE {
            return Err(damaged("a file that is shorter than a header"));
        }
        let mut page = vec![0; PAGE as usize];
        file.read_at(&mut page, 0).map_err(StorageError::io("reading", path.as_str()))?;
        let mut header = SegmentHeader::decode(&page)
            .ok_or_else(|| damaged("another header, or one whose checksum is wrong"))?;
        if fails!("journal.segment.identity", header.number != number || header.store != store) {
            return Err(damaged("the header of another segment or store"));
        }
        header.len = header.len.min(actual - HEADER);
        Ok(Some(Self { header, file }))
    }

    fn offset(&self, pos: JournalPos) -> u64 {
        HEADER + (pos.0 - self.header.start.0)
    }

    /// Returns the position directly after the last byte of the segment.
    pub(crate) fn end(&self) -> JournalPos {
        JournalPos(self.header.start.0.saturating_add(self.header.len))
    }

    /// Reads `len` bytes at `pos`; `None` if the segment ends before that.
    pub(crate) fn read(&self, pos: JournalPos, len: u64) -> Result<Option<Vec<u8>>, StorageError> {
        if pos < self.header.start || pos.0.checked_add(len).is_none_or(|end| end > self.end().0) {
            return Ok(None);
        }
        let mut bytes = vec![0; len as usize];
        self.file
            .read_at(&mut bytes, self.offset(pos))
            .map_err(|error| StorageError::io("reading", path_of(self.header.number))(error))?;
        Ok(Some(bytes))
    }
}

/// The writing end of the journal.
#[derive(Debug)]
pub(crate) struct Journal {
    storage: Arc<dyn Storage>,
    store: u128,
    pub(crate) salt: Salt,
    segment: JournalSegment,
    /// The position of the next entry.
    end: JournalPos,
    /// Segments before the current one that are still needed, oldest first.
    older: Vec<u64>,
    /// Files whose content is no longer needed.
    spare: Vec<(String, u64)>,
    /// Bytes for entries in the smallest segment.
    smallest: u64,
    /// Whether this process knows that all space of the current segment is allocated.
    preallocated: bool,
}

impl Journal {
    /// Continues in an existing segment at `end`.
    pub(crate) fn resume(
        storage: &Arc<dyn Storage>,
        store: u128,
        salt: Salt,
        segment: JournalSegment,
        end: JournalPos,
        smallest: u64,
    ) -> Result<Self, StorageError> {
        let mut journal = Self {
            storage: Arc::clone(storage),
            store,
            salt,
            segment,
            end,
            older: Vec::new(),
            spare: Vec::new(),
            smallest,
            preallocated: false,
        };
        let current = journal.segment.header.number;
        journal.older = numbers(&**storage)?.into_iter().filter(|&number| number < current).collect();
        for name in storage.list(DIR).map_err(StorageError::io("listing", DIR))? {
            if name.ends_with(".spare") && journal.spare.len() < SPARE {
                let path = format!("{DIR}/{name}");
                // Another process may be reusing the file at the same time.
                if let Ok(size) = storage.open(&path).and_then(|file| file.len()) {
                    journal.spare.push((path, size.saturating_sub(HEADER)));
                }
            }
        }
        Ok(journal)
    }

    /// Creates the journal of a new store.
    pub(crate) fn create(
        storage: &Arc<dyn Storage>,
        store: u128,
        salt: Salt,
        smallest: u64,
    ) -> Result<Self, StorageError> {
        storage.create_dir(DIR).map_err(StorageError::io("making", DIR))?;
        let header = SegmentHeader { store, number: 0, salt, start: JournalPos(0), len: smallest };
        let segment = make_segment(&**storage, header, None)?;
        Self::resume(storage, store, salt, segment, JournalPos(0), smallest)
    }

    pub(crate) fn end(&self) -> JournalPos {
        self.end
    }

    pub(crate) fn segment_number(&self) -> u64 {
        self.segment.header.number
    }

    pub(crate) fn file(&self) -> Arc<dyn File> {
        Arc::clone(&self.segment.file)
    }

    /// Returns whether an entry of `len` bytes fits the current segment.
    pub(crate) fn fits(&self, len: u64) -> bool {
        self.end.0.checked_add(len).is_some_and(|end| end <= self.segment.end().0)
    }

    /// Syncs the current segment and starts the next one, which is large enough for an entry of
    /// `len` bytes and, if `grow` is set, up to four times as large as the current one. After this
    /// the whole journal so far is durable. `Err` leaves the current segment the current one.
    pub(crate) fn roll(&mut self, len: u64, grow: bool) -> Result<(), StorageError> {
        let larger = if grow { self.segment.header.len.saturating_mul(4) } else { self.smallest };
        let wanted = larger.clamp(self.smallest, LARGEST).max(len.next_multiple_of(PAGE));
        let header = SegmentHeader {
            store: self.store,
            number: self.segment.header.number + 1,
            salt: self.salt,
            start: self.end,
            len: wanted,
        };
        let fits = |&(_, size): &(String, u64)| size >= wanted && size <= wanted.max(LARGEST);
        let recycled = self.spare.iter().position(fits).map(|at| self.spare.swap_remove(at));
        // Sync first: the existence of the next segment proves that this one is complete.
        removable!("journal.roll.sync", self.segment.file.sync())
            .map_err(StorageError::io("syncing", path_of(self.segment.header.number)))?;
        let next = make_segment(&*self.storage, header, recycled)?;
        self.older.push(self.segment.header.number);
        self.segment = next;
        // A recycled file may be from a copy of the store.
        self.preallocated = false;
        Ok(())
    }

    /// Reserves space for an entry of `len` bytes, which must fit. Called before the entry is
    /// created, so that everything that can fail because there is no space fails here.
    ///
    /// A segment in a copy of the store may have holes, so its space is allocated. Where the file
    /// system writes to new places, zeros are written first: then the space exists, in blocks that
    /// belong to the segment alone.
    pub(crate) fn prepare(&mut self, len: u64) -> Result<(), StorageError> {
        debug_assert!(self.fits(len));
        let (file, header) = (&self.segment.file, &self.segment.header);
        let path = || path_of(header.number);
        if !self.preallocated {
            file.allocate(0, HEADER + header.len)
                .map_err(|error| StorageError::io("allocating", path())(error))?;
            self.preallocated = true;
        }
        if self.storage.stores_may_allocate() {
            let zeros = vec![0; len.min(PIECE as u64) as usize];
            let (mut at, end) = (self.segment.offset(self.end), self.segment.offset(self.end) + len);
            while at < end {
                let piece = &zeros[..(end - at).min(PIECE as u64) as usize];
                file.write_at(piece, at)
                    .map_err(|error| StorageError::io("making space in", path())(error))?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// Writes an entry that [`seal`](super::seal) created for [`Journal::end`], and that fits. Does
    /// not sync.
    pub(crate) fn append(&mut self, entry: &[u8]) -> Result<(), StorageError> {
        debug_assert!(self.fits(entry.len() as u64));
        self.segment
            .file
            .write_at(entry, self.segment.offset(self.end))
            .map_err(|error| StorageError::io("writing", path_of(self.segment.header.number))(error))?;
        self.end.0 += entry.len() as u64;
        Ok(())
    }

    /// Writes an entry that is passed in pieces, which have `len` bytes together and fit. Does not
    /// sync. After `Err`, part of the entry may be in the file.
    pub(crate) fn append_in_pieces(
        &mut self,
        len: u64,
        pieces: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), StorageError>) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        debug_assert!(self.fits(len));
        let mut at = self.segment.offset(self.end);
        pieces(&mut |piece| {
            self.segment
                .file
                .write_at(piece, at)
                .map_err(|error| StorageError::io("writing", path_of(self.segment.header.number))(error))?;
            at += piece.len() as u64;
            Ok(())
        })?;
        debug_assert_eq!(at, self.segment.offset(self.end) + len);
        self.end.0 += len;
        Ok(())
    }

    /// Recycles or removes all segments before `number`. Called once a durable super slot names a
    /// checkpoint in segment `number`.
    pub(crate) fn retire_before(&mut self, number: u64) {
        let keep = self.older.partition_point(|&older| older < number);
        for older in self.older.drain(..keep) {
            let path = path_of(older);
            let spare = format!("{DIR}/{older}.spare");
            let size = self.storage.open(&path).and_then(|file| file.len()).unwrap_or(0);
            let usable =
                (HEADER + self.smallest..=HEADER + LARGEST).contains(&size) && self.spare.len() < SPARE;
            if usable && self.storage.rename(&path, &spare).is_ok() {
                self.spare.push((spare, size - HEADER));
            } else {
                // A file that cannot be removed is found again at the next recovery.
                let _ = self.storage.remove(&path);
            }
        }
    }

    /// Removes everything except the current segment. Called once recovery has replaced the rest of
    /// the journal.
    pub(crate) fn forget_others(&mut self) -> Result<(), StorageError> {
        self.older.clear();
        self.spare.clear();
        let current = self.segment.header.number;
        Self::sweep(&*self.storage, |number| number == current)
    }

    /// Returns whether a name in the journal's folder is one of the journal's files: a segment, a
    /// spare, or one that was being created.
    pub(crate) fn is_file_name(name: &str) -> bool {
        let ours = |(number, kind): (&str, &str)| {
            number.parse::<u64>().is_ok() && ["log", "spare", "new"].contains(&kind)
        };
        name.split_once('.').is_some_and(ours)
    }

    /// Removes spare and temporary files, and segments for which `keep` returns `false`. The caller
    /// is alone with the store.
    pub(crate) fn sweep(storage: &dyn Storage, keep: impl Fn(u64) -> bool) -> Result<(), StorageError> {
        for name in storage.list(DIR).map_err(StorageError::io("listing", DIR))? {
            if !Self::is_file_name(&name) {
                continue;
            }
            let wanted = name.strip_suffix(".log").and_then(|number| number.parse().ok()).is_some_and(&keep);
            if !wanted {
                let path = format!("{DIR}/{name}");
                storage.remove(&path).map_err(StorageError::io("sweeping", path.as_str()))?;
            }
        }
        Ok(())
    }
}

/// Creates a segment file that is ready for entries: its space is written with zeros (a recycled
/// file keeps its old entries, which have other positions), its header is written, everything is
/// synced, and only then the file gets its name.
fn make_segment(
    storage: &dyn Storage,
    mut header: SegmentHeader,
    recycled: Option<(String, u64)>,
) -> Result<JournalSegment, StorageError> {
    let path = path_of(header.number);
    let temporary = format!("{DIR}/{}.new", header.number);
    // A missing spare file is harmless.
    let recycled = recycled.filter(|(spare, _)| storage.rename(spare, &temporary).is_ok());
    let file = if let Some((_, len)) = recycled {
        header.len = len;
        let file = storage.open(&temporary).map_err(StorageError::io("opening", temporary.as_str()))?;
        file.write_at(&header.encode(), 0).map_err(StorageError::io("writing", temporary.as_str()))?;
        file
    } else {
        let _ = storage.remove(&temporary);
        let file = storage.create(&temporary).map_err(StorageError::io("making", temporary.as_str()))?;
        if let Err(error) = fill(&*file, &header) {
            let _ = storage.remove(&temporary);
            return Err(StorageError::io("filling", temporary.as_str())(error));
        }
        file
    };
    removable!("journal.segment.sync", file.sync())
        .map_err(StorageError::io("syncing", temporary.as_str()))?;
    storage.rename(&temporary, &path).map_err(StorageError::io("renaming", temporary.as_str()))?;
    removable!("journal.segment.folder", storage.sync_dir(DIR)).map_err(StorageError::io("syncing", DIR))?;
    Ok(JournalSegment { header, file })
}

fn fill(file: &dyn File, header: &SegmentHeader) -> std::io::Result<()> {
    file.allocate(0, HEADER + header.len)?;
    let zeros = vec![0; 1 << 20];
    let mut at = HEADER;
    while at < HEADER + header.len {
        let part = (HEADER + header.len - at).min(zeros.len() as u64);
        file.write_at(&zeros[..part as usize], at)?;
        at += part;
    }
    file.write_at(&header.encode(), 0)
}
