//! The body of a commit entry: sections, each with a tag, its length in bytes and its content. A
//! section that references bytes in the chunks is followed by one with their checksums.
//!
//! Decoding trusts nothing: lengths are checked against the available bytes before memory is
//! allocated for them.

use std::borrow::Cow;
use std::ops::Range;

use super::entry::{HEADER, PIECE, begin};
use crate::codec::{ByteReader, Put};
use crate::ids::{HeapAddr, RowId, TableId};
use crate::space::blocks_of;

const SECTION_TABLE: u64 = 1;
const SECTION_ROWS: u64 = 2;
const SECTION_HEAP: u64 = 3;
/// Checksums of the bytes that the preceding section references.
const SECTION_SUMS: u64 = 4;

/// A table that this commit creates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NewTable {
    pub(crate) table: TableId,
    pub(crate) fingerprint: u128,
}

/// New and deleted rows of one table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RowsPart<'a> {
    pub(crate) table: TableId,
    pub(crate) row_size: u64,
    /// The first new row.
    pub(crate) first: RowId,
    /// Number of new rows that are already in the chunks, synced. They come first.
    pub(crate) referenced: u64,
    /// A checksum for each block that those rows touch, of their bytes in it. Empty in entries of
    /// format version 1.
    pub(crate) sums: Vec<u64>,
    /// New rows that the entry itself contains.
    pub(crate) inline: &'a [u8],
    /// Pairs of a new row and the row it replaced.
    pub(crate) previous: Cow<'a, [(RowId, RowId)]>,
    /// Rows that this commit deletes, those replaced included.
    pub(crate) deleted_rows: Cow<'a, [RowId]>,
}

impl RowsPart<'_> {
    /// Returns the number of rows that this part adds.
    pub(crate) fn count(&self) -> u64 {
        self.referenced + self.inline.len() as u64 / self.row_size
    }

    /// Returns the bytes of the table's space that the referenced rows take.
    pub(crate) fn referenced_bytes(&self) -> Range<u64> {
        self.first.0 * self.row_size..(self.first.0 + self.referenced) * self.row_size
    }
}

/// New bytes of the heap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HeapPart<'a> {
    pub(crate) first: HeapAddr,
    /// Number of bytes that are already in the chunks, synced. They come first.
    pub(crate) referenced: u64,
    /// A checksum for each block that those bytes touch, as in [`RowsPart::sums`].
    pub(crate) sums: Vec<u64>,
    pub(crate) inline: &'a [u8],
}

impl HeapPart<'_> {
    /// Returns the bytes of the heap's space that are referenced.
    pub(crate) fn referenced_bytes(&self) -> Range<u64> {
        self.first.0..self.first.0 + self.referenced
    }
}

/// The content of a commit entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Commit<'a> {
    pub(crate) new_tables: Vec<NewTable>,
    pub(crate) rows: Vec<RowsPart<'a>>,
    pub(crate) heap: Option<HeapPart<'a>>,
}

