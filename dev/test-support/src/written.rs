//! The contents of the fixtures of old formats: the types of their tables, the steps that wrote
//! them, and the expected contents. Every value follows from a key and a version, so that it can be
//! computed again without the store.
//!
//! Fixtures are never changed, so these steps are never changed either. A later format adds its
//! own.

use std::collections::{BTreeMap, BTreeSet};

use pongo::prelude::*;
use pongo::zerocopy::IntoBytes;

use crate::{Outcome, Random};

/// Returns options with small files, so that a few rows make several chunks and several segments of
/// the journal.
#[must_use]
pub fn options() -> Options {
    Options::new().chunk_size(64 << 10).small_files(16 << 10, 64 << 20).ordered_tuning(
        50,
        1 << 20,
        1 << 20,
        1 << 16,
    )
}

#[pongo::record]
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Class {
    First = 1,
    Second = 2,
    Third = 7,
}

#[pongo::record]
#[derive(IntoBytes, PartialEq, Debug)]
pub(crate) struct Place {
    pub(crate) latitude: f32,
    pub(crate) longitude: f32,
}

/// A record with a key of two fields, an index of each kind, and every kind of field.
#[pongo::record]
#[pongo(table = "trips", index(to, number))]
#[derive(Debug)]
pub(crate) struct Trip {
    #[pongo(key)]
    pub(crate) carrier: FixedStr<4>,
    #[pongo(key)]
    pub(crate) number: i32,
    #[pongo(index)]
    pub(crate) price: f64,
    pub(crate) delay: Maybe<f64>,
    #[pongo(index)]
    pub(crate) leaves: Timestamp,
    #[pongo(unique)]
    pub(crate) ticket: Uuid,
    #[pongo(index)]
    pub(crate) seat: Maybe<u32>,
    pub(crate) to: FixedStr<4>,
    pub(crate) from: Place,
    pub(crate) class: Class,
    pub(crate) open: bool,
    pub(crate) tags: [u8; 10],
    pub(crate) name: Text,
    pub(crate) note: Text,
    pub(crate) map: Blob,
    pub(crate) version: u64,
}

/// Rows that are loaded in bulk, so that the journal stores references to them only.
#[pongo::record]
#[pongo(table = "samples")]
#[derive(Debug)]
pub(crate) struct Sample {
    #[pongo(key)]
    pub(crate) id: u64,
    #[pongo(index)]
    pub(crate) value: f64,
    pub(crate) weight: f32,
    pub(crate) version: u32,
}

/// Rows that are larger than a block of 64 KiB.
#[pongo::record]
#[pongo(table = "tiles")]
pub(crate) struct Tile {
    #[pongo(key)]
    pub(crate) id: u64,
    pub(crate) cells: [u32; 18_000],
}

/// A record with external keys.
#[pongo::record]
#[pongo(table = "notes", key = "external")]
#[derive(Debug, PartialEq)]
pub(crate) struct Note {
    #[pongo(index)]
    pub(crate) group: u16,
    pub(crate) pad: [u8; 6],
    pub(crate) version: u64,
}

/// Returns a pseudo-random number that depends on `number` alone and never changes.
#[must_use]
pub(crate) fn mix(number: u64) -> u64 {
    Random(number).next()
}

const CARRIERS: [&str; 5] = ["", "AF", "LH", "UA", "\u{e9}\u{e9}"];
const PRICES: [f64; 10] =
    [0.0, -0.0, 1.5, -3.25, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-300, 129.95, f64::MAX];

type TripKey = (usize, i32);

/// The fields of a trip, computed without a store.
pub(crate) struct TripOf {
    pub(crate) carrier: FixedStr<4>,
    pub(crate) number: i32,
    pub(crate) price: f64,
    pub(crate) delay: Option<f64>,
    pub(crate) leaves: i64,
    pub(crate) ticket: [u8; 16],
    pub(crate) seat: Option<u32>,
    pub(crate) to: FixedStr<4>,
    pub(crate) from: Place,
    pub(crate) class: Class,
    pub(crate) open: bool,
    pub(crate) tags: [u8; 10],
    pub(crate) name: String,
    pub(crate) note: String,
    pub(crate) map: Vec<u8>,
}

