//! Local stores catch up with what their groups hold: after a start, when they join a group, when another store comes
//! back, and now and then while extents come and go.

use crate::health::Fitness;
use crate::host::Host;
use crate::membership::{self, Part};
use catalog::GroupRow;
use futures_util::future::{Either, select};
use group::FillReport;
use std::collections::BTreeSet;
use std::rc::Rc;
use vocab::{Generation, GroupId, StoreId};
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
        let (known, before) = (extents_known(&host), joined(&host, store));
        let report = fill_groups(&host, store).await;
        let took = host.world.now().since(began);
        if report.copied + report.deleted > 0 {
            tracing::info!(%store, ?report, "caught up with its groups");
        }
        let done = report.is_whole();
        if done {
            retry = RETRY;
            host.upkeep.filled.borrow_mut().insert(store);
        } else {
            host.upkeep.filled.borrow_mut().remove(&store);
        }
        let more = joined(&host, store);
        let rest = took * REST_FACTOR;
        let pause = match (done, more.is_empty()) {
            (true, _) => INTERVAL.max(rest),
            (false, true) => retry.max(rest),
            // Something lacks a copy for as long as this takes.
            (false, false) => retry,
        };
        if !done {
            retry = (retry * 2).min(RETRY_MAX);
        }
        if more.iter().all(|group| before.contains(group)) {
            wait(&host, store, &more, returned, pause, done, &known).await;
        }
    }
}

/// Fills the store in all of its groups, the least redundant first, and tells the catalog where it lacks nothing more.
async fn fill_groups(host: &Host, store: StoreId) -> FillReport {
    let groups = host.pool.groups().into_iter();
    let mut groups: Vec<GroupRow> = groups
        .filter(|group| group.members.contains(&store))
        .collect();
    groups.sort_by_key(|group| (!group.filling.contains(&store), group.complete().count()));
    let answers = |other: StoreId| host.health.fitness(other) != Fitness::Unfit;
    let (mut total, mut told) = (FillReport::default(), false);
    for group in &groups {
        let report = host.pool.fill(store, group, &answers).await;
        total.add(&report);
        if report.is_whole() && group.filling.contains(&store) {
            match host.catalog.group_filled(group, store).await {
                Ok(true) => told = true,
                Ok(false) | Err(_) => total.silent += 1,
            }
        }
    }
    if told {
        let _ = membership::refresh(host, &[Part::Groups]).await;
    }
    total
}

/// The groups that the store has joined and is not filled in yet.
fn joined(host: &Host, store: StoreId) -> BTreeSet<(GroupId, Generation)> {
    host.members.look(|view| {
        let groups = view.groups.values();
        let filling = groups.filter(|group| group.filling.contains(&store));
        filling.map(|group| (group.id, group.generation)).collect()
    })
}

/// Until a store comes back, or the pause is over and there may be something to do.
async fn wait(
    host: &Host,
    store: StoreId,
    filling: &BTreeSet<(GroupId, Generation)>,
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
    let joins = async {
        loop {
            let changed = host.members.changed.notified();
            if !joined(host, store).is_subset(filling) {
                return;
            }
            changed.await;
        }
    };
    let either = select(Box::pin(paused), Box::pin(joins));
    match select(Box::pin(either), returned).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}
