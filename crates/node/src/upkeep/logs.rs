//! Logs in local stores that nobody trims any more: of volumes that are gone, and of replicas that missed
//! their trim while they were away.

use crate::host::Host;
use crate::upkeep::rows_pause;
use catalog::VolumeRow;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{Epoch, Position, StoreId, VolumeId};
use wire::{Lane, StoreReply, StoreRequest, Stores};
use world::Duration;

/// After a start the cluster gets this long to settle.
const FIRST: Duration = Duration::from_secs(5);
/// Pause between two looks, longer where many nodes look at many rows.
const INTERVAL: Duration = Duration::from_secs(300);
/// Pause while the journal is half full; so often is that looked at.
const HURRY: Duration = Duration::from_secs(15);
/// Volumes of one listing.
const LIST_LIMIT: u32 = 1000;
/// Patience with one call to the local store.
const PATIENCE: Duration = Duration::from_secs(10);
/// Above every real term: of a volume whose row, and with it its term, is gone.
const LAST_EPOCH: Epoch = Epoch(u64::MAX >> 1);

pub(crate) async fn run(host: Rc<Host>, store: StoreId) {
    host.world.sleep(FIRST).await;
    loop {
        let mut read = 0;
        if let Err(reason) = tidy(&host, store, &mut read).await {
            tracing::debug!(%store, reason, "logs were not looked through");
        }
        rest(&host, store, read).await;
    }
}

/// Until the next look is due, after one at so many rows, or the journal is half full.
async fn rest(host: &Host, store: StoreId, read: u32) {
    let stores = host.members.look(|view| view.stores.len());
    let mut rest = INTERVAL + rows_pause(host, stores, read);
    while !rest.is_zero() {
        let step = rest.min(HURRY);
        host.world.sleep(step).await;
        rest -= step;
        if is_crowded(host, store) {
            return;
        }
    }
}

fn is_crowded(host: &Host, store: StoreId) -> bool {
    is_above(host, store, 50)
}

/// Whether the journal is so full that the store refuses appends, and soon notes.
fn takes_no_notes(host: &Host, store: StoreId) -> bool {
    is_above(host, store, 85)
}

fn is_above(host: &Host, store: StoreId, percent: u64) -> bool {
    host.stores.get(store).is_some_and(|store| {
        let status = store.status();
        status.journal_used.0 * 100 > status.journal_capacity.0 * percent
    })
}

async fn call(host: &Host, store: StoreId, request: StoreRequest) -> Result<StoreReply, String> {
    let call = host.remote.call(store, Lane::Log, request.into());
    match host.world.timeout(PATIENCE, call).await {
        Ok(Ok((reply, _))) => Ok(reply),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store does not answer".to_owned()),
    }
}

/// Whether the disks know the catalog as it stands; a journal with no room for notes is not waited for.
async fn check_noted(host: &Host, store: StoreId) -> Result<(), String> {
    if host.options.describe_disks && !host.noted().await && !takes_no_notes(host, store) {
        return Err("the disks do not know the catalog yet".to_owned());
    }
    Ok(())
}

/// Lets go of what nobody needs; `read` is how many rows of volumes were read for it, also when it fails.
async fn tidy(host: &Host, store: StoreId, read: &mut u32) -> Result<(), String> {
    let mut held: Vec<VolumeId> = Vec::new();
    loop {
        let after = held.last().copied();
        let request = StoreRequest::ListLogs {
            after,
            limit: LIST_LIMIT,
        };
        let StoreReply::Logs { volumes } = call(host, store, request).await? else {
            return Err("the store answered something else".to_owned());
        };
        let more = volumes.len() >= LIST_LIMIT as usize;
        held.extend(volumes);
        if !more {
            break;
        }
    }
    if held.is_empty() {
        return Ok(());
    }
    // Disks that take no notes make no node read all rows in vain.
    check_noted(host, store).await?;
    // Read after the listing: a volume created meanwhile is not in the listing, one deleted is not in here.
    let rows = host.catalog.list::<VolumeRow>().await;
    let rows = rows.map_err(|error| error.to_string())?;
    *read = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let rows = rows.into_iter();
    let rows: BTreeMap<VolumeId, VolumeRow> = rows.map(|found| (found.row.id, found.row)).collect();
    // A volume that this catalog has never named is not gone: the catalog is older than the volume.
    let named = host.catalog.resolve("counter/volume").await;
    let named = named.map_err(|error| error.to_string())?.unwrap_or(0);
    // A log must not be let go of before the disks know where the volume starts without it. But a journal with no room for
    // notes gets none before something is let go of; should the catalog be lost until the next note, a rebuild sees
    // that records were trimmed above the root it knows, and names the volume. What was noted before may be older than these rows.
    check_noted(host, store).await?;
    for volume in held {
        let request = match rows.get(&volume) {
            None if volume.0 > named => continue,
            None => StoreRequest::DropLog {
                volume,
                epoch: LAST_EPOCH,
            },
            Some(row) if row.root.position > Position::ZERO => StoreRequest::TrimLog {
                volume,
                epoch: row.epoch,
                through: row.root.position,
            },
            Some(_) => continue,
        };
        // A refusal says that a newer owner is at work: it trims.
        let _ = call(host, store, request).await;
    }
    Ok(())
}
