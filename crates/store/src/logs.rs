//! Log replicas: fence, append, flush, read, trim.

use crate::journal::batch::{DATA_PAGES_MAX, Entry};
use crate::options::bug;
use crate::state::{COUNT_MAX, Meta, Place, Segment, Slot, State};
use crate::store::{Answer, Store};
use crate::upkeep::MOVE_PERCENT;
use bytes::Bytes;
use futures_util::future::join_all;
use std::collections::btree_map;
use std::ops::Bound;
use vocab::{BLOCK_SIZE, Epoch, Incarnation, Position, SegmentId, VolumeId};
use wire::{Record, RecordKind, SegmentTail, StoreError, StoreReply, Trust};
use world::PAGE;

/// Fill of the ring, in percent, above which appends are refused; the rest is for metadata and moves.
const APPEND_PERCENT_MAX: u64 = 80;
/// The same for records up to a checkpoint that was refused: with it in the log a ring is emptied, and without it, while
/// the catalog is away, nothing else does. Below what metadata may fill, which the trim after it needs.
const RELIEF_PERCENT_MAX: u64 = 89;
/// Records read at a time by a log read.
const READ_AHEAD: usize = 64;
/// Bound of the answer to a log read.
const READ_BYTES_MAX: u32 = 4 << 20;

/// Whom an append or flush is for.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub volume: VolumeId,
    pub epoch: Epoch,
    pub segment: SegmentId,
    pub incarnation: Incarnation,
}

fn bad(reason: impl Into<String>) -> StoreError {
    StoreError::BadRequest {
        reason: reason.into(),
    }
}

/// Splits an append's body into records; parts from the same process need no joining.
fn records_of(count: u32, body: &[Bytes]) -> Result<Vec<Record>, StoreError> {
    let count = count as usize;
    let damaged = |damage: wire::RecordDamage| bad(format!("append: {damage}"));
    if count == 0 {
        return Err(bad("append without records"));
    }
    if let [whole] = body {
        return Record::decode_batch(count, whole).map_err(damaged);
    }
    let aligned = body.len() == count + 1 && body[0].len() == count * wire::RECORD_HEAD_BYTES;
    if !aligned {
        return Record::decode_batch(count, &body.concat().into()).map_err(damaged);
    }
    let heads = body[0].chunks_exact(wire::RECORD_HEAD_BYTES);
    let record = |(head, data): (&[u8], &Bytes)| {
        let head = wire::RecordHead::from_bytes(head.try_into().expect("64 bytes"))?;
        Ok(Record {
            head,
            data: data.clone(),
        })
    };
    heads
        .zip(&body[1..])
        .map(record)
        .collect::<Result<_, _>>()
        .map_err(damaged)
}

/// Every record must be whole, of this target, and follow the one before it.
fn check_records(target: Target, records: &[Record]) -> Result<(), StoreError> {
    for (index, record) in records.iter().enumerate() {
        let head = &record.head;
        let ours = (head.volume, head.epoch, head.segment)
            == (target.volume, target.epoch, target.segment);
        if !ours {
            return Err(bad("append: a record of another segment"));
        }
        // A larger one would never fit a batch, and the journal would wait for ever behind it.
        if record.data.len() > DATA_PAGES_MAX * PAGE {
            return Err(bad("append: a record of more than 1 MiB"));
        }
        if !(1..=COUNT_MAX).contains(&head.position.0) {
            return Err(bad("append: an impossible position"));
        }
        record
            .verify()
            .map_err(|damage| bad(format!("append: {damage}")))?;
        if index > 0 {
            let before = &records[index - 1].head;
            if head.position != before.position.next() || head.previous_crc != before.crc {
                return Err(bad("append: records do not follow each other"));
            }
        }
    }
    Ok(())
}

/// Sent again, because its answer was lost or a takeover sends it: a yes counts it as written.
fn check_held(segment: &mut Segment, record: &Record) -> Result<(), StoreError> {
    let position = record.head.position;
    match segment.slot_mut(position) {
        Some(slot) if slot.head.crc != record.head.crc => Err(bad(format!(
            "append: {position} is here with other contents"
        ))),
        Some(slot) if slot.damaged => {
            let what = format!("log record {position}");
            Err(StoreError::Damaged { what })
        }
        Some(_) | None => Ok(()),
    }
}

