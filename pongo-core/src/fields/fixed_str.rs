//! Short text that is stored in the row itself.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::fields::maybe::{Bytewise, Optional, Tag1};
use crate::record::{FieldType, KeyField};
use crate::schema::Kind;
use crate::unpadded::Unpadded;

/// UTF-8 of at most `N` bytes, padded with zeros.
///
/// Compares, orders and hashes by its bytes, which is the order of the text. Any bytes are a valid
/// value: bytes that this type did not write are read as the longest valid text at their start.
///
/// ```
/// use pongo::FixedStr;
///
/// let carrier: FixedStr<2> = "UA".try_into()?;
/// assert_eq!(carrier, *"UA");
/// assert!(FixedStr::<2>::try_from("UAL").is_err());
/// # Ok::<(), pongo::FixedStrError>(())
/// ```
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct FixedStr<const N: usize>([u8; N]);

/// An error while converting a text to a [`FixedStr`]. Names the text, and the column if
/// [`Column::text`](crate::column::Column::text) created the value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FixedStrError {
    /// The text is too long.
    #[error(
        "the text {text:?} ({len} bytes) does not fit into {}: shorten it, take a larger N, or keep it as \
         Text",
        place(.column, .capacity)
    )]
    TooLong {
        /// The text, or its beginning and `…`.
        text: String,
        /// The length of the text in bytes.
        len: usize,
        /// The capacity in bytes.
        capacity: usize,
        /// The column for which it was meant, if known.
        column: Option<&'static str>,
    },
    /// The text contains a zero byte, which is reserved for padding.
    #[error(
        "byte {at} of the text {text:?} is zero, and zeros fill the end of {}: remove it, or keep the text \
         as Text",
        place(.column, .capacity)
    )]
    ZeroByte {
        /// The text, or its beginning and `…`.
        text: String,
        /// The position of the zero byte.
        at: usize,
        /// The capacity in bytes.
        capacity: usize,
        /// The column for which it was meant, if known.
        column: Option<&'static str>,
    },
}

fn place(column: &Option<&'static str>, capacity: &usize) -> String {
    match column {
        Some(column) => format!("column `{column}`, a FixedStr<{capacity}>"),
        None => format!("a FixedStr<{capacity}>"),
    }
}

/// Maximum number of characters of a text that an error quotes.
const QUOTED: usize = 40;

/// Returns a text as an error quotes it.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl FixedStrError {
    /// Adds the column for which the text was meant.
    #[must_use]
    pub(crate) fn of_column(mut self, name: &'static str) -> Self {
        match &mut self {
            Self::TooLong { column, .. } | Self::ZeroByte { column, .. } => *column = Some(name),
        }
        self
    }
}

impl<const N: usize> FixedStr<N> {
    /// The empty text.
    pub const EMPTY: Self = Self([0; N]);

    /// Creates a value of fixed size from a text.
    ///
    /// # Errors
    /// [`FixedStrError`] if it has more than `N` bytes or a zero byte.
    pub fn new(text: &str) -> Result<Self, FixedStrError> {
        let mut bytes = [0; N];
        let Some(target) = bytes.get_mut(..text.len()) else {
            let (len, text) = (text.len(), quoted(text));
            return Err(FixedStrError::TooLong { text, len, capacity: N, column: None });
        };
        target.copy_from_slice(text.as_bytes());
        match text.bytes().position(|byte| byte == 0) {
            Some(at) => Err(FixedStrError::ZeroByte { text: quoted(text), at, capacity: N, column: None }),
            None => Ok(Self(bytes)),
        }
    }

    /// Returns the text: everything before the first zero byte, or before the first byte that is
    /// not UTF-8.
    ///
    /// Validates the bytes at each call, at most `N` of them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        let (text, _) = self.0.split_at(len);
        text.utf8_chunks().next().map_or("", |chunk| chunk.valid())
    }

    /// Returns all `N` bytes, including the zeros.
    #[must_use]
    #[inline]
    pub const fn as_padded_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// Returns whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl<const N: usize> Default for FixedStr<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> TryFrom<&str> for FixedStr<N> {
    type Error = FixedStrError;

    fn try_from(text: &str) -> Result<Self, FixedStrError> {
        Self::new(text)
    }
}

