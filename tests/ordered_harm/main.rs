//! Damage to sled and to its folder: deleted, exchanged, renamed, lengthened, locked, full,
//! panicking, killed, without threads. Each time ranges are compared with a plain sort of the rows,
//! and the index is available again after the cause is removed.

#[path = "ordered_harm/disks.rs"]
mod disks;
#[path = "ordered_harm/folders.rs"]
mod folders;
#[path = "ordered_harm/forked.rs"]
mod forked;
#[path = "ordered_harm/killed.rs"]
mod killed;
#[path = "ordered_harm/lengths.rs"]
mod lengths;
#[path = "ordered_harm/parts.rs"]
mod parts;
#[path = "ordered_harm/readers.rs"]
mod readers;
#[path = "ordered_harm/threads.rs"]
mod threads;
