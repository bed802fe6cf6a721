//! Which change the members of the cluster's etcd need next: 1, 3 or 5 of them, dead ones replaced, never without a
//! majority. Pure; decision 29 has the reasons.
//!
//! Invariants
//! - A step is planned only while a majority answers and agrees that somebody leads, and only if one still answers after it.
//! - A member that answers is removed only when its seat is given up or drained, and for a drained one not before another
//!   has its vote.
//! - There is one learner at a time. It gets its vote, or is removed.
//! - What was done already is not planned again: every step follows from the members alone.

use catalog::kv::{KvMember, KvMembers};
use std::collections::{BTreeMap, BTreeSet};
use vocab::NodeId;
use world::Duration;

#[cfg(test)]
mod tests;

/// Bytes of a member's file below which it is not worth to be defragmented.
const DEFRAGMENT_BYTES_MIN: u64 = 64 << 20;
/// A member that warns of too little space is let write again when it uses no more than so much of its quota.
const DISARM_PERCENT_MAX: u64 = 80;
/// Where one has no room, a file is made smaller when more than this part of it is free: less may be what its pages cannot be without.
const SPARE_DIVISOR: u64 = 16;
/// A learner may lack so many changes when it gets its vote; etcd has the last word.
const BEHIND_MAX: u64 = 1000;

/// What is to be thought of the node of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// It lives.
    Present,
    /// It does not, and may come back.
    Away,
    /// An operator wants it emptied.
    Draining,
    /// It will not come back.
    Lost,
}

/// What a seat has of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    #[default]
    Nothing,
    /// The data of the member with this id.
    Member(u64),
    /// It was the member with this id and has lost its data.
    Lost(u64),
}

/// A node that can run a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// Its failure domains, narrowest first.
    pub domains: Vec<String>,
    /// Where other members reach its member.
    pub peer: String,
    /// What is to be thought of its node.
    pub tenant: Tenant,
    /// What it has.
    pub holding: Holding,
    /// Whether a member would run there, as far as its node knows.
    pub usable: bool,
}

/// How patient the plan is, and what it cannot see.
#[derive(Clone, Debug)]
pub struct QuorumLimits {
    /// How long a member must be silent before it counts as dead, when its node does not live.
    pub silence: Duration,
    /// And when it does.
    pub silence_alive: Duration,
    /// Bytes that a member's file may have.
    pub quota: u64,
    /// Members whose history was forgotten and whose file was not made smaller since. What they say of its use is as of
    /// their last commit: one that takes no writes may never say that a part of it is free.
    pub forgotten: BTreeSet<u64>,
    /// Room comes before everything else. Not so after it could not be made: then what else is to be done is not waited for.
    pub room_first: bool,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuorumStep {
    /// A member without a vote at a seat.
    Add {
        /// The seat's address for other members.
        peer: String,
    },
    /// The learner votes.
    Promote {
        /// Its id.
        member: u64,
    },
    /// A member is none any more.
    Remove {
        /// Its id.
        member: u64,
    },
    /// A member is reached elsewhere.
    Readdress {
        /// Its id.
        member: u64,
        /// Its seat's address for other members.
        peer: String,
    },
    /// A member gives back space.
    Defragment {
        /// Its id.
        member: u64,
    },
    /// A member that warned of too little space takes writes again.
    Disarm {
        /// Its id.
        member: u64,
    },
}

/// What is known, put together.
struct Judge<'a> {
    seats: &'a [Seat],
    members: &'a KvMembers,
    silent: &'a BTreeMap<u64, Duration>,
    limits: &'a QuorumLimits,
}

