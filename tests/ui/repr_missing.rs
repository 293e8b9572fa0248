#![allow(unused_imports)]

use pongo::prelude::*;

use pongo::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

#[derive(PongoRecord, TryFromBytes, Immutable, KnownLayout)]
#[zerocopy(crate = "pongo::zerocopy")]
struct Row {
    #[pongo(key)]
    id: u64,
}

#[derive(PongoRecord)]
enum Cabin {
    Economy,
}

fn proof<T: IntoBytes>() {}

fn main() {}
