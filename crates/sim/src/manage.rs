//! Snapshots, clones, growth and deletion in the middle of an act.

use crate::clients::{Shared, Subject};
use crate::cluster::Cluster;
use api::operation::{Operation, SnapshotRef, VolumeSpec};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use workload::oracle::{History, Snapshot};
use world::Duration;
use world_sim::SimRng;

/// How long an operation may take before its outcome counts as unknown.
const PATIENCE: Duration = Duration::from_secs(20);
/// Volumes with lanes at a time.
const SUBJECTS_MAX: usize = 4;
/// Snapshots at a time.
const SNAPSHOTS_MAX: usize = 4;

/// A snapshot with what it may hold.
#[derive(Clone)]
pub struct Taken {
    /// Its volume.
    pub volume: String,
    /// Its name.
    pub name: String,
    /// What it may hold.
    pub image: Snapshot,
}

/// Volumes and snapshots of a run.
pub struct Inventory {
    /// Volumes with lanes.
    pub subjects: Vec<Subject>,
    /// Snapshots.
    pub taken: Vec<Taken>,
    counter: u64,
}

/// Runs an operation on some node; `None`: the outcome is unknown.
pub fn operate(
    cluster: &Cluster,
    rng: &SimRng,
    operation: Operation,
) -> Option<Result<api::answer::Answer, String>> {
    let running: Vec<usize> = (0..cluster.nodes.len())
        .filter(|&index| cluster.nodes[index].running.borrow().is_some())
        .filter(|&index| !cluster.nodes[index].machine.is_paused())
        .collect();
    if running.is_empty() {
        return None;
    }
    let node = &cluster.nodes[*rng.pick(&running)];
    let host = node.running.borrow().clone()?;
    let answer = cluster.run_on(&node.machine, PATIENCE, async move {
        host.operate(operation)
            .await
            .map_err(|error| error.to_string())
    });
    cluster
        .sim
        .record(format!("{answer:?}").len().to_le_bytes());
    answer
}

impl Inventory {
    /// The given volumes, no snapshots.
    pub fn new(subjects: Vec<Subject>) -> Self {
        Self {
            subjects,
            taken: Vec::new(),
            counter: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// One random operation; says what it did.
    pub fn step(&mut self, cluster: &Cluster, shared: &Shared, rng: &SimRng) -> String {
        match rng.below(8) {
            0..3 => self.snapshot(cluster, rng),
            3..5 => self.clone_volume(cluster, shared, rng),
            5 => self.delete_snapshot(cluster, rng),
            6 => self.grow(cluster, rng),
            _ => self.drain(cluster, rng),
        }
    }

    fn snapshot(&mut self, cluster: &Cluster, rng: &SimRng) -> String {
        if self.taken.len() >= SNAPSHOTS_MAX {
            return self.delete_snapshot(cluster, rng);
        }
        let subject = rng.pick(&self.subjects).clone();
        let name = format!("s{}", self.next());
        let cut = subject.history.borrow_mut().begin_cut();
        let volume = subject.name.clone();
        let operation = Operation::SnapshotCreate {
            volume: volume.clone(),
            name: name.clone(),
            labels: BTreeMap::new(),
            group: None,
        };
        match operate(cluster, rng, operation) {
            Some(Ok(_)) => {
                let image = subject.history.borrow_mut().end_cut(cut);
                let said = format!("snapshot {volume}@{name}");
                self.taken.push(Taken {
                    volume,
                    name,
                    image,
                });
                said
            }
            other => {
                subject.history.borrow_mut().on_cut_failed(cut);
                format!("no snapshot of {volume}: {other:?}")
            }
        }
    }

    fn clone_volume(&mut self, cluster: &Cluster, shared: &Shared, rng: &SimRng) -> String {
        if self.taken.is_empty() || self.subjects.len() >= SUBJECTS_MAX {
            return self.snapshot(cluster, rng);
        }
        let taken = rng.pick(&self.taken).clone();
        let number = self.next();
        let name = format!("c{number}");
        match self.create_clone(cluster, rng, &taken, &name) {
            Ok(()) => {
                let blocks = taken.image.blocks();
                let history = History::clone_of(&taken.image, 1000 + number, blocks);
                let subject = Subject {
                    name: name.clone(),
                    history: Rc::new(RefCell::new(history)),
                };
                subject.start_lanes(cluster, shared, rng);
                self.subjects.push(subject);
                format!("clone {name} of {}@{}", taken.volume, taken.name)
            }
            Err(reason) => format!("no clone {name}: {reason}"),
        }
    }

    /// Creates a clone, or says why there may be none.
    pub fn create_clone(
        &self,
        cluster: &Cluster,
        rng: &SimRng,
        taken: &Taken,
        name: &str,
    ) -> Result<(), String> {
        let from = SnapshotRef {
            volume: taken.volume.clone(),
            snapshot: Some(taken.name.clone()),
        };
        let spec = VolumeSpec {
            name: name.to_owned(),
            container: None,
            size: None,
            from: Some(from),
            ..VolumeSpec::default()
        };
        match operate(cluster, rng, Operation::VolumeCreate(spec)) {
            Some(Ok(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn delete_snapshot(&mut self, cluster: &Cluster, rng: &SimRng) -> String {
        if self.taken.is_empty() {
            return "nothing to delete".to_owned();
        }
        let index = rng.index(self.taken.len());
        let taken = self.taken[index].clone();
        let (volume, name) = (taken.volume.clone(), taken.name.clone());
        match operate(cluster, rng, Operation::SnapshotDelete { volume, name }) {
            // It is not there any more if only the answer was lost.
            Some(Err(reason)) if !cluster.config.temper.loses_answers => {
                format!("{}@{} stays: {reason}", taken.volume, taken.name)
            }
            // Deleted, or perhaps: nobody looks at it any more.
            outcome => {
                self.taken.remove(index);
                format!(
                    "delete {}@{}: {}",
                    taken.volume,
                    taken.name,
                    outcome.is_some()
                )
            }
        }
    }

    fn grow(&mut self, cluster: &Cluster, rng: &SimRng) -> String {
        let subject = rng.pick(&self.subjects).clone();
        let blocks = subject.history.borrow().blocks() + 8 * (1 + rng.below(4));
        let operation = Operation::VolumeResize {
            name: subject.name.clone(),
            size: blocks * 4096,
        };
        match operate(cluster, rng, operation) {
            Some(Ok(_)) => {
                subject.history.borrow_mut().grow(blocks);
                format!("grow {} to {blocks} blocks", subject.name)
            }
            other => format!("{} did not grow: {other:?}", subject.name),
        }
    }

    fn drain(&mut self, cluster: &Cluster, rng: &SimRng) -> String {
        let name = rng.pick(&self.subjects).name.clone();
        let outcome = operate(cluster, rng, Operation::VolumeDrain { name: name.clone() });
        format!("drain {name}: {}", matches!(outcome, Some(Ok(_))))
    }
}
