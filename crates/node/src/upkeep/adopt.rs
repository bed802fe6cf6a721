//! Volumes of a node that is gone find other owners before somebody asks for them: those with clients first, few at a
//! time, each by one node. Quarantine (`volumes.rs`) keeps one that ends its owners from taking the others along.

use crate::host::Host;
use catalog::VolumeRow;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::rc::Rc;
use vocab::{NodeId, VolumeId};
use world::Duration;

/// Volumes that a node takes over at the same time.
const PARALLEL: usize = 4;
/// Pause between two looks while a node is suspected, and after a takeover that failed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Attempts for the volumes of one node; what is left then waits for its clients.
const ATTEMPTS_MAX: u32 = 20;

pub(crate) async fn run(host: Rc<Host>) {
    let mut done: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let changed = host.members.changed.notified();
        let absent: BTreeSet<NodeId> = host.members.look(|view| {
            let nodes = view.nodes.keys().copied();
            nodes
                .filter(|node| !view.alive.contains_key(node))
                .collect()
        });
        done.retain(|node| absent.contains(node));
        if absent.is_subset(&done) {
            changed.await;
            continue;
        }
        for &node in absent.difference(&done.clone()) {
            let gone = host.members.gone_for(node);
            if gone.is_some_and(|gone| gone >= host.options.suspicion) {
                adopt(&host, node).await;
                done.insert(node);
            }
        }
        host.world.sleep(LOOK_INTERVAL).await;
    }
}

/// Takes over this node's share of the volumes of another one.
async fn adopt(host: &Rc<Host>, gone: NodeId) {
    for _ in 0..ATTEMPTS_MAX {
        if host.members.is_alive(gone) {
            return;
        }
        let left = match host.catalog.list::<VolumeRow>().await {
            Ok(rows) => share_of(host, gone, rows.into_iter().map(|found| found.row)),
            Err(error) => {
                tracing::debug!(%error, "volumes of a lost node are taken over later");
                host.world.sleep(LOOK_INTERVAL).await;
                continue;
            }
        };
        if left.is_empty() {
            return;
        }
        for batch in left.chunks(PARALLEL) {
            join_all(batch.iter().map(|&id| host.acquire_in_turn(id))).await;
        }
        host.world.sleep(LOOK_INTERVAL).await;
    }
}

/// The volumes of a lost node that this one takes over, in order.
fn share_of(host: &Host, gone: NodeId, rows: impl Iterator<Item = VolumeRow>) -> Vec<VolumeId> {
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
    gone: NodeId,
    rows: impl Iterator<Item = VolumeRow>,
) -> Vec<VolumeId> {
    let is_ours = |row: &VolumeRow| {
        let turn = usize::try_from(row.id.0).unwrap_or(0) % heirs.len().max(1);
        row.owner == Some(gone) && heirs.get(turn) == Some(&heir)
    };
    let mut ours: Vec<VolumeRow> = rows.filter(is_ours).collect();
    ours.sort_by_key(|row| (row.attachment.clients.is_empty(), row.id));
    ours.into_iter().map(|row| row.id).collect()
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

    #[test]
    fn volumes_with_clients_are_taken_over_first() {
        let rows = || {
            let idle = [9, 1, 5].map(|id| row(id, GONE, &[]));
            let attached = [7, 3].map(|id| row(id, GONE, &["client"]));
            idle.into_iter().chain(attached)
        };
        let alone = plan_share(NodeId(1), &[NodeId(1)], GONE, rows());
        assert_eq!(alone, [3, 7, 1, 5, 9].map(VolumeId));
        // Each heir keeps the order in its share.
        let heirs = [NodeId(1), NodeId(2), NodeId(4)];
        let shares = heirs.map(|heir| plan_share(heir, &heirs, GONE, rows()));
        assert_eq!(shares[0], [3, 9].map(VolumeId));
        assert_eq!(shares[1], [7, 1].map(VolumeId));
        assert_eq!(shares[2], [5].map(VolumeId));
    }

    #[test]
    fn volumes_of_others_are_left_to_them() {
        let rows = [row(1, GONE, &[]), row(2, NodeId(2), &["client"])];
        let share = plan_share(NodeId(1), &[NodeId(1)], GONE, rows.into_iter());
        assert_eq!(share, [VolumeId(1)]);
        let nobody = plan_share(NodeId(1), &[], GONE, [row(1, GONE, &[])].into_iter());
        assert_eq!(nobody, []);
    }
}
