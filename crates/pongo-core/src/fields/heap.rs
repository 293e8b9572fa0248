//! Bytes of any length, in the heap: what a row holds of them, and how they are read.
//!
//! A [`Text`] or [`Blob`] is 16 bytes: where the contents lie, how many they are, and a hash of them. Any 16 bytes are
//! a value, so that a record with texts needs no check before it is borrowed; the check comes with each read, against the
//! heap's own header, the snapshot's heap length and the hash. A forged or damaged one gives a [`HeapError`].
//!
//! ```text
//!  0        8     12     16
//!  | addr   | len | hash |        empty: all zero
//! ```

use std::hash::{Hash, Hasher};
use std::io;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::fields::maybe::record_cell;
use crate::ids::HeapAddr;
use crate::record::FieldType;
use crate::schema::Kind;

/// The hash that stands beside each address: the low 32 bits of xxh3 (64 bits, seed 0).
///
/// Costs about 4 ns for 64 bytes, 27 GB/s in bulk.
#[must_use]
#[inline]
pub fn content_hash(bytes: &[u8]) -> u32 {
    xxhash_rust::xxh3::xxh3_64(bytes) as u32
}

/// Something that heap bytes can be read from: a snapshot, or a write transaction.
pub trait HeapRead {
    /// The `len` bytes at `addr`, after they were checked: inside the heap as this reader sees it, under a heap header
    /// that says the same, and with this hash.
    ///
    /// # Errors
    /// [`HeapError`], which says which of these does not hold.
    fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError>;
}

/// Why a [`Text`] or [`Blob`] cannot be read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum HeapError {
    /// The bytes would lie outside the heap.
    #[error(
        "{len} bytes at heap address {addr} are expected, but the heap ends at {end} in this snapshot: the text \
         was committed after it, or comes from another store or from a transaction that was not committed, or the row is damaged"
    )]
    Outside {
        /// Where they should begin.
        addr: HeapAddr,
        /// How many they should be.
        len: u32,
        /// Where the heap ends.
        end: HeapAddr,
    },
    /// The heap's own header of these bytes says something else.
    #[error(
        "heap address {addr} is expected to begin {len} bytes with hash {hash:#010x}, but the header there says \
         {found_len} bytes with hash {found_hash:#010x}: the row or the heap is damaged, or the text comes from another store"
    )]
    Header {
        /// Where they should begin.
        addr: HeapAddr,
        /// How many they should be.
        len: u32,
        /// What their hash should be.
        hash: u32,
        /// How many the header says.
        found_len: u32,
        /// What hash the header says.
        found_hash: u32,
    },
    /// The bytes do not have the hash that they were written with.
    #[error(
        "{len} bytes at heap address {addr} are expected to have hash {expected:#010x} and have {found:#010x}: the heap is \
         damaged, restore the store from a copy"
    )]
    Hash {
        /// Where they begin.
        addr: HeapAddr,
        /// How many they are.
        len: u32,
        /// What they were written with.
        expected: u32,
        /// What they have.
        found: u32,
    },
    /// The bytes are no text.
    #[error("{len} bytes at heap address {addr} are expected to be UTF-8: read them as a Blob")]
    NotUtf8 {
        /// Where they begin.
        addr: HeapAddr,
        /// How many they are.
        len: u32,
        /// At which byte.
        source: core::str::Utf8Error,
    },
    /// The heap chunk with the bytes cannot be read.
    #[error("the text or blob at heap address {addr} cannot be read: {source}")]
    Chunk {
        /// Where the bytes begin.
        addr: HeapAddr,
        /// What the system says.
        source: io::Error,
    },
}

