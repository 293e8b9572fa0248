//! The ring of published states.
//!
//! A state is published by writing the next record of the ring and then storing its number in
//! one word. A reader copies the record that the word names and trusts the copy if the word has
//! since advanced by fewer than `RECORDS - 1` records.

use super::{Control, RECORD_HEADER, RECORD_WORDS, RECORDS, RING, word};
use crate::guard::removable;
use crate::ids::{JournalPos, Seq};
use crate::state::{HeapState, MAX_TABLES, StoreState, TableState};
use crate::sync::{Ordering, fence};

impl Control {
    fn record(counter: u64) -> usize {
        RING + (counter % RECORDS) as usize * RECORD_WORDS
    }

    /// Publishes a state. The caller is the only publisher: it holds the writer lock, or its
    /// process does.
    pub(crate) fn publish(&self, state: &StoreState) {
        if cfg!(all(debug_assertions, not(loom))) {
            self.assert_grows(state);
        }
        let counter = self.words.load(word::PUBLISHED, Ordering::Relaxed) + 1;
        let at = Self::record(counter);
        // A reader that sees a word of this record also sees that the record before it was
        // published.
        removable!("control.publish.fence", fence(Ordering::Release));
        let put = |i: usize, value: u64| self.words.store(at + i, value, Ordering::Relaxed);
        put(0, state.seq.0);
        put(1, state.tables.len() as u64);
        put(2, state.heap.len);
        put(3, state.heap.summed);
        put(4, state.segment);
        put(5, state.journal_end.0);
        for (i, table) in state.tables.iter().enumerate() {
            let at = RECORD_HEADER + 3 * i;
            put(at, table.len);
            put(at + 1, table.live);
            put(at + 2, table.summed);
        }
        self.words.store(word::PUBLISHED, counter, Ordering::Release);
    }

    /// Asserts that the published `Seq` and lengths never decrease while a process holds presence.
    fn assert_grows(&self, state: &StoreState) {
        let (_, before) = self.published();
        assert!(before.seq <= state.seq, "{} was published, now {}", before.seq, state.seq);
        assert!(before.heap.len <= state.heap.len && before.heap.summed <= state.heap.summed);
        assert!(before.tables.len() <= state.tables.len());
        for (before, now) in before.tables.iter().zip(&state.tables) {
            assert!(before.len <= now.len && before.summed <= now.summed && now.live <= now.len);
        }
    }

    /// Returns the number of the newest published record, which changes whenever a state is
    /// published.
    #[inline]
    pub(crate) fn published_counter(&self) -> u64 {
        self.words.load(word::PUBLISHED, Ordering::Acquire)
    }

    /// Copies the newest published state and returns it with the number of its record.
    pub(crate) fn published(&self) -> (u64, StoreState) {
        loop {
            let counter = self.published_counter();
            let at = Self::record(counter);
            let get = |i: usize| self.words.load(at + i, Ordering::Relaxed);
            let tables = (get(1) as usize).min(MAX_TABLES);
            let state = StoreState {
                seq: Seq(get(0)),
                heap: HeapState { len: get(2), summed: get(3) },
                segment: get(4),
                journal_end: JournalPos(get(5)),
                tables: (0..tables)
                    .map(|i| {
                        let at = RECORD_HEADER + 3 * i;
                        TableState { len: get(at), live: get(at + 1), summed: get(at + 2) }
                    })
                    .collect(),
            };
            removable!("control.read.fence", fence(Ordering::Acquire));
            // The record is overwritten only for `counter + RECORDS`, which begins after
            // `counter + RECORDS - 1` was published.
            if self.words.load(word::PUBLISHED, Ordering::Relaxed).wrapping_sub(counter) < RECORDS - 1 {
                return (counter, state);
            }
        }
    }
}
