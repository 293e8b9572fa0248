//! Real power cuts. A process works on a store on an ext4 image; the file system is shut down
//! without writing anything more, and the image is mounted again. `Sync` commits that were
//! acknowledged are present, other commits are present completely or not at all, and every way of
//! reading the store returns what the history of its commits determines.
//!
//! The power is cut at a moment drawn from the seed: some time after the process printed a certain
//! line, or after an event in the store's folder. The next process opens the store that is left,
//! compares it, continues to write, and has the power cut again, so recovery is cut too.
//!
//! Requires root, loop devices and mkfs.ext4; without them the test prints a message and stops.

mod live;
mod power {
    pub(crate) mod control;
    pub(crate) mod disk;
}

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use live::Outcome;
use live::files::Files;
use live::history::History;
use live::moment::{self, Moment, Stops};
use live::process::Process;
use live::writer::{self, Orders};
use pongo_sim::Random;
use pongo_test_support::{child, folder};
use power::control::Control;
use power::disk::{self, Cut, Disk, Kind};

const NAME: &str = "power_cuts_lose_no_commits";
/// Number of power cuts of one store on one disk.
const CUTS: u64 = 50;

const fn kind(block: u32, options: &'static str, in_memory: bool) -> Kind {
    Kind { block, options, in_memory }
}

/// The file systems, each with one store; with `PONGO_TORTURE`, more stores. Without
/// `data=writeback,nodelalloc`: there a cut leaves blocks of other files in preallocated space
/// (docs/design/failures.md).
const KINDS: [Kind; 10] = [
    kind(4096, "data=ordered", true),
    kind(4096, "data=writeback", true),
    kind(2048, "data=ordered", true),
    kind(4096, "data=ordered,nodelalloc", true),
    kind(1024, "data=ordered", true),
    kind(4096, "data=ordered", false),
    kind(1024, "data=ordered,nodelalloc", true),
    kind(2048, "data=writeback", true),
    kind(1024, "data=writeback", false),
    kind(4096, "data=ordered,journal_checksum", true),
];

/// Used instead of `KINDS` if the variable `PONGO_DATA_JOURNAL` is set. There a shutdown during
/// stores through a map can crash the kernel's thread (Linux 6.18: `kernel BUG at
/// fs/jbd2/transaction.c:1517`, from `ext4_page_mkwrite`), which hangs the test and makes the
/// machine's loop devices unusable.
const JOURNALLED: [Kind; 2] = [kind(4096, "data=journal", true), kind(2048, "data=journal", true)];

fn kinds() -> &'static [Kind] {
    if std::env::var_os("PONGO_DATA_JOURNAL").is_some() { &JOURNALLED } else { &KINDS }
}

/// Counts over all cuts.
#[derive(Default)]
struct Tally {
    cuts: u64,
    stops: Stops,
    /// Cuts that wrote nothing more, on file systems that do not journal data. The next two fields
    /// count those of them that lost unsynced data.
    hard: u64,
    bytes_lost: u64,
    names_lost: u64,
    /// Relaxed commits that were acknowledged and lost. The next field counts commits that were not
    /// acknowledged and are present.
    relaxed_lost: u64,
    unacknowledged: u64,
    commits: u64,
    opened: u64,
    settled: u64,
    doubts: u64,
}

/// The states that a store may be in, according to the output of its writers.
struct Bounds {
    /// Lowest `Seq` that the store may have.
    sure: u64,
    acknowledged: u64,
    /// The commits that were started. The newest of them is the highest `Seq` that the store may
    /// have.
    history: History,
}

