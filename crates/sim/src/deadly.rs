//! A volume that ends every process that opens it, for a while: its log makes whoever reads it take all memory and be killed without a
//! word, or trips an assertion a moment later, which leaves last words
//! ([decision 47](../../docs/decisions/0047-panics-are-blamed-on-a-volume.md)).
//!
//! It happens between two acts, when nothing else is amiss, so that each end has this one cause. Clients use all volumes meanwhile, and
//! processes that ended are started again.
//!
//! Invariants
//! - The volume ends three processes, and is in quarantine then: the next one not before half a minute, the one after not before a minute.
//!   What ends by a panic while it serves the volume is heard of when its node runs again, so that one process more of each other
//!   node may end meanwhile.
//! - No other volume comes into quarantine, and all others are served again within [`OTHERS_WAIT`].
//! - When the cause is gone the volume is served again by itself, or soon after an operator has released it, and nothing of any
//!   volume is lost.

use crate::check::{self, within_bound};
use crate::clients::{Shared, Subject};
use crate::cluster::{Cluster, rows};
use crate::config::Config;
use crate::manage::operate;
use api::operation::Operation;
use catalog::{VolumeRow, VolumeState};
use node::{Host, HostOptions, LastWords};
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vocab::{Epoch, Position, VolumeId};
use volume::{Watch, Witness};
use world::{Duration, Time, blame};
use world_sim::SimRng;

/// Ends after which a volume is in quarantine.
const ENDS_MAX: usize = 3;
/// The first quarantine; each further one is twice as long.
const QUARANTINE: Duration = Duration::from_secs(30);
/// An end is seen so much later at most, and the attempt began before it.
const SLACK: Duration = Duration::from_secs(2);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long the volume has for its first ends.
const ENDS_WAIT: Duration = Duration::from_secs(60);
/// How long the other volumes may be without an owner after an end: suspects are opened one after the other.
const OTHERS_WAIT: Duration = Duration::from_secs(40);

/// The last words of a machine's process before, until the cluster knows them.
pub type Words = Rc<RefCell<Option<LastWords>>>;

/// What ends processes now.
#[derive(Clone, Copy, Debug)]
struct Cause {
    volume: VolumeId,
    /// It panics, and so long after the log begins to be read; else it is killed at once.
    panics_after: Option<Duration>,
}

/// What is wrong with the volumes of a cluster.
#[derive(Default)]
pub struct Peril {
    cause: Cell<Option<Cause>>,
    ends: Cell<usize>,
}

/// Where a process may end.
#[derive(Clone)]
pub struct Place {
    pub machine: world_sim::Host,
    pub running: Rc<RefCell<Option<Rc<Host>>>>,
    pub words: Words,
    pub peril: Rc<Peril>,
}

impl Place {
    /// The process that is started next ends by what is wrong with a volume.
    pub fn attend(&self, options: &mut HostOptions) {
        let Some(Witness(inner)) = options.volume.witness.take() else {
            return;
        };
        let place = self.clone();
        options.volume.witness = Some(Witness(Rc::new(Perilous { inner, place })));
    }

    /// The process ends in the middle of what it does, on behalf of whatever runs now. Its machine goes on.
    fn end(&self, panics: bool) {
        let running = self.running.borrow_mut().take();
        let subject = blame::subject().filter(|_| panics);
        if let Some(volume) = subject {
            let words = LastWords {
                volume: VolumeId(volume),
                at_ms: self.machine.world().clock.unix_ms(),
                start: running.as_ref().map(|host| host.start_number()),
                reason: "planted".to_owned(),
            };
            *self.words.borrow_mut() = Some(words);
        }
        self.peril.ends.set(self.peril.ends.get() + 1);
        drop(running);
        self.machine.crash();
    }
}

/// Forgets the words of the process before as soon as the catalog has them.
pub async fn forget_when_told(host: Rc<Host>, world: world::World, said: Words, words: LastWords) {
    while !host.has_told_last_words() {
        world.sleep(LOOK).await;
    }
    let mut said = said.borrow_mut();
    if *said == Some(words) {
        *said = None;
    }
}

