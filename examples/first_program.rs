//! A first program: define a record, write rows in a transaction, read them back by reference.
//!
//! `cargo run --example first_program`

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "cities")]
struct City {
    #[pongo(key)]
    id: u32,
    height_metres: i32,
    inhabitants: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    // SAFETY: no other program writes to the files of this temporary folder.
    let store = unsafe { Store::open(folder.path().join("cities.pongo"))? };

    let tx = store.begin_write()?;
    let mut cities = tx.table::<City>()?;
    cities.put(&City { id: 1, height_metres: 3640, inhabitants: 757_000 })?;
    cities.put(&City { id: 2, height_metres: 10, inhabitants: 8_336_000 })?;
    cities.put(&City { id: 3, height_metres: -28, inhabitants: 20_000 })?;
    drop(cities);
    tx.commit()?; // durable when this returns

    let snapshot = store.begin_read()?;
    let cities = snapshot.table::<City>()?;
    let highest: &City = cities.get(1)?.ok_or("city 1 was committed")?; // points into the mapped file
    println!("city 1 is {} m above the sea", highest.height_metres);

    let mut inhabitants = 0;
    for rows in cities.slices() {
        inhabitants += rows?.iter().map(|city| city.inhabitants).sum::<u64>(); // each a `&[City]`
    }
    println!("{} cities have {inhabitants} inhabitants", cities.len());
    assert_eq!((cities.len(), inhabitants), (3, 9_113_000));
    Ok(())
}
