//! How much lies in which group, as the stores say: asked by the leader while groups are to move, or stores are uneven, by who is
//! asked for the verdict while copies are missing, and by any node for whom somebody asks.
//!
//! Groups differ, because owners write to groups of their own stores. A leader that has not heard it yet moves nothing for
//! balance: by the number of groups alone it would undo what was evened by bytes.
//!
//! What members that are being filled lack from one answer to the next says how fast copies are made ([`Pace`]).

use crate::host::Host;
use catalog::GroupRow;
use curator::{GroupSizes, HeldSizes, Lacking, Standing, StoreFacts};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use vocab::StoreId;
use wire::{Lane, StoreReply, StoreRequest, Stores};
use world::{Duration, Time};

/// Sizes are this old while groups move.
const MOVING_AGE: Duration = Duration::from_secs(10);
/// And this while only the stores are uneven, which balance may be unable to change.
const RESTING_AGE: Duration = Duration::from_secs(30);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// And with all answers of a store, for whom somebody waits.
const STORE_PATIENCE: Duration = Duration::from_secs(4);
/// What stores said is shown for so long: a store counts a million extents in some tens of milliseconds.
const SHOWN_AGE: Duration = Duration::from_secs(30);
/// A store is uneven when its used space differs by this part of its share,
const UNEVEN_DIVISOR: u128 = 25;
/// and by so many bytes.
const UNEVEN_BYTES: u128 = 64 << 20;

/// The pace of copies is that of this long.
const PACE_WINDOW: Duration = Duration::from_secs(60);

/// What was heard last.
#[derive(Default)]
pub(crate) struct Sizes {
    asked: Cell<Option<Time>>,
    known: RefCell<Option<GroupSizes>>,
    /// When it was asked last to be shown, and what was heard.
    shown: RefCell<(Option<Time>, Rc<HeldSizes>)>,
    held: RefCell<HeldSizes>,
    pace: RefCell<Pace>,
}

/// How fast members get what they lack.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// What they lacked when it was looked at last.
    before: Lacking,
    /// When it was looked at, and how many bytes they had got since the first time; at most the window and one more.
    seen: VecDeque<(Time, u64)>,
}

impl Pace {
    /// Notes what they lack now.
    fn note(&mut self, lacking: Lacking, groups: &[GroupRow], now: Time) {
        if lacking.is_empty() {
            *self = Self::default();
            return;
        }
        let moved = curator::bytes_moved(&self.before, &lacking, groups);
        let total = self.seen.back().map_or(0, |(_, total)| *total) + moved;
        self.seen.push_back((now, total));
        while self
            .seen
            .get(1)
            .is_some_and(|(at, _)| now.since(*at) >= PACE_WINDOW)
        {
            self.seen.pop_front();
        }
        self.before = lacking;
    }

    /// Bytes per second lately; nothing as long as none have moved.
    fn per_second(&self) -> Option<u64> {
        let (first, last) = (self.seen.front()?, self.seen.back()?);
        let took = u64::try_from(last.0.since(first.0).as_millis()).unwrap_or(u64::MAX);
        let moved = last.1.saturating_sub(first.1);
        let rate = moved.saturating_mul(1000).checked_div(took)?;
        (rate > 0).then_some(rate)
    }
}

impl Sizes {
    /// Whether they were ever heard.
    pub(crate) fn are_known(&self) -> bool {
        self.known.borrow().is_some()
    }

    /// What was heard; empty: nothing.
    pub(crate) fn last(&self) -> GroupSizes {
        self.known.borrow().clone().unwrap_or_default()
    }

    /// What each store said that it holds; empty: nothing was heard.
    pub(crate) fn held(&self) -> std::cell::Ref<'_, HeldSizes> {
        self.held.borrow()
    }

    /// Bytes per second that members got in the last minute, if it is known.
    pub(crate) fn bytes_per_second(&self) -> Option<u64> {
        self.pace.borrow().per_second()
    }

    fn are_older_than(&self, age: Duration, now: Time) -> bool {
        self.asked.get().is_none_or(|asked| now.since(asked) >= age)
    }
}

/// Asks the stores when it matters and the last answers are old. For the leader.
pub(crate) async fn look(host: &Host) {
    let moving = !host.plan_to_balance().is_empty();
    if !moving && !is_uneven(host) {
        return;
    }
    let age = if moving { MOVING_AGE } else { RESTING_AGE };
    if host.upkeep.sizes.are_older_than(age, host.world.now()) {
        hear(host).await;
    }
}

/// Asks the stores while copies are missing and the last answers are old: for the verdict.
pub(crate) async fn look_for_verdict(host: &Host) {
    let facts = host.store_facts();
    let is_lost = |store: StoreId| {
        let mut facts = facts.iter().filter(|facts| facts.id == store);
        facts.all(|facts| facts.standing == Standing::Lost)
    };
    let misses = |group: &GroupRow| {
        let complete = group.complete().filter(|&store| !is_lost(store)).count();
        !group.filling.is_empty() || complete < usize::from(group.replication_factor)
    };
    let any = host.members.look(|view| view.groups.values().any(misses));
    if !any {
        *host.upkeep.sizes.pace.borrow_mut() = Pace::default();
    } else if host
        .upkeep
        .sizes
        .are_older_than(MOVING_AGE, host.world.now())
    {
        hear(host).await;
    }
}

