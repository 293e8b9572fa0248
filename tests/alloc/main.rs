//! Rows that are filled in place, and rows that are too large for any other method: from one byte
//! to hundreds of megabytes, on the small stack of a test thread.

mod large;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pongo::prelude::*;
use pongo::{CommitError, WriteError};
use pongo_test_support::running::{Running, say};
use pongo_test_support::{Outcome, Random, child};

/// Opens the store in a folder of this test, with chunks of 64 KiB, so that nearly every row
/// crosses a chunk boundary.
fn open(folder: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    unsafe { Options::new().chunk_size(64 << 10).open(folder.join("alloc.pongo")) }
}

/// Runs a test in memory and on disk.
fn both(test: impl Fn(&Store) -> Outcome) -> Outcome {
    test(&Options::new().chunk_size(64 << 10).in_memory()?)?;
    let folder = tempfile::tempdir()?;
    test(&open(folder.path())?)
}

#[pongo::record]
#[derive(PartialEq, Debug)]
struct Tile {
    height: f32,
    material: u16,
    flags: [u8; 2],
}

impl Tile {
    fn at(world: u64, y: usize, x: usize) -> Self {
        Self { height: (y * 256 + x) as f32, material: (x ^ y) as u16, flags: [world as u8, y as u8] }
    }
}

/// A record of nested arrays (the use case of structchunk).
#[pongo::record]
#[pongo(table = "worlds")]
struct World {
    #[pongo(key)]
    id: u64,
    tiles: [[Tile; 256]; 256],
}

fn fill(world: &mut World, id: u64) {
    world.id = id;
    for (y, row) in world.tiles.iter_mut().enumerate() {
        for (x, tile) in row.iter_mut().enumerate() {
            *tile = Tile::at(id, y, x);
        }
    }
}

#[track_caller]
fn check(world: &World) {
    for (y, row) in world.tiles.iter().enumerate() {
        for (x, tile) in row.iter().enumerate() {
            assert_eq!(*tile, Tile::at(world.id, y, x), "world {} at {y}, {x}", world.id);
        }
    }
}

/// A row whose size is not a divisor of the size of pages or blocks.
#[pongo::record]
#[pongo(table = "odd")]
#[derive(PartialEq, Debug)]
struct Odd {
    #[pongo(key)]
    id: u8,
    bytes: [u8; 1020],
}

#[test]
fn nested_arrays_are_filled_in_place() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    let before = store.begin_read()?;
    for id in [3, 4] {
        let tx = store.begin_write()?;
        let mut worlds = tx.table::<World>()?;
        let mut world = worlds.alloc()?;
        assert!(world.tiles.iter().flatten().all(|tile| tile.height == 0.0 && tile.material == 0));
        fill(&mut world, id);
        world.insert()?;
        check(worlds.get(id)?.ok_or("its own row")?);
        // Readers of the chunks that are being filled do not see the row.
        assert_eq!(store.begin_read()?.table::<World>()?.len(), id - 3);
        drop(worlds);
        tx.commit()?;
    }
    assert_eq!(before.table::<World>()?.len(), 0);
    drop(before);
    store.close()?;
    let store = open(folder.path())?;
    let snapshot = store.begin_read()?;
    let worlds = snapshot.table::<World>()?;
    for id in [3, 4] {
        check(worlds.get(id)?.ok_or("it was committed")?);
    }
    assert_eq!(worlds.slices().map(|rows| rows.map(<[World]>::len)).sum::<Result<usize, _>>()?, 2);
    Ok(())
}

#[test]
fn a_byte_is_a_row() -> Outcome {
    #[pongo::record]
    #[pongo(table = "bytes")]
    struct Byte {
        #[pongo(key)]
        byte: u8,
    }
    both(|store| {
        let tx = store.begin_write()?;
        let mut bytes = tx.table::<Byte>()?;
        let mut one = bytes.alloc()?;
        one.byte = 200;
        drop(one);
        let mut rows = bytes.alloc_slice(100)?;
        assert_eq!(rows.len(), 100);
        (0..).zip(rows.iter_mut()).for_each(|(number, row)| row.byte = number);
        rows.insert()?;
        assert!(bytes.alloc_slice(0)?.is_empty());
        assert_eq!(bytes.len()?, 101);
        drop(bytes);
        tx.commit()?;
        let snapshot = store.begin_read()?;
        let bytes = snapshot.table::<Byte>()?;
        let all: Result<Vec<u8>, _> = bytes.rows().map(|row| row.map(|row| row.byte)).collect();
        assert_eq!(all?, std::iter::once(200).chain(0..100).collect::<Vec<_>>());
        assert!(bytes.contains(99)? && bytes.contains(200)? && !bytes.contains(100)?);
        Ok(())
    })
}

