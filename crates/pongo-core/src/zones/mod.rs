//! Zone maps: of the rows that begin in a chunk, the least and the greatest value of each field, for *zones* of about
//! 64 KiB and for all together. A scan that looks for other values passes over them.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `scalar` | how bytes of a field are ordered; looking the rows of a zone through |
//! | `file` | `C.zones`: written, read back and doubted |
//! | `find` | the zones of a chunk in a view: from memory, the file or the rows |
//! | here | which fields have a place (`Plan`), and what is known of them ([`Zones`], [`Zone`], [`Facts`]) |
//!
//! Relied on: published rows never change. Dead rows count as well: that makes a zone say "perhaps" where it could say
//! "none", never the other way round. So zones hold for every snapshot, whatever died since.
//!
//! A zone is a fixed number of rows, by number in the chunk. Zones that are complete are known, also of a chunk that is
//! still being filled. At most about 1/100 of the rows' bytes.

mod file;
mod find;
mod scalar;

use core::cmp::Ordering;
use core::ops::Range;
use std::sync::Arc;

pub(crate) use find::ZoneSlot;
pub(crate) use scalar::Scalar;

use self::scalar::Values;
use crate::ids::RowId;
use crate::schema::{StoredKind, StoredSchema};
use crate::space::BLOCK;

/// Some row has a value.
const PRESENT: u8 = 1;
/// Some row's `Maybe` has none.
const ABSENT: u8 = 2;
/// Some value is not a number.
const NAN: u8 = 4;
/// The bounds hold: some value is there and is no NaN. NaN comes after them in the order, but would widen them to no use, and
/// has a flag.
const BOUNDED: u8 = 8;

/// Rows have at least this many times the bytes of what is kept of them, where a chunk has enough rows.
const SHARE: usize = 100;
/// Fields beyond these have no bounds.
const MOST_PLACES: usize = 256;

/// One field in a zone map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// The field's offset in the row.
    field: usize,
    /// The first byte of the tag, if the field is a `Maybe`.
    tag: Option<usize>,
    /// Where the value lies in the row.
    value: usize,
    scalar: Scalar,
    /// Where its flags, least and greatest value lie in an entry.
    at: usize,
}

/// Which fields of a table have bounds, and how many rows make a zone.
#[derive(Debug)]
pub(crate) struct Plan {
    /// By the field's offset.
    places: Vec<Place>,
    /// Bytes of an entry: what is known of one zone.
    stride: usize,
    zone_rows: u64,
    row_size: usize,
}

impl Plan {
    pub(crate) fn new(schema: &StoredSchema) -> Self {
        let mut places = Vec::new();
        let mut at = 0;
        for field in &schema.fields {
            let (tag, value, scalar) = match &field.kind {
                StoredKind::Maybe(of) => {
                    let scalar = Scalar::of(of).unwrap_or(Scalar::Unordered);
                    (Some(field.offset), field.offset + of.align(), scalar)
                }
                kind => match Scalar::of(kind) {
                    Some(scalar) => (None, field.offset, scalar),
                    None => continue,
                },
            };
            if places.len() < MOST_PLACES {
                places.push(Place { field: field.offset, tag, value, scalar, at });
                at += 1 + 2 * scalar.width();
            }
        }
        let zone_bytes = (BLOCK as usize).max(SHARE * at);
        Self { places, stride: at, zone_rows: zone_bytes.div_ceil(schema.size) as u64, row_size: schema.size }
    }

    pub(crate) fn zone_rows(&self) -> u64 {
        self.zone_rows
    }

    fn place(&self, field: usize) -> Option<&Place> {
        let index = self.places.binary_search_by_key(&field, |place| place.field).ok()?;
        self.places.get(index)
    }

    /// What is known of these rows, behind what `entries` has.
    fn gather(&self, rows: &[u8], entries: &mut Vec<u8>) {
        let start = entries.len();
        entries.resize(start + self.stride, 0);
        for place in &self.places {
            let (flags, min, max) = place.parts_mut(&mut entries[start..]);
            let values = Values { rows, size: self.row_size, at: place.value, tag: place.tag };
            *flags = place.scalar.gather(values, min, max);
        }
    }

    /// Widens the entry at the front by one of the others.
    fn widen(&self, whole: &mut [u8], zone: &[u8]) {
        for place in &self.places {
            let facts = place.facts(zone);
            let (flags, min, max) = place.parts_mut(whole);
            if facts.flags & BOUNDED != 0 {
                let is_new = *flags & BOUNDED == 0;
                if is_new || place.scalar.compare(facts.min, min).is_lt() {
                    min.copy_from_slice(facts.min);
                }
                if is_new || place.scalar.compare(facts.max, max).is_gt() {
                    max.copy_from_slice(facts.max);
                }
            }
            *flags |= facts.flags;
        }
    }

    /// Whether an entry could have been made by this plan from rows.
    fn is_sound(&self, entry: &[u8]) -> bool {
        self.places.iter().all(|place| {
            let facts = place.facts(entry);
            let is_number =
                |value| place.scalar.nan().is_none_or(|nan| place.scalar.compare(value, nan).is_lt());
            let ordered = place.scalar != Scalar::Unordered
                && place.scalar.compare(facts.min, facts.max).is_le()
                && is_number(facts.max);
            let bounded = facts.flags & BOUNDED != 0;
            let float = place.scalar.nan().is_some();
            facts.flags & !(PRESENT | ABSENT | NAN | BOUNDED) == 0
                && facts.flags & (PRESENT | ABSENT) != 0
                && (!bounded || ordered)
                && (float || facts.flags & NAN == 0)
                && (place.tag.is_some() || facts.flags & ABSENT == 0)
                && (bounded
                    || facts.flags & NAN != 0
                    || facts.flags & PRESENT == 0
                    || place.scalar.width() == 0)
        })
    }
}

