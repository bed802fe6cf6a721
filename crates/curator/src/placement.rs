//! Which stores hold which groups: a pure plan from the groups as they are and what is known of the stores.
//!
//! Invariants
//! - A group keeps a complete member as long as it has one: nothing is planned away from the only good copy.
//! - A store joins as filling and leaves as former; a plan never takes a member away before enough others are complete,
//!   unless it is lost.
//! - Redundancy comes before balance, the least redundant groups first; few groups move at a time.
//! - A copy that is lost is made again on stores that are nearly full as well, where no others are left: until they refuse what clients
//!   write, as resilient capacity counts. Nothing moves there.
//! - A move for balance ends as it began, also where both stores are in one failure domain: the row names the member that leaves, and
//!   loads count a group where it will be. So each move brings two stores nearer to their shares, and moves come to an end.
//! - Balance is of bytes where the sizes of groups are known, and of groups where they are not: owners write to groups of their own
//!   stores, so that groups differ.
//! - The same input gives the same plan.

use crate::domains::{Domain, Domains};
use catalog::{GroupChange, GroupRow};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use vocab::{GroupId, NodeId, StoreId};

/// What a store is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Answers and takes what comes.
    Present,
    /// Does not answer, but may come back before it is worth replacing.
    Away,
    /// Answers, and everything shall move away.
    Draining,
    /// Does not answer and is replaced; if it comes back it is filled, or emptied.
    Lost,
}

/// A store as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// Its id.
    pub id: StoreId,
    /// Its node.
    pub node: NodeId,
    /// Labels of wider failure domains, narrowest first.
    pub domains: Vec<String>,
    /// Bytes for extents: its share of the groups is proportional.
    pub capacity: u64,
    /// Its standing.
    pub standing: Standing,
    /// Whether groups move there: `false` when nearly full. Copies that are lost elsewhere are made there all the same.
    pub has_room: bool,
    /// Whether it refuses extents of clients. Fills may use most of what it keeps back for itself.
    pub is_full: bool,
    /// Bytes for extents that nothing occupies.
    pub free: u64,
}

/// Bounds of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacementLimits {
    /// Groups with filling members at a time that are moved for balance or because a store drains.
    pub moves_max: usize,
    /// Groups with filling members at a time to replace what is lost.
    pub repairs_max: usize,
    /// Whether groups move for balance.
    pub balance: bool,
    /// A planted bug: who leaves a group is forgotten.
    #[cfg(feature = "bugs")]
    pub forget_former: bool,
    /// A planted bug: copies are kept apart by nodes, whatever racks these are in.
    #[cfg(feature = "bugs")]
    pub ignore_labels: bool,
}

impl Default for PlacementLimits {
    fn default() -> Self {
        Self {
            moves_max: 4,
            repairs_max: 64,
            balance: true,
            #[cfg(feature = "bugs")]
            forget_former: false,
            #[cfg(feature = "bugs")]
            ignore_labels: false,
        }
    }
}

/// Bytes that one copy of a group occupies, of the groups that hold something. Empty: not known, and all groups count the same.
pub type GroupSizes = BTreeMap<GroupId, u64>;

