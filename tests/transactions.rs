//! Write transactions: when a thread may begin one, how several tables of one transaction interact,
//! when commits become visible, and the effect of a panic in user code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pongo::prelude::*;
use pongo::{CommitError, WriteError};
use pongo_test_support::Outcome;

#[pongo::record]
#[pongo(table = "items")]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Item {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    count: u64,
}

#[pongo::record]
#[pongo(table = "notes")]
struct Note {
    #[pongo(key)]
    id: u64,
    text: Text,
}

fn item(id: u64, count: u64) -> Item {
    Item { id, count }
}

fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: only this test uses the folder.
    #[allow(unsafe_code)]
    Ok(unsafe { Store::open(path)? })
}

/// Returns the contents of a store's files, except `control`, which is shared memory.
fn files(path: &Path) -> Outcome<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() != "control" {
                found.push((entry.path().display().to_string(), std::fs::read(entry.path())?));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn handles_can_go_to_other_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<WriteTransaction>();
    is_send_and_sync::<TableMut<'static, Item>>();
}

#[test]
fn second_transaction_of_thread_fails() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.put(&item(1, 1))?;
    tx.commit()?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.put(&item(2, 1))?;
    assert!(matches!(store.begin_write(), Err(WriteError::OpenInThread)));
    assert!(matches!(store.try_begin_write(), Err(WriteError::OpenInThread)));
    assert!(store.verify(|_| {}).is_err() && store.rebuild_index::<Item>().is_err());
    // A thread that opened a table of the transaction last would wait for itself as well.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            assert!(store.try_begin_write().is_ok_and(|tx| tx.is_none()));
            tx.table::<Item>().map(drop).expect("no process has it open");
            store.begin_write().map(drop)
        });
        assert!(matches!(other.join(), Ok(Err(WriteError::OpenInThread))));
    });
    tx.commit()?;
    drop(store.begin_write()?);
    assert!(store.verify(|_| {})?.is_valid());
    Ok(())
}

#[test]
fn a_wait_for_another_transaction_ends() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(store.begin_write_timeout(Duration::from_millis(30)).is_ok_and(|tx| tx.is_none()));
        });
    });
    let taken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let tx = store.begin_write_timeout(Duration::from_secs(60));
            taken.store(true, Ordering::SeqCst);
            tx.map(|tx| tx.is_some())
        });
        std::thread::sleep(Duration::from_millis(30));
        assert!(!taken.load(Ordering::SeqCst));
        drop(tx);
        assert!(matches!(waits.join(), Ok(Ok(true))));
    });
    assert!(store.try_begin_write()?.is_some());
    Ok(())
}

#[test]
fn a_table_is_open_once() -> Outcome {
    let store = Store::in_memory()?;
    let mut tx = store.begin_write()?;
    {
        let mut items = tx.table::<Item>()?;
        assert!(
            matches!(tx.table::<Item>(), Err(WriteError::TableAlreadyOpen { table }) if table == "items")
        );
        // Other tables are open at the same time, read and changed in turn, and texts are created
        // in between.
        let mut notes = tx.table::<Note>()?;
        items.extend((0..10).map(|id| item(id, id)))?;
        for item in items.range(3..6)? {
            let text = tx.text(&format!("note {}", item?.id))?;
            notes.insert(&Note { id: notes.len()?, text })?;
        }
        assert_eq!(notes.get(2)?.ok_or("it was put")?.text.as_str(&tx)?, "note 5");
    }
    assert_eq!(tx.table::<Item>()?.len()?, 10);
    let savepoint = tx.savepoint()?;
    std::mem::forget(tx.table::<Item>()?);
    assert!(matches!(tx.rollback_to(&savepoint), Err(WriteError::TableAlreadyOpen { .. })));
    assert!(matches!(tx.commit(), Err(CommitError::Refused(WriteError::TableAlreadyOpen { .. }))));
    drop(store.begin_write()?);
    Ok(())
}

