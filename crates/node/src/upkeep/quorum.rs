//! The cluster's own etcd: this node says what its seat has, and the leader changes members one step at a time.
//!
//! etcd's member list is the only record of who is a member. Each step is planned from it, and is one call; whoever leads
//! next goes on from what the list says then.

use crate::events::Told;
use crate::host::Host;
use catalog::kv::KvMembers;
use catalog::{CatalogError, EtcdRow, SeatRow, Severity, Transaction};
use curator::{Holding, QuorumLimits, QuorumStep, Seat, Tenant, has_no_space, is_closed};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use vocab::NodeId;
use world::{Duration, LocalBoxFuture, Time};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// So many times longer a member is waited for whose node holds its lease.
const ALIVE_FACTOR: u32 = 4;
/// How often it is seen that the row of this node's seat is there.
const SEEN_AGE_MAX: Duration = Duration::from_secs(30);
/// Pause between two attempts to make room in an etcd that warns of too little.
const COMPACT_INTERVAL: Duration = Duration::from_secs(60);

/// Each further attempt waits twice as long, up to about an hour: an etcd that is full of what lives is not to be stopped
/// for a moment again and again.
const DOUBLINGS_MAX: u32 = 6;

/// A seat for a member of the cluster's own etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatFacts {
    /// URL at which clients reach its member.
    pub client: String,
    /// URL at which other members reach it.
    pub peer: String,
    /// What it has of a member.
    pub holding: Holding,
    /// Why no member would run there, when none would.
    pub problem: Option<String>,
    /// Bytes that its member may keep.
    pub quota: u64,
}

/// The etcd of the cluster, as this node reaches it and takes part in it.
pub trait Keeper: fmt::Debug {
    /// The seat of this node, if it has one.
    fn seat(&self) -> Option<SeatFacts>;

    /// The id of an etcd that this node has founded: it is the cluster's own.
    fn founded(&self) -> Option<u64>;

    /// Carries out a step that was planned from these members. A retry is safe.
    ///
    /// # Errors
    /// For people; it may have happened all the same.
    fn carry_out(
        &self,
        step: QuorumStep,
        members: KvMembers,
    ) -> LocalBoxFuture<'static, Result<(), String>>;

    /// Forgets history, to make room.
    ///
    /// # Errors
    /// For people.
    fn compact(&self) -> LocalBoxFuture<'static, Result<(), String>>;
}

/// What the leader remembers between two looks.
#[derive(Default)]
struct Memory {
    /// Members that do not answer, and since when.
    silent: BTreeMap<u64, Time>,
    /// Whether it was told that a member has no space.
    warned: bool,
    compacted: Option<Time>,
    /// Why it was not, the last time.
    not_compacted: Option<String>,
    /// See [`QuorumLimits::forgotten`].
    forgotten: BTreeSet<u64>,
    /// When all members were, and how often since the space ran out.
    all_forgotten: (Option<Time>, u32),
    /// Whether making room failed the last time: something else gets its turn.
    room_failed: bool,
    /// What failed last, so that it is said once.
    failed: Option<String>,
}

impl Memory {
    /// History was forgotten. Whether that is worth making files smaller cannot be seen, so it is tried more and more rarely.
    fn all_are_forgotten(&mut self, members: &KvMembers, now: Time) {
        let (before, times) = self.all_forgotten;
        let pause = COMPACT_INTERVAL * (1 << times.saturating_sub(1).min(DOUBLINGS_MAX));
        if before.is_none_or(|before| now.since(before) >= pause) {
            self.forgotten = members.all().map(|member| member.id).collect();
            self.all_forgotten = (Some(now), times + 1);
        }
    }

    fn note_silent(&mut self, members: &KvMembers, now: Time) {
        let silent = members.all().filter(|member| member.problem.is_some());
        let silent: BTreeSet<u64> = silent.map(|member| member.id).collect();
        self.silent.retain(|id, _| silent.contains(id));
        for id in silent {
            self.silent.entry(id).or_insert(now);
        }
    }
}

/// What this node has announced.
#[derive(Default)]
struct Announced {
    row: Option<SeatRow>,
    /// When it was seen last that it is there.
    seen: Option<Time>,
}

/// What a look may lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Any step: this node leads.
    All,
    /// Room for an etcd that has none.
    Room,
}

/// Announces the seat, and plans while this node leads.
pub(crate) async fn run(host: Rc<Host>) {
    let Some(keeper) = host.options.keeper.clone() else {
        return;
    };
    let mut memory = Memory::default();
    let mut announced = Announced::default();
    loop {
        host.world.sleep(INTERVAL).await;
        if let Err(error) = announce(&host, &*keeper, &mut announced).await {
            tracing::debug!(%error, "the seat is announced later");
        }
        // An etcd without space takes no word of who leads: whoever sees that gives it room, which harms nothing done twice.
        let part = match host.leads().await {
            Ok(true) => Part::All,
            Ok(false) => {
                memory = Memory::default();
                continue;
            }
            Err(_) => Part::Room,
        };
        if let Err(reason) = look(&host, &*keeper, &mut memory, part).await {
            tracing::debug!(reason, "the members of etcd are looked at later");
        }
    }
}

