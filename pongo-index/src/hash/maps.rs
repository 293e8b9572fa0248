//! The memory-mapped files of one epoch. Each file is mapped at its first use.
//!
//! An epoch is one build of the index: its files carry its number and are never resized. A mapped
//! file stays mapped for the lifetime of the handle. The table of maps only grows, so a reader
//! needs no lock to use it. No file stays open: a map holds everything that its sync needs.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use pongo_core::guard::removable;
use pongo_core::storage::{AtomicWords, PAGE, Storage};

use super::error::{BoxedError, HashError};
use super::layout::{MAX_PIECES, MAX_TOP_BITS, SEGMENT_WORDS, piece_segments, place};
use super::segment::Segment;

/// The folder of an index.
#[derive(Clone, Debug)]
pub(super) struct HashFolder {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: String,
}

impl HashFolder {
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> BoxedError {
        Box::new(HashError::Damaged { dir: self.dir.clone(), what: what.into() })
    }
}

/// A mapped file.
#[derive(Debug)]
struct Mapped {
    words: AtomicWords,
    /// Whether this process knows that the file's space is fully allocated.
    preallocated: AtomicBool,
}

impl Mapped {
    /// Allocates the file's space. *Writer.*
    ///
    /// A copy of a store can have holes where the original had zeros, or share blocks with it. A
    /// store into such a block on a full disk raises a signal. The file is opened only for the
    /// allocation. Where it overwrites zeros with zeros, a failed write-back is reported to the
    /// map's open file, which was opened earlier.
    fn preallocate(&self, storage: &dyn Storage, path: impl FnOnce() -> String) -> Result<(), BoxedError> {
        if !self.preallocated.load(Ordering::Relaxed) {
            let path = path();
            let bytes = (self.words.len() * size_of::<u64>()) as u64;
            storage
                .open(&path)
                .and_then(|file| file.allocate(0, bytes))
                .map_err(|error| HashError::io("allocate space in", &path, error))?;
            self.preallocated.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Returns a number of pieces and a number of top bits as one number, which is not 0.
fn packed(pieces: usize, bits: u32) -> u64 {
    (pieces as u64 + 1) << 32 | u64::from(bits)
}

/// The maps of one epoch.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) folder: HashFolder,
    pub(super) epoch: u32,
    pieces: [OnceLock<Mapped>; MAX_PIECES],
    tops: [OnceLock<Mapped>; MAX_TOP_BITS as usize + 1],
    /// The arguments of the last successful [`preallocate`](Self::preallocate),
    /// `packed(pieces, bits)`, or 0.
    all_set_aside: AtomicU64,
    /// The next epoch that this handle has found in the root.
    later: OnceLock<Box<Maps>>,
}

impl Maps {
    pub(super) fn new(folder: HashFolder, epoch: u32) -> Maps {
        Maps {
            folder,
            epoch,
            pieces: [const { OnceLock::new() }; MAX_PIECES],
            tops: [const { OnceLock::new() }; MAX_TOP_BITS as usize + 1],
            all_set_aside: AtomicU64::new(0),
            later: OnceLock::new(),
        }
    }

    /// Returns the maps of the next epoch that this handle found. If it has found none yet, the
    /// next epoch becomes `epoch`.
    pub(super) fn later(&self, epoch: u32) -> &Maps {
        self.later.get_or_init(|| Box::new(Maps::new(self.folder.clone(), epoch)))
    }

    pub(super) fn piece_name(epoch: u32, piece: usize) -> String {
        format!("{epoch}-{piece}.piece")
    }

    pub(super) fn top_name(epoch: u32, bits: u32) -> String {
        format!("{epoch}-{bits}.top")
    }

    /// Returns the epoch in a file name of an index.
    pub(super) fn epoch_of(name: &str) -> Option<u32> {
        let (epoch, rest) = name.split_once('-')?;
        let (number, kind) = rest.split_once('.')?;
        let known = matches!(kind, "piece" | "top") && number.parse::<u32>().is_ok();
        if known { epoch.parse().ok() } else { None }
    }

    fn piece_bytes(piece: usize) -> u64 {
        // The size is a multiple of a page except for the small segments of a Loom model.
        (piece_segments(piece) * (SEGMENT_WORDS * size_of::<u64>()) as u64).next_multiple_of(PAGE)
    }

    fn top_bytes(bits: u32) -> u64 {
        ((size_of::<u64>() as u64) << bits).next_multiple_of(PAGE)
    }

    /// Returns the segment with this number, if its piece is already mapped.
    #[inline]
    pub(super) fn mapped_segment(&self, number: u32) -> Option<Segment<'_>> {
        let (piece, offset) = place(number);
        let mapped = self.pieces.get(piece)?.get()?;
        Some(Segment { words: &mapped.words, base: offset * SEGMENT_WORDS })
    }

    /// Returns the words of the top with `bits` bits, if it is already mapped.
    #[inline]
    pub(super) fn mapped_top(&self, bits: u32) -> Option<&AtomicWords> {
        Some(&self.tops.get(bits as usize)?.get()?.words)
    }

    /// Returns all words of piece `piece`. Maps the piece if necessary.
    #[inline]
    pub(super) fn piece(&self, piece: usize) -> Result<&AtomicWords, BoxedError> {
        match self.pieces.get(piece).map(OnceLock::get) {
            Some(Some(mapped)) => Ok(&mapped.words),
            Some(None) => {
                self.map(&self.pieces[piece], Self::piece_name(self.epoch, piece), Self::piece_bytes(piece))
            }
            None => Err(self
                .folder
                .damaged(format!("piece {piece} is named, {MAX_PIECES} are the most there can be"))),
        }
    }

    /// Returns the words of the top with `bits` bits, at least `1 << bits` of them. Maps the top if
    /// necessary. `bits` must come from a checked root.
    #[inline]
    pub(super) fn top(&self, bits: u32) -> Result<&AtomicWords, BoxedError> {
        let cell = &self.tops[bits as usize];
        match cell.get() {
            Some(mapped) => Ok(&mapped.words),
            None => self.map(cell, Self::top_name(self.epoch, bits), Self::top_bytes(bits)),
        }
    }

    /// Returns the segment with this number. Its words may have any value.
    #[inline]
    pub(super) fn segment(&self, number: u32) -> Result<Segment<'_>, BoxedError> {
        let (piece, offset) = place(number);
        Ok(Segment { words: self.piece(piece)?, base: offset * SEGMENT_WORDS })
    }

