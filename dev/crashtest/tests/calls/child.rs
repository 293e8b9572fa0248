//! The traced process. It works on a store, continues after every error as a program would that
//! wants to keep its data, and prints the results as lines. It checks the data that it reads; the
//! parent checks the rest.

use std::io::Write;
use std::path::{Path, PathBuf};

use pongo::CommitError;
use pongo::prelude::*;

use crate::trace;
use pongo_test_support::Outcome;
use pongo_test_support::workload::{self, Model};

/// Time limit of a child in seconds, sufficient on a busy machine: a child that takes longer hangs.
const PATIENCE: u32 = 300;
/// Number of failures after which the child stops trying to open the store.
const TRIES: u32 = 3;

pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // An error is ignored: without a parent, no process reads the output.
    let _ = out.write_all(format!("\n@ {}\n", line.replace('\n', " ")).as_bytes());
    let _ = out.flush();
}

/// The work of a child: see [`Work::run`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// Creates a store, works on it, closes it, opens it, continues; ends without closing.
    Life,
    /// Opens the existing store, reads it, performs a few transactions, and closes it.
    Reopen,
}

struct Session {
    path: PathBuf,
    store: Option<Store>,
    /// Transactions that are known to be in the store.
    done: Vec<u64>,
    /// Transactions that may be in the store.
    unknown: Vec<u64>,
    failed_to_open: u32,
}

impl Session {
    fn open(&mut self) {
        if self.store.is_some() || self.failed_to_open >= TRIES {
            return;
        }
        say("open");
        match workload::open(&self.path) {
            Ok(store) => {
                say("opened");
                self.store = Some(store);
                self.resolve();
            }
            Err(error) => {
                self.failed_to_open += 1;
                say(&format!("not-opened {error}"));
            }
        }
    }

    fn snapshot<T>(&self, work: impl FnOnce(&Snapshot) -> Outcome<T>) -> Option<T> {
        let snapshot = self.store.as_ref()?.begin_read();
        let found = snapshot.map_err(Into::into).and_then(|snapshot| work(&snapshot));
        found.map_err(|error| say(&format!("not-read {error}"))).ok()
    }

    /// Checks which of the transactions with an unknown outcome are in the store.
    fn resolve(&mut self) {
        if self.unknown.is_empty() {
            return;
        }
        let Some(store) = &self.store else { return };
        if matches!(store.begin_write(), Err(pongo::WriteError::Poisoned { .. })) {
            // Another process has it open, so it was not recovered.
            return;
        }
        let Some(works) = self.snapshot(workload::works_of) else { return };
        for number in std::mem::take(&mut self.unknown) {
            let is_there = works.contains(&number);
            say(&format!("resolved {number} {is_there}"));
            if is_there {
                self.done.push(number);
            }
        }
        // Later transactions were committed after it, before its outcome was known.
        self.done.sort_unstable();
    }

    fn transact(&mut self, number: u64) {
        self.open();
        let Some(store) = &self.store else { return };
        say(&format!("begin {number}"));
        match workload::transact(store, number) {
            Ok(()) => {
                say(&format!("acknowledged {number}"));
                self.done.push(number);
            }
            Err(error) if workload::is_poisoned(&error) => {
                say(&format!("poisoned {number} {error}"));
                self.store = None;
            }
            Err(error @ CommitError::OutcomeUnknown { .. }) => {
                say(&format!("unknown {number} {error}"));
                self.unknown.push(number);
                // The next one must be refused, and closing must not make it worse.
                let next = store.begin_write().map(|_| ());
                if !matches!(next, Err(pongo::WriteError::Poisoned { .. })) {
                    say(&format!("WRONG after an unknown outcome: {next:?}"));
                }
                self.store = None;
            }
            Err(error) => say(&format!("refused {number} {error}")),
        }
    }

    fn look(&self) {
        if !self.unknown.is_empty() {
            return;
        }
        say("look");
        let differences =
            self.snapshot(|snapshot| Model::of(self.done.iter().copied()).differences(snapshot));
        for difference in differences.unwrap_or_default() {
            say(&format!("WRONG {difference}"));
        }
    }

    fn settle(&self) {
        say("settle");
        if let Some(Err(error)) = self.store.as_ref().map(Store::catch_up_indexes) {
            say(&format!("not-settled {error}"));
        }
    }

    fn close(&mut self) {
        say("close");
        if let Some(Err(error)) = self.store.take().map(Store::close) {
            say(&format!("not-closed {error}"));
        }
    }
}

impl Work {
    pub(crate) fn run(self, path: &Path, watched: bool, from: u64, count: u64) {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map_or("nowhere", |place| place.file()).to_owned();
            say(&format!("PANIC {place} {}", info.to_string().replace('\n', " ")));
        }));
        trace::end_after(PATIENCE);
        if watched && let Err(error) = trace::watch_me() {
            say(&format!("not-watched {error}"));
            return;
        }
        let mut session = Session {
            path: path.to_owned(),
            store: None,
            done: Vec::new(),
            unknown: Vec::new(),
            failed_to_open: 0,
        };
        session.open();
        match self {
            Work::Life => {
                for number in 1..=count {
                    session.transact(number);
                    if number % 4 == 0 {
                        session.look();
                    }
                    if number == count / 2 {
                        session.settle();
                        session.look();
                        session.close();
                        session.open();
                        session.look();
                    }
                }
                session.look();
            }
            Work::Reopen => {
                if let Some(works) = session.snapshot(workload::works_of) {
                    session.done = works;
                    session.look();
                    for number in from..from + count {
                        session.transact(number);
                    }
                    session.look();
                }
                session.close();
            }
        }
        say("done");
        // As after a kill: nothing is closed.
        std::process::exit(0);
    }
}
