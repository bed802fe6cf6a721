//! How much loss the cluster can take now: pure arithmetic over groups, stores and their space.

use super::components::{capacity_component, data_component, fillable, repair_remedy, taking_part};
use super::{Result, capacity::plan_capacity, log_copies};
use crate::host::Host;
use crate::membership::ClusterView;
use api::{
    Answer, ComponentAnswer, CopiesAnswer, RepairAnswer, ResiliencyAnswer, ResilientCapacityAnswer,
};
use catalog::GroupRow;
use curator::{Domains, LogCopies, Standing, StoreFacts, level_name};
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
pub(super) fn answers(facts: &StoreFacts) -> bool {
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

/// Space: what can be laid out on the domains that stay when the largest is lost is resilient. `domains`: what can be filled of each that
/// takes part, in bytes. Pure.
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

/// Groups that lack a member and have none to fill.
fn waiting_of(view: &ClusterView, stores: &BTreeMap<StoreId, StoreFacts>) -> u32 {
    let lost = |store: &StoreId| {
        let facts = stores.get(store);
        facts.is_none_or(|facts| facts.standing == Standing::Lost)
    };
    let waits = |group: &&GroupRow| {
        let short = group.members.len() < usize::from(group.replication_factor);
        group.filling.is_empty() && (short || group.members.iter().any(lost))
    };
    view.groups.values().filter(waits).count() as u32
}

/// What the verdict rests on.
struct Grounds<'a> {
    by_copies: BTreeMap<u8, Vec<&'a GroupRow>>,
    stores: &'a BTreeMap<StoreId, StoreFacts>,
    data: &'a [CopiesAnswer],
    logs: &'a [LogCopies],
    repair: &'a RepairAnswer,
    used: u64,
}

impl Grounds<'_> {
    /// What may be lost of data, logs and room, the widest domains first.
    fn components(&self, copies: u8, apart: &Domains) -> Vec<ComponentAnswer> {
        let mut components = Vec::new();
        let levels = || (0..apart.count()).rev();
        for answer in self.data {
            let groups = &self.by_copies[&answer.rf];
            let of = |level| data_component(apart, level, answer, groups, self.stores, self.repair);
            components.extend(levels().map(of));
        }
        components.extend(log_copies::components(self.logs, apart, self.stores));
        let room = |level| capacity_component(apart, level, copies, self.used, self.stores);
        components.extend(levels().map(room));
        components
    }
}

/// `critical`, `degraded` or `ok`.
fn verdict_of(answer: &ResiliencyAnswer, logs: &[LogCopies]) -> &'static str {
    let lost =
        |copies: &CopiesAnswer| copies.unavailable > 0 || (copies.rf > 1 && copies.tolerates == 0);
    let critical = answer.data.iter().any(lost)
        || log_copies::are_critical(logs)
        || answer
            .components
            .iter()
            .any(|part| part.state == "critical")
        || answer.space.iter().any(|space| space.state == "protected");
    match (critical, answer.reasons.is_empty()) {
        (true, _) => "critical",
        (false, false) => "degraded",
        (false, true) => "ok",
    }
}

impl Host {
    pub(super) async fn resiliency(&self) -> Result<Answer> {
        crate::health::refresh(self).await;
        self.ask_for_verdict().await;
        Ok(Answer::Resiliency(self.verdict()))
    }