impl<const N: usize> FromStr for FixedStr<N> {
    type Err = FixedStrError;

    fn from_str(text: &str) -> Result<Self, FixedStrError> {
        Self::new(text)
    }
}

impl<const N: usize> PartialEq for FixedStr<N> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<const N: usize> Eq for FixedStr<N> {}

impl<const N: usize> PartialOrd for FixedStr<N> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for FixedStr<N> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<const N: usize> Hash for FixedStr<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<const N: usize> PartialEq<str> for FixedStr<N> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl<const N: usize> PartialEq<&str> for FixedStr<N> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl<const N: usize> PartialEq<FixedStr<N>> for str {
    fn eq(&self, other: &FixedStr<N>) -> bool {
        self == other.as_str()
    }
}

impl<const N: usize> PartialEq<FixedStr<N>> for &str {
    fn eq(&self, other: &FixedStr<N>) -> bool {
        *self == other.as_str()
    }
}

impl<const N: usize> AsRef<str> for FixedStr<N> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> fmt::Display for FixedStr<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Debug for FixedStr<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> FieldType for FixedStr<N> {
    const KIND: Kind = Kind::FixedStr(N);
    const ABSENT_VALUE: Self = Self::EMPTY;
    const UNPADDED: Option<Unpadded<Self>> = Some(Unpadded::of_into_bytes());
}

impl<const N: usize> KeyField for FixedStr<N> {}

impl<const N: usize> Optional for FixedStr<N> {
    type Cell = Bytewise<Self>;
    type ArrayCell<const M: usize> = Bytewise<[Self; M]>;
    type Tag = Tag1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_fits() {
        for text in ["", "a", "abcd", "äö", "日"] {
            let fixed = FixedStr::<4>::new(text).unwrap();
            assert_eq!(fixed, text);
            assert_eq!(text, fixed);
            assert_eq!(fixed.to_string(), text);
            assert_eq!(format!("{fixed:?}"), format!("{text:?}"));
            assert_eq!(fixed.is_empty(), text.is_empty());
        }
        let too_long = FixedStrError::TooLong { text: "abcde".into(), len: 5, capacity: 4, column: None };
        assert_eq!(FixedStr::<4>::new("abcde"), Err(too_long));
        let zero = FixedStrError::ZeroByte { text: "ab\0".into(), at: 2, capacity: 4, column: None };
        assert_eq!(FixedStr::<4>::new("ab\0"), Err(zero));
    }

    #[test]
    fn errors_quote_the_text() {
        let said = |text: &str| FixedStr::<2>::new(text).unwrap_err().to_string();
        assert_eq!(
            said("UAL"),
            "the text \"UAL\" (3 bytes) does not fit into a FixedStr<2>: shorten it, take a larger N, or \
             keep it as Text"
        );
        assert!(
            said("a\0")
                .starts_with("byte 1 of the text \"a\\0\" is zero, and zeros fill the end of a FixedStr<2>")
        );
        let long = said(&"日".repeat(90));
        assert!(long.starts_with(&format!("the text \"{}…\" (270 bytes)", "日".repeat(40))), "{long}");
    }

    #[test]
    fn any_bytes_read_as_some_text() {
        for (bytes, text) in [
            ([0xff, b'a', b'b', b'c'], ""),
            ([b'a', 0xff, b'b', b'c'], "a"),
            ([b'a', 0, b'b', 0xff], "a"),
            ([b'a', b'b', b'c', 0xe6], "abc"),
            ([0xe6, 0x97, 0xa5, 0xe6], "日"),
        ] {
            let fixed = FixedStr::<4>::read_from_bytes(&bytes).unwrap();
            assert_eq!(fixed.as_str(), text);
        }
        for word in 0..=u16::MAX {
            let fixed = FixedStr::<2>::read_from_bytes(&word.to_le_bytes()).unwrap();
            assert!(fixed.as_str().len() <= 2);
        }
    }

    #[test]
    fn orders_as_its_text() {
        let mut texts = ["b", "", "ab", "a", "ä", "abc"];
        let mut fixed = texts.map(|text| FixedStr::<3>::new(text).unwrap());
        texts.sort_unstable();
        fixed.sort_unstable();
        assert!(fixed.iter().zip(texts).all(|(fixed, text)| *fixed == text));
    }
}
