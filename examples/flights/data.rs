//! The five tables, as the CSVs have them.
//!
//! `NA` is a missing value and becomes an empty [`Maybe`], or empty text where the column is text. Fields are ordered so
//! that no struct has padding: what the compiler lays out is what lies on the disk.

use pongo::prelude::*;

/// A departure from one of New York's three airports in 2013.
///
/// A flight number leaves twice on some days, from different airports, so the key has the origin too.
#[pongo::record]
#[pongo(table = "flights")]
pub struct Flight {
    /// The hour of the scheduled departure; with `origin` the key of [`Weather`].
    pub time_hour: Timestamp,
    #[pongo(key)]
    pub year: u16,
    #[pongo(key)]
    pub month: u8,
    #[pongo(key)]
    pub day: u8,
    #[pongo(key)]
    pub carrier: FixedStr<2>,
    #[pongo(key)]
    pub flight: u16,
    #[pongo(key)]
    pub origin: FixedStr<3>,
    pub dest: FixedStr<3>,
    /// Local time as HHMM, as all the times here.
    pub sched_dep_time: u16,
    pub sched_arr_time: u16,
    /// Miles.
    pub distance: u16,
    /// Missing if the flight was cancelled.
    pub dep_time: Maybe<u16>,
    /// Minutes; negative if early.
    pub dep_delay: Maybe<i16>,
    pub arr_time: Maybe<u16>,
    pub arr_delay: Maybe<i16>,
    /// Minutes.
    pub air_time: Maybe<u16>,
    pub hour: u8,
    pub minute: u8,
    /// The key of [`Plane`]; empty if it is not known.
    pub tailnum: FixedStr<6>,
}

/// What is known of a plane.
#[pongo::record]
#[pongo(table = "planes")]
pub struct Plane {
    pub manufacturer: Text,
    pub model: Text,
    #[pongo(key)]
    pub tailnum: FixedStr<6>,
    pub seats: u16,
    /// Of manufacture.
    pub year: Maybe<u16>,
    /// Miles an hour, for cruising.
    pub speed: Maybe<u16>,
    pub engines: u8,
    pub kind: PlaneKind,
    pub engine: FixedStr<14>,
}

/// The column `type`.
#[pongo::record]
pub enum PlaneKind {
    FixedWingSingleEngine,
    FixedWingMultiEngine,
    Rotorcraft,
}

/// An airline.
#[pongo::record]
#[pongo(table = "airlines")]
pub struct Airline {
    #[pongo(key)]
    pub carrier: FixedStr<2>,
    pub name: FixedStr<30>,
}

/// An airport.
#[pongo::record]
#[pongo(table = "airports")]
pub struct Airport {
    pub name: Text,
    pub lat: f64,
    pub lon: f64,
    #[pongo(key)]
    pub faa: FixedStr<3>,
    /// Daylight saving time: `A` as in the US, `U` unknown, `N` none.
    pub dst: FixedStr<1>,
    /// Feet.
    pub alt: i16,
    /// Hours from UTC.
    pub tz: i8,
    /// IANA's name of the time zone.
    pub tzone: Maybe<FixedStr<24>>,
}

/// An hour's weather at one of the three airports.
#[pongo::record]
#[pongo(table = "weather")]
pub struct Weather {
    #[pongo(key)]
    pub origin: FixedStr<3>,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub year: u16,
    #[pongo(key)]
    pub time_hour: Timestamp,
    /// °F, as `dewp`.
    pub temp: Maybe<f32>,
    pub dewp: Maybe<f32>,
    /// Relative, in percent.
    pub humid: Maybe<f32>,
    /// Degrees.
    pub wind_dir: Maybe<f32>,
    /// Miles an hour, as `wind_gust`.
    pub wind_speed: Maybe<f32>,
    pub wind_gust: Maybe<f32>,
    /// Millibars.
    pub pressure: Maybe<f32>,
    /// Inches.
    pub precip: f32,
    /// Miles.
    pub visib: f32,
}