/// The next step of every group that needs one, most urgent first.
#[must_use]
pub fn plan(
    groups: &[GroupRow],
    stores: &[StoreFacts],
    sizes: &GroupSizes,
    limits: PlacementLimits,
) -> Vec<GroupChange> {
    let mut planner = Planner::new(groups, stores, sizes);
    #[cfg(feature = "bugs")]
    if limits.ignore_labels {
        planner.domains.ignore_labels();
    }
    let mut changes = Vec::new();
    let mut order: Vec<&GroupRow> = groups.iter().collect();
    // Least redundant first: the fewest good copies that answer.
    order.sort_by_key(|group| (planner.good_copies(group), group.id));
    let filling = |group: &&GroupRow| !group.filling.is_empty();
    let mut busy = groups.iter().filter(filling).count();
    for group in &order {
        let Some(step) = planner.mend(group) else {
            continue;
        };
        let starts = step.filling.len() > group.filling.len() && group.filling.is_empty();
        if starts && busy >= limits.repairs_max {
            continue;
        }
        busy += usize::from(starts);
        planner.take(&step);
        changes.push(step);
    }
    let changed: BTreeSet<_> = changes.iter().map(|change| change.group).collect();
    for group in order.iter().filter(|group| !changed.contains(&group.id)) {
        if busy >= limits.moves_max {
            break;
        }
        if let Some(step) = planner.move_away(group) {
            busy += 1;
            planner.take(&step);
            changes.push(step);
        }
    }
    if limits.balance && busy < limits.moves_max {
        let mut by_store: BTreeMap<StoreId, Vec<&GroupRow>> = BTreeMap::new();
        for group in order {
            for member in &group.members {
                by_store.entry(*member).or_default().push(group);
            }
        }
        for held in by_store.values_mut() {
            // The heaviest that fits moves: the fewest moves.
            held.sort_by_key(|group| std::cmp::Reverse(planner.weights.of(group.id)));
        }
        while busy < limits.moves_max {
            let steps = match planner.balance(&by_store) {
                Some(step) => vec![step],
                None if busy + 2 <= limits.moves_max => planner.exchange(&by_store),
                None => Vec::new(),
            };
            if steps.is_empty() {
                break;
            }
            busy += steps.len();
            steps.iter().for_each(|step| planner.take(step));
            changes.extend(steps);
        }
    }
    #[cfg(feature = "bugs")]
    if limits.forget_former {
        changes.iter_mut().for_each(|change| change.former.clear());
    }
    changes
}

/// Memberships of groups of average weight that stores which take part have below their share, rounded down for each of them: about
/// what balance moves.
#[must_use]
pub fn deficit(groups: &[GroupRow], stores: &[StoreFacts], sizes: &GroupSizes) -> u64 {
    let planner = Planner::new(groups, stores, sizes);
    let memberships: usize = groups.iter().map(|group| group.staying().count()).sum();
    let average = planner.total as f64 / memberships.max(1) as f64;
    let present = stores
        .iter()
        .filter(|facts| facts.standing == Standing::Present && facts.has_room);
    let below = present.map(|facts| {
        (-planner.excess(facts.id) / average.max(1.0))
            .max(0.0)
            .floor()
    });
    // Sums of memberships are far below 2^53.
    below.sum::<f64>() as u64
}

#[cfg(test)]
mod tests;

struct Planner<'a> {
    stores: BTreeMap<StoreId, &'a StoreFacts>,
    domains: Domains,
    weights: Weights<'a>,
    /// Weight of the groups of each store, planned ones included.
    load: BTreeMap<StoreId, u64>,
    /// The sum of them.
    total: u64,
    /// Members that are planned and not in the row yet.
    planned: BTreeSet<GroupId>,
    /// Members that stay, by group.
    members: BTreeMap<GroupId, Vec<StoreId>>,
    capacity: u128,
}

/// What a store is looked for that joins a group.
#[derive(Clone, Copy)]
enum Need {
    /// A move: it must have room.
    Place,
    /// To make a copy again: it must not be full.
    Copy,
    /// The same, in place of one that turned out to be full: it must not have been tried before, or the two would take turns.
    OtherPlace,
}

/// How much a group counts.
struct Weights<'a> {
    sizes: &'a GroupSizes,
    /// Of a group without data: the next extents may be its own.
    least: u64,
}

impl<'a> Weights<'a> {
    fn new(groups: &[GroupRow], sizes: &'a GroupSizes) -> Self {
        let bytes: u64 = groups.iter().filter_map(|group| sizes.get(&group.id)).sum();
        let average = bytes / groups.len().max(1) as u64;
        let least = match sizes.is_empty() {
            true => 1,
            false => least_of(average),
        };
        Self { sizes, least }
    }

    fn of(&self, group: GroupId) -> u64 {
        self.least + self.sizes.get(&group).copied().unwrap_or_default()
    }
}

/// A group without data counts this part of the average one: many of them on one store must not look like data.
const LEAST_DIVISOR: u64 = 64;
/// And this, about an extent, while the average is below [`LITTLE_BYTES`]: with little data there is nothing to gain by moving it.
const LEAST_BYTES: u64 = 4 << 20;
const LITTLE_BYTES: u64 = 16 << 20;

/// What a group without data counts, without a step as data comes.
fn least_of(average: u64) -> u64 {
    let little = LEAST_BYTES * LITTLE_BYTES / average.max(LITTLE_BYTES);
    little.max(average / LEAST_DIVISOR)
}

