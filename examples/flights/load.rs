//! Loads the five tables in one transaction: after a crash, the store contains either all rows or
//! none.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use pongo::prelude::*;

use crate::csv_rows::{Columns, Error, read};
use crate::data::{Airline, Airport, Flight, Plane, PlaneKind, Weather};
use crate::steps::report;

/// Reads the CSV files in `folder` into the tables of the store.
///
/// # Errors
/// Returns an error if a file cannot be read or parsed, or if the store cannot write the rows. The
/// store is unchanged then.
pub(crate) fn load(store: &Store, folder: &Path) -> Result<(), Error> {
    let mut tx = store.begin_write()?;

    let started = Instant::now();
    let flights = read(folder, "flights", flight)?;
    report("read flights", flights.len(), started);
    let started = Instant::now();
    let rows = flights.len();
    tx.table::<Flight>()?.extend(flights)?;
    report("store flights", rows, started);

    let started = Instant::now();
    let weather = read(folder, "weather", weather)?;
    let planes = read(folder, "planes", |row| plane(row, &mut tx))?;
    let airports = read(folder, "airports", |row| airport(row, &mut tx))?;
    let airlines = read(folder, "airlines", airline)?;
    let rows = weather.len() + planes.len() + airports.len() + airlines.len();
    tx.table::<Weather>()?.extend(weather)?;
    tx.table::<Plane>()?.extend(planes)?;
    tx.table::<Airport>()?.extend(airports)?;
    tx.table::<Airline>()?.extend(airlines)?;
    report("read and store the rest", rows, started);

    let started = Instant::now();
    tx.commit()?;
    println!("{:32} {:>38.1} ms", "commit, synced to the disk", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

/// Parses a flight.
///
/// # Errors
/// Returns an error that contains the column that cannot be parsed.
pub(crate) fn flight(row: &Columns<'_>) -> Result<Flight, Error> {
    Ok(Flight {
        time_hour: row.moment("time_hour")?,
        year: row.get("year")?,
        month: row.get("month")?,
        day: row.get("day")?,
        carrier: row.get("carrier")?,
        flight: row.get("flight")?,
        origin: row.get("origin")?,
        dest: row.get("dest")?,
        sched_dep_time: row.get("sched_dep_time")?,
        sched_arr_time: row.get("sched_arr_time")?,
        distance: row.get("distance")?,
        dep_time: row.maybe("dep_time")?.into(),
        dep_delay: row.maybe("dep_delay")?.into(),
        arr_time: row.maybe("arr_time")?.into(),
        arr_delay: row.maybe("arr_delay")?.into(),
        air_time: row.maybe("air_time")?.into(),
        hour: row.get("hour")?,
        minute: row.get("minute")?,
        tailnum: row.maybe("tailnum")?.unwrap_or_default(),
    })
}

/// Parses the weather of one hour.
///
/// # Errors
/// Returns an error that contains the column that cannot be parsed.
pub(crate) fn weather(row: &Columns<'_>) -> Result<Weather, Error> {
    Ok(Weather {
        origin: row.get("origin")?,
        month: row.get("month")?,
        day: row.get("day")?,
        hour: row.get("hour")?,
        year: row.get("year")?,
        time_hour: row.moment("time_hour")?,
        temp: row.maybe("temp")?.into(),
        dewp: row.maybe("dewp")?.into(),
        humid: row.maybe("humid")?.into(),
        wind_dir: row.maybe("wind_dir")?.into(),
        wind_speed: row.maybe("wind_speed")?.into(),
        wind_gust: row.maybe("wind_gust")?.into(),
        pressure: row.maybe("pressure")?.into(),
        precip: row.get("precip")?,
        visib: row.get("visib")?,
    })
}

/// Parses an airline.
///
/// # Errors
/// Returns an error that contains the column that cannot be parsed.
pub(crate) fn airline(row: &Columns<'_>) -> Result<Airline, Error> {
    Ok(Airline { carrier: row.get("carrier")?, name: row.get("name")? })
}

fn plane(row: &Columns<'_>, tx: &mut WriteTransaction) -> Result<Plane, Error> {
    Ok(Plane {
        manufacturer: tx.text(row.text("manufacturer")?)?,
        model: tx.text(row.text("model")?)?,
        tailnum: row.get("tailnum")?,
        seats: row.get("seats")?,
        year: row.maybe("year")?.into(),
        speed: row.maybe("speed")?.into(),
        engines: row.get("engines")?,
        kind: row.get("type")?,
        engine: row.get("engine")?,
    })
}

fn airport(row: &Columns<'_>, tx: &mut WriteTransaction) -> Result<Airport, Error> {
    Ok(Airport {
        name: tx.text(row.text("name")?)?,
        lat: row.get("lat")?,
        lon: row.get("lon")?,
        faa: row.get("faa")?,
        dst: row.get("dst")?,
        alt: row.get("alt")?,
        tz: row.get("tz")?,
        tzone: row.maybe("tzone")?.into(),
    })
}

impl FromStr for PlaneKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Fixed wing single engine" => Ok(Self::FixedWingSingleEngine),
            "Fixed wing multi engine" => Ok(Self::FixedWingMultiEngine),
            "Rotorcraft" => Ok(Self::Rotorcraft),
            _ => Err("not a kind of plane that the data had before".into()),
        }
    }
}
