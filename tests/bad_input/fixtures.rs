//! A small store that the bad-input tests damage: its contents, and checks whether a store still
//! has them.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use pongo::prelude::*;

pub(crate) use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "rooms")]
#[derive(pongo::zerocopy::IntoBytes, Debug)]
pub(crate) struct Room {
    #[pongo(key)]
    pub(crate) number: u64,
    pub(crate) area: f64,
    pub(crate) name: Text,
    pub(crate) floor: u16,
    pub(crate) taken: bool,
    _pad: [u8; 5],
}

/// Compares the bytes: rows are equal if their text is at the same address.
impl PartialEq for Room {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

impl Room {
    pub(crate) fn new(number: u64, area: f64, name: Text) -> Self {
        Self { number, area, name, floor: (number % 7) as u16, taken: number.is_multiple_of(3), _pad: [0; 5] }
    }
}

/// A table that shares nothing with the first.
#[pongo::record]
#[pongo(table = "guests")]
#[derive(Debug, PartialEq)]
pub(crate) struct Guest {
    #[pongo(key)]
    pub(crate) name: FixedStr<16>,
    pub(crate) room: u64,
}

/// Opens the store with small chunks, so that little data makes several chunks.
pub(crate) fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is the test's own. Its contents are changed only while the store is
    // closed.
    unsafe { Options::new().chunk_size(64 << 10).checkpoint_bytes(1 << 20).open(path) }
}

/// Asserts that an error's message contains all these words, and returns the error for further
/// checks.
#[track_caller]
pub(crate) fn says<E: Error>(error: E, words: &[&str]) -> E {
    let message = error.to_string();
    // Printed for a review of the messages with `--nocapture`.
    println!("{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is missing in: {message}");
    }
    error
}

pub(crate) fn name_of(number: u64) -> String {
    format!("room {number}, {}", "with a view ".repeat((number % 5) as usize))
}

/// The changes of one commit to the rooms: the area of each room that is put, `None` for each that
/// is deleted.
type Changes = Vec<(u64, Option<f64>)>;

const FIRST: u64 = 6000;

pub(crate) fn history() -> Vec<Changes> {
    let mut commits: Vec<Changes> = vec![(0..FIRST).map(|number| (number, Some(1.0))).collect()];
    for commit in 1..30 {
        let touched = |place: u64| commit * 173 % 400 + place * 450;
        commits.push(
            (0..12)
                .map(|place| {
                    (touched(place), (place % 3 != 0).then_some(commit as f64 + place as f64 / 16.0))
                })
                .chain([(FIRST + commit, Some(0.5))])
                .collect(),
        );
    }
    commits
}

/// Returns the rooms that exist after these commits.
pub(crate) fn rooms_after(commits: &[Changes]) -> BTreeMap<u64, f64> {
    let mut rooms = BTreeMap::new();
    for &(number, area) in commits.iter().flatten() {
        match area {
            Some(area) => rooms.insert(number, area),
            None => rooms.remove(&number),
        };
    }
    rooms
}

/// Commits one set of changes. The number of guests counts the commits, so that a partial commit is
/// detected.
pub(crate) fn perform(store: &Store, changes: &Changes, bulk: bool) -> Outcome {
    let tx = store.begin_write()?;
    let mut staged = Vec::new();
    for &(number, area) in changes {
        match area {
            Some(area) => staged.push(Room::new(number, area, tx.text(&name_of(number))?)),
            None => _ = tx.table::<Room>()?.delete(number)?,
        }
    }
    if bulk {
        tx.table::<Room>()?.extend(staged)?;
    } else {
        let mut rooms = tx.table::<Room>()?;
        staged.iter().try_for_each(|room| rooms.put(room).map(|_| ()))?;
    }
    let guests = tx.table::<Guest>()?.len()?;
    tx.table::<Guest>()?
        .insert(&Guest { name: format!("guest {guests}").as_str().try_into()?, room: guests })?;
    tx.commit()?;
    Ok(())
}

/// Creates a store with the whole history and returns it open.
pub(crate) fn build(path: &Path) -> Outcome<Store> {
    let mut store = open(path)?;
    for (place, changes) in history().iter().enumerate() {
        perform(&store, changes, place == 0)?;
        if place < 2 {
            // After this checkpoint all data has checksums: the journal has none for a bulk load.
            store.close()?;
            store = open(path)?;
        }
    }
    Ok(store)
}

/// The contents of a store, read by scans.
#[derive(PartialEq, Debug)]
pub(crate) struct Contents {
    pub(crate) rooms: BTreeMap<u64, f64>,
    pub(crate) guests: u64,
}

pub(crate) fn expected(commits: &[Changes]) -> Contents {
    Contents { rooms: rooms_after(commits), guests: commits.len() as u64 }
}

/// Reads a whole store, texts included. Panics if the data contradicts itself.
///
/// # Errors
///
/// Returns an error if something cannot be read.
pub(crate) fn read(snapshot: &Snapshot) -> Outcome<Contents> {
    let rooms = snapshot.table::<Room>()?;
    let mut found = BTreeMap::new();
    for slice in rooms.slices() {
        for room in slice? {
            let name = room.name.as_str(snapshot)?;
            assert_eq!(name, name_of(room.number), "a wrong text");
            assert_eq!(*room, Room::new(room.number, room.area, room.name), "a wrong row");
            assert_eq!(found.insert(room.number, room.area), None, "room {} exists twice", room.number);
        }
    }
    assert_eq!(rooms.len(), found.len() as u64, "the number of rooms");
    let guests = snapshot.table::<Guest>()?;
    for guest in guests.rows() {
        let guest = guest?;
        assert_eq!(guest.name.as_str(), format!("guest {}", guest.room));
    }
    Ok(Contents { rooms: found, guests: guests.len() })
}

/// Looks up every room that could exist and asserts that no hit is wrong.
///
/// Returns the numbers of the rooms in `contents` that are not found.
pub(crate) fn missed(snapshot: &Snapshot, contents: &Contents) -> Outcome<Vec<u64>> {
    let rooms = snapshot.table::<Room>()?;
    let mut missed = Vec::new();
    for number in 0..FIRST + 40 {
        match (rooms.get(number)?, contents.rooms.get(&number)) {
            (Some(room), area) => {
                assert_eq!((room.number, Some(&room.area)), (number, area), "a wrong room is found");
            }
            (None, Some(_)) => missed.push(number),
            (None, None) => {}
        }
    }
    Ok(missed)
}

/// Asserts that a store holds the whole history; it may hold more guests that were added later.
#[track_caller]
pub(crate) fn assert_whole(store: &Store) {
    let snapshot = store.begin_read().expect("a snapshot");
    let contents = read(&snapshot).expect("the store can be read");
    assert_eq!(contents.rooms, rooms_after(&history()));
    assert!(contents.guests >= history().len() as u64);
    assert_eq!(missed(&snapshot, &contents).expect("the index can be read"), []);
}

/// Returns all files of a folder, as paths relative to it.
pub(crate) fn files(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if entry.file_type()?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}
