//! Records with padding: every method stores and returns them as it does others, and their padding
//! bytes are zero in the files whatever they are in memory.

use std::path::Path;

use pongo::prelude::*;
use pongo::schema::StoredSchema;
use pongo_core::padding::with_bytes;
use pongo_test_support::{Outcome, child};

/// The record that a new user writes first.
#[pongo::record]
#[derive(Debug, PartialEq)]
struct Order {
    #[pongo(key)]
    region: u16,
    #[pongo(key)]
    number: u32,
    quantity: u16,
    price: f64,
}

/// The derive alone, without `IntoBytes`.
#[derive(
    PongoRecord,
    Clone,
    Copy,
    Debug,
    PartialEq,
    pongo::zerocopy::TryFromBytes,
    pongo::zerocopy::Immutable,
    pongo::zerocopy::KnownLayout,
)]
#[zerocopy(crate = "pongo::zerocopy")]
#[repr(C)]
struct Stop {
    at: u16,
    station: u32,
    open: bool,
}

#[pongo::record]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    First = 1,
    Second = 2,
}

/// A record with gaps between its fields, in its nested records, and 7 bytes of padding at its end.
#[pongo::record]
#[pongo(table = "rides", index(class, number))]
#[derive(Debug, PartialEq)]
struct Ride {
    #[pongo(key)]
    number: u32,
    #[pongo(unique)]
    ticket: u64,
    class: Class,
    #[pongo(index)]
    price: f64,
    stops: [Stop; 2],
    back: Maybe<Stop>,
    delay: Maybe<u16>,
    #[pongo(index)]
    leaves: Timestamp,
    paid: bool,
}

/// A record with a text, for the checks of texts before a row is staged.
#[pongo::record]
#[pongo(table = "notes")]
struct Note {
    #[pongo(key)]
    id: u16,
    text: Text,
    read: bool,
}

/// A record with external keys.
#[pongo::record]
#[pongo(table = "files", key = "external")]
#[derive(Debug, PartialEq)]
struct File {
    open: bool,
    #[pongo(index)]
    len: u64,
    kind: u8,
}

/// More than 64 KiB: written to the chunks at once, never staged.
#[pongo::record]
#[pongo(table = "large")]
struct Large {
    #[pongo(key)]
    id: u16,
    numbers: [u64; 10_000],
    last: u8,
}

/// The same with external keys.
#[pongo::record]
#[pongo(table = "large-files", key = "external")]
struct LargeFile {
    first: u16,
    numbers: [u64; 10_000],
    last: u8,
}

fn stop(station: u32) -> Stop {
    Stop { at: station as u16 + 1, station, open: station.is_multiple_of(2) }
}

fn ride(number: u32) -> Ride {
    Ride {
        number,
        ticket: 1000 + u64::from(number),
        class: if number.is_multiple_of(3) { Class::First } else { Class::Second },
        price: f64::from(number % 10) / 2.0,
        stops: [stop(number), stop(number + 1)],
        back: if number.is_multiple_of(2) { Maybe::some(stop(number + 2)) } else { Maybe::none() },
        delay: if number.is_multiple_of(5) { Maybe::some(number as u16) } else { Maybe::none() },
        leaves: Timestamp::from_micros(i64::from(number) * 60_000_000),
        paid: true,
    }
}

fn file(len: u64) -> File {
    File { open: true, len, kind: 3 }
}

/// The value of padding bytes in memory.
const DIRT: u8 = 0xaa;

/// Fills the last 7 bytes of a value, which are padding, in memory.
fn soil<T>(value: &mut T) {
    let start = std::ptr::from_mut(value).cast::<u8>().wrapping_add(size_of::<T>() - 7);
    // SAFETY: the last 7 bytes of `value`, which is borrowed mutably. They belong to no field, so
    // any bytes may be there.
    unsafe { start.write_bytes(DIRT, 7) };
}

fn soiled<T>(mut value: T) -> Box<T> {
    soil(&mut value);
    let mut value = Box::new(value);
    soil(&mut *value);
    value
}

fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is this test's own; only PongoDB writes to it.
    unsafe { Options::new().chunk_size(1 << 20).open(path) }
}

/// Returns the contents of all files of a folder.
fn contents(folder: &Path) -> Result<Vec<Vec<u8>>, std::io::Error> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { all.extend(contents(&path)?) } else { all.push(std::fs::read(path)?) }
    }
    Ok(all)
}