impl Bounds {
    /// Processes one line of a writer's output.
    fn hear(&mut self, line: &str, seed: u64, tally: &mut Tally) -> Outcome {
        let words: Vec<&str> = line.split(' ').collect();
        let number =
            |place: usize| -> Outcome<u64> { Ok(words.get(place).ok_or("a word is missing")?.parse()?) };
        match words[0] {
            "base" => {
                let (seq, digest) = (number(1)?, number(2)?);
                let (sure, begun) = (self.sure, self.history.begun());
                if !(sure..=begun).contains(&seq) {
                    return Err(format!("expected a store at {sure} to {begun}, found it at {seq}").into());
                }
                if self.history.digest(seq) != Some(digest) {
                    return Err(format!("the store is not what it was at {seq}").into());
                }
                tally.opened += 1;
                tally.relaxed_lost += u64::from(seq < self.acknowledged);
                tally.unacknowledged += u64::from(seq > self.acknowledged);
                // A state that an open has shown is durable.
                (self.sure, self.acknowledged) = (seq, seq);
                self.history.lose_behind(seq);
                self.history.settle(seq);
            }
            "begin" => self.history.begin(number(1)?, seed)?,
            "acknowledged" => {
                self.acknowledged = number(1)?;
                tally.commits += 1;
                if words.get(2) == Some(&"sync") {
                    self.sure = self.acknowledged;
                }
            }
            "closed" => self.sure = number(1)?,
            "settled" => {
                tally.settled += u64::from(words.get(1) == Some(&"true") && number(2)? > 0);
                if number(3)? > 0 {
                    tally.doubts += 1;
                    println!("the ordered indexes were quarantined: {line}");
                }
            }
            "wrong" => return Err(line.into()),
            _ => {}
        }
        Ok(())
    }
}

/// One store on one disk.
struct Trial<'a> {
    disk: Disk,
    control: Control,
    path: PathBuf,
    /// Copy of the store's folder after the last cut, taken before any process opened the store.
    left: &'a Path,
    /// File with the standard error output of the writers.
    stderr: PathBuf,
    random: Random,
    bounds: Bounds,
}

impl Trial<'_> {
    fn start(&self, seed: u64, focus: &str) -> Outcome<Process> {
        let path = self.path.display().to_string();
        let orders = Orders { seed, focus: focus.to_owned(), ordered: true, path };
        // Threads may panic when the power is cut, and print that: sled's threads do.
        let stderr = File::create(&self.stderr)?;
        Process::start(child::command(NAME, &orders.role()).stderr(stderr))
    }

    /// Runs a writer until the power is cut, and checks what can be checked without opening the
    /// store.
    fn cut(&mut self, tally: &mut Tally) -> Outcome {
        let moment = Moment::draw(&mut self.random);
        let cut = match self.random.below(10) {
            0 => Cut::Nothing,
            1 => Cut::Data,
            _ => Cut::All,
        };
        self.control.begin()?;
        std::fs::create_dir_all(&self.path)?;
        let mut files = Files::watch(&self.path)?;
        let seed = moment.seed(self.random.next());
        let mut writer = self.start(seed, moment.focus())?;
        let waited = moment::wait(moment, &mut [&mut writer], &mut files);
        self.control.end()?;
        self.disk.cut(cut)?;
        // Half of the writers continue for a while on a disk that fails.
        if self.random.one_in(2) {
            std::thread::sleep(Duration::from_micros(self.random.below(3000)));
        }
        let heard = writer.lines.len();
        let status = writer.kill()?;
        let described = format!("{moment:?}, {cut:?}, the writer ended with {status}");
        let mut progress = waited.map_err(|error| format!("{error}; {described}"))?;
        moment::last(moment, &mut progress, &writer, &mut files)?;
        drop(files);
        for (place, line) in writer.lines.iter().enumerate() {
            let hear = self.bounds.hear(line, seed, tally);
            hear.map_err(|error| format!("{error}; {described}"))?;
            if line.starts_with("failed") && place < heard {
                return Err(format!("{line}; before the power was cut; {described}").into());
            }
        }
        if status.code().is_some() {
            return Err(format!("the writer panicked; {described}").into());
        }
        tally.cuts += 1;
        tally.stops.count(moment, &progress);
        self.disk.restart()?;
        let survived = self.control.survived()?;
        if cut == Cut::All && !self.disk.kind.journals_data() {
            tally.hard += 1;
            tally.bytes_lost += u64::from(!survived.bytes);
            tally.names_lost += u64::from(!survived.name);
        }
        // The folder may not exist any more.
        let _ = std::fs::remove_dir_all(self.left);
        if self.path.exists() {
            folder::copy(&self.path, self.left)?;
        }
        Ok(())
    }

    /// Checks the state after the last cut in a process that is not stopped.
    fn check(&mut self, tally: &mut Tally) -> Outcome {
        let seed = self.random.next();
        let mut writer = self.start(seed, "check")?;
        moment::answer("closed", &mut writer)?;
        writer.kill()?;
        for line in &writer.lines {
            self.bounds.hear(line, seed, tally)?;
        }
        Ok(())
    }
}

