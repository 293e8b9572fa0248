//! The memory of a large transaction: `Options::transaction_memory`, and 48 bytes for each row that
//! it changes, plus 24 for each unique index. This test runs alone in its process, since it counts
//! all allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use pongo::prelude::*;
use pongo_test_support::Outcome;

/// Bytes that are allocated now, and the maximum so far.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn more(bytes: usize) {
    MOST.fetch_max(NOW.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

// SAFETY: every method forwards to the system's allocator, which upholds the contract; counting
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller upholds the contract of this method, which is that of the forwarded
        // call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of this method, which is that of the forwarded
        // call.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A large block is moved page by page: the old and the new block do not exist in full at
        // the same time.
        more(size.saturating_sub(layout.size()));
        NOW.fetch_sub(layout.size().saturating_sub(size), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of this method, which is that of the forwarded
        // call.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[pongo::record]
#[pongo(table = "plain")]
struct Plain {
    #[pongo(key)]
    id: u64,
    value: u64,
}

#[pongo::record]
#[pongo(table = "unique")]
struct Unique {
    #[pongo(key)]
    id: u64,
    #[pongo(unique)]
    value: u64,
}

/// A little less than a power of two, so that lists that double their capacity have hardly any
/// spare room.
const ROWS: u64 = 1_000_000;
const LIMIT: usize = 8 << 20;
/// Allowance for buffers, and for the index entries that are built for parts of a commit.
const SPARE: usize = 4 << 20;

fn memory_of(
    store: &Store,
    work: impl FnOnce(&WriteTransaction) -> Outcome,
) -> Result<usize, Box<dyn std::error::Error>> {
    store.catch_up_indexes()?;
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let tx = store.begin_write()?;
    work(&tx)?;
    tx.commit()?;
    Ok(MOST.load(Ordering::Relaxed) - before)
}

#[test]
fn large_transaction_has_bounded_memory() -> Outcome {
    let folder = tempfile::tempdir()?;
    // SAFETY: the folder is this test's own.
    let store =
        unsafe { Options::new().transaction_memory(LIMIT as u64).open(folder.path().join("store.pongo"))? };
    let tx = store.begin_write()?;
    tx.table::<Plain>()?.extend((0..ROWS).map(|id| Plain { id, value: id }))?;
    tx.table::<Unique>()?.extend((0..ROWS).map(|id| Unique { id, value: id }))?;
    tx.commit()?;

    let rows = ROWS as usize;
    let bound = LIMIT + SPARE + 48 * rows;
    let modified = memory_of(&store, |tx| {
        assert_eq!(tx.table::<Plain>()?.modify(.., |row| row.value += 1)?, ROWS);
        Ok(())
    })?;
    assert!(modified <= bound, "modify: {modified} bytes, {bound} are allowed");
    let loaded = memory_of(&store, |tx| {
        tx.table::<Plain>()?.extend((0..ROWS).map(|id| Plain { id, value: 7 }))?;
        Ok(())
    })?;
    assert!(loaded <= bound, "extend: {loaded} bytes, {bound} are allowed");
    let put = memory_of(&store, |tx| {
        let mut plain = tx.table::<Plain>()?;
        (ROWS..2 * ROWS).try_for_each(|id| plain.put(&Plain { id, value: 1 }).map(|_| ()))?;
        Ok(())
    })?;
    assert!(put <= bound, "put: {put} bytes, {bound} are allowed");
    let deleted = memory_of(&store, |tx| {
        assert_eq!(tx.table::<Plain>()?.delete_range(..)?, 2 * ROWS);
        Ok(())
    })?;
    let bound_of_two = LIMIT + SPARE + 2 * 48 * rows;
    assert!(deleted <= bound_of_two, "delete: {deleted} bytes, {bound_of_two} are allowed");

    let unique = memory_of(&store, |tx| {
        assert_eq!(tx.table::<Unique>()?.modify(.., |row| row.value += ROWS)?, ROWS);
        Ok(())
    })?;
    let with_index = bound + 24 * rows;
    assert!(unique <= with_index, "with a unique index: {unique} bytes, {with_index} are allowed");
    println!(
        "bytes a row: {} {} {} {} {}",
        modified / rows,
        loaded / rows,
        put / rows,
        deleted / rows / 2,
        unique / rows
    );
    store.close()?;
    Ok(())
}
