//! Expected content of the tables.

use std::collections::BTreeMap;

/// Content of a store at one `Seq`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StoreModel {
    /// Number of commits that changed something.
    pub seq: u64,
    /// Counter of writes, stored in rows so that no two rows are equal.
    pub version: u64,
    /// Stops by id: visits.
    pub stops: BTreeMap<u64, u32>,
    /// Seats by row and place: the person who sits there, and the version.
    pub seats: BTreeMap<(u16, u16), (u64, u64)>,
    /// Notes by key: group, and the version.
    pub notes: BTreeMap<Vec<u8>, (u32, u64)>,
}

impl StoreModel {
    /// Returns the seat of a person.
    #[must_use]
    pub fn seat_of(&self, who: u64) -> Option<(u16, u16)> {
        self.seats.iter().find(|(_, known)| known.0 == who).map(|(&seat, _)| seat)
    }

    /// Returns the number of rows of all tables.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.stops.len() + self.seats.len() + self.notes.len()
    }
}
