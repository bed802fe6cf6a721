//! Nodes that run releases of different levels: each time a process starts it may be of another release than before, newer or
//! older, and one that the cluster refuses is exchanged for one that fits.
//!
//! Release `n` knows the levels `n - 1` and `n`; the first knows only its own.
//!
//! Looked at all the time: the cluster's level never falls; every node that is in the catalog knows it, and so does every node
//! that runs and is in the catalog; no node takes it for higher than it is.

use crate::cluster::{Cluster, rows};
use catalog::{ClusterRow, NodeRow};
use node::HostError;
use std::cell::Cell;
use vocab::{Level, Levels};
use world_sim::SimRng;

/// The newest release.
const NEWEST: u16 = 5;

/// Clients are of any release.
pub const ANY: Levels = Levels {
    oldest: Level(1),
    newest: Level(NEWEST),
};

/// What is installed on a machine.
#[derive(Debug)]
pub struct Installed {
    release: Cell<u16>,
    rng: SimRng,
    /// Whether anything else is ever installed.
    changes: bool,
}

impl Installed {
    /// The first release. `changes`: others follow.
    pub fn first(seed: u64, index: usize, changes: bool) -> Self {
        Self {
            release: Cell::new(1),
            rng: SimRng::named(seed, &format!("releases of n{index}")),
            changes,
        }
    }

    /// What it knows.
    pub fn levels(&self) -> Levels {
        if !self.changes {
            return Levels::OWN;
        }
        let release = self.release.get();
        Levels {
            oldest: Level(release.saturating_sub(1).max(1)),
            newest: Level(release),
        }
    }

    /// Before the process starts: mostly the same release, or the next; at times one before, or one too far ahead.
    pub fn choose(&self) {
        if !self.changes {
            return;
        }
        let release = self.release.get();
        let next = match self.rng.range(0..10) {
            0..=3 => release,
            4..=7 => release + 1,
            8 => release.saturating_sub(1),
            _ => release + 2,
        };
        self.release.set(next.clamp(1, NEWEST));
    }

    /// The process did not start: what is installed next.
    pub fn refused(&self, error: &HostError) {
        if let HostError::Level { level, .. } = error {
            let ahead = u16::from(self.rng.chance(0.5));
            self.release.set((level.0 + ahead).min(NEWEST));
        }
    }
}

/// The cluster's level as it was seen.
#[derive(Default)]
pub struct LevelWatch {
    /// Of which catalog: one that is made anew has the level that disks and backups knew.
    seen: Option<(u64, Level)>,
}

impl LevelWatch {
    /// Looks at the catalog and at the nodes that run.
    pub fn observe(&mut self, cluster: &Cluster) -> Result<(), String> {
        let row = rows::<ClusterRow>(&cluster.kv).into_iter().next();
        let Some(row) = row.filter(|row| !row.id.is_empty()) else {
            return Ok(());
        };
        let level = row.level;
        if let Some((era, before)) = self.seen.replace((row.era, level))
            && era == row.era
            && level < before
        {
            return Err(format!("the cluster's level fell from {before} to {level}"));
        }
        let nodes = rows::<NodeRow>(&cluster.kv);
        for node in &nodes {
            if !node.levels.know(level) {
                let (name, levels) = (&node.name, node.levels);
                return Err(format!("the level is {level}, and {name} knows {levels}"));
            }
        }
        for host in cluster.hosts() {
            let known = nodes.iter().any(|node| node.id == host.id());
            if known && (!host.levels().know(level) || host.level() > level) {
                let (id, levels, taken) = (host.id(), host.levels(), host.level());
                return Err(format!(
                    "the level is {level}; {id}, which knows {levels}, runs and takes it for {taken}"
                ));
            }
        }
        Ok(())
    }
}
