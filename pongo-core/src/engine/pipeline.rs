//! The pipeline of commits: they are written and applied, wait to be durable, and are then
//! published in the order of their `Seq`.
//!
//! The first thread that waits syncs for all that wait ("group commit"). Publishing is done under
//! the pipeline's lock, so that it happens in order whichever thread does it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::control::Control;
use crate::guard::removable;
use crate::ids::{JournalPos, Seq};
use crate::state::StoreState;
use crate::storage::File;

/// A commit that is applied and not published.
#[derive(Debug)]
struct Pending {
    state: Arc<StoreState>,
    /// Whether it may be published before it is durable.
    relaxed: bool,
    /// The segment with its entry.
    file: Arc<dyn File>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: VecDeque<Pending>,
    published: Seq,
    durable: JournalPos,
    syncing: bool,
    /// Number of commits that the last sync made durable.
    last_batch: usize,
    /// Number of commits that the next leader waits for; 0 if none waits.
    gathering: usize,
    failed: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pipeline {
    control: Arc<Control>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Notified when as many commits are pending as the leader waits for.
    gathered: Condvar,
}

/// Time that a leader waits for the number of commits that shared the last sync: less than a sync
/// takes.
const GATHER: Duration = Duration::from_micros(50);

impl Pipeline {
    pub(crate) fn new(control: &Arc<Control>) -> Self {
        Self {
            control: Arc::clone(control),
            queue: Mutex::default(),
            changed: Condvar::new(),
            gathered: Condvar::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Restarts after what another writer published. Nothing may be pending.
    pub(crate) fn reset(&self, published: Seq, durable: JournalPos) {
        let mut queue = self.queue();
        debug_assert!(queue.pending.is_empty());
        queue.published = published;
        queue.durable = durable;
    }

    /// Returns the journal position known to be on disk.
    pub(crate) fn durable(&self) -> JournalPos {
        self.queue().durable
    }

    /// Records that the whole journal up to `pos` is on disk, because a segment was rolled, and
    /// publishes what may be published.
    pub(crate) fn note_durable(&self, pos: JournalPos) {
        let mut queue = self.queue();
        self.advance(&mut queue, pos);
        self.changed.notify_all();
    }

    /// Adds an applied commit. The caller holds the writer, so commits are added in order.
    pub(crate) fn push(&self, state: Arc<StoreState>, relaxed: bool, file: Arc<dyn File>) {
        let mut queue = self.queue();
        let before = queue.pending.back().map_or(queue.published, |pending| pending.state.seq);
        debug_assert_eq!(state.seq, before.next(), "commits come in the order of their `Seq`");
        queue.pending.push_back(Pending { state, relaxed, file });
        if queue.gathering > 0 && queue.pending.len() >= queue.gathering {
            self.gathered.notify_one();
        }
        if relaxed {
            let durable = queue.durable;
            self.advance(&mut queue, durable);
        }
    }

    /// Publishes what may be published now.
    fn advance(&self, queue: &mut Queue, durable: JournalPos) {
        if durable > queue.durable {
            queue.durable = durable;
            self.control.note_durable(durable);
        }
        let mut newest = None;
        while let Some(first) = queue.pending.front() {
            if !first.relaxed && first.state.journal_end > queue.durable {
                break;
            }
            newest = queue.pending.pop_front();
        }
        if let Some(newest) = newest {
            debug_assert!(newest.state.seq > queue.published);
            queue.published = newest.state.seq;
            self.control.publish(&newest.state);
        }
    }

    /// Waits briefly for as many commits as shared the last sync. Threads that the last sync woke
    /// are about to add their next commits: if that sync was shared, the next leader waits for the
    /// same number of commits, instead of syncing only its own while all others wait for that sync.
    fn gather<'q>(&self, mut queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        if queue.pending.len() >= queue.last_batch {
            return queue;
        }
        queue.gathering = queue.last_batch;
        let few = |queue: &mut Queue| queue.pending.len() < queue.gathering && queue.failed.is_none();
        let (mut queue, _) =
            self.gathered.wait_timeout_while(queue, GATHER, few).unwrap_or_else(PoisonError::into_inner);
        queue.gathering = 0;
        queue
    }

    /// Waits until `seq` is published, and syncs for all waiting commits if no other thread does.
    /// Returns an error if a sync failed, now or before.
    pub(crate) fn wait(&self, seq: Seq) -> Result<(), String> {
        let mut queue = self.queue();
        loop {
            if queue.published >= seq {
                return Ok(());
            }
            if let Some(reason) = &queue.failed {
                return Err(reason.clone());
            }
            if queue.pending.is_empty() {
                return Err(format!("commit {seq} is not among those that wait to be published"));
            }
            if queue.syncing {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.syncing = true;
            queue = self.gather(queue);
            let last = queue.pending.back().filter(|_| queue.failed.is_none());
            let Some(last) = last else {
                // While the leader gathered, a segment was rolled, which syncs it, or something
                // failed.
                queue.syncing = false;
                self.changed.notify_all();
                continue;
            };
            // All pending entries are in the segment of the last one: a segment is synced before
            // the next one is started.
            let (file, end) = (Arc::clone(&last.file), last.state.journal_end);
            queue.last_batch = queue.pending.len();
            drop(queue);
            let result = removable!("commit.journal.sync", file.sync());
            queue = self.queue();
            queue.syncing = false;
            match result {
                Ok(()) => self.advance(&mut queue, end),
                Err(error) => {
                    self.control.poison();
                    queue.failed = Some(format!("syncing the journal failed: {error}"));
                }
            }
            self.changed.notify_all();
        }
    }

    /// Poisons the store: everything pending stays unpublished permanently.
    pub(crate) fn fail(&self, reason: &str) {
        self.control.poison();
        let mut queue = self.queue();
        queue.failed.get_or_insert_with(|| reason.to_owned());
        self.changed.notify_all();
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.queue().failed.clone()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue().pending.is_empty()
    }

    /// Returns the newest pending commit.
    pub(crate) fn last_pending(&self) -> Option<Seq> {
        self.queue().pending.back().map(|pending| pending.state.seq)
    }
}
