//! What happens in a store's folder, as inotify tells it: calls only, not what is stored into maps.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::Outcome;

/// What a process is about, by the file it touched last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Doing {
    /// A commit's entry was written, and is synced perhaps.
    Entry,
    /// A new journal segment, or an old one that becomes a spare.
    Roll,
    /// Sums, or a slot of `super`.
    Checkpoint,
    /// A new chunk of rows or of the heap.
    Chunk,
    /// Rows or heap bytes are written to a chunk.
    Rows,
    /// A new marks file.
    Marks,
    /// Files of hash indexes.
    Hash,
    /// A table is made.
    Table,
    /// Minima and maxima.
    Zones,
    /// The ordered indexes are written.
    Merge,
    /// The ordered indexes are written anew.
    Compaction,
    /// `control` is made, at the begin of a recovery.
    Control,
}

/// What a file of this name, relative to the store's folder, is for. `named`: a name came or went.
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

/// Watches a folder and all below it.
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

    /// A folder that is gone again before it is watched is not missed.
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

    /// What has happened since the last time, in its order.
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
