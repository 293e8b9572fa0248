//! The moments at which a writer is stopped, and what it was doing then.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use pongo_sim::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Outcome;
use super::files::{Doing, Files};
use super::history;
use super::process::Process;

/// The event that a moment follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// The writer printed a line that starts with this word.
    Word(&'static str),
    /// An event in the folder after the store was opened.
    Doing(Doing),
}

/// The moment `delay` microseconds after an event happened for the `nth` time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) after: After,
    pub(crate) nth: u64,
    pub(crate) delay: u64,
}

/// If the event of its moment does not happen, a writer is stopped this long after it opened the
/// store.
const PATIENCE: Duration = Duration::from_millis(250);
/// Limit for a step; no step takes this long even on a busy machine.
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
        // A third of the moments follow the event closely.
        let longest = if random.one_in(3) { longest / 10 } else { longest };
        Self { after, nth: 1 + random.below(most), delay: random.below(longest) }
    }

    /// Returns a seed for a writer that reaches the moment soon.
    pub(crate) fn seed(&self, random: u64) -> u64 {
        history::seed(random, self.after == After::Doing(Doing::Chunk))
    }

    /// Returns the step that the writer must perform often, so that the moment occurs.
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

/// Returns whether a line reports that the writer failed or ended.
fn is_an_end(line: &str) -> bool {
    ["failed", "wrong", "ended"].iter().any(|word| line.starts_with(word))
}

/// The last output and the last events of a writer when it was stopped.
#[derive(Clone, Default, Debug)]
pub(crate) struct Progress {
    /// First word of its last line.
    word: String,
    doing: Option<Doing>,
    opened: Option<Instant>,
    counted: u64,
    at: Option<Instant>,
}

impl Progress {
    /// Records a line of output.
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

    /// Returns the time at which the writer must be stopped, as far as it is known.
    fn end(&self, begun: Instant) -> Instant {
        self.at.or(self.opened.map(|opened| opened + PATIENCE)).unwrap_or(begun + HANGS)
    }

    /// Returns whether the moment occurred.
    fn came(&self) -> bool {
        self.at.is_some()
    }

    /// Returns the name of the step that the writer was performing.
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

/// Waits until the first of the processes, which write to the store, reaches the moment. The output
/// of all processes is read; only that of the first counts.
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
        // Files first, because a process prints a line after the action.
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

/// Waits until a process prints a line that starts with this word, and returns the line.
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

/// Records the last events and the last line of a process after it was stopped.
pub(crate) fn last(moment: Moment, progress: &mut Progress, process: &Process, files: &mut Files) -> Outcome {
    for doing in files.happened()? {
        progress.happened(moment, doing);
    }
    // A line is printed after its action; a word that was counted before must not hide the event.
    if let Some(line) = process.lines.iter().rfind(|line| !is_an_end(line)) {
        let word = line.split(' ').next().unwrap_or_default();
        if word != progress.word {
            progress.said(moment, line);
        }
    }
    Ok(())
}

/// Number of writers that were stopped, by step.
#[derive(Default)]
pub(crate) struct Stops {
    /// By the step that they were performing.
    doing: Counts,
    /// By the event of their moment, if the moment occurred.
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

    /// Panics unless each of the steps that matter was interrupted at least once.
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

    /// Returns the sum of the counts whose names contain `part`.
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