/// Writes the row of this node's seat when it has changed, and that of the etcd that this node has founded.
async fn announce(
    host: &Host,
    keeper: &dyn Keeper,
    announced: &mut Announced,
) -> Result<(), CatalogError> {
    let (key, now) = (SeatRow::key_of(host.id()), host.world.now());
    let due = announced
        .seen
        .is_none_or(|at| now.since(at) >= SEEN_AGE_MAX);
    let Some(facts) = keeper.seat() else {
        if due && host.catalog.read::<SeatRow>(&key).await?.is_some() {
            host.catalog
                .commit(Transaction::new().free_name(key))
                .await?;
        }
        announced.seen = Some(now);
        return Ok(());
    };
    let (member, lost) = match facts.holding {
        Holding::Nothing => (None, false),
        Holding::Member(id) => (Some(id), false),
        Holding::Lost(id) => (Some(id), true),
    };
    let row = SeatRow {
        id: host.id(),
        client: facts.client,
        peer: facts.peer,
        member,
        lost,
        problem: facts.problem,
        quota: facts.quota,
    };
    // The catalog may have been made anew under a node that runs.
    let told = announced.row.as_ref() == Some(&row)
        && (!due || host.catalog.read::<SeatRow>(&key).await?.is_some());
    if due {
        announced.seen = Some(now);
    }
    if !told {
        host.catalog.commit(Transaction::new().put(&row)).await?;
        announced.row = Some(row);
    }
    if let Some(cluster) = keeper.founded() {
        let own = EtcdRow { cluster };
        if host.upkeep.own_etcd.get() != cluster {
            host.catalog.commit(Transaction::new().put(&own)).await?;
            host.upkeep.own_etcd.set(cluster);
        }
    }
    Ok(())
}

impl Host {
    /// Whether the etcd with this id is the cluster's own: its nodes change the members of no other.
    ///
    /// # Errors
    /// For people, when the catalog fails.
    pub async fn is_own_etcd(&self, cluster: u64) -> Result<bool, String> {
        if cluster == 0 || self.upkeep.own_etcd.get() == cluster {
            return Ok(cluster != 0);
        }
        // One that was full as soon as it was founded has no row that says so.
        let keeper = self.options.keeper.as_ref();
        if keeper.and_then(|keeper| keeper.founded()) == Some(cluster) {
            return Ok(true);
        }
        let row = self.catalog.read::<EtcdRow>("etcd").await;
        let row = row.map_err(|error| error.to_string())?;
        let own = row.is_some_and(|found| found.row.cluster == cluster);
        if own {
            self.upkeep.own_etcd.set(cluster);
        }
        Ok(own)
    }

    /// The rows of all seats.
    pub(crate) async fn seat_rows(&self) -> Result<Vec<SeatRow>, CatalogError> {
        let rows = self.catalog.list::<SeatRow>().await?;
        Ok(rows.into_iter().map(|found| found.row).collect())
    }

    /// What is to be thought of a node, or nothing: it takes no part.
    fn tenant(&self, node: NodeId) -> Option<Tenant> {
        let now_ms = self.world.clock.unix_ms();
        let subject = catalog::Subject::Node(node);
        let (known, candidate, draining, excused) = self.members.look(|view| {
            let intent = view.intents.get(&subject);
            (
                view.nodes.contains_key(&node),
                view.is_candidate(node),
                view.node_drains(node),
                intent.is_some_and(|intent| intent.maintenance_until_ms > now_ms),
            )
        });
        let gone = self.members.gone_for(node);
        match gone {
            _ if !known || candidate => None,
            Some(gone) if gone >= self.options.repair_delay && !excused => Some(Tenant::Lost),
            Some(_) => Some(Tenant::Away),
            None if draining => Some(Tenant::Draining),
            None => Some(Tenant::Present),
        }
    }
}

fn seat_of(host: &Host, row: SeatRow) -> Option<Seat> {
    let tenant = host.tenant(row.id)?;
    let domains = host.members.look(|view| {
        let mut stores = view.stores.values();
        let store = stores.find(|store| store.node == row.id);
        store.map(|store| store.domains.clone()).unwrap_or_default()
    });
    let holding = match (row.member, row.lost) {
        (None, _) => Holding::Nothing,
        (Some(id), false) => Holding::Member(id),
        (Some(id), true) => Holding::Lost(id),
    };
    Some(Seat {
        node: row.id,
        domains,
        peer: row.peer,
        tenant,
        holding,
        usable: row.problem.is_none(),
    })
}