/// Asks all stores that answer, at once.
async fn hear(host: &Host) {
    let sizes = &host.upkeep.sizes;
    sizes.asked.set(Some(host.world.now()));
    let facts = host.store_facts();
    let answering = { facts.iter() }
        .filter(|facts| matches!(facts.standing, Standing::Present | Standing::Draining));
    let asked = answering.map(|facts| async { (facts.id, ask(host, facts.id).await) });
    let (mut known, mut held) = (GroupSizes::new(), HeldSizes::new());
    for (store, answer) in join_all(asked).await {
        let Some(answer) = answer else {
            // It is asked again; what is known of before is better than a part.
            return;
        };
        for (&group, &bytes) in &answer {
            // Members that are being filled hold less, and others have not collected yet.
            let size = known.entry(group).or_default();
            *size = (*size).max(bytes);
        }
        held.insert(store, answer);
    }
    *sizes.known.borrow_mut() = Some(known);
    note_pace(host, &facts, &held);
    *sizes.held.borrow_mut() = held;
}

fn note_pace(host: &Host, facts: &[StoreFacts], held: &HeldSizes) {
    let groups: Vec<GroupRow> = host
        .members
        .look(|view| view.groups.values().cloned().collect());
    let lacking = curator::lacking(&groups, facts, held, 0);
    let mut pace = host.upkeep.sizes.pace.borrow_mut();
    pace.note(lacking, &groups, host.world.now());
}

/// What each store that answers holds, at most [`SHOWN_AGE`] old; older while somebody else is asking for it. A store that does not
/// answer in time is left out.
pub(crate) async fn by_store(host: &Host) -> Rc<HeldSizes> {
    let now = host.world.now();
    let shown = &host.upkeep.sizes.shown;
    let (asked, last) = shown.borrow().clone();
    if asked.is_some_and(|asked| now.since(asked) < SHOWN_AGE) {
        return last;
    }
    shown.borrow_mut().0 = Some(now);
    let facts = host.store_facts().into_iter();
    let answering =
        facts.filter(|facts| matches!(facts.standing, Standing::Present | Standing::Draining));
    let asked = answering.map(|facts| async move {
        let said = host.world.timeout(STORE_PATIENCE, ask(host, facts.id));
        Some((facts.id, said.await.ok()??))
    });
    let heard: HeldSizes = join_all(asked).await.into_iter().flatten().collect();
    let heard = Rc::new(heard);
    shown.borrow_mut().1 = heard.clone();
    heard
}

/// What one store holds; `None`: it has not said so.
async fn ask(host: &Host, store: StoreId) -> Option<GroupSizes> {
    let (mut known, mut after) = (GroupSizes::new(), None);
    loop {
        let request = StoreRequest::GroupSizes { after };
        let call = host.remote.call(store, Lane::Bulk, request.into());
        let answer = host.world.timeout(PATIENCE, call).await.ok()?.ok()?;
        let (StoreReply::GroupSizes { groups, more }, _) = answer else {
            return None;
        };
        let last = groups.last().map(|&(group, _)| group);
        known.extend(groups);
        match (more, last) {
            (true, Some(last)) => after = Some(last),
            _ => return Some(known),
        }
    }
}

/// Whether the space that is used differs more between stores than balance leaves it.
fn is_uneven(host: &Host) -> bool {
    let facts = host.store_facts().into_iter();
    let present = facts.filter(|facts| facts.standing == Standing::Present);
    let filled: Vec<(u128, u128)> = present
        .filter_map(|facts| {
            let used = host.health.used(facts.id)?;
            Some((u128::from(used), u128::from(facts.capacity)))
        })
        .collect();
    let used: u128 = filled.iter().map(|(used, _)| used).sum();
    let capacity: u128 = filled.iter().map(|(_, capacity)| capacity).sum();
    filled.iter().any(|(mine, of)| {
        let share = used * of / capacity.max(1);
        mine.abs_diff(share) > (share / UNEVEN_DIVISOR).max(UNEVEN_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::GroupId;

    const MB: u64 = 1_000_000;

    #[test]
    fn the_pace_is_that_of_the_last_minute_in_bytes() {
        let at = |seconds| Time(0) + Duration::from_secs(seconds);
        let lacking = |bytes: u64| Lacking::from([((GroupId(1), StoreId(1)), bytes)]);
        let mut pace = Pace::default();
        pace.note(lacking(1000 * MB), &[], at(0));
        assert_eq!(pace.per_second(), None);
        pace.note(lacking(1000 * MB), &[], at(10));
        assert_eq!(pace.per_second(), None, "nothing has moved");
        pace.note(lacking(900 * MB), &[], at(20));
        assert_eq!(pace.per_second(), Some(5 * MB));
        // What was slow a while ago is forgotten.
        for step in 3..=10 {
            pace.note(lacking((1100 - 100 * step) * MB), &[], at(step * 10));
        }
        assert_eq!(pace.per_second(), Some(10 * MB));
        assert!(pace.seen.len() <= 8, "{:?}", pace.seen);
        pace.note(Lacking::new(), &[], at(110));
        assert_eq!(pace.per_second(), None, "the next repair has its own");
    }
}
