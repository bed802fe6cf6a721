//! The composition of a node: what is made in which order, and how it stops.
//!
//! Start: cluster check, stores, listener, lease, store rows, view of the cluster, service, gateway,
//! background work. Stop: the same backwards; volumes are given up so that others need not wait.

use crate::accounts::{self, Accounts};
use crate::asker::Askers;
use crate::exports::NodeExports;
use crate::feed::{self, Feed};
use crate::health::{self, Health};
use crate::membership::{self, Lease, Members, Part};
use crate::operations::{KnownClaims, Progress};
use crate::options::{HostError, HostOptions, RELEASE, StoreSpec, bug};
use crate::placement::LogPlacement;
use crate::recall;
use crate::service::Service;
use crate::sessions::Sessions;
use crate::stores::{self, LocalStores, fitting, reach_stores};
use crate::upkeep::{self, Upkeep};
use crate::volumes::{Turns, Volumes};
use bytes::Bytes;
use catalog::kv::Kv;
use catalog::{Catalog, CatalogError, NodeRow, PagePointer, StoreRow, Subject};
use frontend::nbd;
use futures_util::future::select;
use group::Pool;
use rpc::{Directory, Hello, RemoteStores};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use store::Store;
use vocab::{Level, NodeId};
use volume::{Context, PageCache, PageSource, Room};
use wire::{FrameRead, Stores};
use world::sync::{Lock, Notify};
use world::{Address, Listener, LocalBoxFuture, World};

/// Asks tasks to end.
#[derive(Clone, Default)]
pub(crate) struct StopSignal(Rc<(Cell<bool>, Notify)>);

impl StopSignal {
    pub(crate) fn raise(&self) {
        self.0.0.set(true);
        self.0.1.notify_all();
    }

    fn is_raised(&self) -> bool {
        self.0.0.get()
    }

    pub(crate) async fn raised(self) {
        loop {
            let changed = self.0.1.notified();
            if self.is_raised() {
                return;
            }
            changed.await;
        }
    }
}

/// A running node.
pub struct Host {
    pub(crate) world: World,
    pub(crate) options: HostOptions,
    pub(crate) id: NodeId,
    /// Id of the cluster.
    pub(crate) cluster_id: String,
    pub(crate) catalog: Catalog,
    pub(crate) members: Rc<Members>,
    pub(crate) health: Rc<Health>,
    pub(crate) stores: LocalStores,
    pub(crate) remote: RemoteStores,
    pub(crate) pool: Pool,
    pub(crate) pages: Rc<PageCache>,
    pub(crate) volumes: Volumes,
    /// In which order they are opened.
    pub(crate) turns: Rc<Turns>,
    pub(crate) sessions: Sessions,
    pub(crate) upkeep: Upkeep,
    pub(crate) lease: Rc<Lease>,
    pub(crate) accounts: Accounts,
    pub(crate) feed: Feed,
    pub(crate) claims: KnownClaims,
    pub(crate) askers: Askers,
    /// Undrained data of the volumes owned here.
    pub(crate) room: Rc<Room>,
    context: RefCell<Context>,
    directory: Directory,
    address: Address,
    nbd_address: Option<Address>,
    nbd_options: nbd::Options,
    /// One move of the catalog at a time.
    pub(crate) moving: Lock,
    stopping: Cell<bool>,
    stop: StopSignal,
}

/// Reads map pages from the pool.
struct PoolPages(Pool);

impl PageSource for PoolPages {
    fn load(&self, page: PagePointer) -> LocalBoxFuture<'static, Result<Bytes, String>> {
        let pool = self.0.clone();
        Box::pin(async move {
            let read = FrameRead {
                id: page.extent,
                frame: page.frame,
                first_block: 0,
                blocks: 0,
            };
            let pieces = pool.read(vec![read]).await;
            let mut pieces = pieces.map_err(|error| error.to_string())?;
            pieces
                .pop()
                .ok_or_else(|| "the pool gave no answer".to_owned())
        })
    }
}

/// What is there before the node has joined.
struct Parts {
    stores: LocalStores,
    listener: Rc<dyn Listener>,
    nbd_listener: Option<Rc<dyn Listener>>,
    address: Address,
    lease: Rc<Lease>,
    id: NodeId,
    cluster_id: String,
    level: Level,
}

impl Parts {
    /// How this node greets others.
    fn hello(&self, options: &HostOptions) -> Hello {
        Hello {
            cluster: options.cluster.clone(),
            node: self.id,
            start: self.lease.start(),
            levels: options.levels,
        }
    }
}

