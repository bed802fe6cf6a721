//! Placement groups for people and programs: their stores, and what is missing.

use super::Result;
use super::status::word_of;
use crate::host::Host;
use api::{Answer, GroupAnswer, GroupStoreAnswer, OperationError};
use catalog::GroupRow;
use curator::{HeldSizes, Standing};
use std::collections::BTreeMap;
use vocab::{GroupId, StoreId};

/// What is known of the stores.
struct Known<'a> {
    standings: &'a BTreeMap<StoreId, Standing>,
    sizes: &'a HeldSizes,
}

impl Known<'_> {
    fn standing(&self, store: StoreId) -> Standing {
        let standing = self.standings.get(&store);
        standing.copied().unwrap_or(Standing::Lost)
    }

    /// Whether a store serves what it holds.
    fn answers(&self, store: StoreId) -> bool {
        matches!(self.standing(store), Standing::Present | Standing::Draining)
    }

    /// What a store that has said what it holds holds of a group.
    fn bytes(&self, store: StoreId, group: GroupId) -> Option<u64> {
        let held = self.sizes.get(&store)?;
        Some(held.get(&group).copied().unwrap_or(0))
    }

    fn describe(&self, group: &GroupRow, store: StoreId, role: &str) -> GroupStoreAnswer {
        GroupStoreAnswer {
            store: store.0,
            role: role.to_owned(),
            standing: word_of(self.standing(store)).to_owned(),
            leaving: group.leaving == Some(store),
            bytes: self.bytes(store, group.id),
        }
    }
}

/// A group as it is shown. Pure.
fn describe(group: &GroupRow, known: &Known<'_>) -> GroupAnswer {
    let member = |&store: &StoreId| {
        let role = match group.filling.contains(&store) {
            true => "filling",
            false => "complete",
        };
        known.describe(group, store, role)
    };
    let rf = usize::from(group.replication_factor);
    let serving = group.complete().filter(|&store| known.answers(store));
    let serving = serving.count();
    let state = match serving {
        0 => "unavailable",
        few if few < rf => "degraded",
        _ if !group.filling.is_empty() => "filling",
        _ => "ok",
    };
    let former = group.former.iter();
    GroupAnswer {
        id: group.id.0,
        generation: group.generation.0,
        rf: group.replication_factor,
        state: state.to_owned(),
        missing: rf.saturating_sub(serving) as u32,
        bytes: group
            .complete()
            .filter_map(|store| known.bytes(store, group.id))
            .max(),
        members: group.members.iter().map(member).collect(),
        former: former
            .map(|&store| known.describe(group, store, "former"))
            .collect(),
    }
}

impl Host {
    pub(super) async fn list_groups(&self) -> Result<Answer> {
        let sizes = crate::upkeep::sizes::by_store(self).await;
        let standings = self.standings();
        let known = Known {
            standings: &standings,
            sizes: &sizes,
        };
        let groups = self.members.look(|view| {
            let groups = view.groups.values();
            groups.map(|group| describe(group, &known)).collect()
        });
        Ok(Answer::Groups(groups))
    }

    pub(super) async fn show_group(&self, id: u32) -> Result<Answer> {
        let sizes = crate::upkeep::sizes::by_store(self).await;
        let standings = self.standings();
        let known = Known {
            standings: &standings,
            sizes: &sizes,
        };
        let group = self.members.look(|view| {
            let group = view.groups.get(&GroupId(id));
            group.map(|group| describe(group, &known))
        });
        let missing = || OperationError::not_found(format!("there is no placement group {id}"));
        group.map(Answer::Group).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::Generation;

    fn group(members: &[u32], filling: &[u32], former: &[u32]) -> GroupRow {
        let ids = |ids: &[u32]| ids.iter().map(|&id| StoreId(id)).collect();
        GroupRow {
            id: GroupId(7),
            generation: Generation(3),
            replication_factor: 2,
            members: ids(members),
            filling: ids(filling),
            former: ids(former),
            returning: Vec::new(),
            leaving: None,
        }
    }

    fn shown(group: &GroupRow, away: &[u32]) -> GroupAnswer {
        let standing = |id: u32| match away.contains(&id) {
            true => (StoreId(id), Standing::Away),
            false => (StoreId(id), Standing::Present),
        };
        let standings = (1..=4).map(standing).collect();
        let held = |bytes: u64| BTreeMap::from([(GroupId(7), bytes)]);
        let sizes = [(1, held(10)), (2, held(12)), (3, held(99))];
        let sizes = sizes.map(|(id, held)| (StoreId(id), held)).into();
        let known = Known {
            standings: &standings,
            sizes: &sizes,
        };
        describe(group, &known)
    }

    #[test]
    fn a_group_is_judged_by_complete_copies_that_answer() {
        type Ids = &'static [u32];
        let cases: [(Ids, Ids, Ids, &str, u32); 5] = [
            (&[1, 2], &[], &[], "ok", 0),
            (&[1, 2, 3], &[3], &[], "filling", 0),
            (&[1, 3], &[3], &[], "degraded", 1),
            (&[1, 2], &[], &[2], "degraded", 1),
            (&[1, 2], &[], &[1, 2], "unavailable", 2),
        ];
        for (members, filling, away, state, missing) in cases {
            let answer = shown(&group(members, filling, &[]), away);
            assert_eq!(
                (answer.state.as_str(), answer.missing),
                (state, missing),
                "{members:?} {filling:?} {away:?}"
            );
        }
    }

    #[test]
    fn bytes_are_those_of_complete_members_and_unknown_is_not_none() {
        let answer = shown(&group(&[1, 2, 3], &[3], &[4]), &[]);
        assert_eq!(answer.bytes, Some(12), "and not what a filling one holds");
        let held: Vec<Option<u64>> = answer.members.iter().map(|one| one.bytes).collect();
        assert_eq!(held, [Some(10), Some(12), Some(99)]);
        let former = &answer.former[0];
        assert_eq!((former.store, former.bytes), (4, None));
        assert_eq!(
            (former.role.as_str(), former.standing.as_str()),
            ("former", "present")
        );
        assert_eq!(shown(&group(&[4], &[], &[]), &[]).bytes, None);
    }
}
