//! What may be lost of each part of the cluster: data and room by failure domain, and the catalog's members.

use super::capacity::plan_capacity;
use crate::host::Host;
use api::{ComponentAnswer, CopiesAnswer, RepairAnswer};
use catalog::GroupRow;
use catalog::kv::KvMembers;
use curator::{Domain, Domains, NODE_LEVEL, STORE_LEVEL, Standing, StoreFacts, level_name};
use std::collections::{BTreeMap, BTreeSet};
use vocab::{ByteCount, StoreId};
use world::{Duration, Time};

/// What the catalog said of its members is good for so long.
const MEMBERS_AGE_MAX: Duration = Duration::from_secs(2);
/// Patience with it: the members are asked for a second each.
const MEMBERS_PATIENCE: Duration = Duration::from_secs(4);

/// What the catalog said of its members, and when.
pub(crate) type SaidMembers = (Time, Result<KvMembers, String>);

/// The stores that count.
pub(super) fn taking_part(
    stores: &BTreeMap<StoreId, StoreFacts>,
) -> impl Iterator<Item = &StoreFacts> {
    let stores = stores.values();
    stores.filter(|facts| facts.standing != Standing::Lost)
}

/// Bytes of a store that copies which are lost elsewhere may be made on: what it keeps back is for drains and compaction. Pure.
pub(super) fn fillable(facts: &StoreFacts) -> u64 {
    let kept_back = store::kept_back(ByteCount(facts.capacity)).0;
    facts.capacity.saturating_sub(kept_back)
}

/// How many domains may be lost of the groups with one number of copies, whichever they are: complete copies that answer, in
/// the group that has fewest, less one. Pure.
fn data_tolerates(
    apart: &Domains,
    level: usize,
    groups: &[&GroupRow],
    stores: &BTreeMap<StoreId, StoreFacts>,
) -> u32 {
    let serving = |group: &&GroupRow| {
        let complete = group.complete().filter_map(|store| stores.get(&store));
        let answers =
            |facts: &&StoreFacts| matches!(facts.standing, Standing::Present | Standing::Draining);
        let domains: BTreeSet<Domain> = complete
            .filter(answers)
            .map(|facts| apart.of(facts.id, level))
            .collect();
        domains.len()
    };
    let least = groups.iter().map(serving).min().unwrap_or(0);
    least.saturating_sub(1) as u32
}

/// How many domains may be lost so that `used` bytes fit again with so many copies on those that stay, the largest lost
/// first. `sizes`: what can be filled of each domain, in bytes. Pure.
fn capacity_tolerates(sizes: &[u64], used: u64, copies: u8) -> u32 {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let fits = |lost: usize| {
        let stay = &sizes[lost..];
        let room = plan_capacity(stay, copies).saturating_mul(u64::from(copies));
        stay.len() >= usize::from(copies) && used <= room
    };
    (1..=sizes.len()).take_while(|&lost| fits(lost)).count() as u32
}

/// What to do while copies are missing.
pub(super) fn repair_remedy(repair: &RepairAnswer) -> String {
    match (repair.filling, repair.waiting, repair.eta_seconds) {
        (0, 0, _) => {
            "bring the stores back; after the repair delay others take their place".to_owned()
        }
        (0, _, _) => "add a store in another failure domain, or bring the lost one back".to_owned(),
        (_, _, Some(eta)) => format!("nothing: copies are being made, for about {eta} s more"),
        (_, _, None) => "nothing: copies are being made".to_owned(),
    }
}

