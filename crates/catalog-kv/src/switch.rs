//! A store that is exchanged for another one while it is used: a catalog that moves under a running node.
//!
//! State in memory: the store in use; which leases were granted, with their keys; after an exchange the revisions that
//! rows had before and have now.
//!
//! Invariants
//! - While stores are exchanged, calls wait; those under way are waited for. No call reaches the old store afterwards.
//! - Revisions never go back for the callers: those of the new store count on from the last one of the old.
//! - A condition on a row's version of before holds exactly if the row has not changed since that version, whichever store
//!   it was in.
//! - A lease that lived goes on, with its keys. Watches end with [`KvError::Compacted`].
//! - An exchange that fails changes nothing.
//!
//! What other processes and disks know of revisions is what the store itself says: [`Kv::recorded`].

use catalog::kv::{
    Change, Compare, Entry, Kv, KvError, KvFuture, KvMembers, LeaseId, Op, Outcome, Page, Revision,
    Watch,
};
use futures_util::future::{Either, select};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use world::sync::Notify;
use world::{Duration, LocalBoxFuture};

/// A lease that no store has granted: the store says what becomes of a transaction with one that has ended.
const NO_LEASE: LeaseId = LeaseId(i64::MAX as u64);

/// A lease as the store in use knows it.
#[derive(Clone)]
struct Held {
    inner: LeaseId,
    ttl: Duration,
    keys: BTreeSet<String>,
}

/// The store in use.
struct Backend {
    kv: Rc<dyn Kv>,
    /// Added to its revisions.
    offset: Revision,
    /// Of rows that came with the exchange: their version before, and their revision in this store.
    moved: BTreeMap<String, (Revision, Revision)>,
}

impl Backend {
    fn outer(&self, revision: Revision) -> Revision {
        revision + self.offset
    }

    fn entry(&self, entry: Entry) -> Entry {
        Entry {
            version: self.outer(entry.version),
            ..entry
        }
    }

    fn page(&self, page: Page) -> Page {
        Page {
            entries: page
                .entries
                .into_iter()
                .map(|entry| self.entry(entry))
                .collect(),
            more: page.more,
            revision: self.outer(page.revision),
        }
    }

    fn change(&self, change: Change) -> Change {
        match change {
            Change::Put(entry) => Change::Put(self.entry(entry)),
            Change::Deleted { key, revision } => Change::Deleted {
                key,
                revision: self.outer(revision),
            },
        }
    }

    /// A condition as the store understands it; nothing: it cannot hold.
    fn compare(&self, compare: Compare) -> Option<Compare> {
        let Compare::Version(key, version) = compare else {
            return Some(compare);
        };
        if version > self.offset {
            return Some(Compare::Version(key, version - self.offset));
        }
        let (before, now) = *self.moved.get(&key)?;
        (before == version).then_some(Compare::Version(key, now))
    }
}

struct Inner {
    backend: RefCell<Rc<Backend>>,
    leases: RefCell<BTreeMap<u64, Held>>,
    next_lease: Cell<u64>,
    exchanging: Cell<bool>,
    under_way: Cell<usize>,
    /// Something of the above changed.
    changed: Notify,
}

/// See the module's documentation. Clones are the same store.
#[derive(Clone)]
pub struct SwitchKv(Rc<Inner>);

/// A call under way.
struct Call {
    inner: Rc<Inner>,
    backend: Rc<Backend>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.inner.under_way.set(self.inner.under_way.get() - 1);
        self.inner.changed.notify_all();
    }
}

/// Ends an exchange, however it ends.
struct Exchange<'a>(&'a Inner);

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.0.exchanging.set(false);
        self.0.changed.notify_all();
    }
}

impl Inner {
    /// Waits until no exchange is under way.
    async fn enter(self: Rc<Self>) -> Call {
        loop {
            let changed = self.changed.notified();
            if !self.exchanging.get() {
                break;
            }
            changed.await;
        }
        self.under_way.set(self.under_way.get() + 1);
        let backend = self.backend.borrow().clone();
        Call {
            inner: self,
            backend,
        }
    }

    fn lease(&self, lease: LeaseId) -> Option<LeaseId> {
        self.leases.borrow().get(&lease.0).map(|held| held.inner)
    }

    fn is_current(&self, backend: &Rc<Backend>) -> bool {
        Rc::ptr_eq(&self.backend.borrow(), backend)
    }
}

impl SwitchKv {
    /// Starts with this store.
    #[must_use]
    pub fn new(kv: Rc<dyn Kv>) -> Self {
        let backend = Backend {
            kv,
            offset: 0,
            moved: BTreeMap::new(),
        };
        Self(Rc::new(Inner {
            backend: RefCell::new(Rc::new(backend)),
            leases: RefCell::default(),
            next_lease: Cell::new(1),
            exchanging: Cell::new(false),
            under_way: Cell::new(0),
            changed: Notify::default(),
        }))
    }

