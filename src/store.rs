//! Stores: opening, sharing and closing them, and how transactions begin.

use std::any::TypeId;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use pongo_core::engine::{Durability, Engine, EngineOptions, Wait};
use pongo_core::error::{CloseError, Fault, OpenError, ReadError, SchemaMismatch, WriteError};
use pongo_core::record::PongoRecord;
use pongo_core::schema::{HeapField, SchemaDiff, StoredSchema};
use pongo_core::storage::{MemoryStorage, RealStorage, Storage};
use pongo_core::table::TableCore;
use pongo_index::HashIndex;
use pongo_index::ordered::Folder;

use crate::indexes::{self, Indexes};
use crate::ordered::{Home, Keeper, Ordered, Tuning, Worth, catch_up_all};
use crate::unique::Unique;
use crate::{Snapshot, WriteTransaction};

/// How a store is opened.
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
    engine: EngineOptions,
    must_exist: bool,
    unordered: bool,
    tuning: Tuning,
}

impl Options {
    /// What [`Store::open`] takes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The largest chunk file of a table that is not large itself, in bytes: default 16 MiB, at least 64 KiB, rounded up to
    /// whole blocks of 64 KiB. Smaller chunks waste less space in small tables, larger ones need fewer files.
    #[must_use]
    pub fn chunk_size(mut self, bytes: u64) -> Self {
        self.engine.sizes.chunk = bytes.clamp(64 << 10, 1 << 40).next_multiple_of(64 << 10);
        self
    }

