//! Several volumes are asked for at once of a node where few openings may work at a time, as after the death of a node that served them:
//! those without clients first, so that those with clients have to overtake them (`turns.rs`).
//!
//! It happens between two acts, when nothing else is amiss. The volumes are empty and deleted afterwards.

use crate::check::{RECOVERY_LIMIT, delete_volume, within_bound};
use crate::cluster::{Cluster, rows};
use crate::config::Config;
use crate::manage::operate;
use crate::owners::Owners;
use api::operation::{Operation, VolumeSpec};
use catalog::{VolumeRow, VolumeState};
use std::cell::Cell;
use std::rc::Rc;
use world::Duration;
use world_sim::SimRng;

/// Volumes without clients.
const IDLE: usize = 3;
/// Attachments that are older than this are known to whoever opens the volume (`turns.rs`).
const KNOWN_AFTER: Duration = Duration::from_millis(6500);
/// How long openings are looked at before their old owner runs again, which may have the only copy of their logs.
const WITHOUT_OWNER: Duration = Duration::from_millis(1500);
/// How long each way to the catalog takes meanwhile: work that takes longer than the questions are apart.
const CATALOG_LATENCY: Duration = Duration::from_millis(15);
/// Pause between two looks at whether all are opened.
const LOOK: Duration = Duration::from_millis(500);

/// When it happens.
pub struct Rush {
    rng: SimRng,
    wanted: Cell<bool>,
}

impl Rush {
    /// What a seed draws, apart from everything else: where one opening works at a time.
    pub fn draw(seed: u64, config: &Config) -> Self {
        let rng = SimRng::named(seed, "a rush");
        let wanted = rng.chance(0.3) && config.openings == 1 && !config.full;
        let wanted = Cell::new(wanted);
        Self { rng, wanted }
    }

    /// Whether it happens now: once at most.
    pub fn is_due(&self) -> bool {
        self.wanted.replace(false)
    }

    /// Makes volumes, lets their owner die, and asks another node for all of them; says what came of it.
    ///
    /// # Errors
    /// What must not be.
    pub fn play(&self, cluster: &Cluster, owners: &mut Owners) -> Result<String, String> {
        let names: Vec<String> = (0..=IDLE).map(|number| format!("rush{number}")).collect();
        for name in &names {
            self.create(cluster, name)?;
        }
        let attached = &names[IDLE];
        within_bound(cluster, "attaching a volume", || {
            let operation = Operation::Attach {
                volume: attached.clone(),
                client: "rush".to_owned(),
                read_only: false,
                shared: false,
            };
            match operate(cluster, &self.rng, operation) {
                Some(Ok(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        let (one, other) = (0, cluster.nodes.len() - 1);
        await_served(cluster, owners, &names, one)?;
        owners.watch(cluster, KNOWN_AFTER)?;
        cluster.crash(one);
        cluster.kv.set_latency(|| CATALOG_LATENCY);
        let asked = names.iter().map(|name| ask(cluster, other, name));
        let asked: Vec<Rc<Cell<bool>>> = asked.collect();
        owners.watch(cluster, WITHOUT_OWNER)?;
        cluster.restart(one);
        cluster.set_catalog_latency();
        await_served(cluster, owners, &names, other)?;
        let answered = asked.iter().filter(|asked| asked.get()).count();
        for name in &names {
            within_bound(cluster, "deleting a volume", || {
                delete_volume(cluster, &self.rng, name)
            })?;
        }
        Ok(format!(
            "a rush: {answered} of {} were opened at the first attempt",
            names.len()
        ))
    }

    fn create(&self, cluster: &Cluster, name: &str) -> Result<(), String> {
        let spec = VolumeSpec {
            name: name.to_owned(),
            container: Some("pool".to_owned()),
            size: Some(64 * 4096),
            ..VolumeSpec::default()
        };
        within_bound(cluster, "creating a volume", || {
            match operate(cluster, &self.rng, Operation::VolumeCreate(spec.clone())) {
                Some(Ok(_)) => Ok(()),
                Some(Err(reason)) if reason.contains("exists") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    }
}

/// Asks a node for these volumes until they are served, by whomever.
fn await_served(
    cluster: &Cluster,
    owners: &mut Owners,
    names: &[String],
    index: usize,
) -> Result<(), String> {
    let deadline = cluster.sim.now() + RECOVERY_LIMIT;
    loop {
        let unserved = names.iter().find(|name| !is_served(cluster, name));
        let Some(name) = unserved else { return Ok(()) };
        if cluster.sim.now() >= deadline {
            return Err(format!("{name} is not served within {RECOVERY_LIMIT:?}"));
        }
        drop(ask(cluster, index, name));
        owners.watch(cluster, LOOK)?;
        cluster.restart_failed();
    }
}

/// Asks a node for a volume; whether it has answered well.
fn ask(cluster: &Cluster, index: usize, name: &str) -> Rc<Cell<bool>> {
    let answered = Rc::new(Cell::new(false));
    let node = &cluster.nodes[index];
    if let Some(host) = node.running.borrow().clone() {
        let (name, told) = (name.to_owned(), answered.clone());
        node.machine.spawn(async move {
            let drained = host.operate(Operation::VolumeDrain { name }).await;
            told.set(drained.is_ok());
        });
    }
    answered
}

fn is_served(cluster: &Cluster, name: &str) -> bool {
    let mut rows = rows::<VolumeRow>(&cluster.kv).into_iter();
    let owner = rows.find(|row| row.name == name && row.state == VolumeState::Ready);
    let owner = owner.and_then(|row| row.owner);
    cluster.hosts().iter().any(|host| {
        let mut volumes = host.volumes().into_iter();
        owner == Some(host.id()) && volumes.any(|volume| volume.name() == name)
    })
}
