//! The thread that owns the catalog file: batches of calls, one commit each.
//!
//! Life of a batch: collect what waits; end leases whose time is up; apply every call to the state machine
//! in order; commit what changed, at once; reply; feed the watches. No reply leaves before the commit it
//! rests on is durable, reads included.
//!
//! When a commit fails nobody knows what the file holds. The batch is answered `Unavailable`, the file is
//! closed, and the thread tries once per second to open and read it again.

use super::file::CatalogFile;
use crate::reply;
use crate::state::{Scan, State, changed_key};
use catalog::kv::{KvError, LeaseId, Revision};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use world::Time;

/// Calls per commit: at 128 rows of 1 KiB each a batch stays below 128 MiB, and a commit of 1,000 small
/// transactions still takes milliseconds.
const BATCH_CALLS_MAX: usize = 1_000;
const REOPEN_WAIT: Duration = Duration::from_secs(1);

/// Opens the file; called again after a failed commit.
pub(super) type Opener = Box<dyn FnMut() -> Result<CatalogFile, KvError> + Send>;
/// Tells the caller the result, which counts only if the commit succeeded.
type Deliver = Box<dyn FnOnce(Result<(), KvError>)>;
/// One call, to be applied on the database thread.
pub(super) type Call = Box<dyn FnOnce(&mut Batch<'_>) -> Deliver + Send>;

/// What the thread is asked.
pub(super) enum Request {
    Call(Call),
    Watch(Waiting),
}

/// A watch that waits for changes after `cursor`. The thread moves the cursor over changes elsewhere.
pub(super) struct Waiting {
    pub(super) prefix: String,
    pub(super) cursor: Arc<AtomicU64>,
    pub(super) reply: reply::Sender<Result<Scan, KvError>>,
}

/// The state machine during a batch.
pub(super) struct Batch<'a> {
    pub(super) state: &'a mut State,
    pub(super) now: Time,
    /// Leases granted or ended, to be stored.
    pub(super) leases: &'a mut BTreeSet<LeaseId>,
}

/// See the head of this file.
pub(super) struct Server {
    opener: Opener,
    file: Result<CatalogFile, KvError>,
    reopen_at: Instant,
    state: State,
    origin: Instant,
    waiting: Vec<Waiting>,
}

impl Server {
    /// Opens and reads the file.
    pub(super) fn open(mut opener: Opener) -> Result<Self, KvError> {
        let origin = Instant::now();
        let file = opener()?;
        let state = file.load(Time(0))?;
        Ok(Self {
            opener,
            file: Ok(file),
            reopen_at: origin,
            state,
            origin,
            waiting: Vec::new(),
        })
    }

    /// Serves until every sender is gone.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let mut batch = Vec::new();
            match self.wait(requests) {
                Ok(request) => batch.push(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let more = requests.try_iter().take(BATCH_CALLS_MAX - 1);
            batch.extend(more);
            self.serve(batch);
        }
    }

    fn now(&self) -> Time {
        Time(0) + self.origin.elapsed()
    }

    /// The next request, or `Timeout` when a lease may have ended or the file may be opened again.
    fn wait(&self, requests: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
        if self.file.is_err() {
            return requests.recv_timeout(REOPEN_WAIT);
        }
        match self.state.deadline_next() {
            Some(deadline) => requests.recv_timeout(deadline.since(self.now())),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn serve(&mut self, batch: Vec<Request>) {
        self.reopen_if_closed();
        let before = self.state.revision();
        let now = self.now();
        let mut leases = BTreeSet::new();
        if self.file.is_ok() {
            leases.extend(self.state.expire(now));
        }
        let mut deliveries = Vec::new();
        for request in batch {
            match request {
                Request::Watch(waiting) => self.waiting.push(waiting),
                Request::Call(call) => deliveries.push(call(&mut Batch {
                    state: &mut self.state,
                    now,
                    leases: &mut leases,
                })),
            }
        }
        let committed = self.commit(before, &leases);
        for deliver in deliveries {
            deliver(committed.clone());
        }
        if committed.is_ok() {
            self.state.trim();
            self.feed_watches();
        }
    }

    fn commit(&mut self, before: Revision, leases: &BTreeSet<LeaseId>) -> Result<(), KvError> {
        let file = self.file.as_ref().map_err(KvError::clone)?;
        if self.state.revision() == before && leases.is_empty() {
            return Ok(());
        }
        let keys = self.state.changes_after(before).map(changed_key).collect();
        let committed = file.commit(&self.state, keys, leases);
        if let Err(error) = &committed {
            self.file = Err(error.clone());
            self.reopen_at = Instant::now() + REOPEN_WAIT;
        }
        committed
    }

    /// After a failed commit the state machine is ahead of the file: read the file again.
    fn reopen_if_closed(&mut self) {
        if self.file.is_ok() || Instant::now() < self.reopen_at {
            return;
        }
        let now = self.now();
        let opened = (self.opener)().and_then(|file| Ok((file.load(now)?, file)));
        match opened {
            Ok((state, file)) => {
                self.state = state;
                self.file = Ok(file);
            }
            Err(error) => {
                self.file = Err(error);
                self.reopen_at = Instant::now() + REOPEN_WAIT;
            }
        }
    }

    /// Answers the watches that have something to see and moves the others on.
    fn feed_watches(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.reply.is_abandoned() {
                continue;
            }
            let cursor = waiting.cursor.load(Ordering::Relaxed);
            match self.state.scan(&waiting.prefix, cursor) {
                Ok(scan) if scan.changes.is_empty() => {
                    waiting.cursor.store(scan.through, Ordering::Relaxed);
                    self.waiting.push(waiting);
                }
                scan => waiting.reply.send(scan),
            }
        }
    }
}
