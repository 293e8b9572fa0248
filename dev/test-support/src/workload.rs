//! The changes of transaction n, performed on a store and on a model, and the comparison of the two
//! in every way of reading.

use std::collections::BTreeMap;
use std::path::Path;

use pongo::prelude::*;
use pongo::{CommitError, ReadError, WriteError};

use crate::{Outcome, mix};

/// One row for each transaction that was committed.
#[pongo::record]
#[pongo(table = "works")]
#[derive(Debug, PartialEq)]
pub(crate) struct Work {
    #[pongo(key)]
    pub(crate) number: u64,
    pub(crate) kind: u64,
}

#[pongo::record]
#[pongo(table = "items")]
#[derive(Clone, Copy, pongo::zerocopy::IntoBytes, Debug)]
pub(crate) struct Item {
    #[pongo(key)]
    pub(crate) id: u64,
    #[pongo(unique)]
    pub(crate) code: u64,
    #[pongo(index)]
    pub(crate) group: u32,
    _pad: u32,
    /// The transaction that wrote it last.
    pub(crate) by: u64,
    pub(crate) text: Text,
}

/// Compares all bytes, including the position of the text.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

/// Rows that are loaded in bulk or filled in place.
#[pongo::record]
#[pongo(table = "samples")]
#[derive(Debug, PartialEq)]
pub struct Sample {
    #[pongo(key)]
    /// The key.
    pub id: u64,
    /// The transaction that wrote it.
    pub by: u64,
}

const ITEMS: u64 = 120;
const GROUPS: u64 = 5;
/// Rows of one bulk load: more than a chunk.
const LOAD: u64 = 4500;
/// Rows that are filled in place.
const FILL: u64 = 150;
/// Number of sample ids for each transaction.
const STRIDE: u64 = 10_000;

/// The kind of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Puts three items.
    Few,
    /// Puts two items, without waiting for the disk.
    Relaxed,
    /// Loads samples in bulk and puts two items.
    Bulk,
    /// Puts and deletes items.
    Changes,
    /// Rolls back to a savepoint, fills samples in place, and puts four items.
    Savepoint,
    /// Puts 70 items.
    Many,
}

/// Returns the kind of transaction `number`.
#[must_use]
pub fn kind_of(number: u64) -> Kind {
    [Kind::Many, Kind::Few, Kind::Relaxed, Kind::Bulk, Kind::Changes, Kind::Savepoint][(number % 6) as usize]
}

/// Returns options with files so small that a short workload fills chunks, starts new segments and
/// writes checkpoints, and with ordered indexes of few rows.
#[must_use]
pub fn options() -> Options {
    Options::new().chunk_size(64 << 10).small_files(16 << 10, 64 << 10).ordered_tuning(
        50,
        1 << 20,
        5000,
        1 << 18,
    )
}

/// Opens or creates the store in a folder that only its test uses.
///
/// # Errors
///
/// Returns the error of the store.
pub fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder belongs to this test; only PongoDB writes to it.
    unsafe { options().open(path) }
}

/// Returns the changes to items: an id, and whether the item is put or deleted.
fn changes(number: u64) -> impl Iterator<Item = (u64, bool)> {
    let kind = kind_of(number);
    let count = match kind {
        Kind::Few => 3,
        Kind::Relaxed | Kind::Bulk => 2,
        Kind::Savepoint => 4,
        Kind::Changes => 25,
        Kind::Many => 70,
    };
    (0..count).map(move |place| {
        let draw = mix(number << 20 | place);
        (draw % ITEMS, kind != Kind::Changes || draw >> 40 & 1 == 0)
    })
}

fn item(id: u64, by: u64, text: Text) -> Item {
    Item { id, code: code(id, by), group: (mix(id ^ by) % GROUPS) as u32, _pad: 0, by, text }
}

fn code(id: u64, by: u64) -> u64 {
    by * ITEMS + id
}

fn text(id: u64, by: u64) -> String {
    let times = if mix(id ^ by << 9).is_multiple_of(40) { 500 } else { mix(by) % 6 };
    format!("item {id} by {by}; ").repeat(times as usize)
}

fn samples(number: u64) -> u64 {
    match kind_of(number) {
        Kind::Bulk => LOAD,
        Kind::Savepoint => FILL,
        _ => 0,
    }
}

/// Performs transaction `number` and commits it.
///
/// # Errors
///
/// Returns the first error of the store.
pub fn transact(store: &Store, number: u64) -> Result<(), CommitError> {
    let kind = kind_of(number);
    let durability = if kind == Kind::Relaxed { Durability::Relaxed } else { Durability::Sync };
    let mut tx = store.begin_write_with(durability)?;
    let sample = |id| Sample { id: number * STRIDE + id, by: number };
    match kind {
        Kind::Bulk => _ = tx.table::<Sample>()?.extend((0..LOAD).map(sample))?,
        Kind::Savepoint => {
            let savepoint = tx.savepoint()?;
            let lost = tx.text(&"never to be seen ".repeat(20))?;
            tx.table::<Item>()?.put(&item(number % ITEMS, number + 1_000_000, lost))?;
            tx.table::<Sample>()?.extend((0..600).map(|id| sample(id + 5000)))?;
            tx.rollback_to(&savepoint)?;
            let mut table = tx.table::<Sample>()?;
            let mut rows = table.alloc_slice(FILL as usize)?;
            (0..).zip(rows.iter_mut()).for_each(|(id, row)| *row = sample(id));
            rows.insert()?;
        }
        _ => {}
    }
    for (id, put) in changes(number) {
        if !put {
            tx.table::<Item>()?.delete(id)?;
            continue;
        }
        let text = tx.text(&text(id, number))?;
        let item = item(id, number, text);
        let mut items = tx.table::<Item>()?;
        if id % 2 == 0 || items.update(id, |old| *old = item)?.is_none() {
            items.put(&item)?;
        }
    }
    tx.table::<Work>()?.insert(&Work { number, kind: kind as u64 })?;
    tx.commit().map(|_| ())
}

