#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    name: &'static str,
    next: *const u8,
    call: fn() -> u64,
    pair: (u32, u32),
}

fn main() {}
