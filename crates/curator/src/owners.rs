//! Which volume should have another owner, so that no node stands idle while others serve everything: a pure plan of one move.
//!
//! Volumes go to other nodes when theirs is lost, and nothing brings them back by itself. A move costs its clients a moment, so it is
//! planned only when a node has less than half of its share, and then one after the other until all are about even.
//!
//! Invariants
//! - A volume whose client runs on its owner's machine stays there.
//! - Each move brings two nodes nearer to each other, so moves come to an end, and none is undone by the next.
//! - The same input gives the same plan: only the owner that is named acts, whoever looks.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use vocab::{NodeId, VolumeId};

/// A volume with clients counts as much as this many without.
const ATTACHED_WEIGHT: u64 = 8;

/// A volume with an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedVolume {
    /// Its id.
    pub id: VolumeId,
    /// Who serves it.
    pub owner: NodeId,
    /// Whether clients are attached.
    pub attached: bool,
    /// The node on whose machine its clients run, when it is one.
    pub near: Option<NodeId>,
    /// Whether it is left where it is for now, as it could not be moved a moment ago.
    pub rests: bool,
}

impl OwnedVolume {
    fn weight(&self) -> u64 {
        match self.attached {
            true => ATTACHED_WEIGHT,
            false => 1,
        }
    }
}

/// A volume changes its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerMove {
    /// Which.
    pub volume: VolumeId,
    /// From whom.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
}

/// The next move among these nodes, if they are uneven enough. `evening`: moves have begun, and go on until there is nothing to gain.
#[must_use]
pub fn plan_owner(nodes: &[NodeId], volumes: &[OwnedVolume], evening: bool) -> Option<OwnerMove> {
    let mut loads: BTreeMap<NodeId, u64> = nodes.iter().map(|&node| (node, 0)).collect();
    for volume in volumes {
        // What others serve, which are no targets, is not evened.
        if let Some(load) = loads.get_mut(&volume.owner) {
            *load += volume.weight();
        }
    }
    let total: u64 = loads.values().sum();
    let (&to, &least) = loads.iter().min_by_key(|&(node, load)| (*load, *node))?;
    let is_far_below = 2 * least * (loads.len() as u64) < total;
    if !evening && !is_far_below {
        return None;
    }
    let mut givers: Vec<(u64, NodeId)> = loads.iter().map(|(&node, &load)| (load, node)).collect();
    givers.sort_by_key(|&(load, node)| (Reverse(load), node));
    givers.into_iter().find_map(|(load, from)| {
        let gap = load - least;
        let moves = |volume: &&OwnedVolume| {
            volume.owner == from
                && !volume.rests
                && volume.near != Some(from)
                && gap >= 2 * volume.weight()
        };
        let candidates = volumes.iter().filter(moves);
        // Where its client is first, then what nobody waits for.
        let best = candidates
            .min_by_key(|volume| (volume.near != Some(to), volume.attached, volume.id))?;
        Some(OwnerMove {
            volume: best.id,
            from,
            to,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: u32) -> Vec<NodeId> {
        (1..=count).map(NodeId).collect()
    }

    fn volume(id: u64, owner: u32, attached: bool, near: Option<u32>) -> OwnedVolume {
        OwnedVolume {
            id: VolumeId(id),
            owner: NodeId(owner),
            attached,
            near: near.map(NodeId),
            rests: false,
        }
    }

    /// Moves until there are none, and how many there were.
    fn run(count: u32, volumes: &mut [OwnedVolume]) -> usize {
        let (mut moved, mut evening) = (0, false);
        while let Some(step) = plan_owner(&nodes(count), volumes, evening) {
            let volume = volumes.iter_mut().find(|one| one.id == step.volume);
            let volume = volume.expect("one of them");
            assert_eq!(volume.owner, step.from);
            assert_ne!(step.from, step.to);
            volume.owner = step.to;
            (moved, evening) = (moved + 1, true);
            assert!(moved < 1000, "it comes to no end");
        }
        moved
    }

    fn of(volumes: &[OwnedVolume], owner: u32) -> usize {
        let owned = volumes.iter().filter(|one| one.owner == NodeId(owner));
        owned.count()
    }

    #[test]
    fn a_node_that_came_back_gets_its_share() {
        let mut volumes: Vec<_> = (0..10)
            .map(|id| volume(id, 1 + (id % 2) as u32, true, None))
            .collect();
        assert_eq!(run(3, &mut volumes), 3);
        assert_eq!([1, 2, 3].map(|node| of(&volumes, node)), [3, 4, 3]);
    }

    #[test]
    fn small_differences_are_left_alone() {
        let volumes = [
            volume(1, 1, true, None),
            volume(2, 1, true, None),
            volume(3, 2, true, None),
            volume(4, 3, true, None),
        ];
        assert_eq!(plan_owner(&nodes(3), &volumes, false), None);
        assert_eq!(
            plan_owner(&nodes(3), &volumes[..1], false),
            None,
            "it would only change its place"
        );
        assert_eq!(plan_owner(&nodes(1), &volumes, true), None);
        assert_eq!(plan_owner(&[], &volumes, true), None);
    }

    #[test]
    fn volumes_go_to_their_clients_and_do_not_leave_them() {
        let volumes = [
            volume(1, 1, true, Some(1)),
            volume(2, 1, true, None),
            volume(3, 1, true, Some(2)),
            volume(4, 1, false, None),
        ];
        let step = plan_owner(&nodes(2), &volumes, false).map(|step| step.volume);
        assert_eq!(step, Some(VolumeId(3)));
        let idle = [volumes[0], volumes[1], volumes[3]];
        let step = plan_owner(&nodes(2), &idle, false).map(|step| step.volume);
        assert_eq!(step, Some(VolumeId(4)), "nobody waits for it");
        let local = [volumes[0], volume(5, 1, true, Some(1))];
        assert_eq!(plan_owner(&nodes(2), &local, true), None);
    }

    #[test]
    fn a_volume_that_rests_keeps_no_other_from_moving() {
        let mut volumes: Vec<_> = (1..=4).map(|id| volume(id, 1, true, None)).collect();
        volumes[0].rests = true;
        assert_eq!(run(2, &mut volumes), 2);
        assert_eq!([1, 2].map(|node| of(&volumes, node)), [2, 2]);
        assert_eq!(volumes[0].owner, NodeId(1));
        volumes.iter_mut().for_each(|volume| {
            (volume.owner, volume.rests) = (NodeId(1), true);
        });
        assert_eq!(plan_owner(&nodes(2), &volumes, true), None);
    }

    proptest! {
        #[test]
        fn moves_come_to_an_end_and_are_not_undone(
            count in 1_u32..6,
            volumes in proptest::collection::vec((1_u32..6, any::<bool>(), proptest::option::of(1_u32..6)), 0..40),
        ) {
            let volumes = volumes.into_iter().enumerate();
            let mut volumes: Vec<_> = volumes
                .map(|(id, (owner, attached, near))| volume(id as u64, owner, attached, near))
                .collect();
            let before = volumes.clone();
            run(count, &mut volumes);
            let at_home = |volume: &OwnedVolume| volume.near == Some(volume.owner);
            for (before, after) in before.iter().zip(&volumes) {
                prop_assert!(!at_home(before) || before == after);
            }
        }
    }
}
