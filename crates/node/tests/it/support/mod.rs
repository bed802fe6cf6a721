//! A simulated cluster of whole nodes on one catalog in memory.

use api::{Answer, ContainerSpec, Operation, OperationError, VolumeAnswer, VolumeSpec};
use blockdev::{BlockDevice, WriteMode};
use bytes::Bytes;
use catalog_kv::memory::{MemoryKv, Outage};
use client::{ClientError, ClientOptions, RemoteDevice};
use node::{Host, HostOptions, StoreSpec};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use vocab::{AttachmentGeneration, BLOCK_SIZE, Lba};
use world::{Address, Disk, DiskError, Duration, LocalBoxFuture};
use world_sim::{Options, SimDisk, Simulation};

/// Virtual time within which everything in these tests must come about.
pub const LIMIT: Duration = Duration::from_secs(120);
pub const MIB: u64 = 1 << 20;

pub struct Machine {
    pub host: world_sim::Host,
    pub disk: SimDisk,
    /// Bytes that its nodes have read and written.
    pub moved: Rc<Cell<u64>>,
    node: RefCell<Option<Rc<Host>>>,
    kv: RefCell<Option<MemoryKv>>,
}

/// Counts what is read and written.
struct Metered {
    disk: Rc<dyn Disk>,
    moved: Rc<Cell<u64>>,
}

impl Metered {
    fn count(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes as u64);
    }
}

impl Disk for Metered {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read(&self, offset: u64, len: usize) -> LocalBoxFuture<'static, Result<Bytes, DiskError>> {
        self.count(len);
        self.disk.read(offset, len)
    }

    fn write(&self, offset: u64, data: Bytes) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        self.count(data.len());
        self.disk.write(offset, data)
    }

    fn flush(&self) -> LocalBoxFuture<'static, Result<(), DiskError>> {
        self.disk.flush()
    }
}

pub struct Cluster {
    pub sim: Simulation,
    pub kv: MemoryKv,
    pub machines: Vec<Machine>,
    /// Whether the disks are told of the catalog.
    pub describe: bool,
    /// Whether nodes say that they serve an API.
    pub apis: bool,
    change: fn(&mut HostOptions),
}

/// Of each machine, where a test does not say otherwise.
const DISK_BYTES: u64 = 1 << 30;

fn options(name: &str) -> HostOptions {
    let mut options = HostOptions::new("test", name, Address(format!("{name}:7000")));
    options.cluster_id = format!("drawn-by-{name}");
    options.groups = 4;
    options.groups_per_store = 1;
    options.journal_bytes = Some(64 << 20);
    options.collect.interval = Duration::from_secs(5);
    options.patience = Duration::from_secs(60);
    options.scrub.interval = Duration::from_secs(30);
    options
}

