//! The catalog in one local file, for a cluster that is one process.
//!
//! State: every row in memory (`state.rs`), and in a redb file that a thread of its own writes
//! (`server.rs`). Concurrent transactions share a commit, so the rate of transactions is not bounded by
//! the disk's flush time.
//!
//! Invariants
//! - A committed transaction survives a crash of the process and a power loss.
//! - Revisions and lease ids never go back, also across restarts.
//! - After opening, every lease counts as just renewed; watches from before fail with
//!   [`KvError::Compacted`], unless nothing has changed since.
//! - One process per file, by a lock of the kernel.
//!
//! Failures: opening reports [`KvError::Damaged`] for a file that does not verify and
//! [`KvError::Unavailable`] for one that cannot be read or is in use. A failed write makes calls
//! `Unavailable` until the file can be opened again; `server.rs` tries once per second.
//!
//! Read next: `server.rs`, `file.rs`, docs/formats/catalog.md.

mod file;
mod lock;
mod server;

#[cfg(test)]
mod tests;

use crate::limits::check_txn;
use crate::reply;
use catalog::kv::{
    Change, Compare, Entry, Kv, KvError, KvFuture, KvMembers, LeaseId, Op, Outcome, Page, Revision,
    Watch,
};
use file::CatalogFile;
use server::{Batch, Opener, Request, Server, Waiting};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use world::{Duration, LocalBoxFuture};

/// Calls that may wait for the thread at once; more fail at once. At 1,000 calls per commit of about a
/// millisecond these are some ten milliseconds of work.
const QUEUE_CALLS_MAX: usize = 10_000;

/// An open embedded catalog. Clones share it, also across threads; the file is closed and unlocked when
/// the last clone, watch and unpolled future is dropped, which waits for the commit under way.
#[derive(Clone)]
pub struct EmbeddedKv(Arc<Inner>);

struct Inner {
    /// Absent only while dropping.
    requests: Option<mpsc::Sender<Request>>,
    queued: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn thread_ended() -> KvError {
    KvError::Damaged(
        "the catalog's thread has ended, which is a bug: restart the process and report it".into(),
    )
}

impl Inner {
    fn send(&self, request: Request) -> Result<(), KvError> {
        let requests = self.requests.as_ref().expect("present until dropped");
        requests.send(request).map_err(|_| thread_ended())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its own message.
            let _ended = thread.join();
        }
    }
}

impl EmbeddedKv {
    /// Opens the catalog at `path`, creating it in an existing directory. Blocks: reads and verifies the
    /// whole file, about a second per gigabyte.
    ///
    /// # Errors
    /// [`KvError::Damaged`], naming the path and what to do; [`KvError::Unavailable`] when the file cannot
    /// be opened or another process uses it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, KvError> {
        let path = path.as_ref().to_owned();
        Self::open_with(Box::new(move || CatalogFile::open(&path)))
    }

    fn open_with(opener: Opener) -> Result<Self, KvError> {
        let server = Server::open(opener)?;
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn(move || server.run(&receiver))
            .map_err(|error| KvError::Unavailable(format!("cannot start a thread: {error}")))?;
        Ok(Self(Arc::new(Inner {
            requests: Some(sender),
            queued: Arc::default(),
            thread: Some(thread),
        })))
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, KvError> + Send + 'static,
    ) -> KvFuture<T> {
        let inner = self.0.clone();
        Box::pin(async move {
            let queued = inner.queued.clone();
            if queued.fetch_add(1, Ordering::Relaxed) >= QUEUE_CALLS_MAX {
                queued.fetch_sub(1, Ordering::Relaxed);
                let busy =
                    format!("{QUEUE_CALLS_MAX} calls wait for the disk; nothing was changed");
                return Err(KvError::Unavailable(busy));
            }
            let (sender, receiver) = reply::channel();
            let call: server::Call = Box::new(move |batch| {
                queued.fetch_sub(1, Ordering::Relaxed);
                let result = work(batch);
                Box::new(move |committed| sender.send(committed.and(result)))
            });
            inner.send(Request::Call(call))?;
            drop(inner);
            receiver.await.unwrap_or_else(|| Err(thread_ended()))
        })
    }
}

impl Kv for EmbeddedKv {
    fn get(&self, key: &str) -> KvFuture<Option<Entry>> {
        let key = key.to_owned();
        self.call(move |batch| Ok(batch.state.get(&key)))
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> KvFuture<Page> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.call(move |batch| Ok(batch.state.range(&prefix, after.as_deref(), limit)))
    }

    fn snapshot(&self, prefix: &str) -> KvFuture<Page> {
        self.range(prefix, None, usize::MAX)
    }

    fn txn(&self, compares: Vec<Compare>, changes: Vec<Op>) -> KvFuture<Outcome> {
        if let Err(error) = check_txn(&compares, &changes) {
            return Box::pin(std::future::ready(Err(error)));
        }
        self.call(move |batch| batch.state.txn(&compares, changes))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Box<dyn Watch> {
        Box::new(EmbeddedWatch {
            inner: self.0.clone(),
            prefix: prefix.to_owned(),
            cursor: Arc::new(AtomicU64::new(after)),
        })
    }

    fn grant(&self, ttl: Duration) -> KvFuture<LeaseId> {
        self.call(move |batch| {
            let lease = batch.state.grant(ttl, batch.now);
            batch.leases.insert(lease);
            Ok(lease)
        })
    }

    fn renew(&self, lease: LeaseId) -> KvFuture<()> {
        self.call(move |batch| batch.state.renew(lease, batch.now))
    }

    fn revoke(&self, lease: LeaseId) -> KvFuture<()> {
        self.call(move |batch| {
            batch.state.revoke(lease);
            batch.leases.insert(lease);
            Ok(())
        })
    }

    fn members(&self) -> KvFuture<KvMembers> {
        self.call(|_| Ok(KvMembers::embedded("file")))
    }
}

struct EmbeddedWatch {
    inner: Arc<Inner>,
    prefix: String,
    cursor: Arc<AtomicU64>,
}

impl Watch for EmbeddedWatch {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<Change>, KvError>> {
        Box::pin(async move {
            let (sender, receiver) = reply::channel();
            self.inner.send(Request::Watch(Waiting {
                prefix: self.prefix.clone(),
                cursor: self.cursor.clone(),
                reply: sender,
            }))?;
            let scan = receiver.await.unwrap_or_else(|| Err(thread_ended()))?;
            self.cursor.store(scan.through, Ordering::Relaxed);
            Ok(scan.changes)
        })
    }
}
