//! The changes of transaction n, applied to a store and to a model of it.

use std::collections::BTreeMap;

use pongo::prelude::*;
use pongo_test_support::mix;

/// One row per transaction, inserted by that transaction. Their number is the number of
/// transactions that the store has.
#[pongo::record]
#[pongo(table = "works")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Works {
    #[pongo(key)]
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    _pad: [u8; 7],
    /// Number of rows in the other tables that the transaction changed.
    pub(crate) rows: u64,
}

/// The kind of changes that a transaction makes.
#[pongo::record]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    One = 0,
    Many = 1,
    Bulk = 2,
}

#[pongo::record]
#[pongo(table = "items")]
#[derive(Clone, Copy, pongo::zerocopy::IntoBytes, Debug)]
pub(crate) struct Item {
    #[pongo(key)]
    pub(crate) id: u64,
    /// The transaction that wrote the row last.
    pub(crate) by: u64,
    pub(crate) text: Text,
}

/// Compares the bytes: rows are equal if their text is at the same address.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

/// A row that is loaded in bulk.
#[pongo::record]
#[pongo(table = "samples")]
#[derive(Debug, PartialEq)]
pub(crate) struct Sample {
    #[pongo(key)]
    pub(crate) id: u64,
    pub(crate) by: u64,
}

/// Number of ids of items.
const ITEMS: u64 = 700;
/// Number of ids of samples; one load writes `LOAD` of them.
pub(crate) const SAMPLES: u64 = 400_000;
const LOAD: u64 = 200_000;

pub(crate) fn kind_of(number: u64, bulk: bool) -> Kind {
    match mix(number) % 4 {
        _ if bulk => Kind::Bulk,
        0 => Kind::Many,
        _ => Kind::One,
    }
}

/// Returns the changes to items: an id, and whether it is put or deleted.
fn changes(number: u64, kind: Kind) -> impl Iterator<Item = (u64, bool)> {
    let count = if kind == Kind::Many { 1 + mix(number) % 300 } else { 1 };
    (0..count).map(move |place| {
        let draw = mix(number << 20 | place);
        (draw % ITEMS, draw >> 32 & 3 != 0)
    })
}

/// Returns a text of a varying length: empty, more than one page, or more than a usual journal
/// entry.
fn text(id: u64, by: u64) -> String {
    let word = format!("item {id} by {by}; ");
    let times = match mix(id ^ by << 13) % 50 {
        0 => 0,
        1 => 700,
        short => short % 5,
    };
    word.repeat(times as usize)
}

fn first_sample(number: u64) -> u64 {
    mix(number) % (SAMPLES - LOAD)
}

/// Stages transaction `number`. Calls `midway` when a part of a bulk load is written.
pub(crate) fn perform(
    store: &Store,
    number: u64,
    kind: Kind,
    midway: impl Fn(),
) -> Result<WriteTransaction, Box<dyn std::error::Error>> {
    let durability = if mix(number) >> 40 & 1 == 0 { Durability::Sync } else { Durability::Relaxed };
    let tx = store.begin_write_with(durability)?;
    let mut rows = 0;
    if kind == Kind::Bulk {
        let first = first_sample(number);
        let samples = (first..first + LOAD).map(|id| {
            if id == first + LOAD / 8 {
                midway();
            }
            Sample { id, by: number }
        });
        rows += tx.table::<Sample>()?.extend(samples)?;
    }
    for (id, put) in changes(number, kind) {
        if put {
            let text = tx.text(&text(id, number))?;
            let mut items = tx.table::<Item>()?;
            if id % 2 == 0 || items.update(id, |item| (item.by, item.text) = (number, text))?.is_none() {
                items.put(&Item { id, by: number, text })?;
            }
        } else {
            tx.table::<Item>()?.delete(id)?;
        }
        rows += 1;
    }
    tx.table::<Works>()?.insert(&Works { number, kind, _pad: [0; 7], rows })?;
    Ok(tx)
}

/// Expected contents of a store after its first transactions.
pub(crate) struct Model {
    works: Vec<Works>,
    /// The last transaction that wrote each item.
    items: BTreeMap<u64, u64>,
    /// The last transaction that wrote each sample; 0 if there is none.
    samples: Vec<u64>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { works: Vec::new(), items: BTreeMap::new(), samples: vec![0; SAMPLES as usize] }
    }

    pub(crate) fn done(&self) -> u64 {
        self.works.len() as u64
    }

    /// Applies the next transaction.
    pub(crate) fn perform(&mut self, kind: Kind) {
        let number = self.done() + 1;
        let mut rows = 0;
        if kind == Kind::Bulk {
            let first = first_sample(number) as usize;
            self.samples[first..first + LOAD as usize].fill(number);
            rows += LOAD;
        }
        for (id, put) in changes(number, kind) {
            if put {
                self.items.insert(id, number);
            } else {
                self.items.remove(&id);
            }
            rows += 1;
        }
        self.works.push(Works { number, kind, _pad: [0; 7], rows });
    }

    /// Compares a snapshot with this model, row by row, by every read method.
    pub(crate) fn compare(&self, snapshot: &Snapshot) -> Result<(), Box<dyn std::error::Error>> {
        let works = snapshot.table::<Works>()?;
        let found: Vec<Works> = rows(&works)?.copied().collect();
        assert_eq!(found, self.works);
        for work in &self.works {
            assert_eq!(works.get(work.number)?, Some(work));
        }
        assert!(!works.contains(self.done() + 1)?, "a transaction that was not done is found");

        let items = snapshot.table::<Item>()?;
        let found: BTreeMap<u64, u64> = rows(&items)?.map(|item| (item.id, item.by)).collect();
        assert_eq!(found, self.items);
        assert_eq!(items.len(), found.len() as u64);
        for id in 0..ITEMS {
            let item = items.get(id)?;
            assert_eq!(item.map(|item| item.by), found.get(&id).copied(), "item {id}");
            assert_eq!(items.contains(id)?, item.is_some());
            if let Some(item) = item {
                assert_eq!(item.text.as_str(snapshot)?, text(id, item.by), "text of item {id}");
            }
        }

        let samples = snapshot.table::<Sample>()?;
        let mut found = vec![0; SAMPLES as usize];
        for sample in rows(&samples)? {
            let before = std::mem::replace(&mut found[sample.id as usize], sample.by);
            assert_eq!(before, 0, "sample {} exists twice", sample.id);
        }
        assert!(found == self.samples, "samples are not those of the transactions");
        let some: Vec<u64> = (self.done() % 7..SAMPLES).step_by(7).collect();
        for (id, sample) in some.iter().zip(samples.get_many(&some)) {
            assert_eq!(sample?.map_or(0, |sample| sample.by), found[*id as usize], "sample {id}");
        }
        Ok(())
    }
}

/// Returns all rows of a table, after counting the rows of its slices.
fn rows<'s, T: PongoRecord>(table: &Table<'s, T>) -> Result<impl Iterator<Item = &'s T>, pongo::ReadError> {
    let slices = table.slices().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(slices.iter().map(|rows| rows.len() as u64).sum::<u64>(), table.len());
    Ok(slices.into_iter().flatten())
}
