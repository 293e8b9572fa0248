//! What a successor does after a writer died, and the walk over everything that is in force.

use pongo_core::guard::removable;
use std::sync::atomic::Ordering;

use super::account::{Base, Writer};
use super::error::{Fault, HashError};
use super::layout::{
    CAPACITY, Kind, LINE, LINES, Root, SEGMENT_WORDS, TopEntry, account_word, entry, segment_word,
};
use super::segment::Segment;
use super::{Candidate, HashIndex};

/// What an index holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Entries, dead ones included.
    pub entries: u64,
    /// Entries of deleted keys.
    pub dead: u64,
    /// Slots whose entries were removed and that no insert has used since.
    pub removed: u64,
    /// Segments in use, overflow segments included.
    pub segments: u64,
    /// Overflow segments: there are some only if many keys share a hash.
    pub overflow: u64,
    /// Segments that are free.
    pub free: u64,
    /// Bytes of all files in force.
    pub bytes: u64,
    /// Hash bits that the top decides by.
    pub depth: u32,
}

/// Of which commits something may be in an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The newest one's `Seq`.
    pub seq: u64,
    /// How many rows the table had with it.
    pub rows: u64,
}

impl HashIndex {
    /// What was last [noted](Self::note); all zero if nothing was.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.head.seen()
    }

    /// *Writer.* Notes the commit that the index is brought up to from here on, before anything of it is in it: whoever finds
    /// the index behind a process that was killed can tell whether it belongs to the rows that are there.
    pub fn note(&self, seen: Seen) {
        self.head.note(seen);
    }

    /// *Writer.* Makes good what a writer left that died at any point: undoes a split that was being published, and finds
    /// the segments it had taken. To be called by whoever takes the writer lock from a writer that may have died, before
    /// anything else; entries it did not get to are the journal's business ([`upsert_checked`](Self::upsert_checked)).
    /// Readers may be at work meanwhile.
    ///
    /// Costs a look at the top and at each segment's header: about 1 ms for 10 M entries.
    ///
    /// # Errors
    ///
    /// [`HashError::Damaged`] if what it finds cannot be what a dying writer leaves.
    pub fn recover(&self) -> Result<(), HashError> {
        let writer = self.writer()?;
        writer.set_aside()?;
        writer.undo_split()?;
        Ok(writer.find_free()?)
    }

    /// Gives `f` every entry, in no useful order. *Writer*: entries that change meanwhile may be given twice or not at all.
    ///
    /// Costs reading the whole index.
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

    /// Counts what is in the index. *Writer*, and as costly, as [`for_each`](Self::for_each).
    ///
    /// # Errors
    ///
    /// As [`recover`](Self::recover).
    pub fn stats(&self) -> Result<Stats, HashError> {
        let writer = self.writer()?;
        let mut stats = Stats { depth: writer.view.root.bits, ..Stats::default() };
        writer.for_each_segment(|kind, _, segment| {
            stats.segments += 1;
            stats.overflow += u64::from(kind == Kind::Overflow);
            for word in (0..CAPACITY).map(|slot| segment.entry(slot)) {
                match entry::candidate(word) {
                    Some(Candidate { dead, .. }) => {
                        stats.entries += 1;
                        stats.dead += u64::from(dead);
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

    /// Makes everything durable: after `Ok`, and if no writer was at work since, the files are on the disk as they are, with
    /// a checksum for [`verify`](Self::verify) and the moment: a number that the caller never gives for other rows. Costs
    /// reading the whole index.
    ///
    /// # Errors
    ///
    /// [`HashError::Io`] if a sync fails: some of it may never reach the disk, the index must be rebuilt.
    pub fn sync(&self, moment: u64) -> Result<(), HashError> {
        let writer = self.writer()?;
        let (pieces, _) = writer.counts()?;
        let Root { bits, .. } = writer.view.root;
        writer.view.maps.sync(pieces, bits)?;
        self.head.sync()?;
        self.write_sum(&writer, moment)?;
        let folder = &self.first.folder;
        let synced = removable!("hash.folder", folder.storage.sync_dir(&folder.dir));
        synced.map_err(|error| HashError::io("sync", &folder.dir, error))?;
        // Its own name lies in the folder above.
        let above = folder.dir.rsplit_once('/').map_or("", |(above, _)| above);
        let synced = removable!("hash.folder.above", folder.storage.sync_dir(above));
        Ok(synced.map_err(|error| HashError::io("sync", above, error))?)
    }
}

impl<'a> Writer<'a> {
    /// A split that was being published is taken back: the old segment is as it was, and nothing was inserted since.
    fn undo_split(&self) -> Result<(), Fault> {
        let Some(number) = self.get(account_word::INTENT).checked_sub(1) else { return Ok(()) };
        let (_, allocated) = self.counts()?;
        if number >= allocated {
            return Err(self.damaged(format!("a split of segment {number} was begun, there are {allocated}")));
        }
        let number = number as u32;
        let base = self.check_base(number, self.view.maps.segment(number)?)?;
        let bits = self.view.root.bits;
        let first = super::layout::top_index(base.prefix, bits);
        let range = first..first + (1 << (bits - base.depth));
        self.view.maps.make_writable(self.view.top, range.clone())?;
        // A generation of its own: a reader that saw the successors' entries must notice that they are gone.
        let entry = TopEntry::new(number, self.generation()?);
        for at in range {
            self.view.top.store(at, entry.0, Ordering::Release);
        }
        self.set(account_word::INTENT, 0);
        Ok(())
    }

    /// Makes the free list anew: every segment that nothing names.
    fn find_free(&self) -> Result<(), Fault> {
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
        // The count first: should this process die here, whoever wrote before may go on, and not know. What is counted must be
        // on the list.
        self.set(account_word::FREE_COUNT, 0);
        self.set(account_word::FREE, 0);
        for number in (0..allocated as u32).filter(|&number| !named[number as usize]) {
            let segment = self.view.maps.segment(number)?;
            self.view.maps.make_writable(segment.words, segment.base..segment.base + LINE)?;
            self.free(&[(number, segment)]);
        }
        Ok(())
    }

    /// Every segment in force, each base segment followed by its chain.
    pub(super) fn for_each_segment(&self, mut f: impl FnMut(Kind, u32, Segment<'a>)) -> Result<(), Fault> {
        let bits = self.view.root.bits;
        let mut at = 0_usize;
        while at < 1 << bits {
            let base = self.base((at as u64) << (64 - bits))?;
            self.top_range(base)?;
            let Base { number, segment, depth, .. } = base;
            f(Kind::Base { depth }, number, segment);
            for member in self.view.chain(segment) {
                let (number, member) = member?;
                if member.kind() != Some(Kind::Overflow)
                    || member.get(segment_word::NUMBER) != u64::from(number)
                {
                    return Err(
                        self.damaged(format!("segment {number} is in a chain and is {:?}", member.kind()))
                    );
                }
                f(Kind::Overflow, number, member);
            }
            at += 1 << (bits - depth);
        }
        Ok(())
    }
}
