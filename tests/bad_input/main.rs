//! Bad input of every kind: each has its own error, which states what was expected, what was found,
//! where, and what to do. Nothing is lost or half-written, and nothing panics.

#[path = "bad_input/damage.rs"]
mod damage;
#[path = "bad_input/disk.rs"]
mod disk;
#[path = "bad_input/folders.rs"]
mod folders;
#[path = "bad_input/house.rs"]
mod house;
#[path = "bad_input/rows.rs"]
mod rows;
