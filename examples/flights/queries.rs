//! Queries of the tables. Each function reads the mapped rows slice by slice, follows keys, or uses
//! an index.

use std::collections::HashMap;
use std::ops;

use pongo::prelude::*;
use pongo::{Explain, Range};

use crate::csv_rows::Error;
use crate::data::{Airline, Flight, Plane};

/// A slice of flights from [`pongo::Table::slices`].
pub(crate) type Run<'a> = Result<&'a [Flight], pongo::ReadError>;

/// Totals of the flights of one carrier.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct OfCarrier {
    /// Number of all flights.
    pub(crate) flights: u64,
    /// Number of flights that have a departure delay; the others were cancelled.
    pub(crate) departed: u64,
    /// Sum of the delays in minutes; early departures count as negative.
    pub(crate) delay: i64,
}

impl OfCarrier {
    /// Returns the mean delay in minutes, or `None` if no flight departed.
    pub(crate) fn mean_delay(&self) -> Option<f64> {
        if self.departed == 0 { None } else { Some(self.delay as f64 / self.departed as f64) }
    }
}

/// Returns flights, departures and delays of each carrier, sorted by carrier code.
///
/// # Errors
/// Returns an error if rows of the table are corrupt.
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

/// Returns the `count` routes with the most flights, busiest first; routes with the same number are
/// sorted by their codes.
///
/// # Errors
/// Returns an error if rows of the table are corrupt.
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

/// Returns the keys of all flights in another order than that of the table, so that a lookup does
/// not profit from data that the lookup before left in the caches.
///
/// # Errors
/// Returns an error if rows of the table are corrupt.
pub(crate) fn shuffled_keys<'a>(
    runs: impl Iterator<Item = Run<'a>>,
) -> Result<Vec<<Flight as PongoRecord>::Key>, Error> {
    let mut keys = Vec::new();
    for run in runs {
        keys.extend(run?.iter().map(PongoRecord::key));
    }
    // A prime that does not divide the number of flights, so that steps of it visit every index
    // once.
    const STEP: usize = 7_368_787;
    Ok((0..keys.len()).map(|place| keys[place * STEP % keys.len()]).collect())
}

/// Looks up each key. Returns the number of keys found.
///
/// # Errors
/// Returns an error if rows of the table are corrupt.
pub(crate) fn look_up(snapshot: &Snapshot, keys: &[<Flight as PongoRecord>::Key]) -> Result<usize, Error> {
    let flights = snapshot.table::<Flight>()?;
    let mut found = 0;
    for key in keys {
        found += usize::from(flights.get(key)?.is_some());
    }
    Ok(found)
}

/// Looks up the plane and the airline of every flight. Returns the number of planes and the number
/// of airlines found.
///
/// # Errors
/// Returns an error if rows of the tables are corrupt.
pub(crate) fn follow(snapshot: &Snapshot) -> Result<(usize, usize), Error> {
    let flights = snapshot.table::<Flight>()?;
    let planes = snapshot.table::<Plane>()?;
    let airlines = snapshot.table::<Airline>()?;
    let mut found = (0, 0);
    for flight in flights.rows() {
        let flight = flight?;
        found.0 += usize::from(planes.get(flight.tailnum)?.is_some());
        found.1 += usize::from(airlines.get(flight.carrier)?.is_some());
    }
    Ok(found)
}

/// Returns the flights whose hour of departure is within `hours`, sorted by that hour: a range of
/// the index on `time_hour`.
///
/// # Errors
/// Returns an error if rows are corrupt.
pub(crate) fn departures(
    snapshot: &Snapshot,
    hours: ops::Range<Timestamp>,
) -> Result<Range<'_, Flight>, Error> {
    Ok(snapshot.table::<Flight>()?.by(Flight::TIME_HOUR).range(hours)?)
}

/// Returns the flights that departed at least `minutes` late, the latest first: a range of the
/// index on `dep_delay`, read from its end. Cancelled flights, whose delay is missing, are sorted
/// before all others in it.
///
/// # Errors
/// Returns an error if rows are corrupt.
pub(crate) fn latest(
    snapshot: &Snapshot,
    minutes: i16,
) -> Result<impl Iterator<Item = Result<&Flight, pongo::ReadError>>, Error> {
    let delays = snapshot.table::<Flight>()?.by(Flight::DEP_DELAY).range(Maybe::some(minutes)..)?;
    Ok(delays.rev())
}

/// Result of a filtered scan.
#[derive(Debug)]
pub(crate) struct Late {
    /// Number of flights.
    pub(crate) flights: u64,
    /// Sum of their delays in minutes.
    pub(crate) delay: i64,
    /// The rows that the scan skipped.
    pub(crate) explain: Explain,
}

/// Returns the flights of one month from one airport that departed more than `minutes` late. No
/// index covers these three fields: this is a scan that skips blocks that cannot contain such a
/// flight.
///
/// # Errors
/// Returns an error if rows are corrupt.
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