impl Host {
    /// Starts a node: opens its stores (blank disks are formatted as a new store), joins the cluster and
    /// serves. Ready for everything when it returns.
    ///
    /// # Errors
    /// [`HostError`]; nothing runs then.
    pub async fn start(
        world: World,
        kv: Rc<dyn Kv>,
        stores: Vec<StoreSpec>,
        options: HostOptions,
    ) -> Result<Rc<Host>, HostError> {
        let catalog = Catalog::new(kv);
        recall::check_empty(&catalog, &options.cluster, &stores).await?;
        let (cluster_id, level) = membership::check_cluster(&catalog, &options).await?;
        let id = membership::node_id(&catalog, &options.name).await?;
        let opened = stores::open_all(&world, &catalog, id, &stores, &options).await?;
        recall::check_age(&catalog, &opened).await?;
        let listener = world.net.listen(&options.listen).await?;
        let nbd_listener = match &options.nbd_listen {
            Some(address) => Some(world.net.listen_plain(address).await?),
            None => None,
        };
        let address = options
            .advertise
            .clone()
            .unwrap_or_else(|| listener.address());
        let row = NodeRow {
            id,
            name: options.name.clone(),
            address: address.0.clone(),
            nbd: nbd_listener.as_ref().map(|listener| listener.address().0),
            api: options.api.clone(),
            release: RELEASE.to_owned(),
            levels: options.levels,
        };
        let lease = Rc::new(membership::join(&world, &catalog, &row, &options).await?);
        let parts = Parts {
            stores: opened,
            listener,
            nbd_listener,
            address,
            lease,
            id,
            cluster_id,
            level,
        };
        Self::run(world, catalog, options, parts).await
    }

    async fn run(
        world: World,
        catalog: Catalog,
        options: HostOptions,
        parts: Parts,
    ) -> Result<Rc<Host>, HostError> {
        let hello = parts.hello(&options);
        let directory = Directory::default();
        let remote = reach_stores(&world, &hello, &directory, &parts.stores);
        let stores: Rc<dyn Stores> = Rc::new(remote.clone());
        let members = Rc::new(Members::new(world.clone()));
        let health = Rc::new(Health::new(world.clone(), stores.clone()));
        let (local, pool) = (parts.stores.ids(), options.pool.clone());
        let pool = Pool::new(world.clone(), stores.clone(), local, pool);
        let pages = page_cache(&pool, &options);
        let placement = LogPlacement {
            node: parts.id,
            members: members.clone(),
            health: health.clone(),
            faults: options.faults,
        };
        let volume_options = fitting(&options, &parts.stores.all());
        let room = Room::new(volume_options.undrained_node_bytes_max);
        let context = Context {
            world: world.clone(),
            options: Rc::new(volume_options),
            catalog: catalog.clone(),
            stores,
            placement: Rc::new(placement),
            pool: pool.clone(),
            pages: pages.clone(),
            room: room.clone(),
        };
        let turns = Rc::new(Turns::new(world.clone(), openings_max(&options)));
        let volumes = Volumes::after(last_words(&options));
        let host = Rc::new(Host {
            world,
            options,
            id: parts.id,
            cluster_id: parts.cluster_id,
            catalog,
            members,
            health,
            stores: parts.stores,
            remote,
            pool,
            pages,
            volumes,
            turns,
            sessions: Sessions::default(),
            upkeep: Upkeep::default(),
            lease: parts.lease,
            accounts: Accounts::default(),
            feed: Feed::default(),
            claims: KnownClaims::default(),
            askers: Askers::default(),
            room,
            context: RefCell::new(context),
            directory,
            address: parts.address,
            nbd_address: parts.nbd_listener.as_ref().map(|nbd| nbd.address()),
            nbd_options: nbd::Options::default(),
            moving: Lock::default(),
            stopping: Cell::new(false),
            stop: StopSignal::default(),
        });
        host.upkeep.level.set(parts.level);
        host.begin(hello, parts.listener, parts.nbd_listener)
            .await?;
        Ok(host)
    }

    /// Holds the lease, learns what the cluster is, and serves.
    async fn begin(
        self: &Rc<Self>,
        hello: Hello,
        listener: Rc<dyn Listener>,
        nbd_listener: Option<Rc<dyn Listener>>,
    ) -> Result<(), HostError> {
        self.spawn(self.lease.clone().hold());
        self.learn_or_leave().await?;
        self.serve(hello, listener, nbd_listener);
        tracing::info!(node = %self.options.name, id = self.id.0, address = %self.address, "ready");
        Ok(())
    }

