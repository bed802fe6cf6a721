//! Takes the logs of volumes off draining stores, and the volumes off this node when it drains.
//!
//! Only an owner can move a log. So volumes that nobody serves are opened for it, each by one node: those that were released at
//! a node's end, and those of an earlier start of this one.

use crate::host::Host;
use catalog::VolumeRow;
use futures_util::future::join_all;
use std::rc::Rc;
use vocab::{NodeId, StoreId, VolumeId};
use world::Duration;

/// Pause between two looks at what must leave a draining store.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two looks at all rows, and more for each of them.
const ROWS_PAUSE: Duration = Duration::from_secs(3);
const ROWS_PAUSE_EACH: Duration = Duration::from_millis(1);
/// Volumes that are opened at the same time.
const PARALLEL: usize = 4;

pub(super) fn start(host: &Rc<Host>) {
    host.spawn(run(host.clone()));
    host.spawn(open_unserved(host.clone()));
}

/// What is to be left.
struct Leaving {
    stores: Vec<StoreId>,
    /// Whether this node is to be left, too.
    node: bool,
}

impl Leaving {
    /// Nothing, when nothing drains.
    fn of(host: &Host) -> Option<Self> {
        let leaving = host.members.look(|view| {
            let stores = view.stores.values().filter(|row| view.drains(row));
            Self {
                stores: stores.map(|row| row.id).collect(),
                node: view.node_drains(host.id()),
            }
        });
        (leaving.node || !leaving.stores.is_empty()).then_some(leaving)
    }
}

async fn run(host: Rc<Host>) {
    loop {
        let changed = host.members.changed.notified();
        let Some(leaving) = Leaving::of(&host) else {
            changed.await;
            continue;
        };
        for volume in host.volumes() {
            volume.leave_stores(&leaving.stores);
        }
        if leaving.node {
            host.hand_over().await;
        }
        host.world.sleep(INTERVAL).await;
    }
}

/// Opens this node's share of the volumes that nobody serves and whose logs are on draining stores. Apart from [`run`]: one that
/// opens slowly holds nothing else up.
async fn open_unserved(host: Rc<Host>) {
    loop {
        let changed = host.members.changed.notified();
        let Some(leaving) = Leaving::of(&host) else {
            changed.await;
            continue;
        };
        let mut pause = ROWS_PAUSE;
        match host.catalog.list::<VolumeRow>().await {
            Ok(rows) => {
                pause += ROWS_PAUSE_EACH * u32::try_from(rows.len()).unwrap_or(u32::MAX);
                let rows = rows.iter().map(|found| &found.row);
                let ours = rows.filter(|row| is_tied(&host, row, &leaving) && is_ours(&host, row));
                let ours: Vec<VolumeId> = ours.map(|row| row.id).collect();
                for batch in ours.chunks(PARALLEL) {
                    // One that cannot be opened now is tried again; why is in the log and in its state.
                    join_all(batch.iter().map(|&id| host.acquire(id))).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "volumes that nobody serves are looked for later")
            }
        }
        host.world.sleep(pause).await;
    }
}

/// Whether a volume keeps something from being left: by a part of its log, or because it names this node as its owner. What is
/// left of an earlier start of a draining node is given up when it is to be opened there.
fn is_tied(host: &Host, row: &VolumeRow, leaving: &Leaving) -> bool {
    let mut replicas = row.segments.iter().flat_map(|segment| &segment.replicas);
    let named = leaving.node && row.owner == Some(host.id());
    named || replicas.any(|replica| leaving.stores.contains(&replica.store))
}

/// Whether nobody serves it and this node is the one to do it.
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
