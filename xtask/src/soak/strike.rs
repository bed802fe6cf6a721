//! What is done to the cluster.

use super::Dice;
use super::fallible::FallibleDisk;
use super::full;
use super::site::Site;
use crate::cluster::Cluster;
use crate::driver::output;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
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
    /// Nobody reaches a node.
    Cut,
    /// All nodes are stopped and started, one after the other.
    RollingRestart,
    /// The disk of the last node fails every request; the node is restarted when it no longer does.
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
    /// The last node's.
    pub disk: &'a FallibleDisk,
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
                give_blank_disk(cluster, index, scene.disk)?;
                start(cluster, index)?;
                Ok(format!("{name} is killed and starts with a blank disk"))
            }
            Self::FailDisk => fail_disk(cluster, scene.disk, pause),
            Self::LoseCatalog => {
                cluster.rebuild_catalog()?;
                Ok("etcd has lost everything; the catalog is rebuilt from the disks".to_owned())
            }
            Self::FillPool => full::fill(cluster, scene.sites),
            Self::Cut => {
                let port = cluster.nodes[index]
                    .port()
                    .context("a node without a port")?;
                cut(port)?;
                std::thread::sleep(pause);
                output(Command::new("nft").args(["delete", "table", "inet", "soak"]))?;
                Ok(format!("nobody reaches {name} for {pause:.1?}"))
            }
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

/// The last node's disk is the fallible one, the others are files that the node makes.
fn give_blank_disk(cluster: &Cluster, index: usize, fallible: &FallibleDisk) -> Result<()> {
    for disk in &cluster.nodes[index].disks {
        if *disk == fallible.path {
            fallible.blank()?;
            cluster.format_disk(index + 1, disk)?;
        } else {
            std::fs::remove_file(disk)?;
        }
    }
    Ok(())
}

fn fail_disk(cluster: &mut Cluster, disk: &FallibleDisk, time: Duration) -> Result<String> {
    let index = cluster.nodes.len() - 1;
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

/// Packets to and from a port are dropped, in the namespace of this process.
fn cut(port: u16) -> Result<()> {
    let rules = format!(
        "table inet soak {{\nchain output {{\ntype filter hook output priority 0;\n\
         tcp dport {port} drop;\ntcp sport {port} drop;\n}}\n}}\n"
    );
    output(Command::new("nft").arg(rules)).map(drop)
}
