//! Durable names of files and folders, and the changes of names that a power cut may undo.
//!
//! A renaming is atomic, as in today's journaling file systems. Otherwise any change may be lost;
//! then all later changes of the same names are lost too, while those of other names may survive.

use std::collections::BTreeMap;

use crate::Random;
use crate::crash_policy::CrashSampler;

/// Names and their targets: the number of a file, or `None` for a folder.
pub(crate) type Names = BTreeMap<String, Option<u64>>;

/// Names of a disk; see the module documentation.
#[derive(Debug, Default)]
pub(crate) struct DirentHistory {
    /// Names that are durable.
    durable: Names,
    /// Changes that no `sync_dir` has made durable yet, oldest first.
    pending: Vec<Renaming>,
}

#[derive(Clone, Debug)]
struct Renaming {
    dir: String,
    gone: Option<String>,
    new: Option<(String, Option<u64>)>,
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or(String::new(), |(dir, _)| dir.to_owned())
}

impl Renaming {
    fn apply(self, names: &mut Names) {
        if let Some(gone) = self.gone {
            names.remove(&gone);
        }
        if let Some((name, what)) = self.new {
            names.insert(name, what);
        }
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.gone.iter().chain(self.new.iter().map(|(name, _)| name))
    }

    fn touches(&self, other: &Self) -> bool {
        self.names().any(|name| other.names().any(|known| known == name))
    }
}

impl DirentHistory {
    pub(crate) fn holding(durable: Names) -> Self {
        Self { durable, pending: Vec::new() }
    }

    /// Records that a file (by number) or folder was created.
    pub(crate) fn note_made(&mut self, path: &str, what: Option<u64>) {
        self.pending.push(Renaming { dir: parent(path), gone: None, new: Some((path.to_owned(), what)) });
    }

    /// Records that a file was renamed.
    pub(crate) fn note_renamed(&mut self, from: &str, to: &str, file: Option<u64>) {
        assert_eq!(parent(from), parent(to), "renaming between folders is not simulated");
        let new = Some((to.to_owned(), file));
        self.pending.push(Renaming { dir: parent(to), gone: Some(from.to_owned()), new });
    }

    /// Records that a file was removed.
    pub(crate) fn note_removed(&mut self, path: &str) {
        self.pending.push(Renaming { dir: parent(path), gone: Some(path.to_owned()), new: None });
    }

    /// Records a failed sync of a folder: a random prefix of the pending changes in the folder
    /// becomes durable; the others stay pending until the next sync.
    pub(crate) fn note_failed_sync(&mut self, dir: &str, random: &mut Random) {
        let (mut of_dir, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|renaming| renaming.dir == dir);
        let durable = random.below(of_dir.len() as u64 + 1) as usize;
        of_dir.drain(..durable).for_each(|renaming| renaming.apply(&mut self.durable));
        self.pending = others;
        self.pending.append(&mut of_dir);
    }

    /// Records a sync of a folder, which makes the names in it durable.
    pub(crate) fn note_synced(&mut self, dir: &str) {
        for renaming in std::mem::take(&mut self.pending) {
            if renaming.dir == dir {
                renaming.apply(&mut self.durable);
            } else {
                self.pending.push(renaming);
            }
        }
    }

    /// Returns the names that a power cut at this moment leaves, without those in missing folders.
    pub(crate) fn draw(&self, draw: &mut CrashSampler<'_>) -> Names {
        let mut names = self.durable.clone();
        let mut lost: Vec<&Renaming> = Vec::new();
        for renaming in &self.pending {
            if draw.is_kept() && !lost.iter().any(|other| other.touches(renaming)) {
                renaming.clone().apply(&mut names);
            } else {
                lost.push(renaming);
            }
        }
        // In path order, so that a folder is processed before its content.
        let mut left = Names::new();
        for (path, what) in names {
            let dir = parent(&path);
            if dir.is_empty() || left.get(&dir) == Some(&None) {
                left.insert(path, what);
            }
        }
        left
    }
}
