//! Processes that open the same store and may not share a kernel.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pongo_core::engine::Engine;
use pongo_core::error::OpenError;
use pongo_core::forward_storage;
use pongo_core::storage::{Host, LockMode, MemoryStorage, Storage};

use crate::indexer::MapIndexer;
use crate::model::Model;
use crate::work::{SMALL, arbitrary, options};
use pongo_sim::Random;

const NFS: u64 = 0x6969;
const EXT4: u64 = 0xef53;

/// Storage as seen through another kernel, another mount or another file system.
#[derive(Debug)]
struct Seen {
    inner: Arc<MemoryStorage>,
    host: Host,
    cache: Option<[u8; 32]>,
    folder: (u64, u64),
}

impl Storage for Seen {
    fn cache_identity(&self) -> Option<[u8; 32]> {
        self.cache
    }
    fn host(&self) -> io::Result<Host> {
        Ok(self.host)
    }
    fn folder_identity(&self) -> io::Result<(u64, u64)> {
        Ok(self.folder)
    }

    forward_storage!(self => self.inner; create, open, rename, remove, create_dir, list, sync_dir, reserve);
    forward_storage!(self => self.inner; name);
}

/// Environment of one process: boot (0: it has no `/proc`), mount (0: the kernel gives no number),
/// type of the file system, device.
#[derive(Clone, Copy, Debug)]
struct View {
    boot: u8,
    mount: u8,
    file_system: u64,
    device: u64,
}

impl View {
    fn of(self, inner: &Arc<MemoryStorage>) -> Arc<dyn Storage> {
        let boot = (self.boot != 0).then_some([self.boot; 16]);
        let is_local = self.file_system == EXT4;
        let mut cache = [self.mount; 32];
        cache[..16].fill(self.boot);
        Arc::new(Seen {
            inner: Arc::clone(inner),
            host: Host { file_system: self.file_system, is_local, boot },
            cache: (self.boot != 0 && self.mount != 0).then_some(cache),
            folder: (self.device, 7),
        })
    }
}

fn open(storage: Arc<dyn Storage>) -> Result<Arc<Engine>, OpenError> {
    Engine::open(storage, options(), Arc::new(MapIndexer::default()))
}

const LOCAL: View = View { boot: 1, mount: 1, file_system: EXT4, device: 5 };
const REMOTE: View = View { file_system: NFS, ..LOCAL };

/// On a local file system the lock is sufficient proof: two processes that have different mounts,
/// have no `/proc`, or see another boot id, as in a container, join, write in turn and see each
/// other's commits.
#[test]
fn mounts_of_one_disk_share_store() {
    let others = [
        LOCAL,
        View { mount: 2, ..LOCAL },
        View { mount: 0, ..LOCAL },
        View { boot: 0, ..LOCAL },
        View { boot: 2, ..LOCAL },
    ];
    for (first, second) in others.iter().flat_map(|first| others.iter().map(move |second| (first, second))) {
        let memory = Arc::new(MemoryStorage::new());
        let mut random = Random(3);
        let mut model = Model::default();
        let engines = [open(first.of(&memory)).unwrap(), open(second.of(&memory)).unwrap()];
        for round in 0..6 {
            let transaction = arbitrary(&model, &mut random, SMALL);
            transaction.commit(&engines[round % 2]).unwrap();
            model = transaction.after;
            engines.iter().for_each(|engine| model.check(&engine.begin_read().unwrap()));
        }
        let [one, other] = engines;
        drop(one);
        // The first process did not close the store while the other one had it open.
        let third = open(first.of(&memory)).unwrap();
        model.check(&third.begin_read().unwrap());
        drop((other, third));
        model.check(&open(second.of(&memory)).unwrap().begin_read().unwrap());
    }
}

/// If another machine can hold the lock, or if the folder is not the same one, opening returns an
/// error soon and leaves no trace.
#[test]
fn another_kernel_is_refused() {
    let refused = [
        (REMOTE, View { boot: 2, ..REMOTE }, "02020202-0202"),
        (REMOTE, View { boot: 0, ..REMOTE }, "/proc/sys/kernel/random/boot_id"),
        (View { boot: 0, ..REMOTE }, REMOTE, "/proc/sys/kernel/random/boot_id"),
        (View { boot: 0, ..REMOTE }, View { boot: 0, ..REMOTE }, "/proc/sys/kernel/random/boot_id"),
        // A second mount of the folder with a separate page cache, on one machine.
        (REMOTE, View { device: 6, ..REMOTE }, "device 0x6"),
        // A server that opens a store that its client has open.
        (REMOTE, LOCAL, "ext2/3/4"),
        (LOCAL, View { device: 6, ..LOCAL }, "device 0x6"),
        (
            View { file_system: 0x1234, ..LOCAL },
            View { boot: 2, file_system: 0x1234, ..LOCAL },
            "type 0x1234",
        ),
    ];
    for (holder, other, word) in refused {
        let memory = Arc::new(MemoryStorage::new());
        let engine = open(holder.of(&memory)).unwrap();
        let mut random = Random(4);
        let transaction = arbitrary(&Model::default(), &mut random, SMALL);
        transaction.commit(&engine).unwrap();
        let began = Instant::now();
        let error = open(other.of(&memory)).expect_err("it cannot be shared");
        assert!(matches!(error, OpenError::NotShared { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "it does not wait");
        // The process that has the store open can continue, and is the last to close it.
        let transaction = arbitrary(&transaction.after, &mut random, SMALL);
        transaction.commit(&engine).unwrap();
        drop(engine);
        transaction.after.check(&open(other.of(&memory)).unwrap().begin_read().unwrap());
    }
    // Two processes on one machine share the store on a remote file system too.
    let memory = Arc::new(MemoryStorage::new());
    let engines = [REMOTE, View { mount: 2, ..REMOTE }].map(|view| open(view.of(&memory)).unwrap());
    let transaction = arbitrary(&Model::default(), &mut Random(5), SMALL);
    transaction.commit(&engines[1]).unwrap();
    engines.iter().for_each(|engine| transaction.after.check(&engine.begin_read().unwrap()));
}

/// Index of the control word that says whether the store is ready, and of the one with the file's
/// version.
const READY: usize = 4;
const VERSION: usize = 1;

/// A state that waiting cannot fix is an error within a second; opening waits for a process that
/// recovers for longer than that.
#[test]
fn a_wait_ends() {
    let memory = Arc::new(MemoryStorage::new());
    let engine = open(LOCAL.of(&memory)).unwrap();
    let transaction = arbitrary(&Model::default(), &mut Random(6), SMALL);
    transaction.commit(&engine).unwrap();
    let words = memory.open("control").unwrap().map_words(0, 8 * 12_800).unwrap();
    for (word, said) in [(READY, "neither"), (VERSION, "version 77")] {
        let right = words.load(word, Ordering::SeqCst);
        words.store(word, 77, Ordering::SeqCst);
        let began = Instant::now();
        let error = open(LOCAL.of(&memory)).expect_err("nothing will make it right");
        assert!(error.to_string().contains(said), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        words.store(word, right, Ordering::SeqCst);
        transaction.after.check(&open(LOCAL.of(&memory)).unwrap().begin_read().unwrap());
    }
    drop(engine);
    // Simulates another process that recovers.
    let other = memory.open("control").unwrap();
    assert!(other.try_lock(1 << 32, 1, LockMode::Exclusive).unwrap());
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| open(LOCAL.of(&memory)).unwrap());
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!waits.is_finished(), "one process has the store alone");
        other.unlock(1 << 32, 1).unwrap();
        transaction.after.check(&waits.join().unwrap().begin_read().unwrap());
    });
}
