//! Files in sled's folder that are of another kind than sled writes, or much longer. sled itself
//! would use all memory for them, or never finish. Each case is opened by a separate process, with
//! a limit on its memory and its time.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pongo::Options;
use pongo_test_support::running::{Running, say};
use pongo_test_support::{child, folder};

use crate::parts::{Outcome, PATIENCE, check, is_back, open, put, status};

const MIB: u64 = 1 << 20;
/// Maximum memory of a case, including that of the test and the store.
const MEMORY: u64 = 200 * MIB;
/// Maximum time of a case, on a machine that runs other work too.
const LONG: Duration = Duration::from_secs(20);

/// A name, the change to the folder, and the expected part of the error.
type Harm = (&'static str, fn(&Path) -> Outcome, &'static str);

const HARMS: &[Harm] = &[
    ("db of 8 GiB", |sled| lengthen(&sled.join("db"), 8192 * MIB), "expected at most"),
    ("db with its last byte at 8 GiB", |sled| write_far(&sled.join("db"), 8192 * MIB), "expected at most"),
    ("conf of 256 MiB", |sled| lengthen(&sled.join("conf"), 256 * MIB), "expected at most 65536 bytes"),
    ("snap of 1 GiB", |sled| lengthen(&snap(sled)?, 1024 * MIB), "expected at most"),
    ("another snap of 1 GiB", |sled| lengthen(&sled.join("snap.7"), 1024 * MIB), "expected at most"),
    ("a blob of 1 GiB", |sled| lengthen(&sled.join("blobs/7"), 1024 * MIB), "expected at most"),
    ("snap is a link to /dev/zero", |sled| link(&snap(sled)?, "/dev/zero"), "found a symbolic link"),
    ("conf is a link to /dev/zero", |sled| link(&sled.join("conf"), "/dev/zero"), "found a symbolic link"),
    ("db is a link to /dev/zero", |sled| link(&sled.join("db"), "/dev/zero"), "found a symbolic link"),
    ("db is a link to nothing", |sled| link(&sled.join("db"), "nothing"), "found a symbolic link"),
    ("blobs is a link", |sled| link(&sled.join("blobs"), "/tmp"), "expected a folder, found a symbolic link"),
    ("snap is a fifo", |sled| fifo(&snap(sled)?), "found a fifo"),
    ("conf is a fifo", |sled| fifo(&sled.join("conf")), "found a fifo"),
    ("db is a fifo", |sled| fifo(&sled.join("db")), "found a fifo"),
    ("a blob is a fifo", |sled| fifo(&sled.join("blobs/7")), "found a fifo"),
    ("blobs is a file", |sled| file(&sled.join("blobs")), "expected a folder, found a regular file"),
    ("snap is a folder", |sled| a_folder(&snap(sled)?), "expected a regular file, found a folder"),
    ("conf is a folder", |sled| a_folder(&sled.join("conf")), "expected a regular file, found a folder"),
    ("db is a folder", |sled| a_folder(&sled.join("db")), "expected a regular file, found a folder"),
    ("conf is a socket", |sled| socket(&sled.join("conf")), "found a socket"),
];

fn remove(path: &Path) -> Outcome {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(fs::remove_dir_all(path)?),
        Ok(_) => Ok(fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}

fn lengthen(path: &Path, len: u64) -> Outcome {
    Ok(File::options().create(true).append(true).open(path)?.set_len(len)?)
}

fn write_far(path: &Path, len: u64) -> Outcome {
    lengthen(path, len - 1)?;
    Ok(File::options().append(true).open(path)?.write_all(&[1])?)
}

fn link(path: &Path, to: &str) -> Outcome {
    remove(path)?;
    Ok(symlink(to, path)?)
}

fn fifo(path: &Path) -> Outcome {
    remove(path)?;
    assert!(Command::new("mkfifo").arg(path).status()?.success());
    Ok(())
}

fn file(path: &Path) -> Outcome {
    remove(path)?;
    Ok(fs::write(path, "a note")?)
}

fn a_folder(path: &Path) -> Outcome {
    remove(path)?;
    Ok(fs::create_dir(path)?)
}

fn socket(path: &Path) -> Outcome {
    remove(path)?;
    // The name remains after the listener is dropped.
    UnixListener::bind(path)?;
    Ok(())
}

fn snap(sled: &Path) -> Outcome<PathBuf> {
    let is_snap =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."));
    let mut entries = fs::read_dir(sled)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    entries.find(is_snap).ok_or_else(|| format!("no snapshot in {}", sled.display()).into())
}

/// Creates a store whose sled has been opened twice, and therefore has a snapshot.
fn build(path: &Path) -> Outcome {
    for rows in [0..2500, 2500..3000] {
        let store = open(path)?;
        put(&store, rows)?;
        store.catch_up_indexes()?;
        assert!(status(&store)?.open);
        store.close()?;
    }
    snap(&path.join("ordered/sled")).map(|_| ())
}

/// Returns the peak memory of this process in bytes.
fn memory() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no VmHWM")?;
    Ok(kib.trim().parse::<u64>()? << 10)
}

