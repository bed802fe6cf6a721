//! Which stores answer, and how full they are: asked every second while this node owns volumes, seldom
//! otherwise.

use crate::host::Host;
use futures_util::future::join_all;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::StoreId;
use wire::{CallError, Lane, StoreError, StoreReply, StoreRequest, StoreStatus, Stores, Trust};
use world::sync::Notify;
use world::{Duration, Time, World};

/// Pause between two rounds while volumes are owned here.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two rounds of a node without volumes.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// Patience with one answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a store must say that it failed before that is believed: a node that stops or puts other disks in says so for a moment.
pub(crate) const FAILED_DELAY: Duration = Duration::from_secs(5);
/// A ring above this share is passed over for new log segments.
const RING_PERCENT_MAX: u64 = 75;

/// A store that was full has room again once less than this share of it is used: what moved away from it would else
/// come back at once.
const RELIEVED_PERCENT_MAX: u64 = 70;

/// Steps of used space that a page is told of: half a percent each.
const USED_STEPS: u64 = 200;

/// What a store last said, or why it said nothing.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its last status.
    pub(crate) status: Option<StoreStatus>,
    /// Why it did not answer the last time.
    pub(crate) silent: Option<String>,
    /// Since when it has not answered, or has failed.
    pub(crate) unfit_since: Option<Time>,
    /// Since when every answer was that it has failed. `None`: it is well, or there was no answer the last time.
    failed_since: Option<Time>,
    /// Whether there was an answer the last time, whatever it was.
    answered: bool,
    /// Whether it was full and has not been relieved since.
    was_full: bool,
}

impl Seen {
    /// What a store of this process says, or why it cannot say anything.
    pub(crate) fn here(said: Result<StoreStatus, String>) -> Self {
        let (status, silent) = match said {
            Ok(status) => (Some(status), None),
            Err(reason) => (None, Some(reason)),
        };
        let failed = silent.is_some();
        Self {
            status,
            silent,
            unfit_since: None,
            // Whoever has to say that for it knows why.
            failed_since: failed.then_some(Time(0)),
            answered: true,
            was_full: false,
        }
    }

    /// What is known after an attempt to ask. `before`: what was known.
    fn after(before: Option<Self>, said: Result<StoreStatus, NoStatus>, now: Time) -> Self {
        let (unfit_since, failed_since, was_full) = match &before {
            Some(seen) => (seen.unfit_since, seen.failed_since, seen.was_full),
            None => (None, None, false),
        };
        let answered = !matches!(said, Err(NoStatus::Unanswered(_)));
        let is_failure = matches!(said, Err(NoStatus::Failed(_)));
        let (status, silent) = match said {
            Ok(status) => (Some(status), None),
            Err(reason) => (before.and_then(|seen| seen.status), Some(reason.text())),
        };
        let mut seen = Self {
            status,
            silent,
            unfit_since: None,
            failed_since: None,
            answered,
            was_full,
        };
        seen.was_full = seen.stays_full(was_full);
        let failed = |status: &StoreStatus| status.failed.is_some();
        let has_failed = is_failure || answered && seen.status.as_ref().is_some_and(failed);
        seen.failed_since = has_failed.then(|| failed_since.unwrap_or(now));
        if !seen.is_healthy() {
            seen.unfit_since = Some(unfit_since.unwrap_or(now));
        }
        seen
    }

    /// Whether its last answer was that it has failed.
    pub(crate) fn says_failed(&self) -> bool {
        self.failed_since.is_some()
    }

    /// Whether new log replicas may go there.
    fn is_healthy(&self) -> bool {
        let failed = |status: &StoreStatus| status.failed.is_some();
        self.silent.is_none() && !self.status.as_ref().is_some_and(failed)
    }

    fn space_is_above(&self, percent: u64) -> bool {
        self.status.as_ref().is_some_and(|status| {
            let capacity = status.capacity.0.max(1);
            status.full || status.used.0 / (capacity / 100).max(1) > percent
        })
    }

    fn stays_full(&self, was_full: bool) -> bool {
        let full = self.status.as_ref().is_some_and(|status| status.full);
        full || was_full && self.space_is_above(RELIEVED_PERCENT_MAX)
    }

