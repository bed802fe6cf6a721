//! One run: configure, start, acts of disturbance, calm and checks, and the end.

use crate::accounting;
use crate::apart;
use crate::attached::Attached;
use crate::bugs::{FOUND_WITHIN, Planted};
use crate::candidates;
use crate::check;
use crate::clients::{Shared, Subject};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::deadly::Deadly;
use crate::diffs;
use crate::faults::Nemesis;
use crate::fences::Fences;
use crate::flushes::FlushErrors;
use crate::full;
use crate::manage::{Inventory, operate};
use crate::moving;
use crate::others::Others;
use crate::owners::Owners;
use crate::positions::Positions;
use crate::rebuilding::{Rebuilding, lose_catalog};
use crate::releases::LevelWatch;
use crate::rush::Rush;
use crate::served;
use api::operation::{CompressionName, ContainerSpec, Operation, SyncName, VolumeSpec};
use std::sync::Arc;
use world::Duration;
use world_sim::{Progress, SimRng};

/// What was found wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed.
    pub seed: u64,
    /// What, in words.
    pub what: String,
    /// What happened before, in order.
    pub trace: Vec<String>,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Same seed, same hash.
    pub hash: u64,
    /// Requests that succeeded.
    pub requests: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// What happened, in order.
    pub trace: Vec<String>,
}

/// Blocks of the volume with attachments.
const HELD_BLOCKS: u64 = 512;
/// What its writes carry; those of other volumes carry less than this or more than 1000.
const HELD_SEED: u64 = 500;

/// How long a loss of power waits for a large write.
const REFERENCE_WAIT: Duration = Duration::from_secs(1);

struct Run {
    cluster: Cluster,
    rng: SimRng,
    /// For drains of nodes.
    movements: SimRng,
    /// For the moments at which everything loses its power.
    blackouts: SimRng,
    rebuilding: Rebuilding,
    deadly: Deadly,
    rush: Rush,
    shared: Shared,
    inventory: Inventory,
    others: Others,
    eyes: Eyes,
    trace: Vec<String>,
}

/// Plays a seed, with a deliberate bug if one is given.
///
/// # Errors
/// The first [`Finding`].
pub fn play(seed: u64, planted: Option<Planted>) -> Result<Outcome, Box<Finding>> {
    play_watched(seed, planted, None)
}

/// Plays what a seed plays with a deliberate bug, without the bug: a finding then is somebody else's.
///
/// # Errors
/// The first [`Finding`].
pub fn play_control(seed: u64, planted: Planted) -> Result<Outcome, Box<Finding>> {
    let mut config = Config::draw(seed, Some(planted));
    config.is_control = true;
    caught(seed, || play_checked(seed, config, None))
}

/// The first seed that finds a planted bug: `likely` if that does, else the lowest up to [`FOUND_WITHIN`].
#[must_use]
pub fn first_to_find(planted: Planted, likely: u64) -> Option<u64> {
    let mut seeds = std::iter::once(likely).chain(1..=FOUND_WITHIN);
    seeds.find(|&seed| play(seed, Some(planted)).is_err())
}

/// As [`play`], and tells `progress` how far it is.
///
/// # Errors
/// The first [`Finding`].
pub fn play_watched(
    seed: u64,
    planted: Option<Planted>,
    progress: Option<Arc<Progress>>,
) -> Result<Outcome, Box<Finding>> {
    let config = Config::draw(seed, planted);
    caught(seed, || play_checked(seed, config, progress))
}

/// What it returns; a panic is a finding.
fn caught(
    seed: u64,
    play: impl FnOnce() -> Result<Outcome, Box<Finding>>,
) -> Result<Outcome, Box<Finding>> {
    // Nothing of a run is used after it has panicked.
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("panic: {}", text.unwrap_or_default());
        Err(Box::new(Finding {
            seed,
            what,
            trace: Vec::new(),
        }))
    })
}

