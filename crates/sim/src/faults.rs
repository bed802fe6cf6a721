//! What breaks in an act, and how it is mended before the next disturbance of the same kind.

use crate::cluster::Cluster;
use catalog_kv::memory::Outage;
use world::Duration;
use world_sim::{DiskSnapshot, Rot, SimRng};

/// A disturbance; says what it did.
type Strike<'a> = fn(&mut Nemesis<'a>) -> String;

/// The disturbances of one act.
pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    rng: SimRng,
    /// The machine that may lose data in this act; the others may not, or more copies could be lost than the
    /// replication factor allows.
    unlucky: usize,
    /// Whether it has lost data already.
    struck: bool,
    /// A disk of the unlucky machine as it was, with the session the catalog knew then.
    image: Option<(usize, DiskSnapshot, u64)>,
}

impl<'a> Nemesis<'a> {
    /// Disturbances for a new act.
    pub fn new(cluster: &'a Cluster, rng: SimRng) -> Self {
        let unlucky = rng.index(cluster.nodes.len());
        let nemesis = Self {
            cluster,
            rng,
            unlucky,
            struck: false,
            image: None,
        };
        if cluster.config.faults.disk_loss && nemesis.rng.chance(0.5) {
            let disk = nemesis.rng.index(cluster.nodes[unlucky].disks.len());
            let image = cluster.nodes[unlucky].disks[disk].snapshot();
            let session = nemesis.session_of(disk);
            return Self {
                image: Some((disk, image, session)),
                ..nemesis
            };
        }
        nemesis
    }

    /// The session of a store of the unlucky machine that the catalog knows.
    fn session_of(&self, disk: usize) -> u64 {
        let number = (self.unlucky * self.cluster.config.stores_per_node + disk + 1) as u32;
        let key = catalog::StoreRow::key_of(vocab::StoreId(number));
        let entries = self.cluster.kv.entries();
        let entry = entries.iter().find(|entry| entry.key == key);
        let row =
            entry.and_then(|entry| serde_json::from_slice::<catalog::StoreRow>(&entry.value).ok());
        row.map_or(0, |row| row.session)
    }

    fn any(&self) -> usize {
        self.rng.index(self.cluster.nodes.len())
    }

    /// One disturbance, drawn from those the run may meet; says what it was.
    pub fn strike(&mut self) -> String {
        let faults = self.cluster.config.faults;
        let mut choices: Vec<Strike<'a>> = vec![|_| "calm".to_owned()];
        let known: [(bool, Strike<'a>); 10] = [
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
        kv.set_outage_here(Outage::Before);
        let sim_length = self
            .rng
            .duration(Duration::from_secs(2)..Duration::from_secs(9));
        self.cluster
            .sim
            .after(sim_length, move || kv.set_outage_here(Outage::None));
        format!("split n{index} off")
    }

    fn pause(&mut self) -> String {
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
        if self.rng.chance(0.3) {
            self.cluster.kv.expire_leases();
            return "the catalog forgets its leases".to_owned();
        }
        self.cluster.kv.set_available(false);
        let kv = self.cluster.kv.clone();
        let length = self
            .rng
            .duration(Duration::from_millis(100)..Duration::from_secs(4));
        self.cluster
            .sim
            .after(length, move || kv.set_available(true));
        "the catalog is out of reach".to_owned()
    }

    fn rot(&mut self) -> String {
        self.struck = true;
        let disks = &self.cluster.nodes[self.unlucky].disks;
        let disk = &disks[self.rng.index(disks.len())];
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

    fn lose_disk(&mut self) -> String {
        let index = self.unlucky;
        if std::mem::replace(&mut self.struck, true) {
            return "calm".to_owned();
        }
        self.cluster.crash(index);
        let disks = &self.cluster.nodes[index].disks;
        let what = match self.image.take() {
            // A disk that goes back to before the catalog last heard of it is found out; one that goes back
            // by less is not, which docs/operating says.
            Some((disk, image, session)) if self.session_of(disk) != session => {
                disks[disk].roll_back(&image);
                format!("{} goes back in time", disks[disk].name())
            }
            _ => {
                let disk = &disks[self.rng.index(disks.len())];
                disk.replace_blank();
                format!("{} is replaced by a blank one", disk.name())
            }
        };
        self.cluster.restart(index);
        what
    }

    fn trouble_disk(&mut self) -> String {
        let index = self.any();
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
}
