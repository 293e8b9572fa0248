#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Floating {
    #[pongo(key)]
    price: f64,
}

#[pongo::record]
struct Textual {
    #[pongo(key)]
    name: Text,
}

#[pongo::record]
struct Indexed {
    #[pongo(key)]
    id: u64,
    #[pongo(index)]
    contents: Blob,
}

fn main() {}
