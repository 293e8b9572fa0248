//! Mounts for tests, in a separate mount namespace so that they end with the test, and a record of
//! the transactions on a store there.

#[allow(dead_code, reason = "`fuse` does not fill its file system")]
pub(crate) mod fill;

use std::path::Path;
use std::process::Command;

use pongo::prelude::*;
use pongo::{CommitError, WriteError};

use pongo_test_support::workload::{self, Kind, Model};
use pongo_test_support::{Outcome, child, wait};

pub(crate) fn run(program: &str, arguments: &[&str]) -> Outcome {
    let output = Command::new(program).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(())
}

pub(crate) fn word(path: &Path) -> &str {
    path.to_str().expect("a path of the test's own")
}

/// Unmounts a file system. Retries for up to ten seconds: a loop device releases its file some time
/// after its last user is gone, and a process that examines new devices (udev) may be one of the
/// users; until then the file system of that file is busy.
pub(crate) fn unmount(at: &Path) -> Outcome {
    wait::retry(500, || run("umount", &[word(at)]))
}

/// Runs `test` in a process that is allowed to mount, with a new folder. Prints the lines of its
/// output that begin with its name.
pub(crate) fn with_mounts(name: &str, test: impl FnOnce(&Path) -> Outcome) -> Outcome {
    if child::role().is_some() {
        return test(tempfile::tempdir()?.path());
    }
    if let Some(said) = child::run_with_mounts(name, "mounted", &["-m"])? {
        let own = format!("{name}: ");
        let lines = said.lines().filter_map(|line| line.find(&own).map(|at| &line[at..]));
        lines.for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// Record of the transactions: done, refused, or with an unknown outcome.
#[derive(Default, Debug)]
pub(crate) struct Known {
    pub(crate) next: u64,
    pub(crate) done: Vec<u64>,
    pub(crate) unknown: Vec<u64>,
    pub(crate) refused: u64,
    pub(crate) poisoned: u64,
    /// Message of the last error.
    pub(crate) last: String,
}

impl Known {
    /// Performs the next transaction. Returns `false` if the store is poisoned.
    pub(crate) fn transact(&mut self, store: &Store) -> bool {
        self.next += 1;
        let outcome = workload::transact(store, self.next);
        if let Err(error) = &outcome {
            self.last = format!("{}: {error}", self.next);
        }
        match outcome {
            Ok(()) => self.done.push(self.next),
            Err(error) if workload::is_poisoned(&error) => {
                self.poisoned += 1;
                return false;
            }
            Err(CommitError::OutcomeUnknown { .. }) => {
                self.unknown.push(self.next);
                let next = store.begin_write().map(|_| ());
                assert!(matches!(next, Err(WriteError::Poisoned { .. })), "{next:?}");
            }
            Err(_) => self.refused += 1,
        }
        true
    }

    /// Checks that every acknowledged transaction is present, that no refused one is, and that all
    /// rows have the expected content.
    pub(crate) fn compare(&mut self, store: &Store) -> Outcome {
        let snapshot = store.begin_read()?;
        let works = workload::works_of(&snapshot)?;
        // A `Relaxed` transaction may be lost if no later transaction is present.
        let newest = works.iter().max().copied().unwrap_or(0);
        let may_go = |number: u64| workload::kind_of(number) == Kind::Relaxed && number > newest;
        let lost: Vec<_> =
            self.done.iter().filter(|&&number| !works.contains(&number) && !may_go(number)).collect();
        assert!(lost.is_empty(), "{lost:?} were acknowledged and are lost: {self:?}, {works:?}");
        let may_be = |number: &u64| self.done.contains(number) || self.unknown.contains(number);
        assert!(works.iter().all(may_be), "{works:?}: one was refused and is in the store: {self:?}");
        let wrong = Model::of(works.iter().copied()).differences(&snapshot)?;
        assert!(wrong.is_empty(), "{wrong:?}");
        self.done = works;
        self.unknown.clear();
        Ok(())
    }
}
