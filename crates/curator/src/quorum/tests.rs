//! The plan of etcd's members: each rule by itself, and a model of nodes that die, return, drain and leave.

use super::*;
use proptest::prelude::*;

const LIMITS: QuorumLimits = QuorumLimits {
    silence: Duration::from_secs(15),
    silence_alive: Duration::from_secs(60),
    quota: 1 << 30,
    forgotten: BTreeSet::new(),
    room_first: true,
};

fn peer(node: u32) -> String {
    format!("http://n{node}:2380")
}

fn seat(node: u32) -> Seat {
    Seat {
        node: NodeId(node),
        domains: Vec::new(),
        peer: peer(node),
        tenant: Tenant::Present,
        holding: Holding::Nothing,
        usable: true,
    }
}

fn seats(count: u32) -> Vec<Seat> {
    (1..=count).map(seat).collect()
}

fn member(id: u64, node: u32) -> KvMember {
    KvMember {
        name: format!("n{node}"),
        id,
        started: true,
        peers: vec![peer(node)],
        applied: 50,
        bytes: 1 << 20,
        bytes_used: 1 << 20,
        ..KvMember::default()
    }
}

/// Members of these nodes, with ids of ten times the nodes'; the first leads.
fn voters(nodes: &[u32]) -> KvMembers {
    let mut members: Vec<KvMember> = nodes
        .iter()
        .map(|&node| member(u64::from(node) * 10, node))
        .collect();
    if let Some(first) = members.first_mut() {
        first.leads = true;
    }
    KvMembers {
        members,
        ..KvMembers::default()
    }
}

fn learning(mut members: KvMembers, learner: KvMember) -> KvMembers {
    members.learners.push(learner);
    members
}

fn silence(member: &mut KvMember) {
    member.problem = Some("it does not answer".to_owned());
}

fn silent(ids: &[u64]) -> BTreeMap<u64, Duration> {
    ids.iter()
        .map(|&id| (id, Duration::from_secs(30)))
        .collect()
}

fn plan(seats: &[Seat], members: &KvMembers, gone: &[u64]) -> Option<QuorumStep> {
    plan_member(seats, members, &silent(gone), &LIMITS)
}

fn add(node: u32) -> Option<QuorumStep> {
    Some(QuorumStep::Add { peer: peer(node) })
}

fn remove(member: u64) -> Option<QuorumStep> {
    Some(QuorumStep::Remove { member })
}

#[test]
fn one_grows_when_there_are_seats_for_three_and_three_when_there_are_for_five() {
    assert_eq!(plan(&seats(1), &voters(&[1]), &[]), None);
    assert_eq!(
        plan(&seats(2), &voters(&[1]), &[]),
        None,
        "two are worse than one"
    );
    assert_eq!(plan(&seats(3), &voters(&[1]), &[]), add(2));
    assert_eq!(plan(&seats(3), &voters(&[1, 2]), &[]), add(3));
    assert_eq!(plan(&seats(3), &voters(&[1, 2, 3]), &[]), None);
    assert_eq!(
        plan(&seats(4), &voters(&[1, 2, 3]), &[]),
        None,
        "four are no better than three"
    );
    assert_eq!(plan(&seats(5), &voters(&[1, 2, 3]), &[]), add(4));
    assert_eq!(plan(&seats(9), &voters(&[1, 2, 3, 4, 5]), &[]), None);
    let mut unusable = seats(3);
    unusable[2].usable = false;
    assert_eq!(plan(&unusable, &voters(&[1]), &[]), None);
}

#[test]
fn a_learner_votes_when_it_has_caught_up() {
    let seats = seats(3);
    let mut learner = member(20, 2);
    assert_eq!(
        plan(&seats, &learning(voters(&[1]), learner.clone()), &[]),
        Some(QuorumStep::Promote { member: 20 })
    );
    let mut ahead = voters(&[1]);
    ahead.members[0].applied = 5000;
    assert_eq!(
        plan(&seats, &learning(ahead, learner.clone()), &[]),
        None,
        "it lags behind"
    );
    silence(&mut learner);
    let waiting = learning(voters(&[1]), learner);
    assert_eq!(plan(&seats, &waiting, &[]), None, "it is waited for");
    let long = BTreeMap::from([(20, LIMITS.silence_alive)]);
    let given_up = plan_member(&seats, &waiting, &long, &LIMITS);
    assert_eq!(given_up, remove(20), "it never started");
}

