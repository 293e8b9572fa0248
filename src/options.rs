//! Options for opening a store ([`Options`]). Their methods that open one are defined in `store`,
//! which imports this module.

use pongo_core::engine::EngineOptions;

use crate::ordered_index::Tuning;

/// Options for opening a store.
///
/// ```
/// use pongo::prelude::*;
///
/// let store = Options::new().chunk_size(1 << 20).checkpoint_bytes(8 << 20).in_memory()?;
/// # drop(store);
/// # Ok::<(), pongo::OpenError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    pub(crate) engine: EngineOptions,
    pub(crate) must_exist: bool,
    pub(crate) create_all: bool,
    pub(crate) unordered: bool,
    pub(crate) tuning: Tuning,
}

impl Options {
    /// Creates the default options, which [`Store::open`](crate::Store::open) uses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the size of the largest chunk file of a small table, in bytes. Default: 16 MiB;
    /// minimum: 64 KiB; rounded up to a multiple of 64 KiB. Large tables get larger chunks. Smaller
    /// chunks waste less space in small tables; larger chunks need fewer files.
    #[must_use]
    pub fn chunk_size(mut self, bytes: u64) -> Self {
        self.engine.sizes.chunk = bytes.clamp(64 << 10, 1 << 40).next_multiple_of(64 << 10);
        self
    }

    /// Sets the number of journal bytes after which a commit writes a checkpoint. Default: 64 MiB;
    /// minimum: 1 MiB. A larger value means fewer checkpoints and a longer recovery (about one
    /// second per GiB).
    ///
    /// Rows that are loaded in bulk are stored in the journal by reference, and recovery only
    /// compares their checksums; 16 bytes of them count as one journal byte.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.engine.checkpoint_bytes = bytes.max(1 << 20);
        self
    }

    /// Sets the number of bytes of rows and texts, including their bookkeeping, that a write
    /// transaction keeps in memory; further ones are written to the chunks immediately. Default: 64
    /// MiB; minimum: 64 KiB. In addition to this limit, each changed row takes about 48 bytes, and
    /// 24 for each unique index.
    #[must_use]
    pub fn transaction_memory(mut self, bytes: u64) -> Self {
        self.engine.transaction_memory = bytes.max(64 << 10);
        self
    }

    /// Sets whether [`open`](Self::open) creates a store that does not exist. Default: `true`.
    #[must_use]
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.must_exist = !create;
        self
    }

    /// Sets whether [`open`](Self::open) also creates the missing parent folders of a new store, as
    /// [`std::fs::create_dir_all`] does. Default: `false`, so that a mistake in the path is an error,
    /// [`OpenError::Folder`](crate::OpenError::Folder). Has no effect with
    /// [`create_if_missing(false)`](Self::create_if_missing).
    ///
    /// The names of the parent folders are durable before the store is created: costs a sync of
    /// each parent folder when a store is created, and nothing when one is opened.
    ///
    /// ```
    /// # #![allow(unsafe_code)]
    /// use pongo::prelude::*;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("data/2024/flights.pongo");
    /// // SAFETY: only this program uses the folder.
    /// let error = unsafe { Options::new().open(&path) }.unwrap_err();
    /// assert!(error.to_string().contains("Options::create_all(true)"));
    /// // SAFETY: as above.
    /// let store = unsafe { Options::new().create_all(true).open(&path)? };
    /// # drop(store);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn create_all(mut self, create: bool) -> Self {
        self.create_all = create;
        self
    }

    /// Sets whether this process maintains the ordered indexes of the store. Default: `true`. With
    /// `false`, ranges are answered from the rows, which costs memory or time, and this process
    /// writes nothing to the folder `ordered`; other processes may still maintain the indexes.
    ///
    /// The indexes are stored in sled, which panics if its files cannot be read or written. These
    /// panics are caught, but a program built with `panic = "abort"` is aborted by them; committed
    /// data is not lost. With `ordered(false)`, sled is not used.
    #[must_use]
    pub fn ordered(mut self, keep: bool) -> Self {
        self.unordered = !keep;
        self
    }

    /// Sets the bytes of memory in which this process keeps sorted the rows that it cannot read
    /// from the ordered indexes on disk: recent rows, and all rows if another process has the
    /// indexes open or with [`ordered(false)`](Self::ordered). Default: 256 MiB, for all tables
    /// together. A row takes the bytes of its key and 8 more, or 16 more if keys have many lengths.
    ///
    /// Each range scans the rows that do not fit, at about 10 to 100 ns per row;
    /// [`IndexStats::scanned`](crate::IndexStats) reports their number. A process that has the
    /// indexes open updates them instead.
    #[must_use]
    pub fn index_memory(mut self, bytes: u64) -> Self {
        self.tuning.memory = bytes;
        self
    }

    /// For tests: sets the number of rows from which a table's index is stored on disk, the number
    /// of rows at most that are sorted in memory without a file, the number of rows merged at a
    /// time, and the number of pairs that one scan of the rows keeps.
    #[doc(hidden)]
    #[must_use]
    pub fn ordered_tuning(mut self, small: u64, in_memory: u64, slice: u64, kept: usize) -> Self {
        self.tuning = Tuning { small, in_memory, slice, kept, ..self.tuning };
        self
    }

    /// For tests: sets the bytes on disk from which ordered indexes are compacted if that frees
    /// much space. With 0, they are always compacted.
    #[doc(hidden)]
    #[must_use]
    pub fn ordered_compact_from(mut self, bytes: u64) -> Self {
        self.tuning.compact_from = bytes;
        self
    }

    /// For tests: sets the bytes of the smallest journal segment and the journal bytes between two
    /// checkpoints. With small files, a store is a few pages large, and a short workload starts new
    /// segments, writes checkpoints and fills chunks.
    #[doc(hidden)]
    #[must_use]
    pub fn small_files(mut self, segment: u64, checkpoint_bytes: u64) -> Self {
        self.engine.sizes.segment = segment.max(4096).next_multiple_of(4096);
        self.engine.checkpoint_bytes = checkpoint_bytes.max(1);
        self
    }
}
