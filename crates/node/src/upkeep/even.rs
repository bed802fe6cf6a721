//! Nodes that came back, or are new, get volumes to serve: one at a time, from those that serve most, while nothing else is amiss.
//!
//! Every node looks at the rows and comes to the same plan (`curator::plan_owner`); the owner that it names hands its volume over as a
//! node does that drains: drained first, so that the next owner begins at once, then given up. Clients find the new owner as after a
//! takeover, without the wait for a suspicion.
//!
//! Invariants
//! - Nothing moves while a node is away, drains, is in maintenance, waits to be approved or runs another release, nor while copies are
//!   missing or are being made, and not before all of that has been over for a while. A dead disk in whose place there are other copies is
//!   nothing of that.
//! - A volume that cannot be drained in time stays where it is, and so does every one while the catalog takes no writes.
//! - A node that has not opened what it was given is given nothing for longer and longer, and a volume that was not moved is left alone
//!   for a while: neither keeps others from moving, nor goes to and fro.

use super::placement::{all_take_part, replaced_stores};
use crate::host::Host;
use crate::membership::ClusterView;
use crate::upkeep::rows_pause;
use crate::volumes::NotMoved;
use catalog::{Subject, VolumeRow, VolumeState};
use curator::{OwnedVolume, OwnerMove};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use vocab::{NodeId, StoreId, VolumeId};
use wire::NodeError;
use world::{Duration, Time};

/// More pause for each row that is read: 10,000 take about 50 ms of this thread. Nodes with nothing to give pause for longer where there
/// are many of them, so that the catalog is read for something else as well.
const PAUSE_EACH: Duration = Duration::from_millis(2);

/// When volumes go to nodes that serve few.
#[derive(Clone, Copy, Debug)]
pub struct EvenOptions {
    /// So long nothing must have been amiss.
    pub settle: Duration,
    /// Pause between two looks while all is even, longer where many rows are read for one; so often it is looked at whether all is calm.
    pub interval: Duration,
    /// Pause between two moves.
    pub move_pause: Duration,
}

impl Default for EvenOptions {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(120),
            interval: Duration::from_secs(60),
            move_pause: Duration::from_secs(15),
        }
    }
}

/// A volume that was not moved is left alone for so long; a node that did not open what it was given, too, and for twice as long after
/// every further time.
const REST: Duration = Duration::from_secs(600);
const REST_MAX: Duration = Duration::from_secs(4 * 3600);
/// Looks at which another node is to move the same volume, after which it is taken for one that cannot be moved.
const SAME_MAX: u32 = 4;

/// What this node knows of moves that did not happen.
#[derive(Default)]
struct Lately {
    /// Volumes that are left alone, until when.
    volumes: BTreeMap<VolumeId, Time>,
    /// Nodes that are given nothing, until when, and for how long.
    nodes: BTreeMap<NodeId, (Time, Duration)>,
    /// What another node was to do at the last look, and at how many looks in a row.
    other: Option<(OwnerMove, u32)>,
}

impl Lately {
    fn rests(&self, volume: VolumeId, now: Time) -> bool {
        self.volumes.get(&volume).is_some_and(|until| *until > now)
    }

    fn is_given_nothing(&self, node: NodeId, now: Time) -> bool {
        self.nodes.get(&node).is_some_and(|(until, _)| *until > now)
    }

    fn leave_alone(&mut self, volume: VolumeId, now: Time) {
        self.volumes.retain(|_, until| *until > now);
        self.volumes.insert(volume, now + REST);
    }

    /// Takes note of what came of a move of this node; whether the next one may follow soon.
    fn on_tried(&mut self, step: &OwnerMove, tried: Result<(), NotMoved>, now: Time) -> bool {
        self.other = None;
        match tried {
            Ok(()) => {
                self.nodes.remove(&step.to);
                return true;
            }
            Err(NotMoved::Opened) => return true,
            Err(NotMoved::Overtaken(_)) => {
                self.leave_alone(step.volume, now);
                return true;
            }
            Err(NotMoved::Restless) => {}
            Err(NotMoved::Stays(_)) => self.leave_alone(step.volume, now),
            Err(NotMoved::Astray(_)) => {
                self.leave_alone(step.volume, now);
                let before = self.nodes.get(&step.to).map(|(_, rest)| *rest * 2);
                let rest = before.unwrap_or(REST).min(REST_MAX);
                self.nodes.insert(step.to, (now + rest, rest));
            }
        }
        false
    }

    /// Takes note of what another node is to do; whether it is likely to.
    fn on_other(&mut self, step: OwnerMove, now: Time) -> bool {
        let looks = match self.other {
            Some((before, looks)) if before == step => looks + 1,
            Some(_) | None => 1,
        };
        self.other = Some((step, looks));
        if looks < SAME_MAX {
            return true;
        }
        self.other = None;
        self.leave_alone(step.volume, now);
        false
    }
}

