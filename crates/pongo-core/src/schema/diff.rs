//! Two layouts side by side: what a table's rows are in the store, and what the program takes them for.

use core::fmt;

use super::kind::StoredKind;
use super::stored::StoredSchema;

/// A stored layout beside a program's. [`Display`](fmt::Display) shows both, field by field, with the lines that differ
/// marked by `!`.
///
/// ```text
/// table `flights`: the stored rows and the program's type differ where a line begins with `!`
///   | stored                    | program
/// ! | record Flight: 16 bytes   | record Flight: 24 bytes
///   |    0  8 id: u64           |    0  8 id: u64
/// ! |    8  8 dep_delay: f64    |    8  8 dep_delay: maybe<f32>
/// ! |                           |   16  8 arr_delay: f64
///   | key id                    | key id
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaDiff {
    table: String,
    same_layout: bool,
    lines: Vec<Line>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    stored: String,
    program: String,
    differ: bool,
}

/// Longer cells go on in the next line.
const WIDEST: usize = 56;
/// Above so many pairs of fields the two sides are compared place by place.
const MAX_PAIRS: usize = 1 << 20;

impl SchemaDiff {
    /// Lays two schemas side by side. Costs time and memory in the product of the numbers of fields, up to a limit
    /// beyond which fields are paired by their place.
    #[must_use]
    pub fn compare(stored: &StoredSchema, program: &StoredSchema) -> Self {
        let mut lines = Vec::new();
        let mut push = |stored: String, program: String| {
            let differ = stored != program;
            lines.push(Line { stored, program, differ });
        };
        push(head(stored), head(program));
        let (left, right) = (rows(stored), rows(program));
        for (left, right) in align(&left, &right) {
            push(left.map_or_else(String::new, Row::show), right.map_or_else(String::new, Row::show));
        }
        push(key(stored), key(program));
        let (left, right) = (indexes(stored), indexes(program));
        for place in 0..left.len().max(right.len()) {
            push(left.get(place).cloned().unwrap_or_default(), right.get(place).cloned().unwrap_or_default());
        }
        // The type's name says nothing about the bytes.
        lines[0].differ = (stored.size, stored.align) != (program.size, program.align);
        let same_layout = stored.fingerprint() == program.fingerprint();
        Self { table: stored.table.clone(), same_layout, lines }
    }

    /// Whether the program's type fits the stored rows: same fields at the same places, same key. Indexes may differ.
    #[must_use]
    pub fn is_same_layout(&self) -> bool {
        self.same_layout
    }
}

impl fmt::Display for SchemaDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what =
            if self.same_layout { "have the same layout" } else { "differ where a line begins with `!`" };
        writeln!(f, "table `{}`: the stored rows and the program's type {what}", self.table)?;
        let widest = self.lines.iter().map(|line| line.stored.chars().count()).max().unwrap_or(0);
        let width = widest.clamp("stored".len(), WIDEST);
        write!(f, "  | {:width$} | program", "stored")?;
        for line in &self.lines {
            let (left, right) = (wrap(&line.stored), wrap(&line.program));
            let mark = if line.differ { '!' } else { ' ' };
            for place in 0..left.len().max(right.len()) {
                let part = |parts: &[String]| parts.get(place).cloned().unwrap_or_default();
                let text = format!("{mark} | {:width$} | {}", part(&left), part(&right));
                write!(f, "\n{}", text.trim_end())?;
            }
        }
        Ok(())
    }
}

/// A cell in pieces of at most [`WIDEST`] characters; those behind the first are set in.
fn wrap(cell: &str) -> Vec<String> {
    const INDENT: &str = "          ";
    let chars: Vec<char> = cell.chars().collect();
    let mut parts = vec![chars.iter().take(WIDEST).collect()];
    for rest in chars.get(WIDEST..).unwrap_or_default().chunks(WIDEST - INDENT.len()) {
        parts.push(format!("{INDENT}{}", rest.iter().collect::<String>()));
    }
    parts
}

fn head(schema: &StoredSchema) -> String {
    let plural = if schema.size == 1 { "" } else { "s" };
    format!("record {}: {} byte{plural}, aligned to {}", schema.record, schema.size, schema.align)
}

fn key(schema: &StoredSchema) -> String {
    format!("key {}", names(schema, &schema.key))
}

fn indexes(schema: &StoredSchema) -> Vec<String> {
    let show = |unique| if unique { "unique" } else { "index" };
    let lines =
        schema.indexes.iter().map(|index| format!("{} {}", show(index.unique), names(schema, &index.fields)));
    lines.collect()
}

fn names(schema: &StoredSchema, places: &[usize]) -> String {
    let names = places.iter().filter_map(|place| schema.fields.get(*place)).map(|field| field.name.as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// One field, or one field of a nested record.
#[derive(PartialEq)]
struct Row {
    name: String,
    kind: String,
    offset: usize,
    size: usize,
}

impl Row {
    fn show(&self) -> String {
        format!("{:>5} {:>3} {}: {}", self.offset, self.size, self.name, self.kind)
    }
}

/// The fields with nested records taken apart, `outer.inner`.
fn rows(schema: &StoredSchema) -> Vec<Row> {
    let mut rows = Vec::new();
    for field in &schema.fields {
        flatten(&field.name, &field.kind, field.offset, &mut rows);
    }
    rows
}

fn flatten(name: &str, kind: &StoredKind, offset: usize, rows: &mut Vec<Row>) {
    let StoredKind::Record { fields, .. } = kind else {
        rows.push(Row { name: name.to_owned(), kind: kind.to_string(), offset, size: kind.size() });
        return;
    };
    let mut offset = offset;
    for (inner, kind) in fields {
        flatten(&format!("{name}.{inner}"), kind, offset, rows);
        offset += kind.size();
    }
}

/// Pairs rows of the same name in order (a longest common subsequence), so that a field that came or went stands alone.
fn align<'r>(left: &'r [Row], right: &'r [Row]) -> Vec<(Option<&'r Row>, Option<&'r Row>)> {
    if left.len().saturating_mul(right.len()) > MAX_PAIRS {
        return (0..left.len().max(right.len())).map(|place| (left.get(place), right.get(place))).collect();
    }
    let width = right.len() + 1;
    // common[l * width + r]: how many rows of left[l..] and right[r..] can be paired.
    let mut common = vec![0u32; (left.len() + 1) * width];
    for l in (0..left.len()).rev() {
        for r in (0..right.len()).rev() {
            common[l * width + r] = if left[l].name == right[r].name {
                common[(l + 1) * width + r + 1] + 1
            } else {
                common[(l + 1) * width + r].max(common[l * width + r + 1])
            };
        }
    }
    let (mut l, mut r, mut pairs) = (0, 0, Vec::new());
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() && left[l].name == right[r].name {
            pairs.push((Some(&left[l]), Some(&right[r])));
            l += 1;
            r += 1;
        } else if r == right.len()
            || (l < left.len() && common[(l + 1) * width + r] >= common[l * width + r + 1])
        {
            pairs.push((Some(&left[l]), None));
            l += 1;
        } else {
            pairs.push((None, Some(&right[r])));
            r += 1;
        }
    }
    pairs
}
