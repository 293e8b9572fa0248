//! Zone maps: the minimum and maximum of each field over the rows that begin in a chunk, for
//! *zones* of about 64 KiB and for all rows of the chunk together. A scan for other values skips
//! the zone.
//!
//! | module | purpose |
//! | --- | --- |
//! | `scalar` | the order of a field's bytes; computes the minimum and maximum of a zone |
//! | `file` | `C.zones`: writes the zone maps, reads them and validates them |
//! | `build` | returns the zones of a chunk in a view: from memory, the file or the rows |
//! | here | the fields with an entry (`ZonePlan`), and their data ([`Zones`], [`Zone`], [`ZoneStats`]) |
//!
//! Relies on published rows never changing. Deleted rows are included: a zone can then report that
//! some rows may match although none does, but never the reverse. Zones are therefore valid for
//! every snapshot, whichever rows were deleted since.
//!
//! A zone is a fixed number of rows, aligned by row number in the chunk. Complete zones are
//! available even while the chunk is still being filled. Zone maps take at most about 1/100 of the
//! rows' bytes.

mod build;
mod file;
mod scalar;

use core::cmp::Ordering;
use core::ops::Range;
use std::sync::Arc;

pub(crate) use build::ZoneSlot;
pub(crate) use scalar::Scalar;

use self::scalar::Values;
use crate::ids::RowId;
use crate::schema::{StoredKind, StoredSchema};
use crate::space::BLOCK;

/// Flag: some row has a value.
const PRESENT: u8 = 1;
/// Flag: the `Maybe` of some row has no value.
const ABSENT: u8 = 2;
/// Flag: some value is NaN.
const NAN: u8 = 4;
/// Flag: the bounds are valid, since some value is present and not NaN. NaN comes last in the
/// order; it has its own flag because it would make the bounds useless.
const BOUNDED: u8 = 8;

/// Minimum ratio of the rows' bytes to the bytes of their zone maps, for chunks with enough rows.
const SHARE: usize = 100;
/// Maximum number of fields with bounds.
const MOST_PLACES: usize = 256;

/// The place of one field in a zone map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// The field's offset in the row.
    field: usize,
    /// The first byte of the tag, if the field is a `Maybe`.
    tag: Option<usize>,
    /// The offset of the value in the row.
    value: usize,
    scalar: Scalar,
    /// The offset of the flags, minimum and maximum in an entry.
    at: usize,
}

/// The fields of a table that have bounds, and the number of rows per zone.
#[derive(Debug)]
pub(crate) struct ZonePlan {
    /// Ordered by the field's offset.
    places: Vec<Place>,
    /// Size in bytes of an entry, which holds the statistics of one zone.
    stride: usize,
    zone_rows: u64,
    row_size: usize,
}

impl ZonePlan {
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

    #[inline]
    fn place(&self, field: usize) -> Option<&Place> {
        let index = self.places.binary_search_by_key(&field, |place| place.field).ok()?;
        self.places.get(index)
    }

    /// Computes the statistics of these rows and appends them to `entries` as a new entry.
    fn gather(&self, rows: &[u8], entries: &mut Vec<u8>) {
        let start = entries.len();
        entries.resize(start + self.stride, 0);
        for place in &self.places {
            let (flags, min, max) = place.parts_mut(&mut entries[start..]);
            let values = Values { rows, size: self.row_size, at: place.value, tag: place.tag };
            *flags = place.scalar.gather(values, min, max);
        }
    }

    /// Merges the entry `zone` into the entry `whole`.
    fn widen(&self, whole: &mut [u8], zone: &[u8]) {
        for place in &self.places {
            let facts = place.stats(zone);
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

    /// Returns whether this plan could have produced this entry from some rows.
    fn is_sound(&self, entry: &[u8]) -> bool {
        self.places.iter().all(|place| {
            let facts = place.stats(entry);
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

    #[inline]
    fn stats<'e>(&self, entry: &'e [u8]) -> ZoneStats<'e> {
        let width = self.scalar.width();
        let (flags, bounds) = entry[self.at..self.at + 1 + 2 * width].split_at(1);
        let (min, max) = bounds.split_at(width);
        ZoneStats { scalar: self.scalar, flags: flags[0], min, max }
    }
}

/// The zone maps of one chunk.
#[derive(Clone)]
pub struct Zones {
    plan: Arc<ZonePlan>,
    /// The first row that begins in the chunk.
    first: RowId,
    /// Number of rows in these zones, counted from `first`: all rows that begin in the chunk, or
    /// those of a prefix of its zones.
    rows: u64,
    /// The entries: the one of all rows together, then one per zone.
    entries: Vec<u8>,
}

impl Zones {
    fn empty(plan: &Arc<ZonePlan>, first: RowId) -> Self {
        Self { plan: Arc::clone(plan), first, rows: 0, entries: vec![0; plan.stride] }
    }

    /// Returns the rows that these zones cover. A chunk that is being filled has more rows.
    #[must_use]
    pub fn rows(&self) -> Range<RowId> {
        self.first..RowId(self.first.0 + self.rows)
    }

    /// Returns the number of zones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.div_ceil(self.plan.zone_rows) as usize
    }

    /// Returns whether there are no zones.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Returns the statistics of all rows together.
    #[must_use]
    #[inline]
    pub fn whole(&self) -> Zone<'_> {
        self.entry(0, self.rows())
    }

    /// Iterates over the zones in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Zone<'_>> {
        (0..self.len()).map(|index| {
            let first = self.first.0 + index as u64 * self.plan.zone_rows;
            let end = (first + self.plan.zone_rows).min(self.first.0 + self.rows);
            self.entry(index + 1, RowId(first)..RowId(end))
        })
    }