#[test]
fn threads_change_tables_concurrently() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    std::thread::scope(|scope| {
        let items = scope.spawn(|| {
            let mut items = tx.table::<Item>()?;
            for id in 0..2000 {
                items.put(&item(id % 700, id))?;
            }
            items.extend((1000..3000).map(|id| item(id, 0)))
        });
        let notes = scope.spawn(|| {
            let mut notes = tx.table::<Note>()?;
            for id in 0..2000 {
                notes.put(&Note { id, text: tx.text(&id.to_string())? })?;
            }
            Ok::<_, WriteError>(())
        });
        assert_eq!(items.join().expect("no panic").map_err(|error| error.to_string()), Ok(2000));
        assert!(notes.join().expect("no panic").is_ok());
    });
    let committed = tx.commit()?;
    assert_eq!(committed.table("items").map(|items| (items.inserted, items.replaced)), Some((2700, 0)));
    let snapshot = store.begin_read()?;
    for note in snapshot.table::<Note>()?.rows() {
        let note = note?;
        assert_eq!(note.text.as_str(&snapshot)?, note.id.to_string());
    }
    Ok(())
}

/// Borrowed texts keep their address while others are staged, in memory and spilled.
#[test]
fn lent_texts_stay_where_they_are() -> Outcome {
    for in_memory in [true, false] {
        let folder = tempfile::tempdir()?;
        let options = Options::new().transaction_memory(64 << 10);
        // SAFETY: only this test uses the folder.
        #[allow(unsafe_code)]
        let open_with = |options: Options| unsafe { options.open(folder.path().join("texts")) };
        let store = if in_memory { options.in_memory()? } else { open_with(options)? };
        let content = |i: usize| format!("{i} ").repeat(1 + i % 300);
        let mut tx = store.begin_write()?;
        let texts = (0..1000).map(|i| tx.text(&content(i))).collect::<Result<Vec<_>, _>>()?;
        let lent = texts.iter().map(|text| text.as_str(&tx)).collect::<Result<Vec<_>, _>>()?;
        let more = (1000..3000).map(|i| tx.text(&content(i))).collect::<Result<Vec<_>, _>>()?;
        assert!(lent.iter().enumerate().all(|(i, text)| *text == content(i)));
        let savepoint = tx.savepoint()?;
        let gone = tx.text("taken back")?;
        tx.rollback_to(&savepoint)?;
        assert!(gone.as_str(&tx).is_err());
        let last = tx.text(&content(7))?;
        tx.table::<Note>()?.extend((0..).zip(&texts).map(|(id, &text)| Note { id, text }))?;
        tx.table::<Note>()?.extend((1000..).zip(&more).map(|(id, &text)| Note { id, text }))?;
        tx.table::<Note>()?.put(&Note { id: 7777, text: last })?;
        tx.commit()?;
        let check = |store: &Store| -> Outcome {
            let snapshot = store.begin_read()?;
            let notes = snapshot.table::<Note>()?;
            assert_eq!(notes.len(), 3001);
            for note in notes.rows() {
                let note = note?;
                let expected = content(if note.id == 7777 { 7 } else { note.id as usize });
                assert_eq!(note.text.as_str(&snapshot)?, expected);
            }
            Ok(())
        };
        check(&store)?;
        if !in_memory {
            drop(store);
            check(&open(&folder.path().join("texts"))?)?;
        }
    }
    Ok(())
}

#[test]
fn an_empty_transaction_writes_nothing() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let store = open(&path)?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.put(&item(1, 1))?;
    let seq = tx.commit()?.seq;
    store.close()?;
    let before = files(&path)?;
    let store = open(&path)?;
    for _ in 0..3 {
        let tx = store.begin_write()?;
        assert_eq!((tx.base_seq(), tx.table::<Item>()?.get(1)?), (seq, Some(&item(1, 1))));
        let committed = tx.commit()?;
        assert_eq!((committed.seq, committed.tables.len()), (seq, 0));
        drop(store.begin_write()?);
        assert!(files(&path)? == before);
    }
    // The first change creates a new sequence number.
    let tx = store.begin_write()?;
    tx.table::<Item>()?.put(&item(2, 1))?;
    assert!(tx.commit()?.seq > seq);
    assert!(files(&path)? != before);
    Ok(())
}