async fn look(
    host: &Host,
    keeper: &dyn Keeper,
    memory: &mut Memory,
    part: Part,
) -> Result<(), String> {
    let members = host.catalog.kv().members().await;
    let members = members.map_err(|error| error.to_string())?;
    if part == Part::Room && !is_closed(&members) {
        return Ok(());
    }
    if members.embedded || !host.is_own_etcd(members.cluster).await? {
        return Ok(());
    }
    let now = host.world.now();
    memory.note_silent(&members, now);
    if make_room(host, keeper, &members, memory).await {
        // etcd removes what it forgot in the background: what members say is of before.
        return Ok(());
    }
    let rows = host.seat_rows().await.map_err(|error| error.to_string())?;
    let own = keeper.seat().map(|seat| seat.quota);
    let quotas = rows.iter().map(|row| row.quota).chain(own);
    let quota = quotas.min().unwrap_or(u64::MAX);
    let seats: Vec<Seat> = rows
        .into_iter()
        .filter_map(|row| seat_of(host, row))
        .collect();
    let silent = memory.silent.iter();
    let silent = silent.map(|(id, since)| (*id, now.since(*since))).collect();
    let limits = QuorumLimits {
        silence: host.options.repair_delay,
        silence_alive: host.options.repair_delay * ALIVE_FACTOR,
        quota,
        forgotten: memory.forgotten.clone(),
        room_first: part == Part::Room || !memory.room_failed,
    };
    let Some(step) = curator::plan_member(&seats, &members, &silent, &limits) else {
        return Ok(());
    };
    let gives_room = matches!(
        step,
        QuorumStep::Defragment { .. } | QuorumStep::Disarm { .. }
    );
    // What was planned took time: another node may lead by now.
    let goes_on = match part {
        Part::All => matches!(host.leads().await, Ok(true)),
        Part::Room => gives_room,
    };
    if !goes_on {
        return Ok(());
    }
    if let QuorumStep::Defragment { member } = &step {
        memory.forgotten.remove(member);
    }
    let done = keeper.carry_out(step.clone(), members.clone()).await;
    memory.room_failed = gives_room && done.is_err();
    if let Err(reason) = &done {
        // A promotion that is too early, or a cluster that is just changing: the next look tries again.
        if memory.failed.as_ref() != Some(reason) {
            tracing::info!(?step, reason, "etcd's members are not changed yet");
        }
    } else {
        tracing::info!(?step, "etcd's members change");
        tell(host, &step, &members);
    }
    memory.failed = done.err();
    Ok(())
}

/// An etcd that warns of too little space forgets its history; what that frees is given back by the plan.
/// Whether it did so now.
async fn make_room(
    host: &Host,
    keeper: &dyn Keeper,
    members: &KvMembers,
    memory: &mut Memory,
) -> bool {
    let warned = members.all().find(|member| has_no_space(member));
    let Some(warned) = warned else {
        memory.warned = false;
        memory.compacted = None;
        memory.all_forgotten = (None, 0);
        memory.room_failed = false;
        memory.forgotten.clear();
        return false;
    };
    if !memory.warned {
        let name = &warned.name;
        let message = format!("etcd's member {name} has filled its space and takes no writes");
        let told = Told::new(Severity::Critical, "catalog-full", "cluster", message);
        host.tell(told.remedy("nothing, if history can be forgotten; else raise `quota` in [etcd] and restart the nodes"));
        memory.warned = true;
    }
    let now = host.world.now();
    let since = memory.compacted.map(|at| now.since(at));
    if since.is_some_and(|since| since < COMPACT_INTERVAL) {
        return false;
    }
    let failed = keeper.compact().await.err();
    if failed.is_none() {
        memory.compacted = Some(now);
        memory.all_are_forgotten(members, now);
    } else if failed != memory.not_compacted {
        tracing::warn!(reason = failed, "etcd's history is not forgotten yet");
    }
    let done = failed.is_none();
    memory.not_compacted = failed;
    done
}

fn tell(host: &Host, step: &QuorumStep, members: &KvMembers) {
    let name = |id: u64| {
        let mut all = members.all();
        let member = all.find(|member| member.id == id);
        member.map_or_else(|| format!("{id:x}"), |member| member.name.clone())
    };
    let (kind, message) = match step {
        QuorumStep::Add { peer } => ("etcd-add", format!("etcd gets a member at {peer}")),
        QuorumStep::Promote { member } => (
            "etcd-promote",
            format!("etcd's member {} has caught up and votes", name(*member)),
        ),
        QuorumStep::Remove { member } => (
            "etcd-remove",
            format!("{} is no member of etcd any more", name(*member)),
        ),
        QuorumStep::Readdress { member, peer } => (
            "etcd-readdress",
            format!("etcd's member {} is reached at {peer}", name(*member)),
        ),
        QuorumStep::Defragment { .. } => return,
        QuorumStep::Disarm { member } if members.strays.contains(member) => (
            "catalog-room",
            format!(
                "etcd takes writes again: its member {}, which was removed, had filled its space",
                name(*member)
            ),
        ),
        QuorumStep::Disarm { member } => (
            "catalog-room",
            format!(
                "etcd's member {} has room and takes writes again",
                name(*member)
            ),
        ),
    };
    host.tell(Told::new(Severity::Info, kind, "cluster", message));
}
