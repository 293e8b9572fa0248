//! When a writer is stopped, and what it was doing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use pongo_sim::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Outcome;
use super::files::{Doing, Files};
use super::history;
use super::process::Process;

/// What a moment comes after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// The writer said a word.
    Word(&'static str),
    /// Something happened in the folder, once the store was open.
    Doing(Doing),
}

/// So many microseconds after something happened for the nth time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) after: After,
    pub(crate) nth: u64,
    pub(crate) delay: u64,
}

/// If what it is to come after does not happen, a writer is stopped so long after it opened the store.
const PATIENCE: Duration = Duration::from_millis(250);
/// No step takes so long, however busy the machine is.
const HANGS: Duration = Duration::from_secs(60);

impl Moment {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let (after, most, longest) = match random.below(20) {
            0..4 => (After::Word("opening"), 1, 12_000),
            4 => (After::Word("base"), 1, 30_000),
            5..8 => (After::Word("begin"), 30, 3_000),
            8 => (After::Word("acknowledged"), 30, 300),
            9 => (After::Word("settling"), 2, 8_000),
            10 => (After::Word("rebuilding"), 2, 8_000),
            11 => (After::Word("closing"), 1, 8_000),
            12 => (After::Word("verifying"), 1, 8_000),
            13..15 => (After::Doing(Doing::Roll), 3, 500),
            15..17 => (After::Doing(Doing::Checkpoint), 3, 400),
            17 => (After::Doing(Doing::Chunk), 1, 500),
            18 => (After::Doing(Doing::Compaction), 2, 2_000),
            _ => (After::Doing(Doing::Merge), 3, 2_000),
        };
        // Many of them right behind it.
        let longest = if random.one_in(3) { longest / 10 } else { longest };
        Self { after, nth: 1 + random.below(most), delay: random.below(longest) }
    }

    /// A seed for a writer to whom it comes soon.
    pub(crate) fn seed(&self, random: u64) -> u64 {
        history::seed(random, self.after == After::Doing(Doing::Chunk))
    }

    /// What the writer is to do often, so that the moment comes.
    pub(crate) fn focus(&self) -> &'static str {
        match self.after {
            After::Word("settling") | After::Doing(Doing::Compaction | Doing::Merge) => "settle",
            After::Word("rebuilding") => "rebuild",
            After::Word("closing") => "close",
            After::Word("verifying") => "verify",
            _ => "commit",
        }
    }
}

/// Whether a writer says nothing good any more.
fn is_an_end(line: &str) -> bool {
    ["failed", "wrong", "ended"].iter().any(|word| line.starts_with(word))
}

/// What a writer had said and done when it was stopped.
#[derive(Clone, Default, Debug)]
pub(crate) struct Progress {
    /// The first word of what it said last.
    word: String,
    doing: Option<Doing>,
    opened: Option<Instant>,
    counted: u64,
    at: Option<Instant>,
}

impl Progress {
    /// It said something.
    fn said(&mut self, moment: Moment, line: &str) {
        let word = line.split(' ').next().unwrap_or_default();
        word.clone_into(&mut self.word);
        if word == "base" && self.opened.is_none() {
            self.opened = Some(Instant::now());
        }
        self.doing = None;
        if matches!(moment.after, After::Word(known) if known == word) {
            self.count(moment);
        }
    }

    fn happened(&mut self, moment: Moment, doing: Doing) {
        self.doing = Some(doing);
        if moment.after == After::Doing(doing) && self.opened.is_some() {
            self.count(moment);
        }
    }

    fn count(&mut self, moment: Moment) {
        self.counted += 1;
        if self.counted == moment.nth {
            self.at = Some(Instant::now() + Duration::from_micros(moment.delay));
        }
    }

    /// When it is to be stopped, as far as is known.
    fn end(&self, begun: Instant) -> Instant {
        self.at.or(self.opened.map(|opened| opened + PATIENCE)).unwrap_or(begun + HANGS)
    }

    /// Whether the moment came.
    fn came(&self) -> bool {
        self.at.is_some()
    }

    /// What it was doing, in words.
    fn phase(&self) -> String {
        let word = match self.word.as_str() {
            "" => "starting",
            "opening" if self.doing.is_none() => "opening",
            "opening" => "recovering",
            "begin" => "committing",
            "base" | "looked" | "acknowledged" | "settled" | "rebuilt" | "verified" | "closed" => "between",
            other => other,
        };
        match self.doing {
            Some(doing) => format!("{word}/{doing:?}"),
            None => word.to_owned(),
        }
    }
}