#[test]
fn commits_say_what_they_changed() -> Outcome {
    let store = Store::in_memory()?;
    let mut tx = store.begin_write()?;
    tx.table::<Item>()?.extend((0..10).map(|id| item(id, 0)))?;
    tx.table::<Note>()?;
    let committed = tx.commit()?;
    assert_eq!(committed.tables.len(), 1);
    tx = store.begin_write()?;
    {
        let mut items = tx.table::<Item>()?;
        items.put(&item(1, 5))?; // replaced twice, counted once
        items.extend([item(1, 6), item(2, 6), item(20, 6)])?;
        items.delete(2)?; // replaced, then deleted
        items.delete(3)?;
        items.put(&item(3, 7))?; // deleted, then put again: replaced
        items.put(&item(30, 1))?;
        items.delete(30)?; // never existed
        items.delete(4)?;
    }
    let committed = tx.commit()?;
    let items = committed.table("items").ok_or("it changed")?;
    assert_eq!((items.inserted, items.replaced, items.deleted), (1, 2, 2));
    assert_eq!(store.begin_read()?.table::<Item>()?.len(), 9);
    Ok(())
}

/// Each snapshot sees a commit as a whole or not at all, and every snapshot that begins after the
/// commit returned sees it.
#[test]
fn commits_become_visible_at_one_moment() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(&folder.path().join("store"))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let snapshot = store.begin_read().expect("a snapshot");
                let (items, notes) =
                    (snapshot.table::<Item>().expect("items"), snapshot.table::<Note>().expect("notes"));
                assert_eq!(items.len(), notes.len(), "half of a commit is seen");
                assert!(items.len() >= last, "a commit is no longer seen");
                last = items.len();
            }
        });
        for id in 0..300 {
            let durability = if id % 3 == 0 { Durability::Relaxed } else { Durability::Sync };
            let tx = store.begin_write_with(durability).expect("no other process writes");
            tx.table::<Item>().and_then(|mut items| items.insert(&item(id, 0))).expect("a new row");
            let text = tx.text("x").expect("a text");
            tx.table::<Note>().and_then(|mut notes| notes.insert(&Note { id, text })).expect("a new row");
            let seq = tx.commit().expect("nothing fails").seq;
            let snapshot = store.begin_read().expect("a snapshot");
            assert!(snapshot.seq() >= seq);
            assert_eq!(snapshot.table::<Item>().expect("items").len(), id + 1);
        }
        done.store(true, Ordering::Relaxed);
        reads.join().expect("no panic");
    });
    Ok(())
}

