//! Reports of the steps with their speed.

use std::time::Instant;

/// Prints the name of a step, its number of rows, its time and its rate.
pub(crate) fn report(step: &str, rows: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = rows as f64 / seconds.max(1e-9);
    println!("{step:32} {rows:>9} rows {:>10.1} ms {:>10} rows/s", seconds * 1e3, short(rate));
}

/// Formats a rate as `1.23 M`, `45.6 k` or `789`.
fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.1} M", r / 1e6),
        r if r >= 1e3 => format!("{:.1} k", r / 1e3),
        r => format!("{r:.0}"),
    }
}
