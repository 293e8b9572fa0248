//! The owned form of [`Kind`], with a canonical name that can be parsed back.
//!
//! ```text
//! kind    = "u8" … "i128" | "nonzero_u8" … "nonzero_i128" | "f32" | "f64" | "bool" | "char"
//!         | "uuid" | "timestamp" | "text" | "blob" | "external"
//!         | "str<" length ">"
//!         | "maybe<" kind ">"
//!         | "[" kind "; " length "]"
//!         | "enum " name ": " integer " {" variant " = " value {", " variant " = " value} "}"
//!         | "record " name " {" field ": " kind {", " field ": " kind} "}"
//! ```
//!
//! Records have the layout of C: each field is at the next offset that its alignment divides, and
//! the size is a multiple of the alignment. Sizes and offsets inside nested records therefore follow
//! from the kinds.

use core::fmt;

use super::{Kind, MAX_DEPTH, MAX_RECORD_SIZE};

/// The kind of a field, as in the schema file. [`Display`](fmt::Display) writes the canonical name.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StoredKind {
    /// A type without parts: `u8` … `f64`, `nonzero_u8` …, `bool`, `char`, `uuid`, `timestamp`, `text`,
    /// `blob`, `external`.
    Plain(PlainKind),
    /// An enum without fields.
    Enum {
        /// The type's name.
        name: String,
        /// The integer that represents it.
        repr: PlainKind,
        /// The name and value of each variant.
        variants: Vec<(String, i128)>,
    },
    /// `[of; len]`
    Array {
        /// The elements' kind.
        of: Box<StoredKind>,
        /// The number of elements.
        len: usize,
    },
    /// A nested record.
    Record {
        /// The type's name.
        name: String,
        /// The name and kind of each field, in the order of their offsets.
        fields: Vec<(String, StoredKind)>,
    },
    /// UTF-8 of at most this many bytes.
    FixedStr(usize),
    /// A value that may be absent: a tag as wide as the value's alignment, followed by the value.
    Maybe(Box<StoredKind>),
}

/// A kind without parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainKind(&'static Plain);

/// The canonical name, size and alignment of a kind without parts.
#[derive(PartialEq, Eq, Debug)]
struct Plain {
    name: &'static str,
    kind: Kind,
    size: usize,
    align: usize,
}

const fn row(name: &'static str, kind: Kind, size: usize, align: usize) -> Plain {
    Plain { name, kind, size, align }
}

static PLAIN: [Plain; 29] = [
    row("u8", Kind::U8, 1, 1),
    row("u16", Kind::U16, 2, 2),
    row("u32", Kind::U32, 4, 4),
    row("u64", Kind::U64, 8, 8),
    row("u128", Kind::U128, 16, 16),
    row("i8", Kind::I8, 1, 1),
    row("i16", Kind::I16, 2, 2),
    row("i32", Kind::I32, 4, 4),
    row("i64", Kind::I64, 8, 8),
    row("i128", Kind::I128, 16, 16),
    row("f32", Kind::F32, 4, 4),
    row("f64", Kind::F64, 8, 8),
    row("bool", Kind::Bool, 1, 1),
    row("char", Kind::Char, 4, 4),
    row("nonzero_u8", Kind::NonZeroU8, 1, 1),
    row("nonzero_u16", Kind::NonZeroU16, 2, 2),
    row("nonzero_u32", Kind::NonZeroU32, 4, 4),
    row("nonzero_u64", Kind::NonZeroU64, 8, 8),
    row("nonzero_u128", Kind::NonZeroU128, 16, 16),
    row("nonzero_i8", Kind::NonZeroI8, 1, 1),
    row("nonzero_i16", Kind::NonZeroI16, 2, 2),
    row("nonzero_i32", Kind::NonZeroI32, 4, 4),
    row("nonzero_i64", Kind::NonZeroI64, 8, 8),
    row("nonzero_i128", Kind::NonZeroI128, 16, 16),
    row("uuid", Kind::Uuid, 16, 1),
    row("timestamp", Kind::Timestamp, 8, 8),
    row("text", Kind::Text, 16, 8),
    row("blob", Kind::Blob, 16, 8),
    row("external", Kind::External, 16, 1),
];
/// Number of integer kinds; they come first in [`PLAIN`].
const INTEGERS: usize = 10;

