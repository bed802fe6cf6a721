//! Opening a volume: take it over, fence its log, find everything that counts, copy it to a new segment.
//! Architecture 3.4 decides what counts; this file follows it.
//!
//! 1. The catalog's epoch grows, so nobody else can finish an older takeover.
//! 2. Every replica of every segment is asked to promise the epoch and to say what it holds. Since a
//!    record is acknowledged only by all replicas, one promise stops the old owner.
//! 3. The longest chained prefix is read. Its floor: what was committed where a replica can be trusted to
//!    have everything, else what was flushed. A floor that cannot be met stops the volume. What was only flushed is
//!    not decided on while the machine of a replica lives that cannot be reached from here: its node opens the volume.
//! 4. What is not in the newest root is appended to a new segment, flushed on all of its replicas.
//! 5. After the old owner's read confirmations have run out, one compare-and-swap makes the new segment
//!    the log. Only then is anything acknowledged.

mod copy;
mod survey;

use crate::change::Change;
use crate::drain::LayerWriter;
use crate::extents::{ExtentIds, Policy};
use crate::log::{Log, Parts, Start, put_note};
use crate::options::bug;
use crate::overlay::Overlay;
use crate::volume::{Context, Volume, VolumeError, apply, copies_of, policy_of};
use catalog::{LogNote, SnapshotState, VolumeRoot, VolumeRow};
use group::PoolError;
use std::rc::Rc;
use survey::Survey;
use vocab::{Epoch, NodeId, Position, SnapshotId, VolumeId};
use wire::Record;
use world::{LocalBoxFuture, Time};

/// A place among the openings of a node, few of which work at the same time. One that waits for others, stores or the end of
/// old reads, keeps nobody from working.
pub trait Turn {
    /// What follows is a wait. Said twice it counts once.
    fn rest(&self);
    /// As [`Turn::rest`]; the wait is for a moment that is known, and little is left to be done after it.
    fn settle(&self);
    /// The wait is over; resolves when there is work to be done again.
    fn resume(&self) -> LocalBoxFuture<'_, ()>;
}

/// What recovery found: the newest root and the records after it, without gaps.
struct Found {
    root: VolumeRoot,
    records: Vec<(Position, Change)>,
    /// Highest position that somebody knew flushed.
    flushed: Position,
    /// When the first replica of the open segment had promised the new epoch.
    fenced_at: Option<Time>,
    /// Snapshots that were given their roots on the way.
    settled: Vec<(SnapshotId, catalog::MapRoot)>,
}

/// Takes a volume over for `node` and opens it, in its turn. Safe to repeat after any error. `seen` is the epoch of the row
/// in which the caller saw that nobody alive serves it: whoever takes it over meanwhile keeps it.
///
/// # Errors
/// [`VolumeError::Catalog`] (`StaleOwner`: somebody else was faster), [`VolumeError::Unavailable`] when too
/// few stores answer, [`VolumeError::DataMissing`] when acknowledged data is gone: the volume is then
/// stopped in the catalog with the reason.
pub async fn open(
    context: Context,
    id: VolumeId,
    seen: Epoch,
    node: NodeId,
    turn: &dyn Turn,
) -> Result<Rc<Volume>, VolumeError> {
    let taken = context.catalog.take_over(id, seen, node).await?;
    #[cfg(feature = "bugs")]
    if let Some(witness) = &context.options.witness {
        witness.0.on_taken(id, taken.row.epoch);
    }
    // An attempt that came to nothing has ended no owner's reads: who serves is then the owner of an earlier term, whatever the row says.
    let was_opened = |last: &catalog::SegmentRow| last.epoch == seen;
    let served = taken.row.segments.last().is_none_or(was_opened);
    let may_be_read = !served || taken.previous.is_some_and(|previous| previous != node);
    let opened = recover(&context, &taken.row, may_be_read, turn).await;
    if let Err(VolumeError::DataMissing { reason, .. }) = &opened {
        // Best effort: the error says the same to the caller.
        let _ = context
            .catalog
            .stop_volume(id, taken.row.epoch, reason)
            .await;
    }
    opened
}

