//! A second process that executes the commands of the first, one per line, and answers each with
//! one line.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pongo::prelude::*;

use crate::running::{Running, say};
use crate::{Outcome, child};

/// A row of the table that both processes use.
#[pongo::record]
#[pongo(table = "accounts")]
#[derive(pongo::zerocopy::IntoBytes, Debug)]
pub struct Account {
    #[pongo(key)]
    /// The key.
    pub number: u64,
    /// The balance.
    pub cents: i64,
    /// The owner's name.
    pub owner: Text,
}

/// Compares the bytes: rows are equal if their text is at the same address.
impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        use pongo::zerocopy::IntoBytes;
        self.as_bytes() == other.as_bytes()
    }
}

/// A table that is created while both processes have the store open.
#[pongo::record]
#[pongo(table = "late")]
#[derive(Debug, PartialEq)]
pub struct Late {
    #[pongo(key)]
    /// The key.
    pub id: u64,
    /// The square of the key.
    pub square: u64,
}

/// Opens or creates the store in a folder that only its test uses.
///
/// # Errors
///
/// Returns the error of the store.
pub fn open(path: &Path) -> Result<Store, pongo::OpenError> {
    // SAFETY: the folder is the test's own; only PongoDB writes to it.
    unsafe { Options::new().chunk_size(256 << 10).checkpoint_bytes(2 << 20).open(path) }
}

/// Inserts or replaces an account in a transaction, and returns its `Seq`.
///
/// # Errors
///
/// Returns the first error of the store.
pub fn put(store: &Store, number: u64, cents: i64, owner: &str) -> Outcome<u64> {
    let tx = store.begin_write()?;
    let owner = tx.text(owner)?;
    tx.table::<Account>()?.put(&Account { number, cents, owner })?;
    Ok(tx.commit()?.seq.0)
}

/// Inserts a row into the table `late`.
///
/// # Errors
///
/// Returns the first error of the store.
pub fn put_late(store: &Store, id: u64) -> Outcome {
    let tx = store.begin_write_with(Durability::Relaxed)?;
    tx.table::<Late>()?.insert(&Late { id, square: id * id })?;
    tx.commit()?;
    Ok(())
}

/// Returns the number of accounts, the sum, and one owner in a snapshot, after comparing all read
/// methods.
///
/// # Errors
///
/// Returns the first error of the store.
///
/// # Panics
///
/// Panics if two read methods disagree.
pub fn describe(snapshot: &Snapshot, number: u64) -> Outcome<String> {
    let accounts = snapshot.table::<Account>()?;
    let mut sum = 0;
    let mut rows = 0;
    for slice in accounts.slices() {
        for account in slice? {
            rows += 1;
            sum += account.cents;
            assert_eq!(accounts.get(account.number)?, Some(account));
        }
    }
    assert_eq!(rows, accounts.len());
    let account = accounts.get(number)?;
    assert_eq!(accounts.contains(number)?, account.is_some());
    let owner = account.map_or(Ok("nobody"), |account| account.owner.as_str(snapshot))?;
    let cents = account.map_or(0, |account| account.cents);
    Ok(format!("{rows} rows, {sum} cents, account {number}: {cents} of {owner}"))
}

/// Returns the same as [`describe`] for the table `late`.
///
/// # Errors
///
/// Returns the first error of the store.
///
/// # Panics
///
/// Panics if a row is missing or wrong.
pub fn describe_late(snapshot: &Snapshot) -> Outcome<String> {
    let late = snapshot.table::<Late>()?;
    for id in 0..late.len() {
        assert_eq!(late.get(id)?, Some(&Late { id, square: id * id }));
    }
    assert_eq!(late.rows().count() as u64, late.len());
    Ok(format!("{} late", late.len()))
}

/// Moves one cent from one account to another, so that the sum stays the same, and writes a new
/// text.
///
/// # Errors
///
/// Returns the first error of the store.
pub fn transfer(store: &Store, from: u64, to: u64, durability: Durability) -> Outcome {
    let tx = store.begin_write_with(durability)?;
    let owner = tx.text(&format!("owner of {from}, who gave to {to}"))?;
    let mut accounts = tx.table::<Account>()?;
    accounts.update(from, |account| (account.cents, account.owner) = (account.cents - 1, owner))?;
    accounts.update(to, |account| account.cents += 1)?;
    drop(accounts);
    tx.commit()?;
    Ok(())
}

