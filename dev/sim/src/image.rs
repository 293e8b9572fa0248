//! The content of a disk at one moment: the result of a power cut, or the files of some storage. It
//! can be read, damaged, and converted to a storage or a disk any number of times.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use pongo_core::storage::{File, MemoryStorage, PAGE, Storage};
use xxhash_rust::xxh3::Xxh3;

use crate::file_history::FileContent;

/// The content of a disk at one moment. Images of the same disk share unchanged data.
///
/// ```
/// use pongo_core::storage::Storage;
/// use pongo_sim::{Disk, CrashPolicy, Random};
///
/// let disk = Disk::new();
/// let storage = disk.process().storage();
/// let file = storage.create("a")?;
/// file.write_at(&[1; 600], 0)?;
/// let nothing = disk.image(&mut Random(7), CrashPolicy::Oldest);
/// assert_eq!(nothing.files().count(), 0);
/// file.sync()?;
/// storage.sync_dir("")?;
/// let image = disk.image(&mut Random(7), CrashPolicy::Oldest);
/// assert_eq!(image.get("a"), Some(&[1; 600][..]));
/// assert_eq!(image.storage().open("a")?.len()?, 600);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Default, Debug)]
pub struct Image {
    /// Files, and folders as `None`, by path.
    pub(crate) entries: BTreeMap<String, Option<Arc<FileContent>>>,
}

impl Image {
    /// Copies everything in a storage.
    ///
    /// # Errors
    /// Returns the errors of the storage.
    pub fn of(storage: &dyn Storage) -> io::Result<Self> {
        let mut image = Self::default();
        image.add(storage, "")?;
        Ok(image)
    }

    fn add(&mut self, storage: &dyn Storage, dir: &str) -> io::Result<()> {
        for name in storage.list(dir)? {
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            match storage.open(&path) {
                Ok(file) => {
                    let mut bytes = vec![0; file.len()? as usize];
                    file.read_at(&mut bytes, 0)?;
                    self.entries.insert(path, Some(Arc::new(FileContent::new(bytes))));
                }
                Err(_) => {
                    self.add(storage, &path)?;
                    self.entries.insert(path, None);
                }
            }
        }
        Ok(())
    }

    /// Returns all files, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries
            .iter()
            .filter_map(|(path, entry)| Some((path.as_str(), entry.as_ref()?.bytes.as_slice())))
    }

    /// Returns all folders, sorted by path.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, entry)| entry.is_none()).map(|(path, _)| path.as_str())
    }

    /// Returns the bytes of a file.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.entries.get(path)?.as_ref().map(|content| content.bytes.as_slice())
    }

    /// Inserts or replaces a file. Its folder must exist.
    pub fn set(&mut self, path: &str, bytes: Vec<u8>) {
        self.entries.insert(path.to_owned(), Some(Arc::new(FileContent::new(bytes))));
    }

    /// Removes a file, or a folder with its content.
    pub fn remove(&mut self, path: &str) {
        let inside = format!("{path}/");
        self.entries.retain(|known, _| known != path && !known.starts_with(&inside));
    }

    /// Returns a hash of the names and bytes of all entries except those for which `skip` returns
    /// `true`. Hashes of data that images share are cached.
    #[must_use]
    pub fn hash(&self, skip: impl Fn(&str) -> bool) -> u64 {
        let mut hash = Xxh3::new();
        for (path, entry) in self.entries.iter().filter(|(path, _)| !skip(path)) {
            hash.update(path.as_bytes());
            hash.update(&entry.as_ref().map_or(1, |content| content.hash()).to_le_bytes());
            hash.update(&entry.as_ref().map_or(0, |content| content.bytes.len() as u64).to_le_bytes());
        }
        hash.digest()
    }

    /// Creates an independent storage in memory with this content.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.build(|_, _, _| ()))
    }

    /// Creates a storage in memory with this content. Calls `each` for every file that it creates.
    pub(crate) fn build(
        &self,
        mut each: impl FnMut(&str, &Arc<dyn File>, &Arc<FileContent>),
    ) -> MemoryStorage {
        let storage = MemoryStorage::new();
        for (path, entry) in &self.entries {
            let Some(content) = entry else {
                storage.create_dir(path).expect("folders come before what is in them");
                continue;
            };
            let file = storage.create(path).expect("a unique name in an existing folder");
            fill(&*file, content).expect("memory takes what there is");
            each(path, &file, content);
        }
        storage
    }
}

/// Writes pages that are not zero, allocates the allocated ones that are, and leaves holes.
fn fill(file: &dyn File, content: &FileContent) -> io::Result<()> {
    let len = content.bytes.len() as u64;
    for &page in content.allocated.iter().filter(|&&page| page * PAGE < len) {
        let start = page * PAGE;
        let bytes = &content.bytes[start as usize..(start + PAGE).min(len) as usize];
        if bytes.iter().any(|&byte| byte != 0) {
            file.write_at(bytes, start)?;
        } else {
            file.allocate(start, bytes.len() as u64)?;
        }
    }
    file.set_len(len)
}
