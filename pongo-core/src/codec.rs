//! Little-endian numbers in byte slices: the only module that encodes and decodes them. Decoding
//! never panics: missing bytes result in `None`.

/// Exclusive upper bound of every counter and length on disk, so that sums and products of a few
/// never overflow.
pub(crate) const LIMIT: u64 = 1 << 62;

/// Reads numbers one after another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteReader<'a> {
    bytes: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(len)?;
        self.bytes = tail;
        Some(head)
    }

    /// Takes `len` bytes and the padding up to a multiple of eight.
    pub(crate) fn take_padded(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok()?;
        let head = self.take(len)?;
        self.take(len.next_multiple_of(8).checked_sub(len)?)?;
        Some(head)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        let head = self.take(8)?;
        Some(u64::from_le_bytes(head.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        let head = self.take(4)?;
        Some(u32::from_le_bytes(head.try_into().ok()?))
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        let head = self.take(16)?;
        Some(u128::from_le_bytes(head.try_into().ok()?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }
}

/// Appends numbers.
pub(crate) trait Put {
    fn put_u64(&mut self, value: u64);
    fn put_u32(&mut self, value: u32);
    fn put_u128(&mut self, value: u128);
    /// Appends bytes and pads them with zeros to a multiple of eight.
    fn put_padded(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u128(&mut self, value: u128) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_padded(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
        self.resize(self.len() + bytes.len().next_multiple_of(8) - bytes.len(), 0);
    }
}

const SEED: u64 = 0x504f_4e47_4f44_4201;

/// Returns the checksum that protects all small structures on disk: xxh3, 64 bits, with a seed
/// specific to the store format, so that a file of another origin does not match by chance.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, SEED)
}

/// Returns a hasher that computes the [`checksum`] of bytes that arrive in pieces.
pub(crate) fn hasher() -> xxhash_rust::xxh3::Xxh3 {
    xxhash_rust::xxh3::Xxh3::with_seed(SEED)
}

/// Computes the [`checksum`] of numbers that arrive one after another and are not in memory
/// together.
pub(crate) struct Summing {
    hasher: xxhash_rust::xxh3::Xxh3,
    /// A buffer for the hasher: a call of the hasher costs more than hashing eight bytes.
    waiting: Box<[u8; Self::PIECE]>,
    len: usize,
}

impl Summing {
    const PIECE: usize = 4096;

    pub(crate) fn new() -> Self {
        Self { hasher: hasher(), waiting: Box::new([0; Self::PIECE]), len: 0 }
    }

    pub(crate) fn add(&mut self, value: u64) {
        if let Some(place) = self.waiting[self.len..].first_chunk_mut() {
            *place = value.to_le_bytes();
            self.len += 8;
        }
        if self.len == Self::PIECE {
            self.hasher.update(&self.waiting[..]);
            self.len = 0;
        }
    }

    /// Returns the checksum of all numbers that were added, little-endian and without gaps.
    pub(crate) fn sum(mut self) -> u64 {
        self.hasher.update(&self.waiting[..self.len]);
        self.hasher.digest()
    }
}

/// Returns a page with `content`, followed by its checksum and zeros.
pub(crate) fn sealed_page(mut content: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&content);
    content.put_u64(sum);
    assert!(content.len() <= crate::storage::PAGE as usize, "a header fits its page");
    content.resize(crate::storage::PAGE as usize, 0);
    content
}

/// Returns whether the first `len` bytes of a page are followed by their checksum.
pub(crate) fn page_is_sealed(page: &[u8], len: usize) -> bool {
    let mut reader = ByteReader::new(page);
    let Some(content) = reader.take(len) else { return false };
    reader.u64() == Some(checksum(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_pieces_equals_whole() {
        for count in [0, 1, 511, 512, 513, 5000] {
            let mut whole = Vec::new();
            let mut summing = Summing::new();
            for i in 0..count {
                let value = i * 0x9e37_79b9;
                whole.put_u64(value);
                summing.add(value);
            }
            assert_eq!(summing.sum(), checksum(&whole), "{count} numbers");
        }
    }
}