fn play_checked(
    seed: u64,
    mut config: Config,
    progress: Option<Arc<Progress>>,
) -> Result<Outcome, Box<Finding>> {
    let trace = vec![format!("{config:?}")];
    config.options.progress = progress;
    let described = config.described && !config.full;
    let rebuilding = Rebuilding::draw(seed, described, config.planted.is_some());
    let deadly = Deadly::draw(seed, &config);
    let rush = Rush::draw(seed, &config);
    let cluster = Cluster::start(seed, config);
    let rng = cluster.sim.rng();
    let (shared, inventory) = (Shared::default(), Inventory::new(Vec::new()));
    let mut run = Run {
        cluster,
        rng,
        movements: SimRng::named(seed, "movements"),
        blackouts: SimRng::named(seed, "blackouts"),
        rebuilding,
        deadly,
        rush,
        shared,
        inventory,
        others: Others::new(seed),
        eyes: Eyes::default(),
        trace,
    };
    match run.play() {
        Ok(()) => Ok(Outcome {
            hash: run.cluster.sim.event_hash(),
            requests: run.shared.done.get(),
            elapsed: run.cluster.sim.now().since(world::Time(0)),
            trace: run.trace,
        }),
        Err(what) => {
            let refused = run.shared.refused.borrow().clone();
            run.note(format!(
                "requests: {} done, {refused:?} refused",
                run.shared.done.get()
            ));
            run.note(check::describe(&run.cluster));
            Err(Box::new(Finding {
                seed,
                what,
                trace: run.trace,
            }))
        }
    }
}

impl Run {
    fn note(&mut self, what: String) {
        let at = self.cluster.sim.now().0 as f64 / 1e9;
        self.trace.push(format!("{at:9.3} s  {what}"));
    }

    fn play(&mut self) -> Result<(), String> {
        self.create_volumes()?;
        for act in 0..self.cluster.config.acts {
            self.note(format!("act {act}"));
            if act > 0 {
                check::scrub(&self.cluster)?;
            }
            self.act()?;
        }
        self.finish()
    }

    fn create_volumes(&mut self) -> Result<(), String> {
        let (cluster, rng) = (&self.cluster, &self.rng);
        check::within_bound(cluster, "starting", || check::all_run(cluster))?;
        let config = &cluster.config;
        let spec = ContainerSpec {
            name: "pool".to_owned(),
            rf: config.replication_factor,
            min_copies: Some(config.copies_min.into()),
            sync: if config.sync_always {
                SyncName::Always
            } else {
                SyncName::Flush
            },
            compression: if config.compress {
                CompressionName::Lz4
            } else {
                CompressionName::Off
            },
            quota: None,
        };
        check::within_bound(cluster, "creating a container", || {
            done(operate(
                cluster,
                rng,
                Operation::ContainerCreate(spec.clone()),
            ))
        })?;
        for number in 0..config.volumes {
            let name = format!("vol{number}");
            let spec = VolumeSpec {
                name: name.clone(),
                container: Some("pool".to_owned()),
                size: Some(config.blocks * 4096),
                ..VolumeSpec::default()
            };
            check::within_bound(cluster, "creating a volume", || {
                done(operate(cluster, rng, Operation::VolumeCreate(spec.clone())))
            })?;
            let subject = Subject::new(name, number as u64 + 1, config.blocks);
            self.inventory.subjects.push(subject);
        }
        if config.attached {
            let spec = VolumeSpec {
                name: "held".to_owned(),
                container: Some("pool".to_owned()),
                size: Some(HELD_BLOCKS * 4096),
                ..VolumeSpec::default()
            };
            check::within_bound(cluster, "creating a volume", || {
                done(operate(cluster, rng, Operation::VolumeCreate(spec.clone())))
            })?;
            let subject = Subject::new(spec.name, HELD_SEED, HELD_BLOCKS);
            self.others.attached = Some(Attached::new(subject, cluster.sim.seed()));
        }
        Ok(())
    }

