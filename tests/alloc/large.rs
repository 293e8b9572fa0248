//! Rows of up to hundreds of megabytes, through every method, on a test's stack of 2 MiB.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pongo::WriteError;
use pongo::prelude::*;
use zerocopy::{IntoBytes, TryFromBytes};

use crate::{Outcome, both, open};

/// A record of a little more than 3 MiB, which is more than a test's stack.
#[pongo::record]
#[pongo(table = "large")]
struct Large {
    #[pongo(key)]
    id: u64,
    numbers: [[u64; 1024]; 393],
}

/// A value on the heap, created without using the stack.
struct InMemory(Vec<u64>);

impl std::ops::Deref for InMemory {
    type Target = Large;

    fn deref(&self) -> &Large {
        Large::try_ref_from_bytes(self.0.as_bytes()).expect("as many words as a row has")
    }
}

impl Large {
    fn filled(id: u64, number: u64) -> InMemory {
        let mut words = vec![number; size_of::<Self>() / 8];
        words[0] = id;
        InMemory(words)
    }

    fn fill(&mut self, number: u64) {
        self.numbers.iter_mut().flatten().for_each(|place| *place = number);
    }

    /// Returns the number that the row is filled with.
    #[track_caller]
    fn number(&self) -> u64 {
        let number = self.numbers[0][0];
        assert!(self.numbers.iter().flatten().all(|place| *place == number), "row {} is mixed", self.id);
        number
    }
}

/// Returns the numbers by key, in key order.
fn numbers(store: &Store) -> Outcome<Vec<(u64, u64)>> {
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Large>()?;
    let mut all = Vec::new();
    for rows in table.slices() {
        all.extend(rows?.iter().map(|row| (row.id, row.number())));
    }
    for (id, number) in &all {
        assert_eq!(table.get(id)?.map(Large::number), Some(*number));
    }
    all.sort_unstable();
    Ok(all)
}

#[test]
fn every_method_takes_a_large_row() -> Outcome {
    both(|store| {
        let tx = store.begin_write()?;
        let mut table = tx.table::<Large>()?;
        assert!(!table.put(&Large::filled(1, 10))?);
        assert!(table.put(&Large::filled(1, 11))?, "in the same transaction");
        table.insert(&Large::filled(2, 20))?;
        assert!(matches!(table.insert(&Large::filled(2, 21)), Err(WriteError::KeyExists { .. })));
        assert_eq!(table.get(1)?.map(Large::number), Some(11));
        assert!(table.delete(1)? && !table.delete(1)?);
        assert_eq!((table.len()?, table.contains(1)?), (1, false));
        drop(table);
        tx.commit()?;
        assert_eq!(numbers(store)?, [(2, 20)]);
        let old = store.begin_read()?;

        let tx = store.begin_write()?;
        let mut table = tx.table::<Large>()?;
        let boxes = [Large::filled(3, 30), Large::filled(4, 40), Large::filled(3, 31)];
        assert_eq!(table.extend(boxes.iter().map(|row| &**row))?, 3);
        let update = |row: &mut Large| {
            let before = row.number();
            row.fill(before + 5);
            before
        };
        assert_eq!((table.update(2, update)?, table.update(3, update)?), (Some(20), Some(31)));
        assert_eq!((table.update(3, update)?, table.update(9, update)?), (Some(36), None));
        assert_eq!(table.get(3)?.map(Large::number), Some(41));
        let mut row = table.alloc()?;
        assert_eq!((row.id, row.number()), (0, 0));
        row.id = 5;
        row.fill(50);
        drop(row);
        assert_eq!(table.len()?, 4);
        drop(table);
        tx.commit()?;
        assert_eq!(numbers(store)?, [(2, 25), (3, 41), (4, 40), (5, 50)]);
        assert_eq!(old.table::<Large>()?.get(2)?.map(Large::number), Some(20), "an older snapshot");
        Ok(())
    })
}