/// How many members so many seats should have.
#[must_use]
pub fn members_wanted(seats: usize) -> usize {
    match seats {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

/// The next change, if one is needed and safe now. `silent`: members that do not answer, and for how long.
#[must_use]
pub fn plan_member(
    seats: &[Seat],
    members: &KvMembers,
    silent: &BTreeMap<u64, Duration>,
    limits: &QuorumLimits,
) -> Option<QuorumStep> {
    let judge = Judge {
        seats,
        members,
        silent,
        limits,
    };
    let led = members
        .members
        .iter()
        .any(|member| member.leads && answers(member));
    if members.embedded || !led || members.tolerates().is_none() {
        return None;
    }
    // What else is to be done may need etcd to take writes.
    let first = limits.room_first && judge.anybody_full();
    let room = first.then(|| judge.tidy_up()).flatten();
    let step = judge
        .forget_stray()
        .or(room)
        .or_else(|| judge.readdress())
        .or_else(|| judge.learner())
        .or_else(|| judge.bury())
        .or_else(|| judge.replace_drained())
        .or_else(|| judge.grow())
        .or_else(|| judge.tidy_up())?;
    assert!(
        keeps_majority(members, &step),
        "{step:?} takes the majority away"
    );
    Some(step)
}

fn answers(member: &KvMember) -> bool {
    member.problem.is_none()
}

/// Whether a member warns of too little space. While any does, etcd takes neither rows nor leases.
#[must_use]
pub fn has_no_space(member: &KvMember) -> bool {
    member.alarms.iter().any(|alarm| alarm == "NOSPACE")
}

/// Whether etcd takes no writes: a member warns of too little space, or one that was removed still does.
#[must_use]
pub fn is_closed(members: &KvMembers) -> bool {
    !members.strays.is_empty() || members.all().any(has_no_space)
}

/// Whether a member that may keep so many bytes has room enough to take writes again.
#[must_use]
pub fn has_room(member: &KvMember, quota: u64) -> bool {
    member.bytes <= quota.saturating_mul(DISARM_PERCENT_MAX) / 100
}

/// Whether a majority answers after a step, as far as is known now.
fn keeps_majority(members: &KvMembers, step: &QuorumStep) -> bool {
    let mut after = members.clone();
    match step {
        QuorumStep::Promote { member } => {
            let learner = after.learners.iter().position(|one| one.id == *member);
            if let Some(at) = learner {
                after.members.push(after.learners.remove(at));
            }
        }
        QuorumStep::Remove { member } => after.members.retain(|one| one.id != *member),
        // It answers nobody while it is at it.
        QuorumStep::Defragment { member } if after.members.len() > 2 => {
            let busy = after.members.iter_mut().filter(|one| one.id == *member);
            busy.for_each(|one| one.problem = Some("it is busy".to_owned()));
        }
        _ => {}
    }
    !after.members.is_empty() && after.tolerates().is_some()
}

impl Judge<'_> {
    /// The seat of a member: the one that says so, else the one at its address.
    fn seat_of(&self, member: &KvMember) -> Option<&Seat> {
        let holds = |seat: &&Seat| {
            seat.holding == Holding::Member(member.id) || seat.holding == Holding::Lost(member.id)
        };
        let there = |seat: &&Seat| member.peers.contains(&seat.peer);
        let mut seats = self.seats.iter();
        seats.clone().find(holds).or_else(|| seats.find(there))
    }

    fn is_dead(&self, member: &KvMember) -> bool {
        if answers(member) {
            return false;
        }
        let silent = self.silent.get(&member.id).copied().unwrap_or_default();
        match self.seat_of(member) {
            None => silent >= self.limits.silence,
            Some(seat) if seat.holding == Holding::Lost(member.id) => true,
            Some(seat) => match seat.tenant {
                Tenant::Lost => silent >= self.limits.silence,
                Tenant::Present | Tenant::Draining => silent >= self.limits.silence_alive,
                Tenant::Away => false,
            },
        }
    }

    /// Seats that a member may come to, the best first: where no failure domain has one yet, then those that were there
    /// first.
    fn free(&self) -> Vec<&Seat> {
        let taken: Vec<&Seat> = self
            .members
            .all()
            .filter_map(|member| self.seat_of(member))
            .collect();
        let shared = |seat: &Seat| {
            let widest = |seat: &Seat| seat.domains.iter().rev().cloned().collect::<Vec<_>>();
            let common = |other: &&Seat| {
                let (own, other) = (widest(seat), widest(other));
                own.iter().zip(&other).take_while(|(a, b)| a == b).count()
            };
            let most = taken.iter().map(common).max().unwrap_or(0);
            let as_many = taken.iter().filter(|other| common(other) == most).count();
            if most == 0 { (0, 0) } else { (most, as_many) }
        };
        let mut free: Vec<&Seat> = self
            .seats
            .iter()
            .filter(|seat| {
                let other = taken.iter().any(|taken| taken.node == seat.node);
                // One whose lost member is still listed is free when that is removed.
                seat.tenant == Tenant::Present
                    && seat.usable
                    && !other
                    && !matches!(seat.holding, Holding::Member(_))
            })
            .collect();
        free.sort_by_key(|seat| (shared(seat), seat.node));
        free
    }

    /// How many members there should be.
    fn wanted(&self) -> usize {
        let counts =
            |seat: &&Seat| seat.usable && matches!(seat.tenant, Tenant::Present | Tenant::Away);
        members_wanted(self.seats.iter().filter(counts).count())
    }

    fn voters(&self) -> usize {
        self.members.members.len()
    }

    fn remove(&self, member: &KvMember) -> Option<QuorumStep> {
        let step = QuorumStep::Remove { member: member.id };
        keeps_majority(self.members, &step).then_some(step)
    }

    fn drains(&self, member: &KvMember) -> bool {
        let seat = self.seat_of(member);
        seat.is_some_and(|seat| seat.tenant == Tenant::Draining)
    }

    /// A seat has another address.
    fn readdress(&self) -> Option<QuorumStep> {
        let moved = |member: &KvMember| {
            let seat = self.seats.iter();
            let mut seat = seat.filter(|seat| seat.holding == Holding::Member(member.id));
            let seat = seat.find(|seat| !member.peers.contains(&seat.peer))?;
            // etcd refuses an address twice; its owner is removed first.
            let taken = |other: &KvMember| other.peers.contains(&seat.peer);
            (!self.members.all().any(taken)).then(|| QuorumStep::Readdress {
                member: member.id,
                peer: seat.peer.clone(),
            })
        };
        self.members.all().find_map(moved)
    }

    /// The learner gets its vote, goes, or is waited for (the inner nothing).
    fn learner(&self) -> Option<QuorumStep> {
        let learner = self.members.learners.first()?;
        let seat = self.seat_of(learner);
        let left = seat.is_none_or(|seat| matches!(seat.tenant, Tenant::Draining | Tenant::Lost));
        if left || self.is_dead(learner) || !self.is_needed() {
            return Some(QuorumStep::Remove { member: learner.id });
        }
        let ahead = self
            .members
            .members
            .iter()
            .map(|member| member.applied)
            .max();
        // Two votes are for the moment before the third only, or before the first goes.
        let drained = self
            .members
            .members
            .iter()
            .any(|member| self.drains(member));
        let lonely = !self.voters().is_multiple_of(2) && !drained && self.free().is_empty();
        let close = ahead.unwrap_or(0).saturating_sub(learner.applied) <= BEHIND_MAX;
        let promote = QuorumStep::Promote { member: learner.id };
        (answers(learner) && close && !lonely && keeps_majority(self.members, &promote))
            .then_some(promote)
    }

    /// Whether one more vote is wanted.
    fn is_needed(&self) -> bool {
        let drained = self
            .members
            .members
            .iter()
            .any(|member| self.drains(member));
        self.voters() < self.wanted() || (drained && self.voters() <= self.wanted())
    }

    /// A dead member goes when another can take its place, when nobody knows its node any more, or when the others are
    /// safer without it.
    fn bury(&self) -> Option<QuorumStep> {
        if !self.members.learners.is_empty() {
            return None;
        }
        let (voters, free) = (self.voters(), self.free());
        let goes = |member: &&KvMember| {
            let seat = self.seat_of(member);
            // Its seat is free again then, or given up.
            let is_over = |seat: &Seat| {
                let lost = seat.holding == Holding::Lost(member.id);
                seat.tenant == Tenant::Draining
                    || (seat.tenant == Tenant::Present && seat.usable && lost)
            };
            self.is_dead(member)
                && (!free.is_empty() || seat.is_none_or(is_over) || voters.is_multiple_of(2))
        };
        let mut members = self.members.members.iter();
        members.find(goes).and_then(|member| self.remove(member))
    }

    /// A drained member is replaced, and goes when its successor votes.
    fn replace_drained(&self) -> Option<QuorumStep> {
        if !self.members.learners.is_empty() || !self.members.members.iter().all(answers) {
            return None;
        }
        let drained = self
            .members
            .members
            .iter()
            .find(|member| self.drains(member))?;
        if self.voters() > self.wanted() && self.voters().is_multiple_of(2) {
            return self.remove(drained);
        }
        let free = self.free();
        (self.voters() <= self.wanted()).then_some(())?;
        free.first().map(|seat| QuorumStep::Add {
            peer: seat.peer.clone(),
        })
    }

    /// More members, when there are seats for the next odd number of them and all answer.
    fn grow(&self) -> Option<QuorumStep> {
        let voters = self.voters();
        let whole = self.members.members.iter().all(answers);
        if !self.members.learners.is_empty() || !whole || voters >= self.wanted() {
            return None;
        }
        let free = self.free();
        let next = if voters.is_multiple_of(2) { 1 } else { 2 };
        (free.len() >= next).then(|| QuorumStep::Add {
            peer: free[0].peer.clone(),
        })
    }

    fn anybody_full(&self) -> bool {
        self.members.all().any(has_no_space)
    }

    /// A warning of nobody's is ended. A member in an outdated list may be meant: then etcd raises it again with the next write.
    fn forget_stray(&self) -> Option<QuorumStep> {
        let stray = self.members.strays.first();
        stray.map(|&member| QuorumStep::Disarm { member })
    }

    /// Space is given back, one member after the other, the leader last; then warnings of too little are ended.
    fn tidy_up(&self) -> Option<QuorumStep> {
        if !self.members.all().all(answers) {
            return None;
        }
        let anybody_full = self.anybody_full();
        let roomy = |member: &KvMember| has_room(member, self.limits.quota);
        let wastes = |member: &&KvMember| {
            let little = member.bytes_used <= member.bytes / 2;
            let enough = member.bytes >= DEFRAGMENT_BYTES_MIN;
            // A file that is in the way is made smaller whatever that saves.
            let spare = member.bytes_used < member.bytes - member.bytes / SPARE_DIVISOR
                || self.limits.forgotten.contains(&member.id);
            (little && enough) || (anybody_full && (little || (spare && !roomy(member))))
        };
        let mut wasteful: Vec<&KvMember> = self.members.all().filter(wastes).collect();
        wasteful.sort_by_key(|member| (member.leads, member.id));
        if let Some(member) = wasteful.first() {
            let step = QuorumStep::Defragment { member: member.id };
            return keeps_majority(self.members, &step).then_some(step);
        }
        if !self.members.all().all(roomy) {
            return None;
        }
        let warned = self.members.all().find(|member| has_no_space(member));
        warned.map(|member| QuorumStep::Disarm { member: member.id })
    }
}
