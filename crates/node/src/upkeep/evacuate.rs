//! Takes the logs of volumes off draining stores, and the volumes off this node when it drains.
//!
//! Only an owner can move a log. So volumes that nobody serves are opened for it, each by one node: those that were released at
//! a node's end, and those of an earlier start of this one.

use crate::host::Host;
use catalog::VolumeRow;
use futures_util::future::join_all;
use std::rc::Rc;
use vocab::{NodeId, StoreId, VolumeId};
use world::{Duration, Time};

/// Pause between two looks at what must leave a draining store.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two looks at all rows, and more for each of them.
const ROWS_PAUSE: Duration = Duration::from_secs(3);
const ROWS_PAUSE_EACH: Duration = Duration::from_millis(1);
/// Volumes that are opened at the same time.
const PARALLEL: usize = 4;

pub(super) async fn run(host: Rc<Host>) {
    let mut next = host.world.now();
    loop {
        let changed = host.members.changed.notified();
        let leaving: Vec<StoreId> = host.members.look(|view| {
            let stores = view.stores.values().filter(|row| view.drains(row));
            stores.map(|row| row.id).collect()
        });
        let drains = host.members.look(|view| view.node_drains(host.id()));
        if leaving.is_empty() && !drains {
            changed.await;
            continue;
        }
        for volume in host.volumes() {
            volume.leave_stores(&leaving);
        }
        if drains {
            host.hand_over().await;
        }
        if host.world.now() >= next {
            next = open_unserved(&host, &leaving).await;
        }
        host.world.sleep(INTERVAL).await;
    }
}

/// Opens this node's share of the volumes that nobody serves and whose logs are on some stores; when to look again.
async fn open_unserved(host: &Rc<Host>, leaving: &[StoreId]) -> Time {
    let mut pause = ROWS_PAUSE;
    match host.catalog.list::<VolumeRow>().await {
        Ok(rows) => {
            pause += ROWS_PAUSE_EACH * u32::try_from(rows.len()).unwrap_or(u32::MAX);
            let rows = rows.iter().map(|found| &found.row);
            let unserved: Vec<VolumeId> = rows
                .filter(|row| is_on(row, leaving) && is_ours(host, row))
                .map(|row| row.id)
                .collect();
            for batch in unserved.chunks(PARALLEL) {
                // One that cannot be opened now is tried again; why is in the log and in its state.
                join_all(batch.iter().map(|&id| host.acquire(id))).await;
            }
        }
        Err(error) => tracing::debug!(%error, "volumes that nobody serves are looked for later"),
    }
    host.world.now() + pause
}

/// Whether a part of its log is on one of these stores. Pure.
fn is_on(row: &VolumeRow, stores: &[StoreId]) -> bool {
    let mut replicas = row.segments.iter().flat_map(|segment| &segment.replicas);
    replicas.any(|replica| stores.contains(&replica.store))
}

/// Whether nobody serves it and this node is the one to do it. A draining node gives up what is left of an earlier start of it.
fn is_ours(host: &Host, row: &VolumeRow) -> bool {
    if host.volumes.get(row.id).is_some() {
        return false;
    }
    match row.owner {
        Some(owner) if owner == host.id() => true,
        Some(owner) if host.members.is_alive(owner) => false,
        _ => {
            let heirs: Vec<NodeId> = host.members.look(|view| {
                let alive = view.alive.keys().copied();
                alive.filter(|&node| view.takes_volumes(node)).collect()
            });
            let turn = usize::try_from(row.id.0).unwrap_or(0) % heirs.len().max(1);
            heirs.get(turn) == Some(&host.id())
        }
    }
}
