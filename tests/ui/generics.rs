#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row<T> {
    #[pongo(key)]
    id: u64,
    value: T,
}

#[pongo::record]
struct Lines<const N: usize> {
    #[pongo(key)]
    id: u64,
    lines: [u64; N],
}

#[pongo::record]
struct Clause
where
    u64: Copy,
{
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
struct Borrowed<'a> {
    #[pongo(key)]
    id: u64,
    name: &'a u64,
}

#[pongo::record]
struct Newtype<T>(T);

fn main() {}
