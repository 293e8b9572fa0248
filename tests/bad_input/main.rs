//! Bad input of every kind: each has its own error, which states what was expected, what was found,
//! where, and what to do. Nothing is lost or half-written, and nothing panics.

mod damage;
mod disk;
mod fixtures;
mod folders;
mod rows;