/// What may be lost of the data with so many copies, in domains of a level. Pure.
pub(super) fn data_component(
    apart: &Domains,
    level: usize,
    answer: &CopiesAnswer,
    groups: &[&GroupRow],
    stores: &BTreeMap<StoreId, StoreFacts>,
    repair: &RepairAnswer,
) -> ComponentAnswer {
    let tolerates = data_tolerates(apart, level, groups, stores);
    let (rf, total) = (answer.rf, answer.groups);
    let name = level_name(level);
    let (state, reason, remedy) = if level > apart.level(rf) {
        let by = &answer.domain;
        let reason = format!("there are fewer than {rf} {name}s: copies are kept apart by {by}");
        let remedy = match level {
            NODE_LEVEL => format!("add nodes until there are {rf}"),
            _ => format!("add nodes in other {name}s until there are {rf}"),
        };
        ("ok", Some(reason), Some(remedy))
    } else if answer.unavailable > 0 {
        let reason = format!(
            "{} of {total} groups with {rf} copies have none that answers",
            answer.unavailable
        );
        (
            "critical",
            Some(reason),
            Some("bring their stores back".to_owned()),
        )
    } else if answer.degraded > 0 {
        let state = if rf > 1 && answer.tolerates == 0 {
            "critical"
        } else {
            "degraded"
        };
        let reason = format!(
            "{} of {total} groups have fewer than {rf} copies",
            answer.degraded
        );
        (state, Some(reason), Some(repair_remedy(repair)))
    } else if rf == 1 {
        let reason = "its containers want one copy".to_owned();
        let remedy = "`azekura container set NAME --rf 2` if the data matters".to_owned();
        ("ok", Some(reason), Some(remedy))
    } else {
        ("ok", None, None)
    };
    ComponentAnswer {
        component: "data".to_owned(),
        rf: Some(rf),
        domain: name,
        tolerates,
        state: state.to_owned(),
        reason,
        remedy,
    }
}

/// What may be lost so that everything can still be made again elsewhere. Pure.
pub(super) fn capacity_component(
    apart: &Domains,
    level: usize,
    copies: u8,
    used: u64,
    stores: &BTreeMap<StoreId, StoreFacts>,
) -> ComponentAnswer {
    let mut sizes: BTreeMap<Domain, u64> = BTreeMap::new();
    for facts in taking_part(stores) {
        *sizes.entry(apart.of(facts.id, level)).or_default() += fillable(facts);
    }
    let sizes: Vec<u64> = sizes.into_values().collect();
    let tolerates = capacity_tolerates(&sizes, used, copies);
    let (have, name) = (sizes.len(), level_name(level));
    let (state, reason, remedy) = if tolerates > 0 {
        ("ok", None, None)
    } else if have <= usize::from(copies) {
        // As built: there is no other domain for a copy.
        let reason = format!("{copies} copies need {copies} {name}s, and there are {have}");
        let remedy = match level {
            STORE_LEVEL | NODE_LEVEL => {
                format!("add a {name}: then a lost one is made good by itself")
            }
            _ => format!("add nodes in another {name}: then a lost one is made good by itself"),
        };
        ("ok", Some(reason), Some(remedy))
    } else {
        let reason = format!("what is in use does not fit when the largest {name} is lost");
        let remedy = "delete data or snapshots, or add disks".to_owned();
        ("degraded", Some(reason), Some(remedy))
    };
    ComponentAnswer {
        component: "capacity".to_owned(),
        rf: Some(copies),
        domain: name,
        tolerates,
        state: state.to_owned(),
        reason,
        remedy,
    }
}

/// What to do about members that do not answer.
fn members_remedy(supervised: bool, tolerates: bool) -> String {
    let text = match (supervised, tolerates) {
        (true, true) => {
            "nothing: its node starts it again, or another node's takes its place; a third node with [etcd] helps when there \
             is none"
        }
        (true, false) => {
            "start the nodes that run them: takeovers and changes wait. If their data is lost for good: `azekura catalog \
             rebuild`"
        }
        (false, true) => "bring the member back, or replace it",
        (false, false) => "bring members back: takeovers and changes wait for them",
    };
    text.to_owned()
}

