//! What is asked of engines that keep rows in the order of their keys, and of PongoDB's own ways through a table.
//!
//! As in [`crate::engine`] the loops are inside the adapters, and every read returns a sum. What a range should give is not
//! known without sorting all keys, so the answers of engines with the same rows are compared with each other.

use std::ops::Range;

use anyhow::Result;

use crate::engine::Found;
use crate::trade::{self, Key, Trade};

/// Rows by key order.
pub(crate) trait Ordered {
    /// Leaves nothing to do for ranges that come; most engines have nothing left.
    fn settle(&self) -> Result<()> {
        Ok(())
    }
    /// As [`Engine::load`](crate::engine::Engine::load), of rows that come in key order, in the engine's best way for such.
    fn load_in_order(&self, rows: &mut dyn Iterator<Item = Trade>) -> Result<()>;
    /// From each start on, so many rows in key order, each range one search, all in one read transaction.
    fn ranges(&self, starts: &[Key], rows: usize) -> Result<Found>;
    /// All rows, one by one in key order.
    fn in_order(&self) -> Result<Found>;
}

/// What PongoDB is compared with itself in.
pub(crate) trait Scans {
    /// As [`Engine::get`](crate::engine::Engine::get), by many keys at a time.
    fn get_many(&self, keys: &[Key]) -> Result<Found>;
    /// Rows of a range of times, by a filter that skips.
    fn filtered(&self, times: Range<i64>) -> Result<Found>;
    /// The same by a look at each row.
    fn looked_through(&self, times: Range<i64>) -> Result<Found>;
    /// [`Engine::scan`](crate::engine::Engine::scan) by several threads.
    fn scan_by(&self, threads: &pongo::rayon::ThreadPool) -> Result<Found>;
    /// Makes all indexes anew from the rows.
    fn rebuild(&self) -> Result<()>;
}

/// Row numbers below `rows` in the order of their keys.
pub(crate) fn numbers_in_key_order(rows: u64) -> Vec<u64> {
    let mut keyed: Vec<(Key, u64)> = (0..rows).map(|number| (trade::key(number), number)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, number)| number).collect()
}

/// Random keys for ranges to start at.
pub(crate) fn starts(count: usize, seed: u64) -> Vec<Key> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.u128(..).to_le_bytes()).collect()
}

/// A day of the year over which `rows` rows are spread: its times, and the rows that it has.
pub(crate) fn day(rows: u64, day: u64) -> (Range<i64>, Range<u64>) {
    let numbers = rows * day / 365..rows * (day + 1) / 365;
    (trade::time(numbers.start)..trade::time(numbers.end), numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_is_that_of_the_keys() {
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
