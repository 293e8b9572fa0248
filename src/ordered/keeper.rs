//! [`Keeper`]: a background thread that brings lagging ordered indexes up to date, outside the
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

use super::{Ordered, Worth, lock};

#[derive(Debug, Default)]
struct Signal {
    asked: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Bell {
    signal: Mutex<Signal>,
    rung: Condvar,
}

/// Starts, wakes and ends the index worker thread; see the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    bell: Arc<Bell>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Additional work for a table, done after its indexes.
pub(crate) type Beside = fn(&Arc<Engine>, &Arc<TableCore>) -> Result<(), ReadError>;

impl Keeper {
    /// Wakes the thread, or starts it, because an index lags.
    pub(crate) fn ring(&self, engine: &Arc<Engine>, ordered: &Arc<Ordered>, beside: Beside) {
        {
            let mut signal = lock(&self.bell.signal);
            if signal.asked || signal.ended {
                return;
            }
            signal.asked = true;
            self.bell.rung.notify_one();
        }
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let (bell, engine, ordered) =
                (Arc::clone(&self.bell), Arc::downgrade(engine), Arc::downgrade(ordered));
            let work = move || keep(&bell, &engine, &ordered, beside);
            // Without a thread, indexes are brought up to date by the queries that use them.
            *thread = std::thread::Builder::new().name("pongo-keeper".to_owned()).spawn(work).ok();
            if thread.is_none() {
                // A later commit tries again.
                lock(&self.bell.signal).asked = false;
            }
        }
    }

    /// Waits until the thread has finished its current work, and ends it.
    pub(crate) fn end(&self) {
        lock(&self.bell.signal).ended = true;
        self.bell.rung.notify_one();
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

fn keep(bell: &Bell, engine: &Weak<Engine>, ordered: &Weak<Ordered>, beside: Beside) {
    loop {
        {
            let mut signal = lock(&bell.signal);
            while !signal.asked && !signal.ended {
                signal = bell.rung.wait(signal).unwrap_or_else(PoisonError::into_inner);
            }
            if signal.ended {
                return;
            }
            signal.asked = false;
        }
        let (Some(engine), Some(ordered)) = (engine.upgrade(), ordered.upgrade()) else { return };
        // The error is dropped: the next query repeats the work and reports its own error.
        let _ = catch_up_all(&engine, &ordered, Worth::IfLagging, beside);
    }
}

/// Brings all indexes of all tables up to date.
pub(crate) fn catch_up_all(
    engine: &Arc<Engine>,
    ordered: &Ordered,
    worth: Worth,
    beside: Beside,
) -> Result<(), ReadError> {
    let tables = engine.begin_read()?.tables()?;
    let mut outcome = Ok(());
    for core in &tables {
        if ordered.has_home() {
            for index in ordered.indexes_of(core) {
                // An index that cannot be brought up does not keep the others from it.
                outcome = outcome.and(index.catch_up(ordered, engine, worth)).and(index.note_kept(engine));
            }
        }
        outcome = outcome.and(beside(engine, core));
    }
    if let Some(store) = ordered.open_store() {
        let tidied = store.tidy().map_err(|error| {
            pongo_core::error::Fault::Index { table: "ordered".to_owned(), source: Box::new(error) }.into()
        });
        outcome = outcome.and(tidied);
        ordered.compact(&store);
    }
    outcome
}
