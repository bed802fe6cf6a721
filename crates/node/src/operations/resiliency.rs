//! How much loss the cluster can take now: pure arithmetic over groups, stores and their space.

use super::components::{capacity_component, data_component, repair_remedy, taking_part};
use super::{Result, capacity::plan_capacity};
use crate::host::Host;
use api::{Answer, CopiesAnswer, RepairAnswer, ResiliencyAnswer, ResilientCapacityAnswer};
use catalog::GroupRow;
use curator::{Domains, Standing, StoreFacts, level_name};
use std::collections::{BTreeMap, BTreeSet};
use vocab::StoreId;
use world::Time;

/// Space of one store in use from which on a warning is due.
const WARNING_PERCENT: u64 = 75;

/// What is known of fills that are under way, from when the first began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    began: Time,
    filled: u32,
    left: u32,
}

impl Progress {
    /// Goes on with `left` members being filled; nothing when there are none.
    pub(crate) fn next(before: Option<Self>, left: u32, now: Time) -> Option<Self> {
        if left == 0 {
            return None;
        }
        let before = before.unwrap_or(Self {
            began: now,
            filled: 0,
            left,
        });
        Some(Self {
            began: before.began,
            filled: before.filled + before.left.saturating_sub(left),
            left,
        })
    }

    fn eta_seconds(&self, now: Time) -> Option<u64> {
        let running = now.since(self.began).as_secs();
        (self.filled > 0).then(|| running * u64::from(self.left) / u64::from(self.filled))
    }
}

/// Whether a store serves what it holds.
fn answers(facts: &StoreFacts) -> bool {
    matches!(facts.standing, Standing::Present | Standing::Draining)
}

/// The verdict on groups that want `rf` copies. Pure.
fn judge(rf: u8, groups: &[&GroupRow], stores: &BTreeMap<StoreId, StoreFacts>) -> CopiesAnswer {
    let apart = Domains::new(stores.values());
    let level = apart.level(rf);
    let serving = |group: &GroupRow| {
        let complete = group
            .complete()
            .filter(|store| stores.get(store).is_some_and(answers));
        let domains: BTreeSet<_> = complete.map(|store| apart.of(store, level)).collect();
        domains.len()
    };
    let copies: Vec<usize> = groups.iter().map(|group| serving(group)).collect();
    let least = copies.iter().copied().min().unwrap_or(usize::from(rf));
    let fewer = |than: usize| copies.iter().filter(|&&have| have < than).count() as u32;
    CopiesAnswer {
        rf,
        domain: level_name(level),
        groups: groups.len() as u32,
        degraded: fewer(usize::from(rf)),
        unavailable: fewer(1),
        tolerates: least.saturating_sub(1) as u8,
    }
}

/// Space: bytes of each domain that takes part, and of all of them in use. What can be laid out on the domains that stay
/// when the largest is lost is resilient. Pure.
fn resilient_bytes(domains: &[u64], copies: u8) -> u64 {
    let largest = domains.iter().enumerate().max_by_key(|&(_, bytes)| *bytes);
    let Some((largest, _)) = largest else {
        return 0;
    };
    let stays = domains
        .iter()
        .enumerate()
        .filter(|&(index, _)| index != largest);
    let stays: Vec<u64> = stays.map(|(_, &bytes)| bytes).collect();
    plan_capacity(&stays, copies).saturating_mul(u64::from(copies))
}

impl Host {
    pub(super) async fn resiliency(&self) -> Result<Answer> {
        futures_util::future::join(crate::health::refresh(self), self.ask_catalog()).await;
        Ok(Answer::Resiliency(self.verdict()))
    }

