//! What the torture tests share: a small world of tables, transactions on it, the model that says what it must hold, and
//! the comparison of a store with the model. Only for tests.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `records` | the three tables |
//! | `choice` | where decisions come from: a seed, or the bytes of a fuzzer |
//! | `world` | what the tables must hold at one `Seq` |
//! | `transaction` | transactions, made up from a world, performed on a store |
//! | `life` | a store on a simulated disk, worked with step by step |
//! | `book` | what may be found of it after a power cut |
//! | `cutter` | the power cut at its operations, as it goes on |
//! | `cut` | what a cut left, opened and compared with what may be there |
//! | `recovered` | the bytes that each recovery must come to, read from the files as `docs/FORMAT.md` has them |
//! | `look` | everything that can be seen of a store, compared with a world |
//! | [`fuzz`] | the bodies of the fuzz targets |
//! | `safeguards` | every safeguard of the store by name, for the runner that leaves out each in turn |

#![forbid(unsafe_code)]

mod book;
mod choice;
mod cut;
mod cutter;
pub mod fuzz;
mod life;
mod look;
mod records;
mod recovered;
pub mod safeguards;
mod transaction;
mod world;

pub use book::Book;
pub use choice::{Bytes, Choice};
pub use cut::{Depth, survives};
pub use cutter::{CUT, Cut, Cutter, Plan, SECOND_CUT, Tally, Trial, is_volatile};
pub use life::{Life, Step, alone};
pub use look::{Look, look, look_at};
pub use records::{Note, Seat, Stop, name_of};
pub use recovered::Recovered;
pub use transaction::{Change, Failure, Mix, Transaction};
pub use world::World;

use pongo::Options;

/// Small enough that a short workload rolls segments, makes checkpoints and fills chunks, and that a store is a few dozen
/// pages.
#[must_use]
pub fn options() -> Options {
    Options::new().chunk_size(64 << 10).small_files(8 << 10, 24 << 10).ordered_tuning(4, 8, 16, 8)
}

/// The seed of a random test, which is printed: from the variable `PONGO_SEED`, or the test's own, so that CI tries the
/// same cases each time.
#[must_use]
pub fn seed(test: &str, own: u64) -> u64 {
    let seed = std::env::var("PONGO_SEED").map_or(own, |seed| seed.parse().expect("PONGO_SEED is a number"));
    println!("{test}: PONGO_SEED={seed}");
    seed
}

/// How many times larger than in CI a test is to be: from the variable `PONGO_TORTURE`, else 1.
#[must_use]
pub fn size() -> u64 {
    std::env::var("PONGO_TORTURE").map_or(1, |size| size.parse().expect("PONGO_TORTURE is a number"))
}