macro_rules! heap_field {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name {
            addr: u64,
            len: u32,
            hash: u32,
        }

        impl $name {
            /// No bytes: nothing lies in the heap for it.
            pub const EMPTY: Self = Self { addr: 0, len: 0, hash: 0 };

            /// The bytes that lie at `addr`, with their [`content_hash`]. With `len` 0 it is [`EMPTY`](Self::EMPTY).
            ///
            /// Transactions make these; one that is made up gives a [`HeapError`] when it is read.
            #[must_use]
            #[inline]
            pub const fn new(addr: HeapAddr, len: u32, hash: u32) -> Self {
                if len == 0 { Self::EMPTY } else { Self { addr: addr.0, len, hash } }
            }

            /// Where the bytes lie.
            #[must_use]
            #[inline]
            pub const fn addr(&self) -> HeapAddr {
                HeapAddr(self.addr)
            }

            /// How many bytes they are.
            #[must_use]
            #[inline]
            pub const fn len(&self) -> u32 {
                self.len
            }

            /// Whether there are none.
            #[must_use]
            #[inline]
            pub const fn is_empty(&self) -> bool {
                self.len == 0
            }

            /// Their [`content_hash`].
            #[must_use]
            #[inline]
            pub const fn content_hash(&self) -> u32 {
                self.hash
            }

            /// The bytes, borrowed from `heap`.
            ///
            /// # Errors
            /// [`HeapError`] if they are not there as this field says.
            #[inline]
            pub fn as_bytes<'h, H: HeapRead + ?Sized>(&self, heap: &'h H) -> Result<&'h [u8], HeapError> {
                if self.is_empty() { Ok(&[]) } else { heap.read_heap(self.addr(), self.len, self.hash) }
            }

            /// Returns whether two have the same contents, both borrowed from `heap`.
            ///
            /// Contents are read only where length and [`content_hash`](Self::content_hash) are equal and the place is not.
            ///
            /// # Errors
            /// [`HeapError`] as for [`as_bytes`](Self::as_bytes), if the contents were read.
            pub fn content_eq<H: HeapRead + ?Sized>(&self, other: &Self, heap: &H) -> Result<bool, HeapError> {
                if (self.len, self.hash) != (other.len, other.hash) {
                    return Ok(false);
                }
                Ok(self.addr == other.addr || self.as_bytes(heap)? == other.as_bytes(heap)?)
            }

            /// Compares the contents of two byte by byte, both borrowed from `heap`. Of texts this is the order of `str`.
            ///
            /// # Errors
            /// [`HeapError`] as for [`as_bytes`](Self::as_bytes).
            pub fn content_cmp<H: HeapRead + ?Sized>(
                &self,
                other: &Self,
                heap: &H,
            ) -> Result<core::cmp::Ordering, HeapError> {
                Ok(self.as_bytes(heap)?.cmp(other.as_bytes(heap)?))
            }
        }

        impl FieldType for $name {
            const KIND: Kind = Kind::$name;
            const BLANK: Self = Self::EMPTY;
        }

        record_cell!($name);

        const _: () = assert!(size_of::<$name>() == 16 && align_of::<$name>() == 8);
    };
}

heap_field!(
    /// Text of up to 4 GiB in the heap; 16 bytes in the row.
    ///
    /// There is no `==`, no `Hash` and no order of the field itself: equal texts lie at different places, so its 16 bytes do not say
    /// whether two are equal. What compares or hashes them takes the snapshot (or the transaction) that they are read from:
    /// [`content_eq`](Self::content_eq), [`content_cmp`](Self::content_cmp), [`hash_content`](Self::hash_content), or
    /// [`as_str`](Self::as_str) and the `&str` as a key of a map.
    Text
);

heap_field!(
    /// Up to 4 GiB in the heap; 16 bytes in the row.
    ///
    /// There is no `==`, no `Hash` and no order of the field itself: equal contents lie at different places, so its 16 bytes do not
    /// say whether two are equal. What compares or hashes them takes the snapshot (or the transaction) that they are read from:
    /// [`content_eq`](Self::content_eq), [`content_cmp`](Self::content_cmp), [`hash_content`](Self::hash_content), or
    /// [`as_bytes`](Self::as_bytes) and the `&[u8]` as a key of a map.
    Blob
);

impl Text {
    /// The text, borrowed from `heap`. Checks the UTF-8 at each call.
    ///
    /// # Errors
    /// [`HeapError`] if it is not there as this field says, or is not UTF-8.
    pub fn as_str<'h, H: HeapRead + ?Sized>(&self, heap: &'h H) -> Result<&'h str, HeapError> {
        let bytes = self.as_bytes(heap)?;
        core::str::from_utf8(bytes).map_err(|source| HeapError::NotUtf8 {
            addr: self.addr(),
            len: self.len(),
            source,
        })
    }

    /// Hashes the text as its `&str` is hashed: equal texts have equal hashes, wherever they lie.
    ///
    /// # Errors
    /// As for [`as_str`](Self::as_str).
    pub fn hash_content<H: HeapRead + ?Sized, S: Hasher>(
        &self,
        heap: &H,
        state: &mut S,
    ) -> Result<(), HeapError> {
        self.as_str(heap)?.hash(state);
        Ok(())
    }
}