/// Runs the second process: opens the store and executes commands until its stdin ends.
///
/// # Errors
///
/// Returns the first error of the store, or an error for an unknown command.
///
/// # Panics
///
/// Panics if it reads a wrong value.
pub fn obey(path: &str) -> Outcome {
    let store = open(Path::new(path))?;
    say("open");
    let mut pinned: HashMap<String, Snapshot> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| -> Outcome<u64> { Ok(words.get(place).ok_or("too few words")?.parse()?) };
        let answer = match words[0] {
            "pin" => {
                let snapshot = store.begin_read()?;
                let seq = snapshot.seq().to_string();
                pinned.insert(words[1].to_owned(), snapshot);
                seq
            }
            "pinned" => describe(pinned.get(words[1]).ok_or("no such pin")?, number(2)?)?,
            "now" => describe(&store.begin_read()?, number(1)?)?,
            "late" => describe_late(&store.begin_read()?)?,
            "put" => put(&store, number(1)?, words[2].parse()?, words[3])?.to_string(),
            "put-late" => put_late(&store, number(1)?).map(|()| "put".to_owned())?,
            "hold" => {
                let tx = store.begin_write()?;
                let owner = tx.text("a thief")?;
                let stolen = |number| Account { number, cents: 1 << 40, owner };
                tx.table::<Account>()?.put(&stolen(1))?;
                tx.table::<Account>()?.extend((0..50_000).map(stolen))?;
                say("held");
                std::thread::sleep(Duration::from_secs(60));
                return Err("the holder was not killed".into());
            }
            "transfer" => {
                // Runs until the process is killed.
                say("begun");
                for step in number(1)?.. {
                    let durability = if step % 3 == 0 { Durability::Sync } else { Durability::Relaxed };
                    transfer(&store, step % 8, (step + 1) % 8, durability)?;
                }
                unreachable!("the numbers do not end");
            }
            "watch" => {
                // Until account 99 exists: every snapshot has the same sum, and none is older than
                // the previous one.
                let (mut last, mut seen) = (0, 0_u64);
                loop {
                    let snapshot = store.begin_read()?;
                    let seq = snapshot.seq().0;
                    assert!(seq >= last, "snapshot {seq} is older than {last}");
                    seen += u64::from(seq > last);
                    last = seq;
                    if snapshot.table::<Account>()?.contains(99)? {
                        break seen.to_string();
                    }
                    let described = describe(&snapshot, 3)?;
                    assert!(described.starts_with("8 rows, 800 cents"), "{described}");
                }
            }
            other => return Err(format!("told to {other}").into()),
        };
        say(&answer);
    }
    drop(pinned);
    store.close()?;
    say("closed");
    Ok(())
}

/// A handle to the second process.
#[derive(Debug)]
pub struct Agent {
    /// The process.
    pub running: Running,
}

impl Agent {
    /// Starts a second process. It has the store open when this returns.
    ///
    /// # Panics
    ///
    /// Panics if the process does not open the store.
    #[must_use]
    pub fn start(test: &str, path: &Path) -> Self {
        Self::start_by(&mut child::command(test, &path.display().to_string()))
    }

    /// Starts a second process through a command that runs it.
    ///
    /// # Panics
    ///
    /// Panics if the process does not open the store.
    pub fn start_by(command: &mut Command) -> Self {
        let mut agent = Self { running: Running::start(command) };
        assert_eq!(agent.hear(), "open");
        agent
    }

    /// Sends a command.
    ///
    /// # Panics
    ///
    /// Panics if the process has ended.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.running.process.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").expect("the other process listens");
    }

    /// Waits for an answer for at most a minute.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn hear(&mut self) -> String {
        self.running.lines.recv_timeout(Duration::from_secs(60)).expect("the other process answers")
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.hear()
    }

    /// Makes the process close the store and end.
    ///
    /// # Panics
    ///
    /// Panics if it fails.
    pub fn end(mut self) {
        drop(self.running.process.stdin.take());
        assert_eq!(self.hear(), "closed");
        assert!(self.running.process.wait().expect("it ends").success());
    }
}
