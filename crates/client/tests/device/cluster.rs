//! A fake cluster: nodes that locate, take over and serve one volume from a shared memory device.

use blockdev::{BlockDevice, MemoryDevice, WriteMode};
use bytes::Bytes;
use futures_util::FutureExt;
use rpc::{Connection, Handler, Hello, Reply, Request, serve};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{AttachmentGeneration, BLOCK_SIZE, ByteCount, Lba, NodeId, VolumeId};
use wire::{NodeError, NodeReply, NodeRequest, SessionNumber, VolumeInfo};
use world::sync::Notify;
use world::{Address, Duration, LocalBoxFuture, World};
use world_sim::{Host, Simulation};

type Answer = (Result<NodeReply, NodeError>, Vec<Bytes>);

/// A session of a client; dead once a newer one exists.
struct Session {
    number: SessionNumber,
    node: u32,
    connection: u64,
    handle: u64,
    alive: Rc<Cell<bool>>,
}

/// What survives nodes: the volume, who owns it, what was done.
pub struct Volume {
    pub device: MemoryDevice,
    pub size: Cell<u64>,
    pub owner: Cell<u32>,
    /// Nodes the others believe alive.
    pub up: RefCell<BTreeMap<u32, bool>>,
    sessions: RefCell<BTreeMap<u64, Session>>,
    /// (node, lba, blocks) of writes in the order of arrival.
    pub arrived: RefCell<Vec<(u32, u64, u64)>>,
    /// The same when they took effect.
    pub applied: RefCell<Vec<(u32, u64, u64)>>,
    pub opens: Cell<u64>,
    pub closed: Cell<u64>,
    pub flushes: Cell<u64>,
    /// While set, I/O waits.
    pub held: Cell<bool>,
    pub release: Notify,
    pub service: Cell<Duration>,
    pub takeover: Cell<Duration>,
    /// Answer I/O with these first.
    pub errors: RefCell<Vec<NodeError>>,
    pub deleted: Cell<bool>,
}

#[derive(Clone)]
pub struct Cluster {
    pub sim: Simulation,
    pub volume: Rc<Volume>,
    pub hosts: Vec<Host>,
    pub client: Host,
}

struct Node {
    index: u32,
    world: World,
    volume: Rc<Volume>,
}

pub fn address(node: u32) -> Address {
    Address(format!("node{node}:1"))
}

impl Cluster {
    pub fn new(sim: &Simulation, nodes: u32, blocks: u64) -> Self {
        let size = ByteCount(blocks * BLOCK_SIZE as u64);
        let volume = Rc::new(Volume {
            device: MemoryDevice::new(ByteCount(1 << 40)),
            size: Cell::new(size.0),
            owner: Cell::new(0),
            up: RefCell::default(),
            sessions: RefCell::default(),
            arrived: RefCell::default(),
            applied: RefCell::default(),
            opens: Cell::new(0),
            closed: Cell::new(0),
            flushes: Cell::new(0),
            held: Cell::new(false),
            release: Notify::default(),
            service: Cell::new(Duration::from_micros(300)),
            takeover: Cell::new(Duration::from_millis(100)),
            errors: RefCell::default(),
            deleted: Cell::new(false),
        });
        let hosts = (0..nodes)
            .map(|node| sim.host(&format!("node{node}")))
            .collect();
        let cluster = Self {
            sim: sim.clone(),
            volume,
            hosts,
            client: sim.host("client"),
        };
        for node in 0..nodes {
            cluster.start(node);
        }
        sim.run_for(Duration::from_millis(1));
        cluster
    }

    /// Starts a node's process.
    pub fn start(&self, node: u32) {
        let host = &self.hosts[node as usize];
        let world = host.world();
        let handler = Rc::new(Node {
            index: node,
            world: world.clone(),
            volume: self.volume.clone(),
        });
        self.volume.up.borrow_mut().insert(node, true);
        host.spawn(async move {
            let listener = world.net.listen(&address(node)).await.unwrap();
            let hello = Hello {
                cluster: "test".into(),
                node: NodeId(node + 1),
                start: 1,
                levels: vocab::Levels::OWN,
            };
            serve(world, listener, hello, handler).await;
        });
    }

