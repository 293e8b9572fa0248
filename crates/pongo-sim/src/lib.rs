//! A simulated disk: a [`Storage`](pongo_core::storage::Storage) whose power can be cut, whose
//! processes can be killed and whose operations can fail, at any operation. Only for tests.
//!
//! | module | purpose |
//! | --- | --- |
//! | `disk` | a disk: its processes, the number of operations, power cuts |
//! | `state` | the files and names of a disk, and the fault planned for one of the operations |
//! | `process` | a process that uses a disk until it is killed |
//! | `storage` | a process's view of the disk: the storage of the engine |
//! | `handle` | open files of a process, and the words that it maps |
//! | `watch` | notification of a watcher about each operation, during which it can take images |
//! | `image` | the content of a disk at one moment, to be opened, read or damaged |
//! | `past` | durable content of a file, and versions of each sector that a power cut may leave |
//! | `names` | the same for names |
//! | `leave` | the choices of a power cut |
//! | `faults` | a process whose calls can fail, including reading, opening, mapping and locking |

#![forbid(unsafe_code)]

mod disk;
mod faults;
mod handle;
mod image;
mod leave;
mod names;
mod past;
mod process;
mod state;
mod storage;
mod watch;

pub use disk::Disk;
pub use faults::{Again, Call, Fault, Faults};
pub use image::Image;
pub use leave::Leave;
pub use pongo_test_support::Random;
pub use process::Process;
pub use state::{Kind, Plan};
pub use watch::Moment;
