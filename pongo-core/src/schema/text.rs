//! The schema file: one fact per line, for people and programs.
//!
//! ```text
//! pongo schema 1
//! table flights
//! record Flight
//! version 1
//! size 24
//! align 8
//! field 0 8 id: u64                 offset, size, name, type
//! field 8 2 carrier: str<2>
//! …
//! key id                            names, in the key's order
//! index carrier: carrier            or `unique`; name, then fields
//! checksum 51d8e999af30b2c4         xxh3 (64 bits) of every byte before this line
//! ```
//!
//! Each schema has exactly one textual form. The parser accepts any bytes: it never panics, and
//! allocates no more than a small multiple of the text's length.

use crate::guard::fails;
use core::fmt::Write;
use std::collections::HashMap;

use super::kind::{StoredKind, aligned, canonical, is_name};
use super::stored::{StoredField, StoredIndex, StoredSchema};
use super::{MAX_ALIGN, MAX_RECORD_SIZE, is_table_name};

/// Maximum size of a schema file in bytes.
pub const MAX_TEXT: usize = 1 << 22;

const HEADER: &str = "pongo schema ";
const FORMAT: &str = "1";
const CHECKSUM: &str = "checksum ";

/// An error while parsing a schema file.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SchemaParseError {
    /// The text is longer than the maximum.
    #[error(
        "a schema file has at most {MAX_TEXT} bytes and this one has {len}: restore it from a copy of the \
         store"
    )]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The bytes are not UTF-8.
    #[error("a schema file is UTF-8 and this one is not: restore it from a copy of the store")]
    NotUtf8 {
        /// The UTF-8 error, with the position of the invalid byte.
        #[from]
        source: core::str::Utf8Error,
    },
    /// The file has another format version.
    #[error(
        "the schema file has format {found} and this program reads format {FORMAT}: open it with a newer \
         PongoDB"
    )]
    Format {
        /// The version in the first line.
        found: String,
    },
    /// The file was changed after it was written.
    #[error(
        "the schema file's checksum is {expected:016x}, its contents give {found:016x}: it was cut or \
         changed, restore it from a copy of the store"
    )]
    Checksum {
        /// The checksum in the last line.
        expected: u64,
        /// The checksum of the lines before it.
        found: u64,
    },
    /// A line differs from what a schema file has there.
    #[error(
        "line {line} of the schema file: expected {expected}, found `{found}`: restore it from a copy of the \
         store"
    )]
    Line {
        /// The line number, counted from 1.
        line: usize,
        /// The expected content.
        expected: String,
        /// The content that was found, shortened.
        found: String,
    },
}

impl StoredSchema {
    /// Returns the contents of the schema file. [`parse`](Self::parse) reads them back to an equal
    /// schema.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "{HEADER}{FORMAT}");
        let _ = writeln!(text, "table {}", self.table);
        let _ = writeln!(text, "record {}", self.record);
        let _ = writeln!(text, "version {}", self.version);
        let _ = writeln!(text, "size {}", self.size);
        let _ = writeln!(text, "align {}", self.align);
        for field in &self.fields {
            let _ = writeln!(text, "field {} {} {}: {}", field.offset, field.size, field.name, field.kind);
        }
        let _ = writeln!(text, "key {}", self.names(&self.key));
        for index in &self.indexes {
            let what = if index.unique { "unique" } else { "index" };
            let _ = writeln!(text, "{what} {}: {}", index.name, self.names(&index.fields));
        }
        let checksum = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        let _ = writeln!(text, "{CHECKSUM}{checksum:016x}");
        text
    }

    fn names(&self, places: &[usize]) -> String {
        let names =
            places.iter().filter_map(|place| self.fields.get(*place)).map(|field| field.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    }

    /// Parses the contents of a schema file. Accepts any text.
    ///
    /// # Errors
    /// [`SchemaParseError`] with the line, the expected content and the content that was found.
    pub fn parse(text: &str) -> Result<Self, SchemaParseError> {
        if text.len() > MAX_TEXT {
            return Err(SchemaParseError::TooLong { len: text.len() });
        }
        let body = checked_body(text)?;
        Lines { text: body, line: 1 }.schema()
    }

    /// Parses bytes that may not be UTF-8, as [`parse`](Self::parse) does.
    ///
    /// # Errors
    /// As `parse`, and [`SchemaParseError::NotUtf8`].
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, SchemaParseError> {
        if bytes.len() > MAX_TEXT {
            return Err(SchemaParseError::TooLong { len: bytes.len() });
        }
        Self::parse(core::str::from_utf8(bytes)?)
    }
}

