//! The checksum of an index that is not being written. It is written when a store is closed and
//! verified after it was opened again.
//!
//! ```text
//! words of the file `sum`:
//! magic | root | xxh3 of all segments in force and of the top | version stamp | xxh3 of the others
//! ```
//!
//! Entries change in place at every commit, so the checksum is not valid while the store is written
//! to.

use std::sync::Arc;

use pongo_core::guard::{holds, removable};
use pongo_core::storage::File;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::HashIndex;
use super::allocator::SegmentAllocator;
use super::error::{BoxedError, HashError};
use super::layout::{LINE, SEGMENT_WORDS};
use super::maps::HashFolder;

const NAME: &str = "sum";
const MAGIC: u64 = u64::from_le_bytes(*b"PONGOSUM");
const WORDS: usize = 5;

impl HashIndex {
    /// Verifies that the index is unchanged since [`sync`](Self::sync) last returned, and that
    /// `sync` was called with this `moment`. A checksum of another moment belongs to an index that
    /// is valid but does not match the rows. Must not be called while a writer is active.
    ///
    /// Costs one read of the whole index: about 2 ms for a million entries in memory.
    ///
    /// # Errors
    ///
    /// [`HashError::Damaged`] if the index has changed or has no valid checksum; [`HashError::Io`].
    pub fn verify(&self, moment: u64) -> Result<(), HashError> {
        let writer = self.writer()?;
        let expected = self.read_sum()?;
        let found = [writer.view.root.to_word(), writer.sum()?, moment];
        if holds!("hash.checksum", expected == Some(found)) {
            return Ok(());
        }
        let say = |[root, sum, moment]: [u64; 3]| {
            format!("root {root:x}, checksum {sum:016x}, synced at moment {moment:016x}")
        };
        let said = expected.map_or("no checksum".to_owned(), say);
        let what = format!("expected what `sum` says of it ({said}), found {}", say(found));
        Err(self.first.folder.damaged(what).into())
    }

    /// Writes the checksum. The caller must sync the folder.
    pub(super) fn write_sum(&self, writer: &SegmentAllocator<'_>, moment: u64) -> Result<(), BoxedError> {
        let folder = &self.first.folder;
        let path = folder.path(NAME);
        let file = prepare(folder)?;
        let bytes = encode([writer.view.root.to_word(), writer.sum()?, moment]);
        let write = |file: &dyn File| {
            file.write_at(&bytes, 0)?;
            removable!("hash.sum.sync", file.sync())
        };
        write(&*file).map_err(|error| HashError::io("write", &path, error))
    }

    fn read_sum(&self) -> Result<Option<[u64; 3]>, BoxedError> {
        let folder = &self.first.folder;
        let path = folder.path(NAME);
        let io = |error| HashError::io("read", &path, error);
        let file = match folder.storage.open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io)?,
        };
        if file.len().map_err(io)? < (WORDS * 8) as u64 {
            return Ok(None);
        }
        let mut bytes = [0; WORDS * 8];
        file.read_at(&mut bytes, 0).map_err(io)?;
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        let said = [words[1], words[2], words[3]];
        Ok(holds!("hash.sum.checksum", encode(said) == bytes).then_some(said))
    }
}

/// Opens or creates the checksum file with space for the checksum. It is created together with the
/// index, so that a store can be closed when its disk is full.
pub(super) fn prepare(folder: &HashFolder) -> Result<Arc<dyn File>, BoxedError> {
    let path = folder.path(NAME);
    let storage = &folder.storage;
    let file = match storage.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => storage.create(&path),
        opened => opened,
    }
    .map_err(|error| HashError::io("open", &path, error))?;
    if file.len().map_err(|error| HashError::io("measure", &path, error))? < (WORDS * 8) as u64 {
        file.write_at(&[0; WORDS * 8], 0).map_err(|error| HashError::io("write", &path, error))?;
    }
    Ok(file)
}

fn encode([root, sum, moment]: [u64; 3]) -> [u8; WORDS * 8] {
    let mut bytes = [0; WORDS * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip([MAGIC, root, sum, moment]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let check = xxh3_64(&bytes[..(WORDS - 1) * 8]);
    bytes[(WORDS - 1) * 8..].copy_from_slice(&check.to_le_bytes());
    bytes
}

impl SegmentAllocator<'_> {
    /// Returns the checksum of everything that a look-up reads, except the head.
    fn sum(&self) -> Result<u64, BoxedError> {
        let mut hasher = Xxh3::new();
        let mut bytes = vec![0; SEGMENT_WORDS * 8];
        self.for_each_segment(|_, number, segment| {
            for (line, to) in bytes.chunks_exact_mut(LINE * 8).enumerate() {
                put(segment.words.line(segment.base + line * LINE), to);
            }
            hasher.update(&number.to_le_bytes());
            hasher.update(&bytes);
        })?;
        let top = self.view.top;
        for at in (0..1_usize << self.view.root.bits).step_by(LINE) {
            let to = &mut bytes[..LINE * 8];
            put(top.line(at), to);
            hasher.update(to);
        }
        Ok(hasher.digest())
    }
}

fn put(line: [u64; LINE], to: &mut [u8]) {
    for (to, word) in to.chunks_exact_mut(8).zip(line) {
        to.copy_from_slice(&word.to_le_bytes());
    }
}
