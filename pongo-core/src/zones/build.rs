//! Access to the zones of a chunk from a view: from memory, from the file, or from the rows.

use std::sync::{Arc, Mutex, PoisonError};

use super::Zones;
use super::file::{self, Subject};
use crate::error::StorageError;
use crate::ids::RowId;
use crate::table::{ChunkRows, TableView};

/// The zones of one chunk that a process has in memory, shared by all views.
#[derive(Debug, Default)]
pub(crate) struct ZoneSlot(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    zones: Option<Arc<Zones>>,
    /// Whether this process has searched for the file or written it.
    filed: bool,
}

impl TableView {
    /// Returns the zones of a chunk; `None` if none is complete, or if its rows cannot be read. A
    /// reader of the rows gets the error.
    ///
    /// The first call for a chunk reads the zones' file, or scans the chunk's rows, which costs
    /// some nanoseconds per field, and writes the file if a checkpoint covers them. Later calls
    /// take a lock and scan the rows that were added since.
    #[must_use]
    pub fn zones(&self, chunk: &ChunkRows) -> Option<Arc<Zones>> {
        let plan = self.core().zone_plan();
        let held = self.chunk(chunk)?;
        let mut known = held.zones.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = chunk.rows.end.0 - chunk.rows.start.0;
        if seen == 0 {
            return None;
        }
        let complete = if chunk.full { seen } else { seen - seen % plan.zone_rows() };
        let has = known.zones.as_ref().map_or(0, |zones| zones.rows);
        if has >= complete && (known.filed || !chunk.durable) {
            return known.zones.clone().filter(|zones| !zones.is_empty());
        }
        let subject = self.subject(chunk);
        let path = format!("{}.zones", held.path.trim_end_matches(".chunk"));
        let storage = &**self.core().storage();
        if let Some(subject) = &subject
            && has < complete
            && let Some(zones) = file::load(storage, &path, subject)
        {
            *known = Known { zones: Some(Arc::new(zones)), filed: true };
            return known.zones.clone();
        }
        let mut zones = match &known.zones {
            Some(zones) => Zones::clone(zones),
            None => Zones::empty(plan, chunk.rows.start),
        };
        let damaged = self.look_through(&mut zones, RowId(chunk.rows.start.0 + complete)).is_err();
        if !damaged && chunk.durable {
            if let Some(subject) = &subject {
                file::save(storage, &path, subject, &zones);
            }
            known.filed = true;
        }
        known.zones = Some(Arc::new(zones));
        known.zones.clone().filter(|zones| !zones.is_empty())
    }

    /// Returns the properties that the file of this chunk's zones must have; `None` if there must
    /// be no file.
    fn subject(&self, chunk: &ChunkRows) -> Option<Subject<'_>> {
        if !chunk.durable {
            return None;
        }
        let core = self.core();
        let rows = chunk.rows.clone();
        Some(Subject {
            plan: core.zone_plan(),
            identity: core.space.identity(),
            chunk: chunk.id,
            first: rows.start,
            rows: rows.end.0 - rows.start.0,
            sums: self.sum_of_sums(rows).ok()?,
        })
    }

    /// Adds zones up to row `end`, which must be the end of a zone.
    fn look_through(&self, zones: &mut Zones, end: RowId) -> Result<(), StorageError> {
        while zones.rows().end < end {
            let start = zones.rows().end;
            let next = RowId((start.0 + zones.plan.zone_rows).min(end.0));
            let rows = self.rows_bytes(start..next)?;
            zones.push(rows);
        }
        Ok(())
    }

    /// Creates the zones of all chunks that have none yet, and their files where a checkpoint
    /// covers the rows. Returns the number of chunks that have all their zones. Costs as much as
    /// the first filter.
    pub fn seal_zones(&self) -> usize {
        let is_done =
            |chunk: &ChunkRows| self.zones(chunk).is_some_and(|zones| zones.rows().end >= chunk.rows.end);
        self.chunks().filter(|chunk| chunk.full && is_done(chunk)).count()
    }
}