impl Blob {
    /// Hashes the contents as their `&[u8]` is hashed: equal contents have equal hashes, wherever they lie.
    ///
    /// # Errors
    /// As for [`as_bytes`](Self::as_bytes).
    pub fn hash_content<H: HeapRead + ?Sized, S: Hasher>(
        &self,
        heap: &H,
        state: &mut S,
    ) -> Result<(), HeapError> {
        self.as_bytes(heap)?.hash(state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A heap with nothing but contents.
    struct Plain(Vec<u8>);

    impl HeapRead for Plain {
        fn read_heap(&self, addr: HeapAddr, len: u32, hash: u32) -> Result<&[u8], HeapError> {
            let outside = || HeapError::Outside { addr, len, end: HeapAddr(self.0.len() as u64) };
            let start = usize::try_from(addr.0).map_err(|_| outside())?;
            let end = start.checked_add(len as usize).ok_or_else(outside)?;
            let bytes = self.0.get(start..end).ok_or_else(outside)?;
            match content_hash(bytes) {
                found if found == hash => Ok(bytes),
                found => Err(HeapError::Hash { addr, len, expected: hash, found }),
            }
        }
    }

    #[test]
    fn reads_what_was_written_and_nothing_else() {
        let heap = Plain(b"xxN101UA\xff".to_vec());
        let tail = Text::new(HeapAddr(2), 6, content_hash(b"N101UA"));
        assert_eq!(tail.as_str(&heap).unwrap(), "N101UA");
        assert_eq!(Text::EMPTY.as_str(&heap).unwrap(), "");
        assert_eq!(IntoBytes::as_bytes(&Text::new(HeapAddr(5), 0, 9)), IntoBytes::as_bytes(&Text::EMPTY));

        let not_text = Text::new(HeapAddr(7), 2, content_hash(b"A\xff"));
        assert!(matches!(not_text.as_str(&heap), Err(HeapError::NotUtf8 { .. })));
        assert_eq!(Blob::new(HeapAddr(7), 2, content_hash(b"A\xff")).as_bytes(&heap).unwrap(), b"A\xff");

        let forged = Text::read_from_bytes(&[0xff; 16]).unwrap();
        assert!(matches!(forged.as_str(&heap), Err(HeapError::Outside { .. })));
        let other = Text::new(HeapAddr(2), 6, 1);
        let error = other.as_str(&heap).unwrap_err();
        assert!(error.to_string().contains("6 bytes at heap address 2 are expected to have hash 0x00000001"));
    }

    #[test]
    fn contents_are_compared_and_not_places() {
        use std::cmp::Ordering::{Equal, Greater, Less};
        use std::hash::{BuildHasher, RandomState};

        let heap = Plain(b"catcatdog".to_vec());
        let text = |at: u64, what: &[u8]| Text::new(HeapAddr(at), what.len() as u32, content_hash(what));
        let (cat, other_cat, dog) = (text(0, b"cat"), text(3, b"cat"), text(6, b"dog"));
        assert!(cat.content_eq(&other_cat, &heap).unwrap() && cat.content_eq(&cat, &heap).unwrap());
        assert!(!cat.content_eq(&dog, &heap).unwrap() && !cat.content_eq(&text(0, b"ca"), &heap).unwrap());
        let empty = Text::EMPTY;
        assert!(empty.content_eq(&empty, &heap).unwrap() && !empty.content_eq(&cat, &heap).unwrap());
        let order = |a: &Text, b: &Text| a.content_cmp(b, &heap).unwrap();
        assert_eq!([order(&cat, &dog), order(&dog, &cat), order(&other_cat, &cat)], [Less, Greater, Equal]);
        assert_eq!(order(&empty, &cat), Less);

        let keys = RandomState::new();
        let hash = |text: &Text| {
            let mut state = keys.build_hasher();
            text.hash_content(&heap, &mut state).unwrap();
            state.finish()
        };
        assert_eq!(hash(&cat), hash(&other_cat));
        assert_eq!(hash(&cat), keys.hash_one("cat"));
        let blob = Blob::new(HeapAddr(3), 3, content_hash(b"cat"));
        let mut state = keys.build_hasher();
        blob.hash_content(&heap, &mut state).unwrap();
        assert_eq!(state.finish(), keys.hash_one(&b"cat"[..]));

        // Equal hashes and lengths do not say that the contents are equal: these are read, and found damaged.
        let forged = Text::new(HeapAddr(6), 3, content_hash(b"cat"));
        assert!(cat.content_eq(&forged, &heap).is_err() && cat.content_cmp(&forged, &heap).is_err());
        assert!(forged.hash_content(&heap, &mut keys.build_hasher()).is_err());
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        assert_eq!(content_hash(b""), 0x38d3_94c2);
    }
}
