#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    nothing: [u8; 0],
}

fn main() {}
