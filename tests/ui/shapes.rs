#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Tuple(u64, u32);

#[pongo::record]
struct Unit;

#[pongo::record]
struct Empty {}

#[pongo::record]
union Both {
    a: u32,
    b: f32,
}

#[pongo::record]
fn function() {}

fn main() {}
