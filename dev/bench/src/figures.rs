//! Goals, and whether a run reached them.

use std::fmt;

use crate::run::{Metric, Numbers};

/// The bound of a figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure of a run. `Display` formats it as a line of the run's last output.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
}

impl Figure {
    /// Returns whether the goal is reached.
    pub(crate) fn ok(&self) -> bool {
        match self.goal {
            Goal::AtLeast(bound) => self.measured >= bound,
            Goal::AtMost(bound) => self.measured <= bound,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, bound) = match self.goal {
            Goal::AtLeast(bound) => (">=", bound),
            Goal::AtMost(bound) => ("<=", bound),
        };
        let Figure { name, measured, unit, .. } = self;
        let verdict = if self.ok() { "ok" } else { "missed" };
        write!(f, "figure {name} {}{unit} {sign}{}{unit} {verdict}", short(*measured), short(bound))
    }
}

/// Formats a number with about three digits.
pub(crate) fn short(number: f64) -> String {
    let number = if number == 0.0 { 0.0 } else { number };
    let text = match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Formats a number of rows: `2m` for 2,000,000, `500k` for 500,000.
pub(crate) fn size(rows: u64) -> String {
    match rows {
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}m", n / 1_000_000),
        n if n >= 1000 && n.is_multiple_of(1000) => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

/// Returns PongoDB's figures of one size, as far as they were measured. The goals for 10 M rows
/// apply from there on, those for 2 M below.
pub(crate) fn figures(numbers: &Numbers) -> Vec<Figure> {
    let large = numbers.rows >= 10_000_000;
    let by_size = |small: f64, at_10_m: f64| if large { at_10_m } else { small };
    let against = |peer, metric| numbers.ratio(peer, "pongo", metric);
    let own = |metric, scale: f64| numbers.get("pongo", metric).map(|number| number / scale);
    let (us, ms, mib) = (1e3, 1e6, f64::from(1 << 20));

    let mut figures = Vec::new();
    let mut figure = |name: &str, measured: Option<f64>, unit, goal| {
        if let Some(measured) = measured {
            figures.push(Figure { name: format!("{name}_{}", size(numbers.rows)), measured, unit, goal });
        }
    };
    use Goal::{AtLeast, AtMost};
    figure("get_vs_lmdb", against("lmdb", Metric::Get), "x", AtLeast(by_size(8.0, 10.0)));
    figure("get_vs_redb", against("redb", Metric::Get), "x", AtLeast(by_size(8.0, 10.0)));
    figure("missing_vs_lmdb", against("lmdb", Metric::Missing), "x", AtLeast(by_size(8.0, 10.0)));
    figure("missing_vs_redb", against("redb", Metric::Missing), "x", AtLeast(by_size(8.0, 10.0)));
    figure("load_vs_lmdb", against("lmdb", Metric::Load), "x", AtLeast(by_size(4.0, 7.0)));
    figure("scan_of_vec", own(Metric::ScanOfVec, 1.0), "x", AtLeast(0.9));
    figure("scan_vs_lmdb", against("lmdb", Metric::Scan), "x", AtLeast(14.0));
    figure("commit_sync_1_vs_lmdb", against("lmdb", Metric::Sync1), "x", AtLeast(1.8));
    figure("commit_sync_1_of_bare", own(Metric::Sync1OfBare, 1.0), "x", AtLeast(0.85));
    figure("commit_sync_1000_vs_lmdb", against("lmdb", Metric::Sync1000), "x", AtLeast(5.0));
    figure("commit_relaxed_1", own(Metric::Relaxed1, us), "us", AtMost(5.0));
    figure("commit_sync_8_threads_vs_1", own(Metric::Threads8, 1.0), "x", AtLeast(3.0));
    figure("snapshot", own(Metric::Snapshot, 1.0), "ns", AtMost(200.0));
    figure("open_clean", own(Metric::OpenClean, ms), "ms", AtMost(20.0));
    let gib = own(Metric::Journal, f64::from(1 << 30)).unwrap_or(0.0);
    figure("open_killed", own(Metric::OpenKilled, ms), "ms", AtMost(100.0 + 1000.0 * gib));
    let rebuilt = own(Metric::OpenCut, 1e9).map(|seconds| numbers.rows as f64 / 1e6 / seconds);
    figure("open_power_cut_rows", rebuilt, "M/s", AtLeast(4.0));
    figure("anonymous_memory", own(Metric::Memory, mib), "MiB", AtMost(64.0));

    // Ordered and secondary indexes, filters.
    figure("settle_a_row", own(Metric::Settle, us), "us", AtMost(0.5));
    let rebuilt = own(Metric::Rebuild, 1e9).map(|seconds| numbers.rows as f64 / 1e6 / seconds);
    figure("rebuild_both_rows", rebuilt, "M/s", AtLeast(1.5));
    figure("range_100_random_order_vs_lmdb", against("lmdb", Metric::Range), "x", AtLeast(1.0));
    figure("range_100_key_order_vs_lmdb", against("lmdb", Metric::RangeSorted), "x", AtLeast(2.0));
    figure("all_in_key_order_vs_lmdb", against("lmdb", Metric::InOrderSorted), "x", AtLeast(2.0));
    figure("get_many_vs_get", own(Metric::ManyOfGet, 1.0), "x", AtLeast(1.4));
    figure("equal_10_hits_vs_redb", against("redb", Metric::Equal), "x", AtLeast(1.0));
    figure("put_indexed_relaxed_vs_lmdb", against("lmdb", Metric::PutIndexed), "x", AtLeast(3.0));
    figure("filter_day_vs_full_scan", own(Metric::DayOfLooked, 1.0), "x", AtLeast(50.0));
    figure("sum_2_threads_vs_1", own(Metric::ThreadsOfOne, 1.0), "x", AtLeast(1.5));
    let of_lmdb = numbers.get("pongo", Metric::DiskSettled).zip(numbers.get("lmdb", Metric::DiskSettled));
    figure("disk_settled_of_lmdb", of_lmdb.map(|(own, lmdb)| own / lmdb), "x", AtMost(0.9));
    let without = numbers.get("pongo_unordered", Metric::Memory);
    let sled = own(Metric::OrderedMemory, mib).zip(without).map(|(with, without)| with - without / mib);
    figure("ordered_memory", sled, "MiB", AtMost(300.0));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_reached() {
        let mut figure =
            Figure { name: "get_vs_lmdb_2m".into(), measured: 9.314, unit: "x", goal: Goal::AtLeast(8.0) };
        assert_eq!(figure.to_string(), "figure get_vs_lmdb_2m 9.31x >=8x ok");
        figure.measured = 7.9;
        assert_eq!(figure.to_string(), "figure get_vs_lmdb_2m 7.9x >=8x missed");
        figure.measured = f64::NAN;
        assert!(!figure.ok());
    }

    #[test]
    fn goals_depend_on_size_and_measurements() {
        let mut numbers = Numbers::new(10_000_000);
        numbers.add("pongo", Metric::Get, 100.0);
        numbers.add("lmdb", Metric::Get, 900.0);
        let of_10_m = figures(&numbers);
        assert_eq!(of_10_m.len(), 1);
        assert_eq!((of_10_m[0].name.as_str(), of_10_m[0].ok()), ("get_vs_lmdb_10m", false));
        numbers.rows = 2_000_000;
        assert!(figures(&numbers)[0].ok());
    }

    #[test]
    fn figures_of_two_numbers_need_both() {
        let mib = f64::from(1 << 20);
        let mut numbers = Numbers::new(2_000_000);
        numbers.add("pongo", Metric::OrderedMemory, 310.0 * mib);
        numbers.add("pongo", Metric::DiskSettled, 80.0);
        numbers.add("pongo", Metric::Rebuild, 2e9);
        assert_eq!(figures(&numbers).len(), 1);
        numbers.add("pongo_unordered", Metric::Memory, 6.0 * mib);
        numbers.add("lmdb", Metric::DiskSettled, 100.0);
        let lines: Vec<_> = figures(&numbers).iter().map(Figure::to_string).collect();
        assert_eq!(
            lines,
            [
                "figure rebuild_both_rows_2m 1M/s >=1.5M/s missed",
                "figure disk_settled_of_lmdb_2m 0.8x <=0.9x ok",
                "figure ordered_memory_2m 304MiB <=300MiB missed",
            ]
        );
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(["0", "1.5", "12.3", "1235", "0.01"], [0.0, 1.5, 12.34, 1234.6, 0.01].map(short));
        assert_eq!(["2m", "500k", "1500k", "7"], [2_000_000, 500_000, 1_500_000, 7].map(size));
    }
}