#[test]
fn final_key_of_row_counts() -> Outcome {
    both(|store| {
        let tx = store.begin_write()?;
        let mut odd = tx.table::<Odd>()?;
        odd.put(&Odd { id: 0, bytes: [1; 1020] })?;
        odd.put(&Odd { id: 5, bytes: [1; 1020] })?;
        drop(odd);
        tx.commit()?;

        let tx = store.begin_write()?;
        let mut odd = tx.table::<Odd>()?;
        // The key of all zeros is an ordinary key.
        drop(odd.alloc()?);
        assert_eq!(odd.get(0)?.map(|row| row.bytes[9]), Some(0));
        let mut row = odd.alloc()?;
        row.id = 4;
        row.id = 5;
        row.bytes.fill(2);
        drop(row);
        assert_eq!((odd.len()?, odd.get(5)?.map(|row| row.bytes[9])), (2, Some(2)));
        // Of several rows with the same key the last one counts, also among rows of one allocation.
        let mut rows = odd.alloc_slice(3)?;
        for (row, byte) in rows.iter_mut().zip([7, 8, 9]) {
            *row = Odd { id: 5, bytes: [byte; 1020] };
        }
        drop(rows);
        drop(odd);
        tx.commit()?;
        let snapshot = store.begin_read()?;
        let odd = snapshot.table::<Odd>()?;
        assert_eq!((odd.len(), odd.get(5)?.map(|row| row.bytes[1019])), (2, Some(9)));
        assert_eq!(odd.get(0)?, Some(&Odd { id: 0, bytes: [0; 1020] }));
        Ok(())
    })
}

#[test]
fn old_bytes_do_not_shine_through() -> Outcome {
    both(|store| {
        let tx = store.begin_write()?;
        tx.table::<Odd>()?.put(&Odd { id: 1, bytes: [1; 1020] })?;
        tx.commit()?;
        for round in 2..6 {
            // An aborted transaction leaves its bytes in the existing chunk.
            let tx = store.begin_write()?;
            let mut odd = tx.table::<Odd>()?;
            odd.extend((0..20).map(|id| Odd { id, bytes: [0xee; 1020] }))?;
            odd.alloc_slice(120)?.iter_mut().for_each(|row| *row = Odd { id: 9, bytes: [0xdd; 1020] });
            drop(odd);
            tx.abort();
            assert_eq!(store.begin_read()?.table::<Odd>()?.len(), u64::from(round) - 1);

            let tx = store.begin_write()?;
            let mut odd = tx.table::<Odd>()?;
            let row = odd.alloc()?;
            assert_eq!((row.id, row.bytes), (0, [0; 1020]), "round {round}");
            row.discard();
            let rows = odd.alloc_slice(100)?;
            assert!(rows.iter().all(|row| row.id == 0 && row.bytes == [0; 1020]), "round {round}");
            rows.discard();
            // Discarded rows do not count, and their space is allocated again.
            assert_eq!(odd.len()?, u64::from(round) - 1);
            let mut row = odd.alloc()?;
            row.id = round;
            drop(row);
            drop(odd);
            tx.commit()?;
            let snapshot = store.begin_read()?;
            let odd = snapshot.table::<Odd>()?;
            assert_eq!(odd.get(round)?, Some(&Odd { id: round, bytes: [0; 1020] }));
            assert_eq!(odd.get(1)?.map(|row| row.bytes), Some([1; 1020]));
        }
        Ok(())
    })
}

#[track_caller]
fn is_broken_off<T: std::fmt::Debug>(result: Result<T, WriteError>) {
    assert!(matches!(&result, Err(WriteError::IncompleteChange { table }) if table == "odd"), "{result:?}");
}

