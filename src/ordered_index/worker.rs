//! [`IndexWorker`]: a background thread that brings lagging ordered indexes up to date, outside the
//! commit path.
//!
//! The first commit that leaves an index lagging starts the thread, so small stores have none. It
//! sleeps until it is woken, holds a strong reference to the engine only while it works, and ends
//! when the store is closed.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use pongo_core::engine::Engine;
use pongo_core::error::ReadError;
use pongo_core::table::TableCore;

use super::{CatchUp, OrderedIndexes, lock};

#[derive(Debug, Default)]
struct WakeState {
    asked: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct WakeSignal {
    signal: Mutex<WakeState>,
    rung: Condvar,
}

/// Starts, wakes and ends the index worker thread; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct IndexWorker {
    wake_signal: Arc<WakeSignal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Additional work for a table, done after its indexes.
pub(crate) type AfterCatchUp = fn(&Arc<Engine>, &Arc<TableCore>) -> Result<(), ReadError>;

impl IndexWorker {
    /// Wakes the thread, or starts it, because an index lags.
    pub(crate) fn wake(
        &self,
        engine: &Arc<Engine>,
        ordered: &Arc<OrderedIndexes>,
        after_catch_up: AfterCatchUp,
    ) {
        {
            let mut signal = lock(&self.wake_signal.signal);
            if signal.asked || signal.ended {
                return;
            }
            signal.asked = true;
            self.wake_signal.rung.notify_one();
        }
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (wake_signal, engine, ordered) =
                (Arc::clone(&self.wake_signal), Arc::downgrade(engine), Arc::downgrade(ordered));
            let work = move || run(&wake_signal, &engine, &ordered, after_catch_up);
            // Without a thread, indexes are brought up to date by the queries that use them.
            *thread = std::thread::Builder::new().name("pongo-indexer".to_owned()).spawn(work).ok();
            if thread.is_none() {
                // A later commit tries again.
                lock(&self.wake_signal.signal).asked = false;
            }
        }
    }

    /// Waits until the thread has finished its current work, and ends it.
    pub(crate) fn end(&self) {
        lock(&self.wake_signal.signal).ended = true;
        self.wake_signal.rung.notify_one();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Detaches the thread in a child created by `fork`, where it does not exist.
    pub(crate) fn forget(&self) {
        if let Ok(mut thread) = self.thread.try_lock() {
            std::mem::forget(thread.take());
        }
    }
}

fn run(
    wake_signal: &WakeSignal,
    engine: &Weak<Engine>,
    ordered: &Weak<OrderedIndexes>,
    after_catch_up: AfterCatchUp,
) {
    loop {
        {
            let mut signal = lock(&wake_signal.signal);
            while !signal.asked && !signal.ended {
                signal = wake_signal.rung.wait(signal).unwrap_or_else(PoisonError::into_inner);
            }
            if signal.ended {
                return;
            }
            signal.asked = false;
        }
        let (Some(engine), Some(ordered)) = (engine.upgrade(), ordered.upgrade()) else { return };
        // The error is dropped: the next query repeats the work and reports its own error.
        let _ = catch_up_all(&engine, &ordered, CatchUp::IfLagging, after_catch_up);
    }
}

/// Brings all indexes of all tables up to date.
pub(crate) fn catch_up_all(
    engine: &Arc<Engine>,
    ordered: &OrderedIndexes,
    worth: CatchUp,
    after_catch_up: AfterCatchUp,
) -> Result<(), ReadError> {
    let tables = engine.begin_read()?.tables()?;
    let mut outcome = Ok(());
    for core in &tables {
        if ordered.is_enabled() {
            for index in ordered.indexes_of(core) {
                // An index that cannot be brought up does not keep the others from it.
                outcome = outcome.and(index.catch_up(ordered, engine, worth)).and(index.note_kept(engine));
            }
        }
        outcome = outcome.and(after_catch_up(engine, core));
    }
    if let Some(store) = ordered.open_store() {
        let tidied = store.tidy().map_err(|error| {
            pongo_core::error::StorageError::Index { table: "ordered".to_owned(), source: Box::new(error) }
                .into()
        });
        outcome = outcome.and(tidied);
        ordered.compact(&store);
    }
    outcome
}