    fn ring_is_above(&self, percent: u64) -> bool {
        self.status.as_ref().is_some_and(|status| {
            let capacity = status.journal_capacity.0.max(1);
            status.journal_used.0 / (capacity / 100).max(1) > percent
        })
    }
}

/// Why a store did not say how it is.
enum NoStatus {
    /// It answered that it has failed, or its node did for it.
    Failed(String),
    /// It gave another answer than the one it was asked for.
    Refused(String),
    /// There was no answer.
    Unanswered(String),
}

impl NoStatus {
    fn text(self) -> String {
        match self {
            Self::Failed(reason) | Self::Refused(reason) | Self::Unanswered(reason) => reason,
        }
    }
}

/// How desirable a store is for a log segment; smaller is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fitness {
    /// Answers and has room.
    Good,
    /// Not asked yet.
    Unknown,
    /// Its ring is nearly full.
    Crowded,
    /// Does not answer, or its disks failed.
    Unfit,
}

/// The table of stores.
pub(crate) struct Health {
    world: World,
    stores: Rc<dyn Stores>,
    table: RefCell<BTreeMap<StoreId, Seen>>,
    /// Notified when a store answers that did not before.
    pub(crate) returned: Notify,
}

impl Health {
    pub(crate) fn new(world: World, stores: Rc<dyn Stores>) -> Self {
        Self {
            world,
            stores,
            table: RefCell::default(),
            returned: Notify::default(),
        }
    }

    /// What is known of a store.
    pub(crate) fn seen(&self, store: StoreId) -> Option<Seen> {
        self.table.borrow().get(&store).cloned()
    }

    /// What a page shows of a store's health, in numbers that differ when it does.
    pub(crate) fn mood(&self, store: StoreId) -> ([bool; 5], u64) {
        let table = self.table.borrow();
        let Some(seen) = table.get(&store) else {
            return ([false; 5], 0);
        };
        let status = seen.status.as_ref();
        let used = status.map_or(0, |status| {
            status.used.0 / (status.capacity.0 / USED_STEPS).max(1)
        });
        let flags = [
            true,
            seen.silent.is_some(),
            status.is_some_and(|status| status.failed.is_some()),
            status.is_some_and(|status| status.full),
            status.is_some_and(|status| status.trust == Trust::Suspect),
        ];
        (flags, used)
    }

    /// How long a store has been without an answer, or with disks that failed; `None` while it is well, or was never
    /// asked.
    pub(crate) fn silent_for(&self, store: StoreId) -> Option<Duration> {
        let table = self.table.borrow();
        let since = table.get(&store)?.unfit_since?;
        Some(self.world.now().since(since))
    }

    /// How long a store has said that it failed whenever it was asked; `None`: it is well, or did not answer the last time.
    pub(crate) fn failed_for(&self, store: StoreId) -> Option<Duration> {
        let table = self.table.borrow();
        let since = table.get(&store)?.failed_since?;
        Some(self.world.now().since(since))
    }

    /// Whether nobody answered for a store the last time, not even that it has failed. One that was never asked has not been silent.
    pub(crate) fn is_unanswered(&self, store: StoreId) -> bool {
        let table = self.table.borrow();
        table.get(&store).is_some_and(|seen| !seen.answered)
    }

    /// Whether a store takes what is moved to it: used below this share, and relieved if it was full.
    pub(crate) fn takes_more(&self, store: StoreId, percent: u64) -> bool {
        let table = self.table.borrow();
        let takes = |seen: &Seen| !seen.was_full && !seen.space_is_above(percent);
        table.get(&store).is_none_or(takes)
    }

    /// Whether a store said that it is full.
    pub(crate) fn is_full(&self, store: StoreId) -> bool {
        let table = self.table.borrow();
        let status = table.get(&store).and_then(|seen| seen.status.as_ref());
        status.is_some_and(|status| status.full)
    }

    /// Bytes for extents that nothing occupies in a store, as it said last; 0: it never did.
    pub(crate) fn free(&self, store: StoreId) -> u64 {
        let table = self.table.borrow();
        let status = table.get(&store).and_then(|seen| seen.status.as_ref());
        status.map_or(0, |status| status.capacity.0.saturating_sub(status.used.0))
    }

