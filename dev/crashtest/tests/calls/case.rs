//! One case: a child, a fault, and the check of the result.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pongo::prelude::*;

use crate::call::{Call, How};
use crate::child::Work;
use crate::trace::{Ended, Seen, Traced};
use pongo_test_support::workload::{self, Model};
use pongo_test_support::{Outcome, folder};

/// The owner of the files that a call concerns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// The store.
    Store,
    /// sled, which stores the ordered indexes; the rest of the store does not depend on these
    /// files.
    Ordered,
}

/// The calls that fail, and how they fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) calls: Vec<Call>,
    /// Number of the first call that fails, counted from 1.
    pub(crate) nth: u64,
    /// Whether all matching calls after it fail too.
    pub(crate) lasting: bool,
    pub(crate) how: How,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.lasting { " and all after it" } else { "" };
        let calls = if self.calls.len() > 4 { "any".to_owned() } else { format!("{:?}", self.calls) };
        write!(f, "{:?} {calls} number {}{all}: {:?}", self.place, self.nth, self.how)
    }
}

/// The first call that failed.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) call: Call,
    pub(crate) path: String,
    /// Number of lines that the child had printed by then.
    pub(crate) said: usize,
}

impl Strike {
    /// Returns whether the store rebuilds the file from the rows if its content is invalid.
    fn is_of_an_index(&self) -> bool {
        self.path.starts_with("/hash/") || self.path.contains(".zones")
    }

    /// Returns whether a failure of this call costs only time or space, so that the store need not
    /// report it.
    fn may_be_silent(&self) -> bool {
        let is_in_journal = self.path.starts_with("/journal/");
        match self.call {
            // The removal of leftover files; a hint to the kernel; and a lock whose release fails
            // is released when its file is closed.
            Call::Remove | Call::SyncRange | Call::Lock => true,
            // A journal segment that is no longer needed is then not kept for reuse.
            Call::Rename | Call::Open | Call::LookAt if is_in_journal => true,
            // If the checksums of several rows cannot be read at once, the rows are read one by
            // one; zone maps are not used without them.
            Call::LookAt | Call::ReadAt if self.path.ends_with(".sums") => true,
            // A file that cannot be mapped stays open.
            Call::Map if self.path.ends_with(TO_BE_CLOSED) => true,
            // If the kind of file system cannot be determined, the store assumes the least
            // favourable one.
            Call::LookAt if self.path.is_empty() => true,
            _ => self.is_of_an_index(),
        }
    }
}

/// The result of running a child.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) counts: BTreeMap<(Place, Call), u64>,
    pub(crate) strike: Option<Strike>,
    pub(crate) strikes: u64,
    pub(crate) ended: Ended,
    pub(crate) said: Vec<String>,
    /// The complete output, including that of the test harness.
    pub(crate) output: String,
    /// Errors found by a process that had the store open at the same time.
    wrong_beside: Vec<String>,
    /// Numbers of the transactions that this process performed.
    done_beside: Vec<u64>,
}

/// A folder in which children work.
pub(crate) struct Bench {
    test: &'static str,
    folder: tempfile::TempDir,
}

/// Returns the lines of a child's output without those of the test harness.
fn words(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_prefix("@ ")).map(str::to_owned).collect()
}

impl Bench {
    /// Creates the folder on a file system in memory if one is present, so that no case waits for a
    /// disk; if `TMPDIR` is set, creates it there.
    pub(crate) fn new(test: &'static str) -> io::Result<Bench> {
        let in_memory = Path::new("/dev/shm");
        let folder = if in_memory.is_dir() && std::env::var_os("TMPDIR").is_none() {
            tempfile::tempdir_in(in_memory)?
        } else {
            tempfile::tempdir()?
        };
        Ok(Bench { test, folder })
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store.pongo")
    }

    fn command(&self, work: Work, watched: bool, from: u64, count: u64) -> std::process::Command {
        let role = format!("{work:?} {watched} {from} {count} {}", self.store().display());
        pongo_test_support::child::command(self.test, &role)
    }

    /// Runs a child that is not traced.
    pub(crate) fn run_free(&self, work: Work, from: u64, count: u64) -> io::Result<()> {
        let output = self.command(work, false, from, count).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let well = words(&said).last().is_some_and(|word| word == "done") && !said.contains("@ WRONG");
        if well { Ok(()) } else { Err(io::Error::other(format!("{}: {said}", output.status))) }
    }