impl Cluster {
    /// So many nodes with a disk of 1 GiB each, started.
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self::start_all(seed, nodes, DISK_BYTES, (false, false))
    }

    /// The same with other options.
    pub fn with_options(seed: u64, nodes: usize, change: fn(&mut HostOptions)) -> Self {
        Self::build(seed, nodes, DISK_BYTES, (false, false), change)
    }

    /// The same with disks of so many bytes and other options.
    pub fn with_disks_and_options(
        seed: u64,
        nodes: usize,
        disk_bytes: u64,
        change: fn(&mut HostOptions),
    ) -> Self {
        Self::build(seed, nodes, disk_bytes, (false, false), change)
    }

    /// The same with disks of so many bytes.
    pub fn with_disks(seed: u64, nodes: usize, disk_bytes: u64) -> Self {
        Self::start_all(seed, nodes, disk_bytes, (false, false))
    }

    /// The same, but every node serves an API.
    pub fn with_apis(seed: u64, nodes: usize) -> Self {
        Self::start_all(seed, nodes, DISK_BYTES, (false, true))
    }

    /// The same, with disks that are told of the catalog.
    pub fn described(seed: u64, nodes: usize) -> Self {
        Self::start_all(seed, nodes, DISK_BYTES, (true, false))
    }

    fn start_all(seed: u64, nodes: usize, disk_bytes: u64, flags: (bool, bool)) -> Self {
        Self::build(seed, nodes, disk_bytes, flags, |_| {})
    }

    fn build(
        seed: u64,
        nodes: usize,
        disk_bytes: u64,
        (describe, apis): (bool, bool),
        change: fn(&mut HostOptions),
    ) -> Self {
        let sim = Simulation::new(seed, Options::default());
        let catalog = sim.host("catalog");
        let kv = MemoryKv::new(catalog.world());
        let machine = |index: usize| {
            let host = sim.host(["a", "b", "c", "d", "e"][index]);
            let disk = host.add_disk("ssd", disk_bytes);
            let (node, kv) = (RefCell::default(), RefCell::default());
            Machine {
                host,
                disk,
                moved: Rc::default(),
                node,
                kv,
            }
        };
        let machines = (0..nodes).map(machine).collect();
        let cluster = Self {
            sim,
            kv,
            machines,
            describe,
            apis,
            change,
        };
        for index in 0..nodes {
            cluster.start(index);
        }
        cluster
    }

    /// So many nodes with a disk, and one without stores, the last.
    pub fn with_gateway(seed: u64, nodes: usize) -> Self {
        let mut cluster = Self::new(seed, nodes);
        let host = cluster.sim.host("gateway");
        let disk = host.add_disk("none", 1 << 20);
        let (node, kv) = (RefCell::default(), RefCell::default());
        cluster.machines.push(Machine {
            host,
            disk,
            moved: Rc::default(),
            node,
            kv,
        });
        cluster.start(nodes);
        cluster
    }

    /// One more machine, of this name, with a disk. Its node is not started.
    pub fn add_machine(&mut self, name: &str) {
        let host = self.sim.host(name);
        let disk = host.add_disk("ssd", 1 << 30);
        self.machines.push(Machine {
            host,
            disk,
            moved: Rc::default(),
            node: RefCell::default(),
            kv: RefCell::default(),
        });
    }

    /// Starts the node of a machine that is up.
    pub fn start(&self, index: usize) -> Rc<Host> {
        let started = self.try_start(index, options(self.machines[index].host.name()));
        started.unwrap_or_else(|error| panic!("node {index} does not start: {error}"))
    }

    pub fn try_start(
        &self,
        index: usize,
        mut options: HostOptions,
    ) -> Result<Rc<Host>, node::HostError> {
        let machine = &self.machines[index];
        options.describe_disks |= self.describe;
        if self.apis {
            options.api = Some(format!("http://{}:7400", options.name));
        }
        (self.change)(&mut options);
        options.store.boot_id = machine.host.boot_id().to_le_bytes();
        let world = machine.host.world();
        let kv = self.kv.handle(world.clone());
        *machine.kv.borrow_mut() = Some(kv.clone());
        let spec = StoreSpec {
            id: None,
            disks: vec![Rc::new(Metered {
                disk: machine.disk.open(),
                moved: machine.moved.clone(),
            })],
        };
        let specs = if machine.host.name() == "gateway" {
            Vec::new()
        } else {
            vec![spec]
        };
        let started = self.run(index, async move {
            Host::start(world, Rc::new(kv), specs, options).await
        })?;
        *machine.node.borrow_mut() = Some(started.clone());
        Ok(started)
    }

    pub fn options_of(&self, index: usize) -> HostOptions {
        options(self.machines[index].host.name())
    }

    pub fn node(&self, index: usize) -> Rc<Host> {
        self.machines[index]
            .node
            .borrow()
            .clone()
            .expect("the node runs")
    }

    /// kill -9.
    pub fn crash(&self, index: usize) {
        self.machines[index].host.crash();
        self.machines[index].node.borrow_mut().take();
    }

    /// What its disk has not flushed may be gone.
    pub fn power_loss(&self, index: usize) {
        self.machines[index].host.power_loss();
        self.machines[index].node.borrow_mut().take();
    }

    pub fn restart(&self, index: usize) -> Rc<Host> {
        self.machines[index].host.restart();
        self.start(index)
    }

    /// The catalog of one node alone fails, or works again.
    pub fn set_outage_of(&self, index: usize, outage: Outage) {
        let kv = self.machines[index].kv.borrow();
        kv.as_ref().expect("the node runs").set_outage_here(outage);
    }

    /// Runs a task on a machine until it is done.
    pub fn run<T: 'static>(&self, index: usize, task: impl Future<Output = T> + 'static) -> T {
        let slot = Rc::new(RefCell::new(None));
        let sink = slot.clone();
        self.machines[index].host.spawn(async move {
            let value = task.await;
            *sink.borrow_mut() = Some(value);
        });
        let done = self.sim.run_until(|| slot.borrow().is_some(), LIMIT);
        assert!(
            done,
            "seed {}: a task on node {index} takes too long",
            self.sim.seed()
        );
        slot.borrow_mut().take().expect("just seen")
    }

    pub fn try_operate(
        &self,
        index: usize,
        operation: Operation,
    ) -> Result<Answer, OperationError> {
        let node = self.node(index);
        self.run(index, async move { node.operate(operation).await })
    }

    pub fn operate(&self, index: usize, operation: Operation) -> Answer {
        let name = operation.name();
        let answer = self.try_operate(index, operation);
        answer.unwrap_or_else(|error| panic!("{name} on node {index}: {error}"))
    }

    pub fn create_container(&self, name: &str, rf: u8) {
        let spec = ContainerSpec {
            rf,
            ..container_spec(name)
        };
        self.operate(0, Operation::ContainerCreate(spec));
    }

    pub fn create_volume(&self, index: usize, name: &str, size: u64) -> VolumeAnswer {
        let spec = VolumeSpec {
            name: name.to_owned(),
            container: Some("c".to_owned()),
            size: Some(size),
            ..VolumeSpec::default()
        };
        volume_of(self.operate(index, Operation::VolumeCreate(spec)))
    }

    pub fn show(&self, index: usize, name: &str) -> VolumeAnswer {
        volume_of(self.operate(
            index,
            Operation::VolumeShow {
                name: name.to_owned(),
            },
        ))
    }

    /// Index of the machine whose node owns the volume.
    pub fn owner(&self, asked: usize, name: &str) -> usize {
        let owner = self.show(asked, name).owner.expect("it has an owner");
        let runs = |machine: &Machine| {
            machine
                .node
                .borrow()
                .as_ref()
                .is_some_and(|node| node.id().0 == owner)
        };
        self.machines.iter().position(runs).expect("its node runs")
    }

    pub fn device(&self, index: usize, volume: &str) -> Rc<dyn BlockDevice> {
        let (node, volume) = (self.node(index), volume.to_owned());
        self.run(index, async move {
            let opened = node.device(&volume, false).await;
            opened.unwrap_or_else(|error| panic!("opening {volume}: {error}"))
        })
    }

    pub fn write(&self, index: usize, device: &Rc<dyn BlockDevice>, lba: u64, fill: u8) {
        let device = device.clone();
        self.run(index, async move {
            let data = vec![Bytes::from(vec![fill; BLOCK_SIZE])];
            let written = device.write(Lba(lba), data, WriteMode::Fua).await;
            written.unwrap_or_else(|error| panic!("writing block {lba}: {error}"));
        });
    }

    /// The byte that a block is full of.
    pub fn read(&self, index: usize, device: &Rc<dyn BlockDevice>, lba: u64) -> u8 {
        let device = device.clone();
        let data = self.run(index, async move {
            let read = device.read(Lba(lba), 1).await;
            read.unwrap_or_else(|error| panic!("reading block {lba}: {error}"))
                .concat()
        });
        assert_eq!(data.len(), BLOCK_SIZE);
        assert!(
            data.iter().all(|&byte| byte == data[0]),
            "block {lba} is mixed"
        );
        data[0]
    }
}

