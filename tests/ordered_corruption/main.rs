//! Damage to sled and to its folder: deleted, exchanged, renamed, lengthened, locked, full,
//! panicking, killed, without threads. Each time ranges are compared with a plain sort of the rows,
//! and the index is available again after the cause is removed.

mod disks;
mod folders;
mod forked;
mod killed;
mod lengths;
mod parts;
mod readers;
mod threads;
