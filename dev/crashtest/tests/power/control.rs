//! Files that no process syncs: if they survive a cut, it was not a cut.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::live::Outcome;

/// Which unsynced data survived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Survived {
    /// Data that was overwritten.
    pub(crate) bytes: bool,
    /// A file that was created just before the cut.
    pub(crate) name: bool,
}

/// The files on one disk.
pub(crate) struct Control {
    over: PathBuf,
    new: PathBuf,
}

impl Control {
    pub(crate) fn make(disk: &Path) -> Outcome<Self> {
        let control = Self { over: disk.join("written over"), new: disk.join("made") };
        control.reset()?;
        Ok(control)
    }

    /// Creates the synced state that the files have before each cut.
    #[expect(clippy::disallowed_methods, reason = "files that are not part of a store")]
    fn reset(&self) -> Outcome {
        let _ = fs::remove_file(&self.new);
        let mut file = File::create(&self.over)?;
        file.write_all(&[b'a'; 16384])?;
        file.sync_all()?;
        File::open(self.over.parent().ok_or("a file is in a folder")?)?.sync_all()?;
        Ok(())
    }

    /// Overwrites the first file, long before a cut.
    pub(crate) fn begin(&self) -> Outcome {
        Ok(File::options().write(true).open(&self.over)?.write_all_at(&[b'b'; 16384], 0)?)
    }

    /// Creates the second file, directly before a cut.
    pub(crate) fn end(&self) -> Outcome {
        Ok(fs::write(&self.new, "made")?)
    }

    /// Returns what survived a cut, and resets the files.
    pub(crate) fn survived(&self) -> Outcome<Survived> {
        let survived = Survived { bytes: fs::read(&self.over)?.contains(&b'b'), name: self.new.exists() };
        self.reset()?;
        Ok(survived)
    }
}
