//! Processes in several mount namespaces, with a bind mount, in a chroot and without `/proc`, that
//! use one store: they join, write in turn, see each other's commits, and exclude each other with
//! the same locks.
//!
//! Only root may mount. Without that right the tests print that they are skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pongo::prelude::*;
use pongo_test_support::agent::Agent;
use pongo_test_support::{Outcome, agent, child};

/// A way in which another process reaches the store: a script that gets a mount folder as `$1` and
/// the store's folder as `$2`, and that replaces itself by the command in its other arguments.
#[derive(Clone, Copy, Debug)]
struct Way {
    name: &'static str,
    script: &'static str,
    /// Whether the process sees the store at the mount, not at its own path.
    moved: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "another namespace", script: r#"shift 2; exec "$@""#, moved: false },
    Way {
        name: "a bind mount",
        script: r#"mount --bind "$2" "$1" || exit 99; shift 2; exec "$@""#,
        moved: true,
    },
    Way {
        name: "no /proc",
        script: r#"mount -t tmpfs none /proc || exit 99; shift 2; exec "$@""#,
        moved: false,
    },
    // A copy of every mount except `/proc`, each a different mount from the one outside.
    Way {
        name: "a chroot",
        script: r#"mount --rbind / "$1" && umount -R -l "$1/proc" || exit 99; root=$1; shift 2; exec chroot "$root" "$@""#,
        moved: false,
    },
];

impl Way {
    /// Returns a command for a process that reaches the store in this way.
    fn command(self, test: &str, store: &Path, mount: &Path) -> Command {
        let seen = if self.moved { mount } else { store };
        let inner = child::command(test, &seen.display().to_string());
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", self.script, "sh"]).args([mount, store]);
        child::append(&mut command, &inner);
        command
    }

