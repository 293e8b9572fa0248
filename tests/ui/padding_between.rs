#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    cabin: u8,
    dep_delay: f32,
}

fn main() {}
