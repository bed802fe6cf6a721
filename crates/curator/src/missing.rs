//! How many bytes are still to be copied: pure, from the groups and from what each store says that it holds of them.
//!
//! Two figures that differ. What *redundancy* lacks counts towards the space in use, whether or not a store has been found for it: it
//! is to be somewhere in the end. What members that are being *filled* lack is what is copied now, and includes moves.
//!
//! Invariants
//! - A lost store's copies count as missing from the moment on from which its own bytes do not count as used, and each byte
//!   stops to be missing when it is used elsewhere: the sum of both does not jump.
//! - A group without a complete member that may come back cannot be made again, and is not missing space.

use crate::placement::{GroupSizes, Standing, StoreFacts};
use catalog::GroupRow;
use std::collections::BTreeMap;
use vocab::{GroupId, StoreId};

/// Bytes of each group, by the store that said so. A store that is absent has said nothing.
pub type HeldSizes = BTreeMap<StoreId, GroupSizes>;

/// What members that are being filled lack, in bytes.
pub type Lacking = BTreeMap<(GroupId, StoreId), u64>;

/// What each group weighs, and who holds how much of it.
#[derive(Clone, Debug)]
struct Weighed<'a> {
    held: &'a HeldSizes,
    sizes: GroupSizes,
    /// Of a group of which nobody said anything.
    average: u64,
}

impl<'a> Weighed<'a> {
    /// `used`: bytes in use on the stores that take part.
    fn new(groups: &[GroupRow], taking_part: &[StoreId], held: &'a HeldSizes, used: u64) -> Self {
        let mut sizes = GroupSizes::new();
        for (&group, &bytes) in held.values().flatten() {
            // Members that are being filled hold less, and others have not collected yet.
            let size = sizes.entry(group).or_default();
            *size = (*size).max(bytes);
        }
        let here = |store: &StoreId| taking_part.contains(store);
        let copies = groups
            .iter()
            .map(|group| group.complete().filter(here).count());
        let copies = u64::try_from(copies.sum::<usize>()).unwrap_or(u64::MAX);
        Self {
            held,
            sizes,
            average: used / copies.max(1),
        }
    }

    fn of(&self, group: &GroupRow) -> u64 {
        let said = group.complete().any(|store| self.held.contains_key(&store));
        let size = self.sizes.get(&group.id).copied();
        size.unwrap_or(if said { 0 } else { self.average })
    }

    /// What a member that is being filled lacks.
    fn lacks(&self, group: &GroupRow, store: StoreId) -> u64 {
        let held = self.held.get(&store).and_then(|held| held.get(&group.id));
        self.of(group).saturating_sub(held.copied().unwrap_or(0))
    }
}

fn taking_part(stores: &[StoreFacts]) -> Vec<StoreId> {
    let here = stores
        .iter()
        .filter(|facts| facts.standing != Standing::Lost);
    here.map(|facts| facts.id).collect()
}

/// Bytes of copies that are still to be made again until every group has as many as wanted. `used`: bytes in use on the stores
/// that are not lost, for an estimate of groups of which no store said anything.
#[must_use]
pub fn missing_redundancy(
    groups: &[GroupRow],
    stores: &[StoreFacts],
    held: &HeldSizes,
    used: u64,
) -> u64 {
    let here = taking_part(stores);
    let weighed = Weighed::new(groups, &here, held, used);
    let of = |group: &GroupRow| {
        let complete = group
            .complete()
            .filter(|store| here.contains(store))
            .count();
        let need = usize::from(group.replication_factor).saturating_sub(complete);
        if complete == 0 || need == 0 {
            return 0;
        }
        let filling = group.filling.iter().filter(|store| here.contains(store));
        let mut lacks: Vec<u64> = filling.map(|&store| weighed.lacks(group, store)).collect();
        lacks.sort_unstable();
        lacks.resize(lacks.len().max(need), weighed.of(group));
        lacks.iter().take(need).sum()
    };
    groups.iter().map(of).sum()
}

/// What each member that is being filled lacks. `used`: as in [`missing_redundancy`].
#[must_use]
pub fn lacking(groups: &[GroupRow], stores: &[StoreFacts], held: &HeldSizes, used: u64) -> Lacking {
    let here = taking_part(stores);
    let weighed = Weighed::new(groups, &here, held, used);
    let mut all = Lacking::new();
    for group in groups {
        for &store in group.filling.iter().filter(|store| here.contains(store)) {
            all.insert((group.id, store), weighed.lacks(group, store));
        }
    }
    all
}

