//! Rows as functions of their numbers, so that every process can compute the key of any row, or a
//! key that no row has.

/// Key of a trade.
pub(crate) type Key = [u8; 16];

/// A row of 64 bytes with a random key.
#[pongo::record]
#[pongo(table = "trades")]
pub(crate) struct Trade {
    #[pongo(key)]
    pub(crate) id: Key,
    /// A multiple of ¼.
    pub(crate) price: f64,
    /// An integer, so that sums of price × quantity are exact in any order.
    pub(crate) qty: f64,
    /// Later rows have later times.
    pub(crate) ts: i64,
    pub(crate) account: u64,
    pub(crate) venue: u32,
    pub(crate) side: u32,
    pub(crate) number: u64,
}

const _: () = assert!(size_of::<Trade>() == 64);

/// A row with an ascending key: a job of a queue, a measurement that is kept for a limited time, or
/// a value with many versions.
#[pongo::record]
#[pongo(table = "events")]
pub(crate) struct Event {
    #[pongo(key)]
    pub(crate) number: u64,
    pub(crate) content: [u64; 3],
}

/// Returns event `number`; its content identifies it.
pub(crate) fn event(number: u64) -> Event {
    Event { number, content: [number, mix(number), 0] }
}

/// Row numbers from here on are never stored; their keys are used as missing keys.
const MISSING: u64 = 1 << 48;

/// Maps numbers to numbers bijectively, so that results of adjacent numbers are unrelated (the
/// finalizer of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Returns the key of trade `number`.
pub(crate) fn key(number: u64) -> Key {
    (u128::from(mix(number)) << 64 | u128::from(mix(!number))).to_be_bytes()
}

/// Returns the time of trade `number`.
pub(crate) fn time(number: u64) -> i64 {
    1_700_000_000_000_000 + number as i64 * 137
}

/// Returns trade `number`.
pub(crate) fn trade(number: u64) -> Trade {
    let random = mix(number ^ 0x5555);
    Trade {
        id: key(number),
        price: (random % 4095 + 1) as f64 / 4.0,
        qty: (random >> 12 & 511) as f64,
        ts: time(number),
        account: random >> 40,
        venue: (random >> 32 & 63) as u32,
        side: (random >> 63) as u32,
        number,
    }
}

impl Trade {
    /// Returns the value that reads add up.
    #[inline]
    pub(crate) fn value(&self) -> f64 {
        self.price * self.qty
    }
}

/// Number of rows read, and the sum of their values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    pub(crate) sum: f64,
}

impl Found {
    #[inline]
    pub(crate) fn add(&mut self, trade: &Trade) {
        self.rows += 1;
        self.sum += trade.value();
    }
}

/// Returns the count and the sum of the values of the trades with these numbers.
pub(crate) fn sum(numbers: impl Iterator<Item = u64>) -> Found {
    let mut found = Found::default();
    numbers.for_each(|number| found.add(&trade(number)));
    found
}

/// Returns `count` random numbers below `rows`.
pub(crate) fn random(rows: u64, count: u64, seed: u64) -> Vec<u64> {
    (0..count).map(|nth| mix(seed << 32 | nth) % rows).collect()
}

/// Returns `count` keys that no row has.
pub(crate) fn missing(count: u64, seed: u64) -> Vec<Key> {
    (0..count).map(|nth| key(MISSING + (seed << 32 | nth))).collect()
}
