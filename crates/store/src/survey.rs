//! What a store's disks say, read without changing them: the input of a rebuild of the catalog; and what an open store says of its
//! groups.

use crate::format::read_mark;
use crate::open::{OpenError, identify, load};
use crate::state::{State, group_start};
use crate::store::Store;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use vocab::{Epoch, Generation, GroupId, Incarnation, VolumeId};
use wire::{GroupSurvey, LogSurvey, Note, SegmentTail, StoreReply, StoreSurvey, occupied_by};
use world::Disk;

/// Reads what the store on `disks` (in any order) holds. Writes nothing: whoever opens the store next finds the same.
///
/// # Errors
/// [`OpenError`].
pub async fn survey(disks: Vec<Rc<dyn Disk>>) -> Result<StoreSurvey, OpenError> {
    let (disks, headers) = identify(disks).await?;
    let mark = read_mark(&disks[0]).await?;
    let loaded = load(&disks, &headers, mark.as_ref()).await?;
    let state = loaded.state;
    let sessions = mark.map(|mark| mark.sessions).unwrap_or_default();
    let session = sessions.first().copied().unwrap_or(state.session);
    let notes = state.notes.iter().map(|(key, (version, value))| Note {
        key: key.clone(),
        version: *version,
        value: Some(value.clone()),
    });
    Ok(StoreSurvey {
        cluster: headers[0].cluster.clone(),
        store: headers[0].store,
        incarnation: match loaded.amnesia {
            true => Incarnation(0),
            false => state.incarnation,
        },
        session,
        capacity: headers.iter().map(|header| header.extents.bytes).sum(),
        notes: notes.collect(),
        logs: logs_of(&state),
        groups: groups_of(&state),
        terms: terms_of(&state),
    })
}

fn logs_of(state: &State) -> Vec<LogSurvey> {
    let logs = state.logs.iter().map(|(&volume, log)| LogSurvey {
        volume,
        promised: log.promised,
        trimmed: log.trimmed,
        segments: log
            .segments
            .iter()
            .map(|(&id, segment)| SegmentTail {
                segment: id,
                epoch: segment.epoch,
                first: segment.first,
                last: segment.last_good(),
                committed: segment.committed,
                flushed: segment.flushed,
            })
            .collect(),
    });
    logs.collect()
}

fn groups_of(state: &State) -> Vec<GroupSurvey> {
    let mut groups: BTreeMap<GroupId, (Generation, u64)> = BTreeMap::new();
    for (&group, &promised) in &state.groups {
        groups.entry(group).or_default().0 = promised;
    }
    for id in state.extents.keys().chain(state.tombstones.keys()) {
        groups.entry(id.group).or_default().1 += 1;
    }
    let groups = groups
        .into_iter()
        .map(|(group, (promised, extents))| GroupSurvey {
            group,
            promised,
            extents,
        });
    groups.collect()
}

/// So many extents are counted in one go, to the end of a group: some milliseconds.
const COUNTED_MAX: u64 = 50_000;

/// Bytes that extents occupy by group, for groups after `after`; whether more follow.
fn sizes_of(
    state: &State,
    after: Option<GroupId>,
    counted_max: u64,
) -> (Vec<(GroupId, u64)>, bool) {
    let start = match after.map(|after| after.0.checked_add(1)) {
        None => Bound::Unbounded,
        Some(Some(next)) => Bound::Included(group_start(GroupId(next))),
        Some(None) => return (Vec::new(), false),
    };
    let mut sizes: Vec<(GroupId, u64)> = Vec::new();
    let extents = state.extents.range((start, Bound::Unbounded));
    for (counted, (id, extent)) in (1..).zip(extents) {
        let bytes = occupied_by(extent.bytes);
        match sizes.last_mut() {
            Some((group, sum)) if *group == id.group => *sum += bytes,
            _ if counted > counted_max => return (sizes, true),
            _ => sizes.push((id.group, bytes)),
        }
    }
    (sizes, false)
}

impl Store {
    pub(crate) fn group_sizes(&self, after: Option<GroupId>) -> (StoreReply, Vec<Bytes>) {
        let (groups, more) = sizes_of(&self.0.state.borrow(), after, COUNTED_MAX);
        (StoreReply::GroupSizes { groups, more }, Vec::new())
    }
}

fn terms_of(state: &State) -> Vec<(VolumeId, Epoch)> {
    let mut terms: BTreeMap<VolumeId, Epoch> = BTreeMap::new();
    for id in state.extents.keys().chain(state.tombstones.keys()) {
        let term = terms.entry(id.volume).or_default();
        *term = (*term).max(id.epoch);
    }
    terms.into_iter().collect()
}
