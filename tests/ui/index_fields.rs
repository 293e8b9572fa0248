#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[pongo(index(carrier, orign), unique, index(), index = "a")]
struct Row {
    #[pongo(key)]
    id: u64,
    carrier: u64,
    origin: u64,
}

#[pongo::record]
#[pongo(index(carrier, orign))]
struct Misspelt {
    #[pongo(key)]
    id: u64,
    carrier: u64,
    origin: u64,
}

#[pongo::record]
#[pongo(index())]
struct NoFields {
    #[pongo(key)]
    id: u64,
}

fn main() {}