/// Where sizes are known, stores whose loads differ by less than this part of a share are left alone: data comes and goes.
const EVEN_DIVISOR: f64 = 50.0;
/// So many of the emptiest stores are looked at for a move: beyond them a large cluster is balanced well enough.
const TARGETS_MAX: usize = 32;
/// Stores at either end that are looked at for an exchange, which is sought only where no move is left.
const EXCHANGES_MAX: usize = 4;
/// Two groups are moved to even out one difference only where it is this much larger than what is left alone.
const EXCHANGE_FACTOR: f64 = 2.0;

impl<'a> Planner<'a> {
    fn new(groups: &[GroupRow], stores: &'a [StoreFacts], sizes: &'a GroupSizes) -> Self {
        let weights = Weights::new(groups, sizes);
        let mut load: BTreeMap<StoreId, u64> = stores.iter().map(|store| (store.id, 0)).collect();
        for group in groups {
            for member in group.staying() {
                *load.entry(member).or_default() += weights.of(group.id);
            }
        }
        let present = stores
            .iter()
            .filter(|store| matches!(store.standing, Standing::Present | Standing::Away));
        Self {
            stores: stores.iter().map(|store| (store.id, store)).collect(),
            domains: Domains::new(stores),
            total: load.values().sum(),
            weights,
            load,
            planned: BTreeSet::new(),
            members: groups
                .iter()
                .map(|group| (group.id, group.staying().collect()))
                .collect(),
            capacity: present
                .map(|store| u128::from(store.capacity))
                .sum::<u128>()
                .max(1),
        }
    }

    fn standing(&self, store: StoreId) -> Standing {
        self.stores
            .get(&store)
            .map_or(Standing::Lost, |facts| facts.standing)
    }

    fn is_full(&self, store: StoreId) -> bool {
        self.stores.get(&store).is_some_and(|facts| facts.is_full)
    }

    fn free(&self, store: StoreId) -> u64 {
        self.stores.get(&store).map_or(0, |facts| facts.free)
    }

    fn good_copies(&self, group: &GroupRow) -> usize {
        let good = |store: &StoreId| {
            matches!(
                self.standing(*store),
                Standing::Present | Standing::Draining
            )
        };
        group.complete().filter(good).count()
    }

    /// Notes a planned step in the loads.
    fn take(&mut self, step: &GroupChange) {
        let stays = |member: &&StoreId| step.leaving != Some(**member);
        let staying: Vec<StoreId> = step.members.iter().filter(stays).copied().collect();
        let before = self.members.insert(step.group, staying.clone());
        let weight = self.weights.of(step.group);
        for member in before.unwrap_or_default() {
            *self.load.entry(member).or_default() -= weight;
            self.total -= weight;
        }
        for member in staying {
            *self.load.entry(member).or_default() += weight;
            self.total += weight;
        }
        self.planned.insert(step.group);
    }

    fn domain(&self, store: StoreId, level: usize) -> Domain {
        self.domains.of(store, level)
    }

    /// The level at which this many copies are kept apart.
    fn level(&self, copies: u8) -> usize {
        self.domains.level(copies)
    }

    /// What a store should hold by its capacity.
    fn share(&self, store: StoreId) -> f64 {
        let capacity = self.stores.get(&store).map_or(0, |facts| facts.capacity);
        self.total as f64 * capacity as f64 / self.capacity as f64
    }

    /// How much more than its share a store holds.
    fn excess(&self, store: StoreId) -> f64 {
        self.load.get(&store).copied().unwrap_or_default() as f64 - self.share(store)
    }

    /// Loads that differ by less than this are even.
    fn tolerance(&self, store: StoreId) -> f64 {
        match self.weights.sizes.is_empty() {
            true => 0.0,
            false => self.share(store) / EVEN_DIVISOR,
        }
    }

