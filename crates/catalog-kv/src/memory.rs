//! A key-value store in memory, with faults: the catalog of simulations and unit tests.
//!
//! Every simulated node has a handle of its own ([`MemoryKv::handle`]) on one shared store. Time to live
//! runs on the clock the store was created with; latency passes on the clock of the handle's world.
//!
//! Invariants
//! - Without latency and outages every call, watches apart, resolves when it is first polled.
//! - Deterministic: no clock, thread or randomness but the world's, and no unordered map.
//! - A call of a crashed node may or may not have happened, as with a real store: it is dropped between the
//!   request and the reply.
//!
//! The world given to [`MemoryKv::new`] should belong to a host that the scenario never crashes: in its
//! life the store's clock ticks.

use crate::limits::check_txn;
use crate::state::State;
use catalog::kv::{
    Change, Compare, Entry, Kv, KvError, KvFuture, KvMembers, LeaseId, Op, Outcome, Page, Revision,
    Watch,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use world::{Duration, LocalBoxFuture, World, sync::Notify};

/// How calls fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// They do not.
    #[default]
    None,
    /// The request is lost: nothing happens.
    Before,
    /// The reply is lost: the call takes effect, and fails.
    After,
}

/// One node's access to a store in memory. A clone is the same access; see the head of this file.
#[derive(Clone)]
pub struct MemoryKv(Rc<Handle>);

struct Handle {
    server: Rc<Server>,
    world: World,
    outage: Cell<Outage>,
}

struct Server {
    world: World,
    state: RefCell<State>,
    outage: Cell<Outage>,
    latency: RefCell<Option<Rc<dyn Fn() -> Duration>>>,
    changed: Notify,
}

impl Server {
    /// Does `work` at the store, after the leases whose time is up have ended.
    fn apply<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let before = state.revision();
        state.expire(self.world.now());
        let result = work(&mut state);
        state.trim();
        let after = state.revision();
        drop(state);
        assert!(before <= after, "revisions never go back");
        if before < after {
            self.changed.notify_all();
        }
        result
    }
}

impl Handle {
    fn outage(&self) -> Outage {
        match self.outage.get() {
            Outage::None => self.server.outage.get(),
            outage => outage,
        }
    }

    /// Lets one way to the store or back take its time.
    async fn travel(&self) {
        let latency = self.server.latency.borrow().clone();
        let duration = latency.map_or(Duration::ZERO, |latency| latency());
        if duration > Duration::ZERO {
            self.world.sleep(duration).await;
        }
    }

    fn lost(&self) -> KvError {
        KvError::Unavailable(format!("simulated outage {:?}", self.outage()))
    }
}

impl MemoryKv {
    /// An empty store at revision 1 and a first handle on it.
    #[must_use]
    pub fn new(world: World) -> Self {
        let server = Server {
            world: world.clone(),
            state: RefCell::new(State::new()),
            outage: Cell::default(),
            latency: RefCell::default(),
            changed: Notify::default(),
        };
        Self(Rc::new(Handle {
            server: Rc::new(server),
            world,
            outage: Cell::default(),
        }))
    }

    /// Access for another node, or for another life of one.
    #[must_use]
    pub fn handle(&self, world: World) -> Self {
        Self(Rc::new(Handle {
            server: self.0.server.clone(),
            world,
            outage: Cell::default(),
        }))
    }

    /// Makes calls of all nodes fail from now on. A call under way loses its reply.
    pub fn set_outage(&self, outage: Outage) {
        self.0.server.outage.set(outage);
        self.0.server.changed.notify_all();
    }

    /// Makes calls through this handle and its clones fail from now on, whatever holds for others.
    pub fn set_outage_here(&self, outage: Outage) {
        self.0.outage.set(outage);
        self.0.server.changed.notify_all();
    }

    /// Short for [`MemoryKv::set_outage`] with [`Outage::None`] or [`Outage::Before`].
    pub fn set_available(&self, available: bool) {
        self.set_outage(if available {
            Outage::None
        } else {
            Outage::Before
        });
    }

    /// Ends every lease at once, as a store does whose clock jumped.
    pub fn expire_leases(&self) {
        self.0
            .server
            .apply(|state| state.expire(world::Time(u64::MAX)));
    }

