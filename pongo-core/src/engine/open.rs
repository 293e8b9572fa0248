//! Creating a store, opening it, joining processes that have it open, and closing it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::block_sums::BlockSums;
use super::gate::{Gate, WriterState};
use super::pipeline::Pipeline;
use super::{Engine, EngineOptions, Indexer, SCHEMA_DIR};
use crate::codec::checksum;
use crate::control::{self, Control, Entered};
use crate::error::{OpenError, ReadError, StorageError, WriteError};
use crate::fork::ForkGuard;
use crate::guard::removable;
use crate::ids::{JournalPos, Salt, Seq, TableId};
use crate::journal::{self, CHECKPOINT, Checkpoint, CheckpointHeap, Journal, Scanner, seal};
use crate::marks::DirtyMarks;
use crate::place::Obstacle;
use crate::snapshot_tracker::SnapshotTracker;
use crate::space::{Space, SpaceIdentity};
use crate::storage::{MAX_OPEN_FILES, OpenFiles, Storage};
use crate::superblock::{self, FORMAT_VERSION, Slot, Superblock};
use crate::table::TableCore;

/// Folders of a store.
const DIRS: [&str; 5] = ["journal", "tables", "heap", SCHEMA_DIR, "hash"];

fn older_in_use(storage: &dyn Storage, found: u32) -> OpenError {
    OpenError::OlderInUse { path: storage.name(), expected: FORMAT_VERSION, found }
}

/// Returns the reason why this process cannot join those that have the store open.
fn refused(storage: &dyn Storage, Obstacle { expected, found }: Obstacle) -> OpenError {
    match Superblock::open(storage) {
        // Those processes also use another layout of `control`.
        Ok((_, slot)) if slot.format < FORMAT_VERSION => older_in_use(storage, slot.format),
        _ => OpenError::NotShared { path: storage.name(), expected, found },
    }
}