    /// The verdict by what the stores said last.
    pub(crate) fn verdict(&self) -> ResiliencyAnswer {
        let facts = self.store_facts();
        let stores: BTreeMap<StoreId, StoreFacts> =
            facts.into_iter().map(|facts| (facts.id, facts)).collect();
        let view = self.view();
        let mut by_copies: BTreeMap<u8, Vec<&GroupRow>> = BTreeMap::new();
        for group in view.groups.values() {
            by_copies
                .entry(group.replication_factor)
                .or_default()
                .push(group);
        }
        let data: Vec<CopiesAnswer> = by_copies
            .iter()
            .map(|(&rf, groups)| judge(rf, groups, &stores))
            .collect();
        let copies = by_copies.keys().next_back().copied().unwrap_or(1);
        let capacity = self.resilient_capacity(&stores, copies);
        let waiting = view.groups.values().filter(|group| {
            let lost = |store: &StoreId| {
                stores
                    .get(store)
                    .is_none_or(|facts| facts.standing == Standing::Lost)
            };
            let short = group.members.len() < usize::from(group.replication_factor);
            group.filling.is_empty() && (short || group.members.iter().any(lost))
        });
        let waiting = waiting.count() as u32;
        let repair = self.repair_answer(waiting);
        let mut components = Vec::new();
        let apart = Domains::new(stores.values());
        // The widest first.
        let levels = || (0..apart.count()).rev();
        for answer in &data {
            let groups = &by_copies[&answer.rf];
            let of = |level| data_component(&apart, level, answer, groups, &stores, &repair);
            components.extend(levels().map(of));
        }
        let room = |level| capacity_component(&apart, level, copies, capacity.used, &stores);
        components.extend(levels().map(room));
        components.extend(self.catalog_component());
        let space = self.space_answers();
        let mut reasons = reasons(&data, &capacity, &repair);
        let catalog = components.iter().filter(|part| part.component == "catalog");
        let catalog = catalog.filter(|part| part.state != "ok");
        reasons
            .extend(catalog.filter_map(|part| Some(format!("catalog: {}", part.reason.as_ref()?))));
        reasons.extend(space.iter().filter_map(|space| space.reason.clone()));
        let lost = |copies: &CopiesAnswer| {
            copies.unavailable > 0 || (copies.rf > 1 && copies.tolerates == 0)
        };
        let critical = data.iter().any(lost)
            || components.iter().any(|part| part.state == "critical")
            || space.iter().any(|space| space.state == "protected");
        let verdict = match (critical, reasons.is_empty()) {
            (true, _) => "critical",
            (false, false) => "degraded",
            (false, true) => "ok",
        };
        ResiliencyAnswer {
            verdict: verdict.to_owned(),
            reasons,
            data,
            repair,
            capacity,
            components,
            space,
        }
    }

    /// By the number of copies of any group: percent of the resilient capacity in use, where a lost domain can be made good.
    pub(crate) fn resilient_percents(&self) -> BTreeMap<u8, u64> {
        let facts = self.store_facts();
        let stores: BTreeMap<StoreId, StoreFacts> =
            facts.into_iter().map(|facts| (facts.id, facts)).collect();
        let copies: BTreeSet<u8> = self.members.look(|view| {
            let groups = view.groups.values();
            groups.map(|group| group.replication_factor).collect()
        });
        let percent = |copies: u8| {
            let capacity = self.resilient_capacity(&stores, copies);
            let percent = |resilient| capacity.used.saturating_mul(100) / resilient;
            let resilient = capacity.resilient;
            (copies > 1 && resilient > 0).then(|| (copies, percent(resilient)))
        };
        copies.into_iter().filter_map(percent).collect()
    }

    fn repair_answer(&self, waiting: u32) -> RepairAnswer {
        let now = self.world.now();
        let progress = self.upkeep.progress.get();
        RepairAnswer {
            filling: progress.map_or(0, |progress| progress.left),
            filled: progress.map_or(0, |progress| progress.filled),
            waiting,
            running_seconds: progress.map_or(0, |progress| now.since(progress.began).as_secs()),
            eta_seconds: progress.and_then(|progress| progress.eta_seconds(now)),
        }
    }

    fn resilient_capacity(
        &self,
        stores: &BTreeMap<StoreId, StoreFacts>,
        copies: u8,
    ) -> ResilientCapacityAnswer {
        let taking_part = || taking_part(stores);
        let apart = Domains::new(stores.values());
        let level = apart.level(copies);
        let (mut domains, mut used, mut fullest) = (BTreeMap::<_, u64>::new(), 0, 0);
        for facts in taking_part() {
            *domains.entry(apart.of(facts.id, level)).or_default() += facts.capacity;
            let status = self.health.seen(facts.id).and_then(|seen| seen.status);
            let here = status.map_or(0, |status| status.used.0);
            used += here;
            fullest = fullest.max(here.saturating_mul(100) / facts.capacity.max(1));
        }
        let domains: Vec<u64> = domains.into_values().collect();
        ResilientCapacityAnswer {
            total: domains.iter().sum(),
            used,
            resilient: resilient_bytes(&domains, copies),
            fullest_percent: fullest.min(100) as u8,
        }
    }
}

