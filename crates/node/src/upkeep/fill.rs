//! Local stores catch up with what their groups hold: after a start, when they join a group, when another store comes
//! back, and now and then while extents come and go.

use crate::health::Fitness;
use crate::host::Host;
use crate::membership::{self, Part};
use catalog::GroupRow;
use futures_util::future::{Either, select};
use group::FillReport;
use std::collections::{BTreeMap, BTreeSet};
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

/// How urgent a group of the store's is, the least first: those that it is not complete in, and of these the one with the fewest
/// complete members that answer, for one that is lost or away cannot give anything.
fn urgency(
    group: &GroupRow,
    store: StoreId,
    answers: &dyn Fn(StoreId) -> bool,
) -> (bool, usize, GroupId) {
    let giving = group.complete().filter(|&member| answers(member)).count();
    (!group.filling.contains(&store), giving, group.id)
}

/// The most urgent group of the store's that this pass has not seen to. A group that has changed since counts as not seen to where
/// the store is to be filled: its members are others now.
fn most_urgent<'a>(
    groups: impl Iterator<Item = &'a GroupRow>,
    store: StoreId,
    done: &BTreeMap<GroupId, Generation>,
    answers: &dyn Fn(StoreId) -> bool,
) -> Option<GroupRow> {
    let is_open = |group: &GroupRow| match done.get(&group.id) {
        None => true,
        Some(&seen) => seen < group.generation && group.filling.contains(&store),
    };
    let ours = groups.filter(|group| group.members.contains(&store) && is_open(group));
    ours.min_by_key(|group| urgency(group, store, answers))
        .cloned()
}

/// Fills the store in all of its groups, and tells the catalog where it lacks nothing more. Which is next is decided when one is done:
/// groups that have become more urgent meanwhile do not wait for those that were before.
async fn fill_groups(host: &Host, store: StoreId) -> FillReport {
    let answers = |other: StoreId| host.health.fitness(other) != Fitness::Unfit;
    let (mut total, mut told) = (FillReport::default(), false);
    let mut done = BTreeMap::new();
    let fixed = host.options.fixed_fills.then(|| host.pool.groups());
    let next = |done: &BTreeMap<GroupId, Generation>| match &fixed {
        Some(groups) => most_urgent(groups.iter(), store, done, &|_| true),
        None => host
            .members
            .look(|view| most_urgent(view.groups.values(), store, done, &answers)),
    };
    while let Some(group) = &next(&done) {
        done.insert(group.id, group.generation);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u32, members: &[u32], filling: &[u32]) -> GroupRow {
        let ids = |ids: &[u32]| ids.iter().map(|&id| StoreId(id)).collect();
        GroupRow {
            id: GroupId(id),
            generation: Generation(1),
            replication_factor: 3,
            members: ids(members),
            filling: ids(filling),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        }
    }

    /// The order of a pass of store 9, of which `meanwhile` changes the groups after each fill.
    fn pass(mut groups: Vec<GroupRow>, mut meanwhile: impl FnMut(&mut Vec<GroupRow>)) -> Vec<u32> {
        let (mut done, mut order) = (BTreeMap::new(), Vec::new());
        while let Some(next) = most_urgent(groups.iter(), StoreId(9), &done, &|_| true) {
            done.insert(next.id, next.generation);
            order.push(next.id.0);
            meanwhile(&mut groups);
        }
        order
    }

    #[test]
    fn the_next_fill_is_the_most_urgent_one_now() {
        let groups = vec![
            group(1, &[1, 2, 9], &[9]),
            group(2, &[3, 4, 9], &[9]),
            group(3, &[5, 6, 9], &[9]),
            group(4, &[1, 2, 9], &[]),
            group(5, &[1, 2, 3], &[]),
        ];
        assert_eq!(pass(groups.clone(), |_| {}), [1, 2, 3, 4]);
        // While the first is filled, the third loses a copy.
        let lose = |groups: &mut Vec<GroupRow>| groups[2] = group(3, &[5, 9], &[9]);
        assert_eq!(pass(groups, lose), [1, 3, 2, 4]);
    }

    #[test]
    fn a_store_that_does_not_answer_gives_nothing() {
        let groups = [group(1, &[1, 2, 9], &[9]), group(2, &[3, 4, 9], &[9])];
        let answers = |store: StoreId| store != StoreId(4);
        let next = most_urgent(groups.iter(), StoreId(9), &BTreeMap::new(), &answers);
        assert_eq!(next.map(|group| group.id), Some(GroupId(2)));
    }

    #[test]
    fn a_group_that_changes_is_seen_to_again_only_while_the_store_lacks_something() {
        let mut groups = [group(1, &[1, 2, 9], &[9])];
        let done = BTreeMap::from([(GroupId(1), Generation(1))]);
        let next = |groups: &[GroupRow]| most_urgent(groups.iter(), StoreId(9), &done, &|_| true);
        assert!(next(&groups).is_none());
        groups[0].generation = Generation(2);
        assert!(next(&groups).is_some());
        groups[0].filling.clear();
        assert!(next(&groups).is_none());
    }
}
