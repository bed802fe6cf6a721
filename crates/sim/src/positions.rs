//! Invariants 3 and 4, of the log: no owner begins below what an owner before it had flushed.

use crate::cluster::Cluster;
use std::collections::BTreeMap;
use vocab::{Epoch, Position, VolumeId};

/// The newest owner seen of each volume, and the highest position that any owner called flushed.
#[derive(Default)]
pub struct Positions(BTreeMap<VolumeId, (Epoch, Position)>);

impl Positions {
    /// Looks at every volume that is served, of older owners too. What a new owner has committed before it was seen first makes
    /// up for what it lacked: a lost flush shows as long as it is larger than that.
    pub fn observe(&mut self, cluster: &Cluster) -> Result<(), String> {
        let hosts = cluster.hosts();
        let served = hosts.iter().flat_map(|host| host.volumes());
        let mut served: Vec<_> = served.map(|volume| (volume.epoch(), volume)).collect();
        // Older owners first.
        served.sort_by_key(|(epoch, _)| *epoch);
        for (epoch, volume) in served {
            let log = volume.status().log;
            let seen = self.0.entry(volume.id()).or_insert((epoch, log.flushed));
            if epoch > seen.0 && log.committed < seen.1 {
                return Err(format!(
                    "{} was flushed up to {}, and its owner of {epoch} begins at {}",
                    volume.name(),
                    seen.1,
                    log.committed
                ));
            }
            *seen = (seen.0.max(epoch), seen.1.max(log.flushed));
        }
        Ok(())
    }
}
