//! The zones of a chunk as a view needs them: from memory, from the file, or from the rows.

use std::sync::{Arc, Mutex, PoisonError};

use super::Zones;
use super::file::{self, Subject};
use crate::error::Fault;
use crate::ids::RowId;
use crate::table::{ChunkRows, TableView};

/// What a process knows of one chunk's zones, shared by all views.
#[derive(Debug, Default)]
pub(crate) struct ZoneSlot(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    zones: Option<Arc<Zones>>,
    /// Whether the file was looked for, or written, by this process.
    filed: bool,
}

impl TableView {
    /// The zones of a chunk; `None` if none is complete, or if its rows cannot be read: whoever reads them hears why.
    ///
    /// The first call for a chunk reads the zones' file, or looks the chunk's rows through, some nanoseconds a field, and
    /// writes the file if a checkpoint covers them. Later ones take a lock and look through what came since.
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

    /// What the file of this chunk's zones has to be about; `None` if there is to be none.
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

    /// Adds zones up to row `end`, where one ends.
    fn look_through(&self, zones: &mut Zones, end: RowId) -> Result<(), Fault> {
        while zones.rows().end < end {
            let start = zones.rows().end;
            let next = RowId((start.0 + zones.plan.zone_rows).min(end.0));
            let rows = self.rows_bytes(start..next)?;
            zones.push(rows);
        }
        Ok(())
    }

    /// Makes the zones of all chunks that have none yet, and their files where a checkpoint covers the rows. Gives how
    /// many chunks have all their zones. Costs what the first filter would.
    pub fn seal_zones(&self) -> usize {
        let is_done =
            |chunk: &ChunkRows| self.zones(chunk).is_some_and(|zones| zones.rows().end >= chunk.rows.end);
        self.chunks().filter(|chunk| chunk.full && is_done(chunk)).count()
    }
}