fn occurs(part: &[u8], files: &[Vec<u8>]) -> bool {
    files.iter().any(|file| file.windows(part.len()).any(|window| window == part))
}

#[test]
fn the_first_record_that_people_write() -> Outcome {
    assert_eq!((size_of::<Order>(), Order::SCHEMA.size, Order::PRICE.offset()), (24, 24, 16));
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut orders = tx.table::<Order>()?;
    let order = Order { region: 3, number: 7, quantity: 2, price: 9.5 };
    assert!(!orders.put(&order)?);
    assert!(orders.insert(&order).is_err());
    assert_eq!(orders.update((3, 7), |order| order.quantity += 1)?, Some(()));
    orders.extend((0..10).map(|number| Order { region: 1, number, quantity: 1, price: 0.5 }))?;
    drop(orders);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let orders = snapshot.table::<Order>()?;
    assert_eq!(orders.get((3, 7))?, Some(&Order { quantity: 3, ..order }));
    assert_eq!(orders.range((1, 8)..)?.count(), 3);
    assert_eq!(orders.filter(Order::PRICE.gt(1.0).and(Order::QUANTITY.eq(3))).count(), 1);
    Ok(())
}

#[test]
fn the_schema_file_has_the_gaps() {
    let schema = StoredSchema::from(Ride::SCHEMA);
    let text = schema.to_text();
    for line in [
        "field 8 8 ticket: u64",
        "field 16 1 class: enum Class: u8 {First = 1, Second = 2}",
        "field 32 24 stops: [record Stop {at: u16, station: u32, open: bool}; 2]",
        "field 56 16 back: maybe<record Stop {at: u16, station: u32, open: bool}>",
        "field 88 1 paid: bool",
        "size 96",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert_eq!(StoredSchema::parse(&text).expect("its own text"), schema);
    let external = StoredSchema::from(<File as ExternalRecord>::Row::SCHEMA);
    assert_eq!(StoredSchema::parse(&external.to_text()).expect("its own text"), external);
    let row = with_bytes(&ride(4), <[u8]>::to_vec);
    assert_eq!(schema.invalid_field(&row), None);
}

/// The padding of each value is 0xAA in memory. If any method copied it, it would be in the files.
#[test]
fn padding_is_zero_in_all_files() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let store = open(&path)?;
    let tx = store.begin_write()?;
    let mut rides = tx.table::<Ride>()?;
    rides.put(&soiled(ride(1)))?;
    rides.insert(&soiled(ride(2)))?;
    rides.put(&soiled(ride(2)))?;
    rides.update(1, soil)?;
    rides.extend((10..2000).map(|number| soiled(ride(number))))?;
    rides.modify(20..30, soil)?;
    rides.put(&soiled(ride(5000)))?;
    drop(rides);
    let mut files = tx.external::<File>()?;
    files.put("a", &soiled(file(1)))?;
    files.update("a", soil)?;
    files.extend((0..100).map(|n| (format!("f{n}"), *soiled(file(n)))))?;
    drop(files);
    let mut large = tx.table::<Large>()?;
    let value = || soiled(Large { id: 5, numbers: [6; 10_000], last: 7 });
    large.put(&value())?;
    large.update(5, soil)?;
    large.extend([&*value()])?;
    drop(large);
    let mut large_files = tx.external::<LargeFile>()?;
    let value = soiled(LargeFile { first: 5, numbers: [6; 10_000], last: 7 });
    large_files.put("x", &value)?;
    large_files.update("x", soil)?;
    drop(large_files);
    tx.commit()?;
    // A commit of one small row is in the journal alone.
    let tx = store.begin_write()?;
    tx.table::<Ride>()?.put(&soiled(ride(6000)))?;
    tx.commit()?;

    let files = contents(&path)?;
    for number in [1, 2, 1500, 5000, 6000] {
        with_bytes(&ride(number), |bytes| assert!(occurs(bytes, &files), "ride {number} is in the files"));
    }
    assert!(!occurs(&[DIRT; 7], &files), "padding is in the files");

    let snapshot = store.begin_read()?;
    let rides = snapshot.table::<Ride>()?;
    assert_eq!((rides.len(), rides.get(20)?), (1994, Some(&ride(20))));
    let large = snapshot.table::<Large>()?;
    assert_eq!(large.get(5)?.map(|large| (large.numbers[9999], large.last)), Some((6, 7)));
    let found = snapshot.external::<LargeFile>()?.get("x")?.map(|large| (large.first, large.last));
    assert_eq!(found, Some((5, 7)));
    Ok(())
}

