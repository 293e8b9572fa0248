//! Room for rows that are filled in place: bytes of a space behind everything that is applied, zeroed and writable.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::HEADER;
use super::{BLOCK, Space};
use crate::error::Fault;
use crate::guard::fails;
use crate::storage::{PAGE, Piece, WritableMap};

impl Space {
    /// Bytes `range` of the space, all zero; not empty, and the chunks are there ([`Space::reserve_to`]). Of a storage whose
    /// files cannot be mapped writable, or where stores to a map may need space, it is memory, which the caller writes to the
    /// space in the end.
    ///
    /// # Safety
    /// As long as the map lives, no reference to these bytes is made through a view, nobody writes them, and their chunks
    /// are not forgotten: they lie at or above the applied length and above all rows that were appended, and the caller has
    /// the writer lock.
    pub(crate) unsafe fn room(&self, range: &Range<u64>) -> Result<WritableMap, Fault> {
        let mapping = || Fault::io("mapping for writing", self.dir.as_str());
        let mut pieces = Vec::new();
        for chunk in self.chunks_of(range) {
            let from = (range.start / PAGE * PAGE).max(chunk.start);
            let to = range.end.next_multiple_of(PAGE).min(chunk.end());
            // Its space is set aside; the map is made when few others are open.
            chunk.file_to_write(&*self.storage)?;
            let file = Arc::clone(chunk.reopened());
            pieces.push(Piece { file, offset: HEADER + from - chunk.start, len: to - from });
        }
        let first = (range.start % PAGE) as usize;
        let own = first..first + (range.end - range.start) as usize;
        if fails!("space.room", self.storage.stores_may_take_space()) {
            // The caller would have to hear of a full disk at each of his stores.
            return WritableMap::in_memory(own).map_err(mapping());
        }
        // SAFETY: the caller's promise; chunk files are never truncated.
        let map = unsafe { WritableMap::over(&*self.storage, &pieces, own.clone()) }.map_err(mapping())?;
        match map {
            Some(mut map) => {
                self.clear_room(&pieces, first as u64, map.bytes_mut())?;
                Ok(map)
            }
            None => WritableMap::in_memory(own).map_err(mapping()),
        }
    }

    /// Zeroes `bytes`, which lie in the pieces from byte `first` on: an aborted transaction may have written there. In a
    /// large room the files are asked where something was ever written, so that fresh pages are not touched here.
    fn clear_room(&self, pieces: &[Piece], first: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        if (bytes.len() as u64) < BLOCK {
            bytes.fill(0);
            return Ok(());
        }
        // Where a piece's first byte lies, counted from the first of `bytes`.
        let mut at = -(first as i64);
        let len = bytes.len() as i64;
        let looking = || Fault::io("looking for data in", self.dir.as_str());
        for piece in pieces {
            let file = piece.file.file(&*self.storage).map_err(looking())?;
            let place = |offset: u64| (at + (offset - piece.offset) as i64).clamp(0, len) as usize;
            let end = piece.offset + piece.len;
            let mut from = piece.offset;
            while let Some(data) = file.next_data(from).map_err(looking())?
                && data.start < end
            {
                let data = data.start.max(from)..data.end.min(end);
                bytes[place(data.start)..place(data.end)].fill(0);
                from = data.end;
            }
            at += piece.len as i64;
        }
        Ok(())
    }
}
