//! Changing the open segment: when a replica fails, is slow, or more replicas can be had again.

use super::trouble::{CATALOG_PATIENCE, Trouble, Verdict};
use super::{ClosedSegment, Log, LogError, OpenSegment, Replica};
use crate::options::bug;
use catalog::{CatalogError, SegmentReplica, SegmentRow};
use futures_util::future::join_all;
use std::rc::Rc;
use vocab::{Position, StoreId};
use world::{Duration, Time};

/// How often flights are looked at while some are under way: a fifth of the overdue time.
const WATCH_SHARE: u32 = 5;
/// How long a store that failed us is passed over.
const SHUN: Duration = Duration::from_secs(2);
/// Pause between attempts while there are too few stores or no catalog.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Log {
    pub(super) async fn repair_forever(self: Rc<Self>) {
        loop {
            let work = self.work.notified();
            if self.is_lost() {
                return;
            }
            self.mark_slow_replicas();
            if self.needs_other_replicas() {
                let began = self.world.now();
                if self.rotate().await.is_err() {
                    return;
                }
                let took = self.world.now().since(began);
                let mut state = self.state.borrow_mut();
                state.stall = state.stall.max(took);
                continue;
            }
            let nap = self.watch_interval();
            match nap {
                Some(nap) => {
                    let _ = self.world.timeout(nap, work).await;
                }
                None => work.await,
            }
        }
    }

    /// How long it may sleep: not at all longer than needed while something can become overdue.
    fn watch_interval(&self) -> Option<Duration> {
        let state = self.state.borrow();
        if !state.flights.is_empty() {
            return Some(self.options.ack_overdue / WATCH_SHARE);
        }
        state
            .narrow_since
            .is_some()
            .then_some(self.options.widen_after)
    }

    fn mark_slow_replicas(&self) {
        let now = self.world.now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let Some(oldest) = state.flights.front() else {
            return;
        };
        let waited = now.since(oldest.sent_at);
        let somebody = state
            .open
            .replicas
            .iter()
            .any(|replica| replica.written >= oldest.last);
        let limit = if somebody {
            self.options.ack_overdue
        } else {
            self.options.ack_lost
        };
        if waited < limit {
            return;
        }
        for replica in &mut state.open.replicas {
            if replica.written < oldest.last && !replica.stalled && replica.trouble.is_none() {
                replica.trouble = Some(Trouble::Late(waited));
            }
        }
    }

    fn needs_other_replicas(&self) -> bool {
        let state = self.state.borrow();
        if state
            .open
            .replicas
            .iter()
            .any(|replica| replica.trouble.is_some())
        {
            return true;
        }
        let now = self.world.now();
        let narrow = state
            .narrow_since
            .is_some_and(|since| now.since(since) >= self.options.widen_after);
        drop(state);
        if !narrow {
            return false;
        }
        // Only worth a new segment when it would be wider.
        let candidates = self
            .candidates()
            .len()
            .min(usize::from(self.copies.get().wanted));
        let mut state = self.state.borrow_mut();
        state.narrow_since = Some(now);
        candidates > state.open.replicas.len()
    }

    /// Stores for the next segment, without those that failed us a moment ago.
    fn candidates(&self) -> Vec<StoreId> {
        let state = self.state.borrow();
        let now = self.world.now();
        let next = state.open.id.next();
        let shunned = |store: &StoreId| state.shunned.get(store).is_some_and(|&until| until > now);
        let stores = self.placement.log_stores(self.volume, next);
        stores.into_iter().filter(|store| !shunned(store)).collect()
    }

    /// Closes the open segment at its committed end and opens the next one on healthy stores; or leaves it open, when the
    /// catalog is away and its replicas can go on.
    async fn rotate(&self) -> Result<(), LogError> {
        self.shun_failed();
        let mut patience = CATALOG_PATIENCE;
        loop {
            if let Some(lost) = self.lost() {
                return Err(lost);
            }
            let copies = self.copies.get();
            let mut candidates = self.candidates();
            candidates.truncate(usize::from(copies.wanted));
            let fenced = join_all(candidates.iter().map(|&store| self.replica_on(store))).await;
            let replicas: Vec<(SegmentReplica, Time)> = fenced.into_iter().flatten().collect();
            if let Some(lost) = self.lost() {
                return Err(lost);
            }
            if replicas.len() < usize::from(copies.least.max(1)) {
                *self.waiting.borrow_mut() = Some(format!(
                    "writes wait: {} of at least {} stores for log copies answer",
                    replicas.len(),
                    copies.least
                ));
                self.world.sleep(RETRY_PAUSE).await;
                self.forgive();
                continue;
            }
            // Once its end was told the open segment takes nothing more.
            let closing = self.state.borrow().closing;
            if !closing {
                match self.judge(&mut patience).await {
                    Verdict::GoOn => break,
                    Verdict::Wait => continue,
                    Verdict::Replace => {}
                }
            }
            // From here on nothing is committed in the old segment, so its end can be told.
            let end = {
                let mut state = self.state.borrow_mut();
                state.closing = true;
                state.committed.next()
            };
            let row = self.next_row(end, &replicas);
            if !self.describe_segment(&row).await {
                self.world.sleep(RETRY_PAUSE).await;
                continue;
            }
            self.register(&row, &replicas).await?;
            break;
        }
        *self.waiting.borrow_mut() = None;
        Ok(())
    }

    /// The segment after the open one, which ends before `start`.
    fn next_row(&self, start: Position, replicas: &[(SegmentReplica, Time)]) -> SegmentRow {
        SegmentRow {
            id: self.state.borrow().open.id.next(),
            epoch: self.epoch,
            start,
            end: None,
            replicas: replicas.iter().map(|(replica, _)| *replica).collect(),
            wanted: self.copies.get().wanted,
        }
    }

    fn shun_failed(&self) {
        let until = self.world.now() + SHUN;
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        for replica in state
            .open
            .replicas
            .iter()
            .filter(|replica| replica.trouble.is_some())
        {
            state.shunned.insert(replica.store, until);
        }
    }

    /// Replicas on these stores go, when there are enough others: the open segment is closed, and what is in it is
    /// drained. Whether any is there.
    pub fn leave_stores(&self, leaving: &[StoreId]) -> bool {
        let stays = |store: &StoreId| !leaving.contains(store);
        let others = self.candidates().into_iter().filter(stays).count();
        let wanted = usize::from(self.copies.get().wanted);
        let mut state = self.state.borrow_mut();
        let replicas = state.open.replicas.iter_mut();
        let mut found: Vec<&mut Replica> =
            replicas.filter(|replica| !stays(&replica.store)).collect();
        if others >= wanted {
            for replica in &mut found {
                replica.trouble.get_or_insert(Trouble::Leaving);
            }
        }
        let any = !found.is_empty();
        drop(state);
        if any {
            self.work.notify_all();
        }
        any
    }

    /// Passes a store over for a while.
    pub(super) fn shun(&self, store: StoreId) {
        let until = self.world.now() + SHUN;
        self.state.borrow_mut().shunned.insert(store, until);
    }

    async fn register(
        &self,
        row: &SegmentRow,
        replicas: &[(SegmentReplica, Time)],
    ) -> Result<(), LogError> {
        if bug!(self.options, UnregisteredSegment) {
            self.switch(row, replicas);
            return Ok(());
        }
        loop {
            match self
                .catalog
                .open_segment(self.volume, self.epoch, row)
                .await
            {
                Ok(_) => break,
                Err(CatalogError::StaleOwner { .. } | CatalogError::NotFound { .. }) => {
                    self.fenced();
                    return Err(LogError::Fenced { epoch: self.epoch });
                }
                Err(error) => {
                    *self.waiting.borrow_mut() =
                        Some(format!("writes wait for the catalog: {error}"));
                    self.world.sleep(RETRY_PAUSE).await;
                    if let Some(lost) = self.lost() {
                        return Err(lost);
                    }
                }
            }
        }
        self.switch(row, replicas);
        Ok(())
    }

    /// Makes the registered segment the open one; everything uncommitted goes to it.
    fn switch(&self, row: &SegmentRow, replicas: &[(SegmentReplica, Time)]) {
        let before = Position(row.start.0 - 1);
        let open = OpenSegment {
            id: row.id,
            start: row.start,
            wanted: row.wanted,
            replicas: replicas
                .iter()
                .map(|&(replica, confirmed_at)| Replica {
                    store: replica.store,
                    incarnation: replica.incarnation,
                    written: before,
                    flushed: before,
                    confirmed_at,
                    trouble: None,
                    stalled: false,
                })
                .collect(),
            last_crc: 0,
        };
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            assert_eq!(
                state.committed, before,
                "nothing is committed while a segment is closed"
            );
            let old = std::mem::replace(&mut state.open, open);
            if old.start < row.start {
                let replica = |replica: &Replica| {
                    let row = SegmentReplica {
                        store: replica.store,
                        incarnation: replica.incarnation,
                    };
                    (row, replica.trouble.is_some())
                };
                let replicas = old.replicas.iter().map(replica).collect();
                state.closed.push(ClosedSegment {
                    id: old.id,
                    start: old.start,
                    end: row.start,
                    wanted: old.wanted,
                    replicas,
                });
            } else if self.options.describe_logs {
                self.described.borrow_mut().left_empty = true;
            }
            if bug!(self.options, DropInflight) {
                for record in state.pending.drain(..) {
                    record.promise.fulfil(Ok(()));
                }
                state.next = state.committed.next();
            }
            state.sent = state.committed;
            state.flights.clear();
            state.inflight_bytes = 0;
            state.closing = false;
            let narrow = state.open.replicas.len() < usize::from(row.wanted);
            state.narrow_since = narrow.then(|| self.world.now());
        }
        self.work.notify_all();
        self.progress.notify_all();
        self.pardon.notify_all();
    }
}