impl PlainKind {
    /// Returns the kind.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.0.kind
    }

    /// Returns the plain kind for `kind`. A kind with parts occurs here only if a manual
    /// implementation declares it as the representation of an enum, and is then treated as a byte.
    fn of(kind: &Kind) -> Self {
        Self(PLAIN.iter().find(|plain| plain.kind == *kind).unwrap_or(&PLAIN[0]))
    }
}

impl From<&Kind> for StoredKind {
    fn from(kind: &Kind) -> Self {
        match kind {
            Kind::Enum { name, repr, variants } => Self::Enum {
                name: (*name).to_owned(),
                repr: PlainKind::of(repr),
                variants: variants.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            },
            Kind::Array { of, len } => Self::Array { of: Box::new(Self::from(*of)), len: *len },
            Kind::Record { name, fields, .. } => Self::Record {
                name: (*name).to_owned(),
                fields: fields.iter().map(|field| (field.name.to_owned(), Self::from(&field.kind))).collect(),
            },
            Kind::FixedStr(len) => Self::FixedStr(*len),
            Kind::Maybe(of) => Self::Maybe(Box::new(Self::from(*of))),
            plain => Self::Plain(PlainKind::of(plain)),
        }
    }
}

impl StoredKind {
    /// Returns the size in bytes, or `usize::MAX` if it overflows, which does not occur for parsed
    /// kinds.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Plain(plain) => plain.0.size,
            Self::Enum { repr, .. } => repr.0.size,
            Self::Array { of, len } => of.size().saturating_mul(*len),
            Self::Record { fields, .. } => {
                let end =
                    placed(fields).last().map_or(0, |(_, offset, kind)| offset.saturating_add(kind.size()));
                aligned(end, self.align())
            }
            Self::FixedStr(len) => *len,
            Self::Maybe(of) => of.size().saturating_add(of.align()),
        }
    }

    /// Returns the alignment that follows from the parts. A type with `repr(align)` can have a
    /// larger one.
    #[must_use]
    pub fn align(&self) -> usize {
        match self {
            Self::Plain(plain) => plain.0.align,
            Self::Enum { repr, .. } => repr.0.align,
            Self::Array { of, .. } | Self::Maybe(of) => of.align(),
            Self::Record { fields, .. } => fields.iter().map(|(_, kind)| kind.align()).max().unwrap_or(1),
            Self::FixedStr(_) => 1,
        }
    }

    /// Writes the canonical name; omits the names of nested types if `names` is false.
    pub(super) fn write(&self, out: &mut impl fmt::Write, names: bool) -> fmt::Result {
        let name_of = |name: &str| if names { format!(" {name}") } else { String::new() };
        match self {
            Self::Plain(plain) => out.write_str(plain.0.name),
            Self::FixedStr(len) => write!(out, "str<{len}>"),
            Self::Maybe(of) => {
                out.write_str("maybe<")?;
                of.write(out, names)?;
                out.write_str(">")
            }
            Self::Array { of, len } => {
                out.write_str("[")?;
                of.write(out, names)?;
                write!(out, "; {len}]")
            }
            Self::Enum { name, repr, variants } => {
                write!(out, "enum{}: {} {{", name_of(name), repr.0.name)?;
                for (place, (variant, value)) in variants.iter().enumerate() {
                    write!(out, "{}{variant} = {value}", if place == 0 { "" } else { ", " })?;
                }
                out.write_str("}")
            }
            Self::Record { name, fields } => {
                write!(out, "record{} {{", name_of(name))?;
                for (place, (field, kind)) in fields.iter().enumerate() {
                    write!(out, "{}{field}: ", if place == 0 { "" } else { ", " })?;
                    kind.write(out, names)?;
                }
                out.write_str("}")
            }
        }
    }

    /// Parses a complete canonical name. `Err` holds the expected item and the text that was found.
    pub(super) fn parse(text: &str) -> Result<Self, (&'static str, &str)> {
        let mut reader = KindParser { rest: text };
        let kind = reader.kind(0)?;
        if reader.rest.is_empty() { Ok(kind) } else { Err(("nothing after the type", reader.rest)) }
    }
}