    fn act(&mut self) -> Result<(), String> {
        self.shared.stop.set(false);
        for subject in &self.inventory.subjects {
            subject.start_lanes(&self.cluster, &self.shared, &self.rng);
        }
        let backed_up = self.rebuilding.back_up(&self.cluster);
        backed_up.into_iter().for_each(|said| self.note(said));
        self.disturb()?;
        let blackout = self.cluster.config.faults.blackout && self.rng.chance(0.7);
        if blackout {
            self.black_out()?
        } else {
            self.calm_down()?
        }
        if full::is_protected(&self.cluster) {
            self.note("the pool is protected".to_owned());
        }
        self.others
            .filler
            .end(&self.cluster, &self.inventory.subjects)?;
        self.others.end_operations(&self.cluster)?;
        let (cluster, rng) = (&self.cluster, &self.movements);
        if cluster.config.moving.drains {
            check::within_bound(cluster, "taking part again", || {
                moving::end_drains(cluster, rng)
            })?;
        }
        check::within_bound(cluster, "redundancy", || is_at_rest(cluster))?;
        if self.deadly.is_due() {
            let subjects = &self.inventory.subjects;
            let mut look = || self.eyes.look(&self.cluster, &self.shared);
            let said = self
                .deadly
                .play(&self.cluster, subjects, &self.shared, &mut look)?;
            self.note(said);
            let cluster = &self.cluster;
            check::within_bound(cluster, "redundancy", || is_at_rest(cluster))?;
        }
        if self.rush.is_due() {
            let said = self.rush.play(&self.cluster, &mut self.eyes.owners)?;
            self.note(said);
        }
        if self.rebuilding.is_due() {
            let backup = self.rebuilding.take_backup();
            let said = lose_catalog(&mut self.cluster, backup)?;
            self.note(said);
            let cluster = &self.cluster;
            check::within_bound(cluster, "starting with a new catalog", || {
                check::all_run(cluster)
            })?;
            check::within_bound(cluster, "redundancy", || is_at_rest(cluster))?;
            self.look()?;
        }
        Ok(())
    }

    fn disturb(&mut self) -> Result<(), String> {
        for _ in 0..self.cluster.config.steps {
            let pause = self
                .rng
                .duration(Duration::from_millis(1)..Duration::from_millis(900));
            self.eyes.owners.watch(&self.cluster, pause)?;
            self.cluster
                .sim
                .run_steps(self.rng.below(500), Duration::from_millis(50));
            self.look()?;
        }
        // Shadowing keeps the borrow of the cluster apart from that of the trace.
        let mut said = Vec::new();
        {
            let mut nemesis = Nemesis::new(&self.cluster, self.rng.fork());
            for _ in 0..self.cluster.config.steps {
                let at = self.cluster.sim.now().0 as f64 / 1e9;
                said.push(format!("{at:9.3} s  {}", nemesis.strike()));
                if self.cluster.config.moving.drains && self.movements.chance(0.3) {
                    said.push(moving::toggle_drain(&self.cluster, &self.movements));
                }
                if self.cluster.config.manage && self.rng.chance(0.5) {
                    said.push(self.inventory.step(&self.cluster, &self.shared, &self.rng));
                }
                if let Err(what) = self.others.step(&self.cluster, &self.shared, &mut said) {
                    self.trace.append(&mut said);
                    return Err(what);
                }
                let pause = self
                    .rng
                    .duration(Duration::from_millis(10)..Duration::from_millis(1500));
                let watched = self.eyes.owners.watch(&self.cluster, pause);
                self.cluster
                    .sim
                    .run_steps(self.rng.below(500), Duration::from_millis(50));
                let looked = watched.and_then(|()| self.eyes.look(&self.cluster, &self.shared));
                if let Err(what) = looked {
                    self.trace.append(&mut said);
                    return Err(what);
                }
            }
        }
        self.trace.append(&mut said);
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        self.eyes.look(&self.cluster, &self.shared)
    }

    /// Everything heals; the lanes finish what they have begun; everything is read and checked.
    fn calm_down(&mut self) -> Result<(), String> {
        self.cluster.heal();
        self.note("calm".to_owned());
        self.cluster.sim.run_for(Duration::from_millis(500));
        self.shared.stop.set(true);
        let (cluster, busy) = (&self.cluster, self.shared.busy.clone());
        check::within_bound(cluster, "requests", || match busy.get() {
            0 => Ok(()),
            lanes => Err(format!("{lanes} lanes wait for an answer")),
        })?;
        self.look()?;
        for subject in &self.inventory.subjects {
            subject.history.borrow_mut().on_takeover();
            check::verify_live(&self.cluster, subject)?;
        }
        self.others.verify_live(&self.cluster)?;
        let restored = self.others.restore(&self.cluster, &self.inventory)?;
        restored.into_iter().for_each(|said| self.note(said));
        Ok(())
    }

    /// All machines lose power at once, clients too.
    fn black_out(&mut self) -> Result<(), String> {
        self.note("blackout".to_owned());
        self.await_references();
        for index in 0..self.cluster.nodes.len() {
            self.cluster.power_loss(index);
        }
        for subject in &self.inventory.subjects {
            subject.history.borrow_mut().on_crash();
        }
        self.others.black_out();
        self.cluster.client.crash();
        self.shared = Shared {
            violations: self.shared.violations.clone(),
            done: self.shared.done.clone(),
            ..Shared::default()
        };
        self.cluster.client.restart();
        self.cluster
            .sim
            .run_for(self.rng.duration(Duration::ZERO..Duration::from_secs(8)));
        self.cluster.heal();
        for subject in &self.inventory.subjects {
            check::verify_after_blackout(&self.cluster, subject)?;
        }
        self.others.verify_after_blackout(&self.cluster)?;
        self.look()
    }

