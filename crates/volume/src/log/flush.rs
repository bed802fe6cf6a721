//! Flushing: one round covers every flush that waits, on all replicas and all segments concerned.

use super::trouble::Trouble;
use super::{ClosedSegment, Log, LogError};
use crate::options::bug;
use catalog::{SegmentReplica, VolumeRoot};
use futures_util::future::join_all;
use std::rc::Rc;
use vocab::{Position, SegmentId};
use wire::{CallError, Lane, StoreError, StoreReply, StoreRequest};
use world::Duration;
use world::sync::Promise;

/// Pause before a round that failed is tried again, with another replica set by then.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A flush to one replica.
struct Target {
    segment: SegmentId,
    replica: SegmentReplica,
    through: Position,
}

impl Log {
    /// Everything up to `position`, which must be committed, becomes durable on every replica.
    ///
    /// # Errors
    /// [`LogError`]; what is durable then is unknown.
    pub async fn flush(&self, position: Position) -> Result<(), LogError> {
        if bug!(self.options, DropFlush) {
            return Ok(());
        }
        loop {
            let progress = self.progress.notified();
            {
                let mut state = self.state.borrow_mut();
                if state.flushed >= position {
                    return Ok(());
                }
                if let Some(lost) = &state.lost {
                    return Err(lost.clone());
                }
                state.want_flush = state.want_flush.max(position);
            }
            self.work.notify_all();
            progress.await;
        }
    }

    /// A flush or a durable write up to `position` is being acknowledged.
    pub(crate) fn bear_witness(&self, position: Position) {
        #[cfg(feature = "bugs")]
        if let Some(witness) = &self.options.witness {
            witness.0.on_durable(self.volume, self.epoch, position);
        }
        let _ = position;
    }

    /// Replicas are being told to let go of everything up to the root at `position`.
    fn bear_witness_of_trim(&self, position: Position) {
        #[cfg(feature = "bugs")]
        if let Some(witness) = &self.options.witness {
            witness.0.on_trim(self.volume, self.epoch, position);
        }
        let _ = position;
    }

    pub(super) fn finish_when_flushed(&self, late: Vec<(Position, Promise<Result<(), LogError>>)>) {
        let Some(&(last, _)) = late.last() else {
            return;
        };
        let mut state = self.state.borrow_mut();
        state.want_flush = state.want_flush.max(last);
        state.late.extend(late);
    }

    /// Acknowledges durable writes that a flush has covered.
    pub(super) fn finish_late(&self) {
        loop {
            let promise = {
                let mut state = self.state.borrow_mut();
                match state.late.front() {
                    Some(&(position, _)) if position <= state.flushed => state.late.pop_front(),
                    _ => return,
                }
            };
            if let Some((position, promise)) = promise {
                self.bear_witness(position);
                promise.fulfil(Ok(()));
            }
        }
    }

