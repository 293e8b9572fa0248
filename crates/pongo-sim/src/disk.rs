//! A storage as several processes see it, each of which can be killed, over a disk whose power can be cut and whose
//! operations can fail, each at any operation.
//!
//! Operations are counted: every change of a folder, write, allocation, sync, and every store into mapped words. A
//! process that is killed is left with handles that err, locks that are gone, and stores that have no effect.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use pongo_core::storage::{File, LockMode, MemoryStorage, RawFile, Reservation, Storage, StoreHook, Words};

use crate::image::Image;
use crate::leave::{Draw, Leave};
use crate::names::{NameBook, Names};
use crate::past::{Content, Past};
use crate::random::Random;
use crate::watch::{Moment, Watcher};

/// What is going to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing but what is asked for.
    Nothing,
    /// The process that does this operation is killed before it.
    Kill(u64),
    /// The power goes while this operation is done.
    Cut(u64),
    /// This operation fails with this error, and, if asked for, so do all later ones of its kind.
    Fail(u64, io::ErrorKind, bool),
    /// The process that first does an operation of this kind on a name with this in it is killed before it.
    KillOn(Kind, &'static str),
    /// Every operation of this kind on files whose name has this in it fails.
    FailOn(Kind, &'static str, io::ErrorKind),
}

/// What an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file or folder is made, renamed or removed.
    Name,
    /// A folder is synced.
    SyncDir,
    /// Bytes are written, or the length is set.
    Write,
    /// Space is set aside.
    Allocate,
    /// A file is synced.
    Sync,
    /// A word of a map is stored to.
    Store,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Storage>,
    operations: AtomicU64,
    quiet: AtomicBool,
    /// Syncs of journal segments, and how long each takes, in microseconds.
    journal_syncs: AtomicU64,
    sync_micros: AtomicU64,
    state: Mutex<State>,
    /// Locked behind `state`.
    watcher: Mutex<Option<Watcher>>,
    processes: Mutex<Vec<Weak<Process>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The books, and what is planned.
pub(crate) struct State {
    plan: Plan,
    /// What failed, if something did.
    failed: Option<(Kind, String)>,
    random: Random,
    files: HashMap<u64, (Arc<dyn File>, Past)>,
    names: NameBook,
    /// Stores into holes of maps: on a full disk each is a signal.
    hole_stores: Vec<(String, u64)>,
}

impl State {
    /// What a power cut leaves if it comes now.
    pub(crate) fn image(&self, random: &mut Random, leave: Leave) -> Image {
        let mut draw = Draw::new(random, leave);
        let names = self.names.draw(&mut draw);
        let mut drawn: HashMap<u64, Arc<Content>> = HashMap::new();
        let mut content = |number| {
            let draw = || self.files.get(&number).map_or_else(Arc::default, |(_, past)| past.draw(&mut draw));
            Arc::clone(drawn.entry(number).or_insert_with(draw))
        };
        let entries = names.into_iter().map(|(path, what)| (path, what.map(&mut content))).collect();
        Image { entries }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::over(Arc::new(MemoryStorage::new()))
    }

    /// A disk that is empty now.
    pub fn over(inner: Arc<dyn Storage>) -> Self {
        Self::holding(inner, Vec::new(), Names::new())
    }

    /// A disk on which these files are durable, under these names.
    pub(crate) fn holding(
        inner: Arc<dyn Storage>,
        files: Vec<(Arc<dyn File>, Arc<Content>)>,
        names: Names,
    ) -> Self {
        let files = files.into_iter().map(|(file, content)| (file.id(), (file, Past::holding(&content))));
        let state = State {
            plan: Plan::Nothing,
            failed: None,
            random: Random(0),
            files: files.collect(),
            names: NameBook::holding(names),
            hole_stores: Vec::new(),
        };
        Self(Arc::new(Shared {
            inner,
            operations: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
            journal_syncs: AtomicU64::new(0),
            sync_micros: AtomicU64::new(0),
            state: Mutex::new(state),
            watcher: Mutex::default(),
            processes: Mutex::default(),
        }))
    }

    /// A process that sees the disk.
    pub fn process(&self) -> Arc<Process> {
        let process = Arc::new(Process {
            disk: Arc::clone(&self.0),
            dead: AtomicBool::new(false),
            files: Mutex::default(),
        });
        self.0.processes.lock().unwrap().push(Arc::downgrade(&process));
        process
    }

    /// What happens at the operation `after` from now.
    pub fn plan(&self, seed: u64, plan: impl FnOnce(u64) -> Plan) {
        let mut state = self.0.state.lock().unwrap();
        state.plan = plan(self.0.operations.load(Ordering::SeqCst));
        state.random = Random(seed);
    }

    /// Does something that neither counts nor is hit by the plan.
    pub fn quietly(&self, something: impl FnOnce()) {
        self.0.quiet.store(true, Ordering::SeqCst);
        something();
        self.0.quiet.store(false, Ordering::SeqCst);
    }

    /// From now on a sync of the journal takes this long.
    pub fn slow_down(&self, micros: u64) {
        self.0.sync_micros.store(micros, Ordering::SeqCst);
    }

    /// Syncs of the journal so far.
    pub fn journal_syncs(&self) -> u64 {
        self.0.journal_syncs.load(Ordering::SeqCst)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.0.operations.load(Ordering::SeqCst)
    }

    /// What the plan made fail.
    pub fn failed(&self) -> Option<(Kind, String)> {
        self.0.state.lock().unwrap().failed.clone()
    }

    /// The bytes of a file, to be looked at or damaged.
    pub fn inner(&self) -> &Arc<dyn Storage> {
        &self.0.inner
    }

    fn kill_all(shared: &Shared) {
        let processes: Vec<_> = shared.processes.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        // All at once: none may get the locks of another, and write, while the first one's threads still run here.
        processes.iter().for_each(|process| process.dead.store(true, Ordering::SeqCst));
        processes.iter().for_each(|process| process.kill());
    }

    /// What a power cut leaves if it comes now. Changes nothing.
    #[must_use]
    pub fn image(&self, random: &mut Random, leave: Leave) -> Image {
        self.0.state.lock().unwrap().image(random, leave)
    }

    /// Tells `watcher` of every operation that counts, in place of whoever was told before, while the disk stands still:
    /// images can be taken of it, opened, and compared on the spot. It must not use this disk.
    pub fn watch(&self, watcher: impl FnMut(&Moment<'_>) + Send + 'static) {
        *self.0.watcher.lock().unwrap() = Some(Box::new(watcher));
    }

    /// Nobody is told any more.
    pub fn unwatch(&self) {
        *self.0.watcher.lock().unwrap() = None;
    }

    /// Stores through maps where no space was set aside, by file and byte: on a full disk each would be a signal.
    #[must_use]
    pub fn hole_stores(&self) -> Vec<(String, u64)> {
        self.0.state.lock().unwrap().hole_stores.clone()
    }

    /// The power goes now, if it has not yet, and comes back: the disk as it is then.
    pub fn reboot(&self, random: &mut Random) -> Self {
        Self::kill_all(&self.0);
        let leave = Leave::any(random);
        self.image(random, leave).disk()
    }
}

/// One process's view of a disk.
pub struct Process {
    disk: Arc<Shared>,
    dead: AtomicBool,
    files: Mutex<Vec<Weak<Handle>>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("dead", &self.dead).finish_non_exhaustive()
    }
}

fn dead() -> io::Error {
    io::Error::other("this process was killed")
}

impl Process {
    /// What the engine is given.
    pub fn storage(self: &Arc<Self>) -> Arc<dyn Storage> {
        Arc::new(Seen(Arc::clone(self)))
    }

    /// From now on nothing that this process does has any effect; its locks go.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for handle in self.files.lock().unwrap().drain(..).filter_map(|handle| handle.upgrade()) {
            handle.file.lock().unwrap().take();
        }
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// A sync of a file failed: the kernel takes its pages for clean, and no later sync writes them.
    pub(crate) fn lose_unsynced(&self, id: u64) {
        let mut state = self.disk.state.lock().unwrap();
        let state = &mut *state;
        if let Some((_, past)) = state.files.get_mut(&id) {
            past.settle(&mut Draw::new(&mut state.random, Leave::Any));
        }
    }

    /// A sync of a folder failed: some of the names that were to become durable are, up to one of them; the others wait for
    /// the next sync, as file systems with a journal have it.
    pub(crate) fn lose_names(&self, dir: &str) {
        let mut state = self.disk.state.lock().unwrap();
        let state = &mut *state;
        state.names.note_failed_sync(dir, &mut state.random);
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead() { Err(dead()) } else { Ok(()) }
    }

    /// Does an operation, or what is planned instead. `note` takes it into the books.
    fn run<T>(
        &self,
        kind: Kind,
        name: &str,
        operation: impl FnOnce() -> io::Result<T>,
        note: impl FnOnce(&mut State, &T),
    ) -> io::Result<T> {
        self.alive()?;
        let mut state = self.disk.state.lock().unwrap();
        if self.disk.quiet.load(Ordering::SeqCst) {
            let done = operation()?;
            note(&mut state, &done);
            return Ok(done);
        }
        let number = self.disk.operations.fetch_add(1, Ordering::SeqCst);
        match state.plan {
            Plan::KillOn(wanted, part) if wanted == kind && name.contains(part) => {
                state.plan = Plan::Nothing;
                drop(state);
                self.kill();
                return Err(dead());
            }
            Plan::Kill(at) if at == number => {
                drop(state);
                self.kill();
                return Err(dead());
            }
            Plan::Cut(at) if at == number => {
                if kind != Kind::Sync
                    && kind != Kind::SyncDir
                    && let Ok(done) = operation()
                {
                    note(&mut state, &done);
                }
                drop(state);
                Disk::kill_all(&self.disk);
                return Err(dead());
            }
            // A store into memory cannot fail.
            Plan::Fail(at, error, on)
                if kind != Kind::Store && (at == number || (on && at < number && is_kind(&state, kind))) =>
            {
                state.failed.get_or_insert((kind, name.to_owned()));
                return Err(error.into());
            }
            Plan::FailOn(wanted, part, error) if wanted == kind && name.contains(part) => {
                state.failed.get_or_insert((kind, name.to_owned()));
                return Err(error.into());
            }
            _ => {}
        }
        let tell = |state: &State, is_done| {
            if let Some(watcher) = &mut *self.disk.watcher.lock().unwrap() {
                watcher(&Moment { number, kind, path: name, is_done, state });
            }
        };
        if matches!(kind, Kind::Sync | Kind::SyncDir) {
            tell(&state, false);
        }
        let done = operation()?;
        note(&mut state, &done);
        tell(&state, true);
        Ok(done)
    }

    fn handle(self: &Arc<Self>, file: Arc<dyn File>, path: &str) -> Arc<dyn File> {
        let handle = Arc::new(Handle {
            process: Arc::clone(self),
            id: file.id(),
            path: path.to_owned(),
            file: Mutex::new(Some(file)),
        });
        let mut files = self.files.lock().unwrap();
        files.retain(|handle| handle.strong_count() > 0);
        files.push(Arc::downgrade(&handle));
        handle
    }
}

