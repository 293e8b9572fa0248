//! [`Scan`]: a range from the rows alone, for a process that cannot have the blocks. Slower, never wrong.
//!
//! One pass looks at every row that the view sees and keeps the first so many keys of the range; once these are used up the next
//! pass begins behind them. So memory is bounded, and a short range costs one pass.

use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::table::TableView;

use super::index::OrderedIndex;
use super::stream::{Limits, Pair};

/// See the module.
#[derive(Debug)]
pub(super) struct Scan {
    forward: bool,
    kept: std::vec::IntoIter<Pair>,
    current: Option<Pair>,
    /// The last pair that was given out; the next pass begins behind it.
    last: Option<Pair>,
    /// No pass is left to make.
    ended: bool,
}

impl Scan {
    pub(super) fn new(forward: bool) -> Self {
        Self { forward, kept: Vec::new().into_iter(), current: None, last: None, ended: false }
    }

    pub(super) fn current(&self) -> Option<(&[u8], RowId)> {
        self.current.as_ref().map(|pair| (&pair.key[..], pair.row))
    }

    pub(super) fn advance(&mut self) {
        self.last = self.current.take();
    }

    /// Makes the next pair ready.
    pub(super) fn fill(
        &mut self,
        view: &TableView,
        heap: &dyn HeapRead,
        index: &OrderedIndex,
        limits: &Limits,
    ) -> Result<(), ReadError> {
        while self.current.is_none() {
            self.current = self.kept.next();
            if self.current.is_some() || self.ended {
                break;
            }
            let mut limits = limits.clone();
            match (&self.last, self.forward) {
                (Some(last), true) => limits.after = Some(last.clone()),
                (Some(last), false) => limits.before = Some(last.clone()),
                (None, _) => {}
            }
            let kept = pass(view, heap, index, &limits, self.forward)?;
            self.ended = kept.len() < index.tuning().kept;
            self.kept = kept.into_iter();
        }
        Ok(())
    }
}

/// The first pairs within the limits, in order.
fn pass(
    view: &TableView,
    heap: &dyn HeapRead,
    index: &OrderedIndex,
    limits: &Limits,
    forward: bool,
) -> Result<Vec<Pair>, ReadError> {
    let size = view.core().row_size();
    let at_once = ((1 << 20) / size).max(1);
    let by_order = |a: &Pair, b: &Pair| if forward { a.cmp(b) } else { b.cmp(a) };
    let table = &view.core().schema().table;
    let mut key = Vec::new();
    let most = index.tuning().kept;
    let mut kept: Vec<Pair> = Vec::new();
    let mut from = RowId(0);
    while let Some(run) = view.next_run(from) {
        let end = run.end.0.min(run.start.0 + at_once);
        from = RowId(end);
        let bytes = view.rows_bytes(run.start..from)?;
        for (row, bytes) in (run.start.0..end).map(RowId).zip(bytes.chunks_exact(size as usize)) {
            key.clear();
            index.keys().put(table, bytes, heap, &mut key)?;
            if limits.contain(&key, row) {
                kept.push(Pair { key: key.clone(), row });
            }
        }
        if kept.len() >= 2 * most {
            kept.select_nth_unstable_by(most, by_order);
            kept.truncate(most);
        }
    }
    kept.sort_unstable_by(by_order);
    kept.truncate(most);
    Ok(kept)
}