    pub(super) async fn flush_forever(self: Rc<Self>) {
        loop {
            let work = self.work.notified();
            let wanted = {
                let state = self.state.borrow();
                if state.lost.is_some() {
                    return;
                }
                state.want_flush > state.flushed
                    && state.committed > state.flushed
                    && !state.closing
            };
            if !wanted {
                work.await;
                continue;
            }
            if !self.flush_round().await {
                self.world.sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// One round up to the present committed position; whether it succeeded.
    async fn flush_round(&self) -> bool {
        let through = self.committed();
        let sink = self
            .sink
            .borrow()
            .clone()
            .expect("run() sets the sink before it starts this task");
        if self.state.borrow().last_reference > self.flushed()
            && let Err(reason) = sink.flush_references(through).await
        {
            *self.waiting.borrow_mut() = Some(format!("extents cannot be flushed: {reason}"));
            return false;
        }
        let Some(targets) = self.flush_targets(through) else {
            return false;
        };
        self.note_asked(through);
        let results = join_all(targets.iter().map(|target| self.flush_one(target))).await;
        if results.iter().any(|done| !done) || self.is_lost() {
            self.work.notify_all();
            return false;
        }
        {
            let mut state = self.state.borrow_mut();
            state.flushed = state.flushed.max(through);
        }
        self.finish_late();
        self.progress.notify_all();
        true
    }

    /// Replicas are asked to call everything up to `through` flushed.
    pub(super) fn note_asked(&self, through: Position) {
        let mut state = self.state.borrow_mut();
        state.flush_asked = state.flush_asked.max(through);
    }

    /// Replicas that must flush; `None` when a closed segment has none left that could, so that the drain
    /// must make its data durable instead.
    fn flush_targets(&self, through: Position) -> Option<Vec<Target>> {
        let state = self.state.borrow();
        let mut targets = Vec::new();
        let concerned =
            |closed: &&ClosedSegment| closed.end.0 > state.flushed.0 + 1 && closed.start <= through;
        for closed in state.closed.iter().filter(concerned) {
            // It may have been closed since this round began: nobody has secured what references behind `through` refer to.
            let last = Position(closed.end.0 - 1).min(through);
            let alive = closed.replicas.iter().filter(|(_, failed)| !failed);
            let before = targets.len();
            targets.extend(alive.map(|&(replica, _)| Target {
                segment: closed.id,
                replica,
                through: last,
            }));
            if targets.len() == before {
                return None;
            }
        }
        if through >= state.open.start {
            let asked = match bug!(self.options, FlushFirstReplica) {
                true => 1,
                false => state.open.replicas.len(),
            };
            targets.extend(
                state
                    .open
                    .replicas
                    .iter()
                    .take(asked)
                    .map(|replica| Target {
                        segment: state.open.id,
                        replica: SegmentReplica {
                            store: replica.store,
                            incarnation: replica.incarnation,
                        },
                        through,
                    }),
            );
        }
        Some(targets)
    }

    async fn flush_one(&self, target: &Target) -> bool {
        let request = StoreRequest::FlushLog {
            volume: self.volume,
            epoch: self.epoch,
            segment: target.segment,
            incarnation: target.replica.incarnation,
            through: target.through,
        };
        let sent_at = self.world.now();
        let call = self
            .stores
            .call(target.replica.store, Lane::Log, request.into());
        let result = self.world.timeout(self.options.ack_lost, call).await;
        let failure = match result {
            Ok(Ok((StoreReply::Appended { flushed, .. }, _))) if flushed >= target.through => {
                self.confirmed(target.replica.store, sent_at);
                return true;
            }
            Ok(Err(CallError::Refused {
                error: StoreError::StaleEpoch { .. },
                ..
            })) => {
                self.fenced();
                return false;
            }
            Ok(Ok((other, _))) => Trouble::Failed(format!("answered {other:?} to a flush")),
            Ok(Err(error)) => error.into(),
            Err(_) => Trouble::Late(self.options.ack_lost),
        };
        self.replica_failed(target.segment, target.replica.store, failure);
        false
    }

    fn confirmed(&self, store: vocab::StoreId, sent_at: world::Time) {
        let mut state = self.state.borrow_mut();
        for replica in state
            .open
            .replicas
            .iter_mut()
            .filter(|replica| replica.store == store)
        {
            replica.confirmed_at = replica.confirmed_at.max(sent_at);
        }
    }

    /// A root that a takeover finds holds everything up to `through`: flushes up to there are done.
    pub fn durable_through(&self, through: Position) {
        {
            let mut state = self.state.borrow_mut();
            state.flushed = state.flushed.max(through);
        }
        self.finish_late();
        self.progress.notify_all();
    }

    /// The map of `root` holds everything up to its position, durably: closed segments below it are done with, and so are
    /// flushes that waited for them. Tells the stores to trim.
    pub fn drained(self: &Rc<Self>, root: VolumeRoot) {
        let through = root.position;
        self.bear_witness_of_trim(through);
        let stores = {
            let mut state = self.state.borrow_mut();
            let mut stores: Vec<_> = state
                .open
                .replicas
                .iter()
                .map(|replica| replica.store)
                .collect();
            for closed in &state.closed {
                stores.extend(closed.replicas.iter().map(|(replica, _)| replica.store));
            }
            state.closed.retain(|closed| closed.end.0 > through.0 + 1);
            stores.sort_unstable();
            stores.dedup();
            stores
        };
        self.durable_through(through);
        let note = self.describe_root(root);
        self.described.borrow_mut().left_empty = false;
        for store in stores {
            if let Some(note) = note.clone() {
                self.trim_noted(store, note, through);
                continue;
            }
            let request = StoreRequest::TrimLog {
                volume: self.volume,
                epoch: self.epoch,
                through,
            };
            let call = self.stores.call(store, Lane::Log, request.into());
            let (world, patience) = (self.world.clone(), self.options.ack_lost);
            // A trim that is lost is made up for by the next one.
            self.world.spawn(async move {
                let _ = world.timeout(patience, call).await;
            });
        }
    }

    /// Trims once the store knows where the volume starts.
    fn trim_noted(self: &Rc<Self>, store: vocab::StoreId, note: wire::Note, through: Position) {
        let log = self.clone();
        self.world.spawn(async move {
            if log.tell(store, note).await.is_err() {
                return;
            }
            let request = StoreRequest::TrimLog {
                volume: log.volume,
                epoch: log.epoch,
                through,
            };
            let call = log.stores.call(store, Lane::Log, request.into());
            let _ = log.world.timeout(log.options.ack_lost, call).await;
        });
    }

    /// Resolves when every replica of the open segment is known, from an answer to a call sent within T,
    /// to have promised no newer epoch: what was read before this call may be returned.
    ///
    /// # Errors
    /// [`LogError`] when a newer owner exists.
    pub async fn confirm_reads(&self) -> Result<(), LogError> {
        if bug!(self.options, SkipReadConfirmation) {
            return Ok(());
        }
        loop {
            match self.unconfirmed()? {
                stores if stores.is_empty() => return Ok(()),
                _ => {}
            }
            let held = self.confirming.lock().await;
            let stores = self.unconfirmed()?;
            if stores.is_empty() {
                return Ok(());
            }
            let results = join_all(stores.into_iter().map(|store| self.confirm_one(store))).await;
            drop(held);
            if results.contains(&false) && !self.is_lost() {
                // A replica does not answer: the segment is being changed. One that fails at once, as a store of this node
                // does, must not be asked again before others had their turn.
                self.world.sleep(RETRY_PAUSE).await;
            }
        }
    }

    fn unconfirmed(&self) -> Result<Vec<vocab::StoreId>, LogError> {
        let state = self.state.borrow();
        if let Some(lost) = &state.lost {
            return Err(lost.clone());
        }
        let now = self.world.now();
        let stale = |replica: &&super::Replica| {
            now.since(replica.confirmed_at) >= self.options.read_confirmation
        };
        Ok(state
            .open
            .replicas
            .iter()
            .filter(stale)
            .map(|replica| replica.store)
            .collect())
    }

    async fn confirm_one(&self, store: vocab::StoreId) -> bool {
        let request = StoreRequest::Confirm {
            volumes: vec![(self.volume, self.epoch)],
        };
        let sent_at = self.world.now();
        let segment = self.state.borrow().open.id;
        let call = self.stores.call(store, Lane::Log, request.into());
        let failure = match self.world.timeout(self.options.ack_lost, call).await {
            Ok(Ok((StoreReply::Confirmed { promised }, _))) => match promised.first() {
                Some(promised) if *promised == self.epoch => {
                    self.confirmed(store, sent_at);
                    return true;
                }
                Some(promised) if *promised > self.epoch => {
                    self.fenced();
                    return false;
                }
                other => Trouble::Failed(format!("has forgotten its promise (it says {other:?})")),
            },
            Ok(Ok((other, _))) => Trouble::Failed(format!("answered {other:?} to a confirmation")),
            Ok(Err(error)) => error.into(),
            Err(_) => Trouble::Late(self.options.ack_lost),
        };
        self.replica_failed(segment, store, failure);
        false
    }
}
