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

mod alloc_in_place;
mod failing;
mod first_write;
mod fork;
mod hosts;
mod indexer;
mod lifecycle;
mod marks;
mod model;
mod mutation_gaps;
mod power;
mod processes;
mod referenced;
mod reserved_space;
mod swapped_files;

mod corruption;
mod io_errors;
mod versions;
mod work;