impl<'a> Commit<'a> {
    /// Encodes the entry. The header is still zero.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() as usize);
        out.resize(HEADER, 0);
        let whole: Result<(), core::convert::Infallible> = self.encode_body(&mut out, &mut |_| Ok(()));
        let Ok(()) = whole;
        debug_assert_eq!(out.len() as u64, self.len());
        out
    }

    /// Returns the length of the entry in bytes.
    pub(crate) fn len(&self) -> u64 {
        let with_sums = |sums: &[u64]| if sums.is_empty() { 0 } else { 16 + 8 * sums.len() as u64 };
        let rows = |part: &RowsPart<'_>| {
            let lists = 16 * part.previous.len() as u64 + 8 * part.deleted_rows.len() as u64;
            72 + lists + part.inline.len().next_multiple_of(8) as u64 + with_sums(&part.sums)
        };
        let heap =
            |heap: &HeapPart<'_>| 40 + heap.inline.len().next_multiple_of(8) as u64 + with_sums(&heap.sums);
        HEADER as u64
            + 40 * self.new_tables.len() as u64
            + self.rows.iter().map(rows).sum::<u64>()
            + self.heap.as_ref().map_or(0, heap)
    }

    /// Passes the entry to `take` in pieces of about [`PIECE`] bytes, in order. The first piece
    /// starts with a header of zeros.
    ///
    /// # Errors
    /// The error of `take`.
    pub(crate) fn encode_in_pieces<E>(
        &self,
        mut take: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut out = begin();
        self.encode_body(&mut out, &mut |out| {
            if out.len() >= PIECE {
                take(out)?;
                out.clear();
            }
            Ok(())
        })?;
        if out.is_empty() { Ok(()) } else { take(&mut out) }
    }

    /// Appends the body to `out`. From time to time calls `full`, which may consume the bytes in
    /// `out`.
    fn encode_body<E>(
        &self,
        out: &mut Vec<u8>,
        full: &mut impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        /// Number of list elements between two calls of `full`.
        const SOME: usize = 4096;
        for new in &self.new_tables {
            out.put_u64(SECTION_TABLE);
            out.put_u64(24);
            out.put_u64(u64::from(new.table.0));
            out.put_u128(new.fingerprint);
        }
        for part in &self.rows {
            out.put_u64(SECTION_ROWS);
            let padded = part.inline.len().next_multiple_of(8) as u64;
            let (previous, deleted_rows) = (part.previous.len() as u64, part.deleted_rows.len() as u64);
            out.put_u64(8 * 7 + 16 * previous + 8 * deleted_rows + padded);
            out.put_u64(u64::from(part.table.0));
            out.put_u64(part.row_size);
            out.put_u64(part.first.0);
            out.put_u64(part.referenced);
            out.put_u64(part.inline.len() as u64);
            out.put_u64(previous);
            out.put_u64(deleted_rows);
            for some in part.previous.chunks(SOME) {
                for (row, before) in some {
                    out.put_u64(row.0);
                    out.put_u64(before.0);
                }
                full(out)?;
            }
            for some in part.deleted_rows.chunks(SOME) {
                some.iter().for_each(|row| out.put_u64(row.0));
                full(out)?;
            }
            out.put_padded(part.inline);
            encode_sums(out, &part.sums);
            full(out)?;
        }
        if let Some(heap) = &self.heap {
            out.put_u64(SECTION_HEAP);
            out.put_u64(8 * 3 + heap.inline.len().next_multiple_of(8) as u64);
            out.put_u64(heap.first.0);
            out.put_u64(heap.referenced);
            out.put_u64(heap.inline.len() as u64);
            out.put_padded(heap.inline);
            encode_sums(out, &heap.sums);
        }
        full(out)
    }

    /// Decodes a whole entry whose checksum was right. Returns `None` if its content is invalid
    /// nevertheless.
    pub(crate) fn decode(entry: &'a [u8]) -> Option<Self> {
        let mut reader = ByteReader::new(entry);
        reader.take(HEADER)?;
        let mut commit = Self::default();
        let mut before = 0;
        while !reader.is_empty() {
            let tag = reader.u64()?;
            let len = reader.u64()?;
            let mut section = ByteReader::new(reader.take_padded(len)?);
            match tag {
                SECTION_TABLE => commit.new_tables.push(NewTable {
                    table: TableId(section.u64()?.try_into().ok()?),
                    fingerprint: section.u128()?,
                }),
                SECTION_ROWS => commit.rows.push(decode_rows(&mut section)?),
                SECTION_HEAP => {
                    let first = HeapAddr(section.u64()?);
                    let referenced = section.u64()?;
                    let inline = section.u64()?;
                    first.0.checked_add(referenced)?;
                    let inline = section.take_padded(inline)?;
                    commit.heap = Some(HeapPart { first, referenced, sums: Vec::new(), inline });
                }
                SECTION_SUMS => {
                    let (bytes, sums) = match before {
                        SECTION_ROWS => {
                            let part = commit.rows.last_mut()?;
                            (part.referenced_bytes(), &mut part.sums)
                        }
                        SECTION_HEAP => {
                            let part = commit.heap.as_mut()?;
                            (part.referenced_bytes(), &mut part.sums)
                        }
                        _ => return None,
                    };
                    let count = blocks_of(&bytes);
                    if count == 0 || count.checked_mul(8)? != len {
                        return None;
                    }
                    sums.reserve_exact(count as usize);
                    for _ in 0..count {
                        sums.push(section.u64()?);
                    }
                }
                _ => return None,
            }
            if !section.is_empty() {
                return None;
            }
            before = tag;
        }
        Some(commit)
    }
}