    /// The store that should join `members`, whose domains it must not share: the emptiest by its capacity, of those that have room if
    /// there are any.
    fn target(
        &self,
        group: &GroupRow,
        members: &[StoreId],
        level: usize,
        need: Need,
    ) -> Option<StoreId> {
        let domains: Vec<Domain> = members
            .iter()
            .map(|&member| self.domain(member, level))
            .collect();
        let takes = |facts: &StoreFacts| match need {
            Need::Place => false,
            Need::Copy => !facts.is_full,
            Need::OtherPlace => !facts.is_full && !group.former.contains(&facts.id),
        };
        let fits = |facts: &&&StoreFacts| {
            facts.standing == Standing::Present
                && (facts.has_room || takes(facts))
                && !members.contains(&facts.id)
                && !domains.contains(&self.domain(facts.id, level))
        };
        let candidates = self.stores.values().filter(fits);
        // One that was a member and still holds much of it comes first.
        let rank = |facts: &&&StoreFacts| {
            let load = self.load.get(&facts.id).copied().unwrap_or_default();
            let load = load + self.weights.of(group.id);
            let fullness = load as f64 / facts.capacity.max(1) as f64;
            let was_member = group.former.contains(&facts.id);
            (!facts.has_room, !was_member, fullness, facts.id)
        };
        let best = candidates.min_by(|one, other| {
            let (one, other) = (rank(one), rank(other));
            one.partial_cmp(&other).expect("capacities are numbers")
        });
        best.map(|facts| facts.id)
    }

    /// What restores the redundancy of a group, or ends a move.
    fn mend(&self, group: &GroupRow) -> Option<GroupChange> {
        let mut change = self
            .return_former(group)
            .or_else(|| self.replace_lost(group))
            .or_else(|| self.give_up_full(group))
            .or_else(|| self.add_missing(group))
            .or_else(|| self.drop_surplus(group))?;
        // Whoever was to leave stays when nobody takes its place any more.
        let surplus = change.members.len() > usize::from(group.replication_factor);
        let leaves = |store: &StoreId| surplus && change.members.contains(store);
        change.leaving = change.leaving.filter(leaves);
        Some(change)
    }

    /// A store that turned out to be full cannot be filled: enough others are complete without it, or another one
    /// takes its place.
    fn give_up_full(&self, group: &GroupRow) -> Option<GroupChange> {
        let mut filling = group.filling.iter().copied();
        let full = filling.find(|&store| self.is_full(store))?;
        let rest = without(&group.members, full);
        let mut change = change_of(group);
        change.members.clone_from(&rest);
        change.filling = without(&group.filling, full);
        change.former = with(&group.former, full);
        if self.good_copies(group) < usize::from(group.replication_factor) {
            let level = self.level(group.replication_factor);
            let joins = self.target(group, &rest, level, Need::OtherPlace)?;
            join(&mut change, joins);
        }
        Some(change)
    }

    /// A store that came back while another was filled in its place needs less than that one. A full one takes it only
    /// from one that is fuller: what that one lacks may never fit there.
    fn return_former(&self, group: &GroupRow) -> Option<GroupChange> {
        // One that came back like this is left alone, or the two would take turns for ever.
        let fresh = |store: &&StoreId| !group.returning.contains(store);
        let newcomer = *group.filling.iter().find(fresh)?;
        let takes = |store: &StoreId| {
            !self.is_full(*store)
                || self.is_full(newcomer) && self.free(*store) > self.free(newcomer)
        };
        let back = { group.former.iter().copied() }
            .find(|store| self.standing(*store) == Standing::Present && takes(store))?;
        let others = without(&group.members, newcomer);
        let level = self.level(group.replication_factor);
        let domain = self.domain(back, level);
        let shares = |&member: &StoreId| self.domain(member, level) == domain;
        // During a move the former member left because it should.
        let wanted = group.complete().count() < usize::from(group.replication_factor);
        if others.iter().any(shares) || !wanted {
            return None;
        }
        let mut change = change_of(group);
        change.members = others;
        change.filling = without(&group.filling, newcomer);
        join(&mut change, back);
        change.former = with(&change.former, newcomer);
        Some(change)
    }

    fn replace_lost(&self, group: &GroupRow) -> Option<GroupChange> {
        let lost = |store: &StoreId| self.standing(*store) == Standing::Lost;
        let gone = group.members.iter().copied().find(lost)?;
        let rest = without(&group.members, gone);
        let complete_rest = group
            .complete()
            .any(|member| member != gone && !lost(&member));
        let was_filling = group.filling.contains(&gone);
        if !complete_rest && !was_filling {
            // What is there lies on lost stores only: one of them must come back first.
            return None;
        }
        let mut change = change_of(group);
        change.filling = without(&group.filling, gone);
        change.former = with(&group.former, gone);
        change.members = rest.clone();
        if rest.len() < usize::from(group.replication_factor) {
            let level = self.level(group.replication_factor);
            join(&mut change, self.target(group, &rest, level, Need::Copy)?);
        }
        (!change.members.is_empty()).then_some(change)
    }

