//! The five tables, with the columns of the CSV files.
//!
//! `NA` is a missing value and becomes an empty [`Maybe`], or an empty text if the column is text.
//! The fields are ordered so that no struct has padding: rows are stored with the compiler's
//! layout.

use pongo::prelude::*;

/// A departure from one of New York's three airports in 2013.
///
/// A flight number departs twice on some days, from different airports, so the origin is part of
/// the key.
#[pongo::record]
#[pongo(table = "flights")]
pub(crate) struct Flight {
    /// The hour of the scheduled departure; with `origin` the key of [`Weather`].
    #[pongo(index)]
    pub(crate) time_hour: Timestamp,
    #[pongo(key)]
    pub(crate) year: u16,
    #[pongo(key)]
    pub(crate) month: u8,
    #[pongo(key)]
    pub(crate) day: u8,
    #[pongo(key)]
    pub(crate) carrier: FixedStr<2>,
    #[pongo(key)]
    pub(crate) flight: u16,
    #[pongo(key)]
    pub(crate) origin: FixedStr<3>,
    pub(crate) dest: FixedStr<3>,
    /// Local time as HHMM, like all times here.
    pub(crate) sched_dep_time: u16,
    pub(crate) sched_arr_time: u16,
    /// Miles.
    pub(crate) distance: u16,
    /// Missing if the flight was cancelled.
    pub(crate) dep_time: Maybe<u16>,
    /// Minutes; negative if early.
    #[pongo(index)]
    pub(crate) dep_delay: Maybe<i16>,
    pub(crate) arr_time: Maybe<u16>,
    pub(crate) arr_delay: Maybe<i16>,
    /// Minutes.
    pub(crate) air_time: Maybe<u16>,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    /// The key of [`Plane`]; empty if unknown.
    pub(crate) tailnum: FixedStr<6>,
}

/// A plane.
#[pongo::record]
#[pongo(table = "planes")]
pub(crate) struct Plane {
    pub(crate) manufacturer: Text,
    pub(crate) model: Text,
    #[pongo(key)]
    pub(crate) tailnum: FixedStr<6>,
    pub(crate) seats: u16,
    /// Year of manufacture.
    pub(crate) year: Maybe<u16>,
    /// Cruising speed in miles per hour.
    pub(crate) speed: Maybe<u16>,
    pub(crate) engines: u8,
    pub(crate) kind: PlaneKind,
    pub(crate) engine: FixedStr<14>,
}

/// The column `type`.
#[pongo::record]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaneKind {
    FixedWingSingleEngine,
    FixedWingMultiEngine,
    Rotorcraft,
}

/// An airline.
#[pongo::record]
#[pongo(table = "airlines")]
pub(crate) struct Airline {
    #[pongo(key)]
    pub(crate) carrier: FixedStr<2>,
    pub(crate) name: FixedStr<30>,
}

/// An airport.
#[pongo::record]
#[pongo(table = "airports")]
pub(crate) struct Airport {
    pub(crate) name: Text,
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    #[pongo(key)]
    pub(crate) faa: FixedStr<3>,
    /// Daylight saving time: `A` as in the US, `U` unknown, `N` none.
    pub(crate) dst: FixedStr<1>,
    /// Feet.
    pub(crate) alt: i16,
    /// Hours from UTC.
    pub(crate) tz: i8,
    /// IANA name of the time zone.
    pub(crate) tzone: Maybe<FixedStr<24>>,
}

/// The weather of one hour at one of the three airports.
#[pongo::record]
#[pongo(table = "weather")]
pub(crate) struct Weather {
    #[pongo(key)]
    pub(crate) origin: FixedStr<3>,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) year: u16,
    #[pongo(key)]
    pub(crate) time_hour: Timestamp,
    /// °F, like `dewp`.
    pub(crate) temp: Maybe<f32>,
    pub(crate) dewp: Maybe<f32>,
    /// Relative humidity in percent.
    pub(crate) humid: Maybe<f32>,
    /// Degrees.
    pub(crate) wind_dir: Maybe<f32>,
    /// Miles per hour, like `wind_gust`.
    pub(crate) wind_speed: Maybe<f32>,
    pub(crate) wind_gust: Maybe<f32>,
    /// Millibars.
    pub(crate) pressure: Maybe<f32>,
    /// Inches.
    pub(crate) precip: f32,
    /// Miles.
    pub(crate) visib: f32,
}
