//! [`WritableMap`]: pieces of files, mapped one after the other in one address range, which one
//! transaction fills in place before the bytes become visible to others. These are the only
//! writable maps besides [`AtomicWords`](super::AtomicWords).
//!
//! Requires: the creator has exclusive use of the bytes, and the files are allocated there (a store
//! into a hole on a full disk raises a signal). Guarantees: only these bytes are accessed through
//! the map. The pages at its ends may contain other data, which it never touches.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::validate::{check_map, invalid};
use super::{PAGE, RawFile, Reopened, Reservation, Storage};

/// Whole pages of a file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) file: Arc<Reopened>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A writable map; see the module documentation. Dropping it unmaps it; what was stored stays in
/// the files.
#[derive(Debug)]
pub(crate) struct WritableMap {
    /// Mapped from its first byte to its last, and not shared with other code.
    range: Reservation,
    /// The bytes that belong to the creator.
    own: Range<usize>,
    in_files: bool,
}

impl WritableMap {
    /// Maps the pieces one after the other and makes the bytes `own` of the result accessible.
    /// Returns `None` if the pieces are not in files of the operating system. Opens one file at a
    /// time.
    ///
    /// # Safety
    /// As long as the map lives, only the kernel accesses these bytes of the files in another way:
    /// they are not read or written through the files, no reference to them is made through another
    /// map, and the files are not truncated.
    pub(crate) unsafe fn over(
        storage: &dyn Storage,
        pieces: &[Piece],
        own: Range<usize>,
    ) -> io::Result<Option<Self>> {
        let len = check_own(&own, pieces.iter().map(|piece| piece.len).sum())?;
        let mut range = None;
        let mut at = 0;
        for piece in pieces {
            // Stores through the map also count as writes to the file.
            let file = piece.file.file_to_write(storage)?;
            let RawFile::Real(fd) = file.raw() else { return Ok(None) };
            let range = match &range {
                Some(range) => range,
                None => range.insert(Reservation::in_kernel(len)?),
            };
            let len = check_map(piece.offset, piece.len, file.len()?)?;
            range.map_file_writable(fd, piece.offset, len, at)?;
            at += len;
        }
        Ok(range.map(|range| Self { range, own, in_files: true }))
    }

    /// Creates a map of zeroed memory that belongs to no file, for storages whose files are not in
    /// the operating system. It has as many pages as are needed for `own`.
    pub(crate) fn in_memory(own: Range<usize>) -> io::Result<Self> {
        let len = check_own(&own, (own.end as u64).next_multiple_of(PAGE))?;
        let range = if cfg!(miri) { Reservation::in_heap(len) } else { Reservation::in_kernel(len) }?;
        range.map_zeroed(0, len)?;
        Ok(Self { range, own, in_files: false })
    }

    /// Returns whether the bytes are stored in files.
    pub(crate) fn is_in_files(&self) -> bool {
        self.in_files
    }

    /// Returns the bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `own` is inside the range (`check_own`), so the result is as well.
        let start = unsafe { self.range.start().add(self.own.start) };
        // SAFETY: all of the range is mapped readable for as long as `self` lives, and its bytes
        // are initialised, as those of any file and of zeroed memory are. No other code writes them
        // (`over`'s contract), and a write through `self` borrows it mutably.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.own.len()) }
    }

    /// Returns the bytes for writing.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        let start = unsafe { self.range.start().add(self.own.start) };
        // SAFETY: as in `bytes`. The range is also mapped writable, and these bytes are accessed in
        // no other way: not through the files (`over`'s contract), not through the range (it is
        // private), and not through `self`, which is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.own.len()) }
    }
}

/// Returns the length of the map. Returns an error unless `own` is inside it.
fn check_own(own: &Range<usize>, len: u64) -> io::Result<usize> {
    match usize::try_from(len) {
        Ok(len) if own.start <= own.end && own.end <= len => Ok(len),
        _ => Err(invalid(format!("bytes {}..{} of a map of {len} bytes", own.start, own.end))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, RealStorage, Storage};

    fn pieces(storage: &dyn Storage) -> Vec<Piece> {
        let piece = |name, offset, len| {
            let file = storage.create(name).unwrap();
            file.allocate(0, 4 * PAGE).unwrap();
            file.write_at(&[7; 4 * PAGE as usize], 0).unwrap();
            Piece { file: Reopened::made(storage, name.to_owned(), 4 * PAGE, file), offset, len }
        };
        vec![piece("a", 2 * PAGE, 2 * PAGE), piece("b", PAGE, PAGE)]
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps real files")]
    fn stores_reach_only_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let storage = RealStorage::open(folder.path()).unwrap();
        let pieces = pieces(&storage);
        // SAFETY: only this test uses the files, and it reads them after the map was dropped.
        let mut map =
            unsafe { WritableMap::over(&storage, &pieces, 100..2 * PAGE as usize + 9) }.unwrap().unwrap();
        assert!(map.is_in_files());
        assert_eq!(map.bytes(), [7; 2 * PAGE as usize - 91]);
        map.bytes_mut().fill(9);
        drop(map);
        let mut all = [0; 4 * PAGE as usize];
        let changed = |all: &[u8]| (0..all.len()).filter(|at| all[*at] == 9).collect::<Vec<_>>();
        pieces[0].file.file(&storage).unwrap().read_at(&mut all, 0).unwrap();
        assert_eq!(changed(&all), (2 * PAGE as usize + 100..4 * PAGE as usize).collect::<Vec<_>>());
        pieces[1].file.file(&storage).unwrap().read_at(&mut all, 0).unwrap();
        assert_eq!(changed(&all), (PAGE as usize..PAGE as usize + 9).collect::<Vec<_>>());
    }

    #[test]
    fn only_real_files_are_mapped() {
        let storage = MemoryStorage::new();
        let pieces = pieces(&storage);
        // SAFETY: nothing is mapped.
        assert!(unsafe { WritableMap::over(&storage, &pieces, 0..1) }.unwrap().is_none());
        let mut map = WritableMap::in_memory(5..5000).unwrap();
        assert!(!map.is_in_files());
        assert_eq!(map.bytes(), [0; 4995]);
        map.bytes_mut().fill(9);
        assert_eq!(map.bytes(), [9; 4995]);
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps real files")]
    fn bounds_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let storage = RealStorage::open(folder.path()).unwrap();
        let mut pieces = pieces(&storage);
        // SAFETY: nothing is mapped.
        assert!(unsafe { WritableMap::over(&storage, &pieces, 0..3 * PAGE as usize + 1) }.is_err());
        pieces[1].len = 4 * PAGE;
        // SAFETY: nothing is mapped.
        assert!(unsafe { WritableMap::over(&storage, &pieces, 0..1) }.is_err(), "beyond the file's end");
    }
}