fn is_kind(state: &State, kind: Kind) -> bool {
    state.failed.as_ref().is_some_and(|(failed, _)| *failed == kind)
}

#[derive(Debug)]
struct Seen(Arc<Process>);

impl Seen {
    fn inner(&self) -> &Arc<dyn Storage> {
        &self.0.disk.inner
    }
}

impl Storage for Seen {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let file = self.0.run(
            Kind::Name,
            path,
            || self.inner().create(path),
            |state, file| {
                state.files.insert(file.id(), (Arc::clone(file), Past::default()));
                state.names.note_made(path, Some(file.id()));
            },
        )?;
        // A handle of its own: locks belong to handles, and the books keep theirs.
        let file = self.inner().open(path).unwrap_or(file);
        Ok(self.0.handle(file, path))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.0.alive()?;
        Ok(self.0.handle(self.inner().open(path)?, path))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let id = self.inner().open(from).map(|file| file.id());
        self.0.run(
            Kind::Name,
            from,
            || self.inner().rename(from, to),
            |state, ()| state.names.note_renamed(from, to, id.ok()),
        )
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        // Most removals are of what is not there.
        self.0.alive()?;
        self.inner().open(path)?;
        self.0.run(Kind::Name, path, || self.inner().remove(path), |state, ()| state.names.note_removed(path))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.alive()?;
        if self.inner().list(path).is_ok() {
            return Ok(());
        }
        self.0.run(
            Kind::Name,
            path,
            || self.inner().create_dir(path),
            |state, ()| state.names.note_made(path, None),
        )
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.0.alive()?;
        self.inner().list(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.0.run(
            Kind::SyncDir,
            path,
            || self.inner().sync_dir(path),
            |state, ()| state.names.note_synced(path),
        )
    }

