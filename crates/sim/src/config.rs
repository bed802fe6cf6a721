//! What a seed makes of a run: swarm testing (Groce et al., 2012) - each run leaves most features at one
//! setting and most faults out, so that the rest interact more.

use crate::attached::Attached;
use crate::bugs::Planted;
use crate::clients::Pace;
use crate::full::Cramped;
use crate::moving::Moving;
use crate::operators::Operating;
use world::Duration;
use world_sim::{Options, SimRng};

/// Openings that work at a time, as in the product.
const OPENINGS: usize = 8;
/// Requests of a run after which lanes rest between bursts.
const LIVELY_REQUESTS: u64 = 6000;

/// How a run is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nodes.
    pub nodes: usize,
    /// Stores of each node.
    pub stores_per_node: usize,
    /// Disks of each store. The journal's flush reaches the first one only.
    pub disks_per_store: usize,
    /// Copies.
    pub replication_factor: u8,
    /// Copies below which writes stop.
    pub copies_min: u8,
    /// Every write is durable when acknowledged.
    pub sync_always: bool,
    /// LZ4.
    pub compress: bool,
    /// Volumes at the start.
    pub volumes: usize,
    /// Blocks of each.
    pub blocks: u64,
    /// Requests in flight per volume.
    pub lanes: usize,
    /// How fast lanes ask.
    pub pace: Pace,
    /// Acts.
    pub acts: usize,
    /// Disturbances per act.
    pub steps: usize,
    /// Which faults happen.
    pub faults: Faults,
    /// Snapshots, clones, deletions, growth.
    pub manage: bool,
    /// Whether there is a volume with attachments.
    pub attached: bool,
    /// Whether the pool is filled up.
    pub full: bool,
    /// Whether stores are told of logs and of the catalog.
    pub described: bool,
    /// Tunables of volumes.
    pub volume: volume::Options,
    /// Bytes of a store's journal.
    pub journal_bytes: u64,
    /// Bytes of a disk.
    pub disk_bytes: u64,
    /// Placement groups per factor.
    pub groups: u32,
    /// When groups change their members.
    pub moving: Moving,
    /// What operators do.
    pub operating: Operating,
    /// Openings that work at a time on a node.
    pub openings: usize,
    /// Racks that the nodes are in, by turns; none: nodes have no labels.
    pub racks: usize,
    /// Whether a node that joins late must be approved first.
    pub candidates: bool,
    /// How the catalog answers.
    pub temper: Temper,
    /// The simulation's own.
    pub options: Options,
    /// A deliberate bug.
    pub planted: Option<Planted>,
    /// The same without the bug: what a seed finds then is no proof that the bug was found.
    pub is_control: bool,
}

/// Faults that a run may meet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Processes die and come back.
    pub crash: bool,
    /// A single machine loses power.
    pub power: bool,
    /// All lose power at the end of an act.
    pub blackout: bool,
    /// Networks part, one-way too.
    pub partition: bool,
    /// A node loses the others and the catalog, but not its clients.
    pub split: bool,
    /// Processes stop for a while.
    pub pause: bool,
    /// The catalog is out of reach, or forgets its leases.
    pub catalog: bool,
    /// Stored bits change on one machine.
    pub rot: bool,
    /// A disk is replaced or goes back in time on one machine.
    pub disk_loss: bool,
    /// Disks fail, hang or are slow.
    pub disk_trouble: bool,
    /// Clocks run at different rates, wall clocks jump.
    pub clock: bool,
    /// All processes die at one moment, while their disks have writes in flight.
    pub massacre: bool,
    /// An owner that is cut off goes on while the catalog forgets its lease.
    pub usurp: bool,
    /// A flush of one machine fails and its data is never durable.
    pub lost_flush: bool,
    /// Extents of one machine are written elsewhere.
    pub misdirect: bool,
}

/// How the catalog answers: as a real one does, not at once and not always when it has done what it was asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Temper {
    /// A request takes so long at most; nothing: no time.
    pub latency: Option<Duration>,
    /// While it is out of reach it may do what it is asked, and the answer is lost.
    pub loses_answers: bool,
}

