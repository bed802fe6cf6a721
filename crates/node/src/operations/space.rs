//! What clients may still write, for people, and what the management plane refuses meanwhile (decision 30).

use super::Result;
use crate::host::Host;
use api::{ErrorKind, OperationError, SpaceAnswer};
use catalog::{ContainerRow, GroupRow, SpaceState};
use curator::SpaceLimits;
use std::collections::{BTreeMap, BTreeSet};
use vocab::StoreId;

/// What to do when space runs out.
const REMEDY: &str = "delete data or snapshots, or add disks or nodes";

/// What is known of the space for so many copies.
struct Facts<'a> {
    copies: u8,
    state: SpaceState,
    groups: Vec<&'a GroupRow>,
    protected: &'a BTreeSet<StoreId>,
    resilient_percent: Option<u64>,
}

/// Pure.
fn describe(
    facts: &Facts<'_>,
    fill: impl Fn(StoreId) -> Option<u64>,
    limits: &SpaceLimits,
) -> SpaceAnswer {
    let fullest = |group: &&GroupRow| {
        let members = group.members.iter();
        members.filter_map(|&member| fill(member)).max()
    };
    let fill_percent = facts.groups.iter().filter_map(fullest).min().unwrap_or(0);
    let members: BTreeSet<StoreId> = facts
        .groups
        .iter()
        .flat_map(|group| group.members.iter().copied())
        .collect();
    let stores: Vec<u32> = members
        .intersection(facts.protected)
        .map(|store| store.0)
        .collect();
    let blocked = |group: &&&GroupRow| {
        let mut members = group.members.iter();
        members.any(|member| facts.protected.contains(member))
    };
    let blocked = facts.groups.iter().filter(blocked).count();
    let (copies, groups) = (facts.copies, facts.groups.len());
    let reason = match facts.state {
        SpaceState::Ok => None,
        SpaceState::Protected => Some(format!(
            "no group with {copies} copies has room: new data is refused, reads, deletes, trims and repair go on"
        )),
        SpaceState::Warning if blocked > 0 => Some(format!(
            "{blocked} of {groups} groups with {copies} copies take nothing new: stores {stores:?} are nearly full"
        )),
        SpaceState::Warning => Some(match facts.resilient_percent {
            Some(percent) if percent >= fill_percent => format!(
                "{percent} % of the resilient capacity for {copies} copies is in use: beyond it a lost failure domain \
                 cannot be made good"
            ),
            _ => {
                format!("{fill_percent} % of what clients may fill with {copies} copies is in use")
            }
        }),
    };
    SpaceAnswer {
        rf: copies,
        state: facts.state.name().to_owned(),
        fill_percent,
        resilient_percent: facts.resilient_percent,
        warns_at: limits.warn_percent,
        protects_at: limits.protect_percent,
        ends_below: limits.release_percent,
        stores,
        remedy: reason.is_some().then(|| REMEDY.to_owned()),
        reason,
    }
}

impl Host {
    /// The space for every number of copies that has groups, by what the stores said last.
    pub(super) fn space_answers(&self) -> Vec<SpaceAnswer> {
        let view = self.view();
        let resilient = self.resilient_percents();
        let mut by_copies: BTreeMap<u8, Vec<&GroupRow>> = BTreeMap::new();
        for group in view.groups.values() {
            let groups = by_copies.entry(group.replication_factor).or_default();
            groups.push(group);
        }
        let answer = |(copies, groups): (u8, Vec<&GroupRow>)| {
            let facts = Facts {
                copies,
                state: view.space.state(copies),
                groups,
                protected: &view.space.stores,
                resilient_percent: resilient.get(&copies).copied(),
            };
            describe(&facts, |store| self.health.fill(store), &self.options.space)
        };
        by_copies.into_iter().map(answer).collect()
    }

    /// What volumes with so many copies may still write.
    pub(super) fn space_state(&self, copies: u8) -> SpaceState {
        self.members.look(|view| view.space.state(copies))
    }

    /// Refuses what would promise space in a container that takes nothing new.
    pub(super) fn check_space(&self, container: &ContainerRow) -> Result<()> {
        if self.space_state(container.replication_factor) != SpaceState::Protected {
            return Ok(());
        }
        let reason = format!(
            "container {} takes nothing new: the cluster protects its last space for {} copies; {REMEDY}",
            container.name, container.replication_factor
        );
        Err(OperationError::new(ErrorKind::NoSpace, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::{Generation, GroupId};

    fn group(members: &[u32]) -> GroupRow {
        GroupRow {
            id: GroupId(1),
            generation: Generation(1),
            replication_factor: 2,
            members: members.iter().map(|&id| StoreId(id)).collect(),
            filling: Vec::new(),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        }
    }

    fn say(state: SpaceState, protected: &[u32], resilient: u64) -> SpaceAnswer {
        let groups = [group(&[1, 2]), group(&[2, 3])];
        let protected = protected.iter().map(|&id| StoreId(id)).collect();
        let facts = Facts {
            copies: 2,
            state,
            groups: groups.iter().collect(),
            protected: &protected,
            resilient_percent: Some(resilient),
        };
        let fill = |store: StoreId| Some(u64::from(store.0) * 10);
        describe(&facts, fill, &SpaceLimits::default())
    }

    #[test]
    fn what_is_wrong_with_the_space_is_said_with_a_remedy() {
        let quiet = say(SpaceState::Ok, &[], 10);
        assert_eq!((quiet.fill_percent, quiet.reason), (20, None));
        let warned = say(SpaceState::Warning, &[], 80);
        assert!(warned.reason.unwrap().contains("80 % of the resilient"));
        let warned = say(SpaceState::Warning, &[1], 10);
        assert!(warned.reason.unwrap().contains("1 of 2 groups"));
        assert_eq!(warned.stores, [1]);
        let protected = say(SpaceState::Protected, &[2], 10);
        assert!(protected.reason.unwrap().contains("refused"));
        assert!(protected.remedy.unwrap().contains("add disks"));
    }
}
