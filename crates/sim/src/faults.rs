//! What breaks in an act, and how it is mended before the next disturbance of the same kind.

use crate::bugs::Planted;
use crate::cluster::Cluster;
use crate::operators::replace_dead;
use catalog_kv::memory::Outage;
use std::ops::Range;
use vocab::StoreId;
use world::Duration;
use world_sim::{DiskSnapshot, Rot, SimDisk, SimRng};

/// How long the volumes get to be served again after all processes died, in looks.
const SERVED_LOOKS: u32 = 16;
/// Pause between two of them.
const SERVED_LOOK: Duration = Duration::from_millis(500);

/// A disturbance; says what it did.
type Strike<'a> = fn(&mut Nemesis<'a>) -> String;

/// The disturbances of one act.
pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    rng: SimRng,
    /// For disturbances that came later: those before them strike as they always did.
    later: SimRng,
    /// The machine that may lose data in this act; the others may not, or more copies could be lost than the
    /// replication factor allows.
    unlucky: usize,
    /// Whether it has lost data already.
    struck: bool,
    /// A store of the unlucky machine with its disks as they were and the session the catalog knew then.
    image: Option<Image>,
}

/// A store as it was.
struct Image {
    store: StoreId,
    disks: Vec<(SimDisk, DiskSnapshot)>,
    /// The session that the catalog knew.
    session: u64,
}

impl<'a> Nemesis<'a> {
    /// Disturbances for a new act.
    pub fn new(cluster: &'a Cluster, rng: SimRng) -> Self {
        let unlucky = rng.index(cluster.nodes.len());
        let act = format!("nemesis at {}", cluster.sim.now().0);
        let nemesis = Self {
            cluster,
            rng,
            later: SimRng::named(cluster.sim.seed(), &act),
            unlucky,
            struck: false,
            image: None,
        };
        if cluster.config.faults.disk_loss && nemesis.rng.chance(0.5) {
            let (store, disks) = nemesis
                .rng
                .pick(&cluster.nodes[unlucky].bay.stores())
                .clone();
            let pair = |disk: SimDisk| (disk.clone(), disk.snapshot());
            let disks = disks.into_iter().map(pair).collect();
            let session = nemesis.session_of(store);
            return Self {
                image: Some(Image {
                    store,
                    disks,
                    session,
                }),
                ..nemesis
            };
        }
        nemesis
    }

    /// The session of a store of the unlucky machine that the catalog knows.
    fn session_of(&self, id: StoreId) -> u64 {
        let rows = crate::cluster::rows::<catalog::StoreRow>(&self.cluster.kv);
        let row = rows.into_iter().find(|row| row.id == id);
        row.map_or(0, |row| row.session)
    }

    /// Whether a store has the disks it had, and the catalog has heard of it since.
    fn is_still(&self, image: &Image) -> bool {
        let bay = &self.cluster.nodes[self.unlucky].bay;
        let mut disks = image.disks.iter().map(|(disk, _)| disk.name());
        disks.all(|disk| bay.store_of(disk) == Some(image.store))
            && self.session_of(image.store) != image.session
    }

    fn any(&self) -> usize {
        self.rng.index(self.cluster.nodes.len())
    }

