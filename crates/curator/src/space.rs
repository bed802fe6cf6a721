//! When the cluster stops taking new data, and when it takes it again: pure, from how full the stores are.
//!
//! Invariants
//! - A store is protected when it is fuller than [`SpaceLimits::protect_percent`] of what clients may fill and collecting
//!   garbage has not helped, and until it is below [`SpaceLimits::release_percent`].
//! - Data with so many copies is protected when each of its groups has a protected member: as long as one has none,
//!   new data goes there.
//! - The same input gives the same state, whoever judges: what is stated is in the catalog.

use catalog::{GroupRow, SpaceRow, SpaceState};
use std::collections::BTreeMap;
use vocab::StoreId;
use world::{Duration, Time};

/// Thresholds, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    /// A warning is due from so much of the resilient capacity on, or of what clients may fill.
    pub warn_percent: u64,
    /// It ends below that.
    pub warn_end_percent: u64,
    /// A store takes nothing new from so much of what clients may fill on.
    pub protect_percent: u64,
    /// It does again below that.
    pub release_percent: u64,
    /// So long garbage is waited for whose collection does not end: then a store is protected all the same.
    pub patience: Duration,
}

impl Default for SpaceLimits {
    fn default() -> Self {
        Self {
            warn_percent: 75,
            warn_end_percent: 70,
            protect_percent: 95,
            release_percent: 90,
            patience: Duration::from_secs(120),
        }
    }
}

/// Percent of what clients may fill that is in use, of a store that keeps `kept_back` of `capacity` bytes for drains, repair
/// and compaction. Above 100 when those have taken some of it.
#[must_use]
pub fn fill_of(used: u64, capacity: u64, kept_back: u64) -> u64 {
    let fillable = capacity.saturating_sub(kept_back);
    if fillable == 0 {
        return 100;
    }
    u64::try_from(u128::from(used) * 100 / u128::from(fillable)).unwrap_or(u64::MAX)
}

/// What is known of the space.
#[derive(Clone, Debug, Default)]
pub struct SpaceInventory {
    /// By store: [`fill_of`] it, if it ever said; stores that are lost are absent.
    pub fills: BTreeMap<StoreId, Option<u64>>,
    /// By copies: percent of the resilient capacity in use; absent where nothing is resilient.
    pub resilient: BTreeMap<u8, u64>,
    /// The groups.
    pub groups: Vec<GroupRow>,
    /// Rounds of collection begun.
    pub rounds_begun: u64,
    /// The last of them that left nothing to collect.
    pub round_whole: u64,
}

/// When a store was first seen above the threshold.
#[derive(Clone, Copy, Debug)]
struct Above {
    since: Time,
    rounds_begun: u64,
}

/// Judges one look after the other. What it remembers between them is only how long a store has been nearly full.
#[derive(Clone, Debug, Default)]
pub struct SpaceJudge {
    above: BTreeMap<StoreId, Above>,
}

impl SpaceJudge {
    /// The state that follows `before`.
    #[must_use]
    pub fn judge(
        &mut self,
        before: &SpaceRow,
        inventory: &SpaceInventory,
        limits: &SpaceLimits,
        now: Time,
    ) -> SpaceRow {
        self.above
            .retain(|store, _| inventory.fills.contains_key(store));
        let mut after = SpaceRow::default();
        for (&store, &fill) in &inventory.fills {
            let was = before.stores.contains(&store);
            let is = match fill {
                // It does not say: as it was.
                None => was,
                Some(fill) if was => fill >= limits.release_percent,
                Some(fill) => self.is_full_in_vain(store, fill, inventory, limits, now),
            };
            if is {
                after.stores.insert(store);
            }
        }
        let factors = inventory.groups.iter();
        let factors: std::collections::BTreeSet<u8> =
            factors.map(|group| group.replication_factor).collect();
        for copies in factors {
            let state = state_of(copies, before.state(copies), &after, inventory, limits);
            if state != SpaceState::Ok {
                after.factors.insert(copies, state);
            }
        }
        after
    }

