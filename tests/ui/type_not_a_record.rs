use pongo::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

#[derive(Clone, Copy, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[zerocopy(crate = "pongo::zerocopy")]
#[repr(C)]
struct Inner {
    value: u64,
}

#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    inner: Inner,
}

fn main() {}
