//! Alerts of the cluster: raised and resolved by the leader, from what it knows anyway; delivered by it, too.
//!
//! State in memory: how long something has been wanted ([`AlertJudge`]), and what takes a walk over the catalog to know, which is
//! looked at once a minute. In the catalog: the alerts themselves.
//!
//! Invariants
//! - Nothing waits for any of it, and no request of a client is part of it.
//! - A change is written with the list that it was planned from: another leader's work of the same moment is not undone.
//!
//! How it fails: without a catalog alerts stay as they are. What happens meanwhile is told when it is back, if it is still so.
//!
//! Read next: `curator::alerts`, the rules; `deliver.rs`, who is told; `operations/alerts.rs`, what people ask.

mod deliver;
mod facts;

pub use deliver::{Courier, Parcel};
pub(crate) use deliver::{origin, run as deliver, test};

use crate::host::Host;
use catalog::{AlertRow, AlertSteps, CatalogError, EventRow};
use curator::alerts::{AlertJudge, EventJudge, end, wanted};
use facts::Walked;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use vocab::StoreId;
use world::sync::Notify;
use world::{Duration, Time};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// The log of events is read at every so many looks.
const EVENT_LOOKS: u32 = 3;
/// Events of one look.
const EVENTS_MAX: usize = 200;
/// Volumes, containers and certificates are walked through again after so long.
const WALK_AFTER: Duration = Duration::from_secs(60);
/// What was resolved long ago is forgotten so often.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Or after so many were resolved.
const FORGET_COUNT: usize = 32;

/// What goes on with alerts on this node.
#[derive(Default)]
pub(crate) struct Alerts {
    /// Targets that could not be reached when they were tried last: name, since when (Unix milliseconds), why.
    unreached: RefCell<Vec<(String, u64, String)>>,
    /// Targets that something is on its way to.
    busy: RefCell<BTreeSet<String>>,
    /// Something is to be delivered.
    changed: Notify,
}

impl Alerts {
    /// Has whoever leads look for what is to be delivered, if that is this node.
    pub(crate) fn on_changed(&self) {
        self.changed.notify_all();
    }
}

/// What one leader remembers from look to look.
#[derive(Default)]
struct Watch {
    judge: AlertJudge,
    events: EventJudge,
    walked: Option<(Time, Walked)>,
    /// Members that were being filled, and how many had been, and when that was another number.
    progress: Option<((u32, u32), Time)>,
    forgot: Option<Time>,
    resolved: usize,
}

/// Looks for as long as the node runs.
pub(crate) async fn run(host: Rc<Host>) {
    let mut watch = Watch::default();
    for look in 0_u32.. {
        host.world.sleep(INTERVAL).await;
        if !host.upkeep.leading.get() {
            watch = Watch::default();
            continue;
        }
        let events = look.is_multiple_of(EVENT_LOOKS);
        if let Err(error) = watch.look(&host, events).await {
            tracing::debug!(%error, "alerts are looked at later");
        }
    }
}

impl Watch {
    async fn look(&mut self, host: &Rc<Host>, events: bool) -> Result<(), CatalogError> {
        let now = host.world.now();
        let now_ms = host.world.clock.unix_ms();
        let alerts = host.catalog.alerts_now().await?;
        let mut told: Vec<EventRow> = Vec::new();
        if events {
            let after = Some(alerts.head().events);
            told = host.catalog.events(after, EVENTS_MAX).await?;
        }
        let stopped = told.iter().any(|event| event.kind == "volume-stopped");
        let is_old = |(at, _): &(Time, Walked)| now.since(*at) >= WALK_AFTER;
        if stopped || self.walked.as_ref().is_none_or(is_old) {
            let walked = facts::walk(host).await?;
            self.walked = Some((now, walked));
        }
        let stalled = self.stalled_for(host, now);
        let Some((_, walked)) = &self.walked else {
            return Ok(());
        };
        let facts = facts::gather(host, walked, stalled, now_ms);
        let mut all = wanted(&facts, &alerts.open, &host.options.space);
        let called = self.events.judge(&told);
        all.extend(called.wanted);
        let mut steps = self.judge.judge(&alerts.open, &all, now, now_ms);
        end(&alerts.open, &called.over, now_ms, &mut steps);
        // With more turns than fit the events are read again: what they call for may be among the rest.
        let whole = steps.turns.len() < catalog::ALERTS_AT_ONCE;
        steps.events = told.last().map(|event| event.id).filter(|_| whole);
        let resolved =
            |(turn, _): &&(catalog::AlertTurn, AlertRow)| *turn == catalog::AlertTurn::Resolved;
        self.resolved += steps.turns.iter().filter(resolved).count();
        if !steps.are_none() && host.catalog.change_alerts(&alerts, &steps, now_ms).await? {
            note(&steps);
            host.upkeep.alerts.on_changed();
        }
        self.forget(host, now, now_ms).await
    }

    /// How long no fill has ended although some run.
    fn stalled_for(&mut self, host: &Host, now: Time) -> Duration {
        let repair = host.verdict().repair;
        let seen = (repair.filling, repair.filled);
        match &self.progress {
            Some((before, since)) if *before == seen => now.since(*since),
            _ => {
                self.progress = Some((seen, now));
                Duration::ZERO
            }
        }
    }

    async fn forget(&mut self, host: &Host, now: Time, now_ms: u64) -> Result<(), CatalogError> {
        let is_due = |at: Time| now.since(at) >= FORGET_AFTER;
        if self.forgot.is_none_or(is_due) || self.resolved >= FORGET_COUNT {
            host.catalog.forget_alerts(now_ms).await?;
            (self.forgot, self.resolved) = (Some(now), 0);
        }
        Ok(())
    }
}

/// For the node's own log, where somebody may look for it first.
fn note(steps: &AlertSteps) {
    for (turn, row) in &steps.turns {
        let (turn, severity) = (turn.name(), row.severity.name());
        tracing::info!(
            turn,
            severity,
            kind = row.kind,
            entity = row.entity,
            cause = row.cause,
            "alert"
        );
    }
}

/// Whether a store may be away for a while.
fn is_excused(view: &crate::ClusterView, store: StoreId, now_ms: u64) -> bool {
    let Some(row) = view.stores.get(&store) else {
        return false;
    };
    let subjects = [
        catalog::Subject::Store(store),
        catalog::Subject::Node(row.node),
    ];
    let mut intents = subjects
        .iter()
        .filter_map(|subject| view.intents.get(subject));
    intents.any(|intent| intent.maintenance_until_ms > now_ms)
}