    /// One disturbance, drawn from those the run may meet; says what it was.
    pub fn strike(&mut self) -> String {
        let faults = self.cluster.config.faults;
        let mut choices: Vec<Strike<'a>> = vec![|_| "calm".to_owned()];
        let known: [(bool, Strike<'a>); 14] = [
            (faults.split, Self::split),
            (faults.crash, Self::crash),
            (faults.power, Self::power),
            (faults.partition, Self::partition),
            (faults.pause, Self::pause),
            (faults.catalog, Self::catalog),
            (faults.rot, Self::rot),
            (faults.disk_loss, Self::lose_disk),
            (faults.disk_trouble, Self::trouble_disk),
            (faults.clock, Self::clock),
            (faults.massacre, Self::massacre),
            (faults.usurp, Self::usurp),
            (faults.lost_flush, Self::lose_flush),
            (faults.misdirect, Self::misdirect),
        ];
        choices.extend(
            known
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, strike)| *strike),
        );
        let strike = *self.rng.pick(&choices);
        strike(self)
    }

    fn crash(&mut self) -> String {
        let index = self.any();
        self.cluster.crash(index);
        if self.rng.chance(0.7) {
            self.cluster.restart(index);
            return format!("crash and restart n{index}");
        }
        format!("crash n{index}")
    }

    fn power(&mut self) -> String {
        let index = self.unlucky;
        if std::mem::replace(&mut self.struck, true) {
            self.cluster.restart(index);
            return format!("start n{index}");
        }
        self.cluster.power_loss(index);
        if self.rng.chance(0.7) {
            self.cluster.restart(index);
        }
        format!("power loss of n{index}")
    }

    fn partition(&mut self) -> String {
        self.cluster.unsettle();
        if self.rng.chance(0.4) {
            self.cluster.sim.heal_all();
            return "networks heal".to_owned();
        }
        let (from, to) = (self.any(), self.any());
        let nodes = &self.cluster.nodes;
        if from == to {
            self.cluster.sim.isolate(&nodes[from].machine);
            return format!("isolate n{from}");
        }
        if self.rng.chance(0.5) {
            self.cluster
                .sim
                .partition(&nodes[from].machine, &nodes[to].machine);
            return format!("cut n{from} to n{to}");
        }
        self.cluster
            .sim
            .partition_both(&nodes[from].machine, &nodes[to].machine);
        format!("part n{from} and n{to}")
    }

    /// A node loses the other nodes and the catalog, but not its clients: what an old owner must survive.
    fn split(&mut self) -> String {
        self.cluster.unsettle();
        let index = self.any();
        let nodes = &self.cluster.nodes;
        // Without the partition the old owner goes on writing to its replicas: only their promises stop it.
        let apart = self.rng.chance(0.6);
        for other in (0..nodes.len()).filter(|&other| other != index && apart) {
            self.cluster
                .sim
                .partition_both(&nodes[index].machine, &nodes[other].machine);
        }
        let Some(kv) = nodes[index].kv.borrow().clone() else {
            return "calm".to_owned();
        };
        kv.set_outage_here(self.outage());
        let sim_length = self
            .rng
            .duration(Duration::from_secs(2)..Duration::from_secs(9));
        self.cluster
            .sim
            .after(sim_length, move || kv.set_outage_here(Outage::None));
        format!("split n{index} off")
    }

    fn pause(&mut self) -> String {
        self.cluster.unsettle();
        let index = self.any();
        let machine = &self.cluster.nodes[index].machine;
        if !machine.is_up() {
            return "calm".to_owned();
        }
        if machine.is_paused() {
            machine.resume();
            return format!("resume n{index}");
        }
        machine.pause();
        let (machine, length) = (
            machine.clone(),
            self.rng
                .duration(Duration::from_millis(50)..Duration::from_secs(5)),
        );
        self.cluster.sim.after(length, move || {
            if machine.is_paused() {
                machine.resume();
            }
        });
        format!("pause n{index}")
    }

    fn catalog(&mut self) -> String {
        self.cluster.unsettle();
        if self.rng.chance(0.3) {
            self.cluster.kv.expire_leases();
            return "the catalog forgets its leases".to_owned();
        }
        let outage = self.outage();
        self.cluster.kv.set_outage(outage);
        let kv = self.cluster.kv.clone();
        let length = self
            .rng
            .duration(Duration::from_millis(100)..Duration::from_secs(4));
        self.cluster
            .sim
            .after(length, move || kv.set_available(true));
        format!("the catalog is out of reach: {outage:?}")
    }

    /// How the catalog is out of reach: requests do not arrive, or answers do not.
    fn outage(&self) -> Outage {
        match self.cluster.config.temper.loses_answers && self.later.chance(0.5) {
            true => Outage::After,
            false => Outage::Before,
        }
    }

    fn rot(&mut self) -> String {
        self.struck = true;
        let disks = &self.cluster.nodes[self.unlucky].disks;
        let disk = &disks[self.rng.index(disks.len())];
        let early = self.cluster.config.planted.is_some_and(Planted::is_early);
        if !early && self.later.chance(0.3) {
            // Not of the journal or the state: a store that cannot read those does not open.
            let extents = extents_of(disk);
            let pages = 1 + self.later.below(4);
            let struck = (0..pages).filter_map(|_| disk.fail_reads_somewhere(extents.clone()));
            return format!("{} unreadable pages on {}", struck.count(), disk.name());
        }
        let mut struck = 0;
        for _ in 0..1 + self.rng.below(4) {
            // Behind the headers and marks: losing both copies of a header is losing the disk.
            struck += u32::from(
                disk.rot_somewhere(4 * 4096..disk.size(), Rot::Bits(3))
                    .is_some(),
            );
        }
        format!("{struck} rotten pages on {}", disk.name())
    }

    /// The disk says that a flush failed, once, and never makes durable what it held, although it goes on returning it.
    fn lose_flush(&mut self) -> String {
        self.cluster.unsettle();
        self.struck = true;
        let disks = &self.cluster.nodes[self.unlucky].disks;
        let disk = &disks[self.later.index(disks.len())];
        disk.lose_next_flush();
        format!("a flush of {} fails and is lost", disk.name())
    }

    /// A piece of an extent is written over something else. Not so a batch of the journal: when the newest one is not
    /// there although the disk said so, nothing on the disk tells, and its store is believed when it starts again.
    fn misdirect(&mut self) -> String {
        self.struck = true;
        let disks = &self.cluster.nodes[self.unlucky].disks;
        let disk = &disks[self.later.index(disks.len())];
        let extents = extents_of(disk);
        // Anywhere behind the headers and marks, the journal and the state included.
        let target = self.later.range(4 * 4096..disk.size());
        disk.misdirect_next_write(extents, target);
        format!("an extent of {} is written to byte {target}", disk.name())
    }

    fn lose_disk(&mut self) -> String {
        let index = self.unlucky;
        if std::mem::replace(&mut self.struck, true) {
            return "calm".to_owned();
        }
        let online = self.cluster.config.operating.disks && self.later.chance(0.6);
        if online && let Some(said) = replace_dead(self.cluster, &self.later, index) {
            return said;
        }
        self.cluster.crash(index);
        let what = self.exchange_disks();
        self.cluster.restart(index);
        what
    }

    /// A store of the unlucky machine, which is down, gets blank or older disks.
    fn exchange_disks(&mut self) -> String {
        let index = self.unlucky;
        match self.image.take() {
            // A disk that goes back to before the catalog last heard of it is found out; one that goes back
            // by less is not, which docs/operating says.
            Some(image) if self.is_still(&image) => {
                image
                    .disks
                    .iter()
                    .for_each(|(disk, then)| disk.roll_back(then));
                format!("{} goes back in time", image.store)
            }
            _ => {
                let stores = self.cluster.nodes[index].bay.stores();
                let (store, disks) = self.rng.pick(&stores);
                disks.iter().for_each(SimDisk::replace_blank);
                format!("{store} gets blank disks")
            }
        }
    }

    /// Disks of two machines are in the wrong bays for a while: each must notice, and touch nothing.
    fn swap_disks(&mut self) -> String {
        let one = self.later.index(self.cluster.nodes.len());
        let other = (one + 1) % self.cluster.nodes.len();
        self.cluster.swap(one, other);
        let length = Duration::from_millis(500)..Duration::from_secs(4);
        self.cluster.sim.run_for(self.later.duration(length));
        self.cluster.swap(one, other);
        format!("a disk of n{one} and one of n{other} were in each other's place")
    }

    fn trouble_disk(&mut self) -> String {
        self.cluster.unsettle();
        let index = self.any();
        if self.cluster.config.operating.swaps && self.later.chance(0.5) {
            return self.swap_disks();
        }
        let disks = &self.cluster.nodes[index].disks;
        let disk = &disks[self.rng.index(disks.len())];
        match self.rng.below(4) {
            0 => {
                disk.set_slow(20);
                format!("{} is slow", disk.name())
            }
            1 => {
                disk.set_hung(true);
                let (disk, name) = (disk.clone(), disk.name().to_owned());
                let length = self
                    .rng
                    .duration(Duration::from_millis(50)..Duration::from_secs(4));
                self.cluster.sim.after(length, move || disk.set_hung(false));
                format!("{name} hangs")
            }
            2 => {
                disk.fail_next_write();
                format!("a write of {} fails", disk.name())
            }
            _ => {
                disk.set_slow(1);
                format!("{} is well", disk.name())
            }
        }
    }

    fn clock(&mut self) -> String {
        self.cluster.unsettle();
        let index = self.any();
        let machine = &self.cluster.nodes[index].machine;
        if self.rng.chance(0.5) {
            machine.jump_wall_clock(self.rng.below(7_200_000) as i64 - 3_600_000);
            return format!("the wall clock of n{index} jumps");
        }
        // Far more than any crystal; the allowance of a takeover is 10 %.
        machine.set_clock_drift(self.rng.below(100_000) as i32 - 50_000);
        format!("the clock of n{index} drifts")
    }

    /// All processes die at one moment, some writes under way. The machines come back in any order; the unlucky one may
    /// have lost its power, so that it is suspect, or the disks of a store.
    fn massacre(&mut self) -> String {
        let (dark, said) = self.kill_all();
        // Whoever answers first must wait for those who know more, which takes no partition on top.
        self.cluster.sim.heal_all();
        self.cluster.catalog_is_back();
        let mut nodes: Vec<usize> = (0..self.cluster.nodes.len()).collect();
        self.later.shuffle(&mut nodes);
        if dark && self.later.chance(0.7) {
            // The suspect one is alone for long enough to take over, and not for as long as it may wait for the others.
            nodes.retain(|&index| index != self.unlucky);
            self.cluster.restart(self.unlucky);
            let pause = Duration::from_millis(3000)..Duration::from_millis(6000);
            self.cluster.sim.run_for(self.later.duration(pause));
        }
        for index in nodes {
            let pause = Duration::ZERO..Duration::from_millis(1000);
            let pause = self.later.duration(pause) * self.later.below(2) as u32;
            self.cluster.sim.run_for(pause);
            self.cluster.restart(index);
        }
        for _ in 0..SERVED_LOOKS {
            if self.cluster.all_served() {
                break;
            }
            self.cluster.sim.run_for(SERVED_LOOK);
        }
        said
    }

    /// Whether the unlucky one lost its power, and what happened.
    fn kill_all(&mut self) -> (bool, String) {
        let disks = || self.cluster.nodes.iter().flat_map(|node| &node.disks);
        if self.later.chance(0.7) {
            disks().for_each(|disk| disk.set_hung(true));
            let pause = Duration::ZERO..Duration::from_millis(40);
            self.cluster.sim.run_for(self.later.duration(pause));
        }
        let faults = self.cluster.config.faults;
        let struck = self.struck;
        let dark = self.cluster.config.survives() && !struck && self.later.chance(0.6);
        let blank = faults.disk_loss && !struck && !dark && self.later.chance(0.5);
        for index in 0..self.cluster.nodes.len() {
            match index == self.unlucky && dark {
                true => self.cluster.power_loss(index),
                false => self.cluster.crash(index),
            }
        }
        self.struck |= dark || blank;
        let exchanged = match blank {
            true => format!("; {}", self.exchange_disks()),
            false if dark => format!("; n{} loses power", self.unlucky),
            false => String::new(),
        };
        disks().for_each(|disk| disk.set_hung(false));
        (dark, format!("all processes die{exchanged}"))
    }

    /// An owner loses the catalog, which forgets its lease, and perhaps the others: the next owner is there while the
    /// old one's reads are still confirmed.
    fn usurp(&mut self) -> String {
        self.cluster.unsettle();
        let cluster = self.cluster;
        let owns = |index: &usize| {
            let host = cluster.nodes[*index].running.borrow().clone();
            host.is_some_and(|host| !host.volumes().is_empty())
        };
        let owners: Vec<usize> = (0..cluster.nodes.len()).filter(owns).collect();
        if owners.is_empty() || cluster.nodes.len() < 2 {
            return "calm".to_owned();
        }
        let index = *self.later.pick(&owners);
        let machine = &cluster.nodes[index].machine;
        let Some(kv) = cluster.nodes[index].kv.borrow().clone() else {
            return "calm".to_owned();
        };
        // Without the partition the old owner goes on writing to its replicas, which only their promises stop. With one
        // copy the log would be cut off with its owner, and nobody could take over.
        let apart = self.later.chance(0.6) && cluster.config.replication_factor > 1;
        for other in (0..cluster.nodes.len()).filter(|&other| other != index && apart) {
            let other = &cluster.nodes[other].machine;
            cluster.sim.partition_both(machine, other);
        }
        kv.set_outage_here(Outage::Before);
        cluster.kv.expire_leases();
        let length = Duration::from_millis(1500)..Duration::from_secs(5);
        cluster.sim.run_for(self.later.duration(length));
        kv.set_outage_here(Outage::None);
        cluster.sim.heal_all();
        match apart {
            true => format!("n{index} is cut off and its lease forgotten"),
            false => format!("n{index} loses the catalog, which forgets its lease"),
        }
    }
}

/// Where a disk has its extents (docs/formats/disk-header.md).
fn extents_of(disk: &SimDisk) -> Range<u64> {
    let page = disk.peek(0, 4096);
    let number = |at: usize| {
        let bytes = page[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    let (offset, length) = (number(192), number(200));
    offset..offset + length
}
