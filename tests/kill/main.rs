//! `kill -9` in the middle of commits, of bulk loads and of recovery, in a loop over one store:
//! every acknowledged commit is present, no commit is present in part, and all read methods return
//! the same rows.
//!
//! The child runs transactions 1, 2, 3, …; the changes of transaction n follow from n and its kind
//! alone. So the parent can repeat them in a model and compare the whole store with the model after
//! the same number of transactions.

mod work;

use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use pongo::prelude::*;
use pongo_test_support::running::{Running, say};
use pongo_test_support::{Outcome, Random, child};
use work::{Model, Works};

const NAME: &str = "kill_9_loses_no_acknowledged_commit";
const ROUNDS: u64 = 44;

fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // Small chunks and checkpoints, so that there are many of both.
    let options = Options::new().chunk_size(1 << 20).checkpoint_bytes(2 << 20);
    // SAFETY: the folder is this test's own; only PongoDB writes to it.
    unsafe { options.open(path) }
}

/// Runs the child: opens the store and continues with the next transaction, until it is killed.
fn work_until_killed(role: &str) -> Outcome {
    let (bulk, path) = role.split_once(' ').ok_or("a role is two words")?;
    say("opening");
    let store = open(Path::new(path))?;
    let done = store.begin_read()?.table::<Works>()?.len();
    say("open");
    for number in done + 1.. {
        let kind = work::kind_of(number, bulk == "bulk" && (number - done) % 8 == 1);
        say(&format!("begin {number}"));
        let tx = work::perform(&store, number, kind, || say("loading"))?;
        say("committing");
        tx.commit()?;
        say(&format!("acknowledged {number}"));
    }
    Ok(())
}

/// The moment of a kill: `delay` microseconds after the child printed `word` for the `nth` time.
#[derive(Clone, Copy, Debug)]
struct Moment {
    bulk: bool,
    word: &'static str,
    nth: u64,
    delay: u64,
}

impl Moment {
    fn draw(round: u64, rng: &mut Random) -> Self {
        let (bulk, word, nth, longest) = match round % 4 {
            // Usually while it recovers from the last kill.
            0 => (false, "opening", 1, 6_000),
            1 => (false, "acknowledged", 1 + rng.below(100), 2_000),
            2 => (true, "loading", 1, 60_000),
            _ => (true, "committing", 1, 120_000),
        };
        Self { bulk, word, nth, delay: rng.below(longest) }
    }
}

/// The lines that a child had printed when it was killed.
#[derive(Default, Debug)]
struct Said {
    opened: bool,
    /// Numbers of the last transactions.
    begun: u64,
    acknowledged: u64,
}

impl Said {
    fn note(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("begin", number)) => self.begun = number.parse().expect("a number"),
            Some(("acknowledged", number)) => self.acknowledged = number.parse().expect("a number"),
            _ => self.opened |= line == "open",
        }
    }
}

fn run_and_kill(path: &Path, moment: Moment) -> Said {
    let role = format!("{} {}", if moment.bulk { "bulk" } else { "small" }, path.display());
    let mut running = Running::start(&mut child::command(NAME, &role));
    let mut said = Said::default();
    let mut kill_at = None;
    let mut times = 0;
    loop {
        let left = kill_at.map_or(Duration::from_secs(60), |at: Instant| at.duration_since(Instant::now()));
        match running.lines.recv_timeout(left) {
            Ok(line) => {
                said.note(&line);
                times += u64::from(line.split(' ').next() == Some(moment.word));
                if times == moment.nth && kill_at.is_none() {
                    kill_at = Some(Instant::now() + Duration::from_micros(moment.delay));
                }
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => panic!("the child ended by itself: {moment:?}, {said:?}"),
        }
    }
    assert!(kill_at.is_some(), "the child hangs: {moment:?}, {said:?}");
    running.kill();
    // Lines that the child printed just before the kill count as well.
    running.lines.iter().for_each(|line| said.note(&line));
    said
}

#[test]
fn kill_9_loses_no_acknowledged_commit() -> Outcome {
    if let Some(role) = child::role() {
        return work_until_killed(&role);
    }
    let mut rng = Random::seeded(NAME);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("killed.pongo");
    let mut model = Model::new();
    let (mut acknowledged, mut begun, mut never_opened, mut unacknowledged) = (0, 0, 0, 0);
    for round in 0..ROUNDS {
        let moment = Moment::draw(round, &mut rng);
        let said = run_and_kill(&path, moment);
        acknowledged = said.acknowledged.max(acknowledged);
        begun = said.begun.max(begun);
        never_opened += u64::from(!said.opened);
        // Some stores are left to the next child as they are, so that the child recovers them and
        // is killed during recovery.
        if round % 4 == 3 && rng.below(4) != 0 {
            continue;
        }
        let store = open(&path)?;
        let snapshot = store.begin_read()?;
        let works = snapshot.table::<Works>()?;
        let done = works.len();
        assert!(
            acknowledged <= done,
            "{acknowledged} were acknowledged, {done} are in the store: {moment:?}"
        );
        assert!(done <= begun, "{begun} were started, {done} are in the store: {moment:?}");
        unacknowledged += u64::from(acknowledged < done);
        while model.done() < done {
            let work = works.get(model.done() + 1)?;
            model.perform(work.ok_or("a transaction is missing between others")?.kind);
        }
        model.compare(&snapshot)?;
        // Every transaction that is present is kept, whether or not it was acknowledged.
        acknowledged = done;
    }
    println!(
        "{ROUNDS} kills: {acknowledged} transactions, {never_opened} kills while opening, {unacknowledged} \
         behind the journal and before the answer"
    );
    assert!(acknowledged > ROUNDS, "too little was done to say anything");
    Ok(())
}
