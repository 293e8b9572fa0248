//! Two or more processes with one store: each commit is visible as soon as it is published, old
//! snapshots do not change, and the writer lock passes to the next process, also from a process
//! that was killed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pongo::prelude::*;
use pongo_test_support::agent::Agent;
use pongo_test_support::running::{Running, say};
use pongo_test_support::{Outcome, agent, child};

/// Runs `test` in the first process, or obeys commands if this is the second process.
fn first_or_second(test: impl FnOnce(PathBuf) -> Outcome) -> Outcome {
    if let Some(path) = child::role() {
        return agent::obey(&path);
    }
    let folder = tempfile::tempdir()?;
    test(folder.path().join("shared.pongo"))
}

#[test]
fn a_second_process_reads_along() -> Outcome {
    first_or_second(|path| {
        let store = agent::open(&path)?;
        agent::put(&store, 0, 100, "ada")?;
        let mut other = Agent::start("a_second_process_reads_along", &path);
        let pinned: u64 = other.ask("pin old").parse()?;
        assert_eq!(pinned, store.begin_read()?.seq().0);
        let old = other.ask("pinned old 0");
        assert_eq!(old, "1 rows, 100 cents, account 0: 100 of ada");
        for number in 1..200 {
            agent::put(&store, number, 100, &format!("owner-{number}"))?;
            if number % 5 == 0 {
                // The row that the old snapshot sees is replaced, deleted, and put again.
                agent::put(&store, 0, i64::try_from(number)?, "bob")?;
                let tx = store.begin_write_with(Durability::Relaxed)?;
                assert!(tx.table::<agent::Account>()?.delete(0)?);
                tx.commit()?;
            }
            let here = agent::describe(&store.begin_read()?, number)?;
            assert_eq!(other.ask(&format!("now {number}")), here);
            assert!(here.ends_with(&format!(" of owner-{number}")), "{here}");
        }
        assert_eq!(other.ask("pinned old 0"), old);
        assert!(other.ask("pinned old 7").ends_with("account 7: 0 of nobody"));
        other.end();
        Ok(())
    })
}

#[test]
fn writer_lock_passes_back_and_forth() -> Outcome {
    first_or_second(|path| {
        let store = agent::open(&path)?;
        let mut other = Agent::start("writer_lock_passes_back_and_forth", &path);
        let before = store.begin_read()?;
        let mut last = 0;
        for number in 0..120 {
            let seq = if number % 3 == 0 {
                agent::put(&store, number, 1, "here")?
            } else {
                other.ask(&format!("put {number} 1 there")).parse()?
            };
            assert!(seq > last, "commit {seq} came after {last}");
            last = seq;
            let here = agent::describe(&store.begin_read()?, number)?;
            let who = if number % 3 == 0 { "here" } else { "there" };
            let rows = number + 1;
            assert_eq!(here, format!("{rows} rows, {rows} cents, account {number}: 1 of {who}"));
            assert_eq!(other.ask(&format!("now {number}")), here);
        }
        assert_eq!(before.table::<agent::Account>()?.len(), 0);
        drop(before);
        other.end();
        agent::put(&store, 120, 1, "here")?;
        store.close()?;
        let again = agent::open(&path)?;
        assert_eq!(
            agent::describe(&again.begin_read()?, 119)?,
            "121 rows, 121 cents, account 119: 1 of there"
        );
        Ok(())
    })
}

#[test]
fn writer_waits_for_other_process() -> Outcome {
    first_or_second(|path| {
        let store = agent::open(&path)?;
        let mut other = Agent::start("writer_waits_for_other_process", &path);
        let tx = store.begin_write()?;
        let owner = tx.text("ada")?;
        tx.table::<agent::Account>()?.put(&agent::Account { number: 1, cents: 5, owner })?;
        other.tell("put 1 7 bob");
        let early = other.running.lines.recv_timeout(Duration::from_millis(100));
        assert!(early.is_err(), "two write transactions at once: {early:?}");
        let first = tx.commit()?.seq;
        let second: u64 = other.hear().parse()?;
        assert_eq!(second, first.0 + 1);
        assert_eq!(agent::describe(&store.begin_read()?, 1)?, "1 rows, 7 cents, account 1: 7 of bob");
        other.end();
        Ok(())
    })
}

#[test]
fn later_tables_are_seen() -> Outcome {
    first_or_second(|path| {
        let store = agent::open(&path)?;
        let mut other = Agent::start("later_tables_are_seen", &path);
        assert_eq!(other.ask("late"), "0 late");
        // The other process creates the table and this one writes to it, and vice versa.
        other.ask("put-late 0");
        for id in 1..50 {
            assert_eq!(agent::describe_late(&store.begin_read()?)?, format!("{id} late"));
            agent::put_late(&store, id)?;
            assert_eq!(other.ask("late"), format!("{} late", id + 1));
        }
        assert_eq!(other.ask("now 1"), "0 rows, 0 cents, account 1: 0 of nobody");
        agent::put(&store, 1, 5, "ada")?;
        assert_eq!(other.ask("now 1"), "1 rows, 5 cents, account 1: 5 of ada");
        other.end();
        Ok(())
    })
}