#[test]
fn a_learner_that_nobody_needs_any_more_goes() {
    let learner = || member(20, 2);
    let mut lost = seats(3);
    lost[1].tenant = Tenant::Lost;
    assert_eq!(
        plan(&lost, &learning(voters(&[1]), learner()), &[]),
        remove(20)
    );
    let shrunk = &seats(3)[..2];
    assert_eq!(
        plan(shrunk, &learning(voters(&[1]), learner()), &[]),
        remove(20)
    );
}

#[test]
fn a_dead_member_goes_before_its_successor_comes() {
    let mut all = seats(4);
    all[2].tenant = Tenant::Lost;
    let mut members = voters(&[1, 2, 3]);
    silence(&mut members.members[2]);
    assert_eq!(plan(&all, &members, &[]), None, "it may come back");
    assert_eq!(plan(&all, &members, &[30]), remove(30));
    assert_eq!(plan(&all, &voters(&[1, 2]), &[]), add(4));
    assert_eq!(
        plan(&all[..3], &members, &[30]),
        None,
        "nobody could take its place"
    );
    let excused = {
        let mut seats = all.clone();
        seats[2].tenant = Tenant::Away;
        seats
    };
    assert_eq!(
        plan(&excused, &members, &[30]),
        None,
        "its node may come back"
    );
    // Its node was removed from the cluster.
    assert_eq!(plan(&all[..2], &members, &[30]), remove(30));
}

#[test]
fn a_member_whose_data_is_lost_comes_back_as_another_one() {
    let mut all = seats(3);
    all[2].holding = Holding::Lost(30);
    let mut members = voters(&[1, 2, 3]);
    silence(&mut members.members[2]);
    assert_eq!(
        plan(&all, &members, &[]),
        remove(30),
        "its node says so: nothing is waited for"
    );
    assert_eq!(plan(&all, &voters(&[1, 2]), &[]), add(3));
}

#[test]
fn a_member_of_a_living_node_is_waited_for_longer() {
    let all = seats(4);
    let mut members = voters(&[1, 2, 3]);
    silence(&mut members.members[2]);
    assert_eq!(plan(&all, &members, &[30]), None);
    let long = BTreeMap::from([(30, LIMITS.silence_alive)]);
    assert_eq!(plan_member(&all, &members, &long, &LIMITS), remove(30));
}

#[test]
fn an_even_number_is_safer_without_its_dead_one() {
    let mut all = seats(4);
    all[3].tenant = Tenant::Lost;
    let mut members = voters(&[1, 2, 3, 4]);
    silence(&mut members.members[3]);
    assert_eq!(plan(&all, &members, &[40]), remove(40));
}

#[test]
fn a_drained_member_stays_until_another_votes() {
    let mut all = seats(4);
    all[0].tenant = Tenant::Draining;
    assert_eq!(plan(&all, &voters(&[1, 2, 3]), &[]), add(4));
    let joining = learning(voters(&[1, 2, 3]), member(40, 4));
    assert_eq!(
        plan(&all, &joining, &[]),
        Some(QuorumStep::Promote { member: 40 })
    );
    assert_eq!(plan(&all, &voters(&[1, 2, 3, 4]), &[]), remove(10));
    assert_eq!(plan(&all, &voters(&[2, 3, 4]), &[]), None);
    assert_eq!(
        plan(&all[..3], &voters(&[1, 2, 3]), &[]),
        None,
        "nobody could take its place"
    );
    // The only member moves.
    let mut two = seats(2);
    two[0].tenant = Tenant::Draining;
    assert_eq!(plan(&two, &voters(&[1]), &[]), add(2));
    assert_eq!(plan(&two, &voters(&[1, 2]), &[]), remove(10));
}

#[test]
fn nothing_is_done_without_a_majority_or_a_leader() {
    let mut members = voters(&[1, 2, 3]);
    silence(&mut members.members[1]);
    silence(&mut members.members[2]);
    let mut all = seats(5);
    all[1].tenant = Tenant::Lost;
    all[2].holding = Holding::Lost(30);
    assert_eq!(plan(&all, &members, &[20, 30]), None);
    let mut leaderless = voters(&[1]);
    leaderless.members[0].leads = false;
    assert_eq!(plan(&seats(3), &leaderless, &[]), None);
    assert_eq!(plan(&seats(3), &KvMembers::embedded("file"), &[]), None);
}