/// Bytes that members have got between two looks at what they lack. Clients' new data is none of it: all members get that. A member
/// that is not filled any more has got everything if it is complete, and else nothing that helps.
#[must_use]
pub fn bytes_moved(before: &Lacking, after: &Lacking, groups: &[GroupRow]) -> u64 {
    let complete = |group: GroupId, store: StoreId| {
        let mut groups = groups.iter();
        groups.any(|row| row.id == group && row.complete().any(|member| member == store))
    };
    let got = |(&(group, store), &lacked): (&(GroupId, StoreId), &u64)| match after
        .get(&(group, store))
    {
        Some(&lacks) => lacked.saturating_sub(lacks),
        None if complete(group, store) => lacked,
        None => 0,
    };
    before.iter().map(got).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::{Generation, NodeId};

    const GB: u64 = 1 << 30;

    fn group(id: u32, members: &[u32], filling: &[u32]) -> GroupRow {
        let ids = |ids: &[u32]| ids.iter().map(|&id| StoreId(id)).collect();
        GroupRow {
            id: GroupId(id),
            generation: Generation(1),
            replication_factor: 2,
            members: ids(members),
            filling: ids(filling),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        }
    }

    fn stores(lost: &[u32]) -> Vec<StoreFacts> {
        let facts = |id| StoreFacts {
            id: StoreId(id),
            node: NodeId(id),
            domains: Vec::new(),
            capacity: 100 * GB,
            standing: match lost.contains(&id) {
                true => Standing::Lost,
                false => Standing::Present,
            },
            has_room: true,
            is_full: false,
            free: 50 * GB,
        };
        (1..=4).map(facts).collect()
    }

    fn held(all: &[(u32, &[(u32, u64)])]) -> HeldSizes {
        let of = |groups: &[(u32, u64)]| {
            let groups = groups.iter();
            groups
                .map(|&(group, bytes)| (GroupId(group), bytes))
                .collect()
        };
        let all = all.iter();
        all.map(|&(store, groups)| (StoreId(store), of(groups)))
            .collect()
    }

    #[test]
    fn whole_groups_miss_nothing_and_moves_are_no_loss() {
        let held = held(&[(1, &[(1, 8 * GB)]), (2, &[(1, 8 * GB)])]);
        let whole = [group(1, &[1, 2], &[])];
        assert_eq!(missing_redundancy(&whole, &stores(&[]), &held, 16 * GB), 0);
        let moving = [group(1, &[1, 2, 3], &[3])];
        assert_eq!(missing_redundancy(&moving, &stores(&[]), &held, 16 * GB), 0);
        let lacking = lacking(&moving, &stores(&[]), &held, 16 * GB);
        assert_eq!(lacking[&(GroupId(1), StoreId(3))], 8 * GB);
    }

    #[test]
    fn used_and_missing_together_do_not_change_while_a_loss_is_repaired() {
        // Two groups of 8 GB with two copies each: 32 GB in all, of which store 2 had 16.
        let all = 32 * GB;
        let others: [(u32, &[(u32, u64)]); 2] = [(1, &[(1, 8 * GB)]), (3, &[(2, 8 * GB)])];
        let lost = [group(1, &[1, 2], &[]), group(2, &[2, 3], &[])];
        let sizes = held(&others);
        let missing = missing_redundancy(&lost, &stores(&[2]), &sizes, 16 * GB);
        assert_eq!(16 * GB + missing, all, "nobody has begun");
        // One is filled for a half, the other has no place yet.
        let half: [(u32, &[(u32, u64)]); 3] = [others[0], others[1], (4, &[(1, 4 * GB)])];
        let filling = [group(1, &[1, 4], &[4]), group(2, &[3], &[])];
        let missing = missing_redundancy(&filling, &stores(&[2]), &held(&half), 20 * GB);
        assert_eq!(20 * GB + missing, all);
        let full: [(u32, &[(u32, u64)]); 3] =
            [others[0], others[1], (4, &[(1, 8 * GB), (2, 8 * GB)])];
        let whole = [group(1, &[1, 4], &[]), group(2, &[3, 4], &[])];
        assert_eq!(
            missing_redundancy(&whole, &stores(&[2]), &held(&full), all),
            0
        );
    }

    #[test]
    fn what_nobody_said_is_estimated_and_an_empty_group_misses_nothing() {
        let groups = [group(1, &[1, 2], &[]), group(2, &[1, 3], &[])];
        // Three copies are left of 12 GB: one of 4 is missing.
        let estimate = missing_redundancy(&groups, &stores(&[2]), &HeldSizes::new(), 12 * GB);
        assert_eq!(estimate, 4 * GB);
        let said = held(&[(1, &[(2, 12 * GB)]), (3, &[(2, 12 * GB)])]);
        assert_eq!(
            missing_redundancy(&groups, &stores(&[2]), &said, 24 * GB),
            0
        );
    }

    #[test]
    fn what_lies_on_lost_stores_alone_is_waited_for() {
        let groups = [group(1, &[1, 2], &[])];
        let missing = missing_redundancy(&groups, &stores(&[1, 2]), &HeldSizes::new(), 8 * GB);
        assert_eq!(missing, 0);
    }

    #[test]
    fn moved_is_what_members_lack_no_more() {
        let one = (GroupId(1), StoreId(3));
        let two = (GroupId(2), StoreId(3));
        let three = (GroupId(3), StoreId(4));
        let before: Lacking = [(one, 8 * GB), (two, 2 * GB), (three, 6 * GB)].into();
        let after: Lacking = [(one, 5 * GB)].into();
        // The second is complete, the third was given up.
        let groups = [
            group(1, &[1, 3], &[3]),
            group(2, &[1, 3], &[]),
            group(3, &[1, 2], &[]),
        ];
        assert_eq!(bytes_moved(&before, &after, &groups), 5 * GB);
        // Clients write faster than is copied: nothing has moved.
        let grown: Lacking = [(one, 9 * GB), (two, 2 * GB), (three, 6 * GB)].into();
        assert_eq!(bytes_moved(&before, &grown, &groups), 0);
    }
}