fn last_checkpoint(records: &[Record]) -> Option<Position> {
    let checkpoints = records
        .iter()
        .filter(|record| record.head.kind == RecordKind::Checkpoint);
    checkpoints.map(|record| record.head.position).max()
}

impl Store {
    fn check_epoch(&self, volume: VolumeId, epoch: Epoch) -> Result<(), StoreError> {
        let state = self.0.state.borrow();
        let promised = state.logs.get(&volume).map_or(Epoch(0), |log| log.promised);
        if epoch < promised {
            Err(StoreError::StaleEpoch { promised })
        } else {
            Ok(())
        }
    }

    fn check_target(&self, target: Target) -> Result<(), StoreError> {
        let actual = self.incarnation();
        if target.incarnation != actual {
            return Err(StoreError::WrongIncarnation { actual });
        }
        if bug!(self.0.options.faults, AcceptStaleEpoch) {
            return Ok(());
        }
        self.check_epoch(target.volume, target.epoch)
    }

    /// Refuses appends before the ring can wedge.
    fn check_ring(&self, volume: VolumeId, records: &[Record]) -> Result<(), StoreError> {
        let data: usize = records
            .iter()
            .map(|record| record.data.len().div_ceil(PAGE))
            .sum();
        let pages = (data + records.len()) as u64;
        let percent = match self.relieves(volume, records) {
            true => RELIEF_PERCENT_MAX,
            false => APPEND_PERCENT_MAX,
        };
        let limit = self.0.journal.pages() * percent / 100;
        if self.0.journal.used_pages() + pages > limit || self.state_is_full() {
            self.force_checkpoint();
            return Err(StoreError::JournalFull);
        }
        Ok(())
    }

    /// Whether a checkpoint of the volume waits for these records, or is among them.
    fn relieves(&self, volume: VolumeId, records: &[Record]) -> bool {
        let state = self.0.state.borrow();
        let relief = state
            .logs
            .get(&volume)
            .map_or(Position::ZERO, |log| log.relief);
        records[0].head.position <= relief || last_checkpoint(records).is_some()
    }

    /// [`Self::accept`], if the ring has room.
    fn accept_unless_full(
        &self,
        target: Target,
        records: Vec<Record>,
    ) -> Result<Vec<Record>, StoreError> {
        let checkpoint = last_checkpoint(&records);
        let room = self.check_ring(target.volume, &records);
        let accepted = room.and_then(|()| self.accept(target, records));
        if accepted.is_err()
            && let Some(position) = checkpoint
            && let Some(log) = self.0.state.borrow_mut().logs.get_mut(&target.volume)
        {
            // What comes before it, and has been refused as well, is let in when it is sent again.
            log.relief = log.relief.max(position);
        }
        accepted
    }

    pub(crate) async fn append(
        &self,
        target: Target,
        count: u32,
        durable: bool,
        body: Vec<Bytes>,
    ) -> Answer {
        self.check_target(target)?;
        let records = records_of(count, &body)?;
        check_records(target, &records)?;
        let through = records.last().map(|record| record.head.position);
        let fresh = self.accept_unless_full(target, records)?;
        self.grow_state(fresh.len() as u64 * State::SLOT_BYTES);
        let pushed = !fresh.is_empty();
        let ticket = self.0.journal.push(fresh.into_iter().map(Entry::Record));
        let (ticket, last) = {
            let mut state = self.0.state.borrow_mut();
            let log = state
                .logs
                .get_mut(&target.volume)
                .ok_or(StoreError::NoSegment)?;
            if pushed && log.promise_ticket == 0 {
                log.promise_ticket = ticket;
            }
            let segment = log
                .segments
                .get_mut(&target.segment)
                .ok_or(StoreError::NoSegment)?;
            if pushed {
                segment.ticket = ticket;
            }
            (segment.ticket, Position(segment.next().0 - 1))
        };
        self.consider_upkeep();
        if durable {
            self.durable(ticket).await?;
            return Ok(self.appended(target, last, through));
        }
        self.written(ticket).await?;
        Ok(self.appended(target, last, None))
    }