    /// Journal bytes after which a commit makes a checkpoint: default 64 MiB, at least 1 MiB. More of them means fewer
    /// checkpoints and a longer recovery (about a second a GiB). Of rows that are loaded in bulk, which the journal only cites, 16
    /// bytes count as one: a recovery compares their checksums.
    #[must_use]
    pub fn checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.engine.checkpoint_bytes = bytes.max(1 << 20);
        self
    }

    /// Bytes of rows and texts that a write transaction holds in memory, with what is known of them; further ones go to the
    /// chunks at once. Default 64 MiB, at least 64 KiB. For each changed row some 48 bytes come on top, and 24 for each unique
    /// index.
    #[must_use]
    pub fn transaction_memory(mut self, bytes: u64) -> Self {
        self.engine.transaction_memory = bytes.max(64 << 10);
        self
    }

    /// Whether [`open`](Self::open) makes a store where there is none: default `true`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.must_exist = !create;
        self
    }

    /// Whether this process keeps the ordered indexes of the store: default `true`. Without, ranges are answered from the
    /// rows, which costs memory or time, and nothing is written to the folder `ordered`; other processes may keep them.
    ///
    /// The indexes lie in sled, which panics where its files cannot be read or written. Such panics are caught; a program built
    /// with `panic = "abort"` dies of them. Nothing that was committed is lost then, and with `ordered(false)` there is no sled.
    #[must_use]
    pub fn ordered(mut self, keep: bool) -> Self {
        self.unordered = !keep;
        self
    }

    /// Bytes of memory in which this process keeps rows sorted that it cannot read from the ordered indexes on disk: those that
    /// came lately, and all where another process has the indexes open, or with [`ordered(false)`](Self::ordered). Default 256
    /// MiB, for all tables together; a row takes the bytes of its key and 8, and 8 more where keys have many lengths.
    ///
    /// Rows for which there is no room are looked through by each range, which takes some 10 to 100 ns a row;
    /// [`IndexStats::scanned`](crate::IndexStats) says how many. A process that has the indexes open brings them up to date instead.
    #[must_use]
    pub fn index_memory(mut self, bytes: u64) -> Self {
        self.tuning.memory = bytes;
        self
    }

    /// For tests: how many rows make a table worth a file, how many at most are put in order in memory without one, how many are merged
    /// at a time, and how many one pass over the rows keeps.
    #[doc(hidden)]
    #[must_use]
    pub fn ordered_tuning(mut self, small: u64, in_memory: u64, slice: u64, kept: usize) -> Self {
        self.tuning = Tuning { small, in_memory, slice, kept, ..self.tuning };
        self
    }

    /// For tests: bytes on disk from which on ordered indexes are compacted if that gives back much; with 0, always.
    #[doc(hidden)]
    #[must_use]
    pub fn ordered_compact_from(mut self, bytes: u64) -> Self {
        self.tuning.compact_from = bytes;
        self
    }

    /// For tests: small files, so that a store is a few pages and a short workload rolls segments, checkpoints and fills
    /// chunks: bytes of the smallest journal segment, and of journal between two checkpoints.
    #[doc(hidden)]
    #[must_use]
    pub fn small_files(mut self, segment: u64, checkpoint_bytes: u64) -> Self {
        self.engine.sizes.segment = segment.max(4096).next_multiple_of(4096);
        self.engine.checkpoint_bytes = checkpoint_bytes.max(1);
        self
    }

    /// Opens the store in folder `path`, or makes one. See [`Store::open`].
    ///
    /// # Errors
    /// [`OpenError`]. A folder that is no store is left as it is.
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
                let found = "none, and is not to make it (`Options::create(false)`)".to_owned();
                return Err(OpenError::NotAStore { path: path.display().to_string(), found });
            }
            storage
        } else {
            RealStorage::create(path).map_err(folder)?
        };
        // The name is resolved now: the process may change its current folder.
        let name = path.canonicalize().map_err(folder)?;
        let kept_in = Arc::new(Folder::new(storage.share_folder().map_err(folder)?, name));
        let home = if self.unordered { Home::Nowhere(Some(kept_in)) } else { Home::Folder(kept_in) };
        self.open_shared(&(Arc::new(storage) as Arc<dyn Storage>), home)
    }

    /// A store in memory, gone with its last handle: same code, same behaviour, no files. Its `Sync` is as quick as its
    /// `Relaxed`.
    ///
    /// # Errors
    /// [`OpenError`], if the system has no memory for it.
    pub fn in_memory(self) -> Result<Store, OpenError> {
        self.open_on(Arc::new(MemoryStorage::new()))
    }

    /// For tests: a store on a storage of the caller's. Each call is a process of its own, as it were. Its ordered indexes lie
    /// in memory.
    ///
    /// # Errors
    /// [`OpenError`].
    #[doc(hidden)]
    pub fn open_on(self, storage: Arc<dyn Storage>) -> Result<Store, OpenError> {
        let home = if self.unordered { Home::Nowhere(None) } else { Home::Memory };
        Ok(Store::of(Arc::new(Shared::open(storage, self, home)?)))
    }

    /// A process has a store open once: a second open shares the first.
    fn open_shared(self, storage: &Arc<dyn Storage>, home: Home) -> Result<Store, OpenError> {
        let folder =
            storage.folder_identity().map_err(|source| OpenError::Folder { path: storage.name(), source })?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Stores that a parent had open when it forked are not this process's.
        let ours =
            |shared: &Weak<Shared>| shared.upgrade().is_some_and(|shared| !shared.engine.is_inherited());
        open.retain(|(_, shared)| ours(shared));
        if let Some(shared) =
            open.iter().find(|(known, _)| *known == folder).and_then(|(_, shared)| shared.upgrade())
        {
            let differs = differs(
                (shared.engine.options(), shared.ordered.has_home(), shared.ordered.memory().limit()),
                (&self.engine, !self.unordered, self.tuning.memory),
            );
            return if differs.is_empty() {
                Ok(Store::of(shared))
            } else {
                Err(OpenError::AlreadyOpen { path: storage.name(), differs })
            };
        }
        let shared = Arc::new(Shared::open(Arc::clone(storage), self, home)?);
        open.push((folder, Arc::downgrade(&shared)));
        Ok(Store::of(shared))
    }
}

/// The options that differ, by the names of their methods.
fn differs(
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
type Open = Vec<((u64, u64), Weak<Shared>)>;
static OPEN: Mutex<Open> = Mutex::new(Vec::new());

/// How many handles and transactions of one store there are. Snapshots, of which there are many, are not counted: whoever else
/// shares a store is one.
#[derive(Debug, Default)]
pub(crate) struct Users {
    handles: AtomicUsize,
    transactions: AtomicUsize,
}

/// One of those. Stands behind what it counts, so that it is dropped after it.
#[derive(Debug)]
pub(crate) struct User {
    users: Arc<Users>,
    of: fn(&Users) -> &AtomicUsize,
}

impl User {
    pub(crate) fn handle(shared: &Shared) -> Self {
        Self::new(&shared.users, |users| &users.handles)
    }

    pub(crate) fn transaction(shared: &Shared) -> Self {
        Self::new(&shared.users, |users| &users.transactions)
    }

    fn new(users: &Arc<Users>, of: fn(&Users) -> &AtomicUsize) -> Self {
        of(users).fetch_add(1, Ordering::Relaxed);
        Self { users: Arc::clone(users), of }
    }
}

impl Clone for User {
    fn clone(&self) -> Self {
        Self::new(&self.users, self.of)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        (self.of)(&self.users).fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the handles of one store share.
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) indexes: Arc<Indexes>,
    pub(crate) ordered: Arc<Ordered>,
    keeper: Keeper,
    finished: AtomicBool,
    /// Who has it, beside snapshots.
    users: Arc<Users>,
    /// Commits of this process, and how many of them the ordered indexes had when they were settled.
    commits: AtomicU64,
    settled: AtomicU64,
    /// Tables whose layout was compared with a type's, by type.
    typed: RwLock<Vec<(TypeId, Arc<Handle>)>>,
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.engine.fmt(f)
    }
}