impl fmt::Display for StoredKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)
    }
}

/// Returns the first multiple of `align` from `end` on, or `usize::MAX` if that overflows.
pub(super) fn aligned(end: usize, align: usize) -> usize {
    end.checked_next_multiple_of(align).unwrap_or(usize::MAX)
}

/// Returns name, offset and kind of each field of a nested record.
pub(super) fn placed(fields: &[(String, StoredKind)]) -> impl Iterator<Item = (&str, usize, &StoredKind)> {
    let mut end = 0;
    fields.iter().map(move |(name, kind)| {
        let offset = aligned(end, kind.align());
        end = offset.saturating_add(kind.size());
        (name.as_str(), offset, kind)
    })
}

/// Returns whether a name is allowed in a schema file: every Rust identifier is.
pub(super) fn is_name(name: &str) -> bool {
    name.chars().all(in_name) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn in_name(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() || c == '_' } else { !c.is_whitespace() && !c.is_control() }
}

/// The remaining text of a canonical name.
struct KindParser<'t> {
    rest: &'t str,
}

type Read<'t, T> = Result<T, (&'static str, &'t str)>;

impl<'t> KindParser<'t> {
    fn skip(&mut self, token: &'static str) -> Read<'t, ()> {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err((token, self.rest)),
        }
    }

    fn accept(&mut self, token: &'static str) -> bool {
        self.skip(token).is_ok()
    }

    fn word(&mut self) -> &'t str {
        let end = self.rest.find(|c: char| !(in_name(c) || c == '-')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn name(&mut self) -> Read<'t, String> {
        let at = self.rest;
        let word = self.word();
        if is_name(word) { Ok(word.to_owned()) } else { Err(("a name", at)) }
    }

    /// Parses a count without sign or leading zeros, so that each value has exactly one textual
    /// form.
    fn count(&mut self) -> Read<'t, usize> {
        let at = self.rest;
        canonical::<usize>(self.word()).ok_or(("a count", at))
    }

    fn kind(&mut self, depth: usize) -> Read<'t, StoredKind> {
        let at = self.rest;
        if depth > MAX_DEPTH {
            return Err(("a type that is nested at most 64 deep", at));
        }
        let kind = self.kind_of_any_size(depth)?;
        if (1..=MAX_RECORD_SIZE).contains(&kind.size()) {
            Ok(kind)
        } else {
            Err(("a type of 1 to 1073741824 bytes", at))
        }
    }

    fn kind_of_any_size(&mut self, depth: usize) -> Read<'t, StoredKind> {
        if self.accept("[") {
            let of = Box::new(self.kind(depth + 1)?);
            self.skip("; ")?;
            let len = self.count()?;
            self.skip("]")?;
            return Ok(StoredKind::Array { of, len });
        }
        let at = self.rest;
        match self.word() {
            "str" => {
                self.skip("<")?;
                let len = self.count()?;
                self.skip(">")?;
                Ok(StoredKind::FixedStr(len))
            }
            "maybe" => {
                self.skip("<")?;
                let of = Box::new(self.kind(depth + 1)?);
                self.skip(">")?;
                Ok(StoredKind::Maybe(of))
            }
            "enum" => self.enumeration(),
            "record" => {
                self.skip(" ")?;
                let name = self.name()?;
                self.skip(" {")?;
                let mut fields = Vec::new();
                let mut end = 0usize;
                loop {
                    let at = self.rest;
                    let field = self.name()?;
                    self.skip(": ")?;
                    let kind = self.kind(depth + 1)?;
                    end = aligned(end, kind.align()).saturating_add(kind.size());
                    if end > MAX_RECORD_SIZE {
                        return Err(("a record of at most 1073741824 bytes", at));
                    }
                    fields.push((field, kind));
                    if self.accept("}") {
                        return Ok(StoredKind::Record { name, fields });
                    }
                    self.skip(", ")?;
                }
            }
            word => match PLAIN.iter().find(|plain| plain.name == word) {
                Some(plain) => Ok(StoredKind::Plain(PlainKind(plain))),
                None => Err(("a type", at)),
            },
        }
    }

    fn enumeration(&mut self) -> Read<'t, StoredKind> {
        self.skip(" ")?;
        let name = self.name()?;
        self.skip(": ")?;
        let at = self.rest;
        let word = self.word();
        let Some(repr) = PLAIN[..INTEGERS].iter().find(|plain| plain.name == word) else {
            return Err(("an integer type", at));
        };
        self.skip(" {")?;
        let mut variants = Vec::new();
        loop {
            let variant = self.name()?;
            self.skip(" = ")?;
            let at = self.rest;
            let value = canonical::<i128>(self.word()).ok_or(("an integer", at))?;
            variants.push((variant, value));
            if self.accept("}") {
                return Ok(StoredKind::Enum { name, repr: PlainKind(repr), variants });
            }
            self.skip(", ")?;
        }
    }
}

