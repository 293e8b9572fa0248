//! Records with one secondary index, and the operations of engines that keep one.
//!
//! A posting is a [`Trade`] of an account; ten rows have the same account when all are loaded. The
//! index of engines that only know keys and values is kept as their users would keep it: a second
//! table from the account to the keys of its rows.

use anyhow::Result;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::engine::Found;
use crate::trade::{self, Key, Trade};

/// Number of rows of one account.
pub(crate) const ROWS_PER_ACCOUNT: u64 = 10;

/// A record: a [`Trade`] whose account is indexed.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout, pongo::PongoRecord)]
#[pongo(table = "postings")]
#[repr(C)]
pub(crate) struct Posting {
    /// Random.
    #[pongo(key)]
    pub(crate) id: Key,
    /// A multiple of ¼.
    pub(crate) price: f64,
    /// An integer.
    pub(crate) qty: f64,
    /// Microseconds since 1970.
    pub(crate) ts: i64,
    /// Account; the number of accounts is a tenth of the number of rows.
    #[pongo(index)]
    pub(crate) account: u64,
    /// Venue of the trade.
    pub(crate) venue: u32,
    /// 0 bought, 1 sold.
    pub(crate) side: u32,
    /// The row's number.
    pub(crate) number: u64,
}

const _: () = assert!(size_of::<Posting>() == size_of::<Trade>());

/// Returns the number of accounts that `rows` rows have.
pub(crate) fn accounts(rows: u64) -> u64 {
    (rows / ROWS_PER_ACCOUNT).max(1)
}

/// Returns the `nth` account number; these are spread over all of `u64`.
pub(crate) fn account(nth: u64) -> u64 {
    // The factor is odd, so no two accounts get the same number.
    (nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Returns posting `number` of a store in which `rows` are loaded.
pub(crate) fn posting(number: u64, rows: u64) -> Posting {
    let Trade { id, price, qty, ts, venue, side, number, .. } = trade::trade(number);
    Posting { id, price, qty, ts, account: account(number % accounts(rows)), venue, side, number }
}

impl Posting {
    /// Returns the same as [`Trade::value`].
    #[inline]
    pub(crate) fn value(&self) -> f64 {
        self.price * self.qty
    }

    /// Returns the same as [`Trade::tail`].
    pub(crate) fn tail(&self) -> &[u8] {
        &self.as_bytes()[size_of::<Key>()..]
    }
}

/// Returns `count` random accounts, and the expected result for all their rows.
pub(crate) fn asked(rows: u64, count: usize, seed: u64) -> (Vec<u64>, Found) {
    let accounts = accounts(rows);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected = Found::default();
    let asked = (0..count)
        .map(|_| {
            let nth = random.u64(..accounts);
            (nth..rows)
                .step_by(accounts as usize)
                .for_each(|number| expected.add(trade::trade(number).value()));
            account(nth)
        })
        .collect();
    (asked, expected)
}

/// An open store of postings. Dropping it closes it cleanly.
pub(crate) trait Indexed {
    /// Stores all rows in the order of the iterator and updates the index, in one transaction, so
    /// that lookups have no pending work to do.
    fn load(&self, rows: &mut dyn Iterator<Item = Posting>) -> Result<()>;
    /// Reads the rows of each account, in one read transaction.
    fn equal(&self, accounts: &[u64]) -> Result<Found>;
    /// Returns only the number of rows, if the engine can count them without reading them.
    fn equal_keys(&self, accounts: &[u64]) -> Result<u64>;
    /// Puts each row in a separate transaction that does not wait for the disk.
    fn put(&self, rows: &[Posting]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ENGINES;

    #[test]
    fn ten_rows_have_an_account() {
        let mut counts = std::collections::HashMap::new();
        (0..1000).for_each(|number| *counts.entry(posting(number, 1000).account).or_insert(0) += 1);
        assert_eq!((counts.len(), counts.values().all(|&count| count == 10)), (100, true));
        assert_eq!(asked(1000, 7, 3).1.rows, 70);
    }

    /// Checks that every engine with an index finds the rows of an account, including those
    /// inserted later, across a close.
    #[test]
    fn engines_agree() {
        const ROWS: u64 = 3000;
        let engines: Vec<_> = ENGINES.iter().filter_map(|e| Some((e.name, e.open_indexed?))).collect();
        assert!(engines.len() >= 3);
        for (name, open) in engines {
            let folder = tempfile::tempdir().unwrap();
            {
                let engine = open(folder.path()).unwrap();
                engine.load(&mut (0..ROWS).map(|number| posting(number, ROWS))).unwrap();
                let (accounts, expected) = asked(ROWS, 50, 1);
                assert_eq!(engine.equal(&accounts).unwrap(), expected, "{name}");
                assert_eq!(engine.equal_keys(&accounts).unwrap(), expected.rows, "{name}");
                engine.put(&[posting(ROWS + 7, ROWS)]).unwrap();
            }
            let engine = open(folder.path()).unwrap();
            let found = engine.equal(&[account((ROWS + 7) % accounts(ROWS)), 0]).unwrap();
            assert_eq!(found.rows, ROWS_PER_ACCOUNT + 1, "{name}");
        }
    }
}