#[test]
fn members_spread_over_failure_domains() {
    let mut all = seats(4);
    for (seat, rack) in all.iter_mut().zip(["a", "a", "b", "c"]) {
        seat.domains = vec![rack.to_owned()];
    }
    assert_eq!(plan(&all, &voters(&[1]), &[]), add(3));
    assert_eq!(plan(&all, &voters(&[1, 3]), &[]), add(4));
}

#[test]
fn a_seat_that_moved_is_told_of() {
    let mut all = seats(3);
    all[1].holding = Holding::Member(20);
    all[1].peer = "http://new:2380".to_owned();
    let readdress = QuorumStep::Readdress {
        member: 20,
        peer: all[1].peer.clone(),
    };
    assert_eq!(plan(&all, &voters(&[1, 2, 3]), &[]), Some(readdress));
}

#[test]
fn space_is_given_back_one_by_one_and_the_leader_last() {
    let mut members = voters(&[1, 2, 3]);
    for one in &mut members.members {
        one.bytes = DEFRAGMENT_BYTES_MIN;
    }
    let step = |member| Some(QuorumStep::Defragment { member });
    assert_eq!(plan(&seats(3), &members, &[]), step(20));
    members.members[1].bytes = 1 << 20;
    assert_eq!(plan(&seats(3), &members, &[]), step(30));
    members.members[2].bytes = 1 << 20;
    assert_eq!(plan(&seats(3), &members, &[]), step(10));
    members.members[0].bytes = 1 << 20;
    assert_eq!(plan(&seats(3), &members, &[]), None);
    members.members[2].alarms = vec!["NOSPACE".to_owned()];
    let disarm = QuorumStep::Disarm { member: 30 };
    assert_eq!(plan(&seats(3), &members, &[]), Some(disarm));
    members.members[0].bytes = LIMITS.quota;
    members.members[0].bytes_used = LIMITS.quota;
    assert_eq!(plan(&seats(3), &members, &[]), None, "there is no room yet");
    // More than half of the file is in use, and less than all: without that no write would be taken any more.
    members.members[0].bytes_used = LIMITS.quota / 8 * 5;
    assert_eq!(plan(&seats(3), &members, &[]), step(10));
}

#[test]
fn the_warning_of_a_member_that_was_removed_is_ended_before_anything_else() {
    let members = KvMembers {
        strays: vec![77],
        ..voters(&[1, 2, 3])
    };
    assert!(is_closed(&members));
    let disarm = Some(QuorumStep::Disarm { member: 77 });
    assert_eq!(plan(&seats(3), &members, &[]), disarm);
    // Also while another one is silent: it would keep the cluster from everything else.
    let mut quiet = members.clone();
    silence(&mut quiet.members[2]);
    assert_eq!(plan(&seats(5), &quiet, &[]), disarm);
    quiet.strays.clear();
    assert!(!is_closed(&quiet));
    assert_ne!(plan(&seats(5), &quiet, &[]), disarm);
}

#[test]
fn what_was_forgotten_is_given_back_though_the_member_does_not_say_that_it_is_free() {
    let mut members = voters(&[1, 2, 3]);
    members.members[1].bytes = LIMITS.quota;
    members.members[1].bytes_used = LIMITS.quota;
    members.members[1].alarms = vec!["NOSPACE".to_owned()];
    let limits = QuorumLimits {
        forgotten: BTreeSet::from([10, 20, 30]),
        ..LIMITS
    };
    let planned = |members: &KvMembers, seats: &[Seat]| {
        plan_member(seats, members, &BTreeMap::new(), &limits)
    };
    let step = Some(QuorumStep::Defragment { member: 20 });
    assert_eq!(planned(&members, &seats(3)), step);
    // Five members would be better; room comes first.
    assert_eq!(planned(&members, &seats(5)), step);
    let later = QuorumLimits {
        room_first: false,
        ..limits.clone()
    };
    let other = plan_member(&seats(5), &members, &BTreeMap::new(), &later);
    assert!(matches!(other, Some(QuorumStep::Add { .. })), "{other:?}");
    members.members[1].bytes = 1 << 20;
    let disarm = QuorumStep::Disarm { member: 20 };
    assert_eq!(planned(&members, &seats(3)), Some(disarm));
    members.members[1].alarms.clear();
    assert_eq!(planned(&members, &seats(3)), None);
}

