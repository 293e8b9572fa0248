#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    dep_delay: f32,
    cabin: bool,
}

fn main() {}