#[test]
fn failed_large_update_changes_nothing() -> Outcome {
    both(|store| {
        let tx = store.begin_write()?;
        tx.table::<Large>()?.put(&Large::filled(1, 10))?;
        tx.commit()?;
        let tx = store.begin_write()?;
        let mut table = tx.table::<Large>()?;
        table.put(&Large::filled(2, 20))?;
        for id in [1, 2] {
            let error = table.update(id, |row| row.id = 77).expect_err("a row keeps its key").to_string();
            assert!(
                error.contains(&format!("had key id = {id}")) && error.contains("key id = 77"),
                "{error}"
            );
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                table.update(id, |row| {
                    row.fill(99);
                    assert_eq!(row.id, 0, "the panic that is wanted");
                })
            }));
            assert!(panicked.is_err());
        }
        assert_eq!(table.update(2, |row| row.number())?, Some(20));
        assert_eq!(table.len()?, 2);
        drop(table);
        tx.commit()?;
        assert_eq!(numbers(store)?, [(1, 10), (2, 20)]);
        Ok(())
    })
}

#[test]
fn aborted_large_rows_leave_no_trace() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path())?;
    for round in 0..4 {
        let tx = store.begin_write()?;
        let mut table = tx.table::<Large>()?;
        table.put(&Large::filled(1, 77))?;
        table.alloc()?.fill(88);
        drop(table);
        tx.abort();
        let tx = store.begin_write()?;
        let mut table = tx.table::<Large>()?;
        let mut row = table.alloc()?;
        assert_eq!((row.id, row.number()), (0, 0));
        row.id = round;
        row.numbers[392][1023] = round;
        row.insert()?;
        drop(table);
        tx.commit()?;
    }
    store.close()?;
    let store = open(folder.path())?;
    let snapshot = store.begin_read()?;
    for rows in snapshot.table::<Large>()?.slices() {
        for row in rows? {
            assert_eq!(
                (row.numbers[392][1023], row.numbers[0], row.numbers[391]),
                (row.id, [0; 1024], [0; 1024])
            );
        }
    }
    assert_eq!(snapshot.table::<Large>()?.len(), 4);
    Ok(())
}

/// A record of which neither the macros nor the test ever creates a value on the stack.
#[pongo::record]
#[pongo(table = "huge")]
struct Huge {
    #[pongo(key)]
    id: u64,
    numbers: [[u64; 1 << 16]; 600],
    last: u64,
}

#[test]
fn three_hundred_mebibytes_are_a_row() -> Outcome {
    assert!(size_of::<Huge>() > 300 << 20);
    let folder = tempfile::tempdir()?;
    let open = || open(folder.path());
    let number = |row: usize, place: usize| (row << 20 | place) as u64;
    let store = open()?;
    let tx = store.begin_write()?;
    let mut table = tx.table::<Huge>()?;
    let mut huge = table.alloc()?;
    huge.id = 1;
    huge.last = 5;
    for (at, numbers) in huge.numbers.iter_mut().enumerate() {
        numbers.iter_mut().enumerate().for_each(|(place, to)| *to = number(at, place));
    }
    drop(huge);
    drop(table);
    tx.commit()?;
    let old = store.begin_read()?;
    let tx = store.begin_write()?;
    assert_eq!(tx.table::<Huge>()?.update(1, |huge| std::mem::replace(&mut huge.last, 6))?, Some(5));
    tx.commit()?;
    assert_eq!(old.table::<Huge>()?.get(1)?.map(|huge| huge.last), Some(5));
    drop(old);
    store.close()?;
    let store = open()?;
    let snapshot = store.begin_read()?;
    let table = snapshot.table::<Huge>()?;
    let huge = table.get(1)?.ok_or("it was committed")?;
    assert_eq!((table.len(), huge.last), (1, 6));
    for (at, numbers) in huge.numbers.iter().enumerate() {
        assert!(numbers.iter().enumerate().all(|(place, to)| *to == number(at, place)), "part {at}");
    }
    Ok(())
}

/// A record of the maximum size. Only touched pages take memory.
#[pongo::record]
#[pongo(table = "largest")]
struct Largest {
    #[pongo(key)]
    id: u64,
    numbers: [u64; (1 << 27) - 1],
}

#[test]
fn gibibyte_row_needs_space() -> Outcome {
    assert_eq!(size_of::<Largest>(), 1 << 30);
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    let mut table = tx.table::<Largest>()?;
    assert!(table.get(1)?.is_none());
    let error = table.alloc_slice(1 << 16).expect_err("64 TiB").to_string();
    assert!(error.contains("table largest"), "{error}");
    drop(table);
    tx.commit()?;
    Ok(())
}