impl Temper {
    /// What a seed draws, apart from everything else.
    pub fn draw(seed: u64) -> Self {
        let rng = SimRng::named(seed, "temper of the catalog");
        let latencies = [
            Duration::from_micros(500),
            Duration::from_millis(3),
            Duration::from_millis(20),
        ];
        let latency = *rng.pick(&latencies);
        Self {
            latency: rng.chance(0.4).then_some(latency),
            loses_answers: rng.chance(0.4),
        }
    }
}

impl Config {
    /// When clients doubt a silent owner. Runs with a planted bug are without: they keep the histories that find it.
    pub(crate) fn doubt_after(&self) -> Duration {
        match self.planted.is_some_and(Planted::is_early) {
            true => Duration::MAX,
            false => client::DOUBT_AFTER,
        }
    }

    /// The configuration of a seed.
    #[must_use]
    pub fn draw(seed: u64, planted: Option<Planted>) -> Self {
        let drawn = Self::draw_at_ease(seed, planted);
        let cramped = Cramped::draw(seed);
        let steady = !drawn.moving.joins && cramped.is_none();
        // Runs with a planted bug are without what came later: they keep the histories that find it.
        let early = planted.is_some_and(Planted::is_early);
        let operating = match early {
            true => Operating::default(),
            false => Operating::draw(seed, steady),
        };
        let temper = match early {
            true => Temper::default(),
            false => Temper::draw(seed),
        };
        let drawn = Self {
            operating,
            temper,
            ..drawn
        };
        let drawn = match cramped {
            Some(cramped) => Self {
                full: true,
                disk_bytes: cramped.disk_bytes,
                journal_bytes: 4 << 20,
                // What is written shall take the space that it seems to take.
                compress: false,
                blocks: drawn.blocks.min(512),
                ..drawn
            },
            None if !early => drawn.with_many(seed),
            None => drawn,
        };
        match drawn.is_newest() {
            true => drawn.with_newest(seed),
            false => drawn,
        }
    }

    /// Whether the run has everything: runs with bugs of before are without what came after them.
    pub(crate) fn is_newest(&self) -> bool {
        self.planted.is_none_or(Planted::is_newest)
    }

    /// Openings that wait for their turn, racks, and nodes that must be approved, each in some seeds.
    fn with_newest(self, seed: u64) -> Self {
        let turns = SimRng::named(seed, "turns");
        let racks = SimRng::named(seed, "racks");
        let count = *racks.pick(&[2, 2, 3]);
        let drawn = Self {
            openings: if turns.chance(0.35) { 1 } else { OPENINGS },
            candidates: SimRng::named(seed, "candidates").chance(0.5) && self.moving.joins,
            ..self
        };
        match racks.chance(0.35) {
            true => Self {
                // One rack at least has two nodes.
                nodes: drawn.nodes.max(count + 1),
                racks: count,
                ..drawn
            },
            false => drawn,
        }
    }

    /// Five or seven nodes of one store each, in some seeds.
    fn with_many(self, seed: u64) -> Self {
        let rng = SimRng::named(seed, "many stores");
        let nodes = *rng.pick(&[5, 5, 7]);
        match rng.chance(0.1) {
            true => Self {
                nodes,
                stores_per_node: 1,
                ..self
            },
            false => self,
        }
    }

