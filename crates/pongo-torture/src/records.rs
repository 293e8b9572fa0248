//! The tables of the world: each way of keys and indexes once.

use pongo::prelude::*;

/// A key, an ordered index, a text.
#[pongo::record]
#[pongo(table = "stops")]
#[derive(Debug)]
pub struct Stop {
    /// The key.
    #[pongo(key)]
    pub id: u64,
    /// How many rows have the same is up to chance.
    #[pongo(index)]
    pub visits: u32,
    /// Says `id` and `visits` once more, so that a torn row shows.
    pub check: u32,
    /// [`name_of`] `visits`.
    pub name: Text,
}

/// As it was put: with its text at the same place.
impl PartialEq for Stop {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

impl Stop {
    /// The row of a key and a number.
    #[must_use]
    pub fn new(id: u64, visits: u32, name: Text) -> Self {
        Self { id, visits, check: Self::check(id, visits), name }
    }

    /// What the field `check` must say.
    #[must_use]
    pub fn check(id: u64, visits: u32) -> u32 {
        (id as u32).wrapping_mul(0x9e37_79b1) ^ visits.wrapping_mul(0x85eb_ca77)
    }
}

/// A text that follows from a number: empty, short, or of several sectors.
#[must_use]
pub fn name_of(visits: u32) -> String {
    let times = match visits % 16 {
        15 => 60,
        few => few % 4,
    };
    format!("visited {visits} times; ").repeat(times as usize)
}

/// A key of two fields, a unique field, one with forbidden values. Rows straddle chunks.
#[pongo::record]
#[pongo(table = "seats")]
#[derive(PartialEq, Debug)]
pub struct Seat {
    /// First part of the key.
    #[pongo(key)]
    pub row: u16,
    /// Second part of the key.
    #[pongo(key)]
    pub place: u16,
    /// Whether `who` is even.
    pub even: bool,
    /// Nothing.
    pub _pad: [u8; 3],
    /// Only one seat each.
    #[pongo(unique)]
    pub who: u64,
    /// The world's `version` at the time.
    pub version: u64,
}

/// Found by bytes that are no field of it.
#[pongo::record]
#[pongo(table = "notes", key = "external")]
#[derive(PartialEq, Debug)]
pub struct Note {
    /// Of few groups.
    #[pongo(index)]
    pub group: u32,
    /// Says `group` again.
    pub not_group: u32,
    /// The world's `version` at the time.
    pub version: u64,
}
