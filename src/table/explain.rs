//! Scan statistics of a filter, and the effect of each condition: [`Explain`].

use core::fmt;
use core::ops::Range;

use pongo_core::error::ReadError;
use pongo_core::ids::RowId;
use pongo_core::predicate::{Predicate, Pruning};
use pongo_core::table::TableView;
use pongo_core::zones::Zone;

/// The rows that a filter skips and tests: see [`Filtered::explain`](crate::Filtered::explain). Row
/// counts include deleted rows. A zone is a part of a chunk with a fixed number of rows.
///
/// [`Display`](fmt::Display) prints it in a few lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Explain {
    /// The whole table.
    pub total: ScanStats,
    /// The part that is skipped. A chunk is counted if all its rows are skipped.
    pub pruned: ScanStats,
    /// The part that is returned without a test because every row matches.
    pub matched: ScanStats,
    /// The part that is tested row by row.
    pub scanned: ScanStats,
    /// Each single condition, in the order in which they were written.
    pub conditions: Vec<PredicateStats>,
}

/// A part of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ScanStats {
    /// Number of chunks that belong to it completely.
    pub chunks: u64,
    /// Number of zones.
    pub zones: u64,
    /// Number of rows, including deleted ones.
    pub rows: u64,
}

/// The part of a table that one condition of a filter rules out by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PredicateStats {
    /// The condition, such as `dep_delay > 60`.
    pub condition: String,
    /// The part that it rules out. Under an [`or`](Predicate::or), that part is skipped only if the
    /// other side rules it out too.
    pub pruned: ScanStats,
}

impl ScanStats {
    fn add(&mut self, rows: &Range<RowId>) {
        self.zones += 1;
        self.rows += rows.end.0 - rows.start.0;
    }
}

impl Explain {
    /// `value_offset` is the offset in a row of the `T` that the predicate is about.
    pub(crate) fn new<T, P: Predicate<T>>(
        view: Option<&TableView>,
        own: u64,
        value_offset: usize,
        predicate: &P,
    ) -> Result<Self, ReadError> {
        let mut explain = Self::default();
        predicate.each(false, &mut |condition, negated| {
            let condition = format!("{}{condition}", if negated { "not " } else { "" });
            explain.conditions.push(PredicateStats { condition, pruned: ScanStats::default() });
        });
        let Some(view) = view else { return Ok(explain) };
        for chunk in view.chunks() {
            let before = explain.clone();
            let mut known = chunk.rows.start;
            if let Some(zones) = view.zones(&chunk) {
                for mut zone in zones.iter().filter(|zone| zone.rows().start < chunk.rows.end) {
                    zone.select_part(value_offset);
                    explain.add(&zone, chunk.rows.end, predicate);
                }
                known = zones.rows().end;
            }
            let step = view.core().zone_rows();
            while known < chunk.rows.end {
                let rows = known..RowId((known.0 + step).min(chunk.rows.end.0));
                if chunk.full {
                    // A full chunk without zones has rows that cannot be read.
                    view.rows_bytes(rows.clone())?;
                }
                explain.total.add(&rows);
                explain.scanned.add(&rows);
                known = rows.end;
            }
            explain.count_chunk(&before);
        }
        // There are no zones for a transaction's own rows.
        explain.total.rows += own;
        explain.scanned.rows += own;
        Ok(explain)
    }

    fn add<T, P: Predicate<T>>(&mut self, zone: &Zone<'_>, end: RowId, predicate: &P) {
        let rows = zone.rows().start..zone.rows().end.min(end);
        self.total.add(&rows);
        match predicate.prune(zone) {
            Pruning::None => self.pruned.add(&rows),
            Pruning::Some => self.scanned.add(&rows),
            Pruning::All => self.matched.add(&rows),
        }
        let mut conditions = self.conditions.iter_mut();
        predicate.each(false, &mut |condition, negated| {
            let rules_out = if negated { Pruning::All } else { Pruning::None };
            if let Some(known) = conditions.next()
                && condition.pruning(zone) == rules_out
            {
                known.pruned.add(&rows);
            }
        });
    }

    /// Adds a chunk to each share that contains all its rows.
    fn count_chunk(&mut self, before: &Self) {
        let rows = self.total.rows - before.total.rows;
        self.total.chunks += 1;
        let count =
            |now: &mut ScanStats, before: &ScanStats| now.chunks += u64::from(now.rows - before.rows == rows);
        count(&mut self.pruned, &before.pruned);
        count(&mut self.matched, &before.matched);
        count(&mut self.scanned, &before.scanned);
        for (now, before) in self.conditions.iter_mut().zip(&before.conditions) {
            count(&mut now.pruned, &before.pruned);
        }
    }
}

impl fmt::Display for ScanStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (chunks, zones) = (counted(self.chunks, "chunk"), counted(self.zones, "zone"));
        write!(f, "{chunks}, {zones}, {}", counted(self.rows, "row"))
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "total: {}", self.total)?;
        writeln!(f, "pruned: {}", self.pruned)?;
        writeln!(f, "matched: {}", self.matched)?;
        write!(f, "scanned: {}", self.scanned)?;
        for part in &self.conditions {
            write!(f, "\n`{}` prunes {}", part.condition, part.pruned)?;
        }
        Ok(())
    }
}
