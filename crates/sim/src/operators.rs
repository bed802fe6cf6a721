//! What operators do to a cluster while it works and breaks: disks that come, go and are replaced, nodes that are removed and
//! join again as new ones, maintenance; and what a product switches on beside it: scrubbing, the pace of fills, tasks,
//! events and alerts.
//!
//! Refusals are in order: whether something may be removed is the product's to say. What must hold is what always must.

use crate::check::within_bound;
use crate::cluster::Cluster;
use crate::manage::operate;
use api::answer::Answer;
use api::operation::Operation;
use api::{DiskReplacement, DiskSpec, MemberChange};
use node::{HostOptions, ScrubOptions};
use world::Duration;
use world_sim::{SimDisk, SimRng};

/// Looks at a node that is being emptied, in one step.
const LOOKS: u32 = 6;
/// Pause between two of them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a store may take to see that its disks are dead.
const NOTICE: Duration = Duration::from_secs(1);

/// What operators do in a run, and what is switched on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operating {
    /// Copies are read all the time, a round so often.
    pub scrub: Option<Duration>,
    /// Fills give way to clients.
    pub pace: bool,
    /// Tasks, events and alerts.
    pub tells: bool,
    /// Nodes are excused now and then.
    pub maintenance: bool,
    /// Every machine has a spare disk; stores are added, removed, and their disks replaced.
    pub disks: bool,
    /// A node is removed, and joins again with blank disks.
    pub removal: bool,
    /// Disks are put into the wrong machines.
    pub swaps: bool,
    /// Processes start again as other releases: see `releases`.
    pub releases: bool,
}

impl Operating {
    /// What a seed draws, apart from everything else. `steady`: the pool is not filled up, and all nodes are there from the
    /// start.
    pub fn draw(seed: u64, steady: bool) -> Self {
        let rng = SimRng::named(seed, "operating");
        if !rng.chance(0.4) {
            return Self::default();
        }
        let round = *rng.pick(&[Duration::from_millis(500), Duration::from_secs(5)]);
        Self {
            scrub: rng.chance(0.5).then_some(round),
            pace: rng.chance(0.5),
            tells: rng.chance(0.5),
            maintenance: rng.chance(0.5),
            disks: rng.chance(0.6) && steady,
            removal: rng.chance(0.6) && steady,
            swaps: rng.chance(0.4) && steady,
            releases: rng.chance(0.5),
        }
    }

    /// As the nodes are started.
    pub fn apply(self, options: &mut HostOptions) {
        if let Some(interval) = self.scrub {
            let bytes_per_second = 64 << 20;
            options.scrub = ScrubOptions {
                interval,
                bytes_per_second,
            };
        }
        options.pace = self.pace.then(curator::PaceOptions::default);
        options.tasks = self.tells;
        options.events = self.tells;
        options.alerts = self.tells;
    }
}

/// How far the removal of a node is.
#[derive(Clone, Copy, Debug)]
enum Removal {
    Draining(usize),
    /// Its process is stopped, and it is forgotten next.
    Stopped(usize),
}

/// Operators of a run.
pub struct Operators {
    rng: SimRng,
    removal: Option<Removal>,
    /// Nodes that were new.
    joined: u32,
}

type Act = fn(&mut Operators, &Cluster) -> String;

