//! The stores of this node: opened when it starts, added, replaced and taken out while it runs.
//!
//! State in memory: the open stores, each with the signal that ends its tasks, and those that should be here and cannot be
//! used, with the reason.
//!
//! Invariants
//! - A store that fails fails alone: it answers with the reason, and the others of the process go on.
//! - A store is taken out before its disks are given up: from then on nothing is acknowledged by it.
//! - A store whose disks cannot be used is left out at the start only if the catalog knows it as one of this node.
//!
//! It does not know paths or devices (`disks.rs`). Read next: `stores/local.rs`, `operations/disks.rs`.

mod local;

use crate::host::{Host, StopSignal};
use crate::options::{HostError, HostOptions, StoreSpec};
use crate::upkeep;
use catalog::{Catalog, StoreRow};
use futures_util::future::{join_all, select};
use local::{Absent, Demand, Local};
use rpc::{Directory, Hello, LocalStore, RemoteStores};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use store::Store;
use vocab::{NodeId, StoreId};
use world::sync::Lock;
use world::{Disk, Duration, World};

/// Patience with the clean end of a store that is taken out: its disks may be dead.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// Patience with that of all stores when the process ends.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// An open store.
struct Opened {
    store: Store,
    /// Ends its tasks.
    stop: StopSignal,
}

/// All of them.
#[derive(Default)]
pub(crate) struct LocalStores {
    opened: RefCell<BTreeMap<StoreId, Opened>>,
    /// Why others that should be here are not.
    absent: RefCell<BTreeMap<StoreId, String>>,
    /// One change of them at a time.
    pub(crate) changing: Lock,
    /// What is asked of them.
    pub(crate) demand: Rc<Demand>,
}

impl LocalStores {
    pub(crate) fn new(stores: BTreeMap<StoreId, Store>, absent: BTreeMap<StoreId, String>) -> Self {
        let opened = |(id, store)| {
            let stop = StopSignal::default();
            (id, Opened { store, stop })
        };
        Self {
            opened: RefCell::new(stores.into_iter().map(opened).collect()),
            absent: RefCell::new(absent),
            changing: Lock::default(),
            demand: Rc::default(),
        }
    }

    pub(crate) fn get(&self, id: StoreId) -> Option<Store> {
        let opened = self.opened.borrow();
        opened.get(&id).map(|opened| opened.store.clone())
    }

    pub(crate) fn ids(&self) -> Vec<StoreId> {
        self.opened.borrow().keys().copied().collect()
    }

    pub(crate) fn all(&self) -> Vec<Store> {
        let opened = self.opened.borrow();
        opened.values().map(|opened| opened.store.clone()).collect()
    }

    /// Why a store that should be here is not.
    pub(crate) fn why_absent(&self, id: StoreId) -> Option<String> {
        self.absent.borrow().get(&id).cloned()
    }

    /// Stores that should be here and are not.
    pub(crate) fn absent_ids(&self) -> Vec<StoreId> {
        self.absent.borrow().keys().copied().collect()
    }

    /// Whether this process has a store, or should.
    pub(crate) fn owns(&self, id: StoreId) -> bool {
        self.opened.borrow().contains_key(&id) || self.absent.borrow().contains_key(&id)
    }

    /// A store as this node and others call it.
    pub(crate) fn local(&self, world: &World, store: Store) -> Rc<dyn LocalStore> {
        let (world, demand) = (world.clone(), self.demand.clone());
        Rc::new(Local {
            store,
            world,
            demand,
        })
    }

    fn stop_of(&self, id: StoreId) -> StopSignal {
        let opened = self.opened.borrow();
        let stop = opened.get(&id).map(|opened| opened.stop.clone());
        stop.unwrap_or_default()
    }
}

/// Every store of the cluster, the own ones without a connection.
pub(crate) fn reach_stores(
    world: &World,
    hello: &Hello,
    directory: &Directory,
    own: &LocalStores,
) -> RemoteStores {
    let remote = RemoteStores::new(world.clone(), hello.clone(), directory.clone());
    for store in own.all() {
        remote.add_local(store.id(), own.local(world, store));
    }
    for (&id, reason) in &*own.absent.borrow() {
        remote.add_local(id, Rc::new(Absent(reason.clone())));
    }
    remote
}

