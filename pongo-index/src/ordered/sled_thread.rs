//! [`SledThread`]: the thread that opens and drops sled, and a check that sled can start the
//! threads that it needs.
//!
//! sled starts [`POOL`] threads when a process first uses it, and they do all its writing. If they
//! cannot be started, sled reports nothing: the thread that opens, flushes or drops it then waits
//! forever. So before sled is first used, the same number of threads is started and ended; and
//! during the first use, sled's threads are counted.
//!
//! The thread that opens sled remains until it has dropped it: closing a store must not depend on
//! starting a thread at that time.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};
use rustix::thread::gettid;

/// Number of threads that sled 0.34.7 needs at first; it starts more if it can, but does not need
/// them.
const POOL: usize = 7;

/// How long dropping sled may take to write its data; and how long its first use may go without any
/// of its threads.
pub(super) const DROP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the system may still count an ended thread.
const GONE_WITHIN: Duration = Duration::from_millis(200);

/// State of sled's threads in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pool {
    /// sled was not used yet.
    Untouched,
    /// They exist, until the process ends.
    Up,
    /// They could not be started when sled needed them, and sled does not try again.
    Lost,
}

/// Locked during the first use of sled.
static STATE: Mutex<Pool> = Mutex::new(Pool::Untouched);
/// The process that has sled's threads; 0 if none has. A child created by `fork` inherits this
/// value but not the threads.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Why sled was not opened.
#[derive(Debug)]
pub(super) enum NotOpened {
    /// sled returned an error.
    Sled(sled::Error),
    /// sled panicked with this payload.
    Panicked(Box<dyn std::any::Any + Send>),
    /// sled cannot have its threads.
    NoThreads(io::Error),
}

enum Request {
    Open(sled::Config, Sender<Result<sled::Db, NotOpened>>),
    Drop(sled::Db, Sender<()>),
}

/// A thread that opens and drops sled; see the [module](self).
#[derive(Debug)]
pub(super) struct SledThread {
    requests: Sender<Request>,
}

impl SledThread {
    pub(super) fn begin() -> io::Result<SledThread> {
        let (requests, asked) = mpsc::channel();
        Builder::new().name("pongo-sled".into()).spawn(move || serve(&asked))?;
        Ok(SledThread { requests })
    }

    /// Opens sled, if it can have its threads.
    pub(super) fn open(&self, config: sled::Config) -> Result<sled::Db, NotOpened> {
        let lost = |why: &str| NotOpened::NoThreads(io::Error::other(why));
        let me = std::process::id();
        match OWNER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
            Err(owner) if owner != me => {
                // Does not try the lock either: a thread of the parent may have held it.
                return Err(lost("sled's threads are those of the process that made this one by `fork`"));
            }
            _ => {}
        }
        let mut pool = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        match *pool {
            Pool::Up => {
                drop(pool);
                let opened = self.ask(config)?;
                return opened.recv().unwrap_or_else(|_| Err(lost("the thread that opens sled has ended")));
            }
            Pool::Lost => return Err(lost("sled's threads could not be made when they were needed")),
            Pool::Untouched => {}
        }
        if let Err(error) = try_threads(POOL) {
            OWNER.store(0, Ordering::Release);
            return Err(NotOpened::NoThreads(error));
        }
        let opened = self.ask(config)?;
        let began = Instant::now();
        let result = loop {
            match opened.recv_timeout(DROP_TIMEOUT / 10) {
                Ok(result) => break result,
                Err(RecvTimeoutError::Disconnected) => {
                    break Err(lost("the thread that opens sled has ended"));
                }
                Err(RecvTimeoutError::Timeout) if began.elapsed() < DROP_TIMEOUT || workers() != Some(0) => {}
                Err(RecvTimeoutError::Timeout) => {
                    *pool = Pool::Lost;
                    return Err(lost("sled's threads did not come"));
                }
            }
        };
        // An error may have occurred before sled needed its threads.
        if result.is_ok() || workers().is_some_and(|workers| workers > 0) {
            *pool = Pool::Up;
            // A thread that was here before and failed may have taken it back since this one looked.
            OWNER.store(me, Ordering::Release);
        } else {
            OWNER.store(0, Ordering::Release);
        }
        result
    }

    fn ask(&self, config: sled::Config) -> Result<Receiver<Result<sled::Db, NotOpened>>, NotOpened> {
        let (done, opened) = mpsc::channel();
        let asked = self.requests.send(Request::Open(config, done));
        asked.map_err(|_| NotOpened::NoThreads(io::Error::other("the thread that opens sled has ended")))?;
        Ok(opened)
    }

    /// Drops sled. Returns `false` if it is not finished in time, or is leaked because its thread
    /// has ended.
    pub(super) fn drop_db(&self, db: sled::Db) -> bool {
        let (done, dropped) = mpsc::channel();
        match self.requests.send(Request::Drop(db, done)) {
            Ok(()) => dropped.recv_timeout(DROP_TIMEOUT).is_ok(),
            // The thread has ended by a panic, which cannot happen in its own code. sled is leaked
            // rather than dropped here without a timeout.
            Err(mpsc::SendError(request)) => {
                std::mem::forget(request);
                false
            }
        }
    }
}

