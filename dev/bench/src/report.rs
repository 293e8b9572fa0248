//! The tables for `docs/BENCHMARKS.md`.

use crate::engine::{self, ENGINES};
use crate::figures::short;
use crate::run::{Metric, Numbers};

/// The columns: heading, metric, and divisor of the numbers.
const COLUMNS: [(&str, Metric, f64); 14] = [
    ("load ns/row", Metric::Load, 1.0),
    ("get ns", Metric::Get, 1.0),
    ("missing ns", Metric::Missing, 1.0),
    ("scan ns/row", Metric::Scan, 1.0),
    ("1 row `Sync` µs", Metric::Sync1, 1e3),
    ("of bare", Metric::Sync1OfBare, 1.0),
    ("1000 rows `Sync` µs/row", Metric::Sync1000, 1e6),
    ("1 row `Relaxed` µs", Metric::Relaxed1, 1e3),
    ("8 threads ×", Metric::Threads8, 1.0),
    ("snapshot ns", Metric::Snapshot, 1.0),
    ("open ms", Metric::OpenClean, 1e6),
    ("open killed ms", Metric::OpenKilled, 1e6),
    ("disk MiB", Metric::Disk, 1048576.0),
    ("anon. MiB", Metric::Memory, 1048576.0),
];

/// Formats one size as a Markdown table with a row per engine.
pub(crate) fn table(numbers: &Numbers) -> String {
    let mut text = format!("{} rows of 64 bytes, random 16-byte keys, warm\n\n| engine |", numbers.rows);
    for (heading, ..) in COLUMNS {
        text.push_str(&format!(" {heading} |"));
    }
    text.push_str(&format!("\n| --- |{}\n", " ---: |".repeat(COLUMNS.len())));
    for entry in ENGINES {
        let cells: Vec<_> =
            COLUMNS.iter().map(|(_, metric, by)| (numbers.get(entry.name, *metric), by)).collect();
        if cells.iter().any(|(number, _)| number.is_some()) {
            text.push_str(&format!("| {} |", entry.title));
            for (number, by) in cells {
                text.push_str(&format!(" {} |", number.map_or("–".into(), |number| short(number / by))));
            }
            text.push('\n');
        }
    }
    let vec = ENGINES.iter().find_map(|entry| numbers.get(entry.name, Metric::VecScan));
    if let Some(vec) = vec {
        text.push_str("| plain `Vec<T>` |");
        for (_, metric, _) in COLUMNS {
            text.push_str(&format!(" {} |", if metric == Metric::Scan { short(vec) } else { "–".into() }));
        }
        text.push('\n');
    }
    if let Some(read) = numbers.get("machine", Metric::DependentRead) {
        text.push_str(&format!(
            "\nA random read of memory on which the next one depends, in as many bytes as the rows take: {} \
             ns.\n",
            short(read)
        ));
    }
    if let Some(cut) = numbers.get("pongo", Metric::OpenCut) {
        text.push_str(&format!("\nPongoDB opens after a power cut in {} ms", short(cut / 1e6)));
        if let Some(journal) = numbers.get("pongo", Metric::Journal) {
            text.push_str(&format!("; journal at the kill {} MiB", short(journal / 1048576.0)));
        }
        text.push_str(".\n");
    }
    text
}

/// Columns of the second table, like [`COLUMNS`].
const ORDERED_COLUMNS: [(&str, Metric, f64); 16] = [
    ("load and close ns/row", Metric::LoadInTurns, 1.0),
    ("disk then MiB", Metric::DiskSettled, 1048576.0),
    ("first range ms", Metric::FirstRange, 1e6),
    ("range of 100 µs", Metric::Range, 1e3),
    ("all in order ns/row", Metric::InOrder, 1.0),
    ("load in key order ns/row", Metric::LoadSorted, 1.0),
    ("disk then MiB", Metric::DiskSorted, 1048576.0),
    ("range of 100 µs", Metric::RangeSorted, 1e3),
    ("all in order ns/row", Metric::InOrderSorted, 1.0),
    ("load indexed ns/row", Metric::LoadIndexed, 1.0),
    ("10 rows by index µs", Metric::Equal, 1e3),
    ("without rows µs", Metric::EqualKeys, 1e3),
    ("put indexed `Relaxed` µs", Metric::PutIndexed, 1e3),
    ("open ms", Metric::OpenClean, 1e6),
    ("open killed ms", Metric::OpenKilled, 1e6),
    ("disk MiB", Metric::Disk, 1048576.0),
];

