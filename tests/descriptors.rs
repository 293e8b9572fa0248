//! Descriptor limits: a store of 250 tables and many chunks, created under a high limit, is opened,
//! read, written, recovered and verified under `ulimit -n 64`. A temporary lack of descriptors
//! poisons nothing. The number of maps is checked as well.

use std::path::Path;
use std::process::Command;

use std::sync::Arc;

use pongo::prelude::*;
use pongo::zerocopy::IntoBytes;
use pongo::{CommitError, Durability, ReadError, RowId, WriteError};
use pongo_core::engine::{TableWriteBatch, WriteBatch};
use pongo_core::schema::StoredSchema;
use pongo_core::table::{TableCore, TableView};
use pongo_test_support::{Outcome, child};

/// Maximum number of descriptors that a store may have open, sled's files included.
const MOST: usize = 64;
const TABLES: usize = 250;

/// A row of 1 KiB: 64 rows fill a chunk of 64 KiB.
#[pongo::record]
#[pongo(table = "cells")]
#[derive(pongo::zerocopy::IntoBytes, Debug)]
struct Cell {
    #[pongo(key)]
    id: u64,
    value: u64,
    rest: [u8; 1008],
}

const ROWS_OF_A_CHUNK: u64 = 64;

impl Cell {
    fn new(id: u64, value: u64) -> Self {
        Self { id, value, rest: [id as u8; 1008] }
    }
}

/// A row of another table.
#[pongo::record]
#[pongo(table = "others")]
#[derive(Debug)]
struct Other {
    #[pongo(key)]
    id: u64,
    value: u64,
}

/// Creates table `n` through the engine. A Rust type for each table would take minutes to compile.
fn make_table(store: &Store, n: usize, rows: u64) -> Outcome {
    let guard = store.engine().begin_write()?;
    let mut schema = StoredSchema::from(Cell::SCHEMA);
    schema.table = format!("t{n:03}");
    let table = guard.create_table(schema)?;
    let cells: Vec<Cell> = (0..rows).map(|id| Cell::new(id, 1)).collect();
    let hashes: Vec<u64> = (0..rows).map(|id: u64| pongo_index::key_hash(id.as_bytes())).collect();
    let rows = cells.as_bytes();
    let batch =
        TableWriteBatch { table, rows, hashes: &hashes, previous: Vec::new(), deleted_rows: Vec::new() };
    guard.commit(&WriteBatch { tables: vec![batch] }, Durability::Relaxed)?;
    Ok(())
}

/// Replaces rows of tables in one transaction. All rows are among the first `rows`, which have the
/// ids 0, 1, 2, …
fn replace(
    store: &Store,
    tables: &[Arc<TableCore>],
    ids: &[u64],
    value: u64,
    durability: Durability,
) -> Outcome {
    let guard = store.engine().begin_write()?;
    let cells: Vec<Cell> = ids.iter().map(|&id| Cell::new(id, value)).collect();
    let hashes: Vec<u64> = ids.iter().map(|id| pongo_index::key_hash(id.as_bytes())).collect();
    let of = |table: &Arc<TableCore>| -> Outcome<_> {
        let first = guard.view(table)?.len();
        let previous = ids.iter().zip(first..).map(|(&id, row)| (RowId(row), RowId(id))).collect();
        let deleted_rows = ids.iter().map(|&id| RowId(id)).collect();
        Ok(TableWriteBatch {
            table: Arc::clone(table),
            rows: cells.as_bytes(),
            hashes: &hashes,
            previous,
            deleted_rows,
        })
    };
    let tables = tables.iter().map(of).collect::<Outcome<_>>()?;
    guard.commit(&WriteBatch { tables }, durability)?;
    Ok(())
}

/// Returns the number of live rows of a table and the sum of their values.
fn sum(view: &TableView) -> Outcome<(u64, u64)> {
    let (mut count, mut sum) = (0, 0);
    let mut from = RowId(0);
    while let Some(run) = view.next_run(from)? {
        from = run.end;
        for cell in view.rows::<Cell>(run)? {
            (count, sum) = (count + 1, sum + cell.value);
        }
    }
    Ok((count, sum))
}

