//! A writable window for rows that are filled in place: zeroed bytes of a space after everything
//! that is applied.

use std::ops::Range;
use std::sync::Arc;

use super::chunk::HEADER;
use super::{BLOCK, Space};
use crate::error::StorageError;
use crate::guard::fails;
use crate::storage::{PAGE, Piece, WritableMap};

impl Space {
    /// Returns a zeroed, writable map of bytes `range` of the space. The range is not empty, and
    /// its chunks exist ([`Space::reserve_to`]).
    ///
    /// The map is plain memory, which the caller later writes to the space, if the storage's files
    /// cannot be mapped writable or if stores through a map may need disk space.
    ///
    /// # Safety
    /// As long as the map lives, no reference to these bytes is made through a view, no other code
    /// writes them, and their chunks are not forgotten: the bytes are at or above the applied
    /// length and above all rows that were appended, and the caller has the writer lock.
    pub(crate) unsafe fn writable_window(&self, range: &Range<u64>) -> Result<WritableMap, StorageError> {
        let mapping = || StorageError::io("mapping for writing", self.dir.as_str());
        let mut pieces = Vec::new();
        for chunk in self.chunks_of(range) {
            let from = (range.start / PAGE * PAGE).max(chunk.start);
            let to = range.end.next_multiple_of(PAGE).min(chunk.end());
            // Allocates the file's space. The map itself is made later, when few other files are
            // open.
            chunk.file_to_write(&*self.storage)?;
            let file = Arc::clone(chunk.reopened());
            pieces.push(Piece { file, offset: HEADER + from - chunk.start, len: to - from });
        }
        let first = (range.start % PAGE) as usize;
        let own = first..first + (range.end - range.start) as usize;
        if fails!("space.room", self.storage.stores_may_allocate()) {
            // With a map, the caller would have to handle a full disk at each store.
            return WritableMap::in_memory(own).map_err(mapping());
        }
        // SAFETY: the caller's promise covers the bytes; chunk files are never truncated.
        let map = unsafe { WritableMap::over(&*self.storage, &pieces, own.clone()) }.map_err(mapping())?;
        match map {
            Some(mut map) => {
                self.zero_window(&pieces, first as u64, map.bytes_mut())?;
                Ok(map)
            }
            None => WritableMap::in_memory(own).map_err(mapping()),
        }
    }

    /// Zeroes `bytes`, because an aborted transaction may have written there. They start at byte
    /// `first` of the pieces. For a large window, queries the files for the ranges that may hold
    /// data, so that fresh pages are not touched.
    fn zero_window(&self, pieces: &[Piece], first: u64, bytes: &mut [u8]) -> Result<(), StorageError> {
        if (bytes.len() as u64) < BLOCK {
            bytes.fill(0);
            return Ok(());
        }
        // The offset of the current piece's first byte relative to the first of `bytes`.
        let mut at = -(first as i64);
        let len = bytes.len() as i64;
        let looking = || StorageError::io("looking for data in", self.dir.as_str());
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
