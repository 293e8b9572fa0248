//! Validation of a row's bytes against the schema file, for programs that read a store without its
//! types.

use super::kind::{StoredKind, placed};
use super::{Kind, StoredSchema};

impl StoredSchema {
    /// Returns a description of the first invalid field of a row, which names the field: a `bool`
    /// that is neither 0 nor 1, a `char` that is no Unicode scalar value, a `NonZero` that is 0, an
    /// enum's number that no variant has, or an invalid tag of a [`Maybe`](crate::fields::Maybe).
    /// Does not read the contents of `Text` and `Blob`.
    #[must_use]
    pub fn invalid_field(&self, row: &[u8]) -> Option<String> {
        self.fields.iter().find_map(|field| {
            let bytes = row.get(field.offset..field.offset + field.size)?;
            let what = invalid(&field.kind, bytes)?;
            Some(format!("field {} of type {}: {what}", field.name, field.kind))
        })
    }

    /// Returns whether every byte pattern is a valid row.
    #[must_use]
    pub fn takes_all_bytes(&self) -> bool {
        self.fields.iter().all(|field| takes_all(&field.kind))
    }
}

fn takes_all(kind: &StoredKind) -> bool {
    match kind {
        StoredKind::Plain(plain) => {
            let kind = plain.kind();
            !matches!(kind, Kind::Bool | Kind::Char) && !kind.is_non_zero()
        }
        StoredKind::Enum { .. } | StoredKind::Maybe(_) => false,
        StoredKind::FixedStr(_) => true,
        StoredKind::Array { of, .. } => takes_all(of),
        StoredKind::Record { fields, .. } => fields.iter().all(|(_, kind)| takes_all(kind)),
    }
}

fn invalid(kind: &StoredKind, bytes: &[u8]) -> Option<String> {
    match kind {
        _ if takes_all(kind) => None,
        StoredKind::Plain(plain) => invalid_plain(plain.kind(), bytes),
        StoredKind::Enum { repr, variants, .. } => {
            let mut wide = [0; 16];
            wide[..bytes.len().min(16)].copy_from_slice(&bytes[..bytes.len().min(16)]);
            let unused = 128 - 8 * bytes.len().min(16) as u32;
            let unsigned = u128::from_le_bytes(wide);
            let signed = matches!(repr.kind(), Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 | Kind::I128);
            let value = if signed { (unsigned << unused) as i128 >> unused } else { unsigned as i128 };
            let known = variants.iter().any(|(_, number)| *number == value);
            (!known).then(|| format!("expected the number of a variant, found {value}"))
        }
        StoredKind::Maybe(of) => {
            let (tag, value) = bytes.split_at_checked(of.align())?;
            if tag[0] > 1 || tag[1..].iter().any(|&byte| byte != 0) {
                return Some(format!("expected a tag of 0 or 1, found {tag:x?}"));
            }
            if tag[0] == 0 && takes_zeros_if_absent(of) { None } else { invalid(of, value) }
        }
        StoredKind::Array { of, .. } => {
            bytes.chunks_exact(of.size().max(1)).find_map(|element| invalid(of, element))
        }
        StoredKind::Record { fields, .. } => placed(fields).find_map(|(name, at, kind)| {
            let part = bytes.get(at..at + kind.size())?;
            invalid(kind, part).map(|what| format!("{name}: {what}"))
        }),
        StoredKind::FixedStr(_) => None,
    }
}

/// Returns whether the place of an absent value takes any bytes, although the value does not.
fn takes_zeros_if_absent(kind: &StoredKind) -> bool {
    match kind {
        StoredKind::Plain(plain) => plain.kind().is_non_zero(),
        StoredKind::Array { of, .. } => {
            matches!(&**of, StoredKind::Plain(plain) if plain.kind().is_non_zero())
        }
        _ => false,
    }
}

fn invalid_plain(kind: Kind, bytes: &[u8]) -> Option<String> {
    match kind {
        Kind::Bool => {
            let byte = *bytes.first()?;
            (byte > 1).then(|| format!("expected 0 or 1, found {byte}"))
        }
        Kind::Char => {
            let value = u32::from_le_bytes(bytes.try_into().ok()?);
            let invalid = char::from_u32(value).is_none();
            invalid.then(|| format!("expected a Unicode scalar value, found {value:#x}"))
        }
        _ => bytes.iter().all(|byte| *byte == 0).then(|| "expected another number than 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_values_are_found_by_kind() {
        let variants: &[(&str, i128)] = &[("A", -1), ("B", 3)];
        let of = |kind: &Kind, bytes: &[u8]| invalid(&StoredKind::from(kind), bytes);
        assert_eq!(of(&Kind::Bool, &[1]), None);
        assert!(of(&Kind::Bool, &[2]).is_some());
        let repr = Kind::Enum { name: "E", repr: &Kind::I16, variants };
        assert_eq!(of(&repr, &[0xff, 0xff]), None);
        assert!(of(&repr, &[0xff, 0]).is_some());
        let maybe = Kind::Maybe(&Kind::U16);
        assert_eq!(of(&maybe, &[1, 0, 7, 7]), None);
        assert!(of(&maybe, &[1, 1, 7, 7]).is_some() && of(&maybe, &[2, 0, 0, 0]).is_some());
        assert!(of(&Kind::Array { of: &Kind::Bool, len: 3 }, &[0, 1, 4]).is_some());
        assert_eq!(of(&Kind::F64, &[0xff; 8]), None);
        assert_eq!(of(&Kind::Char, &0x10_ffff_u32.to_le_bytes()), None);
        for value in [0xd800_u32, 0xdfff, 0x11_0000] {
            assert!(of(&Kind::Char, &value.to_le_bytes()).is_some(), "{value:#x}");
        }
        assert_eq!(of(&Kind::NonZeroI16, &[0, 1]), None);
        assert!(of(&Kind::NonZeroI16, &[0, 0]).is_some());
        let maybe = Kind::Maybe(&Kind::NonZeroU16);
        assert_eq!((of(&maybe, &[0; 4]), of(&maybe, &[1, 0, 0, 7])), (None, None));
        assert!(of(&maybe, &[1, 0, 0, 0]).is_some(), "a value that is present and 0");
        let maybe = Kind::Maybe(&Kind::Array { of: &Kind::NonZeroU8, len: 2 });
        assert_eq!((of(&maybe, &[0; 3]), of(&maybe, &[1, 1, 2])), (None, None));
        assert!(of(&maybe, &[1, 1, 0]).is_some());
        let padded = StoredKind::parse("record R {a: u8, b: u16, c: bool}").expect("a type");
        assert_eq!(invalid(&padded, &[7, 0xaa, 7, 7, 1, 0xaa]), None, "padding is ignored");
        assert!(invalid(&padded, &[7, 0xaa, 7, 7, 2, 0xaa]).is_some());
    }
}