    // Inlined, like its callers: a zone that is returned through memory is stored in words and then
    // loaded in pairs of words, for which the processor waits. A filter of 2,700 rows takes 14 %
    // longer with that (`figures --base`, load `filter`).
    #[inline]
    fn entry(&self, index: usize, rows: Range<RowId>) -> Zone<'_> {
        let stride = self.plan.stride;
        let entry = &self.entries[index * stride..(index + 1) * stride];
        Zone { plan: &self.plan, entry, rows, part: 0 }
    }

    /// Adds a zone of these rows, which follow the rows that are already covered.
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

/// The statistics of the rows of one zone, or of all zones of a chunk together.
#[derive(Clone, Debug)]
pub struct Zone<'z> {
    plan: &'z ZonePlan,
    entry: &'z [u8],
    rows: Range<RowId>,
    /// The offset in a row of the part to which offsets of fields are relative.
    part: usize,
}

impl<'z> Zone<'z> {
    /// Returns the rows of the zone, including deleted ones.
    #[must_use]
    #[inline]
    pub fn rows(&self) -> Range<RowId> {
        self.rows.clone()
    }

    /// Makes offsets of fields relative to the part of each row that begins at this byte offset.
    #[inline]
    pub fn select_part(&mut self, offset: usize) {
        self.part = offset;
    }

    /// Returns the statistics of the field at this byte offset in the row; `None` if there are
    /// none.
    #[must_use]
    pub fn stats(&self, field: usize) -> Option<ZoneStats<'z>> {
        Some(self.plan.place(self.part + field)?.stats(self.entry))
    }

    /// Returns the minimum and maximum of a field, in the representation of a row. Absent values of
    /// a `Maybe` and NaN are excluded. Returns `None` if there are no statistics or no values.
    ///
    /// Integers, floats ([`order`](crate::order)), `bool`, `char`, `Timestamp` and enums (by their
    /// integer) are ordered as numbers; `FixedStr`, `Uuid` and byte arrays by their bytes.
    #[must_use]
    pub fn bounds(&self, field: usize) -> Option<(&'z [u8], &'z [u8])> {
        self.stats(field)?.bounds()
    }
}

/// The statistics of one field in a zone.
#[derive(Clone, Copy, Debug)]
pub struct ZoneStats<'z> {
    scalar: Scalar,
    flags: u8,
    min: &'z [u8],
    max: &'z [u8],
}

impl<'z> ZoneStats<'z> {
    /// Returns the minimum and maximum; see [`Zone::bounds`].
    #[must_use]
    pub fn bounds(&self) -> Option<(&'z [u8], &'z [u8])> {
        (self.flags & BOUNDED != 0 && self.scalar != Scalar::Unordered).then_some((self.min, self.max))
    }

    /// Returns whether some row has a value.
    #[must_use]
    pub fn some_present(&self) -> bool {
        self.flags & PRESENT != 0
    }

    /// Returns whether some row has no value.
    #[must_use]
    pub fn some_absent(&self) -> bool {
        self.flags & ABSENT != 0
    }

    /// Returns whether some value is NaN.
    #[must_use]
    pub fn some_nan(&self) -> bool {
        self.flags & NAN != 0
    }

    /// Returns a NaN in the representation of a row, if some row has one. Which NaN it is does not
    /// matter, since all of them are equal.
    #[must_use]
    pub fn nan(&self) -> Option<&'static [u8]> {
        self.scalar.nan().filter(|_| self.some_nan())
    }

    /// Compares two values in the representation of a row.
    pub(crate) fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        self.scalar.compare(a, b)
    }

    /// Returns whether values of `width` bytes have bounds (in zones in which values are present).
    #[must_use]
    pub fn is_about(&self, width: usize) -> bool {
        self.scalar != Scalar::Unordered && self.scalar.width() == width
    }
}
