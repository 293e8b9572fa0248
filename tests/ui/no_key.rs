#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "rows", index(a, b))]
struct Row {
    a: u32,
    #[pongo(unique)]
    b: u32,
}

#[pongo::record]
#[pongo(key)]
struct OnStruct {
    id: u64,
}

fn main() {}