/// A client from elsewhere, on one machine: opened with an attachment of the management plane.
pub struct Client<'a> {
    cluster: &'a Cluster,
    index: usize,
    device: RemoteDevice,
}

impl<'a> Client<'a> {
    pub fn open(
        cluster: &'a Cluster,
        index: usize,
        volume: &str,
        generation: u64,
    ) -> Result<Self, ClientError> {
        Self::open_as(cluster, index, volume, generation, 0)
    }

    /// With a client id that other sessions may have, too.
    pub fn open_as(
        cluster: &'a Cluster,
        index: usize,
        volume: &str,
        generation: u64,
        client: u64,
    ) -> Result<Self, ClientError> {
        let address = |machine: &Machine| Address(format!("{}:7000", machine.host.name()));
        let options = ClientOptions {
            cluster: "test".to_owned(),
            nodes: cluster.machines.iter().map(address).collect(),
            volume: volume.to_owned(),
            client,
            attachment: AttachmentGeneration(generation),
            read_only: false,
            levels: vocab::Levels::OWN,
            patience: Duration::from_secs(30),
            doubt_after: client::DOUBT_AFTER,
        };
        let world = cluster.machines[index].host.world();
        let device = cluster.run(index, RemoteDevice::open(world, options))?;
        Ok(Self {
            cluster,
            index,
            device,
        })
    }

    /// The byte that the first block is full of.
    pub fn read(&self) -> Result<u8, String> {
        let device = self.device.clone();
        let read = self
            .cluster
            .run(self.index, async move { device.read(Lba(0), 1).await });
        let data = read.map_err(|error| error.to_string())?.concat();
        Ok(data[0])
    }

    /// Fills the first block.
    pub fn write(&self, fill: u8) -> Result<(), String> {
        let device = self.device.clone();
        let data = vec![Bytes::from(vec![fill; BLOCK_SIZE])];
        let written = async move { device.write(Lba(0), data, WriteMode::Fua).await };
        let written = self.cluster.run(self.index, written);
        written.map_err(|error| error.to_string())
    }
}

pub fn container_spec(name: &str) -> ContainerSpec {
    serde_json::from_str(&format!(r#"{{"name":"{name}"}}"#)).expect("a name is enough")
}

pub fn volume_of(answer: Answer) -> VolumeAnswer {
    match answer {
        Answer::Volume(volume) => volume,
        other => panic!("not a volume: {other:?}"),
    }
}
