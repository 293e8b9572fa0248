//! Rows and types that a table rejects: the error names them, and nothing is changed.

use pongo::prelude::*;
use pongo::{CommitError, ReadError, WriteError};

use crate::fixtures::{Guest, Outcome, Room, says};

/// `Room` with changed fields, as after a change of the program.
#[pongo::record]
#[pongo(table = "rooms")]
struct WiderRoom {
    #[pongo(key)]
    number: u64,
    area: f64,
    name: Text,
    floor: u32,
    taken: bool,
    _pad: [u8; 3],
    price: u64,
}

/// The same bytes with another key field.
#[pongo::record]
#[pongo(table = "rooms")]
struct RoomByFloor {
    number: u64,
    area: f64,
    name: Text,
    #[pongo(key)]
    floor: u16,
    taken: bool,
    _pad: [u8; 5],
}

/// The same layout as `Room`, under another type name.
#[pongo::record]
#[pongo(table = "rooms")]
struct Chamber {
    #[pongo(key)]
    number: u64,
    area: f64,
    name: Text,
    floor: u16,
    taken: bool,
    _pad: [u8; 5],
}

#[pongo::record]
#[pongo(table = "stays")]
struct Stay {
    #[pongo(key)]
    room: u32,
    nights: u32,
    #[pongo(key)]
    guest: FixedStr<8>,
}

fn with_a_room() -> Outcome<Store> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let name = tx.text("attic")?;
    tx.table::<Room>()?.put(&Room::new(5, 12.5, name))?;
    tx.commit()?;
    Ok(store)
}

#[test]
fn a_key_that_is_there() -> Outcome {
    let store = with_a_room()?;
    let tx = store.begin_write()?;
    let error = tx.table::<Room>()?.insert(&Room::new(5, 1.0, Text::EMPTY)).unwrap_err();
    let error = says(error, &["table rooms", "number", "5", "already", "`put`", "`update`"]);
    assert!(matches!(error, WriteError::KeyExists { table, .. } if table == "rooms"));
    // Also for a row of this transaction, a row of a bulk load, and a key of several fields.
    let mut rooms = tx.table::<Room>()?;
    rooms.insert(&Room::new(6, 1.0, Text::EMPTY))?;
    rooms.extend([Room::new(7, 1.0, Text::EMPTY)])?;
    for number in [6, 7] {
        assert!(matches!(
            rooms.insert(&Room::new(number, 2.0, Text::EMPTY)),
            Err(WriteError::KeyExists { .. })
        ));
    }
    let stay = Stay { room: 5, nights: 2, guest: "Ada".try_into()? };
    tx.table::<Stay>()?.insert(&stay)?;
    let error = tx.table::<Stay>()?.insert(&stay).unwrap_err();
    says(error, &["table stays", "room", "5", "guest", "Ada"]);
    // The transaction stays usable, and the existing row is unchanged.
    drop(rooms);
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let rooms = snapshot.table::<Room>()?;
    assert_eq!((rooms.len(), snapshot.table::<Stay>()?.len()), (3, 1));
    let attic = rooms.get(5)?.ok_or("room 5 was there")?;
    assert_eq!((attic.area, attic.name.as_str(&snapshot)?), (12.5, "attic"));
    assert_eq!(rooms.get(6)?.map(|room| room.area), Some(1.0));
    Ok(())
}

#[test]
fn an_update_that_changes_the_key() -> Outcome {
    let store = with_a_room()?;
    let tx = store.begin_write()?;
    let error = tx.table::<Room>()?.update(5, |room| room.number = 9).unwrap_err();
    let error = says(error, &["table rooms", "5", "9", "delete the old one and put the new one"]);
    assert!(matches!(error, WriteError::KeyChanged { .. }));
    assert!(tx.table::<Room>()?.contains(5)? && !tx.table::<Room>()?.contains(9)?);
    Ok(())
}

