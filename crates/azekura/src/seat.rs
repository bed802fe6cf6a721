//! The seat of this node: the member of the cluster's own etcd that it runs, or could run. Decision 29.
//!
//! State on disk: `etcd.json` in the node's folder (docs/formats/node-state.md), and the member's data.
//!
//! Invariants
//! - A member is kept before its process starts. One whose data is gone is never started again.
//! - An empty etcd is founded by [`Seat::found`] only, for a move or a rebuild of the catalog.
//! - Data is moved aside, never removed.
//!
//! Read next: `process.rs`, `follow.rs`, `room.rs`, `curator::quorum`, `node::upkeep`.

mod follow;
mod process;
mod room;

pub use follow::follow;

use crate::config::etcd::{SeatConfig, host_of};
use crate::config::{CatalogConfig, Config};
use crate::kept::{self, KeptEtcd, KeptMember, VERSION};
use ::node::{Keeper, SeatFacts};
use anyhow::{Context, bail};
use catalog::ClusterRow;
use catalog::kv::{Kv, KvError, KvMembers};
use catalog_kv::etcd::{EtcdChange, EtcdKv};
use curator::{Holding, QuorumStep};
use process::{Launch, Process, Version, has_data, version_of};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use world::{LocalBoxFuture, World};

/// Patience with an etcd that begins.
const FOUND_PATIENCE: Duration = Duration::from_secs(30);
/// Patience with the catalog of a node that has lost its member's data.
const LOST_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks, and how many of them between two words about it.
const PAUSE: Duration = Duration::from_millis(500);
const LOOKS_PER_WORD: u32 = 20;

/// See the module's documentation.
#[derive(Clone)]
pub struct Seat(Rc<Inner>);

struct Inner {
    world: World,
    node: String,
    state: PathBuf,
    config: Option<SeatConfig>,
    /// The program's version, or why there is none.
    version: Option<Result<Version, String>>,
    /// The folder with this node's certificate.
    credentials: Option<PathBuf>,
    /// Endpoints that the configuration names, or a catalog that has moved.
    configured: RefCell<Vec<String>>,
    kept: RefCell<KeptEtcd>,
    process: RefCell<Option<Process>>,
    client: RefCell<Option<EtcdKv>>,
    /// Looks at a list without the member that was begun here.
    missed: Cell<u32>,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.0.kept).finish()
    }
}

fn now_ms(world: &World) -> u64 {
    world.clock.unix_ms()
}

/// Moves what is at a path out of the way.
fn move_aside(path: &Path, mark: u64) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".aside-{mark}"));
    let aside = PathBuf::from(aside);
    std::fs::rename(path, &aside)
        .with_context(|| format!("cannot move {} aside", path.display()))?;
    tracing::warn!(from = %path.display(), to = %aside.display(), "what was there was moved aside");
    Ok(())
}

impl Seat {
    /// The seat of a node that starts. Its member is started when it has one and the catalog is, or may be, there.
    ///
    /// # Errors
    /// When what is kept cannot be read, or a member cannot be started although it has data.
    pub fn open(world: &World, config: &Config) -> anyhow::Result<Self> {
        let seat = Self::new(world, config)?;
        let moving = kept::catalog(&config.state)?.is_some();
        if moving || matches!(config.catalog, CatalogConfig::Etcd { .. }) {
            seat.resume()?;
        }
        Ok(seat)
    }

