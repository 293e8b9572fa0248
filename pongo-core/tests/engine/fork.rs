//! A process with an open store forks: the inherited handles in the child do nothing, and the child
//! holds no lock.
#![cfg(not(miri))]

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pongo_core::engine::{Durability, Engine, EngineTransaction, WriteBatch};
use pongo_core::error::{CommitError, ReadError, WriteError};
use pongo_core::ids::Seq;
use pongo_core::storage::{LockMode, RealStorage, Storage};

use crate::indexer::MapIndexer;
use crate::model::{Model, schema};
use crate::work::{SMALL, arbitrary, options};
use pongo_sim::Random;

const STORE: &str = "PONGO_TEST_FORKED_STORE";
/// The byte range of the locks in `control`: presence, writer, reader groups.
const LOCKS: (u64, u64) = (1 << 32, 2048);
const WRITER: u64 = (1 << 32) + 1;
/// Exit code of a child in which a check panics.
const PANICKED: u8 = 99;

fn open(path: &Path) -> Arc<Engine> {
    let storage = Arc::new(RealStorage::create(path).unwrap());
    Engine::open(storage, options(), Arc::new(MapIndexer::default())).unwrap()
}

/// Writes some commits; returns the state after them.
fn write(engine: &Arc<Engine>, model: &Model, seed: u64) -> Model {
    let mut random = Random(seed);
    let mut model = model.clone();
    for _ in 0..6 {
        let transaction = arbitrary(&model, &mut random, SMALL);
        transaction.commit(engine).unwrap();
        model = transaction.after;
    }
    model
}

/// Forks a child that runs `work` and exits with its result; returns the child's process id.
fn fork(work: impl FnOnce() -> u8) -> libc::pid_t {
    // SAFETY: the child continues in this thread alone: it calls the store, which returns errors,
    // drops handles, and ends by `_exit`; glibc keeps its allocator usable in a child.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child > 0 {
        return child;
    }
    // SAFETY: no memory is passed. The alarm ends the child even if it hangs.
    unsafe { libc::alarm(60) };
    let code = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
    // SAFETY: ends the process; no code of the parent is run and no memory is written.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Waits for a child and returns its exit code.
fn exit_code(child: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is a local variable that lives through the call.
    let found = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(found, child);
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}

fn is_alive(process: libc::pid_t) -> bool {
    // SAFETY: no memory is passed, and signal 0 is never delivered.
    unsafe { libc::kill(process, 0) == 0 }
}

/// Waits in a child until it is killed or its alarm expires.
fn pause() -> u8 {
    loop {
        // SAFETY: waits for a signal; no memory is passed.
        unsafe { libc::pause() };
    }
}

/// Kills a process that a test forked.
fn kill(process: libc::pid_t) {
    // SAFETY: no memory is passed.
    unsafe { libc::kill(process, libc::SIGKILL) };
}

fn control(storage: &dyn Storage) -> Vec<u8> {
    let file = storage.open("control").unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Returns the names of all files, to check that none was removed.
fn names(storage: &dyn Storage) -> Vec<String> {
    let mut found = Vec::new();
    crate::corruption::files(storage, "", &mut found);
    found
}

fn is_locked(storage: &dyn Storage, (start, len): (u64, u64)) -> bool {
    storage.open("control").unwrap().is_locked(start, len, LockMode::Exclusive).unwrap()
}

/// Uses everything that a child inherited; returns a number whose bits show the calls that did not
/// fail as they should.
fn use_inherited(
    engine: Arc<Engine>,
    snapshot: pongo_core::snapshot::EngineSnapshot,
    guard: Box<EngineTransaction>,
) -> u8 {
    let mut wrong = 0;
    let mut must = |place: u32, right: bool| wrong |= u8::from(!right) << place;
    must(0, matches!(engine.begin_read(), Err(ReadError::Forked)));
    must(1, matches!(engine.begin_write(), Err(WriteError::Forked)));
    must(2, matches!(snapshot.table_named("table0"), Err(ReadError::Forked)));
    must(3, matches!(guard.create_table(schema("child", 24)), Err(WriteError::Forked)));
    let committed = guard.commit(&WriteBatch::default(), Durability::Sync);
    must(4, matches!(committed, Err(CommitError::Refused(WriteError::Forked))));
    must(5, engine.is_inherited() && engine.close().is_ok());
    drop((snapshot, engine));
    wrong
}

#[test]
fn forked_child_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let storage = RealStorage::create(&path).unwrap();
    let engine = open(&path);
    let model = write(&engine, &Model::default(), 1);
    // A second process, so that the lock between processes is taken: a process that is alone does
    // not take it.
    let other = open(&path);
    // A transaction that has created files, and a pin.
    let snapshot = engine.begin_read().unwrap();
    let guard = engine.begin_write().unwrap();
    let table = guard.create_table(schema("made", 24)).unwrap();
    guard.append(&table, &[7; 24 * 5000]).unwrap();
    let before = (control(&storage), names(&storage));
    // Commits, or only drops, the inherited objects. `fork` duplicates them; the parent keeps its
    // own.
    let (mut engine, mut snapshot, mut guard) = (Some(engine), Some(snapshot), Some(guard));
    let child =
        fork(|| use_inherited(engine.take().unwrap(), snapshot.take().unwrap(), guard.take().unwrap()));
    assert_eq!(exit_code(child), Some(0), "bits of what the child was not refused, see `use_inherited`");
    let child = fork(|| {
        drop((guard.take(), snapshot.take(), engine.take()));
        0
    });
    assert_eq!(exit_code(child), Some(0));
    assert!((control(&storage), names(&storage)) == before, "the children changed nothing");
    assert!(is_locked(&storage, (LOCKS.0, 1)) && is_locked(&storage, (WRITER, 1)), "and gave no lock up");
    // The parent's transaction is still usable, and so are later ones.
    let (engine, snapshot, guard) = (engine.unwrap(), snapshot.unwrap(), guard.unwrap());
    assert!(!engine.is_inherited());
    model.check(&snapshot);
    assert_eq!(guard.appended_rows(&table), 5000);
    drop(guard);
    let model = write(&engine, &model, 2);
    drop((snapshot, table));
    drop((engine, other));
    assert!(!is_locked(&storage, LOCKS));
    model.check(&open(&path).begin_read().unwrap());
}