/// Parses a number; returns `None` if `word` is not its canonical form.
pub(super) fn canonical<N: core::str::FromStr + fmt::Display>(word: &str) -> Option<N> {
    if word.len() > 40 {
        return None;
    }
    let number = word.parse::<N>().ok()?;
    (number.to_string() == word).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names_read_back() {
        for name in [
            "u8",
            "i128",
            "nonzero_u8",
            "nonzero_i128",
            "char",
            "maybe<nonzero_u32>",
            "f32",
            "uuid",
            "blob",
            "external",
            "str<2>",
            "maybe<f32>",
            "[[u16; 3]; 2]",
            "enum Cabin: u8 {Economy = 0, First = 7}",
            "enum Sign: i16 {Minus = -1}",
            "record Position {lat: f64, notes: [maybe<text>; 2], größe: record Inner {a: bool}}",
        ] {
            let kind = StoredKind::parse(name).expect(name);
            assert_eq!(kind.to_string(), name);
        }
    }

    #[test]
    fn sizes_follow_from_the_parts() {
        for (name, size, align) in [
            ("maybe<f32>", 8, 4),
            ("char", 4, 4),
            ("maybe<nonzero_i16>", 4, 2),
            ("[nonzero_u128; 2]", 32, 16),
            ("maybe<str<5>>", 6, 1),
            ("maybe<text>", 24, 8),
            ("[maybe<u16>; 3]", 12, 2),
            ("record R {a: u64, b: uuid, c: [u8; 8]}", 32, 8),
            ("enum E: u32 {A = 0}", 4, 4),
            ("record R {a: u8, b: u32, c: bool}", 12, 4),
            ("[record R {a: u64, b: u8}; 2]", 32, 8),
            ("maybe<record R {a: u32, b: u8}>", 12, 4),
        ] {
            let kind = StoredKind::parse(name).expect(name);
            assert_eq!((kind.size(), kind.align()), (size, align), "{name}");
        }
    }

    #[test]
    fn invalid_type_is_refused() {
        let deep = format!("{}u8{}", "maybe<".repeat(65), ">".repeat(65));
        let very_deep = "[".repeat(1_000_000);
        for (text, expected) in [
            ("", "a type"),
            ("u9", "a type"),
            ("nonzero_f32", "a type"),
            ("enum E: nonzero_u8 {A = 1}", "an integer type"),
            ("enum E: char {A = 1}", "an integer type"),
            ("u8 ", "nothing after the type"),
            ("str<>", "a count"),
            ("str<02>", "a count"),
            ("str<+2>", "a count"),
            ("str<0>", "a type of 1 to 1073741824 bytes"),
            ("[u8; 0]", "a type of 1 to 1073741824 bytes"),
            ("[u8; 1073741825]", "a type of 1 to 1073741824 bytes"),
            ("[[u64; 1000000]; 99999999999999999]", "a type of 1 to 1073741824 bytes"),
            ("[u8;2]", "; "),
            ("enum E: f32 {A = 0}", "an integer type"),
            ("enum E: u8 {}", "a name"),
            ("enum E: u8 {A = x}", "an integer"),
            ("record R {}", "a name"),
            ("record R {a: u8", ", "),
            ("record 1 {a: u8}", "a name"),
            (&deep, "a type that is nested at most 64 deep"),
            (&very_deep, "a type that is nested at most 64 deep"),
        ] {
            assert_eq!(StoredKind::parse(text).map_err(|error| error.0), Err(expected), "{text:.40}");
        }
    }
}
