//! Background work of a node: groups and their members, fills, volumes of lost nodes, scrubbing, logs of volumes that
//! are gone, deletions that stopped half-way, journals that fill up, and collection of garbage. Each piece is bounded,
//! may be repeated, and sleeps while nothing has changed.

mod admission;
mod adopt;
mod collect;
mod evacuate;
mod even;
mod fill;
mod level;
mod logs;
pub(crate) mod mirror;
mod observe;
mod pace;
mod placement;
mod quorum;
pub(crate) mod record;
mod relieve;
mod scrub;
pub(crate) mod sizes;
mod space;
mod tasks;

pub use even::EvenOptions;
pub(crate) use placement::ROOM_PERCENT_MAX;
pub use quorum::{Keeper, SeatFacts};
pub use record::Recording;
pub use scrub::ScrubReport;
pub(crate) use sizes::look_for_verdict;

use crate::host::Host;
use crate::membership::{self, Part};
use catalog::kv::{Compare, KvError, Op, Outcome};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{Level, NodeId, StoreId, VolumeId};
use world::Duration;

/// Stores that start together join the first plan of groups together.
const JOIN_PAUSE: Duration = Duration::from_secs(2);
/// Pause after the catalog failed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How often lost volumes are let go.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);
/// How often snapshots are looked for that unfinished operations left behind.
const INTERNAL_INTERVAL: Duration = Duration::from_secs(60);
/// Rows of volumes that all nodes together read in a second at most, on average, for each kind of work that every node looks for in all of them.
const ROWS_PER_SECOND_MAX: u64 = 20_000;
/// The key that names the node which does what one node of the cluster should do.
const LEADER_KEY: &str = "leader";

/// What background work has found out, for status and tests.
#[derive(Default)]
pub(crate) struct Upkeep {
    /// Local stores that have caught up with their groups.
    pub(crate) filled: RefCell<BTreeSet<StoreId>>,
    pub(crate) collected: RefCell<curator::CollectReport>,
    /// Fills of members that are under way anywhere.
    pub(crate) progress: Cell<Option<crate::operations::Progress>>,
    /// What was read of copies that nobody asked for.
    pub(crate) scrubbed: Cell<ScrubReport>,
    /// Volumes whose logs are on their way to other nodes.
    pub(crate) spreading: RefCell<BTreeSet<VolumeId>>,
    /// Rounds of collection begun here.
    pub(crate) rounds_begun: Cell<u64>,
    /// The last of them that left nothing to collect.
    pub(crate) round_whole: Cell<u64>,
    /// How long stores have been nearly full, as the leader saw.
    pub(crate) space: RefCell<curator::SpaceJudge>,
    /// What happened and is not written yet.
    pub(crate) events: crate::events::Events,
    /// What goes on with alerts.
    pub(crate) alerts: crate::alerts::Alerts,
    /// How long requests of clients take.
    pub(crate) latency: crate::latency::Latency,
    /// What clients do with the volumes owned here.
    pub(crate) meters: crate::meter::Meters,
    /// What they did in the last step.
    pub(crate) present: record::Present,
    /// Whether this node led when it looked last.
    pub(crate) leading: Cell<bool>,
    /// Where the space goes, as far as this node has walked while it leads.
    pub(crate) ledger: RefCell<curator::Ledger>,
    /// What the catalog said of its members.
    pub(crate) catalog: RefCell<Option<crate::operations::SaidMembers>>,
    /// Where rows say that the logs of volumes lie.
    pub(crate) logs: RefCell<Option<crate::operations::SaidLogs>>,
    /// One reads them at a time.
    pub(crate) asking_logs: world::sync::Lock,
    /// Whether a task of its own asks for them.
    pub(crate) asks_logs: Cell<bool>,
    /// The cluster's level as this node last saw it; never above what it is.
    pub(crate) level: Cell<Level>,
    /// The id of the etcd that is the cluster's own; 0: not known, or there is none.
    pub(crate) own_etcd: Cell<u64>,
    /// What the collection says of deletions.
    pub(crate) collecting: RefCell<tasks::Collecting>,
    /// Stores of this node that are read because somebody asked for it, with the tasks that tell of it.
    pub(crate) scrubs: RefCell<BTreeMap<StoreId, Option<u64>>>,
    /// How much lies in which group, as the leader heard last.
    pub(crate) sizes: sizes::Sizes,
    /// Until when no group moves for balance, Unix milliseconds.
    pub(crate) balance_rests_until_ms: Cell<u64>,
    /// What collections rewrote already.
    pub(crate) attempts: RefCell<curator::Attempts>,
}

