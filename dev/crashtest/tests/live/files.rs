//! Events in a store's folder, as inotify reports them: system calls only, not stores through maps.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::Outcome;

/// The activity of a process, according to the file that it touched last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Doing {
    /// A commit's entry was written, and possibly synced.
    Entry,
    /// A journal segment is created, or an old one becomes a spare.
    Roll,
    /// Checksums, or a slot of `super`.
    Checkpoint,
    /// A new chunk of rows or of the heap.
    Chunk,
    /// Rows or heap bytes are written to a chunk.
    Rows,
    /// A new marks file.
    Marks,
    /// Files of hash indexes.
    Hash,
    /// A table is created.
    Table,
    /// Minima and maxima.
    Zones,
    /// The ordered indexes are written.
    Merge,
    /// The ordered indexes are compacted: all of them are rewritten.
    Compaction,
    /// `control` is created, at the start of a recovery.
    Control,
}

/// Returns the activity that a file with this name, relative to the store's folder, indicates.
/// `named`: the name appeared or disappeared.
fn doing(name: &str, named: bool) -> Option<Doing> {
    let part = name.split('/').next()?;
    Some(match part {
        "journal" if named || name.ends_with(".new") => Doing::Roll,
        "journal" => Doing::Entry,
        "super" | "super.new" => Doing::Checkpoint,
        "control" => Doing::Control,
        "schema" => Doing::Table,
        "hash" => Doing::Hash,
        "ordered" if name.starts_with("ordered/sled.") => Doing::Compaction,
        "ordered" => Doing::Merge,
        _ if name.contains(".sums") => Doing::Checkpoint,
        _ if name.contains(".chunk") && (named || name.ends_with(".new")) => Doing::Chunk,
        _ if name.contains(".chunk") => Doing::Rows,
        _ if name.contains(".marks") => Doing::Marks,
        _ if name.contains(".zones") => Doing::Zones,
        "tables" if named => Doing::Table,
        _ => return None,
    })
}

/// Watches a folder and all folders below it.
pub(crate) struct Files {
    pub(crate) inotify: OwnedFd,
    root: PathBuf,
    folders: HashMap<i32, PathBuf>,
}

impl Files {
    pub(crate) fn watch(root: &Path) -> Outcome<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut files = Self { inotify, root: root.to_owned(), folders: HashMap::new() };
        files.add(root)?;
        Ok(files)
    }

    /// Watches a folder. A folder that was removed before it could be watched is ignored.
    fn add(&mut self, folder: &Path) -> Outcome {
        let named = WatchFlags::CREATE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let Ok(watch) = inotify::add_watch(&self.inotify, folder, named | WatchFlags::MODIFY) else {
            return Ok(());
        };
        self.folders.insert(watch, folder.to_owned());
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Returns the events since the last call, in their order.
    pub(crate) fn happened(&mut self) -> Outcome<Vec<Doing>> {
        let mut events = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16384];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
                    events.push((event.wd(), event.events(), name.unwrap_or_default()));
                }
                Err(Errno::WOULDBLOCK) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut found = Vec::new();
        for (watch, flags, name) in events {
            let Some(folder) = self.folders.get(&watch) else { continue };
            let path = folder.join(name);
            let name = path.strip_prefix(&self.root)?.to_string_lossy().into_owned();
            found.extend(doing(&name, !flags.contains(ReadFlags::MODIFY)));
            if flags.contains(ReadFlags::ISDIR) && flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                self.add(&path)?;
            }
        }
        Ok(found)
    }
}