    /// Lets the power fail while something was written past the journal and not flushed, in half of the cases. In half of those one
    /// replica of the log keeps what it wrote to its journal, and nobody keeps anything else that no flush covers: a record that
    /// names what is gone.
    fn await_references(&self) {
        let other = |planted: Planted| planted != Planted::Volume(volume::Bug::BelieveReferences);
        // Runs with other bugs keep the histories that find them.
        if self.cluster.config.planted.is_some_and(other) || !self.blackouts.chance(0.5) {
            return;
        }
        let volumes = || {
            let hosts = self.cluster.hosts().into_iter();
            hosts.flat_map(|host| host.volumes())
        };
        let written = || volumes().any(|volume| volume.has_unflushed_references());
        self.cluster.sim.run_until(written, REFERENCE_WAIT);
        let volume = volumes().find(|volume| volume.has_unflushed_references());
        let replicas = volume.map_or_else(Vec::new, |volume| volume.status().log.replicas);
        if replicas.is_empty() || !self.blackouts.chance(0.5) {
            return;
        }
        let keeper = *self.blackouts.pick(&replicas);
        for (store, disks) in { self.cluster.nodes.iter() }.flat_map(|node| node.bay.stores()) {
            for (index, disk) in disks.iter().enumerate() {
                disk.order_power_loss(store == keeper && index == 0);
            }
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.note("the end".to_owned());
        let (cluster, rng) = (&self.cluster, &self.rng);
        let mut volumes: Vec<String> = self
            .inventory
            .subjects
            .iter()
            .map(|subject| subject.name.clone())
            .collect();
        let mut images = Vec::new();
        for (number, taken) in self.inventory.taken.iter().enumerate() {
            let (name, image) =
                check::verify_snapshot(cluster, rng, &self.inventory, taken, number)?;
            volumes.push(name);
            images.push(image);
        }
        diffs::lead_from_one_to_the_next(cluster, rng, &self.inventory.taken, &images)?;
        volumes.extend(self.others.volume());
        for subject in &self.inventory.subjects {
            check::verify_live(cluster, subject)?;
            check::verify_drained(cluster, rng, subject)?;
        }
        check::within_bound(cluster, "accounting for space", || {
            accounting::all_use_is_known(cluster)
        })?;
        if cluster.config.faults.rot {
            served::only_sound_bytes_are_served(cluster)?;
        }
        check::copies_are_identical(cluster)?;
        check::everything_is_freed(cluster, rng, &volumes, &self.inventory.taken)
    }
}

/// What must hold at all times, and what was seen of it so far.
#[derive(Default)]
struct Eyes {
    epochs: check::Epochs,
    fences: Fences,
    flush_errors: FlushErrors,
    positions: Positions,
    levels: LevelWatch,
    owners: Owners,
}

impl Eyes {
    fn look(&mut self, cluster: &Cluster, shared: &Shared) -> Result<(), String> {
        if let Some(violation) = shared.violations.borrow().first() {
            return Err(violation.clone());
        }
        self.epochs.observe(cluster)?;
        self.fences.observe(cluster)?;
        self.flush_errors.observe(cluster)?;
        self.positions.observe(cluster)?;
        self.levels.observe(cluster)?;
        candidates::have_nothing(cluster)?;
        cluster.eyewitness.look()?;
        accounting::nothing_in_use_is_free(cluster)?;
        check::committed_is_everywhere(cluster)?;
        check::open_segments_are_known(cluster)?;
        check::bounds_hold(cluster)
    }
}

/// Nothing moves any more: every group has its copies, where they belong.
fn is_at_rest(cluster: &Cluster) -> Result<(), String> {
    check::is_redundant(cluster)?;
    apart::copies_are_apart(cluster)?;
    candidates::are_filled(cluster)
}

fn done(outcome: Option<Result<api::answer::Answer, String>>) -> Result<(), String> {
    match outcome {
        Some(Ok(_)) => Ok(()),
        Some(Err(reason)) if reason.contains("exists") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