/// Waits until the first of the processes, which write to the store, is at a moment. What all of them say is heard; what the
/// first says counts.
pub(crate) fn wait(moment: Moment, processes: &mut [&mut Process], files: &mut Files) -> Outcome<Progress> {
    let begun = Instant::now();
    let mut progress = Progress::default();
    let mut heard = 0;
    loop {
        let left = progress.end(begun).saturating_duration_since(Instant::now());
        let mut sources = vec![PollFd::new(&files.inotify, PollFlags::IN)];
        sources.extend(
            processes
                .iter()
                .filter(|process| !process.silent)
                .map(|process| PollFd::new(&process.stdout, PollFlags::IN)),
        );
        poll(&mut sources, Some(&Timespec::try_from(left)?))?;
        for process in processes.iter_mut() {
            process.hear()?;
        }
        let first = &processes[0];
        // Files first: what is said comes after what was done.
        for doing in files.happened()? {
            progress.happened(moment, doing);
        }
        for line in first.lines.range(heard..) {
            if is_an_end(line) {
                return Err(format!("the writer says: {line}; {moment:?}, {progress:?}").into());
            }
            progress.said(moment, line);
        }
        heard = first.lines.len();
        if first.silent {
            return Err(
                format!("the writer ended by itself: {moment:?}, {progress:?}, {:?}", first.lines).into()
            );
        }
        if Instant::now() >= progress.end(begun) {
            if progress.at.is_none() && progress.opened.is_none() {
                return Err(format!("the writer hangs: {moment:?}, {progress:?}").into());
            }
            return Ok(progress);
        }
    }
}

/// Waits until a process says a line that begins with this word, and gives it.
pub(crate) fn answer(word: &str, process: &mut Process) -> Outcome<String> {
    let begun = Instant::now();
    let mut heard = 0;
    loop {
        process.hear()?;
        let said = |line: &&String| line.split(' ').next() == Some(word);
        if let Some(line) = process.lines.range(heard..).find(said) {
            return Ok(line.clone());
        }
        heard = process.lines.len();
        if process.silent || begun.elapsed() > HANGS || process.lines.iter().any(|line| is_an_end(line)) {
            return Err(format!("{word} was not said, but {:?}", process.lines).into());
        }
        let mut sources = [PollFd::new(&process.stdout, PollFlags::IN)];
        poll(&mut sources, Some(&Timespec::try_from(HANGS)?))?;
    }
}

/// After it was stopped: what it did and said at last.
pub(crate) fn last(moment: Moment, progress: &mut Progress, process: &Process, files: &mut Files) -> Outcome {
    for doing in files.happened()? {
        progress.happened(moment, doing);
    }
    // Said after what was done: a word that was counted before does not hide it.
    if let Some(line) = process.lines.iter().rfind(|line| !is_an_end(line)) {
        let word = line.split(' ').next().unwrap_or_default();
        if word != progress.word {
            progress.said(moment, line);
        }
    }
    Ok(())
}

/// How many were stopped when.
#[derive(Default)]
pub(crate) struct Stops {
    /// By what they were doing.
    doing: Counts,
    /// By what their moment came after, if it came.
    after: Counts,
}

impl Stops {
    pub(crate) fn count(&mut self, moment: Moment, progress: &Progress) {
        self.doing.count(progress.phase());
        if progress.came() {
            let after = match moment.after {
                After::Word(word) => word.to_owned(),
                After::Doing(doing) => format!("{doing:?}"),
            };
            self.after.count(after);
        }
    }

    /// Panics unless some met each of the steps that matter.
    #[track_caller]
    pub(crate) fn are_many(&self) {
        for part in [
            "recovering",
            "settling",
            "rebuilding",
            "closing",
            "Entry",
            "Roll",
            "Checkpoint",
            "Chunk",
            "Compaction",
        ] {
            assert!(self.doing.with(part) + self.after.with(part) > 0, "{part} was never met");
        }
    }
}

impl fmt::Display for Stops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "while {}; soon after {}", self.doing, self.after)
    }
}

#[derive(Default)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn count(&mut self, phase: String) {
        *self.0.entry(phase).or_default() += 1;
    }

    /// All whose names have this in them.
    fn with(&self, part: &str) -> u64 {
        self.0.iter().filter(|(name, _)| name.contains(part)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (place, (name, count)) in all.iter().enumerate() {
            write!(f, "{}{name} {count}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
