#![allow(unused_imports)]

use pongo::prelude::*;

type Count = usize;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    count: Count,
}

fn main() {}
