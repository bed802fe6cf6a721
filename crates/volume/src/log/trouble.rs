//! What is wrong with a replica of the open segment, and what may go on with it while the catalog is away.
//!
//! Another replica needs another segment, and a segment needs the catalog. Until the catalog answers, the open segment goes on
//! with replicas that are only late, and with replicas whose connection broke: what was sent to them is sent again, in the
//! same bytes under the same positions, which a store takes once.
//!
//! Invariants
//! - A replica whose connection broke is sent nothing before it said, in this term, that it holds everything it has
//!   acknowledged, in the same incarnation. One whose machine has lost power meanwhile takes nothing more into this segment.

use super::{Log, Replica};
use catalog::{CatalogError, SegmentReplica};
use std::fmt;
use vocab::{Epoch, Incarnation, Position, SegmentId, StoreId};
use wire::{CallError, Lane, SegmentTail, StoreError, StoreReply, StoreRequest};
use world::{Duration, Time};

/// Patience with a store's promise.
const FENCE_PATIENCE: Duration = Duration::from_millis(1000);
/// Patience with the catalog's answer to whether it is there, at first and at most.
pub(super) const CATALOG_PATIENCE: Duration = Duration::from_millis(500);
const CATALOG_PATIENCE_MAX: Duration = Duration::from_secs(2);
/// Pause before the catalog and the replicas are asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Why a replica should be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It has not answered for so long, but may be well.
    Late(Duration),
    /// The connection broke or cannot be made; what was sent may have arrived.
    Unreachable(String),
    /// Everything moves away from its store.
    Leaving,
    /// It cannot take part any more.
    Failed(String),
}

impl Trouble {
    /// Whether it may be well although it is in trouble.
    fn may_pass(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable { .. } => Self::Unreachable(error.to_string()),
            CallError::Refused { .. } => Self::Failed(error.to_string()),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(waited) => write!(out, "has not acknowledged for {} ms", waited.as_millis()),
            Self::Unreachable(reason) | Self::Failed(reason) => out.write_str(reason),
            Self::Leaving => out.write_str("its store drains"),
        }
    }
}

/// What a store answers to the promise of this term.
pub(super) struct Promised {
    pub(super) incarnation: Incarnation,
    pub(super) sent_at: Time,
    segments: Vec<SegmentTail>,
}

impl Promised {
    /// Whether the store has lost nothing of what it acknowledged of this segment.
    fn holds(&self, segment: SegmentId, epoch: Epoch, written: Position, start: Position) -> bool {
        let ours = |tail: &&SegmentTail| tail.segment == segment && tail.epoch == epoch;
        let last = self.segments.iter().find(ours).map(|tail| tail.last);
        written < start || last.is_some_and(|last| last >= written)
    }
}

/// What to do about replicas in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The catalog is away and no replica is in trouble any more.
    GoOn,
    /// The catalog is away and a replica cannot be reached: look again.
    Wait,
    /// A segment on other replicas is opened.
    Replace,
}

impl Log {
    /// Notes what is wrong with a replica of an open or closed segment. What cannot pass stays.
    pub(super) fn replica_failed(&self, segment: SegmentId, store: StoreId, trouble: Trouble) {
        let mut state = self.state.borrow_mut();
        if state.open.id == segment {
            let replicas = state.open.replicas.iter_mut();
            for replica in replicas.filter(|replica| replica.store == store) {
                if replica.trouble.as_ref().is_none_or(Trouble::may_pass) {
                    replica.trouble = Some(trouble.clone());
                }
            }
        }
        let closed = state.closed.iter_mut();
        for closed in closed.filter(|closed| closed.id == segment) {
            let replicas = closed.replicas.iter_mut();
            for (_, failed) in replicas.filter(|(replica, _)| replica.store == store) {
                *failed = true;
            }
        }
        drop(state);
        self.work.notify_all();
    }

    /// Resolves when nothing is wrong with the replica any more (`true`), or it is none of the open segment (`false`).
    pub(super) async fn pardoned(&self, segment: SegmentId, store: StoreId) -> bool {
        loop {
            let changed = self.pardon.notified();
            if !self.is_open(segment) {
                return false;
            }
            let well = {
                let state = self.state.borrow();
                let mut replicas = state.open.replicas.iter();
                replicas.any(|replica| replica.store == store && replica.trouble.is_none())
            };
            if well {
                return true;
            }
            changed.await;
        }
    }