    /// Ends a node; the others know at once.
    pub fn stop(&self, node: u32, with_power: bool) {
        self.volume.up.borrow_mut().insert(node, false);
        let host = &self.hosts[node as usize];
        if with_power {
            host.power_loss()
        } else {
            host.crash()
        }
    }

    pub fn restart(&self, node: u32) {
        self.hosts[node as usize].restart();
        self.start(node);
    }

    pub fn release(&self) {
        self.volume.held.set(false);
        self.volume.release.notify_all();
    }

    /// First byte of a block, past all caches.
    pub fn block(&self, lba: u64) -> Bytes {
        let read = self.volume.device.read(Lba(lba), 1).now_or_never();
        read.unwrap().unwrap()[0].clone()
    }
}

impl Volume {
    fn info(&self) -> VolumeInfo {
        VolumeInfo {
            volume: VolumeId(1),
            size: ByteCount(self.size.get()),
            read_only: false,
            attachment: AttachmentGeneration(1),
        }
    }

    fn is_up(&self, node: u32) -> bool {
        self.up.borrow().get(&node) == Some(&true)
    }
}

impl Node {
    async fn locate(index: u32, world: World, volume: Rc<Volume>, name: String) -> Answer {
        if name != "v" || volume.deleted.get() {
            return (Err(NodeError::NoVolume { name }), Vec::new());
        }
        if !volume.is_up(volume.owner.get()) {
            world.sleep(volume.takeover.get()).await;
            if !volume.is_up(volume.owner.get()) {
                volume.owner.set(index);
            }
        }
        let owner = volume.owner.get();
        let nodes = volume
            .up
            .borrow()
            .keys()
            .map(|node| address(*node).0)
            .collect();
        let located = NodeReply::Located {
            owner: NodeId(owner + 1),
            address: address(owner).0,
            nodes,
        };
        (Ok(located), Vec::new())
    }

    fn open(
        &self,
        connection: u64,
        client: u64,
        number: SessionNumber,
    ) -> Result<NodeReply, NodeError> {
        if self.volume.owner.get() != self.index {
            return Err(NodeError::NotOwner);
        }
        let mut sessions = self.volume.sessions.borrow_mut();
        if let Some(old) = sessions.get(&client) {
            if old.number >= number {
                let reason = "a newer session exists".to_owned();
                return Err(NodeError::Detached { reason });
            }
            old.alive.set(false);
        }
        let handle = self.world.rng.next_u64();
        self.volume.opens.set(self.volume.opens.get() + 1);
        let session = Session {
            number,
            node: self.index,
            connection,
            handle,
            alive: Rc::new(Cell::new(true)),
        };
        sessions.insert(client, session);
        let info = self.volume.info();
        Ok(NodeReply::Opened { handle, info })
    }

    /// Whether the session is alive; a newer one of the same client is told apart.
    fn find(&self, connection: u64, handle: u64) -> Result<Rc<Cell<bool>>, NodeError> {
        let sessions = self.volume.sessions.borrow();
        let own = |one: &&Session| {
            (one.node, one.connection, one.handle) == (self.index, connection, handle)
        };
        match sessions.values().find(own) {
            Some(session) => Ok(session.alive.clone()),
            None => {
                let reason = "a newer session exists".to_owned();
                Err(NodeError::Detached { reason })
            }
        }
    }

    async fn perform(
        index: u32,
        world: World,
        volume: Rc<Volume>,
        alive: Rc<Cell<bool>>,
        request: NodeRequest,
        body: Bytes,
    ) -> Answer {
        while volume.held.get() {
            volume.release.notified().await;
        }
        let nanos = world.rng.next_u64() % (volume.service.get().as_nanos() as u64 + 1);
        world.sleep(Duration::from_nanos(nanos)).await;
        if volume.owner.get() != index {
            return (Err(NodeError::NotOwner), Vec::new());
        }
        if !alive.get() {
            let reason = "a newer session exists".to_owned();
            return (Err(NodeError::Detached { reason }), Vec::new());
        }
        let error = volume.errors.borrow_mut().pop();
        if let Some(error) = error {
            return (Err(error), Vec::new());
        }
        let answer = volume.apply(index, &request, body);
        // The answer is late, and a crash in between loses it.
        world.sleep(Duration::from_nanos(nanos)).await;
        answer
    }
}

