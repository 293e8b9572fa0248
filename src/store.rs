//! Opening, sharing and closing stores, and starting transactions.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use pongo_core::engine::{Durability, Engine, EngineOptions, Wait};
use pongo_core::error::{CloseError, OpenError, ReadError, WriteError};
use pongo_core::storage::{MemoryStorage, RealStorage, Storage};
use pongo_index::ordered::Folder;

use crate::options::Options;
use crate::ordered_index::IndexStorage;
use crate::shared::{SharedStore, User};
use crate::snapshot::Snapshot;
use crate::transaction::WriteTransaction;

impl Options {
    /// Opens the store in folder `path`, or creates one. See [`Store::open`].
    ///
    /// # Errors
    /// [`OpenError`]. A folder that does not hold a store is not changed.
    ///
    /// # Safety
    /// As for [`Store::open`].
    #[allow(unsafe_code, reason = "the promise is the caller's, see Store::open")]
    pub unsafe fn open(self, path: impl AsRef<Path>) -> Result<Store, OpenError> {
        let path = path.as_ref();
        let folder = |source| OpenError::Folder { path: path.display().to_string(), source };
        let storage = if self.must_exist {
            let storage = RealStorage::open(path).map_err(folder)?;
            if !path.join("super").try_exists().map_err(folder)? {
                let found = "none, and is not to make it (`Options::create_if_missing(false)`)".to_owned();
                return Err(OpenError::NotAStore { path: path.display().to_string(), found });
            }
            storage
        } else {
            let created =
                if self.create_all { RealStorage::create_all(path) } else { RealStorage::create(path) };
            created.map_err(folder)?
        };
        // Resolved now, because the process may change its current folder later.
        let name = path.canonicalize().map_err(folder)?;
        let kept_in = Arc::new(Folder::new(storage.share_folder().map_err(folder)?, name));
        let home = if self.unordered {
            IndexStorage::Disabled(Some(kept_in))
        } else {
            IndexStorage::Folder(kept_in)
        };
        self.open_shared(&(Arc::new(storage) as Arc<dyn Storage>), home)
    }

    /// Creates a store in memory, which is dropped with its last handle. It uses the same code and
    /// behaves the same, but writes no files. [`Durability::Sync`] is as fast as
    /// [`Durability::Relaxed`].
    ///
    /// # Errors
    /// [`OpenError`] if memory cannot be allocated.
    pub fn in_memory(self) -> Result<Store, OpenError> {
        self.open_on(Arc::new(MemoryStorage::new()))
    }

    /// For tests: opens a store on the given storage. Each call acts as a separate process. The
    /// ordered indexes are kept in memory.
    ///
    /// # Errors
    /// [`OpenError`].
    #[doc(hidden)]
    pub fn open_on(self, storage: Arc<dyn Storage>) -> Result<Store, OpenError> {
        let home = if self.unordered { IndexStorage::Disabled(None) } else { IndexStorage::Memory };
        Ok(Store::of(Arc::new(SharedStore::open(storage, self, home)?)))
    }

    /// Opens a store, or shares the one that this process already has open in the same folder.
    fn open_shared(self, storage: &Arc<dyn Storage>, home: IndexStorage) -> Result<Store, OpenError> {
        let folder =
            storage.folder_identity().map_err(|source| OpenError::Folder { path: storage.name(), source })?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Stores that a parent process had open when it forked do not belong to this process.
        let ours =
            |shared: &Weak<SharedStore>| shared.upgrade().is_some_and(|shared| !shared.engine.is_inherited());
        open.retain(|(_, shared)| ours(shared));
        if let Some(shared) =
            open.iter().find(|(known, _)| *known == folder).and_then(|(_, shared)| shared.upgrade())
        {
            let differs = describe_option_conflicts(
                (shared.engine.options(), shared.ordered.is_enabled(), shared.ordered.memory().limit()),
                (&self.engine, !self.unordered, self.tuning.memory),
            );
            return if differs.is_empty() {
                Ok(Store::of(shared))
            } else {
                Err(OpenError::AlreadyOpen { path: storage.name(), differs })
            };
        }
        let shared = Arc::new(SharedStore::open(Arc::clone(storage), self, home)?);
        open.push((folder, Arc::downgrade(&shared)));
        Ok(Store::of(shared))
    }
}

