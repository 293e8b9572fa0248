//! Files that nobody syncs: if they survive a cut, it was none.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::live::Outcome;

/// What became of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Survived {
    /// What was written over.
    pub(crate) bytes: bool,
    /// A file that was made just before the cut.
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

    /// As it is before each cut, for sure.
    fn reset(&self) -> Outcome {
        let _ = fs::remove_file(&self.new);
        let mut file = File::create(&self.over)?;
        file.write_all(&[b'a'; 16384])?;
        file.sync_all()?;
        File::open(self.over.parent().ok_or("a file lies in a folder")?)?.sync_all()?;
        Ok(())
    }

    /// Long before a cut.
    pub(crate) fn begin(&self) -> Outcome {
        Ok(File::options().write(true).open(&self.over)?.write_all_at(&[b'b'; 16384], 0)?)
    }

    /// Right before a cut.
    pub(crate) fn end(&self) -> Outcome {
        Ok(fs::write(&self.new, "made")?)
    }

    /// Behind a cut.
    pub(crate) fn survived(&self) -> Outcome<Survived> {
        let survived = Survived { bytes: fs::read(&self.over)?.contains(&b'b'), name: self.new.exists() };
        self.reset()?;
        Ok(survived)
    }
}
