//! The checks: invariants held against the whole cluster, seen from outside.

use crate::bugs::Planted;
use crate::clients::{self, Subject};
use crate::cluster::{self, Cluster};
use crate::manage::{Inventory, Taken, operate};
use api::operation::Operation;
use catalog::{GroupRow, Row, VolumeRow};
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{Epoch, ExtentId, NodeId, Position, SegmentId, StoreId, VolumeId};
use wire::{ExtentInfo, StoreReply, StoreRequest};
use workload::pattern::Content;
use world::Duration;
use world_sim::SimRng;

/// Bound of virtual time within which a healed cluster serves, is redundant again, and has freed garbage.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(180);
/// Decoded map pages that a node may have in memory.
pub const PAGES_BYTES_MAX: usize = 256 << 10;
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Invariants 1 and 3, of the catalog: epochs never go back, one epoch has one owner, a segment has one end, and the
/// next one begins there.
#[derive(Default)]
pub struct Epochs {
    terms: BTreeMap<VolumeId, (Epoch, Option<NodeId>)>,
    ends: BTreeMap<(VolumeId, SegmentId), Position>,
}

impl Epochs {
    /// Looks at the catalog.
    pub fn observe(&mut self, cluster: &Cluster) -> Result<(), String> {
        for row in rows::<VolumeRow>(cluster) {
            let seen = self.terms.entry(row.id).or_insert((row.epoch, row.owner));
            if row.epoch < seen.0 {
                return Err(format!(
                    "{} of {} came after {}",
                    row.epoch, row.name, seen.0
                ));
            }
            let changed = row.epoch == seen.0 && row.owner != seen.1;
            if changed && row.owner.is_some() && seen.1.is_some() {
                return Err(format!("{} of {} has two owners", row.epoch, row.name));
            }
            *seen = (row.epoch, row.owner);
            self.observe_segments(&row)?;
        }
        Ok(())
    }

    fn observe_segments(&mut self, row: &VolumeRow) -> Result<(), String> {
        for pair in row.segments.windows(2) {
            let (one, next) = (&pair[0], &pair[1]);
            if one.end != Some(next.start) || one.epoch > next.epoch {
                return Err(format!(
                    "of {}, {next:?} does not continue {one:?}",
                    row.name
                ));
            }
        }
        for segment in &row.segments {
            let Some(end) = segment.end else { continue };
            let ended = *self.ends.entry((row.id, segment.id)).or_insert(end);
            if ended != end {
                let (id, name) = (segment.id, &row.name);
                return Err(format!("{id} of {name} ended at {ended} and now at {end}"));
            }
        }
        Ok(())
    }
}

fn rows<T: Row>(cluster: &Cluster) -> Vec<T> {
    cluster::rows(&cluster.kv)
}

/// Repeats `attempt` on a healed cluster until it succeeds; invariant 9: within a bound.
pub fn within_bound<T>(
    cluster: &Cluster,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = cluster.sim.now() + RECOVERY_LIMIT;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(reason) if cluster.sim.now() >= deadline => {
                let problems: Vec<String> = cluster
                    .nodes
                    .iter()
                    .filter_map(|node| node.problem.borrow().clone())
                    .collect();
                return Err(format!(
                    "{what} not within {RECOVERY_LIMIT:?}: {reason}; nodes: {problems:?}"
                ));
            }
            Err(_) => {
                cluster.restart_failed();
                cluster.sim.run_for(LOOK_AGAIN);
            }
        }
    }
}

/// Every node runs whose machine is up.
pub fn all_run(cluster: &Cluster) -> Result<(), String> {
    let running = cluster.hosts().len();
    let up = cluster.nodes.iter().filter(|node| node.machine.is_up());
    if running == up.count() {
        Ok(())
    } else {
        Err(format!("{running} nodes run"))
    }
}

/// What a store holds of a group.
pub type Listing = BTreeMap<ExtentId, ExtentInfo>;

