//! The machines of a run: nodes that are started again whenever they are up, a catalog, a client machine.

use crate::bay::SimBay;
use crate::bugs::Planted;
use crate::candidates;
use crate::clients::Way;
use crate::config::Config;
use crate::deadly::{Peril, Place, Words, forget_when_told};
use crate::eyewitness::Eyewitness;
use crate::releases::Installed;
use catalog::{Row, VolumeRow};
use catalog_kv::memory::{MemoryKv, Outage};
use node::{EvenOptions, Host, HostOptions, StoreSpec};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vocab::StoreId;
use world::{Address, Duration, Time};
use world_sim::{SimDisk, SimRng, Simulation};

/// Name of the simulated cluster.
pub const CLUSTER: &str = "sim";
const PORT: u16 = 7000;
/// Pause before a node that did not start is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(300);

/// What the catalog holds of one kind, seen from outside.
pub fn rows<T: Row>(kv: &MemoryKv) -> Vec<T> {
    let entries = kv.entries();
    let ours = entries
        .iter()
        .filter(|entry| entry.key.starts_with(T::PREFIX));
    ours.filter_map(|entry| serde_json::from_slice(&entry.value).ok())
        .collect()
}

/// A node's machine.
pub struct Node {
    /// The machine.
    pub machine: world_sim::Host,
    /// Its disks, those of the first store first, a spare one last.
    pub disks: Vec<SimDisk>,
    /// Which of them are stores.
    pub bay: SimBay,
    /// The node, while it runs.
    pub running: Rc<RefCell<Option<Rc<Host>>>>,
    /// Its way to the catalog.
    pub kv: RefCell<Option<MemoryKv>>,
    /// Why it did not start the last time.
    pub problem: Rc<RefCell<Option<String>>>,
    /// What ended its process before.
    words: Words,
    /// Whether it is to become a candidate before it starts.
    joins: Rc<Cell<bool>>,
    /// The release on its machine.
    installed: Rc<Installed>,
}

/// All machines.
pub struct Cluster {
    /// The simulation.
    pub sim: Simulation,
    /// The run's configuration.
    pub config: Config,
    /// Where the catalog is.
    keeper: world_sim::Host,
    /// The catalog.
    pub kv: MemoryKv,
    /// Where clients run.
    pub client: world_sim::Host,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Who judges what they acknowledge.
    pub eyewitness: Rc<Eyewitness>,
    /// What ends them.
    pub peril: Rc<Peril>,
    /// Since when networks, disks, the catalog and clocks do what they should; none: something is amiss until everything heals.
    settled: Cell<Option<Time>>,
}

impl Drop for Cluster {
    /// Tasks hold handles of their machines, and nodes hold tasks: whoever plays many seeds must end them.
    fn drop(&mut self) {
        for host in self.sim.hosts() {
            host.crash();
        }
        for node in &self.nodes {
            drop(node.running.borrow_mut().take());
            node.disks.iter().for_each(SimDisk::replace_blank);
        }
    }
}

