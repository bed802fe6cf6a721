//! A node that starts with a member of an etcd that is full: makes room, or waits for it, before anything else.
//!
//! An etcd with an alarm for space (`NOSPACE`) takes neither rows nor leases. So no node starts, none can announce that its member may keep
//! more, and whoever runs knows the old quotas only. What a member may keep is known for certain to the node that started it: each node
//! ends the alarm of its own member, when that one's file is well below its quota. An alarm of another member that answers stays, and
//! etcd stays closed until its node has been started with more, too. One that says nothing for a while may be gone for good, and would keep
//! etcd closed for ever: its alarm is ended by those that are there, that of a member which was removed at once. Ended too early by
//! mistake it costs nothing: etcd raises it again with the next write.

use super::{LOOKS_PER_WORD, PAUSE, Seat};
use catalog::kv::{Kv, KvMember, KvMembers};
use catalog_kv::etcd::EtcdKv;
use curator::{Holding, QuorumStep, has_no_space, has_room};

/// Looks in a row, about 20 s, after which a full member that says nothing is not waited for: longer than its node takes to start.
const SILENT_LOOKS_MAX: u32 = 40;

/// What is tried once each, and how long others have been waited for.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    compacted: bool,
    defragmented: bool,
    /// Looks in a row in which the only full members said nothing.
    silent_looks: u32,
}

impl Tried {
    /// After a look; `None`: it failed, and nobody knows who is silent.
    fn note(&mut self, members: Option<&KvMembers>) {
        let silent = members.is_some_and(|members| {
            let full: Vec<&KvMember> = members.all().filter(|one| has_no_space(one)).collect();
            are_silent(&full)
        });
        self.silent_looks = match silent {
            true => self.silent_looks.saturating_add(1),
            false => 0,
        };
    }
}

/// What a node does about an etcd without space.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// It has space.
    GoOn,
    /// The own member has room: its alarm is ended.
    Disarm,
    /// This member, which is not there, must not keep etcd closed: its alarm is ended.
    DisarmSilent(u64),
    /// This one is no member any more: its alarm is ended.
    DisarmRemoved(u64),
    /// History is forgotten.
    Compact,
    /// The own member's file is made smaller.
    Defragment,
    /// Somebody else has to do something: why.
    Wait(String),
}

/// Whether there are full members, and none of them answers. Pure.
fn are_silent(full: &[&KvMember]) -> bool {
    !full.is_empty() && full.iter().all(|one| one.problem.is_some())
}

/// The next step of the node with this member, which may keep `quota` bytes. Pure.
fn next_step(members: &KvMembers, own: u64, quota: u64, tried: Tried) -> Step {
    if let Some(&stray) = members.strays.first() {
        return Step::DisarmRemoved(stray);
    }
    let full: Vec<&KvMember> = members.all().filter(|one| has_no_space(one)).collect();
    if full.is_empty() {
        return Step::GoOn;
    }
    let answers = |one: &KvMember| one.problem.is_none();
    let Some(mine) = full.iter().find(|one| one.id == own) else {
        if tried.silent_looks >= SILENT_LOOKS_MAX && are_silent(&full) {
            return Step::DisarmSilent(full[0].id);
        }
        let names: Vec<&str> = full.iter().map(|one| one.name.as_str()).collect();
        let names = names.join(", ");
        return Step::Wait(format!(
            "etcd has no space at {names}: raise `quota` in [etcd] of those nodes and start them again"
        ));
    };
    if answers(mine) && has_room(mine, quota) {
        return Step::Disarm;
    }
    if !tried.compacted {
        return Step::Compact;
    }
    // It answers nobody meanwhile: the others must be enough.
    if !tried.defragmented && members.all().all(answers) {
        return Step::Defragment;
    }
    Step::Wait(format!(
        "this node's member of etcd has filled {} of the {quota} bytes that `quota` in [etcd] allows, and its history is forgotten: \
         raise `quota` and start the node again",
        mine.bytes
    ))
}

