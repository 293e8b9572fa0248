//! A block: some hundreds of pairs, their keys truncated to the bytes that distinguish them. See
//! `docs/design/ordered-index.md` for the byte layout.
//!
//! Truncated keys preserve order: the lower of two keys never has the higher truncated key. Where
//! two truncated keys are equal and the block does not say that they are whole, the full keys are
//! read from the rows.

use std::cmp::Ordering;

use pongo_core::ids::RowId;

use super::edge::At;
use super::{Block, KeyExtractor, OrderedError};

/// Maximum number of pairs in a block that is written. Larger blocks read no faster, and cost more
/// to rewrite when one pair changes.
pub(super) const FULL: usize = 1024;
/// Maximum bytes of a block's pairs, unless it has few. sled keeps up to 17 values in one node, and
/// writes a node of more than 128 KiB to a separate file.
pub(super) const FULL_BYTES: usize = 7 << 10;
/// Maximum number of pairs accepted when a block is read.
const MAX_PAIRS: usize = 4096;
/// Maximum number of bytes stored to distinguish neighbours: keys with longer common prefixes are
/// read from their rows.
const MAX_WIDTH: usize = 64;
/// One in this many neighbours may remain ambiguous if that saves a byte in every pair.
const MAX_AMBIGUOUS_PER_BLOCK: usize = 64;

const HEADER: usize = 24;

/// One pair to be encoded into a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    /// The whole key, or its known prefix, which may be padded with zeros.
    pub(super) key: &'a [u8],
    pub(super) row: u64,
    /// Whether the key may be truncated.
    pub(super) is_truncated: bool,
    /// A row with an equal key was found while this pair was placed; its neighbour has the same
    /// key.
    pub(super) same: bool,
}

