//! Clients: lanes of random requests on a volume, each answer checked against its history.

use crate::cluster::{CLUSTER, Cluster};
use blockdev::{BlockDevice, WriteMode};
use client::{ClientOptions, RemoteDevice};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vocab::{AttachmentGeneration, Lba};
use workload::oracle::{Checked, History, Trouble};
use workload::pattern;
use world::{Duration, World};
use world_sim::SimRng;

/// Blocks of one read while a whole image is read.
const IMAGE_READ_BLOCKS: u64 = 256;

/// Blocks that only one visitor writes. A client repeats what was not acknowledged after a takeover, so two clients
/// that write the same blocks at once may see one's write come back over the other's: that needs attachments,
/// which allow one writer.
const VISITED_BLOCKS: u64 = 4;
/// How long a visit waits for an owner.
const VISIT_PATIENCE: Duration = Duration::from_secs(8);

/// How fast lanes ask.
///
/// Long runs are not worth more for asking on and on: what disturbs them is as far apart as in short ones. After some requests lanes
/// ask in bursts, with rests between them.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At most this long between two requests of a lane.
    pub think: Duration,
    /// Requests of the whole run after which lanes rest.
    pub lively: u64,
}

impl Pace {
    /// One request in this many is followed by a rest.
    const BURST: u64 = 40;
    /// How long a rest is, at most.
    const REST_MAX: Duration = Duration::from_secs(2);

    /// How long a lane waits before its next request, `done` being those of the run so far.
    pub(crate) fn pause(self, rng: &SimRng, done: u64) -> Duration {
        if done > self.lively && rng.below(Self::BURST) == 0 {
            return rng.duration(Duration::ZERO..Self::REST_MAX);
        }
        rng.duration(Duration::ZERO..self.think)
    }
}

/// What all lanes of a run share.
#[derive(Clone, Default)]
pub struct Shared {
    /// What devices did wrong.
    pub violations: Rc<RefCell<Vec<String>>>,
    /// Lanes stop before their next request.
    pub stop: Rc<Cell<bool>>,
    /// Lanes that run.
    pub busy: Rc<Cell<usize>>,
    /// Requests that succeeded.
    pub done: Rc<Cell<u64>>,
    /// Requests that were refused, with the last reason.
    pub refused: Rc<RefCell<(u64, String)>>,
}

impl Shared {
    pub(crate) fn violate(&self, what: String) {
        self.violations.borrow_mut().push(what);
    }

    pub(crate) fn note_refusal(&self, error: &blockdev::BlockError) {
        let mut refused = self.refused.borrow_mut();
        *refused = (refused.0 + 1, error.to_string());
    }
}

/// A volume with what it may hold.
#[derive(Clone)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// What was asked of it.
    pub history: Rc<RefCell<History>>,
}

impl Subject {
    /// An empty volume whose writes carry `seed`.
    #[must_use]
    pub fn new(name: String, seed: u64, blocks: u64) -> Self {
        let history = Rc::new(RefCell::new(History::new(seed, blocks)));
        Self { name, history }
    }

    /// Opens the volume from the client machine.
    pub async fn open(&self, world: World, way: Way) -> Result<RemoteDevice, String> {
        open(world, way, &self.name).await
    }