/// Bounds undrained data by the smallest local ring: a volume starts to drain when it fills a quarter of it and
/// makes writers wait at half, so that small rings are not simply full; all volumes together fill no more than one.
pub(crate) fn fitting(host: &HostOptions, stores: &[Store]) -> volume::Options {
    let options = host.volume.clone();
    let rings = stores.iter().map(|store| store.status().journal_capacity.0);
    let ring = rings.min().unwrap_or(u64::MAX);
    volume::Options {
        drain_bytes: options.drain_bytes.min(ring / 4),
        undrained_bytes_max: options.undrained_bytes_max.min(ring / 2),
        undrained_node_bytes_max: options.undrained_node_bytes_max.min(ring),
        describe_logs: options.describe_logs || host.describe_disks,
        ..options
    }
}

impl Host {
    /// Appends that stores here have answered since the node began, whoever sent them: what fills give way to.
    #[must_use]
    pub fn appends_answered(&self) -> u64 {
        self.stores.demand.appended()
    }

    /// Runs `task` until it is done, the store is taken out, or the node stops.
    pub(crate) fn spawn_for(&self, store: StoreId, task: impl Future<Output = ()> + 'static) {
        let stop = self.stores.stop_of(store);
        self.spawn(async move {
            select(Box::pin(task), Box::pin(stop.raised())).await;
        });
    }

    /// A store takes part from now on, as far as this process is concerned.
    pub(crate) fn put_in(self: &Rc<Self>, store: Store) {
        let id = store.id();
        let local = self.stores.local(&self.world, store.clone());
        self.remote.add_local(id, local);
        self.stores.absent.borrow_mut().remove(&id);
        let stop = StopSignal::default();
        let opened = Opened { store, stop };
        let before = self.stores.opened.borrow_mut().insert(id, opened);
        assert!(before.is_none(), "{id} is taken out before it is put in");
        self.fit_to_stores();
        upkeep::start_for(self, id);
    }

    /// Takes a store out of the process: its tasks end, nothing is acknowledged by it any more, and its disks are given up.
    /// Calls are answered with `reason` until it is put in again.
    pub(crate) async fn take_out(self: &Rc<Self>, id: StoreId, reason: String) {
        let opened = self.stores.opened.borrow_mut().remove(&id);
        self.remote.add_local(id, Rc::new(Absent(reason.clone())));
        self.stores.absent.borrow_mut().insert(id, reason);
        self.upkeep.filled.borrow_mut().remove(&id);
        self.fit_to_stores();
        let Some(opened) = opened else { return };
        opened.stop.raise();
        let closed = self.world.timeout(CLOSE_PATIENCE, opened.store.close());
        if closed.await.is_err() {
            tracing::warn!(store = %id, "its disks do not answer: it is left as it is");
        }
    }

    /// Closes all stores, all at once: the process ends. Bounded by [`END_PATIENCE`].
    pub(crate) async fn close_stores(&self) {
        let stores = self.stores.all();
        let closed = join_all(stores.iter().map(Store::close));
        if self.world.timeout(END_PATIENCE, closed).await.is_err() {
            tracing::warn!("disks do not answer: their stores are left as they are");
        }
    }

    /// Nobody expects a store here any more.
    pub(crate) fn forget_absent(&self, id: StoreId) {
        self.stores.absent.borrow_mut().remove(&id);
        self.remote.remove_local(id);
    }

    /// What depends on which stores are here.
    fn fit_to_stores(&self) {
        let stores = self.stores.all();
        self.pool.set_local(stores.iter().map(Store::id).collect());
        let options = fitting(&self.options, &stores);
        self.room.set_max(options.undrained_node_bytes_max);
        self.set_volume_options(options);
    }
}

/// Why a store is not opened.
pub(crate) enum Fault {
    /// Its disks do not work.
    Dead(String),
    /// What is on them is not what it should be.
    Wrong(String),
}

impl Fault {
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Dead(reason) | Self::Wrong(reason) => reason,
        }
    }
}

