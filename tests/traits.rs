//! The auto traits and other traits that threads, clones and `catch_unwind` need from the public
//! types, asserted at compile time for each type.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};

use pongo::predicate::{And, Between, Compare, IsIn, Not, Or, Predicate, Presence};
use pongo::prelude::*;
use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "people")]
#[derive(Debug, PartialEq)]
struct Person {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    born: Maybe<i32>,
}

#[pongo::record]
#[pongo(table = "files", key = "external")]
#[derive(Debug, PartialEq)]
struct File {
    #[pongo(index)]
    len: u64,
}

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_clone<T: Clone>() {}
fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}

macro_rules! each {
    ($check:ident: $($type:ty),* $(,)?) => {$( $check::<$type>(); )*};
}

type Born = pongo::Column<Person, Maybe<i32>>;
type Long = Compare<File, u64, pongo::predicate::GreaterThan>;
type Condition = Compare<Person, Maybe<i32>, pongo::predicate::LessThan>;

#[test]
fn handles_are_shared_and_iterators_sent() {
    each!(is_send: Store, Snapshot, pongo::Options, pongo::Savepoint, pongo::Cursor);
    each!(is_sync: Store, Snapshot, pongo::Options, pongo::Savepoint, pongo::Cursor);
    each!(is_send: Table<'static, Person>, ExternalTable<'static, File>, Born);
    each!(is_sync: Table<'static, Person>, ExternalTable<'static, File>, Born);
    each!(is_send: pongo::IndexView<'static, Person, Born>);
    each!(is_send: pongo::ExternalIndexView<'static, File, pongo::Column<File, u64>>);
    each!(is_sync: pongo::IndexView<'static, Person, Born>);
    each!(is_sync: pongo::ExternalIndexView<'static, File, pongo::Column<File, u64>>);

    each!(
        is_send:
        pongo::Rows<'static, Person>,
        pongo::Entries<'static, Person>,
        pongo::Slices<'static, Person>,
        pongo::GetMany<'static, 'static, Person>,
        pongo::Range<'static, Person>,
        pongo::RangeEntries<'static, Person>,
        pongo::Filtered<'static, Person, Condition>,
        pongo::FilteredEntries<'static, Person, Condition>,
        pongo::ExternalRows<'static, File>,
        pongo::ExternalEntries<'static, File>,
        pongo::ExternalValues<'static, File>,
        pongo::ExternalGetMany<'static, 'static, File, String>,
        pongo::ExternalFiltered<'static, File, Long>,
        pongo::ExternalFilteredEntries<'static, File, Long>,
        pongo::ExternalRange<'static, File>,
    );
    each!(
        is_sync:
        pongo::Rows<'static, Person>,
        pongo::Entries<'static, Person>,
        pongo::Slices<'static, Person>,
        pongo::GetMany<'static, 'static, Person>,
        pongo::Filtered<'static, Person, Condition>,
        pongo::FilteredEntries<'static, Person, Condition>,
        pongo::ExternalRows<'static, File>,
        pongo::ExternalEntries<'static, File>,
        pongo::ExternalValues<'static, File>,
        pongo::ExternalGetMany<'static, 'static, File, String>,
        pongo::ExternalFiltered<'static, File, Long>,
        pongo::ExternalFilteredEntries<'static, File, Long>,
    );
    // The types whose copy costs no read. A range is not among them: it holds the rows that it read
    // ahead, and can be opened again after its cursor instead.
    each!(
        is_clone:
        Store,
        Table<'static, Person>,
        ExternalTable<'static, File>,
        pongo::Rows<'static, Person>,
        pongo::Entries<'static, Person>,
        pongo::Slices<'static, Person>,
        pongo::GetMany<'static, 'static, Person>,
        pongo::Filtered<'static, Person, Condition>,
        pongo::FilteredEntries<'static, Person, Condition>,
        pongo::ExternalRows<'static, File>,
        pongo::ExternalEntries<'static, File>,
        pongo::ExternalValues<'static, File>,
        pongo::ExternalGetMany<'static, 'static, File, String>,
        pongo::ExternalFiltered<'static, File, Long>,
        pongo::ExternalFilteredEntries<'static, File, Long>,
        pongo::Cursor,
    );

    type Both = And<Condition, Not<Or<Presence<Person, i32>, IsIn<Person, Maybe<i32>>>>>;
    each!(is_send: Both, Between<Person, Maybe<i32>>, Box<dyn Predicate<Person>>);
    each!(is_sync: Both, Between<Person, Maybe<i32>>, Box<dyn Predicate<Person>>);
    each!(is_clone: Both, Between<Person, Maybe<i32>>);
}

#[test]
fn errors_are_sent() {
    each!(
        is_send:
        pongo::OpenError,
        pongo::ReadError,
        pongo::WriteError,
        pongo::CommitError,
        pongo::HeapError,
        pongo::FixedStrError,
        pongo::UuidError,
        pongo::StorageError,
    );
    each!(is_sync: pongo::OpenError, pongo::ReadError, pongo::WriteError, pongo::CommitError);
    each!(is_sync: pongo::StorageError);
}

fn store() -> Result<Store, Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Person>()?
        .extend((0..5000).map(|id| Person { id, born: (id % 7 != 0).then_some(id as i32).into() }))?;
    tx.external::<File>()?.extend((0..100_u64).map(|len| (len.to_be_bytes(), File { len })))?;
    tx.commit()?;
    Ok(store)
}

/// An iterator continues in another thread at its position, and its copy returns the same items.
#[test]
fn iterators_go_on_in_other_threads() -> Outcome {
    fn rest<I: Iterator<Item: Send> + Send>(mut iterator: I, taken: usize, all: usize) {
        assert_eq!(iterator.by_ref().take(taken).count(), taken);
        let rest = std::thread::scope(|scope| scope.spawn(move || iterator.count()).join());
        assert_eq!(rest.expect("the thread counts"), all - taken);
    }
    fn twice<I: Iterator<Item: Send> + Send + Clone>(iterator: I, taken: usize, all: usize) {
        let mut copy = iterator.clone();
        copy.by_ref().take(taken / 2).for_each(drop);
        let again = copy.clone();
        assert_eq!(copy.count(), again.count());
        rest(iterator, taken, all);
    }
    let store = store()?;
    let snapshot = store.begin_read()?;
    let people = snapshot.table::<Person>()?;
    twice(people.rows(), 777, 5000);
    twice(people.entries(), 4999, 5000);
    twice(people.slices(), 0, people.slices().count());
    let keys: Vec<u64> = (0..100).collect();
    twice(people.get_many(&keys), 37, 100);
    twice(people.filter(Person::ID.ge(4000)), 55, 1000);
    twice(people.filter(Person::ID.ge(4000)).entries(), 55, 1000);
    rest(people.range(..)?, 300, 5000);
    rest(people.range(..)?.entries(), 300, 5000);
    rest(people.by(Person::BORN).range(Maybe::some(0)..)?.rev(), 300, 5000 - 715);
    let files = snapshot.external::<File>()?;
    twice(files.rows(), 20, 100);
    twice(files.values(), 20, 100);
    rest(files.range(..)?, 20, 100);
    Ok(())
}

fn len_of<T: PongoRecord>(table: &Table<'_, T>) -> u64 {
    table.len()
}

fn first_key<T: ExternalRecord>(table: &ExternalTable<'_, T>) -> Outcome<Option<Vec<u8>>> {
    let Some((key, _)) = table.first()? else { return Ok(None) };
    assert!(table.contains(key)? && table.range(key..=key)?.count_rows()? == 1);
    Ok(Some(key.to_vec()))
}

fn pop_all<T, K: pongo::KeysMut<T>>(mut table: TableMut<'_, T, K>) -> Outcome<u64> {
    let before = table.len()?;
    while table.pop_last()?.is_some() {}
    assert!(table.is_empty()? && table.rows()?.next().is_none());
    Ok(before)
}

#[test]
fn functions_are_generic_in_record_and_keys() -> Outcome {
    let store = store()?;
    let snapshot = store.begin_read()?;
    assert_eq!(len_of(&snapshot.table::<Person>()?), 5000);
    assert_eq!(first_key(&snapshot.external::<File>()?)?, Some(vec![0; 8]));
    let tx = store.begin_write()?;
    assert_eq!((pop_all(tx.table::<Person>()?)?, pop_all(tx.external::<File>()?)?), (5000, 100));
    tx.commit()?;
    Ok(())
}

#[test]
fn store_and_snapshot_outlive_a_panic() -> Outcome {
    each!(is_unwind_safe: Store, Snapshot);
    let store = store()?;
    let snapshot = store.begin_read()?;
    let caught = catch_unwind(|| {
        let tx = store.begin_write().expect("a transaction");
        tx.table::<Person>().expect("the table").delete(3).expect("not found");
        let seen = snapshot.table::<Person>().expect("the table").rows().take(10).count();
        assert_eq!(seen, 9, "this one panics");
    });
    assert!(caught.is_err());
    // No change of the transaction remains, and the store stays usable.
    assert_eq!(snapshot.table::<Person>()?.len(), 5000);
    let tx = store.begin_write()?;
    assert!(tx.table::<Person>()?.delete(4)?);
    tx.commit()?;
    let now = store.begin_read()?;
    assert!(now.table::<Person>()?.contains(3)? && !now.table::<Person>()?.contains(4)?);
    let moved = catch_unwind(AssertUnwindSafe(move || now.seq()));
    assert!(moved.is_ok());
    Ok(())
}