    /// Asks whom the verdict rests on, unless they were asked a moment ago: the catalog for its members and for where logs lie, and
    /// the stores, while copies are missing, for what they hold.
    pub(crate) async fn ask_for_verdict(&self) {
        let stores = crate::upkeep::look_for_verdict(self);
        futures_util::future::join3(self.ask_catalog(), self.ask_logs(), stores).await;
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
        let repair = self.repair_answer(&stores, &capacity, waiting_of(&view, &stores));
        let apart = Domains::new(stores.values());
        let logs = self.log_copies(&apart, &stores);
        let grounds = Grounds {
            by_copies,
            stores: &stores,
            data: &data,
            logs: &logs,
            repair: &repair,
            used: capacity.used,
        };
        let mut components = grounds.components(copies, &apart);
        components.extend(self.catalog_component());
        let space = self.space_answers();
        let mut reasons = reasons(&data, &capacity, &repair);
        reasons.extend(log_copies::reasons(&logs));
        reasons.extend(self.doubts_on_logs());
        let catalog = components.iter().filter(|part| part.component == "catalog");
        let catalog = catalog.filter(|part| part.state != "ok");
        reasons
            .extend(catalog.filter_map(|part| Some(format!("catalog: {}", part.reason.as_ref()?))));
        reasons.extend(space.iter().filter_map(|space| space.reason.clone()));
        let mut answer = ResiliencyAnswer {
            verdict: String::new(),
            reasons,
            logs: logs.iter().map(log_copies::answer).collect(),
            data,
            repair,
            capacity,
            components,
            space,
        };
        answer.verdict = verdict_of(&answer, &logs).to_owned();
        answer
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

    fn repair_answer(
        &self,
        stores: &BTreeMap<StoreId, StoreFacts>,
        capacity: &ResilientCapacityAnswer,
        waiting: u32,
    ) -> RepairAnswer {
        let now = self.world.now();
        let progress = self.upkeep.progress.get();
        let filling = progress.map_or(0, |progress| progress.left);
        let bytes_left = progress.and_then(|_| self.bytes_left(stores, capacity, filling));
        let bytes_per_second = progress.and_then(|_| self.upkeep.sizes.bytes_per_second());
        let by_bytes = eta_by_bytes(bytes_left, bytes_per_second);
        RepairAnswer {
            filling,
            filled: progress.map_or(0, |progress| progress.filled),
            waiting,
            running_seconds: progress.map_or(0, |progress| now.since(progress.began).as_secs()),
            bytes_left,
            bytes_per_second,
            eta_seconds: by_bytes.or_else(|| progress?.eta_seconds(now)),
        }
    }

    /// Bytes that are still to be copied to members that are filled, if the stores have said what they hold; and to those to come, when
    /// these wait for their turn only.
    fn bytes_left(
        &self,
        stores: &BTreeMap<StoreId, StoreFacts>,
        capacity: &ResilientCapacityAnswer,
        filling: u32,
    ) -> Option<u64> {
        if !self.upkeep.sizes.are_known() {
            return None;
        }
        let lacking = self.with_groups(stores, |groups, facts| {
            let used = capacity.used - capacity.missing;
            curator::lacking(groups, facts, &self.upkeep.sizes.held(), used)
        });
        let lacking: u64 = lacking.values().sum();
        let all_have_begun = (filling as usize) < self.options.placement.repairs_max;
        Some(match all_have_begun {
            true => lacking,
            false => lacking.max(capacity.missing),
        })
    }

    /// The groups and stores as lists.
    fn with_groups<T>(
        &self,
        stores: &BTreeMap<StoreId, StoreFacts>,
        look: impl FnOnce(&[GroupRow], &[StoreFacts]) -> T,
    ) -> T {
        let groups: Vec<GroupRow> = self
            .members
            .look(|view| view.groups.values().cloned().collect());
        let facts: Vec<StoreFacts> = stores.values().cloned().collect();
        look(&groups, &facts)
    }

    /// Space in use and how much of it may be: a lost store's copies are in use until they are made again, and then where they are made.
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
            *domains.entry(apart.of(facts.id, level)).or_default() += fillable(facts);
            let status = self.health.seen(facts.id).and_then(|seen| seen.status);
            let here = status.map_or(0, |status| status.used.0);
            used += here;
            fullest = fullest.max(here.saturating_mul(100) / facts.capacity.max(1));
        }
        let missing = self.with_groups(stores, |groups, facts| {
            curator::missing_redundancy(groups, facts, &self.upkeep.sizes.held(), used)
        });
        let domains: Vec<u64> = domains.into_values().collect();
        ResilientCapacityAnswer {
            total: taking_part().map(|facts| facts.capacity).sum(),
            used: used + missing,
            missing,
            resilient: resilient_bytes(&domains, copies),
            fullest_percent: fullest.min(100) as u8,
        }
    }
}

