//! Who is in the cluster: this node's own rows and lease, and a view of everybody else's that follows the
//! catalog.
//!
//! Invariants
//! - The alive row exists only under this node's lease; nobody else's alive row is ever overwritten.
//! - The view is what the catalog said last. While the catalog is out of reach it stays as it was: nothing
//!   is concluded from silence of the catalog.

use crate::host::Host;
use crate::options::{HostError, HostOptions, bug};
use catalog::kv::{Kv, KvError, LeaseId, Revision};
use catalog::{
    AliveRow, Announced, Catalog, CatalogError, ClusterRow, ContainerRow, GroupRow, IntentRow,
    NodeRow, Row, SpaceRow, StoreRow, Subject, Transaction,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{ContainerId, GroupId, Level, Levels, NodeId, StoreId};
use world::sync::Notify;
use world::{Duration, Time, World};

/// Patience with one call to the catalog.
pub(crate) const CATALOG_PATIENCE: Duration = Duration::from_secs(5);
/// Everything is read again after so long, should a watch have been lost unnoticed.
pub(crate) const RELOAD_AFTER: Duration = Duration::from_secs(10);
/// Pause after a failed look at the catalog.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Pause before a node that is out looks again whether it may take part.
const OUT_PAUSE: Duration = Duration::from_secs(10);
/// Rows of one range call.
const PAGE_ROWS: usize = 500;

/// The cluster as this node last heard of it.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Nodes, running or not.
    pub nodes: BTreeMap<NodeId, NodeRow>,
    /// Nodes that hold a lease.
    pub alive: BTreeMap<NodeId, AliveRow>,
    /// Stores, running or not.
    pub stores: BTreeMap<StoreId, StoreRow>,
    /// Placement groups.
    pub groups: BTreeMap<GroupId, GroupRow>,
    /// Containers.
    pub containers: BTreeMap<ContainerId, ContainerRow>,
    /// What operators want of nodes and stores.
    pub intents: BTreeMap<Subject, IntentRow>,
    /// How full the cluster is, as its nodes act on it.
    pub space: SpaceRow,
}

impl ClusterView {
    /// Whether everything shall move away from a store.
    #[must_use]
    pub fn drains(&self, store: &StoreRow) -> bool {
        let subjects = [Subject::Store(store.id), Subject::Node(store.node)];
        let mut intents = subjects
            .iter()
            .filter_map(|subject| self.intents.get(subject));
        intents.any(|intent| intent.draining)
    }

    /// Whether a node has joined and waits to be approved.
    #[must_use]
    pub fn is_candidate(&self, node: NodeId) -> bool {
        let intent = self.intents.get(&Subject::Node(node));
        intent.is_some_and(|intent| intent.candidate)
    }

    /// Whether volumes may come to a node.
    #[must_use]
    pub fn takes_volumes(&self, node: NodeId) -> bool {
        !self.node_drains(node) && !self.is_candidate(node)
    }

    /// Whether everything shall move away from a node.
    #[must_use]
    pub fn node_drains(&self, node: NodeId) -> bool {
        let intent = self.intents.get(&Subject::Node(node));
        intent.is_some_and(|intent| intent.draining)
    }
}

/// Which part of the view changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Nodes,
    Alive,
    Stores,
    Groups,
    Containers,
    Intents,
    Space,
}

/// The view, and when nodes were first seen without a lease.
pub(crate) struct Members {
    world: World,
    view: RefCell<ClusterView>,
    gone_since: RefCell<BTreeMap<NodeId, Time>>,
    /// Notified after every change of the view.
    pub(crate) changed: Notify,
}

