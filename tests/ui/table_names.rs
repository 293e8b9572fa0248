#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "Flights")]
struct Upper {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(table = "../flights")]
struct Path {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(table = "")]
struct Empty {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(table = "a123456789a123456789a123456789a123456789a123456789a123456789a1234")]
struct Long {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(table = flights)]
struct NoString {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(crate = "not a path")]
struct Crate {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
struct Größe {
    #[pongo(key)]
    id: u64,
}

/// The uses of a record whose attributes were refused cause no more errors.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::in_memory()?;
    let tx = store.begin_write()?;
    tx.table::<Upper>()?.put(&Upper { id: 1 })?;
    tx.table::<Path>()?.get(&1)?;
    tx.table::<Empty>()?.filter(Empty::ID.eq(1))?;
    tx.table::<Long>()?.extend([Long { id: 1 }])?;
    tx.table::<NoString>()?.delete(&1)?;
    tx.table::<Crate>()?.range(..)?;
    tx.table::<Größe>()?.by(Größe::ID)?;
    Ok(())
}
