//! Every copy is read now and then, also if nobody asks for it: what has rotted is made good while other copies are there.

use crate::host::Host;
use catalog::GroupRow;
use std::rc::Rc;
use store::Store;
use vocab::{ExtentId, StoreId};
use wire::{ExtentInfo, StoreError, StoreReply, StoreRequest};
use world::Duration;

/// Entries of a listing read at a time.
const LIST_LIMIT: u32 = 200;
/// The first round begins so long after the start, unless rounds are closer than that.
const FIRST_PAUSE: Duration = Duration::from_secs(3600);
/// Pause while there are no groups.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// What scrubbing has found since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Rounds over all extents of a store.
    pub rounds: u64,
    /// Extents read.
    pub extents: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Copies that did not verify.
    pub damaged: u64,
    /// Those of them that were made good from another member.
    pub repaired: u64,
}

/// Reads a local store's copies over and over, at the pace of the options.
pub(crate) async fn run(host: Rc<Host>, store: StoreId) {
    let Some(store) = host.stores.get(store) else {
        return;
    };
    host.world
        .sleep(host.options.scrub.interval.min(FIRST_PAUSE))
        .await;
    loop {
        let begin = host.world.now();
        let groups: Vec<GroupRow> = host.members.look(|view| {
            let groups = view.groups.values();
            let ours = groups.filter(|group| group.members.contains(&store.id()));
            ours.cloned().collect()
        });
        for group in &groups {
            scrub_group(&host, &store, group).await;
        }
        let took = host.world.now().since(begin);
        if groups.is_empty() {
            host.world.sleep(IDLE_PAUSE).await;
            continue;
        }
        note(&host, |report| report.rounds += 1);
        let rest = host.options.scrub.interval.saturating_sub(took);
        host.world.sleep(rest.max(IDLE_PAUSE)).await;
    }
}

fn note(host: &Host, change: impl FnOnce(&mut ScrubReport)) {
    let mut report = host.upkeep.scrubbed.get();
    change(&mut report);
    host.upkeep.scrubbed.set(report);
}

async fn scrub_group(host: &Rc<Host>, store: &Store, group: &GroupRow) {
    let mut after: Option<ExtentId> = None;
    loop {
        let (group, generation) = (group.id, group.generation);
        let request = StoreRequest::ListExtents {
            group,
            generation,
            after,
            limit: LIST_LIMIT,
            tombstones: false,
        };
        // A group that has other members meanwhile is read in the next round.
        let Ok((StoreReply::Extents { extents, more }, _)) =
            store.handle(request, Vec::new()).await
        else {
            return;
        };
        after = extents.last().map(|info| info.id).or(after);
        for info in &extents {
            scrub_extent(host, store, info).await;
        }
        if !more || extents.is_empty() {
            return;
        }
    }
}

async fn scrub_extent(host: &Rc<Host>, store: &Store, info: &ExtentInfo) {
    let request = StoreRequest::ReadExtent { id: info.id };
    let read = store.handle(request, Vec::new()).await;
    note(host, |report| {
        report.extents += 1;
        report.bytes += u64::from(info.bytes);
    });
    if let Err(StoreError::Damaged { what }) = read {
        note(host, |report| report.damaged += 1);
        tracing::warn!(store = %store.id(), extent = %info.id, what, "a copy has rotted");
        match host.pool.repair(store.id(), info.id).await {
            Ok(_) => note(host, |report| report.repaired += 1),
            Err(error) => {
                tracing::error!(store = %store.id(), extent = %info.id, %error, "it cannot be made good now");
            }
        }
    }
    // Bandwidth: so long a pause that bytes per second come out right, whatever the read took.
    let rate = host.options.scrub.bytes_per_second.max(1);
    let pause = u64::from(info.bytes).saturating_mul(1_000_000) / rate;
    host.world.sleep(Duration::from_micros(pause)).await;
}