impl Operators {
    /// Nothing done yet.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: SimRng::named(seed, "operators"),
            removal: None,
            joined: 0,
        }
    }

    /// One thing, now and then; says what.
    pub fn step(&mut self, cluster: &Cluster) -> Option<String> {
        let operating = cluster.config.operating;
        let known: [(bool, Act); 5] = [
            (operating.maintenance, Self::excuse),
            (operating.disks, Self::add_disk),
            (operating.disks, Self::drain_store),
            (operating.disks, Self::remove_store),
            (operating.removal, Self::remove_node),
        ];
        let acts: Vec<Act> = known
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, act)| *act)
            .collect();
        if acts.is_empty() || !self.rng.chance(0.5) {
            return None;
        }
        if self.removal.is_some() && self.rng.chance(0.7) {
            return Some(self.go_on_removing(cluster));
        }
        let act = *self.rng.pick(&acts);
        Some(act(self, cluster))
    }

    fn excuse(&mut self, cluster: &Cluster) -> String {
        let index = self.rng.index(cluster.nodes.len());
        let minutes = self.rng.below(3) as u32;
        let change = MemberChange {
            maintenance_minutes: Some(minutes),
            ..MemberChange::default()
        };
        let outcome = self.set_node(cluster, index, change);
        format!("n{index} may be away for {minutes} minutes: {outcome:?}")
    }

    fn add_disk(&mut self, cluster: &Cluster) -> String {
        let index = self.rng.index(cluster.nodes.len());
        let Some(spare) = cluster.nodes[index].bay.spare() else {
            return format!("n{index} has no spare disk");
        };
        let operation = Operation::DiskAdd(DiskSpec {
            node: format!("n{index}"),
            paths: vec![spare.name().to_owned()],
            ..DiskSpec::default()
        });
        let outcome = brief(operate(cluster, &self.rng, operation));
        format!("add {}: {outcome}", spare.name())
    }

    /// A store of a machine that has several.
    fn any_store(&self, cluster: &Cluster) -> Option<u32> {
        let several = cluster.nodes.iter().map(|node| node.bay.stores());
        let several: Vec<_> = several.filter(|stores| stores.len() > 1).collect();
        if several.is_empty() {
            return None;
        }
        let stores = self.rng.pick(&several);
        Some(self.rng.pick(stores.as_slice()).0.0)
    }

    fn drain_store(&mut self, cluster: &Cluster) -> String {
        let Some(id) = self.any_store(cluster) else {
            return "no store to drain".to_owned();
        };
        let draining = self.rng.chance(0.8);
        let outcome = brief(operate(cluster, &self.rng, drain_store(id, draining)));
        format!("drain of store {id}: {draining}: {outcome}")
    }

    fn remove_store(&mut self, cluster: &Cluster) -> String {
        let Some(id) = self.any_store(cluster) else {
            return "no store to remove".to_owned();
        };
        // Without the drain it is refused, most of the time.
        let drained = match self.rng.chance(0.8) {
            true => brief(operate(cluster, &self.rng, drain_store(id, true))),
            false => "not asked for".to_owned(),
        };
        let mut outcome = String::new();
        for _ in 0..LOOKS {
            let operation = Operation::StoreRemove { id, lost: false };
            outcome = brief(operate(cluster, &self.rng, operation));
            if !outcome.contains("drain it and wait") && !outcome.contains("still holds data") {
                break;
            }
            cluster.sim.run_for(LOOK_AGAIN);
        }
        wipe_unused(cluster);
        format!("remove store {id}: {outcome}; its drain: {drained}")
    }

    fn remove_node(&mut self, cluster: &Cluster) -> String {
        let mut said = self.go_on_removing(cluster);
        // All in one go, or a step now and then while other things break.
        if self.rng.chance(0.5) {
            for _ in 0..LOOKS {
                if self.removal.is_none() {
                    break;
                }
                cluster.sim.run_for(LOOK_AGAIN);
                said = format!("{said}; {}", self.go_on_removing(cluster));
            }
        }
        said
    }

    fn go_on_removing(&mut self, cluster: &Cluster) -> String {
        match self.removal {
            None => {
                let index = self.rng.index(cluster.nodes.len());
                let outcome = self.set_node(cluster, index, drain(true));
                if outcome == Some(Ok(())) {
                    self.removal = Some(Removal::Draining(index));
                }
                format!("n{index} is to be removed: {outcome:?}")
            }
            Some(Removal::Draining(index)) => {
                if !self.is_empty(cluster, index) {
                    return format!("n{index} is not empty");
                }
                cluster.crash(index);
                self.removal = Some(Removal::Stopped(index));
                format!("n{index} is empty, and stops")
            }
            Some(Removal::Stopped(index)) => self.forget_node(cluster, index),
        }
    }

    fn is_empty(&self, cluster: &Cluster, index: usize) -> bool {
        (0..LOOKS).any(|_| {
            let name = format!("n{index}");
            let shown = operate(cluster, &self.rng, Operation::NodeShow { name });
            let empty = matches!(shown, Some(Ok(Answer::Member(ties)))
                if ties.removable && ties.draining);
            if !empty {
                cluster.sim.run_for(LOOK_AGAIN);
            }
            empty
        })
    }

    /// Its disks are wiped only once the cluster has forgotten it.
    fn forget_node(&mut self, cluster: &Cluster, index: usize) -> String {
        if cluster.nodes[index].machine.is_up() {
            self.removal = Some(Removal::Draining(index));
            return format!("n{index} was started again");
        }
        let name = format!("n{index}");
        let operation = Operation::NodeRemove { name, lost: false };
        let outcome = operate(cluster, &self.rng, operation);
        let gone = match &outcome {
            Some(Ok(_)) => true,
            Some(Err(reason)) => reason.contains("there is no node"),
            None => false,
        };
        if gone {
            self.removal = None;
            self.joined += 1;
            cluster.renew(index, 100 * self.joined);
            cluster.restart(index);
        }
        format!("remove n{index}: {}", brief(outcome))
    }

    fn set_node(
        &self,
        cluster: &Cluster,
        index: usize,
        change: MemberChange,
    ) -> Option<Result<(), String>> {
        let name = format!("n{index}");
        let answer = operate(cluster, &self.rng, Operation::NodeSet { name, change });
        answer.map(|answer| answer.map(drop))
    }

    /// Every machine runs: all nodes and stores take part again, and nobody is excused.
    ///
    /// # Errors
    /// When not within the bound.
    pub fn end(&mut self, cluster: &Cluster) -> Result<(), String> {
        self.removal = None;
        let operating = cluster.config.operating;
        if !(operating.maintenance || operating.disks || operating.removal) {
            return Ok(());
        }
        let change = MemberChange {
            draining: Some(false),
            maintenance_minutes: Some(0),
            ..MemberChange::default()
        };
        within_bound(cluster, "ending what operators wanted", || {
            for (index, node) in cluster.nodes.iter().enumerate() {
                expect(self.set_node(cluster, index, change.clone()))?;
                for (store, _) in node.bay.stores() {
                    let ended = operate(cluster, &self.rng, drain_store(store.0, false));
                    expect(ended.map(|answer| answer.map(drop)))?;
                }
            }
            Ok(())
        })
    }
}

