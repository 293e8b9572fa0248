//! [`Folder`]: a folder that is followed when it is renamed, for code that only accepts paths.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An open folder and the paths that lead to it.
///
/// If `/proc` is mounted, the folder is followed wherever it is renamed to. Without `/proc` it is
/// reached by the name under which it was opened, as long as that name leads to it. A path never
/// leads to another folder, and never to one that would have to be created.
#[derive(Debug)]
pub struct Folder {
    folder: File,
    name: PathBuf,
}

impl Folder {
    /// Wraps an open folder. `name` is an absolute path that leads to it now.
    #[must_use]
    pub fn new(folder: OwnedFd, name: PathBuf) -> Folder {
        Folder { folder: File::from(folder), name }
    }

    /// Returns a path that leads to the folder. It is valid until this value is dropped.
    ///
    /// # Errors
    /// Returns an error if `/proc` is not mounted and the folder no longer has its original name.
    pub fn path(&self) -> io::Result<PathBuf> {
        let through_proc = self.through_proc();
        if self.is_at(&through_proc)? {
            return Ok(through_proc);
        }
        if self.is_at(&self.name)? {
            return Ok(self.name.clone());
        }
        let what = format!(
            "{} is another folder now or none, and without /proc it cannot be followed: open the store \
             again, or mount /proc",
            self.name.display()
        );
        // Not `NotFound`: no part of the store is missing.
        Err(io::Error::other(what))
    }

    /// Returns the folder's current name if the system reports it, otherwise its original name.
    #[must_use]
    pub fn shown(&self) -> PathBuf {
        let through_proc = self.through_proc();
        match self.is_at(&through_proc) {
            Ok(true) => std::fs::read_link(through_proc).unwrap_or_else(|_| self.name.clone()),
            _ => self.name.clone(),
        }
    }

    fn through_proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()))
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let here = self.folder.metadata()?;
        Ok(path.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (here.dev(), here.ino())))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_renamed_folder_is_followed() {
        let above = tempfile::tempdir().unwrap();
        let (before, after) = (above.path().join("before"), above.path().join("after"));
        fs::create_dir(&before).unwrap();
        let folder = Folder::new(File::open(&before).unwrap().into(), before.clone());
        fs::write(folder.path().unwrap().join("one"), "1").unwrap();
        fs::rename(&before, &after).unwrap();
        fs::create_dir(&before).unwrap();
        fs::write(folder.path().unwrap().join("two"), "2").unwrap();
        assert!(after.join("one").exists() && after.join("two").exists());
        assert_eq!(fs::read_dir(&before).unwrap().count(), 0);
        assert_eq!(folder.shown(), after.canonicalize().unwrap());
        // A removed folder has no path under which anything could be created.
        fs::remove_dir_all(&after).unwrap();
        assert!(fs::create_dir_all(folder.path().unwrap().join("three")).is_err());
        assert!(!after.exists());
    }
}
