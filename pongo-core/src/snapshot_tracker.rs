//! Pins: the `Seq`s that this process still reads. They keep rows from being reclaimed; memory
//! safety never depends on them.
//!
//! Each process has a group of slots in `control`. A snapshot takes a free slot; if all are taken,
//! further snapshots share the last slot, which then holds the lowest `Seq` among them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::control::{Control, GROUP_SLOTS};
use crate::error::StorageError;
use crate::guard::holds;
use crate::ids::Seq;
use crate::sync::Mutex;

const SHARED: usize = GROUP_SLOTS - 1;

/// The slots of this process.
#[derive(Debug)]
pub(crate) struct SnapshotTracker {
    control: Arc<Control>,
    group: usize,
    /// The number of snapshots at each `Seq` that share the last slot.
    shared: Mutex<BTreeMap<Seq, usize>>,
}

/// A pin that was taken.
#[derive(Debug)]
pub(crate) enum Pin {
    Slot(usize),
    Shared(Seq),
}

thread_local! {
    static HINT: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn hint() -> usize {
    HINT.with(|hint| {
        if hint.get() == usize::MAX {
            static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            hint.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) * 4 % SHARED);
        }
        hint.get()
    })
}

impl SnapshotTracker {
    pub(crate) fn new(control: &Arc<Control>) -> Result<Self, StorageError> {
        let group = control.claim_group()?.ok_or_else(|| StorageError::Limit {
            what: "too many processes have the store open: close one".to_owned(),
            limit: crate::control::GROUPS as u64,
        })?;
        Ok(Self { control: Arc::clone(control), group, shared: Mutex::default() })
    }

    /// Returns the group of slots, which this process holds as long as it has the store open.
    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// Makes the slots writable; must be called before a pin is taken. On some file systems a write
    /// to `control` may need space: returns an error if there is none.
    #[inline]
    pub(crate) fn prepare(&self) -> Result<(), StorageError> {
        self.control.make_pins_writable(self.group)
    }

    #[inline]
    pub(crate) fn pin(&self, seq: Seq) -> Pin {
        let start = hint();
        for i in 0..SHARED {
            let slot = (start + i) % SHARED;
            if self.control.try_pin(self.group, slot, seq) {
                return Pin::Slot(slot);
            }
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        *shared.entry(seq).or_default() += 1;
        self.show_lowest(&shared);
        Pin::Shared(seq)
    }

    /// Pins the newest state. Returns the state of `newest` only if no row that it shows may have
    /// been reclaimed before the pin became visible; otherwise tries again.
    #[inline]
    pub(crate) fn pin_newest<S>(&self, newest: impl Fn() -> S, seq: impl Fn(&S) -> Seq) -> (S, Pin) {
        loop {
            let state = newest();
            let pin = self.pin(seq(&state));
            if holds!("pin.horizon.read", self.control.horizon() <= seq(&state)) {
                return (state, pin);
            }
            self.unpin(&pin);
        }
    }

    #[inline]
    pub(crate) fn unpin(&self, pin: &Pin) {
        if self.prepare().is_err() {
            // There is no space to remove the pin: it remains, and retains rows, until this process
            // closes the store.
            return;
        }
        match *pin {
            Pin::Slot(slot) => self.control.unpin(self.group, slot),
            Pin::Shared(seq) => {
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(count) = shared.get_mut(&seq) {
                    *count -= 1;
                    if *count == 0 {
                        shared.remove(&seq);
                    }
                }
                self.show_lowest(&shared);
            }
        }
    }

    fn show_lowest(&self, shared: &BTreeMap<Seq, usize>) {
        let value = shared.first_key_value().map_or(0, |(seq, _)| seq.0 + 1);
        self.control.set_pin(self.group, SHARED, value);
    }
}