/// The content of a store after these transactions, in this order.
#[derive(Default, Debug)]
pub struct Model {
    works: Vec<u64>,
    /// The transaction that wrote each item.
    items: BTreeMap<u64, u64>,
}

impl Model {
    /// Returns the content after these transactions.
    pub fn of(works: impl IntoIterator<Item = u64>) -> Model {
        let mut model = Model::default();
        for number in works {
            model.works.push(number);
            for (id, put) in changes(number) {
                if put {
                    model.items.insert(id, number);
                } else {
                    model.items.remove(&id);
                }
            }
        }
        model
    }

    /// Returns the differences between a snapshot and the model: none if the snapshot is correct.
    ///
    /// # Errors
    ///
    /// Returns an error if the snapshot cannot be read.
    pub fn differences(&self, snapshot: &Snapshot) -> Outcome<Vec<String>> {
        let mut wrong = Vec::new();
        let mut say = |is_right: bool, what: &dyn Fn() -> String| {
            if !is_right {
                wrong.push(what());
            }
        };
        let works = snapshot.table::<Work>()?;
        let found = all(works.rows().map(|row| row.map(|work| work.number)))?;
        say(found == self.works, &|| format!("works {found:?} instead of {:?}", self.works));
        for &number in &self.works {
            let found = works.get(number)?.map(|work| work.kind);
            say(found == Some(kind_of(number) as u64), &|| format!("work {number} is {found:?}"));
        }
        let table = snapshot.table::<Item>()?;
        let of = |items: Vec<(u64, u64)>| items.into_iter().collect::<BTreeMap<_, _>>();
        let found = of(all(table.rows().map(|row| row.map(|item| (item.id, item.by))))?);
        say(found == self.items, &|| format!("items {found:?} instead of {:?}", self.items));
        say(table.len() == self.items.len() as u64, &|| format!("{} items", table.len()));
        for id in 0..ITEMS {
            let expected = self.items.get(&id);
            let found = table.get(id)?;
            say(found.map(|item| &item.by) == expected, &|| {
                format!("item {id}: {found:?}, not {expected:?}")
            });
            let Some(item) = found else { continue };
            let words = match item.text.as_str(snapshot) {
                Err(error @ pongo::HeapError::Chunk { .. }) => return Err(error.into()),
                words => words,
            };
            let is_right = words.as_ref().is_ok_and(|words| *words == text(id, item.by));
            say(is_right, &|| format!("text of item {id}: {words:?}"));
            let by_code =
                all(table.by(Item::CODE).eq(code(id, item.by))?.map(|row| row.map(|item| item.id)))?;
            say(by_code == [id], &|| format!("the code of item {id} is that of {by_code:?}"));
        }
        let none = table.by(Item::CODE).eq(code(0, 999))?.count();
        say(none == 0, &|| "an unused code was found".to_owned());
        let ranged = all(table.range(..)?.map(|row| row.map(|item| (item.id, item.by))))?;
        let expected: Vec<(u64, u64)> = self.items.iter().map(|(&id, &by)| (id, by)).collect();
        say(ranged == expected, &|| format!("a range of {ranged:?} instead of {expected:?}"));
        for group in 0..GROUPS as u32 {
            let mut found = all(table.by(Item::GROUP).eq(group)?.map(|row| row.map(|item| item.id)))?;
            found.sort_unstable();
            let is_in = |(&id, &by): (&u64, &u64)| ((mix(id ^ by) % GROUPS) as u32 == group).then_some(id);
            let expected: Vec<u64> = self.items.iter().filter_map(is_in).collect();
            say(found == expected, &|| format!("group {group} is {found:?} instead of {expected:?}"));
        }
        let table = snapshot.table::<Sample>()?;
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        for slice in table.slices() {
            for sample in slice? {
                *found.entry(sample.by).or_default() += 1;
                say(sample.id / STRIDE == sample.by, &|| format!("sample {sample:?}"));
            }
        }
        let expected: BTreeMap<u64, u64> =
            self.works.iter().map(|&number| (number, samples(number))).filter(|of| of.1 > 0).collect();
        say(found == expected, &|| format!("samples {found:?} instead of {expected:?}"));
        for (&number, &count) in &expected {
            let first = number * STRIDE;
            for id in [0, count / 2, count - 1] {
                let found = table.get(first + id)?.map(|sample| sample.by);
                say(found == Some(number), &|| format!("sample {id} of {number} is by {found:?}"));
            }
            say(table.get(first + count)?.is_none(), &|| format!("sample {count} of {number} was found"));
            let ranged = table.range(first..first + STRIDE)?.count_rows()?;
            say(ranged == count, &|| format!("a range of {ranged} samples of {number}"));
        }
        Ok(wrong)
    }
}

fn all<T>(items: impl Iterator<Item = Result<T, ReadError>>) -> Result<Vec<T>, ReadError> {
    items.collect()
}

/// Returns the numbers of the transactions that a snapshot shows, in commit order.
///
/// # Errors
///
/// Returns an error if the snapshot cannot be read.
pub fn works_of(snapshot: &Snapshot) -> Outcome<Vec<u64>> {
    Ok(all(snapshot.table::<Work>()?.rows().map(|row| row.map(|work| work.number)))?)
}

/// Returns whether an error says that the store is poisoned.
#[must_use]
pub fn is_poisoned(error: &CommitError) -> bool {
    matches!(error, CommitError::Refused(WriteError::Poisoned { .. }))
}
