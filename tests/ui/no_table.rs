#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Position {
    lat: f64,
    lon: f64,
}

fn table_of<R: PongoRecord>() {}

fn use_it() {
    table_of::<Position>();
}

fn main() {}
