//! Real processes on real files that are stopped at any moment: shared parts of the power cut and
//! kill tests.
//!
//! | file | purpose |
//! | --- | --- |
//! | `history` | the changes of a commit and the content of a store after it, from a seed |
//! | `writer` | a process that writes until it is stopped |
//! | `process` | starting a process and reading its output |
//! | `files` | events in the store's folder, as the kernel reports them |
//! | `moment` | the moments at which a writer is stopped, and what it was doing |

pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod moment;
pub(crate) mod process;
pub(crate) mod writer;

pub(crate) use pongo_test_support::Outcome;
