//! Savepoints of a write set: the recorded changes to its staged rows, and the return to a savepoint.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use pongo_core::engine::EngineTransaction;
use pongo_core::record::PongoRecord;
use pongo_core::rows::RowBuffer;

use crate::write_set::key_map::KeysMark;
use crate::write_set::unique::UniqueValues;
use crate::write_set::{AnyTableWriteSet, TableWriteSet, inner};

/// A change to the staged rows.
#[derive(Debug)]
pub(super) enum WriteSetStep<T> {
    Pushed,
    /// Index and previous value of a replaced row.
    Replaced(usize, T),
    /// Index and value of a removed row, whose place was taken by the last row.
    Taken(usize, T),
    /// All staged rows, which were written to the chunks.
    Written(RowBuffer<T>),
}

/// The state of a [`TableWriteSet`] at a savepoint.
#[derive(Debug)]
pub(super) struct WriteSetMark {
    keys: KeysMark,
    unique_values: Vec<usize>,
    steps: usize,
    written: usize,
    checked: usize,
    buried: usize,
    loading: bool,
}

impl<T: PongoRecord> TableWriteSet<T> {
    /// Creates a savepoint.
    pub(super) fn add_mark(&mut self, savepoint: u64) {
        let mark = WriteSetMark {
            keys: self.keys_mut().mark(),
            unique_values: self.unique_values.iter_mut().map(UniqueValues::mark).collect(),
            steps: self.steps.enable(),
            written: self.hashes.len(),
            checked: self.checked,
            buried: self.buried,
            loading: self.is_broken(),
        };
        self.marks.push((savepoint, mark));
    }

    /// Restores the state at this savepoint and ends the later savepoints.
    pub(super) fn rewind_to(&mut self, savepoint: u64, guard: &mut EngineTransaction) {
        let Some(at) = self.marks.iter().position(|&(known, _)| known == savepoint) else { return };
        self.marks.truncate(at + 1);
        self.orders.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        let mark = &self.marks[at].1;
        let (first, hashes) = (self.view.len(), &self.hashes);
        let keys = inner(&mut self.keys);
        keys.rewind(mark.keys, |row| hashes[(row.0 - first) as usize]);
        for (unique_values, &place) in self.unique_values.iter_mut().zip(&mark.unique_values) {
            unique_values.rewind(place, mark.written);
        }
        let memory = self.memory();
        let (steps, written) = (mark.steps, mark.written);
        (self.checked, self.buried, self.loading) = (mark.checked, mark.buried, mark.loading);
        self.interrupted.store(false, Ordering::Relaxed);
        if self.steps.len() > steps {
            self.unstage_to(steps);
        }
        guard.note_row_memory(self.memory(), memory);
        self.hashes.truncate(written);
        if !self.loading {
            self.refused = None;
        }
        guard.truncate_appended(&self.core, written as u64);
    }

    /// Ends this savepoint and the later ones.
    pub(super) fn release_mark(&mut self, savepoint: u64) {
        // This staging may have been created after the savepoint and before later ones; later
        // savepoints have higher numbers.
        self.marks.retain(|&(known, _)| known < savepoint);
        if self.marks.is_empty() {
            self.keys_mut().forget_marks();
            self.unique_values.iter_mut().for_each(UniqueValues::forget_marks);
            self.steps.clear();
        }
    }

    /// Undoes the changes to staged rows after the first `steps` steps. A separate function that is
    /// not inlined, so that large rows, which are never staged, take no stack space in callers that
    /// do not need it.
    #[inline(never)]
    fn unstage_to(&mut self, steps: usize) {
        while let Some(step) = self.steps.pop_until(steps) {
            match step {
                WriteSetStep::Pushed => self.staged.pop(),
                WriteSetStep::Replaced(place, row) => self.staged.set(place, &row),
                WriteSetStep::Taken(place, row) => {
                    self.staged.push(&row);
                    let last = self.staged.len() - 1;
                    self.staged.swap(place, last);
                }
                WriteSetStep::Written(rows) => self.staged = rows,
            }
        }
    }
}
