#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "ids")]
struct Table(u64);

#[pongo::record]
struct Key(#[pongo(key)] u64);

#[pongo::record]
#[repr(align(16))]
struct Aligned(u64);

#[pongo::record]
struct Optional(Option<u64>);

#[pongo::record]
struct NotEq(u64);

#[pongo::record]
struct KeyNotEq {
    #[pongo(key)]
    id: NotEq,
}

fn main() {}