/// Opens the stores of the configuration. Those whose disks do not work are left out if the catalog knows them as this
/// node's.
pub(crate) async fn open_all(
    world: &World,
    catalog: &Catalog,
    node: NodeId,
    specs: &[StoreSpec],
    options: &HostOptions,
) -> Result<LocalStores, HostError> {
    let (mut opened, mut absent) = (BTreeMap::new(), options.absent.clone());
    for (index, spec) in specs.iter().enumerate() {
        match (open_store(world, catalog, spec, options).await, spec.id) {
            (Ok(store), _) => {
                opened.insert(store.id(), store);
            }
            // Without a bay nothing could ever take its place.
            (Err(Fault::Dead(reason)), Some(id)) if options.bay.is_some() => {
                absent.insert(id, reason);
            }
            (Err(fault), _) => {
                return Err(HostError::Store {
                    index: index + 1,
                    reason: fault.reason(),
                });
            }
        }
    }
    for (&id, reason) in &absent {
        let row = catalog.read::<StoreRow>(&StoreRow::key_of(id)).await?;
        if row.is_none_or(|found| found.row.node != node) {
            return Err(HostError::StoreAbsent {
                id,
                reason: reason.clone(),
            });
        }
        tracing::error!(store = %id, reason, "the store is left out: `azekura disk replace` puts another disk in its place");
    }
    Ok(LocalStores::new(opened, absent))
}

/// Opens a store, or formats its disks when they are blank.
pub(crate) async fn open_store(
    world: &World,
    catalog: &Catalog,
    spec: &StoreSpec,
    options: &HostOptions,
) -> Result<Store, Fault> {
    if spec.disks.is_empty() {
        return Err(Fault::Wrong("it has no disks".to_owned()));
    }
    let mut blank = 0;
    for (index, disk) in spec.disks.iter().enumerate() {
        blank += usize::from(is_blank(disk, index + 1).await?);
    }
    if blank == spec.disks.len() {
        let formatted = format_store(world, catalog, spec, options).await;
        formatted.map_err(Fault::Dead)?;
    } else if blank > 0 {
        return Err(Fault::Dead(format!(
            "{blank} of its {} disks are blank and the others hold a store: put the missing disks back, or wipe \
             the others to start over (their data is rebuilt from other stores)",
            spec.disks.len()
        )));
    }
    let store = Store::open(world.clone(), spec.disks.clone(), options.store.clone()).await;
    let store = store.map_err(|error| Fault::Dead(error.to_string()))?;
    let found = store.identity().cluster.clone();
    if found == options.cluster {
        check_session(catalog, &store).await.map_err(Fault::Dead)?;
        return Ok(store);
    }
    store.close().await;
    Err(Fault::Wrong(format!(
        "its disks belong to cluster {found}, this node to {}: check the configuration, or wipe the disks if \
         that cluster is gone",
        options.cluster
    )))
}

/// Disks that do not remember the run the catalog was told last were rolled back, or are copies: what they
/// promised and acknowledged since is gone, so they start another life.
async fn check_session(catalog: &Catalog, store: &Store) -> Result<(), String> {
    let key = StoreRow::key_of(store.id());
    let row = catalog.read::<StoreRow>(&key).await;
    let Some(row) = row.map_err(|error| error.to_string())? else {
        return Ok(());
    };
    let row = row.row;
    let known = row.session == 0 || store.sessions().contains(&row.session);
    if known || row.incarnation != store.incarnation() {
        return Ok(());
    }
    tracing::warn!(store = %row.id, "its disks went back in time: it starts another life and is filled from its groups");
    let renewed = store.renew_incarnation().await;
    renewed.map(drop).map_err(|error| error.to_string())
}

async fn is_blank(disk: &Rc<dyn Disk>, index: usize) -> Result<bool, Fault> {
    let found = store::inspect(disk).await;
    match found.map_err(|error| Fault::Dead(format!("disk {index}: {error}")))? {
        store::Inspection::Blank => Ok(true),
        store::Inspection::Store(_) => Ok(false),
        store::Inspection::Newer { version } => Err(Fault::Wrong(format!(
            "disk {index} was formatted by a newer release (format {version}): install that release"
        ))),
        store::Inspection::Foreign(what) => Err(Fault::Wrong(format!(
            "disk {index} holds {what}: it is not touched; wipe it first if it is meant for this store"
        ))),
    }
}

async fn format_store(
    world: &World,
    catalog: &Catalog,
    spec: &StoreSpec,
    options: &HostOptions,
) -> Result<(), String> {
    let id = match spec.id {
        Some(id) => u64::from(id.0),
        None => {
            let drawn = catalog.next_id("store").await;
            drawn.map_err(|error| error.to_string())?
        }
    };
    let format = store::FormatOptions {
        cluster: options.cluster.clone(),
        store: StoreId(u32::try_from(id).map_err(|_| "there are too many stores".to_owned())?),
        journal_bytes: options.journal_bytes,
    };
    let formatted = store::format(world, &spec.disks, &format).await;
    formatted.map(drop).map_err(|error| error.to_string())
}
