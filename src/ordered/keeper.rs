//! The keeper: a thread that brings ordered indexes up to date when they lag, off every commit's path.
//!
//! It is begun by the first commit that leaves an index lagging, so that a store with little in it has none; it sleeps
//! otherwise. It holds the engine only while it works, and ends when the store is closed.

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

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    bell: Arc<Bell>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is done for a table beside its indexes.
pub(crate) type Beside = fn(&Arc<Engine>, &Arc<TableCore>) -> Result<(), ReadError>;

impl Keeper {
    /// Tells the thread that an index lags.
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
            // Without a thread indexes are brought up when they are asked.
            *thread = std::thread::Builder::new().name("pongo-keeper".to_owned()).spawn(work).ok();
            if thread.is_none() {
                // A later commit tries it again.
                lock(&self.bell.signal).asked = false;
            }
        }
    }

    /// Waits until the thread has done what it is at, and ends it.
    pub(crate) fn end(&self) {
        lock(&self.bell.signal).ended = true;
        self.bell.rung.notify_one();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// In a child made by `fork`, which has no such thread.
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
        // Whoever asks the index next does what failed here, and hears of it.
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
