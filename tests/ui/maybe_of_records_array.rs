use pongo::prelude::*;

#[pongo::record]
struct Inner {
    value: u64,
}

fn longest(inner: Maybe<[Inner; 2]>) {}

fn main() {}