#[test]
fn rollback_repairs_table_with_forgotten_row() -> Outcome {
    both(|store| {
        let mut tx = store.begin_write()?;
        tx.table::<Odd>()?.put(&Odd { id: 1, bytes: [1; 1020] })?;
        let savepoint = tx.savepoint()?;
        let mut odd = tx.table::<Odd>()?;
        std::mem::forget(odd.alloc()?);
        is_broken_off(odd.extend([Odd { id: 2, bytes: [2; 1020] }]));
        drop(odd);
        tx.rollback_to(&savepoint)?;
        let mut odd = tx.table::<Odd>()?;
        odd.extend([Odd { id: 3, bytes: [3; 1020] }])?;
        odd.alloc()?.id = 4;
        drop(odd);
        tx.commit()?;
        let snapshot = store.begin_read()?;
        let odd = snapshot.table::<Odd>()?;
        assert_eq!(
            odd.range(..)?.map(|row| Ok(row?.id)).collect::<Result<Vec<_>, pongo::ReadError>>()?,
            [1, 3, 4]
        );
        assert_eq!(odd.get(4)?.map(|row| row.bytes), Some([0; 1020]));
        Ok(())
    })
}

#[test]
fn forgotten_row_spoils_the_transaction() -> Outcome {
    both(|store| {
        for panics in [false, true] {
            let tx = store.begin_write()?;
            let mut odd = tx.table::<Odd>()?;
            odd.put(&Odd { id: 1, bytes: [1; 1020] })?;
            if panics {
                let filling = catch_unwind(AssertUnwindSafe(|| {
                    let mut rows = odd.alloc_slice(200).expect("there is space");
                    rows[7].id = 7;
                    rows[200].id = 8;
                }));
                assert!(filling.is_err());
            } else {
                let mut row = odd.alloc()?;
                row.id = 7;
                std::mem::forget(row);
            }
            // Reads still work, and do not see the row.
            assert_eq!((odd.len()?, odd.contains(7)?), (1, false));
            is_broken_off(odd.alloc().map(|row| row.id));
            is_broken_off(odd.alloc_slice(3).map(|rows| rows.len()));
            is_broken_off(odd.extend([Odd { id: 2, bytes: [2; 1020] }]));
            drop(odd);
            let error = tx.commit();
            assert!(
                matches!(error, Err(CommitError::Refused(WriteError::IncompleteChange { .. }))),
                "{error:?}"
            );
            assert_eq!(store.begin_read()?.table::<Odd>()?.len(), 0);
        }
        // The next transaction is not affected.
        let tx = store.begin_write()?;
        let row = tx.table::<Odd>()?.alloc()?.bytes;
        assert_eq!(row, [0; 1020]);
        tx.commit()?;
        assert_eq!(store.begin_read()?.table::<Odd>()?.len(), 1);
        Ok(())
    })
}

#[test]
fn row_filled_during_panic_is_inserted() -> Outcome {
    struct Fill<'t>(&'t mut pongo::WriteTransaction);
    impl Drop for Fill<'_> {
        fn drop(&mut self) {
            let mut odd = self.0.table::<Odd>().expect("a table");
            odd.alloc().expect("there is space").id = 3;
        }
    }
    both(|store| {
        let mut tx = store.begin_write()?;
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _fill = Fill(&mut tx);
            panic!("of something else");
        }));
        assert!(unwound.is_err());
        tx.commit()?;
        assert!(store.begin_read()?.table::<Odd>()?.contains(3)?);
        Ok(())
    })
}