/// A table that is known to have a type's layout, with its indexes.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) core: Arc<TableCore>,
    pub(crate) index: Arc<HashIndex>,
    /// The unique indexes of the table's stored schema.
    pub(crate) unique: Arc<[Unique]>,
    /// Where a row has texts and blobs.
    pub(crate) heap_fields: Vec<HeapField>,
}

impl Shared {
    fn open(storage: Arc<dyn Storage>, options: Options, home: Home) -> Result<Self, OpenError> {
        let indexes = Arc::new(Indexes::default());
        let engine = Engine::open(storage, options.engine, Arc::clone(&indexes) as _)?;
        let ordered = Arc::new(Ordered::new(home, options.tuning));
        Ok(Self {
            engine,
            indexes,
            ordered,
            keeper: Keeper::default(),
            finished: AtomicBool::new(false),
            users: Arc::default(),
            commits: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            typed: RwLock::default(),
        })
    }

    /// A commit left a table with so many rows, of which so many are alive: if an index lags, the keeper hears of it.
    pub(crate) fn note_rows(&self, core: &Arc<TableCore>, len: u64, live: u64) {
        if self.ordered.has_home()
            && let Some(index) = self.ordered.index(core, &core.schema().key)
            && index.is_due(len, live)
        {
            self.keeper.ring(&self.engine, &self.ordered, beside);
        }
    }

    /// What is left to do before the store is closed: ordered indexes that lag, or are open anyway, are brought up.
    fn finish(&self) {
        if self.engine.is_inherited() {
            self.keeper.forget();
            self.ordered.forget();
            // Whatever could not be forgotten is not closed either.
            std::mem::forget(Arc::clone(&self.ordered));
            return;
        }
        if self.finished.swap(true, Ordering::Relaxed) {
            return;
        }
        self.keeper.end();
        // Who changed nothing writes nothing: an index that others left behind is brought up by who asks it.
        if self.commits.load(Ordering::Relaxed) != self.settled.load(Ordering::Relaxed) {
            let worth = if self.ordered.open_store().is_some() { Worth::Always } else { Worth::IfLagging };
            // An index that is not brought up now will be when it is asked.
            // Minima and maxima in memory are of no more use.
            let _ = catch_up_all(&self.engine, &self.ordered, worth, |_, _| Ok(()));
        }
        self.ordered.close();
    }

    /// This process committed something.
    pub(crate) fn note_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    fn settle(&self) -> Result<(), ReadError> {
        // Before any lock: in a child made by `fork` it may be held by a thread that is not there.
        if self.engine.is_inherited() {
            return Err(ReadError::Forked);
        }
        let commits = self.commits.load(Ordering::Relaxed);
        let caught_up = catch_up_all(&self.engine, &self.ordered, Worth::Always, beside);
        if let Some(blocks) = self.ordered.open_store()
            && let Err(error) = blocks.settle()
        {
            // Everything that was merged is durable: what is doubtful now is made anew.
            self.ordered.doubt(&blocks, &error);
        }
        if caught_up.is_ok() {
            self.settled.store(commits, Ordering::Relaxed);
        }
        // Also where indexes cannot be written: rows do not depend on them.
        self.engine.settle().and(caught_up)
    }