/// Formats the ordered and secondary indexes of one size as a Markdown table, and the comparisons
/// within PongoDB as a list. Returns an empty text if none of it was measured.
pub(crate) fn ordered(numbers: &Numbers) -> String {
    let entries = || ENGINES.iter().chain([&engine::UNORDERED]);
    let mut text = String::new();
    for entry in entries() {
        let cell = |(_, metric, by): &(&str, Metric, f64)| {
            numbers.get(entry.name, *metric).map_or("–".into(), |number| short(number / by))
        };
        let measured = [Metric::LoadInTurns, Metric::Range, Metric::Equal];
        if measured.iter().any(|metric| numbers.get(entry.name, *metric).is_some()) {
            let cells = ORDERED_COLUMNS.map(|column| cell(&column));
            text.push_str(&format!("| {} | {} |\n", entry.title, cells.join(" | ")));
        }
    }
    if text.is_empty() {
        return text;
    }
    let headings = ORDERED_COLUMNS.map(|(heading, ..)| heading).join(" | ");
    text = format!(
        "{} rows, ordered and secondary indexes\n\n| engine | {headings} |\n| --- |{}\n{text}\n",
        numbers.rows,
        " ---: |".repeat(ORDERED_COLUMNS.len())
    );
    let mib = 1048576.0;
    let lines: [(&str, &str, Metric, f64, &str); 18] = [
        ("pongo", "ordered index brought up right after a load", Metric::Settle, 1.0, "ns a row"),
        ("pongo", "the same, of a store that had none", Metric::SettleClosed, 1.0, "ns a row"),
        ("pongo", "both indexes rebuilt", Metric::Rebuild, 1e6, "ms"),
        ("pongo", "anonymous memory after load, settling, a walk", Metric::OrderedMemory, mib, "MiB"),
        ("pongo", "after open, look-ups, a walk", Metric::OrderedMemoryReopened, mib, "MiB"),
        ("pongo_unordered", "without ordered indexes, after look-ups", Metric::Memory, mib, "MiB"),
        ("pongo", "get in turns with get_many", Metric::GetInTurns, 1.0, "ns"),
        ("pongo", "get_many", Metric::GetMany, 1.0, "ns a key"),
        ("pongo", "a day by a test of each row", Metric::DayLooked, 1e3, "µs"),
        ("pongo", "a day by a filter", Metric::Day, 1e3, "µs"),
        ("pongo", "sum by one thread", Metric::OneThread, 1.0, "ns a row"),
        ("pongo", "sum by two threads", Metric::TwoThreads, 1.0, "ns a row"),
        ("pongo", "two threads over one", Metric::ThreadsOfOne, 1.0, "x"),
        ("pongo", "`Vec`, sum by one thread", Metric::VecOne, 1.0, "ns a row"),
        ("pongo", "`Vec`, sum by two threads", Metric::VecTwo, 1.0, "ns a row"),
        ("pongo", "`Vec`, two threads over one", Metric::VecThreadsOfOne, 1.0, "x"),
        ("redb", "10 keys by redb's multimap, without their rows", Metric::EqualKeys, 1e3, "µs"),
        ("lmdb", "10 keys by LMDB's second database, without their rows", Metric::EqualKeys, 1e3, "µs"),
    ];
    for (engine, what, metric, by, unit) in lines {
        if let Some(number) = numbers.get(engine, metric) {
            text.push_str(&format!("- {what}: {} {unit}\n", short(number / by)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_one_row_per_engine() {
        let mut numbers = Numbers::new(7);
        numbers.add("lmdb", Metric::Load, 1234.0);
        numbers.add("lmdb", Metric::VecScan, 2.0);
        numbers.add("bare", Metric::Sync1, 100_000.0);
        let table = table(&numbers);
        assert!(table.contains("| LMDB (heed 0.22) | 1234 |"), "{table}");
        assert!(table.contains("| 100 |") && !table.contains("redb"), "{table}");
        let widths: Vec<_> =
            table.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert_eq!(widths, [COLUMNS.len() + 2; 5]);
    }

    #[test]
    fn second_table_shows_measured_values() {
        let mut numbers = Numbers::new(7);
        assert_eq!(ordered(&numbers), "");
        numbers.add("lmdb", Metric::Range, 7000.0);
        numbers.add("pongo_unordered", Metric::LoadInTurns, 200.0);
        numbers.add("pongo", Metric::VecThreadsOfOne, 1.75);
        let text = ordered(&numbers);
        assert!(text.contains("| PongoDB without ordered indexes | 200 |"), "{text}");
        assert!(text.contains("two threads over one: 1.75 x") && !text.contains("redb"), "{text}");
        let widths: Vec<_> =
            text.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert_eq!(widths, [ORDERED_COLUMNS.len() + 2; 4]);
    }
}
