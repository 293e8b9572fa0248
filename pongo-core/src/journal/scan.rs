//! Finding the entries of a journal from a checkpoint on, and telling a torn tail from corruption.
//!
//! An entry is valid if it is at the position that it states, has the salt of the segment's
//! generation, and its checksum is right. Where the next entry is not valid, the journal ends,
//! unless a later, valid entry says that the journal was durable beyond this position when it was
//! written: then an acknowledged entry is damaged.

use std::sync::Arc;

use super::entry::{self, Header};
use super::segment::{JournalSegment, numbers, path_of};
use crate::error::StorageError;
use crate::guard::{fails, holds};
use crate::ids::{JournalPos, Salt};
use crate::storage::Storage;

/// A valid entry.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) bytes: Vec<u8>,
    /// The segment that contains it.
    pub(crate) segment: u64,
}

/// Reads the entries of one generation in order.
#[derive(Debug)]
pub(crate) struct Scanner {
    storage: Arc<dyn Storage>,
    store: u128,
    salt: Salt,
    segment: JournalSegment,
    next: JournalPos,
    window: Window,
    /// Whether everything that was acknowledged is before the start position.
    sound: bool,
    /// Number of bytes whose checksum was computed.
    summed: u64,
}

/// A part of one segment in memory, so that small entries do not cost one system call each.
#[derive(Debug, Default)]
struct Window {
    segment: u64,
    start: JournalPos,
    bytes: Vec<u8>,
}

const WINDOW: u64 = 1 << 20;

impl Window {
    /// Returns `len` bytes at `pos`; `None` if the segment ends before that.
    fn get(
        &mut self,
        segment: &JournalSegment,
        pos: JournalPos,
        len: u64,
    ) -> Result<Option<&[u8]>, StorageError> {
        let holds = |window: &Self| {
            window.segment == segment.header.number
                && pos >= window.start
                && pos.0.checked_add(len).is_some_and(|end| end <= window.start.0 + window.bytes.len() as u64)
        };
        if !holds(self) {
            let reach = len.max(WINDOW).min(segment.end().0.saturating_sub(pos.0));
            let Some(bytes) = segment.read(pos, reach)? else { return Ok(None) };
            *self = Self { segment: segment.header.number, start: pos, bytes };
            if !holds(self) {
                return Ok(None);
            }
        }
        let at = (pos.0 - self.start.0) as usize;
        Ok(Some(&self.bytes[at..at + len as usize]))
    }

    /// Returns the `len` bytes at `pos` that [`get`](Self::get) returned last. Those of a long
    /// entry are not copied.
    fn take(&mut self, pos: JournalPos, len: u64) -> Vec<u8> {
        if pos == self.start && len >= WINDOW {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.truncate(len as usize);
            return bytes;
        }
        let at = (pos.0 - self.start.0) as usize;
        self.bytes[at..at + len as usize].to_vec()
    }

    /// Returns the bytes at `pos` that are in memory or can be read at once: at least a word,
    /// unless the segment ends there.
    fn some(&mut self, segment: &JournalSegment, pos: JournalPos) -> Result<Option<&[u8]>, StorageError> {
        let end = self.start.0 + self.bytes.len() as u64;
        let here = self.segment == segment.header.number && pos >= self.start && pos.0 + 8 <= end;
        let len = if here { end - pos.0 } else { WINDOW.min(segment.end().0.saturating_sub(pos.0)) };
        self.get(segment, pos, len)
    }
}

impl Scanner {
    /// Starts at `pos` in segment `number`.
    pub(crate) fn begin(
        storage: &Arc<dyn Storage>,
        store: u128,
        salt: Salt,
        number: u64,
        pos: JournalPos,
    ) -> Result<Self, StorageError> {
        let missing = || {
            StorageError::corrupt(
                path_of(number),
                0,
                format!("journal segment {number}, which the super file or the control file names"),
                "no such file, or one with another header",
            )
        };
        let segment = JournalSegment::open(&**storage, store, number)?.ok_or_else(missing)?;
        if fails!("journal.segment.salt", segment.header.salt != salt)
            || pos < segment.header.start
            || pos > segment.end()
        {
            return Err(missing());
        }
        Ok(Self {
            storage: Arc::clone(storage),
            store,
            salt,
            segment,
            next: pos,
            window: Window::default(),
            sound: false,
            summed: 0,
        })
    }

