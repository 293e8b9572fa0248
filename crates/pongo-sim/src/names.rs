//! Which names are on the disk for sure, and which changes of them a power cut may take back.
//!
//! A renaming is there as a whole or not at all, as the journals of today's file systems have it. Apart from that any change
//! may be lost, and then so is every later one of the same names; those of other names may be there all the same.

use std::collections::BTreeMap;

use crate::leave::Draw;
use crate::random::Random;

/// What a name is of: a file by its number, or a folder.
pub(crate) type Names = BTreeMap<String, Option<u64>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct NameBook {
    /// Names that are on the disk for sure.
    durable: Names,
    /// Changes that no `sync_dir` has made durable, oldest first.
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

impl NameBook {
    pub(crate) fn holding(durable: Names) -> Self {
        Self { durable, pending: Vec::new() }
    }

    /// A file (by number) or folder was made.
    pub(crate) fn note_made(&mut self, path: &str, what: Option<u64>) {
        self.pending.push(Renaming { dir: parent(path), gone: None, new: Some((path.to_owned(), what)) });
    }

    /// A file was renamed.
    pub(crate) fn note_renamed(&mut self, from: &str, to: &str, file: Option<u64>) {
        assert_eq!(parent(from), parent(to), "renaming between folders is not simulated");
        let new = Some((to.to_owned(), file));
        self.pending.push(Renaming { dir: parent(to), gone: Some(from.to_owned()), new });
    }

    /// A file was removed.
    pub(crate) fn note_removed(&mut self, path: &str) {
        self.pending.push(Renaming { dir: parent(path), gone: Some(path.to_owned()), new: None });
    }

    /// A sync of a folder failed: of the names that were to become durable those up to one of them are; the others wait for
    /// the next sync.
    pub(crate) fn note_failed_sync(&mut self, dir: &str, random: &mut Random) {
        let (mut of_dir, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|renaming| renaming.dir == dir);
        let durable = random.below(of_dir.len() as u64 + 1) as usize;
        of_dir.drain(..durable).for_each(|renaming| renaming.apply(&mut self.durable));
        self.pending = others;
        self.pending.append(&mut of_dir);
    }

    /// A folder was synced: the names in it.
    pub(crate) fn note_synced(&mut self, dir: &str) {
        for renaming in std::mem::take(&mut self.pending) {
            if renaming.dir == dir {
                renaming.apply(&mut self.durable);
            } else {
                self.pending.push(renaming);
            }
        }
    }

    /// The names that a power cut leaves if it comes now, without those in folders that are not there.
    pub(crate) fn draw(&self, draw: &mut Draw<'_>) -> Names {
        let mut names = self.durable.clone();
        let mut lost: Vec<&Renaming> = Vec::new();
        for renaming in &self.pending {
            if draw.is_kept() && !lost.iter().any(|other| other.touches(renaming)) {
                renaming.clone().apply(&mut names);
            } else {
                lost.push(renaming);
            }
        }
        // In order, so that a folder's own fate is known before that of what is in it.
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