    /// The table of `T`, if `find` has one of its name. Only committed tables may be asked for.
    pub(crate) fn handle<T: PongoRecord>(
        &self,
        find: impl FnOnce(&str) -> Result<Option<Arc<TableCore>>, ReadError>,
    ) -> Result<Option<Arc<Handle>>, ReadError> {
        let kind = TypeId::of::<T>();
        {
            let typed = self.typed.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, handle)) = typed.iter().find(|(known, _)| *known == kind) {
                return Ok(Some(Arc::clone(handle)));
            }
        }
        let Some(core) = find(T::SCHEMA.table)? else { return Ok(None) };
        compare::<T>(&core)?;
        let handle = Arc::new(self.open_handle(core)?);
        let mut typed = self.typed.write().unwrap_or_else(PoisonError::into_inner);
        if !typed.iter().any(|(known, _)| *known == kind) {
            typed.push((kind, Arc::clone(&handle)));
        }
        Ok(Some(handle))
    }

    pub(crate) fn open_handle(&self, core: Arc<TableCore>) -> Result<Handle, Fault> {
        let open = self.indexes.of(&core).map_err(|error| indexes::fault(&core, error))?;
        let heap_fields = core.schema().heap_fields();
        Ok(Handle { core, index: Arc::clone(&open.key), unique: Arc::clone(&open.unique), heap_fields })
    }
}

/// Errs with both layouts, field by field, if a table's rows are not `T`s.
pub(crate) fn compare<T: PongoRecord>(core: &TableCore) -> Result<(), Box<SchemaMismatch>> {
    let diff = SchemaDiff::compare(core.schema(), &StoredSchema::from(T::SCHEMA));
    if diff.is_same_layout() {
        return Ok(());
    }
    Err(Box::new(SchemaMismatch { table: core.schema().table.clone(), diff }))
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the keeper does for a table beside its indexes: minima and maxima of chunks that are full.
fn beside(engine: &Arc<Engine>, core: &Arc<TableCore>) -> Result<(), ReadError> {
    let snapshot = engine.begin_read()?;
    if let Some(view) = snapshot.view(core)? {
        view.seal_zones();
    }
    Ok(())
}

/// A store: a folder of tables, open in this process. Clones share it; the last one that goes closes it.
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
    pub(crate) shared: Arc<Shared>,
    user: User,
}

// What a panic of the caller's leaves behind is sound: a transaction that was open is aborted when it is dropped, and what a store
// remembers is changed only by steps that leave it whole; locks that a panic poisoned are taken all the same.
impl UnwindSafe for Store {}
impl RefUnwindSafe for Store {}

impl Store {
    fn of(shared: Arc<Shared>) -> Self {
        Self { user: User::handle(&shared), shared }
    }