impl Members {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world,
            view: RefCell::default(),
            gone_since: RefCell::default(),
            changed: Notify::default(),
        }
    }

    /// Reads from the view. `look` must not call back into the node.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&ClusterView) -> T) -> T {
        look(&self.view.borrow())
    }

    /// Whether a node holds its lease, as far as known.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.view.borrow().alive.contains_key(&node)
    }

    /// Whether a node can serve what its rows say: it holds its lease and takes part.
    pub(crate) fn serves(&self, node: NodeId) -> bool {
        self.look(|view| view.alive.contains_key(&node) && !view.is_candidate(node))
    }

    /// How long a node has been without a lease; `None` while it has one.
    pub(crate) fn gone_for(&self, node: NodeId) -> Option<Duration> {
        if self.is_alive(node) {
            return None;
        }
        let now = self.world.now();
        let since = *self.gone_since.borrow_mut().entry(node).or_insert(now);
        Some(now.since(since))
    }

    /// Name of a node for people.
    pub(crate) fn node_name(&self, node: NodeId) -> String {
        let view = self.view.borrow();
        view.nodes
            .get(&node)
            .map_or_else(|| node.to_string(), |row| row.name.clone())
    }

    fn set_alive(&self, rows: Vec<AliveRow>) -> bool {
        let now = self.world.now();
        let alive: BTreeMap<NodeId, AliveRow> = rows.into_iter().map(|row| (row.id, row)).collect();
        let mut view = self.view.borrow_mut();
        let mut gone = self.gone_since.borrow_mut();
        gone.retain(|node, _| !alive.contains_key(node));
        for &node in view.nodes.keys().filter(|node| !alive.contains_key(node)) {
            gone.entry(node).or_insert(now);
        }
        std::mem::replace(&mut view.alive, alive.clone()) != alive
    }

    /// Takes over one part as the catalog has it; whether it differs from before.
    async fn load(&self, catalog: &Catalog, part: Part) -> Result<(bool, Revision), CatalogError> {
        let kv = catalog.kv();
        match part {
            Part::Nodes => {
                let (rows, revision) = list::<NodeRow>(kv).await?;
                let rows = rows.into_iter().map(|row| (row.id, row)).collect();
                Ok((self.replace(|view| &mut view.nodes, rows), revision))
            }
            Part::Alive => {
                let (rows, revision) = list::<AliveRow>(kv).await?;
                Ok((self.set_alive(rows), revision))
            }
            Part::Stores => {
                let (rows, revision) = list::<StoreRow>(kv).await?;
                let rows = rows.into_iter().map(|row| (row.id, row)).collect();
                Ok((self.replace(|view| &mut view.stores, rows), revision))
            }
            Part::Groups => {
                let (rows, revision) = list::<GroupRow>(kv).await?;
                let rows = rows.into_iter().map(|row| (row.id, row)).collect();
                Ok((self.replace(|view| &mut view.groups, rows), revision))
            }
            Part::Containers => {
                let (rows, revision) = list::<ContainerRow>(kv).await?;
                let rows = rows.into_iter().map(|row| (row.id, row)).collect();
                Ok((self.replace(|view| &mut view.containers, rows), revision))
            }
            Part::Intents => {
                let (rows, revision) = list::<IntentRow>(kv).await?;
                let rows = rows.into_iter().map(|row| (row.subject, row)).collect();
                Ok((self.replace(|view| &mut view.intents, rows), revision))
            }
            Part::Space => {
                let (rows, revision) = list::<SpaceRow>(kv).await?;
                let row = rows.into_iter().next().unwrap_or_default();
                Ok((self.replace(|view| &mut view.space, row), revision))
            }
        }
    }

    fn replace<T: PartialEq>(
        &self,
        part: impl FnOnce(&mut ClusterView) -> &mut T,
        rows: T,
    ) -> bool {
        let mut view = self.view.borrow_mut();
        let part = part(&mut view);
        let changed = *part != rows;
        *part = rows;
        changed
    }
}

/// All rows of a kind, and a revision from which a watch misses nothing that they lack.
pub(crate) async fn list<T: Row>(kv: &Rc<dyn Kv>) -> Result<(Vec<T>, Revision), CatalogError> {
    let mut rows = Vec::new();
    let (mut after, mut revision) = (None::<String>, None);
    loop {
        let page = kv.range(T::PREFIX, after.as_deref(), PAGE_ROWS).await?;
        let first = *revision.get_or_insert(page.revision);
        for entry in &page.entries {
            let row = serde_json::from_slice(&entry.value);
            rows.push(row.map_err(|error| CatalogError::Damaged {
                key: entry.key.clone(),
                reason: error.to_string(),
            })?);
        }
        match page.entries.last() {
            Some(last) if page.more => after = Some(last.key.clone()),
            _ => return Ok((rows, first)),
        }
    }
}

const PARTS: [(Part, &str); 7] = [
    (Part::Nodes, NodeRow::PREFIX),
    (Part::Alive, AliveRow::PREFIX),
    (Part::Stores, StoreRow::PREFIX),
    (Part::Groups, GroupRow::PREFIX),
    (Part::Containers, ContainerRow::PREFIX),
    (Part::Intents, IntentRow::PREFIX),
    (Part::Space, SpaceRow::PREFIX),
];

