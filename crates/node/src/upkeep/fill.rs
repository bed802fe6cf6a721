//! Local stores catch up with what their groups hold: after a start, when another store comes back, and
//! now and then while extents come and go.

use crate::host::Host;
use futures_util::future::{Either, select};
use std::rc::Rc;
use vocab::StoreId;
use world::Duration;

/// Stores that come back together are looked at together.
const SETTLE: Duration = Duration::from_millis(500);
/// Least pause between two looks while extents change.
const INTERVAL: Duration = Duration::from_secs(20);
/// A look may take this share of the time: a fiftieth.
const REST_FACTOR: u32 = 50;
/// First pause after a look that could not copy everything; doubled up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(20);

/// What the stores said they held: a sign of extents made or deleted.
fn extents_known(host: &Host) -> Vec<(StoreId, u64)> {
    let stores: Vec<StoreId> = host
        .members
        .look(|view| view.stores.keys().copied().collect());
    let extents = |store: StoreId| {
        let status = host.health.seen(store)?.status?;
        Some((store, status.extents))
    };
    stores.into_iter().filter_map(extents).collect()
}

pub(crate) async fn run(host: Rc<Host>, store: StoreId) {
    let mut retry = RETRY;
    loop {
        let returned = host.health.returned.notified();
        host.world.sleep(SETTLE).await;
        let groups = host.members.look(|view| view.groups.len());
        if groups == 0 {
            host.members.changed.notified().await;
            continue;
        }
        let began = host.world.now();
        let known = extents_known(&host);
        let report = group::fill_store(&host.pool, store).await;
        let took = host.world.now().since(began);
        if report.copied + report.deleted > 0 {
            tracing::info!(%store, ?report, "caught up with its groups");
        }
        let done = report.silent == 0 && report.failed == 0;
        if done {
            retry = RETRY;
            host.upkeep.filled.borrow_mut().insert(store);
        } else {
            host.upkeep.filled.borrow_mut().remove(&store);
        }
        let pause = if done {
            INTERVAL.max(took * REST_FACTOR)
        } else {
            retry.max(took * REST_FACTOR)
        };
        if !done {
            retry = (retry * 2).min(RETRY_MAX);
        }
        wait(&host, returned, pause, done, &known).await;
    }
}

/// Until a store comes back, or the pause is over and there may be something to do.
async fn wait(
    host: &Host,
    returned: world::sync::Notified,
    pause: Duration,
    done: bool,
    known: &[(StoreId, u64)],
) {
    let paused = async {
        loop {
            host.world.sleep(pause).await;
            if !done || extents_known(host) != known {
                return;
            }
        }
    };
    match select(Box::pin(paused), returned).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}
