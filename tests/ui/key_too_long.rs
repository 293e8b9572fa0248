#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    a: u8,
    #[pongo(key)]
    b: u8,
    #[pongo(key)]
    c: u8,
    #[pongo(key)]
    d: u8,
    #[pongo(key)]
    e: u8,
    #[pongo(key)]
    f: u8,
    #[pongo(key)]
    g: u8,
    #[pongo(key)]
    h: u8,
    #[pongo(key)]
    i: u8,
    #[pongo(key)]
    j: u8,
    #[pongo(key)]
    k: u8,
    #[pongo(key)]
    l: u8,
    #[pongo(key)]
    m: u8,
}

fn main() {}