    /// The answer, once it is so. `flushed` is how far the owner says so: records after it may be on the device as well, but
    /// what they refer to elsewhere need not be, and a recovery believes what counts as flushed.
    fn appended(
        &self,
        target: Target,
        written: Position,
        flushed: Option<Position>,
    ) -> (StoreReply, Vec<Bytes>) {
        let flushed = match bug!(self.0.options.faults, FlushedAsWritten) {
            true => flushed.map(|_| written),
            false => flushed,
        };
        let mut state = self.0.state.borrow_mut();
        let log = state.logs.get_mut(&target.volume);
        let segment = log.and_then(|log| log.segments.get_mut(&target.segment));
        let known = segment.map(|segment| {
            segment.flushed = segment.flushed.max(flushed.unwrap_or_default());
            segment.flushed
        });
        let flushed = known.or(flushed).unwrap_or_default();
        (StoreReply::Appended { written, flushed }, Vec::new())
    }

    /// Takes records into the index; returns those that were not there yet.
    fn accept(&self, target: Target, records: Vec<Record>) -> Result<Vec<Record>, StoreError> {
        let mut state = self.0.state.borrow_mut();
        let log = state.logs.entry(target.volume).or_default();
        let first = &records[0].head;
        // A takeover that came to nothing left a segment the catalog never knew: its successor's replaces it.
        let left_over = |segment: &Segment| segment.epoch < target.epoch && first.previous_crc == 0;
        if log.segments.get(&target.segment).is_some_and(left_over) {
            log.segments.remove(&target.segment);
        }
        if let btree_map::Entry::Vacant(vacant) = log.segments.entry(target.segment) {
            if first.previous_crc != 0 {
                return Err(StoreError::NoSegment);
            }
            vacant.insert(Segment::new(target.epoch, first.position));
        }
        log.promised = log.promised.max(target.epoch);
        let segment = log
            .segments
            .get_mut(&target.segment)
            .expect("inserted above");
        if segment.epoch != target.epoch {
            return Err(bad("append: the segment belongs to another term"));
        }
        // A takeover would not trust what it took from now on. Its owner opens another one.
        if segment.suspect {
            let id = target.segment;
            let what = format!("perhaps the end of {id}, as this machine has lost power");
            return Err(StoreError::Damaged { what });
        }
        if first.position > segment.next() {
            return Err(StoreError::Gap {
                expected: segment.next(),
            });
        }
        let mut fresh = Vec::with_capacity(records.len());
        for record in records {
            let position = record.head.position;
            if position < segment.next() {
                check_held(segment, &record)?;
                continue;
            }
            if record.head.previous_crc != segment.last_crc {
                return Err(bad(format!(
                    "append: {position} does not continue the segment"
                )));
            }
            let place = if record.data.is_empty() {
                Place::Nothing
            } else {
                Place::Pending
            };
            segment.push(Slot {
                head: record.head,
                place,
                damaged: false,
            });
            fresh.push(record);
        }
        Ok(fresh)
    }

    pub(crate) async fn flush_log(&self, target: Target, through: Position) -> Answer {
        self.check_target(target)?;
        let (ticket, last) = {
            let state = self.0.state.borrow();
            let log = state
                .logs
                .get(&target.volume)
                .ok_or(StoreError::NoSegment)?;
            let segment = log
                .segments
                .get(&target.segment)
                .ok_or(StoreError::NoSegment)?;
            if segment.next() <= through {
                return Err(StoreError::Gap {
                    expected: segment.next(),
                });
            }
            (segment.ticket, Position(segment.next().0 - 1))
        };
        self.durable(ticket).await?;
        Ok(self.appended(target, last, Some(through)))
    }