    /// For tests: the engine below, which knows tables that no type was written for.
    #[doc(hidden)]
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    /// Opens the store in folder `path` with default [`Options`], or makes one there if the folder is empty or missing
    /// (the folder it lies in must exist). A second open in the same process shares the first; other processes may have
    /// it open at the same time.
    ///
    /// Costs a few milliseconds after a clean close. After a crash the journal is replayed (about a second a GiB), and
    /// after a power cut the hash indexes are rebuilt from the rows (some million rows a second).
    ///
    /// # Errors
    /// [`OpenError`]: the folder holds something else, another version, damaged files, or cannot be read and written.
    /// Whatever it is, the files are left as they are. [`OpenError::NotShared`]: another process has the store open with which
    /// this one shares no memory, as on a network file system between machines. Processes in several containers, mount
    /// namespaces or chroots of one machine share a store on a local file system.
    ///
    /// # Safety
    /// Rows are read straight from mapped files, as `&T`. The caller promises that as long as the store is open, in this
    /// process or another, its files are changed by PongoDB only: not truncated, overwritten or copied over by other
    /// programs, and not on a file system that does so by itself (a network share that others write to). Reading them,
    /// for a backup, is fine. What is on the disk when the store is opened may be anything: it is checked.
    ///
    /// And: a child made by `fork` (not by `std::process::Command`) uses nothing that it had borrowed from a store before
    /// the fork once its parent has closed that store or ended, and nothing at all that it had borrowed from a write
    /// transaction. Its inherited handles err; it can open the store anew.
    ///
    /// # Limits
    /// 64 processes at a time; 255 tables; 1 GiB a row; 4 GiB a text or blob. Under a limit of file sizes (`ulimit -f`) the
    /// kernel ends a process that does not ignore `SIGXFSZ`; what was committed is safe.
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
        // SAFETY: the promise is passed on as it is.
        unsafe { Options::new().open(path) }
    }

    /// A store in memory with default [`Options`].
    ///
    /// # Errors
    /// As for [`Options::in_memory`].
    pub fn in_memory() -> Result<Self, OpenError> {
        Options::new().in_memory()
    }

    /// Begins a read transaction at the newest published commit, of whatever process. Takes some 100 ns and no lock that a
    /// writer holds; a snapshot neither blocks nor is blocked by anything.
    ///
    /// # Errors
    /// [`ReadError::Forked`] in a child made by `fork`.
    pub fn begin_read(&self) -> Result<Snapshot, ReadError> {
        Ok(Snapshot::new(self.shared.engine.begin_read()?, Arc::clone(&self.shared)))
    }

    /// Begins a write transaction whose commit is durable: [`begin_write_with`](Self::begin_write_with) of
    /// [`Durability::Sync`].
    ///
    /// # Errors
    /// As there.
    pub fn begin_write(&self) -> Result<WriteTransaction, WriteError> {
        self.begin_write_with(Durability::Sync)
    }

    /// Begins a write transaction, when no other is at work in this store: waits for those of other threads and
    /// processes, as long as they take. [`try_begin_write`](Self::try_begin_write) does not wait, and
    /// [`begin_write_timeout`](Self::begin_write_timeout) not longer than that.
    ///
    /// # Errors
    /// [`WriteError::OpenInThread`] in the thread that began the transaction that is open, or last opened a table of it;
    /// [`WriteError::Poisoned`] after a failed write or sync, [`WriteError::Forked`] in a child made by `fork`.
    pub fn begin_write_with(&self, durability: Durability) -> Result<WriteTransaction, WriteError> {
        Ok(WriteTransaction::new(self.shared.engine.begin_write()?, Arc::clone(&self.shared), durability))
    }

    /// Begins a write transaction if no other is at work in this store; returns `None` if one is, in this process or
    /// another. May wait for a moment, for the sync of commits that were made.
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

    /// Begins a write transaction, waiting for others no longer than that; returns `None` if one is still at work then.
    ///
    /// # Errors
    /// As for [`begin_write_with`](Self::begin_write_with).
    pub fn begin_write_timeout(&self, timeout: Duration) -> Result<Option<WriteTransaction>, WriteError> {
        let wait = Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until);
        let guard = self.shared.engine.begin_write_within(wait)?;
        let begun = |guard| WriteTransaction::new(guard, Arc::clone(&self.shared), Durability::Sync);
        Ok(guard.map(begun))
    }

    /// Brings the ordered indexes of all tables up to the newest commit, now and in this thread: after a bulk load, say, so that
    /// the first range does not have to. Otherwise they are brought up in the background when they lag by an eighth of the live
    /// rows, or still have as many pairs of deleted ones; when a range needs them, and when the store is closed.
    ///
    /// Then everything is made durable as [`close`](Self::close) does it, unless a transaction is open or another process has the
    /// store open: closing costs no more than opening if nothing is written in between.
    ///
    /// Costs some 0.3 µs a new row and index, some 10 ns a pair where deleted rows are a sixteenth of all or more, and, if
    /// something was written, what closing would cost. Indexes that another process has open are left alone.
    ///
    /// # Errors
    /// [`ReadError`] if rows cannot be read; if the index cannot be written, for want of space say: ranges are answered from the rows
    /// then. If something cannot be made durable; a sync that fails poisons the store.
    pub fn settle(&self) -> Result<(), ReadError> {
        self.shared.settle()
    }

    /// Closes the store: makes everything durable, so that the next open is quick. Dropping what keeps the store open does the
    /// same, but has nobody to tell if it fails.
    ///
    /// Costs what was written since the last checkpoint: it is synced, and the hash indexes are read once. After
    /// [`settle`](Self::settle), or if nothing was written, it costs no more than opening the store. Where other processes have the
    /// store open, it is closed in this one only.
    ///
    /// # Errors
    /// [`CloseError::InUse`] if other handles, snapshots or transactions of this process use the store, with how many of each. They can
    /// be used on; the store is closed when the last of them is dropped.
    ///
    /// [`CloseError::Failed`] if the store was closed, but not everything could be made durable: what was committed with
    /// [`Durability::Sync`] is safe all the same, and the next open recovers it.
    ///
    /// ```
    /// use pongo::CloseError;
    /// use pongo::prelude::*;
    ///
    /// let store = Store::in_memory()?;
    /// let snapshot = store.begin_read()?;
    /// let other = store.clone();
    /// assert!(matches!(store.close(), Err(CloseError::InUse { handles: 1, snapshots: 1, transactions: 0 })));
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
            // Whoever opens the store meanwhile either shares it, and is counted, or opens it anew.
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
                // The last other one was dropped since it was counted.
            }
        };
        shared.finish();
        Ok(shared.engine.close()?)
    }
}
