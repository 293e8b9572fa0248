//! Savepoints: random transactions over several tables with nested savepoints, compared with cloned
//! maps; the events that end a savepoint, and rejected operations.

use std::collections::BTreeMap;
use std::path::Path;

use pongo::prelude::*;
use pongo::{CommitError, ReadError, WriteError};
use pongo_test_support::{Outcome, Random};

#[pongo::record]
#[pongo(table = "notes")]
#[derive(Clone, Copy, pongo::zerocopy::IntoBytes, Debug)]
struct Note {
    #[pongo(key)]
    id: u64,
    version: u64,
    /// Contains the id and the version as text.
    text: Text,
}

/// Compares the bytes: rows are equal if their text is at the same address.
impl PartialEq for Note {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

#[pongo::record]
#[pongo(table = "seats")]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seat {
    #[pongo(key)]
    row: u16,
    #[pongo(key)]
    place: u16,
    version: u32,
    #[pongo(unique)]
    who: u64,
}

/// A table that does not exist yet in most transactions.
#[pongo::record]
#[pongo(table = "late")]
struct Late {
    #[pongo(key)]
    id: u64,
    version: u64,
}

#[derive(Clone, Default, PartialEq, Debug)]
struct Maps {
    notes: BTreeMap<u64, u64>,
    /// The `who` and the version of each seat, by row and place.
    seats: BTreeMap<(u16, u16), (u64, u32)>,
    late: BTreeMap<u64, u64>,
}

const NOTES: u64 = 60;
const ROWS: u64 = 5;
const WHO: u64 = 40;

fn text_of(id: u64, version: u64) -> String {
    format!("note {id}, version {version}; ").repeat((version % 4) as usize)
}

struct Run {
    store: Store,
    maps: Maps,
    rng: Random,
    version: u64,
    rolled_back: u32,
    deepest: usize,
}

fn options() -> Options {
    Options::new().chunk_size(64 << 10).checkpoint_bytes(1 << 20)
}

fn who_sits(maps: &Maps, who: u64) -> Option<(u16, u16)> {
    maps.seats.iter().find(|(_, known)| known.0 == who).map(|(&seat, _)| seat)
}

impl Run {
    fn new(store: Store, rng: Random) -> Self {
        Self { store, maps: Maps::default(), rng, version: 0, rolled_back: 0, deepest: 0 }
    }

    fn note(&mut self, tx: &mut WriteTransaction) -> Outcome<Note> {
        self.version += 1;
        let id = self.rng.below(NOTES);
        Ok(Note { id, version: self.version, text: tx.text(&text_of(id, self.version))? })
    }

    fn seat(&mut self) -> Seat {
        self.version += 1;
        let [row, place] = [(); 2].map(|()| self.rng.below(ROWS) as u16);
        Seat { row, place, version: self.version as u32, who: self.rng.below(WHO) }
    }