#[must_use]
pub(crate) fn trip_of((carrier, number): TripKey, version: u64) -> TripOf {
    let key = (carrier as u64) << 32 | u64::from(number as u32);
    let value = mix(mix(key) ^ version);
    let mut ticket = [0; 16];
    ticket[..8].copy_from_slice(&key.to_le_bytes());
    ticket[8..].copy_from_slice(&version.to_le_bytes());
    TripOf {
        carrier: CARRIERS[carrier].parse().expect("at most four bytes"),
        number,
        price: PRICES[value as usize % PRICES.len()],
        delay: (value >> 8 & 3 != 0).then(|| PRICES[(value >> 12) as usize % PRICES.len()]),
        leaves: (value >> 20) as i64 - (1 << 42),
        ticket,
        seat: (value >> 16 & 3 != 0).then_some((value >> 18) as u32 % 40),
        to: CARRIERS[(value >> 24) as usize % CARRIERS.len()].parse().expect("at most four bytes"),
        from: Place {
            latitude: (value % 90) as f32 - 0.5,
            longitude: if value & 1 == 0 { -0.0 } else { f32::NAN },
        },
        class: [Class::First, Class::Second, Class::Third][(value >> 32) as usize % 3],
        open: value >> 40 & 1 == 1,
        tags: [number as u8, version as u8, 0, 0xff, 7, carrier as u8, 1, 2, 3, 4],
        name: format!("trip {carrier}-{number}, version {version}"),
        note: if value >> 41 & 3 == 0 {
            String::new()
        } else {
            "\u{221e} of words ".repeat((value >> 44) as usize % 9)
        },
        map: (0..(value >> 48) % 200).map(|at| (at as u8).wrapping_mul(value as u8)).collect(),
    }
}

#[must_use]
pub(crate) fn sample_of(id: u64, version: u32) -> Sample {
    // Few distinct values, so that the fixture stays small.
    let value = mix((id / 64) ^ (u64::from(version) << 40));
    Sample {
        id,
        value: if id % 50 < PRICES.len() as u64 {
            PRICES[id as usize % 50]
        } else {
            (value % 1000) as f64 / 4.0
        },
        weight: (value >> 20 & 0xff) as f32,
        version,
    }
}

#[must_use]
pub(crate) fn cell_of(id: u64, version: u64, cell: usize) -> u32 {
    mix(id << 32 ^ version << 16 ^ (cell / 900) as u64) as u32 | 1
}

#[must_use]
pub(crate) fn note_key(number: u64) -> Vec<u8> {
    let mut key = mix(number).to_le_bytes()[..(number % 7) as usize].to_vec();
    key.extend_from_slice(format!("/{number}").as_bytes());
    if number.is_multiple_of(13) {
        key.splice(0..0, std::iter::repeat_n(b'x', 300));
    }
    key
}

#[must_use]
pub(crate) fn note_of(number: u64, version: u64) -> Note {
    Note { group: (mix(number ^ version << 20) % 5) as u16, pad: [0; 6], version }
}

/// The newest version of each existing row.
#[derive(Clone, Default, Debug)]
pub struct World {
    pub(crate) trips: BTreeMap<TripKey, u64>,
    pub(crate) samples: BTreeMap<u64, u32>,
    pub(crate) tiles: BTreeMap<u64, u64>,
    pub(crate) notes: BTreeMap<u64, u64>,
}

/// One step of a transaction.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Puts the trips with these numbers, for each carrier, in this version.
    PutTrips(i32, i32, u64),
    /// Deletes every third trip of this range.
    DeleteTrips(i32, i32),
    /// Loads the samples with these ids in bulk.
    Load(u64, u64, u32),
    /// Deletes the samples of this range whose id is divisible by seven.
    DeleteSamples(u64, u64),
    /// Puts a row that is larger than a block.
    PutTile(u64, u64),
    /// Puts notes.
    PutNotes(u64, u64, u64),
    /// Deletes every second note of this range.
    DeleteNotes(u64, u64),
    /// Puts trips with texts so large that the journal stores references to them only.
    ManyTexts(i32, i32, u64),
}

/// The transactions before the store is closed cleanly.
pub const FIRST: &[&[Step]] = &[
    &[Step::PutTrips(-3, 20, 1), Step::PutNotes(0, 60, 1)],
    &[Step::Load(0, 3000, 1), Step::PutTile(1, 1)],
    &[Step::PutTrips(10, 30, 2), Step::DeleteTrips(0, 12), Step::DeleteNotes(10, 40)],
    &[Step::PutNotes(30, 70, 2), Step::DeleteSamples(500, 900), Step::Load(2500, 5200, 2)],
];