/// Describes the options that differ, by the names of their methods.
fn describe_option_conflicts(
    (open, kept, memory): (&EngineOptions, bool, u64),
    (asked, keep, memory_asked): (&EngineOptions, bool, u64),
) -> String {
    let differing = [
        ("chunk_size", open.sizes.chunk.to_string(), asked.sizes.chunk.to_string()),
        ("checkpoint_bytes", open.checkpoint_bytes.to_string(), asked.checkpoint_bytes.to_string()),
        ("transaction_memory", open.transaction_memory.to_string(), asked.transaction_memory.to_string()),
        ("ordered", kept.to_string(), keep.to_string()),
        ("index_memory", memory.to_string(), memory_asked.to_string()),
    ];
    let differing = differing.iter().filter(|(_, open, asked)| open != asked);
    let say = |(name, open, asked): &(&str, String, String)| format!("{name} is {open}, asked for {asked}");
    differing.map(say).collect::<Vec<_>>().join("; ")
}

/// The stores that are open in this process, by device and inode of their folders.
type Open = Vec<((u64, u64), Weak<SharedStore>)>;
static OPEN: Mutex<Open> = Mutex::new(Vec::new());

/// A store: a folder of tables, open in this process. Clones share it. It is closed when the last
/// clone, snapshot or transaction is dropped.
///
/// ```
/// use pongo::prelude::*;
///
/// #[pongo::record]
/// #[pongo(table = "trades")]
/// struct Trade {
///     #[pongo(key)]
///     id: u64,
///     price: f64,
/// }
///
/// let store = Store::in_memory()?;
/// let tx = store.begin_write()?;
/// tx.table::<Trade>()?.put(&Trade { id: 7, price: 1.5 })?;
/// tx.commit()?;
///
/// let snapshot = store.begin_read()?;
/// let trades = snapshot.table::<Trade>()?;
/// assert_eq!(trades.get(&7)?.map(|trade| trade.price), Some(1.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) shared: Arc<SharedStore>,
    user: User,
}

// A panic in the caller's code leaves the store consistent: an open transaction is aborted when it
// is dropped, every change of a store's shared state leaves it valid at each step, and locks that a
// panic poisoned are still acquired.
impl UnwindSafe for Store {}
impl RefUnwindSafe for Store {}

impl Store {
    fn of(shared: Arc<SharedStore>) -> Self {
        Self { user: User::handle(&shared), shared }
    }