pub(super) async fn run(host: Rc<Host>, options: EvenOptions) {
    let mut calm_since: Option<Time> = None;
    let mut evening = false;
    // When rows may be read again, and how many were read last.
    let (mut due, mut rows) = (host.world.now(), 0_u32);
    let mut lately = Lately::default();
    loop {
        let left = due.since(host.world.now());
        host.world.sleep(step_of(left, options.interval)).await;
        if !is_calm(&host) {
            (calm_since, evening) = (None, false);
            continue;
        }
        let now = host.world.now();
        let since = *calm_since.get_or_insert(now);
        if now < due || now.since(since) < options.settle {
            continue;
        }
        let step = look(&host, evening, &lately, &mut rows).await;
        let gives = step.is_some_and(|step| step.from == host.id());
        evening = match step {
            Some(step) if step.from == host.id() => {
                let tried = carry_out(&host, step).await;
                let moved = lately.on_tried(&step, tried, host.world.now());
                if !moved {
                    calm_since = None;
                }
                moved
            }
            Some(step) => lately.on_other(step, host.world.now()),
            None => {
                lately.other = None;
                false
            }
        };
        let pause = if evening {
            options.move_pause
        } else {
            options.interval
        };
        due = host.world.now() + pause + paid(&host, gives, rows);
    }
}

/// Until the next look at whether all is calm, which costs no rows: however long they are not to be read again, what is amiss meanwhile is
/// seen. Pure.
fn step_of(left: Duration, interval: Duration) -> Duration {
    match left.is_zero() {
        true => interval,
        false => left.min(interval),
    }
}

/// Pause for the rows of the last look.
fn paid(host: &Host, gives: bool, rows: u32) -> Duration {
    let own = PAUSE_EACH * rows;
    match gives {
        true => own,
        false => {
            let readers = host.members.look(|view| view.alive.len());
            own.max(rows_pause(host, readers, rows))
        }
    }
}

/// Whether nothing is amiss that moving volumes would make worse, or be undone by. Pure but for what the stores said last.
fn is_calm(host: &Host) -> bool {
    let stores = host.store_facts();
    let now_ms = host.world.clock.unix_ms();
    let takes_part = host.lease.why_out().is_none();
    let is_well = |view: &ClusterView| {
        let replaced = replaced_stores(view, &stores);
        all_take_part(&stores, &replaced) && is_quiet(view, &replaced, now_ms)
    };
    takes_part && !host.balance_rests() && host.members.look(is_well)
}

/// Whether all nodes are there and none is to go, and every group is whole. `replaced`: stores that are given up and have others in their
/// place; what they hold is not waited for. Pure.
fn is_quiet(view: &ClusterView, replaced: &BTreeSet<StoreId>, now_ms: u64) -> bool {
    let there = view.nodes.keys().all(|node| view.alive.contains_key(node));
    // A node that was removed, or has never started, is a candidate without a row.
    let known = |subject: Subject| match subject {
        Subject::Node(node) => view.nodes.contains_key(&node),
        Subject::Store(_) => true,
    };
    let intents = view.intents.values();
    let excused = intents.filter(|intent| {
        let wanted = intent.draining || intent.candidate || intent.maintenance_until_ms > now_ms;
        wanted && known(intent.subject)
    });
    let releases: BTreeSet<&str> = { view.nodes.values() }
        .map(|row| row.release.as_str())
        .collect();
    let whole = view.groups.values().all(|group| {
        let members = group.members.len() >= usize::from(group.replication_factor);
        let mut former = group.former.iter();
        members && group.filling.is_empty() && former.all(|store| replaced.contains(store))
    });
    there && excused.count() == 0 && releases.len() <= 1 && whole
}

/// What should move next, by the rows as they are.
async fn look(host: &Host, evening: bool, lately: &Lately, count: &mut u32) -> Option<OwnerMove> {
    let rows = host.catalog.list::<VolumeRow>().await.ok()?;
    *count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let now = host.world.now();
    let (nodes, names) = host.members.look(|view| {
        let mut nodes: Vec<NodeId> = view.stores.values().map(|row| row.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|&node| !lately.is_given_nothing(node, now));
        let names: BTreeMap<String, NodeId> = { view.nodes.values() }
            .map(|row| (row.name.clone(), row.id))
            .collect();
        (nodes, names)
    });
    let volumes: Vec<OwnedVolume> = { rows.iter() }
        .filter_map(|found| owned(&found.row, &names))
        .map(|volume| OwnedVolume {
            rests: lately.rests(volume.id, now),
            ..volume
        })
        .collect();
    curator::plan_owner(&nodes, &volumes, evening)
}

