//! Tables of the test stores, with every kind of key and index.

use pongo::prelude::*;

/// A row with a key, an ordered index and a text.
#[pongo::record]
#[pongo(table = "stops")]
#[derive(pongo::zerocopy::IntoBytes, Debug)]
pub struct Stop {
    /// The key.
    #[pongo(key)]
    pub id: u64,
    /// Any number of rows may have the same value.
    #[pongo(index)]
    pub visits: u32,
    /// A function of `id` and `visits`, to detect torn rows.
    pub check: u32,
    /// [`name_of`] `visits`.
    pub name: Text,
}

/// Rows are equal if all bytes are, including the address of the text.
impl PartialEq for Stop {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

impl Stop {
    /// Creates a row.
    #[must_use]
    pub fn new(id: u64, visits: u32, name: Text) -> Self {
        Self { id, visits, check: Self::check(id, visits), name }
    }

    /// Returns the correct value of the field `check`.
    #[must_use]
    pub fn check(id: u64, visits: u32) -> u32 {
        (id as u32).wrapping_mul(0x9e37_79b1) ^ visits.wrapping_mul(0x85eb_ca77)
    }
}

/// Returns a text that depends on a number: empty, short, or of several sectors.
#[must_use]
pub fn name_of(visits: u32) -> String {
    let times = match visits % 16 {
        15 => 60,
        few => few % 4,
    };
    format!("visited {visits} times; ").repeat(times as usize)
}

/// A row with a key of two fields, a unique field, and a field with forbidden values. Rows straddle
/// chunks.
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
    /// Padding.
    pub _pad: [u8; 3],
    /// A person; unique, so that each has at most one seat.
    #[pongo(unique)]
    pub who: u64,
    /// The `version` of the [`StoreModel`](crate::StoreModel) when the row was written.
    pub version: u64,
}

/// A row with an external key: bytes that are not part of the row.
#[pongo::record]
#[pongo(table = "notes", key = "external")]
#[derive(PartialEq, Debug)]
pub struct Note {
    /// One of a few groups.
    #[pongo(index)]
    pub group: u32,
    /// The complement of `group`, to detect torn rows.
    pub not_group: u32,
    /// The `version` of the [`StoreModel`](crate::StoreModel) when the row was written.
    pub version: u64,
}
