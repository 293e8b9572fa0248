//! [`Scan`]: a range answered by scanning rows, for rows that are neither in blocks nor sorted in
//! memory, typically in a process that cannot open the block store. Slower than the other sources,
//! with the same result.
//!
//! Each pass reads every such row that the view sees and keeps the first keys of the range, up to a
//! limit; when these are used up, the next pass starts after them. Memory is therefore bounded, and
//! a short range costs one pass.

use std::ops::Range;

use pongo_core::error::ReadError;
use pongo_core::fields::HeapRead;
use pongo_core::ids::RowId;
use pongo_core::schema::StoredKind;
use pongo_core::table::TableView;
use pongo_core::zones::ZoneStats;

use super::KeyEncoder;
use super::index::OrderedIndex;
use super::limits::{Limits, Pair};
use super::sources::Context;

/// A scan of unsorted rows in key order; see the [module](self).
#[derive(Debug)]
pub(super) struct Scan {
    forward: bool,
    /// Rows below this one are in another source.
    from: u64,
    kept: std::vec::IntoIter<Pair>,
    current: Option<Pair>,
    /// The last pair that was returned; the next pass starts after it.
    last: Option<Pair>,
    /// The last pair that a pass kept, if some of its pairs were removed afterwards; the next pass
    /// starts after it instead.
    resume: Option<Pair>,
    /// The last pass has been made.
    ended: bool,
    /// Number of rows skipped because the transaction replaced or deleted them.
    pub(super) skipped: usize,
}

impl Scan {
    pub(super) fn new(forward: bool, from: u64) -> Self {
        Self {
            forward,
            from,
            kept: Vec::new().into_iter(),
            current: None,
            last: None,
            resume: None,
            ended: false,
            skipped: 0,
        }
    }

    pub(super) fn current(&self) -> Option<(&[u8], RowId)> {
        self.current.as_ref().map(|pair| (&pair.key[..], pair.row))
    }

    pub(super) fn advance(&mut self) {
        self.last = self.current.take();
    }

    /// Makes the next pair ready.
    pub(super) fn fill(&mut self, context: &Context<'_>, limits: &Limits) -> Result<(), ReadError> {
        while self.current.is_none() {
            self.current = self.kept.next();
            if self.current.is_some() || self.ended {
                break;
            }
            let mut limits = limits.clone();
            match (self.resume.as_ref().or(self.last.as_ref()), self.forward) {
                (Some(last), true) => limits.after = Some(last.clone()),
                (Some(last), false) => limits.before = Some(last.clone()),
                (None, _) => {}
            }
            let mut kept =
                pass(context.view, context.heap, &context.index, &limits, self.forward, self.from)?;
            self.ended = kept.len() < context.index.tuning().kept;
            if context.own.is_some() {
                // The last pair, even if it is removed here, determines where the next pass starts.
                self.resume = if self.ended { None } else { kept.last().cloned() };
                let mut rows: Vec<RowId> = kept.iter().map(|pair| pair.row).collect();
                self.skipped += context.hide(&mut rows);
                rows.sort_unstable();
                kept.retain(|pair| rows.binary_search(&pair.row).is_ok());
            }
            self.kept = kept.into_iter();
        }
        Ok(())
    }
}

/// Returns the first pairs within the limits, in order.
fn pass(
    view: &TableView,
    heap: &dyn HeapRead,
    index: &OrderedIndex,
    limits: &Limits,
    forward: bool,
    from: u64,
) -> Result<Vec<Pair>, ReadError> {
    let size = view.core().row_size();
    let at_once = ((1 << 20) / size).max(1);
    let by_order = |a: &Pair, b: &Pair| if forward { a.cmp(b) } else { b.cmp(a) };
    let table = &view.core().schema().table;
    let mut key = Vec::new();
    let most = index.tuning().kept;
    let mut kept: Vec<Pair> = Vec::new();
    for rows in candidates(view, index, limits).into_iter().filter(|rows| rows.end.0 > from) {
        let mut from = RowId(rows.start.0.max(from));
        while let Some(run) = view.next_run_in(from..rows.end)? {
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
    }
    kept.sort_unstable_by(by_order);
    kept.truncate(most);
    Ok(kept)
}

/// Returns rows that include all those within the limits. Zones whose values of the first field are
/// outside the limits are excluded.
fn candidates(view: &TableView, index: &OrderedIndex, limits: &Limits) -> Vec<Range<RowId>> {
    let all = vec![RowId(0)..RowId(view.len())];
    let (Some(field), KeyEncoder::Fields(encoding)) = (index.bounded_field(), index.keys()) else {
        return all;
    };
    if limits.from.is_none() && limits.below.is_none() {
        return all;
    }
    let mut found: Vec<Range<RowId>> = Vec::new();
    let mut add = |rows: Range<RowId>| match found.last_mut() {
        Some(last) if last.end == rows.start => last.end = rows.end,
        _ if rows.start < rows.end => found.push(rows),
        _ => {}
    };
    let (tag, width) = match &field.kind {
        StoredKind::Maybe(of) => (of.align(), of.size()),
        kind => (0, kind.size()),
    };
    let key_of = |value: Option<&[u8]>| {
        let mut raw = vec![0; tag];
        if let (Some(first), Some(_)) = (raw.first_mut(), value) {
            *first = 1;
        }
        raw.extend_from_slice(value.unwrap_or(&vec![0; width]));
        let mut key = Vec::new();
        encoding.encode_fields(&raw, &mut key);
        key
    };
    // These keys contain the first field, limits may contain any number of fields: the common
    // length is compared.
    let is_below = |a: &[u8], b: &[u8]| {
        let len = a.len().min(b.len());
        a[..len] < b[..len]
    };
    let is_outside = |least: Option<&[u8]>, greatest: Option<&[u8]>| {
        limits.from.as_ref().is_some_and(|from| is_below(&key_of(greatest), from))
            || limits.below.as_ref().is_some_and(|end| is_below(end, &key_of(least)))
    };
    let is_ruled_out = |facts: ZoneStats<'_>| {
        facts.is_about(width)
            && facts.bounds().is_none_or(|(least, greatest)| is_outside(Some(least), Some(greatest)))
            && facts.nan().is_none_or(|nan| is_outside(Some(nan), Some(nan)))
            && (!facts.some_absent() || is_outside(None, None))
    };
    for chunk in view.chunks() {
        let Some(zones) = view.zones(&chunk) else {
            add(chunk.rows);
            continue;
        };
        let known = zones.rows();
        for zone in zones.iter() {
            if !zone.stats(field.offset).is_some_and(is_ruled_out) {
                add(zone.rows());
            }
        }
        add(known.end..chunk.rows.end);
    }
    found
}
