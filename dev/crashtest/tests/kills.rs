//! `kill -9` of a writing process at moments drawn from the seed, while readers in other processes
//! read snapshots all the time. Each snapshot is the complete store after a commit that was
//! started; none is older than one that the same reader saw before, or than a commit that was
//! acknowledged before the snapshot was taken; and a kept snapshot does not change. Occasionally
//! another writer waits for the lock and takes over, or a reader is killed too, or all processes,
//! so that the next one recovers the store.

mod live;
mod kills {
    pub(crate) mod reader;
}

use std::io::Write;
use std::path::{Path, PathBuf};

use kills::reader;
use live::Outcome;
use live::files::Files;
use live::history::History;
use live::moment::{self, Moment, Stops};
use live::process::Process;
use live::writer::{self, Orders};
use pongo_sim::Random;
use pongo_test_support::child;

const NAME: &str = "kills_lose_no_commits";
/// Number of stores, multiplied by `PONGO_TORTURE`.
const STORES: u64 = 20;
/// Number of kills of the writers of one store.
const KILLS: u64 = 50;

/// Counts over all kills.
#[derive(Default)]
struct Tally {
    kills: u64,
    readers_killed: u64,
    all_killed: u64,
    took_over: u64,
    commits: u64,
    seen: u64,
    again: u64,
    answers: u64,
    settled: u64,
    doubts: u64,
    stops: Stops,
}

struct Writer {
    seed: u64,
    process: Process,
}

struct Reader {
    process: Process,
    /// Newest `Seq` that it saw.
    last: u64,
    reads: bool,
}

/// One store and its processes.
struct Trial {
    path: PathBuf,
    random: Random,
    /// The first one is the next to be killed.
    writers: Vec<Writer>,
    readers: Vec<Reader>,
    history: History,
    acknowledged: u64,
    /// Output of processes that was not processed yet: lines of writers with the writers' seeds,
    /// and the `Seq` and digest of snapshots that readers saw.
    written: Vec<(u64, String)>,
    seen: Vec<(u64, u64)>,
}

impl Trial {
    fn new(folder: &Path, random: Random) -> Self {
        Self {
            path: folder.join("killed.pongo"),
            random,
            writers: Vec::new(),
            readers: Vec::new(),
            history: History::new(),
            acknowledged: 0,
            written: Vec::new(),
            seen: Vec::new(),
        }
    }

    fn start_writer(&mut self, seed: u64, focus: &str) -> Outcome {
        let ordered = !self.random.one_in(6);
        let orders = Orders { seed, focus: focus.to_owned(), ordered, path: self.path.display().to_string() };
        let process = Process::start(&mut child::command(NAME, &orders.role()))?;
        self.writers.push(Writer { seed, process });
        Ok(())
    }

    /// Starts a reader. Most readers leave the ordered indexes to the writers.
    fn start_reader(&mut self) -> Outcome {
        let seed = self.random.next();
        let ordered = self.random.one_in(6);
        let orders = reader::Orders { seed, ordered, path: self.path.display().to_string() };
        let process = Process::start(&mut child::command(NAME, &orders.role()))?;
        self.readers.push(Reader { process, last: 0, reads: false });
        Ok(())
    }