/// Seconds until so many bytes are copied. Pure.
fn eta_by_bytes(left: Option<u64>, per_second: Option<u64>) -> Option<u64> {
    Some(left?.div_ceil(per_second.filter(|&rate| rate > 0)?))
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

    /// Bytes of each store when groups weigh this much, as after fills have ended.
    fn used_of(groups: &[GroupRow], sizes: &curator::GroupSizes) -> BTreeMap<StoreId, u64> {
        let mut used = BTreeMap::new();
        for group in groups {
            for member in &group.members {
                *used.entry(*member).or_default() += sizes[&group.id];
            }
        }
        used
    }

    #[test]
    fn what_resilient_capacity_promises_can_be_made_again() {
        const CAPACITY: u64 = 1 << 40;
        const GROUPS: u64 = 256;
        let mut stores = stores(4);
        for facts in stores.values_mut() {
            facts.capacity = CAPACITY;
        }
        let each = fillable(&stores[&StoreId(1)]);
        let promised = resilient_bytes(&[each; 4], 2);
        assert_eq!(
            capacity_component(&Domains::new(stores.values()), 1, 2, promised, &stores).tolerates,
            1
        );
        let size = promised / (2 * GROUPS);
        let pair =
            |index: u64| [(1, 2), (3, 4), (1, 3), (2, 4), (1, 4), (2, 3)][index as usize % 6];
        let mut groups: Vec<GroupRow> = (0..GROUPS)
            .map(|index| GroupRow {
                id: GroupId(index as u32),
                replication_factor: 2,
                ..group(&[pair(index).0, pair(index).1], &[])
            })
            .collect();
        let sizes: curator::GroupSizes = groups.iter().map(|group| (group.id, size)).collect();
        stores.get_mut(&StoreId(4)).unwrap().standing = Standing::Lost;
        let left = |groups: &[GroupRow]| {
            let lost = |group: &&GroupRow| group.members.contains(&StoreId(4));
            groups.iter().filter(lost).count()
        };
        for round in 0.. {
            assert!(round < 1000, "{} groups lack a copy", left(&groups));
            let used = used_of(&groups, &sizes);
            for facts in stores.values_mut() {
                let used = used.get(&facts.id).copied().unwrap_or(0);
                facts.has_room = used <= CAPACITY / 100 * crate::upkeep::ROOM_PERCENT_MAX;
                facts.is_full = used > each;
                facts.free = CAPACITY.saturating_sub(used);
            }
            let facts: Vec<StoreFacts> = stores.values().cloned().collect();
            let limits = curator::PlacementLimits {
                repairs_max: 4,
                ..curator::PlacementLimits::default()
            };
            let changes = curator::plan(&groups, &facts, &sizes, limits);
            if changes.is_empty() {
                break;
            }
            for change in changes {
                let row = groups.iter_mut().find(|row| row.id == change.group);
                let row = row.expect("a group that is there");
                *row = change.applied_to(row);
            }
            groups.iter_mut().for_each(|row| row.filling.clear());
        }
        assert_eq!(left(&groups), 0);
        let most = used_of(&groups, &sizes).into_values().max().unwrap();
        // What a store keeps back takes what a fill that began before it was full brings.
        assert!(most <= each + size, "{most} of {each}");
    }

    #[test]
    fn what_is_left_is_foretold_by_bytes() {
        assert_eq!(eta_by_bytes(Some(1001), Some(100)), Some(11));
        assert_eq!(eta_by_bytes(Some(0), Some(100)), Some(0));
        assert_eq!(eta_by_bytes(Some(1), Some(0)), None);
        assert_eq!(eta_by_bytes(None, Some(1)), None);
        assert_eq!(eta_by_bytes(Some(1), None), None);
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