#[test]
fn every_read_returns_what_was_stored() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let store = open(&path)?;
    let tx = store.begin_write()?;
    let mut rides = tx.table::<Ride>()?;
    rides.extend((0..300).map(ride))?;
    for number in 300..400 {
        rides.put(&ride(number))?;
    }
    // The transaction reads its own rows, loaded and staged ones.
    assert_eq!(rides.get(5)?, Some(&ride(5)));
    assert_eq!(rides.get(350)?, Some(&ride(350)));
    assert_eq!(rides.by(Ride::TICKET)?.eq(1350)?.next().transpose()?, Some(&ride(350)));
    assert_eq!(
        rides.range(295..305)?.map(|ride| ride.map(|ride| ride.number)).collect::<Result<Vec<_>, _>>()?,
        (295..305).collect::<Vec<_>>()
    );
    assert!(rides.delete(350)? && rides.delete(5)?);
    let error = rides.put(&Ride { ticket: 1007, ..ride(900) }).unwrap_err().to_string();
    assert!(error.contains("ticket = 1007"), "{error}");
    let error = rides.update(8, |ride| ride.number = 9).unwrap_err();
    assert!(matches!(error, pongo::WriteError::KeyChanged { .. }));
    assert_eq!(rides.pop_first()?, Some(ride(0)));
    let taken = rides.extract_if(.., |ride| ride.number == 399)?.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(taken, [ride(399)]);
    drop(rides);
    tx.commit()?;

    let check = |store: &Store| -> Outcome {
        let snapshot = store.begin_read()?;
        let rides = snapshot.table::<Ride>()?;
        assert_eq!(rides.len(), 396);
        let numbers = || (1..399).filter(|number| ![5, 350].contains(number));
        let all = rides.range(..)?.collect::<Result<Vec<_>, _>>()?;
        assert!(all.into_iter().eq(&numbers().map(ride).collect::<Vec<_>>()));
        let mut scanned = 0;
        for slice in rides.slices() {
            for row in slice? {
                assert_eq!(row, &ride(row.number));
                scanned += 1;
            }
        }
        assert!(scanned >= 396);
        let expected =
            |holds: &dyn Fn(&Ride) -> bool| numbers().filter(|&number| holds(&ride(number))).count();
        let count = rides.filter(Ride::PRICE.between(1.0..2.0).and(Ride::CLASS.eq(Class::First))).count();
        assert_eq!(count, expected(&|ride| (1.0..2.0).contains(&ride.price) && ride.class == Class::First));
        assert_eq!(rides.filter(Ride::BACK.is_some()).count(), expected(&|ride| ride.back.is_some()));
        assert_eq!(rides.filter(Ride::BACK.is_none()).count(), expected(&|ride| ride.back.is_none()));
        assert_eq!(
            rides.filter(Ride::DELAY.lt(100)).count(),
            expected(&|ride| ride.delay.get().is_some_and(|delay| *delay < 100))
        );
        assert_eq!(rides.filter(Ride::TICKET.is_in(&[1001, 1005, 1006])).count(), 2);
        assert_eq!(rides.by(Ride::PRICE).count(1.5..=1.5)?, expected(&|ride| ride.price == 1.5) as u64);
        let first = rides.by((Ride::CLASS, Ride::NUMBER)).eq((Class::First, 9))?.next().transpose()?;
        assert_eq!(first, Some(&ride(9)));
        assert_eq!(rides.by(Ride::TICKET).eq(1009)?.next().transpose()?, Some(&ride(9)));
        Ok(())
    };
    check(&store)?;
    store.close()?;
    let store = open(&path)?;
    check(&store)?;
    assert!(store.verify(|_| ())?.is_valid());
    Ok(())
}

