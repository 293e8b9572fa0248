//! State that the handles, snapshots and transactions of one store share ([`SharedStore`]).

use std::any::TypeId;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use pongo_core::engine::Engine;
use pongo_core::error::{OpenError, ReadError, SchemaMismatch, StorageError};
use pongo_core::fields::HeapRead;
use pongo_core::record::PongoRecord;
use pongo_core::schema::{HeapField, SchemaDiff, StoredSchema};
use pongo_core::storage::Storage;
use pongo_core::table::TableCore;
use pongo_index::HashIndex;

use crate::index::error::fault;
use crate::index::hash::Indexes;
use crate::index::unique::Unique;
use crate::options::Options;
use crate::ordered_index::{CatchUp, IndexStorage, IndexWorker, OrderedIndexes, catch_up_all};

/// The numbers of handles and transactions of one store. Snapshots are not counted here, because
/// there are many: every other reference to the store is a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) handles: AtomicUsize,
    pub(crate) transactions: AtomicUsize,
}

/// A counted handle or transaction. As a field, it is declared after what it counts, so that it is
/// dropped later.
#[derive(Debug)]
pub(crate) struct User {
    users: Arc<Users>,
    of: fn(&Users) -> &AtomicUsize,
}

impl User {
    pub(crate) fn handle(shared: &SharedStore) -> Self {
        Self::new(&shared.users, |users| &users.handles)
    }

    pub(crate) fn transaction(shared: &SharedStore) -> Self {
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

/// State that the handles of one store share.
pub(crate) struct SharedStore {
    pub(crate) engine: Arc<Engine>,
    pub(crate) indexes: Arc<Indexes>,
    pub(crate) ordered: Arc<OrderedIndexes>,
    index_worker: IndexWorker,
    finished: AtomicBool,
    /// The numbers of handles and transactions that use the store.
    pub(crate) users: Arc<Users>,
    /// Number of commits of this process, and its value when the ordered indexes were last brought
    /// up to date.
    commits: AtomicU64,
    caught_up: AtomicU64,
    /// Tables whose layout was compared with that of a Rust type, by type.
    typed: RwLock<Vec<(TypeId, Arc<TableHandle>)>>,
}

impl core::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.engine.fmt(f)
    }
}

/// A table whose layout is known to match a Rust type, with its indexes.
#[derive(Clone)]
pub(crate) struct TableHandle {
    pub(crate) core: Arc<TableCore>,
    pub(crate) index: Arc<HashIndex>,
    /// The unique indexes of the table's stored schema.
    pub(crate) unique: Arc<[Unique]>,
    /// The fields of a row that hold texts and blobs.
    pub(crate) heap_fields: Vec<HeapField>,
}

