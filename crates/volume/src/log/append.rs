//! Sending records to the replicas of the open segment, and committing them.

use super::trouble::Trouble;
use super::{ClosedSegment, Flight, Log, Pending};
use crate::change::Change;
use crate::options::bug;
use bytes::Bytes;
use std::rc::Rc;
use vocab::{Incarnation, Position, SegmentId, StoreId};
use wire::{
    CallError, Lane, Record, RecordHead, RecordKind, StoreCall, StoreError, StoreReply,
    StoreRequest,
};
use world::{Duration, LocalBoxFuture, Time};

/// Pause before a full journal is asked again; draining frees it.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// Rounds of [`FULL_PAUSE`] before a full journal counts as a failed replica: 30 s.
const FULL_ROUNDS_MAX: usize = 6000;

type AppendAnswer = Result<(StoreReply, Bytes), CallError>;

/// A batch as it goes to every replica.
struct Batch {
    segment: SegmentId,
    count: u32,
    body: Vec<Bytes>,
    durable: bool,
    bytes: usize,
    last: Position,
}

impl Log {
    pub(super) async fn send_forever(self: Rc<Self>) {
        loop {
            let work = self.work.notified();
            if self.is_lost() {
                return;
            }
            match self.take_batch() {
                Some(batch) => self.send(batch),
                None => work.await,
            }
        }
    }

