//! Newtypes for every number that could be mistaken for another.

use core::fmt;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one. Behind the highest there is none: it is that again, as what a damaged file says may be.
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
    /// One version of one record: rows of a table count from 0 and a number is never used twice.
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
    /// A byte position in the journal, counted over all segments since the store was made.
    JournalPos
);
number!(
    /// The number of a store's recovery generation.
    Salt
);

/// A table's number inside one store, in the order in which tables were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct TableId(pub u32);

/// Where a row lies: which chunk file, and at which byte behind that file's header.
///
/// A [`RowId`] and a `Location` convert both ways, see `pongo::Rows::locate`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location {
    /// The chunk in which the row's first byte lies.
    pub chunk: ChunkId,
    /// Bytes from the first row byte of that chunk.
    pub offset: u64,
}
