//! All 336,776 flights that departed from New York in 2013, with weather, planes, airports and
//! airlines, in five typed tables.
//!
//! ```text
//! cargo run --release --example flights            # the store is ./flights.pongo
//! cargo run --release --example flights -- PATH    # … or elsewhere
//! ```
//!
//! The first run loads the tables from `examples/data/nycflights13`; later runs open the store and
//! query it immediately. The modules in reading order: `data` (the structs), `csv_rows` and `load`
//! (write the store), `queries` (read it).

mod csv_rows;
mod data;
mod load;
mod queries;
mod steps;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use pongo::prelude::*;

use csv_rows::{Error, moment};
use data::{Airline, Airport, Flight, Plane, Weather};
use steps::report;

const CSVS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/nycflights13");

fn main() -> ExitCode {
    let path = match std::env::args_os().skip(1).collect::<Vec<_>>().as_slice() {
        [] => PathBuf::from("flights.pongo"),
        [path] if !path.to_string_lossy().starts_with('-') => PathBuf::from(path),
        _ => {
            eprintln!("usage: flights [PATH OF THE STORE, else ./flights.pongo]");
            return ExitCode::from(2);
        }
    };
    match run(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flights: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path) -> Result<(), Error> {
    let started = Instant::now();
    // SAFETY: only PongoDB writes to the files of this store; the user guarantees that by the
    // choice of the path.
    let store = unsafe { Store::open(path) }?;
    println!("opened {} in {:.1} ms", path.display(), started.elapsed().as_secs_f64() * 1e3);
    if store.begin_read()?.table::<Flight>()?.is_empty() {
        load::load(&store, Path::new(CSVS))?;
    }
    let snapshot = store.begin_read()?;
    one_flight(&snapshot)?;
    rates(&snapshot)?;
    carriers(&snapshot)?;
    routes(&snapshot)?;
    holiday(&snapshot)?;
    longest_delays(&snapshot)?;
    late_in_july(&snapshot)?;
    Ok(())
}

/// Looks up one flight and the rows to which it refers.
fn one_flight(snapshot: &Snapshot) -> Result<(), Error> {
    let key = (2013, 1, 1, "UA".parse()?, 1545, "EWR".parse()?);
    println!("\nUA 1545 from EWR on 2013-01-01");
    let Some(flight) = snapshot.table::<Flight>()?.get(key)? else {
        return Err("the flight is missing: remove the store, and the next run loads it again".into());
    };
    if let Some(airline) = snapshot.table::<Airline>()?.get(flight.carrier)? {
        println!("  airline  {}", airline.name);
    }
    if let Some(plane) = snapshot.table::<Plane>()?.get(flight.tailnum)? {
        let year = plane.year.get().map_or("an unknown year".into(), u16::to_string);
        let (maker, model) = (plane.manufacturer.as_str(snapshot)?, plane.model.as_str(snapshot)?);
        println!("  plane    {}: {maker} {model} of {year}, {} seats", plane.tailnum, plane.seats);
    }
    if let Some(airport) = snapshot.table::<Airport>()?.get(flight.dest)? {
        println!("  to       {} ({})", airport.name.as_str(snapshot)?, flight.dest);
    }
    if let Some(weather) = snapshot.table::<Weather>()?.get((flight.origin, flight.time_hour))? {
        let temperature = weather.temp.get().map_or("unknown".into(), |temp| format!("{temp} °F"));
        println!("  weather  {temperature} at {}", flight.time_hour);
    }
    if let (Some(departure), Some(delay)) = (flight.dep_time.get(), flight.dep_delay.get()) {
        println!("  left     {:02}:{:02}, {delay} minutes late", departure / 100, departure % 100);
    }
    Ok(())
}

/// Measures how fast rows are found by key.
fn rates(snapshot: &Snapshot) -> Result<(), Error> {
    println!();
    let keys = queries::shuffled_keys(snapshot.table::<Flight>()?.slices())?;
    let started = Instant::now();
    let found = queries::look_up(snapshot, &keys)?;
    report("look every flight up by its key", found, started);
    let started = Instant::now();
    let (planes, airlines) = queries::follow(snapshot)?;
    report("follow to plane and airline", keys.len(), started);
    println!("  {planes} flights have a known plane, {airlines} a known airline");
    Ok(())
}

fn carriers(snapshot: &Snapshot) -> Result<(), Error> {
    let flights = snapshot.table::<Flight>()?;
    let started = Instant::now();
    let carriers = queries::by_carrier(flights.slices())?;
    println!();
    report("flights and delays by carrier", flights.len() as usize, started);
    println!("  {:2} {:28} {:>8} {:>9} {:>10}", "", "", "flights", "departed", "mean delay");
    let airlines = snapshot.table::<Airline>()?;
    for (carrier, of) in carriers {
        let name = airlines.get(carrier)?.map_or(FixedStr::EMPTY, |airline| airline.name);
        let delay = of.mean_delay().map_or("–".into(), |minutes| format!("{minutes:.2} min"));
        println!("  {carrier:2} {:28} {:>8} {:>9} {delay:>10}", name.as_str(), of.flights, of.departed);
    }
    Ok(())
}

fn routes(snapshot: &Snapshot) -> Result<(), Error> {
    let flights = snapshot.table::<Flight>()?;
    let started = Instant::now();
    let routes = queries::busiest(flights.slices(), 10)?;
    println!();
    report("the ten busiest routes", flights.len() as usize, started);
    let airports = snapshot.table::<Airport>()?;
    for ((origin, dest), count) in routes {
        let name = match airports.get(dest)? {
            Some(airport) => airport.name.as_str(snapshot)?,
            None => "an airport that is not in the table",
        };
        println!("  {origin} -> {dest} {count:>8}  {name}");
    }
    Ok(())
}

/// Queries a day in the time zone of New York (UTC−4 in July).
fn holiday(snapshot: &Snapshot) -> Result<(), Error> {
    let started = Instant::now();
    let day = moment("2013-07-04T04:00:00Z")?..moment("2013-07-05T04:00:00Z")?;
    let flights = queries::departures(snapshot, day)?.collect::<Result<Vec<_>, _>>()?;
    println!();
    report("flights of 4 July, by time_hour", flights.len(), started);
    let cancelled = flights.iter().filter(|flight| flight.dep_time.is_none()).count();
    println!("  {cancelled} of them were cancelled; the first and the last:");
    flights.iter().take(3).for_each(|flight| line(flight));
    flights.iter().rev().take(1).for_each(|flight| line(flight));
    Ok(())
}

fn longest_delays(snapshot: &Snapshot) -> Result<(), Error> {
    let started = Instant::now();
    let late = queries::latest(snapshot, 600)?.collect::<Result<Vec<_>, _>>()?;
    println!();
    report("ten hours late, by dep_delay", late.len(), started);
    late.iter().take(5).for_each(|flight| line(flight));
    Ok(())
}

/// Prints one flight in one line.
fn line(flight: &Flight) {
    let delay = flight.dep_delay.get().map_or("cancelled".into(), |minutes| format!("{minutes:>5} min"));
    let Flight { month, day, carrier, flight: number, origin, dest, sched_dep_time, .. } = flight;
    let (hour, minute) = (sched_dep_time / 100, sched_dep_time % 100);
    println!(
        "  {month:02}-{day:02} {hour:02}:{minute:02}  {carrier} {number:<4}  {origin} -> {dest}  {delay}"
    );
}

fn late_in_july(snapshot: &Snapshot) -> Result<(), Error> {
    let started = Instant::now();
    let late = queries::late_in(snapshot, 7, "JFK".parse()?, 60)?;
    println!();
    report("JFK in July, > 60 min late", late.flights as usize, started);
    println!("  {:.1} hours of waiting in all. Rows of the scan:", late.delay as f64 / 60.0);
    println!("    {}", late.explain.to_string().replace('\n', "\n    "));
    Ok(())
}
