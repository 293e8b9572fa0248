//! Recovery after a writer crashed, size and entries of the index, and its sync.

use pongo_core::guard::removable;
use std::sync::atomic::Ordering;

use super::allocator::SegmentAllocator;
use super::error::{BoxedError, HashError};
use super::header::Seen;
use super::layout::{
    CAPACITY, HashRoot, LINE, LINES, SEGMENT_WORDS, SegmentKind, TopEntry, account_word, entry,
};
use super::{Candidate, HashIndex};

/// The size of an index and the number of its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HashStats {
    /// Number of entries, including those of deleted keys.
    pub entries: u64,
    /// Number of entries of deleted keys.
    pub deleted: u64,
    /// Number of slots whose entry was removed and that no insert has reused.
    pub removed: u64,
    /// Number of segments in use, including overflow segments.
    pub segments: u64,
    /// Number of overflow segments. They exist only if many keys share a hash.
    pub overflow: u64,
    /// Number of free segments.
    pub free: u64,
    /// Size of all files in force, in bytes.
    pub bytes: u64,
    /// Number of hash bits that index the top.
    pub depth: u32,
}

impl HashIndex {
    /// Returns the commit that was last [noted](Self::note), or zeros if none was.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.head.seen()
    }

    /// Records the commit that the index is about to be updated to, before any change of this
    /// commit is stored in the index. *Writer.*
    ///
    /// After a writer process was killed, this record shows whether the index belongs to the
    /// existing rows.
    pub fn note(&self, seen: Seen) {
        self.head.note(seen);
    }

    /// Repairs the index after a writer crashed at any point: undoes a split that was being
    /// published, and frees the segments that the writer had allocated. *Writer.*
    ///
    /// The process that takes the writer lock from a writer that may have crashed must call this
    /// before any other operation. Entries that the crashed writer did not store are replayed from
    /// the journal ([`upsert_checked`](Self::upsert_checked)). Readers may run concurrently.
    ///
    /// Costs one read of the top and of each segment's header: about 1 ms for 10 M entries.
    ///
    /// # Errors
    ///
    /// [`HashError::Damaged`] if the files are in a state that no crash of a writer can cause.
    pub fn recover(&self) -> Result<(), HashError> {
        let writer = self.writer()?;
        writer.preallocate()?;
        writer.undo_split()?;
        Ok(writer.find_free()?)
    }

    /// Calls `f` with every entry, in no particular order. *Writer*: entries that change
    /// concurrently may be passed twice or not at all.
    ///
    /// Costs one read of the whole index.
    ///
    /// # Errors
    ///
    /// As [`recover`](Self::recover).
    pub fn for_each(&self, mut f: impl FnMut(Candidate)) -> Result<(), HashError> {
        Ok(self.writer()?.for_each_segment(|_, _, segment| {
            for line in 0..LINES {
                segment.line(line).into_iter().filter_map(entry::candidate).for_each(&mut f);
            }
        })?)
    }

    /// Returns the number of entries and segments of the index. *Writer*, and as costly as
    /// [`for_each`](Self::for_each).
    ///
    /// # Errors
    ///
    /// As [`recover`](Self::recover).
    pub fn stats(&self) -> Result<HashStats, HashError> {
        let writer = self.writer()?;
        let mut stats = HashStats { depth: writer.view.root.bits, ..HashStats::default() };
        writer.for_each_segment(|kind, _, segment| {
            stats.segments += 1;
            stats.overflow += u64::from(kind == SegmentKind::Overflow);
            for word in (0..CAPACITY).map(|slot| segment.entry(slot)) {
                match entry::candidate(word) {
                    Some(Candidate { deleted, .. }) => {
                        stats.entries += 1;
                        stats.deleted += u64::from(deleted);
                    }
                    None => stats.removed += u64::from(word != entry::EMPTY),
                }
            }
        })?;
        let (pieces, _) = writer.counts()?;
        stats.free = writer.get(account_word::FREE_COUNT);
        let segment_bytes = (SEGMENT_WORDS * size_of::<u64>()) as u64;
        stats.bytes = super::layout::capacity(pieces) * segment_bytes
            + (size_of::<u64>() << stats.depth) as u64
            + pongo_core::storage::PAGE;
        Ok(stats)
    }

    /// Makes the index durable.
    ///
    /// After `Ok`, and if no writer was active since the call, the files are on disk in their
    /// current state, with a checksum for [`verify`](Self::verify) and with `moment`, a number that
    /// the caller must never pass for other rows.
    ///
    /// Costs one read of the whole index.
    ///
    /// # Errors
    ///
    /// [`HashError::Io`] if a sync fails: some changes may never reach the disk, and the index must
    /// be rebuilt.
    pub fn sync(&self, moment: u64) -> Result<(), HashError> {
        let writer = self.writer()?;
        let (pieces, _) = writer.counts()?;
        let HashRoot { bits, .. } = writer.view.root;
        writer.view.maps.sync(pieces, bits)?;
        self.head.sync()?;
        self.write_sum(&writer, moment)?;
        let folder = &self.first.folder;
        let synced = removable!("hash.folder", folder.storage.sync_dir(&folder.dir));
        synced.map_err(|error| HashError::io("sync", &folder.dir, error))?;
        // The folder's own entry is stored in its parent folder.
        let above = folder.dir.rsplit_once('/').map_or("", |(above, _)| above);
        let synced = removable!("hash.folder.above", folder.storage.sync_dir(above));
        Ok(synced.map_err(|error| HashError::io("sync", above, error))?)
    }
}