    /// Holds calls back, has `fill` make another store of the present one, and goes on with that. Rows that `fill` wrote
    /// with the value that they had are the same rows for everybody. Leases and their keys are added.
    ///
    /// # Errors
    /// Those of `fill`: the present store is used on then. Once `fill` has succeeded the exchange is made, and what the
    /// new store cannot do at that moment is tried until it can.
    pub async fn exchange<E, F>(
        &self,
        pause: impl Fn() -> LocalBoxFuture<'static, ()>,
        fill: impl FnOnce(Rc<dyn Kv>) -> F,
    ) -> Result<(), E>
    where
        E: From<KvError>,
        F: Future<Output = Result<Rc<dyn Kv>, E>>,
    {
        let inner = &*self.0;
        loop {
            let changed = inner.changed.notified();
            if !inner.exchanging.get() {
                break;
            }
            changed.await;
        }
        inner.exchanging.set(true);
        let ends = Exchange(inner);
        loop {
            let changed = inner.changed.notified();
            if inner.under_way.get() == 0 {
                break;
            }
            changed.await;
        }
        let old = inner.backend.borrow().clone();
        let before = old.page(old.kv.snapshot("").await?);
        let alive = self.living_leases(&old).await?;
        let kv = fill(old.kv.clone()).await?;
        let after = loop {
            match kv.snapshot("").await {
                Ok(page) => break page,
                Err(_) => pause().await,
            }
        };
        for (id, held) in alive {
            while self.move_lease(&*kv, id, &held, &before).await.is_err() {
                pause().await;
            }
        }
        *inner.backend.borrow_mut() = Rc::new(Backend {
            kv,
            // Nobody has seen a later one of the old store.
            offset: before.revision,
            moved: same_rows(before, after),
        });
        drop(ends);
        Ok(())
    }

    /// The leases that have not ended. Those that have are forgotten.
    async fn living_leases(&self, old: &Backend) -> Result<BTreeMap<u64, Held>, KvError> {
        let held = self.0.leases.borrow().clone();
        let mut alive = BTreeMap::new();
        for (id, held) in held {
            match old.kv.renew(held.inner).await {
                Ok(()) => drop(alive.insert(id, held)),
                Err(KvError::LeaseEnded) => drop(self.0.leases.borrow_mut().remove(&id)),
                Err(error) => return Err(error),
            }
        }
        Ok(alive)
    }

    /// Grants a lease in the new store and writes its keys, as they were. Done again from the start when it fails.
    async fn move_lease(
        &self,
        kv: &dyn Kv,
        id: u64,
        held: &Held,
        before: &Page,
    ) -> Result<(), KvError> {
        let granted = kv.grant(held.ttl).await?;
        let entries = before.entries.iter();
        let puts = entries
            .filter(|entry| held.keys.contains(&entry.key))
            .map(|entry| Op::PutLeased(entry.key.clone(), entry.value.clone(), granted));
        let puts: Vec<Op> = puts.collect();
        if !puts.is_empty() {
            kv.txn(Vec::new(), puts).await?;
        }
        if let Some(held) = self.0.leases.borrow_mut().get_mut(&id) {
            held.inner = granted;
        }
        Ok(())
    }

    fn call<T: 'static>(
        &self,
        work: impl FnOnce(Rc<Inner>, Rc<Backend>) -> LocalBoxFuture<'static, Result<T, KvError>>
        + 'static,
    ) -> KvFuture<T> {
        let inner = self.0.clone();
        Box::pin(async move {
            let call = inner.enter().await;
            work(call.inner.clone(), call.backend.clone()).await
        })
    }
}

/// Rows that have the same value before and after: their version before, and their revision after.
fn same_rows(before: Page, after: Page) -> BTreeMap<String, (Revision, Revision)> {
    let after = after.entries.into_iter();
    let after: BTreeMap<String, Entry> = after.map(|entry| (entry.key.clone(), entry)).collect();
    let same = before.entries.into_iter().filter_map(|entry| {
        let now = after.get(&entry.key)?;
        (now.value == entry.value).then_some((entry.key, (entry.version, now.version)))
    });
    same.collect()
}

impl Kv for SwitchKv {
    fn get(&self, key: &str) -> KvFuture<Option<Entry>> {
        let key = key.to_owned();
        self.call(move |_, backend| {
            Box::pin(async move {
                let found = backend.kv.get(&key).await?;
                Ok(found.map(|entry| backend.entry(entry)))
            })
        })
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> KvFuture<Page> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.call(move |_, backend| {
            Box::pin(async move {
                let page = backend.kv.range(&prefix, after.as_deref(), limit).await?;
                Ok(backend.page(page))
            })
        })
    }

