//! A store of this node as others and the node itself call it: appends are timed, and reads for fills wait for their turn.
//!
//! Who fills a store knows how busy its own node is, but not how busy those are from which it reads. So each node lets such reads begin
//! at the share that its own clients and appends leave to fills. What a flush or a takeover reads waits for nobody.

use crate::latency::Latency;
use bytes::Bytes;
use rpc::LocalStore;
use std::cell::Cell;
use std::rc::Rc;
use store::Store;
use wire::{StoreError, StoreReply, StoreRequest};
use world::{Duration, LocalBoxFuture, Time, World};

/// Longest wait for a turn: who reads is not to give up.
const TURN_MAX: Duration = Duration::from_secs(1);
/// All of the time, in thousandths.
const SHARE_FULL: u32 = 1000;

/// What all stores of a node have in common.
pub(crate) struct Demand {
    /// How long appends take here, for owners anywhere: what fills cost clients of other nodes.
    pub(crate) appends: Latency,
    /// Share of the time that reads for fills may take, in thousandths.
    share: Cell<u32>,
    /// When the next of them may begin.
    next: Cell<Time>,
    /// How long the last one took.
    took: Cell<Duration>,
    reads: Cell<u64>,
    appended: Cell<u64>,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            appends: Latency::default(),
            share: Cell::new(SHARE_FULL),
            next: Cell::default(),
            took: Cell::default(),
            reads: Cell::default(),
            appended: Cell::default(),
        }
    }
}

impl Demand {
    pub(crate) fn set_share(&self, share: u32) {
        self.share.set(share.clamp(1, SHARE_FULL));
    }

    /// Extents that were read for fills so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Appends that were answered so far.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.get()
    }

    /// How long one who wants to read now has to wait.
    fn turn(&self, now: Time) -> Duration {
        let share = self.share.get();
        if share == SHARE_FULL {
            self.next.set(now);
            return Duration::ZERO;
        }
        let begin = self.next.get().max(now);
        let wait = begin.since(now).min(TURN_MAX);
        self.next
            .set(now + wait + self.took.get() * SHARE_FULL / share);
        wait
    }
}

/// See the head of this file.
pub(crate) struct Local {
    pub(crate) store: Store,
    pub(crate) world: World,
    pub(crate) demand: Rc<Demand>,
}

impl LocalStore for Local {
    fn handle(
        &self,
        request: StoreRequest,
        body: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, Result<(StoreReply, Vec<Bytes>), StoreError>> {
        let (world, demand) = (self.world.clone(), self.demand.clone());
        match request {
            StoreRequest::Append { .. } => {
                let answer = self.store.handle(request, body);
                Box::pin(async move {
                    let began = world.now();
                    let answer = answer.await;
                    demand.appends.note(world.now().since(began));
                    demand.appended.set(demand.appended.get() + 1);
                    answer
                })
            }
            StoreRequest::CopyExtent { .. } => {
                let store = self.store.clone();
                Box::pin(async move {
                    let wait = demand.turn(world.now());
                    if !wait.is_zero() {
                        world.sleep(wait).await;
                    }
                    let began = world.now();
                    let answer = store.handle(request, body).await;
                    demand.took.set(world.now().since(began));
                    demand.reads.set(demand.reads.get() + 1);
                    answer
                })
            }
            request => self.store.handle(request, body),
        }
    }
}

/// A store that should be here and cannot be used.
pub(super) struct Absent(pub(super) String);

impl LocalStore for Absent {
    fn handle(
        &self,
        _: StoreRequest,
        _: Vec<Bytes>,
    ) -> LocalBoxFuture<'static, Result<(StoreReply, Vec<Bytes>), StoreError>> {
        let reason = self.0.clone();
        Box::pin(std::future::ready(Err(StoreError::Failed { reason })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn reads_begin_at_the_share_that_is_left_to_them() {
        let demand = Demand::default();
        let at = |ms: u64| Time(ms * MS);
        demand.took.set(Duration::from_millis(10));
        assert!(demand.turn(at(0)).is_zero() && demand.turn(at(0)).is_zero());
        demand.set_share(200);
        let waits: Vec<u128> = (0..4).map(|_| demand.turn(at(0)).as_millis()).collect();
        assert_eq!(waits, [0, 50, 100, 150]);
        assert!(demand.turn(at(500)).is_zero(), "nothing is saved up");
        assert_eq!(demand.turn(at(500)).as_millis(), 50);
        let late: Vec<Duration> = (0..40).map(|_| demand.turn(at(500))).collect();
        assert!(late.iter().all(|wait| *wait <= TURN_MAX));
        demand.set_share(SHARE_FULL);
        assert!(demand.turn(at(501)).is_zero());
    }
}