    /// Learns what the cluster is; a node that cannot leaves at once.
    async fn learn_or_leave(self: &Rc<Self>) -> Result<(), HostError> {
        let learned = self.learn().await;
        if learned.is_err() {
            self.lease.end().await;
            self.stop.raise();
        }
        learned
    }

    /// Serves nodes and clients, and begins the work in the background.
    fn serve(
        self: &Rc<Self>,
        hello: Hello,
        listener: Rc<dyn Listener>,
        nbd_listener: Option<Rc<dyn Listener>>,
    ) {
        let handler = Rc::new(Service(self.clone()));
        self.spawn(rpc::serve(self.world.clone(), listener, hello, handler));
        if let Some(listener) = nbd_listener {
            let exports = Rc::new(NodeExports(self.clone()));
            let options = self.nbd_options.clone();
            let world = self.world.clone();
            self.spawn(async move {
                nbd::serve(world, listener, exports, options).await;
            });
        }
        self.spawn(self.clone().tell_last_words());
        self.spawn(health::watch(self.clone()));
        self.spawn(crate::sessions::slow::watch(self.clone()));
        upkeep::start(self);
    }

    /// Tells the catalog of this node's stores, and learns from it who else is there.
    async fn learn(self: &Rc<Self>) -> Result<(), HostError> {
        for store in self.stores.all() {
            self.announce_store(&store).await?;
        }
        membership::follow_all(self).await?;
        if self.options.api.is_some() {
            accounts::follow_all(self).await?;
            feed::begin(self).await.map_err(CatalogError::from)?;
        }
        Ok(())
    }

    /// Writes a local store's row as it stands. A store that starts another life lacks what its groups hold.
    /// A candidate's stores are not announced, so nothing can be planned there.
    pub(crate) async fn announce_store(&self, store: &Store) -> Result<(), CatalogError> {
        if self.options.secured && !bug!(self.options.faults, AnnounceCandidate) {
            let intent = self.catalog.intent(Subject::Node(self.id)).await?;
            if intent.candidate {
                return Ok(());
            }
        }
        let known = self
            .catalog
            .read::<StoreRow>(&StoreRow::key_of(store.id()))
            .await?;
        let known = known.map(|known| known.row);
        let same_life = |known: &&StoreRow| known.incarnation == store.incarnation();
        if known.as_ref().is_some_and(|known| !same_life(&known)) {
            self.catalog.store_lost_all(store.id()).await?;
        }
        let earlier = known.as_ref().filter(same_life);
        let earlier = earlier.map_or_else(Vec::new, |known| earlier_nodes(known, self.id));
        let row = StoreRow {
            id: store.id(),
            node: self.id,
            incarnation: store.incarnation(),
            session: store.sessions()[0],
            capacity: store.status().capacity,
            domains: self.options.domains.clone(),
            earlier,
        };
        self.catalog.put_store(&row).await
    }