/// Told what volumes do, before whoever else is told.
struct Perilous {
    inner: Rc<dyn Watch>,
    place: Place,
}

impl Watch for Perilous {
    fn on_durable(&self, volume: VolumeId, epoch: Epoch, position: Position) {
        self.inner.on_durable(volume, epoch, position);
    }

    fn on_trim(&self, volume: VolumeId, epoch: Epoch, root: Position) {
        self.inner.on_trim(volume, epoch, root);
    }

    fn on_taken(&self, volume: VolumeId, epoch: Epoch) {
        self.inner.on_taken(volume, epoch);
        let of_it = |cause: &Cause| cause.volume == volume;
        let Some(cause) = self.place.peril.cause.get().filter(of_it) else {
            return;
        };
        let place = self.place.clone();
        // A task of the volume's, as those of its log are: what it does is done on the volume's behalf.
        self.place.machine.spawn(async move {
            if let Some(after) = cause.panics_after {
                place.machine.world().sleep(after).await;
            }
            if place.peril.cause.get().is_some() {
                place.end(cause.panics_after.is_some());
            }
        });
    }
}

/// What the catalog knows of openings of a volume.
#[derive(Deserialize)]
struct OpeningRow {
    volume: VolumeId,
    attempts: usize,
    #[serde(default)]
    panics: usize,
    #[serde(default)]
    tried: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Attempt {
    start: u64,
}

/// When it happens.
pub struct Deadly {
    rng: SimRng,
    /// For releases from quarantine.
    releases: SimRng,
    /// Once at most: what the catalog knows of a volume's ends lasts for longer than a run.
    wanted: Cell<bool>,
}

impl Deadly {
    /// What a seed draws, apart from everything else. Not where wall clocks jump: a quarantine that lasts too long or has not begun is
    /// not believed.
    pub fn draw(seed: u64, config: &Config) -> Self {
        let rng = SimRng::named(seed, "a deadly volume");
        let wanted = rng.chance(0.3) && config.is_newest() && !config.faults.clock && !config.full;
        Self {
            rng,
            releases: SimRng::named(seed, "releases from quarantine"),
            wanted: Cell::new(wanted),
        }
    }

    /// Whether it happens now.
    pub fn is_due(&self) -> bool {
        let due = self.wanted.get() && self.rng.chance(0.7);
        self.wanted.set(self.wanted.get() && !due);
        due
    }

    /// One volume is deadly for a while; says what came of it. `look` is asked all the time.
    ///
    /// # Errors
    /// What must not be.
    pub fn play(
        &self,
        cluster: &Cluster,
        subjects: &[Subject],
        shared: &Shared,
        look: &mut dyn FnMut() -> Result<(), String>,
    ) -> Result<String, String> {
        let Some((row, owner)) = self.pick(cluster, subjects) else {
            return Ok("no volume could be deadly".to_owned());
        };
        shared.stop.set(false);
        let start = |subject: &Subject| subject.start_lanes(cluster, shared, &self.rng);
        subjects.iter().for_each(start);
        let before = Duration::from_millis(200)..Duration::from_secs(2);
        cluster.sim.run_for(self.rng.duration(before));
        let after = Duration::ZERO..Duration::from_secs(4);
        let after = self.rng.duration(after);
        let cause = Cause {
            volume: row.id,
            panics_after: self.rng.chance(0.5).then_some(after),
        };
        cluster.peril.cause.set(Some(cause));
        cluster.peril.ends.set(0);
        cluster.crash(owner);
        let told = |what: String| {
            let (name, panics_after) = (&row.name, cause.panics_after);
            format!("{name} is deadly (it panics after {panics_after:?}): {what}")
        };
        let ends = self.watch(cluster, cause, subjects, look);
        cluster.peril.cause.set(None);
        let ends = ends.map_err(told)?;
        let released = self.release(cluster, &row.name).map_err(told)?;
        if released {
            soon_served(cluster, row.id).map_err(told)?;
        }
        all_is_well_again(cluster, row.id, subjects, shared).map_err(told)?;
        Ok(format!(
            "{} was deadly ({:?}), and ended {ends} processes (released: {released})",
            row.name, cause.panics_after
        ))
    }