    fn snapshot(&self, prefix: &str) -> KvFuture<Page> {
        let prefix = prefix.to_owned();
        self.call(move |_, backend| {
            Box::pin(async move { Ok(backend.page(backend.kv.snapshot(&prefix).await?)) })
        })
    }

    fn txn(&self, compares: Vec<Compare>, changes: Vec<Op>) -> KvFuture<Outcome> {
        self.call(move |inner, backend| {
            Box::pin(async move {
                let compares = compares.into_iter().map(|one| backend.compare(one));
                let Some(compares) = compares.collect::<Option<Vec<_>>>() else {
                    return Ok(Outcome::Conflict);
                };
                let (mut inner_changes, mut leased) = (Vec::new(), Vec::new());
                for change in changes {
                    inner_changes.push(match change {
                        Op::PutLeased(key, value, lease) => {
                            let known = inner.lease(lease).unwrap_or(NO_LEASE);
                            leased.push((lease.0, key.clone()));
                            Op::PutLeased(key, value, known)
                        }
                        other => other,
                    });
                }
                // Noted before it is certain: a key that was not written is not there when leases move.
                for (lease, key) in leased {
                    if let Some(held) = inner.leases.borrow_mut().get_mut(&lease) {
                        held.keys.insert(key);
                    }
                }
                match backend.kv.txn(compares, inner_changes).await? {
                    Outcome::Committed(revision) => Ok(Outcome::Committed(backend.outer(revision))),
                    Outcome::Conflict => Ok(Outcome::Conflict),
                }
            })
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Box<dyn Watch> {
        Box::new(SwitchWatch {
            inner: self.0.clone(),
            prefix: prefix.to_owned(),
            after,
            open: None,
        })
    }

    fn grant(&self, ttl: Duration) -> KvFuture<LeaseId> {
        self.call(move |inner, backend| {
            Box::pin(async move {
                let granted = backend.kv.grant(ttl).await?;
                let id = inner.next_lease.get();
                inner.next_lease.set(id + 1);
                let held = Held {
                    inner: granted,
                    ttl,
                    keys: BTreeSet::new(),
                };
                inner.leases.borrow_mut().insert(id, held);
                Ok(LeaseId(id))
            })
        })
    }

    fn renew(&self, lease: LeaseId) -> KvFuture<()> {
        self.call(move |inner, backend| {
            Box::pin(async move {
                let known = inner.lease(lease).ok_or(KvError::LeaseEnded)?;
                let renewed = backend.kv.renew(known).await;
                if renewed == Err(KvError::LeaseEnded) {
                    inner.leases.borrow_mut().remove(&lease.0);
                }
                renewed
            })
        })
    }

    fn revoke(&self, lease: LeaseId) -> KvFuture<()> {
        self.call(move |inner, backend| {
            Box::pin(async move {
                let Some(known) = inner.lease(lease) else {
                    return Ok(());
                };
                backend.kv.revoke(known).await?;
                inner.leases.borrow_mut().remove(&lease.0);
                Ok(())
            })
        })
    }

    fn members(&self) -> KvFuture<KvMembers> {
        self.call(move |_, backend| Box::pin(async move { backend.kv.members().await }))
    }

    fn recorded(&self, revision: Revision) -> Revision {
        let backend = self.0.backend.borrow();
        let inner = match revision > backend.offset {
            true => revision - backend.offset,
            false => revision,
        };
        backend.kv.recorded(inner)
    }
}

/// A watch of the store in use.
struct Open {
    backend: Rc<Backend>,
    watch: Box<dyn Watch>,
}

struct SwitchWatch {
    inner: Rc<Inner>,
    prefix: String,
    after: Revision,
    open: Option<Open>,
}

impl Watch for SwitchWatch {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<Change>, KvError>> {
        Box::pin(async move {
            let inner = self.inner.clone();
            if self.open.is_none() {
                let call = inner.clone().enter().await;
                let backend = call.backend.clone();
                if backend.offset > 0 && self.after <= backend.offset {
                    return Err(KvError::Compacted(self.after));
                }
                let from = self.after - backend.offset;
                let watch = backend.kv.watch(&self.prefix, from);
                self.open = Some(Open { backend, watch });
            }
            let open = self.open.as_mut().expect("opened just now");
            let exchanged = async {
                loop {
                    let changed = inner.changed.notified();
                    if !inner.is_current(&open.backend) {
                        return;
                    }
                    changed.await;
                }
            };
            let changes = match select(open.watch.next(), Box::pin(exchanged)).await {
                Either::Left((changes, _)) => changes,
                Either::Right(((), _)) => return Err(KvError::Compacted(self.after)),
            };
            let outer = |change| open.backend.change(change);
            let changes = changes.map_err(|error| match error {
                KvError::Compacted(at) => KvError::Compacted(open.backend.outer(at)),
                other => other,
            })?;
            Ok(changes.into_iter().map(outer).collect())
        })
    }
}
