//! A process whose storage calls can fail, including those that only read, open, list, map or lock,
//! which a [`Disk`](crate::Disk) does not count.
//!
//! Calls have separate numbers. Only calls of the thread that set the plan are numbered, so that
//! the same work has the same numbers regardless of other threads. Every call can fail except
//! unlocking.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use pongo_core::forward_storage;
use pongo_core::storage::{
    AtomicWords, ByHandle, File, FileError, LockMode, RawFile, Reservation, Storage, Syncer,
};

use crate::Process;

/// A function of [`Storage`] or [`File`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "each is the function of that name")]
pub enum Call {
    Create,
    Open,
    Rename,
    Remove,
    CreateDir,
    List,
    SyncDir,
    Reserve,
    FolderIdentity,
    Len,
    ReadAt,
    WriteAt,
    Allocate,
    SetLen,
    NextData,
    Sync,
    MapWords,
    MapInto,
    TryLock,
    Lock,
    Unlock,
    IsLocked,
}

impl Call {
    /// Returns the verb that a real storage uses in its error messages.
    fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::CreateDir => "make folder",
            Self::List => "list",
            Self::SyncDir => "sync folder",
            Self::Reserve => "reserve addresses for",
            Self::FolderIdentity => "look at",
            Self::Len => "measure",
            Self::ReadAt => "read",
            Self::WriteAt => "write",
            Self::Allocate => "allocate space in",
            Self::SetLen => "set the length of",
            Self::NextData => "look for data in",
            Self::Sync => "sync",
            Self::MapWords => "map words of",
            Self::MapInto => "map",
            Self::TryLock | Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::IsLocked => "look for locks on",
        }
    }
}

/// Calls that fail after the first failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// Nothing.
    Never,
    /// Every call of the same function.
    Call,
    /// Every call on the same file or folder.
    File,
    /// Every call.
    All,
}

/// A planned failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Number of the call.
    pub at: u64,
    /// Error number of the operating system.
    pub errno: i32,
    /// Whether a call that changes a range of bytes changes half of it before it fails.
    pub partly: bool,
    /// Calls that fail after this one.
    pub repeat: Repeat,
}

#[derive(Debug)]
struct State {
    plan: Option<Fault>,
    /// While set, calls are neither counted nor fail.
    paused: bool,
    thread: ThreadId,
    calls: u64,
    trace: Option<Vec<(Call, String)>>,
    /// The failed calls, in order.
    failed: Vec<(Call, String)>,
}

/// Planned failures of storage calls; see the module documentation.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<State>>);

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

impl Faults {
    /// Creates a plan without failures.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            plan: None,
            paused: false,
            thread: std::thread::current().id(),
            calls: 0,
            trace: None,
            failed: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Returns a storage for the process in which calls can fail.
    pub fn storage(&self, process: &Arc<Process>) -> Arc<dyn Storage> {
        Arc::new(Failing { faults: self.clone(), process: Arc::clone(process), inner: process.storage() })
    }

    /// Plans a failure and numbers the calls of this thread from 0.
    pub fn plan(&self, fault: Fault) {
        let mut state = self.state();
        (state.plan, state.thread, state.calls) = (Some(fault), std::thread::current().id(), 0);
    }

    /// Removes the planned failure.
    pub fn clear(&self) {
        self.state().plan = None;
    }

    /// Pauses or resumes the plan. While it is paused, calls are neither counted nor fail.
    pub fn pause(&self, paused: bool) {
        self.state().paused = paused;
    }

    /// Starts to record the calls of this thread.
    pub fn begin_trace(&self) {
        let mut state = self.state();
        (state.trace, state.thread, state.calls) = (Some(Vec::new()), std::thread::current().id(), 0);
    }

    /// Stops recording and returns the recorded calls.
    pub fn end_trace(&self) -> Vec<(Call, String)> {
        self.state().trace.take().unwrap_or_default()
    }

    /// Returns the number of failed calls so far.
    pub fn failures(&self) -> usize {
        self.state().failed.len()
    }

    /// Returns the failed calls with their files, without the first `from`.
    pub fn failed(&self, from: usize) -> Vec<(Call, String)> {
        self.state().failed[from..].to_vec()
    }

    /// Counts a call. Returns an error if the call must fail, and whether it first does part of its
    /// work.
    fn count(&self, call: Call, path: &str) -> Option<(io::Error, bool)> {
        let state = &mut *self.state();
        if state.paused {
            return None;
        }
        let number = (state.thread == std::thread::current().id()).then(|| {
            state.calls += 1;
            state.calls - 1
        });
        if let Some(trace) = state.trace.as_mut().filter(|_| number.is_some()) {
            trace.push((call, path.to_owned()));
        }
        let plan = state.plan?;
        let again = state.failed.first().is_some_and(|(first, of)| match plan.repeat {
            Repeat::Never => false,
            Repeat::Call => *first == call,
            Repeat::File => of == path,
            Repeat::All => true,
        });
        // An unlock never fails: a lock that was successfully acquired can always be released, and
        // one that stayed locked would block other processes forever.
        if call == Call::Unlock || (number != Some(plan.at) && !again) {
            return None;
        }
        state.failed.push((call, path.to_owned()));
        let source = io::Error::from_raw_os_error(plan.errno);
        // Like the errors of a real storage, the error names the operation and the file.
        let error = FileError::wrap(call.verb(), path, source);
        Some((error, plan.partly))
    }
}