    /// For tests: returns the underlying engine, which can access tables without a Rust type.
    #[doc(hidden)]
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    /// Opens the store in folder `path` with default [`Options`], or creates one if the folder is
    /// empty or missing. The parent folder must exist; [`Options::create_all`] creates it. A second
    /// open in the same process shares the first; other processes may have the store open at the
    /// same time.
    ///
    /// Costs a few milliseconds after a clean close. After a crash the journal is replayed (about
    /// one second per GiB). After a power failure the hash indexes are rebuilt from the rows (a few
    /// million rows per second).
    ///
    /// # Limits
    /// 64 processes at a time; 255 tables; 1 GiB per row; 4 GiB per text or blob. Under a file size
    /// limit (`ulimit -f`) the kernel terminates a process that does not ignore `SIGXFSZ`;
    /// committed data is safe.
    ///
    /// # Errors
    /// - [`OpenError`] if the folder holds something other than a store, another format version or
    ///   damaged files, or cannot be read and written. The files are not changed in any of these
    ///   cases.
    /// - [`OpenError::NotShared`] if another process has the store open with which this process
    ///   cannot share memory, as on a network file system between machines. Processes in different
    ///   containers, mount namespaces or chroots of one machine can share a store on a local file
    ///   system.
    ///
    /// # Safety
    /// Rows are read directly from mapped files, as `&T`. The caller must guarantee that while the
    /// store is open, in this process or another, only PongoDB changes its files: other programs
    /// must not truncate, overwrite or replace them, and they must not be on a file system that
    /// changes them itself (such as a network share that others write to). Reading the files, for a
    /// backup, is allowed. The contents of the files when the store is opened may be anything: they
    /// are checked.
    ///
    /// The caller must also guarantee that a child made by `fork` (not by `std::process::Command`)
    /// uses nothing that it had borrowed from a store before the fork after its parent has closed
    /// that store or ended, and nothing at all that it had borrowed from a write transaction.
    /// Handles inherited by the child return errors; the child can open the store again.
    ///
    /// ```no_run
    /// use pongo::prelude::*;
    ///
    /// // SAFETY: this program's own folder; nothing else writes to it.
    /// let store = unsafe { Store::open("trades.pongo")? };
    /// # Ok::<(), pongo::OpenError>(())
    /// ```
    #[allow(unsafe_code, reason = "only the caller can promise that no other program changes the files")]
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        // SAFETY: this function has the same safety contract, which its caller upholds.
        unsafe { Options::new().open(path) }
    }

    /// Creates a store in memory with default [`Options`].
    ///
    /// # Errors
    /// As for [`Options::in_memory`].
    pub fn in_memory() -> Result<Self, OpenError> {
        Options::new().in_memory()
    }

    /// Starts a read transaction at the newest published commit of any process.
    ///
    /// Takes about 100 ns and no lock that a writer holds. A snapshot neither blocks other
    /// transactions nor is blocked by them.
    ///
    /// # Errors
    /// [`ReadError::Forked`] in a child made by `fork`.
    pub fn begin_read(&self) -> Result<Snapshot, ReadError> {
        Ok(Snapshot::new(self.shared.engine.begin_read()?, Arc::clone(&self.shared)))
    }

    /// Starts a write transaction whose commit is durable:
    /// [`begin_write_with`](Self::begin_write_with) and [`Durability::Sync`].
    ///
    /// # Errors
    /// As for [`begin_write_with`](Self::begin_write_with).
    pub fn begin_write(&self) -> Result<WriteTransaction, WriteError> {
        self.begin_write_with(Durability::Sync)
    }

    /// Starts a write transaction, and waits without a time limit while another is open in this
    /// store, in this process or another. [`try_begin_write`](Self::try_begin_write) does not wait,
    /// and [`begin_write_timeout`](Self::begin_write_timeout) waits for a limited time.
    ///
    /// # Errors
    /// - [`WriteError::OpenInThread`] if the calling thread started the transaction that is open,
    ///   or was the last to open a table in it.
    /// - [`WriteError::Poisoned`] after a failed write or sync.
    /// - [`WriteError::Forked`] in a child made by `fork`.
    pub fn begin_write_with(&self, durability: Durability) -> Result<WriteTransaction, WriteError> {
        Ok(WriteTransaction::new(self.shared.engine.begin_write()?, Arc::clone(&self.shared), durability))
    }

    /// Starts a write transaction, or returns `None` if another is open in this store, in this
    /// process or another. May wait briefly for the sync of earlier commits.
    ///
    /// # Errors
    /// As for [`begin_write_with`](Self::begin_write_with).
    ///
    /// ```
    /// # use pongo::prelude::*;
    /// let store = Store::in_memory()?;
    /// let tx = store.begin_write()?;
    /// std::thread::scope(|scope| {
    ///     let other = scope.spawn(|| store.try_begin_write().map(|tx| tx.is_none()));
    ///     assert!(other.join().unwrap().unwrap());
    /// });
    /// drop(tx);
    /// assert!(store.try_begin_write()?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_begin_write(&self) -> Result<Option<WriteTransaction>, WriteError> {
        self.begin_write_timeout(Duration::ZERO)
    }

    /// Starts a write transaction, waiting at most `timeout` for others. Returns `None` if another
    /// is still open then.
    ///
    /// # Errors
    /// As for [`begin_write_with`](Self::begin_write_with).
    pub fn begin_write_timeout(&self, timeout: Duration) -> Result<Option<WriteTransaction>, WriteError> {
        let wait = Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until);
        let guard = self.shared.engine.begin_write_within(wait)?;
        let begun = |guard| WriteTransaction::new(guard, Arc::clone(&self.shared), Durability::Sync);
        Ok(guard.map(begun))
    }

    /// Brings the ordered indexes of all tables up to the newest commit, in the calling thread: for
    /// example after a bulk load, so that the first range does not have to. Otherwise they are
    /// brought up to date in the background when they lag by an eighth of the live rows or contain
    /// that many pairs of deleted rows, when a range needs them, and when the store is closed.
    ///
    /// Then makes everything durable as [`close`](Self::close) does, unless a transaction is open
    /// or another process has the store open. If nothing is written between this call and the
    /// close, closing costs no more than opening.
    ///
    /// Costs about 0.3 µs per new row and index, about 10 ns per pair if deleted rows are a
    /// sixteenth of all rows or more, and, if something was written, the cost of closing. Indexes
    /// that another process has open are not changed.
    ///
    /// # Errors
    /// [`ReadError`]
    /// - if rows cannot be read;
    /// - if an index cannot be written, for example because the disk is full; ranges are then
    ///   answered from the rows;
    /// - if something cannot be made durable; a failed sync poisons the store.
    pub fn catch_up_indexes(&self) -> Result<(), ReadError> {
        self.shared.catch_up_indexes()
    }

    /// The earlier name of [`catch_up_indexes`](Self::catch_up_indexes). The comparison program of
    /// pongo-bench (`dev/bench/base/`) is one source that is compiled against this tree
    /// and against an older commit, which has only this name.
    ///
    /// # Errors
    /// Those of [`catch_up_indexes`](Self::catch_up_indexes).
    #[doc(hidden)]
    pub fn settle(&self) -> Result<(), ReadError> {
        self.catch_up_indexes()
    }

    /// Closes the store: makes everything durable, so that the next open is fast. Dropping the last
    /// handle, snapshot or transaction does the same, but cannot report an error.
    ///
    /// Syncs what was written since the last checkpoint, and reads the hash indexes once. After
    /// [`catch_up_indexes`](Self::catch_up_indexes), or if nothing was written, it costs no more
    /// than opening the store. If other processes have the store open, it is closed in this process
    /// only.
    ///
    /// # Errors
    /// - [`CloseError::InUse`] with their numbers if other handles, snapshots or transactions of
    ///   this process use the store. They stay usable; the store is closed when the last of them is
    ///   dropped.
    /// - [`CloseError::Failed`] if the store was closed, but not everything could be made durable.
    ///   Commits with [`Durability::Sync`] are durable nevertheless, and the next open recovers
    ///   them.
    ///
    /// ```
    /// use pongo::CloseError;
    /// use pongo::prelude::*;
    ///
    /// let store = Store::in_memory()?;
    /// let snapshot = store.begin_read()?;
    /// let other = store.clone();
    /// let closed = store.close();
    /// assert!(matches!(closed, Err(CloseError::InUse { handles: 1, snapshots: 1, transactions: 0 })));
    /// drop(snapshot);
    /// other.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) -> Result<(), CloseError> {
        let Self { mut shared, user } = self;
        if shared.engine.is_inherited() {
            return Err(WriteError::Forked.into());
        }
        let users = Arc::clone(&shared.users);
        let shared = {
            // Under this lock, so that a thread that opens the store concurrently either shares it
            // and is counted, or opens it again afterwards.
            let _open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            drop(user);
            loop {
                let handles = users.handles.load(Ordering::Relaxed);
                let transactions = users.transactions.load(Ordering::Relaxed);
                let snapshots = (Arc::strong_count(&shared) - 1).saturating_sub(handles + transactions);
                shared = match Arc::try_unwrap(shared) {
                    Ok(shared) => break shared,
                    Err(shared) => shared,
                };
                if handles + transactions + snapshots > 0 {
                    return Err(CloseError::InUse { handles, snapshots, transactions });
                }
                // The last other reference was dropped after the numbers were read.
            }
        };
        shared.finish();
        Ok(shared.engine.close()?)
    }
}