    fn change_seats(&mut self, tx: &mut WriteTransaction, maps: &mut Maps) -> Outcome {
        let seat = self.seat();
        let key = (seat.row, seat.place);
        let mut seats = tx.table::<Seat>()?;
        if self.rng.below(3) == 0 {
            assert_eq!(seats.delete(key)?, maps.seats.remove(&key).is_some());
            return Ok(());
        }
        let taken = who_sits(maps, seat.who).is_some_and(|other| other != key);
        match seats.put(&seat) {
            Ok(was_there) => {
                assert!(!taken);
                assert_eq!(was_there, maps.seats.insert(key, (seat.who, seat.version)).is_some());
            }
            Err(WriteError::UniqueViolation { .. }) => assert!(taken),
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    fn load(&mut self, tx: &mut WriteTransaction, maps: &mut Maps) -> Outcome {
        let count = if self.rng.below(10) == 0 { 3000 } else { self.rng.below(30) };
        let notes: Vec<Note> = (0..count).map(|_| self.note(tx)).collect::<Outcome<_>>()?;
        maps.notes.extend(notes.iter().map(|note| (note.id, note.version)));
        tx.table::<Note>()?.extend(notes)?;
        let mut seats = Vec::new();
        for _ in 0..count % 16 {
            let seat = self.seat();
            let key = (seat.row, seat.place);
            if who_sits(maps, seat.who).is_none_or(|other| other == key) {
                maps.seats.insert(key, (seat.who, seat.version));
                seats.push(seat);
            }
        }
        if self.rng.below(2) == 0 {
            let mut table = tx.table::<Seat>()?;
            let mut rows = table.alloc_slice(seats.len())?;
            rows.copy_from_slice(&seats);
            // Allocated and discarded.
            rows.insert()?;
            table.alloc_slice(3)?.discard();
        } else {
            tx.table::<Seat>()?.extend(seats)?;
        }
        Ok(())
    }

    fn change(&mut self, tx: &mut WriteTransaction, maps: &mut Maps) -> Outcome {
        match self.rng.below(16) {
            0..2 => self.load(tx, maps)?,
            2..7 => self.change_seats(tx, maps)?,
            7 => {
                let (id, version) = (self.rng.below(4), self.version);
                tx.table::<Late>()?.put(&Late { id, version })?;
                maps.late.insert(id, version);
            }
            8 => check_transaction(tx, maps)?,
            9..12 => {
                let id = self.rng.below(NOTES);
                assert_eq!(tx.table::<Note>()?.delete(id)?, maps.notes.remove(&id).is_some());
            }
            12 => {
                let note = self.note(tx)?;
                let before =
                    tx.table::<Note>()?.update(note.id, |known| std::mem::replace(known, note).version)?;
                let known = maps.notes.get_mut(&note.id);
                assert_eq!(before, known.map(|known| std::mem::replace(known, note.version)));
            }
            _ => {
                let note = self.note(tx)?;
                let was_there = tx.table::<Note>()?.put(&note)?;
                assert_eq!(was_there, maps.notes.insert(note.id, note.version).is_some());
            }
        }
        Ok(())
    }

    /// Makes random changes with savepoints among them. Returns the contents that the transaction
    /// would commit.
    fn fill(&mut self, tx: &mut WriteTransaction) -> Outcome<Maps> {
        let mut maps = self.maps.clone();
        let mut points: Vec<(Savepoint, Maps)> = Vec::new();
        let mut ended: Vec<Savepoint> = Vec::new();
        for _ in 0..self.rng.below(80) {
            match self.rng.below(8) {
                0 => {
                    points.push((tx.savepoint()?, maps.clone()));
                    self.deepest = self.deepest.max(points.len());
                }
                1 if !points.is_empty() => {
                    let place = self.rng.below(points.len() as u64) as usize;
                    tx.rollback_to(&points[place].0)?;
                    maps = points[place].1.clone();
                    ended.extend(points.drain(place + 1..).map(|(savepoint, _)| savepoint));
                    self.rolled_back += 1;
                    if self.rng.below(2) == 0 {
                        check_transaction(tx, &maps)?;
                    }
                }
                2 if !points.is_empty() && self.rng.below(2) == 0 => {
                    let place = self.rng.below(points.len() as u64) as usize;
                    let mut released = points.drain(place..).map(|(savepoint, _)| savepoint);
                    tx.release(released.next().ok_or("one at least")?)?;
                    ended.extend(released);
                }
                3 if !ended.is_empty() => {
                    let savepoint = ended.swap_remove(self.rng.below(ended.len() as u64) as usize);
                    let error = if self.rng.below(2) == 0 {
                        tx.rollback_to(&savepoint).expect_err("it ended")
                    } else {
                        tx.release(savepoint).expect_err("it ended")
                    };
                    assert!(matches!(error, WriteError::Savepoint { .. }), "{error}");
                }
                _ => self.change(tx, &mut maps)?,
            }
        }
        Ok(maps)
    }

    fn transaction(&mut self) -> Outcome {
        let store = self.store.clone();
        let mut tx = store.begin_write_with(Durability::Relaxed)?;
        let maps = self.fill(&mut tx)?;
        match self.rng.below(4) {
            0 => tx.abort(),
            _ => {
                tx.commit()?;
                self.maps = maps;
            }
        }
        check_snapshot(&store.begin_read()?, &self.maps)
    }
}

fn check_transaction(tx: &mut WriteTransaction, maps: &Maps) -> Outcome {
    let mut texts = Vec::new();
    let notes = tx.table::<Note>()?;
    assert_eq!(notes.len()?, maps.notes.len() as u64);
    for id in 0..NOTES {
        let note = notes.get(id)?;
        assert_eq!(note.map(|note| note.version), maps.notes.get(&id).copied(), "note {id}");
        texts.extend(note.copied());
    }
    for note in texts {
        assert_eq!(note.text.as_str(tx)?, text_of(note.id, note.version));
    }
    let seats = tx.table::<Seat>()?;
    assert_eq!(seats.len()?, maps.seats.len() as u64);
    for (&(row, place), &(who, version)) in &maps.seats {
        assert_eq!(seats.get((row, place))?, Some(&Seat { row, place, version, who }));
    }
    Ok(())
}

fn check_snapshot(snapshot: &Snapshot, maps: &Maps) -> Outcome {
    let notes = snapshot.table::<Note>()?;
    let found: BTreeMap<u64, u64> = notes
        .rows()
        .map(|note| note.map(|note| (note.id, note.version)))
        .collect::<Result<_, ReadError>>()?;
    assert_eq!((&found, notes.len()), (&maps.notes, maps.notes.len() as u64));
    for id in 0..NOTES {
        let note = notes.get(id)?;
        assert_eq!(note.map(|note| note.version), maps.notes.get(&id).copied(), "note {id}");
        if let Some(note) = note {
            assert_eq!(note.text.as_str(snapshot)?, text_of(id, note.version));
        }
    }
    let seats = snapshot.table::<Seat>()?;
    assert_eq!(seats.len(), maps.seats.len() as u64);
    for who in 0..WHO {
        let found = seats.by(Seat::WHO).eq(who)?.next().transpose()?;
        assert_eq!(found.map(|seat| (seat.row, seat.place)), who_sits(maps, who), "{who}");
    }
    for (&(row, place), &(who, version)) in &maps.seats {
        assert_eq!(seats.get((row, place))?, Some(&Seat { row, place, version, who }));
    }
    let late = snapshot.table::<Late>()?;
    let found: BTreeMap<u64, u64> =
        late.rows().map(|late| late.map(|late| (late.id, late.version))).collect::<Result<_, ReadError>>()?;
    assert_eq!(found, maps.late);
    Ok(())
}

#[test]
fn in_memory() -> Outcome {
    let mut rng = Random::seeded("in_memory");
    // A new store each time, so that tables are created again and again.
    let (mut rolled_back, mut deepest) = (0, 0);
    for _ in 0..25 {
        let mut run = Run::new(options().in_memory()?, rng);
        for _ in 0..20 {
            run.transaction()?;
        }
        (rng, rolled_back, deepest) = (run.rng, rolled_back + run.rolled_back, deepest.max(run.deepest));
    }
    assert!(rolled_back > 500 && deepest > 5, "{rolled_back} rollbacks, {deepest} savepoints in one another");
    Ok(())
}

fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    unsafe { options().open(path) }
}

#[test]
fn on_disk() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("savepoints.pongo");
    let mut run = Run::new(open(&path)?, Random::seeded("on_disk"));
    for round in 0..8 {
        for _ in 0..12 {
            run.transaction()?;
        }
        let Run { store, maps, rng, version, .. } = run;
        store.close()?;
        if round % 3 == 1 {
            std::fs::remove_dir_all(path.join("hash"))?;
        }
        run = Run { maps, version, ..Run::new(open(&path)?, rng) };
        check_snapshot(&run.store.begin_read()?, &run.maps)?;
    }
    Ok(())
}

