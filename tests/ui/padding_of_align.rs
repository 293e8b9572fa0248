#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[repr(C, align(64))]
struct Row {
    #[pongo(key)]
    id: u64,
}

fn main() {}