/// The transactions after that, by a process that is then killed: journal entries that contain
/// their rows, and some that refer to them.
pub const SECOND: &[&[Step]] = &[
    &[Step::PutTrips(25, 33, 3), Step::PutNotes(65, 80, 3)],
    &[Step::Load(5000, 9000, 3), Step::PutTrips(-2, 2, 3)],
    &[Step::DeleteTrips(20, 30), Step::DeleteSamples(4000, 5100), Step::DeleteNotes(0, 9)],
    &[Step::PutTile(2, 1), Step::PutTile(1, 2), Step::PutNotes(5, 8, 4)],
    &[Step::ManyTexts(40, 42, 5)],
    &[Step::PutTrips(30, 32, 6), Step::Load(8990, 9100, 4)],
];

/// Length in bytes of a text in [`Step::ManyTexts`]. All texts together are more than 1 MiB, of
/// repeated words.
const MUCH: usize = 130_000;

#[must_use]
pub(crate) fn name_of(of: &TripOf, version: u64) -> String {
    if version == 5 { of.name.repeat(MUCH / of.name.len()) } else { of.name.clone() }
}

fn trip_keys(from: i32, to: i32) -> impl Iterator<Item = TripKey> {
    (0..CARRIERS.len()).flat_map(move |carrier| (from..to).map(move |number| (carrier, number)))
}

fn key_of((carrier, number): TripKey) -> (FixedStr<4>, i32) {
    (CARRIERS[carrier].parse().expect("at most four bytes"), number)
}

impl World {
    /// Returns the expected contents of a store after these transactions.
    #[must_use]
    pub fn after(transactions: &[&[Step]]) -> Self {
        let mut world = Self::default();
        transactions.iter().copied().flatten().for_each(|&step| world.apply(step));
        world
    }

    /// Changes the world as [`perform`] changes a store.
    pub fn apply(&mut self, step: Step) {
        match step {
            Step::PutTrips(from, to, version) | Step::ManyTexts(from, to, version) => {
                self.trips.extend(trip_keys(from, to).map(|key| (key, version)));
            }
            Step::DeleteTrips(from, to) => {
                self.trips.retain(|&(_, number), _| !(from..to).contains(&number) || number % 3 != 0);
            }
            Step::Load(from, to, version) => self.samples.extend((from..to).map(|id| (id, version))),
            Step::DeleteSamples(from, to) => {
                self.samples.retain(|id, _| !(from..to).contains(id) || id % 7 != 0);
            }
            Step::PutTile(id, version) => drop(self.tiles.insert(id, version)),
            Step::PutNotes(from, to, version) => {
                self.notes.extend((from..to).map(|number| (number, version)))
            }
            Step::DeleteNotes(from, to) => {
                self.notes.retain(|number, _| !(from..to).contains(number) || number % 2 != 0);
            }
        }
    }
}

/// Stages and commits one transaction.
///
/// # Errors
///
/// Returns the first error of the store.
pub fn perform(store: &Store, steps: &[Step], durability: Durability) -> Outcome {
    let tx = store.begin_write_with(durability)?;
    for &step in steps {
        match step {
            Step::PutTrips(from, to, version) | Step::ManyTexts(from, to, version) => {
                for key in trip_keys(from, to) {
                    let of = trip_of(key, version);
                    let name = tx.text(&name_of(&of, version))?;
                    let (note, map) = (tx.text(&of.note)?, tx.blob(&of.map)?);
                    let trip = Trip {
                        carrier: of.carrier,
                        number: of.number,
                        price: of.price,
                        delay: Maybe::from(of.delay),
                        leaves: Timestamp::from_micros(of.leaves),
                        ticket: Uuid::from_bytes(of.ticket),
                        seat: Maybe::from(of.seat),
                        to: of.to,
                        from: of.from,
                        class: of.class,
                        open: of.open,
                        tags: of.tags,
                        name,
                        note,
                        map,
                        version,
                    };
                    tx.table::<Trip>()?.put(&trip)?;
                }
            }
            Step::DeleteTrips(from, to) => {
                for key in trip_keys(from, to).filter(|(_, number)| number % 3 == 0) {
                    tx.table::<Trip>()?.delete(key_of(key))?;
                }
            }
            Step::Load(from, to, version) => {
                tx.table::<Sample>()?.extend((from..to).map(|id| sample_of(id, version)))?;
            }
            Step::DeleteSamples(from, to) => {
                for id in (from..to).filter(|id| id % 7 == 0) {
                    tx.table::<Sample>()?.delete(id)?;
                }
            }
            Step::PutTile(id, version) => {
                let mut cells = [0; 18_000];
                cells.iter_mut().enumerate().for_each(|(at, cell)| *cell = cell_of(id, version, at));
                tx.table::<Tile>()?.put(&Tile { id, cells })?;
            }
            Step::PutNotes(from, to, version) => {
                for number in from..to {
                    tx.external::<Note>()?.put(note_key(number), &note_of(number, version))?;
                }
            }
            Step::DeleteNotes(from, to) => {
                for number in (from..to).filter(|number| number % 2 == 0) {
                    tx.external::<Note>()?.delete(note_key(number))?;
                }
            }
        }
    }
    tx.commit()?;
    Ok(())
}

