//! How much lies in which group, as the stores say: asked by the leader while groups are to move, or stores are uneven.
//!
//! Groups differ, because owners write to groups of their own stores. A leader that has not heard it yet moves nothing for
//! balance: by the number of groups alone it would undo what was evened by bytes.

use crate::host::Host;
use curator::{GroupSizes, Standing};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use vocab::StoreId;
use wire::{Lane, StoreReply, StoreRequest, Stores};
use world::{Duration, Time};

/// Sizes are this old while groups move.
const MOVING_AGE: Duration = Duration::from_secs(10);
/// And this while only the stores are uneven, which balance may be unable to change.
const RESTING_AGE: Duration = Duration::from_secs(30);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A store is uneven when its used space differs by this part of its share,
const UNEVEN_DIVISOR: u128 = 25;
/// and by so many bytes.
const UNEVEN_BYTES: u128 = 64 << 20;

/// What was heard last.
#[derive(Default)]
pub(crate) struct Sizes {
    asked: Cell<Option<Time>>,
    known: RefCell<Option<GroupSizes>>,
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
}

/// Asks the stores when it matters and the last answers are old. For the leader.
pub(crate) async fn look(host: &Host) {
    let moving = !host.plan_to_balance().is_empty();
    if !moving && !is_uneven(host) {
        return;
    }
    let now = host.world.now();
    let age = if moving { MOVING_AGE } else { RESTING_AGE };
    let sizes = &host.upkeep.sizes;
    if sizes
        .asked
        .get()
        .is_some_and(|asked| now.since(asked) < age)
    {
        return;
    }
    sizes.asked.set(Some(now));
    let facts = host.store_facts().into_iter();
    let answering =
        facts.filter(|facts| matches!(facts.standing, Standing::Present | Standing::Draining));
    let asked = answering.map(|facts| ask(host, facts.id));
    let mut known = GroupSizes::new();
    for answer in join_all(asked).await {
        let Some(answer) = answer else {
            // It is asked again; what is known of before is better than a part.
            return;
        };
        for (group, bytes) in answer {
            // Members that are being filled hold less, and others have not collected yet.
            let size = known.entry(group).or_default();
            *size = (*size).max(bytes);
        }
    }
    *sizes.known.borrow_mut() = Some(known);
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