    /// Starts lanes on the client machine.
    pub fn start_lanes(&self, cluster: &Cluster, shared: &Shared, rng: &SimRng) {
        let (world, way, subject) = (cluster.client.world(), cluster.way(), self.clone());
        let (shared, rng, config) = (shared.clone(), rng.fork(), cluster.config.clone());
        shared.busy.set(shared.busy.get() + config.lanes);
        let machine = cluster.client.clone();
        cluster.client.spawn(async move {
            let device = loop {
                match subject.open(world.clone(), way.clone()).await {
                    Ok(device) => break device,
                    Err(reason) => shared.refused.borrow_mut().1 = reason,
                }
                if shared.stop.get() {
                    shared.busy.set(shared.busy.get() - config.lanes);
                    return;
                }
                world.sleep(Duration::from_millis(200)).await;
            };
            let checked = Checked::new(Rc::new(device), subject.history.clone());
            let visit = Visit {
                world: world.clone(),
                way: way.clone(),
                shared: shared.clone(),
                rng: Rc::new(rng.fork()),
                detours: config.faults.usurp,
            };
            subject.start_others(&machine, &visit);
            for _ in 0..config.lanes {
                let lane = Lane {
                    world: world.clone(),
                    checked: checked.clone(),
                    shared: shared.clone(),
                    rng: rng.fork(),
                    name: subject.name.clone(),
                };
                let (pace, bypass) = (config.pace, config.volume.bypass_bytes as u64 / 4096);
                machine.spawn(async move {
                    lane.run(pace, bypass).await;
                    lane.shared.busy.set(lane.shared.busy.get() - 1);
                });
            }
        });
    }
}

impl Subject {
    /// Two more clients of the volume. A reader keeps its session, so it may be with an owner that was replaced; a
    /// visitor opens the volume anew each time, so it writes through whoever is the owner now.
    fn start_others(&self, machine: &world_sim::Host, visit: &Visit) {
        let (reader, visitor) = (visit.clone(), visit.clone());
        let (read_of, visited) = (self.clone(), self.clone());
        let busy = visit.shared.busy.clone();
        busy.set(busy.get() + 2);
        let done = busy.clone();
        machine.spawn(async move {
            read_of.read_on(&reader).await;
            done.set(done.get() - 1);
        });
        machine.spawn(async move {
            visited.visit_often(&visitor).await;
            busy.set(busy.get() - 1);
        });
    }

    async fn read_on(&self, visit: &Visit) {
        let Ok(device) = self.open(visit.world.clone(), visit.way.clone()).await else {
            return;
        };
        let checked = Checked::new(Rc::new(device), self.history.clone());
        while !visit.shared.stop.get() {
            if !self.read_one(&checked, visit).await {
                return;
            }
            let pause = visit
                .rng
                .duration(Duration::ZERO..Duration::from_millis(60));
            visit.world.sleep(pause).await;
        }
    }

    async fn visit_often(&self, visit: &Visit) {
        while !visit.shared.stop.get() {
            let pause = visit
                .rng
                .duration(Duration::from_millis(100)..Duration::from_millis(900));
            visit.world.sleep(pause).await;
            let mut way = visit.way.clone();
            if visit.detours {
                visit.rng.shuffle(&mut way.nodes);
            }
            let opened = self.open(visit.world.clone(), way);
            let Ok(Ok(device)) = visit.world.timeout(VISIT_PATIENCE, opened).await else {
                continue;
            };
            let checked = Checked::new(Rc::new(device.clone()), self.history.clone());
            for _ in 0..3 {
                let at = Lba(visit.rng.below(VISITED_BLOCKS));
                let _ = checked.write(at, 1, WriteMode::Buffered).await;
                self.read_one(&checked, visit).await;
            }
            device.close().await;
        }
    }

    /// Reads some of the blocks that are written most; whether the answer was possible.
    async fn read_one(&self, checked: &Checked, visit: &Visit) -> bool {
        let size = self.history.borrow().blocks();
        let blocks = (1 + visit.rng.below(8)).min(size);
        let start = visit.rng.below((size - blocks + 1).min(12));
        if let Err(Trouble::Violation(violation)) = checked.read(Lba(start), blocks as u32).await {
            let said = format!("{}, seen by another client: {violation}", self.name);
            visit.shared.violate(said);
            return false;
        }
        true
    }
}

/// What clients beside the lanes need.
#[derive(Clone)]
struct Visit {
    world: World,
    way: Way,
    shared: Shared,
    rng: Rc<SimRng>,
    /// Any node may be asked first, so that an owner that is cut off is not.
    detours: bool,
}

/// How clients of a run reach the cluster.
#[derive(Clone)]
pub struct Way {
    /// Nodes to ask first.
    pub nodes: Vec<world::Address>,
    /// When they doubt a silent owner.
    pub doubt_after: Duration,
}