    /// Runs a traced child, and makes the calls of `fault` fail.
    pub(crate) fn run(&self, work: Work, from: u64, count: u64, fault: Option<&Fault>) -> io::Result<Run> {
        let words_at = self.folder.path().join("said");
        let traced = Traced::start(&mut self.command(work, true, from, count), &words_at)?;
        let root = self.store().display().to_string();
        let (mut counts, mut strike, mut strikes, mut matched) = (BTreeMap::new(), None, 0, 0);
        let ended = traced.run(|seen| {
            let (place, path) = place_of(seen, &root)?;
            *counts.entry((place, seen.call)).or_default() += 1;
            let fault = fault.filter(|fault| fault.place == place && fault.calls.contains(&seen.call))?;
            if fault.how == How::Short && seen.count() < 2 {
                return None;
            }
            matched += 1;
            if matched != fault.nth && !(fault.lasting && matched > fault.nth) {
                return None;
            }
            strikes += 1;
            strike.get_or_insert_with(|| {
                let said = words(&read(&words_at)).len();
                Strike { call: seen.call, path: path.replace(&root, ""), said }
            });
            Some(fault.how)
        })?;
        let output = read(&words_at);
        let said = words(&output);
        let (wrong_beside, done_beside) = (Vec::new(), Vec::new());
        Ok(Run { counts, strike, strikes, ended, said, output, wrong_beside, done_beside })
    }

