//! What fences rest on, seen from outside: promises and lives of stores (invariants 1 and 8).
//! A promise that is on the device never decreases in one life of its store, over any crash.

use crate::cluster::{Cluster, rows};
use catalog::VolumeRow;
use std::collections::BTreeMap;
use vocab::{Epoch, Incarnation, Position, SegmentId, StoreId, VolumeId};
use wire::SegmentTail;

/// One replica of a segment in one life of its store.
type Replica = (StoreId, Incarnation, VolumeId, SegmentId, Epoch);

#[derive(Default)]
pub struct Fences {
    /// How far each replica reached when its store was first seen to have promised a newer epoch.
    ends: BTreeMap<Replica, Position>,
    /// The highest promise that was on the device, by store, its life and volume.
    promises: BTreeMap<(StoreId, Incarnation, VolumeId), Epoch>,
}

impl Fences {
    /// Looks at every store that runs.
    pub fn observe(&mut self, cluster: &Cluster) -> Result<(), String> {
        let volumes = rows::<VolumeRow>(&cluster.kv);
        for store in cluster.hosts().iter().flat_map(|host| host.stores()) {
            for row in &volumes {
                let promised = store.inspect_promise(row.id);
                let tails = store.inspect_log(row.id);
                promise_is_kept(&store, row, promised)?;
                self.promise_never_decreases(&store, row, promised)?;
                no_former_life_serves(&store, row, &tails)?;
                self.nothing_older_is_accepted(&store, row, promised, &tails)?;
            }
        }
        Ok(())
    }

    fn promise_never_decreases(
        &mut self,
        store: &store::Store,
        row: &VolumeRow,
        promised: Epoch,
    ) -> Result<(), String> {
        let life = (store.id(), store.incarnation(), row.id);
        let before = self.promises.get(&life).copied().unwrap_or_default();
        if promised < before {
            let (id, name) = (store.id(), &row.name);
            return Err(format!(
                "{id} had promised {before} of {name} for good, and promises {promised} now"
            ));
        }
        if let Some(durable) = store.inspect_durable_promise(row.id) {
            self.promises.insert(life, durable);
        }
        Ok(())
    }

    /// A record below the promise may be here from before it, but none comes after it.
    fn nothing_older_is_accepted(
        &mut self,
        store: &store::Store,
        row: &VolumeRow,
        promised: Epoch,
        tails: &[SegmentTail],
    ) -> Result<(), String> {
        for tail in tails.iter().filter(|tail| tail.epoch < promised) {
            let (id, life) = (store.id(), store.incarnation());
            let replica = (id, life, row.id, tail.segment, tail.epoch);
            let end = *self.ends.entry(replica).or_insert(tail.last);
            if tail.last > end {
                return Err(format!(
                    "{id} promised {promised} of {} when {} of {} ended at {end}, and now it ends at {}",
                    row.name, tail.segment, tail.epoch, tail.last
                ));
            }
        }
        Ok(())
    }
}

/// A segment is in the catalog once each of its replicas has promised its epoch, durably: only another life forgets.
fn promise_is_kept(store: &store::Store, row: &VolumeRow, promised: Epoch) -> Result<(), String> {
    for segment in &row.segments {
        let ours = segment.replicas.iter().any(|replica| {
            (replica.store, replica.incarnation) == (store.id(), store.incarnation())
        });
        if ours && promised < segment.epoch {
            return Err(format!(
                "{} is a replica of {} of {}, of {}, and promises {promised} only",
                store.id(),
                segment.id,
                row.name,
                segment.epoch
            ));
        }
    }
    Ok(())
}

/// A store that lost its memory holds nothing of a segment that was opened on its former life.
fn no_former_life_serves(
    store: &store::Store,
    row: &VolumeRow,
    tails: &[SegmentTail],
) -> Result<(), String> {
    for segment in &row.segments {
        let of_former_life = segment.replicas.iter().any(|replica| {
            replica.store == store.id() && replica.incarnation != store.incarnation()
        });
        let same = |tail: &&SegmentTail| (tail.segment, tail.epoch) == (segment.id, segment.epoch);
        if of_former_life && tails.iter().any(|tail| same(&tail)) {
            return Err(format!(
                "{} lost its memory and takes part in {} of {}",
                store.id(),
                segment.id,
                row.name
            ));
        }
    }
    Ok(())
}
