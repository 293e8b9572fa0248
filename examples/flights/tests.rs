//! The results of the flights example, compared with numbers that were computed from the CSVs by
//! other means (Python's `csv`).

use std::path::Path;

use pongo::prelude::*;

use crate::csv_rows::Error;
use crate::data::{Airline, Airport, Flight, Plane, PlaneKind, Weather};
use crate::queries::{OfCarrier, Run};
use crate::{csv_rows, load, queries};

fn folder_of_csvs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/nycflights13"))
}

/// Code, number of flights, number of departures, sum of delays.
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
    let flights = csv_rows::read(folder_of_csvs(), "flights", load::flight)?;
    assert_eq!(flights.len(), 336_776);
    check_answers(|| [Ok(flights.as_slice())].into_iter())?;
    let keys: std::collections::HashSet<_> = flights.iter().map(PongoRecord::key_bytes).collect();
    assert_eq!(keys.len(), flights.len(), "the key is no key");
    let shuffled = queries::shuffled_keys([Ok(flights.as_slice())].into_iter())?;
    assert_eq!(shuffled.iter().map(Flight::encode_key).collect::<std::collections::HashSet<_>>(), keys);
    assert_eq!(csv_rows::read(folder_of_csvs(), "weather", load::weather)?.len(), 26_115);
    assert_eq!(csv_rows::read(folder_of_csvs(), "airlines", load::airline)?.len(), 16);
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
    load::load(&store, folder_of_csvs())?;
    let snapshot = store.begin_read()?;
    let flights = snapshot.table::<Flight>()?;
    assert_eq!(flights.len(), 336_776);
    check_answers(|| flights.slices())?;
    assert_eq!(queries::follow(&snapshot)?, (284_170, 336_776));
    let keys = queries::shuffled_keys(flights.slices())?;
    assert_eq!(queries::look_up(&snapshot, &keys)?, 336_776);

    let key = (2013, 1, 1, "UA".parse()?, 1545, "EWR".parse()?);
    let flight = flights.get(key)?.ok_or("UA 1545 is missing")?;
    assert_eq!((flight.dep_time.get(), flight.dep_delay.get()), (Some(&517), Some(&2)));
    assert_eq!(flight.time_hour.to_string(), "2013-01-01T10:00:00Z");
    let plane = snapshot.table::<Plane>()?.get(flight.tailnum)?.ok_or("N14228 is missing")?;
    assert_eq!((plane.tailnum.as_str(), plane.year.get(), plane.seats), ("N14228", Some(&1999), 149));
    assert_eq!(
        (plane.manufacturer.as_str(&snapshot)?, plane.model.as_str(&snapshot)?),
        ("BOEING", "737-824")
    );
    assert!(plane.kind == PlaneKind::FixedWingMultiEngine && plane.speed.is_none());
    let airline = snapshot.table::<Airline>()?.get(flight.carrier)?.ok_or("UA is missing")?;
    assert_eq!(airline.name.as_str(), "United Air Lines Inc.");
    let airport = snapshot.table::<Airport>()?.get(flight.dest)?.ok_or("IAH is missing")?;
    assert_eq!(airport.name.as_str(&snapshot)?, "George Bush Intercontinental");
    assert!(snapshot.table::<Weather>()?.get((flight.origin, flight.time_hour))?.is_some());
    check_orders(&snapshot)
}

/// Carrier, flight, origin, scheduled departure, delay.
type Line<'a> = (&'a str, u16, &'a str, u16, Option<i16>);

fn line(flight: &Flight) -> Line<'_> {
    let delay = flight.dep_delay.to_option();
    (flight.carrier.as_str(), flight.flight, flight.origin.as_str(), flight.sched_dep_time, delay)
}

/// 4 July in New York.
const FIRST: [Line<'_>; 5] = [
    ("US", 1431, "EWR", 500, Some(-6)),
    ("UA", 1106, "EWR", 536, Some(-1)),
    ("AA", 701, "JFK", 540, Some(-2)),
    ("B6", 939, "JFK", 545, Some(-6)),
    ("UA", 698, "LGA", 545, Some(-3)),
];

