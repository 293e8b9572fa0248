//! Real processes on real files that are stopped at any moment: what power cuts and kills share.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `history` | what a commit does and what a store holds after it: follows from what was there, and a seed |
//! | `writer` | the life of a process that writes until it is stopped |
//! | `process` | starting it, hearing it |
//! | `files` | what happens in the store's folder, as the kernel tells it |
//! | `moment` | when a writer is stopped, and what it was doing |

pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod moment;
pub(crate) mod process;
pub(crate) mod writer;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;
