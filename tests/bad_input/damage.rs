//! Files that were truncated, emptied, deleted, or have wrong bytes: either the store returns an
//! error or it rebuilds what can be rebuilt. It never panics or returns a wrong row, and it leaves
//! the files unchanged if it does not open.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pongo_test_support::{Random, folder};

use crate::fixtures::{self, Contents, Outcome};

/// How the store ended: closed, or by a power failure while it was idle.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    Clean,
    Cut,
}

fn template(folder: &Path, end: End) -> Outcome {
    let made = folder.join("made");
    let store = fixtures::build(&made)?;
    if end == End::Cut {
        // The copied files have other inodes, so that data that a power failure would have lost is
        // not trusted.
        folder::copy(&made, &folder.join("template"))?;
        return Ok(());
    }
    store.close()?;
    folder::copy(&made, &folder.join("template"))?;
    Ok(())
}

/// The outcome for a damaged store.
#[derive(PartialEq, Debug)]
enum Fate {
    /// All rows are present, and the store is writable.
    Whole,
    /// The contents are those after an earlier commit.
    Earlier,
    /// All rows are present, but some look-ups miss them.
    Missed,
    /// An error at open, while reading, or while writing.
    Refused(String),
}

/// Opens, reads and writes a damaged store.
fn judge(path: &Path) -> Fate {
    let refused = |error: Box<dyn std::error::Error>| Fate::Refused(error.to_string());
    let store = match fixtures::open(path) {
        Ok(store) => store,
        Err(error) => return Fate::Refused(error.to_string()),
    };
    let read = || -> Outcome<(Contents, Vec<u64>)> {
        let snapshot = store.begin_read()?;
        let contents = fixtures::read(&snapshot)?;
        let missed = fixtures::missed(&snapshot, &contents)?;
        Ok((contents, missed))
    };
    let (contents, missed) = match read() {
        Ok(read) => read,
        Err(error) => return refused(error),
    };
    let history = fixtures::history();
    let known = (0..=history.len()).rev().find(|&len| fixtures::expected(&history[..len]) == contents);
    let known = known.unwrap_or_else(|| panic!("rows that no commit left: {} rooms", contents.rooms.len()));
    if !missed.is_empty() {
        return Fate::Missed;
    }
    if known < history.len() {
        return Fate::Earlier;
    }
    // Write to the store, and read the written rows after a reopen.
    let write = || -> Outcome { fixtures::perform(&store, &vec![(3, Some(77.0)), (9999, Some(1.0))], false) };
    if let Err(error) = write() {
        return refused(error);
    }
    drop(store);
    let again = fixtures::open(path).map(|store| store.begin_read().expect("a snapshot"));
    match again.map_err(Into::into).and_then(|snapshot| fixtures::read(&snapshot)) {
        Ok(after) => assert_eq!((after.rooms.get(&3), after.guests), (Some(&77.0), contents.guests + 1)),
        Err(error) => return refused(error),
    }
    Fate::Whole
}

/// One kind of damage to a file.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Damage {
    Deleted,
    Emptied,
    Halved,
    Shortened,
    Flipped(u64),
}

impl Damage {
    fn inflict(self, file: &Path) -> std::io::Result<()> {
        let len = fs::metadata(file)?.len();
        let cut = |len| fs::OpenOptions::new().write(true).open(file)?.set_len(len);
        match self {
            Self::Deleted => fs::remove_file(file),
            Self::Emptied => cut(0),
            Self::Halved => cut(len / 2),
            Self::Shortened => cut(len.saturating_sub(1)),
            Self::Flipped(place) => {
                let mut bytes = fs::read(file)?;
                bytes[((place & 0xffff_ffff) % len) as usize] ^= 1 << (place >> 40 & 7);
                fs::write(file, bytes)
            }
        }
    }
}

