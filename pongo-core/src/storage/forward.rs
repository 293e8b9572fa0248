//! [`forward_storage!`](crate::forward_storage): the methods of a storage that wraps another one.

/// Implements the named methods of [`Storage`](crate::storage::Storage) by calls of the same
/// methods of another storage. For storages that wrap another one and change a few methods.
///
/// The arguments are `self`, an expression for the other storage, and the names of the methods.
/// Methods that are not named must be written out, or keep the default of the trait. The methods
/// `note_open`, `note_idle`, `check_maps` and `take_crowded` cannot be named.
///
/// ```
/// use std::io;
/// use std::sync::Arc;
///
/// use pongo_core::forward_storage;
/// use pongo_core::storage::{File, MemoryStorage, Storage};
///
/// /// A storage in which no file can be removed.
/// #[derive(Debug)]
/// struct KeepsFiles(MemoryStorage);
///
/// impl Storage for KeepsFiles {
///     fn remove(&self, _: &str) -> io::Result<()> {
///         Err(io::ErrorKind::PermissionDenied.into())
///     }
///
///     forward_storage!(self => self.0; create, open, rename, create_dir, list, sync_dir, reserve);
///     forward_storage!(self => self.0; cache_identity, host, folder_identity, name);
/// }
///
/// let storage = KeepsFiles(MemoryStorage::new());
/// storage.create("a")?;
/// assert_eq!(storage.remove("a").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
/// assert_eq!(storage.list("")?, ["a"]);
/// # io::Result::Ok(())
/// ```
#[macro_export]
macro_rules! forward_storage {
    ($this:ident => $inner:expr; $($method:ident),+ $(,)?) => {
        $($crate::forward_storage!(@ $method $this $inner);)+
    };
    (@ create $this:ident $inner:expr) => {
        fn create(&$this, path: &str) -> ::std::io::Result<::std::sync::Arc<dyn $crate::storage::File>> {
            $inner.create(path)
        }
    };
    (@ open $this:ident $inner:expr) => {
        fn open(&$this, path: &str) -> ::std::io::Result<::std::sync::Arc<dyn $crate::storage::File>> {
            $inner.open(path)
        }
    };
    (@ rename $this:ident $inner:expr) => {
        fn rename(&$this, from: &str, to: &str) -> ::std::io::Result<()> {
            $inner.rename(from, to)
        }
    };
    (@ remove $this:ident $inner:expr) => {
        fn remove(&$this, path: &str) -> ::std::io::Result<()> {
            $inner.remove(path)
        }
    };
    (@ create_dir $this:ident $inner:expr) => {
        fn create_dir(&$this, path: &str) -> ::std::io::Result<()> {
            $inner.create_dir(path)
        }
    };
    (@ list $this:ident $inner:expr) => {
        fn list(&$this, path: &str) -> ::std::io::Result<::std::vec::Vec<::std::string::String>> {
            $inner.list(path)
        }
    };
    (@ sync_dir $this:ident $inner:expr) => {
        fn sync_dir(&$this, path: &str) -> ::std::io::Result<()> {
            $inner.sync_dir(path)
        }
    };
    (@ reserve $this:ident $inner:expr) => {
        fn reserve(&$this, len: usize) -> ::std::io::Result<$crate::storage::Reservation> {
            $inner.reserve(len)
        }
    };
    (@ cache_identity $this:ident $inner:expr) => {
        fn cache_identity(&$this) -> ::core::option::Option<[u8; 32]> {
            $inner.cache_identity()
        }
    };
    (@ hole_reads_allocate $this:ident $inner:expr) => {
        fn hole_reads_allocate(&$this) -> bool {
            $inner.hole_reads_allocate()
        }
    };
    (@ stores_may_allocate $this:ident $inner:expr) => {
        fn stores_may_allocate(&$this) -> bool {
            $inner.stores_may_allocate()
        }
    };
    (@ host $this:ident $inner:expr) => {
        fn host(&$this) -> ::std::io::Result<$crate::storage::Host> {
            $inner.host()
        }
    };
    (@ folder_identity $this:ident $inner:expr) => {
        fn folder_identity(&$this) -> ::std::io::Result<(u64, u64)> {
            $inner.folder_identity()
        }
    };
    (@ name $this:ident $inner:expr) => {
        fn name(&$this) -> ::std::string::String {
            $inner.name()
        }
    };
}