#[test]
fn a_text_made_since_is_refused() -> Outcome {
    let store = Store::in_memory()?;
    let mut tx = store.begin_write()?;
    let before = tx.text("stays")?;
    let savepoint = tx.savepoint()?;
    let since = tx.text("goes away")?;
    tx.table::<Note>()?.put(&Note { id: 1, version: 0, text: since })?;
    tx.rollback_to(&savepoint)?;
    for other in ["", "it's away", "something longer than that"] {
        let other = tx.text(other)?;
        for text in [since, Text::EMPTY, other, before] {
            let put = tx.table::<Note>()?.put(&Note { id: 2, version: 0, text });
            let is_since = (text.addr(), text.len(), text.content_hash())
                == (since.addr(), since.len(), since.content_hash());
            match put {
                Err(WriteError::HeapField { field, .. }) => assert!(is_since && field == "text"),
                put => assert!(put.is_ok() && !is_since),
            }
        }
        tx.rollback_to(&savepoint)?;
    }
    assert!(since.as_str(&tx).is_err());
    assert_eq!(before.as_str(&tx)?, "stays");
    tx.table::<Note>()?.put(&Note { id: 1, version: 0, text: before })?;
    tx.commit()?;
    let snapshot = store.begin_read()?;
    let note = *snapshot.table::<Note>()?.get(1)?.ok_or("it was put")?;
    assert_eq!((note.text.as_str(&snapshot)?, snapshot.table::<Note>()?.len()), ("stays", 1));
    Ok(())
}

