//! A flush that failed is believed: its store fails, and answers nothing more until somebody starts it again.

use crate::cluster::Cluster;
use node::Host;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use world::{Duration, Time};

/// How long a node that runs may take to notice.
const NOTICE: Duration = Duration::from_secs(2);

/// A disk in one life of its node's process.
struct Seen {
    life: Weak<Host>,
    /// Flushes of the disk that had failed when this life was first seen.
    errors: u64,
    /// When a failed flush was first seen on a store that has not failed.
    since: Option<Time>,
}

/// What was seen of each disk.
#[derive(Default)]
pub struct FlushErrors(BTreeMap<(usize, usize), Seen>);

impl FlushErrors {
    /// Looks at every disk.
    ///
    /// # Errors
    /// A store that goes on after a flush of its disk has failed.
    pub fn observe(&mut self, cluster: &Cluster) -> Result<(), String> {
        for index in 0..cluster.nodes.len() {
            let host = cluster.nodes[index].running.borrow().clone();
            let Some(host) = host else { continue };
            for disk in 0..cluster.nodes[index].disks.len() {
                self.observe_disk(cluster, index, disk, &host)?;
            }
        }
        Ok(())
    }

    fn observe_disk(
        &mut self,
        cluster: &Cluster,
        index: usize,
        disk: usize,
        host: &Rc<Host>,
    ) -> Result<(), String> {
        let node = &cluster.nodes[index];
        let errors = node.disks[disk].flush_errors();
        let life = Rc::downgrade(host);
        let fresh = || Seen {
            life: life.clone(),
            errors,
            since: None,
        };
        let seen = self.0.entry((index, disk)).or_insert_with(fresh);
        if !seen.life.ptr_eq(&life) {
            *seen = fresh();
        }
        let Some(id) = node.bay.store_of(node.disks[disk].name()) else {
            return Ok(());
        };
        let failed = |store: &store::Store| store.id() == id && store.status().failed.is_some();
        if errors == seen.errors || host.stores().iter().any(failed) || node.machine.is_paused() {
            seen.since = None;
            return Ok(());
        }
        let now = cluster.sim.now();
        let since = *seen.since.get_or_insert(now);
        if now.since(since) > NOTICE {
            let name = node.disks[disk].name();
            return Err(format!("a flush of {name} failed, and {id} goes on"));
        }
        Ok(())
    }
}