    fn draw_at_ease(seed: u64, planted: Option<Planted>) -> Self {
        let rng = SimRng::named(seed, "config");
        // What came later draws from a source of its own: seeds without it keep their histories.
        let later = SimRng::named(seed, "config, continued");
        let replication_factor = *rng.pick(&[1, 2, 2, 2, 3, 3]);
        let spare = usize::from(rng.chance(0.5));
        let nodes = (usize::from(replication_factor) + spare).max(2 + usize::from(rng.chance(0.6)));
        let stores_per_node = if nodes <= 3 && rng.chance(0.3) { 2 } else { 1 };
        let strict = replication_factor == 1 || rng.chance(0.5);
        let copies_min = if strict {
            replication_factor
        } else {
            (replication_factor - 1).max(1)
        };
        Self {
            nodes,
            stores_per_node,
            disks_per_store: if later.chance(0.3) { 2 } else { 1 },
            replication_factor,
            copies_min,
            sync_always: rng.chance(0.1),
            compress: rng.chance(0.5),
            volumes: 1 + rng.index(2),
            blocks: *rng.pick(&[64, 512, 2048, 70_000]),
            lanes: 1 + rng.index(4),
            pace: Pace {
                think: *rng.pick(&[
                    Duration::from_millis(5),
                    Duration::from_millis(15),
                    Duration::from_millis(40),
                ]),
                // Runs with a planted bug are without rests: they keep the histories that find it.
                lively: planted.map_or(LIVELY_REQUESTS, |_| u64::MAX),
            },
            acts: 1 + rng.index(3),
            steps: 3 + rng.index(8),
            faults: Faults::draw(&rng, &later, strict, replication_factor).with_lies(seed),
            manage: rng.chance(0.6),
            attached: Attached::draw(seed),
            full: false,
            described: SimRng::named(seed, "notes").chance(0.6) && !flushes_hide(planted),
            volume: draw_volume(&rng),
            journal_bytes: *rng.pick(&[4 << 20, 8 << 20, 16 << 20]),
            disk_bytes: *rng.pick(&[512 << 20, 1 << 30]),
            groups: 1 + rng.index(6) as u32,
            moving: Moving::draw(seed),
            operating: Operating::default(),
            openings: usize::MAX,
            racks: 0,
            candidates: false,
            temper: Temper::default(),
            options: if rng.chance(0.5) {
                Options::rough()
            } else {
                Options::default()
            },
            planted,
            is_control: false,
        }
    }
}

impl Config {
    /// Whether what is acknowledged lies on so many machines that one of them may lose it.
    #[must_use]
    pub fn survives(&self) -> bool {
        self.copies_min == self.replication_factor && self.replication_factor > 1
    }
}

impl Faults {
    fn draw(rng: &SimRng, later: &SimRng, strict: bool, replication_factor: u8) -> Self {
        let survives = strict && replication_factor > 1;
        Self {
            crash: rng.chance(0.6),
            power: rng.chance(0.4) && survives,
            blackout: rng.chance(0.5),
            partition: rng.chance(0.4),
            split: rng.chance(0.4),
            pause: rng.chance(0.3),
            catalog: rng.chance(0.25),
            rot: rng.chance(0.25) && survives,
            disk_loss: rng.chance(0.25) && survives,
            disk_trouble: rng.chance(0.2),
            clock: rng.chance(0.2),
            massacre: later.chance(0.3),
            usurp: later.chance(0.3),
            lost_flush: survives,
            misdirect: survives,
        }
    }

    /// Whether disks damage or forget what was on them.
    #[must_use]
    pub fn lies(self) -> bool {
        self.rot || self.misdirect || self.disk_loss || self.lost_flush
    }

    /// Disks that lie, for some of the seeds that bear it.
    fn with_lies(self, seed: u64) -> Self {
        let rng = SimRng::named(seed, "lies");
        Self {
            lost_flush: rng.chance(0.2) && self.lost_flush,
            misdirect: rng.chance(0.2) && self.misdirect,
            ..self
        }
    }
}

fn draw_volume(rng: &SimRng) -> volume::Options {
    let drain_bytes = *rng.pick(&[64 << 10, 512 << 10, 2 << 20]);
    volume::Options {
        drain_bytes,
        undrained_bytes_max: drain_bytes * *rng.pick(&[2, 4]),
        // Two volumes that write at once have less than their own bounds.
        undrained_node_bytes_max: drain_bytes * 6,
        drain_idle: *rng.pick(&[Duration::from_millis(100), Duration::from_secs(1)]),
        bypass_bytes: *rng.pick(&[16 << 10, 64 << 10, 256 << 10]),
        append_bytes_max: *rng.pick(&[32 << 10, 1 << 20]),
        inflight_bytes_max: *rng.pick(&[256 << 10, 4 << 20]),
        publish_every: 1 + rng.index(4) as u32,
        ..volume::Options::default()
    }
}

/// Notes flush the device of a store for their own sake, which makes up for a flush that is missing.
fn flushes_hide(planted: Option<Planted>) -> bool {
    planted == Some(Planted::Volume(volume::Bug::SkipExtentFlush))
}