/// What every store says it holds of every group.
pub fn listings(cluster: &Cluster) -> Result<BTreeMap<(StoreId, u32), Listing>, String> {
    let groups = rows::<GroupRow>(cluster);
    let mut all = BTreeMap::new();
    for node in &cluster.nodes {
        let Some(host) = node.running.borrow().clone() else {
            return Err("a node is down".to_owned());
        };
        for store in host.stores() {
            let groups = groups.clone();
            let listed = cluster.run_on(&node.machine, RECOVERY_LIMIT, async move {
                let mut listed = Vec::new();
                for group in groups
                    .iter()
                    .filter(|group| group.members.contains(&store.id()))
                {
                    listed.push(((store.id(), group.id.0), list(&store, group).await?));
                }
                Ok::<_, String>(listed)
            });
            all.extend(listed.ok_or("a store does not answer")??);
        }
    }
    Ok(all)
}

async fn list(store: &store::Store, group: &GroupRow) -> Result<Listing, String> {
    let (mut listing, mut after) = (Listing::new(), None);
    loop {
        let (group, generation) = (group.id, group.generation);
        let request = StoreRequest::ListExtents {
            group,
            generation,
            after,
            limit: 1000,
            tombstones: true,
        };
        let answer = store
            .handle(request, Vec::new())
            .await
            .map_err(|error| error.to_string())?;
        let (StoreReply::Extents { extents, more }, _) = answer else {
            return Err("a listing is answered by something else".to_owned());
        };
        after = extents.last().map(|info| info.id);
        listing.extend(extents.into_iter().map(|info| (info.id, info)));
        if !more {
            return Ok(listing);
        }
    }
}

/// Every extent that is not deleted lies on every member of its group.
pub fn is_redundant(cluster: &Cluster) -> Result<(), String> {
    let all = listings(cluster)?;
    for group in rows::<GroupRow>(cluster) {
        let copies = usize::from(group.replication_factor);
        let settled = group.filling.is_empty() && group.former.is_empty();
        if !settled || group.members.len() != copies {
            return Err(format!("{group:?} is not settled"));
        }
        let members: Vec<&Listing> = group
            .members
            .iter()
            .filter_map(|member| all.get(&(*member, group.id.0)))
            .collect();
        if members.len() < group.members.len() {
            return Err(format!("{} has members that no node runs", group.id));
        }
        let deleted = |id: &ExtentId| {
            members
                .iter()
                .any(|member| member.get(id).is_some_and(|info| info.tombstone))
        };
        for (index, member) in members.iter().enumerate() {
            for id in member.keys().filter(|id| !deleted(id)) {
                if let Some(other) = members.iter().position(|other| !other.contains_key(id)) {
                    let (has, lacks) = (group.members[index], group.members[other]);
                    return Err(format!("{id} is on {has} and not on {lacks}"));
                }
            }
        }
    }
    Ok(())
}

/// Every copy is read once between two acts, where disks damage what they hold: what nobody reads, such as a snapshot's old blocks,
/// would wait for another machine's disks to damage the same, and two damaged copies of two are more than was promised.
pub fn scrub(cluster: &Cluster) -> Result<(), String> {
    let config = &cluster.config;
    let damages = config.faults.rot || config.faults.misdirect;
    if !damages || config.planted.is_some_and(Planted::is_early) {
        return Ok(());
    }
    for node in &cluster.nodes {
        let Some(host) = node.running.borrow().clone() else {
            continue;
        };
        let reading = async move { host.scrub_once().await };
        let read = cluster.run_on(&node.machine, RECOVERY_LIMIT, reading);
        read.ok_or_else(|| format!("not every copy is read within {RECOVERY_LIMIT:?}"))?;
    }
    Ok(())
}

/// Invariant 5: all copies of one form are identical, byte for byte.
pub fn copies_are_identical(cluster: &Cluster) -> Result<(), String> {
    let mut seen: BTreeMap<(ExtentId, u32), (StoreId, bytes::Bytes)> = BTreeMap::new();
    let ids: Vec<(StoreId, ExtentId)> = listings(cluster)?
        .into_iter()
        .flat_map(|((store, _), listing)| {
            let live = listing.into_values().filter(|info| !info.tombstone);
            live.map(move |info| (store, info.id)).collect::<Vec<_>>()
        })
        .collect();
    for (store, id) in ids {
        let Some((form, sealed)) = read_extent(cluster, store, id) else {
            continue;
        };
        match seen.get(&(id, form)) {
            Some((other, bytes)) if *bytes != sealed => {
                return Err(format!(
                    "{id} form {form} differs between {other} and {store}"
                ));
            }
            Some(_) => {}
            None => drop(seen.insert((id, form), (store, sealed))),
        }
    }
    Ok(())
}

