#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "pages", key = "external")]
#[repr(C, align(64))]
struct Page {
    bytes: [u8; 64],
}

#[pongo::record]
#[pongo(table = "films", key = "external")]
struct Film {
    bytes: [u8; (1 << 30) - 31],
}

fn main() {}
