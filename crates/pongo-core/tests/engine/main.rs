//! Tests of the engine: on a reliable storage, with crashes and power cuts at any operation, with
//! failing operations, with several processes and threads, and with corrupted bytes. The crate
//! `pongo-sim` simulates the storage.
//!
//! | file | purpose |
//! | --- | --- |
//! | `indexer` | an in-memory index of each table's first eight bytes |
//! | `model` | the expected content of the store after each commit |
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