#[test]
fn a_changed_struct() -> Outcome {
    let store = with_a_room()?;
    let words = [
        "table `rooms`",
        "stored",
        "program",
        "record Room: 40 bytes, aligned to 8",
        "record WiderRoom: 48 bytes, aligned to 8",
        "!    32   2 floor: u16",
        "32   4 floor: u32",
        "40   8 price: u64",
        "give the type its old layout; or name another table",
    ];
    let words: Vec<&str> = words.iter().map(|word| word.trim_start_matches('!').trim_start()).collect();
    let snapshot = store.begin_read()?;
    let error = says(snapshot.table::<WiderRoom>().unwrap_err(), &words);
    assert!(matches!(&error, ReadError::Schema(mismatch) if mismatch.table == "rooms"));
    // Each field is on a separate line, and differing lines are marked.
    let message = error.to_string();
    let line = |word: &str| message.lines().find(|line| line.contains(word)).unwrap_or_default();
    assert!(line("floor").starts_with('!') && line("price").starts_with('!'), "{message}");
    assert!(!line("area").starts_with('!') && !line("key number").starts_with('!'), "{message}");

    let tx = store.begin_write()?;
    let error = says(tx.table::<WiderRoom>().unwrap_err(), &words);
    assert!(matches!(error, WriteError::Schema(_)));
    let error = says(tx.table::<RoomByFloor>().unwrap_err(), &["! | key number", "| key floor"]);
    assert!(matches!(error, WriteError::Schema(_)));
    drop(tx);
    let error = says(store.rebuild_index::<WiderRoom>().unwrap_err(), &words);
    assert!(matches!(error, WriteError::Schema(_)));

    // A type with the same layout is accepted, and the store is unchanged.
    assert_eq!(snapshot.table::<Chamber>()?.get(5)?.map(|room| room.area), Some(12.5));
    let tx = store.begin_write()?;
    tx.table::<Room>()?.delete(5)?;
    let error = says(tx.table::<Chamber>().unwrap_err(), &["table rooms", "`Chamber`", "one type"]);
    assert!(matches!(error, WriteError::TableTypeMismatch { .. }));
    tx.commit()?;
    assert!(store.begin_read()?.table::<Room>()?.is_empty());
    Ok(())
}

#[test]
fn table_created_twice_with_different_types() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Room>()?.put(&Room::new(1, 1.0, Text::EMPTY))?;
    let error = says(tx.table::<WiderRoom>().unwrap_err(), &["table `rooms`", "price"]);
    assert!(matches!(error, WriteError::Schema(_)));
    tx.abort();
    // The table was never created: another type may use its name.
    let tx = store.begin_write()?;
    let room =
        WiderRoom { number: 1, area: 1.0, name: Text::EMPTY, floor: 9, taken: true, _pad: [0; 3], price: 7 };
    tx.table::<WiderRoom>()?.put(&room)?;
    tx.commit()?;
    assert_eq!(store.begin_read()?.table::<WiderRoom>()?.get(1)?.map(|room| room.price), Some(7));
    assert!(store.begin_read()?.table::<Room>().is_err());
    Ok(())
}

#[test]
fn text_of_another_store() -> Outcome {
    let (store, other) = (with_a_room()?, Store::in_memory()?);
    let tx = other.begin_write()?;
    tx.text("something before it")?;
    let foreign = tx.text("from elsewhere")?;
    tx.commit()?;
    let tx = store.begin_write()?;
    tx.text("long enough that the address is inside of it")?;
    let aborted = tx.text("never committed")?;
    tx.abort();
    for text in [foreign, aborted] {
        let tx = store.begin_write()?;
        let error = tx.table::<Room>()?.put(&Room::new(6, 1.0, text)).unwrap_err();
        let error = says(error, &["field `name`", "table rooms", "tx.text(", "of this transaction"]);
        assert!(matches!(error, WriteError::HeapField { .. }));
        let rooms = [Room::new(7, 1.0, Text::EMPTY), Room::new(8, 1.0, text)];
        let error = tx.table::<Room>()?.extend(rooms).unwrap_err();
        assert!(matches!(error, WriteError::HeapField { .. }));
        // Earlier rows are in the transaction, the rejected row is not.
        let rooms = tx.table::<Room>()?;
        assert_eq!((rooms.contains(6)?, rooms.contains(7)?, rooms.contains(8)?), (false, true, false));
        assert_eq!(rooms.len()?, 2);
    }
    assert_eq!(store.begin_read()?.table::<Room>()?.len(), 1);
    Ok(())
}

#[test]
fn errors_keep_their_sources() -> Outcome {
    let store = with_a_room()?;
    let tx = store.begin_write()?;
    let error = tx.table::<Room>()?.insert(&Room::new(5, 1.0, Text::EMPTY)).unwrap_err();
    let refused = CommitError::Refused(error);
    says(&refused, &["not committed", "nothing was changed", "key"]);
    let source = std::error::Error::source(&refused).ok_or("a source")?;
    assert!(matches!(source.downcast_ref(), Some(WriteError::KeyExists { .. })));
    let tx = Store::in_memory()?.begin_write()?;
    let guest = Guest { name: "Ada".try_into()?, room: 1 };
    assert!(!tx.table::<Guest>()?.put(&guest)? && tx.table::<Guest>()?.put(&guest)?);
    Ok(())
}
