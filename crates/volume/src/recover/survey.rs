//! Fencing the replicas of a log, learning what each holds, and reading it.

use super::Run;
use crate::options::bug;
use crate::volume::{Context, VolumeError};
use bytes::Bytes;
use catalog::{CatalogError, SegmentReplica, SegmentRow, VolumeRow};
use futures_util::future::join_all;
use std::cell::Cell;
use std::collections::BTreeMap;
use vocab::{Incarnation, Position, StoreId};
use wire::{CallError, Lane, Record, SegmentTail, StoreError, StoreReply, StoreRequest, Trust};
use world::{Duration, Time};

/// Patience with one fence.
const FENCE_PATIENCE: Duration = Duration::from_millis(500);
/// Pause before stores that did not answer are asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Bound of one piece of log read.
const READ_BYTES: u32 = 1 << 20;
/// Patience with one piece of log.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// A store's answer to the fence.
struct Answer {
    incarnation: Incarnation,
    trust: Trust,
    segments: Vec<SegmentTail>,
}

/// What is known of a volume's log replicas.
pub(super) struct Survey<'a> {
    context: &'a Context,
    row: &'a VolumeRow,
    answers: BTreeMap<StoreId, Answer>,
    fenced_at: Cell<Option<Time>>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(context: &'a Context, row: &'a VolumeRow) -> Self {
        Self {
            context,
            row,
            answers: BTreeMap::new(),
            fenced_at: Cell::new(None),
        }
    }

    /// Fences every store that has not answered yet.
    pub(super) async fn ask(&mut self) -> Result<(), VolumeError> {
        let replicas = self
            .row
            .segments
            .iter()
            .flat_map(|segment| &segment.replicas);
        let mut stores: Vec<StoreId> = replicas.map(|replica| replica.store).collect();
        stores.sort_unstable();
        stores.dedup();
        stores.retain(|store| !self.answers.contains_key(store));
        let answers = join_all(stores.iter().map(|&store| self.fence(store))).await;
        for (store, answer) in stores.into_iter().zip(answers) {
            if let Some(answer) = answer? {
                self.note_fenced(store);
                self.answers.insert(store, answer);
            }
        }
        Ok(())
    }

    fn note_fenced(&self, store: StoreId) {
        let open = self.row.segments.last();
        let of_open =
            open.is_some_and(|open| open.replicas.iter().any(|replica| replica.store == store));
        if of_open && self.fenced_at.get().is_none() {
            self.fenced_at.set(Some(self.context.world.now()));
        }
    }

    async fn fence(&self, store: StoreId) -> Result<Option<Answer>, VolumeError> {
        let mut epoch = self.row.epoch;
        if bug!(self.context.options, SkipFence) {
            epoch = vocab::Epoch(epoch.0 - 1);
        }
        let request = StoreRequest::Fence {
            volume: self.row.id,
            epoch,
        };
        let call = self.context.stores.call(store, Lane::Log, request.into());
        match self.context.world.timeout(FENCE_PATIENCE, call).await {
            Ok(Ok((
                StoreReply::Fenced {
                    incarnation,
                    trust,
                    segments,
                    ..
                },
                _,
            ))) => Ok(Some(Answer {
                incarnation,
                trust,
                segments,
            })),
            Ok(Err(CallError::Refused {
                error: StoreError::StaleEpoch { promised },
                ..
            })) => Err(CatalogError::StaleOwner { current: promised }.into()),
            _ => Ok(None),
        }
    }

    pub(super) async fn pause(&self) {
        self.context.world.sleep(RETRY_PAUSE).await;
    }

    /// The answer of a replica that is still the store that the segment was opened on.
    fn eligible(&self, replica: &SegmentReplica) -> Option<&Answer> {
        self.answers
            .get(&replica.store)
            .filter(|answer| answer.incarnation == replica.incarnation)
    }

    fn trusted(&self, segment: &SegmentRow) -> bool {
        let answers = segment
            .replicas
            .iter()
            .filter_map(|replica| self.eligible(replica));
        answers
            .into_iter()
            .any(|answer| answer.trust == Trust::Trusted)
    }

    fn all_of(&self, segment: &SegmentRow) -> bool {
        self.silent(segment).next().is_none()
    }

    pub(super) fn all_answered(&self) -> bool {
        self.row.segments.iter().all(|segment| self.all_of(segment))
    }

    /// Whether the answers suffice to decide: for every segment a trusted replica, or all of them, or (at
    /// last) at least one, if the others have left the cluster's life as well.
    pub(super) fn suffices(&self, last_word: bool) -> Result<(), String> {
        let undecided = self.row.segments.iter().find(|segment| {
            let mut replicas = segment.replicas.iter();
            let some = replicas.any(|replica| self.eligible(replica).is_some());
            let at_last = last_word && some && self.out_of_reach_of(segment).is_none();
            !(self.trusted(segment) || self.all_of(segment) || at_last)
        });
        let Some(segment) = undecided else {
            return Ok(());
        };
        let missing: Vec<String> = self
            .silent(segment)
            .map(|store| store.to_string())
            .collect();
        Err(format!(
            "{} of {} does not answer",
            missing.join(" and "),
            segment.id
        ))
    }

    /// Stores of a segment that have not answered.
    fn silent(&self, segment: &SegmentRow) -> impl Iterator<Item = StoreId> {
        let stores = segment.replicas.iter().map(|replica| replica.store);
        stores.filter(|store| !self.answers.contains_key(store))
    }

    fn out_of_reach_of(&self, segment: &SegmentRow) -> Option<StoreId> {
        let placement = &self.context.placement;
        self.silent(segment)
            .find(|&store| placement.lives_elsewhere(store))
    }

    /// A store of another living machine without whose word nothing may be decided, as long as that machine lives: those
    /// that answered for the segment may have lost what it still has.
    pub(super) fn out_of_reach(&self) -> Option<StoreId> {
        let mut undecided = self
            .row
            .segments
            .iter()
            .filter(|segment| !self.trusted(segment));
        undecided.find_map(|segment| self.out_of_reach_of(segment))
    }

    fn tails(&self, segment: &SegmentRow) -> Vec<(StoreId, SegmentTail)> {
        let tail = |replica: &SegmentReplica| {
            let answer = self.eligible(replica)?;
            let tail = answer
                .segments
                .iter()
                .find(|tail| tail.segment == segment.id && tail.epoch == segment.epoch)?;
            Some((replica.store, *tail))
        };
        let mut tails: Vec<_> = segment.replicas.iter().filter_map(tail).collect();
        tails.sort_by_key(|(_, tail)| std::cmp::Reverse(tail.last));
        if bug!(self.context.options, RecoverShortest) {
            tails.reverse();
        }
        tails
    }

    /// For each segment the longest run of records that a replica holds; empty where none holds any.
    pub(super) async fn read(&self) -> Result<Vec<Run>, String> {
        let mut runs = Vec::new();
        for segment in &self.row.segments {
            runs.push(self.read_segment(segment).await?);
        }
        Ok(runs)
    }

    /// Reads the longest replica; where it fails, the next one goes on.
    async fn read_segment(&self, segment: &SegmentRow) -> Result<Run, String> {
        let tails = self.tails(segment);
        let mut run: Run = Vec::new();
        let mut problem = None;
        for (store, tail) in &tails {
            let from = run
                .last()
                .map_or(tail.first, |record| record.head.position.next());
            if from > tail.last {
                continue;
            }
            if from < tail.first {
                // This replica has trimmed what the other one could not give: its run counts alone.
                run.clear();
            }
            match self
                .read_run(*store, segment, from.max(tail.first), tail.last, &mut run)
                .await
            {
                Ok(()) => return Ok(run),
                Err(reason) => problem = Some(reason),
            }
        }
        match problem {
            // Damage on every replica ends the run there; the floor decides whether that is too early.
            Some(reason) if run.is_empty() && !tails.is_empty() => Err(reason),
            _ => Ok(run),
        }
    }

    async fn read_run(
        &self,
        store: StoreId,
        segment: &SegmentRow,
        mut from: Position,
        last: Position,
        run: &mut Run,
    ) -> Result<(), String> {
        while from <= last {
            let request = StoreRequest::ReadLog {
                volume: self.row.id,
                epoch: self.row.epoch,
                segment: segment.id,
                from,
                bytes_max: READ_BYTES,
            };
            let call = self.context.stores.call(store, Lane::Log, request.into());
            let reply = self.context.world.timeout(READ_PATIENCE, call).await;
            let (reply, body) = reply
                .map_err(|late| late.to_string())?
                .map_err(|error| error.to_string())?;
            let StoreReply::Records { count, .. } = reply else {
                return Err(format!("{store} answered {reply:?} to a log read"));
            };
            for record in decode(count, &body)? {
                check_record(&record, self.row, segment, from)?;
                if record.head.position > last {
                    return Ok(());
                }
                from = record.head.position.next();
                run.push(record);
            }
            if count == 0 {
                return Err(format!(
                    "{store} has no record {} of {}",
                    from.0, segment.id
                ));
            }
        }
        Ok(())
    }

    /// Highest position that somebody knew flushed. A replica may have flushed more of a closed segment than its end: that was
    /// on too few of them, was not acknowledged, and is not part of the log.
    pub(super) fn flushed(&self) -> Position {
        let of_segment = |segment: &SegmentRow| {
            let tails = self.tails(segment).into_iter();
            let flushed = tails.map(|(_, tail)| tail.flushed).max();
            let last = segment.end.map(|end| Position(end.0.saturating_sub(1)));
            flushed.map(|flushed| last.map_or(flushed, |last| flushed.min(last)))
        };
        let flushed = self.row.segments.iter().filter_map(of_segment).max();
        flushed
            .unwrap_or(Position::ZERO)
            .max(self.row.root.position)
    }

    /// The position the log must reach, and by which right: committed, where a replica that answered is
    /// sure to hold everything acknowledged in the segment that `reached` lies in; else flushed.
    pub(super) fn floor(&self, reached: Position, row: &VolumeRow) -> (Position, &'static str) {
        let flushed = self.flushed();
        let broken = row
            .segments
            .iter()
            .find(|segment| segment.end.is_none_or(|end| end > reached.next()));
        let trusted = broken.is_some_and(|segment| self.trusted(segment));
        if !trusted {
            return (flushed, "flushed");
        }
        let tails = row.segments.iter().flat_map(|segment| self.tails(segment));
        let committed = tails
            .map(|(_, tail)| tail.committed)
            .max()
            .unwrap_or(Position::ZERO);
        (committed.max(flushed), "acknowledged")
    }

    pub(super) fn fenced_at(&self) -> Option<Time> {
        self.fenced_at.get()
    }
}

fn decode(count: u32, body: &Bytes) -> Result<Vec<Record>, String> {
    Record::decode_batch(count as usize, body).map_err(|damage| damage.to_string())
}

/// The store has checked the chain; the reader checks that it is this log, and each record's checksum.
fn check_record(
    record: &Record,
    row: &VolumeRow,
    segment: &SegmentRow,
    expected: Position,
) -> Result<(), String> {
    let head = &record.head;
    let place = (head.volume, head.epoch, head.segment, head.position);
    if place != (row.id, segment.epoch, segment.id, expected) {
        return Err(format!(
            "expected position {} of {}, got {:?}",
            expected.0, segment.id, head
        ));
    }
    record
        .verify()
        .map_err(|damage| format!("position {}: {damage}", head.position.0))
}