const LATEST: [Line<'_>; 6] = [
    ("HA", 51, "JFK", 900, Some(1301)),
    ("MQ", 3535, "JFK", 1935, Some(1137)),
    ("MQ", 3695, "EWR", 1635, Some(1126)),
    ("AA", 177, "JFK", 1845, Some(1014)),
    ("MQ", 3075, "JFK", 1600, Some(1005)),
    ("DL", 2391, "JFK", 1900, Some(960)),
];

/// Checks the results of indexes and filters.
fn check_orders(snapshot: &Snapshot) -> Result<(), Error> {
    let day = csv_rows::moment("2013-07-04T04:00:00Z")?..csv_rows::moment("2013-07-05T04:00:00Z")?;
    let found = queries::departures(snapshot, day)?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(found.len(), 737);
    assert_eq!(found.iter().filter(|flight| flight.dep_delay.is_none()).count(), 3);
    assert_eq!(found.iter().take(5).map(|flight| line(flight)).collect::<Vec<_>>(), FIRST);
    assert_eq!(found.last().map(|flight| line(flight)), Some(("B6", 1503, "JFK", 2359, Some(-2))));
    // The key begins with the day.
    assert_eq!(snapshot.table::<Flight>()?.prefix((2013, 7, 4))?.count_rows()?, 737);

    let found = queries::latest(snapshot, 600)?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(found.len(), 40);
    assert_eq!(found.iter().take(6).map(|flight| line(flight)).collect::<Vec<_>>(), LATEST);

    let late = queries::late_in(snapshot, 7, "JFK".parse()?, 60)?;
    assert_eq!((late.flights, late.delay), (1396, 180_292));
    let of = |share: pongo::ScanStats| share.rows;
    assert_eq!(of(late.explain.total), 336_776);
    // The rows are stored in the order of the months.
    assert!(of(late.explain.scanned) < 336_776 / 8, "{}", late.explain);
    assert_eq!(late.explain.conditions[0].condition, "month == 7");
    Ok(())
}

/// A store whose schema was created before the indexes existed.
#[test]
fn queries_work_without_indexes() -> Result<(), Error> {
    /// [`Flight`] as it was before, under the same name.
    mod before {
        use pongo::prelude::*;

        #[pongo::record]
        #[pongo(table = "flights")]
        pub(super) struct Flight {
            pub(super) time_hour: Timestamp,
            #[pongo(key)]
            pub(super) year: u16,
            #[pongo(key)]
            pub(super) month: u8,
            #[pongo(key)]
            pub(super) day: u8,
            #[pongo(key)]
            pub(super) carrier: FixedStr<2>,
            #[pongo(key)]
            pub(super) flight: u16,
            #[pongo(key)]
            pub(super) origin: FixedStr<3>,
            pub(super) dest: FixedStr<3>,
            pub(super) sched_dep_time: u16,
            pub(super) sched_arr_time: u16,
            pub(super) distance: u16,
            pub(super) dep_time: Maybe<u16>,
            pub(super) dep_delay: Maybe<i16>,
            pub(super) arr_time: Maybe<u16>,
            pub(super) arr_delay: Maybe<i16>,
            pub(super) air_time: Maybe<u16>,
            pub(super) hour: u8,
            pub(super) minute: u8,
            pub(super) tailnum: FixedStr<6>,
        }
    }

    let folder = tempfile::tempdir()?;
    // SAFETY: nothing else writes to the files of this folder.
    let open = || unsafe { Store::open(folder.path().join("flights.pongo")) };
    let store = open()?;
    let tx = store.begin_write()?;
    tx.table::<before::Flight>()?;
    tx.commit()?;
    store.close()?;
    for _ in 0..2 {
        let store = open()?;
        if store.begin_read()?.table::<Flight>()?.is_empty() {
            load::load(&store, folder_of_csvs())?;
        }
        check_orders(&store.begin_read()?)?;
        store.close()?;
    }
    Ok(())
}