    /// Whether a store is above the threshold, and a round of collection that began since has not changed that.
    fn is_full_in_vain(
        &mut self,
        store: StoreId,
        fill: u64,
        inventory: &SpaceInventory,
        limits: &SpaceLimits,
        now: Time,
    ) -> bool {
        if fill < limits.protect_percent {
            self.above.remove(&store);
            return false;
        }
        let above = self.above.entry(store).or_insert(Above {
            since: now,
            rounds_begun: inventory.rounds_begun,
        });
        let collected = inventory.round_whole > above.rounds_begun;
        collected || now.since(above.since) >= limits.patience
    }
}

/// How full the emptiest way to place so many copies is: the least over all groups of the fullest member.
fn best_fill(copies: u8, inventory: &SpaceInventory) -> Option<u64> {
    let groups = inventory.groups.iter();
    let groups = groups.filter(|group| group.replication_factor == copies);
    let fullest = |group: &GroupRow| {
        let fills = group.members.iter();
        let fills = fills.filter_map(|member| inventory.fills.get(member).copied().flatten());
        fills.max()
    };
    groups.filter_map(fullest).min()
}

fn state_of(
    copies: u8,
    before: SpaceState,
    after: &SpaceRow,
    inventory: &SpaceInventory,
    limits: &SpaceLimits,
) -> SpaceState {
    let groups = || {
        let groups = inventory.groups.iter();
        groups.filter(|group| group.replication_factor == copies)
    };
    let blocked = |group: &GroupRow| {
        let mut members = group.members.iter();
        members.any(|member| after.stores.contains(member))
    };
    if groups().all(blocked) {
        return SpaceState::Protected;
    }
    let threshold = match before {
        SpaceState::Ok => limits.warn_percent,
        SpaceState::Warning | SpaceState::Protected => limits.warn_end_percent,
    };
    let fill = best_fill(copies, inventory);
    let resilient = inventory.resilient.get(&copies).copied();
    let worst = fill.max(resilient).unwrap_or(0);
    if worst >= threshold || groups().any(blocked) {
        SpaceState::Warning
    } else {
        SpaceState::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::{Generation, GroupId};

    fn group(id: u32, copies: u8, members: &[u32]) -> GroupRow {
        GroupRow {
            id: GroupId(id),
            generation: Generation(1),
            replication_factor: copies,
            members: members.iter().map(|&store| StoreId(store)).collect(),
            filling: Vec::new(),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        }
    }

    fn inventory(fills: &[u64], groups: Vec<GroupRow>) -> SpaceInventory {
        let fills = fills.iter().enumerate();
        SpaceInventory {
            fills: fills
                .map(|(index, &fill)| (StoreId(index as u32 + 1), Some(fill)))
                .collect(),
            groups,
            ..SpaceInventory::default()
        }
    }

    fn at(seconds: u64) -> Time {
        Time(0) + Duration::from_secs(seconds)
    }

    const LIMITS: fn() -> SpaceLimits = SpaceLimits::default;

    #[test]
    fn fill_is_a_share_of_what_clients_may_fill() {
        assert_eq!(fill_of(48, 100, 4), 50);
        assert_eq!(fill_of(100, 100, 4), 104);
        assert_eq!(fill_of(0, 100, 100), 100);
        assert_eq!(fill_of(u64::MAX, u64::MAX, 0), 100);
    }

    #[test]
    fn warning_begins_at_75_percent_and_ends_below_70() {
        let mut judge = SpaceJudge::default();
        let mut look = |before: &SpaceRow, fill: u64, resilient: u64| {
            let mut inventory = inventory(&[fill, 10], vec![group(1, 2, &[1, 2])]);
            inventory.resilient.insert(2, resilient);
            judge.judge(before, &inventory, &LIMITS(), at(0))
        };
        let quiet = look(&SpaceRow::default(), 74, 74);
        assert_eq!(quiet, SpaceRow::default());
        let warned = look(&quiet, 10, 75);
        assert_eq!(warned.state(2), SpaceState::Warning);
        assert_eq!(look(&warned, 70, 0).state(2), SpaceState::Warning);
        assert_eq!(look(&warned, 69, 69), SpaceRow::default());
    }

    #[test]
    fn a_store_is_protected_once_a_round_of_collection_did_not_help() {
        let mut judge = SpaceJudge::default();
        let mut look = |fill: u64, begun: u64, whole: u64| {
            let mut inventory = inventory(&[fill, 10], vec![group(1, 2, &[1, 2])]);
            (inventory.rounds_begun, inventory.round_whole) = (begun, whole);
            judge.judge(&SpaceRow::default(), &inventory, &LIMITS(), at(0))
        };
        assert_eq!(look(95, 7, 6).state(2), SpaceState::Warning);
        // This one had begun before.
        assert_eq!(look(96, 7, 7).state(2), SpaceState::Warning);
        assert_eq!(look(96, 8, 8).state(2), SpaceState::Protected);
        // Room was made, and taken: it starts over.
        assert_eq!(look(94, 8, 8).state(2), SpaceState::Warning);
        assert_eq!(look(95, 8, 8).state(2), SpaceState::Warning);
    }

    #[test]
    fn garbage_is_not_waited_for_without_end() {
        let mut judge = SpaceJudge::default();
        let inventory = inventory(&[99, 10], vec![group(1, 2, &[1, 2])]);
        let mut look =
            |seconds| judge.judge(&SpaceRow::default(), &inventory, &LIMITS(), at(seconds));
        assert!(look(0).stores.is_empty());
        assert!(look(119).stores.is_empty());
        assert_eq!(look(120).stores, [StoreId(1)].into());
    }

    #[test]
    fn protection_ends_by_itself_below_90_percent() {
        let protected = SpaceRow {
            factors: [(2, SpaceState::Protected)].into(),
            stores: [StoreId(1)].into(),
        };
        let look = |before: &SpaceRow, fill| {
            let inventory = inventory(&[fill, 10], vec![group(1, 2, &[1, 2])]);
            SpaceJudge::default().judge(before, &inventory, &LIMITS(), at(0))
        };
        assert_eq!(look(&protected, 94), protected);
        assert_eq!(look(&protected, 90), protected);
        let released = look(&protected, 89);
        assert!(released.stores.is_empty());
        assert_eq!(released.state(2), SpaceState::Warning);
        assert_eq!(look(&released, 60), SpaceRow::default());
    }

    #[test]
    fn one_full_store_only_blocks_its_groups() {
        let before = SpaceRow {
            factors: BTreeMap::new(),
            stores: [StoreId(1)].into(),
        };
        let groups = vec![
            group(1, 2, &[1, 2]),
            group(2, 2, &[2, 3]),
            group(3, 3, &[1, 2, 3]),
        ];
        let inventory = inventory(&[99, 10, 10], groups);
        let after = SpaceJudge::default().judge(&before, &inventory, &LIMITS(), at(0));
        assert_eq!(after.state(2), SpaceState::Warning);
        assert_eq!(after.state(3), SpaceState::Protected);
    }

    #[test]
    fn silent_stores_stay_as_they_were_and_lost_ones_do_not_count() {
        let before = SpaceRow {
            factors: BTreeMap::new(),
            stores: [StoreId(1), StoreId(9)].into(),
        };
        let mut inventory = inventory(&[0, 10], vec![group(1, 2, &[1, 2])]);
        inventory.fills.insert(StoreId(1), None);
        let after = SpaceJudge::default().judge(&before, &inventory, &LIMITS(), at(0));
        assert_eq!(after.stores, [StoreId(1)].into());
    }
}
