//! The table that `figures --base` prints.

use super::Compared;
use super::verdict::{Rounds, Verdict};
use crate::figures::{short, size};

/// Formats nanoseconds in the unit in which they are shortest.
fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e4 => format!("{} ns", short(ns)),
        ns if ns < 1e7 => format!("{} µs", short(ns / 1e3)),
        ns => format!("{} ms", short(ns / 1e6)),
    }
}

fn verdict(one: &Compared) -> &'static str {
    match (one.verdict(), one.by_time()) {
        (Verdict::Within, _) => "within the spread",
        (Verdict::Better, Verdict::Within) => "better by instructions",
        (Verdict::Better, _) => "better",
        (Verdict::Worse, Verdict::Within) => "**worse by instructions**",
        (Verdict::Worse, _) => "**worse**",
    }
}

/// Formats one size as a Markdown table with a row for each load, and a summary as the last line.
pub(crate) fn table(compared: &[Compared], rows: u64) -> String {
    let counted = compared.iter().any(|one| one.counts.is_some());
    let mut text = format!("{} rows of 64 bytes; first / base, below 1 is better\n\n", size(rows));
    text.push_str("| load | first | base | ratio | spread |");
    text.push_str(if counted { " instructions | base | ratio | verdict |" } else { " verdict |" });
    text.push_str("\n| --- | ---: | ---: | ---: | ---: |");
    text.push_str(if counted { " ---: | ---: | ---: | --- |\n" } else { " --- |\n" });
    for one in compared {
        let times = one.times.summary();
        text.push_str(&format!(
            "| `{}` | {} | {} a {} | {:.3} | {:.3}–{:.3} |",
            one.load.name,
            time(times.first),
            time(times.base),
            one.load.unit,
            times.ratio,
            times.low,
            times.high
        ));
        match one.counts.as_ref().map(Rounds::summary) {
            Some(counts) => text.push_str(&format!(
                " {} | {} | {:.3} |",
                short(counts.first),
                short(counts.base),
                counts.ratio
            )),
            None if counted => text.push_str(" – | – | – |"),
            None => {}
        }
        text.push_str(&format!(" {} |\n", verdict(one)));
    }
    text.push('\n');
    for one in compared {
        text.push_str(&format!("- `{}`: {}\n", one.load.name, one.load.what));
    }
    let names = |wanted: Verdict| {
        let names: Vec<_> =
            compared.iter().filter(|one| one.verdict() == wanted).map(|one| one.load.name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    text.push_str(&format!(
        "\n{} loads compared; better: {}; worse: {}\n",
        compared.len(),
        names(Verdict::Better),
        names(Verdict::Worse)
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::program::Load;

    fn compared(name: &str, first: f64, counts: Option<[f64; 2]>) -> Compared {
        let rounds = |first, base| {
            let mut rounds = Rounds::default();
            (0..9).for_each(|_| rounds.add(first, base));
            rounds
        };
        let (unit, what) = ("key".to_owned(), "a load".to_owned());
        let load = Load { name: name.to_owned(), unit, disk: false, counted: true, what };
        let counts = counts.map(|[first, base]| rounds(first, base));
        Compared { load, times: rounds(first, 100.0), counts }
    }

    #[test]
    fn table_has_one_row_per_load() {
        let text = table(&[compared("get", 100.0, None), compared("put", 12_345.6, None)], 2_000_000);
        assert!(
            text.contains("| `get` | 100 ns | 100 ns a key | 1.000 | 1.000–1.000 | within the spread |"),
            "{text}"
        );
        assert!(text.contains("| `put` | 12.3 µs | 100 ns a key | 123.456 |"), "{text}");
        assert!(text.contains("| **worse** |") && text.contains("2m rows"), "{text}");
        assert!(text.ends_with("2 loads compared; better: none; worse: put\n"), "{text}");
        let widths: Vec<_> =
            text.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert_eq!(widths, [7; 4]);
    }

    #[test]
    fn counts_get_columns_when_present() {
        let counts = Some([260.0, 250.0]);
        let text = table(&[compared("get", 100.0, counts), compared("put", 50.0, None)], 1);
        assert!(text.contains("| 260 | 250 | 1.040 | **worse by instructions** |"), "{text}");
        assert!(text.contains("| – | – | – | better |"), "{text}");
        let widths: Vec<_> =
            text.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
        assert_eq!(widths, [10; 4]);
    }
}