impl Cluster {
    /// Builds and starts it.
    #[must_use]
    pub fn start(seed: u64, config: Config) -> Self {
        let sim = Simulation::new(seed, config.options.clone());
        // Where the catalog's clock ticks; never fails.
        let keeper = sim.host("keeper");
        let kv = MemoryKv::new(keeper.world());
        let client = sim.host("client");
        let nodes = (0..config.nodes).map(|index| {
            let machine = sim.host(&format!("n{index}"));
            let disk = |disk| machine.add_disk(&format!("n{index}d{disk}"), config.disk_bytes);
            let used = config.stores_per_node * config.disks_per_store;
            let disks = 0..used + usize::from(config.operating.disks);
            let disks: Vec<SimDisk> = disks.map(disk).collect();
            Node {
                machine,
                bay: SimBay::new(&disks),
                disks,
                running: Rc::default(),
                kv: RefCell::default(),
                problem: Rc::default(),
                words: Rc::default(),
                joins: Rc::default(),
                installed: Rc::new(Installed::first(seed, index, config.operating.releases)),
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        let seen = nodes.iter();
        let seen = seen.map(|node| (node.running.clone(), node.bay.clone()));
        let eyewitness = Eyewitness::new(seen.collect(), kv.clone(), config.faults.lies());
        let cluster = Self {
            sim,
            config,
            keeper,
            kv,
            client,
            nodes,
            eyewitness,
            peril: Rc::default(),
            settled: Cell::new(Some(Time(0))),
        };
        cluster.set_catalog_latency();
        for index in 0..cluster.nodes.len() {
            cluster.lay_out(index, 0);
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            match cluster.is_late(index) {
                true => {
                    node.joins.set(cluster.config.candidates);
                    node.machine.crash();
                }
                false => cluster.boot(index),
            }
        }
        cluster
    }

    /// The node's disks become its stores, as they are when it is new.
    fn lay_out(&self, index: usize, from: u32) {
        let Config {
            stores_per_node: stores,
            disks_per_store: disks,
            ..
        } = self.config;
        let node = &self.nodes[index];
        node.bay.forget_all();
        for store in 0..stores {
            let number = index * stores + store + 1;
            let id = StoreId(from + u32::try_from(number).expect("a handful of stores"));
            let disks = &node.disks[store * disks..(store + 1) * disks];
            node.bay.keep(id, disks);
        }
    }

    /// A machine whose node was removed becomes a new one: blank disks, and stores of which nobody has heard. It must be down.
    pub fn renew(&self, index: usize, from: u32) {
        for disk in &self.nodes[index].disks {
            disk.set_failed(false);
            disk.replace_blank();
        }
        self.lay_out(index, from);
    }

    /// Two machines are switched off, their first disks change places, and they start again. Nothing is lost.
    pub fn swap(&self, one: usize, other: usize) {
        self.crash(one);
        self.crash(other);
        self.nodes[one].disks[0].swap(&self.nodes[other].disks[0]);
        self.restart(one);
        self.restart(other);
    }

    /// Whether a node joins later: the others can hold all copies.
    fn is_late(&self, index: usize) -> bool {
        let config = &self.config;
        let others = config.nodes - 1;
        let enough = others >= usize::from(config.replication_factor).max(2);
        config.moving.joins && enough && index == others
    }

    fn host_options(&self, index: usize) -> HostOptions {
        let listen = Address(format!("n{index}:{PORT}"));
        let mut options = HostOptions::new(CLUSTER, &format!("n{index}"), listen);
        options.volume = self.config.volume.clone();
        options.journal_bytes = Some(self.config.journal_bytes);
        options.groups = self.config.groups;
        options.groups_per_store = 1;
        options.describe_disks = self.config.described;
        options.spread_logs = self.config.described;
        options.repair_delay = self.config.moving.repair_delay;
        options.collect.interval = Duration::from_millis(700);
        options.collect.duty_percent = 50;
        options.collect.limits.pace = Duration::from_millis(1);
        options.store.boot_id = self.nodes[index].machine.boot_id().to_le_bytes();
        options.store.header_cache_bytes = 256 << 10;
        options.pages_bytes = crate::check::PAGES_BYTES_MAX;
        options.session_interval = Duration::from_millis(500);
        let early = self.config.planted.is_some_and(Planted::is_early);
        options.fixed_fills = early;
        options.even_owners = (!early).then_some(EvenOptions {
            settle: Duration::from_secs(1),
            interval: Duration::from_millis(500),
            move_pause: Duration::from_millis(300),
        });
        options.lost_logs_interval = match early {
            true => Duration::from_secs(100_000),
            false => Duration::from_secs(5),
        };
        options.doubt_after = self.config.doubt_after();
        options.openings_max = self.config.openings;
        if !self.config.is_newest() {
            // They were planted before openings had turns, and keep the histories that find them.
            options.probe_good_for = Duration::ZERO;
        }
        options.secured = self.config.candidates;
        if self.config.racks > 0 {
            options.domains = vec![format!("r{}", index % self.config.racks)];
        }
        self.config.operating.apply(&mut options);
        if self.config.operating.disks {
            options.bay = Some(Rc::new(self.nodes[index].bay.clone()));
        }
        let bug = { self.config.planted }.filter(|_| !self.config.is_control);
        if let Some(planted) = bug {
            planted.plant(&mut options);
        }
        self.eyewitness.attend(&mut options);
        let node = &self.nodes[index];
        options.last_words.clone_from(&node.words.borrow());
        let place = Place {
            machine: node.machine.clone(),
            running: node.running.clone(),
            words: node.words.clone(),
            peril: self.peril.clone(),
        };
        place.attend(&mut options);
        options
    }

    /// An empty catalog takes the place of the one that is there. No node may run.
    pub fn forget_catalog(&mut self) {
        self.kv = MemoryKv::new(self.keeper.world());
        self.eyewitness.set_catalog(self.kv.clone());
        self.set_catalog_latency();
    }

    /// The catalog answers as the seed wants it to.
    pub fn set_catalog_latency(&self) {
        let Some(longest) = self.config.temper.latency else {
            self.kv.set_latency(|| Duration::ZERO);
            return;
        };
        let rng = SimRng::named(self.sim.seed(), "latency of the catalog");
        let draw = move || rng.duration(longest / 10..longest);
        self.kv.set_latency(draw);
    }

    /// Starts the node's process on its machine, again and again until it runs.
    pub fn boot(&self, index: usize) {
        let node = &self.nodes[index];
        let (world, mut options) = (node.machine.world(), self.host_options(index));
        let installed = node.installed.clone();
        installed.choose();
        let bay = node.bay.clone();
        let kv = self.kv.handle(world.clone());
        *node.kv.borrow_mut() = Some(kv.clone());
        let (running, problem) = (node.running.clone(), node.problem.clone());
        let (words, joins) = (node.words.clone(), node.joins.clone());
        node.machine.spawn(async move {
            while joins.get() {
                match candidates::admit(Rc::new(kv.clone()), &options.name).await {
                    Ok(()) => joins.set(false),
                    Err(_) => world.sleep(RESTART_PAUSE).await,
                }
            }
            loop {
                options.levels = installed.levels();
                let started = Host::start(
                    world.clone(),
                    Rc::new(kv.clone()),
                    specs_of(&bay),
                    options.clone(),
                );
                match started.await {
                    Ok(host) => {
                        if let Some(said) = options.last_words.clone() {
                            let told = forget_when_told(host.clone(), world.clone(), words, said);
                            world.spawn(told);
                        }
                        *running.borrow_mut() = Some(host);
                        *problem.borrow_mut() = None;
                        return;
                    }
                    Err(error) => {
                        installed.refused(&error);
                        *problem.borrow_mut() = Some(error.to_string());
                    }
                }
                world.sleep(RESTART_PAUSE).await;
            }
        });
    }

    /// The process dies.
    pub fn crash(&self, index: usize) {
        drop(self.nodes[index].running.borrow_mut().take());
        self.nodes[index].machine.crash();
    }

    /// The machine loses power.
    pub fn power_loss(&self, index: usize) {
        drop(self.nodes[index].running.borrow_mut().take());
        self.nodes[index].machine.power_loss();
    }

    /// The machine comes up again if it is down, with its process.
    pub fn restart(&self, index: usize) {
        if !self.nodes[index].machine.is_up() {
            self.nodes[index].machine.restart();
            self.boot(index);
        }
    }

    /// Nodes that run.
    #[must_use]
    pub fn hosts(&self) -> Vec<Rc<Host>> {
        self.nodes
            .iter()
            .filter_map(|node| node.running.borrow().clone())
            .collect()
    }

    /// Addresses of all nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        (0..self.nodes.len())
            .map(|index| Address(format!("n{index}:{PORT}")))
            .collect()
    }

    /// How clients reach it.
    #[must_use]
    pub fn way(&self) -> Way {
        Way {
            nodes: self.addresses(),
            doubt_after: self.config.doubt_after(),
        }
    }

    /// Something is amiss that is not seen of the processes.
    pub fn unsettle(&self) {
        self.settled.set(None);
    }

    /// Since when every process that runs has reached all others that do, its disks and the catalog, as far as this run can tell.
    #[must_use]
    pub fn settled(&self) -> Option<Time> {
        let resets = self.config.options.net.reset > 0.0;
        self.settled.get().filter(|_| !resets)
    }

    /// Ends every fault: all machines up, all networks and disks well, the catalog there.
    pub fn heal(&self) {
        self.sim.heal_all();
        self.catalog_is_back();
        for node in &self.nodes {
            for disk in &node.disks {
                disk.set_failed(false);
                disk.set_hung(false);
                disk.set_slow(1);
            }
            if node.machine.is_paused() {
                node.machine.resume();
            }
            node.machine.set_clock_drift(0);
        }
        self.restart_failed();
        let since = self.settled.get().unwrap_or_else(|| self.sim.now());
        self.settled.set(Some(since));
    }

    /// The catalog is within everybody's reach.
    pub fn catalog_is_back(&self) {
        self.kv.set_available(true);
        for node in &self.nodes {
            if let Some(kv) = node.kv.borrow().as_ref() {
                kv.set_outage_here(Outage::None);
            }
        }
    }

    /// Whether some node serves every volume that had an owner.
    #[must_use]
    pub fn all_served(&self) -> bool {
        let served: Vec<vocab::VolumeId> = self
            .hosts()
            .iter()
            .flat_map(|host| host.volumes())
            .map(|volume| volume.id())
            .collect();
        let mut rows = rows::<VolumeRow>(&self.kv).into_iter();
        rows.all(|row| row.owner.is_none() || served.contains(&row.id))
    }

    /// Starts nodes that are down, and nodes with a failed store again: what an operator does after a disk failed
    /// and was looked at.
    pub fn restart_failed(&self) {
        for index in 0..self.nodes.len() {
            let host = self.nodes[index].running.borrow().clone();
            let failed = |store: &store::Store| store.status().failed.is_some();
            if host.is_some_and(|host| host.stores().iter().any(failed)) {
                self.crash(index);
            }
            self.restart(index);
        }
    }

    /// Runs `task` on a machine; `None` when it did not end within `limit`, or the machine died.
    pub fn run_on<T: 'static>(
        &self,
        machine: &world_sim::Host,
        limit: Duration,
        task: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let slot = Rc::new(RefCell::new(None));
        let (sink, seen) = (slot.clone(), slot.clone());
        machine.spawn(async move {
            let value = task.await;
            *sink.borrow_mut() = Some(value);
        });
        self.sim.run_until(|| seen.borrow().is_some(), limit);
        slot.borrow_mut().take()
    }
}

/// What a node is started with now.
fn specs_of(bay: &SimBay) -> Vec<StoreSpec> {
    let spec = |(id, disks): (StoreId, Vec<SimDisk>)| StoreSpec {
        id: Some(id),
        disks: disks.iter().map(SimDisk::open).collect(),
    };
    bay.stores().into_iter().map(spec).collect()
}