/// Reads every part once, then keeps following them in the background.
pub(crate) async fn follow_all(host: &Rc<Host>) -> Result<(), CatalogError> {
    for (part, prefix) in PARTS {
        let (_, revision) = host.members.load(&host.catalog, part).await?;
        host.on_view_changed(part);
        host.spawn(follow(host.clone(), part, prefix, revision));
    }
    Ok(())
}

/// Reads parts again at once: after this node changed them itself.
pub(crate) async fn refresh(host: &Host, parts: &[Part]) -> Result<(), CatalogError> {
    for &part in parts {
        if host.members.load(&host.catalog, part).await?.0 {
            host.on_view_changed(part);
        }
    }
    Ok(())
}

async fn follow(host: Rc<Host>, part: Part, prefix: &'static str, mut revision: Revision) {
    loop {
        let mut watch = host.catalog.kv().watch(prefix, revision);
        loop {
            let next = host.world.timeout(RELOAD_AFTER, watch.next()).await;
            let compacted = matches!(next, Ok(Err(_)));
            let look = host.members.load(&host.catalog, part);
            match host.world.timeout(CATALOG_PATIENCE, look).await {
                Ok(Ok((changed, seen))) => {
                    revision = seen;
                    if changed {
                        host.on_view_changed(part);
                    }
                }
                Ok(Err(_)) | Err(_) => host.world.sleep(RETRY_PAUSE).await,
            }
            if compacted {
                break;
            }
        }
    }
}

/// This node's place in the catalog.
pub(crate) struct Lease {
    catalog: Catalog,
    world: World,
    id: Cell<LeaseId>,
    ttl: Duration,
    row: AliveRow,
    node: NodeRow,
    /// Why this node does not take part any more, for people.
    out: RefCell<Option<String>>,
}

/// Makes sure that the catalog belongs to the cluster of the options; returns the cluster's id.
pub(crate) async fn check_cluster(
    catalog: &Catalog,
    options: &HostOptions,
) -> Result<(String, Level), HostError> {
    let row = ClusterRow {
        id: options.cluster_id.clone(),
        name: options.cluster.clone(),
        level: options.levels.newest,
        era: 0,
    };
    // Lost only to another first node, whose row is read then.
    catalog.commit(Transaction::new().create(&row)).await?;
    let present = catalog.read::<ClusterRow>(&row.key()).await?;
    // Nothing deletes it.
    let present = present.map_or(row, |present| present.row);
    if let Some(to) = catalog::dump::moved_to(&present.name) {
        return Err(HostError::Moved { to: to.to_owned() });
    }
    if present.name != options.cluster {
        return Err(HostError::WrongCluster {
            found: present.name,
            expected: options.cluster.clone(),
        });
    }
    if !bug!(options.faults, IgnoreLevel) {
        check_level(present.level, options.levels)?;
    }
    Ok((present.id, present.level))
}

/// Whether a release that knows these levels may be in a cluster of this one.
fn check_level(level: Level, levels: Levels) -> Result<(), HostError> {
    match levels.know(level) {
        true => Ok(()),
        false => Err(HostError::Level { level, levels }),
    }
}

/// The id of the node of this name, given now if it is new.
pub(crate) async fn node_id(catalog: &Catalog, name: &str) -> Result<NodeId, CatalogError> {
    let key = format!("node-name/{name}");
    for _ in 0..16 {
        if let Some(id) = catalog.resolve(&key).await? {
            return Ok(NodeId(u32::try_from(id).unwrap_or(u32::MAX)));
        }
        let id = catalog.next_id("node").await?;
        let claim = Transaction::new().claim_name(key.clone(), id);
        catalog.commit(claim).await?;
    }
    Err(CatalogError::Contended)
}

/// Announces this node: its row, and its alive row under a new lease. An alive row of an earlier start of
/// it is waited for, at most three times its time to live.
pub(crate) async fn join(
    world: &World,
    catalog: &Catalog,
    node: &NodeRow,
    options: &HostOptions,
) -> Result<Lease, HostError> {
    let ttl = options.lease;
    let kv = catalog.kv().clone();
    let row = AliveRow {
        id: node.id,
        start: world.rng.next_u64() >> 1,
    };
    let deadline = world.now() + ttl * 3 + Duration::from_secs(1);
    loop {
        let id = kv.grant(ttl).await.map_err(CatalogError::from)?;
        match announce(catalog, node, (&row, id), options).await? {
            Announced::Alive => {
                return Ok(Lease {
                    catalog: catalog.clone(),
                    world: world.clone(),
                    id: Cell::new(id),
                    ttl,
                    row,
                    node: node.clone(),
                    out: RefCell::default(),
                });
            }
            Announced::NameInUse | Announced::Removed => drop(kv.revoke(id).await),
            Announced::Unknown(level) => {
                drop(kv.revoke(id).await);
                let levels = node.levels;
                return Err(HostError::Level { level, levels });
            }
        }
        if world.now() >= deadline {
            return Err(HostError::NameInUse {
                name: node.name.clone(),
            });
        }
        world.sleep(Duration::from_millis(200)).await;
    }
}

