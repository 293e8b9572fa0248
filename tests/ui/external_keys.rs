#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "both", key = "external")]
struct Both {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[pongo(key = "outside")]
struct Misspelt {
    id: u64,
}

#[pongo::record]
#[pongo(key)]
struct Bare {
    id: u64,
}

#[pongo::record]
#[pongo(key = "external", key = "external")]
struct Twice {
    id: u64,
}

#[pongo::record]
#[pongo(key = "external")]
struct Named {
    _key: u64,
    _digest: u64,
}

#[pongo::record]
struct OnField {
    #[pongo(key = "external")]
    id: u64,
}

fn main() {}