    /// Runs `task` until it is done or the node stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let stop = self.stop.clone();
        self.world.spawn(async move {
            select(Box::pin(task), Box::pin(stop.raised())).await;
        });
    }

    /// Hands a changed part of the view to whoever follows it.
    pub(crate) fn on_view_changed(&self, part: Part) {
        self.members.look(|view| match part {
            Part::Nodes => {
                let rows = view.nodes.values();
                let address = |row: &NodeRow| (row.id, Address(row.address.clone()));
                self.directory.set_nodes(rows.map(address).collect());
            }
            Part::Stores => {
                let rows = view.stores.values();
                self.directory
                    .set_stores(rows.map(|row| (row.id, row.node)).collect());
            }
            Part::Groups => {
                let filling = view.groups.values().map(|group| group.filling.len() as u32);
                let (progress, now) = (&self.upkeep.progress, self.world.now());
                progress.set(Progress::next(progress.get(), filling.sum(), now));
                self.pool
                    .set_groups(view.groups.values().cloned().collect());
            }
            Part::Containers => self.volumes.set_policies(&view.containers),
            Part::Space => self.pool.set_protection(view.space.clone()),
            Part::Alive | Part::Intents => {}
        });
        self.members.changed.notify_all();
    }

    /// Data of all volumes owned here that is not drained.
    #[must_use]
    pub fn undrained_bytes(&self) -> u64 {
        self.room.used()
    }

    /// What opened volumes share.
    pub(crate) fn context(&self) -> Context {
        self.context.borrow().clone()
    }

    /// How volumes behave that are opened from now on.
    pub(crate) fn set_volume_options(&self, options: volume::Options) {
        self.context.borrow_mut().options = Rc::new(options);
    }

    /// Where a node serves nodes and clients.
    pub(crate) fn address_of(&self, node: NodeId) -> Option<Address> {
        self.directory.address_of(node)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether this node has joined and waits to be approved, as far as it knows.
    #[must_use]
    pub fn is_candidate(&self) -> bool {
        self.members.look(|view| view.is_candidate(self.id))
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Which start of the node this is: another number with every start, never zero in practice.
    #[must_use]
    pub fn start_number(&self) -> u64 {
        self.lease.start()
    }

    /// Where it serves nodes and clients, with the real port.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Where it serves NBD, with the real port.
    #[must_use]
    pub fn nbd_address(&self) -> Option<Address> {
        self.nbd_address.clone()
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The cluster as this node last heard of it.
    #[must_use]
    pub fn view(&self) -> crate::ClusterView {
        self.members.look(Clone::clone)
    }

    /// The stores of this node.
    #[must_use]
    pub fn stores(&self) -> Vec<Store> {
        self.stores.all()
    }

    /// Whether this node led when it looked last.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.upkeep.leading.get()
    }

    /// Pages of maps in memory.
    #[must_use]
    pub fn pages(&self) -> Rc<PageCache> {
        self.pages.clone()
    }

    /// What scrubbing has found since the start.
    #[must_use]
    pub fn scrubbed(&self) -> crate::ScrubReport {
        self.upkeep.scrubbed.get()
    }

    /// How many openings of volumes work here now, and how many wait for their turn.
    #[must_use]
    pub fn openings(&self) -> (usize, usize) {
        self.turns.count()
    }

    /// The openings that are under way here or wait for their turn, for the simulator's checks.
    #[cfg(feature = "bugs")]
    #[must_use]
    pub fn inspect_openings(&self) -> Vec<crate::OpeningSeen> {
        self.turns.inspect()
    }

    /// Volumes served here now.
    #[must_use]
    pub fn volumes(&self) -> Vec<Rc<volume::Volume>> {
        let served = |volume: &Rc<volume::Volume>| volume.lost().is_none();
        self.volumes.all().into_iter().filter(served).collect()
    }

    /// Stops: sessions end, volumes are given up, the lease ends, stores are closed cleanly. Others take
    /// the volumes over at once. A catalog that says nothing is waited for in bounded steps, 11 s in all, and dead disks for
    /// 15 s, so that sound stores are closed within 30 s however many volumes there are.
    pub async fn stop(&self) {
        if self.stopping.replace(true) {
            return;
        }
        self.nbd_options.shutdown.request();
        self.sessions.end_all();
        self.release_all().await;
        self.take_attempts_back().await;
        self.lease.end().await;
        self.stop.raise();
        self.close_stores().await;
        self.keep_history().await;
        self.remote.close();
        tracing::info!(node = %self.options.name, "stopped");
    }
}

/// Who ran a store before the node that says now that it has it. Pure.
fn earlier_nodes(known: &StoreRow, now: NodeId) -> Vec<NodeId> {
    let mut earlier: Vec<NodeId> = Vec::new();
    for &node in std::iter::once(&known.node).chain(&known.earlier) {
        if node != now && !earlier.contains(&node) {
            earlier.push(node);
        }
    }
    earlier.truncate(StoreRow::EARLIER_MAX);
    earlier
}

/// Openings that work side by side at most.
fn openings_max(options: &HostOptions) -> usize {
    match bug!(options.faults, OpenAllAtOnce) {
        true => usize::MAX - 1,
        false => options.openings_max,
    }
}

/// What the process before this one said when it ended.
fn last_words(options: &HostOptions) -> Option<crate::volumes::LastWords> {
    match bug!(options.faults, ForgetLastWords) {
        true => None,
        false => options.last_words.clone(),
    }
}

/// Decoded pages of all volumes of this node.
fn page_cache(pool: &Pool, options: &HostOptions) -> Rc<PageCache> {
    let pages = PageCache::new(Rc::new(PoolPages(pool.clone())), options.pages_bytes);
    #[cfg(feature = "bugs")]
    if options.volume.faults.has(volume::Bug::SharePages) {
        pages.share_pages();
    }
    pages
}