/// Opens a damaged store in the child process and checks the outcome.
fn meet(path: &Path, said: &str) -> Outcome {
    let began = Instant::now();
    let store = open(path)?;
    check(&store)?;
    let found = status(&store)?;
    assert_eq!(found.quarantined, 1, "{found:?}");
    assert!(found.last_error.as_ref().is_some_and(|reason| reason.contains(said)), "{found:?}");
    is_back(&store)?;
    store.close()?;
    let store = open(path)?;
    is_back(&store)?;
    assert_eq!(status(&store)?.quarantined, 0);
    store.close()?;
    assert!(memory()? < MEMORY, "{} MiB", memory()? / MIB);
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    say(&format!("met in {:?}, {} MiB", began.elapsed(), memory()? / MIB));
    Ok(())
}

#[test]
fn not_what_sled_writes() -> Outcome {
    if let Some(role) = child::role() {
        let (harm, path) = role.split_once(':').ok_or("no path")?;
        return meet(Path::new(path), HARMS[harm.parse::<usize>()?].2);
    }
    let folder = tempfile::tempdir()?;
    let whole = folder.path().join("whole.pongo");
    build(&whole)?;
    for (i, (name, harm, _)) in HARMS.iter().enumerate() {
        let path = folder.path().join("parts.pongo");
        folder::copy(&whole, &path)?;
        harm(&path.join("ordered/sled"))?;
        let role = format!("{i}:{}", path.display());
        let other = Running::start(&mut child::command("lengths::not_what_sled_writes", &role));
        // Dropping `other` kills the process if it hangs or keeps allocating.
        let said = other.lines.recv_timeout(2 * LONG);
        assert!(said.as_ref().is_ok_and(|said| said.starts_with("met")), "{name}: {said:?}");
        println!("{name}: {said:?}");
        drop(other);
        fs::remove_dir_all(&path)?;
    }
    Ok(())
}

#[test]
fn harmless_lengths_are_left_to_sled() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    build(&path)?;
    let sled = path.join("ordered/sled");
    // States that a killed process or sled's own threads may leave.
    lengthen(&sled.join("db"), 64 * MIB)?;
    fs::write(sled.join("notes"), "not sled's")?;
    fifo(&sled.join("a fifo"))?;
    fs::create_dir(sled.join("@eaDir"))?;
    let store = open(&path)?;
    is_back(&store)?;
    assert_eq!(status(&store)?.quarantined, 0);
    assert!(fs::metadata(sled.join("db"))?.len() <= 64 * MIB);
    Ok(store.close()?)
}

#[test]
fn open_folder_is_not_quarantined() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    build(&path)?;
    let sled = path.join("ordered/sled");
    fifo(&sled.join("conf"))?;
    // A lock of another open file description excludes this process like a lock of another process.
    let file = File::open(sled.join("db"))?;
    file.try_lock()?;
    let store = open(&path)?;
    check(&store)?;
    let found = status(&store)?;
    assert!(
        !found.open && found.unavailable_reason.as_ref().is_some_and(|why| why.contains("open elsewhere")),
        "{found:?}"
    );
    assert_eq!(found.quarantined, 0);
    file.unlock()?;
    std::thread::sleep(PATIENCE);
    is_back(&store)?;
    assert_eq!(status(&store)?.quarantined, 1);
    Ok(store.close()?)
}

#[test]
fn sled_is_unused_without_ordered_indexes() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("parts.pongo");
    build(&path)?;
    let db = path.join("ordered/sled/db");
    lengthen(&db, 8192 * MIB)?;
    // SAFETY: a folder of these tests, to which only PongoDB processes write.
    let store = unsafe { Options::new().ordered(false).open(&path)? };
    check(&store)?;
    store.catch_up_indexes()?;
    store.close()?;
    assert_eq!(fs::metadata(db)?.len(), 8192 * MIB);
    Ok(())
}
