//! Volumes and snapshots of a catalog made anew: what the owner noted on its log's replicas, and the row as the leader
//! noted it, give where a volume starts; what cannot be proved is said.

use super::{Merged, RebuildError, incomplete};
use catalog::{
    ContainerRow, GroupRow, LogNote, SegmentReplica, SnapshotRow, SnapshotState, VolumeRoot,
    VolumeRow, VolumeState,
};
use std::collections::{BTreeMap, BTreeSet};
use vocab::{Epoch, Position, SegmentId, SnapshotId, StoreId, VolumeId};
use wire::{LogSurvey, SegmentTail};

/// Terms left out: more takeovers than a volume can have seen after its newest note.
const TERMS_JUMP: u64 = 1 << 16;
/// Segments left out: more than can have been opened, and not noted, in a term.
const SEGMENTS_JUMP: u32 = 16;
/// Attachments left out.
const ATTACHMENTS_JUMP: u64 = 1 << 16;
/// Promises from here on say that the volume was deleted (`node::upkeep::logs`).
const DELETED_TERM: Epoch = Epoch(u64::MAX >> 1);

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) volumes: Vec<VolumeRow>,
    pub(super) snapshots: Vec<SnapshotRow>,
    pub(super) incomplete: Vec<(String, String)>,
    /// Keys of rows that an operator gave up.
    pub(super) gone: Vec<String>,
}

/// What all stores say of a volume's log.
#[derive(Default)]
struct Log<'a> {
    held: Vec<(StoreId, &'a LogSurvey)>,
    promised: Epoch,
    trimmed: Position,
    deleted: bool,
}

fn logs_of<'a>(merged: &'a Merged<'_>) -> BTreeMap<VolumeId, Log<'a>> {
    let mut logs: BTreeMap<VolumeId, Log<'a>> = BTreeMap::new();
    for survey in &merged.sources.surveys {
        for log in &survey.logs {
            let seen = logs.entry(log.volume).or_default();
            seen.held.push((survey.store, log));
            seen.trimmed = seen.trimmed.max(log.trimmed);
            match log.promised >= DELETED_TERM {
                true => seen.deleted = true,
                false => seen.promised = seen.promised.max(log.promised),
            }
        }
        for &(volume, term) in &survey.terms {
            let seen = logs.entry(volume).or_default();
            seen.promised = seen.promised.max(term);
        }
    }
    logs
}

pub(super) fn find(merged: &Merged<'_>) -> Result<Found, RebuildError> {
    let mut found = Found::default();
    let logs = logs_of(merged);
    let none = Log::default();
    let containers: BTreeMap<_, ContainerRow> = merged
        .list::<ContainerRow>()?
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    let (lost_factors, gone) = (lost_factors(merged)?, merged.gone());
    let rows = merged.list::<VolumeRow>()?;
    let known: BTreeSet<VolumeId> = rows.iter().map(|row| row.id).collect();
    check_accounted(merged, &known, &logs)?;
    for row in rows {
        let log = logs.get(&row.id).unwrap_or(&none);
        let note = merged.logs.get(&row.id);
        let mut volume = combine(&row, note);
        let mut problems = match containers.get(&row.container) {
            None => vec![format!("its {} is not known", row.container)],
            Some(container) => {
                let copies = lost_factors.contains(&container.replication_factor);
                let lost = copies.then(|| {
                    let factor = container.replication_factor;
                    format!("all that is sure to hold a group of {factor} copies is missing")
                });
                let least = container.copies_min;
                problems_of(merged, &volume, note, log, least)
                    .into_iter()
                    .chain(lost)
                    .collect()
            }
        };
        if let VolumeState::Incomplete(reason) = &row.state {
            problems.push(reason.clone());
        }
        advance(&mut volume, note, log);
        volume.state = match (row.state.clone(), problems.is_empty()) {
            (VolumeState::Deleting, _) => VolumeState::Deleting,
            (VolumeState::Incomplete(_), true) => VolumeState::Ready,
            (state, true) => state,
            (state, false) => {
                let id = volume.id.to_string();
                if merged.is_accepted(&[&volume.name, &id]) {
                    match state {
                        VolumeState::Pending => state,
                        _ => VolumeState::Ready,
                    }
                } else {
                    let reason = problems.join("; ");
                    found.incomplete.push((volume.name.clone(), reason.clone()));
                    incomplete(&reason)
                }
            }
        };
        // What stays offline may be waited for.
        if !matches!(volume.state, VolumeState::Incomplete(_)) {
            forget_replicas(&mut volume, &gone);
        }
        found.volumes.push(volume);
    }
    settle(merged, &mut found)?;
    Ok(found)
}