#[derive(Debug)]
struct Failing {
    faults: Faults,
    process: Arc<Process>,
    inner: Arc<dyn Storage>,
}

impl Failing {
    fn check(&self, call: Call, path: &str) -> io::Result<()> {
        self.faults.count(call, path).map_or(Ok(()), |(error, _)| Err(error))
    }

    fn handle(&self, path: &str, inner: Arc<dyn File>) -> Arc<dyn File> {
        let (faults, process) = (self.faults.clone(), Arc::clone(&self.process));
        Arc::new(FailingFile { faults, process, inner, path: path.to_owned() })
    }
}

impl Storage for Failing {
    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.check(Call::Create, path)?;
        Ok(self.handle(path, self.inner.create(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.check(Call::Open, path)?;
        Ok(self.handle(path, self.inner.open(path)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check(Call::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.check(Call::Remove, path)?;
        self.inner.remove(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.check(Call::CreateDir, path)?;
        self.inner.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.check(Call::List, path)?;
        self.inner.list(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.check(Call::SyncDir, path).inspect_err(|_| self.process.lose_names(path))?;
        self.inner.sync_dir(path)
    }

    fn reserve(&self, len: usize) -> io::Result<Reservation> {
        self.check(Call::Reserve, "")?;
        self.inner.reserve(len)
    }

    fn folder_identity(&self) -> io::Result<(u64, u64)> {
        self.check(Call::FolderIdentity, "")?;
        self.inner.folder_identity()
    }

    forward_storage!(self => self.inner; cache_identity, host, name);
    forward_storage!(self => self.inner; hole_reads_allocate, stores_may_allocate);
}

#[derive(Debug)]
struct FailingFile {
    faults: Faults,
    process: Arc<Process>,
    inner: Arc<dyn File>,
    path: String,
}

impl FailingFile {
    fn check(&self, call: Call) -> io::Result<()> {
        self.faults.count(call, &self.path).map_or(Ok(()), |(error, _)| Err(error))
    }
}

impl File for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.check(Call::Len)?;
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(Call::ReadAt)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some((error, partly)) = self.faults.count(Call::WriteAt, &self.path) {
            if partly {
                self.inner.write_at(&bytes[..bytes.len() / 2], offset)?;
            }
            return Err(error);
        }
        self.inner.write_at(bytes, offset)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if let Some((error, partly)) = self.faults.count(Call::Allocate, &self.path) {
            if partly && len > 1 {
                self.inner.allocate(offset, len / 2)?;
            }
            return Err(error);
        }
        self.inner.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(Call::SetLen)?;
        self.inner.set_len(len)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.check(Call::NextData)?;
        self.inner.next_data(from)
    }

    fn sync(&self) -> io::Result<()> {
        self.check(Call::Sync).inspect_err(|_| self.process.drop_unsynced(self.inner.id()))?;
        self.inner.sync()
    }

    fn syncer(self: Arc<Self>, _len: u64) -> io::Result<Arc<dyn Syncer>> {
        Ok(Arc::new(ByHandle(self)))
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.inner.start_writeback(offset, len);
    }

    fn map_words(&self, offset: u64, len: u64) -> io::Result<AtomicWords> {
        self.check(Call::MapWords)?;
        let words = self.inner.map_words(offset, len)?;
        let (faults, process, inner) =
            (self.faults.clone(), Arc::clone(&self.process), Arc::clone(&self.inner));
        let file = FailingFile { faults, process, inner, path: self.path.clone() };
        Ok(words.with_syncer(Arc::new(ByHandle(Arc::new(file)))))
    }

    fn map_into(&self, offset: u64, len: u64, reservation: &Reservation, at: usize) -> io::Result<()> {
        self.check(Call::MapInto)?;
        self.inner.map_into(offset, len, reservation, at)
    }

    fn try_lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.check(Call::TryLock)?;
        self.inner.try_lock(start, len, mode)
    }

    fn lock(&self, start: u64, len: u64, mode: LockMode) -> io::Result<()> {
        self.check(Call::Lock)?;
        self.inner.lock(start, len, mode)
    }

    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        self.check(Call::Unlock)?;
        self.inner.unlock(start, len)
    }

    fn is_locked(&self, start: u64, len: u64, mode: LockMode) -> io::Result<bool> {
        self.check(Call::IsLocked)?;
        self.inner.is_locked(start, len, mode)
    }

    fn raw(&self) -> RawFile<'_> {
        self.inner.raw()
    }

    fn id(&self) -> u64 {
        self.inner.id()
    }
}