#[test]
fn killed_lock_holder_blocks_no_process() -> Outcome {
    first_or_second(|path| {
        let store = agent::open(&path)?;
        for number in 0..8 {
            agent::put(&store, number, 100, "ada")?;
        }
        for round in 0..3 {
            let mut other = Agent::start("killed_lock_holder_blocks_no_process", &path);
            assert_eq!(other.ask("hold"), "held");
            let waits = Instant::now();
            let writer = {
                let store = store.clone();
                // A boxed error is not `Send`.
                std::thread::spawn(move || {
                    agent::put(&store, 8 + round, 100, "eve").map_err(|error| error.to_string())
                })
            };
            std::thread::sleep(Duration::from_millis(50));
            assert!(!writer.is_finished(), "two write transactions at once");
            other.running.kill();
            writer.join().expect("the writer ends")?;
            assert!(waits.elapsed() < Duration::from_secs(20));
            let rows = 9 + round;
            assert_eq!(
                agent::describe(&store.begin_read()?, 1)?,
                format!("{rows} rows, {} cents, account 1: 100 of ada", rows * 100)
            );
        }
        store.close()?;
        let again = agent::open(&path)?;
        assert!(agent::describe(&again.begin_read()?, 8)?.starts_with("11 rows, 1100 cents"));
        Ok(())
    })
}

#[test]
fn kill_during_commits_leaves_consistent_store() -> Outcome {
    first_or_second(|path| {
        let store = agent::open(&path)?;
        for number in 0..8 {
            agent::put(&store, number, 100, "ada")?;
        }
        for round in 0..12_u64 {
            let name = "kill_during_commits_leaves_consistent_store";
            let mut other = Agent::start(name, &path);
            assert_eq!(other.ask(&format!("transfer {}", round * 1000)), "begun");
            std::thread::sleep(Duration::from_micros(5_000 + round * 1_237));
            other.running.kill();
            let left = agent::describe(&store.begin_read()?, round % 8)?;
            assert!(left.starts_with("8 rows, 800 cents"), "{left}");
            // The next write completes the commits of the killed process.
            agent::transfer(&store, round % 8, (round + 3) % 8, Durability::Sync)?;
            let after = agent::describe(&store.begin_read()?, round % 8)?;
            assert!(after.starts_with("8 rows, 800 cents"), "{after}");
            assert!(
                after.ends_with(&format!("owner of {}, who gave to {}", round % 8, (round + 3) % 8)),
                "{after}"
            );
        }
        store.close()?;
        let again = agent::open(&path)?;
        assert!(agent::describe(&again.begin_read()?, 0)?.starts_with("8 rows, 800 cents"));
        Ok(())
    })
}

#[test]
fn many_readers_see_whole_commits_only() -> Outcome {
    first_or_second(|path| {
        let store = agent::open(&path)?;
        for number in 0..8 {
            agent::put(&store, number, 100, "ada")?;
        }
        let mut others: Vec<Agent> =
            (0..6).map(|_| Agent::start("many_readers_see_whole_commits_only", &path)).collect();
        for other in &mut others {
            other.tell("watch");
        }
        let until = Instant::now() + Duration::from_millis(1500);
        let mut step = 0;
        while Instant::now() < until {
            agent::transfer(&store, step % 8, (step + 5) % 8, Durability::Relaxed)?;
            step += 1;
        }
        agent::put(&store, 99, 0, "the end")?;
        for mut other in others {
            let seen: u64 = other.hear().parse()?;
            assert!(seen > 2, "a reader saw {seen} of {step} commits");
            other.end();
        }
        Ok(())
    })
}

/// An index that was reused after a kill and never read does not prevent a clean close.
#[test]
fn unread_table_closes_after_kill() -> Outcome {
    if let Some(path) = child::role() {
        let store = agent::open(&PathBuf::from(path))?;
        agent::put(&store, 1, 100, "ada")?;
        say("put");
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("killed.pongo");
    // Close the store cleanly once, so that there is a checksum of an older state.
    agent::open(&path)?.close()?;
    let role = path.to_str().ok_or("a path")?;
    let name = "unread_table_closes_after_kill";
    for _ in 0..2 {
        let mut other = Running::start(&mut child::command(name, role));
        assert_eq!(other.lines.recv_timeout(Duration::from_secs(20))?, "put");
        other.kill();
        agent::open(&path)?.close()?;
    }
    let store = agent::open(&path)?;
    assert!(agent::describe(&store.begin_read()?, 1)?.ends_with("account 1: 100 of ada"));
    Ok(())
}