/// A node of the model.
#[derive(Clone, Debug, Default)]
struct ModelNode {
    down: bool,
    /// It is known that it does not come back.
    lost: bool,
    draining: bool,
    /// The data of a member that was begun here.
    data: Option<u64>,
    /// A member that was begun here and whose data is gone.
    lost_member: Option<u64>,
    removed: bool,
}

/// Nodes and etcd as they are.
#[derive(Clone, Debug)]
struct Model {
    nodes: Vec<ModelNode>,
    /// Node of each member, by id: voters, learners.
    voters: BTreeMap<u64, usize>,
    learners: BTreeMap<u64, usize>,
    next: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Stop(usize),
    Start(usize),
    LoseData(usize),
    GiveUp(usize),
    Drain(usize),
    Undrain(usize),
    Leave(usize),
}

impl Model {
    fn new(nodes: usize) -> Self {
        let mut nodes = vec![ModelNode::default(); nodes];
        nodes[0].data = Some(1);
        Self {
            nodes,
            voters: BTreeMap::from([(1, 0)]),
            learners: BTreeMap::new(),
            next: 2,
        }
    }

    fn answers(&self, id: u64, node: usize) -> bool {
        let node = &self.nodes[node];
        !node.down && !node.removed && node.data == Some(id)
    }

    fn alive(&self) -> usize {
        let voters = self.voters.iter();
        voters
            .filter(|(id, node)| self.answers(**id, **node))
            .count()
    }

    fn has_majority(&self) -> bool {
        self.alive() > self.voters.len() / 2
    }

    fn on(&mut self, event: &Event) {
        let count = self.nodes.len();
        match *event {
            Event::Stop(at) => self.nodes[at % count].down = true,
            Event::Start(at) => {
                let node = &mut self.nodes[at % count];
                (node.down, node.lost) = (false, false);
            }
            Event::LoseData(at) => {
                let node = &mut self.nodes[at % count];
                if let Some(id) = node.data.take() {
                    node.lost_member = Some(id);
                }
            }
            Event::GiveUp(at) => {
                let node = &mut self.nodes[at % count];
                node.lost = node.down;
            }
            Event::Drain(at) => self.nodes[at % count].draining = true,
            Event::Undrain(at) => self.nodes[at % count].draining = false,
            Event::Leave(at) => {
                let node = &mut self.nodes[at % count];
                // `node remove` refuses while it runs.
                node.removed |= node.down && node.draining;
            }
        }
    }

    fn members(&self) -> KvMembers {
        let show = |(&id, &at): (&u64, &usize)| {
            let mut shown = member(id, at as u32 + 1);
            if !self.answers(id, at) {
                silence(&mut shown);
            }
            shown
        };
        let mut members = KvMembers {
            members: self.voters.iter().map(show).collect(),
            learners: self.learners.iter().map(show).collect(),
            ..KvMembers::default()
        };
        let leader = members.members.iter_mut().find(|member| answers(member));
        if let Some(leader) = leader.filter(|_| self.has_majority()) {
            leader.leads = true;
        }
        members
    }

    fn seats(&self) -> Vec<Seat> {
        let nodes = self.nodes.iter().enumerate();
        let show = |(at, node): (usize, &ModelNode)| {
            let tenant = match node {
                node if node.lost => Tenant::Lost,
                node if node.down => Tenant::Away,
                node if node.draining => Tenant::Draining,
                _ => Tenant::Present,
            };
            let holding = match (node.data, node.lost_member) {
                (Some(id), _) => Holding::Member(id),
                (None, Some(id)) => Holding::Lost(id),
                (None, None) => Holding::Nothing,
            };
            Seat {
                tenant,
                holding,
                ..seat(at as u32 + 1)
            }
        };
        nodes.filter(|(_, node)| !node.removed).map(show).collect()
    }

