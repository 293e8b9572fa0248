//! A snapshot: the store at one `Seq`. Everything it returns borrows from it.

use std::sync::{Arc, OnceLock};

use crate::engine::Engine;
use crate::error::ReadError;
use crate::fields::{HeapError, HeapRead};
use crate::heap;
use crate::ids::{HeapAddr, Seq};
use crate::snapshot_tracker::Pin;
use crate::space::SpaceView;
use crate::state::StoreState;
use crate::table::{TableCore, TableView};

/// A read transaction. It begins and ends without a system call (with one on btrfs and on unknown
/// file systems: `docs/design/full-disk.md`), and holds nothing except a pin.
#[derive(Debug)]
pub struct EngineSnapshot {
    engine: Arc<Engine>,
    state: Arc<StoreState>,
    heap: OnceLock<Arc<SpaceView>>,
    /// Views of the tables that were used, by `TableId`. Rows that are returned borrow from these.
    views: OnceLock<Box<[OnceLock<TableView>]>>,
    pin: Pin,
}

impl Engine {
    /// Begins a read transaction at the newest published commit. Makes no system call and takes no
    /// lock that a writer holds.
    pub fn begin_read(self: &Arc<Self>) -> Result<EngineSnapshot, ReadError> {
        // No error may be returned between the two: dropping the snapshot removes the pin.
        let (state, pin) = self.pin_newest()?;
        Ok(EngineSnapshot::new(Arc::clone(self), state, pin))
    }

    /// Begins a read transaction at a commit that is durable, whatever durability it was committed
    /// with. Syncs the journal if necessary.
    ///
    /// # Errors
    /// As for [`begin_read`](Self::begin_read); [`ReadError::Storage`] if the sync fails, which
    /// poisons the store.
    pub fn begin_durable_read(self: &Arc<Self>) -> Result<EngineSnapshot, ReadError> {
        let snapshot = self.begin_read()?;
        self.make_durable(&snapshot.state)?;
        Ok(snapshot)
    }
}

impl EngineSnapshot {
    fn new(engine: Arc<Engine>, state: Arc<StoreState>, pin: Pin) -> Self {
        Self { engine, state, heap: OnceLock::new(), views: OnceLock::new(), pin }
    }

    /// Returns the commit that this snapshot shows.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.state.seq
    }

    /// Returns the engine of the snapshot.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns all tables of this snapshot.
    ///
    /// # Errors
    /// As for [`table_named`](Self::table_named).
    pub fn tables(&self) -> Result<Vec<Arc<TableCore>>, ReadError> {
        self.engine.ensure_reader_not_forked()?;
        Ok(self.engine.tables_to(self.state.tables.len())?)
    }

    /// Returns the table of that name, if it exists in this snapshot.
    ///
    /// # Errors
    /// [`ReadError::Forked`] in a child made by `fork`; [`ReadError::Storage`] if its schema cannot
    /// be read.
    pub fn table_named(&self, name: &str) -> Result<Option<Arc<TableCore>>, ReadError> {
        self.engine.ensure_reader_not_forked()?;
        self.engine.table_named(name, self.state.tables.len())
    }

    /// Returns a table in this snapshot; `None` for a table that was created later.
    ///
    /// # Errors
    /// [`ReadError::Forked`] in a child made by `fork`, where nothing prevents the rows from being
    /// overwritten; [`ReadError::Storage`] if chunks or marks are damaged.
    ///
    /// # Panics
    /// If the table belongs to another store.
    pub fn view(&self, table: &Arc<TableCore>) -> Result<Option<&TableView>, ReadError> {
        let place = table.id().0 as usize;
        let views = self.views.get_or_init(|| self.state.tables.iter().map(|_| OnceLock::new()).collect());
        if let Some(view) = views.get(place).and_then(OnceLock::get) {
            self.engine.ensure_reader_not_forked()?;
            self.engine.assert_own(table);
            return Ok(Some(view));
        }
        let view = self.owned_view(table)?;
        Ok(view.map(|view| views[place].get_or_init(|| view)))
    }

    /// Works like [`view`](Self::view), but the snapshot does not keep the view: once it is
    /// dropped, the table may release its maps. For callers that read all tables, one after the
    /// other.
    ///
    /// # Errors
    /// As for [`view`](Self::view).
    ///
    /// # Panics
    /// As for [`view`](Self::view).
    pub fn owned_view(&self, table: &Arc<TableCore>) -> Result<Option<TableView>, ReadError> {
        self.engine.ensure_reader_not_forked()?;
        self.engine.assert_own(table);
        let Some(state) = self.state.tables.get(table.id().0 as usize) else { return Ok(None) };
        Ok(Some(table.at(*state, self.state.seq)?))
    }
}

impl HeapRead for EngineSnapshot {
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
        self.engine.ensure_reader_not_forked().map_err(|error| heap::forked(addr, error))?;
        let view = match self.heap.get() {
            Some(view) => view,
            None => {
                let view =
                    self.engine.heap_view(self.state.heap).map_err(|fault| heap::chunk_error(addr, fault))?;
                self.heap.get_or_init(|| view)
            }
        };
        heap::read(view, self.state.heap.len, addr, len, hash)
    }
}

impl Drop for EngineSnapshot {
    fn drop(&mut self) {
        self.engine.unpin(&self.pin);
    }
}
