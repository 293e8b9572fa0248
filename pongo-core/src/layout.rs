//! The layout checks that the macros run at compile time, each at the field to which it applies.
//!
//! They run in `const` items, where a panic message must be a single string: `Message` builds it,
//! including numbers. Nothing here is executed at run time.

use crate::schema::{Kind, MAX_ALIGN, MAX_DEPTH, MAX_RECORD_SIZE};

/// Rejects a type without the derives of zerocopy.
#[track_caller]
pub const fn derived(record: &str, derived: bool) {
    if !derived {
        let message = Message::new()
            .text("`")
            .text(record)
            .text("` does not derive `TryFromBytes`, `Immutable` and `KnownLayout` of `pongo::zerocopy`: ")
            .text("write `#[pongo::record]` above it in place of `#[derive(PongoRecord)]`, which adds them, ")
            .text("or derive them");
        panic!("{}", message.as_str());
    }
}

/// Rejects a field without bytes.
#[track_caller]
pub const fn not_empty(record: &str, field: &str, size: usize) {
    if size == 0 {
        let message = Message::new()
            .text("`")
            .text(record)
            .text("` has a field of size 0, `")
            .text(field)
            .text("`: give it at least one byte, or remove it");
        panic!("{}", message.as_str());
    }
}

/// Rejects a field whose type has another size or alignment than follows from its kind. The schema
/// file has kinds alone, so that such a table could not be opened again.
#[track_caller]
pub const fn as_its_kind(record: &str, field: &str, kind: &Kind, size: usize, align: usize) {
    let (kind_size, kind_align) = kind.size_and_align();
    if size != kind_size || align != kind_align {
        let message = Message::new()
            .text("the type of `")
            .text(field)
            .text("` in `")
            .text(record)
            .text("` has ")
            .number(size)
            .text(" bytes and alignment ")
            .number(align)
            .text(", and its own fields ask for ")
            .number(kind_size)
            .text(" and ")
            .number(kind_align)
            .text(": remove `align` from its `repr`");
        panic!("{}", message.as_str());
    }
}

/// Rejects a record that is too large, too strictly aligned or too deeply nested.
#[track_caller]
pub const fn within_limits(record: &str, size: usize, align: usize, kind: &Kind) {
    if align > MAX_ALIGN {
        let message = Message::new()
            .text("`")
            .text(record)
            .text("` has alignment ")
            .number(align)
            .text(", and rows begin at most on pages of ")
            .number(MAX_ALIGN)
            .text(" bytes: lower the number in `repr(align)`");
        panic!("{}", message.as_str());
    }
    if size > MAX_RECORD_SIZE {
        let message = Message::new()
            .text("`")
            .text(record)
            .text("` has ")
            .number(size)
            .text(" bytes, and a record has at most ")
            .number(MAX_RECORD_SIZE)
            .text(": keep large contents in a `Blob`");
        panic!("{}", message.as_str());
    }
    let depth = depth(kind);
    if depth > MAX_DEPTH {
        let message = Message::new()
            .text("`")
            .text(record)
            .text("` is nested ")
            .number(depth)
            .text(" deep, and a record is at most ")
            .number(MAX_DEPTH)
            .text(" deep: merge some of the records in it");
        panic!("{}", message.as_str());
    }
}

/// Rejects a record with an external key that cannot follow the 32 bytes of its key.
#[track_caller]
pub const fn external_limits(record: &str, size: usize, align: usize) {
    if align > EXTERNAL_HEAD {
        let message = Message::new()
            .text("`")
            .text(record)
            .text("` has alignment ")
            .number(align)
            .text(", and comes after the ")
            .number(EXTERNAL_HEAD)
            .text(" bytes of its external key: lower the number in `repr(align)` to that");
        panic!("{}", message.as_str());
    }
    if size > MAX_RECORD_SIZE - EXTERNAL_HEAD {
        let message = Message::new()
            .text("`")
            .text(record)
            .text("` has ")
            .number(size)
            .text(" bytes, and a record with an external key has at most ")
            .number(MAX_RECORD_SIZE - EXTERNAL_HEAD)
            .text(": keep large contents in a `Blob`");
        panic!("{}", message.as_str());
    }
}

/// Number of bytes before a record with an external key: see [`external`](crate::fields::external).
pub const EXTERNAL_HEAD: usize = 32;

const fn depth(kind: &Kind) -> usize {
    match kind {
        Kind::Array { of, .. } => 1 + depth(of),
        Kind::Maybe(of) => 1 + depth(of),
        Kind::Record { fields, .. } => {
            let mut deepest = 0;
            let mut place = 0;
            while place < fields.len() {
                let here = depth(&fields[place].kind);
                if here > deepest {
                    deepest = here;
                }
                place += 1;
            }
            1 + deepest
        }
        _ => 0,
    }
}

/// A string that is built at compile time; text that does not fit is truncated.
struct Message {
    bytes: [u8; 1024],
    len: usize,
}

impl Message {
    const fn new() -> Self {
        Self { bytes: [0; 1024], len: 0 }
    }

    const fn text(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut place = 0;
        while place < text.len() && self.len < self.bytes.len() {
            self.bytes[self.len] = text[place];
            self.len += 1;
            place += 1;
        }
        self
    }

    const fn number(self, number: usize) -> Self {
        let rest = if number >= 10 { self.number(number / 10) } else { self };
        let digit = [b'0' + (number % 10) as u8];
        match core::str::from_utf8(&digit) {
            Ok(digit) => rest.text(digit),
            Err(_) => rest,
        }
    }

    const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "a record's layout is refused (and its name is too long for this message)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let payload = std::panic::catch_unwind(check).expect_err("the check refuses");
        *payload.downcast::<String>().expect("a message with text in it")
    }

    #[test]
    fn limits_hold_at_their_edges() {
        within_limits("R", MAX_RECORD_SIZE, MAX_ALIGN, &Kind::U8);
        assert!(
            refusal(|| within_limits("R", MAX_RECORD_SIZE + 1, 1, &Kind::U8)).contains("1073741825 bytes")
        );
        assert!(refusal(|| within_limits("R", 1, 8192, &Kind::U8)).contains("alignment 8192"));
        static INNER: Kind = Kind::Maybe(&Kind::Array { of: &Kind::U8, len: 2 });
        assert_eq!(depth(&INNER), 2);
    }

    #[test]
    fn too_long_message_is_truncated() {
        let name = "ß".repeat(2000);
        assert!(!Message::new().text("x").text(&name).as_str().is_empty());
        assert_eq!(Message::new().number(0).number(1234567890).as_str(), "01234567890");
    }
}