/// Why the verdict is not `ok`, for people.
fn reasons(
    data: &[CopiesAnswer],
    capacity: &ResilientCapacityAnswer,
    repair: &RepairAnswer,
) -> Vec<String> {
    let mut reasons = Vec::new();
    for answer in data {
        let CopiesAnswer {
            rf,
            groups,
            degraded,
            unavailable,
            ..
        } = answer;
        if *unavailable > 0 {
            reasons.push(format!(
                "{unavailable} of {groups} groups with {rf} copies have none that answers: bring their stores back"
            ));
        } else if *degraded > 0 {
            reasons.push(format!(
                "{degraded} of {groups} groups have fewer than {rf} copies"
            ));
        }
    }
    if repair.waiting > 0 {
        let (waiting, remedy) = (repair.waiting, repair_remedy(repair));
        reasons.push(format!(
            "{waiting} groups lack a copy and there is no store to make it on: {remedy}"
        ));
    }
    if u64::from(capacity.fullest_percent) >= WARNING_PERCENT {
        reasons.push(format!(
            "the fullest store is {} % full",
            capacity.fullest_percent
        ));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::{Generation, GroupId, NodeId};
    use world::Duration;

    fn stores(count: u32) -> BTreeMap<StoreId, StoreFacts> {
        let facts = |id| StoreFacts {
            id: StoreId(id),
            node: NodeId(id),
            domains: Vec::new(),
            capacity: 100,
            standing: Standing::Present,
            has_room: true,
            is_full: false,
            free: 50,
        };
        (1..=count).map(|id| (StoreId(id), facts(id))).collect()
    }

    fn group(members: &[u32], filling: &[u32]) -> GroupRow {
        let ids = |ids: &[u32]| ids.iter().map(|&id| StoreId(id)).collect();
        GroupRow {
            id: GroupId(1),
            generation: Generation(1),
            replication_factor: 3,
            members: ids(members),
            filling: ids(filling),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        }
    }

    #[test]
    fn the_verdict_counts_complete_copies_that_answer() {
        let mut stores = stores(4);
        let whole = group(&[1, 2, 3], &[]);
        let other = group(&[2, 3, 4], &[4]);
        let answer = judge(3, &[&whole], &stores);
        assert_eq!((answer.tolerates, answer.degraded), (2, 0));
        let answer = judge(3, &[&whole, &other], &stores);
        assert_eq!((answer.tolerates, answer.degraded), (1, 1));
        stores.get_mut(&StoreId(2)).unwrap().standing = Standing::Away;
        let answer = judge(3, &[&whole, &other], &stores);
        assert_eq!((answer.tolerates, answer.degraded), (0, 2));
        stores.get_mut(&StoreId(3)).unwrap().standing = Standing::Lost;
        let answer = judge(3, &[&whole, &other], &stores);
        assert_eq!(answer.unavailable, 1);
    }

    #[test]
    fn resilient_is_what_the_others_can_hold() {
        assert_eq!(resilient_bytes(&[100, 100, 100], 2), 200);
        assert_eq!(resilient_bytes(&[100, 100, 100], 3), 0);
        assert_eq!(resilient_bytes(&[100, 100, 100, 100], 3), 300);
        assert_eq!(resilient_bytes(&[300, 100, 100], 2), 200);
        assert_eq!(resilient_bytes(&[], 2), 0);
    }

    #[test]
    fn progress_foretells_its_end() {
        let at = |seconds| Time(0) + Duration::from_secs(seconds);
        let first = Progress::next(None, 10, at(0));
        let later = Progress::next(first, 6, at(8)).unwrap();
        assert_eq!(later.eta_seconds(at(8)), Some(12));
        assert!(Progress::next(Some(later), 0, at(20)).is_none());
    }
}
