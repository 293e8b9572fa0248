#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
#[derive(Clone, Copy, PartialEq)]
enum Cabin {
    Economy,
}

#[pongo::record]
struct Row {
    #[pongo(key)]
    cabin: Cabin,
}

fn main() {}
