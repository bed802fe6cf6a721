//! Journals and memory that fill up although each volume is within its own bounds: the volumes served here with the
//! most undrained data are drained before appends are refused and before idle ones keep the room that busy ones need. So
//! they are while a store is nearly full: what they have overwritten is garbage only then.

use crate::host::Host;
use futures_util::future::join_all;
use std::rc::Rc;
use volume::Volume;
use world::Duration;

/// Share of a ring in use, by any store, from which on volumes are drained early. Appends are refused at
/// three quarters and above.
const RELIEVE_PERCENT: u64 = 50;
/// And of a store's space: from there on all garbage must be known.
const FULL_PERCENT: u64 = 85;
/// Volumes drained at the same time: each keeps a few extents of 4 MiB on their way.
const DRAINS_MAX: usize = 4;
/// Pause between two looks; the stores are asked as often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Others get their turn although a drain waits for its stores.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run(host: Rc<Host>) {
    loop {
        if host.volumes.is_empty() {
            host.members.changed.notified().await;
            continue;
        }
        host.world.sleep(INTERVAL).await;
        let tight = host.room.is_tight();
        let full = host.health.has_store_above(FULL_PERCENT);
        if !tight && !full && !host.health.has_ring_above(RELIEVE_PERCENT) {
            continue;
        }
        let drains = fullest(&host).into_iter();
        // A volume that is lost meanwhile has nothing to drain.
        let drains = drains.map(|volume| async move { drop(volume.drain().await) });
        let _ = host.world.timeout(PATIENCE, join_all(drains)).await;
    }
}

/// Volumes with the most undrained data, at most [`DRAINS_MAX`].
fn fullest(host: &Host) -> Vec<Rc<Volume>> {
    let undrained = |volume: Rc<Volume>| (volume.status().undrained.0, volume);
    let volumes = host.volumes.all().into_iter().map(undrained);
    let mut volumes: Vec<_> = volumes.filter(|(undrained, _)| *undrained > 0).collect();
    volumes.sort_by_key(|(undrained, volume)| (std::cmp::Reverse(*undrained), volume.id()));
    volumes.truncate(DRAINS_MAX);
    volumes.into_iter().map(|(_, volume)| volume).collect()
}
