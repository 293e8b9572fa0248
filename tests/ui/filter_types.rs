use pongo::prelude::*;

#[pongo::record]
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Buy,
    Sell,
}

#[pongo::record]
#[pongo(table = "trades")]
struct Trade {
    #[pongo(key)]
    id: u64,
    note: Text,
    fee: Maybe<u32>,
    count: u32,
    side: Side,
    _pad: [u8; 3],
}

fn main() {
    let _ = Trade::COUNT.gt("60");
    let _ = Trade::COUNT.eq(60u64);
    let _ = Trade::FEE.eq(Maybe::some(1));
    let _ = Trade::NOTE.eq("late");
    let _ = Trade::SIDE.lt(Side::Sell);
    let _ = Trade::COUNT.is_some();
    let _ = Trade::COUNT.between(1..="2");
}