async fn recover(
    context: &Context,
    row: &VolumeRow,
    may_be_read: bool,
    turn: &dyn Turn,
) -> Result<Rc<Volume>, VolumeError> {
    let container = context.catalog.container(row.container).await?.row;
    let policy = policy_of(&container);
    let mut found = find(context, row, turn).await?;
    check_references(context, row, &mut found).await?;
    let term = if bug!(context.options, ReuseExtentId) {
        Epoch(1)
    } else {
        row.epoch
    };
    let spent = ExtentIds::new(row.id, term);
    let copied = match copy::copy_log(context, row, copies_of(policy), &found).await {
        Err(VolumeError::JournalFull { .. }) => {
            drain_found(context, row, policy, &mut found, &spent).await?;
            // The part that was copied before the journal was full must not pass for the beginning of the log.
            let mut fresh = row.clone();
            fresh.next_segment = row.next_segment.next();
            copy::copy_log(context, &fresh, copies_of(policy), &found).await?
        }
        other => other?,
    };
    let note = describe(context, row, &found, &copied).await?;
    if may_be_read && !bug!(context.options, SkipTakeoverWait) {
        turn.settle();
        wait_for_old_reads(context, found.fenced_at).await;
        turn.resume().await;
    }
    let row = context
        .catalog
        .replace_log(row.id, row.epoch, found.root, &copied.segment)
        .await?;
    let last = found
        .records
        .last()
        .map_or(found.root.position, |(position, _)| *position);
    let parts = Parts {
        world: context.world.clone(),
        stores: context.stores.clone(),
        catalog: context.catalog.clone(),
        placement: context.placement.clone(),
        options: context.options.clone(),
    };
    let start = Start {
        segment: copied.segment,
        last,
        last_crc: copied.last_crc,
        confirmed_at: copied.confirmed_at,
        note,
    };
    let log = Log::new(parts, row.id, row.epoch, copies_of(policy), start);
    let overlay = Overlay::new(found.root.position);
    let ids = ExtentIds::new(row.id, term);
    ids.skip_to(&spent);
    for (position, change) in &found.records {
        if let Change::Reference { runs, .. } = change {
            runs.iter().for_each(|run| ids.hold(run.0, Some(*position)));
        }
        apply(&overlay, *position, change);
    }
    let volume = Volume::assemble(context.clone(), &row, policy, log, overlay, found.root, ids);
    let settled = settle_snapshot_at_root(context, &row, found.root).await?;
    volume.log.note_settled(&settled);
    volume.run();
    Ok(volume)
}

/// Makes extents and a root of everything found, without a log: when the journals have no room for a copy of
/// it. The root is in the catalog when this returns, with those of pending snapshots, that at the newest root included;
/// nothing is left to copy.
async fn drain_found(
    context: &Context,
    row: &VolumeRow,
    policy: Policy,
    found: &mut Found,
    spent: &ExtentIds,
) -> Result<(), VolumeError> {
    let overlay = Overlay::new(found.root.position);
    for (position, change) in &found.records {
        apply(&overlay, *position, change);
    }
    overlay.cut();
    let writer = LayerWriter::new(context, spent, policy);
    let unavailable = |reason: String| unavailable(row, reason);
    let mut settled = settle_snapshot_at_root(context, row, found.root).await?;
    while let Some(layer) = overlay.oldest() {
        let written = writer.write(found.root, &layer).await;
        let (root, unflushed) = written.map_err(unavailable)?;
        let flushed = context.pool.flush(&unflushed).await;
        flushed.map_err(|error| unavailable(error.to_string()))?;
        settled.extend(layer.barrier.map(|snapshot| (snapshot, root.map)));
        found.root = root;
        overlay.drop_oldest();
    }
    let position = overlay.last();
    found.root.position = position;
    let publish = context
        .catalog
        .publish_root(row.id, row.epoch, found.root, &settled);
    publish.await?;
    found.records.clear();
    found.flushed = position;
    found.settled = settled;
    Ok(())
}