    /// What comes of the replicas in trouble, which depends on whether the catalog answers within `patience`.
    pub(super) async fn judge(&self, patience: &mut Duration) -> Verdict {
        let must_go = {
            let state = self.state.borrow();
            let mut troubles = state
                .open
                .replicas
                .iter()
                .flat_map(|replica| &replica.trouble);
            troubles.any(|trouble| !trouble.may_pass())
        };
        if must_go {
            return Verdict::Replace;
        }
        let look = self.catalog.volume(self.volume);
        match self.world.timeout(*patience, look).await {
            Ok(Err(CatalogError::Kv(_))) | Err(_) => {}
            Ok(_) => return Verdict::Replace,
        }
        *patience = (*patience * 2).min(CATALOG_PATIENCE_MAX);
        self.forgive();
        self.pardon_reachable().await;
        self.world.sleep(RETRY_PAUSE).await;
        match self.unreachable_replica() {
            None => Verdict::GoOn,
            Some((store, why)) => {
                let text =
                    format!("writes wait for the catalog, or for the log copy on {store}: {why}");
                *self.waiting.borrow_mut() = Some(text);
                Verdict::Wait
            }
        }
    }

    fn unreachable_replica(&self) -> Option<(StoreId, Trouble)> {
        let state = self.state.borrow();
        let mut replicas = state.open.replicas.iter();
        replicas.find_map(|replica| Some((replica.store, replica.trouble.clone()?)))
    }

    /// Replicas that are only late are waited for.
    pub(super) fn forgive(&self) {
        let mut state = self.state.borrow_mut();
        state.shunned.clear();
        for replica in &mut state.open.replicas {
            if matches!(replica.trouble, Some(Trouble::Late(_) | Trouble::Leaving)) {
                replica.trouble = None;
            }
        }
    }

    /// Replicas that were not reached, and can be, are sent again what they have not acknowledged.
    async fn pardon_reachable(&self) {
        let (segment, start, broken) = {
            let state = self.state.borrow();
            let replicas = state.open.replicas.iter();
            let broken = replicas.filter(|replica| replica.trouble.is_some());
            let broken = broken.map(|replica| (replica.store, replica.incarnation));
            (state.open.id, state.open.start, broken.collect::<Vec<_>>())
        };
        let asked = broken.iter().map(|&(store, _)| self.promise_of(store));
        let answers = futures_util::future::join_all(asked).await;
        for ((store, incarnation), promised) in broken.into_iter().zip(answers) {
            let Some(promised) = promised else { continue };
            let mut state = self.state.borrow_mut();
            let replicas = state.open.replicas.iter_mut();
            // What cannot pass and was found meanwhile stays.
            let passing = |replica: &&mut Replica| {
                replica.store == store && replica.trouble.as_ref().is_none_or(Trouble::may_pass)
            };
            for replica in replicas.filter(passing) {
                let same = promised.incarnation == incarnation
                    && promised.holds(segment, self.epoch, replica.written, start);
                match same {
                    true => replica.trouble = None,
                    false => {
                        let lost = "has lost records that it acknowledged".to_owned();
                        replica.trouble = Some(Trouble::Failed(lost));
                    }
                }
            }
        }
        self.pardon.notify_all();
        self.work.notify_all();
    }

    /// The store's promise for this epoch, with its present life.
    pub(super) async fn promise_of(&self, store: StoreId) -> Option<Promised> {
        let request = StoreRequest::Fence {
            volume: self.volume,
            epoch: self.epoch,
        };
        let sent_at = self.world.now();
        let call = self.stores.call(store, Lane::Log, request.into());
        match self.world.timeout(FENCE_PATIENCE, call).await {
            Ok(Ok((
                StoreReply::Fenced {
                    incarnation,
                    segments,
                    ..
                },
                _,
            ))) => Some(Promised {
                incarnation,
                sent_at,
                segments,
            }),
            Ok(Err(CallError::Refused {
                error: StoreError::StaleEpoch { .. },
                ..
            })) => {
                self.fenced();
                None
            }
            _ => {
                self.shun(store);
                None
            }
        }
    }

    /// A replica of the next segment, if the store promises.
    pub(super) async fn replica_on(&self, store: StoreId) -> Option<(SegmentReplica, Time)> {
        let promised = self.promise_of(store).await?;
        let incarnation = promised.incarnation;
        Some((SegmentReplica { store, incarnation }, promised.sent_at))
    }
}