fn check_all(store: &Store, expected: (u64, u64)) -> Outcome {
    let tables = store.engine().begin_read()?.tables()?;
    for table in &tables[..TABLES] {
        // One snapshot per table: a snapshot keeps what it has read mapped.
        let snapshot = store.engine().begin_read()?;
        let view = snapshot.view(table)?.ok_or("a table that was committed")?;
        assert_eq!(sum(view)?, expected, "{}", table.schema().table);
    }
    Ok(())
}

fn options() -> Options {
    Options::new().chunk_size(64 << 10)
}

fn open(path: &Path) -> Outcome<Store> {
    // SAFETY: the folder is this test's own; only PongoDB writes to it.
    Ok(unsafe { options().open(path)? })
}

/// Returns the number of open descriptors of this process, except the one that reads the folder.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() - 1)
}

fn maps() -> usize {
    std::fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count())
}

/// Counts descriptors at each step.
struct Count {
    before: usize,
    highest: usize,
}

impl Count {
    fn new() -> Self {
        Self { before: descriptors(), highest: 0 }
    }

    fn look(&mut self, at: &str) {
        let now = descriptors() - self.before;
        self.highest = self.highest.max(now);
        println!("{at}: {now} descriptors, {} maps", maps());
        assert!(now <= MOST, "{now} descriptors at {at}");
    }
}

/// Creates 250 tables with `chunks` chunks each.
fn make(path: &Path, chunks: u64) -> Outcome {
    let mut count = Count::new();
    let store = open(path)?;
    for n in 0..TABLES {
        make_table(&store, n, chunks * ROWS_OF_A_CHUNK - 1)?;
    }
    count.look("made");
    let is_chunk = |file: &std::io::Result<std::fs::DirEntry>| {
        file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().ends_with(".chunk"))
    };
    let mut chunks_there = 0;
    for table in std::fs::read_dir(path.join("tables"))? {
        chunks_there += std::fs::read_dir(table?.path())?.filter(is_chunk).count();
    }
    assert!(chunks_there as u64 >= TABLES as u64 * chunks, "{chunks_there} chunks");
    store.close()?;
    count.look("closed");
    Ok(())
}

/// Writes to every table, in one transaction and then in one transaction per table, then exits
/// without closing the store.
fn write_and_die(path: &Path, chunks: u64) -> Outcome {
    let mut count = Count::new();
    let store = open(path)?;
    count.look("opened");
    let rows = chunks * ROWS_OF_A_CHUNK - 1;
    check_all(&store, (rows, rows))?;
    count.look("read");
    let tables = store.engine().begin_read()?.tables()?;
    // Replace a row of each chunk.
    let ids: Vec<u64> = (0..chunks).map(|chunk| chunk * ROWS_OF_A_CHUNK).collect();
    for (n, table) in tables.iter().enumerate() {
        replace(&store, std::slice::from_ref(table), &ids, 2, Durability::Relaxed)?;
        if n % 50 == 0 {
            count.look("writing");
        }
    }
    replace(&store, &tables, &[1], 3, Durability::Sync)?;
    count.look("written at once");
    println!("at most {} descriptors", count.highest);
    // Exit without closing the store.
    std::process::exit(0)
}

/// Recovers the store, reads every table, verifies, rebuilds the indexes and closes.
fn recover(path: &Path, chunks: u64) -> Outcome {
    let mut count = Count::new();
    let store = open(path)?;
    count.look("recovered");
    let rows = chunks * ROWS_OF_A_CHUNK - 1;
    // In each chunk one row has the value 2 instead of 1, and one more row of the table has the
    // value 3.
    check_all(&store, (rows, rows + chunks + 2))?;
    count.look("looked at");
    let report = store.verify(|_| ())?;
    assert!(report.issues.is_empty(), "{:?}", report.issues);
    count.look("verified");
    store.rebuild_indexes()?;
    count.look("rebuilt");
    store.catch_up_indexes()?;
    count.look("settled");
    store.close()?;
    count.look("closed");
    // Open the cleanly closed store again, read it, and close it.
    let store = open(path)?;
    count.look("opened again");
    check_all(&store, (rows, rows + chunks + 2))?;
    drop(store);
    println!("at most {} descriptors, {} maps at the end", count.highest, maps());
    Ok(())
}