    /// Starts the member, if there is one with data.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn resume(&self) -> anyhow::Result<()> {
        match self.holding() {
            Holding::Member(_) => self.start(false),
            Holding::Lost(_) | Holding::Nothing => Ok(()),
        }
    }

    /// The seat of a node that does not run.
    ///
    /// # Errors
    /// When what is kept cannot be read.
    pub fn new(world: &World, config: &Config) -> anyhow::Result<Self> {
        let kept = kept::etcd(&config.state)?.unwrap_or_default();
        let version = config
            .seat
            .as_ref()
            .map(|seat| version_of(&seat.program).map_err(|error| format!("{error:#}")));
        Ok(Self(Rc::new(Inner {
            world: world.clone(),
            node: config.node.clone(),
            state: config.state.clone(),
            config: config.seat.clone(),
            version,
            credentials: config.tls.as_ref().map(|tls| tls.credentials.clone()),
            configured: RefCell::new(config.endpoints.clone()),
            kept: RefCell::new(kept),
            process: RefCell::default(),
            client: RefCell::default(),
            missed: Cell::new(0),
        })))
    }

    /// The client to use from now on.
    pub fn use_client(&self, client: Option<EtcdKv>) {
        self.0.client.replace(client);
    }

    fn client(&self) -> Option<EtcdKv> {
        self.0.client.borrow().clone()
    }

    /// Addresses of the members that are used now.
    pub fn endpoints(&self) -> Option<Vec<String>> {
        self.client().map(|kv| kv.endpoints())
    }

    /// Whether the catalog of a configuration is in an etcd of the cluster's own, as far as this node knows.
    pub fn knows_own_etcd(&self) -> bool {
        let configured = self.0.configured.borrow();
        let own = self
            .urls()
            .is_some_and(|(client, _)| configured.contains(&client));
        own || self.0.kept.borrow().cluster != 0
    }

    /// Whether this node has begun an etcd of its own.
    pub fn has_founded(&self) -> bool {
        let kept = self.0.kept.borrow();
        kept.member.as_ref().is_some_and(|member| member.founded)
    }

    fn url(&self, address: &str) -> String {
        let scheme = if self.0.credentials.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{address}")
    }

    /// URLs for clients and for other members.
    fn urls(&self) -> Option<(String, String)> {
        let config = self.0.config.as_ref()?;
        Some((self.url(&config.client), self.url(&config.peer)))
    }

    /// Addresses and host names that this node's certificate must carry.
    pub fn hosts(&self) -> Vec<String> {
        let Some(config) = &self.0.config else {
            return Vec::new();
        };
        let mut hosts = [&config.client, &config.peer].map(|address| host_of(address).to_owned());
        hosts.sort();
        let mut hosts = hosts.to_vec();
        hosts.dedup();
        hosts
    }

    fn holding(&self) -> Holding {
        let kept = self.0.kept.borrow();
        match (&kept.member, &self.0.config) {
            (Some(member), Some(config)) if has_data(&config.data) => Holding::Member(member.id),
            (Some(member), _) => Holding::Lost(member.id),
            (None, _) => Holding::Nothing,
        }
    }

    /// Why no member would run here.
    fn problem(&self) -> Option<String> {
        if let Some(Err(reason)) = &self.0.version {
            return Some(reason.clone());
        }
        let process = self.0.process.borrow();
        process.as_ref().and_then(Process::problem)
    }

    fn keep(&self, kept: KeptEtcd) -> anyhow::Result<()> {
        let kept = KeptEtcd {
            version: VERSION,
            instead_of: self.0.configured.borrow().clone(),
            ..kept
        };
        kept::keep_etcd(&self.0.state, &kept)?;
        self.0.kept.replace(kept);
        Ok(())
    }

    /// Starts the process of the member that is kept.
    fn start(&self, fresh: bool) -> anyhow::Result<()> {
        let config = self.0.config.clone().context(
            "this node has run a member of the cluster's etcd, and its configuration has no [etcd] any more: put it back, \
             or drain the node first",
        )?;
        let version = match self.0.version.clone() {
            Some(Ok(version)) => version,
            Some(Err(reason)) => bail!("{reason}"),
            None => bail!("there is no program"),
        };
        let member = self.0.kept.borrow().member.clone();
        let member = member.context("no member was begun here")?;
        let tls = self.0.credentials.as_ref().map(|folder| {
            let file = |name: &str| folder.join(name);
            (
                file(identity::IDENTITY_FILE),
                file(identity::AUTHORITIES_FILE),
            )
        });
        let launch = Launch {
            program: config.program,
            version,
            data: config.data,
            name: self.0.node.clone(),
            client: self.url(&config.client),
            peer: self.url(&config.peer),
            bind: config.bind,
            quota: config.quota,
            tls,
            initial: member.initial,
            existing: !member.founded,
            token: member.token,
        };
        self.0.process.replace(Some(Process::start(launch, fresh)?));
        Ok(())
    }

    /// Keeps a member and starts it on an empty folder.
    fn begin(&self, member: KeptMember) -> anyhow::Result<()> {
        let config = self
            .0
            .config
            .as_ref()
            .context("there is no [etcd] in the configuration")?;
        if let Some(Err(reason)) = &self.0.version {
            bail!("{reason}");
        }
        self.stop();
        move_aside(&config.data, now_ms(&self.0.world))?;
        let kept = self.0.kept.borrow().clone();
        self.keep(KeptEtcd {
            member: Some(member),
            ..kept
        })?;
        self.start(true)
    }

    /// Ends the process, if there is one.
    pub fn stop(&self) {
        drop(self.0.process.take());
    }

    /// Has a process that runs read its files again.
    fn restart(&self) {
        if let Some(process) = &*self.0.process.borrow() {
            process.restart();
        }
    }

    /// The member that was begun here is none any more. Its data may be that of an etcd of before a rebuild, which somebody
    /// may still want to look into.
    fn forget(&self) -> anyhow::Result<()> {
        self.stop();
        let kept = self.0.kept.borrow().clone();
        if let (Some(config), Some(_)) = (&self.0.config, &kept.member) {
            // First the data: what is left of the member then is that it has lost it.
            move_aside(&config.data, now_ms(&self.0.world))?;
        }
        self.keep(KeptEtcd {
            member: None,
            ..kept
        })
    }

    /// Begins an etcd of one member, empty, for a catalog that is moved or made anew. Returns its address for clients.
    ///
    /// # Errors
    /// For people; nothing of it is left then.
    pub async fn found(
        &self,
        open: impl Fn(&str) -> anyhow::Result<EtcdKv>,
    ) -> anyhow::Result<(String, EtcdKv)> {
        let (client, peer) = self.urls().context(
            "this node has no seat for a member: write a table [etcd] into its configuration (docs/operating/catalog.md)",
        )?;
        let member = KeptMember {
            id: 0,
            initial: format!("{}={peer}", self.0.node),
            token: format!("azekura-{:016x}", self.0.world.rng.next_u64()),
            founded: true,
        };
        if self.0.configured.borrow().is_empty() {
            self.0.configured.replace(vec![client.clone()]);
        }
        let begun = async {
            self.begin(member)?;
            let kv = open(&client)?;
            let members = self.first_answer(&kv).await?;
            self.learn_founded(&members, &client)?;
            Ok((client.clone(), kv))
        };
        let begun: anyhow::Result<_> = begun.await;
        if begun.is_err() {
            self.abandon();
        }
        begun
    }

    /// Waits until the only member leads.
    async fn first_answer(&self, kv: &EtcdKv) -> anyhow::Result<KvMembers> {
        let deadline = self.0.world.now() + FOUND_PATIENCE;
        loop {
            let reason = match kv.members().await {
                Ok(members) if members.members.iter().any(|member| member.leads) => {
                    return Ok(members);
                }
                Ok(_) => "it has no leader".to_owned(),
                Err(error) => error.to_string(),
            };
            if self.0.world.now() >= deadline {
                let problem = self.problem().unwrap_or(reason);
                bail!("the new etcd does not answer: {problem}");
            }
            self.0.world.sleep(PAUSE).await;
        }
    }

    fn learn_founded(&self, members: &KvMembers, client: &str) -> anyhow::Result<()> {
        let mut kept = self.0.kept.borrow().clone();
        let id = members.members.first().map_or(0, |member| member.id);
        if let Some(member) = &mut kept.member {
            member.id = id;
        }
        kept.cluster = members.cluster;
        kept.endpoints = vec![client.to_owned()];
        self.keep(kept)
    }

    /// What was founded came to nothing.
    pub fn abandon(&self) {
        if let Err(error) = self.forget() {
            tracing::warn!(
                error = format!("{error:#}"),
                "an etcd that came to nothing is left"
            );
        }
        let undone = KeptEtcd::default();
        if let Err(error) = self.keep(undone) {
            tracing::warn!(
                error = format!("{error:#}"),
                "an etcd that came to nothing is still noted"
            );
        }
    }

    /// Waits until the catalog in this etcd answers and takes writes, for as long as this node's own member may be needed for that, and makes
    /// sure that it is the catalog that this node has used before, or one that was made of it.
    ///
    /// # Errors
    /// When this node's member has lost its data and nobody else answers, or an older catalog does.
    pub async fn wait_for(&self, kv: &EtcdKv) -> anyhow::Result<()> {
        let known = self.0.kept.borrow().clone();
        if known.cluster == 0 && known.member.is_none() {
            return Ok(());
        }
        let holding = self.holding();
        let began = self.0.world.now();
        let mut looks: u32 = 0;
        loop {
            let reason = match self.newest(kv).await {
                Ok(Some((cluster, era))) => {
                    self.adopt(kv, cluster, era)?;
                    self.wait_for_room(kv).await;
                    return Ok(());
                }
                Ok(None) => "no member answers that has a majority".to_owned(),
                Err(error) => error.to_string(),
            };
            let waited = self.0.world.now().since(began);
            if !matches!(holding, Holding::Member(_)) && waited >= LOST_PATIENCE {
                return Err(self.nobody_answers(holding, &reason));
            }
            looks += 1;
            if looks.is_multiple_of(LOOKS_PER_WORD) {
                let problem = self.problem().unwrap_or_default();
                tracing::warn!(
                    reason,
                    problem,
                    "waiting for a majority of etcd's members; if their data is lost for good: stop all nodes, then \
                     `azekura catalog rebuild`"
                );
            }
            self.0.world.sleep(PAUSE).await;
        }
    }

    fn nobody_answers(&self, holding: Holding, reason: &str) -> anyhow::Error {
        let data = self
            .0
            .config
            .as_ref()
            .map(|config| config.data.display().to_string());
        let own = match holding {
            Holding::Lost(_) => format!(
                "the data of this node's member of etcd ({}) is gone, and ",
                data.unwrap_or_default()
            ),
            _ => String::new(),
        };
        anyhow::anyhow!(
            "{own}no majority of the cluster's etcd answers at {} ({reason}). Start the nodes that run its other members. \
             If their data is lost, too, the catalog is made anew from the disks: stop all nodes, then `azekura catalog \
             rebuild --config FILE` (docs/operating/catalog.md). An empty etcd is never begun by a start",
            self.client()
                .map(|kv| kv.endpoints().join(", "))
                .unwrap_or_default()
        )
    }

    /// The cluster of etcd among those that answer with a majority whose catalog was made last, and how often it was made.
    async fn newest(&self, kv: &EtcdKv) -> Result<Option<(u64, u64)>, KvError> {
        let mut newest: Option<(u64, u64)> = None;
        let mut failed = None;
        for cluster in kv.clusters().await? {
            kv.expect_cluster(cluster);
            let row = match kv.get("cluster").await {
                Ok(row) => row,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            let row = row.and_then(|entry| serde_json::from_slice::<ClusterRow>(&entry.value).ok());
            let era = row.map_or(0, |row| row.era);
            if newest.is_none_or(|(_, best)| era > best) {
                newest = Some((cluster, era));
            }
        }
        kv.expect_cluster(0);
        match (newest, failed) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    fn adopt(&self, kv: &EtcdKv, cluster: u64, era: u64) -> anyhow::Result<()> {
        let known = self.0.kept.borrow().clone();
        if known.cluster != 0 && known.cluster != cluster && era <= known.era {
            bail!(
                "another etcd answers ({cluster:x}, this node's is {:x}), and its catalog is no newer than the one that \
                 this node has used: check the endpoints in [catalog]",
                known.cluster
            );
        }
        kv.expect_cluster(cluster);
        if (known.cluster, known.era) != (cluster, era) {
            self.keep(KeptEtcd {
                cluster,
                era,
                ..known
            })?;
        }
        Ok(())
    }

    async fn carry_out(&self, step: QuorumStep, members: KvMembers) -> Result<(), String> {
        let kv = self.client().ok_or("the catalog is in no etcd")?;
        let change = match step {
            QuorumStep::Add { peer } => EtcdChange::Add { peer },
            QuorumStep::Promote { member } => EtcdChange::Promote { member },
            QuorumStep::Remove { member } => EtcdChange::Remove { member },
            QuorumStep::Readdress { member, peer } => EtcdChange::Readdress { member, peer },
            QuorumStep::Disarm { member } => EtcdChange::Disarm { member },
            QuorumStep::Defragment { member } => {
                let client = members
                    .all()
                    .find(|one| one.id == member)
                    .and_then(|one| one.clients.first().cloned());
                let client = client.ok_or("the member tells nobody its address")?;
                EtcdChange::Defragment { client }
            }
        };
        kv.change(change).await.map_err(|error| error.to_string())
    }

    /// Forgets etcd's history up to now.
    async fn compact(&self) -> Result<(), String> {
        let kv = self.client().ok_or("the catalog is in no etcd")?;
        let compacted = async {
            let now = kv.status().await?.revision;
            kv.compact(now).await
        };
        compacted.await.map_err(|error| error.to_string())
    }
}

impl Keeper for Seat {
    fn seat(&self) -> Option<SeatFacts> {
        let (client, peer) = self.urls()?;
        let config = self.0.config.as_ref()?;
        Some(SeatFacts {
            client,
            peer,
            holding: self.holding(),
            problem: self.problem(),
            quota: config.quota,
        })
    }

    fn founded(&self) -> Option<u64> {
        let kept = self.0.kept.borrow();
        let founded = kept.member.as_ref().is_some_and(|member| member.founded);
        (founded && kept.cluster != 0).then_some(kept.cluster)
    }

    fn carry_out(
        &self,
        step: QuorumStep,
        members: KvMembers,
    ) -> LocalBoxFuture<'static, Result<(), String>> {
        let seat = self.clone();
        Box::pin(async move { Self::carry_out(&seat, step, members).await })
    }

    fn compact(&self) -> LocalBoxFuture<'static, Result<(), String>> {
        let seat = self.clone();
        Box::pin(async move { Self::compact(&seat).await })
    }
}