/// Forks at arbitrary moments while another thread opens and closes stores.
#[test]
fn fork_during_open_leaves_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(open(&path));
    let done = AtomicBool::new(false);
    let children = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..40 {
                drop(open(&path).begin_write().unwrap());
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut children = Vec::new();
        while !done.load(Ordering::SeqCst) && children.len() < 60 {
            children.push(fork(pause));
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        children
    });
    let locked = is_locked(&RealStorage::open(&path).unwrap(), LOCKS);
    let alive = children.iter().all(|&child| is_alive(child));
    for &child in &children {
        kill(child);
        assert_eq!(exit_code(child), None);
    }
    assert!(alive && children.len() > 5, "{} children", children.len());
    assert!(!locked);
}

/// A child can open the store like any other process.
#[test]
fn a_child_opens_the_store_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let engine = open(&path);
    let model = write(&engine, &Model::default(), 3);
    let child = fork(|| {
        let own = open(&path);
        model.check(&own.begin_read().unwrap());
        write(&own, &model, 4);
        0
    });
    assert_eq!(exit_code(child), Some(0));
    let model = write(&engine, &engine_model(&engine, &model), 5);
    model.check(&engine.begin_read().unwrap());
}

/// Returns the state after the child's commits to `model`.
fn engine_model(engine: &Arc<Engine>, model: &Model) -> Model {
    assert_eq!(engine.begin_read().unwrap().seq(), Seq(model.seq + 6));
    let mut random = Random(4);
    (0..6).fold(model.clone(), |model, _| arbitrary(&model, &mut random, SMALL).after)
}

/// Run by the next test in a separate process.
#[test]
#[ignore = "is the process that is killed in orphaned_child_keeps_no_lock"]
fn a_parent_that_is_killed() {
    let path = std::env::var_os(STORE).expect("started by the other test");
    let engine = open(Path::new(&path));
    // A second process, so that the lock between processes is taken: a process that is alone does
    // not take it.
    let other = open(Path::new(&path));
    let snapshot = engine.begin_read().unwrap();
    let guard = engine.begin_write().unwrap();
    let child = fork(pause);
    println!("child {child}");
    // Waits until the other process kills this one.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop((guard, snapshot, other));
}

#[test]
fn orphaned_child_keeps_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let engine = open(&path);
    let model = write(&engine, &Model::default(), 6);
    drop(engine);
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "fork::a_parent_that_is_killed"])
        .env(STORE, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    let child = said.find_map(|line| line.rsplit_once("child ")?.1.parse::<libc::pid_t>().ok());
    let child = child.expect("the other process forks");
    let storage = RealStorage::open(&path).unwrap();
    assert!(is_locked(&storage, (LOCKS.0, 1)) && is_locked(&storage, (WRITER, 1)), "the parent's");
    parent.kill().unwrap();
    parent.wait().unwrap();
    // The child releases its locks when it first runs, which may be after `fork` returns in its
    // parent.
    let patient = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while is_locked(&storage, LOCKS) && std::time::Instant::now() < patient {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let locked = is_locked(&storage, LOCKS);
    // A process that opens the store now is alone, and may write.
    let model = (!locked).then(|| {
        let engine = open(&path);
        let model = write(&engine, &model, 7);
        drop(engine);
        model
    });
    let alive = is_alive(child);
    kill(child);
    assert!(alive, "the child lived all the time");
    model.expect("no lock was left").check(&open(&path).begin_read().unwrap());
}
