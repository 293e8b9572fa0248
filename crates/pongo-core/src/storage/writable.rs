//! [`WritableMap`]: bytes of files, one piece behind the other in one address range, to be filled in place by one
//! transaction before anyone else sees them. The only writable maps beside [`Words`](super::Words).
//!
//! It relies on its maker to have the bytes to itself, and on the files being allocated there (a store into a hole on a full
//! disk is a signal). It promises that nothing but these bytes is reached through it: the pages at its ends may hold bytes
//! of others, which it never touches.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::arguments::{check_map, invalid};
use super::{PAGE, RawFile, Reopened, Reservation, Storage};

/// Whole pages of a file.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) file: Arc<Reopened>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// See the module. Dropping it unmaps it; what was stored stays in the files.
#[derive(Debug)]
pub(crate) struct WritableMap {
    /// Mapped from its first byte to its last, and given to nobody.
    range: Reservation,
    /// The bytes that are the maker's.
    own: Range<usize>,
    in_files: bool,
}

impl WritableMap {
    /// Maps the pieces one behind the other; of all their bytes `own` is what can be reached. `None` if they are not files
    /// of the operating system. Of many files few are open at a time.
    ///
    /// # Safety
    /// As long as the map lives, nobody reads or writes these bytes of the files in another way but the kernel: no reference
    /// to them is made through another map, and the files are not truncated.
    pub(crate) unsafe fn over(
        storage: &dyn Storage,
        pieces: &[Piece],
        own: Range<usize>,
    ) -> io::Result<Option<Self>> {
        let len = check_own(&own, pieces.iter().map(|piece| piece.len).sum())?;
        let mut range = None;
        let mut at = 0;
        for piece in pieces {
            // What is stored through the map is written as well.
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

    /// The same face over zeroed memory that belongs to no file: for storages whose files are not the operating system's.
    /// It covers as many pages as `own` needs.
    pub(crate) fn in_memory(own: Range<usize>) -> io::Result<Self> {
        let len = check_own(&own, (own.end as u64).next_multiple_of(PAGE))?;
        let range = if cfg!(miri) { Reservation::in_heap(len) } else { Reservation::in_kernel(len) }?;
        range.map_zeroed(0, len)?;
        Ok(Self { range, own, in_files: false })
    }

    /// Whether what is stored here is stored in files.
    pub(crate) fn is_in_files(&self) -> bool {
        self.in_files
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `own` lies inside the range (`check_own`), so the result does as well.
        let start = unsafe { self.range.start().add(self.own.start) };
        // SAFETY: all of the range is mapped readable for as long as `self` lives, its bytes are initialised as those of any
        // file or zeroed memory are; nobody else writes to them (`over`'s promise), and who writes through `self` borrows it
        // mutably.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.own.len()) }
    }

    /// The bytes, to be changed.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        let start = unsafe { self.range.start().add(self.own.start) };
        // SAFETY: as in `bytes`; mapped writable as well, and nobody else reaches these bytes: not through the files
        // (`over`'s promise), not through the range (it is private), not through `self`, which is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.own.len()) }
    }
}

/// The length of a range with `own` in it.
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
    fn stores_reach_the_files_and_no_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let storage = RealStorage::open(folder.path()).unwrap();
        let pieces = pieces(&storage);
        // SAFETY: the files are this test's own, and it reads them when the map is gone.
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
    fn what_is_no_real_file_is_not_mapped() {
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
