//! One test suite for both storages: the engine's tests run on memory and must be valid for a disk,
//! and the reverse. (Under Miri, which does not support files, it runs on memory only.)

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pongo_core::storage::{
    File, FileError, LockMode, MemoryStorage, PAGE, RealStorage, Reservation, Storage,
};

const P: usize = PAGE as usize;

/// Runs a check on an empty storage of each kind.
fn on_both(check: impl Fn(&dyn Storage)) {
    check(&MemoryStorage::new());
    if !cfg!(miri) {
        let folder = tempfile::tempdir().unwrap();
        check(&RealStorage::create(folder.path().join("store")).unwrap());
    }
}

fn kind<T>(outcome: std::io::Result<T>) -> ErrorKind {
    match outcome {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.kind(),
    }
}

fn bytes(file: &dyn File) -> Vec<u8> {
    let mut all = vec![0xEE; file.len().unwrap() as usize];
    file.read_at(&mut all, 0).unwrap();
    all
}

fn slice(reservation: &Reservation, at: usize, len: usize) -> Option<&[u8]> {
    // SAFETY: the tests write to a mapped file only while they hold no slice of the bytes they
    // write, and truncate none.
    unsafe { reservation.slice(at, len) }
}

#[test]
fn files_hold_writes_and_zeros() {
    on_both(|storage| {
        let file = storage.create("a").unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"", 100).unwrap();
        assert_eq!(file.len().unwrap(), 0, "writing nothing lengthens nothing");
        file.write_at(b"abc", 10_000).unwrap();
        file.write_at(b"xy", 0).unwrap();
        let mut expected = vec![0; 10_003];
        expected[..2].copy_from_slice(b"xy");
        expected[10_000..].copy_from_slice(b"abc");
        assert_eq!(bytes(&*file), expected);
        assert_eq!(bytes(&*storage.open("a").unwrap()), expected);
        assert_eq!(kind(file.read_at(&mut [0; 4], 10_000)), ErrorKind::UnexpectedEof);
        assert_eq!(kind(file.read_at(&mut [0; 1], u64::MAX)), ErrorKind::InvalidInput);
        assert_eq!(kind(file.write_at(b"a", u64::MAX)), ErrorKind::InvalidInput);
        file.sync().unwrap();
        file.start_writeback(0, 10_003);
    });
}

#[test]
fn lengthening_adds_zeros_and_shortening_forgets() {
    on_both(|storage| {
        let file = storage.create("a").unwrap();
        file.write_at(&[7; 6000], 0).unwrap();
        file.set_len(10).unwrap();
        file.set_len(7000).unwrap();
        let mut expected = vec![0; 7000];
        expected[..10].fill(7);
        assert_eq!(bytes(&*file), expected);
        file.allocate(5, 3).unwrap();
        assert_eq!(bytes(&*file), expected, "allocating changes no byte");
        file.allocate(6990, 3010).unwrap();
        expected.resize(10_000, 0);
        assert_eq!(bytes(&*file), expected);
        assert_eq!(kind(file.allocate(0, 0)), ErrorKind::InvalidInput);
    });
}

#[test]
fn names_come_and_go() {
    on_both(|storage| {
        storage.create("b").unwrap();
        assert_eq!(kind(storage.create("b")), ErrorKind::AlreadyExists);
        assert_eq!(kind(storage.open("c")), ErrorKind::NotFound);
        storage.create_dir("tables").unwrap();
        storage.create_dir("tables").unwrap();
        storage.create_dir("tables/x").unwrap();
        storage.create("tables/x/1.chunk").unwrap();
        storage.create("tables/x/0.chunk").unwrap();
        storage.create("tables.old").unwrap();
        assert_eq!(storage.list("").unwrap(), ["b", "tables", "tables.old"]);
        assert_eq!(storage.list("tables").unwrap(), ["x"]);
        assert_eq!(storage.list("tables/x").unwrap(), ["0.chunk", "1.chunk"]);
        storage.rename("tables/x/1.chunk", "2.chunk").unwrap();
        storage.remove("tables/x/0.chunk").unwrap();
        assert!(storage.list("tables/x").unwrap().is_empty());
        assert_eq!(storage.list("").unwrap(), ["2.chunk", "b", "tables", "tables.old"]);
        for folder in ["", "tables", "tables/x"] {
            storage.sync_dir(folder).unwrap();
        }
    });
}

