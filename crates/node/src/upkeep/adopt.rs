//! Volumes of nodes that are gone find other owners before somebody asks for them: those with clients first, of whichever node, few at
//! a time, each by one node. Quarantine (`volumes.rs`) keeps one that ends its owners from taking the others along.

use crate::host::Host;
use catalog::VolumeRow;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{NodeId, VolumeId};
use world::Duration;

/// Volumes that a node takes over at the same time.
const PARALLEL: usize = 4;
/// Pause between two looks while a node is suspected, and after a takeover that failed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Attempts for the volumes of one node; what is left then waits for its clients.
const ATTEMPTS_MAX: u32 = 20;

/// What was tried for nodes without a lease.
#[derive(Default)]
struct Tries {
    made: BTreeMap<NodeId, u32>,
    /// Nodes that were lost at the last look.
    lost: BTreeSet<NodeId>,
}

impl Tries {
    /// Takes note of who has no lease and who of them is lost; those for whom something is left to be tried.
    fn look(&mut self, absent: &BTreeSet<NodeId>, lost: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        if !lost.is_subset(&self.lost) {
            // One heir fewer: those that are left have other shares. One that is only late with its lease is an heir still.
            self.made.clear();
        }
        self.lost.clone_from(lost);
        self.made.retain(|node, _| absent.contains(node));
        let is_left = |node: &&NodeId| self.made.get(*node).is_none_or(|made| *made < ATTEMPTS_MAX);
        absent.iter().filter(is_left).copied().collect()
    }

    /// Takes note of a round for these nodes, of which some `had` volumes.
    fn on_tried(&mut self, nodes: BTreeSet<NodeId>, had: &BTreeSet<NodeId>) {
        for node in nodes {
            let made = self.made.entry(node).or_default();
            *made = match had.contains(&node) {
                true => *made + 1,
                false => ATTEMPTS_MAX,
            };
        }
    }
}

pub(crate) async fn run(host: Rc<Host>) {
    let mut tries = Tries::default();
    loop {
        let changed = host.members.changed.notified();
        let lost = lost(&host);
        let left = tries.look(&absent(&host), &lost);
        if left.is_empty() {
            changed.await;
            continue;
        }
        let gone: BTreeSet<NodeId> = left.intersection(&lost).copied().collect();
        match adopt(&host, &gone, &lost).await {
            Round::Cut => continue,
            Round::Tried(had) => tries.on_tried(gone, &had),
        }
        host.world.sleep(LOOK_INTERVAL).await;
    }
}

/// Nodes without a lease.
fn absent(host: &Host) -> BTreeSet<NodeId> {
    host.members.look(|view| {
        let nodes = view.nodes.keys().copied();
        nodes
            .filter(|node| !view.alive.contains_key(node))
            .collect()
    })
}

/// Nodes that have been without a lease for so long that their volumes are taken over.
fn lost(host: &Host) -> BTreeSet<NodeId> {
    let is_lost = |node: &NodeId| {
        let gone = host.members.gone_for(*node);
        gone.is_some_and(|gone| gone >= host.options.suspicion)
    };
    absent(host).into_iter().filter(is_lost).collect()
}

/// How an attempt for the volumes of some nodes ended.
enum Round {
    /// It went through its list; the nodes that had volumes in it.
    Tried(BTreeSet<NodeId>),
    /// Another node is lost, and its volumes may be more urgent than what was left.
    Cut,
}

/// Takes over this node's share of the volumes of those that are `gone`, once; `lost_before` are all that were lost when it began.
async fn adopt(host: &Rc<Host>, gone: &BTreeSet<NodeId>, lost_before: &BTreeSet<NodeId>) -> Round {
    if gone.is_empty() {
        return Round::Tried(BTreeSet::new());
    }
    let left = match host.catalog.list::<VolumeRow>().await {
        Ok(rows) => share_of(host, gone, rows.into_iter().map(|found| found.row)),
        Err(error) => {
            tracing::debug!(%error, "volumes of lost nodes are taken over later");
            return Round::Tried(gone.clone());
        }
    };
    for batch in left.chunks(PARALLEL) {
        join_all(batch.iter().map(|&(id, _)| host.acquire_in_turn(id))).await;
        if !lost(host).is_subset(lost_before) {
            return Round::Cut;
        }
    }
    Round::Tried(left.into_iter().map(|(_, node)| node).collect())
}

/// The volumes of lost nodes that this one takes over, in order, and whose they are.
fn share_of(
    host: &Host,
    gone: &BTreeSet<NodeId>,
    rows: impl Iterator<Item = VolumeRow>,
) -> Vec<(VolumeId, NodeId)> {
    let heirs: Vec<NodeId> = host.members.look(|view| {
        let alive = view.alive.keys().copied();
        alive.filter(|&node| view.takes_volumes(node)).collect()
    });
    plan_share(host.id(), &heirs, gone, rows)
}

