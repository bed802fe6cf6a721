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
            join_all(batch.iter().map(|&id| host.acquire(id))).await;
        }
        host.world.sleep(LOOK_INTERVAL).await;
    }
}

/// The volumes of a lost node that this one takes over, those with clients first.
fn share_of(host: &Host, gone: NodeId, rows: impl Iterator<Item = VolumeRow>) -> Vec<VolumeId> {
    let heirs: Vec<NodeId> = host.members.look(|view| {
        let alive = view.alive.keys().copied();
        alive.filter(|&node| view.takes_volumes(node)).collect()
    });
    let is_ours = |row: &VolumeRow| {
        let turn = usize::try_from(row.id.0).unwrap_or(0) % heirs.len().max(1);
        row.owner == Some(gone) && heirs.get(turn) == Some(&host.id())
    };
    let mut ours: Vec<VolumeRow> = rows.filter(is_ours).collect();
    ours.sort_by_key(|row| (row.attachment.clients.is_empty(), row.id));
    ours.into_iter().map(|row| row.id).collect()
}
