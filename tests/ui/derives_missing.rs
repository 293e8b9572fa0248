#![allow(unused_imports)]

use pongo::prelude::*;

#[derive(PongoRecord)]
#[repr(C)]
struct Row {
    #[pongo(key)]
    id: u64,
}

fn main() {}
