//! The files of a store as bytes, and a storage with these bytes in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use pongo_core::forward_storage;
use pongo_core::storage::{MemoryStorage, Storage};

/// All files and folders of a folder. Images share the bytes of files that are the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Image {
    pub(crate) folders: Vec<String>,
    pub(crate) files: BTreeMap<String, Arc<Vec<u8>>>,
}

impl Image {
    /// Reads the files of a storage; bytes of files that are unchanged since `before` are shared
    /// with it.
    pub(crate) fn of(storage: &dyn Storage, before: &Self) -> Self {
        let mut image = Self::default();
        image.gather(storage, "", before);
        image
    }

    fn gather(&mut self, storage: &dyn Storage, folder: &str, before: &Self) {
        for name in storage.list(folder).unwrap() {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if storage.list(&path).is_ok() {
                self.folders.push(path.clone());
                self.gather(storage, &path, before);
                continue;
            }
            let file = storage.open(&path).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            let bytes = match before.files.get(&path) {
                Some(known) if **known == bytes => Arc::clone(known),
                _ => Arc::new(bytes),
            };
            self.files.insert(path, bytes);
        }
    }

    /// Returns a storage with these files. The kernel decides whether `control` is trusted.
    pub(crate) fn storage(&self, kernel: Kernel) -> Arc<dyn Storage> {
        let inner = MemoryStorage::new();
        for folder in &self.folders {
            inner.create_dir(folder).unwrap();
        }
        for (path, bytes) in &self.files {
            let file = inner.create(path).unwrap();
            if !bytes.is_empty() {
                // Allocate first, so that the memory is taken once.
                file.allocate(0, bytes.len() as u64).unwrap();
                file.write_at(bytes, 0).unwrap();
            }
        }
        Arc::new(Placed { inner, kernel })
    }

    /// Returns the total size of all files in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }
}

/// The system that a storage runs on: the one that wrote the files, or one that was started since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kernel {
    Same,
    Other,
}

/// A storage in memory that reports a kernel.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) inner: MemoryStorage,
    pub(crate) kernel: Kernel,
}

impl Storage for Placed {
    fn cache_identity(&self) -> Option<[u8; 32]> {
        Some([if self.kernel == Kernel::Same { 1 } else { 2 }; 32])
    }

    forward_storage!(self => self.inner; create, open, rename, remove, create_dir, list, sync_dir, reserve);
    forward_storage!(self => self.inner; host, folder_identity, name);
}