    fn add_missing(&self, group: &GroupRow) -> Option<GroupChange> {
        if group.members.len() >= usize::from(group.replication_factor) {
            return None;
        }
        let level = self.level(group.replication_factor);
        let mut change = change_of(group);
        let joins = self.target(group, &group.members, level, Need::Copy)?;
        join(&mut change, joins);
        Some(change)
    }

    /// One store takes the place of another.
    fn replaced(&self, group: &GroupRow, leaves: StoreId, joins: StoreId) -> GroupChange {
        let mut change = change_of(group);
        join(&mut change, joins);
        change.leaving = Some(leaves);
        change
    }

    /// Ends a move: enough members are complete, and one of them should go.
    fn drop_surplus(&self, group: &GroupRow) -> Option<GroupChange> {
        let copies = usize::from(group.replication_factor);
        if group.members.len() <= copies {
            return None;
        }
        let level = self.level(group.replication_factor);
        let meant = || group.leaving.filter(|store| group.members.contains(store));
        let fullest = || {
            let complete = group.complete();
            complete.max_by(|&one, &other| self.compare_excess(one, other))
        };
        let leaves = self
            .draining(group)
            .or_else(meant)
            .or_else(|| self.sharing(group, level))
            .or_else(fullest)?;
        // Several may drain at once: those that still do are whole and move next.
        let holds = |member: &StoreId| {
            matches!(
                self.standing(*member),
                Standing::Present | Standing::Draining
            )
        };
        let stays = |member: &StoreId| *member != leaves && holds(member);
        let staying = group.complete().filter(stays).count();
        if staying < copies {
            return None;
        }
        let mut change = change_of(group);
        change.members = without(&group.members, leaves);
        change.filling = without(&group.filling, leaves);
        change.former = with(&group.former, leaves);
        Some(change)
    }

    /// A member that should not be one: it drains, or shares a failure domain without need.
    fn misfit(&self, group: &GroupRow, level: usize) -> Option<StoreId> {
        self.draining(group).or_else(|| self.sharing(group, level))
    }

    fn draining(&self, group: &GroupRow) -> Option<StoreId> {
        let drains = |store: &StoreId| self.standing(*store) == Standing::Draining;
        group.members.iter().copied().find(drains)
    }

    /// A complete member in whose failure domain there is another one.
    fn sharing(&self, group: &GroupRow, level: usize) -> Option<StoreId> {
        let shares = |member: &StoreId| {
            let domain = self.domain(*member, level);
            let others = group.members.iter().filter(|other| *other != member);
            others
                .into_iter()
                .any(|&other| self.domain(other, level) == domain)
        };
        let sharing = group.complete().filter(shares);
        sharing.max_by(|&one, &other| self.compare_excess(one, other))
    }

    fn compare_excess(&self, one: StoreId, other: StoreId) -> Ordering {
        let by_excess = self.excess(one).total_cmp(&self.excess(other));
        by_excess.then(one.cmp(&other))
    }

    /// Begins to move a group off a member that should not be one.
    fn move_away(&self, group: &GroupRow) -> Option<GroupChange> {
        if group.members.len() != usize::from(group.replication_factor) || !group.filling.is_empty()
        {
            return None;
        }
        let level = self.level(group.replication_factor);
        let misfit = self.misfit(group, level)?;
        let stays = without(&group.members, misfit);
        let joins = self
            .target(group, &stays, level, Need::Place)
            .filter(|&joins| joins != misfit)?;
        Some(self.replaced(group, misfit, joins))
    }

    /// Stores that take part by how much more than their share they hold, least first.
    fn by_excess(&self) -> Vec<(f64, StoreId)> {
        let present = self
            .stores
            .values()
            .filter(|facts| facts.standing == Standing::Present);
        let mut by_excess: Vec<(f64, StoreId)> = present
            .map(|facts| (self.excess(facts.id), facts.id))
            .collect();
        by_excess.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        by_excess
    }

