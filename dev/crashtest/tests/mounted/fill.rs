//! Fills a file system.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pongo_test_support::Outcome;

/// Takes all space of a file system except `spare` bytes. Removing the file frees it.
#[expect(clippy::disallowed_methods, reason = "a file that is not part of a store")]
pub(crate) fn fill(folder: &Path, spare: u64) -> Outcome<PathBuf> {
    let path = folder.join("filler");
    let file = fs::OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
    let mut size = 0;
    // Allocate most of the space and write the rest; where nothing can be preallocated, all of it
    // is written.
    let mut step = 1 << 30;
    while step >= 4096 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), size, step) {
            Ok(()) => size += step,
            Err(_) => step /= 2,
        }
    }
    // The second pass takes the space that the file system frees asynchronously, a moment later.
    for _ in 0..2 {
        let mut step = 1 << 20;
        while step >= 4096 {
            let written = file.write_all_at(&vec![0xee; step], size).and_then(|()| file.sync_all());
            match written {
                Ok(()) => size += step as u64,
                Err(error) if error.kind() == io::ErrorKind::StorageFull => step /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        rustix::fs::syncfs(&file)?;
    }
    file.set_len(size.saturating_sub(spare) / 4096 * 4096)?;
    file.sync_all()?;
    rustix::fs::syncfs(&file)?;
    Ok(path)
}
