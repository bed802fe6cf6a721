//! What one node of the cluster does for all: it finishes deletions and collects garbage.
//!
//! A lineage is collected when one of its rows has changed since the last time, and until nothing is left
//! of one without roots. While a store runs out of space, garbage is collected without rest and from extents with less of it:
//! writers wait for that.

use super::tasks::Walk;
use crate::health;
use crate::host::Host;
use catalog::kv::Revision;
use catalog::{LineageRow, SnapshotRow, Versioned, VolumeRow, VolumeState};
use curator::{CollectReport, LineageSpace, RootOf};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{LineageId, VolumeId};
use world::Duration;

/// Share of a store's space in use, by data and garbage, from which on collecting comes before everything else. It leaves a quarter
/// of the disk for what is written until the collection is done.
const HURRY_PERCENT: u64 = 70;
/// How often the stores are looked at for that.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Share of the time that collecting takes then.
const HURRY_DUTY_PERCENT: u32 = 50;
/// The same from [`URGENT_PERCENT`] on: writers will have to wait for it soon.
const URGENT_DUTY_PERCENT: u32 = 90;
const URGENT_PERCENT: u64 = 85;
/// Extents are rewritten then when so many percent of them can be live.
const HURRY_COMPACT_BELOW_PERCENT: u32 = 75;
/// So many at the same time, and so many before the garbage of the next lineage is deleted.
const HURRY_PARALLEL: usize = 4;
const HURRY_COMPACT_MAX: usize = 128;
/// And for so long, on slow disks: deleting costs next to nothing and gives most.
const HURRY_REWRITE_FOR: Duration = Duration::from_secs(5);

/// Versions of the rows of a lineage: it changed when they did.
type Fingerprint = (u64, u64, u64);

pub(crate) async fn run(host: Rc<Host>) {
    let mut done: BTreeMap<LineageId, Fingerprint> = BTreeMap::new();
    // A store that is full of live data is no reason to look for garbage without rest.
    let mut worthwhile = true;
    loop {
        pause(&host, worthwhile).await;
        match host.leads().await {
            Ok(true) => {}
            Ok(false) => {
                done.clear();
                host.upkeep.ledger.borrow_mut().clear();
                host.upkeep.collecting.borrow_mut().clear();
                continue;
            }
            Err(_) => continue,
        }
        let before = gains(&host);
        let begun = host.upkeep.rounds_begun.get() + 1;
        host.upkeep.rounds_begun.set(begun);
        // What failed may succeed a moment later, and writers may be waiting for it.
        let finished = round(&host, &mut done).await.unwrap_or_else(|error| {
            tracing::debug!(error, "garbage is collected later");
            false
        });
        if finished {
            host.upkeep.round_whole.set(begun);
        }
        worthwhile = !finished || gains(&host) > before;
    }
}

/// Until the next round is due, or a store fills up.
async fn pause(host: &Host, may_hurry: bool) {
    rest(host, host.options.collect.interval, may_hurry).await;
}

/// For so long, or until a store fills up: with a tenth of the time to work in, a rest after a long collection outlasts
/// what writers need to fill a pool.
async fn rest(host: &Host, mut rest: Duration, may_hurry: bool) {
    while !rest.is_zero() {
        let step = rest.min(LOOK_INTERVAL);
        host.world.sleep(step).await;
        rest -= step;
        if host.volumes.is_empty() {
            // Nobody else asks them often.
            health::refresh(host).await;
        }
        if may_hurry && is_hurried(host) {
            return;
        }
    }
}

/// Extents deleted or rewritten so far.
fn gains(host: &Host) -> u64 {
    let total = host.upkeep.collected.borrow();
    total.deleted + total.compacted
}

fn is_hurried(host: &Host) -> bool {
    host.health.has_store_above(HURRY_PERCENT)
}

/// Lineages in which nothing was ever written, and where their space goes.
fn untouched(
    lineages: &[Versioned<LineageRow>],
    volumes: &[Versioned<VolumeRow>],
) -> BTreeMap<LineageId, LineageSpace> {
    let rows: BTreeMap<VolumeId, &VolumeRow> = volumes
        .iter()
        .map(|found| (found.row.id, &found.row))
        .collect();
    let space_of = |found: &Versioned<LineageRow>| {
        let members = found.row.volumes.iter();
        let members: Vec<&VolumeRow> = members.filter_map(|id| rows.get(id).copied()).collect();
        Some((found.row.id, curator::untouched(&found.row, &members)?))
    };
    lineages.iter().filter_map(space_of).collect()
}