/// Starts all of it.
pub(crate) fn start(host: &Rc<Host>) {
    host.spawn(plan_groups(host.clone()));
    host.spawn(sweep_lost(host.clone()));
    host.spawn(relieve::run(host.clone()));
    host.spawn(sweep_internal(host.clone()));
    for store in host.stores.ids() {
        start_for(host, store);
    }
    host.spawn(placement::run(host.clone()));
    host.spawn(placement::follow(host.clone()));
    evacuate::start(host);
    host.spawn(adopt::run(host.clone()));
    host.spawn(level::run(host.clone()));
    host.spawn(collect::run(host.clone()));
    if host.options.keeper.is_some() {
        host.spawn(quorum::run(host.clone()));
    }
    if host.options.bay.is_some() {
        host.spawn(crate::operations::disks::watch_absent(host.clone()));
    }
    if host.options.describe_disks {
        host.spawn(mirror::run(host.clone()));
    }
    if host.options.events {
        host.spawn(crate::events::run(host.clone()));
        host.spawn(observe::run(host.clone()));
    }
    if host.options.tasks {
        host.spawn(tasks::run(host.clone()));
    }
    if host.options.alerts {
        host.spawn(crate::alerts::run(host.clone()));
        if let Some(courier) = host.options.courier.clone() {
            host.spawn(crate::alerts::deliver(host.clone(), courier));
        }
    }
    if let Some(recording) = host.options.recording.clone() {
        host.spawn(record::run(host.clone(), recording));
    }
    if let Some(options) = host.options.pace {
        host.spawn(pace::run(host.clone(), options));
    }
    if let Some(options) = host.options.even_owners {
        host.spawn(even::run(host.clone(), options));
    }
    if host.options.secured {
        host.spawn(admission::run(host.clone()));
    }
}

/// Pause after a look at so many rows by which so many readers keep to [`ROWS_PER_SECOND_MAX`] on average. Each time another one, so that
/// nodes that started together do not read in step.
fn rows_pause(host: &Host, readers: usize, rows: u32) -> Duration {
    spread(mean_pause(readers, rows), host.world.rng.next_u64())
}

/// The mean of [`rows_pause`]. Pure.
fn mean_pause(readers: usize, rows: u32) -> Duration {
    let read = u64::from(rows).saturating_mul(readers as u64);
    Duration::from_millis(read.saturating_mul(1000) / ROWS_PER_SECOND_MAX)
}

/// From half of a pause to one and a half of it, as was drawn. Pure.
fn spread(mean: Duration, drawn: u64) -> Duration {
    let micros = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX);
    mean / 2 + Duration::from_micros(drawn % micros.saturating_add(1))
}

/// Starts what concerns one store of this node.
pub(crate) fn start_for(host: &Rc<Host>, store: StoreId) {
    host.spawn_for(store, fill::run(host.clone(), store));
    host.spawn_for(store, logs::run(host.clone(), store));
    host.spawn_for(store, renew_sessions(host.clone(), store));
    host.spawn_for(store, placement::leave(host.clone(), store));
    host.spawn_for(store, scrub::run(host.clone(), store));
    host.spawn_for(store, scrub::run_journal(host.clone(), store));
}

/// Lets the catalog know of a new session now and then, while the store is written to.
async fn renew_sessions(host: Rc<Host>, id: StoreId) {
    let Some(store) = host.stores.get(id) else {
        return;
    };
    loop {
        host.world.sleep(host.options.session_interval).await;
        let renewed = store.renew_session().await;
        let told = match renewed {
            Ok(Some(_)) => host.announce_store(&store).await,
            Ok(None) => continue,
            Err(_) => return,
        };
        if let Err(error) = told {
            tracing::debug!(store = %id, %error, "the catalog was not told of a new session");
        }
    }
}