/// Returns whether this damage to an otherwise sound store may have this outcome. `Whole` and
/// `Refused` are always allowed.
fn allowed(end: End, file: &str, damage: Damage, fate: &Fate) -> bool {
    let flipped = matches!(damage, Damage::Flipped(_));
    match fate {
        Fate::Whole | Fate::Refused(_) => true,
        // A damaged last batch of a journal cannot be told from a torn tail
        // (docs/design/failures.md).
        Fate::Earlier => end == End::Cut && file.starts_with("journal/") && flipped,
        // The index of a closed store has a checksum; that of a store that was not closed is
        // rebuilt.
        Fate::Missed => false,
    }
}

/// Returns whether a message names the damaged file, or at least the damaged index.
fn names(message: &str, file: &str) -> bool {
    // For `N.sums` and `N.marks` the message names the file or its chunk.
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    message.contains(stem) || file.starts_with("hash/") && message.contains("hash/")
}

fn try_damages(end: End, damages: impl Fn(&str, &mut Random) -> Vec<Damage>) -> Outcome {
    let mut rng = Random::seeded("damage");
    let folder = tempfile::tempdir()?;
    template(folder.path(), end)?;
    let template = folder.path().join("template");
    let mut wrong = Vec::new();
    let mut fates: BTreeMap<String, u64> = BTreeMap::new();
    for file in fixtures::files(&template)? {
        for damage in damages(&file, &mut rng) {
            let path = folder.path().join("damaged.pongo");
            folder::copy(&template, &path)?;
            if fs::metadata(path.join(&file))?.len() == 0 {
                continue;
            }
            damage.inflict(&path.join(&file))?;
            let case = format!("{end:?}, {file} {damage:?}");
            match catch_unwind(AssertUnwindSafe(|| judge(&path))) {
                Err(_) => wrong.push(format!("{case}: panics or reads wrong rows, see above")),
                Ok(fate) => {
                    if !allowed(end, &file, damage, &fate) {
                        wrong.push(format!("{case}: {fate:?}"));
                    }
                    if let Fate::Refused(message) = &fate
                        && !names(message, &file)
                    {
                        wrong.push(format!("{case}: the message does not name the file: {message}"));
                    }
                    let kind = format!("{fate:?}");
                    *fates.entry(kind.split('(').next().unwrap_or_default().to_owned()).or_default() += 1;
                }
            }
            remove(&path)?;
        }
    }
    println!("{end:?}: {fates:?}");
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn cuts(_: &str, _: &mut Random) -> Vec<Damage> {
    vec![Damage::Deleted, Damage::Emptied, Damage::Halved, Damage::Shortened]
}

fn flips(_: &str, rng: &mut Random) -> Vec<Damage> {
    let place = |rng: &mut Random| (rng.below(8) << 40) | rng.below(1 << 32);
    (0..6)
        .map(|time| {
            // Half of the flipped bits are near the beginning of the file, where most of the small
            // structures are.
            let place = place(rng);
            Damage::Flipped(if time % 2 == 0 { place & !0xffff_ff00 } else { place })
        })
        .collect()
}

#[test]
fn truncated_files_of_a_closed_store() -> Outcome {
    try_damages(End::Clean, cuts)
}

#[test]
fn truncated_files_after_power_loss() -> Outcome {
    try_damages(End::Cut, cuts)
}

#[test]
fn flipped_bits_in_a_closed_store() -> Outcome {
    try_damages(End::Clean, flips)
}

/// Removes a store's folder. Retries for a minute, because sled may still be closing and creating a
/// file.
fn remove(path: &Path) -> std::io::Result<()> {
    let began = std::time::Instant::now();
    loop {
        match fs::remove_dir_all(path) {
            Err(error)
                if error.kind() == std::io::ErrorKind::DirectoryNotEmpty
                    && began.elapsed().as_secs() < 60 =>
            {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

#[test]
fn flipped_bits_after_power_loss() -> Outcome {
    try_damages(End::Cut, flips)
}