/// Returns the lines between the first and the last, after checking both.
fn checked_body(text: &str) -> Result<&str, SchemaParseError> {
    let first = text.split('\n').next().unwrap_or("");
    match first.strip_prefix(HEADER) {
        Some(FORMAT) => {}
        Some(found) if canonical::<u32>(found).is_some() => {
            return Err(SchemaParseError::Format { found: found.to_owned() });
        }
        _ => return Err(line_error(1, format!("`{HEADER}{FORMAT}`"), first)),
    }
    let before = text.strip_suffix('\n').unwrap_or(text);
    let last_start = before.rfind('\n').map_or(0, |end| end + 1);
    let last = &before[last_start..];
    let checksum = last.strip_prefix(CHECKSUM).filter(|digits| digits.len() == 16 && text.ends_with('\n'));
    let Some(expected) = checksum.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
        let line = before.split('\n').count();
        return Err(line_error(line, format!("`{CHECKSUM}` with 16 hex digits, as the last line"), last));
    };
    let found = xxhash_rust::xxh3::xxh3_64(&text.as_bytes()[..last_start]);
    if fails!("schema.checksum", found != expected) {
        return Err(SchemaParseError::Checksum { expected, found });
    }
    // The first line is complete and the last begins after its end, so the range is valid.
    Ok(text.get(first.len() + 1..last_start).unwrap_or(""))
}

fn line_error(line: usize, expected: impl Into<String>, found: &str) -> SchemaParseError {
    let mut short: String = found.chars().take(60).collect();
    if short.len() < found.len() {
        short.push('…');
    }
    SchemaParseError::Line { line, expected: expected.into(), found: short }
}

/// The remaining lines, and the number of lines read.
struct Lines<'t> {
    text: &'t str,
    line: usize,
}