    /// Returns whether this system allows the test to use this way.
    fn is_open(self, mount: &Path, store: &Path) -> bool {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", self.script, "sh"]).args([mount, store]).arg("true");
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// Runs `test` for each allowed way, or obeys commands if this is the other process.
fn each_way(name: &str, test: impl Fn(Way, &Path, &Path) -> Outcome) -> Outcome {
    if let Some(path) = child::role() {
        return agent::obey(&path);
    }
    for way in WAYS {
        let folder = tempfile::tempdir()?;
        let (store, mount) = (folder.path().join("shared.pongo"), folder.path().join("mount"));
        std::fs::create_dir(&store)?;
        std::fs::create_dir(&mount)?;
        if way.is_open(&mount, &store) {
            test(way, &store, &mount).map_err(|error| format!("{}: {error}", way.name))?;
        } else {
            println!("{name}: {} skipped, since it takes root and the right to mount", way.name);
        }
    }
    Ok(())
}

/// Both processes read and write. The store that one of them created and closed is opened by the
/// other.
#[test]
fn other_namespaces_join() -> Outcome {
    const NAME: &str = "other_namespaces_join";
    each_way(NAME, |way, path, mount| {
        let mut other = Agent::start_by(&mut way.command(NAME, path, mount));
        // The other process opened the store first.
        let store = agent::open(path)?;
        let mut last = 0;
        for number in 0..60 {
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
        other.end();
        // This process has the store open, and another one joins.
        let mut other = Agent::start_by(&mut way.command(NAME, path, mount));
        agent::put(&store, 60, 1, "here")?;
        assert_eq!(other.ask("now 60"), "61 rows, 61 cents, account 60: 1 of here");
        store.close()?;
        // The last process closes the store.
        other.ask("put 61 1 there");
        other.end();
        let store = agent::open(path)?;
        assert_eq!(agent::describe(&store.begin_read()?, 61)?, "62 rows, 62 cents, account 61: 1 of there");
        Ok(())
    })
}

/// A write transaction in one process excludes those of the other, and data that a snapshot of one
/// process sees is kept by the other.
#[test]
fn locks_exclude_across_namespaces() -> Outcome {
    const NAME: &str = "locks_exclude_across_namespaces";
    each_way(NAME, |way, path, mount| {
        let store = agent::open(path)?;
        agent::put(&store, 1, 5, "ada")?;
        let mut other = Agent::start_by(&mut way.command(NAME, path, mount));
        other.ask("pin old");
        let tx = store.begin_write()?;
        let owner = tx.text("bob")?;
        tx.table::<agent::Account>()?.put(&agent::Account { number: 1, cents: 6, owner })?;
        other.tell("put 1 7 eve");
        let early = other.running.lines.recv_timeout(Duration::from_millis(200));
        assert!(early.is_err(), "two write transactions at once: {early:?}");
        tx.commit()?;
        other.hear();
        assert_eq!(agent::describe(&store.begin_read()?, 1)?, "1 rows, 7 cents, account 1: 7 of eve");
        for number in 0..500 {
            agent::put(&store, number % 3, 8, "ada")?;
        }
        assert_eq!(other.ask("pinned old 1"), "1 rows, 5 cents, account 1: 5 of ada");
        // In the other direction: the other process holds the writer lock until it is killed, which
        // releases the lock.
        assert_eq!(other.ask("hold"), "held");
        let writer = {
            let store = store.clone();
            std::thread::spawn(move || agent::put(&store, 1, 9, "ada").map_err(|error| error.to_string()))
        };
        std::thread::sleep(Duration::from_millis(100));
        assert!(!writer.is_finished(), "two write transactions at once");
        other.running.kill();
        writer.join().expect("the writer ends")?;
        assert_eq!(agent::describe(&store.begin_read()?, 1)?, "3 rows, 25 cents, account 1: 9 of ada");
        Ok(())
    })
}

/// A process is killed during its commits. A process in another namespace, which was already
/// running or starts later, finds a consistent store.
#[test]
fn kill_in_namespace_loses_nothing() -> Outcome {
    const NAME: &str = "kill_in_namespace_loses_nothing";
    each_way(NAME, |way, path, mount| {
        let store = agent::open(path)?;
        for number in 0..8 {
            agent::put(&store, number, 100, "ada")?;
        }
        let mut store = Some(store);
        for round in 0..6_u64 {
            let mut other = Agent::start_by(&mut way.command(NAME, path, mount));
            if round % 2 == 1 {
                store = None;
            }
            assert_eq!(other.ask(&format!("transfer {}", round * 1000)), "begun");
            std::thread::sleep(Duration::from_micros(5_000 + round * 1_237));
            other.running.kill();
            let store = match &store {
                Some(store) => store,
                None => store.insert(agent::open(path)?),
            };
            let left = agent::describe(&store.begin_read()?, round % 8)?;
            assert!(left.starts_with("8 rows, 800 cents"), "{left}");
            agent::transfer(store, round % 8, (round + 3) % 8, Durability::Sync)?;
            let after = agent::describe(&store.begin_read()?, round % 8)?;
            assert!(after.starts_with("8 rows, 800 cents"), "{after}");
        }
        store.take().expect("open").close()?;
        let again = agent::open(path)?;
        assert!(agent::describe(&again.begin_read()?, 0)?.starts_with("8 rows, 800 cents"));
        Ok(())
    })
}

/// Many processes start at once, in every way: each joins, and one at a time opens the store.
#[test]
fn many_namespaces_come_at_once() -> Outcome {
    const NAME: &str = "many_namespaces_come_at_once";
    if let Some(path) = child::role() {
        return agent::obey(&path);
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shared.pongo");
    std::fs::create_dir(&path)?;
    let mounts: Vec<PathBuf> =
        (0..WAYS.len()).map(|way| folder.path().join(format!("mount-{way}"))).collect();
    for round in 0..4_u64 {
        let mut agents = Vec::new();
        std::thread::scope(|scope| {
            let start = |(way, mount): (Way, &PathBuf)| {
                std::fs::create_dir_all(mount).expect("a folder of the test's");
                way.is_open(mount, &path).then(|| Agent::start_by(&mut way.command(NAME, &path, mount)))
            };
            let started: Vec<_> =
                WAYS.into_iter().zip(&mounts).map(|one| scope.spawn(move || start(one))).collect();
            agents.extend(started.into_iter().filter_map(|thread| thread.join().expect("it starts")));
        });
        if agents.is_empty() {
            println!("{NAME}: skipped, since it takes root and the right to mount");
            return Ok(());
        }
        for (number, agent) in (0..).zip(&mut agents) {
            agent.ask(&format!("put {} 1 {round}", round * 10 + number));
        }
        let rows = (round + 1) * agents.len() as u64;
        for agent in &mut agents {
            assert_eq!(agent.ask("now 0"), format!("{rows} rows, {rows} cents, account 0: 1 of 0"));
        }
        // In every other round the processes are killed, so that those of the next round have a
        // store to recover.
        for agent in agents {
            if round % 2 == 0 { drop(agent) } else { agent.end() }
        }
    }
    Ok(())
}
