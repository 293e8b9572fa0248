//! Newtypes for every number that could be mistaken for another.

use core::fmt;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Returns the number after this one. Saturates at the maximum, which can occur in a
            /// damaged file.
            #[must_use]
            #[inline]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// The number of one version of one record. The rows of a table are counted from 0, and a
    /// number is never reused.
    RowId
);
number!(
    /// The number of a commit. The empty store is at `Seq(0)`; the first commit is `Seq(1)`.
    Seq
);
number!(
    /// A chunk file of a table or of the heap, counted from 0 in the order of its byte space.
    ChunkId
);
number!(
    /// A byte position in the heap's byte space.
    HeapAddr
);
number!(
    /// A byte position in the journal, counted over all segments since the store was created.
    JournalPos
);
number!(
    /// The number of a store's recovery generation.
    Salt
);

/// The number of a table within a store, in the order of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct TableId(pub u32);

/// The position of a row: its chunk file, and the offset after that file's header.
///
/// A [`RowId`] and a `Location` can be converted to each other, see `pongo::Rows::locate`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location {
    /// The chunk that holds the row's first byte.
    pub chunk: ChunkId,
    /// Offset in bytes from the first row byte of that chunk.
    pub offset: u64,
}
