#![allow(unused_imports, non_snake_case)]

use pongo::prelude::*;

#[pongo::record]
struct Case {
    #[pongo(key)]
    a_b: u64,
    A_B: u64,
}

#[pongo::record]
struct Named {
    #[pongo(key)]
    a: u64,
    #[pongo(column = "A")]
    b: u64,
    #[pongo(column = "two words")]
    c: u64,
    #[pongo(column)]
    d: u64,
    #[pongo(column = "E", column = "F")]
    e: u64,
}

#[pongo::record]
struct NoTable {
    #[pongo(column = "A")]
    a: u64,
}

fn main() {}
