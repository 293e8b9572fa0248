//! Rebuilding an index from rows of which some cannot be read.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "rows")]
struct Row {
    #[pongo(key)]
    id: u64,
    value: [u64; 7],
}

const ROWS: u64 = 20_000;

/// A failed rebuild leaves the old index in use, with every key, wherever the rebuild stopped.
#[test]
fn rebuild_stops_at_damaged_row() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    // SAFETY: nothing else touches the folder while the store is open.
    let open = || unsafe { Store::open(&path) };
    let store = open()?;
    let tx = store.begin_write()?;
    tx.table::<Row>()?.extend((0..ROWS).map(|id| Row { id, value: [id; 7] }))?;
    tx.commit()?;
    store.close()?;

    // Flip a bit in the second block of a chunk that is full of rows.
    let damaged_file = path.join("tables/rows/0.chunk");
    let file = OpenOptions::new().read(true).write(true).open(&damaged_file)?;
    let at = 4096 + (64 << 10) + 100;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 4], at)?;

    let store = open()?;
    let error = store.rebuild_index::<Row>().expect_err("a block does not check");
    let name = "0.chunk";
    assert!(error.to_string().contains(name), "{error}");
    for _ in 0..2 {
        let snapshot = store.begin_read()?;
        let rows = snapshot.table::<Row>()?;
        let mut damaged = 0;
        for id in 0..ROWS {
            match rows.get(id) {
                Ok(row) => assert_eq!(row.map(|row| row.value), Some([id; 7]), "key {id}"),
                Err(error) => {
                    damaged += 1;
                    assert!(error.to_string().contains(name), "{error}");
                }
            }
        }
        // One block of 64 KiB: 1,024 rows of 64 bytes.
        assert_eq!(damaged, 1024);
        assert_eq!(rows.slices().filter(Result::is_err).count(), 1);
    }
    Ok(())
}