impl<'t> Lines<'t> {
    fn peek(&self) -> &'t str {
        self.text.split('\n').next().unwrap_or("")
    }

    /// Consumes the next line if it begins with `word` and a space; returns the rest of the line.
    fn accept(&mut self, word: &str) -> Option<&'t str> {
        let line = self.peek();
        let rest = line.strip_prefix(word)?.strip_prefix(' ')?;
        self.text = &self.text[line.len() + 1..];
        self.line += 1;
        Some(rest)
    }

    /// Consumes the next line, which must begin with `word`, and parses the rest of it.
    fn expect<T>(
        &mut self,
        word: &str,
        expected: &str,
        read: impl FnOnce(&'t str) -> Option<T>,
    ) -> Result<T, SchemaParseError> {
        let line = self.peek();
        match self.accept(word) {
            Some(rest) => read(rest).ok_or_else(|| self.error(expected, line)),
            None => Err(line_error(self.line + 1, format!("`{word} ` and {expected}"), line)),
        }
    }

    /// Returns an error at the line that was consumed last.
    fn error(&self, expected: impl Into<String>, found: &str) -> SchemaParseError {
        line_error(self.line, expected, found)
    }

    fn schema(mut self) -> Result<StoredSchema, SchemaParseError> {
        let table = self.expect("table", "1 to 64 of a-z, 0-9, _ and -, with a letter first", |name| {
            is_table_name(name).then(|| name.to_owned())
        })?;
        let record = self.expect("record", "a type's name", |name| is_name(name).then(|| name.to_owned()))?;
        let version = self
            .expect("version", "a number from 1", |n| canonical::<u32>(n).filter(|version| *version > 0))?;
        let size = self.expect("size", "1 to 1073741824", |n| {
            canonical::<usize>(n).filter(|size| (1..=MAX_RECORD_SIZE).contains(size))
        })?;
        let align = self.expect("align", "a power of two up to 4096 that divides the size", |n| {
            canonical::<usize>(n)
                .filter(|align| align.is_power_of_two() && *align <= MAX_ALIGN && size.is_multiple_of(*align))
        })?;

        let mut fields = Vec::new();
        let mut places = HashMap::new();
        let mut end = 0;
        while let Some(rest) = self.accept("field") {
            let field = self.field(rest, end)?;
            if !align.is_multiple_of(field.kind.align()) || !field.offset.is_multiple_of(field.kind.align()) {
                return Err(self.error("an offset and a record that are aligned as the field's type", rest));
            }
            end = field.offset + field.size;
            if end > size {
                return Err(self.error(format!("fields of {size} bytes in all"), rest));
            }
            if places.insert(field.name.clone(), fields.len()).is_some() {
                return Err(self.error("a name that no other field has", rest));
            }
            fields.push(field);
        }
        // Padding at the end is shorter than the alignment.
        if aligned(end, align) != size {
            let found = self.peek();
            return Err(line_error(
                self.line + 1,
                format!("`field {end} ` with the field that begins there"),
                found,
            ));
        }

        let key = self.expect("key", "names of fields, each once", |names| known(names, &places))?;
        let mut indexes: Vec<StoredIndex> = Vec::new();
        let mut index_names = HashMap::new();
        while !self.text.is_empty() {
            let line = self.peek();
            let (unique, rest) = match self.accept("index") {
                Some(rest) => (false, rest),
                None => match self.accept("unique") {
                    Some(rest) => (true, rest),
                    None => {
                        return Err(line_error(self.line + 1, "`index `, `unique ` or the checksum", line));
                    }
                },
            };
            let parts = rest.split_once(": ").and_then(|(name, names)| Some((name, known(names, &places)?)));
            let Some((name, of)) = parts.filter(|(name, _)| !name.is_empty() && name.split('+').all(is_name))
            else {
                return Err(self.error("an index's name, `: `, and names of fields, each once", rest));
            };
            if index_names.insert(name, ()).is_some() {
                return Err(self.error("a name that no other index has", rest));
            }
            indexes.push(StoredIndex { name: name.to_owned(), fields: of, unique });
        }
        Ok(StoredSchema { table, record, version, size, align, fields, key, indexes })
    }

    fn field(&self, rest: &str, end: usize) -> Result<StoredField, SchemaParseError> {
        let mut parts = rest.splitn(3, ' ');
        let (offset, size, typed) = (parts.next(), parts.next(), parts.next().unwrap_or(""));
        let Some((name, kind)) = typed.split_once(": ").filter(|(name, _)| is_name(name)) else {
            return Err(self.error("offset, size, name, `: ` and type", rest));
        };
        let kind = StoredKind::parse(kind).map_err(|(expected, found)| {
            let found = if found.is_empty() { rest } else { found };
            self.error(expected, found)
        })?;
        let expected_size = kind.size();
        if size.and_then(canonical::<usize>) != Some(expected_size) {
            return Err(self.error(format!("size {expected_size}, which the type has"), rest));
        }
        let expected_offset = aligned(end, kind.align());
        if offset.and_then(canonical::<usize>) != Some(expected_offset) {
            let expected =
                format!("offset {expected_offset}, the first one for its type after the field before");
            return Err(self.error(expected, rest));
        }
        Ok(StoredField { name: name.to_owned(), kind, offset: expected_offset, size: expected_size })
    }
}

/// Parses a list of distinct names and returns their positions. Returns `None` if a name is unknown
/// or repeated.
fn known(names: &str, places: &HashMap<String, usize>) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    let mut taken = std::collections::HashSet::new();
    for name in names.split(", ") {
        let place = *places.get(name)?;
        if !taken.insert(place) {
            return None;
        }
        found.push(place);
    }
    Some(found)
}