fn serve(asked: &Receiver<Request>) {
    while let Ok(request) = asked.recv() {
        match request {
            Request::Open(config, done) => {
                let open = || {
                    let db = config.open()?;
                    // A new database has data to write, which needs sled's threads: done now, while
                    // the caller monitors them.
                    db.flush()?;
                    Ok(db)
                };
                let opened = match catch_unwind(AssertUnwindSafe(open)) {
                    Ok(opened) => opened.map_err(NotOpened::Sled),
                    Err(panic) => Err(NotOpened::Panicked(panic)),
                };
                if let Err(mpsc::SendError(Ok(db))) = done.send(opened) {
                    let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
                }
            }
            Request::Drop(db, done) => {
                // A panic here can be ignored: all data that matters was synced before.
                let _ = catch_unwind(AssertUnwindSafe(move || drop(db)));
                let _ = done.send(());
            }
        }
    }
}

/// Starts `count` threads that exist at the same time, and ends them.
fn try_threads(count: usize) -> io::Result<()> {
    let (said, ids) = mpsc::channel();
    let begun = (0..count).map(|_| {
        let said = said.clone();
        let (end, ended) = mpsc::channel::<()>();
        let wait = move || {
            let _ = said.send(gettid());
            let _ = ended.recv();
        };
        Ok((Builder::new().spawn(wait)?, end))
    });
    let begun: io::Result<Vec<(JoinHandle<()>, Sender<()>)>> = collect_begun(begun);
    drop(said);
    let failed = match begun {
        Ok(threads) => {
            end(threads);
            None
        }
        Err(error) => Some(error),
    };
    // The system counts a thread a little longer than `join` waits for it.
    let ids: Vec<Pid> = ids.iter().collect();
    let began = Instant::now();
    while ids.iter().any(|&id| test_kill_process(id).is_ok()) && began.elapsed() < GONE_WITHIN {
        std::thread::sleep(Duration::from_micros(100));
    }
    failed.map_or(Ok(()), Err)
}

type Begun = (JoinHandle<()>, Sender<()>);

/// Returns all threads, or the first error after ending those that were started.
fn collect_begun(begun: impl Iterator<Item = io::Result<Begun>>) -> io::Result<Vec<Begun>> {
    let mut threads = Vec::new();
    for thread in begun {
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                end(threads);
                return Err(error);
            }
        }
    }
    Ok(threads)
}

fn end(threads: Vec<Begun>) {
    let (threads, ends): (Vec<_>, Vec<_>) = threads.into_iter().unzip();
    drop(ends);
    for thread in threads {
        let _ = thread.join();
    }
}

/// Returns the number of sled's threads in this process, or `None` if it cannot be
/// determined.
fn workers() -> Option<usize> {
    let tasks = fs::read_dir("/proc/self/task").ok()?;
    let names = tasks.map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Some(names.filter(|name| name.as_ref().is_some_and(|name| name.starts_with("sled-io-"))).count())
}
