//! What is judged at the moment of every change of the catalog: who serves a volume that the catalog gives to nobody, how many
//! openings work at a time and in which order, and where logs that are opened have their copies.
//!
//! A volume that is given up is not waited for: its next owner begins at once, and would not wait for reads of one that serves it still.

use crate::apart::Logs;
use crate::cluster::{Cluster, rows};
use crate::turns::Turns;
use catalog::{VolumeRow, VolumeState};
use std::collections::BTreeMap;
use world::{Duration, Time};

/// One that works for longer counts no more (`node::volumes::turns`).
const HELD_MAX: Duration = Duration::from_secs(30);

/// What was seen of owners.
#[derive(Default)]
pub struct Owners {
    /// Since when as many openings work on a node as may.
    full: BTreeMap<usize, Time>,
    turns: Turns,
    logs: Logs,
}

impl Owners {
    /// Lets time pass, and looks whenever the catalog changes.
    ///
    /// # Errors
    /// What was seen.
    pub fn watch(&mut self, cluster: &Cluster, length: Duration) -> Result<(), String> {
        if !cluster.config.is_newest() {
            cluster.sim.run_for(length);
            return Ok(());
        }
        let mut seen = cluster.kv.revision();
        let mut found = Ok(());
        let changed = || {
            let revision = cluster.kv.revision();
            if revision == seen {
                return false;
            }
            seen = revision;
            found = self.look(cluster);
            found.is_err()
        };
        cluster.sim.run_until(changed, length);
        found
    }

    fn look(&mut self, cluster: &Cluster) -> Result<(), String> {
        let volumes = rows::<VolumeRow>(&cluster.kv);
        none_serves_what_is_given_up(cluster, &volumes)?;
        self.turns.observe(cluster, &volumes)?;
        self.logs.observe(cluster, &volumes)?;
        let (now, most) = (cluster.sim.now(), cluster.config.openings);
        for (index, node) in cluster.nodes.iter().enumerate() {
            let host = node.running.borrow().clone();
            let work = host.map_or(0, |host| host.openings().0);
            if work < most {
                self.full.remove(&index);
                continue;
            }
            let since = *self.full.entry(index).or_insert(now);
            if work > most && now.since(since) < HELD_MAX {
                return Err(format!(
                    "{work} openings work on n{index}, and {most} may at a time"
                ));
            }
        }
        Ok(())
    }
}

fn none_serves_what_is_given_up(cluster: &Cluster, rows: &[VolumeRow]) -> Result<(), String> {
    let given_up = |row: &&VolumeRow| row.owner.is_none() && row.state == VolumeState::Ready;
    for row in rows.iter().filter(given_up) {
        for host in cluster.hosts() {
            let mut volumes = host.volumes().into_iter();
            let serves = volumes.any(|volume| {
                (volume.id(), volume.epoch()) == (row.id, row.epoch) && volume.lost().is_none()
            });
            if serves {
                let (id, name, epoch) = (host.id(), &row.name, row.epoch);
                return Err(format!(
                    "{id} serves {name} in {epoch}, and the catalog has it given up"
                ));
            }
        }
    }
    Ok(())
}