#[test]
fn texts_are_checked_at_insertion() -> Outcome {
    #[pongo::record]
    #[pongo(table = "notes")]
    struct Note {
        #[pongo(key)]
        id: u64,
        text: Text,
    }
    let is_refused =
        |error: &WriteError| matches!(error, WriteError::HeapField { field, .. } if field == "text");
    both(|store| {
        let elsewhere = Store::in_memory()?;
        let other = elsewhere.begin_write()?;
        let forged = other.text("a text of another store, which this one has not")?;
        let tx = store.begin_write()?;
        let text = tx.text("here")?;
        let mut notes = tx.table::<Note>()?;
        *notes.alloc()? = Note { id: 1, text };
        let mut rows = notes.alloc_slice(2)?;
        rows[0] = Note { id: 2, text };
        rows[1] = Note { id: 3, text: forged };
        // If `finish` reports the error, nothing was changed, as with `put`.
        let error = rows.insert().expect_err("no such text");
        assert!(is_refused(&error), "{error}");
        assert_eq!(notes.len()?, 1);
        drop(notes);
        tx.commit()?;
        let snapshot = store.begin_read()?;
        assert_eq!(snapshot.table::<Note>()?.get(1)?.ok_or("there")?.text.as_str(&snapshot)?, "here");

        let tx = store.begin_write()?;
        let mut notes = tx.table::<Note>()?;
        *notes.alloc()? = Note { id: 4, text: forged };
        assert!(notes.alloc().is_err() && !notes.contains(4)?);
        drop(notes);
        match tx.commit() {
            Err(CommitError::Refused(error)) => assert!(is_refused(&error), "{error}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(store.begin_read()?.table::<Note>()?.len(), 1);
        Ok(())
    })
}

#[pongo::record]
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Colour {
    Red = 1,
    Blue = 2,
}

#[test]
fn types_without_zero_are_refused() -> Outcome {
    #[pongo::record]
    #[pongo(table = "cars")]
    struct Car {
        #[pongo(key)]
        id: u8,
        colour: Colour,
    }
    both(|store| {
        let tx = store.begin_write()?;
        let mut cars = tx.table::<Car>()?;
        let error = cars.alloc().expect_err("no colour is 0").to_string();
        for word in ["table cars", "`Car`", "zero", "`Maybe`", "`put`"] {
            assert!(error.contains(word), "{error}");
        }
        assert!(matches!(cars.alloc_slice(2), Err(WriteError::NotZeroable { .. })));
        // Nothing was changed.
        cars.put(&Car { id: 1, colour: Colour::Blue })?;
        cars.extend([&Car { id: 2, colour: Colour::Red }])?;
        drop(cars);
        tx.commit()?;
        assert_eq!(store.begin_read()?.table::<Car>()?.get(1)?.map(|car| car.colour), Some(Colour::Blue));
        Ok(())
    })
}

#[test]
fn threads_fill_rows_together() -> Outcome {
    both(|store| {
        let tx = store.begin_write()?;
        let mut odd = tx.table::<Odd>()?;
        let mut rows = odd.alloc_slice(240)?;
        std::thread::scope(|scope| {
            for (part, rows) in (0..).zip(rows.chunks_mut(60)) {
                scope.spawn(move || {
                    for (row, id) in rows.iter_mut().zip(part * 60..) {
                        *row = Odd { id, bytes: [part; 1020] };
                    }
                });
            }
        });
        // The rows may be finished in another thread than the one that allocated them.
        std::thread::scope(|scope| scope.spawn(|| rows.insert()).join()).map_err(|_| "a panic")??;
        drop(odd);
        tx.commit()?;
        let snapshot = store.begin_read()?;
        let odd = snapshot.table::<Odd>()?;
        for id in 0..240 {
            assert_eq!(odd.get(id)?, Some(&Odd { id, bytes: [id / 60; 1020] }));
        }
        Ok(())
    })
}

#[test]
fn too_many_rows_are_refused() -> Outcome {
    both(|store| {
        let tx = store.begin_write()?;
        let mut odd = tx.table::<Odd>()?;
        for rows in [usize::MAX, usize::MAX / 1023, 1 << 40] {
            let error = odd.alloc_slice(rows).expect_err("more than an address range").to_string();
            assert!(error.contains("table odd") && error.contains("the limit is"), "{error}");
        }
        odd.put(&Odd { id: 1, bytes: [1; 1020] })?;
        drop(odd);
        tx.commit()?;
        Ok(())
    })
}

/// Mixes all methods that change a table and compares the result with a `BTreeMap`. Some
/// transactions are aborted.
#[test]
fn alloc_mixed_with_everything_else() -> Outcome {
    both(|store| {
        let mut rng = Random::seeded("alloc_mixed_with_everything_else");
        let mut model: BTreeMap<u8, u8> = BTreeMap::new();
        let row = |id: u8, byte: u8| Odd { id, bytes: [byte; 1020] };
        for round in 0..60 {
            let mut now = model.clone();
            let tx = store.begin_write_with(Durability::Relaxed)?;
            let mut odd = tx.table::<Odd>()?;
            for _ in 0..rng.below(12) {
                let (id, byte) = (rng.below(60) as u8, rng.next() as u8);
                match rng.below(7) {
                    0 => assert_eq!(odd.put(&row(id, byte))?, now.insert(id, byte).is_some()),
                    1 => assert_eq!(odd.delete(id)?, now.remove(&id).is_some()),
                    2 => assert_eq!(odd.get(id)?.map(|row| row.bytes[1019]), now.get(&id).copied()),
                    3 => {
                        let changed = odd.update(id, |row| row.bytes.fill(byte))?;
                        assert_eq!(changed.is_some(), now.contains_key(&id));
                        now.entry(id).and_modify(|known| *known = byte);
                    }
                    4 => {
                        let rows: Vec<Odd> =
                            (0..rng.below(80)).map(|n| row(id + n as u8 % 9, byte)).collect();
                        odd.extend(&rows)?;
                        rows.iter().for_each(|row| _ = now.insert(row.id, byte));
                    }
                    5 => {
                        let mut new = odd.alloc()?;
                        assert_eq!((new.id, new.bytes), (0, [0; 1020]));
                        *new = row(id, byte);
                        drop(new);
                        now.insert(id, byte);
                    }
                    _ => {
                        let mut rows = odd.alloc_slice(rng.below(130) as usize)?;
                        assert!(rows.iter().all(|row| row.id == 0 && row.bytes == [0; 1020]));
                        for (n, new) in rows.iter_mut().enumerate() {
                            *new = row(id + n as u8 % 9, byte);
                            now.insert(new.id, byte);
                        }
                        rows.insert()?;
                    }
                }
            }
            assert_eq!(odd.len()?, now.len() as u64);
            if rng.below(3) == 0 {
                drop(odd);
                tx.abort();
            } else {
                drop(odd);
                tx.commit()?;
                model = now;
            }
            let snapshot = store.begin_read()?;
            let odd = snapshot.table::<Odd>()?;
            let found: Result<BTreeMap<u8, u8>, pongo::ReadError> =
                odd.rows().map(|row| row.map(|row| (row.id, row.bytes[1019]))).collect();
            assert_eq!(found?, model, "round {round}");
            for (id, byte) in &model {
                assert_eq!(odd.get(id)?, Some(&row(*id, *byte)), "round {round}");
            }
        }
        Ok(())
    })
}

/// A child is killed while it fills rows. Its committed rows are present, the row being filled is
/// not, and bytes of that row appear in no other row.
#[test]
fn kill_while_filling_a_row() -> Outcome {
    const NAME: &str = "kill_while_filling_a_row";
    if let Some(folder) = child::role() {
        let store = open(Path::new(&folder))?;
        let mut id = store.begin_read()?.table::<World>()?.len();
        loop {
            let tx = store.begin_write()?;
            let mut worlds = tx.table::<World>()?;
            let mut world = worlds.alloc()?;
            assert!(world.id == 0 && world.tiles.iter().flatten().all(|tile| *tile == Tile::at(0, 0, 0)));
            say(&format!("filling {id}"));
            fill(&mut world, id);
            drop(world);
            drop(worlds);
            tx.commit()?;
            say(&format!("committed {id}"));
            id += 1;
        }
    }
    let mut rng = Random::seeded(NAME);
    let folder = tempfile::tempdir()?;
    let (mut committed, mut begun) = (0, 0);
    for _ in 0..8 {
        let mut running = Running::start(&mut child::command(NAME, &folder.path().display().to_string()));
        let mut note = |line: &str| match line.split_once(' ') {
            Some(("filling", id)) => begun = id.parse().expect("a number"),
            Some(("committed", id)) => committed = id.parse::<u64>().expect("a number") + 1,
            _ => panic!("{line}"),
        };
        for _ in 0..1 + rng.below(6) {
            note(&running.lines.recv_timeout(std::time::Duration::from_secs(60))?);
        }
        std::thread::sleep(std::time::Duration::from_micros(rng.below(3000)));
        running.kill();
        running.lines.iter().for_each(|line| note(&line));
        let (committed, begun): (u64, u64) = (committed, begun);
        let store = open(folder.path())?;
        let snapshot = store.begin_read()?;
        let worlds = snapshot.table::<World>()?;
        assert!((committed..=begun + 1).contains(&worlds.len()), "{committed} {begun} {}", worlds.len());
        for world in worlds.rows() {
            check(world?);
        }
    }
    Ok(())
}

/// Too large to be staged, and with a unique value.
#[pongo::record]
#[pongo(table = "sheets")]
struct Sheet {
    #[pongo(key)]
    id: u64,
    #[pongo(unique)]
    code: u64,
    cells: [u64; 10_000],
}

/// Expected contents of the table: the code and the value of the cells, by key.
type Sheets = std::collections::BTreeMap<u64, (u64, u64)>;

fn sheet(id: u64, code: u64, cells: u64) -> Sheet {
    Sheet { id, code, cells: [cells; 10_000] }
}

fn check_sheets(tx: &mut WriteTransaction, sheets: &Sheets) -> Outcome {
    let table = tx.table::<Sheet>()?;
    assert_eq!(table.len()?, sheets.len() as u64);
    for id in 0..12 {
        let found = table.get(id)?.map(|sheet| (sheet.code, sheet.cells[9999]));
        assert_eq!(found, sheets.get(&id).copied(), "sheet {id}");
    }
    Ok(())
}

#[test]
fn large_rows_with_savepoints() -> Outcome {
    both(|store| {
        let mut rng = Random::seeded("large_rows");
        let mut kept = Sheets::new();
        for round in 0..30 {
            let mut tx = store.begin_write_with(Durability::Relaxed)?;
            let mut sheets = kept.clone();
            let mut points: Vec<(pongo::Savepoint, Sheets)> = Vec::new();
            for step in 0..30 {
                let (id, code, cells) = (rng.below(12), rng.below(14), rng.next());
                let taken = sheets.iter().any(|(&other, &(theirs, _))| other != id && theirs == code);
                match rng.below(7) {
                    0 | 1 => match tx.table::<Sheet>()?.put(&sheet(id, code, cells)) {
                        Ok(was_there) => {
                            assert!(!taken);
                            assert_eq!(was_there, sheets.insert(id, (code, cells)).is_some());
                        }
                        Err(error) => {
                            assert!(taken && matches!(error, WriteError::UniqueViolation { .. }), "{error}")
                        }
                    },
                    2 => {
                        let result = tx.table::<Sheet>()?.update(id, |sheet| {
                            sheet.code = code;
                            sheet.cells[9999] = cells;
                        });
                        match (result, sheets.get_mut(&id)) {
                            (Ok(None), None) => {}
                            (Ok(Some(())), Some(sheet)) => {
                                assert!(!taken);
                                *sheet = (code, cells);
                            }
                            (Err(WriteError::UniqueViolation { .. }), Some(_)) => assert!(taken),
                            (other, _) => panic!("round {round}, step {step}: {other:?}"),
                        }
                    }
                    3 => {
                        assert_eq!(tx.table::<Sheet>()?.delete(id)?, sheets.remove(&id).is_some());
                    }
                    4 if !taken => {
                        let mut table = tx.table::<Sheet>()?;
                        let mut row = table.alloc()?;
                        (row.id, row.code, row.cells[9999]) = (id, code, cells);
                        drop(row);
                        sheets.insert(id, (code, cells));
                    }
                    5 => {
                        points.push((tx.savepoint()?, sheets.clone()));
                    }
                    _ if !points.is_empty() => {
                        let back = rng.below(points.len() as u64) as usize;
                        points.truncate(back + 1);
                        tx.rollback_to(&points[back].0)?;
                        sheets = points[back].1.clone();
                    }
                    _ => {}
                }
                check_sheets(&mut tx, &sheets)?;
            }
            if rng.below(4) == 0 {
                tx.abort();
            } else {
                tx.commit()?;
                kept = sheets;
            }
            let mut tx = store.begin_write()?;
            check_sheets(&mut tx, &kept)?;
        }
        assert!(store.verify(|_| ())?.is_valid());
        Ok(())
    })
}
