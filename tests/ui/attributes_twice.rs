#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "rows", table = "lines")]
struct Table {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(index(a, b, a))]
struct Fields {
    #[pongo(key, key)]
    id: u64,
    a: u64,
    b: u64,
}

#[pongo::record]
#[pongo(index(a), unique(a, b), index(a, b), unique(id))]
struct Indexes {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    a: u64,
    #[pongo(index, unique)]
    b: u64,
}

fn main() {}