#[test]
fn path_errors_are_distinct() {
    on_both(|storage| {
        storage.create("file").unwrap();
        storage.create_dir("folder").unwrap();
        for path in ["", "/file", "file/", "a//b", "..", "../x", "folder/../file", "./file", "a\0b"] {
            assert_eq!(kind(storage.open(path)), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(kind(storage.create(path)), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(kind(storage.remove(path)), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(kind(storage.create_dir(path)), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(kind(storage.rename("file", path)), ErrorKind::InvalidInput, "{path:?}");
        }
        assert_eq!(kind(storage.open("folder")), ErrorKind::IsADirectory);
        assert_eq!(kind(storage.remove("folder")), ErrorKind::IsADirectory);
        assert_eq!(kind(storage.rename("folder", "x")), ErrorKind::IsADirectory);
        assert_eq!(kind(storage.rename("file", "folder")), ErrorKind::IsADirectory);
        assert_eq!(kind(storage.create("folder")), ErrorKind::AlreadyExists);
        assert_eq!(kind(storage.create_dir("file")), ErrorKind::AlreadyExists);
        assert_eq!(kind(storage.create("file/x")), ErrorKind::NotADirectory);
        assert_eq!(kind(storage.open("file/x/y")), ErrorKind::NotADirectory);
        assert_eq!(kind(storage.list("file")), ErrorKind::NotADirectory);
        assert_eq!(kind(storage.sync_dir("file")), ErrorKind::NotADirectory);
        for missing in ["no/x", "no/x/y"] {
            assert_eq!(kind(storage.create(missing)), ErrorKind::NotFound);
            assert_eq!(kind(storage.create_dir(missing)), ErrorKind::NotFound);
            assert_eq!(kind(storage.list(missing)), ErrorKind::NotFound);
            assert_eq!(kind(storage.sync_dir(missing)), ErrorKind::NotFound);
            assert_eq!(kind(storage.remove(missing)), ErrorKind::NotFound);
            assert_eq!(kind(storage.rename("file", missing)), ErrorKind::NotFound);
            assert_eq!(kind(storage.rename(missing, "y")), ErrorKind::NotFound);
        }
        assert_eq!(storage.list("").unwrap(), ["file", "folder"]);
    });
}

#[test]
fn errors_name_operation_and_file() {
    on_both(|storage| {
        let error = storage.open("no.chunk").unwrap_err();
        let path = format!("{}/no.chunk", storage.name());
        assert!(error.to_string().starts_with(&format!("cannot open {path}: ")), "{error}");
        let detail = error.get_ref().unwrap().downcast_ref::<FileError>().unwrap();
        assert_eq!((detail.operation(), detail.path()), ("open", &*path));
        let file = storage.create("short").unwrap();
        let error = file.read_at(&mut [0; 8], 0).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot read {}/short: ", storage.name())), "{error}");
    });
}

#[test]
fn open_file_survives_its_removal() {
    on_both(|storage| {
        let (old, new) = (storage.create("a").unwrap(), storage.create("a.tmp").unwrap());
        old.write_at(b"old", 0).unwrap();
        new.write_at(b"new", 0).unwrap();
        assert_ne!(old.id(), new.id());
        storage.rename("a.tmp", "a").unwrap();
        assert_eq!(bytes(&*storage.open("a").unwrap()), b"new");
        assert_eq!(storage.open("a").unwrap().id(), new.id());
        storage.remove("a").unwrap();
        storage.create("a").unwrap();
        old.write_at(b"OLD", 0).unwrap();
        assert_eq!(bytes(&*old), b"OLD");
        assert_eq!(bytes(&*new), b"new");
        assert!(storage.open("a").unwrap().is_empty().unwrap());
    });
}

#[test]
fn locks_belong_to_the_handle() {
    use LockMode::{Exclusive, Shared};
    on_both(|storage| {
        let a = storage.create("control").unwrap();
        let b = storage.open("control").unwrap();
        let c = storage.open("control").unwrap();
        assert!(a.try_lock(10, 10, Exclusive).unwrap());
        assert!(a.try_lock(10, 10, Exclusive).unwrap(), "again, by the same handle");
        assert!(!b.try_lock(19, 1, Shared).unwrap());
        assert!(!b.try_lock(0, 11, Shared).unwrap());
        assert!(b.try_lock(20, 5, Exclusive).unwrap(), "beside it");
        assert!(b.is_locked(15, 1, Shared).unwrap());
        assert!(!a.is_locked(15, 1, Exclusive).unwrap(), "its own lock blocks no other");
        assert!(!c.is_locked(9, 1, Exclusive).unwrap());

        assert!(a.try_lock(10, 10, Shared).unwrap(), "converted");
        assert!(b.try_lock(15, 1, Shared).unwrap());
        assert!(!a.try_lock(10, 10, Exclusive).unwrap(), "shared with b");
        assert!(c.is_locked(10, 10, Exclusive).unwrap() && !c.is_locked(10, 10, Shared).unwrap());
        b.unlock(15, 1).unwrap();
        assert!(a.try_lock(12, 2, Exclusive).unwrap(), "part of it");
        assert!(c.try_lock(10, 2, Shared).unwrap() && c.try_lock(14, 6, Shared).unwrap());
        assert!(!c.try_lock(13, 1, Shared).unwrap());
        a.unlock(0, 13).unwrap();
        assert!(c.try_lock(10, 3, Exclusive).unwrap() && !c.try_lock(13, 1, Shared).unwrap());

        drop(a);
        assert!(c.try_lock(13, 1, Exclusive).unwrap(), "what a held went with it");
        assert!(!c.try_lock(24, 1, Shared).unwrap(), "what b holds did not");
        assert_eq!(kind(c.try_lock(5, 0, Shared)), ErrorKind::InvalidInput);
        assert_eq!(kind(c.lock(u64::MAX, 2, Shared)), ErrorKind::InvalidInput);
        assert!(!storage.create("other").unwrap().is_locked(0, 100, Exclusive).unwrap());
    });
}

#[test]
fn a_lock_waits_for_the_others() {
    on_both(|storage| {
        let holder = storage.create("control").unwrap();
        let waiter = storage.open("control").unwrap();
        let freed = AtomicBool::new(false);
        assert!(holder.try_lock(0, 1, LockMode::Exclusive).unwrap());
        // Set just before the lock is released: a thread that gets the lock earlier got it too
        // early.
        let waits = |taker: &dyn File, mode: LockMode| {
            taker.lock(0, 1, mode).unwrap();
            assert!(freed.swap(false, Ordering::SeqCst), "it got the lock while another held it");
        };
        let sleep_then_free = || {
            std::thread::sleep(Duration::from_millis(30));
            freed.store(true, Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            scope.spawn(|| waits(&*waiter, LockMode::Shared));
            sleep_then_free();
            holder.lock(0, 1, LockMode::Shared).expect("sharing it lets the waiter in");
        });
        std::thread::scope(|scope| {
            scope.spawn(|| waits(&*holder, LockMode::Exclusive));
            sleep_then_free();
            drop(waiter);
        });
        let second = storage.open("control").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| waits(&*second, LockMode::Exclusive));
            sleep_then_free();
            holder.unlock(0, 1).unwrap();
        });
    });
}

#[test]
fn words_and_bytes_are_the_same() {
    on_both(|storage| {
        let file = storage.create("hash").unwrap();
        let second = storage.open("hash").unwrap();
        file.allocate(0, 4 * PAGE).unwrap();
        let words = file.map_words(PAGE, 2 * PAGE).unwrap();
        assert_eq!(words.len(), 2 * P / 8);
        words.store(3, 0x0102_0304_0506_0708, Ordering::Release);
        let mut read = [0; 8];
        second.read_at(&mut read, PAGE + 24).unwrap();
        assert_eq!(u64::from_ne_bytes(read), 0x0102_0304_0506_0708);
        second.write_at(&7u64.to_ne_bytes(), PAGE + 32).unwrap();
        second.write_at(&[0xFF], PAGE + 24).unwrap();
        assert_eq!(words.load(4, Ordering::Acquire), 7);
        assert_eq!(words.load(3, Ordering::Acquire).to_ne_bytes()[0], 0xFF);
        let whole = second.map_words(0, 4 * PAGE).unwrap();
        assert_eq!(whole.load(P / 8 + 4, Ordering::Acquire), 7);
        assert_eq!(words.fetch_add(4, 1, Ordering::AcqRel), 7);
        assert_eq!(whole.line(P / 8)[4], 8);
        storage.remove("hash").unwrap();
        drop((file, second));
        whole.store(P / 8, 9, Ordering::Release);
        assert_eq!(words.load(0, Ordering::Acquire), 9, "maps outlive name and handles");
    });
}

#[test]
fn word_maps_share_words_after_growth() {
    on_both(|storage| {
        let file = storage.create("marks").unwrap();
        file.allocate(0, PAGE).unwrap();
        let small = file.map_words(0, PAGE).unwrap();
        file.allocate(PAGE, 7 * PAGE).unwrap();
        let large = file.map_words(0, 8 * PAGE).unwrap();
        small.store(5, 6, Ordering::Release);
        large.store(P / 8, 7, Ordering::Release);
        assert_eq!(large.load(5, Ordering::Acquire), 6);
        let all = bytes(&*file);
        assert_eq!((all[5 * 8], all[P]), (6, 7));
    });
}

#[test]
fn maps_are_whole_pages() {
    on_both(|storage| {
        let file = storage.create("a").unwrap();
        file.allocate(0, 2 * PAGE).unwrap();
        let room = storage.reserve(4 * P).unwrap();
        for (offset, len, expected) in [
            (0, 0, ErrorKind::InvalidInput),
            (1, PAGE, ErrorKind::InvalidInput),
            (0, PAGE + 1, ErrorKind::InvalidInput),
            (PAGE, u64::MAX, ErrorKind::InvalidInput),
            (PAGE, 2 * PAGE, ErrorKind::UnexpectedEof),
            (2 * PAGE, PAGE, ErrorKind::UnexpectedEof),
        ] {
            assert_eq!(kind(file.map_words(offset, len)), expected, "words {len} at {offset}");
            assert_eq!(kind(file.map_into(offset, len, &room, 0)), expected, "{len} at {offset}");
        }
        assert_eq!(kind(file.map_into(0, 2 * PAGE, &room, 3 * P)), ErrorKind::InvalidInput);
        file.map_into(0, 2 * PAGE, &room, P).unwrap();
        assert_eq!(kind(file.map_into(0, PAGE, &room, 2 * P)), ErrorKind::InvalidInput, "not after the last");
        assert_eq!(room.mapped(), P..3 * P);
    });
}

#[test]
fn adjacent_maps_form_one_slice() {
    on_both(|storage| {
        let (low, high) = (storage.create("0.chunk").unwrap(), storage.create("1.chunk").unwrap());
        low.allocate(0, 3 * PAGE).unwrap();
        high.allocate(0, 2 * PAGE).unwrap();
        low.write_at(&[1; 16], 3 * PAGE - 16).unwrap();
        high.write_at(&[2; 16], 0).unwrap();
        let room = storage.reserve(16 * P).unwrap();
        assert_eq!(room.base() as usize % P, 0);
        low.map_into(PAGE, 2 * PAGE, &room, 0).unwrap();
        assert_eq!(slice(&room, 2 * P - 8, 16), None);
        high.map_into(0, 2 * PAGE, &room, 2 * P).unwrap();
        assert_eq!(slice(&room, 2 * P - 3, 6), Some(&[1, 1, 1, 2, 2, 2][..]));
        assert_eq!(slice(&room, 0, 4 * P).unwrap().len(), 4 * P);
        assert_eq!(slice(&room, 0, 4 * P + 1), None);

        // Later writes are visible, while a slice that is held does not change.
        let held = slice(&room, 2 * P, 16).unwrap();
        let other = storage.open("1.chunk").unwrap();
        other.write_at(&[3; 8], 16).unwrap();
        other.write_at(&[4; 4], 2 * PAGE - 2).unwrap();
        assert_eq!(held, [2; 16]);
        assert_eq!(slice(&room, 2 * P + 12, 8), Some(&[2, 2, 2, 2, 3, 3, 3, 3][..]));
        assert_eq!(slice(&room, 4 * P - 3, 3), Some(&[0, 4, 4][..]), "the file grows, the map does not");

        // A second range maps the same bytes; both remain valid after names and handles are gone.
        let larger = storage.reserve(32 * P).unwrap();
        high.map_into(0, 2 * PAGE, &larger, 2 * P).unwrap();
        storage.remove("1.chunk").unwrap();
        other.write_at(&[5; 8], 24).unwrap();
        drop((low, high, other));
        // SAFETY: `held` is no longer used, and no other slice exists.
        unsafe { room.unmap_front(2 * P) }.unwrap();
        for room in [&room, &larger] {
            assert_eq!(room.mapped(), 2 * P..4 * P);
            assert_eq!(slice(room, 2 * P + 20, 8), Some(&[3, 3, 3, 3, 5, 5, 5, 5][..]));
        }
    });
}

#[test]
fn reservation_may_exceed_memory() {
    on_both(|storage| {
        let room = storage.reserve(if cfg!(miri) { 1 << 20 } else { 1 << 42 }).unwrap();
        let file = storage.create("a").unwrap();
        file.allocate(0, PAGE).unwrap();
        file.map_into(0, PAGE, &room, room.len() - P).unwrap();
        assert_eq!(slice(&room, room.len() - 2, 2), Some(&[0, 0][..]));
    });
}

/// Runs random operations on one file and on a vector, with a word map and a view of its first
/// pages.
#[test]
fn a_file_behaves_like_a_vector() {
    on_both(|storage| {
        for seed in 1..=if cfg!(miri) { 2 } else { 30 } {
            let mut state = seed;
            let mut random = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let name = format!("{seed}");
            let file = storage.create(&name).unwrap();
            file.allocate(0, 2 * PAGE).unwrap();
            let mut model = vec![0u8; 2 * P];
            let words = file.map_words(0, 2 * PAGE).unwrap();
            let view = storage.reserve(2 * P).unwrap();
            let viewed = storage.create(&format!("{seed}.viewed")).unwrap();
            viewed.allocate(0, 2 * PAGE).unwrap();
            viewed.map_into(0, 2 * PAGE, &view, 0).unwrap();
            for _ in 0..if cfg!(miri) { 20 } else { 200 } {
                let at = random(20_000) as usize;
                match random(5) {
                    0 => {
                        let len = (at + 2 * P) as u64;
                        file.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                    1 => {
                        let len = 1 + random(9000) as usize;
                        file.allocate(at as u64, len as u64).unwrap();
                        model.resize(model.len().max(at + len), 0);
                    }
                    2 => {
                        let (i, v) = (random(2 * PAGE / 8) as usize, random(u64::MAX));
                        words.store(i, v, Ordering::Release);
                        model[8 * i..8 * i + 8].copy_from_slice(&v.to_ne_bytes());
                    }
                    _ => {
                        let data: Vec<u8> = (0..random(9000)).map(|_| random(256) as u8).collect();
                        file.write_at(&data, at as u64).unwrap();
                        let end = if data.is_empty() { 0 } else { at + data.len() };
                        model.resize(model.len().max(end), 0);
                        model[at..][..data.len()].copy_from_slice(&data);
                    }
                }
                assert!(bytes(&*file) == model, "seed {seed}");
            }
            let from_words: Vec<u8> =
                (0..words.len()).flat_map(|i| words.load(i, Ordering::Acquire).to_ne_bytes()).collect();
            assert!(from_words == model[..2 * P], "seed {seed}, words");
            for at in (0..2 * P).step_by(1000) {
                viewed.write_at(&model[at..][..1000], at as u64).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(slice(&view, at, 999), Some(&model[at..at + 999]), "seed {seed}, view");
                if at + 2000 > 2 * P {
                    break;
                }
            }
        }
    });
}

#[test]
fn identities_tell_folders_apart() {
    let (a, b) = (MemoryStorage::new(), MemoryStorage::new());
    assert_eq!(a.cache_identity(), a.cache_identity());
    assert_ne!(a.cache_identity(), b.cache_identity());
    assert_ne!(a.folder_identity().unwrap(), b.folder_identity().unwrap());
    assert_ne!(a.name(), b.name());
}

#[test]
fn full_disk_loses_nothing() {
    let storage = MemoryStorage::with_capacity_limit(8 * PAGE);
    let file = storage.create("a").unwrap();
    file.set_len(100 * PAGE).unwrap();
    assert_eq!(storage.used_bytes(), 0, "a hole takes no space");
    file.allocate(0, 6 * PAGE).unwrap();
    assert_eq!(storage.used_bytes(), 6 * PAGE);
    let other = storage.create("b").unwrap();
    let error = other.allocate(0, 3 * PAGE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!((other.len().unwrap(), storage.used_bytes()), (0, 6 * PAGE), "all or nothing");
    assert_eq!(kind(other.write_at(&[1; 3 * PAGE as usize], 100)), ErrorKind::StorageFull);
    assert_eq!(bytes(&*other)[100..], vec![1; 2 * P - 100], "what fits is written, as by the kernel");
    file.write_at(&[2; 6 * PAGE as usize], 0).expect("preallocated space can be written on a full disk");
    assert_eq!(kind(file.write_at(&[2], 6 * PAGE)), ErrorKind::StorageFull);

    storage.remove("b").unwrap();
    assert_eq!(storage.used_bytes(), 8 * PAGE, "the file is open");
    drop(other);
    assert_eq!(storage.used_bytes(), 6 * PAGE);
    file.set_len(PAGE + 1).unwrap();
    assert_eq!(storage.used_bytes(), 2 * PAGE);
    let words = file.map_words(0, PAGE).unwrap();
    storage.remove("a").unwrap();
    drop(file);
    assert_eq!(storage.used_bytes(), 2 * PAGE, "a map holds the file");
    drop(words);
    assert_eq!(storage.used_bytes(), 0);
}