    pub(crate) async fn fence(&self, volume: VolumeId, epoch: Epoch) -> Answer {
        self.check_epoch(volume, epoch)?;
        let raised = {
            let mut state = self.0.state.borrow_mut();
            let log = state.logs.entry(volume).or_default();
            let previous = log.promised;
            log.promised = epoch;
            (previous < epoch).then_some(previous)
        };
        if raised.is_some() && !bug!(self.0.options.faults, ForgetPromise) {
            let ticket = self
                .0
                .journal
                .push([Entry::meta(&Meta::Promise(volume, epoch))]);
            let mut state = self.0.state.borrow_mut();
            state.logs.entry(volume).or_default().promise_ticket = ticket;
        }
        // Everything accepted before the promise is on the device then, so the tails below are final.
        self.durable(self.0.journal.last_ticket()).await?;
        self.check_epoch(volume, epoch)?;
        let state = self.0.state.borrow();
        let log = state.logs.get(&volume).ok_or(StoreError::NoSegment)?;
        let suspect = log.segments.values().any(|segment| segment.suspect);
        let trusted = !suspect || bug!(self.0.options.faults, TrustAfterPowerLoss);
        let reply = StoreReply::Fenced {
            incarnation: state.incarnation,
            trust: if trusted {
                Trust::Trusted
            } else {
                Trust::Suspect
            },
            previous: raised.unwrap_or(epoch),
            segments: log.segments.iter().map(tail_of).collect(),
        };
        Ok((reply, Vec::new()))
    }

