#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[repr(C, align(8192))]
struct Aligned {
    #[pongo(key)]
    id: [u8; 8192],
}

#[pongo::record]
struct Large {
    #[pongo(key)]
    id: u64,
    image: [[u64; 1024]; 131_072],
}

fn main() {}