/// After a panic in user code that runs between changes, a transaction cannot be committed, but can
/// be rolled back to a savepoint.
#[test]
fn panicking_user_code_commits_nothing() -> Outcome {
    type Change = fn(&mut TableMut<'_, Item>);
    fn bomb(count: u64) -> bool {
        assert!(count != 5, "a panic of the test");
        count.is_multiple_of(2)
    }
    let changes: [(&str, Change); 6] = [
        ("modify", |items| drop(items.modify(.., |item| item.count += u64::from(bomb(item.count))))),
        ("retain", |items| drop(items.retain(|item| bomb(item.count)))),
        ("retain_in", |items| drop(items.retain_in(2.., |item| bomb(item.count)))),
        ("extract_if", |items| items.extract_if(.., |item| bomb(item.count)).expect("begun").for_each(drop)),
        ("by_mut", |items| drop(items.by_mut(Item::COUNT).modify(.., |item| bomb(item.count)))),
        ("extend", |items| drop(items.extend((0..10).map(|id| item(id, u64::from(bomb(id))))))),
    ];
    for (name, change) in changes {
        let store = Store::in_memory()?;
        let tx = store.begin_write()?;
        tx.table::<Item>()?.extend((0..10).map(|id| item(id, id)))?;
        tx.commit()?;
        let mut tx = store.begin_write()?;
        tx.table::<Item>()?.put(&item(50, 50))?;
        let savepoint = tx.savepoint()?;
        let mut items = tx.table::<Item>()?;
        catch_unwind(AssertUnwindSafe(|| change(&mut items))).expect_err("it panics");
        assert!(matches!(items.put(&item(60, 1)), Err(WriteError::IncompleteChange { .. })), "{name}");
        assert!(matches!(items.delete(1), Err(WriteError::IncompleteChange { .. })), "{name}");
        drop(items);
        // A rollback to the savepoint repairs the transaction.
        tx.rollback_to(&savepoint)?;
        tx.table::<Item>()?.put(&item(60, 60))?;
        assert_eq!(tx.table::<Item>()?.len()?, 12, "{name}");
        let mut items = tx.table::<Item>()?;
        catch_unwind(AssertUnwindSafe(|| change(&mut items))).expect_err("it panics");
        drop(items);
        let refused = tx.commit();
        assert!(matches!(refused, Err(CommitError::Refused(WriteError::IncompleteChange { .. }))), "{name}");
        let snapshot = store.begin_read()?;
        let found =
            snapshot.table::<Item>()?.rows().map(|row| row.copied()).collect::<Result<Vec<_>, _>>()?;
        assert_eq!(found, (0..10).map(|id| item(id, id)).collect::<Vec<_>>(), "{name}");
        // `update` of one row changes nothing if its closure panics: the transaction stays usable.
        let tx = store.begin_write()?;
        let mut items = tx.table::<Item>()?;
        catch_unwind(AssertUnwindSafe(|| items.update(5, |item| bomb(item.count))))
            .expect_err("it panics")
            .downcast::<&str>()
            .ok();
        items.put(&item(70, 70))?;
        drop(items);
        tx.commit()?;
        assert_eq!(store.begin_read()?.table::<Item>()?.len(), 11);
    }
    Ok(())
}

/// The value that a change closure returned is dropped by user code, which may panic as well.
#[test]
fn panicking_drop_commits_nothing() -> Outcome {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "a panic of the test");
        }
    }
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.extend((0..10).map(|id| item(id, id)))?;
    tx.commit()?;
    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    let change = |item: &mut Item| {
        item.count += 1;
        Bomb(item.id == 5)
    };
    catch_unwind(AssertUnwindSafe(|| items.modify(.., change))).expect_err("it panics");
    assert!(matches!(items.put(&item(60, 1)), Err(WriteError::IncompleteChange { .. })));
    drop(items);
    let refused = tx.commit();
    assert!(matches!(refused, Err(CommitError::Refused(WriteError::IncompleteChange { .. }))), "{refused:?}");
    Ok(())
}

/// Pages over rows that are changed in between, in any field except the one that they are ordered
/// by: each row is returned once, from both ends.
#[test]
fn pages_continue_after_changed_rows() -> Outcome {
    #[pongo::record]
    #[pongo(table = "seats")]
    struct Seat {
        #[pongo(key)]
        id: u64,
        #[pongo(unique)]
        number: u64,
        sold: u64,
    }
    const ROWS: u64 = 7;
    for committed in [true, false] {
        for (by_number, forward) in [(false, true), (true, true), (false, false), (true, false)] {
            let store = Store::in_memory()?;
            let tx = store.begin_write()?;
            tx.table::<Seat>()?.extend((0..ROWS).map(|id| Seat { id, number: 100 - id, sold: 0 }))?;
            tx.commit()?;
            let mut tx = store.begin_write()?;
            let (mut cursor, mut ids): (Option<Cursor>, Vec<u64>) = (None, Vec::new());
            while ids.len() < 20 {
                let mut seats = tx.table::<Seat>()?;
                let mut page =
                    if by_number { seats.by(Seat::NUMBER)?.range(..)? } else { seats.range(..)? };
                page = match (&cursor, forward) {
                    (Some(cursor), true) => page.start_after(cursor)?,
                    (Some(cursor), false) => page.end_before(cursor)?,
                    (None, _) => page,
                };
                let next = if forward { page.next() } else { page.next_back() };
                let Some(seat) = next.transpose()? else { break };
                let id = seat.id;
                ids.push(id);
                cursor = if forward { page.cursor()? } else { page.cursor_back() };
                drop(page);
                seats.update(id, |seat| seat.sold += 1)?;
                drop(seats);
                if committed {
                    tx.commit()?;
                    tx = store.begin_write()?;
                }
            }
            ids.sort_unstable();
            assert_eq!(ids, (0..ROWS).collect::<Vec<_>>(), "{committed} {by_number} {forward}");
        }
    }
    Ok(())
}

