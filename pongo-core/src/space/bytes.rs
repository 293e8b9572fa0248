//! The bytes of a space, whichever chunks they are in: writing, syncing and reading them, and
//! storing the checksums of their blocks.

use std::ops::Range;

use super::chunk::{HEADER, sum_of};
use super::{BLOCK, Space, SpaceView};
use crate::error::StorageError;
use crate::guard::removable;

impl Space {
    /// Writes bytes at `at`, where the chunks already exist ([`Space::reserve_to`]).
    pub(crate) fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let range = at..at + bytes.len() as u64;
        let mut written = at;
        for chunk in self.chunks_of(&range) {
            if chunk.start > written {
                break;
            }
            let end = chunk.end().min(range.end);
            let part = &bytes[(written - at) as usize..(end - at) as usize];
            chunk
                .file_to_write(&*self.storage)?
                .write_at(part, HEADER + written - chunk.start)
                .map_err(StorageError::io("writing", chunk.path.as_str()))?;
            written = end;
        }
        if written < range.end {
            return Err(StorageError::corrupt(
                self.dir.as_str(),
                written,
                format!("chunks up to byte {}", range.end),
                "none there",
            ));
        }
        Ok(())
    }

    /// Syncs every chunk that overlaps the range (`fdatasync`).
    pub(crate) fn sync(&self, range: &Range<u64>) -> Result<(), StorageError> {
        self.chunks_of(range).iter().try_for_each(|chunk| chunk.sync(&*self.storage))
    }

    /// Asks the kernel to start writing the range back.
    pub(crate) fn start_writeback(&self, range: &Range<u64>) {
        for chunk in self.chunks_of(range) {
            let (from, to) = (range.start.max(chunk.start), range.end.min(chunk.end()));
            if let Ok(file) = chunk.file(&*self.storage) {
                file.start_writeback(HEADER + from - chunk.start, to - from);
            }
        }
    }

    /// Reads bytes within one block of an existing chunk.
    pub(super) fn read_part(&self, part: &Range<u64>) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; (part.end - part.start) as usize];
        self.read_part_into(part.start, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_part_into(&self, at: u64, bytes: &mut [u8]) -> Result<(), StorageError> {
        let Some(chunk) = self.find_chunk(at)? else {
            let what = format!("a chunk with byte {at} of the space");
            return Err(StorageError::corrupt(self.dir.as_str(), at, what, "no such file"));
        };
        chunk
            .file(&*self.storage)?
            .read_at(bytes, HEADER + at - chunk.start)
            .map_err(StorageError::io("reading", chunk.path.as_str()))
    }

    /// Stores the checksums of the blocks in `[from, to)`, both multiples of [`BLOCK`], and syncs
    /// them and the names of their files. `known` returns the checksum of a block if it was
    /// computed when the block was written; the others are computed from the block's bytes, which
    /// are final.
    #[allow(unsafe_code, reason = "sums bytes below the applied length")]
    pub(crate) fn write_sums(
        &self,
        from: u64,
        to: u64,
        view: &SpaceView,
        known: impl Fn(u64) -> Option<u64>,
    ) -> Result<(), StorageError> {
        debug_assert!(from.is_multiple_of(BLOCK) && to.is_multiple_of(BLOCK));
        for chunk in self.chunks_of(&(from..to)) {
            let (first, last) = (from.max(chunk.start), to.min(chunk.end()));
            let mut sums = Vec::with_capacity(((last - first) / BLOCK) as usize);
            for block in (first..last).step_by(BLOCK as usize) {
                sums.push(match known(block) {
                    Some(sum) => sum,
                    // SAFETY: the block is below the applied length, and the caller holds the
                    // writer lock: the bytes were written and are not written again.
                    None => sum_of(unsafe { view.bytes(block, BLOCK) }?),
                });
            }
            chunk.write_sums(&*self.storage, (first - chunk.start) / BLOCK, &sums)?;
        }
        // Needed for existing files too: the process that created one may have crashed before this
        // step.
        removable!("sums.folder", self.sync_dir())
    }
}