    /// Nodes begin members that the list has for them, and forget those that it has not.
    fn settle(&mut self) {
        if !self.has_majority() {
            return;
        }
        let all: BTreeMap<u64, usize> = self
            .voters
            .iter()
            .chain(&self.learners)
            .map(|(id, at)| (*id, *at))
            .collect();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            if node.down || node.removed {
                continue;
            }
            if node.data.is_some_and(|id| !all.contains_key(&id)) {
                node.data = None;
            }
            let own = all
                .iter()
                .find(|(id, place)| **place == at && node.lost_member != Some(**id));
            if let (None, Some((id, _))) = (node.data, own) {
                node.data = Some(*id);
            }
        }
    }

    fn carry_out(&mut self, step: &QuorumStep) {
        match step {
            QuorumStep::Add { peer: to } => {
                assert!(self.learners.is_empty(), "one learner at a time");
                let at = (0..self.nodes.len())
                    .find(|&at| peer(at as u32 + 1) == *to)
                    .unwrap();
                assert!(
                    !self.voters.values().any(|&taken| taken == at),
                    "a seat is taken once"
                );
                self.learners.insert(self.next, at);
                self.next += 1;
            }
            QuorumStep::Promote { member } => {
                let at = self.learners.remove(member).unwrap();
                self.voters.insert(*member, at);
            }
            QuorumStep::Remove { member } => {
                let at = self.voters.get(member).copied();
                let drained = at.is_some_and(|at| self.nodes[at].draining);
                let answered = at.is_some_and(|at| self.answers(*member, at));
                assert!(!answered || drained, "one that answers is removed");
                self.voters.remove(member);
                self.learners.remove(member);
            }
            other => panic!("{other:?} of members that have room and stay"),
        }
    }

    /// Plans and carries out until nothing is left to do.
    fn run(&mut self, steps_max: usize) -> usize {
        for step in 0..steps_max {
            self.settle();
            let members = self.members();
            let silent = members.all().filter(|member| !answers(member));
            let silent: BTreeMap<u64, Duration> = silent
                .map(|member| (member.id, LIMITS.silence_alive))
                .collect();
            let had = self.has_majority();
            let Some(planned) = plan_member(&self.seats(), &members, &silent, &LIMITS) else {
                return step;
            };
            assert!(had, "nothing is planned without a majority");
            self.carry_out(&planned);
            assert!(self.has_majority(), "{planned:?} took the majority away");
        }
        panic!("it does not come to an end: {self:?}");
    }
}

fn event() -> impl Strategy<Value = Event> {
    let at = 0..7_usize;
    prop_oneof![
        3 => at.clone().prop_map(Event::Stop),
        4 => at.clone().prop_map(Event::Start),
        1 => at.clone().prop_map(Event::LoseData),
        2 => at.clone().prop_map(Event::GiveUp),
        1 => at.clone().prop_map(Event::Drain),
        1 => at.clone().prop_map(Event::Undrain),
        1 => at.prop_map(Event::Leave),
    ]
}

proptest! {
    #[test]
    fn no_step_ever_takes_the_majority_and_all_come_to_an_end(
        nodes in 1..7_usize,
        events in proptest::collection::vec((event(), 0..3_usize), 0..40),
    ) {
        let mut model = Model::new(nodes);
        for (event, steps) in events {
            model.on(&event);
            // The leader may be interrupted after every step.
            for _ in 0..steps {
                model.settle();
                let members = model.members();
                let silent: BTreeMap<u64, Duration> = members
                    .all()
                    .filter(|member| !answers(member))
                    .map(|member| (member.id, LIMITS.silence))
                    .collect();
                let planned = plan_member(&model.seats(), &members, &silent, &LIMITS);
                if let Some(planned) = planned {
                    model.carry_out(&planned);
                    prop_assert!(model.has_majority(), "{planned:?} took the majority away");
                }
            }
        }
        if !model.has_majority() {
            return Ok(());
        }
        // Faults stop: those who are down come back.
        for at in 0..nodes {
            model.on(&Event::Start(at));
        }
        model.run(60);
        let taking_part = model.nodes.iter().filter(|node| !node.removed && !node.draining).count();
        if taking_part >= 3 {
            let (members, wanted) = (model.voters.len(), members_wanted(taking_part));
            prop_assert!(model.learners.is_empty());
            prop_assert!(members >= wanted, "{members} of {wanted}: {model:?}");
            prop_assert_eq!(model.alive(), members, "{:?}", model);
        }
    }
}