/// Runs a test of this binary in a role, with at most `limit` descriptors.
fn run(test: &str, role: &str, limit: Option<usize>) -> Outcome {
    let inner = child::command(test, role);
    let mut command = match limit {
        None => inner,
        Some(limit) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
            child::append(&mut shell, &inner);
            shell
        }
    };
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    for line in said.lines().filter(|line| line.contains("descriptors")) {
        println!("{role} under {limit:?}: {line}");
    }
    assert!(
        output.status.success(),
        "{role} under {limit:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn act(role: &str) -> Outcome {
    let mut words = role.splitn(3, ' ');
    let (what, chunks, path) = (words.next(), words.next(), words.next());
    let (chunks, path) = (chunks.ok_or("chunks")?.parse()?, Path::new(path.ok_or("a path")?));
    match what {
        Some("make") => make(path, chunks),
        Some("write") => write_and_die(path, chunks),
        Some("recover") => recover(path, chunks),
        Some("versions") => versions(path, chunks),
        Some("moment") => moment(path),
        Some("maps") => few_maps(path, chunks),
        Some("other") => other(path, chunks),
        Some("leave") => leave(path),
        Some("without") => without(path),
        _ => Err("no such role".into()),
    }
}

/// Setting `PONGO_CHUNKS=40` in the environment raises the size to 10,000 chunks.
#[test]
fn many_tables_need_few_descriptors() -> Outcome {
    if let Some(role) = child::role() {
        return act(&role);
    }
    let test = "many_tables_need_few_descriptors";
    let chunks: u64 = std::env::var("PONGO_CHUNKS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("many.pongo");
    let path = path.display();
    run(test, &format!("make {chunks} {path}"), None)?;
    run(test, &format!("write {chunks} {path}"), Some(128))?;
    run(test, &format!("recover {chunks} {path}"), Some(64))?;
    Ok(())
}

/// Replaces rows of more chunks than there are descriptors, first in one transaction, then in one
/// transaction per row.
fn versions(path: &Path, chunks: u64) -> Outcome {
    let mut count = Count::new();
    let store = open(path)?;
    let tx = store.begin_write()?;
    tx.table::<Cell>()?.extend((0..chunks * ROWS_OF_A_CHUNK).map(|id| Cell::new(id, 1)))?;
    tx.commit()?;
    count.look("loaded");
    let tx = store.begin_write()?;
    let mut cells = tx.table::<Cell>()?;
    for chunk in 0..chunks {
        cells.put(&Cell::new(chunk * ROWS_OF_A_CHUNK, 2))?;
    }
    drop(cells);
    tx.commit()?;
    count.look("replaced at once");
    for chunk in 0..chunks {
        let tx = store.begin_write_with(pongo::Durability::Relaxed)?;
        tx.table::<Cell>()?.put(&Cell::new(chunk * ROWS_OF_A_CHUNK + 1, 3))?;
        tx.commit()?;
    }
    count.look("replaced one by one");
    store.close()?;
    let store = open(path)?;
    let snapshot = store.begin_read()?;
    let cells = snapshot.table::<Cell>()?;
    for chunk in 0..chunks {
        let value = |id: u64| Ok::<_, ReadError>(cells.get(id)?.map(|cell| cell.value));
        assert_eq!(value(chunk * ROWS_OF_A_CHUNK)?, Some(2));
        assert_eq!(value(chunk * ROWS_OF_A_CHUNK + 1)?, Some(3));
        assert_eq!(value(chunk * ROWS_OF_A_CHUNK + 2)?, Some(1));
    }
    Ok(())
}

#[test]
fn more_version_maps_than_descriptors() -> Outcome {
    if let Some(role) = child::role() {
        return act(&role);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("versions.pongo");
    run("more_version_maps_than_descriptors", &format!("versions 300 {}", path.display()), Some(64))
}

/// Descriptors that other parts of the process hold.
#[derive(Default)]
struct Hog(Vec<std::fs::File>);

impl Hog {
    /// Takes all free descriptors except `leave`.
    fn grow(&mut self, leave: usize) {
        self.0.extend(std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()));
        self.0.truncate(self.0.len().saturating_sub(leave));
    }
}

/// Returns whether an error reports a lack of descriptors and nothing worse.
fn is_harmless(error: &CommitError) -> bool {
    let text = error.to_string();
    let refused = matches!(error, CommitError::Refused(_));
    refused && !text.contains("poisoned") && text.contains("too many files open")
}

fn put(store: &Store, id: u64, other: bool, durability: Durability) -> Result<(), CommitError> {
    let tx = store.begin_write_with(durability).map_err(CommitError::Refused)?;
    let staged: Result<bool, WriteError> = if other {
        tx.table::<Other>().and_then(|mut table| table.put(&Other { id, value: 1 }))
    } else {
        tx.table::<Cell>().and_then(|mut table| table.put(&Cell::new(id, 1)))
    };
    staged.map_err(CommitError::Refused)?;
    tx.commit()?;
    Ok(())
}

fn moment(path: &Path) -> Outcome {
    let store = open(path)?;
    put(&store, 0, false, Durability::Sync)?;
    let mut acknowledged = vec![(0, false)];
    let (mut refused, mut id) = (0, 0);
    for leave in [0, 1, 2, 3, 4, 0, 1] {
        let mut hog = Hog::default();
        // The rows cross the ends of chunks. Rows are replaced, so that version maps are created; a
        // table is created.
        for n in 0..200 {
            id += 1;
            let durability = if n % 20 == 0 { Durability::Sync } else { Durability::Relaxed };
            for (id, other) in [(id, false), (id / 3, false), (id, true)] {
                // Take the descriptors that the store itself has closed since.
                hog.grow(leave);
                match put(&store, id, other, durability) {
                    Ok(()) => acknowledged.push((id, other)),
                    Err(error) => {
                        assert!(is_harmless(&error), "{leave} left: {error}");
                        refused += 1;
                    }
                }
            }
        }
        drop(hog);
        // With descriptors available, commits succeed again.
        for other in [false, true] {
            id += 1;
            put(&store, id, other, Durability::Sync)?;
            acknowledged.push((id, other));
        }
    }
    println!("{} commits while descriptors were short, {refused} refused", acknowledged.len());
    assert!(refused > 0 && acknowledged.len() > 100);
    let look = |store: &Store| -> Outcome {
        let snapshot = store.begin_read()?;
        let (cells, others) = (snapshot.table::<Cell>()?, snapshot.table::<Other>()?);
        for &(id, other) in &acknowledged {
            let found = if other { others.get(id)?.is_some() } else { cells.get(id)?.is_some() };
            assert!(found, "{id}, other: {other}");
        }
        Ok(())
    };
    look(&store)?;
    // Another process finds nothing poisoned.
    run(MOMENT, &format!("other {id} {}", path.display()), None)?;
    store.close()?;
    let store = open(path)?;
    look(&store)?;
    let report = store.verify(|_| ())?;
    assert!(report.issues.is_empty(), "{:?}", report.issues);
    Ok(())
}

/// Opens the store in another process after the shortage and commits to it.
fn other(path: &Path, id: u64) -> Outcome {
    let store = open(path)?;
    put(&store, id + 1, false, Durability::Sync)?;
    put(&store, id + 1, true, Durability::Sync)?;
    println!("descriptors: another process continues");
    Ok(())
}

/// Opens, recovers and closes the store with few or no descriptors left. An open without enough
/// descriptors returns an error, and a later open succeeds.
fn without(path: &Path) -> Outcome {
    let mut opened = 0;
    for leave in 0..40 {
        let mut hog = Hog::default();
        hog.grow(leave);
        match open(path) {
            Ok(store) => {
                opened += 1;
                hog.grow(0);
                // Reading mapped data needs no descriptor.
                drop(store);
            }
            Err(error) => assert!(error.to_string().contains("too many files open"), "{leave} left: {error}"),
        }
    }
    println!("opened with all but {} numbers of descriptors", 40 - opened);
    assert!(opened > 10 && opened < 40);
    let store = open(path)?;
    assert_eq!(store.begin_read()?.table::<Cell>()?.len(), 1000);
    put(&store, 1000, false, Durability::Sync)?;
    Ok(())
}

/// Creates a store for [`without`] to recover, and exits without closing it.
fn leave(path: &Path) -> Outcome {
    let store = open(path)?;
    for part in 0..10 {
        let tx = store.begin_write_with(Durability::Relaxed)?;
        tx.table::<Cell>()?.extend((part * 100..(part + 1) * 100).map(|id| Cell::new(id, 1)))?;
        tx.commit()?;
        put(&store, part * 100, false, Durability::Relaxed)?;
    }
    std::process::exit(0)
}

/// Uses the store under a limit of maps that is too low for all tables together. Tables that are
/// not in use release their maps; their data is mapped again when it is used.
fn few_maps(path: &Path, chunks: u64) -> Outcome {
    const LIMIT: usize = 1800;
    pongo_core::storage::set_map_limit(LIMIT);
    let before = maps();
    let most = std::cell::Cell::new(0);
    let look = |at: &str| {
        let now = maps() - before;
        most.set(most.get().max(now));
        println!("{at}: {} descriptors, {now} maps of at most {LIMIT}", descriptors());
        // The tolerance covers the maps next to reserved addresses and those of the allocator.
        assert!(now < LIMIT + LIMIT / 8, "{now} maps at {at}");
    };
    let store = open(path)?;
    look("opened");
    let rows = chunks * ROWS_OF_A_CHUNK - 1;
    check_all(&store, (rows, rows))?;
    look("read");
    let tables = store.engine().begin_read()?.tables()?;
    // A snapshot keeps its data mapped.
    let held = store.engine().begin_read()?;
    assert_eq!(sum(held.view(&tables[3])?.ok_or("table 3")?)?, (rows, rows));
    let mut expected = rows;
    for round in 0..3 {
        let ids: Vec<u64> = (0..chunks).map(|chunk| chunk * ROWS_OF_A_CHUNK + round).collect();
        for table in &tables {
            replace(&store, std::slice::from_ref(table), &ids, 2 + round, Durability::Relaxed)?;
        }
        look("written");
        expected += chunks * (1 + round);
        check_all(&store, (rows, expected))?;
        look("read again");
        assert_eq!(sum(held.view(&tables[3])?.ok_or("table 3")?)?, (rows, rows));
    }
    drop(held);
    let report = store.verify(|_| ())?;
    assert!(report.issues.is_empty(), "{:?}", report.issues);
    look("verified");
    store.stats()?;
    look("counted");
    // What a snapshot sees stays mapped, beyond the limit too. After the snapshot is dropped, later
    // commits release these maps.
    let all = store.engine().begin_read()?;
    for table in &tables {
        all.view(table)?;
    }
    let held = maps() - before;
    println!("held: {} descriptors, {held} maps", descriptors());
    assert!(held > LIMIT, "{held} maps");
    put(&store, 0, true, Durability::Relaxed)?;
    drop(all);
    for id in 1..=LIMIT as u64 / 16 {
        put(&store, id, true, Durability::Relaxed)?;
    }
    look("idle again");
    drop(tables);
    store.close()?;
    let store = open(path)?;
    check_all(&store, (rows, expected))?;
    look("opened again");
    println!("at most {} maps, {} descriptors", most.get(), descriptors());
    Ok(())
}

#[test]
fn maps_stay_below_their_limit() -> Outcome {
    if let Some(role) = child::role() {
        return act(&role);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("maps.pongo");
    run("maps_stay_below_their_limit", &format!("make 3 {}", path.display()), None)?;
    run("maps_stay_below_their_limit", &format!("maps 3 {}", path.display()), None)
}

const MOMENT: &str = "a_moment_without_descriptors_poisons_nothing";

#[test]
fn a_moment_without_descriptors_poisons_nothing() -> Outcome {
    if let Some(role) = child::role() {
        return act(&role);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("moment.pongo");
    run(MOMENT, &format!("moment 0 {}", path.display()), Some(96))
}

#[test]
fn open_fails_without_descriptors() -> Outcome {
    if let Some(role) = child::role() {
        return act(&role);
    }
    let test = "open_fails_without_descriptors";
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("without.pongo");
    run(test, &format!("leave 0 {}", path.display()), None)?;
    run(test, &format!("without 0 {}", path.display()), Some(96))
}
