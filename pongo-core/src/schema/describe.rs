//! Human-readable forms of a row's key, of its other fields, or of a single value, for messages.

use core::fmt::Write;

use super::{Kind, StoredKind, StoredSchema};
use crate::fields::{Timestamp, Uuid};

impl StoredSchema {
    /// Formats the key fields of a row as `name = value`, separated by commas. If the bytes do not
    /// have the size of a row, formats as much as can be read from them.
    #[must_use]
    pub fn describe_key(&self, row: &[u8]) -> String {
        self.describe_fields(&self.key, row)
    }

    /// Formats a key, given as the concatenated bytes of its fields, in the same way.
    #[must_use]
    pub fn describe_key_bytes(&self, key: &[u8]) -> String {
        let mut out = String::new();
        let mut at = 0;
        for field in self.key.iter().filter_map(|place| self.fields.get(*place)) {
            let separator = if out.is_empty() { "" } else { ", " };
            let bytes = key.get(at..at + field.size).unwrap_or_default();
            // Writing into a `String` cannot fail.
            let _ = write!(out, "{separator}{} = {}", field.name, describe(&field.kind, bytes));
            at += field.size;
        }
        out
    }

    /// Formats some fields, given as indices into `fields`, in the same way.
    #[must_use]
    pub fn describe_fields(&self, fields: &[usize], row: &[u8]) -> String {
        let mut out = String::new();
        for field in fields.iter().filter_map(|place| self.fields.get(*place)) {
            let separator = if out.is_empty() { "" } else { ", " };
            let bytes = row.get(field.offset..field.offset + field.size).unwrap_or_default();
            // Writing into a `String` cannot fail.
            let _ = write!(out, "{separator}{} = {}", field.name, describe(&field.kind, bytes));
        }
        out
    }
}

/// Formats a value of a field.
pub(crate) fn describe_value(kind: &Kind, bytes: &[u8]) -> String {
    describe(&StoredKind::from(kind), bytes)
}

fn describe(kind: &StoredKind, bytes: &[u8]) -> String {
    match kind {
        StoredKind::Plain(plain) => plain_value(plain.kind(), bytes),
        StoredKind::FixedStr(_) => {
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            format!("{:?}", String::from_utf8_lossy(&bytes[..end]))
        }
        StoredKind::Enum { repr, variants, .. } => {
            let value = plain_value(repr.kind(), bytes);
            let name = variants.iter().find(|(_, number)| number.to_string() == value);
            name.map_or(value, |(name, _)| name.clone())
        }
        StoredKind::Array { of, len } if of.size() > 0 => {
            let parts: Vec<_> = bytes.chunks(of.size()).take(*len).map(|part| describe(of, part)).collect();
            format!("[{}]", parts.join(", "))
        }
        StoredKind::Maybe(of) => match bytes.first() {
            None | Some(0) => "none".to_owned(),
            Some(_) => describe(of, bytes.get(of.align()..).unwrap_or_default()),
        },
        _ => hex(bytes),
    }
}

fn plain_value(kind: Kind, bytes: &[u8]) -> String {
    let mut wide = [0; 16];
    let len = bytes.len().min(16);
    wide[..len].copy_from_slice(&bytes[..len]);
    let unsigned = u128::from_le_bytes(wide);
    let unused = 128 - 8 * len as u32;
    let signed = if len == 0 { 0 } else { (unsigned << unused) as i128 >> unused };
    match kind.integer() {
        _ if kind == Kind::Char => {
            char::from_u32(unsigned as u32).map_or_else(|| hex(bytes), |c| format!("{c:?}"))
        }
        Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 | Kind::U128 => unsigned.to_string(),
        Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 | Kind::I128 => signed.to_string(),
        Kind::F32 => f32::from_bits(unsigned as u32).to_string(),
        Kind::F64 => f64::from_bits(unsigned as u64).to_string(),
        Kind::Bool => (unsigned != 0).to_string(),
        Kind::Timestamp => Timestamp::from_micros(signed as i64).to_string(),
        Kind::Uuid => Uuid::from_bytes(wide).to_string(),
        _ => hex(bytes),
    }
}

/// Formats the bytes of a key: as text if they are text, otherwise in hexadecimal. Long keys are
/// truncated.
#[must_use]
pub fn describe_bytes(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(MOST_SHOWN)];
    let more = if shown.len() < bytes.len() { format!("… ({} bytes)", bytes.len()) } else { String::new() };
    let text = match core::str::from_utf8(shown) {
        Ok(text) => Some(text),
        // The text is cut within a character.
        Err(error) if error.error_len().is_none() && shown.len() < bytes.len() => {
            core::str::from_utf8(&shown[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match text.filter(|text| !text.contains(char::is_control)) {
        Some(text) => format!("{text:?}{more}"),
        None => format!("{}{more}", hex(shown)),
    }
}

/// Maximum number of bytes of a key that a message shows.
const MOST_SHOWN: usize = 64;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
