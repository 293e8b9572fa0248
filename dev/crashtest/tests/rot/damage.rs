//! The damages to a store's files.

use std::fmt;
use std::sync::Arc;

use crate::image::Image;

pub(crate) const PAGE: usize = 4096;

/// One damage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Damage {
    /// A byte changes: variants 0 to 7 flip a bit, 8 sets it to 00, 9 sets it to FF.
    Byte { path: String, at: usize, variant: u64 },
    /// A file is truncated.
    Cut { path: String, len: usize },
    /// A file is extended with zeros or with a copy of its first bytes.
    Longer { path: String, by: usize, zeros: bool },
    /// Two pages of a file are swapped.
    Swap { path: String, pages: [usize; 2] },
    /// A page is overwritten with a page of the same or another file.
    Copy { from: (String, usize), to: (String, usize) },
    /// A file as it was earlier in the store's history, possibly one that no longer exists.
    Older { path: String, when: usize, bytes: Arc<Vec<u8>> },
    /// A file of another store.
    Foreign { path: String, of: &'static str, bytes: Arc<Vec<u8>> },
    /// A file is missing.
    Missing { path: String },
    /// Two files have each other's names.
    Renamed { paths: [String; 2] },
    /// A folder is missing with everything in it.
    NoFolder { path: String },
    /// A folder is as it was earlier.
    OlderFolder { path: String, when: usize, image: Arc<Image> },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte { path, at, variant: variant @ 0..8 } => {
                write!(f, "{path}: bit {variant} of byte {at}")
            }
            Self::Byte { path, at, variant } => {
                write!(f, "{path}: byte {at} is {}", if *variant == 8 { "00" } else { "FF" })
            }
            Self::Cut { path, len } => write!(f, "{path}: cut to {len} bytes"),
            Self::Longer { path, by, zeros } => {
                write!(f, "{path}: {by} bytes more, {}", if *zeros { "zeros" } else { "its first ones" })
            }
            Self::Swap { path, pages: [a, b] } => write!(f, "{path}: pages {a} and {b} are swapped"),
            Self::Copy { from, to } => {
                write!(f, "{}: page {} is a copy of page {} of {}", to.0, to.1, from.1, from.0)
            }
            Self::Older { path, when, .. } => write!(f, "{path}: as it was at moment {when}"),
            Self::Foreign { path, of, .. } => write!(f, "{path}: that of the store `{of}`"),
            Self::Missing { path } => write!(f, "{path}: gone"),
            Self::Renamed { paths: [a, b] } => write!(f, "{a} and {b} have each other's name"),
            Self::NoFolder { path } => write!(f, "{path}/: gone"),
            Self::OlderFolder { path, when, .. } => write!(f, "{path}/: as it was at moment {when}"),
        }
    }
}

fn page(bytes: &[u8], page: usize) -> &[u8] {
    &bytes[(page * PAGE).min(bytes.len())..((page + 1) * PAGE).min(bytes.len())]
}

fn put_page(bytes: &mut [u8], at: usize, content: &[u8]) {
    let len = content.len().min(bytes.len().saturating_sub(at * PAGE));
    if let Some(to) = bytes.get_mut(at * PAGE..at * PAGE + len) {
        to.copy_from_slice(&content[..len]);
    }
}

impl Damage {
    /// Returns the image with this damage, or `None` if that is the same image.
    pub(crate) fn done_to(&self, base: &Image) -> Option<Image> {
        let mut image = base.clone();
        let file = |path: &str| (*base.files[path]).clone();
        match self {
            Self::Byte { path, at, variant } => {
                let mut bytes = file(path);
                bytes[*at] = match variant {
                    8 => 0,
                    9 => 0xff,
                    bit => bytes[*at] ^ 1 << bit,
                };
                image.files.insert(path.clone(), Arc::new(bytes));
            }
            Self::Cut { path, len } => {
                let mut bytes = file(path);
                bytes.truncate(*len);
                image.files.insert(path.clone(), Arc::new(bytes));
            }
            Self::Longer { path, by, zeros } => {
                let mut bytes = file(path);
                let more: Vec<u8> = bytes.iter().copied().cycle().take(*by).collect();
                bytes.extend(if *zeros { vec![0; *by] } else { more });
                image.files.insert(path.clone(), Arc::new(bytes));
            }
            Self::Swap { path, pages: [a, b] } => {
                let (before, mut bytes) = (file(path), file(path));
                put_page(&mut bytes, *a, page(&before, *b));
                put_page(&mut bytes, *b, page(&before, *a));
                image.files.insert(path.clone(), Arc::new(bytes));
            }
            Self::Copy { from, to } => {
                let mut bytes = file(&to.0);
                put_page(&mut bytes, to.1, page(&base.files[&from.0], from.1));
                image.files.insert(to.0.clone(), Arc::new(bytes));
            }
            Self::Older { path, bytes, .. } | Self::Foreign { path, bytes, .. } => {
                image.put(path, Arc::clone(bytes));
            }
            Self::Missing { path } => drop(image.files.remove(path)),
            Self::Renamed { paths: [a, b] } => {
                let (first, second) = (base.files[a].clone(), base.files[b].clone());
                image.files.insert(a.clone(), second);
                image.files.insert(b.clone(), first);
            }
            Self::NoFolder { path } => image.remove_folder(path),
            Self::OlderFolder { path, image: older, .. } => {
                image.remove_folder(path);
                let inside = format!("{path}/");
                let is_in = |name: &&String| **name == *path || name.starts_with(&inside);
                image.folders.extend(older.folders.iter().filter(is_in).cloned());
                image.folders.sort();
                for (name, bytes) in older.files.iter().filter(|(name, _)| is_in(name)) {
                    image.put(name, Arc::clone(bytes));
                }
            }
        }
        let same = image.files == base.files && image.folders == base.folders;
        (!same).then_some(image)
    }
}

impl Image {
    fn put(&mut self, path: &str, bytes: Arc<Vec<u8>>) {
        for (end, _) in path.match_indices('/') {
            if !self.folders.iter().any(|folder| *folder == path[..end]) {
                self.folders.push(path[..end].to_owned());
                self.folders.sort();
            }
        }
        self.files.insert(path.to_owned(), bytes);
    }

    fn remove_folder(&mut self, path: &str) {
        let inside = format!("{path}/");
        self.folders.retain(|folder| folder != path && !folder.starts_with(&inside));
        self.files.retain(|file, _| !file.starts_with(&inside));
    }
}

impl Damage {
    /// Returns whether it changes only files and folders for which `is_like` returns `true`.
    pub(crate) fn touches(&self, is_like: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Byte { path, .. }
            | Self::Cut { path, .. }
            | Self::Longer { path, .. }
            | Self::Swap { path, .. }
            | Self::Older { path, .. }
            | Self::Foreign { path, .. }
            | Self::Missing { path }
            | Self::NoFolder { path }
            | Self::OlderFolder { path, .. } => is_like(path),
            Self::Copy { to, .. } => is_like(&to.0),
            Self::Renamed { paths } => paths.iter().all(|path| is_like(path)),
        }
    }

    /// Returns whether it can change a file's length: it truncates, extends, removes or replaces a
    /// file.
    pub(crate) fn changes_a_length(&self) -> bool {
        !matches!(self, Self::Byte { .. } | Self::Swap { .. } | Self::Copy { .. })
    }
}
