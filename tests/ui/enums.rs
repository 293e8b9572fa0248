#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
enum Event {
    Moved { from: u32, to: u32 },
    Renamed(u64),
}

#[pongo::record]
enum Never {}

#[pongo::record]
#[repr(usize)]
enum Wide {
    A,
}

#[pongo::record]
#[repr(C)]
enum LikeC {
    A,
}

#[pongo::record]
#[pongo(table = "cabins", index(a))]
enum Cabin {
    #[pongo(key)]
    A,
}

#[pongo::record]
#[repr(u8, align(8))]
enum Aligned {
    A,
}

fn main() {}
