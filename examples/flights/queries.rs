//! What is asked of the tables. Each function reads one slice after the other of the mapped rows, follows keys, or goes
//! through an index.

use std::collections::HashMap;
use std::ops;

use pongo::prelude::*;
use pongo::{Explain, Range};

use crate::csv_rows::Error;
use crate::data::{Airline, Flight, Plane};

/// A run of flights, as [`pongo::Table::slices`] gives it.
pub(crate) type Run<'a> = Result<&'a [Flight], pongo::ReadError>;

/// Flights of one carrier.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct OfCarrier {
    /// All of them.
    pub(crate) flights: u64,
    /// Those that have a departure delay: the others were cancelled.
    pub(crate) departed: u64,
    /// The sum of their delays in minutes, early ones negative.
    pub(crate) delay: i64,
}

impl OfCarrier {
    /// In minutes; `None` if no flight departed.
    pub(crate) fn mean_delay(&self) -> Option<f64> {
        if self.departed == 0 { None } else { Some(self.delay as f64 / self.departed as f64) }
    }
}

/// For each carrier, in the order of their codes: flights, departures and delays.
///
/// # Errors
/// If the table's rows do not check.
pub(crate) fn by_carrier<'a>(
    runs: impl Iterator<Item = Run<'a>>,
) -> Result<Vec<(FixedStr<2>, OfCarrier)>, Error> {
    let mut carriers: HashMap<FixedStr<2>, OfCarrier> = HashMap::new();
    for run in runs {
        for flight in run? {
            let carrier = carriers.entry(flight.carrier).or_default();
            carrier.flights += 1;
            if let Some(delay) = flight.dep_delay.get() {
                carrier.departed += 1;
                carrier.delay += i64::from(*delay);
            }
        }
    }
    let mut carriers: Vec<_> = carriers.into_iter().collect();
    carriers.sort_unstable_by_key(|(carrier, _)| *carrier);
    Ok(carriers)
}

/// Origin and destination.
pub(crate) type Route = (FixedStr<3>, FixedStr<3>);

/// The `count` routes with the most flights, busiest first; routes with as many in the order of their codes.
///
/// # Errors
/// If the table's rows do not check.
pub(crate) fn busiest<'a>(
    runs: impl Iterator<Item = Run<'a>>,
    count: usize,
) -> Result<Vec<(Route, u64)>, Error> {
    let mut routes: HashMap<Route, u64> = HashMap::new();
    for run in runs {
        for flight in run? {
            *routes.entry((flight.origin, flight.dest)).or_default() += 1;
        }
    }
    let mut routes: Vec<_> = routes.into_iter().collect();
    routes.sort_unstable_by_key(|(route, flights)| (std::cmp::Reverse(*flights), *route));
    routes.truncate(count);
    Ok(routes)
}

/// The keys of all flights, in an order that is not the table's: a look-up has nothing warm from the one before.
///
/// # Errors
/// If the table's rows do not check.
pub(crate) fn shuffled_keys<'a>(
    runs: impl Iterator<Item = Run<'a>>,
) -> Result<Vec<<Flight as PongoRecord>::Key>, Error> {
    let mut keys = Vec::new();
    for run in runs {
        keys.extend(run?.iter().map(PongoRecord::key));
    }
    // A prime that divides no table of flights: steps of it visit every place once.
    const STEP: usize = 7_368_787;
    Ok((0..keys.len()).map(|place| keys[place * STEP % keys.len()]).collect())
}

/// Looks each key up; how many were found.
///
/// # Errors
/// If the table's rows do not check.
pub(crate) fn look_up(snapshot: &Snapshot, keys: &[<Flight as PongoRecord>::Key]) -> Result<usize, Error> {
    let flights = snapshot.table::<Flight>()?;
    let mut found = 0;
    for key in keys {
        found += usize::from(flights.get(key)?.is_some());
    }
    Ok(found)
}

/// Follows every flight to its plane and its airline: how many planes and how many airlines were found.
///
/// # Errors
/// If the tables' rows do not check.
pub(crate) fn follow(snapshot: &Snapshot) -> Result<(usize, usize), Error> {
    let flights = snapshot.table::<Flight>()?;
    let planes = snapshot.table::<Plane>()?;
    let airlines = snapshot.table::<Airline>()?;
    let mut found = (0, 0);
    for flight in flights.rows() {
        let flight = flight?;
        found.0 += usize::from(planes.get(&flight.tailnum)?.is_some());
        found.1 += usize::from(airlines.get(&flight.carrier)?.is_some());
    }
    Ok(found)
}

/// The flights whose hour of departure lies within `hours`, in the order of these hours: a range of the index on
/// `time_hour`.
///
/// # Errors
/// If `hours` end before they start, or the rows do not check.
pub(crate) fn departures(
    snapshot: &Snapshot,
    hours: ops::Range<Timestamp>,
) -> Result<Range<'_, Flight>, Error> {
    Ok(snapshot.table::<Flight>()?.by(Flight::TIME_HOUR).range(hours)?)
}

/// The flights that left at least so many minutes late, the latest first: a range of the index on `dep_delay`, read from
/// its end. Cancelled flights, whose delay is missing, come before all others in it.
///
/// # Errors
/// If the rows do not check.
pub(crate) fn latest(
    snapshot: &Snapshot,
    minutes: i16,
) -> Result<impl Iterator<Item = Result<&Flight, pongo::ReadError>>, Error> {
    let delays = snapshot.table::<Flight>()?.by(Flight::DEP_DELAY).range(Maybe::some(minutes)..)?;
    Ok(delays.rev())
}

/// What a filtered scan found.
#[derive(Debug)]
pub(crate) struct Late {
    /// Flights.
    pub(crate) flights: u64,
    /// Their delays in minutes, all together.
    pub(crate) delay: i64,
    /// What the scan did not look at.
    pub(crate) explain: Explain,
}

/// The flights of one month from one airport that left more than so many minutes late. There is no index on these three
/// fields: it is a scan that passes over where there can be no such flight.
///
/// # Errors
/// If the rows do not check.
pub(crate) fn late_in(
    snapshot: &Snapshot,
    month: u8,
    origin: FixedStr<3>,
    minutes: i16,
) -> Result<Late, Error> {
    let late = Flight::MONTH.eq(month).and(Flight::ORIGIN.eq(origin)).and(Flight::DEP_DELAY.gt(minutes));
    let found = snapshot.table::<Flight>()?.filter(&late);
    let explain = found.explain()?;
    let mut sum = Late { flights: 0, delay: 0, explain };
    for flight in found {
        sum.flights += 1;
        sum.delay += flight?.dep_delay.get().copied().map_or(0, i64::from);
    }
    Ok(sum)
}