    /// Sets how long each way takes, to the store and back. Asked twice per call and once per delivery of
    /// a watch; draw from the world's generator for random latency.
    pub fn set_latency(&self, latency: impl Fn() -> Duration + 'static) {
        *self.0.server.latency.borrow_mut() = Some(Rc::new(latency));
    }

    /// Forgets all history: watches that lag behind fail with [`KvError::Compacted`].
    pub fn compact(&self) {
        self.0.server.apply(State::compact);
    }

    /// The store's revision, for checkers. Not a call: no latency, no outage.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.server.apply(|state| state.revision())
    }

    /// Every entry in key order, for checkers. Not a call: no latency, no outage.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let all = self
            .0
            .server
            .apply(|state| state.range("", None, usize::MAX));
        all.entries
    }

    fn call<T: 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, KvError> + 'static,
    ) -> KvFuture<T> {
        let handle = self.0.clone();
        Box::pin(async move {
            handle.travel().await;
            let outage = handle.outage();
            if outage == Outage::Before {
                return Err(handle.lost());
            }
            let result = handle.server.apply(work);
            handle.travel().await;
            if outage != Outage::None || handle.outage() != Outage::None {
                return Err(handle.lost());
            }
            result
        })
    }
}

impl Kv for MemoryKv {
    fn get(&self, key: &str) -> KvFuture<Option<Entry>> {
        let key = key.to_owned();
        self.call(move |state| Ok(state.get(&key)))
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> KvFuture<Page> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.call(move |state| Ok(state.range(&prefix, after.as_deref(), limit)))
    }

    fn snapshot(&self, prefix: &str) -> KvFuture<Page> {
        self.range(prefix, None, usize::MAX)
    }

    fn txn(&self, compares: Vec<Compare>, changes: Vec<Op>) -> KvFuture<Outcome> {
        if let Err(error) = check_txn(&compares, &changes) {
            return Box::pin(std::future::ready(Err(error)));
        }
        self.call(move |state| state.txn(&compares, changes))
    }

    fn watch(&self, prefix: &str, after: Revision) -> Box<dyn Watch> {
        Box::new(MemoryWatch {
            handle: self.0.clone(),
            prefix: prefix.to_owned(),
            after,
        })
    }

    fn grant(&self, ttl: Duration) -> KvFuture<LeaseId> {
        let clock = self.0.server.world.clone();
        self.call(move |state| Ok(state.grant(ttl, clock.now())))
    }

    fn renew(&self, lease: LeaseId) -> KvFuture<()> {
        let clock = self.0.server.world.clone();
        self.call(move |state| state.renew(lease, clock.now()))
    }

    fn revoke(&self, lease: LeaseId) -> KvFuture<()> {
        self.call(move |state| {
            state.revoke(lease);
            Ok(())
        })
    }

    fn members(&self) -> KvFuture<KvMembers> {
        let answer = match self.0.outage() {
            Outage::None => Ok(KvMembers::embedded("memory")),
            _ => Err(self.0.lost()),
        };
        Box::pin(std::future::ready(answer))
    }
}

struct MemoryWatch {
    handle: Rc<Handle>,
    prefix: String,
    after: Revision,
}

impl MemoryWatch {
    /// Waits until the store changed, an outage ended or began, or a lease may have ended.
    async fn wait(&self, changed: world::sync::Notified) {
        let server = &self.handle.server;
        let deadline = server.state.borrow().deadline_next();
        let Some(deadline) = deadline else {
            return changed.await;
        };
        // The two clocks may drift apart: at worst this wakes early, and at least a millisecond passes.
        let remaining = deadline.since(server.world.now());
        let remaining = remaining.max(Duration::from_millis(1));
        let _ended = self.handle.world.timeout(remaining, changed).await;
    }
}

impl Watch for MemoryWatch {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<Change>, KvError>> {
        Box::pin(async move {
            loop {
                let changed = self.handle.server.changed.notified();
                // During an outage too: leases end at the store, and `wait` must not find them late.
                let server = &self.handle.server;
                let scan = server.apply(|state| state.scan(&self.prefix, self.after));
                if self.handle.outage() == Outage::None {
                    let scan = scan?;
                    if !scan.changes.is_empty() {
                        self.handle.travel().await;
                        self.after = scan.through;
                        return Ok(scan.changes);
                    }
                    self.after = scan.through;
                }
                self.wait(changed).await;
            }
        })
    }
}
