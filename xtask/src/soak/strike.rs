//! What is done to the cluster.

use super::Dice;
use super::fallible::FallibleDisk;
use super::full;
use super::site::Site;
use crate::cluster::Cluster;
use crate::cluster::network::Cut;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// One kind of disturbance.
#[derive(Clone, Copy, Debug)]
pub enum Strike {
    /// kill -9 of a node, which comes back.
    KillNode,
    /// SIGSTOP of a node.
    StopNode,
    /// kill -9 of etcd, which comes back.
    KillEtcd,
    /// kill -9 of all nodes.
    KillAll,
    /// A node loses its disk and gets a blank one.
    BlankDisk,
    /// A part of the network drops what it is given.
    Cut,
    /// All nodes are stopped and started, one after the other.
    RollingRestart,
    /// The disk of a node fails every request; the node is restarted when it no longer does.
    FailDisk,
    /// Everything that etcd knew is lost, and made anew from the disks.
    LoseCatalog,
    /// The pool is filled until it takes no more, and emptied again.
    FillPool,
}

const ALL: [Strike; 10] = [
    Strike::KillNode,
    Strike::StopNode,
    Strike::KillEtcd,
    Strike::KillAll,
    Strike::BlankDisk,
    Strike::Cut,
    Strike::RollingRestart,
    Strike::FailDisk,
    Strike::LoseCatalog,
    Strike::FillPool,
];

/// What strikes need beside the cluster.
pub struct Scene<'a> {
    /// One for each node.
    pub disks: &'a [FallibleDisk],
    /// Where the loads are.
    pub sites: &'a [Site],
    /// The program of another release.
    pub other: Option<&'a Path>,
}

impl Strike {
    /// Any of them.
    pub fn draw(dice: &mut Dice) -> Self {
        ALL[dice.below(ALL.len() as u64) as usize]
    }

    /// Does it and ends it; says what it did.
    pub fn carry_out(
        self,
        cluster: &mut Cluster,
        scene: &Scene<'_>,
        dice: &mut Dice,
    ) -> Result<String> {
        let index = dice.below(cluster.nodes.len() as u64) as usize;
        let name = cluster.nodes[index].name.clone();
        let pause = Duration::from_millis(200 + dice.below(12_000));
        match self {
            Self::KillNode => {
                cluster.kill_node(index)?;
                std::thread::sleep(pause);
                start(cluster, index)?;
                Ok(format!("kill -9 of {name}, away for {pause:.1?}"))
            }
            Self::StopNode => {
                cluster.signal_node(index, "STOP")?;
                std::thread::sleep(pause);
                cluster.signal_node(index, "CONT")?;
                Ok(format!("SIGSTOP of {name} for {pause:.1?}"))
            }
            Self::KillEtcd => {
                cluster.kill_etcd()?;
                std::thread::sleep(pause);
                cluster.restart_etcd()?;
                Ok(format!("kill -9 of etcd, away for {pause:.1?}"))
            }
            Self::KillAll => {
                for index in 0..cluster.nodes.len() {
                    cluster.kill_node(index)?;
                }
                std::thread::sleep(pause / 4);
                for index in 0..cluster.nodes.len() {
                    cluster.start_node(index)?;
                }
                for index in 0..cluster.nodes.len() {
                    cluster.wait_ready(index)?;
                }
                Ok(format!("kill -9 of all nodes, away for {:.1?}", pause / 4))
            }
            Self::BlankDisk => {
                cluster.kill_node(index)?;
                scene.disks[index].blank()?;
                cluster.format_disk(index + 1, &scene.disks[index].path)?;
                start(cluster, index)?;
                Ok(format!("{name} is killed and starts with a blank disk"))
            }
            Self::FailDisk => fail_disk(cluster, index, &scene.disks[index], pause),
            Self::LoseCatalog => {
                cluster.rebuild_catalog()?;
                Ok("etcd has lost everything; the catalog is rebuilt from the disks".to_owned())
            }
            Self::FillPool => full::fill(cluster, scene.sites),
            Self::Cut => cut(cluster, index, dice, pause),
            Self::RollingRestart => restart_all(cluster, scene, dice),
        }
    }
}

/// One after the other; with another release each node gets either.
fn restart_all(cluster: &mut Cluster, scene: &Scene<'_>, dice: &mut Dice) -> Result<String> {
    for index in 0..cluster.nodes.len() {
        cluster.end_node(index)?;
        if let Some(other) = scene.other {
            let program = (dice.below(2) == 1).then(|| other.to_owned());
            cluster.nodes[index].program = program;
        }
        start(cluster, index)?;
        cluster.wait_verdict("ok", Duration::from_secs(300))?;
    }
    let others = cluster.nodes.iter().filter(|node| node.program.is_some());
    let release = match scene.other {
        Some(_) => format!("; {} of them are of the other release now", others.count()),
        None => String::new(),
    };
    Ok(format!(
        "all nodes are restarted, one after the other{release}"
    ))
}

fn fail_disk(
    cluster: &mut Cluster,
    index: usize,
    disk: &FallibleDisk,
    time: Duration,
) -> Result<String> {
    disk.fail(true)?;
    std::thread::sleep(time);
    disk.fail(false)?;
    // An operator has seen to the disk, and starts the node again, if it has not ended.
    cluster.kill_node(index)?;
    start(cluster, index)?;
    let name = &cluster.nodes[index].name;
    Ok(format!(
        "every request to {name}'s disk fails for {time:.1?}"
    ))
}

fn start(cluster: &mut Cluster, index: usize) -> Result<()> {
    cluster.start_node(index)?;
    cluster.wait_ready(index)
}

/// A node, or one direction, or what is between two, or what is between it and etcd.
fn cut(cluster: &Cluster, index: usize, dice: &mut Dice, time: Duration) -> Result<String> {
    let name = |index: usize| cluster.nodes[index].name.as_str();
    let other = (index + 1) % cluster.nodes.len();
    let (cut, what) = match dice.below(5) {
        0 => (
            Cut::From(index),
            format!("nobody hears {}, which hears all", name(index)),
        ),
        1 => (
            Cut::To(index),
            format!("{} hears nobody, and is heard", name(index)),
        ),
        2 => (
            Cut::Between(index, other),
            format!(
                "{} and {} hear nothing of each other",
                name(index),
                name(other)
            ),
        ),
        3 => {
            let port = cluster.etcd_port().context("etcd without a port")?;
            let what = format!("{} does not reach etcd", name(index));
            (Cut::Port(index, port), what)
        }
        _ => (Cut::Node(index), format!("nobody reaches {}", name(index))),
    };
    let network = cluster
        .network
        .as_ref()
        .context("nodes without a network")?;
    network.cut(cut)?;
    std::thread::sleep(time);
    network.mend()?;
    Ok(format!("{what} for {time:.1?}"))
}