/// Replication factors of groups of which what is here may lack something: all complete members are gone, or any holder where no member
/// was compared since an earlier rebuild, for then each of them may alone hold something. What a former member holds the complete ones
/// have, and it may have been no more than a part.
fn lost_factors(merged: &Merged<'_>) -> Result<BTreeSet<u8>, RebuildError> {
    let gone = merged.gone();
    let groups = merged.list::<GroupRow>()?;
    let lost = groups.iter().filter(|group| {
        let complete: Vec<StoreId> = group.complete().collect();
        let mut holders = group.members.iter().chain(&group.former);
        match complete.is_empty() {
            true => holders.any(|store| gone.contains(store)),
            false => complete.iter().all(|store| gone.contains(store)),
        }
    });
    Ok(lost.map(|group| group.replication_factor).collect())
}

/// A log has the copies that are left: it is given others. One of which none is left keeps them.
fn forget_replicas(volume: &mut VolumeRow, gone: &BTreeSet<StoreId>) {
    for segment in &mut volume.segments {
        let stays = |replica: &SegmentReplica| !gone.contains(&replica.store);
        if segment.replicas.iter().any(stays) {
            segment.replicas.retain(stays);
        }
    }
}

/// A log that no row describes is data of nobody: its volume was deleted, or created a moment before the catalog was lost.
fn check_accounted(
    merged: &Merged<'_>,
    known: &BTreeSet<VolumeId>,
    logs: &BTreeMap<VolumeId, Log<'_>>,
) -> Result<(), RebuildError> {
    let mut unaccounted = Vec::new();
    for (id, log) in logs {
        let holders: Vec<String> = log
            .held
            .iter()
            .filter(|(_, log)| !log.segments.is_empty())
            .map(|(store, _)| store.to_string())
            .collect();
        let name = id.to_string();
        if known.contains(id) || log.deleted || holders.is_empty() || merged.is_accepted(&[&name]) {
            continue;
        }
        unaccounted.push(format!("{name} (on {})", holders.join(", ")));
    }
    if unaccounted.is_empty() {
        return Ok(());
    }
    Err(RebuildError::Unaccounted(format!(
        "there are logs of volumes that nothing describes: {}. Such a volume was deleted, or created a moment before the \
         catalog was lost. A backup may describe it; to drop it, add --accept-loss volume-N",
        unaccounted.join(", ")
    )))
}

/// The newer of two roots; that of the owner when they reach as far.
fn newest(row: VolumeRoot, note: VolumeRoot) -> VolumeRoot {
    let mut root = if note.position >= row.position {
        note
    } else {
        row
    };
    root.floor = row.floor.max(note.floor);
    root
}

/// The row with what the owner knew better. A term's owner notes a segment before it registers it, and the next term's
/// row has every segment that was registered before.
fn combine(row: &VolumeRow, note: Option<&LogNote>) -> VolumeRow {
    let mut volume = row.clone();
    let Some(note) = note else { return volume };
    volume.root = newest(row.root, note.root);
    let of_row = row.segments.last().map_or(SegmentId(0), |last| last.id);
    let of_note = note.segments.last().map_or(SegmentId(0), |last| last.id);
    if note.epoch > row.epoch || (note.epoch == row.epoch && of_note >= of_row) {
        volume.segments.clone_from(&note.segments);
    }
    let below = volume.root.position.next();
    volume
        .segments
        .retain(|segment| segment.end.is_none_or(|end| end > below));
    volume.epoch = row.epoch.max(note.epoch);
    volume.next_segment = row.next_segment.max(note.next_segment);
    volume
}

