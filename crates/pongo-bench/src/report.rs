//! The tables for `docs/BENCHMARKS.md`.

use crate::engine::ENGINES;
use crate::figures::short;
use crate::run::{Metric, Numbers};

/// A column: its heading, its metric, and what its numbers are divided by.
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

/// One size as a Markdown table, a row an engine.
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
            "\nA random read of memory on which the next one depends, in as many bytes as the rows take: {} ns.\n",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_for_each_engine_that_was_measured() {
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
}
