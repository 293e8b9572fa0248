#![allow(unused_imports)]

use pongo::prelude::*;

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    name: String,
    scores: Vec<f32>,
    parent: Option<u64>,
    inner: Box<u64>,
    map: std::collections::HashMap<u8, u8>,
    counter: std::cell::Cell<u64>,
    at: std::time::SystemTime,
    lasts: std::time::Duration,
    nested: Maybe<[String; 2]>,
}

fn main() {}