/// Tells the replicas of the new segment of the log that they are about to be.
async fn describe(
    context: &Context,
    row: &VolumeRow,
    found: &Found,
    copied: &copy::Copied,
) -> Result<LogNote, VolumeError> {
    let note = LogNote {
        volume: row.id,
        epoch: row.epoch,
        root: found.root,
        segments: vec![copied.segment.clone()],
        next_segment: copied.segment.id.next(),
        settled: found.settled.clone(),
    };
    if context.options.describe_logs {
        for replica in &copied.segment.replicas {
            let told = put_note(&context.world, &*context.stores, replica.store, &note, 1).await;
            told.map_err(|reason| unavailable(row, reason))?;
        }
    }
    Ok(note)
}

/// Reads may have been served by the old owner on the word of replicas given just before they were fenced.
async fn wait_for_old_reads(context: &Context, fenced_at: Option<Time>) {
    let Some(fenced_at) = fenced_at else { return };
    let until = fenced_at + context.options.read_confirmation + context.options.drift_allowance;
    context.world.clock.sleep_until(until).await;
}

fn unavailable(row: &VolumeRow, reason: String) -> VolumeError {
    VolumeError::Unavailable {
        volume: row.id,
        reason,
    }
}

/// Gives the volume up for a node that reaches what this one does not, after a while. One that has fenced nothing has
/// nothing to say: the old owner may go on.
async fn leave_if_out_of_reach(
    context: &Context,
    row: &VolumeRow,
    survey: &Survey<'_>,
    began: Time,
) -> Result<(), VolumeError> {
    let waited = context.world.now().since(began);
    let Some(store) = survey.out_of_reach() else {
        return Ok(());
    };
    if waited < context.options.reach_patience || survey.fenced_at().is_none() {
        return Ok(());
    }
    wait_for_old_reads(context, survey.fenced_at()).await;
    let volume = row.id;
    Err(VolumeError::OutOfReach { volume, store })
}

/// Surveys the replicas until they suffice, reads what they hold, and decides where the log ends.
async fn find(context: &Context, row: &VolumeRow, turn: &dyn Turn) -> Result<Found, VolumeError> {
    if row.segments.is_empty() {
        let flushed = row.root.position;
        return Ok(Found {
            root: row.root,
            records: Vec::new(),
            flushed,
            fenced_at: None,
            settled: Vec::new(),
        });
    }
    let mut survey = Survey::new(context, row);
    let began = context.world.now();
    loop {
        turn.rest();
        survey.ask().await?;
        let last_word = context.world.now().since(began) >= context.options.recovery_patience;
        if let Err(reason) = survey.suffices(last_word) {
            leave_if_out_of_reach(context, row, &survey, began).await?;
            if last_word {
                return Err(unavailable(row, reason));
            }
            survey.pause().await;
            continue;
        }
        turn.resume().await;
        let runs = match survey.read().await {
            Ok(runs) => runs,
            Err(reason) if last_word => return Err(unavailable(row, reason)),
            Err(_) => {
                turn.rest();
                survey.pause().await;
                continue;
            }
        };
        let root = newest_root(row.root, &runs)?;
        let (records, reached, complete) = prefix(row, root, runs)?;
        let (floor, kind) = survey.floor(reached, row);
        if reached < floor && !complete && !last_word && !survey.all_answered() {
            turn.rest();
            survey.pause().await;
            continue;
        }
        if reached < floor {
            let reason = format!(
                "the log was {kind} up to position {}, and what the stores that answered hold ends at {}; \
                 bring back the missing stores of its log and open it again",
                floor.0, reached.0
            );
            return Err(VolumeError::DataMissing {
                volume: row.id,
                reason,
            });
        }
        return Ok(Found {
            root,
            records,
            flushed: survey.flushed(),
            fenced_at: survey.fenced_at(),
            settled: Vec::new(),
        });
    }
}

/// Records of one segment, chained and verified, in order.
type Run = Vec<Record>;