    /// Percent of what clients may fill of a store that is in use, as it said last; `None`: it never did.
    pub(crate) fn fill(&self, store: StoreId) -> Option<u64> {
        let table = self.table.borrow();
        let status = table.get(&store)?.status.as_ref()?;
        Some(fill_of(status))
    }

    /// Bytes that extents of a store occupy; `None`: it has not said so.
    pub(crate) fn used(&self, store: StoreId) -> Option<u64> {
        let table = self.table.borrow();
        Some(table.get(&store)?.status.as_ref()?.used.0)
    }

    pub(crate) fn fitness(&self, store: StoreId) -> Fitness {
        match self.table.borrow().get(&store) {
            None => Fitness::Unknown,
            Some(seen) if !seen.is_healthy() => Fitness::Unfit,
            Some(seen) if seen.ring_is_above(RING_PERCENT_MAX) => Fitness::Crowded,
            Some(_) => Fitness::Good,
        }
    }

    /// Whether the ring of a store that answers is used above this share.
    pub(crate) fn has_ring_above(&self, percent: u64) -> bool {
        let table = self.table.borrow();
        let mut seen = table.values().filter(|seen| seen.silent.is_none());
        seen.any(|seen| seen.ring_is_above(percent))
    }

    /// Whether more of the space of a store that answers is used than this share.
    pub(crate) fn has_store_above(&self, percent: u64) -> bool {
        let table = self.table.borrow();
        let mut seen = table.values().filter(|seen| seen.silent.is_none());
        seen.any(|seen| seen.space_is_above(percent))
    }

    /// Asks these stores at once; bounded by one patience.
    pub(crate) async fn ask(&self, stores: Vec<StoreId>) {
        let answers = join_all(stores.iter().map(|&store| self.status_of(store))).await;
        let mut returned = false;
        let mut table = self.table.borrow_mut();
        for (store, answer) in stores.into_iter().zip(answers) {
            let before = table.remove(&store);
            let was_silent = |seen: &Seen| seen.silent.is_some();
            returned |= answer.is_ok() && before.as_ref().is_none_or(was_silent);
            let seen = Seen::after(before, answer, self.world.now());
            table.insert(store, seen);
        }
        drop(table);
        if returned {
            self.returned.notify_all();
        }
    }

    async fn status_of(&self, store: StoreId) -> Result<StoreStatus, NoStatus> {
        let call = self
            .stores
            .call(store, Lane::Log, StoreRequest::Status.into());
        match self.world.timeout(PATIENCE, call).await {
            Ok(Ok((StoreReply::Status(status), _))) => Ok(status),
            Ok(Ok((other, _))) => Err(NoStatus::Refused(format!("{store} answered {other:?}"))),
            Ok(Err(CallError::Refused { store, error })) => {
                let text = format!("{store}: {error}");
                Err(match error {
                    StoreError::Failed { .. } => NoStatus::Failed(text),
                    _ => NoStatus::Refused(text),
                })
            }
            Ok(Err(error)) => Err(NoStatus::Unanswered(error.to_string())),
            Err(_) => Err(NoStatus::Unanswered(format!("{store} does not answer"))),
        }
    }

    /// Forgets stores that are no longer in the catalog.
    pub(crate) fn retain(&self, known: impl Fn(StoreId) -> bool) {
        self.table.borrow_mut().retain(|&store, _| known(store));
    }
}

/// Percent of what clients may fill of a store that is in use.
pub(crate) fn fill_of(status: &StoreStatus) -> u64 {
    let kept_back = store::kept_back(status.capacity);
    let fill = curator::fill_of(status.used.0, status.capacity.0, kept_back.0);
    // Its index may be full before its disks are.
    if status.full { fill.max(100) } else { fill }
}

/// Asks every store of the cluster once.
pub(crate) async fn refresh(host: &Host) {
    let stores = host
        .members
        .look(|view| view.stores.keys().copied().collect::<Vec<_>>());
    host.health.retain(|store| stores.contains(&store));
    host.health.ask(stores).await;
}

/// Keeps the table up to date.
pub(crate) async fn watch(host: Rc<Host>) {
    loop {
        let changed = host.members.changed.notified();
        refresh(&host).await;
        let idle = host.volumes.is_empty();
        let pause = if idle { IDLE_INTERVAL } else { BUSY_INTERVAL };
        let _ = host.world.timeout(pause, changed).await;
    }
}
