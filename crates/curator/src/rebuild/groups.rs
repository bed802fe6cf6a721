//! Groups of a catalog made anew: who may hold what, and nobody is trusted to hold all of it.

use super::{Merged, RebuildError};
use catalog::GroupRow;
use std::collections::{BTreeMap, BTreeSet};
use vocab::{Generation, GroupId, StoreId};

/// Generations left out: more changes than a group can have seen after its newest note.
const GENERATIONS_JUMP: u64 = 1 << 10;
/// Groups of one replication factor have ids of one range (`catalog::plan_groups`).
const IDS_PER_FACTOR: u32 = 100_000;

/// What the stores say of a group.
#[derive(Default)]
struct Seen {
    promised: Generation,
    holders: Vec<StoreId>,
    promisers: Vec<StoreId>,
}

pub(super) fn find(merged: &Merged<'_>) -> Result<Vec<GroupRow>, RebuildError> {
    let mut seen: BTreeMap<GroupId, Seen> = BTreeMap::new();
    for survey in &merged.sources.surveys {
        for group in &survey.groups {
            let seen = seen.entry(group.group).or_default();
            seen.promised = seen.promised.max(group.promised);
            if group.extents > 0 {
                seen.holders.push(survey.store);
            }
            if group.promised > Generation(0) {
                seen.promisers.push(survey.store);
            }
        }
    }
    let gone = merged.gone();
    let mut groups = Vec::new();
    for row in merged.list::<GroupRow>()? {
        let seen = seen.remove(&row.id).unwrap_or_default();
        groups.push(renew(row, &seen, &gone));
    }
    // Made after the newest note, and used already.
    for (id, seen) in seen
        .into_iter()
        .filter(|(_, seen)| !seen.holders.is_empty())
    {
        let copies = id.0 / IDS_PER_FACTOR;
        let mut members = seen.holders.clone();
        members.extend(&seen.promisers);
        members.sort_unstable();
        members.dedup();
        let row = GroupRow {
            id,
            generation: Generation(0),
            replication_factor: u8::try_from(copies.clamp(1, 3)).unwrap_or(1),
            members,
            filling: Vec::new(),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        };
        groups.push(renew(row, &seen, &gone));
    }
    Ok(groups)
}

/// Members that are not gone stay; whoever else holds something is asked last, and every member is compared with all others before it
/// counts as complete. A group of which all are gone keeps them: only if one comes back is anything of it found.
fn renew(mut row: GroupRow, seen: &Seen, gone: &BTreeSet<StoreId>) -> GroupRow {
    let mut former = row.former.clone();
    former.extend(&seen.holders);
    let mut left = row.members.iter().chain(&former);
    if left.any(|store| !gone.contains(store)) {
        row.members.retain(|store| !gone.contains(store));
        former.retain(|store| !gone.contains(store));
    }
    if row.members.is_empty() {
        row.members = std::mem::take(&mut former);
        row.members.sort_unstable();
        row.members.dedup();
    }
    former.retain(|store| !row.members.contains(store));
    former.sort_unstable();
    former.dedup();
    GroupRow {
        generation: Generation(row.generation.0.max(seen.promised.0) + GENERATIONS_JUMP),
        filling: row.members.clone(),
        returning: row.members.clone(),
        leaving: row.leaving.filter(|store| row.members.contains(store)),
        former,
        ..row
    }
}