/// Compares the store with this world: every row by its key and in every index, and every text.
///
/// # Errors
///
/// Returns the difference, or the first error of the store.
pub fn compare(store: &Store, world: &World) -> Result<(), String> {
    looked(store, world).map_err(|error| error.to_string())
}

fn looked(store: &Store, world: &World) -> Outcome {
    let snapshot = store.begin_read()?;
    trips(&snapshot, world)?;
    samples(&snapshot, world)?;
    let tiles = snapshot.table::<Tile>()?;
    same("tiles", tiles.len(), world.tiles.len() as u64)?;
    for (&id, &version) in &world.tiles {
        let tile = tiles.get(id)?.ok_or(format!("tile {id} is missing"))?;
        let wrong = (0..18_000).find(|&at| tile.cells[at] != cell_of(id, version, at));
        same(&format!("tile {id}"), wrong, None)?;
    }
    let notes = snapshot.external::<Note>()?;
    same("notes", notes.len(), world.notes.len() as u64)?;
    for (&number, &version) in &world.notes {
        same(&format!("note {number}"), notes.get(note_key(number))?, Some(&note_of(number, version)))?;
    }
    let known: BTreeMap<Vec<u8>, u64> = world.notes.iter().map(|(&n, &v)| (note_key(n), v)).collect();
    let found: Vec<(Vec<u8>, u64)> = notes
        .range(..)?
        .map(|item| item.map(|(key, note)| (key.to_vec(), note.version)))
        .collect::<Result<_, _>>()?;
    same("notes in order", found, known.into_iter().collect())?;
    for group in 0..5 {
        let found = notes.by(Note::GROUP).eq(group)?.collect::<Result<Vec<_>, _>>()?;
        let found: BTreeSet<Vec<u8>> = found.into_iter().map(|(key, _)| key.to_vec()).collect();
        let known = world.notes.iter().filter(|&(&n, &v)| note_of(n, v).group == group);
        same("notes by group", found, known.map(|(&n, _)| note_key(n)).collect())?;
    }
    Ok(())
}

