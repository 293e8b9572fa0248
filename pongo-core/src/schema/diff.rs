//! A comparison of two layouts: that of a table's rows in the store, and that of the program's
//! type.

use core::fmt;

use super::kind::{StoredKind, placed};
use super::stored::StoredSchema;

/// A stored layout next to a program's. [`Display`](fmt::Display) shows both, field by field, and
/// marks lines that differ with `!`.
///
/// ```text
/// table `flights`: the stored rows and the program's type differ where a line begins with `!`
///   | stored                                | program
/// ! | record Flight: 16 bytes, aligned to 8 | record Flight: 24 bytes, aligned to 8
///   |     0   8 id: u64                     |     0   8 id: u64
/// ! |     8   8 dep_delay: f64              |     8   8 dep_delay: maybe<f32>
/// ! |                                       |    16   8 arr_delay: f64
///   | key id                                | key id
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

/// Maximum width of a cell; longer cells are continued in the next line.
const WIDEST: usize = 56;
/// Maximum number of pairs of fields; above it the two sides are compared index by index.
const MAX_PAIRS: usize = 1 << 20;

impl SchemaDiff {
    /// Compares two schemas. Time and memory are proportional to the product of the numbers of
    /// fields, up to a limit beyond which fields are paired by index.
    #[must_use]
    pub fn compare(stored: &StoredSchema, program: &StoredSchema) -> Self {
        let mut lines = Vec::new();
        // The names of types do not affect the bytes.
        let differ = (stored.size, stored.align) != (program.size, program.align);
        lines.push(Line { stored: head(stored), program: head(program), differ });
        let (left, right) = (rows(stored), rows(program));
        for (left, right) in align(&left, &right) {
            let show = |row: Option<&Row>| row.map_or_else(String::new, Row::show);
            let differ = left.map(Row::layout) != right.map(Row::layout);
            lines.push(Line { stored: show(left), program: show(right), differ });
        }
        let mut push = |stored: String, program: String| {
            let differ = stored != program;
            lines.push(Line { stored, program, differ });
        };
        push(key(stored), key(program));
        let (left, right) = (indexes(stored), indexes(program));
        for place in 0..left.len().max(right.len()) {
            push(left.get(place).cloned().unwrap_or_default(), right.get(place).cloned().unwrap_or_default());
        }
        let same_layout = stored.fingerprint() == program.fingerprint();
        Self { table: stored.table.clone(), same_layout, lines }
    }

    /// Returns whether the program's type fits the stored rows: same fields at the same offsets,
    /// and the same key. Indexes may differ.
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

/// Splits a cell into lines of at most [`WIDEST`] characters; all lines after the first are
/// indented.
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

/// A field, or a field of a nested record.
struct Row<'s> {
    name: &'s str,
    kind: &'s StoredKind,
    depth: usize,
    offset: usize,
}

impl Row<'_> {
    fn show(&self) -> String {
        let kind = match self.kind {
            StoredKind::Record { name, .. } => format!("record {name}"),
            kind => kind.to_string(),
        };
        format!(
            "{:>5} {:>3} {:indent$}{}: {kind}",
            self.offset,
            self.kind.size(),
            "",
            self.name,
            indent = 2 * self.depth
        )
    }

    /// Returns the parts that determine the bytes; the fields of a nested record have their own
    /// rows.
    fn layout(&self) -> (usize, usize, usize, &str, String) {
        let mut kind = String::new();
        if !matches!(self.kind, StoredKind::Record { .. }) {
            // Writing into a `String` cannot fail.
            let _ = self.kind.write(&mut kind, false);
        }
        (self.depth, self.offset, self.kind.size(), self.name, kind)
    }

    fn is_named_as(&self, other: &Row<'_>) -> bool {
        (self.depth, self.name) == (other.depth, other.name)
    }
}

/// Returns the fields, each nested record followed by its own fields.
fn rows(schema: &StoredSchema) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for field in &schema.fields {
        flatten(&field.name, &field.kind, field.offset, 0, &mut rows);
    }
    rows
}

fn flatten<'s>(name: &'s str, kind: &'s StoredKind, offset: usize, depth: usize, rows: &mut Vec<Row<'s>>) {
    rows.push(Row { name, kind, depth, offset });
    if let StoredKind::Record { fields, .. } = kind {
        for (name, at, kind) in placed(fields) {
            flatten(name, kind, offset + at, depth + 1, rows);
        }
    }
}

/// Pairs rows of the same name in order (a longest common subsequence), so that an added or removed
/// field has no counterpart.
fn align<'r, 's>(
    left: &'r [Row<'s>],
    right: &'r [Row<'s>],
) -> Vec<(Option<&'r Row<'s>>, Option<&'r Row<'s>>)> {
    if left.len().saturating_mul(right.len()) > MAX_PAIRS {
        return (0..left.len().max(right.len())).map(|place| (left.get(place), right.get(place))).collect();
    }
    let width = right.len() + 1;
    // common[l * width + r]: number of rows of left[l..] and right[r..] that can be paired.
    let mut common = vec![0u32; (left.len() + 1) * width];
    for l in (0..left.len()).rev() {
        for r in (0..right.len()).rev() {
            common[l * width + r] = if left[l].is_named_as(&right[r]) {
                common[(l + 1) * width + r + 1] + 1
            } else {
                common[(l + 1) * width + r].max(common[l * width + r + 1])
            };
        }
    }
    let (mut l, mut r, mut pairs) = (0, 0, Vec::new());
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() && left[l].is_named_as(&right[r]) {
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