impl Engine {
    /// Opens the store in `storage`, or creates one if the folder is empty.
    ///
    /// # Errors
    /// [`OpenError`]. A folder that is not a store is left unchanged.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: EngineOptions,
        indexer: Arc<dyn Indexer>,
    ) -> Result<Arc<Self>, OpenError> {
        if cfg!(not(all(target_pointer_width = "64", target_endian = "little"))) {
            return Err(OpenError::Machine {
                found: format!("{} with {}-bit pointers", std::env::consts::ARCH, usize::BITS),
            });
        }
        // Tests, which use small files, keep fewer open, so that files are closed and reopened all
        // the time.
        let most = if options.sizes.segment < journal::SMALLEST { 2 } else { MAX_OPEN_FILES };
        let storage: Arc<dyn Storage> = Arc::new(OpenFiles::over(storage, most));
        ensure_not_foreign(&*storage)?;
        let control = Arc::new(Control::open(&*storage)?);
        let result = match control.register_process()? {
            Entered::Solo => Self::open_alone(&storage, options, indexer, &control),
            Entered::Joined => Self::join(&storage, options, indexer, &control),
            Entered::Refused(obstacle) => Err(refused(&*storage, obstacle)),
        };
        if result.is_err() {
            control.deregister();
        }
        result
    }

    fn open_alone(
        storage: &Arc<dyn Storage>,
        options: EngineOptions,
        indexer: Arc<dyn Indexer>,
        control: &Arc<Control>,
    ) -> Result<Arc<Self>, OpenError> {
        // If `super` is missing, nothing was ever committed here.
        if !list(&**storage)?.iter().any(|name| name == superblock::PATH) {
            create(storage, options.sizes.segment)?;
        }
        let (superblock, slot) = Superblock::open(&**storage)?;
        // Programs that copy stores omit empty folders.
        for dir in DIRS {
            storage.create_dir(dir).map_err(StorageError::io("making", dir))?;
        }
        let engine = Self::recover(storage, options, indexer, control, superblock, slot)?;
        control.mark_ready().map_err(OpenError::Storage)?;
        Ok(engine)
    }

    /// Joins the processes that have the store open: `control` says what is published.
    fn join(
        storage: &Arc<dyn Storage>,
        options: EngineOptions,
        indexer: Arc<dyn Indexer>,
        control: &Arc<Control>,
    ) -> Result<Arc<Self>, OpenError> {
        let (superblock, slot) = Superblock::open(&**storage)?;
        if slot.format < FORMAT_VERSION {
            // The processes that have it open could not read the entries that this one would write.
            return Err(older_in_use(&**storage, slot.format));
        }
        let store = slot.store;
        let (state, scanner) = loop {
            let (counter, state) = control.published();
            match Scanner::begin(storage, store, control.salt(), state.segment, state.journal_end) {
                // A checkpoint recycled the segment after the state was read.
                Err(_) if control.published_counter() != counter => {}
                begun => break (state, begun?),
            }
        };
        let (segment, smallest) = (scanner.into_segment(), options.sizes.segment);
        let journal = Journal::resume(storage, store, control.salt(), segment, state.journal_end, smallest)?;
        let count = state.tables.len();
        let writer = WriterState {
            checkpoint: Arc::default(),
            state: Arc::new(state),
            journal,
            superblock,
            dirty_marks: DirtyMarks::new(),
            marks_sums: std::collections::BTreeMap::new(),
            block_sums: BlockSums::default(),
        };
        let engine = Self::assemble(storage, options, indexer, control, store, writer)?;
        engine.load_tables(count)?;
        Ok(Arc::new(engine))
    }

    pub(super) fn assemble(
        storage: &Arc<dyn Storage>,
        options: EngineOptions,
        indexer: Arc<dyn Indexer>,
        control: &Arc<Control>,
        store: u128,
        writer: WriterState,
    ) -> Result<Self, StorageError> {
        let identity = SpaceIdentity { store, table: None, row_size: 1, fingerprint: 0 };
        Ok(Self {
            storage: Arc::clone(storage),
            options,
            store,
            control: Arc::clone(control),
            pins: SnapshotTracker::new(control)?,
            fork: ForkGuard::new()?,
            heap: Space::open(storage, "heap".to_owned(), identity, options.sizes)?,
            tables: RwLock::default(),
            gate: Gate::new(writer),
            pipeline: Pipeline::new(control),
            unfinished: AtomicBool::new(false),
            // Never zero: that is the value in a new control file.
            owner: uuid::Uuid::new_v4().as_u64_pair().0 | 1,
            indexer,
            latest: RwLock::new((0, Arc::default())),
        })
    }

    /// Adds tables created by a committed transaction to the list.
    pub(super) fn adopt_tables(&self, new: Vec<Arc<TableCore>>) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for table in new {
            debug_assert_eq!(table.id(), TableId(tables.len() as u32));
            tables.push(table);
        }
    }

    /// Does the work of [`close`](Self::close) now, if no other process has the store open and no
    /// transaction is open here. If nothing is written in between, closing has nothing left to do.
    /// A poisoned store is left unchanged.
    ///
    /// # Errors
    /// [`StorageError`] if something cannot be read, written or synced. A failed sync poisons the
    /// store.
    pub fn prepare_close(&self) -> Result<(), ReadError> {
        match self.close() {
            Err(WriteError::Storage(fault)) => Err(fault.into()),
            Err(WriteError::Read(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Closes the store for this process: if no other process has it open, everything is made
    /// durable and marked clean, so that the next open is fast. Called when the last handle is
    /// dropped; errors are then not reported, and their only cost is a slower open.
    pub fn close(&self) -> Result<(), WriteError> {
        if self.fork.is_child() || self.unfinished.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Takes the writer first: two threads of this process share presence, so work that one
        // thread does alone does not exclude the other.
        let Some(mut writer) = self.take_idle_writer() else { return Ok(()) };
        // A failed sync poisons the store, so that neither the drop that follows nor the next
        // process to open the store retries it.
        let close = || self.close_alone(&mut writer).map_err(|error| self.poison_if_sync_failed(error));
        let result = self.control.with_exclusive(close);
        self.return_writer(writer);
        result
    }

    fn close_alone(&self, writer: &mut WriterState) -> Result<(), WriteError> {
        self.ensure_not_poisoned()?;
        if self.control.is_clean() {
            return Ok(());
        }
        self.control.make_writable()?;
        if self.control.last_writer() != self.owner {
            self.take_over(writer)?;
            self.control.set_last_writer(self.owner);
        }
        self.checkpoint(writer, true)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.fork.is_child() {
            let _ = self.close();
            self.control.deregister();
        }
    }
}

fn list(storage: &dyn Storage) -> Result<Vec<String>, OpenError> {
    storage.list("").map_err(|source| OpenError::Folder { path: storage.name(), source })
}

/// Returns an error if the folder has other contents, which are left unchanged.
fn ensure_not_foreign(storage: &dyn Storage) -> Result<(), OpenError> {
    let names = list(storage)?;
    if names.iter().any(|name| name == superblock::PATH) {
        return Ok(());
    }
    let ours = |name: &String| {
        DIRS.contains(&name.as_str()) || name == control::PATH || name == "super.new" || name == "ordered"
    };
    if let Some(other) = names.iter().find(|name| !ours(name)) {
        let found = format!("`{other}` and no `super` file");
        return Err(OpenError::NotAStore { path: storage.name(), found });
    }
    // Rows without a super file: this is not a store whose creation never completed, but one that
    // lost the file.
    let tables = match storage.list("tables") {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        found => found.map_err(|source| OpenError::Folder { path: storage.name(), source })?,
    };
    if !tables.is_empty() {
        return Err(StorageError::corrupt(
            superblock::PATH,
            0,
            "the super file of a store that has tables",
            "no such file",
        )
        .into());
    }
    for dir in DIRS.iter().filter(|&&dir| dir != "tables" && names.iter().any(|name| name == dir)) {
        let files = storage.list(dir).map_err(|source| OpenError::Folder { path: storage.name(), source })?;
        let begun = |file: &String| *dir == "journal" && Journal::is_file_name(file);
        if let Some(other) = files.iter().find(|file| !begun(file)) {
            let found = format!("`{dir}/{other}` and no `super` file");
            return Err(OpenError::NotAStore { path: storage.name(), found });
        }
    }
    Ok(())
}

/// Creates an empty store. The super file is written last.
fn create(storage: &Arc<dyn Storage>, smallest: u64) -> Result<(), StorageError> {
    for dir in DIRS {
        storage.create_dir(dir).map_err(StorageError::io("making", dir))?;
    }
    removable!("create.folder", storage.sync_dir(""))
        .map_err(StorageError::io("syncing", "the store's folder"))?;
    // Remove what an earlier attempt left.
    Journal::sweep(&**storage, |_| false)?;
    let store = uuid::Uuid::new_v4().as_u128();
    let salt = Salt(1);
    let mut journal = Journal::create(storage, store, salt, smallest)?;
    let heap = CheckpointHeap { tail_sum: checksum(&[]), ..CheckpointHeap::default() };
    let mut entry = Checkpoint { heap, ..Checkpoint::default() }.encode();
    let sum = seal(&mut entry, CHECKPOINT, salt, JournalPos(0), JournalPos(0), Seq(0));
    journal.append(&entry)?;
    removable!("create.journal.sync", journal.file().sync())
        .map_err(StorageError::io("syncing", "the journal"))?;
    let slot = Slot {
        format: FORMAT_VERSION,
        store,
        generation: 0,
        salt,
        segment: 0,
        checkpoint: JournalPos(0),
        checkpoint_checksum: sum,
    };
    Superblock::create(&**storage, slot).map(|_| ())
}

/// Removes schema files of tables that were never committed.
pub(super) fn sweep_schemas(storage: &dyn Storage, count: usize) -> Result<(), StorageError> {
    for name in storage.list(SCHEMA_DIR).map_err(StorageError::io("listing", SCHEMA_DIR))? {
        // Other files do not belong to the store.
        let Some((id, rest)) = name.split_once('.') else { continue };
        let Ok(id) = id.parse::<usize>() else { continue };
        if (id >= count && rest.ends_with(".schema")) || rest.ends_with(".schema.new") {
            let path = format!("{SCHEMA_DIR}/{name}");
            // The chunks of such a table stay, unreferenced, until the name is used again.
            storage.remove(&path).map_err(StorageError::io("sweeping", path.as_str()))?;
        }
    }
    Ok(())
}
