//! The engine, proved: its life on an ideal storage, on one that dies or loses power at any operation, on one that fails,
//! between processes and threads, and over rotten bytes. That storage is the crate `pongo-sim`.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `indexer` | an index of each table's first eight bytes, kept in memory |
//! | `model` | what the store must hold after each commit |
//! | `work` | random transactions, applied to the store and to the model |
//! | the others | the tests |

mod cited;
mod failing;
mod filled;
mod first_write;
mod fork;
mod hosts;
mod indexer;
mod life;
mod marks;
mod missed;
mod mixed_up;
mod model;
mod power;
mod processes;
mod room;

mod rot;
mod unreadable;
mod versions;
mod work;
