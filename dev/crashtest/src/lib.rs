//! Shared parts of the crash and fuzz tests: a small set of tables, transactions on it, a model of
//! the expected content, and the comparison of a store with the model. Only for tests.
//!
//! | module | purpose |
//! | --- | --- |
//! | `records` | the three tables |
//! | `choice` | sources of decisions: a seed, or the bytes of a fuzzer |
//! | `world` | expected content of the tables at one `Seq` |
//! | `transaction` | transactions, generated from a world and performed on a store |
//! | `driver` | a store on a simulated disk, changed step by step |
//! | `expected_states` | states that may be found after a power cut |
//! | `cutter` | power cuts at the operations of a running workload |
//! | `cut` | opens the image that a cut left and compares it with the allowed states |
//! | `recovered` | bytes that each recovery must produce, read according to `docs/FORMAT.md` |
//! | `look` | compares everything that can be read from a store with a world |
//! | [`fuzz`] | the bodies of the fuzz targets |
//! | `safeguards` | names of all safeguards, for the program that disables each in turn |

#![forbid(unsafe_code)]

mod choice;
mod cut;
mod cutter;
mod driver;
mod expected_states;
pub mod fuzz;
mod look;
mod records;
mod recovered;
pub mod safeguards;
mod transaction;
mod world;

pub use choice::{Bytes, RandomSource};
pub use cut::{Depth, survives};
pub use cutter::{CUT, Cut, CutPlan, Cutter, SECOND_CUT, Tally, Trial, is_volatile};
pub use driver::{Step, StoreDriver, alone};
pub use expected_states::ExpectedStates;
pub use look::{Differences, look, look_at};
pub use records::{Note, Seat, Stop, name_of};
pub use recovered::Recovered;
pub use transaction::{Change, Failure, Mix, Transaction};
pub use world::StoreModel;

use pongo::Options;

/// Returns options with sizes so small that a short workload starts new segments, writes
/// checkpoints and fills chunks, and that a store has a few dozen pages.
#[must_use]
pub fn options() -> Options {
    Options::new().chunk_size(64 << 10).small_files(8 << 10, 24 << 10).ordered_tuning(4, 8, 16, 8)
}

/// Returns the seed of a random test, from the environment variable `PONGO_SEED`, or `own`, so that
/// CI tests the same cases each time. Prints the seed.
#[must_use]
pub fn seed(test: &str, own: u64) -> u64 {
    let seed = std::env::var("PONGO_SEED").map_or(own, |seed| seed.parse().expect("PONGO_SEED is a number"));
    println!("{test}: PONGO_SEED={seed}");
    seed
}

/// Returns the factor by which a test is larger than in CI: the environment variable
/// `PONGO_TORTURE`, or 1.
#[must_use]
pub fn size() -> u64 {
    std::env::var("PONGO_TORTURE").map_or(1, |size| size.parse().expect("PONGO_TORTURE is a number"))
}
