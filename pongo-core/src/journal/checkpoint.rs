//! The body of a checkpoint entry: the states of the tables and of the heap.
//!
//! Decoding trusts nothing: lengths are checked against the available bytes before memory is
//! allocated for them.

use super::entry::{HEADER, begin};
use crate::codec::{ByteReader, LIMIT, Put};
use crate::ids::ChunkId;
use crate::state::{HeapState, MAX_TABLES, TableState};

/// A table in a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct CheckpointTable {
    pub(crate) state: TableState,
    pub(crate) fingerprint: u128,
    /// Checksum of the row bytes from `state.summed` to the table's end.
    pub(crate) tail_sum: u64,
    /// Chunks that have marks, in order, with the checksum of those marks ([`crate::baseline`]).
    pub(crate) marks: Vec<(ChunkId, u64)>,
}

/// The heap in a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CheckpointHeap {
    pub(crate) state: HeapState,
    /// Checksum of the bytes from `state.summed` to the heap's end.
    pub(crate) tail_sum: u64,
}

/// The content of a checkpoint entry: everything up to its `Seq` is in the chunks and marks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Checkpoint {
    /// Whether the store was closed cleanly: the hash index is as durable as the rows.
    pub(crate) clean: bool,
    pub(crate) heap: CheckpointHeap,
    pub(crate) tables: Vec<CheckpointTable>,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = begin();
        out.put_u64(u64::from(self.clean));
        out.put_u64(self.heap.state.len);
        out.put_u64(self.heap.state.summed);
        out.put_u64(self.heap.tail_sum);
        out.put_u64(self.tables.len() as u64);
        for table in &self.tables {
            out.put_u64(table.state.len);
            out.put_u64(table.state.live);
            out.put_u64(table.state.summed);
            out.put_u64(table.tail_sum);
            out.put_u128(table.fingerprint);
            out.put_u64(table.marks.len() as u64);
            for &(chunk, sum) in &table.marks {
                out.put_u64(chunk.0);
                out.put_u64(sum);
            }
        }
        out
    }

    pub(crate) fn decode(entry: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(entry);
        reader.take(HEADER)?;
        let clean = reader.u64()? == 1;
        let heap = CheckpointHeap {
            state: HeapState { len: reader.u64()?, summed: reader.u64()? },
            tail_sum: reader.u64()?,
        };
        let count = usize::try_from(reader.u64()?).ok()?;
        if count > MAX_TABLES {
            return None;
        }
        let mut tables = Vec::with_capacity(count);
        for _ in 0..count {
            tables.push(CheckpointTable {
                state: TableState { len: reader.u64()?, live: reader.u64()?, summed: reader.u64()? },
                tail_sum: reader.u64()?,
                fingerprint: reader.u128()?,
                marks: decode_marks(&mut reader)?,
            });
        }
        let sane = |state: &TableState| state.len < LIMIT && state.live <= state.len && state.summed < LIMIT;
        let sane = tables.iter().all(|table| sane(&table.state))
            && heap.state.len < LIMIT
            && heap.state.summed < LIMIT;
        (reader.is_empty() && sane).then_some(Self { clean, heap, tables })
    }
}

fn decode_marks(reader: &mut ByteReader<'_>) -> Option<Vec<(ChunkId, u64)>> {
    let count = usize::try_from(reader.u64()?).ok()?;
    if count.checked_mul(16)? > reader.remaining() {
        return None;
    }
    let mut marks = Vec::with_capacity(count);
    for _ in 0..count {
        marks.push((ChunkId(reader.u64()?), reader.u64()?));
    }
    marks.is_sorted_by(|a, b| a.0 < b.0).then_some(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_round_trips() {
        let table = |chunks: &[u64]| CheckpointTable {
            state: TableState { len: 9, live: 4, summed: 65536 },
            fingerprint: 77,
            tail_sum: 5,
            marks: chunks.iter().map(|&chunk| (ChunkId(chunk), chunk * 3)).collect(),
        };
        let checkpoint = |tables| Checkpoint { clean: true, tables, ..Checkpoint::default() };
        let right = checkpoint(vec![table(&[]), table(&[0, 1, 9]), table(&[4])]);
        let entry = right.encode();
        assert!(entry.len().is_multiple_of(8));
        assert_eq!(Checkpoint::decode(&entry), Some(right));
        for twice_or_out_of_order in [[1, 1], [2, 1]] {
            assert_eq!(Checkpoint::decode(&checkpoint(vec![table(&twice_or_out_of_order)]).encode()), None);
        }
        let mut endless = checkpoint(vec![table(&[])]).encode();
        let count = endless.len() - 8;
        endless[count..].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Checkpoint::decode(&endless), None);
    }
}