    /// Records that were not sent yet, as many as one message takes.
    fn take_batch(&self) -> Option<Batch> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.closing || state.inflight_bytes >= self.options.inflight_bytes_max {
            return None;
        }
        let skip = usize::try_from(state.sent.0 - state.committed.0).expect("bounded by memory");
        let mut records = Vec::new();
        let (mut bytes, mut durable) = (0, false);
        for pending in state.pending.iter().skip(skip) {
            let cost = pending.change.data_bytes() + wire::RECORD_HEAD_BYTES;
            if bytes + cost > self.options.append_bytes_max && bytes > 0 {
                break;
            }
            let record = pending.change.to_record(RecordHead {
                crc: 0,
                previous_crc: state.open.last_crc,
                volume: self.volume,
                epoch: self.epoch,
                position: pending.position,
                segment: state.open.id,
                kind: RecordKind::Unmap,
                lba: vocab::Lba(0),
                blocks: 0,
                data_bytes: 0,
                committed: state.committed,
                flushed: state.flushed,
            });
            state.open.last_crc = record.head.crc;
            bytes += cost;
            durable |= pending.durable;
            if matches!(pending.change, Change::Reference { .. }) {
                state.sent_reference = pending.position;
            }
            records.push(record);
        }
        let last = records.last()?.head.position;
        // What a replica calls flushed a recovery believes. Extents and closed segments are flushed by a round, which the
        // write waits for.
        let flushed = state.flushed;
        let closed_flushed = |closed: &ClosedSegment| closed.end.0 <= flushed.0 + 1;
        durable &= state.sent_reference <= flushed && state.closed.iter().all(closed_flushed);
        if durable {
            state.flush_asked = state.flush_asked.max(last);
        }
        state.sent = last;
        state.inflight_bytes += bytes;
        state.flights.push_back(Flight {
            last,
            sent_at: self.world.now(),
            bytes,
        });
        let count = u32::try_from(records.len()).expect("bounded by append_bytes_max");
        let body = Record::encode_batch(&records);
        Some(Batch {
            segment: state.open.id,
            count,
            body,
            durable,
            bytes,
            last,
        })
    }

    fn send(self: &Rc<Self>, batch: Batch) {
        debug_assert!(batch.bytes > 0 && batch.last > Position::ZERO);
        let replicas: Vec<(StoreId, Incarnation)> = {
            let state = self.state.borrow();
            state
                .open
                .replicas
                .iter()
                .map(|replica| (replica.store, replica.incarnation))
                .collect()
        };
        for (store, incarnation) in replicas {
            let request = StoreRequest::Append {
                volume: self.volume,
                epoch: self.epoch,
                segment: batch.segment,
                incarnation,
                count: batch.count,
                durable: batch.durable,
            };
            let call = StoreCall {
                request,
                body: batch.body.clone(),
            };
            // The call is made here, not in the task: calls to one store keep their order.
            let first = self.stores.call(store, Lane::Log, call.clone());
            let sent_at = self.world.now();
            let written = self.written_by(store);
            let log = self.clone();
            let segment = batch.segment;
            self.world.spawn(async move {
                let result = log.answer_of((segment, store), written, first, &call).await;
                if let Some(result) = result {
                    log.on_appended(segment, store, sent_at, result);
                }
            });
        }
    }

    /// The last word of a replica on an append. It is sent again to a journal that was full, and to a replica whose
    /// connection broke once it is pardoned; `None` when it never will be. `written` is what it had acknowledged when it was
    /// asked `first`.
    async fn answer_of(
        &self,
        (segment, store): (SegmentId, StoreId),
        mut written: Position,
        first: LocalBoxFuture<'static, AppendAnswer>,
        call: &StoreCall,
    ) -> Option<AppendAnswer> {
        let mut result = first.await;
        let mut rounds = 0;
        loop {
            match &result {
                // It had acknowledged more when it was asked.
                Err(CallError::Refused {
                    error: StoreError::Gap { expected },
                    ..
                }) if written >= *expected => {
                    let lost = format!("has lost record {expected}, which it acknowledged");
                    self.replica_failed(segment, store, Trouble::Failed(lost));
                    return None;
                }
                Err(CallError::Refused {
                    error: StoreError::JournalFull | StoreError::Gap { .. },
                    ..
                }) if rounds < FULL_ROUNDS_MAX && self.is_open(segment) => {
                    rounds += 1;
                    self.set_stalled(store);
                    self.world.sleep(FULL_PAUSE).await;
                }
                Err(error @ CallError::Unreachable { .. }) => {
                    self.replica_failed(segment, store, error.clone().into());
                    if !self.pardoned(segment, store).await {
                        return None;
                    }
                }
                _ => return Some(result),
            }
            written = self.written_by(store);
            result = self.stores.call(store, Lane::Log, call.clone()).await;
        }
    }

    /// Last position that a replica of the open segment has acknowledged.
    fn written_by(&self, store: StoreId) -> Position {
        let state = self.state.borrow();
        let mut replicas = state.open.replicas.iter();
        let replica = replicas.find(|replica| replica.store == store);
        replica.map_or(Position::ZERO, |replica| replica.written)
    }

    pub(super) fn is_open(&self, segment: SegmentId) -> bool {
        let state = self.state.borrow();
        state.lost.is_none() && state.open.id == segment && !state.closing
    }

    fn set_stalled(&self, store: StoreId) {
        {
            let mut state = self.state.borrow_mut();
            let replicas = state.open.replicas.iter_mut();
            let stalled = replicas.filter(|replica| replica.store == store);
            stalled.for_each(|replica| replica.stalled = true);
        }
        if let Some(sink) = self.sink.borrow().as_ref() {
            sink.on_full_journal();
        }
    }

    fn on_appended(&self, segment: SegmentId, store: StoreId, sent_at: Time, result: AppendAnswer) {
        if let Err(CallError::Refused {
            error: StoreError::StaleEpoch { promised },
            ..
        }) = &result
        {
            debug_assert!(*promised > self.epoch);
            return self.fenced();
        }
        {
            let mut state = self.state.borrow_mut();
            if state.open.id != segment {
                return;
            }
            let Some(replica) = state
                .open
                .replicas
                .iter_mut()
                .find(|replica| replica.store == store)
            else {
                return;
            };
            match result {
                Ok((StoreReply::Appended { written, flushed }, _)) => {
                    replica.written = replica.written.max(written);
                    replica.flushed = replica.flushed.max(flushed);
                    replica.confirmed_at = replica.confirmed_at.max(sent_at);
                    replica.stalled = false;
                }
                Ok((other, _)) => {
                    drop(state);
                    let answer = format!("answered {other:?} to an append");
                    return self.replica_failed(segment, store, Trouble::Failed(answer));
                }
                Err(error) => {
                    drop(state);
                    return self.replica_failed(segment, store, error.into());
                }
            }
        }
        self.advance();
    }

    /// Commits what every replica has written, and hands it to the sink.
    pub(super) fn advance(&self) {
        let sink = self
            .sink
            .borrow()
            .clone()
            .expect("run() sets the sink before records are sent");
        let Some(done) = self.commit() else { return };
        let mut late = Vec::new();
        for record in done {
            let durable = record.durable.then_some(record.position);
            sink.committed(record.position, record.change);
            match durable {
                Some(position)
                    if position > self.flushed() && !bug!(self.options, AckBeforeFlush) =>
                {
                    late.push((position, record.promise));
                }
                Some(position) => {
                    self.bear_witness(position);
                    record.promise.fulfil(Ok(()));
                }
                None => record.promise.fulfil(Ok(())),
            }
        }
        self.finish_when_flushed(late);
        // A flush that was under way may have covered them by now: nothing else would.
        self.finish_late();
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// Moves the committed and the flushed position as far as the replicas allow; returns the records that are
    /// committed now.
    fn commit(&self) -> Option<Vec<Pending>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.closing || state.lost.is_some() {
            return None;
        }
        let written = state.open.replicas.iter().map(|replica| replica.written);
        let reached = if bug!(self.options, AckFirstReplica) {
            written.max()
        } else {
            written.min()
        };
        let reached = reached.unwrap_or(state.committed).min(state.sent);
        assert!(
            reached >= state.committed,
            "the committed position never goes back"
        );
        let mut done = Vec::new();
        while let Some(front) = state.pending.front() {
            if front.position > reached {
                break;
            }
            if matches!(front.change, Change::Reference { .. }) {
                state.last_reference = front.position;
            }
            done.extend(state.pending.pop_front());
        }
        state.committed = reached;
        let landed = |flight: &Flight| flight.last <= reached;
        while state.flights.front().is_some_and(landed) {
            let flight = state.flights.pop_front().expect("checked");
            state.inflight_bytes -= flight.bytes;
        }
        let replicas = state.open.replicas.iter();
        let all_flushed = replicas.map(|replica| replica.flushed).min();
        let closed_flushed = |closed: &ClosedSegment| closed.end.0 <= state.flushed.0 + 1;
        let simple = state.closed.iter().all(closed_flushed);
        if simple && let Some(flushed) = all_flushed {
            let flushed = flushed.min(reached);
            if flushed > state.flushed && state.last_reference <= state.flushed {
                state.flushed = flushed;
            }
        }
        Some(done)
    }
}
