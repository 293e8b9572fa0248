use std::collections::{BTreeMap, HashMap};

use pongo::prelude::*;

#[pongo::record]
#[pongo(table = "people")]
#[derive(Debug)]
struct Person {
    #[pongo(key)]
    id: u64,
    name: Text,
    photo: Blob,
}

fn by_name(people: &[Person]) -> HashMap<Text, u64> {
    let mut groups = HashMap::new();
    for person in people {
        *groups.entry(person.name).or_insert(0) += 1;
    }
    groups
}

fn in_order(people: &[Person]) -> BTreeMap<Blob, u64> {
    people.iter().map(|person| (person.photo, person.id)).collect()
}

fn same(a: &Person, b: &Person) -> bool {
    a.name == b.name && a.photo == b.photo
}

#[derive(PartialEq)]
struct Pair(Text, Maybe<Text>);

fn main() {}