/// A device on a volume, from the given world, without an attachment.
pub async fn open(world: World, way: Way, volume: &str) -> Result<RemoteDevice, String> {
    open_as(world, way, volume, 0, AttachmentGeneration(0)).await
}

/// A device on a volume for a client with an attachment.
pub async fn open_as(
    world: World,
    way: Way,
    volume: &str,
    client: u64,
    attachment: AttachmentGeneration,
) -> Result<RemoteDevice, String> {
    let options = ClientOptions {
        cluster: CLUSTER.to_owned(),
        nodes: way.nodes,
        volume: volume.to_owned(),
        client,
        attachment,
        read_only: false,
        levels: crate::releases::ANY,
        patience: Duration::from_secs(300),
        doubt_after: way.doubt_after,
    };
    RemoteDevice::open(world, options)
        .await
        .map_err(|error| error.to_string())
}

/// Random requests, one after the other.
pub(crate) struct Lane {
    pub(crate) world: World,
    pub(crate) checked: Checked,
    pub(crate) shared: Shared,
    pub(crate) rng: SimRng,
    pub(crate) name: String,
}

impl Lane {
    async fn run(&self, pace: Pace, bypass_blocks: u64) {
        while !self.shared.stop.get() {
            let outcome = self.request(bypass_blocks).await;
            match outcome {
                Ok(_) => self.shared.done.set(self.shared.done.get() + 1),
                Err(Trouble::Refused(error)) => {
                    self.shared.note_refusal(&error);
                    self.world.sleep(Duration::from_millis(20)).await;
                }
                Err(Trouble::Violation(violation)) => {
                    self.shared.violate(format!("{}: {violation}", self.name));
                    return;
                }
            }
            let pause = pace.pause(&self.rng, self.shared.done.get());
            self.world.sleep(pause).await;
        }
    }

    /// One random request.
    pub(crate) async fn request(&self, bypass_blocks: u64) -> Result<Done, Trouble> {
        let rng = &self.rng;
        let size = self.checked.history().borrow().blocks();
        // Half of the requests fall on few blocks, so that they meet.
        let hot = rng.chance(0.5);
        let others = size - VISITED_BLOCKS;
        let start = VISITED_BLOCKS + rng.below(if hot { others.min(24) } else { others });
        let small = (1 + rng.below(4)).min(size - start);
        let mode = if rng.chance(0.1) {
            WriteMode::Fua
        } else {
            WriteMode::Buffered
        };
        match rng.below(100) {
            0..50 => {
                self.checked.write(Lba(start), small as u32, mode).await?;
                Ok(Done::Written)
            }
            50..57 => {
                let large = (bypass_blocks + rng.below(8)).min(size - start);
                self.checked.write(Lba(start), large as u32, mode).await?;
                Ok(Done::Written)
            }
            57..64 => {
                let blocks = (1 + rng.below(64)).min(size - start);
                self.checked.unmap(Lba(start), blocks).await?;
                Ok(Done::Unmapped)
            }
            64..74 => {
                self.checked.flush().await?;
                Ok(Done::Flushed)
            }
            _ => {
                let blocks = (1 + rng.below(16)).min(size - start);
                self.checked.read(Lba(start), blocks as u32).await?;
                Ok(Done::Read)
            }
        }
    }
}

/// What a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Written,
    Unmapped,
    Flushed,
    Read,
}

/// Everything a device holds, block by block.
pub async fn read_image(
    device: &RemoteDevice,
    blocks: u64,
) -> Result<Vec<pattern::Content>, String> {
    let mut contents = Vec::with_capacity(blocks as usize);
    let mut at = 0;
    while at < blocks {
        let count = IMAGE_READ_BLOCKS.min(blocks - at);
        let pieces = device
            .read(Lba(at), count as u32)
            .await
            .map_err(|error| error.to_string())?;
        contents.extend(pattern::read_back_all(&pieces));
        at += count;
    }
    Ok(contents)
}
