//! `kill -9` while indexes are merged and compacted, in a loop over one store.

use std::path::Path;
use std::time::Duration;

use pongo_test_support::running::{Running, say};
use pongo_test_support::{Random, child};

use crate::parts::{Outcome, Part, check, is_back, open, put, status};

const NAME: &str = "killed::kill_during_merge_and_compaction";

fn work_until_killed(path: &Path) -> Outcome {
    let store = open(path)?;
    let mut rows = store.begin_read()?.table::<Part>()?.len() * 2;
    loop {
        put(&store, rows..rows + 400)?;
        rows += 400;
        say("settling");
        store.catch_up_indexes()?;
        say("settled");
    }
}

#[test]
fn kill_during_merge_and_compaction() -> Outcome {
    if let Some(path) = child::role() {
        return work_until_killed(Path::new(&path));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    let mut rng = Random::seeded(NAME);
    let (mut left, mut doubts) = (0, 0);
    for round in 0..24 {
        let mut other = Running::start(&mut child::command(NAME, &path.display().to_string()));
        for _ in 0..1 + rng.below(3) {
            let word = other.lines.recv_timeout(Duration::from_secs(60))?;
            assert!(["settling", "settled"].contains(&&word[..]), "{word}");
        }
        std::thread::sleep(Duration::from_micros(rng.below(60_000)));
        other.kill();
        left += u64::from(path.join("ordered/sled.new").exists());
        // Some stores are left to the next child as they are.
        if round % 3 == 2 {
            continue;
        }
        let store = open(&path)?;
        check(&store)?;
        let found = status(&store)?;
        if let Some(reason) = &found.last_error {
            println!("round {round}: {reason}");
            doubts += 1;
        }
        is_back(&store)?;
        assert!(!path.join("ordered/sled.new").exists());
        store.close()?;
    }
    println!("24 kills, {left} in a compaction, {doubts} indexes rebuilt");
    assert!(left > 0, "no kill met a compaction");
    Ok(())
}