impl Seat {
    /// Returns once etcd takes writes. A node without a member of its own does not wait: there is nothing that it could do.
    pub(super) async fn wait_for_room(&self, kv: &EtcdKv) {
        let Holding::Member(own) = self.holding() else {
            return;
        };
        let quota = self.0.config.as_ref().map_or(0, |config| config.quota);
        let (mut tried, mut looks) = (Tried::default(), 0_u32);
        loop {
            let looked = kv.members().await;
            tried.note(looked.as_ref().ok());
            let step = match looked {
                Ok(members) => match next_step(&members, own, quota, tried) {
                    Step::GoOn => return,
                    step => self.make_room(step, own, members, &mut tried).await,
                },
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = step {
                if looks.is_multiple_of(LOOKS_PER_WORD) {
                    tracing::warn!(reason, "waiting for space in etcd");
                }
                looks += 1;
            }
            self.0.world.sleep(PAUSE).await;
        }
    }

    /// Carries out a step; why not, when it is not or when somebody else has to.
    async fn make_room(
        &self,
        step: Step,
        own: u64,
        members: KvMembers,
        tried: &mut Tried,
    ) -> Result<(), String> {
        match step {
            Step::GoOn => Ok(()),
            Step::Wait(reason) => Err(reason),
            Step::Compact => {
                self.compact().await?;
                tried.compacted = true;
                Ok(())
            }
            Step::Defragment => {
                let step = QuorumStep::Defragment { member: own };
                self.carry_out(step, members).await?;
                tried.defragmented = true;
                Ok(())
            }
            Step::Disarm => {
                tracing::info!("this node's member of etcd has room: its alarm is ended");
                let step = QuorumStep::Disarm { member: own };
                self.carry_out(step, members).await
            }
            Step::DisarmRemoved(member) => {
                tracing::warn!(
                    member = format!("{member:x}"),
                    "a member of etcd without space was removed: its alarm is ended"
                );
                let step = QuorumStep::Disarm { member };
                self.carry_out(step, members).await
            }
            Step::DisarmSilent(member) => {
                let silent = members.all().find(|one| one.id == member);
                let name = silent.map_or("", |one| one.name.as_str());
                tracing::warn!(
                    member = name,
                    "a member of etcd without space is away: its alarm is ended"
                );
                let step = QuorumStep::Disarm { member };
                self.carry_out(step, members).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: u64 = 100 << 20;

    fn member(id: u64, bytes: u64, full: bool) -> KvMember {
        KvMember {
            id,
            name: format!("n{id}"),
            bytes,
            alarms: full.then(|| "NOSPACE".to_owned()).into_iter().collect(),
            ..KvMember::default()
        }
    }

    fn members(all: Vec<KvMember>) -> KvMembers {
        KvMembers {
            members: all,
            ..KvMembers::default()
        }
    }

    const NEW: Tried = Tried {
        compacted: false,
        defragmented: false,
        silent_looks: 0,
    };
    const ALL: Tried = Tried {
        compacted: true,
        defragmented: true,
        ..NEW
    };

    #[test]
    fn each_node_ends_the_alarm_of_its_own_member_by_its_own_quota() {
        let three = members(vec![
            member(1, QUOTA, true),
            member(2, QUOTA, true),
            member(3, QUOTA, false),
        ]);
        // The first may keep twice as much now; what the others may is not its business.
        assert_eq!(next_step(&three, 1, 2 * QUOTA, NEW), Step::Disarm);
        let Step::Wait(reason) = next_step(&three, 3, 2 * QUOTA, NEW) else {
            panic!("the third can do nothing");
        };
        assert!(reason.contains("n1, n2"), "{reason}");
        let quiet = members(vec![member(1, QUOTA, false)]);
        assert_eq!(next_step(&quiet, 1, QUOTA, NEW), Step::GoOn);
    }

    #[test]
    fn a_member_that_stays_full_forgets_gets_smaller_and_then_says_what_to_do() {
        let one = members(vec![member(1, QUOTA, true)]);
        assert_eq!(next_step(&one, 1, QUOTA, NEW), Step::Compact);
        let compacted = Tried {
            compacted: true,
            ..NEW
        };
        assert_eq!(next_step(&one, 1, QUOTA, compacted), Step::Defragment);
        let Step::Wait(reason) = next_step(&one, 1, QUOTA, ALL) else {
            panic!("nothing is left to do");
        };
        assert!(reason.contains("raise `quota`"), "{reason}");
    }

    #[test]
    fn a_full_member_that_is_gone_for_good_keeps_etcd_closed_for_a_while_only() {
        let gone = |full| KvMember {
            problem: Some("it does not answer".to_owned()),
            ..member(2, 0, full)
        };
        let others = |full| {
            members(vec![
                member(1, QUOTA, false),
                gone(true),
                member(3, QUOTA, full),
            ])
        };
        assert!(matches!(
            next_step(&others(false), 1, QUOTA, NEW),
            Step::Wait(_)
        ));
        let waited = Tried {
            silent_looks: SILENT_LOOKS_MAX,
            ..NEW
        };
        assert_eq!(
            next_step(&others(false), 1, QUOTA, waited),
            Step::DisarmSilent(2)
        );
        // One that answers knows better how much it may keep.
        assert!(matches!(
            next_step(&others(true), 1, QUOTA, waited),
            Step::Wait(_)
        ));
        // Its own alarm first.
        let own = members(vec![member(1, QUOTA, true), gone(true)]);
        assert_eq!(next_step(&own, 1, 2 * QUOTA, waited), Step::Disarm);
    }

    #[test]
    fn the_alarm_of_a_member_that_was_removed_is_waited_for_by_nobody() {
        let two = KvMembers {
            strays: vec![9],
            ..members(vec![member(1, QUOTA, true), member(2, 0, false)])
        };
        assert_eq!(next_step(&two, 2, QUOTA, NEW), Step::DisarmRemoved(9));
        assert_eq!(next_step(&two, 1, 2 * QUOTA, NEW), Step::DisarmRemoved(9));
    }

    #[test]
    fn looks_that_failed_do_not_count_as_silence() {
        let gone = KvMember {
            problem: Some("it does not answer".to_owned()),
            ..member(2, 0, true)
        };
        let silent = members(vec![member(1, QUOTA, false), gone]);
        let mut tried = NEW;
        (1..SILENT_LOOKS_MAX).for_each(|_| tried.note(Some(&silent)));
        assert_eq!(tried.silent_looks, SILENT_LOOKS_MAX - 1);
        tried.note(None);
        assert_eq!(tried.silent_looks, 0, "nobody knows who was silent");
        tried.note(Some(&silent));
        assert_eq!(tried.silent_looks, 1);
        tried.note(Some(&members(vec![member(1, QUOTA, true)])));
        assert_eq!(tried.silent_looks, 0, "it answers");
    }

    #[test]
    fn a_file_is_not_made_smaller_while_another_member_is_away() {
        let away = KvMember {
            problem: Some("away".to_owned()),
            ..member(2, 0, false)
        };
        let two = members(vec![member(1, QUOTA, true), away]);
        let compacted = Tried {
            compacted: true,
            ..NEW
        };
        assert!(matches!(
            next_step(&two, 1, QUOTA, compacted),
            Step::Wait(_)
        ));
        // Its alarm is ended all the same once it has room.
        assert_eq!(next_step(&two, 1, 2 * QUOTA, compacted), Step::Disarm);
    }
}