/// The share of one of the heirs: those with clients first, else in the order of their ids. Pure.
fn plan_share(
    heir: NodeId,
    heirs: &[NodeId],
    gone: &BTreeSet<NodeId>,
    rows: impl Iterator<Item = VolumeRow>,
) -> Vec<(VolumeId, NodeId)> {
    let ours = |row: VolumeRow| {
        let turn = usize::try_from(row.id.0).unwrap_or(0) % heirs.len().max(1);
        let owner = row.owner.filter(|owner| gone.contains(owner))?;
        let is_idle = row.attachment.clients.is_empty();
        (heirs.get(turn) == Some(&heir)).then_some((is_idle, row.id, owner))
    };
    let mut ours: Vec<(bool, VolumeId, NodeId)> = rows.filter_map(ours).collect();
    ours.sort_unstable();
    ours.into_iter().map(|(_, id, owner)| (id, owner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: NodeId = NodeId(3);

    fn row(id: u64, owner: NodeId, clients: &[&str]) -> VolumeRow {
        let row = serde_json::json!({
            "id": id, "name": format!("v{id}"), "container": 1, "lineage": id, "size": 4096, "created_ms": 0, "epoch": 1,
        });
        let mut row: VolumeRow =
            serde_json::from_value(row).expect("a row as it was first written");
        row.owner = Some(owner);
        row.attachment.clients = clients.iter().map(ToString::to_string).collect();
        row
    }

    /// The share of an heir in the volumes of these nodes.
    fn share(
        heir: NodeId,
        heirs: &[NodeId],
        gone: &[NodeId],
        rows: impl Iterator<Item = VolumeRow>,
    ) -> Vec<VolumeId> {
        let gone = gone.iter().copied().collect();
        let share = plan_share(heir, heirs, &gone, rows);
        share.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn volumes_with_clients_are_taken_over_first() {
        let rows = || {
            let idle = [9, 1, 5].map(|id| row(id, GONE, &[]));
            let attached = [7, 3].map(|id| row(id, GONE, &["client"]));
            idle.into_iter().chain(attached)
        };
        let alone = share(NodeId(1), &[NodeId(1)], &[GONE], rows());
        assert_eq!(alone, [3, 7, 1, 5, 9].map(VolumeId));
        // Each heir keeps the order in its share.
        let heirs = [NodeId(1), NodeId(2), NodeId(4)];
        let shares = heirs.map(|heir| share(heir, &heirs, &[GONE], rows()));
        assert_eq!(shares[0], [3, 9].map(VolumeId));
        assert_eq!(shares[1], [7, 1].map(VolumeId));
        assert_eq!(shares[2], [5].map(VolumeId));
    }

    #[test]
    fn those_with_clients_come_first_whichever_node_they_are_of() {
        let also = NodeId(4);
        let rows = [
            row(1, GONE, &[]),
            row(6, GONE, &["client"]),
            row(2, also, &[]),
            row(5, also, &["client"]),
        ];
        let gone = [GONE, also].into_iter().collect();
        let plan = plan_share(NodeId(1), &[NodeId(1)], &gone, rows.into_iter());
        let wanted = [(5, also), (6, GONE), (1, GONE), (2, also)];
        assert_eq!(plan, wanted.map(|(id, owner)| (VolumeId(id), owner)));
    }

    #[test]
    fn only_a_further_loss_begins_anew_what_was_done() {
        let set = |ids: &[u32]| -> BTreeSet<NodeId> { ids.iter().copied().map(NodeId).collect() };
        let mut tries = Tries::default();
        assert_eq!(tries.look(&set(&[3]), &set(&[])), set(&[3]));
        assert_eq!(tries.look(&set(&[3]), &set(&[3])), set(&[3]));
        tries.on_tried(set(&[3]), &set(&[]));
        assert_eq!(tries.look(&set(&[3]), &set(&[3])), set(&[]));
        // Another one is late with its lease, and is back: nothing of node 3 is read again.
        assert_eq!(tries.look(&set(&[3, 4]), &set(&[3])), set(&[4]));
        assert_eq!(tries.look(&set(&[3]), &set(&[3])), set(&[]));
        // Now it is lost.
        assert_eq!(tries.look(&set(&[3, 4]), &set(&[3])), set(&[4]));
        assert_eq!(tries.look(&set(&[3, 4]), &set(&[3, 4])), set(&[3, 4]));
        for _ in 1..ATTEMPTS_MAX {
            tries.on_tried(set(&[3, 4]), &set(&[3, 4]));
            assert_eq!(tries.look(&set(&[3, 4]), &set(&[3, 4])), set(&[3, 4]));
        }
        tries.on_tried(set(&[3, 4]), &set(&[3, 4]));
        assert_eq!(tries.look(&set(&[3, 4]), &set(&[3, 4])), set(&[]));
        // Who was back is begun anew.
        assert_eq!(tries.look(&set(&[4]), &set(&[4])), set(&[]));
        assert_eq!(tries.look(&set(&[3, 4]), &set(&[4])), set(&[3]));
    }

    #[test]
    fn volumes_of_others_are_left_to_them() {
        let rows = [row(1, GONE, &[]), row(2, NodeId(2), &["client"])];
        let ours = share(NodeId(1), &[NodeId(1)], &[GONE], rows.into_iter());
        assert_eq!(ours, [VolumeId(1)]);
        let nobody = share(NodeId(1), &[], &[GONE], [row(1, GONE, &[])].into_iter());
        assert_eq!(nobody, []);
    }
}