async fn announce(
    catalog: &Catalog,
    node: &NodeRow,
    (alive, lease): (&AliveRow, LeaseId),
    options: &HostOptions,
) -> Result<Announced, CatalogError> {
    let bold = NodeRow {
        levels: Levels {
            oldest: Level(1),
            newest: Level(u16::MAX),
        },
        ..node.clone()
    };
    match bug!(options.faults, IgnoreLevel) {
        true => {
            let announced = catalog.announce_node(&bold, alive, lease, false).await?;
            catalog.commit(Transaction::new().put(node)).await?;
            Ok(announced)
        }
        false => catalog.announce_node(node, alive, lease, false).await,
    }
}

impl Lease {
    /// Which start of the node this is.
    pub(crate) fn start(&self) -> u64 {
        self.row.start
    }

    /// The lease itself, for other rows that should end with it.
    pub(crate) fn id(&self) -> LeaseId {
        self.id.get()
    }

    /// Why this node does not take part any more: it was removed, or another process has its name. It leads nothing then,
    /// and takes no volume.
    pub(crate) fn why_out(&self) -> Option<String> {
        self.out.borrow().clone()
    }

    /// Renews the lease for as long as the node runs, and takes a new one when it was too late.
    pub(crate) async fn hold(self: Rc<Self>) {
        let mut announced = true;
        loop {
            let pause = match self.out.borrow().is_some() {
                true => OUT_PAUSE,
                false => self.ttl / 3,
            };
            self.world.sleep(pause).await;
            if announced {
                let renewal = self.catalog.kv().renew(self.id.get());
                let renewed = self.world.timeout(self.ttl / 2, renewal).await;
                announced = !matches!(renewed, Ok(Err(KvError::LeaseEnded)));
                if !announced {
                    tracing::warn!(node = %self.row.id, "the node's lease has ended; taking a new one");
                }
            }
            if !announced {
                let again = self.world.timeout(CATALOG_PATIENCE, self.again()).await;
                announced = matches!(again, Ok(Ok(true)));
                if let Ok(Err(error)) = again {
                    tracing::debug!(node = %self.row.id, %error, "it is announced later");
                }
            }
        }
    }

    /// Announces the node under a new lease; whether it is announced now. An attempt before, whose answer was
    /// lost, may have done it: then its lease lives and is the one to go on with.
    async fn again(&self) -> Result<bool, CatalogError> {
        let kv = self.catalog.kv();
        match kv.renew(self.id.get()).await {
            Ok(()) => {}
            Err(KvError::LeaseEnded) => self.id.set(kv.grant(self.ttl).await?),
            Err(error) => return Err(error.into()),
        }
        let id = self.id.get();
        let announced = self.catalog.announce_node(&self.node, &self.row, id, true);
        let reason = match announced.await? {
            Announced::Alive => None,
            Announced::NameInUse => Some("another process runs under this node's name".to_owned()),
            Announced::Removed => Some(
                "the node was removed from the cluster: restart it to let it join again; in a cluster with certificates it then waits to \
                 be approved"
                    .to_owned(),
            ),
            Announced::Unknown(level) => Some(format!(
                "the cluster has risen to level {level}, and this release knows level {}: upgrade this node",
                self.node.levels
            )),
        };
        if reason.is_some() {
            // Nothing may be bound to it.
            kv.revoke(id).await?;
        }
        let before = self.out.replace(reason.clone());
        if let Some(reason) = &reason
            && before.is_none()
        {
            tracing::error!(node = %self.row.id, reason, "this node takes no part any more");
        }
        Ok(reason.is_none())
    }

    /// Ends the lease now: others need not wait for it.
    pub(crate) async fn end(&self) {
        let _ = self
            .world
            .timeout(CATALOG_PATIENCE, self.catalog.kv().revoke(self.id.get()))
            .await;
    }
}
