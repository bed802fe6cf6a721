//! The pool fills up in the middle of an act: new data is refused while reads, unmaps and drains go on, and once
//! something is deleted everything goes on. While the cluster protects its last space, copies are still made and deletion
//! succeeds; protection ends by itself.

use crate::check::{self, within_bound};
use crate::clients::{Shared, Subject, open};
use crate::cluster::{Cluster, rows};
use crate::manage::operate;
use api::operation::{Operation, VolumeSpec};
use blockdev::{BlockDevice, BlockError, WriteMode};
use catalog::{SpaceRow, SpaceState};
use client::RemoteDevice;
use futures_util::future::join_all;
use std::cell::Cell;
use std::rc::Rc;
use vocab::Lba;
use workload::oracle::Checked;
use workload::pattern;
use world::{Duration, World};
use world_sim::SimRng;

/// Size of the volume that takes all the space.
const FILLER_BLOCKS: u64 = 1 << 18;
/// Blocks of one of its writes.
const RUN_BLOCKS: u32 = 64;
/// Writes at a time.
const WRITERS: usize = 4;
/// Refusals after which the pool counts as full.
const REFUSALS: u32 = 2;
/// How long the filling may take.
const FILL_PATIENCE: Duration = Duration::from_secs(90);
const NAME: &str = "filler";

/// Disks so small that a volume fills them while a seed is played.
#[derive(Clone, Copy, Debug)]
pub struct Cramped {
    /// Bytes of a disk.
    pub disk_bytes: u64,
}

impl Cramped {
    /// What a seed draws, apart from everything else.
    #[must_use]
    pub fn draw(seed: u64) -> Option<Self> {
        let rng = SimRng::named(seed, "full");
        let disk_bytes = *rng.pick(&[64 << 20, 96 << 20]);
        rng.chance(0.15).then_some(Self { disk_bytes })
    }
}

/// The volume that fills the pool.
pub struct Filler {
    rng: SimRng,
    exists: bool,
}

/// How far the filling is.
#[derive(Default)]
struct Tally {
    next: Cell<u64>,
    written: Cell<u64>,
    refused: Cell<u32>,
}

impl Filler {
    /// None yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: SimRng::named(seed, "full, steps"),
            exists: false,
        }
    }

    /// Fills the pool, if that may happen now; says what it did.
    pub fn step(&mut self, cluster: &Cluster, shared: &Shared) -> Option<String> {
        if self.exists || !self.rng.chance(0.4) {
            return None;
        }
        let spec = VolumeSpec {
            name: NAME.to_owned(),
            container: Some("pool".to_owned()),
            size: Some(FILLER_BLOCKS * 4096),
            ..VolumeSpec::default()
        };
        let created = operate(cluster, &self.rng, Operation::VolumeCreate(spec));
        // Perhaps it exists now, whatever the answer was.
        self.exists = true;
        if !matches!(created, Some(Ok(_))) {
            return Some(format!("no filler: {created:?}"));
        }
        let tally = Rc::new(Tally::default());
        let (world, way) = (cluster.client.world(), cluster.way());
        let (shared, of_tasks) = (shared.clone(), tally.clone());
        cluster.client.spawn(async move {
            let Ok(device) = open(world.clone(), way, NAME).await else {
                return;
            };
            let fills = (0..WRITERS).map(|_| {
                let (device, world) = (device.clone(), world.clone());
                fill(device, world, shared.clone(), of_tasks.clone())
            });
            let filling = join_all(fills);
            let _ = world.timeout(FILL_PATIENCE, filling).await;
            device.close().await;
        });
        let wait = self.rng.duration(Duration::from_secs(20)..FILL_PATIENCE);
        let full = || tally.refused.get() >= REFUSALS;
        let found = cluster.sim.run_until(full, wait);
        let mib = tally.written.get() * u64::from(RUN_BLOCKS) * 4 / 1024;
        Some(format!("the pool is filled up by {mib} MiB; full: {found}"))
    }

    /// Once the cluster is well: the filler is deleted, and every volume takes writes again.
    ///
    /// # Errors
    /// When not within the bound.
    pub fn end(&mut self, cluster: &Cluster, subjects: &[Subject]) -> Result<(), String> {
        if !std::mem::take(&mut self.exists) {
            return Ok(());
        }
        if is_protected(cluster) {
            within_bound(
                cluster,
                "making copies in a protected pool",
                || match is_protected(cluster) {
                    true => check::is_redundant(cluster),
                    false => Ok(()),
                },
            )?;
        }
        within_bound(cluster, "deleting the filler", || {
            let name = NAME.to_owned();
            match operate(cluster, &self.rng, Operation::VolumeDelete { name }) {
                Some(Ok(_)) => Ok(()),
                Some(Err(reason)) if reason.contains("there is no") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        within_bound(cluster, "the end of protection", || {
            match is_protected(cluster) {
                true => Err("new data is refused".to_owned()),
                false => Ok(()),
            }
        })?;
        for subject in subjects {
            within_bound(cluster, "writing once there is space again", || {
                write_one(cluster, subject)
            })?;
        }
        Ok(())
    }
}

/// Whether new data with any number of copies is refused, as the catalog says.
pub fn is_protected(cluster: &Cluster) -> bool {
    let spaces = rows::<SpaceRow>(&cluster.kv);
    let mut states = spaces.iter().flat_map(|space| space.factors.values());
    states.any(|state| *state == SpaceState::Protected)
}

/// Writes run after run until the volume's end; several of these share `next`.
async fn fill(device: RemoteDevice, world: World, shared: Shared, tally: Rc<Tally>) {
    loop {
        let at = tally.next.get();
        if shared.stop.get() || at + u64::from(RUN_BLOCKS) > FILLER_BLOCKS {
            return;
        }
        tally.next.set(at + u64::from(RUN_BLOCKS));
        let data = pattern::fill_run(Lba(at), RUN_BLOCKS, 1, u64::MAX, 0);
        match device.write(Lba(at), vec![data], WriteMode::Buffered).await {
            Ok(()) => tally.written.set(tally.written.get() + 1),
            Err(BlockError::NoSpace(_)) => tally.refused.set(tally.refused.get() + 1),
            Err(_) => world.sleep(Duration::from_millis(200)).await,
        }
    }
}

fn write_one(cluster: &Cluster, subject: &Subject) -> Result<(), String> {
    let (world, way, subject) = (cluster.client.world(), cluster.way(), subject.clone());
    let patience = Duration::from_secs(60);
    let written = cluster.run_on(&cluster.client, patience, async move {
        let device = subject.open(world, way).await?;
        let checked = Checked::new(Rc::new(device.clone()), subject.history.clone());
        let written = checked.write(Lba(0), 1, WriteMode::Fua).await;
        device.close().await;
        written.map_err(|error| error.to_string())
    });
    written.unwrap_or_else(|| Err("a write is not answered".to_owned()))
}