impl<'a> SegmentAllocator<'a> {
    /// Undoes a split that was being published. The old segment is unchanged, and no entry was
    /// inserted since.
    fn undo_split(&self) -> Result<(), BoxedError> {
        let Some(number) = self.get(account_word::INTENT).checked_sub(1) else { return Ok(()) };
        let (_, allocated) = self.counts()?;
        if number >= allocated {
            return Err(
                self.damaged(format!("a split of segment {number} was started, {allocated} are allocated"))
            );
        }
        let number = number as u32;
        let base = self.check_base(number, self.view.maps.segment(number)?)?;
        let bits = self.view.root.bits;
        let first = super::layout::top_index(base.prefix, bits);
        let range = first..first + (1 << (bits - base.depth));
        self.view.maps.make_writable(self.view.top, range.clone())?;
        // A new generation, so that a reader that saw the successors' entries notices that they
        // were replaced.
        let entry = TopEntry::new(number, self.generation()?);
        for at in range {
            self.view.top.store(at, entry.0, Ordering::Release);
        }
        self.set(account_word::INTENT, 0);
        Ok(())
    }

    /// Rebuilds the free list: it then contains every segment that nothing refers to.
    fn find_free(&self) -> Result<(), BoxedError> {
        let (pieces, allocated) = self.counts()?;
        for piece in 0..pieces {
            self.view.maps.piece(piece)?;
        }
        let mut named = vec![false; allocated as usize];
        let mut stray = None;
        self.for_each_segment(|_, number, _| match named.get_mut(number as usize) {
            Some(named) if !*named => *named = true,
            _ => stray = Some(number),
        })?;
        if let Some(number) = stray {
            return Err(self.damaged(format!(
                "segment {number} is named twice, or is beyond the {allocated} there are"
            )));
        }
        // The count is cleared first. If this process crashes here, the previous writer may still
        // be running and continue without knowing about the recovery. Every segment that is counted
        // must be on the list.
        self.set(account_word::FREE_COUNT, 0);
        self.set(account_word::FREE, 0);
        for number in (0..allocated as u32).filter(|&number| !named[number as usize]) {
            let segment = self.view.maps.segment(number)?;
            self.view.maps.make_writable(segment.words, segment.base..segment.base + LINE)?;
            self.free(&[(number, segment)]);
        }
        Ok(())
    }
}
