#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Point {
    x: u32,
}

#[pongo::record]
#[pongo(table = "rows", unique(note, mail))]
struct Row {
    #[pongo(key)]
    id: u64,
    #[pongo(unique)]
    mail: Maybe<FixedStr<16>>,
    #[pongo(unique)]
    score: Maybe<f64>,
    #[pongo(unique)]
    point: Maybe<Point>,
    #[pongo(unique)]
    pair: [Maybe<u32>; 2],
    note: Maybe<Text>,
}

fn main() {}
