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
//! | `observer` | notification of a watcher about each operation, during which it can take images |
//! | `image` | the content of a disk at one moment, to be opened, read or damaged |
//! | `file_history` | durable content of a file, and versions of each sector that a power cut may leave |
//! | `dirents` | the same for names |
//! | `crash_policy` | the choices of a power cut |
//! | `faults` | a process whose calls can fail, including reading, opening, mapping and locking |

#![forbid(unsafe_code)]

mod crash_policy;
mod dirents;
mod disk;
mod faults;
mod file_history;
mod handle;
mod image;
mod observer;
mod process;
mod state;
mod storage;

pub use crash_policy::CrashPolicy;
pub use disk::Disk;
pub use faults::{Call, Fault, Faults, Repeat};
pub use image::Image;
pub use observer::DiskEvent;
pub use pongo_test_support::Random;
pub use process::Process;
pub use state::{FaultPlan, OpKind};
