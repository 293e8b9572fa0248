//! Operations of engines that keep rows in key order, and PongoDB's ways to read a table that are
//! compared with each other.
//!
//! As in [`crate::engine`], the loops are inside the adapters, and every read returns a sum. The
//! expected result of a range is not known without sorting all keys, so the results of engines with
//! the same rows are compared with each other.

use std::ops::Range;

use anyhow::Result;

use crate::engine::Found;
use crate::trade::{self, Key, Trade};

/// Operations on rows in key order.
pub(crate) trait Ordered {
    /// Finishes all pending work that later ranges would otherwise do; most engines have none.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// Stores rows in key order like [`Engine::load`](crate::engine::Engine::load), in the engine's
    /// fastest way for these.
    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()>;
    /// Reads `rows` rows in key order from each start. Each range is a separate search; all run in
    /// one read transaction.
    fn ranges(&self, starts: &[Key], rows: usize) -> Result<Found>;
    /// Reads all rows, one by one in key order.
    fn in_order(&self) -> Result<Found>;
}

/// Operations of PongoDB that are compared with each other.
pub(crate) trait Scans {
    /// Looks up keys like [`Engine::get`](crate::engine::Engine::get), with many keys per call.
    fn get_many(&self, keys: &[Key]) -> Result<Found>;
    /// Reads the rows of a range of times, by a filter that skips blocks.
    fn filtered(&self, times: Range<i64>) -> Result<Found>;
    /// Reads the same rows by testing each row of the table.
    fn looked_through(&self, times: Range<i64>) -> Result<Found>;
    /// Runs [`Engine::scan`](crate::engine::Engine::scan) on several threads.
    fn scan_by(&self, threads: &pongo::rayon::ThreadPool) -> Result<Found>;
    /// Rebuilds all indexes from the rows.
    fn rebuild(&self) -> Result<()>;
}

/// Returns the row numbers below `rows` in the order of their keys.
pub(crate) fn numbers_in_key_order(rows: u64) -> Vec<u64> {
    let mut keyed: Vec<(Key, u64)> = (0..rows).map(|number| (trade::key(number), number)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, number)| number).collect()
}

/// Returns random keys at which ranges start.
pub(crate) fn starts(count: usize, seed: u64) -> Vec<Key> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.u128(..).to_le_bytes()).collect()
}

/// Returns the times of a day of the year over which `rows` rows are spread, and the numbers of its
/// rows.
pub(crate) fn day(rows: u64, day: u64) -> (Range<i64>, Range<u64>) {
    let numbers = rows * day / 365..rows * (day + 1) / 365;
    (trade::time(numbers.start)..trade::time(numbers.end), numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_follows_the_keys() {
        let numbers = numbers_in_key_order(1000);
        assert!(numbers.windows(2).all(|two| trade::key(two[0]) < trade::key(two[1])));
        assert_eq!(numbers.iter().sum::<u64>(), 999 * 1000 / 2);
    }

    #[test]
    fn days_part_the_year() {
        let days: Vec<_> = (0..365).map(|number| day(10_000, number)).collect();
        assert!(days.windows(2).all(|two| two[0].0.end == two[1].0.start && two[0].1.end == two[1].1.start));
        assert_eq!(days.iter().map(|(_, rows)| rows.end - rows.start).sum::<u64>(), 10_000);
        let (times, rows) = &days[17];
        assert!(rows.clone().all(|row| times.contains(&trade::trade(row).ts)));
    }
}