    fn reserve(&self, len: usize) -> io::Result<Reservation> {
        self.inner().reserve(len)
    }

    fn cache_identity(&self) -> Option<[u8; 32]> {
        self.inner().cache_identity()
    }

    fn folder_identity(&self) -> io::Result<(u64, u64)> {
        self.inner().folder_identity()
    }

    fn name(&self) -> String {
        self.inner().name()
    }
}

/// A process's handle on a file, until the process is killed.
#[derive(Debug)]
struct Handle {
    process: Arc<Process>,
    id: u64,
    path: String,
    file: Mutex<Option<Arc<dyn File>>>,
}

impl Handle {
    fn file(&self) -> io::Result<Arc<dyn File>> {
        self.process.alive()?;
        self.file.lock().unwrap().clone().ok_or_else(dead)
    }

    fn note(&self, state: &mut State, from: u64, to: u64) {
        note_range(state, self.id, from, to);
        self.note_allocated(state, from, to);
    }

    fn note_allocated(&self, state: &mut State, from: u64, to: u64) {
        if let Some((_, past)) = state.files.get_mut(&self.id) {
            past.note_allocated(from, to);
        }
    }
}

/// Looks at what lies in a range of a file now.
fn note_range(state: &mut State, id: u64, from: u64, to: u64) {
    let Some((file, past)) = state.files.get_mut(&id) else { return };
    let len = file.len().unwrap();
    past.note_len(len);
    let (from, to) = (from / 512 * 512, to.next_multiple_of(512).min(len));
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    file.read_at(&mut bytes, from).unwrap();
    past.note_bytes(from, &bytes);
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        self.file()?.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file()?.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset + bytes.len() as u64;
        self.process.run(
            Kind::Write,
            &self.path,
            || file.write_at(bytes, offset),
            |state, ()| self.note(state, offset, end),
        )
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let file = self.file()?;
        self.process.run(
            Kind::Allocate,
            &self.path,
            || file.allocate(offset, len),
            |state, ()| {
                note_range(state, self.id, 0, 0);
                self.note_allocated(state, offset, offset + len);
            },
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.file()?;
        self.process.run(
            Kind::Write,
            &self.path,
            || file.set_len(len),
            |state, ()| {
                note_range(state, self.id, 0, 0);
            },
        )
    }

    fn sync(&self) -> io::Result<()> {
        let file = self.file()?;
        let disk = &self.process.disk;
        if self.path.starts_with("journal/") {
            disk.journal_syncs.fetch_add(1, Ordering::SeqCst);
            match disk.sync_micros.load(Ordering::SeqCst) {
                0 => {}
                micros => std::thread::sleep(Duration::from_micros(micros)),
            }
        }
        let done = self.process.run(
            Kind::Sync,
            &self.path,
            || file.sync(),
            |state, ()| {
                if let Some((_, past)) = state.files.get_mut(&self.id) {
                    past.synced();
                }
            },
        );
        if done.is_err() && !self.process.is_dead() {
            self.process.lose_unsynced(self.id);
        }
        done
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn map_words(&self, offset: u64, len: u64) -> io::Result<Words> {
        let words = self.file()?.map_words(offset, len)?;
        let hook = Hook {
            process: Arc::clone(&self.process),
            path: self.path.clone(),
            words: words.clone(),
            offset,
        };
        Ok(words.with_hook(self.id, offset, Arc::new(hook)))
    }

    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()> {
        self.file()?.map_into(offset, len, reservation, at)
    }

    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.file()?.try_lock(start, len, mode)
    }

    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()> {
        self.file()?.lock(start, len, mode)
    }

    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        self.file()?.unlock(start, len)
    }

    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.file()?.is_locked(start, len, mode)
    }

    fn raw(&self) -> RawFile<'_> {
        RawFile::Memory
    }

    fn id(&self) -> u64 {
        self.id
    }
}

/// Counts stores into words, and undoes those of a dead process.
struct Hook {
    process: Arc<Process>,
    path: String,
    words: Words,
    offset: u64,
}

impl StoreHook for Hook {
    fn stored(&self, file: u64, byte_offset: u64, old: u64, new: u64) {
        if old == new {
            // The page is dirty all the same: what a failed sync lost of it is written again.
            if !self.process.is_dead() {
                note_range(&mut self.process.disk.state.lock().unwrap(), file, byte_offset, byte_offset + 8);
            }
            return;
        }
        let undo = || self.words.store(((byte_offset - self.offset) / 8) as usize, old, Ordering::SeqCst);
        let note = |state: &mut State, (): &()| {
            if state.files.get(&file).is_some_and(|(_, past)| past.is_hole(byte_offset)) {
                state.hole_stores.push((self.path.clone(), byte_offset));
            }
            note_range(state, file, byte_offset, byte_offset + 8);
        };
        if self.process.run(Kind::Store, &self.path, || Ok(()), note).is_err() {
            // A cut may leave it all the same: it was noted.
            undo();
        }
    }
}
