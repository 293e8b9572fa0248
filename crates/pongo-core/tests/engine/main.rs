//! The engine, proved: its life on an ideal storage, on one that dies or loses power at any operation, on one that fails,
//! between processes and threads, and over rotten bytes.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `disk` | a storage whose processes can be killed, whose power can be cut and whose operations can fail |
//! | `image` | what of a file is durable, and which versions of each sector a power cut may leave |
//! | `indexer` | an index of each table's first eight bytes, kept in memory |
//! | `model` | what the store must hold after each commit |
//! | `work` | random transactions, applied to the store and to the model |
//! | the others | the tests |

mod disk;

mod failing;
mod filled;
mod fork;
mod image;
mod indexer;
mod life;
mod marks;
mod model;
mod power;
mod processes;
mod room;

mod rot;
mod work;