impl SharedStore {
    /// Opens the engine and the indexes of a store.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        options: Options,
        home: IndexStorage,
    ) -> Result<Self, OpenError> {
        let indexes = Arc::new(Indexes::default());
        let engine = Engine::open(storage, options.engine, Arc::clone(&indexes) as _)?;
        let ordered = Arc::new(OrderedIndexes::new(home, options.tuning));
        Ok(Self {
            engine,
            indexes,
            ordered,
            index_worker: IndexWorker::default(),
            finished: AtomicBool::new(false),
            users: Arc::default(),
            commits: AtomicU64::new(0),
            caught_up: AtomicU64::new(0),
            typed: RwLock::default(),
        })
    }

    /// Wakes the background indexer if an index lags, after a commit left a table with `len` rows,
    /// `live` of them not deleted.
    pub(crate) fn note_rows(&self, core: &Arc<TableCore>, len: u64, live: u64) {
        if self.ordered.is_enabled()
            && let Some(index) = self.ordered.index(core, &core.schema().key)
            && index.is_due(len, live)
        {
            self.index_worker.wake(&self.engine, &self.ordered, seal_zone_maps);
        }
    }

    /// Brings ordered indexes up to date before the store is closed: all of them if their files are
    /// open, else those that lag.
    pub(crate) fn finish(&self) {
        if self.engine.is_inherited() {
            self.index_worker.forget();
            self.ordered.forget();
            // What could not be forgotten must not be closed either, so this reference is leaked.
            std::mem::forget(Arc::clone(&self.ordered));
            return;
        }
        if self.finished.swap(true, Ordering::Relaxed) {
            return;
        }
        self.index_worker.end();
        // A process that committed nothing writes nothing: an index that another process left
        // lagging is brought up to date by the next process that reads it.
        if self.commits.load(Ordering::Relaxed) != self.caught_up.load(Ordering::Relaxed) {
            let worth =
                if self.ordered.open_store().is_some() { CatchUp::Always } else { CatchUp::IfLagging };
            // Errors are ignored: an index that is not brought up to date now will be at its next
            // use. Zone maps in memory are not sealed, because nothing reads them after this.
            let _ = catch_up_all(&self.engine, &self.ordered, worth, |_, _| Ok(()));
        }
        self.ordered.close();
    }

    /// Counts a commit of this process.
    pub(crate) fn note_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Brings the ordered indexes up to date and makes everything durable, as
    /// `Store::catch_up_indexes` does.
    pub(crate) fn catch_up_indexes(&self) -> Result<(), ReadError> {
        // Checked before any lock is taken: in a child made by `fork`, a lock may be held by a
        // thread that does not exist in the child.
        if self.engine.is_inherited() {
            return Err(ReadError::Forked);
        }
        let commits = self.commits.load(Ordering::Relaxed);
        let caught_up = catch_up_all(&self.engine, &self.ordered, CatchUp::Always, seal_zone_maps);
        if let Some(blocks) = self.ordered.open_store()
            && let Err(error) = blocks.sync_removals()
        {
            // All merged rows are durable, so a damaged index can be rebuilt.
            self.ordered.handle_corruption(&blocks, &error);
        }
        if caught_up.is_ok() {
            self.caught_up.store(commits, Ordering::Relaxed);
        }
        // Also done if indexes cannot be written: rows do not depend on them.
        self.engine.prepare_close().and(caught_up)
    }

    /// Returns the handle of `T`'s table, or `None` if `find` does not find a table of its name.
    /// `find` must return committed tables only.
    pub(crate) fn handle<T: PongoRecord>(
        &self,
        find: impl FnOnce(&str) -> Result<Option<Arc<TableCore>>, ReadError>,
    ) -> Result<Option<Arc<TableHandle>>, ReadError> {
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

    pub(crate) fn open_handle(&self, core: Arc<TableCore>) -> Result<TableHandle, StorageError> {
        let open = self.indexes.of(&core).map_err(|error| fault(&core, error))?;
        let heap_fields = core.schema().heap_fields();
        Ok(TableHandle { core, index: Arc::clone(&open.key), unique: Arc::clone(&open.unique), heap_fields })
    }
}

/// Returns an error with both layouts, field by field, if the rows of a table are not `T`s.
pub(crate) fn compare<T: PongoRecord>(core: &TableCore) -> Result<(), Box<SchemaMismatch>> {
    let diff = SchemaDiff::compare(core.schema(), &StoredSchema::from(T::SCHEMA));
    if diff.is_same_layout() {
        return Ok(());
    }
    Err(Box::new(SchemaMismatch { table: core.schema().table.clone(), diff }))
}

impl Drop for SharedStore {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Computes the zone maps (minima and maxima) of full chunks. The background indexer calls this for
/// a table in addition to updating its indexes.
fn seal_zone_maps(engine: &Arc<Engine>, core: &Arc<TableCore>) -> Result<(), ReadError> {
    let snapshot = engine.begin_read()?;
    if let Some(view) = snapshot.view(core)? {
        view.seal_zones();
    }
    Ok(())
}

/// The snapshot or transaction whose tables are read.
#[derive(Clone, Copy)]
pub(crate) struct Source<'s> {
    pub(crate) shared: &'s Arc<SharedStore>,
    pub(crate) heap: &'s (dyn HeapRead + Sync),
}
