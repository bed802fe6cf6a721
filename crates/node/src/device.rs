//! A volume as seen through this node: served by its own sessions when this node owns the volume, by a
//! `client::RemoteDevice` when another one does, and across takeovers either way.
//!
//! Invariants
//! - Requests run on one route at a time. A route is left only when its requests are done: answered, or
//!   refused because its owner lost the volume, after which they can no longer take effect late.
//! - Changes in flight do not overlap, so one that is repeated after a takeover cannot undo another.
//! - What a person must decide (detached, deleted) ends the device; everything else is waited out, for at
//!   most the node's patience.

use crate::host::Host;
use crate::sessions::Key;
use crate::volumes::Refusal;
use blockdev::{Allocation, BlockDevice, BlockError, BlockFuture, WriteMode};
use bytes::Bytes;
use client::{ClientError, ClientOptions, RemoteDevice};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vocab::{AttachmentGeneration, BLOCK_SIZE, ByteCount, Lba, NodeId, VolumeId};
use wire::{NodeError, NodeReply, NodeRequest, SessionNumber};
use world::sync::{Lock, Notify};
use world::{Address, Duration, LocalBoxFuture};

/// First pause before a request is tried again; doubled up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long opening a device waits for an owner.
const OPEN_PATIENCE: Duration = Duration::from_secs(15);

/// The way requests take now.
enum Way {
    Local {
        key: Key,
        volume: VolumeId,
    },
    Remote {
        device: RemoteDevice,
        volume: VolumeId,
    },
}

/// A way and the requests that are on it.
struct Route {
    way: Way,
    running: Cell<u32>,
    idle: Notify,
}

