#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: usize,
    delta: isize,
    mark: char,
    many: [usize; 4],
}

fn main() {}