/// Runs the test in a separate mount namespace. The mounts disappear with the namespace, so the
/// store that a failure left is copied.
fn with_disks(folder: &Path) -> Outcome {
    let memory = folder.join("memory");
    std::fs::create_dir(&memory)?;
    disk::mount_memory(&memory)?;
    let left = memory.join("left");
    cut_all(folder, &left).inspect_err(|_| {
        let _ = folder::copy(&left, &folder.join("left"));
    })
}

fn cut_all(folder: &Path, left: &Path) -> Outcome {
    let probed = Disk::make(folder, KINDS[0]).and_then(|disk| {
        disk.cut(Cut::All)?;
        disk.restart()
    });
    if let Err(error) = probed {
        println!("{NAME}: skipped, since an ext4 image cannot be made, mounted and shut down here: {error}");
        return Ok(());
    }
    let seed = pongo_crashtest::seed(NAME, 4);
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let kinds = kinds();
    for number in 0..kinds.len() as u64 * pongo_crashtest::size() {
        let kind = kinds[number as usize % kinds.len()];
        let begun = std::time::Instant::now();
        let disk = Disk::make(folder, kind)?;
        let path = disk.mounted.join("cut.pongo");
        let mut trial = Trial {
            control: Control::make(&disk.mounted)?,
            disk,
            path,
            left,
            stderr: folder.join("stderr"),
            random: Random(random.next()),
            bounds: Bounds { sure: 0, acknowledged: 0, history: History::new() },
        };
        for cut in 0..CUTS {
            trial.cut(&mut tally).map_err(|error| format!("{kind:?}, store {number}, cut {cut}: {error}"))?;
        }
        trial.check(&mut tally).map_err(|error| format!("{kind:?}, store {number}, at the end: {error}"))?;
        println!(
            "{kind:?}: {CUTS} cuts in {} ms, at commit {}",
            begun.elapsed().as_millis(),
            trial.bounds.sure
        );
    }
    let Tally { cuts, stops, hard, bytes_lost, names_lost, .. } = &tally;
    println!(
        "{} commits; opened {} times, {} times with fewer commits than were acknowledged (all of them \
         relaxed), {} times with one more; {} times settled in sled, {} quarantined",
        tally.commits, tally.opened, tally.relaxed_lost, tally.unacknowledged, tally.settled, tally.doubts
    );
    println!("of {hard} hard cuts {bytes_lost} lost unsynced bytes, {names_lost} an unsynced name");
    println!("cut {stops}");
    println!("{NAME}: {cuts} cuts, seed {seed}, 0 failures");
    assert!(bytes_lost * 10 > hard * 9, "what was not synced survives: these are no cuts");
    assert!(names_lost * 2 > *hard, "what was not synced survives: these are no cuts");
    assert!(tally.relaxed_lost > 0 && tally.settled > 0, "too little was done to say anything");
    // Answers would be correct even then, but data that was synced in the correct order must not
    // have to be rebuilt.
    assert_eq!(tally.doubts, 0, "ordered indexes were quarantined");
    stops.are_many();
    Ok(())
}

#[test]
fn power_cuts_lose_no_commits() -> Outcome {
    if let Some(role) = child::role() {
        return match role.split_once(' ') {
            Some(("write", orders)) => writer::live(Orders::read(orders)?),
            Some(("disks", folder)) => with_disks(Path::new(folder)),
            _ => Err("no such role".into()),
        };
    }
    let allowed = Command::new("unshare").args(["-m", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("{NAME}: skipped, since `unshare -m` is not allowed here: it takes root");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let inner = child::command(NAME, &format!("disks {}", folder.path().display()));
    let mut command = Command::new("unshare");
    command.arg("-m");
    child::append(&mut command, &inner);
    let status = command.status()?;
    if !status.success() {
        let folder = folder.keep();
        let left = folder.display();
        panic!(
            "{status}; what the last cut left, before the store was opened: {left}/left; its writer's \
             complaints: {left}/stderr"
        );
    }
    Ok(())
}
