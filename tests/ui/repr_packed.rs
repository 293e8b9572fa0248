#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[repr(C, packed)]
struct Row {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[repr(transparent)]
struct Wrapper {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
#[repr(C, align(16))]
struct Nested {
    low: u64,
    high: u64,
}

fn main() {}