/// An extent's form and sealed bytes, if this store has a good copy.
pub fn read_extent(
    cluster: &Cluster,
    id: StoreId,
    extent: ExtentId,
) -> Option<(u32, bytes::Bytes)> {
    for node in &cluster.nodes {
        let host = node.running.borrow().clone()?;
        let Some(store) = host.stores().into_iter().find(|store| store.id() == id) else {
            continue;
        };
        let request = StoreRequest::ReadExtent { id: extent };
        let answer = cluster.run_on(
            &node.machine,
            RECOVERY_LIMIT,
            store.handle(request, Vec::new()),
        )?;
        // A rotten copy answers with an error; reads of the volume find and repair it.
        if let Ok((StoreReply::Extent { form, .. }, body)) = answer {
            return Some((form, body.concat().into()));
        }
    }
    None
}

/// Everything the volume holds, read by a client.
fn image_of(cluster: &Cluster, subject: &str, blocks: u64) -> Result<Vec<Content>, String> {
    let (world, way, name) = (cluster.client.world(), cluster.way(), subject.to_owned());
    let read = cluster.run_on(&cluster.client, RECOVERY_LIMIT, async move {
        let device = clients::open(world, way, &name).await?;
        let image = clients::read_image(&device, blocks).await;
        device.close().await;
        image
    });
    read.unwrap_or_else(|| {
        Err(format!(
            "{subject} cannot be read within {RECOVERY_LIMIT:?}"
        ))
    })
}

/// Invariant 4, after a loss of power: the image is a prefix with everything that was flushed.
pub fn verify_after_blackout(cluster: &Cluster, subject: &Subject) -> Result<(), String> {
    let blocks = subject.history.borrow().blocks();
    let image = image_of(cluster, &subject.name, blocks)?;
    let verified = subject
        .history
        .borrow_mut()
        .verify_image(|lba| image[lba.0 as usize]);
    verified.map_err(|violation| format!("{}: {violation}", subject.name))
}

/// Invariant 4, without one: every block reads as a value that its history admits.
pub fn verify_live(cluster: &Cluster, subject: &Subject) -> Result<(), String> {
    let blocks = subject.history.borrow().blocks();
    let read = subject
        .history
        .borrow_mut()
        .begin_read(vocab::Lba(0), blocks);
    let image = image_of(cluster, &subject.name, blocks);
    let image = match image {
        Ok(image) => image,
        Err(reason) => {
            subject.history.borrow_mut().on_read_failed(read);
            return Err(reason);
        }
    };
    let verified = subject.history.borrow_mut().on_read(read, &image);
    verified.map_err(|violation| format!("{}: {violation}", subject.name))
}