    #[cold]
    fn map<'a>(
        &self,
        cell: &'a OnceLock<Mapped>,
        name: String,
        bytes: u64,
    ) -> Result<&'a AtomicWords, BoxedError> {
        let path = self.folder.path(&name);
        self.folder.storage.check_maps();
        let file = match self.folder.storage.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(self.folder.damaged(format!("the file {name} is named and missing")));
            }
            Err(error) => return Err(HashError::io("open", &path, error)),
        };
        let found = file.len().map_err(|error| HashError::io("measure", &path, error))?;
        if found < bytes {
            return Err(self.folder.damaged(format!("{name} has {found} bytes, expected {bytes}")));
        }
        if self.folder.storage.hole_reads_allocate() {
            file.allocate(0, bytes).map_err(|error| HashError::io("allocate space in", &path, error))?;
        }
        let words = file.map_words(0, bytes).map_err(|error| HashError::io("map", &path, error))?;
        Ok(&cell.get_or_init(|| Mapped { words, preallocated: AtomicBool::new(false) }).words)
    }

    /// Makes sure that the first `pieces` pieces and the top with `bits` bits have all their space
    /// allocated. *Writer.*
    pub(super) fn preallocate(&self, pieces: usize, bits: u32) -> Result<(), BoxedError> {
        // Every commit calls this, but the arguments change only when a split adds a piece.
        if self.all_set_aside.load(Ordering::Relaxed) == packed(pieces, bits) {
            return Ok(());
        }
        let storage = &*self.folder.storage;
        for piece in 0..pieces {
            self.piece(piece)?;
            if let Some(mapped) = self.pieces[piece].get() {
                mapped.preallocate(storage, || self.folder.path(&Self::piece_name(self.epoch, piece)))?;
            }
        }
        self.top(bits)?;
        if let Some(mapped) = self.tops[bits as usize].get() {
            mapped.preallocate(storage, || self.folder.path(&Self::top_name(self.epoch, bits)))?;
        }
        self.all_set_aside.store(packed(pieces, bits), Ordering::Relaxed);
        Ok(())
    }

    /// Allocates the space that stores to these words may need, as [`AtomicWords::make_writable`]
    /// does. *Writer.*
    pub(super) fn make_writable(&self, words: &AtomicWords, range: Range<usize>) -> Result<(), BoxedError> {
        words
            .make_writable(range)
            .map_err(|error| HashError::io("make pages writable in", &self.folder.dir, error))
    }

    /// Creates the file of a piece or of a top. If a writer created the file but nothing refers to
    /// it yet, the file is used as it is, because any process may have mapped it: its user stores
    /// every word before anything refers to it.
    fn make(&self, name: &str, bytes: u64) -> Result<(), BoxedError> {
        let path = self.folder.path(name);
        let storage = &self.folder.storage;
        let (file, created) = match storage.create(&path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                (storage.open(&path).map_err(|error| HashError::io("open", &path, error))?, false)
            }
            Err(error) => return Err(HashError::io("make", &path, error)),
        };
        file.allocate(0, bytes).map_err(|error| {
            if created {
                // Nothing refers to the file. Removing it only frees its space.
                let _ = storage.remove(&path);
            }
            HashError::io("allocate", &path, error)
        })
    }

    /// Creates and maps piece `piece`, which no account counts yet. *Writer.*
    pub(super) fn make_piece(&self, piece: usize) -> Result<(), BoxedError> {
        if piece >= MAX_PIECES {
            return Err(Box::new(HashError::Exhausted { dir: self.folder.dir.clone(), what: "segments" }));
        }
        self.make(&Self::piece_name(self.epoch, piece), Self::piece_bytes(piece))?;
        self.piece(piece).map(|_| ())
    }

    /// Creates and maps the top with `bits` bits, which no root refers to yet. *Writer.*
    pub(super) fn make_top(&self, bits: u32) -> Result<&AtomicWords, BoxedError> {
        self.make(&Self::top_name(self.epoch, bits), Self::top_bytes(bits))?;
        let top = self.top(bits)?;
        self.make_writable(top, 0..top.len())?;
        Ok(top)
    }

    /// Unlinks a top that no root refers to any more. *Writer.*
    ///
    /// A process that has mapped it keeps its map. A process that is about to open it finds that
    /// the root has changed.
    pub(super) fn remove_top(&self, bits: u32) {
        let _ = self.folder.storage.remove(&self.folder.path(&Self::top_name(self.epoch, bits)));
    }

    /// Maps the first `pieces` pieces, so that no access to their segments needs a file descriptor
    /// or a new map.
    pub(super) fn map_pieces(&self, pieces: usize) -> Result<(), BoxedError> {
        if self.all_set_aside.load(Ordering::Relaxed) >> 32 == pieces as u64 + 1 {
            return Ok(());
        }
        (0..pieces).try_for_each(|piece| self.piece(piece).map(|_| ()))
    }

    /// Syncs the first `pieces` pieces and the top with `bits` bits through their maps. Each map
    /// covers the stores made since it was created, and reports a failed write-back of them.
    pub(super) fn sync(&self, pieces: usize, bits: u32) -> Result<(), BoxedError> {
        let sync = |cell: &OnceLock<Mapped>, name: String| match cell.get() {
            Some(mapped) => removable!("hash.pieces.sync", mapped.words.sync())
                .map_err(|error| HashError::io("sync", &self.folder.path(&name), error)),
            None => Ok(()),
        };
        for piece in 0..pieces {
            self.piece(piece)?;
            sync(&self.pieces[piece], Self::piece_name(self.epoch, piece))?;
        }
        self.top(bits)?;
        sync(&self.tops[bits as usize], Self::top_name(self.epoch, bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_carry_their_epoch() {
        assert_eq!(Maps::epoch_of(&Maps::piece_name(3, 12)), Some(3));
        assert_eq!(Maps::epoch_of(&Maps::top_name(4_000_000_000, 9)), Some(4_000_000_000));
        for other in ["head", "3-x.piece", "x-3.piece", "3.piece", "3-1.log", "99999999999-1.top"] {
            assert_eq!(Maps::epoch_of(other), None, "{other}");
        }
    }
}
