//! The flights example's answers, against numbers computed from the CSVs by other means (Python's `csv`).

#[path = "../examples/flights/csv_rows.rs"]
mod csv_rows;
#[path = "../examples/flights/data.rs"]
mod data;
#[path = "../examples/flights/load.rs"]
mod load;
#[path = "../examples/flights/queries.rs"]
mod queries;
#[path = "../examples/flights/steps.rs"]
mod steps;

use std::path::Path;

use pongo::prelude::*;

use csv_rows::Error;
use data::{Airline, Airport, Flight, Plane, PlaneKind, Weather};
use queries::{OfCarrier, Run};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/nycflights13"))
}

/// Code, flights, departures, sum of delays.
const CARRIERS: [(&str, u64, u64, i64); 16] = [
    ("9E", 18460, 17416, 291_296),
    ("AA", 32729, 32093, 275_551),
    ("AS", 714, 712, 4133),
    ("B6", 54635, 54169, 705_417),
    ("DL", 48110, 47761, 442_482),
    ("EV", 54173, 51356, 1_024_829),
    ("F9", 685, 682, 13787),
    ("FL", 3260, 3187, 59680),
    ("HA", 342, 342, 1676),
    ("MQ", 26397, 25163, 265_521),
    ("OO", 32, 29, 365),
    ("UA", 58665, 57979, 701_898),
    ("US", 20536, 19873, 75168),
    ("VX", 5162, 5131, 66033),
    ("WN", 12275, 12083, 214_011),
    ("YV", 601, 545, 10353),
];

const ROUTES: [(&str, &str, u64); 10] = [
    ("JFK", "LAX", 11262),
    ("LGA", "ATL", 10263),
    ("LGA", "ORD", 8857),
    ("JFK", "SFO", 8204),
    ("LGA", "CLT", 6168),
    ("EWR", "ORD", 6100),
    ("JFK", "BOS", 5898),
    ("LGA", "MIA", 5781),
    ("JFK", "MCO", 5464),
    ("EWR", "BOS", 5327),
];

fn check_answers<'a, I: Iterator<Item = Run<'a>>>(runs: impl Fn() -> I) -> Result<(), Error> {
    let carriers = queries::by_carrier(runs())?;
    let found: Vec<_> =
        carriers.iter().map(|(code, of)| (code.as_str(), of.flights, of.departed, of.delay)).collect();
    assert_eq!(found, CARRIERS);
    let routes = queries::busiest(runs(), 10)?;
    let found: Vec<_> =
        routes.iter().map(|((from, to), count)| (from.as_str(), to.as_str(), *count)).collect();
    assert_eq!(found, ROUTES);
    Ok(())
}

#[test]
fn the_csvs_give_the_answers() -> Result<(), Error> {
    let flights = csv_rows::read(folder(), "flights", load::flight)?;
    assert_eq!(flights.len(), 336_776);
    check_answers(|| [Ok(flights.as_slice())].into_iter())?;
    let keys: std::collections::HashSet<_> = flights.iter().map(PongoRecord::key_bytes).collect();
    assert_eq!(keys.len(), flights.len(), "the key is no key");
    let shuffled = queries::shuffled_keys([Ok(flights.as_slice())].into_iter())?;
    assert_eq!(shuffled.iter().map(Flight::encode_key).collect::<std::collections::HashSet<_>>(), keys);
    assert_eq!(csv_rows::read(folder(), "weather", load::weather)?.len(), 26_115);
    assert_eq!(csv_rows::read(folder(), "airlines", load::airline)?.len(), 16);
    Ok(())
}

#[test]
fn united_is_twelve_minutes_late() {
    let united = OfCarrier { flights: 58665, departed: 57979, delay: 701_898 };
    assert_eq!(united.mean_delay().map(|minutes| format!("{minutes:.3}")), Some("12.106".into()));
    assert_eq!(OfCarrier::default().mean_delay(), None);
}

#[test]
fn the_tables_give_the_answers() -> Result<(), Error> {
    let store = Store::in_memory()?;
    load::load(&store, folder())?;
    let snapshot = store.begin_read()?;
    let flights = snapshot.table::<Flight>()?;
    assert_eq!(flights.len(), 336_776);
    check_answers(|| flights.slices())?;
    assert_eq!(queries::follow(&snapshot)?, (284_170, 336_776));
    let keys = queries::shuffled_keys(flights.slices())?;
    assert_eq!(queries::look_up(&snapshot, &keys)?, 336_776);

    let key = (2013, 1, 1, "UA".parse()?, 1545, "EWR".parse()?);
    let flight = flights.get(&key)?.ok_or("UA 1545 is not there")?;
    assert_eq!((flight.dep_time.get(), flight.dep_delay.get()), (Some(&517), Some(&2)));
    assert_eq!(flight.time_hour.to_string(), "2013-01-01T10:00:00Z");
    let plane = snapshot.table::<Plane>()?.get(&flight.tailnum)?.ok_or("N14228 is not there")?;
    assert_eq!((plane.tailnum.as_str(), plane.year.get(), plane.seats), ("N14228", Some(&1999), 149));
    assert_eq!(
        (plane.manufacturer.as_str(&snapshot)?, plane.model.as_str(&snapshot)?),
        ("BOEING", "737-824")
    );
    assert!(plane.kind == PlaneKind::FixedWingMultiEngine && plane.speed.is_none());
    let airline = snapshot.table::<Airline>()?.get(&flight.carrier)?.ok_or("UA is not there")?;
    assert_eq!(airline.name.as_str(), "United Air Lines Inc.");
    let airport = snapshot.table::<Airport>()?.get(&flight.dest)?.ok_or("IAH is not there")?;
    assert_eq!(airport.name.as_str(&snapshot)?, "George Bush Intercontinental");
    assert!(snapshot.table::<Weather>()?.get(&(flight.origin, flight.time_hour))?.is_some());
    Ok(())
}
