//! Rows filled in place: records of any size, built in the file instead of on the stack.
//!
//! `cargo run --release --example in_place_rows`

use pongo::prelude::*;

#[pongo::record]
struct Cell {
    height: f32,
    water: f32,
}

#[pongo::record]
#[pongo(table = "regions")]
struct Region {
    #[pongo(key)]
    id: u64,
    cells: [[Cell; 1024]; 1024], // 8 MiB
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    // SAFETY: no other program writes to the files of this temporary folder.
    let store = unsafe { Store::open(folder.path().join("regions.pongo"))? };

    let tx = store.begin_write()?;
    let mut regions = tx.table::<Region>()?;
    for id in 1..=3 {
        let mut region = regions.alloc()?; // zeroed, in the mapped file where it will stay
        region.id = id;
        for (y, row) in region.cells.iter_mut().enumerate() {
            for (x, cell) in row.iter_mut().enumerate() {
                cell.height = (x * y) as f32 * id as f32;
            }
        }
        region.insert()?;
    }
    drop(regions);
    tx.commit()?;

    let snapshot = store.begin_read()?;
    let region: &Region = snapshot.table::<Region>()?.get(3)?.ok_or("region 3 was committed")?;
    println!("{} bytes, read without a copy", size_of_val(region));
    assert_eq!(region.cells[10][20].height, 600.0);
    Ok(())
}