impl Volume {
    fn apply(&self, node: u32, request: &NodeRequest, body: Bytes) -> Answer {
        let device = &self.device;
        let done = (Ok(NodeReply::Done), Vec::new());
        match *request {
            NodeRequest::Read { lba, blocks, .. } => {
                let data = device.read(lba, blocks).now_or_never().unwrap();
                (Ok(NodeReply::Done), data.unwrap())
            }
            NodeRequest::Write { lba, .. } => {
                let blocks = (body.len() / BLOCK_SIZE) as u64;
                self.applied.borrow_mut().push((node, lba.0, blocks));
                let write = device.write(lba, vec![body], WriteMode::Buffered);
                write.now_or_never().unwrap().unwrap();
                done
            }
            NodeRequest::Unmap { lba, blocks, .. } => {
                device.unmap(lba, blocks).now_or_never().unwrap().unwrap();
                done
            }
            NodeRequest::Allocation { lba, blocks, .. } => {
                let runs = device.allocation(lba, blocks).now_or_never().unwrap();
                let runs = runs
                    .unwrap()
                    .iter()
                    .map(|run| (run.blocks, run.mapped))
                    .collect();
                (Ok(NodeReply::Allocation { runs }), Vec::new())
            }
            NodeRequest::Refresh { handle } => {
                let info = self.info();
                (Ok(NodeReply::Opened { handle, info }), Vec::new())
            }
            NodeRequest::Flush { .. } => {
                self.flushes.set(self.flushes.get() + 1);
                done
            }
            _ => done,
        }
    }
}

fn handle_of(request: &NodeRequest) -> u64 {
    match *request {
        NodeRequest::Read { handle, .. }
        | NodeRequest::Write { handle, .. }
        | NodeRequest::Flush { handle }
        | NodeRequest::Unmap { handle, .. }
        | NodeRequest::Allocation { handle, .. }
        | NodeRequest::Refresh { handle }
        | NodeRequest::Close { handle } => handle,
        _ => panic!("unexpected {request:?}"),
    }
}

impl Handler for Node {
    fn handle(
        &self,
        connection: &Connection,
        request: Request,
        body: Bytes,
    ) -> LocalBoxFuture<'static, (Reply, Vec<Bytes>)> {
        let Request::Node(request) = request else {
            panic!("unexpected {request:?}");
        };
        let ready = |answer: Result<NodeReply, NodeError>| -> LocalBoxFuture<'static, _> {
            Box::pin(std::future::ready((Reply::Node(answer), Vec::new())))
        };
        let (world, volume) = (self.world.clone(), self.volume.clone());
        match request {
            NodeRequest::Locate { volume: name } => {
                let answer = Self::locate(self.index, world, volume, name);
                Box::pin(answer.map(|(answer, body)| (Reply::Node(answer), body)))
            }
            NodeRequest::Open {
                client, session, ..
            } => ready(self.open(connection.id, client, session)),
            request => {
                if let NodeRequest::Write { lba, .. } = request {
                    let blocks = (body.len() / BLOCK_SIZE) as u64;
                    let entry = (self.index, lba.0, blocks);
                    self.volume.arrived.borrow_mut().push(entry);
                }
                match self.find(connection.id, handle_of(&request)) {
                    Ok(alive) => {
                        let answer = Self::perform(self.index, world, volume, alive, request, body);
                        Box::pin(answer.map(|(answer, body)| (Reply::Node(answer), body)))
                    }
                    Err(error) => ready(Err(error)),
                }
            }
        }
    }

    fn closed(&self, _: u64) {
        self.volume.closed.set(self.volume.closed.get() + 1);
    }
}
