//! `#[pongo(column = "…")]` above the field names its column otherwise.

#[pongo::record]
struct Limit {
    #[pongo(key)]
    id: u64,
    max: u64,
}

impl Limit {
    const MAX: u64 = 5;
}

fn main() {}