fn expect(outcome: Option<Result<(), String>>) -> Result<(), String> {
    outcome.unwrap_or_else(|| Err("no answer".to_owned()))
}

fn drain(draining: bool) -> MemberChange {
    MemberChange {
        draining: Some(draining),
        ..MemberChange::default()
    }
}

fn drain_store(id: u32, draining: bool) -> Operation {
    let change = drain(draining);
    Operation::StoreSet { id, change }
}

fn brief(outcome: Option<Result<Answer, String>>) -> String {
    match outcome {
        Some(Ok(_)) => "done".to_owned(),
        Some(Err(reason)) => reason,
        None => "no answer".to_owned(),
    }
}

/// Disks of removed stores are blank when they are used again.
fn wipe_unused(cluster: &Cluster) {
    for node in &cluster.nodes {
        let unused = |disk: &&SimDisk| node.bay.store_of(disk.name()).is_none();
        for disk in node.disks.iter().filter(unused) {
            disk.set_failed(false);
            disk.replace_blank();
        }
    }
}

/// All disks of a store die, and a spare takes their place while its node runs; says what came of it. `None`: there is no
/// spare, or the node does not run, and nothing was done.
pub fn replace_dead(cluster: &Cluster, rng: &SimRng, index: usize) -> Option<String> {
    let node = &cluster.nodes[index];
    let running = node.running.borrow().is_some() && !node.machine.is_paused();
    let spare = node.bay.spare().filter(|_| running)?;
    let (store, disks) = rng.pick(&node.bay.stores()).clone();
    disks.iter().for_each(|disk| disk.set_failed(true));
    cluster.sim.run_for(NOTICE);
    let operation = Operation::DiskReplace {
        store: store.0,
        with: DiskReplacement {
            paths: vec![spare.name().to_owned()],
            lost: rng.chance(0.3),
            ..DiskReplacement::default()
        },
    };
    let outcome = brief(operate(cluster, rng, operation));
    wipe_unused(cluster);
    Some(format!(
        "the disks of {store} die, {} takes their place: {outcome}",
        spare.name()
    ))
}
