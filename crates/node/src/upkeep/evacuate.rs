//! Takes the logs of volumes off draining stores and off lost ones, and the volumes off this node when it drains.
//!
//! Only an owner can move a log. So volumes that nobody serves are opened for it, each by one node: those that were released at
//! a node's end, and those of an earlier start of this one. Where a store is lost or has lost its disks, or a volume was released while
//! there was one store only for its log, what was written last may be in the log alone, with a copy fewer than was promised, and
//! nobody else would notice.

use crate::host::Host;
use crate::placement::LogPlacement;
use catalog::{SegmentReplica, SegmentRow, VolumeRow};
use curator::Standing;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{Incarnation, NodeId, StoreId, VolumeId};
use volume::Placement;
use world::{Duration, Time};

/// Pause between two looks at what must leave a draining store.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two looks at all rows, and more for each of them.
const ROWS_PAUSE: Duration = Duration::from_secs(3);
const ROWS_PAUSE_EACH: Duration = Duration::from_millis(1);
/// Pause between two looks at whether a store is lost: nothing in the catalog says so.
const LOST_PAUSE: Duration = Duration::from_secs(10);
/// A volume whose log a lost store holds is opened again so long after the last try.
const AGAIN: Duration = Duration::from_secs(600);
/// Volumes that are opened at the same time.
const PARALLEL: usize = 4;

pub(super) fn start(host: &Rc<Host>) {
    host.spawn(run(host.clone()));
    host.spawn(open_unserved(host.clone()));
}

/// What is to be left.
struct Leaving {
    stores: Vec<StoreId>,
    /// Those that do not answer any more and are replaced.
    lost: Vec<StoreId>,
    /// Whether this node is to be left, too.
    node: bool,
}

impl Leaving {
    fn of(host: &Host) -> Self {
        let facts = host.store_facts();
        let lost = { facts.iter() }.filter(|store| store.standing == Standing::Lost);
        let lost = lost.map(|store| store.id).collect();
        host.members.look(|view| {
            let stores = view.stores.values().filter(|row| view.drains(row));
            Self {
                stores: stores.map(|row| row.id).collect(),
                lost,
                node: view.node_drains(host.id()),
            }
        })
    }

    /// Whether a store or this node drains.
    fn drains(&self) -> bool {
        self.node || !self.stores.is_empty()
    }
}

async fn run(host: Rc<Host>) {
    loop {
        let changed = host.members.changed.notified();
        let leaving = Leaving::of(&host);
        if !leaving.drains() {
            changed.await;
            continue;
        }
        for volume in host.volumes() {
            volume.leave_stores(&leaving.stores);
        }
        if leaving.node {
            host.hand_over().await;
        }
        host.world.sleep(INTERVAL).await;
    }
}

/// Opens this node's share of the volumes that nobody serves and whose logs are on draining stores or lack copies. Apart from [`run`]: one
/// that opens slowly holds nothing else up.
async fn open_unserved(host: Rc<Host>) {
    let mut tried: BTreeMap<VolumeId, Time> = BTreeMap::new();
    // When rows were looked at last, and how many there were: stores may be lost for weeks.
    let (mut looked, mut count) = (host.world.now(), 0);
    loop {
        let changed = host.members.changed.notified();
        let leaving = Leaving::of(&host);
        let now = host.world.now();
        let any_lost = !leaving.lost.is_empty();
        let at = looked + interval(&host, any_lost, count);
        if !leaving.drains() && now < at {
            // Either way it is looked at again.
            let pause = if any_lost { at.since(now) } else { LOST_PAUSE };
            let _ = host.world.timeout(pause, changed).await;
            continue;
        }
        looked = now;
        let mut pause = ROWS_PAUSE;
        tried.retain(|_, at| now.since(*at) < AGAIN);
        match host.catalog.list::<VolumeRow>().await {
            Ok(rows) => {
                count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                pause += ROWS_PAUSE_EACH * count;
                let rows = rows.iter().map(|found| &found.row);
                let lives = lives(&host);
                let lacks = |row: &VolumeRow| {
                    !tried.contains_key(&row.id) && lacks_copy(&host, row, &leaving.lost, &lives)
                };
                let ours = rows.filter(|row| is_tied(&host, row, &leaving) || lacks(row));
                let ours: Vec<VolumeId> = ours
                    .filter(|row| is_ours(&host, row))
                    .map(|row| row.id)
                    .collect();
                tried.extend(ours.iter().map(|&id| (id, now)));
                for batch in ours.chunks(PARALLEL) {
                    // One that cannot be opened now is tried again; why is in the log and in its state.
                    join_all(batch.iter().map(|&id| host.acquire_in_turn(id))).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "volumes that nobody serves are looked for later")
            }
        }
        host.world.sleep(pause).await;
    }
}

/// How often all rows are looked at: where no store is lost, all nodes together read about a thousand a second at most.
fn interval(host: &Host, any_lost: bool, count: u32) -> Duration {
    let nodes = host.members.look(|view| view.alive.len());
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    match any_lost {
        true => host.options.lost_logs_interval,
        false => host.options.lost_logs_interval + ROWS_PAUSE_EACH * count.saturating_mul(nodes),
    }
}

/// The life that each store lives, and whether it answers.
type Lives = BTreeMap<StoreId, (Incarnation, bool)>;

fn lives(host: &Host) -> Lives {
    let answers = |store| host.health.silent_for(store).is_none();
    host.members.look(|view| {
        let rows = view.stores.values();
        rows.map(|row| (row.id, (row.incarnation, answers(row.id))))
            .collect()
    })
}