#[test]
fn of_another_transaction_or_ended() -> Outcome {
    let store = Store::in_memory()?;
    let mut first = store.begin_write()?;
    let foreign = first.savepoint()?;
    first.abort();
    let mut tx = store.begin_write()?;
    let say = |found: &str| {
        format!(
            "expected a savepoint of this transaction that has not ended, found {found}; a savepoint ends \
             with its transaction, when it is released, and when an outer one is released or rolled back to: \
             make another with `tx.savepoint()`"
        )
    };
    let error = tx.rollback_to(&foreign).expect_err("of another transaction");
    assert_eq!(error.to_string(), say("one of another transaction"));
    let outer = tx.savepoint()?;
    tx.table::<Late>()?.put(&Late { id: 1, version: 1 })?;
    let inner = tx.savepoint()?;
    tx.rollback_to(&inner)?;
    tx.rollback_to(&outer)?;
    assert_eq!(
        tx.rollback_to(&inner).expect_err("an outer one was rolled back to").to_string(),
        say("one that ended")
    );
    let error = tx.release(foreign).expect_err("of another transaction");
    assert_eq!(error.to_string(), say("one of another transaction"));
    tx.table::<Late>()?.put(&Late { id: 2, version: 2 })?;
    tx.rollback_to(&outer)?;
    tx.release(outer)?;
    assert!(tx.release(inner).is_err());
    tx.commit()?;
    assert_eq!(store.begin_read()?.table::<Late>()?.len(), 0);
    Ok(())
}

/// The table `late` with another layout.
#[pongo::record]
#[pongo(table = "late")]
struct Later {
    #[pongo(key)]
    id: u32,
    #[pongo(unique)]
    version: u32,
}

#[test]
fn rollback_removes_new_table() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tables.pongo");
    let store = open(&path)?;
    let mut tx = store.begin_write()?;
    let outer = tx.savepoint()?;
    tx.table::<Late>()?.put(&Late { id: 1, version: 1 })?;
    let inner = tx.savepoint()?;
    tx.table::<Seat>()?.put(&Seat { row: 1, place: 1, version: 1, who: 1 })?;
    tx.table::<Late>()?.extend([Late { id: 2, version: 2 }])?;
    tx.rollback_to(&inner)?;
    assert_eq!(tx.table::<Late>()?.len()?, 1);
    tx.rollback_to(&outer)?;
    tx.table::<Later>()?.extend([Later { id: 3, version: 3 }])?;
    assert!(tx.table::<Late>().is_err());
    tx.commit()?;
    let snapshot = store.begin_read()?;
    assert_eq!(
        snapshot.table::<Later>()?.rows().map(|row| row.map(|row| row.id)).collect::<Result<Vec<_>, _>>()?,
        [3]
    );
    assert_eq!(
        snapshot.table::<Later>()?.by(Later::VERSION).eq(3)?.next().transpose()?.map(|row| row.id),
        Some(3)
    );
    assert_eq!(std::fs::read_dir(path.join("schema"))?.count(), 1);
    drop(snapshot);
    store.close()?;
    let store = open(&path)?;
    assert_eq!(store.begin_read()?.table::<Later>()?.get(3)?.map(|row| row.version), Some(3));
    Ok(())
}

