//! A disk that is not there: a [`Storage`](pongo_core::storage::Storage) whose power can be cut, whose processes can be
//! killed and whose operations can fail, at any of them. Only for tests.
//!
//! | module | what it owns |
//! | --- | --- |
//! | `disk` | the operations, which are counted, and what is planned for one of them |
//! | `process` | what one process sees of it, until it is killed |
//! | `handle` | its files, and the words that it maps |
//! | `watch` | who is told of each operation, and can take images as it goes |
//! | `image` | a disk at one moment, to be opened, looked at, damaged |
//! | `past` | what of a file is durable, and which versions of each sector a power cut may leave |
//! | `names` | the same for names |
//! | `leave` | how a power cut chooses |
//! | `faults` | a process whose calls fail, any of them: reading, opening, mapping and locking too |
//! | `random` | random numbers that can be had again |

#![forbid(unsafe_code)]

mod disk;
mod faults;
mod handle;
mod image;
mod leave;
mod names;
mod past;
mod process;
mod random;
mod watch;

pub use disk::{Disk, Kind, Plan};
pub use faults::{Again, Call, Fault, Faults};
pub use image::Image;
pub use leave::Leave;
pub use process::Process;
pub use random::Random;
pub use watch::Moment;