/// Whether a part of a log has a copy that answers, and fewer than it could have: one is on a store that is given up or has lost its
/// disks since, or there are `places` for more than it was opened with. A store that is away for a while is waited for. Pure.
fn is_short(
    segment: &SegmentRow,
    lost: &[StoreId],
    lives: &Lives,
    places: &dyn Fn() -> usize,
) -> bool {
    let lives_on = |replica: &SegmentReplica| {
        let life = lives.get(&replica.store).copied();
        life.map(|(life, answers)| (life == replica.incarnation, answers))
    };
    let is_gone = |replica: &SegmentReplica| {
        lost.contains(&replica.store) || lives_on(replica).is_some_and(|(same, _)| !same)
    };
    let gone = segment.replicas.iter().any(is_gone);
    let answers = |replica: &&SegmentReplica| lives_on(replica) == Some((true, true));
    let live = segment.replicas.iter().filter(answers).count();
    let wanted = usize::from(segment.wanted);
    let few = segment.replicas.len() < wanted;
    live > 0 && (gone || (few && live < wanted.min(places())))
}

/// Whether a volume's log gets copies that it lacks by being opened.
fn lacks_copy(host: &Host, row: &VolumeRow, lost: &[StoreId], lives: &Lives) -> bool {
    let placement = LogPlacement {
        node: host.id(),
        members: host.members.clone(),
        health: host.health.clone(),
        faults: host.options.faults,
    };
    let places = || placement.log_stores(row.id, row.next_segment).len();
    let mut segments = row.segments.iter();
    segments.any(|segment| is_short(segment, lost, lives, &places))
}

/// Whether a volume keeps something from being left: by a part of its log, or because it names this node as its owner. What is
/// left of an earlier start of a draining node is given up when it is to be opened there.
fn is_tied(host: &Host, row: &VolumeRow, leaving: &Leaving) -> bool {
    let mut replicas = row.segments.iter().flat_map(|segment| &segment.replicas);
    let named = leaving.node && row.owner == Some(host.id());
    named || replicas.any(|replica| leaving.stores.contains(&replica.store))
}

impl Host {
    /// Whether a part of a volume's log has a copy on one of these stores, and another one on a store that answers: who opens it
    /// gives it what it lacks. Where no other one answers, opening does not help.
    pub(crate) fn lacks_log_copy(&self, row: &VolumeRow, lost: &[StoreId]) -> bool {
        row.segments.iter().any(|segment| {
            let mut replicas = segment.replicas.iter();
            let named = replicas.any(|replica| lost.contains(&replica.store));
            let mut others = segment
                .replicas
                .iter()
                .filter(|replica| !lost.contains(&replica.store));
            named && others.any(|replica| self.health.silent_for(replica.store).is_none())
        })
    }
}

/// Whether nobody serves it and this node is the one to do it.
fn is_ours(host: &Host, row: &VolumeRow) -> bool {
    if host.volumes.get(row.id).is_some() {
        return false;
    }
    match row.owner {
        Some(owner) if owner == host.id() => true,
        Some(owner) if host.members.serves(owner) => false,
        _ => {
            let heirs: Vec<NodeId> = host.members.look(|view| {
                let alive = view.alive.keys().copied();
                alive.filter(|&node| view.takes_volumes(node)).collect()
            });
            let turn = usize::try_from(row.id.0).unwrap_or(0) % heirs.len().max(1);
            heirs.get(turn) == Some(&host.id())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocab::{Epoch, Position, SegmentId};

    fn segment(stores: &[u32]) -> SegmentRow {
        let replica = |&id: &u32| SegmentReplica {
            store: StoreId(id),
            incarnation: Incarnation(1),
        };
        SegmentRow {
            id: SegmentId(1),
            epoch: Epoch(1),
            start: Position(1),
            end: None,
            replicas: stores.iter().map(replica).collect(),
            wanted: 2,
        }
    }

    fn lives(stores: &[(u32, u64, bool)]) -> Lives {
        let stores = stores.iter();
        let life =
            |&(id, life, answers): &(u32, u64, bool)| (StoreId(id), (Incarnation(life), answers));
        stores.map(life).collect()
    }

    #[test]
    fn a_log_is_opened_for_what_is_gone_and_not_for_who_is_away() {
        let all = lives(&[(1, 1, true), (2, 1, true), (3, 1, true)]);
        let both = segment(&[1, 2]);
        assert!(!is_short(&both, &[], &all, &|| 3));
        let away = lives(&[(1, 1, true), (2, 1, false), (3, 1, true)]);
        assert!(!is_short(&both, &[], &away, &|| 2), "it may come back");
        assert!(is_short(&both, &[StoreId(2)], &away, &|| 2));
        let blank = lives(&[(1, 1, true), (2, 7, true), (3, 1, true)]);
        assert!(
            is_short(&both, &[], &blank, &|| 3),
            "its disks were replaced"
        );
        let nobody = lives(&[(1, 1, false), (2, 7, true)]);
        assert!(
            !is_short(&both, &[], &nobody, &|| 1),
            "opening does not help"
        );
    }

    #[test]
    fn a_log_with_one_copy_gets_another_when_there_is_a_place() {
        let all = lives(&[(1, 1, true), (2, 1, true)]);
        assert!(is_short(&segment(&[1]), &[], &all, &|| 2));
        assert!(!is_short(&segment(&[1]), &[], &all, &|| 1));
    }
}
