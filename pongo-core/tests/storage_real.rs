//! Tests that need real files: other processes, folders that move, and foreign entries in a folder.
#![cfg(not(miri))]

use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Command, Stdio};

use pongo_core::storage::{File, FileError, LockMode, PAGE, RealStorage, Storage};

const STORE: &str = "PONGO_TEST_STORE";

/// Run by `a_lock_goes_with_its_process` in a separate process.
#[test]
#[ignore = "is the other process of a_lock_goes_with_its_process"]
fn other_process_holds_a_lock() {
    let storage = RealStorage::open(std::env::var_os(STORE).expect("started by the other test")).unwrap();
    let control = storage.open("control").unwrap();
    assert!(!control.try_lock(0, 1, LockMode::Shared).unwrap(), "the first process holds it alone");
    assert!(control.try_lock(10, 10, LockMode::Exclusive).unwrap());
    println!("locked");
    // Waits until the other process kills this one.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_lock_goes_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let storage = RealStorage::open(folder.path()).unwrap();
    let control = storage.create("control").unwrap();
    assert!(control.try_lock(0, 1, LockMode::Exclusive).unwrap());
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "other_process_holds_a_lock"])
        .env(STORE, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(other.stdout.take().unwrap()).lines();
    let locked = said.by_ref().map_while(Result::ok).any(|line| line.ends_with("locked"));
    assert!(locked, "the other process did not get its lock");
    assert!(control.is_locked(19, 1, LockMode::Shared).unwrap());
    assert!(!control.is_locked(20, 1, LockMode::Exclusive).unwrap());
    assert!(!control.try_lock(10, 1, LockMode::Shared).unwrap());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| control.lock(10, 10, LockMode::Exclusive));
        other.kill().unwrap();
        waiting.join().unwrap().unwrap();
    });
    other.wait().unwrap();
}

#[test]
fn renamed_folder_stays_usable() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let storage = RealStorage::create(&before).unwrap();
    storage.create("a").unwrap().write_at(b"a", 0).unwrap();
    let (cache, identity) = (storage.cache_identity(), storage.folder_identity().unwrap());
    std::fs::rename(&before, &after).unwrap();
    RealStorage::create(&before).unwrap().create("foreign").unwrap();
    storage.create("b").unwrap();
    storage.rename("b", "c").unwrap();
    storage.sync_dir("").unwrap();
    assert_eq!(storage.list("").unwrap(), ["a", "c"]);
    assert!(after.join("c").exists());
    let again = RealStorage::open(&after).unwrap();
    assert_eq!(again.folder_identity().unwrap(), identity);
    assert_eq!(again.cache_identity(), cache);
}

#[test]
fn replaced_folder_has_new_identity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let token = || RealStorage::create(&path).unwrap().cache_identity();
    let Some(first) = token() else {
        eprintln!("this kernel has no unique mount numbers (Linux 6.8)");
        return;
    };
    assert_eq!(token(), Some(first));
    // The file system may reuse the inode. Its birth times differ only after a clock tick of some
    // milliseconds.
    std::fs::remove_dir(&path).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_ne!(token(), Some(first));
}

#[test]
fn the_host_is_told() {
    let memory = std::path::Path::new("/dev/shm");
    let Ok(folder) = tempfile::tempdir_in(memory) else {
        eprintln!("skipped: there is no /dev/shm to write to");
        return;
    };
    let host = RealStorage::open(folder.path()).unwrap().host().unwrap();
    // Nearly everywhere a tmpfs is mounted there.
    if host.file_system == 0x0102_1994 {
        assert!(host.is_local);
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    assert_eq!(
        host.boot.map(|id| uuid::Uuid::from_bytes(id).to_string()),
        boot.map(|id| id.trim().to_owned())
    );
    let proc = RealStorage::open("/proc/self/").and_then(|storage| storage.host());
    assert!(proc.is_ok_and(|host| !host.is_local), "what is not known is not local");
}

#[test]
fn open_errors_describe_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/store");
    let kind = |outcome: std::io::Result<RealStorage>| outcome.unwrap_err().kind();
    assert_eq!(kind(RealStorage::open(&path)), ErrorKind::NotFound);
    assert_eq!(kind(RealStorage::create(&path)), ErrorKind::NotFound, "the folder above is not made");
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(kind(RealStorage::open(folder.path().join("file"))), ErrorKind::NotADirectory);
    assert_eq!(kind(RealStorage::create(folder.path().join("file"))), ErrorKind::NotADirectory);
    RealStorage::create(folder.path()).expect("an existing folder is opened");
}