/// Nothing of the volume that anybody may still refer to is used again.
fn advance(volume: &mut VolumeRow, note: Option<&LogNote>, log: &Log<'_>) {
    let noted = note.map_or(Epoch(0), |note| note.epoch);
    let highest = volume.epoch.max(noted).max(log.promised);
    volume.epoch = Epoch(highest.0 + TERMS_JUMP);
    volume.owner = None;
    let tails = log.held.iter().flat_map(|(_, log)| &log.segments);
    let last = tails.map(|tail| tail.segment.0 + 1).max().unwrap_or(0);
    volume.next_segment = SegmentId(volume.next_segment.0.max(last) + SEGMENTS_JUMP);
    volume.attachment.granted = volume.attachment.grants();
    volume.attachment.generation.0 += ATTACHMENTS_JUMP;
    // A version that somebody has seen stands for a row that is lost.
    volume.edited = None;
}

fn problems_of(
    merged: &Merged<'_>,
    volume: &VolumeRow,
    note: Option<&LogNote>,
    log: &Log<'_>,
    copies_min: u8,
) -> Vec<String> {
    let mut problems = Vec::new();
    if log.trimmed > volume.root.position {
        problems.push(format!(
            "records up to {} of its log were let go, but its newest root that is known holds those up to {}",
            log.trimmed.0, volume.root.position.0
        ));
    }
    if note.is_none() {
        problems.extend(newer_segment(volume, log));
    }
    let blind: Vec<String> = merged.blind.iter().map(ToString::to_string).collect();
    if !blind.is_empty() && blind.len() >= usize::from(copies_min.max(1)) {
        problems.push(format!(
            "{} may alone hold what was written last",
            blind.join(" and ")
        ));
    }
    for segment in &volume.segments {
        let is_there = |store: &StoreId| !merged.blind.contains(store);
        let mut stores = segment.replicas.iter().map(|replica| replica.store);
        if !stores.any(|store| is_there(&store)) {
            problems.push(format!(
                "all copies of {} of its log are missing",
                segment.id
            ));
        }
    }
    problems
}

/// Without a note of the owner a segment that the row does not know may hold what was acknowledged last.
fn newer_segment(volume: &VolumeRow, log: &Log<'_>) -> Option<String> {
    let last = volume.segments.last();
    let known = last.map_or((Epoch(0), SegmentId(0)), |last| (last.epoch, last.id));
    let newer = |tail: &&SegmentTail| (tail.epoch, tail.segment) > known;
    let held = log.held.iter();
    let mut found = held.filter_map(|(store, log)| {
        let tail = log.segments.iter().find(newer)?;
        Some(format!(
            "{store} holds {} of {}, which nothing describes",
            tail.segment, tail.epoch
        ))
    });
    found.next()
}

/// Snapshots with the roots that owners noted, and the clones that waited for those.
fn settle(merged: &Merged<'_>, found: &mut Found) -> Result<(), RebuildError> {
    let settled: BTreeMap<SnapshotId, _> = merged
        .logs
        .values()
        .flat_map(|log| log.settled.iter().copied())
        .collect();
    let roots: BTreeMap<VolumeId, VolumeRoot> = found
        .volumes
        .iter()
        .map(|volume| (volume.id, volume.root))
        .collect();
    let mut lost = Vec::new();
    for mut row in merged.list::<SnapshotRow>()? {
        if let SnapshotState::Pending(position) = row.state {
            let drained = roots
                .get(&row.volume)
                .is_none_or(|root| root.position > position);
            let id = row.id.to_string();
            match settled.get(&row.id) {
                Some(map) => row.state = SnapshotState::Ready(*map),
                None if !drained => {}
                None if merged.is_accepted(&[&id]) => {
                    found.gone.push(catalog::Row::key(&row));
                    continue;
                }
                None => lost.push(format!("{id} ({} of {})", row.name, row.volume)),
            }
        }
        found.snapshots.push(row);
    }
    if !lost.is_empty() {
        return Err(RebuildError::Unaccounted(format!(
            "nothing says where these snapshots start: {}. A backup may; to drop one, add --accept-loss snapshot-N",
            lost.join(", ")
        )));
    }
    for volume in &mut found.volumes {
        let origin = volume.origin.map(|origin| origin.snapshot);
        let map = origin.and_then(|snapshot| {
            let row = found.snapshots.iter().find(|row| row.id == snapshot)?;
            match row.state {
                SnapshotState::Ready(map) => Some(map),
                SnapshotState::Pending(_) => None,
            }
        });
        if let Some(map) = map.filter(|_| volume.state == VolumeState::Pending) {
            volume.state = VolumeState::Ready;
            volume.root.map = map;
        }
    }
    Ok(())
}
