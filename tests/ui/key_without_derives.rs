//! An enum or a struct of one field in a key or an index needs derives.

#[pongo::record]
enum Cabin {
    Economy,
}

#[pongo::record]
struct Id(u64);

#[pongo::record]
struct Seat {
    #[pongo(key)]
    id: Id,
    #[pongo(key)]
    number: u32,
    #[pongo(index)]
    cabin: Cabin,
    #[pongo(unique)]
    other: Id,
}

fn main() {}