/// Returns the index of the first byte in which two keys differ, with the shorter one padded with
/// zeros, or `None` if they do not differ below `limit`.
#[inline]
fn differ(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    let shared = a.len().min(b.len()).min(limit);
    let mut at = 0;
    while at + 8 <= shared {
        let (Some(x), Some(y)) = (a[at..].first_chunk::<8>(), b[at..].first_chunk::<8>()) else { break };
        let differing = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differing != 0 {
            return Some(at + (differing.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    while at < shared {
        if a[at] != b[at] {
            return Some(at);
        }
        at += 1;
    }
    let longer = if a.len() > b.len() { a } else { b };
    let end = longer.len().min(limit);
    longer[shared..end].iter().position(|&byte| byte != 0).map(|more| shared + more)
}

/// Encodes sorted pairs. `known` is the number of known bytes of every key, `None` if all keys are
/// whole; `ambiguous` is the number of neighbours among them that were already ambiguous.
///
/// There must be at least one item, and at most [`MAX_PAIRS`]. Returns the block, and the number of
/// bytes that each pair takes in it.
pub(super) fn encode(items: &[Item<'_>], known: Option<usize>, ambiguous: usize) -> (Vec<u8>, usize) {
    let (first, last) = (items[0], items[items.len() - 1]);
    let limit = known.unwrap_or(usize::MAX);
    let longest = first.key.len().max(last.key.len()).min(limit);
    let one_length = known.is_none() && items.iter().all(|item| item.key.len() == first.key.len());
    let prefix = differ(first.key, last.key, limit).unwrap_or(longest);
    // Counts neighbours by the position, after the prefix, of the first byte in which they differ.
    let mut differs_at = [0_u16; MAX_WIDTH + 1];
    let mut never = ambiguous;
    for pair in items.windows(2) {
        match differ(pair[0].key, pair[1].key, limit) {
            Some(at) => differs_at[at.saturating_sub(prefix).min(MAX_WIDTH)] += 1,
            // Counted in `ambiguous`, unless the keys are equal.
            None if pair[0].is_truncated && pair[1].is_truncated => {}
            None if pair[1].same => {}
            None if !pair[0].is_truncated && !pair[1].is_truncated && pair[0].key == pair[1].key => {}
            None => never += 1,
        }
    }
    let mut width = MAX_WIDTH.min(limit.saturating_sub(prefix));
    let mut blind: usize = differs_at[width..].iter().map(|&n| usize::from(n)).sum();
    while width > 0 && blind + usize::from(differs_at[width - 1]) <= items.len() / MAX_AMBIGUOUS_PER_BLOCK {
        width -= 1;
        blind += usize::from(differs_at[width]);
    }
    let mut whole = false;
    if one_length && first.key.len() - prefix <= width + 1 {
        width = first.key.len() - prefix;
        whole = true;
        blind = 0;
        never = 0;
    }
    let least = items.iter().map(|item| item.row).min().unwrap_or(0);
    let most = items.iter().map(|item| item.row).max().unwrap_or(0);
    let row_width = (64 - (most - least).leading_zeros() as usize).div_ceil(8);

    let mut bytes = Vec::with_capacity(HEADER + prefix + items.len() * (width + row_width));
    bytes.extend_from_slice(&(items.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(prefix as u16).to_le_bytes());
    bytes.extend_from_slice(&(width as u16).to_le_bytes());
    bytes.push(row_width as u8);
    bytes.push(u8::from(whole));
    bytes.extend_from_slice(&((blind + never).min(usize::from(u16::MAX)) as u16).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&least.to_le_bytes());
    push_padded(&mut bytes, first.key, 0, prefix);
    for item in items {
        push_padded(&mut bytes, item.key, prefix, width);
    }
    for item in items {
        bytes.extend_from_slice(&(item.row - least).to_le_bytes()[..row_width]);
    }
    (bytes, width + row_width)
}

/// Appends `len` bytes of a key from `from` on, padded with zeros.
#[inline]
fn push_padded(bytes: &mut Vec<u8>, key: &[u8], from: usize, len: usize) {
    match key.get(from..from + len) {
        Some(part) => bytes.extend_from_slice(part),
        None => {
            let part = key.get(from..).unwrap_or(&[]);
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len() + len - part.len(), 0);
        }
    }
}

/// A validated block.
#[derive(Debug)]
pub(super) struct Leaf {
    block: Block,
    count: usize,
    prefix: usize,
    width: usize,
    row_width: usize,
    whole: bool,
    ambiguous: usize,
    least: u64,
}

impl Leaf {
    /// Parses a block's header and checks the block's length against it. The caller has verified
    /// the checksum.
    pub(super) fn read(block: Block) -> Result<Leaf, OrderedError> {
        let bytes = block.as_ref();
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Err(OrderedError::damaged(format!("a block of {} bytes has no header", bytes.len())));
        };
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let count = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (prefix, width) = (u16_at(4), u16_at(6));
        let (row_width, whole) = (usize::from(header[8]), header[9] == 1);
        let least = header.last_chunk::<8>().map_or(0, |eight| u64::from_le_bytes(*eight));
        let len = HEADER + prefix + count.saturating_mul(width + row_width);
        if count == 0 || count > MAX_PAIRS || row_width > 8 || len != bytes.len() {
            return Err(OrderedError::damaged(format!(
                "a block of {count} pairs, prefix {prefix}, width {width}, row width {row_width} takes {len} \
                 bytes, found {}",
                bytes.len()
            )));
        }
        Ok(Leaf { count, prefix, width, row_width, whole, ambiguous: u16_at(10), least, block })
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns a lower bound of the block's row numbers.
    pub(super) fn least_row(&self) -> u64 {
        self.least
    }

    /// Returns the bytes of memory that the block takes.
    pub(super) fn bytes(&self) -> usize {
        self.block.as_ref().len()
    }

    /// Returns the number of known bytes of each key.
    pub(super) fn depth(&self) -> usize {
        self.prefix + self.width
    }

    /// Returns whether the known bytes are the whole keys.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Returns the maximum number of unequal neighbours whose truncated keys are equal.
    pub(super) fn ambiguous(&self) -> usize {
        self.ambiguous
    }

    fn prefix(&self) -> &[u8] {
        &self.block.as_ref()[HEADER..HEADER + self.prefix]
    }

    fn truncation_bits(&self) -> &[u8] {
        let from = HEADER + self.prefix;
        &self.block.as_ref()[from..from + self.count * self.width]
    }

    fn row_bytes(&self) -> &[u8] {
        &self.block.as_ref()[HEADER + self.prefix + self.count * self.width..]
    }

    /// Appends the known bytes of the `i`th key.
    pub(super) fn push_key(&self, i: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(&self.truncation_bits()[i * self.width..(i + 1) * self.width]);
    }

    /// Returns the row of the `i`th pair.
    #[inline]
    pub(super) fn row(&self, i: usize) -> u64 {
        row_at(self.row_bytes(), i, self.row_width, self.least)
    }

    /// Appends the rows of the pairs in `range`, forward or in reverse order.
    pub(super) fn push_rows(&self, range: std::ops::Range<usize>, forward: bool, out: &mut Vec<RowId>) {
        let (bytes, width, least) = (self.row_bytes(), self.row_width, self.least);
        if width == 0 {
            out.resize(out.len() + range.len(), RowId(least));
            return;
        }
        let bytes = &bytes[range.start * width..range.end * width];
        // With a constant width, each row is one load instead of a loop.
        match width {
            1 => extend::<1>(bytes, least, forward, out),
            2 => extend::<2>(bytes, least, forward, out),
            3 => extend::<3>(bytes, least, forward, out),
            4 => extend::<4>(bytes, least, forward, out),
            5 => extend::<5>(bytes, least, forward, out),
            6 => extend::<6>(bytes, least, forward, out),
            7 => extend::<7>(bytes, least, forward, out),
            _ => extend::<8>(bytes, least, forward, out),
        }
    }

    /// Returns the number of pairs before `at`. `scratch` is a buffer for a key.
    pub(super) fn rank(
        &self,
        at: At<'_>,
        keys: &dyn KeyExtractor,
        scratch: &mut Vec<u8>,
    ) -> Result<usize, OrderedError> {
        match cmp_padded(at.key, 0, self.prefix()) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(self.count),
            Ordering::Equal => {}
        }
        let (cuts, width) = (self.truncation_bits(), self.width);
        let (mut low, mut high) = (0, self.count);
        if width > 0 {
            let mut target = [0_u8; MAX_WIDTH];
            let padded;
            let target = if width <= MAX_WIDTH {
                let part = at.key.get(self.prefix..).unwrap_or(&[]);
                let n = part.len().min(width);
                target[..n].copy_from_slice(&part[..n]);
                &target[..width]
            } else {
                let mut bytes = Vec::new();
                push_padded(&mut bytes, at.key, self.prefix, width);
                padded = bytes;
                &padded[..]
            };
            if let Some(target) = number(target, width) {
                // Each load includes bytes after the truncated key, which are shifted out.
                let behind = &self.block.as_ref()[HEADER + self.prefix..];
                let cut = |i: usize| number(&behind[i * width..], width).unwrap_or(u64::MAX);
                low = interpolate(self.count, target, cut);
                let mut step = 1;
                while low + step < self.count && cut(low + step) == target {
                    step *= 2;
                }
                high = partition_by(low, self.count.min(low + step), |i| cut(i) == target);
            } else {
                low = partition(cuts, width, 0, self.count, |cut| cut < target);
                high = partition(cuts, width, low, self.count, |cut| cut == target);
            }
        }
        if self.whole {
            let len = self.depth();
            return Ok(match at.key.len().cmp(&len) {
                // All keys here are longer than `at.key`, or all are shorter, with equal bytes up
                // to the shorter length.
                Ordering::Less => low,
                Ordering::Greater => high,
                Ordering::Equal => {
                    while low < high {
                        let middle = low.midpoint(high);
                        if at.rows_before(self.row(middle)) { low = middle + 1 } else { high = middle }
                    }
                    low
                }
            });
        }
        while low < high {
            let middle = low.midpoint(high);
            let row = self.row(middle);
            full_key(keys, row, scratch)?;
            let before = match scratch.as_slice().cmp(at.key) {
                Ordering::Less => true,
                Ordering::Equal => at.rows_before(row),
                Ordering::Greater => false,
            };
            if before { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }
}

/// Replaces `out` with the whole key of a row.
pub(super) fn full_key(keys: &dyn KeyExtractor, row: u64, out: &mut Vec<u8>) -> Result<(), OrderedError> {
    out.clear();
    keys.key(RowId(row), out).map_err(|source| OrderedError::Keys { row: RowId(row), source })
}

/// Compares a key from `from` on, padded with zeros, with `part`.
pub(super) fn cmp_padded(key: &[u8], from: usize, part: &[u8]) -> Ordering {
    let key = key.get(from..).unwrap_or(&[]);
    let shared = key.len().min(part.len());
    key[..shared].cmp(&part[..shared]).then_with(|| {
        if part[shared..].iter().any(|&byte| byte != 0) { Ordering::Less } else { Ordering::Equal }
    })
}

/// Returns the first `width` bytes as a number with the same order, or `None` if `width` is 0 or
/// more than eight.
#[inline]
fn number(bytes: &[u8], width: usize) -> Option<u64> {
    if width == 0 || width > 8 {
        return None;
    }
    let unused = 64 - 8 * width as u32;
    if let Some(eight) = bytes.first_chunk::<8>() {
        return Some(u64::from_be_bytes(*eight) >> unused);
    }
    let mut eight = [0; 8];
    let len = bytes.len().min(width);
    eight[..len].copy_from_slice(&bytes[..len]);
    Some(u64::from_be_bytes(eight) >> unused)
}

/// Returns the index of the first of `count` ascending numbers that is not below `target`.
///
/// Starts where the number would be if they were evenly distributed (interpolation search), then
/// continues in doubling steps: usually two or three cache lines instead of seven, and at most
/// twice as many steps as a binary search.
#[inline]
fn interpolate(count: usize, target: u64, number: impl Fn(usize) -> u64) -> usize {
    let Some(last) = count.checked_sub(1) else { return 0 };
    let (least, greatest) = (number(0), number(last));
    if target <= least {
        return 0;
    }
    if target > greatest {
        return count;
    }
    let guess = (u128::from(target - least) * last as u128 / u128::from(greatest - least)) as usize;
    let (mut low, mut high, mut step) = (0, last, 1);
    if number(guess) < target {
        low = guess + 1;
        while low + step < high && number(low + step) < target {
            low += step + 1;
            step *= 2;
        }
        high = high.min(low + step);
    } else {
        high = guess;
        while high > step && number(high - step) >= target {
            high -= step;
            step *= 2;
        }
        low = low.max(high.saturating_sub(step));
    }
    partition_by(low, high, |i| number(i) < target)
}

/// Returns the first index in `low..high` for which `before` is false, or `high`.
#[inline]
fn partition_by(mut low: usize, mut high: usize, before: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Returns the first of the truncated keys in `low..high` for which `before` is false, or `high`.
fn partition(cuts: &[u8], width: usize, low: usize, high: usize, before: impl Fn(&[u8]) -> bool) -> usize {
    partition_by(low, high, |i| before(&cuts[i * width..(i + 1) * width]))
}

#[inline]
fn row_at(bytes: &[u8], i: usize, width: usize, least: u64) -> u64 {
    let mut eight = [0; 8];
    eight[..width].copy_from_slice(&bytes[i * width..(i + 1) * width]);
    // Must not overflow: a block with a valid checksum can still contain any value.
    least.wrapping_add(u64::from_le_bytes(eight))
}

fn extend<const W: usize>(bytes: &[u8], least: u64, forward: bool, out: &mut Vec<RowId>) {
    let row = |part: &[u8; W]| {
        let mut eight = [0; 8];
        eight[..W].copy_from_slice(part);
        RowId(least.wrapping_add(u64::from_le_bytes(eight)))
    };
    let (parts, _) = bytes.as_chunks::<W>();
    if forward { out.extend(parts.iter().map(row)) } else { out.extend(parts.iter().rev().map(row)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_however_they_rise() {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 20
        };
        for round in 0..2000_u64 {
            let len = (next() % 70) as usize;
            let mut numbers: Vec<u64> = (0..len)
                .map(|i| match round % 5 {
                    0 => next(),
                    1 => next() % 10,
                    2 => (i as u64).pow(6),
                    3 => u64::MAX - (i as u64 % 3),
                    _ => 1 << (next() % 64),
                })
                .collect();
            numbers.sort_unstable();
            let targets = numbers.iter().flat_map(|&n| [n.saturating_sub(1), n, n.saturating_add(1)]);
            for target in targets.chain([0, 5, u64::MAX]).collect::<Vec<_>>() {
                let found = interpolate(len, target, |i| numbers[i]);
                assert_eq!(found, numbers.partition_point(|&n| n < target), "{target} in {numbers:?}");
            }
        }
    }

    #[test]
    fn keys_differ_by_trailing_zeros() {
        assert_eq!(differ(b"abc", b"abd", 99), Some(2));
        assert_eq!(differ(b"abcdefghij", b"abcdefghxj", 99), Some(8));
        assert_eq!(differ(b"abcdefgh-ij", b"abcdefgh-ij", 99), None);
        assert_eq!(differ(b"ab", b"ab\0\0", 99), None);
        assert_eq!(differ(b"ab", b"ab\0\x01", 99), Some(3));
        assert_eq!(differ(b"ab\0\x01", b"ab", 3), None);
        assert_eq!(differ(b"abc", b"abd", 2), None);
    }

    #[test]
    fn padded_keys_compare_within_the_part() {
        assert_eq!(cmp_padded(b"ab", 0, b"ab\0"), Ordering::Equal);
        assert_eq!(cmp_padded(b"ab", 0, b"ab\x01"), Ordering::Less);
        assert_eq!(cmp_padded(b"ab", 0, b"aa\x01"), Ordering::Greater);
        assert_eq!(cmp_padded(b"abz", 0, b"ab"), Ordering::Equal);
        assert_eq!(cmp_padded(b"ab", 5, b"\0\0"), Ordering::Equal);
    }

    #[test]
    fn no_bytes_make_a_leaf_panic() {
        let items: Vec<[u8; 4]> = (0..50_u32).map(|n| (n * n * 99).to_be_bytes()).collect();
        let items: Vec<Item<'_>> = items
            .iter()
            .zip(7..)
            .map(|(key, row)| Item { key, row, is_truncated: false, same: false })
            .collect();
        let (bytes, _) = encode(&items, None, 0);
        for at in 0..HEADER {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let Ok(leaf) = Leaf::read(Block::new(bytes)) else { continue };
                let mut rows = Vec::new();
                leaf.push_rows(0..leaf.len(), false, &mut rows);
                assert_eq!(rows.len(), leaf.len());
                let at = At { key: &[0, 1, 2], below: 3 };
                struct None;
                impl KeyExtractor for None {
                    fn key(
                        &self,
                        _: RowId,
                        _: &mut Vec<u8>,
                    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
                        Err("no rows".into())
                    }
                }
                if let Ok(rank) = leaf.rank(at, &None, &mut Vec::new()) {
                    assert!(rank <= leaf.len());
                }
            }
        }
        for len in 0..bytes.len() {
            assert!(Leaf::read(Block::new(bytes[..len].to_vec())).is_err());
        }
    }
}
