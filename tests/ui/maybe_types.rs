#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    twice: Maybe<Maybe<u32>>,
    inside: Maybe<[Maybe<u32>; 2]>,
    text: Maybe<String>,
}

struct NoRecord {
    text: Maybe<String>,
}

fn main() {}