    /// Runs the processes until a writer is killed, and processes their output.
    fn kill(&mut self, tally: &mut Tally) -> Outcome {
        let moment = Moment::draw(&mut self.random);
        while self.readers.len() < 2 || (self.readers.len() < 3 && self.random.one_in(8)) {
            self.start_reader()?;
        }
        std::fs::create_dir_all(&self.path)?;
        let mut files = Files::watch(&self.path)?;
        // A writer that waited for the lock may have been started long ago.
        tally.took_over += u64::from(!self.writers.is_empty());
        if self.writers.is_empty() {
            let seed = moment.seed(self.random.next());
            self.start_writer(seed, moment.focus())?;
        }
        if self.writers.len() < 2 && self.random.one_in(4) {
            let seed = moment.seed(self.random.next());
            self.start_writer(seed, "commit")?;
        }
        let mut processes: Vec<&mut Process> =
            self.writers.iter_mut().map(|writer| &mut writer.process).collect();
        processes.extend(self.readers.iter_mut().map(|reader| &mut reader.process));
        let mut progress = moment::wait(moment, &mut processes, &mut files)?;
        let mut victim = self.writers.remove(0);
        victim.process.kill()?;
        moment::last(moment, &mut progress, &victim.process, &mut files)?;
        self.hear_writer(&mut victim)?;
        tally.kills += 1;
        tally.stops.count(moment, &progress);
        match self.random.below(12) {
            0 => {
                let place = self.random.below(self.readers.len() as u64) as usize;
                let mut reader = self.readers.remove(place);
                reader.process.kill()?;
                self.hear_reader(&mut reader, tally)?;
                tally.readers_killed += 1;
            }
            1..3 => {
                for mut writer in std::mem::take(&mut self.writers) {
                    writer.process.kill()?;
                    self.hear_writer(&mut writer)?;
                }
                for mut reader in std::mem::take(&mut self.readers) {
                    reader.process.kill()?;
                    self.hear_reader(&mut reader, tally)?;
                }
                tally.all_killed += 1;
            }
            _ => {}
        }
        self.note(tally)?;
        if self.random.one_in(3) {
            self.ask(tally)?;
        }
        Ok(())
    }

    fn hear_writer(&mut self, writer: &mut Writer) -> Outcome {
        writer.process.hear()?;
        for line in writer.process.lines.drain(..) {
            if line.starts_with("failed") || line.starts_with("wrong") {
                return Err(line.into());
            }
            self.written.push((writer.seed, line));
        }
        Ok(())
    }

    fn hear_reader(&mut self, reader: &mut Reader, tally: &mut Tally) -> Outcome {
        reader.process.hear()?;
        for line in reader.process.lines.drain(..) {
            let words: Vec<&str> = line.split(' ').collect();
            let number =
                |place: usize| -> Outcome<u64> { Ok(words.get(place).ok_or("a word is missing")?.parse()?) };
            match words[0] {
                "reading" => reader.reads = true,
                "saw" => {
                    tally.seen += 1;
                    if number(1)? < reader.last {
                        return Err(format!("{line} after {}", reader.last).into());
                    }
                    reader.last = number(1)?;
                    self.seen.push((reader.last, number(2)?));
                }
                "kept" => tally.again += number(1)?,
                "now" => {}
                _ => return Err(format!("a reader: {line}").into()),
            }
        }
        Ok(())
    }

    /// Processes the output. Writers are read after readers, so that every commit that was seen has
    /// already been reported as started.
    fn note(&mut self, tally: &mut Tally) -> Outcome {
        for mut reader in std::mem::take(&mut self.readers) {
            self.hear_reader(&mut reader, tally)?;
            if reader.process.silent {
                return Err("a reader is gone".into());
            }
            self.readers.push(reader);
        }
        for mut writer in std::mem::take(&mut self.writers) {
            self.hear_writer(&mut writer)?;
            self.writers.push(writer);
        }
        let (mut begun, mut bases) = (Vec::new(), Vec::new());
        for (seed, line) in std::mem::take(&mut self.written) {
            let words: Vec<&str> = line.split(' ').collect();
            let number =
                |place: usize| -> Outcome<u64> { Ok(words.get(place).ok_or("a word is missing")?.parse()?) };
            match words[0] {
                "begin" => begun.push((number(2)?, number(1)?, seed)),
                "base" => bases.push((number(1)?, number(2)?)),
                "acknowledged" => {
                    self.acknowledged = self.acknowledged.max(number(1)?);
                    tally.commits += 1;
                }
                "settled" => {
                    tally.settled += u64::from(words.get(1) == Some(&"true") && number(2)? > 0);
                    if number(3)? > 0 {
                        tally.doubts += 1;
                        println!("the ordered indexes were quarantined: {line}");
                    }
                }
                _ => {}
            }
        }
        // Sorted by the clock, which all processes share: commits start one after the other.
        begun.sort_unstable();
        for (_, seq, seed) in begun {
            self.history.begin(seq, seed)?;
        }
        for (seq, digest) in self.seen.drain(..).chain(bases) {
            match self.history.digest(seq) {
                Some(known) if known == digest => {}
                Some(_) => return Err(format!("what was seen at {seq} is not the store at {seq}").into()),
                None => return Err(format!("{seq} was seen, {} were started", self.history.begun()).into()),
            }
        }
        self.history.settle(self.acknowledged);
        Ok(())
    }