    /// Begins to move one group from the store with most beyond its share to the one with least.
    fn balance(&self, by_store: &BTreeMap<StoreId, Vec<&GroupRow>>) -> Option<GroupChange> {
        let by_excess = self.by_excess();
        for &(most, from) in by_excess.iter().rev() {
            for &(least, to) in by_excess.iter().take(TARGETS_MAX) {
                let gap = most - least;
                if gap < self.tolerance(to) || least > -0.5 || gap < 1.5 {
                    break;
                }
                // Worth it only when both come nearer to their share.
                let worth = |group: &&&GroupRow| {
                    let weight = self.weights.of(group.id) as f64;
                    gap >= 1.5 * weight && -least >= 0.5 * weight
                };
                let mut groups = by_store.get(&from).into_iter().flatten().filter(worth);
                let found = groups.find_map(|group| self.moved(group, from, to));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// Begins to exchange a group of a store beyond its share for a lighter one of a store below it, where every single group is too
    /// heavy: as few bytes as do. Nothing, or both steps.
    fn exchange(&self, by_store: &BTreeMap<StoreId, Vec<&GroupRow>>) -> Vec<GroupChange> {
        let by_excess = self.by_excess();
        for &(most, from) in by_excess.iter().rev().take(EXCHANGES_MAX) {
            for &(least, to) in by_excess.iter().take(EXCHANGES_MAX) {
                let gap = most - least;
                if gap < 2.0 || gap < EXCHANGE_FACTOR * self.tolerance(to) {
                    break;
                }
                if let Some(steps) = self.exchanged(by_store, from, to, gap) {
                    return steps;
                }
            }
        }
        Vec::new()
    }

    fn exchanged(
        &self,
        by_store: &BTreeMap<StoreId, Vec<&GroupRow>>,
        from: StoreId,
        to: StoreId,
        gap: f64,
    ) -> Option<Vec<GroupChange>> {
        let weight = |group: &GroupRow| self.weights.of(group.id) as f64;
        let (mine, theirs) = (by_store.get(&from)?, by_store.get(&to)?);
        // The lightest first; those of the other store that leave the two nearly even are next to each other.
        for heavy in mine.iter().rev().filter(|group| weight(group) > gap / 4.0) {
            let Some(there) = self.moved(heavy, from, to) else {
                continue;
            };
            let begin = theirs.partition_point(|light| weight(light) > weight(heavy) - gap / 4.0);
            let fits = |light: &&&GroupRow| weight(heavy) - weight(light) <= gap / 1.25;
            let mut lighter = theirs[begin..].iter().take_while(fits);
            let back = lighter.find_map(|light| self.moved(light, to, from));
            if let Some(back) = back {
                return Some(vec![there, back]);
            }
        }
        None
    }

    fn moved(&self, group: &GroupRow, from: StoreId, to: StoreId) -> Option<GroupChange> {
        let copies = usize::from(group.replication_factor);
        // One that is lost and was a member stays named until it is removed.
        let is_gone = |store: &StoreId| self.standing(*store) == Standing::Lost;
        let rests = group.filling.is_empty() && group.former.iter().all(is_gone);
        let whole = group.members.len() == copies && self.good_copies(group) == copies;
        let planned = self.planned.contains(&group.id);
        if !rests || !whole || planned || group.members.contains(&to) {
            return None;
        }
        let level = self.level(group.replication_factor);
        let domain = self.domain(to, level);
        let stays = without(&group.members, from);
        let shares = |&member: &StoreId| self.domain(member, level) == domain;
        if !self.stores.get(&to)?.has_room || stays.iter().any(shares) {
            return None;
        }
        Some(self.replaced(group, from, to))
    }
}

fn change_of(group: &GroupRow) -> GroupChange {
    GroupChange {
        group: group.id,
        members: group.members.clone(),
        filling: group.filling.clone(),
        former: group.former.clone(),
        returning: group.returning.clone(),
        leaving: group.leaving,
    }
}

/// A store joins as filling; one that was a member is remembered as such.
fn join(change: &mut GroupChange, joins: StoreId) {
    if change.former.contains(&joins) {
        change.returning = with(&change.returning, joins);
    }
    change.members = with(&change.members, joins);
    change.filling = with(&change.filling, joins);
    change.former = without(&change.former, joins);
}

fn without(stores: &[StoreId], gone: StoreId) -> Vec<StoreId> {
    stores
        .iter()
        .copied()
        .filter(|&store| store != gone)
        .collect()
}

fn with(stores: &[StoreId], joins: StoreId) -> Vec<StoreId> {
    let mut all = without(stores, joins);
    all.push(joins);
    all
}