/// `retain` visits committed rows run by run and skips the deleted ones.
#[test]
fn retaining_passes_what_was_deleted_before() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.extend((0..200_000).map(|id| item(id, id)))?;
    tx.commit()?;
    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    for id in [0, 777, 100_000, 199_999] {
        assert!(items.delete(id)?);
    }
    drop(items);
    tx.commit()?;
    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    assert!(items.delete(50_000)?);
    items.put(&item(300_000, 5))?;
    let mut seen = 0;
    let kept = |item: &Item| {
        seen += 1;
        !item.id.is_multiple_of(1000)
    };
    assert_eq!(items.retain(kept)?, 200 - 3 + 1);
    assert_eq!(seen, 200_000 - 4 - 1 + 1);
    assert_eq!(items.len()?, 199_996 - 197 - 1);
    Ok(())
}

/// An iterator whose predicate panicked extracts nothing more, and its transaction cannot be
/// committed.
#[test]
fn extracting_ends_with_a_panic() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.extend((0..10).map(|id| item(id, id)))?;
    tx.commit()?;
    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    let mut taken = items.extract_if(.., |item| {
        assert!(item.id != 3, "a panic of the test");
        true
    })?;
    for id in 0..3 {
        assert_eq!(taken.next().transpose()?.map(|item| item.id), Some(id));
    }
    catch_unwind(AssertUnwindSafe(|| taken.next())).expect_err("it panics");
    let next = taken.next();
    assert!(matches!(next, Some(Err(WriteError::IncompleteChange { .. }))), "{next:?}");
    drop(taken);
    drop(items);
    let refused = tx.commit();
    assert!(matches!(refused, Err(CommitError::Refused(WriteError::IncompleteChange { .. }))), "{refused:?}");
    assert_eq!(store.begin_read()?.table::<Item>()?.len(), 10);
    Ok(())
}

/// Popping all rows costs one step per row: popped rows are not visited again.
#[test]
fn popping_takes_what_is_next() -> Outcome {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Item>()?.extend((0..3000).map(|id| item(id, 3000 - id)))?;
    tx.commit()?;
    let tx = store.begin_write()?;
    let mut items = tx.table::<Item>()?;
    for id in 0..1000 {
        assert_eq!(items.pop_first()?.map(|item| item.id), Some(id));
        assert_eq!(items.pop_last()?.map(|item| item.id), Some(2999 - id));
        // A row that is put before all others is popped next.
        if id % 100 == 0 {
            items.put(&item(id, 1))?;
            assert_eq!(items.pop_first()?.map(|item| item.id), Some(id));
        }
        assert_eq!(items.first()?.map(|item| item.id), Some(id + 1).filter(|id| *id < 1000).or(Some(1000)));
    }
    assert_eq!(items.len()?, 1000);
    while let Some(taken) = items.by_mut(Item::COUNT).pop_first()? {
        assert!(items.by(Item::COUNT)?.first()?.is_none_or(|next| next.count > taken.count));
    }
    drop(items);
    assert_eq!(tx.commit()?.table("items").map(|items| items.deleted), Some(3000));
    Ok(())
}
