//! A table's record may have a larger alignment, but not as a field of another record.

#[pongo::record]
#[repr(align(16))]
struct Keyed {
    #[pongo(key)]
    id: u64,
}

#[pongo::record]
struct Outer {
    #[pongo(key)]
    id: u64,
    keyed: Keyed,
}

fn main() {}