/// Collects what has changed; whether nothing is left to do.
async fn round(host: &Host, done: &mut BTreeMap<LineageId, Fingerprint>) -> Result<bool, String> {
    let mut finished = true;
    let text = |error: catalog::CatalogError| error.to_string();
    let volumes = host.catalog.list::<VolumeRow>().await.map_err(text)?;
    for found in volumes
        .iter()
        .filter(|found| found.row.state == VolumeState::Deleting)
    {
        if let Err(error) = host.finish_delete(&found.row).await {
            tracing::warn!(volume = %found.row.name, %error, "its deletion is finished later");
        }
    }
    let snapshots = host.catalog.list::<SnapshotRow>().await.map_err(text)?;
    let lineages = host.catalog.list::<LineageRow>().await.map_err(text)?;
    let mut present: BTreeMap<LineageId, (Fingerprint, bool)> = BTreeMap::new();
    for found in &lineages {
        let rootless = found.row.volumes.is_empty() && found.row.snapshots.is_empty();
        present.insert(found.row.id, ((found.version, 0, 0), rootless));
    }
    for found in &volumes {
        if let Some((fingerprint, _)) = present.get_mut(&found.row.lineage) {
            fingerprint.1 = fingerprint.1.max(found.version);
        }
    }
    for found in &snapshots {
        if let Some((fingerprint, _)) = present.get_mut(&found.row.lineage) {
            fingerprint.2 = fingerprint.2.max(found.version);
        }
    }
    done.retain(|id, _| present.contains_key(id));
    let listed = present.keys().copied().collect();
    host.upkeep.collecting.borrow_mut().on_list(listed);
    let roots_of: BTreeMap<LineageId, BTreeSet<RootOf>> = lineages
        .iter()
        .map(|found| (found.row.id, roots_in(&found.row)))
        .collect();
    host.upkeep
        .ledger
        .borrow_mut()
        .retain(|id, _| present.contains_key(id));
    let untouched = untouched(&lineages, &volumes);
    for (id, (fingerprint, rootless)) in present {
        if done.get(&id) == Some(&fingerprint) && !rootless {
            continue;
        }
        if let Some(space) = untouched.get(&id).filter(|_| !rootless) {
            record(host, id, &CollectReport::default(), space.clone());
            let walk = Walk {
                freed: 0,
                finished: false,
            };
            let roots = roots_of.get(&id).cloned().unwrap_or_default();
            let seen = (fingerprint.0, roots);
            host.upkeep.collecting.borrow_mut().on_walk(id, seen, walk);
            done.insert(id, fingerprint);
            continue;
        }
        // Another one leads once the lease is lost: two collectors must not compact at the same time.
        if !host.leads().await.map_err(|error| error.to_string())? {
            return Ok(false);
        }
        let before = roots_of.get(&id).cloned().unwrap_or_default();
        if collect(host, id, (fingerprint.0, before)).await {
            done.insert(id, fingerprint);
        } else {
            finished = false;
        }
    }
    Ok(finished)
}

/// Everything in a lineage that refers to data.
fn roots_in(row: &LineageRow) -> BTreeSet<RootOf> {
    let volumes = row.volumes.iter().map(|&id| RootOf::Volume(id));
    let snapshots = row.snapshots.iter().map(|&id| RootOf::Snapshot(id));
    volumes.chain(snapshots).collect()
}

/// Collects one lineage, whose row had this version and these roots, and rests in proportion; whether nothing is left to do.
async fn collect(host: &Host, id: LineageId, seen: (Revision, BTreeSet<RootOf>)) -> bool {
    let (limits, duty) = pace(host);
    let began = host.world.now();
    let mut attempts = host.upkeep.attempts.take();
    let collected = curator::collect_lineage(
        &host.world,
        &host.catalog,
        &host.pool,
        &host.pages,
        id,
        &limits,
        &mut attempts,
    );
    let result = collected.await;
    host.upkeep.attempts.replace(attempts);
    let took = host.world.now().since(began);
    let hurried = is_hurried(host);
    let pause = took * (100 - duty) / duty;
    match hurried {
        // Already in a hurry, the rest is short and is the clients' share.
        true => host.world.sleep(pause.min(took)).await,
        false => rest(host, pause, true).await,
    }
    match result {
        Ok(collected) => {
            let report = collected.report;
            note(host, id, &report);
            record(host, id, &report, collected.space);
            let rest = report.compacted >= limits.compact_max as u64 || report.refused > 0;
            let whole = !rest && !report.postponed;
            let walk = Walk {
                freed: report.freed_bytes,
                finished: report.finished,
            };
            host.upkeep.collecting.borrow_mut().on_walk(id, seen, walk);
            whole
        }
        Err(error) => {
            tracing::info!(lineage = %id, %error, "not collected");
            false
        }
    }
}

/// Bounds of a collection and its share of the time, in percent, as the stores fill up.
fn pace(host: &Host) -> (curator::Limits, u32) {
    let options = &host.options.collect;
    let (mut limits, duty) = (options.limits, options.duty_percent.clamp(1, 100));
    if !is_hurried(host) {
        return (limits, duty);
    }
    limits.compact_below_percent = limits
        .compact_below_percent
        .max(HURRY_COMPACT_BELOW_PERCENT);
    limits.pace = Duration::ZERO;
    limits.parallel = limits.parallel.max(HURRY_PARALLEL);
    limits.compact_max = limits.compact_max.min(HURRY_COMPACT_MAX);
    limits.rewrite_for = limits.rewrite_for.min(HURRY_REWRITE_FOR);
    let urgent = host.health.has_store_above(URGENT_PERCENT);
    let hurry = if urgent {
        URGENT_DUTY_PERCENT
    } else {
        HURRY_DUTY_PERCENT
    };
    (limits, duty.max(hurry))
}

/// Keeps where the space of a lineage goes, until it is walked again.
fn record(host: &Host, id: LineageId, report: &CollectReport, space: LineageSpace) {
    let mut ledger = host.upkeep.ledger.borrow_mut();
    match report.finished {
        true => drop(ledger.remove(&id)),
        false => drop(ledger.insert(id, (host.world.now(), space))),
    }
}

fn note(host: &Host, id: LineageId, report: &CollectReport) {
    if report.deleted + report.compacted + report.refused > 0 || report.finished {
        tracing::info!(lineage = %id, ?report, "collected");
    }
    let mut total = host.upkeep.collected.borrow_mut();
    total.extents += report.extents;
    total.deleted += report.deleted;
    total.deleted_bytes += report.deleted_bytes;
    total.freed_bytes += report.freed_bytes;
    total.compacted += report.compacted;
    total.finished |= report.finished;
}
