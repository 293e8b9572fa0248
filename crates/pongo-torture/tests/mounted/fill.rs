//! Taking all space of a file system.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::world::Outcome;

/// Takes all space of a file system but `spare` bytes. Removing the file gives it back.
pub(crate) fn fill(folder: &Path, spare: u64) -> Outcome<PathBuf> {
    let path = folder.join("filler");
    let file = fs::OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
    let mut size = 0;
    // Most of it by asking for it, the rest by writing it: where nothing can be set aside, all.
    let mut step = 1 << 30;
    while step >= 4096 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), size, step) {
            Ok(()) => size += step,
            Err(_) => step /= 2,
        }
    }
    // What is freed a moment later, by a file system that works behind one's back, is taken as well.
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