/// The newest root: the catalog's, or one in a checkpoint record. A checkpoint is only ever appended when
/// everything its root refers to is durable, so each one found is good.
fn newest_root(catalog_root: VolumeRoot, runs: &[Run]) -> Result<VolumeRoot, VolumeError> {
    let mut newest = catalog_root;
    for record in runs.iter().flatten() {
        if record.head.kind == wire::RecordKind::Checkpoint {
            let change = Change::from_record(record)
                .map_err(|error| unreadable(record, &error.to_string()))?;
            if let Change::Checkpoint(root) = change
                && root.position >= newest.position
            {
                newest = root;
            }
        }
    }
    Ok(newest)
}

fn unreadable(record: &Record, reason: &str) -> VolumeError {
    VolumeError::DataMissing {
        volume: record.head.volume,
        reason: reason.to_owned(),
    }
}

/// The records after the root without a gap, the position they reach, and whether no segment broke off.
#[expect(clippy::type_complexity, reason = "three results of one walk")]
fn prefix(
    row: &VolumeRow,
    root: VolumeRoot,
    runs: Vec<Run>,
) -> Result<(Vec<(Position, Change)>, Position, bool), VolumeError> {
    let mut records = Vec::new();
    let mut reached = root.position;
    for (segment, run) in row.segments.iter().zip(runs) {
        let last = segment.end.map(|end| Position(end.0 - 1));
        if last.is_some_and(|last| last <= reached) {
            continue;
        }
        for record in run {
            let position = record.head.position;
            if position <= reached || last.is_some_and(|last| position > last) {
                continue;
            }
            if position != reached.next() {
                return Ok((records, reached, false));
            }
            let change = Change::from_record(&record)
                .map_err(|error| unreadable(&record, &error.to_string()))?;
            records.push((position, change));
            reached = position;
        }
        if last.is_some_and(|last| reached < last) {
            return Ok((records, reached, false));
        }
    }
    Ok((records, reached, true))
}

/// References whose extents never became durable end the prefix, if nothing flushed lies behind them.
async fn check_references(
    context: &Context,
    row: &VolumeRow,
    found: &mut Found,
) -> Result<(), VolumeError> {
    let container = context.catalog.container(row.container).await?.row;
    let mut cut = None;
    'records: for (index, (position, change)) in found.records.iter().enumerate() {
        let Change::Reference { runs, .. } = change else {
            continue;
        };
        if *position <= found.flushed || bug!(context.options, BelieveReferences) {
            continue;
        }
        let mut extents: Vec<_> = runs.iter().map(|run| run.0).collect();
        extents.dedup();
        for extent in extents {
            match context.pool.secure(extent, container.copies_min).await {
                Ok(()) => {}
                Err(PoolError::Absent { .. }) => {
                    cut = Some(index);
                    break 'records;
                }
                Err(error) => return Err(unavailable(row, error.to_string())),
            }
        }
    }
    found.records.truncate(cut.unwrap_or(found.records.len()));
    Ok(())
}

/// The old owner may have made a root known in the log and not yet in the catalog that a snapshot waits for.
async fn settle_snapshot_at_root(
    context: &Context,
    row: &VolumeRow,
    root: VolumeRoot,
) -> Result<Vec<(SnapshotId, catalog::MapRoot)>, VolumeError> {
    let lineage = context.catalog.lineage(row.lineage).await?.row;
    let mut settled: Vec<(SnapshotId, catalog::MapRoot)> = Vec::new();
    for id in lineage.snapshots {
        let snapshot = match context.catalog.snapshot(id).await {
            Err(catalog::CatalogError::NotFound { .. }) => continue,
            other => other?.row,
        };
        if snapshot.volume == row.id && snapshot.state == SnapshotState::Pending(root.position) {
            settled.push((id, root.map));
        }
    }
    if !settled.is_empty() {
        context
            .catalog
            .publish_root(row.id, row.epoch, root, &settled)
            .await?;
    }
    Ok(settled)
}
