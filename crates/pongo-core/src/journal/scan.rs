//! Finding the entries of a journal again, from a checkpoint on, and telling a torn tail from rot.
//!
//! An entry counts if it stands where it says it stands, carries the salt of the segment's generation, and its checksum
//! is right. Where the next one does not, the journal ends there — unless a later entry, itself right, says that the
//! journal was durable beyond this place when it was written: then an acknowledged entry is damaged.

use std::sync::Arc;

use super::entry::{self, Header};
use super::segment::{Segment, numbers, path_of};
use crate::error::Fault;
use crate::guard::{fails, holds};
use crate::ids::{JournalPos, Salt};
use crate::storage::Storage;

/// One entry, its checksum right.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) bytes: Vec<u8>,
    /// The segment it stands in.
    pub(crate) segment: u64,
}

/// Walks the entries of one generation.
#[derive(Debug)]
pub(crate) struct Scanner {
    storage: Arc<dyn Storage>,
    store: u128,
    salt: Salt,
    segment: Segment,
    next: JournalPos,
    window: Window,
    /// Whether nothing that was acknowledged can lie behind where this began.
    sound: bool,
    /// Bytes whose checksum was computed.
    summed: u64,
}

/// A stretch of one segment in memory, so that small entries cost no system call each.
#[derive(Debug, Default)]
struct Window {
    segment: u64,
    start: JournalPos,
    bytes: Vec<u8>,
}

const WINDOW: u64 = 1 << 20;

impl Window {
    /// `len` bytes at `pos`; `None` if the segment does not reach so far.
    fn get(&mut self, segment: &Segment, pos: JournalPos, len: u64) -> Result<Option<&[u8]>, Fault> {
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

    /// The `len` bytes at `pos` that [`get`](Self::get) returned last: those of a long entry without a copy.
    fn take(&mut self, pos: JournalPos, len: u64) -> Vec<u8> {
        if pos == self.start && len >= WINDOW {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.truncate(len as usize);
            return bytes;
        }
        let at = (pos.0 - self.start.0) as usize;
        self.bytes[at..at + len as usize].to_vec()
    }

    /// As many bytes at `pos` as are in memory or can be had at once: at least a word, unless the segment ends there.
    fn some(&mut self, segment: &Segment, pos: JournalPos) -> Result<Option<&[u8]>, Fault> {
        let end = self.start.0 + self.bytes.len() as u64;
        let here = self.segment == segment.header.number && pos >= self.start && pos.0 + 8 <= end;
        let len = if here { end - pos.0 } else { WINDOW.min(segment.end().0.saturating_sub(pos.0)) };
        self.get(segment, pos, len)
    }
}

impl Scanner {
    /// Begins at `pos` in segment `number`.
    pub(crate) fn begin(
        storage: &Arc<dyn Storage>,
        store: u128,
        salt: Salt,
        number: u64,
        pos: JournalPos,
    ) -> Result<Self, Fault> {
        let missing = || {
            Fault::corrupt(
                path_of(number),
                0,
                format!("journal segment {number}, which the super file or the control file names"),
                "no such file, or one with another header",
            )
        };
        let segment = Segment::open(&**storage, store, number)?.ok_or_else(missing)?;
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

    /// Everything that was acknowledged lies before where this begins, and no byte was lost since: what does not check is
    /// the tail, and what is behind it need not be looked at.
    #[must_use]
    pub(crate) fn behind_published(mut self) -> Self {
        self.sound = true;
        self
    }

    /// Where the entries read so far end.
    pub(crate) fn position(&self) -> JournalPos {
        self.next
    }

    /// The segment in which the next entry would stand; the scanner goes on.
    pub(crate) fn clone_segment(&self) -> Segment {
        self.segment.clone()
    }

    /// The segment in which the next entry would stand.
    pub(crate) fn into_segment(self) -> Segment {
        self.segment
    }

    /// The next entry; `None` at the tail.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, Fault> {
        loop {
            if let Some(found) = self.read(self.next)? {
                self.next.0 += found.header.len;
                return Ok(Some(found));
            }
            match self.following(&self.segment, self.next)? {
                // A segment was begun exactly where this one ends: its predecessor was synced whole before that.
                Some(segment) => self.segment = segment,
                None => break,
            }
        }
        if !self.sound {
            self.refuse_rot()?;
        }
        Ok(None)
    }