/// A rollback to a savepoint repairs a transaction that could otherwise only be aborted.
#[test]
fn failed_load_is_rolled_back() -> Outcome {
    let store = Store::in_memory()?;
    let seat = |number: u16, who| Seat { row: 0, place: number, version: 0, who };
    let mut tx = store.begin_write()?;
    tx.table::<Seat>()?.extend((0..10).map(|number| seat(number, u64::from(number))))?;
    let savepoint = tx.savepoint()?;
    for _ in 0..2 {
        let panics = (10..40)
            .map(|number| if number < 30 { seat(number, 1000 + u64::from(number)) } else { panic!() });
        let mut table = tx.table::<Seat>()?;
        let load = std::panic::AssertUnwindSafe(|| table.extend(panics).map(drop));
        std::panic::catch_unwind(load).expect_err("the iterator panics");
        drop(table);
        tx.rollback_to(&savepoint)?;
        // Two rows with the same unique value.
        tx.table::<Seat>()?.extend([seat(20, 77), seat(21, 77)])?;
        assert!(tx.table::<Seat>()?.put(&seat(30, 78)).is_err());
        tx.rollback_to(&savepoint)?;
        tx.table::<Seat>()?.put(&seat(21, 77))?;
        tx.rollback_to(&savepoint)?;
    }
    tx.table::<Seat>()?.put(&seat(20, 77))?;
    tx.release(savepoint)?;
    assert!(matches!(tx.table::<Seat>()?.put(&seat(22, 77)), Err(WriteError::UniqueViolation { .. })));
    tx.commit()?;
    let snapshot = store.begin_read()?;
    assert_eq!(snapshot.table::<Seat>()?.len(), 11);
    assert_eq!(
        snapshot.table::<Seat>()?.by(Seat::WHO).eq(77_u64)?.next().transpose()?.map(|seat| seat.place),
        Some(20)
    );
    // A load with a duplicate that was not rolled back.
    let mut tx = store.begin_write()?;
    let _savepoint = tx.savepoint()?;
    tx.table::<Seat>()?.extend([seat(40, 5)])?;
    let error = tx.commit().expect_err("5 sits elsewhere");
    assert!(matches!(error, CommitError::Refused(WriteError::UniqueViolation { .. })), "{error}");
    Ok(())
}

/// Chunks that only a rolled-back load needed are removed.
#[test]
fn rolled_back_load_frees_space() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("space.pongo");
    let store = open(&path)?;
    let mut tx = store.begin_write()?;
    let savepoint = tx.savepoint()?;
    tx.table::<Late>()?.extend((0..200_000).map(|id| Late { id, version: 0 }))?;
    tx.rollback_to(&savepoint)?;
    tx.table::<Late>()?.put(&Late { id: 1, version: 1 })?;
    let savepoint = tx.savepoint()?;
    tx.table::<Late>()?.extend((0..200_000).map(|id| Late { id, version: 0 }))?;
    tx.rollback_to(&savepoint)?;
    tx.commit()?;
    let chunks = std::fs::read_dir(path.join("tables/late"))?.count();
    assert!(chunks <= 2, "{chunks} files for one row");
    assert_eq!(store.begin_read()?.table::<Late>()?.get(1)?.map(|late| late.version), Some(1));
    Ok(())
}
