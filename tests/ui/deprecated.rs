#![deny(warnings)]

/// Only the uses in `main` are reported.
#[pongo::record]
struct Row {
    #[pongo(key)]
    id: u64,
    #[deprecated(note = "use `new`")]
    #[pongo(index)]
    old: u64,
    new: u64,
}

fn main() {
    println!("{} {} {}", Row::ID.name(), Row::OLD.name(), Row::NEW.name());
}