    /// Declares that everything that was acknowledged is before the start position, and that no
    /// byte was lost since: an invalid entry is then the tail, and what follows need not be
    /// checked.
    #[must_use]
    pub(crate) fn behind_published(mut self) -> Self {
        self.sound = true;
        self
    }

    /// Returns the position after the entries read so far.
    pub(crate) fn position(&self) -> JournalPos {
        self.next
    }

    /// Returns the segment that would contain the next entry. The scanner can be used further.
    pub(crate) fn clone_segment(&self) -> JournalSegment {
        self.segment.clone()
    }

    /// Returns the segment that would contain the next entry.
    pub(crate) fn into_segment(self) -> JournalSegment {
        self.segment
    }

    /// Returns the next entry; `None` at the tail.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, StorageError> {
        loop {
            if let Some(found) = self.read(self.next)? {
                self.next.0 += found.header.len;
                return Ok(Some(found));
            }
            match self.following(&self.segment, self.next)? {
                // A segment was started exactly where this one ends: this one was synced as a whole
                // before that.
                Some(segment) => self.segment = segment,
                None => break,
            }
        }
        if !self.sound {
            self.detect_mid_log_corruption()?;
        }
        Ok(None)
    }

    /// Returns the entry at `pos` if it is complete and valid.
    fn read(&mut self, pos: JournalPos) -> Result<Option<Found>, StorageError> {
        let segment = &self.segment;
        let Some(head) = self.window.get(segment, pos, entry::HEADER as u64)? else { return Ok(None) };
        let Some(header) = Header::decode(head) else { return Ok(None) };
        if fails!("journal.entry.position", header.pos != pos)
            || fails!("journal.entry.salt", header.salt != self.salt)
        {
            return Ok(None);
        }
        let Some(bytes) = self.window.get(segment, pos, header.len)? else { return Ok(None) };
        self.summed += header.len;
        if !header.checks(bytes) {
            return Ok(None);
        }
        let segment = segment.header.number;
        Ok(Some(Found { header, bytes: self.window.take(pos, header.len), segment }))
    }

    /// Returns the next segment of this generation, if it starts exactly at `pos`.
    fn following(
        &self,
        segment: &JournalSegment,
        pos: JournalPos,
    ) -> Result<Option<JournalSegment>, StorageError> {
        let next = JournalSegment::open(&*self.storage, self.store, segment.header.number + 1)?;
        Ok(next.filter(|next| {
            holds!("journal.following.salt", next.header.salt == self.salt)
                && holds!("journal.following.start", next.header.start == pos)
        }))
    }

    /// Returns an error if data after the tail shows that the tail's position was durable.
    fn detect_mid_log_corruption(&mut self) -> Result<(), StorageError> {
        let (file, at_byte, tail) =
            (path_of(self.segment.header.number), self.next.0 - self.segment.header.start.0, self.next);
        let damaged = |witness: String| {
            StorageError::corrupt(
                file.as_str(),
                at_byte,
                "a journal entry that was acknowledged",
                format!("damaged bytes, while {witness}"),
            )
        };
        let mut pos = self.next;
        // Entries in a torn tail follow one another or, where two writers started at one position
        // and a power cut lost some sectors of each, are inside a few others, but not inside all of
        // them. This bounds the number of bytes to sum.
        let most = self.segment.header.len.saturating_mul(8).saturating_add(self.summed);
        while let Some(at) = self.next_magic(pos)? {
            if self.summed > most {
                return Err(damaged("what look like later entries overlap".to_owned()));
            }
            pos = match self.read(at)? {
                Some(found) if fails!("journal.rot.entry", found.header.durable > tail) => {
                    return Err(damaged(format!("the entry at position {at} is whole")));
                }
                Some(found) => JournalPos(at.0 + found.header.len),
                None => JournalPos(at.0 + 8),
            };
        }
        // A segment is started only after the one before it was synced, so its header alone is
        // proof.
        for number in numbers(&*self.storage)?.into_iter().filter(|&n| n > self.segment.header.number) {
            if let Some(later) = JournalSegment::open(&*self.storage, self.store, number)?
                && later.header.salt == self.salt
                && fails!("journal.rot.segment", later.header.start > tail)
            {
                return Err(damaged(format!("segment {number} begins after it")));
            }
        }
        Ok(())
    }

    /// Returns the next position at or after `pos` that holds the magic word, in steps of eight
    /// bytes.
    fn next_magic(&mut self, mut pos: JournalPos) -> Result<Option<JournalPos>, StorageError> {
        let end = self.segment.end();
        while pos < end {
            let Some(bytes) = self.window.some(&self.segment, pos)? else { return Ok(None) };
            let len = bytes.len() as u64;
            if let Some(index) = bytes.chunks_exact(8).position(|word| word == b"PJENTRY1") {
                return Ok(Some(JournalPos(pos.0 + 8 * index as u64)));
            }
            pos.0 += len;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{COMMIT, Journal, seal};
    use super::*;
    use crate::ids::Seq;
    use crate::storage::{MemoryStorage, PAGE};

    const STORE: u128 = 7;

    fn entry(salt: u64, pos: u64, seq: u64) -> Vec<u8> {
        let mut entry = vec![0; 128];
        seal(&mut entry, COMMIT, Salt(salt), JournalPos(pos), JournalPos(0), Seq(seq));
        entry
    }

    fn seqs(storage: &Arc<dyn Storage>) -> (Vec<u64>, u64) {
        let mut scanner = Scanner::begin(storage, STORE, Salt(2), 0, JournalPos(0)).unwrap();
        let mut seqs = Vec::new();
        while let Some(found) = scanner.next().unwrap() {
            seqs.push(found.header.seq.0);
        }
        (seqs, scanner.into_segment().header.number)
    }

    #[test]
    fn entries_of_earlier_generations_are_ignored() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let mut journal = Journal::create(&storage, STORE, Salt(2), PAGE).unwrap();
        journal.append(&entry(2, 0, 1)).unwrap();
        assert_eq!(seqs(&storage), (vec![1], 0));
        // At the position of the next entry: one with a right checksum, but of another position, or
        // of the previous generation.
        for (salt, pos) in [(2, 0), (2, 256), (1, 128)] {
            journal.file().write_at(&entry(salt, pos, 2), PAGE + 128).unwrap();
            assert_eq!(seqs(&storage), (vec![1], 0), "salt {salt}, position {pos}");
        }
        // A segment that starts exactly there, of another generation.
        journal.append(&entry(2, 128, 2)).unwrap();
        journal.salt = Salt(3);
        journal.roll(128, false).unwrap();
        assert_eq!(seqs(&storage), (vec![1, 2], 0));
        assert!(Scanner::begin(&storage, STORE, Salt(2), 1, JournalPos(256)).is_err());
    }

    /// Scans entries each of which extends to the segment's end and has an invalid checksum.
    /// Computing all their checksums could take arbitrarily long.
    #[test]
    fn overlapping_entries_are_damage() {
        const LEN: u64 = 256 << 10;
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let mut journal = Journal::create(&storage, STORE, Salt(2), LEN).unwrap();
        journal.append(&entry(2, 0, 1)).unwrap();
        let mut rest = Vec::new();
        for at in (128..LEN).step_by(64) {
            let mut whole = vec![0; (LEN - at) as usize];
            seal(&mut whole, COMMIT, Salt(2), JournalPos(at), JournalPos(0), Seq(2));
            rest.extend_from_slice(&whole[..56]);
            rest.extend_from_slice(&[0; 8]);
        }
        journal.file().write_at(&rest, PAGE + 128).unwrap();
        let mut scanner = Scanner::begin(&storage, STORE, Salt(2), 0, JournalPos(0)).unwrap();
        assert!(scanner.next().unwrap().is_some());
        let began = std::time::Instant::now();
        let found = scanner.next();
        println!("{:?}", began.elapsed());
        assert!(matches!(found, Err(StorageError::Corrupt(_))), "{found:?}");
    }
}
