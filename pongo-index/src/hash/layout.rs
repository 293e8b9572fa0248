//! The numbers of the format: the meaning of each word, the use of each bit of a hash, and the file
//! that holds a segment. `docs/design/hash-index.md` has the diagrams.
//!
//! Every function computes on values that may be corrupt. None of them panics: a value out of range
//! becomes `None` or is masked.

use pongo_core::ids::RowId;

use super::Candidate;

/// Words in a line, the unit that a look-up reads.
pub(super) const LINE: usize = 8;
/// Words in a segment: 32 KiB. Under Loom a segment has only two lines of entries, because the
/// model tracks each word (`docs/design/testing.md`).
pub(super) const SEGMENT_WORDS: usize = if cfg!(loom) { 24 } else { 4096 };
/// Lines of entries in a segment. The header line precedes them.
pub(super) const LINES: usize = SEGMENT_WORDS / LINE - 1;
/// Number of entries that fit in a segment.
pub(super) const CAPACITY: usize = LINES * LINE;
/// Fill limit of a segment: one that would exceed it splits, if it can. At 7/8, a miss still reads
/// 1.2 lines on average.
pub(super) const SPLIT_AT: usize = CAPACITY / 8 * 7;
/// Average fill of a presized segment, at most. The margin keeps random variation from filling many
/// segments beyond [`SPLIT_AT`].
pub(super) const PRESIZED: u64 = SPLIT_AT as u64 - if cfg!(loom) { 0 } else { 300 };

/// The smallest top has this number of bits: one page.
pub(super) const MIN_TOP_BITS: u32 = if cfg!(loom) { 1 } else { 9 };
/// The largest top has this number of bits.
pub(super) const MAX_TOP_BITS: u32 = 30;
/// Maximum number of piece files in one epoch.
pub(super) const MAX_PIECES: usize = 50;

/// Offsets of the words in the file `head`.
pub(super) mod head_word {
    /// `"PONGOHSH"`.
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 1;
    /// The lower half of the store's uuid. The next word is the upper half.
    pub(crate) const STORE_LOW: usize = 2;
    /// The lower half of the table's fingerprint. The next word is the upper half.
    pub(crate) const TABLE_LOW: usize = 4;
    /// Words, capacity and line length of a segment, so that a build with other values rejects the
    /// file.
    pub(crate) const SHAPE: usize = 6;
    /// xxh3 of the seven words before it.
    pub(crate) const CHECK: usize = 7;
    /// The only used word of its line, because every look-up reads it.
    pub(crate) const ROOT: usize = 8;
    /// The newest commit that the index may contain changes of, followed by the number of rows that
    /// the table had at this commit.
    pub(crate) const SEEN: usize = 16;
    /// Two accounts. The root selects one of them.
    pub(crate) const ACCOUNTS: usize = 64;
    pub(crate) const ACCOUNT_WORDS: usize = 64;
    /// Words in the file.
    pub(crate) const LEN: usize = 512;
}

/// Offsets of the words of an account: the state that the writer keeps for an epoch.
pub(super) mod account_word {
    pub(crate) const EPOCH: usize = 0;
    /// Number of allocated piece files.
    pub(crate) const PIECES: usize = 1;
    /// Number of segments ever allocated. All segments with lower numbers are in use or free.
    pub(crate) const ALLOCATED: usize = 2;
    /// The first free segment, plus one.
    pub(crate) const FREE: usize = 3;
    pub(crate) const FREE_COUNT: usize = 4;
    /// The highest generation that a top entry may carry.
    pub(crate) const GENERATION: usize = 5;
    /// The segment whose replacements are being published, plus one.
    pub(crate) const INTENT: usize = 6;
}

/// Offsets of the words in a segment's header line.
pub(super) mod segment_word {
    /// Magic, kind and local depth.
    pub(crate) const KIND: usize = 0;
    /// The hash bits that all entries share, at the upper end of the word.
    pub(crate) const PREFIX: usize = 1;
    /// Number of slots that are not empty. It may be too high, but never too low.
    pub(crate) const USED: usize = 2;
    /// The next segment of an overflow chain, plus one. Readers read this word and the next one.
    pub(crate) const NEXT: usize = 3;
    /// Position in the chain, counting down to 1; 0 in a base segment.
    pub(crate) const POSITION: usize = 4;
    /// After a split that could not separate the keys, the next attempt is made when this number of
    /// slots is used.
    pub(crate) const RETRY_AT: usize = 5;
    /// The next free segment, plus one.
    pub(crate) const FREE_NEXT: usize = 6;
    /// The segment's own number.
    pub(crate) const NUMBER: usize = 7;
}

/// The use of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SegmentKind {
    /// The top refers to the segment.
    Base {
        /// Number of hash bits that its keys share.
        depth: u32,
    },
    /// A base segment, or another overflow segment, refers to it.
    Overflow,
    /// The segment is on the free list.
    Free,
}