    /// In half of the runs an operator ends the quarantine by hand; whether there was one.
    fn release(&self, cluster: &Cluster, name: &str) -> Result<bool, String> {
        if !self.releases.chance(0.5) {
            return Ok(false);
        }
        // Last words that are told only now bring it into quarantine once more, one of each node at most.
        let most = cluster.nodes.len() + 1;
        let mut count = 0;
        within_bound(cluster, "ending a quarantine by hand", || {
            let name = name.to_owned();
            match operate(cluster, &self.releases, Operation::VolumeRelease { name }) {
                Some(Ok(_)) => {
                    count += 1;
                    Err("it was ended just now".to_owned())
                }
                Some(Err(reason)) if reason.contains("is not in quarantine") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        match count <= most {
            true => Ok(count > 0),
            false => Err(format!("it had to be released {count} times")),
        }
    }

    /// A volume with a log, and which node serves it.
    fn pick(&self, cluster: &Cluster, subjects: &[Subject]) -> Option<(VolumeRow, usize)> {
        let known = |row: &VolumeRow| subjects.iter().any(|subject| subject.name == row.name);
        let found = rows::<VolumeRow>(&cluster.kv).into_iter();
        let found = found.filter(|row| known(row) && row.state == VolumeState::Ready);
        let owned = found.filter_map(|row| {
            let owner = (0..cluster.nodes.len()).find(|&index| {
                let host = cluster.nodes[index].running.borrow().clone();
                host.is_some_and(|host| row.owner == Some(host.id()))
            })?;
            (!row.segments.is_empty()).then_some((row, owner))
        });
        let owned: Vec<(VolumeRow, usize)> = owned.collect();
        match owned.is_empty() {
            true => None,
            false => Some(self.rng.pick(&owned).clone()),
        }
    }

    /// How many processes the volume ends.
    fn watch(
        &self,
        cluster: &Cluster,
        cause: Cause,
        subjects: &[Subject],
        look: &mut dyn FnMut() -> Result<(), String>,
    ) -> Result<usize, String> {
        let began = cluster.sim.now();
        let more = Duration::from_secs(10)..Duration::from_secs(45);
        let more = self.rng.duration(more);
        let unheard = match cause.panics_after {
            Some(_) => cluster.nodes.len() - 1,
            None => 0,
        };
        let mut ends: Vec<Time> = Vec::new();
        let mut others = began;
        loop {
            cluster.sim.run_for(LOOK);
            (0..cluster.nodes.len()).for_each(|index| cluster.restart(index));
            look()?;
            let now = cluster.sim.now();
            if ends.len() < cluster.peril.ends.get() {
                ends.resize(cluster.peril.ends.get(), now);
                others = now;
            }
            ends_are_few(&ends, unheard)?;
            no_other_is_accused(cluster, cause.volume)?;
            match unserved(cluster, cause.volume, subjects) {
                Some(name) if now.since(others) > OTHERS_WAIT => {
                    return Err(format!(
                        "{name} is not served {OTHERS_WAIT:?} after another volume, which is deadly, ended {} processes",
                        ends.len()
                    ));
                }
                Some(_) => {}
                None => others = now,
            }
            let over = match ends.get(ENDS_MAX - 1) {
                Some(&last) => now.since(last) > more,
                None => now.since(began) > ENDS_WAIT,
            };
            if over {
                return Ok(ends.len());
            }
        }
    }
}

/// The first three, and one more after the quarantine. `unheard`: so many more of which the cluster had not heard yet.
fn ends_are_few(ends: &[Time], unheard: usize) -> Result<(), String> {
    let Some(&third) = ends.get(ENDS_MAX - 1) else {
        return Ok(());
    };
    let soon = ends.iter();
    let soon = soon.filter(|end| end.since(third) + SLACK < QUARANTINE);
    let (soon, most) = (soon.count(), ENDS_MAX + unheard);
    if soon > most || ends.len() > most + 1 {
        return Err(format!(
            "a volume ended {} processes, {soon} of them at once: it was to be left alone for {QUARANTINE:?} after {most}, and for \
             longer after the next one",
            ends.len()
        ));
    }
    Ok(())
}

/// A volume that is innocent is not in quarantine.
fn no_other_is_accused(cluster: &Cluster, deadly: VolumeId) -> Result<(), String> {
    let hosts = cluster.hosts();
    let runs: Vec<u64> = hosts.iter().map(|host| host.start_number()).collect();
    let entries = cluster.kv.entries().into_iter();
    let openings = entries.filter(|entry| entry.key.starts_with("opening/"));
    for entry in openings {
        let row: OpeningRow = serde_json::from_slice(&entry.value)
            .map_err(|error| format!("{}: {error}", entry.key))?;
        let under_way = row.tried.iter();
        let under_way = under_way.filter(|attempt| runs.contains(&attempt.start));
        let ends = row.attempts.saturating_sub(under_way.count()) + row.panics;
        if row.volume != deadly && ends >= ENDS_MAX {
            return Err(format!(
                "{} is in quarantine for what {deadly} has done",
                row.volume
            ));
        }
    }
    Ok(())
}

/// A volume that had an owner and is not served, other than this one. Those that nobody uses wait until somebody does.
fn unserved(cluster: &Cluster, deadly: VolumeId, subjects: &[Subject]) -> Option<String> {
    let hosts = cluster.hosts();
    let served: Vec<VolumeId> = { hosts.iter() }
        .flat_map(|host| host.volumes())
        .map(|volume| volume.id())
        .collect();
    let used = |row: &&VolumeRow| subjects.iter().any(|subject| subject.name == row.name);
    let rows = rows::<VolumeRow>(&cluster.kv);
    let mut others = rows.iter().filter(used).filter(|row| row.id != deadly);
    let row = others.find(|row| row.owner.is_some() && !served.contains(&row.id))?;
    Some(row.name.clone())
}

fn is_served(cluster: &Cluster, volume: VolumeId) -> bool {
    let hosts = cluster.hosts();
    let mut volumes = hosts.iter().flat_map(|host| host.volumes());
    volumes.any(|served| served.id() == volume)
}

/// A volume that was released is served as soon as others are after an end: a quarantine may be longer.
fn soon_served(cluster: &Cluster, volume: VolumeId) -> Result<(), String> {
    let began = cluster.sim.now();
    while !is_served(cluster, volume) {
        if cluster.sim.now().since(began) > OTHERS_WAIT {
            return Err(format!(
                "{volume} is not served {OTHERS_WAIT:?} after its release from quarantine"
            ));
        }
        cluster.sim.run_for(LOOK);
        (0..cluster.nodes.len()).for_each(|index| cluster.restart(index));
    }
    Ok(())
}

/// The cause is gone: the volume is served, clients get what they asked for, and everything is there.
fn all_is_well_again(
    cluster: &Cluster,
    deadly: VolumeId,
    subjects: &[Subject],
    shared: &Shared,
) -> Result<(), String> {
    let served = || match is_served(cluster, deadly) {
        true => Ok(()),
        false => Err(format!("{deadly} is not served")),
    };
    within_bound(cluster, "serving a volume that was deadly", served)?;
    shared.stop.set(true);
    within_bound(
        cluster,
        "requests after a volume was deadly",
        || match shared.busy.get() {
            0 => Ok(()),
            lanes => Err(format!("{lanes} lanes wait for an answer")),
        },
    )?;
    for subject in subjects {
        subject.history.borrow_mut().on_takeover();
        check::verify_live(cluster, subject)?;
    }
    Ok(())
}