#[test]
fn savepoints_restore_rows_with_padding() -> Outcome {
    let store = Store::in_memory()?;
    let mut tx = store.begin_write()?;
    let mut rides = tx.table::<Ride>()?;
    for number in 0..10 {
        rides.put(&ride(number))?;
    }
    drop(rides);
    let savepoint = tx.savepoint()?;
    let mut rides = tx.table::<Ride>()?;
    rides.update(3, |ride| ride.price = 77.0)?;
    rides.delete(4)?;
    rides.put(&ride(10))?;
    rides.put(&Ride { price: 5.5, ..ride(9) })?;
    rides.extend((20..30).map(ride))?;
    assert_eq!(rides.len()?, 20);
    drop(rides);
    tx.rollback_to(&savepoint)?;
    let rides = tx.table::<Ride>()?;
    let all = rides.range(..)?.collect::<Result<Vec<_>, _>>()?;
    assert!(all.into_iter().eq(&(0..10).map(ride).collect::<Vec<_>>()));
    drop(rides);
    tx.commit()?;
    assert_eq!(store.begin_read()?.table::<Ride>()?.len(), 10);
    Ok(())
}

#[test]
fn texts_in_records_with_padding_are_checked() -> Outcome {
    let store = Store::in_memory()?;
    let other = Store::in_memory()?;
    let tx = store.begin_write()?;
    let foreign = other.begin_write()?.text("a text of another store")?;
    let text = tx.text("hello")?;
    let mut notes = tx.table::<Note>()?;
    notes.put(&Note { id: 1, text, read: true })?;
    assert!(matches!(
        notes.put(&Note { id: 2, text: foreign, read: true }),
        Err(pongo::WriteError::HeapField { .. })
    ));
    drop(notes);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let notes = snapshot.table::<Note>()?;
    let note = notes.get(1)?.ok_or("it was put")?;
    assert_eq!((note.text.as_str(&snapshot)?, note.read), ("hello", true));
    Ok(())
}

#[test]
fn external_tables_hold_records_with_padding() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut files = tx.external::<File>()?;
    assert!(!files.put("b", &file(2))? && files.put("b", &file(3))?);
    files.extend((0..50).map(|n| (format!("c{n:02}"), file(n))))?;
    assert_eq!(files.update("c07", |file| file.kind = 9)?, Some(()));
    assert!(files.delete("c08")?);
    assert_eq!(files.pop_last()?, Some((b"c49".to_vec(), file(49))));
    drop(files);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let files = snapshot.external::<File>()?;
    assert_eq!((files.len(), files.get("b")?), (49, Some(&file(3))));
    assert_eq!(files.get("c07")?.map(|file| file.kind), Some(9));
    assert_eq!(files.filter(File::LEN.ge(40)).count(), 9);
    assert_eq!(files.by(File::LEN).count(3..=3)?, 2);
    Ok(())
}

const KILLED: &str = "rows_with_padding_survive_a_kill";

#[test]
fn rows_with_padding_survive_a_kill() -> Outcome {
    if let Some(path) = child::role() {
        let store = open(Path::new(&path))?;
        let tx = store.begin_write()?;
        tx.table::<Ride>()?.put(&soiled(ride(1)))?;
        tx.commit()?;
        let tx = store.begin_write()?;
        tx.table::<Ride>()?.extend((10..1000).map(ride))?;
        tx.table::<Ride>()?.delete(12)?;
        tx.commit()?;
        // Ends the process without closing the store.
        std::process::abort();
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let status = child::command(KILLED, path.to_str().ok_or("a path of text")?).output()?.status;
    assert!(!status.success(), "the child ends by a signal");
    let store = open(&path)?;
    let snapshot = store.begin_read()?;
    let rides = snapshot.table::<Ride>()?;
    assert_eq!((rides.len(), rides.get(1)?, rides.get(12)?), (990, Some(&ride(1)), None));
    assert_eq!(rides.get(999)?, Some(&ride(999)));
    Ok(())
}

/// Padding that is not zero on disk, which is damage that no type can detect, is ignored.
#[test]
fn padding_of_any_bytes_is_read() -> Outcome {
    use pongo::zerocopy::TryFromBytes;
    let mut words = [0u64; size_of::<Ride>() / 8];
    let bytes = pongo::zerocopy::IntoBytes::as_mut_bytes(&mut words);
    with_bytes(&ride(8), |row| bytes.copy_from_slice(row));
    let end = bytes.len();
    bytes[end - 7..].fill(DIRT);
    bytes[17..24].fill(DIRT);
    let read = Ride::try_ref_from_bytes(bytes).map_err(|error| error.to_string())?;
    assert_eq!(read, &ride(8));
    with_bytes(read, |clean| with_bytes(&ride(8), |row| assert_eq!(clean, row)));
    Ok(())
}
