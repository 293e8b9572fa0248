#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record(table = "rows")]
struct Arguments {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(tabel = "rows")]
struct OnStruct {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
struct OnField {
    #[pongo(primary)]
    id: u64,
    #[pongo(table = "rows")]
    table: u64,
    #[pongo(index = "name")]
    index: u64,
    #[pongo(unique(index))]
    unique: u64,
    #[pongo]
    nothing: u64,
}

fn main() {}
