//! A store on a FUSE file system with a writeback cache: data stored recently is in the page cache
//! only, and when asked for data and holes, the file system answers from the underlying file. After
//! a close and open, and after a kill and recovery, the store contains what was committed.
//!
//! The file system is libfuse's example `passthrough_ll`, compiled from the path where Debian's
//! package `libfuse3-dev` installs it. If that file, a C compiler or the right to mount is missing,
//! the test prints a message and stops.

#![cfg(target_os = "linux")]

mod mounted;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mounted::{Known, unmount, with_mounts, word};
use pongo::prelude::*;
use pongo_core::storage::{PAGE, RealStorage, Storage};
use pongo_index::ordered::{SledBlocks, StoreError};
use pongo_test_support::workload::{Model, Sample};
use pongo_test_support::{Outcome, child, workload};

const SOURCE: &str = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c";

/// Compiles the example. Returns `None` if that is not possible here.
fn build(folder: &Path) -> Option<PathBuf> {
    let program = folder.join("passthrough");
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", "fuse3"]).output().ok()?;
    let flags = String::from_utf8(flags.stdout).ok()?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-w", "-o"]).args([&*program, Path::new(SOURCE)]).args(flags.split_whitespace());
    compiler.output().ok()?.status.success().then_some(program)
}

/// The mounted file system. Dropping it ends its process.
struct Fuse {
    process: Child,
    at: PathBuf,
}

impl Fuse {
    fn mount(program: &Path, behind: &Path, at: PathBuf) -> Outcome<Fuse> {
        fs::create_dir_all(behind)?;
        fs::create_dir_all(&at)?;
        let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
        let before = device(&at)?;
        let options = format!("source={},writeback,cache=always", word(behind));
        let process =
            Command::new(program).args(["-f", "-o", &options, word(&at)]).stderr(Stdio::null()).spawn()?;
        let mut fuse = Fuse { process, at };
        let began = Instant::now();
        while device(&fuse.at)? == before {
            if began.elapsed() > Duration::from_secs(10) || fuse.process.try_wait()?.is_some() {
                return Err("the example does not mount here".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(fuse)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // The process ends when its file system is unmounted. If a failed test still has a store
        // open, kill it.
        if unmount(&self.at).is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// Role of a process that commits until it is killed.
const WORK: &str = "work on ";

#[test]
fn store_on_fuse_with_writeback_cache() -> Outcome {
    const NAME: &str = "store_on_fuse_with_writeback_cache";
    if let Some(role) = child::role()
        && let Some(work) = role.strip_prefix(WORK)
    {
        let (from, path) = work.split_once(' ').expect("a number and a path");
        let store = workload::open(Path::new(path))?;
        for number in from.parse::<u64>()?.. {
            workload::transact(&store, number)?;
            println!("done {number}");
        }
    }
    with_mounts(NAME, |folder| {
        let Some(program) = build(folder) else {
            println!("{NAME}: skipped, since {SOURCE} cannot be compiled here");
            return Ok(());
        };
        let fuse = match Fuse::mount(&program, &folder.join("behind"), folder.join("at")) {
            Ok(fuse) => fuse,
            Err(error) => {
                println!("{NAME}: skipped: {error}");
                return Ok(());
            }
        };
        no_hole_where_something_was_stored(&fuse.at)?;
        what_is_not_written_back_is_no_damage(&fuse.at.join("sled"))?;
        let path = fuse.at.join("store.pongo");
        let mut known = Known::default();
        let mut kills = 0;
        for round in 0..6 {
            let store = workload::open(&path)?;
            for _ in 0..10 {
                assert!(known.transact(&store) && known.refused == 0, "round {round}: {}", known.last);
            }
            filled_in_place(&store)?;
            known.compare(&store)?;
            store.close()?;
            let store = workload::open(&path)?;
            known.compare(&store)?;
            assert!(store.verify(|_| {})?.is_valid());
            store.close()?;
            // Kill a process whose data was never written back.
            let role = format!("{WORK}{} {}", known.next + 1, path.display());
            let mut child =
                child::command(NAME, &role).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
            let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            let done = lines
                .map_while(Result::ok)
                .filter_map(|line| line.rsplit_once("done ")?.1.parse::<u64>().ok());
            known.done.extend(done.take(3 + round * 2));
            child.kill()?;
            child.wait()?;
            kills += 1;
            // The kill can interrupt the kernel's write-back of a page; the kernel reports that to
            // the next sync. The open that gets this error fails; the one after it rewrites
            // everything.
            let store = match workload::open(&path) {
                Err(error) if error.to_string().contains("os error 5") => workload::open(&path)?,
                opened => opened?,
            };
            let works = workload::works_of(&store.begin_read()?)?;
            let missing: Vec<_> = known.done.iter().filter(|number| !works.contains(number)).collect();
            assert!(missing.is_empty(), "round {round}: {missing:?} were acknowledged and are lost");
            let wrong = Model::of(works.iter().copied()).differences(&store.begin_read()?)?;
            assert!(wrong.is_empty(), "round {round}: {wrong:?}");
            known.next = works.iter().max().copied().unwrap_or(0);
            known.done = works;
            store.close()?;
        }
        println!("{NAME}: {} transactions, {kills} kills, 0 failures", known.done.len());
        Ok(())
    })
}

/// Stores a word through a map and checks that `next_data` reports it although it is not on the
/// disk yet, and that `allocate` does not overwrite it.
fn no_hole_where_something_was_stored(folder: &Path) -> Outcome {
    let file = RealStorage::open(folder)?.create("file")?;
    file.set_len(64 * PAGE)?;
    let words = file.map_words(0, 64 * PAGE)?;
    let word = (20 * PAGE / 8) as usize;
    words.store(word, 7, Ordering::Release);
    let data = file.next_data(0)?.ok_or("all is zero, says the file")?;
    assert!(data.contains(&(20 * PAGE)), "{data:?}");
    file.allocate(0, 64 * PAGE)?;
    assert_eq!(words.load(word, Ordering::Acquire), 7);
    Ok(())
}

/// Checks that a file of the ordered index that is still in the page cache is not mistaken for one
/// that consists mostly of holes, and that the index is not reported as damaged: such a snapshot
/// belongs only to a `db` of this length.
fn what_is_not_written_back_is_no_damage(folder: &Path) -> Outcome {
    const MIB: usize = 1 << 20;
    drop(SledBlocks::open(folder)?);
    let db = fs::File::options().append(true).open(folder.join("db"))?;
    (&db).write_all(&vec![0; 8 * MIB])?;
    fs::write(folder.join("snap.0000000000000001.generating"), vec![0; 16 * MIB])?;
    // sled detects that these bytes are not its own. It is called, because the length of the file
    // is correct.
    if let Err(StoreError::Damaged { what, .. }) = SledBlocks::open(folder) {
        assert!(what.starts_with("sled "), "{what}");
    }
    Ok(())
}

/// Checks that rows filled in place contain no data of an aborted transaction.
fn filled_in_place(store: &Store) -> Outcome {
    let tx = store.begin_write()?;
    tx.table::<Sample>()?.extend((0..9000).map(|id| Sample { id: u64::MAX - id, by: u64::MAX }))?;
    drop(tx);
    let tx = store.begin_write()?;
    let mut table = tx.table::<Sample>()?;
    let rows = table.alloc_slice(8000)?;
    assert!(rows.iter().all(|row| (row.id, row.by) == (0, 0)), "what was aborted shines through");
    Ok(())
}
