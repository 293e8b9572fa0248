//! The records that every engine stores: 64 bytes with a random key of 16 bytes, generated from a
//! seed.
//!
//! A row is a pure function of its number. Therefore the process of an engine keeps no other copy
//! of the data, so that memory figures are those of the engine, and any process can compute the key
//! of any row, or a key that no row has.
//!
//! Prices are multiples of ¼ below 1,024 and quantities integers below 1,000, so the sum of price ×
//! quantity over ten million rows is exact in an `f64` in any order: the results of every scan and
//! lookup are compared for equality.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The key of a row.
pub(crate) type Key = [u8; 16];

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, pongo::PongoRecord)]
#[pongo(table = "trades")]
#[repr(C)]
pub(crate) struct Trade {
    /// Random.
    #[pongo(key)]
    pub(crate) id: Key,
    /// A multiple of ¼.
    pub(crate) price: f64,
    /// An integer.
    pub(crate) qty: f64,
    /// Microseconds since 1970.
    pub(crate) ts: i64,
    /// The account that traded.
    pub(crate) account: u64,
    /// Venue of the trade.
    pub(crate) venue: u32,
    /// 0 bought, 1 sold.
    pub(crate) side: u32,
    /// The row's number.
    pub(crate) number: u64,
}

const _: () = assert!(size_of::<Trade>() == 64);

/// Row numbers from here on are never loaded or committed; their keys are used as missing keys.
const MISSING: u64 = 1 << 48;

/// Returns a random generator for one row.
fn stream(number: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(0x706f_6e67_6f64_6221 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Returns the key of row `number`.
pub(crate) fn key(number: u64) -> Key {
    stream(number).u128(..).to_le_bytes()
}

/// Returns the time of row `number`; later rows have later times.
pub(crate) fn time(number: u64) -> i64 {
    1_700_000_000_000_000 + number as i64 * 137
}

/// Returns row `number`.
pub(crate) fn trade(number: u64) -> Trade {
    let mut random = stream(number);
    Trade {
        id: random.u128(..).to_le_bytes(),
        price: random.u32(1..4096) as f64 / 4.0,
        qty: f64::from(random.u32(1..1000)),
        ts: time(number),
        account: random.u64(..),
        venue: random.u32(..64),
        side: random.u32(..2),
        number,
    }
}

impl Trade {
    /// Returns the value that scans and lookups add up.
    #[inline]
    pub(crate) fn value(&self) -> f64 {
        self.price * self.qty
    }

    /// Returns the value that the key-value stores keep for the key: the record without its key, 48
    /// bytes.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.as_bytes()[size_of::<Key>()..]
    }
}

/// Returns [`Trade::value`] of a record that a key-value store returned as [`Trade::tail`], at any
/// alignment.
///
/// # Panics
/// Panics if the store returned bytes of another length.
#[inline]
pub(crate) fn value_of_tail(tail: &[u8]) -> f64 {
    assert_eq!(tail.len(), size_of::<Trade>() - size_of::<Key>(), "the peer changed a record's length");
    let number = |at: usize| f64::from_le_bytes(tail[at..at + 8].try_into().expect("8 bytes"));
    number(0) * number(8)
}

/// Returns `count` keys of random rows below `rows`, and the sum of their values.
pub(crate) fn present(rows: u64, count: usize, seed: u64) -> (Vec<Key>, f64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let keys = (0..count)
        .map(|_| {
            let trade = trade(random.u64(..rows));
            sum += trade.value();
            trade.id
        })
        .collect();
    (keys, sum)
}

/// Returns `count` keys that no row has.
pub(crate) fn missing(count: usize, seed: u64) -> Vec<Key> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| key(MISSING + random.u64(..1 << 40))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_depends_on_its_number() {
        assert_eq!(trade(7), trade(7));
        assert_eq!(trade(7).id, key(7));
        let keys: std::collections::HashSet<Key> = (0..100_000).map(key).collect();
        assert_eq!(keys.len(), 100_000);
    }

    #[test]
    fn tail_has_value_of_its_record() {
        let trade = trade(42);
        assert_eq!(value_of_tail(trade.tail()), trade.value());
    }

    #[test]
    fn sums_do_not_depend_on_order() {
        let forward: f64 = (0..10_000).map(|n| trade(n).value()).sum();
        let backward: f64 = (0..10_000).rev().map(|n| trade(n).value()).sum();
        assert_eq!(forward, backward);
    }

    #[test]
    fn missing_keys_are_missing() {
        let keys: std::collections::HashSet<Key> = (0..100_000).map(key).collect();
        assert!(missing(10_000, 1).iter().all(|key| !keys.contains(key)));
    }
}