/// What may be lost of the catalog. `supervised`: nodes of the cluster run it. Pure.
fn catalog_component(said: &Result<KvMembers, String>, supervised: bool) -> ComponentAnswer {
    let (mut tolerates, mut state, mut reason, mut remedy) = (0, "ok", None, None);
    match said {
        Err(why) => {
            state = "critical";
            reason = Some(format!("the catalog does not answer: {why}"));
            remedy = Some("start it; reads and writes go on meanwhile, takeovers wait".to_owned());
        }
        Ok(said) if said.embedded => {
            reason = Some("it is part of one process: with its machine it is lost".to_owned());
            let text = "`azekura catalog rebuild` makes it anew from the disks; etcd on three machines survives a loss";
            remedy = Some(text.to_owned());
        }
        Ok(said) => {
            let problems: Vec<String> = said
                .members
                .iter()
                .filter_map(|member| Some(format!("{}: {}", member.name, member.problem.as_ref()?)))
                .collect();
            let (all, alive) = (said.members.len(), said.alive());
            tolerates = said.tolerates().unwrap_or(0);
            if said.tolerates().is_none() {
                state = "critical";
                reason = Some(format!(
                    "{alive} of {all} members answer, {} must ({})",
                    said.quorum(),
                    problems.join("; ")
                ));
                remedy = Some(members_remedy(supervised, false));
            } else if !problems.is_empty() {
                state = "degraded";
                reason = Some(format!(
                    "{alive} of {all} members answer ({})",
                    problems.join("; ")
                ));
                remedy = Some(members_remedy(supervised, true));
            } else if let Some(full) = said.members.iter().find(|member| !member.alarms.is_empty())
            {
                state = "critical";
                reason = Some(format!("{} warns: {}", full.name, full.alarms.join(", ")));
                remedy = Some(match supervised {
                    true => "nothing, if history can be forgotten; else raise `quota` in [etcd]"
                        .to_owned(),
                    false => {
                        "make room in etcd (compact, defragment), then end its alarm".to_owned()
                    }
                });
            } else if tolerates == 0 {
                reason = Some(format!("it has {all} members"));
                remedy = Some("three members survive the loss of one".to_owned());
            }
        }
    }
    ComponentAnswer {
        component: "catalog".to_owned(),
        rf: None,
        domain: "member".to_owned(),
        tolerates: u32::try_from(tolerates).unwrap_or(u32::MAX),
        state: state.to_owned(),
        reason,
        remedy,
    }
}

impl Host {
    /// Asks the catalog who keeps it, unless it was asked a moment ago.
    pub(crate) async fn ask_catalog(&self) {
        let now = self.world.now();
        let known = self.upkeep.catalog.borrow().as_ref().map(|(at, _)| *at);
        if known.is_some_and(|at| now.since(at) < MEMBERS_AGE_MAX) {
            return;
        }
        let asked = self.catalog.kv().members();
        let said = match self.world.timeout(MEMBERS_PATIENCE, asked).await {
            Ok(said) => said.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        *self.upkeep.catalog.borrow_mut() = Some((self.world.now(), said));
    }

    /// What the catalog said last of its members; nothing before it was asked.
    pub(super) fn catalog_component(&self) -> Option<ComponentAnswer> {
        let said = self.upkeep.catalog.borrow();
        let supervised = self.upkeep.own_etcd.get() != 0;
        said.as_ref()
            .map(|(_, said)| catalog_component(said, supervised))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalog::kv::KvMember;

    #[test]
    fn as_many_domains_may_be_lost_as_the_others_make_good() {
        assert_eq!(capacity_tolerates(&[100; 3], 200, 2), 1);
        assert_eq!(capacity_tolerates(&[100; 3], 201, 2), 0);
        assert_eq!(capacity_tolerates(&[100; 5], 200, 2), 3);
        assert_eq!(capacity_tolerates(&[100; 3], 0, 3), 0);
        assert_eq!(capacity_tolerates(&[300, 100, 100], 201, 2), 0);
        assert_eq!(capacity_tolerates(&[], 0, 2), 0);
    }

    fn members(problems: &[Option<&str>]) -> KvMembers {
        let member = |(index, problem): (usize, &Option<&str>)| KvMember {
            name: format!("m{index}"),
            problem: problem.map(str::to_owned),
            ..KvMember::default()
        };
        KvMembers {
            members: problems.iter().enumerate().map(member).collect(),
            ..KvMembers::default()
        }
    }

    #[test]
    fn the_catalog_is_judged_by_its_majority() {
        let judge = |problems: &[Option<&str>]| {
            let answer = catalog_component(&Ok(members(problems)), false);
            (
                answer.tolerates,
                answer.state,
                answer.reason.unwrap_or_default(),
            )
        };
        assert_eq!(judge(&[None; 3]), (1, "ok".to_owned(), String::new()));
        let (tolerates, state, reason) = judge(&[None, None, Some("away")]);
        assert_eq!((tolerates, &*state), (0, "degraded"));
        assert!(reason.contains("m2: away"), "{reason}");
        let (_, state, reason) = judge(&[None, Some("away"), Some("away")]);
        assert_eq!(state, "critical");
        assert!(reason.contains("2 must"), "{reason}");
        assert_eq!(judge(&[None]).1, "ok");
        let embedded = catalog_component(&Ok(KvMembers::embedded("file")), false);
        assert_eq!((embedded.tolerates, &*embedded.state), (0, "ok"));
        assert!(embedded.remedy.unwrap().contains("rebuild"));
        assert_eq!(
            catalog_component(&Err("gone".to_owned()), false).state,
            "critical"
        );
    }
}