fn encode_sums(out: &mut Vec<u8>, sums: &[u64]) {
    if sums.is_empty() {
        return;
    }
    out.put_u64(SECTION_SUMS);
    out.put_u64(8 * sums.len() as u64);
    sums.iter().for_each(|&sum| out.put_u64(sum));
}

fn decode_rows<'a>(section: &mut ByteReader<'a>) -> Option<RowsPart<'a>> {
    let table = TableId(section.u64()?.try_into().ok()?);
    let row_size = section.u64()?;
    let first = RowId(section.u64()?);
    let referenced = section.u64()?;
    let inline = section.u64()?;
    let previous = usize::try_from(section.u64()?).ok()?;
    let deleted_rows = usize::try_from(section.u64()?).ok()?;
    let needed = previous.checked_mul(16)?.checked_add(deleted_rows.checked_mul(8)?)?;
    if needed > section.remaining() || row_size == 0 || inline % row_size != 0 {
        return None;
    }
    first.0.checked_add(referenced)?.checked_add(inline / row_size)?.checked_mul(row_size)?;
    let mut replaced = Vec::with_capacity(previous);
    for _ in 0..previous {
        replaced.push((RowId(section.u64()?), RowId(section.u64()?)));
    }
    let mut dead = Vec::with_capacity(deleted_rows);
    for _ in 0..deleted_rows {
        dead.push(RowId(section.u64()?));
    }
    Some(RowsPart {
        table,
        row_size,
        first,
        referenced,
        sums: Vec::new(),
        inline: section.take_padded(inline)?,
        previous: replaced.into(),
        deleted_rows: dead.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::Checkpoint;
    use super::super::entry::{COMMIT, Header, Sealing, seal};
    use super::*;
    use crate::codec::LIMIT;
    use crate::ids::{JournalPos, Salt, Seq};
    use crate::space::BLOCK;

    fn sample(rows: &[u8]) -> Commit<'_> {
        Commit {
            new_tables: vec![NewTable { table: TableId(3), fingerprint: 77 }],
            rows: vec![RowsPart {
                table: TableId(3),
                row_size: 12,
                first: RowId(5),
                referenced: 2,
                sums: vec![11],
                inline: rows,
                previous: vec![(RowId(7), RowId(1))].into(),
                deleted_rows: vec![RowId(1), RowId(2)].into(),
            }],
            heap: Some(HeapPart {
                first: HeapAddr(64),
                referenced: 2 * BLOCK,
                sums: vec![1, 2, 3],
                inline: b"hello",
            }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let rows = [9; 36];
        let commit = sample(&rows);
        let mut entry = commit.encode();
        seal(&mut entry, COMMIT, Salt(1), JournalPos(4096), JournalPos(0), Seq(9));
        let header = Header::decode(&entry).unwrap();
        assert!(header.checks(&entry));
        assert_eq!((header.seq, header.pos, header.kind), (Seq(9), JournalPos(4096), COMMIT));
        assert_eq!(Commit::decode(&entry).unwrap(), commit);
        assert_eq!(commit.rows[0].count(), 5);
    }

    /// Decodes entries as format version 1 wrote them, which is needed so that a store of that
    /// version can be upgraded.
    #[test]
    fn entries_without_cited_checksums_are_read() {
        let rows = [9; 36];
        let mut commit = sample(&rows);
        commit.rows[0].sums.clear();
        commit.heap.as_mut().unwrap().sums.clear();
        assert_eq!(Commit::decode(&commit.encode()), Some(commit));
    }

    /// Rejects one checksum too few or too many, or checksums after a section that references
    /// nothing.
    #[test]
    fn mismatched_cited_checksums_are_rejected() {
        let rows = [9; 36];
        for (of_rows, of_heap) in [(0, 2), (0, 4), (2, 3), (2, 0)] {
            let mut commit = sample(&rows);
            commit.rows[0].sums = vec![7; of_rows];
            commit.heap.as_mut().unwrap().sums = vec![7; of_heap];
            assert_eq!(Commit::decode(&commit.encode()), None, "{of_rows} and {of_heap}");
        }
        let mut commit = sample(&rows);
        commit.rows[0].referenced = 0;
        assert_eq!(Commit::decode(&commit.encode()), None);
        let mut commit = sample(&rows);
        (commit.rows, commit.heap) = (Vec::new(), None);
        let mut entry = commit.encode();
        encode_sums(&mut entry, &[7]);
        assert_eq!(Commit::decode(&entry), None);
    }

    #[test]
    fn entry_in_pieces_equals_whole() {
        let rows = vec![9; 36 << 10];
        let mut commit = sample(&rows);
        let many = (PIECE / 4) as u64;
        commit.rows[0].previous = (0..many).map(|row| (RowId(row + many), RowId(row))).collect();
        commit.rows[0].deleted_rows = (0..many).map(RowId).collect();
        commit.rows.push(sample(&[]).rows.remove(0));
        let mut whole = commit.encode();
        seal(&mut whole, COMMIT, Salt(1), JournalPos(4096), JournalPos(7), Seq(9));
        let mut sealing = Sealing::new(Header::decode(&whole).unwrap());
        let mut pieces = 0;
        let added: Result<(), ()> = commit.encode_in_pieces(|piece| {
            pieces += 1;
            assert!(piece.len() < PIECE + (1 << 17));
            sealing.add(piece);
            Ok(())
        });
        added.unwrap();
        let mut header = Some(sealing.header());
        let mut joined = Vec::new();
        let written: Result<(), ()> = commit.encode_in_pieces(|piece| {
            if let Some(header) = header.take() {
                piece[..HEADER].copy_from_slice(&header);
            }
            joined.extend_from_slice(piece);
            Ok(())
        });
        written.unwrap();
        assert!(pieces > 4);
        assert!(joined == whole, "the same bytes");
        assert_eq!(commit.encode_in_pieces(|_| Err("no space")), Err("no space"));
    }

    #[test]
    fn last_possible_seq_is_rejected() {
        for (seq, is_one) in [(0, true), (LIMIT - 1, true), (LIMIT, false), (u64::MAX, false)] {
            let mut entry = sample(&[9; 36]).encode();
            seal(&mut entry, COMMIT, Salt(1), JournalPos(0), JournalPos(0), Seq(seq));
            assert_eq!(Header::decode(&entry).is_some(), is_one, "Seq {seq}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let rows = [9; 36];
        let mut entry = sample(&rows).encode();
        seal(&mut entry, COMMIT, Salt(1), JournalPos(4096), JournalPos(0), Seq(9));
        for bit in 0..entry.len() * 8 {
            entry[bit / 8] ^= 1 << (bit % 8);
            assert!(!Header::decode(&entry).is_some_and(|header| header.checks(&entry)), "bit {bit}");
            // Decoding an entry with a wrong checksum must not panic either.
            let _ = Commit::decode(&entry);
            let _ = Checkpoint::decode(&entry);
            entry[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