    /// Asks each reader for a new snapshot, which must contain all acknowledged commits.
    fn ask(&mut self, tally: &mut Tally) -> Outcome {
        let expected = self.acknowledged;
        for reader in self.readers.iter_mut().filter(|reader| reader.reads) {
            reader.process.stdin.write_all(b"now\n")?;
        }
        for mut reader in std::mem::take(&mut self.readers) {
            if reader.reads {
                let answer = moment::answer("now", &mut reader.process)?;
                tally.answers += 1;
                let seq: u64 = answer.split(' ').nth(1).ok_or("a word is missing")?.parse()?;
                if seq < expected {
                    return Err(format!("a new snapshot of {seq}, {expected} was acknowledged before").into());
                }
            }
            self.readers.push(reader);
        }
        Ok(())
    }

    /// Kills all processes, and checks the store in a single process.
    fn check(&mut self, tally: &mut Tally) -> Outcome {
        for mut writer in std::mem::take(&mut self.writers) {
            writer.process.kill()?;
            self.hear_writer(&mut writer)?;
        }
        for mut reader in std::mem::take(&mut self.readers) {
            reader.process.kill()?;
            self.hear_reader(&mut reader, tally)?;
        }
        let seed = self.random.next();
        self.start_writer(seed, "check")?;
        let mut checker = self.writers.remove(0);
        moment::answer("closed", &mut checker.process)?;
        self.hear_writer(&mut checker)?;
        let base = |line: &&(u64, String)| line.1.starts_with("base");
        let found = self.written.iter().rfind(base).ok_or("the check has no base")?.1.clone();
        self.note(tally)?;
        let seq: u64 = found.split(' ').nth(1).ok_or("a word is missing")?.parse()?;
        if seq < self.acknowledged {
            return Err(format!("{} were acknowledged, {found}", self.acknowledged).into());
        }
        Ok(())
    }
}

#[test]
fn kills_lose_no_commits() -> Outcome {
    if let Some(role) = child::role() {
        return match role.split_once(' ') {
            Some(("write", orders)) => writer::live(Orders::read(orders)?),
            Some(("read", orders)) => reader::live(&reader::Orders::read(orders)?),
            _ => Err("no such role".into()),
        };
    }
    let seed = pongo_crashtest::seed(NAME, 5);
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for number in 0..STORES * pongo_crashtest::size() {
        let folder = tempfile::tempdir()?;
        let mut trial = Trial::new(folder.path(), Random(random.next()));
        let mut outcome = Ok(());
        for kill in 0..KILLS {
            outcome = outcome.and_then(|()| {
                trial.kill(&mut tally).map_err(|error| format!("kill {kill}: {error}").into())
            });
        }
        outcome = outcome.and_then(|()| trial.check(&mut tally));
        if let Err(error) = outcome {
            drop(trial);
            panic!("store {number}: {error}; PONGO_SEED={seed}; it is kept: {}", folder.keep().display());
        }
    }
    println!(
        "{} commits, {} readers killed, all killed {} times, {} times another writer took over; {} snapshots \
         seen, {} kept ones looked at again, {} asked for; {} times settled in sled, {} quarantined",
        tally.commits,
        tally.readers_killed,
        tally.all_killed,
        tally.took_over,
        tally.seen,
        tally.again,
        tally.answers,
        tally.settled,
        tally.doubts
    );
    println!("killed {}", tally.stops);
    println!("{NAME}: {} kills, seed {seed}, 0 failures", tally.kills);
    assert!(
        tally.seen > tally.kills && tally.again > 0 && tally.settled > 0,
        "too little was done to say anything"
    );
    tally.stops.are_many();
    Ok(())
}