    pub(crate) async fn read_log(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        segment: SegmentId,
        from: Position,
        bytes_max: u32,
    ) -> Answer {
        self.check_epoch(volume, epoch)?;
        let ticket = self.with_segment(volume, segment, |segment| segment.ticket)?;
        self.written(ticket).await?;
        let (slots, more) = self.with_segment(volume, segment, |segment| {
            slots_of(segment, from, bytes_max)
        })?;
        let Some(slots) = slots else {
            return Err(StoreError::NoSegment);
        };
        let wanted = slots.len();
        let mut records = Vec::with_capacity(wanted);
        'reading: for chunk in slots.chunks(READ_AHEAD) {
            let reads = chunk.iter().map(|slot| self.read_record(slot));
            for read in join_all(reads).await {
                match read {
                    Ok(record) => records.push(record),
                    Err(error) if records.is_empty() => return Err(error),
                    Err(_) => break 'reading,
                }
            }
        }
        let more = more || records.len() < wanted;
        let count = records.len() as u32;
        Ok((
            StoreReply::Records { count, more },
            Record::encode_batch(&records),
        ))
    }

    fn with_segment<T>(
        &self,
        volume: VolumeId,
        segment: SegmentId,
        look: impl FnOnce(&Segment) -> T,
    ) -> Result<T, StoreError> {
        let state = self.0.state.borrow();
        let log = state.logs.get(&volume).ok_or(StoreError::NoSegment)?;
        log.segments
            .get(&segment)
            .map(look)
            .ok_or(StoreError::NoSegment)
    }

    /// Reads a live record's data and verifies it.
    pub(crate) async fn read_record(&self, slot: &Slot) -> Result<Record, StoreError> {
        let head = slot.head;
        let damaged = || {
            let what = format!("record {} of {} in the journal", head.position, head.volume);
            StoreError::Damaged { what }
        };
        let data = match slot.place {
            Place::Nothing => Bytes::new(),
            Place::Pending => return Err(damaged()),
            Place::At { page, offset } => {
                let (start, length) = (offset as usize, head.data_bytes as usize);
                let pages = (start + length).div_ceil(PAGE);
                let area = self.0.headers[0].journal;
                let at = area.offset + page % self.0.journal.pages() * PAGE as u64;
                let read = self.0.disks[0].read(at, pages * PAGE).await;
                // A journal whose disk has failed takes no appends, which says so.
                let read = self.heard(read, false)?.map_err(|_| damaged())?;
                read.slice(start..start + length)
            }
        };
        let record = Record { head, data };
        record.verify().map_err(|_| damaged())?;
        Ok(record)
    }

    pub(crate) fn trim_log(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        through: Position,
    ) -> Result<(), StoreError> {
        self.check_epoch(volume, epoch)?;
        let meta = Meta::Trim(volume, through);
        let known = {
            let mut state = self.0.state.borrow_mut();
            let known = state.logs.contains_key(&volume);
            state.apply(&meta);
            known
        };
        if known && self.is_tight() {
            // The next checkpoint holds it; until then a crash brings back records that nobody needs.
            self.force_checkpoint();
        } else if known {
            self.0.journal.push([Entry::meta(&meta)]);
            if self.ring_is_above(MOVE_PERCENT) {
                // New log segments pass over a ring this full, so what was let go should show at once.
                self.force_checkpoint();
            } else {
                self.consider_upkeep();
            }
        }
        Ok(())
    }

    pub(crate) async fn drop_log(&self, volume: VolumeId, epoch: Epoch) -> Result<(), StoreError> {
        self.room().await?;
        self.check_epoch(volume, epoch)?;
        let meta = Meta::Drop(volume, epoch);
        self.0.state.borrow_mut().apply(&meta);
        let ticket = self.0.journal.push([Entry::meta(&meta)]);
        self.durable(ticket).await
    }

    pub(crate) fn confirm(&self, volumes: &[(VolumeId, Epoch)]) -> (StoreReply, Vec<Bytes>) {
        let state = self.0.state.borrow();
        let promised = |(volume, _): &(VolumeId, Epoch)| {
            state.logs.get(volume).map_or(Epoch(0), |log| log.promised)
        };
        (
            StoreReply::Confirmed {
                promised: volumes.iter().map(promised).collect(),
            },
            Vec::new(),
        )
    }

    /// What is here of a volume's log now, without a promise: for inspection and checks. What it says may be on
    /// its way to the device still.
    #[must_use]
    pub fn inspect_log(&self, volume: VolumeId) -> Vec<SegmentTail> {
        let state = self.0.state.borrow();
        let log = state.logs.get(&volume);
        log.map(|log| log.segments.iter().map(tail_of).collect())
            .unwrap_or_default()
    }

    /// The epoch below which a volume's requests are refused here now, for checks.
    #[must_use]
    pub fn inspect_promise(&self, volume: VolumeId) -> Epoch {
        let state = self.0.state.borrow();
        state.logs.get(&volume).map_or(Epoch(0), |log| log.promised)
    }

    /// As [`Store::inspect_promise`], once all that was written here is on the device, so that a loss of power keeps it.
    #[must_use]
    pub fn inspect_durable_promise(&self, volume: VolumeId) -> Option<Epoch> {
        let journal = &self.0.journal;
        let durable = journal.flushed() >= journal.last_ticket();
        durable.then(|| self.inspect_promise(volume))
    }

    pub(crate) fn list_logs(
        &self,
        after: Option<VolumeId>,
        limit: u32,
    ) -> (StoreReply, Vec<Bytes>) {
        let state = self.0.state.borrow();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let held = state
            .logs
            .range((start, Bound::Unbounded))
            .filter(|(_, log)| !log.segments.is_empty());
        let volumes: Vec<VolumeId> = held
            .map(|(&volume, _)| volume)
            .take(limit.min(10_000) as usize)
            .collect();
        (StoreReply::Logs { volumes }, Vec::new())
    }
}

fn tail_of((&id, segment): (&SegmentId, &Segment)) -> SegmentTail {
    SegmentTail {
        segment: id,
        epoch: segment.epoch,
        first: segment.first,
        last: segment.last_good(),
        committed: segment.committed,
        flushed: segment.flushed,
    }
}

/// Slots from `from` on, about `bytes_max` bytes, at least one; whether more follow. `None`: trimmed.
fn slots_of(segment: &Segment, from: Position, bytes_max: u32) -> (Option<Vec<Slot>>, bool) {
    if from < segment.first {
        return (None, false);
    }
    let skip = (from.0 - segment.first.0) as usize;
    let (mut bytes, mut slots) = (0, Vec::new());
    for slot in segment.slots.iter().skip(skip) {
        bytes += slot.head.data_bytes as usize + wire::RECORD_HEAD_BYTES;
        if !slots.is_empty() && bytes > bytes_max.min(READ_BYTES_MAX) as usize {
            return (Some(slots), true);
        }
        slots.push(*slot);
    }
    (Some(slots), false)
}

const _: () = assert!(BLOCK_SIZE == PAGE);