    /// Removes the store and replaces it by a copy of `template`, if that is given.
    pub(crate) fn begin_with(&self, template: Option<&Path>) -> io::Result<()> {
        match fs::remove_dir_all(self.store()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        template.map_or(Ok(()), |template| folder::copy(template, &self.store()))
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Suffix that is added to the path of a file that is mapped so that it can be closed.
const TO_BE_CLOSED: &str = " (to be closed)";

/// Returns the owner and the path of the file that a call concerns, or `None` if the file belongs
/// neither to the store nor to sled.
fn place_of(seen: &Seen<'_>, root: &str) -> Option<(Place, String)> {
    let locks = [libc::F_OFD_GETLK, libc::F_OFD_SETLK, libc::F_OFD_SETLKW];
    if seen.call == Call::Lock && !locks.contains(&seen.command()) {
        return None;
    }
    if seen.is_map_beside_files() {
        return Some((Place::Store, "memory".to_owned()));
    }
    let mut path = seen.path();
    if seen.is_map_to_sync_by() {
        path += TO_BE_CLOSED;
    }
    let rest = path.strip_prefix(root)?;
    Some((if rest.starts_with("/ordered") { Place::Ordered } else { Place::Store }, path))
}

impl Run {
    fn numbers(&self, word: &str) -> Vec<u64> {
        let of = |line: &String| line.strip_prefix(word)?.strip_prefix(' ')?.split(' ').next()?.parse().ok();
        self.said.iter().filter_map(of).collect()
    }

    /// Checks the child's output and the store that it left, and returns all errors found. `before`
    /// are the transactions that the store contained at the start.
    pub(crate) fn judge(&self, bench: &Bench, fault: Option<&Fault>, before: &[u64]) -> Vec<String> {
        let mut wrong = self.wrong_beside.clone();
        if self.ended != Ended::Exit(0) {
            wrong.push(format!("it ended with {:?}", self.ended));
        }
        // A thread of sled may panic at any time, also after the child's last line.
        let own = || self.said.iter().filter(|line| !(line.starts_with("PANIC") && line.contains("/sled-0")));
        if own().next_back().is_none_or(|line| line != "done") {
            wrong.push("it did not come to its end".to_owned());
        }
        wrong.extend(own().filter(|line| line.starts_with("WRONG") || line.starts_with("PANIC")).cloned());
        if let (Some(fault), Some(strike)) = (fault, &self.strike) {
            wrong.extend(self.judge_errors(fault, strike));
        } else {
            wrong.extend(self.errors().map(|line| format!("nothing failed, and yet: {line}")));
        }
        let looked = catch_unwind(AssertUnwindSafe(|| self.judge_store(&bench.store(), before)));
        match looked {
            Ok(Ok(found)) => wrong.extend(found),
            Ok(Err(error)) => wrong.push(format!("afterwards: {error}")),
            Err(_) => wrong.push("afterwards: the parent panicked".to_owned()),
        }
        wrong
    }

    /// Checks the store in a process that had it open all the time: transactions that were
    /// acknowledged to the child are visible, and an error that poisoned the store for the child
    /// has poisoned it here.
    pub(crate) fn judge_beside(&mut self, store: &Store) {
        const NUMBER: u64 = 800;
        let poisoned = !self.numbers("poisoned").is_empty() || !self.numbers("unknown").is_empty();
        match store.begin_read().map_err(Into::into).and_then(|snapshot| workload::works_of(&snapshot)) {
            Err(error) => self.wrong_beside.push(format!("beside it: {error}")),
            Ok(works) => {
                let lost = self.numbers("acknowledged").into_iter().filter(|number| !works.contains(number));
                self.wrong_beside
                    .extend(lost.map(|number| format!("{number} was acknowledged and is not seen")));
            }
        }
        match workload::transact(store, NUMBER) {
            Ok(()) if poisoned => {
                self.wrong_beside.push("poisoned for the child, and not beside it".to_owned())
            }
            Ok(()) => self.done_beside.push(NUMBER),
            Err(error) if workload::is_poisoned(&error) && self.strike.is_some() => {}
            Err(error) => self.wrong_beside.push(format!("beside it: {error}")),
        }
    }

    /// Returns the lines that report an error.
    fn errors(&self) -> impl Iterator<Item = &String> {
        const WORDS: [&str; 7] =
            ["refused ", "unknown ", "poisoned ", "not-opened ", "not-read ", "not-settled ", "not-closed "];
        self.said.iter().filter(|line| WORDS.iter().any(|word| line.starts_with(word)))
    }

    /// Returns whether no error was reported to the child.
    pub(crate) fn is_untold(&self) -> bool {
        self.errors().next().is_none()
    }

    /// Returns whether the child continued with transactions after a sync of the store had failed.
    fn goes_on_after(&self, strike: &Strike) -> bool {
        let synced =
            matches!(strike.call, Call::SyncData | Call::SyncAll | Call::SyncMap) && !strike.is_of_an_index();
        let ends = |line: &&String| !["open", "close", "done"].contains(&line.as_str());
        let rest: Vec<&String> =
            self.said[strike.said.min(self.said.len())..].iter().take_while(ends).collect();
        let any = |word: &str| rest.iter().any(|line| line.starts_with(word));
        synced && any("begin ") && !any("unknown ") && !any("poisoned ")
    }

    fn judge_errors(&self, fault: &Fault, strike: &Strike) -> Vec<String> {
        let mut wrong = Vec::new();
        let hindered = strike.call.hindrances().contains(&fault.how) && fault.how != How::Error(libc::EIO);
        if fault.place == Place::Ordered || hindered {
            // Nothing depends on sled's files except the question whether the ordered indexes are
            // up to date; and a hindrance is not a failure.
            let asked = |line: &&String| fault.place == Place::Ordered && line.starts_with("not-settled");
            let told = self.errors().filter(|line| !asked(line));
            wrong.extend(told.map(|line| format!("it should not have heard of it: {line}")));
            return wrong;
        }
        if self.is_untold() && !strike.may_be_silent() {
            wrong.push(format!("no error was returned when {:?} failed on `{}`", strike.call, strike.path));
        }
        if self.goes_on_after(strike) {
            wrong.push(format!("`{}` could not be synced, and the store was not poisoned", strike.path));
        }
        // The first reported error must be the one that was injected.
        let How::Error(number) = fault.how else { return wrong };
        if let Some(first) = self.errors().next() {
            // An error names a file that was renamed later by the name under which it was created.
            let file = strike.path.rsplit('/').next().unwrap_or_default();
            let named = first.contains(file) || first.contains(&file.replace(".log", ".new"));
            if !first.contains(&format!("os error {number}")) {
                wrong.push(format!("the first error does not say number {number}: {first}"));
            } else if !named && !fault.lasting && strike.call != Call::Map {
                wrong.push(format!("the first error does not name `{file}`: {first}"));
            }
        }
        wrong
    }

    /// Opens the store without faults and compares it with the transactions that were acknowledged.
    fn judge_store(&self, path: &Path, before: &[u64]) -> Outcome<Vec<String>> {
        let mut wrong = Vec::new();
        let store = workload::open(path)?;
        let snapshot = store.begin_read()?;
        let works = workload::works_of(&snapshot)?;
        let acknowledged =
            before.iter().chain(&self.done_beside).copied().chain(self.numbers("acknowledged"));
        for number in acknowledged {
            if !works.contains(&number) {
                wrong.push(format!("transaction {number} was acknowledged and is lost"));
            }
        }
        let unknown = self.numbers("unknown");
        for number in &works {
            let may_be = unknown.contains(number)
                || before.contains(number)
                || self.done_beside.contains(number)
                || self.numbers("acknowledged").contains(number);
            if !may_be {
                wrong.push(format!("transaction {number} was refused and is in the store"));
            }
        }
        for line in self.said.iter().filter_map(|line| line.strip_prefix("resolved ")) {
            let (number, there) = line.split_once(' ').ok_or("two words")?;
            if works.contains(&number.parse()?) != (there == "true") {
                wrong.push(format!("after a recovery said {line}, it is not so"));
            }
        }
        wrong.extend(Model::of(works.iter().copied()).differences(&snapshot)?);
        drop(snapshot);
        // The store accepts another transaction.
        let next = 900;
        workload::transact(&store, next)?;
        let snapshot = store.begin_read()?;
        wrong.extend(Model::of(works.into_iter().chain([next])).differences(&snapshot)?);
        drop(snapshot);
        let report = store.verify(|_| ())?;
        if !report.is_valid() {
            wrong.push(format!("{report}"));
        }
        store.close()?;
        Ok(wrong)
    }
}
