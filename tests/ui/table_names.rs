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

fn main() {}