/// Invariant 6: with an empty log the map alone is what the log was.
pub fn verify_drained(cluster: &Cluster, rng: &SimRng, subject: &Subject) -> Result<(), String> {
    within_bound(cluster, "draining", || {
        let name = subject.name.clone();
        match operate(cluster, rng, Operation::VolumeDrain { name }) {
            Some(Ok(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    verify_live(cluster, subject)
}

/// Invariant 6: a snapshot holds what it held when it was taken; read through a fresh clone, whose name and contents it
/// returns.
pub fn verify_snapshot(
    cluster: &Cluster,
    rng: &SimRng,
    inventory: &Inventory,
    taken: &Taken,
    number: usize,
) -> Result<(String, Vec<Content>), String> {
    let name = format!("v{number}-{}", taken.name);
    within_bound(cluster, "a clone for checking", || {
        inventory.create_clone(cluster, rng, taken, &name)
    })?;
    let image = image_of(cluster, &name, taken.image.blocks())?;
    let verified = taken.image.verify_image(|lba| image[lba.0 as usize]);
    verified.map_err(|violation| format!("{}@{}: {violation}", taken.volume, taken.name))?;
    Ok((name, image))
}

/// Invariant 2: what an owner counts as committed is on every replica of its open segment.
pub fn committed_is_everywhere(cluster: &Cluster) -> Result<(), String> {
    let stores: Vec<store::Store> = cluster
        .hosts()
        .iter()
        .flat_map(|host| host.stores())
        .collect();
    for volume in cluster.hosts().iter().flat_map(|host| host.volumes()) {
        let log = volume.status().log;
        // After a loss of power a store may hold less than was written to it.
        let trusted = |store: &&store::Store| store.status().trust == wire::Trust::Trusted;
        let ours = |store: &&store::Store| log.replicas.contains(&store.id());
        for store in stores.iter().filter(ours).filter(trusted) {
            let tails = store.inspect_log(volume.id());
            let Some(tail) = tails.iter().find(|tail| tail.segment == log.segment) else {
                continue;
            };
            // A store that started another life, or was fenced by a newer owner, speaks for another log.
            if tail.epoch != volume.epoch() {
                continue;
            }
            let (name, id) = (volume.name(), store.id());
            if tail.last < log.committed {
                return Err(format!(
                    "{name} counts {} as committed, but {id} ends at {}",
                    log.committed, tail.last
                ));
            }
        }
    }
    Ok(())
}

/// What a takeover relies on: an owner that has committed something has its open segment in the catalog, with these replicas.
pub fn open_segments_are_known(cluster: &Cluster) -> Result<(), String> {
    let rows = rows::<VolumeRow>(cluster);
    for volume in cluster.hosts().iter().flat_map(|host| host.volumes()) {
        let log = volume.status().log;
        let Some(row) = rows.iter().find(|row| row.id == volume.id()) else {
            continue;
        };
        // A newer owner may have closed the segment.
        if row.epoch != volume.epoch() {
            continue;
        }
        let known = row
            .segments
            .iter()
            .find(|segment| segment.id == log.segment);
        let stores: Vec<StoreId> = known.map_or_else(Vec::new, |segment| {
            let replicas = segment.replicas.iter();
            replicas.map(|replica| replica.store).collect()
        });
        let begun = known.is_none_or(|segment| log.committed > segment.start);
        let all_known = log.replicas.iter().all(|store| stores.contains(store));
        if begun && !all_known && log.committed > Position(0) && !log.closing {
            return Err(format!(
                "{} has committed {} to {:?}, and the catalog knows {} on {stores:?}",
                volume.name(),
                log.committed,
                log.replicas,
                log.segment
            ));
        }
    }
    Ok(())
}

/// Invariant 9, bounds that hold at all times: undrained data of volumes and nodes, which is what a takeover replays; what is on its
/// way to replicas; map pages in memory; what waits for a journal, its fill, and what an opening replays of it.
pub fn bounds_hold(cluster: &Cluster) -> Result<(), String> {
    let options = &cluster.config.volume;
    let limit = options.undrained_bytes_max;
    // A writer is let in while there is room, then its whole request counts.
    let slack = (options.bypass_bytes as u64 + (64 << 10)) * 16;
    // A message is sent while there is room, and holds one record at least.
    let message = options.append_bytes_max.max(RECORD_BYTES_MAX);
    let inflight_max = options.inflight_bytes_max + message;
    for host in cluster.hosts() {
        let (mut sum, mut volumes) = (0, 0);
        for volume in host.volumes() {
            let status = volume.status();
            let undrained = status.undrained.0;
            if status.log.inflight_bytes > inflight_max {
                return Err(format!(
                    "{} has {} bytes on their way to replicas, bound {inflight_max}",
                    volume.name(),
                    status.log.inflight_bytes
                ));
            }
            (sum, volumes) = (sum + undrained, volumes + 1);
            if undrained > limit + slack {
                return Err(format!(
                    "{} has {undrained} bytes undrained, bound {limit}",
                    volume.name()
                ));
            }
        }
        let bound = options.undrained_node_bytes_max + slack * volumes;
        if sum > bound {
            return Err(format!("a node has {sum} bytes undrained, bound {bound}"));
        }
        let pages = host.pages().bytes();
        if pages > PAGES_BYTES_MAX {
            return Err(format!("map pages take {pages} bytes of memory"));
        }
        for store in host.stores() {
            journal_is_bounded(&store)?;
        }
    }
    Ok(())
}

/// Data of a record, its head, and rounding.
const RECORD_BYTES_MAX: usize = (128 << 10) + 4096;
/// Share of a journal that an opening may have to replay, in percent. A checkpoint is begun at a quarter, or earlier where more than
/// half is in use; what comes while it is written, on a slow disk, is behind it.
const REPLAY_PERCENT_MAX: u64 = 65;

fn journal_is_bounded(store: &store::Store) -> Result<(), String> {
    let load = store.inspect_journal();
    if load.used > load.pages {
        return Err(format!(
            "the journal of {} is overfull: {load:?}",
            store.id()
        ));
    }
    if load.replay * 100 > load.pages * REPLAY_PERCENT_MAX {
        return Err(format!(
            "an opening of {} replays too much: {load:?}",
            store.id()
        ));
    }
    Ok(())
}

/// Invariant 7: with everything deleted, all space comes back and accounting says so.
pub fn everything_is_freed(
    cluster: &Cluster,
    rng: &SimRng,
    volumes: &[String],
    taken: &[Taken],
) -> Result<(), String> {
    for snapshot in taken {
        within_bound(cluster, "deleting a snapshot", || {
            let (volume, name) = (snapshot.volume.clone(), snapshot.name.clone());
            gone(operate(
                cluster,
                rng,
                Operation::SnapshotDelete { volume, name },
            ))
        })?;
    }
    for name in volumes {
        within_bound(cluster, "deleting a volume", || {
            delete_volume(cluster, rng, name)
        })?;
    }
    // Operations whose outcome was unknown may have left things behind.
    leftovers(cluster, rng)?;
    within_bound(cluster, "freeing garbage", || {
        all_run(cluster)?;
        for host in cluster.hosts() {
            for store in host.stores() {
                let status = store.status();
                if status.extents > 0 || status.used.0 > 0 {
                    return Err(format!(
                        "{} holds {} extents, {}",
                        status.store, status.extents, status.used
                    ));
                }
            }
        }
        Ok(())
    })
}

/// Ends what sessions are left and deletes the volume.
pub fn delete_volume(cluster: &Cluster, rng: &SimRng, name: &str) -> Result<(), String> {
    let (volume, client) = (name.to_owned(), None);
    let _ = operate(cluster, rng, Operation::Detach { volume, client });
    let name = name.to_owned();
    gone(operate(cluster, rng, Operation::VolumeDelete { name }))
}

fn gone(outcome: Option<Result<api::answer::Answer, String>>) -> Result<(), String> {
    match outcome {
        Some(Ok(_)) => Ok(()),
        Some(Err(reason)) if reason.contains("there is no") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn leftovers(cluster: &Cluster, rng: &SimRng) -> Result<(), String> {
    let snapshots = rows::<catalog::SnapshotRow>(cluster);
    let volumes: BTreeMap<VolumeId, String> = rows::<VolumeRow>(cluster)
        .into_iter()
        .map(|row| (row.id, row.name))
        .collect();
    for row in snapshots {
        let volume = volumes
            .get(&row.volume)
            .cloned()
            .unwrap_or(format!("{}", row.volume));
        within_bound(cluster, "deleting a left-over snapshot", || {
            let (volume, name) = (volume.clone(), row.name.clone());
            gone(operate(
                cluster,
                rng,
                Operation::SnapshotDelete { volume, name },
            ))
        })?;
    }
    for name in volumes.into_values() {
        within_bound(cluster, "deleting a left-over volume", || {
            delete_volume(cluster, rng, &name)
        })?;
    }
    Ok(())
}

/// What volumes and stores say of themselves, for messages.
pub fn describe(cluster: &Cluster) -> String {
    let hosts: Vec<Rc<node::Host>> = cluster.hosts();
    let volumes = hosts.iter().flat_map(|host| host.volumes());
    let volumes = volumes.map(|volume| format!("{}: {:?}", volume.name(), volume.status()));
    let stores = hosts.iter().flat_map(|host| host.stores());
    let logs = |store: &store::Store| -> Vec<_> {
        let rows = rows::<VolumeRow>(cluster).into_iter();
        rows.map(|row| (row.id, store.inspect_log(row.id)))
            .collect()
    };
    let stores = stores.map(|store| format!("{:?} {:?}", store.status(), logs(&store)));
    let groups = rows::<GroupRow>(cluster).into_iter();
    let groups = groups.map(|row| format!("{row:?}"));
    let all = volumes.chain(stores).chain(groups);
    all.collect::<Vec<_>>().join("; ")
}
