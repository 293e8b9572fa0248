//! The header of one journal entry, which all kinds of entries share, and the checksum over all of
//! the entry. Little-endian; all lengths are multiples of eight.
//!
//! ```text
//! words: 0 magic  1 length of all, bytes  2 kind  3 salt  4 own position  5 durable position
//!        6 Seq  7 checksum of all
//! body: a commit or a checkpoint
//! ```

use crate::codec::{ByteReader, LIMIT, checksum};
use crate::guard::holds;
use crate::ids::{JournalPos, Salt, Seq};

pub(crate) const HEADER: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"PJENTRY1");
const CHECKSUM_AT: usize = 56;

/// The longest entry, in bytes. Rows and heap bytes beyond a megabyte are not in the entry, so the
/// list of deleted or replaced rows determines its length: tens of millions in one transaction.
pub(crate) const LONGEST: u64 = 1 << 30;

/// Piece size, in bytes. A longer entry is not held in memory as a whole: it is encoded twice, once
/// for its checksum and once to be written, in pieces of about this size.
pub(crate) const PIECE: usize = 1 << 20;

/// A transaction.
pub(crate) const COMMIT: u64 = 1;
/// A point from which recovery starts.
pub(crate) const CHECKPOINT: u64 = 2;

/// The first eight words of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) len: u64,
    pub(crate) kind: u64,
    pub(crate) salt: Salt,
    pub(crate) pos: JournalPos,
    pub(crate) durable: JournalPos,
    pub(crate) seq: Seq,
    pub(crate) checksum: u64,
}

impl Header {
    /// Decodes a header. Does not verify the checksum.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = ByteReader::new(bytes);
        if reader.u64()? != MAGIC {
            return None;
        }
        let header = Self {
            len: reader.u64()?,
            kind: reader.u64()?,
            salt: Salt(reader.u64()?),
            pos: JournalPos(reader.u64()?),
            durable: JournalPos(reader.u64()?),
            seq: Seq(reader.u64()?),
            checksum: reader.u64()?,
        };
        let sane = header.len >= HEADER as u64 && header.len.is_multiple_of(8) && header.len <= LONGEST;
        // There is always a next `Seq`, and a pin is one more than a `Seq`.
        (sane && header.seq.0 < LIMIT).then_some(header)
    }

    fn encode(&self) -> [u8; HEADER] {
        let words =
            [MAGIC, self.len, self.kind, self.salt.0, self.pos.0, self.durable.0, self.seq.0, self.checksum];
        let mut bytes = [0; HEADER];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Returns whether `entry`, all of it, has the checksum that the header states.
    pub(crate) fn checks(&self, entry: &[u8]) -> bool {
        entry.len() as u64 == self.len
            && holds!("journal.entry.checksum", entry_checksum(entry) == self.checksum)
    }
}

const SEED: u64 = 0x6a6f_7572;

/// Returns the checksum, or another value if it is zero, so that a zero-filled file is never valid.
fn never_zero(sum: u64) -> u64 {
    if sum == 0 { checksum(b"zero") } else { sum }
}

/// Returns the checksum of an entry, computed as if its own field were zero.
fn entry_checksum(entry: &[u8]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::with_seed(SEED);
    hasher.update(&entry[..CHECKSUM_AT]);
    hasher.update(&[0; 8]);
    hasher.update(&entry[HEADER..]);
    never_zero(hasher.digest())
}

/// Creates an entry with space for its header.
pub(crate) fn begin() -> Vec<u8> {
    vec![0; HEADER]
}

/// Fills in the header of an entry whose body follows [`HEADER`] bytes. Returns the checksum.
pub(crate) fn seal(
    entry: &mut [u8],
    kind: u64,
    salt: Salt,
    pos: JournalPos,
    durable: JournalPos,
    seq: Seq,
) -> u64 {
    debug_assert!(entry.len().is_multiple_of(8) && entry.len() >= HEADER);
    let header = Header { len: entry.len() as u64, kind, salt, pos, durable, seq, checksum: 0 };
    entry[..HEADER].copy_from_slice(&header.encode());
    // In one call: setting up the streaming hasher takes longer than hashing a small entry.
    let sum = never_zero(xxhash_rust::xxh3::xxh3_64_with_seed(entry, SEED));
    debug_assert_eq!(sum, entry_checksum(entry));
    entry[CHECKSUM_AT..HEADER].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// Computes the header of an entry that is not in memory as a whole. Its body is added in pieces;
/// the first piece starts with [`HEADER`] placeholder bytes.
pub(crate) struct Sealing {
    header: Header,
    hasher: xxhash_rust::xxh3::Xxh3,
    begun: bool,
}

impl Sealing {
    pub(crate) fn new(header: Header) -> Self {
        Self {
            header: Header { checksum: 0, ..header },
            hasher: xxhash_rust::xxh3::Xxh3::with_seed(SEED),
            begun: false,
        }
    }

    /// Adds the next piece.
    pub(crate) fn add(&mut self, piece: &mut [u8]) {
        if !self.begun {
            piece[..HEADER].copy_from_slice(&self.header.encode());
        }
        self.begun = true;
        self.hasher.update(piece);
    }

    /// Returns the header for all pieces that were added.
    pub(crate) fn header(self) -> [u8; HEADER] {
        Header { checksum: never_zero(self.hasher.digest()), ..self.header }.encode()
    }
}