impl Route {
    async fn finished(&self) {
        loop {
            let idle = self.idle.notified();
            if self.running.get() == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Counts a request of a route.
struct OnRoute(Rc<Route>);

impl OnRoute {
    fn new(route: Rc<Route>) -> Self {
        route.running.set(route.running.get() + 1);
        Self(route)
    }
}

impl Drop for OnRoute {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        if self.0.running.get() == 0 {
            self.0.idle.notify_all();
        }
    }
}

struct Gateway {
    host: Rc<Host>,
    volume: String,
    wants_read_only: bool,
    /// Local sessions of this device: connection, client and counter.
    connection: u64,
    client: u64,
    counter: Cell<SessionNumber>,
    route: RefCell<Option<Rc<Route>>>,
    routing: Lock,
    /// Ranges that are being changed.
    changing: RefCell<Vec<(u64, u64)>>,
    changed: Notify,
    size: Cell<ByteCount>,
    read_only: Cell<bool>,
    /// Why the device is over for good.
    over: RefCell<Option<String>>,
}

/// See the head of this file. Its session ends when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct GatewayDevice(Rc<Gateway>);

impl Drop for Gateway {
    fn drop(&mut self) {
        self.host.sessions.end_connection(self.connection);
        let route = self.route.borrow_mut().take();
        let Some(route) = route else { return };
        if matches!(route.way, Way::Remote { .. }) && !self.host.is_stopping() {
            self.host.spawn(async move {
                if let Way::Remote { device, .. } = &route.way {
                    device.close().await;
                }
            });
        }
    }
}

/// Keeps a range from being changed by another request.
struct Changing {
    gateway: Rc<Gateway>,
    range: (u64, u64),
}

impl Changing {
    /// Waits until nobody changes any of the blocks. First come, first served among those that overlap, but
    /// for wake-ups in another order: callers with overlapping requests in flight have no order to rely on.
    async fn hold(gateway: Rc<Gateway>, lba: Lba, blocks: u64) -> Self {
        let range = (lba.0, lba.0.saturating_add(blocks));
        loop {
            let changed = gateway.changed.notified();
            let overlaps = |held: &(u64, u64)| held.0 < range.1 && range.0 < held.1;
            if !gateway.changing.borrow().iter().any(overlaps) {
                gateway.changing.borrow_mut().push(range);
                return Self { gateway, range };
            }
            changed.await;
        }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut changing = self.gateway.changing.borrow_mut();
        if let Some(at) = changing.iter().position(|range| *range == self.range) {
            changing.swap_remove(at);
        }
        drop(changing);
        self.gateway.changed.notify_all();
    }
}

/// A request that may be repeated.
#[derive(Clone)]
enum Ask {
    Read(Lba, u32),
    Write(Lba, Vec<Bytes>, WriteMode),
    Flush,
    Unmap(Lba, u64),
    Allocation(Lba, u64),
}

/// What it is answered with.
enum Told {
    Data(Vec<Bytes>),
    Runs(Vec<Allocation>),
    Done,
}

impl Host {
    /// A volume of the cluster as a block device, through this node. Its requests go on after the loss of
    /// the volume's owner.
    ///
    /// # Errors
    /// [`NodeError::NoVolume`], [`NodeError::Detached`], [`NodeError::Failed`], and [`NodeError::Busy`] when
    /// nobody serves it after 15 s.
    pub async fn device(
        self: &Rc<Self>,
        volume: &str,
        read_only: bool,
    ) -> Result<Rc<dyn BlockDevice>, NodeError> {
        let gateway = Rc::new(Gateway {
            host: self.clone(),
            volume: volume.to_owned(),
            wants_read_only: read_only,
            connection: self.world.rng.next_u64(),
            client: self.world.rng.next_u64(),
            counter: Cell::new(SessionNumber::before_first(0)),
            route: RefCell::new(None),
            routing: Lock::default(),
            changing: RefCell::default(),
            changed: Notify::default(),
            size: Cell::new(ByteCount(0)),
            read_only: Cell::new(read_only),
            over: RefCell::new(None),
        });
        let deadline = self.world.now() + OPEN_PATIENCE;
        let mut pause = PAUSE;
        loop {
            match gateway.route().await {
                Ok(_) => return Ok(Rc::new(GatewayDevice(gateway))),
                Err(NodeError::Busy { .. } | NodeError::NotOwner)
                    if self.world.now() < deadline =>
                {
                    self.world.sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(NodeError::NotOwner) => {
                    let reason = format!("the owner of volume {volume} keeps changing");
                    return Err(NodeError::Busy { reason });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The block device of a volume that this node owns, without sessions: for measurements.
    #[must_use]
    pub fn local_device(&self, volume: &str) -> Option<Rc<dyn BlockDevice>> {
        let volume = self.volumes.named(volume)?;
        Some(Rc::new(volume.device()))
    }
}

impl Gateway {
    /// The route to take now.
    async fn route(self: &Rc<Self>) -> Result<Rc<Route>, NodeError> {
        if let Some(route) = self.usable() {
            return Ok(route);
        }
        let held = self.routing.lock().await;
        if let Some(route) = self.usable() {
            return Ok(route);
        }
        let before = self.route.borrow().clone();
        if let Some(before) = before {
            // The volume has come to this node, or this route failed.
            before.finished().await;
            self.leave(&before).await;
        }
        let route = Rc::new(Route {
            way: self.find_way().await?,
            running: Cell::new(0),
            idle: Notify::default(),
        });
        *self.route.borrow_mut() = Some(route.clone());
        drop(held);
        Ok(route)
    }

    fn usable(&self) -> Option<Rc<Route>> {
        let route = self.route.borrow().clone()?;
        let usable = match &route.way {
            Way::Local { volume, .. } => self.host.volumes.get(*volume).is_some(),
            Way::Remote { volume, .. } => self.host.volumes.get(*volume).is_none(),
        };
        usable.then_some(route)
    }

    /// Ends a route whose requests are done.
    async fn leave(&self, route: &Rc<Route>) {
        self.host.sessions.end_connection(self.connection);
        if let Way::Remote { device, .. } = &route.way {
            device.close().await;
        }
        self.forget(route);
    }

    fn forget(&self, route: &Rc<Route>) {
        let mut present = self.route.borrow_mut();
        if present
            .as_ref()
            .is_some_and(|present| Rc::ptr_eq(present, route))
        {
            *present = None;
        }
    }

    async fn find_way(&self) -> Result<Way, NodeError> {
        let id = match self.host.volumes.named(&self.volume) {
            Some(volume) => volume.id(),
            None => self.host.volume_row(&self.volume).await?.id,
        };
        match self.host.acquire(id).await {
            Ok(_) => self.open_here().await,
            Err(Refusal::Elsewhere(owner)) => self.open_there(owner).await,
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn open_here(&self) -> Result<Way, NodeError> {
        self.counter.set(self.counter.get().next());
        let request = NodeRequest::Open {
            volume: self.volume.clone(),
            client: self.client,
            session: self.counter.get(),
            attachment: AttachmentGeneration(0),
            read_only: self.wants_read_only,
        };
        let opened = self
            .host
            .session_request(self.connection, None, request, Bytes::new());
        match opened.await? {
            (NodeReply::Opened { handle, info }, _) => {
                self.size.set(info.size);
                self.read_only.set(info.read_only);
                let key = (self.connection, handle);
                Ok(Way::Local {
                    key,
                    volume: info.volume,
                })
            }
            (other, _) => Err(NodeError::Failed {
                reason: format!("opening a session was answered with {other:?}"),
            }),
        }
    }

    async fn open_there(&self, owner: NodeId) -> Result<Way, NodeError> {
        let mut nodes: Vec<Address> = self.host.address_of(owner).into_iter().collect();
        let others = self.host.members.look(|view| {
            let alive = view
                .nodes
                .values()
                .filter(|row| view.alive.contains_key(&row.id));
            let others = alive.filter(|row| row.id != owner);
            others
                .map(|row| Address(row.address.clone()))
                .collect::<Vec<_>>()
        });
        nodes.extend(others);
        let options = ClientOptions {
            cluster: self.host.options.cluster.clone(),
            nodes,
            volume: self.volume.clone(),
            client: self.host.world.rng.next_u64(),
            attachment: AttachmentGeneration(0),
            read_only: self.wants_read_only,
            levels: self.host.options.levels,
            patience: self.host.options.patience,
            doubt_after: self.host.options.doubt_after,
        };
        // With time left for what the last one asked has to say.
        let world = self.host.world.clone();
        let opening = RemoteDevice::open_within(world, options, OPEN_PATIENCE / 2);
        let Ok(opened) = self.host.world.timeout(OPEN_PATIENCE, opening).await else {
            let reason = format!("{owner}, which serves the volume, does not answer");
            return Err(NodeError::Busy { reason });
        };
        let device = opened.map_err(|error| match error {
            ClientError::NoVolume { name } => NodeError::NoVolume { name },
            ClientError::Refused { reason, .. } => NodeError::Detached { reason },
            ClientError::Unavailable { reason, .. } => NodeError::Busy { reason },
        })?;
        self.size.set(device.size());
        self.read_only.set(device.read_only());
        let volume = device.info().volume;
        Ok(Way::Remote { device, volume })
    }

    /// Carries a request out, however often the owner changes meanwhile.
    async fn ask(self: Rc<Self>, ask: Ask) -> Result<Told, BlockError> {
        let world = self.host.world.clone();
        let deadline = world.now() + self.host.options.patience;
        let mut pause = PAUSE;
        loop {
            if let Some(over) = &*self.over.borrow() {
                return Err(BlockError::Gone(over.clone()));
            }
            let reason = match self.attempt(&ask).await {
                Ok(done) => return done,
                Err(NodeError::NotOwner) => "its owner changes".to_owned(),
                Err(NodeError::Busy { reason }) => reason,
                Err(error) => return Err(self.final_error(error)),
            };
            if world.now() >= deadline {
                return Err(BlockError::Failed(format!(
                    "volume {}: {reason}",
                    self.volume
                )));
            }
            world.sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn final_error(&self, error: NodeError) -> BlockError {
        let text = error.to_string();
        match error {
            NodeError::NoVolume { .. } | NodeError::Detached { .. } => {
                *self.over.borrow_mut() = Some(text.clone());
                BlockError::Gone(text)
            }
            NodeError::NoSpace { reason } => BlockError::NoSpace(reason),
            _ => BlockError::Failed(text),
        }
    }

    /// One attempt; the outer error says that another one may be made, or that none is of use.
    async fn attempt(self: &Rc<Self>, ask: &Ask) -> Result<Result<Told, BlockError>, NodeError> {
        let route = self.route().await?;
        let on_route = OnRoute::new(route.clone());
        let result = match &route.way {
            Way::Local { key, .. } => self.local(*key, ask).await.map(Ok),
            Way::Remote { device, .. } => Ok(remote(device, ask).await),
        };
        drop(on_route);
        match &result {
            Err(NodeError::NotOwner) => {
                // Requests beside this one meet the same end; the next route waits for them.
                if self.host.volumes.named(&self.volume).is_none() {
                    self.host.drop_lost();
                }
                self.abandon(&route);
            }
            Ok(Err(BlockError::Gone(_))) => self.abandon(&route),
            _ => {}
        }
        result
    }

    /// The next request looks for another route, once those on this one are done.
    fn abandon(self: &Rc<Self>, route: &Rc<Route>) {
        if route.running.get() == 0 {
            self.host.sessions.end_connection(self.connection);
            self.forget(route);
        }
    }

    async fn local(&self, key: Key, ask: &Ask) -> Result<Told, NodeError> {
        let handle = key.1;
        let (request, body) = match ask {
            Ask::Read(lba, blocks) => {
                let (lba, blocks) = (*lba, *blocks);
                (
                    NodeRequest::Read {
                        handle,
                        lba,
                        blocks,
                    },
                    Bytes::new(),
                )
            }
            Ask::Write(lba, data, mode) => {
                let request = self.host.session_write(key, *lba, data.clone(), *mode);
                return request.await.map(|()| Told::Done);
            }
            Ask::Flush => (NodeRequest::Flush { handle }, Bytes::new()),
            Ask::Unmap(lba, blocks) => {
                let (lba, blocks) = (*lba, *blocks);
                (
                    NodeRequest::Unmap {
                        handle,
                        lba,
                        blocks,
                    },
                    Bytes::new(),
                )
            }
            Ask::Allocation(lba, blocks) => {
                let (lba, blocks) = (*lba, *blocks);
                (
                    NodeRequest::Allocation {
                        handle,
                        lba,
                        blocks,
                    },
                    Bytes::new(),
                )
            }
        };
        let asked = self.host.session_request(key.0, None, request, body);
        match asked.await? {
            (NodeReply::Allocation { runs }, _) => {
                let runs = runs.into_iter();
                let run = |(blocks, mapped)| Allocation { blocks, mapped };
                Ok(Told::Runs(runs.map(run).collect()))
            }
            (NodeReply::Done, pieces) if matches!(ask, Ask::Read(..)) => Ok(Told::Data(pieces)),
            _ => Ok(Told::Done),
        }
    }
}

async fn remote(device: &RemoteDevice, ask: &Ask) -> Result<Told, BlockError> {
    match ask.clone() {
        Ask::Read(lba, blocks) => device.read(lba, blocks).await.map(Told::Data),
        Ask::Write(lba, data, mode) => device.write(lba, data, mode).await.map(|()| Told::Done),
        Ask::Flush => device.flush().await.map(|()| Told::Done),
        Ask::Unmap(lba, blocks) => device.unmap(lba, blocks).await.map(|()| Told::Done),
        Ask::Allocation(lba, blocks) => device.allocation(lba, blocks).await.map(Told::Runs),
    }
}

/// A request that changes blocks.
fn change(
    gateway: Rc<Gateway>,
    ask: Ask,
    lba: Lba,
    blocks: u64,
) -> LocalBoxFuture<'static, Result<(), BlockError>> {
    Box::pin(async move {
        let held = Changing::hold(gateway.clone(), lba, blocks).await;
        let result = gateway.ask(ask).await;
        drop(held);
        result.map(drop)
    })
}

impl BlockDevice for GatewayDevice {
    fn size(&self) -> ByteCount {
        if let Some(route) = &*self.0.route.borrow() {
            let size = match &route.way {
                Way::Remote { device, .. } => Some(device.size()),
                Way::Local { volume, .. } => {
                    let volume = self.0.host.volumes.get(*volume);
                    volume.map(|volume| volume.device().size())
                }
            };
            self.0.size.set(size.unwrap_or(self.0.size.get()));
        }
        self.0.size.get()
    }

    fn read_only(&self) -> bool {
        self.0.read_only.get()
    }

    fn read(&self, lba: Lba, blocks: u32) -> BlockFuture<Vec<Bytes>> {
        let gateway = self.0.clone();
        Box::pin(async move {
            match gateway.ask(Ask::Read(lba, blocks)).await? {
                Told::Data(pieces) => Ok(pieces),
                _ => Err(BlockError::Failed(
                    "a read was answered without data".to_owned(),
                )),
            }
        })
    }

    fn write(&self, lba: Lba, data: Vec<Bytes>, mode: WriteMode) -> BlockFuture<()> {
        let bytes = data.iter().map(Bytes::len).sum::<usize>();
        let blocks = bytes.div_ceil(BLOCK_SIZE) as u64;
        change(self.0.clone(), Ask::Write(lba, data, mode), lba, blocks)
    }

    fn flush(&self) -> BlockFuture<()> {
        let gateway = self.0.clone();
        Box::pin(async move { gateway.ask(Ask::Flush).await.map(drop) })
    }

    fn unmap(&self, lba: Lba, blocks: u64) -> BlockFuture<()> {
        change(self.0.clone(), Ask::Unmap(lba, blocks), lba, blocks)
    }

    fn allocation(&self, lba: Lba, blocks: u64) -> BlockFuture<Vec<Allocation>> {
        let gateway = self.0.clone();
        Box::pin(async move {
            match gateway.ask(Ask::Allocation(lba, blocks)).await? {
                Told::Runs(runs) => Ok(runs),
                _ => Err(BlockError::Failed("no allocation in the answer".to_owned())),
            }
        })
    }
}