/// A volume that could move. Clients are known by the names of their machines, which are those of nodes where these run on them. Pure.
fn owned(row: &VolumeRow, names: &BTreeMap<String, NodeId>) -> Option<OwnedVolume> {
    let owner = row.owner.filter(|_| row.state == VolumeState::Ready)?;
    let clients = &row.attachment.clients;
    let near: BTreeSet<NodeId> = { clients.iter() }
        .filter_map(|client| names.get(client).copied())
        .collect();
    let near = match near.contains(&owner) {
        // Of several readers one is as good as another.
        true => Some(owner),
        false => near.first().copied(),
    };
    Some(OwnedVolume {
        id: row.id,
        owner,
        attached: !clients.is_empty(),
        near,
        rests: false,
    })
}

async fn carry_out(host: &Rc<Host>, step: OwnerMove) -> Result<(), NotMoved> {
    // It may have become less calm while the rows were read.
    if !is_calm(host) {
        return Err(NotMoved::Restless);
    }
    let Some(volume) = host.volumes.get(step.volume) else {
        // Its row names this node from an earlier start. Opened, it can be handed over with the next look.
        let opened = host.acquire(step.volume).await;
        let stays = |refusal| NotMoved::Stays(NodeError::from(refusal).to_string());
        return Err(opened.map_or_else(stays, |_| NotMoved::Opened));
    };
    let to = host.members.node_name(step.to);
    let moved = host.hand_to(&volume, step.to, || is_calm(host)).await;
    match &moved {
        Ok(()) => {
            tracing::info!(volume = %volume.name(), to, "handed over to a node that serves few");
        }
        Err(NotMoved::Astray(reason)) => {
            tracing::warn!(volume = %volume.name(), to, reason, "given up for a node that has not opened it");
        }
        Err(reason) => {
            tracing::debug!(volume = %volume.name(), to, ?reason, "not handed over");
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::{AliveRow, GroupRow, IntentRow, NodeRow};
    use vocab::{Generation, GroupId, Levels};

    fn view() -> ClusterView {
        let mut view = ClusterView::default();
        for id in 1..=2 {
            let node = NodeRow {
                id: NodeId(id),
                name: format!("n{id}"),
                address: String::new(),
                nbd: None,
                api: None,
                release: "1.0".to_owned(),
                levels: Levels::OWN,
            };
            view.nodes.insert(node.id, node);
            let alive = AliveRow {
                id: NodeId(id),
                start: u64::from(id),
            };
            view.alive.insert(alive.id, alive);
        }
        let group = GroupRow {
            id: GroupId(1),
            generation: Generation(1),
            replication_factor: 2,
            members: vec![StoreId(1), StoreId(2)],
            filling: Vec::new(),
            former: Vec::new(),
            returning: Vec::new(),
            leaving: None,
        };
        view.groups.insert(group.id, group);
        view
    }

    fn step(volume: u64, from: u32, to: u32) -> OwnerMove {
        OwnerMove {
            volume: VolumeId(volume),
            from: NodeId(from),
            to: NodeId(to),
        }
    }

    #[test]
    fn a_node_that_does_not_open_what_it_is_given_gets_nothing_for_longer_and_longer() {
        let (mut lately, begin) = (Lately::default(), Time(0));
        let astray = || Err(NotMoved::Astray("on purpose".to_owned()));
        assert!(!lately.on_tried(&step(1, 1, 3), astray(), begin));
        let just_before = |rest: Duration| begin + rest.saturating_sub(Duration::from_millis(1));
        assert!(lately.is_given_nothing(NodeId(3), just_before(REST)));
        assert!(lately.rests(VolumeId(1), just_before(REST)));
        assert!(!lately.is_given_nothing(NodeId(2), begin) && !lately.rests(VolumeId(2), begin));
        assert!(!lately.is_given_nothing(NodeId(3), begin + REST));
        assert!(!lately.rests(VolumeId(1), begin + REST));
        assert!(!lately.on_tried(&step(2, 1, 3), astray(), begin));
        assert!(lately.is_given_nothing(NodeId(3), just_before(REST * 2)));
        for _ in 0..20 {
            assert!(!lately.on_tried(&step(2, 1, 3), astray(), begin));
        }
        assert!(!lately.is_given_nothing(NodeId(3), begin + REST_MAX));
        assert!(lately.on_tried(&step(2, 1, 3), Ok(()), begin));
        assert!(!lately.is_given_nothing(NodeId(3), begin));
    }

    #[test]
    fn a_volume_that_is_not_moved_is_left_alone_by_all_nodes() {
        let (mut lately, now) = (Lately::default(), Time(0));
        let stays = Err(NotMoved::Stays("on purpose".to_owned()));
        assert!(!lately.on_tried(&step(1, 1, 3), stays, now));
        assert!(lately.rests(VolumeId(1), now) && !lately.is_given_nothing(NodeId(3), now));
        assert!(!lately.on_tried(&step(2, 1, 3), Err(NotMoved::Restless), now));
        assert!(!lately.rests(VolumeId(2), now), "it is not to blame");
        let overtaken = Err(NotMoved::Overtaken(NodeId(2)));
        assert!(lately.on_tried(&step(3, 1, 3), overtaken, now));
        assert!(lately.rests(VolumeId(3), now) && !lately.is_given_nothing(NodeId(3), now));
        // Another node that does nothing is waited for at a few looks.
        let other = step(4, 2, 3);
        let mut looks = 0;
        while lately.on_other(other, now) {
            looks += 1;
            assert!(looks < SAME_MAX);
        }
        assert!(lately.rests(VolumeId(4), now));
        for volume in 5..20 {
            assert!(lately.on_other(step(volume, 2, 3), now), "they go on");
        }
    }

    #[test]
    fn what_is_amiss_is_seen_however_long_no_rows_are_read() {
        let interval = Duration::from_secs(60);
        assert_eq!(step_of(Duration::from_secs(5060), interval), interval);
        let rest = Duration::from_millis(15);
        assert_eq!(step_of(rest, interval), rest);
        assert_eq!(step_of(Duration::ZERO, interval), interval);
    }

    fn none() -> BTreeSet<StoreId> {
        BTreeSet::new()
    }

    #[test]
    fn a_dead_disk_with_others_in_its_place_keeps_nothing_from_moving() {
        let standings = [
            (1, curator::Standing::Present),
            (2, curator::Standing::Present),
            (3, curator::Standing::Lost),
        ];
        let facts = standings.map(|(id, standing)| curator::StoreFacts {
            id: StoreId(id),
            node: NodeId(id.min(2)),
            domains: Vec::new(),
            capacity: 100,
            standing,
            has_room: true,
            is_full: false,
            free: 50,
        });
        let mut view = view();
        let calm = |view: &ClusterView| {
            let replaced = replaced_stores(view, &facts);
            all_take_part(&facts, &replaced) && is_quiet(view, &replaced, 1000)
        };
        assert!(calm(&view));
        let row = |view: &mut ClusterView, change: &dyn Fn(&mut GroupRow)| {
            change(view.groups.get_mut(&GroupId(1)).expect("a group"));
        };
        // A group names it until it is removed.
        row(&mut view, &|row| row.former = vec![StoreId(3)]);
        assert!(calm(&view));
        row(&mut view, &|row| row.former = vec![StoreId(2), StoreId(3)]);
        assert!(!calm(&view), "one that answers is being emptied");
        row(&mut view, &|row| {
            (row.members, row.former) = (vec![StoreId(1), StoreId(3)], Vec::new());
        });
        assert!(!calm(&view), "nothing is in its place yet");
    }

    #[test]
    fn nothing_moves_while_anything_is_amiss() {
        assert!(is_quiet(&view(), &none(), 1000));
        let amiss = |change: &dyn Fn(&mut ClusterView)| {
            let mut view = view();
            change(&mut view);
            assert!(!is_quiet(&view, &none(), 1000));
        };
        amiss(&|view| view.alive.clear());
        let node = |view: &mut ClusterView, change: &dyn Fn(&mut NodeRow)| {
            change(view.nodes.get_mut(&NodeId(2)).expect("a node"));
        };
        amiss(&|view| node(view, &|row| row.release = "1.1".to_owned()));
        let group = |view: &mut ClusterView, change: &dyn Fn(&mut GroupRow)| {
            change(view.groups.get_mut(&GroupId(1)).expect("a group"));
        };
        amiss(&|view| group(view, &|row| row.filling = vec![StoreId(2)]));
        amiss(&|view| group(view, &|row| row.former = vec![StoreId(3)]));
        amiss(&|view| group(view, &|row| row.members = vec![StoreId(2)]));
        let intent = |draining, candidate, maintenance_until_ms| IntentRow {
            draining,
            candidate,
            maintenance_until_ms,
            ..IntentRow::none(Subject::Node(NodeId(2)))
        };
        for intent in [
            intent(true, false, 0),
            intent(false, true, 0),
            intent(false, false, 1001),
        ] {
            let intents = [(intent.subject, intent)];
            amiss(&|view| view.intents = intents.clone().into());
        }
        let over = intent(false, false, 999);
        let mut quiet = view();
        quiet.intents.insert(Subject::Node(NodeId(2)), over);
        assert!(is_quiet(&quiet, &none(), 1000));
        // One that was removed does not hold up those that are there.
        let removed = Subject::Node(NodeId(9));
        let waits = IntentRow {
            candidate: true,
            ..IntentRow::none(removed)
        };
        quiet.intents.insert(removed, waits);
        assert!(is_quiet(&quiet, &none(), 1000));
    }
}