impl Place {
    fn parts_mut<'e>(&self, entry: &'e mut [u8]) -> (&'e mut u8, &'e mut [u8], &'e mut [u8]) {
        let width = self.scalar.width();
        let (flags, bounds) = entry[self.at..self.at + 1 + 2 * width].split_at_mut(1);
        let (min, max) = bounds.split_at_mut(width);
        (&mut flags[0], min, max)
    }

    fn facts<'e>(&self, entry: &'e [u8]) -> Facts<'e> {
        let width = self.scalar.width();
        let (flags, bounds) = entry[self.at..self.at + 1 + 2 * width].split_at(1);
        let (min, max) = bounds.split_at(width);
        Facts { scalar: self.scalar, flags: flags[0], min, max }
    }
}

/// What is known of the zones of one chunk.
#[derive(Clone)]
pub struct Zones {
    plan: Arc<Plan>,
    /// The first row that begins in the chunk.
    first: RowId,
    /// How many rows from there on are in these zones: all that begin in the chunk, or those of the first so many
    /// zones.
    rows: u64,
    /// Entries: all rows together, then zone by zone.
    entries: Vec<u8>,
}

impl Zones {
    fn empty(plan: &Arc<Plan>, first: RowId) -> Self {
        Self { plan: Arc::clone(plan), first, rows: 0, entries: vec![0; plan.stride] }
    }

    /// The rows that are in these zones. A chunk that is being filled has more.
    #[must_use]
    pub fn rows(&self) -> Range<RowId> {
        self.first..RowId(self.first.0 + self.rows)
    }

    /// How many zones there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.div_ceil(self.plan.zone_rows) as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// All rows together.
    #[must_use]
    pub fn whole(&self) -> Zone<'_> {
        self.entry(0, self.rows())
    }

    /// Each zone in turn.
    pub fn iter(&self) -> impl Iterator<Item = Zone<'_>> {
        (0..self.len()).map(|index| {
            let first = self.first.0 + index as u64 * self.plan.zone_rows;
            let end = (first + self.plan.zone_rows).min(self.first.0 + self.rows);
            self.entry(index + 1, RowId(first)..RowId(end))
        })
    }

    fn entry(&self, index: usize, rows: Range<RowId>) -> Zone<'_> {
        let stride = self.plan.stride;
        Zone { plan: &self.plan, entry: &self.entries[index * stride..(index + 1) * stride], rows }
    }

    /// Adds a zone of these rows, which follow those that are there.
    fn push(&mut self, rows: &[u8]) {
        let plan = Arc::clone(&self.plan);
        let start = self.entries.len();
        plan.gather(rows, &mut self.entries);
        let (whole, zone) = self.entries.split_at_mut(start);
        plan.widen(whole, zone);
        self.rows += (rows.len() / plan.row_size) as u64;
    }
}

impl core::fmt::Debug for Zones {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Zones").field("rows", &self.rows()).field("zones", &self.len()).finish()
    }
}

/// What is known of the rows of one zone, or of all zones of a chunk together.
#[derive(Clone, Debug)]
pub struct Zone<'z> {
    plan: &'z Plan,
    entry: &'z [u8],
    rows: Range<RowId>,
}

impl<'z> Zone<'z> {
    /// Which rows it is about, dead ones included.
    #[must_use]
    pub fn rows(&self) -> Range<RowId> {
        self.rows.clone()
    }

    /// What is known of the field that begins so many bytes behind the row's start; `None`: nothing.
    #[must_use]
    pub fn facts(&self, field: usize) -> Option<Facts<'z>> {
        Some(self.plan.place(field)?.facts(self.entry))
    }

    /// The least and the greatest value of a field, as they lie in a row. Values in a `Maybe` that are missing, and floats
    /// that are not numbers, are left out. `None` if nothing is known or there is no value.
    ///
    /// Integers, floats ([`order`](crate::order)), `bool`, `Timestamp` and enums (by their integer) are ordered as numbers;
    /// `FixedStr`, `Uuid` and arrays of bytes by their bytes.
    #[must_use]
    pub fn bounds(&self, field: usize) -> Option<(&'z [u8], &'z [u8])> {
        self.facts(field)?.bounds()
    }
}

/// What is known of one field in a zone.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'z> {
    scalar: Scalar,
    flags: u8,
    min: &'z [u8],
    max: &'z [u8],
}

impl<'z> Facts<'z> {
    /// See [`Zone::bounds`].
    #[must_use]
    pub fn bounds(&self) -> Option<(&'z [u8], &'z [u8])> {
        (self.flags & BOUNDED != 0 && self.scalar != Scalar::Unordered).then_some((self.min, self.max))
    }

    /// Whether some row has a value.
    #[must_use]
    pub fn some_present(&self) -> bool {
        self.flags & PRESENT != 0
    }

    /// Whether some row has none.
    #[must_use]
    pub fn some_absent(&self) -> bool {
        self.flags & ABSENT != 0
    }

    /// Whether some value is not a number.
    #[must_use]
    pub fn some_nan(&self) -> bool {
        self.flags & NAN != 0
    }

    /// A NaN as it would lie in a row, if some row has one: which one does not matter, since all are equal.
    #[must_use]
    pub fn nan(&self) -> Option<&'static [u8]> {
        self.scalar.nan().filter(|_| self.some_nan())
    }

    /// How two values compare, as they would lie in a row.
    pub(crate) fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        self.scalar.compare(a, b)
    }

    /// Whether there are bounds for values of so many bytes, where there are values.
    #[must_use]
    pub fn is_about(&self, width: usize) -> bool {
        self.scalar != Scalar::Unordered && self.scalar.width() == width
    }
}
