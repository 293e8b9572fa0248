//! Serialization and deserialization of the field types with `serde`, with the feature `serde`. Use
//! `#[derive(Serialize, Deserialize)]` on a record.
//!
//! | type | human-readable formats (JSON) | other formats |
//! | --- | --- | --- |
//! | [`FixedStr`], [`Text`] | a string | a string |
//! | [`Blob`] | bytes (JSON: a list of numbers) | bytes |
//! | [`Uuid`] | a string with hyphens | 16 bytes |
//! | [`Timestamp`] | a string as in RFC 3339 | an `i64`: microseconds since 1970 |
//! | [`Maybe`] | an `Option` | an `Option` |
//!
//! [`Text`] and [`Blob`] hold the address of their contents. To serialize them, call the serializer
//! within [`reading`], which says where the contents are read; to deserialize them, call the
//! deserializer within [`writing`], which says where they are written. Outside of these they return
//! an error; empty ones need neither.

use core::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{self, Serialize, Serializer};

use crate::fields::maybe::Optional;
use crate::fields::{Blob, FixedStr, Maybe, Text, Timestamp, Uuid};
pub use crate::lent_heap::{HeapWrite, reading, writing};
use crate::lent_heap::{lent_reader, lent_writer};

const NO_READER: &str = "the contents of a Text or Blob are in the store: call the serializer within \
                         pongo::serde::reading(&snapshot, || …)";
const NO_WRITER: &str = "the contents of a Text or Blob are written to the store: call the deserializer \
                         within pongo::serde::writing(&transaction, || …)";

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() {
            return serializer.serialize_str("");
        }
        lent_reader(|heap| serializer.serialize_str(self.as_str(heap).map_err(ser::Error::custom)?))
            .unwrap_or_else(|| Err(ser::Error::custom(NO_READER)))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() {
            return serializer.serialize_bytes(&[]);
        }
        lent_reader(|heap| serializer.serialize_bytes(self.as_bytes(heap).map_err(ser::Error::custom)?))
            .unwrap_or_else(|| Err(ser::Error::custom(NO_READER)))
    }
}

/// Stages bytes in the transaction of the innermost [`writing`].
fn stage<E: de::Error>(bytes: &[u8]) -> Result<Blob, E> {
    if bytes.is_empty() {
        return Ok(Blob::EMPTY);
    }
    match lent_writer(|heap| heap.write_heap(bytes)) {
        Some(blob) => blob.map_err(E::custom),
        None => Err(E::custom(NO_WRITER)),
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Contents;
        impl Visitor<'_> for Contents {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                let blob = stage(text.as_bytes())?;
                Ok(Text::new(blob.addr(), blob.len(), blob.content_hash()))
            }
        }
        deserializer.deserialize_str(Contents)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Contents;
        impl<'de> Visitor<'de> for Contents {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                stage(bytes)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
                stage(text.as_bytes())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Blob, A::Error> {
                // The hint comes from the input: no more than a page is reserved for it.
                let mut bytes = Vec::with_capacity(items.size_hint().unwrap_or(0).min(4096));
                while let Some(byte) = items.next_element()? {
                    bytes.push(byte);
                }
                stage(&bytes)
            }
        }
        deserializer.deserialize_bytes(Contents)
    }
}

impl<const N: usize> Serialize for FixedStr<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const N: usize> Deserialize<'de> for FixedStr<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Contents<const N: usize>;
        impl<const N: usize> Visitor<'_> for Contents<N> {
            type Value = FixedStr<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string of at most {N} bytes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<FixedStr<N>, E> {
                FixedStr::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Contents)
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        uuid::Uuid::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        uuid::Uuid::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_i64(self.micros())
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rfc3339;
        impl Visitor<'_> for Rfc3339 {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as in RFC 3339")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Rfc3339)
        } else {
            i64::deserialize(deserializer).map(Self::from_micros)
        }
    }
}

impl<T: Optional + Serialize> Serialize for Maybe<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, T: Optional + Deserialize<'de>> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(Self::from)
    }
}