#[test]
fn os_error_code_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let error = RealStorage::open(folder.path()).unwrap().open("no").unwrap_err();
    let detail = error.get_ref().unwrap().downcast_ref::<FileError>().unwrap();
    assert_eq!(detail.raw_os_error(), Some(rustix::io::Errno::NOENT.raw_os_error()));
}

#[test]
fn pipe_instead_of_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("super"), rustix::fs::Mode::RWXU).unwrap();
    let error = RealStorage::open(folder.path()).unwrap().open("super").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("expected a regular file"), "{error}");
}

#[test]
fn descriptors_are_closed_on_exec() {
    let folder = tempfile::tempdir().unwrap();
    let storage = RealStorage::open(folder.path()).unwrap();
    let file = storage.create("a").unwrap();
    let pongo_core::storage::RawFile::Real(fd) = file.raw() else {
        panic!("a real file has a descriptor");
    };
    let flags = rustix::io::fcntl_getfd(fd).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

/// Holes are skipped; data is found, however it was written.
#[test]
fn data_is_found_between_holes() {
    let folder = tempfile::tempdir().unwrap();
    let storage = RealStorage::open(folder.path()).unwrap();
    let file = storage.create("sparse").unwrap();
    file.set_len(64 * PAGE).unwrap();
    assert_eq!(file.next_data(64 * PAGE).unwrap(), None);
    let found = |file: &dyn File| {
        let (mut pages, mut from) = (Vec::new(), 0);
        while let Some(data) = file.next_data(from).unwrap() {
            assert!(data.start >= from && data.end > data.start, "{data:?} from {from}");
            pages.extend(data.start / PAGE..data.end.div_ceil(PAGE));
            from = data.end;
        }
        pages
    };
    let holes_are_known = found(&*file).is_empty();
    file.write_at(&[1], 5 * PAGE + 3).unwrap();
    file.allocate(20 * PAGE, PAGE).unwrap();
    file.allocate(30 * PAGE, PAGE).unwrap();
    let words = file.map_words(0, 64 * PAGE).unwrap();
    words.store(20 * 512, 7, std::sync::atomic::Ordering::Relaxed);
    // Checks before the pages are written back, and after.
    for _ in 0..2 {
        let pages = found(&*file);
        assert!(pages.contains(&5) && pages.contains(&20), "{pages:?}");
        assert!(!holes_are_known || pages.len() < 20, "{pages:?}");
        file.sync().unwrap();
    }
    // Data is also found from the middle of a page.
    assert_eq!(file.next_data(20 * PAGE + 8).unwrap().unwrap().start, 20 * PAGE + 8);
}

/// `msync` syncs the file only if the map counts as shared, which requires that the file was open
/// for writing when it was mapped. The kernel reports this for each map (`sh`).
#[test]
fn map_syncers_have_writable_files() {
    let folder = tempfile::tempdir().unwrap();
    let storage = RealStorage::open(folder.path()).unwrap();
    let shared = |name: &str| {
        let path = folder.path().canonicalize().unwrap().join(name).display().to_string();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut shared = Vec::new();
        let mut here = false;
        for line in smaps.lines() {
            match line.strip_prefix("VmFlags:") {
                Some(flags) if here => shared.push(flags.split_whitespace().any(|flag| flag == "sh")),
                None if !line.split_once(' ').is_some_and(|(first, _)| first.ends_with(':')) => {
                    here = line.ends_with(&path);
                }
                _ => {}
            }
        }
        shared
    };
    let make = |name: &str| {
        storage.create(name).unwrap().write_at(&[1; 2 * PAGE as usize], 0).unwrap();
        storage.open(name).unwrap()
    };
    let words = make("words").map_words(0, PAGE).unwrap();
    assert_eq!(shared("words"), [true]);
    words.store(3, 5, std::sync::atomic::Ordering::SeqCst);
    words.sync().unwrap();
    let syncer = make("file").syncer(2 * PAGE).unwrap();
    assert_eq!(shared("file"), [true]);
    syncer.sync().unwrap();
    // The negative control: a file that was not open for writing.
    make("read");
    let file = std::fs::File::open(folder.path().join("read")).unwrap();
    let map = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
    assert_eq!(shared("read"), [false]);
    drop(map);
}