const KIND_MAGIC: u64 = 0x504F_4E47_5345_0000;

impl SegmentKind {
    pub(super) const fn to_word(self) -> u64 {
        KIND_MAGIC
            | match self {
                SegmentKind::Base { depth } => 0x100 | depth as u64,
                SegmentKind::Overflow => 0x200,
                SegmentKind::Free => 0x300,
            }
    }

    pub(super) fn from_word(word: u64) -> Option<SegmentKind> {
        let low = word & 0xFFFF;
        match word & !0xFFFF {
            KIND_MAGIC => match (low >> 8, (low & 0xFF) as u32) {
                (1, depth @ 0..=MAX_TOP_BITS) => Some(SegmentKind::Base { depth }),
                (2, 0) => Some(SegmentKind::Overflow),
                (3, 0) => Some(SegmentKind::Free),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Encoding of a slot of a segment.
///
/// ```text
/// 63            48 47   46                              0
/// +---------------+----+--------------------------------+
/// | 16 bits of    |deleted| RowId + 1; 0 names no row      |
/// | the hash      |    |                                |
/// +---------------+----+--------------------------------+
/// ```
/// A slot of zeros is empty. A slot with the dead bit (a deletion mark) and no row held an entry
/// that was removed.
pub(super) mod entry {
    use super::*;

    pub(crate) const EMPTY: u64 = 0;
    pub(crate) const DELETED: u64 = 1 << 47;
    pub(crate) const REMOVED: u64 = DELETED;
    const ROW: u64 = DELETED - 1;
    /// The largest row that an entry can store.
    pub(crate) const MAX_ROW: RowId = RowId(ROW - 1);

    /// Returns the tag of a hash, at its position in the entry.
    #[inline]
    pub(crate) const fn tag(hash: u64) -> u64 {
        hash << 48
    }

    #[inline]
    pub(crate) const fn has_tag(word: u64, tag: u64) -> bool {
        (word ^ tag) >> 48 == 0
    }

    /// Encodes an entry. `row` must not exceed [`MAX_ROW`].
    #[inline]
    pub(crate) const fn pack(hash: u64, row: RowId, deleted: bool) -> u64 {
        tag(hash) | (deleted as u64) << 47 | ((row.0 + 1) & ROW)
    }

    /// Returns whether a new entry may use the slot.
    #[inline]
    pub(crate) const fn is_vacant(word: u64) -> bool {
        word & ROW == 0
    }

    #[inline]
    pub(crate) const fn candidate(word: u64) -> Option<Candidate> {
        match word & ROW {
            0 => None,
            row => Some(Candidate { row: RowId(row - 1), deleted: word & DELETED != 0 }),
        }
    }
}

/// Returns the line at which the probe for a hash starts. It uses other bits than the tag and, up
/// to a depth of 32, than the top.
#[inline]
pub(super) const fn home(hash: u64) -> usize {
    (((hash >> 16) & 0xFFFF) as usize * LINES) >> 16
}

/// Returns the index of a hash in a top of `bits` bits, 1 to 64.
#[inline]
pub(super) const fn top_index(hash: u64, bits: u32) -> usize {
    (hash >> (64 - bits)) as usize
}

/// Returns the highest hash that starts with the `depth` bits of `prefix`.
pub(super) const fn last_hash(prefix: u64, depth: u32) -> u64 {
    match u64::MAX.checked_shr(depth) {
        Some(below) => prefix | below,
        None => prefix,
    }
}

/// One word of the top: a segment number and a generation. Every change of top entries in an epoch
/// uses a new generation, so an entry never returns to an earlier value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TopEntry(pub(super) u64);

impl TopEntry {
    const SEGMENT_BITS: u32 = 26;
    /// The largest generation.
    pub(super) const MAX_GENERATION: u64 = u64::MAX >> Self::SEGMENT_BITS;

    pub(super) const fn new(segment: u32, generation: u64) -> TopEntry {
        TopEntry(generation << Self::SEGMENT_BITS | segment as u64)
    }

    #[inline]
    pub(super) const fn segment(self) -> u32 {
        self.0 as u32 & ((1 << Self::SEGMENT_BITS) - 1)
    }

    #[inline]
    pub(super) const fn generation(self) -> u64 {
        self.0 >> Self::SEGMENT_BITS
    }
}

/// The root word: the epoch of the files in use, the account in `head`, and the number of bits of
/// the top.
///
/// ```text
/// 63                     32 31         9    8    7        0
/// +------------------------+------------+-------+---------+
/// | epoch, from 1          | zero       |account| top bits|
/// +------------------------+------------+-------+---------+
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HashRoot {
    pub(super) epoch: u32,
    pub(super) account: usize,
    pub(super) bits: u32,
}

impl HashRoot {
    pub(super) const fn to_word(self) -> u64 {
        (self.epoch as u64) << 32 | (self.account as u64 & 1) << 8 | self.bits as u64
    }

    /// Returns the number of top bits in a valid root word.
    #[inline]
    pub(super) const fn bits_of(word: u64) -> u32 {
        word as u32 & 0xFF
    }

    #[inline]
    pub(super) const fn from_word(word: u64) -> Option<HashRoot> {
        let root = HashRoot {
            epoch: (word >> 32) as u32,
            account: (word >> 8) as usize & 1,
            bits: word as u32 & 0xFF,
        };
        let sane = word & 0xFFFF_FE00 == 0
            && root.epoch > 0
            && MIN_TOP_BITS <= root.bits
            && root.bits <= MAX_TOP_BITS;
        if sane { Some(root) } else { None }
    }
}

/// Returns the piece that holds a segment, and the segment's index in this piece.
///
/// Pieces hold 1, 1, 2, 2, 4, 4, 8, 8 … segments. The number of files stays small, and at most half
/// of the space is unused.
#[inline]
pub(super) const fn place(segment: u32) -> (usize, usize) {
    let shifted = segment as u64 + 2;
    let size_bits = shifted.ilog2() - 1;
    let piece = 2 * size_bits as usize + (shifted >> size_bits & 1) as usize;
    (piece, (shifted & ((1 << size_bits) - 1)) as usize)
}

/// Returns the number of segments in piece `piece`.
pub(super) const fn piece_segments(piece: usize) -> u64 {
    1 << (piece / 2)
}

/// Returns the number of segments in the first `pieces` pieces.
pub(super) const fn capacity(pieces: usize) -> u64 {
    let half = pieces / 2;
    2 * ((1_u64 << half) - 1) + (pieces as u64 & 1) * (1 << half)
}

/// Returns the maximum depth of a segment in an index with this number of segments. The limit keeps
/// the top to at most 1/64 of the size of the segments, whatever the hashes are.
pub(super) fn max_depth(segments: u64) -> u32 {
    (segments.max(1).ilog2() + 6).clamp(MIN_TOP_BITS, MAX_TOP_BITS)
}

const _: () = assert!(capacity(MAX_PIECES) < 1 << TopEntry::SEGMENT_BITS);
const _: () = assert!(head_word::ACCOUNTS + 2 * head_word::ACCOUNT_WORDS <= head_word::LEN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fill_the_pieces_without_gap() {
        let mut expected = (0, 0);
        for segment in 0..100_000 {
            assert_eq!(place(segment), expected);
            assert!(
                u64::from(segment) < capacity(expected.0 + 1) && capacity(expected.0) <= u64::from(segment)
            );
            expected.1 += 1;
            if expected.1 as u64 == piece_segments(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        assert_eq!(place(capacity(MAX_PIECES) as u32 - 1).0, MAX_PIECES - 1);
        // A number beyond the last piece still maps to a piece, the one after the last.
        assert_eq!(place(TopEntry(u64::MAX).segment()).0, MAX_PIECES);
    }

    #[test]
    fn entries_keep_row_and_tag() {
        for row in [RowId(0), RowId(1), RowId(77), entry::MAX_ROW] {
            for deleted in [false, true] {
                let word = entry::pack(0xABCD, row, deleted);
                assert_eq!(entry::candidate(word), Some(Candidate { row, deleted }));
                assert!(entry::has_tag(word, entry::tag(0x1_ABCD)));
                assert!(!entry::has_tag(word, entry::tag(0xABCC)));
                assert!(!entry::is_vacant(word));
            }
        }
        assert_eq!(entry::candidate(entry::REMOVED), None);
        assert!(entry::is_vacant(entry::REMOVED) && entry::is_vacant(entry::EMPTY));
    }

    #[test]
    fn roots_and_kinds_reject_invalid_words() {
        let root = HashRoot { epoch: 7, account: 1, bits: 12 };
        assert_eq!(HashRoot::from_word(root.to_word()), Some(root));
        for bit in 0..64 {
            let word = root.to_word() ^ 1 << bit;
            assert_ne!(HashRoot::from_word(word), Some(root));
            if let Some(other) = HashRoot::from_word(word) {
                assert_eq!(other.to_word(), word);
            }
        }
        assert_eq!(HashRoot::from_word(0), None);
        for kind in [
            SegmentKind::Base { depth: 0 },
            SegmentKind::Base { depth: 30 },
            SegmentKind::Overflow,
            SegmentKind::Free,
        ] {
            assert_eq!(SegmentKind::from_word(kind.to_word()), Some(kind));
        }
        assert_eq!(SegmentKind::from_word(SegmentKind::Base { depth: 31 }.to_word()), None);
        assert_eq!(SegmentKind::from_word(0), None);
    }

    #[test]
    fn ranges_of_hashes() {
        assert_eq!(last_hash(0, 0), u64::MAX);
        assert_eq!(last_hash(1 << 63, 1), u64::MAX);
        assert_eq!(last_hash(5, 64), 5);
        assert_eq!(home(u64::MAX), LINES - 1);
        assert_eq!(home(0), 0);
    }
}