    /// The entry at `pos`, if a whole and right one stands there.
    fn read(&mut self, pos: JournalPos) -> Result<Option<Found>, Fault> {
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

    /// The next segment of this generation, if it begins exactly at `pos`.
    fn following(&self, segment: &Segment, pos: JournalPos) -> Result<Option<Segment>, Fault> {
        let next = Segment::open(&*self.storage, self.store, segment.header.number + 1)?;
        Ok(next.filter(|next| {
            holds!("journal.following.salt", next.header.salt == self.salt)
                && holds!("journal.following.start", next.header.start == pos)
        }))
    }

    /// Errs if something behind the tail says that the tail's place was durable.
    fn refuse_rot(&mut self) -> Result<(), Fault> {
        let (file, at_byte, tail) =
            (path_of(self.segment.header.number), self.next.0 - self.segment.header.start.0, self.next);
        let damaged = |witness: String| {
            Fault::corrupt(
                file.as_str(),
                at_byte,
                "a journal entry that was acknowledged",
                format!("damaged bytes, while {witness}"),
            )
        };
        let mut pos = self.next;
        // What a torn tail has in it lies one behind the other, or, where two writers began at one place and the power took
        // some sectors of each, in a few others: not in all of them.
        let most = self.segment.header.len.saturating_mul(8).saturating_add(self.summed);
        while let Some(at) = self.next_magic(pos)? {
            if self.summed > most {
                return Err(damaged("what looks like entries behind it lies in one another".to_owned()));
            }
            pos = match self.read(at)? {
                Some(found) if fails!("journal.rot.entry", found.header.durable > tail) => {
                    return Err(damaged(format!("the entry at position {at} is whole")));
                }
                Some(found) => JournalPos(at.0 + found.header.len),
                None => JournalPos(at.0 + 8),
            };
        }
        // A segment is begun only after the one before it was synced, so its header alone is a witness.
        for number in numbers(&*self.storage)?.into_iter().filter(|&n| n > self.segment.header.number) {
            if let Some(later) = Segment::open(&*self.storage, self.store, number)?
                && later.header.salt == self.salt
                && fails!("journal.rot.segment", later.header.start > tail)
            {
                return Err(damaged(format!("segment {number} begins behind it")));
            }
        }
        Ok(())
    }

    /// The next place at or behind `pos` where the magic word stands, in steps of eight bytes.
    fn next_magic(&mut self, mut pos: JournalPos) -> Result<Option<JournalPos>, Fault> {
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
    fn what_an_earlier_life_or_generation_left_does_not_count() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let mut journal = Journal::create(&storage, STORE, Salt(2), PAGE).unwrap();
        journal.append(&entry(2, 0, 1)).unwrap();
        assert_eq!(seqs(&storage), (vec![1], 0));
        // Where the next entry would stand: one with a right checksum, of another place, or of the generation before.
        for (salt, pos) in [(2, 0), (2, 256), (1, 128)] {
            journal.file().write_at(&entry(salt, pos, 2), PAGE + 128).unwrap();
            assert_eq!(seqs(&storage), (vec![1], 0), "salt {salt}, position {pos}");
        }
        // A segment that begins right there, of another generation.
        journal.append(&entry(2, 128, 2)).unwrap();
        journal.salt = Salt(3);
        journal.roll(128, false).unwrap();
        assert_eq!(seqs(&storage), (vec![1, 2], 0));
        assert!(Scanner::begin(&storage, STORE, Salt(2), 1, JournalPos(256)).is_err());
    }

    /// Each looks like an entry that goes on to the segment's end, but for its checksum: to compute them all would take as long
    /// as anyone likes.
    #[test]
    fn entries_that_lie_in_one_another_are_damage() {
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
        assert!(matches!(found, Err(Fault::Corrupt(_))), "{found:?}");
    }
}