fn trips(snapshot: &Snapshot, world: &World) -> Outcome {
    let trips = snapshot.table::<Trip>()?;
    same("trips", trips.len(), world.trips.len() as u64)?;
    for (&key, &version) in &world.trips {
        let of = trip_of(key, version);
        let what = format!("trip {key:?}");
        let trip = trips.get(key_of(key))?.ok_or(format!("{what} is missing"))?;
        same(&what, trip.name.as_str(snapshot)?, &name_of(&of, version))?;
        same(&what, trip.note.as_str(snapshot)?, &of.note)?;
        same(&what, trip.map.as_bytes(snapshot)?, &of.map)?;
        same(&what, (trip.carrier, trip.number, trip.to), (of.carrier, of.number, of.to))?;
        same(&what, trip.price.to_bits(), of.price.to_bits())?;
        same(&what, trip.delay.to_option().map(f64::to_bits), of.delay.map(f64::to_bits))?;
        same(&what, (trip.leaves.micros(), *trip.ticket.as_bytes()), (of.leaves, of.ticket))?;
        same(&what, (trip.seat.to_option(), trip.class, trip.open), (of.seat, of.class, of.open))?;
        same(&what, trip.from.as_bytes(), of.from.as_bytes())?;
        same(&what, (trip.tags, trip.version), (of.tags, version))?;
        let by_ticket = trips.by(Trip::TICKET).eq(Uuid::from_bytes(of.ticket))?.next().transpose()?;
        same(&what, by_ticket.map(|found| (found.carrier, found.number)), Some((of.carrier, of.number)))?;
    }
    let missing = (CARRIERS.len() - 1, i32::MAX);
    same("a missing trip", trips.contains(key_of(missing))?, false)?;
    let all = || world.trips.iter().map(|(&key, &version)| trip_of(key, version));
    type Of = (String, i32);
    let names = |rows: &[&Trip]| -> Vec<Of> {
        rows.iter().map(|row| (row.carrier.as_str().to_owned(), row.number)).collect()
    };
    let of = |of: &TripOf| -> Of { (of.carrier.as_str().to_owned(), of.number) };
    let mut keys: Vec<Of> = all().map(|trip| of(&trip)).collect();
    keys.sort();
    let found: Vec<&Trip> = trips.range(..)?.collect::<Result<_, _>>()?;
    same("trips in order", names(&found), keys.clone())?;
    let mut leaves: Vec<(i64, Of)> = all().map(|trip| (trip.leaves, of(&trip))).collect();
    leaves.sort();
    let found: Vec<&Trip> = trips.by(Trip::LEAVES).all()?.collect::<Result<_, _>>()?;
    let mut found: Vec<(i64, Of)> =
        found.iter().map(|trip| trip.leaves.micros()).zip(names(&found)).collect();
    same("trips by leaves are in order", found.is_sorted_by_key(|trip| trip.0), true)?;
    found.sort();
    same("trips by leaves", found, leaves)?;
    let mut to: Vec<(String, i32)> = all().map(|trip| (trip.to.as_str().to_owned(), trip.number)).collect();
    to.sort();
    let found: Vec<&Trip> = trips.by((Trip::TO, Trip::NUMBER)).all()?.collect::<Result<_, _>>()?;
    let found: Vec<(String, i32)> =
        found.iter().map(|trip| (trip.to.as_str().to_owned(), trip.number)).collect();
    same("trips by where to", found, to)?;
    // For floats, compare only what every order of them agrees on.
    let found: Vec<&Trip> = trips.by(Trip::PRICE).all()?.collect::<Result<_, _>>()?;
    let mut found = names(&found);
    found.sort();
    same("trips by price", found, keys)?;
    let found: Vec<&Trip> = trips.by(Trip::PRICE).range(1.0..1e300)?.collect::<Result<_, _>>()?;
    same("trips by price are in order", found.is_sorted_by_key(|trip| trip.price), true)?;
    let mut dear: Vec<Of> =
        all().filter(|trip| (1.0..1e300).contains(&trip.price)).map(|trip| of(&trip)).collect();
    let mut found = names(&found);
    dear.sort();
    found.sort();
    same("trips by a range of prices", found, dear)?;
    for seat in 0..40 {
        let found: Vec<&Trip> = trips.by(Trip::SEAT).eq(Maybe::some(seat))?.collect::<Result<_, _>>()?;
        let mut found = names(&found);
        let mut known: Vec<Of> = all().filter(|trip| trip.seat == Some(seat)).map(|trip| of(&trip)).collect();
        known.sort();
        found.sort();
        same("trips by seat", found, known)?;
    }
    Ok(())
}

fn samples(snapshot: &Snapshot, world: &World) -> Outcome {
    let samples = snapshot.table::<Sample>()?;
    same("samples", samples.len(), world.samples.len() as u64)?;
    let bits = |sample: &Sample| (sample.id, sample.value.to_bits(), sample.weight.to_bits(), sample.version);
    let mut known: Vec<_> =
        world.samples.iter().map(|(&id, &version)| bits(&sample_of(id, version))).collect();
    let mut found = Vec::new();
    for slice in samples.slices() {
        found.extend(slice?.iter().map(bits));
    }
    found.sort_unstable();
    if let Some((found, known)) = found.iter().zip(&known).find(|(found, known)| found != known) {
        return Err(format!("samples: expected {known:?}, found {found:?}").into());
    }
    let found: Vec<_> = samples.range(..)?.map(|row| row.map(bits)).collect::<Result<_, _>>()?;
    same("samples in order", found == known, true)?;
    for &(id, ..) in known.iter().step_by(31) {
        same("a sample", samples.get(id)?.map(bits), Some(bits(&sample_of(id, world.samples[&id]))))?;
    }
    let found: Vec<&Sample> = samples.by(Sample::VALUE).range(1.0..200.0)?.collect::<Result<_, _>>()?;
    same("samples by value are in order", found.is_sorted_by_key(|sample| sample.value), true)?;
    let mut found: Vec<_> = found.into_iter().map(bits).collect();
    found.sort_unstable();
    known.retain(|&(_, value, ..)| (1.0..200.0).contains(&f64::from_bits(value)));
    same("samples by value", found == known, true)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        return Ok(());
    }
    let short = |value: T| format!("{value:?}").chars().take(300).collect::<String>();
    Err(format!("{what}: expected {}, found {}", short(expected), short(found)).into())
}