/// Plans groups for replication factors that containers want and that have none, once there are enough
/// stores.
async fn plan_groups(host: Rc<Host>) {
    loop {
        let changed = host.members.changed.notified();
        let wanted = wanted_factors(&host);
        if wanted.is_empty() {
            changed.await;
            continue;
        }
        host.world.sleep(JOIN_PAUSE).await;
        for factor in wanted {
            let planned = host.ensure_groups(factor).await;
            if let Err(error) = planned {
                tracing::debug!(factor, %error, "groups are not planned yet");
            }
        }
        if membership::refresh(&host, &[Part::Groups]).await.is_err() {
            host.world.sleep(RETRY_PAUSE).await;
        } else if !wanted_factors(&host).is_empty() {
            // Too few stores: another one changes the view.
            changed.await;
        }
    }
}

/// Factors without groups that the stores known here suffice for.
fn wanted_factors(host: &Host) -> Vec<u8> {
    host.members.look(|view| {
        let factors = view.containers.values().map(|row| row.replication_factor);
        let factors: BTreeSet<u8> = factors.collect();
        let has_groups = |factor: u8| {
            view.groups
                .values()
                .any(|row| row.replication_factor == factor)
        };
        let enough = |factor: u8| view.stores.len() >= usize::from(factor);
        let wanted = factors
            .into_iter()
            .filter(|&factor| !has_groups(factor) && enough(factor));
        wanted.collect()
    })
}

/// Lets go of volumes that were lost, also when nobody asks for them, and spreads the logs of the others.
async fn sweep_lost(host: Rc<Host>) {
    loop {
        if host.volumes.is_empty() {
            host.members.changed.notified().await;
            continue;
        }
        host.drop_lost();
        if host.options.spread_logs {
            host.spread_logs();
        }
        host.world.sleep(SWEEP_INTERVAL).await;
    }
}

/// Deletes snapshots that operations which never ended have left behind.
async fn sweep_internal(host: Rc<Host>) {
    loop {
        host.world.sleep(INTERNAL_INTERVAL).await;
        let swept = match host.leads().await {
            Ok(true) => host.sweep_internal_snapshots().await,
            _ => continue,
        };
        if let Err(error) = swept {
            tracing::debug!(%error, "left-over snapshots are deleted later");
        }
    }
}

impl Host {
    /// Whether this node leads now: the first that asks does, for as long as its lease lives.
    pub(crate) async fn leads(&self) -> Result<bool, KvError> {
        if self.is_candidate() || self.lease.why_out().is_some() {
            return Ok(false);
        }
        let kv = self.catalog.kv();
        let own = self.lease.start().to_string().into_bytes();
        if let Some(leader) = kv.get(LEADER_KEY).await? {
            let ours = leader.value == own;
            self.upkeep.leading.set(ours);
            return Ok(ours);
        }
        let claim = Op::PutLeased(LEADER_KEY.to_owned(), own, self.lease.id());
        let free = Compare::Absent(LEADER_KEY.to_owned());
        let ours = kv.txn(vec![free], vec![claim]).await? != Outcome::Conflict;
        self.upkeep.leading.set(ours);
        Ok(ours)
    }

    /// The node that leads, if any does that is known here.
    pub(crate) async fn leader(&self) -> Result<Option<NodeId>, KvError> {
        let leader = self.catalog.kv().get(LEADER_KEY).await?;
        let text = leader.and_then(|leader| String::from_utf8(leader.value).ok());
        let Some(start) = text.and_then(|text| text.parse::<u64>().ok()) else {
            return Ok(None);
        };
        Ok(self.members.look(|view| {
            let mut alive = view.alive.values();
            alive.find(|row| row.start == start).map(|row| row.id)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_nodes_pay_for_what_they_read_together() {
        assert_eq!(mean_pause(3, 100), Duration::from_millis(15));
        assert_eq!(mean_pause(1000, 100_000), Duration::from_secs(5000));
        assert_eq!(mean_pause(0, 100), Duration::ZERO);
    }

    #[test]
    fn nodes_that_start_together_do_not_read_in_step() {
        let mean = Duration::from_secs(5000);
        assert_eq!(spread(mean, 0), mean / 2);
        assert_eq!(spread(mean, 2_500_000_000), mean);
        assert_eq!(spread(mean, 5_000_000_000), mean * 3 / 2);
        assert_eq!(spread(mean, 5_000_000_001), mean / 2);
        assert_eq!(spread(Duration::ZERO, 7), Duration::ZERO);
    }
}
