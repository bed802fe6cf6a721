//! Following etcd's own list of members: which addresses to use, whether the list has a member for this seat to begin, and
//! whether one that was begun is still in it.

use super::Seat;
use crate::kept::{KeptEtcd, KeptMember};
use ::node::Host;
use catalog::kv::{Kv, KvMember, KvMembers};
use catalog_kv::etcd::EtcdKv;
use curator::Holding;
use identity::AUTHORITIES_FILE;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Pause between two looks, while this seat may be wanted and while all is well.
const FAST: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(5);
/// After so many looks that found no change all is well.
const QUIET_LOOKS: u32 = 15;
/// So many looks must miss a member before it is taken for removed.
const MISSED_MAX: u32 = 2;

/// What to do about this seat's member. Pure.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Nothing,
    /// The list has one for it that nobody began.
    Begin(u64),
    /// The one that was begun is not in the list.
    Missed,
}

fn next_move(holding: Holding, peer: &str, members: &KvMembers) -> Move {
    let listed = |id: u64| members.all().any(|member| member.id == id);
    let waiting =
        |member: &&KvMember| !member.started && member.peers.iter().any(|known| known == peer);
    match holding {
        Holding::Member(id) | Holding::Lost(id) if !listed(id) => Move::Missed,
        Holding::Member(_) | Holding::Lost(_) => Move::Nothing,
        Holding::Nothing => {
            let waiting = members.all().find(waiting);
            waiting.map_or(Move::Nothing, |member| Move::Begin(member.id))
        }
    }
}

/// Every member with its address, as etcd wants it of one that begins. Pure.
fn initial_cluster(members: &KvMembers, own: u64, name: &str) -> String {
    let pairs = members.all().flat_map(|member| {
        let name = if member.id == own { name } else { &member.name };
        member
            .peers
            .iter()
            .map(move |peer| format!("{name}={peer}"))
    });
    pairs.collect::<Vec<_>>().join(",")
}

/// Addresses at which clients find members that vote, this seat's own first. Pure.
fn endpoints(members: &KvMembers, own: Option<&str>) -> Vec<String> {
    let voters = members.members.iter();
    let mut found: Vec<String> = voters.flat_map(|member| member.clients.clone()).collect();
    found.sort();
    found.dedup();
    if let Some(at) = found.iter().position(|client| Some(client.as_str()) == own) {
        found.swap(0, at);
    }
    found
}

/// Follows the list for as long as the node runs.
pub async fn follow(seat: Seat, host: Rc<Host>) {
    let mut authorities = stamp(&seat);
    let mut quiet = 0;
    loop {
        let waits = seat.0.config.is_some() && !matches!(seat.holding(), Holding::Member(_));
        let fast = waits || quiet < QUIET_LOOKS;
        seat.0.world.sleep(if fast { FAST } else { SLOW }).await;
        let Some(kv) = seat.client() else { continue };
        match look(&seat, &host, &kv, &mut authorities).await {
            Ok(true) => quiet = 0,
            Ok(false) => quiet = QUIET_LOOKS.min(quiet + 1),
            Err(reason) => {
                quiet = 0;
                ask_own(&seat, &kv);
                tracing::debug!(reason, "the members of etcd are looked at later");
            }
        }
    }
}

/// A member of this node's own knows the others, when those that were used are gone.
fn ask_own(seat: &Seat, kv: &EtcdKv) {
    let (Some((own, _)), Holding::Member(_)) = (seat.urls(), seat.holding()) else {
        return;
    };
    let mut endpoints = kv.endpoints();
    if !endpoints.contains(&own) {
        endpoints.push(own);
        if let Err(error) = kv.set_endpoints(&endpoints) {
            tracing::debug!(%error, "this node's own member is not asked");
        }
    }
}

/// Tells versions of the authorities' file apart.
fn stamp(seat: &Seat) -> Option<SystemTime> {
    let folder = seat.0.credentials.as_ref()?;
    std::fs::metadata(folder.join(AUTHORITIES_FILE))
        .ok()?
        .modified()
        .ok()
}

/// One look; whether anything changes.
async fn look(
    seat: &Seat,
    host: &Rc<Host>,
    kv: &EtcdKv,
    authorities: &mut Option<SystemTime>,
) -> Result<bool, String> {
    let members = kv.members().await.map_err(|error| error.to_string())?;
    let led = members
        .members
        .iter()
        .any(|member| member.leads && member.problem.is_none());
    if !led || members.tolerates().is_none() {
        return Err("it has no majority".to_owned());
    }
    if !host.is_own_etcd(members.cluster).await? {
        return Ok(false);
    }
    kv.expect_cluster(members.cluster);
    let changed = follow_endpoints(seat, kv, &members)? || !members.learners.is_empty();
    let now = stamp(seat);
    let all_well = members.all().all(|member| member.problem.is_none());
    if now != *authorities && all_well {
        // etcd reads them at its start only. One member at a time: each waits until all answer, and its turn.
        seat.0.world.sleep(turn(seat, &members)).await;
        let again = kv.members().await.map_err(|error| error.to_string())?;
        if again.all().all(|member| member.problem.is_none()) {
            tracing::info!("etcd is started again: the authorities have changed");
            seat.restart();
            *authorities = now;
        }
    }
    settle(seat, &members).map_err(|error| format!("{error:#}"))?;
    Ok(changed)
}

/// Members start again one after the other.
fn turn(seat: &Seat, members: &KvMembers) -> Duration {
    let own = seat
        .0
        .kept
        .borrow()
        .member
        .as_ref()
        .map_or(0, |member| member.id);
    let mut ids: Vec<u64> = members.all().map(|member| member.id).collect();
    ids.sort_unstable();
    let at = ids.iter().position(|id| *id == own).unwrap_or(ids.len());
    Duration::from_secs(6) * u32::try_from(at).unwrap_or(u32::MAX)
}

/// Whether they are other ones.
fn follow_endpoints(seat: &Seat, kv: &EtcdKv, members: &KvMembers) -> Result<bool, String> {
    let own = seat.urls().map(|(client, _)| client);
    let found = endpoints(members, own.as_deref());
    if found.is_empty() {
        return Ok(false);
    }
    let known = seat.0.kept.borrow().clone();
    let changed = kv.endpoints() != found;
    if changed {
        kv.set_endpoints(&found)
            .map_err(|error| error.to_string())?;
        tracing::info!(
            endpoints = found.join(", "),
            "the catalog is kept by these members"
        );
    }
    if known.endpoints != found || known.cluster != members.cluster {
        let kept = KeptEtcd {
            endpoints: found,
            cluster: members.cluster,
            ..known
        };
        seat.keep(kept).map_err(|error| format!("{error:#}"))?;
    }
    Ok(changed)
}

fn settle(seat: &Seat, members: &KvMembers) -> anyhow::Result<()> {
    let Some((_, peer)) = seat.urls() else {
        return Ok(());
    };
    match next_move(seat.holding(), &peer, members) {
        Move::Nothing => seat.0.missed.set(0),
        Move::Begin(id) => {
            tracing::info!(
                member = format!("{id:x}"),
                "this node becomes a member of etcd"
            );
            let member = KeptMember {
                id,
                initial: initial_cluster(members, id, &seat.0.node),
                token: format!("azekura-{:016x}", members.cluster),
                founded: false,
            };
            seat.begin(member)?;
        }
        Move::Missed => {
            // The list may have been that of a member that was cut off; not twice.
            let missed = seat.0.missed.get() + 1;
            seat.0.missed.set(missed);
            if missed >= MISSED_MAX {
                seat.0.missed.set(0);
                tracing::info!("this node is no member of etcd any more");
                seat.forget()?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, started: bool) -> KvMember {
        KvMember {
            id,
            name: name.to_owned(),
            started,
            peers: vec![format!("http://{name}:2380")],
            clients: vec![format!("http://{name}:2379")],
            ..KvMember::default()
        }
    }

    fn list() -> KvMembers {
        KvMembers {
            members: vec![member(1, "a", true), member(2, "b", true)],
            learners: vec![member(3, "c", false)],
            ..KvMembers::default()
        }
    }

    #[test]
    fn a_member_is_begun_once_and_only_when_the_list_has_it() {
        let next =
            |holding, name: &str| next_move(holding, &format!("http://{name}:2380"), &list());
        assert_eq!(next(Holding::Nothing, "c"), Move::Begin(3));
        assert_eq!(
            next(Holding::Nothing, "b"),
            Move::Nothing,
            "somebody has started it"
        );
        assert_eq!(next(Holding::Nothing, "d"), Move::Nothing);
        assert_eq!(next(Holding::Member(3), "c"), Move::Nothing);
        assert_eq!(
            next(Holding::Lost(3), "c"),
            Move::Nothing,
            "it was begun once"
        );
        assert_eq!(next(Holding::Lost(4), "c"), Move::Missed);
        assert_eq!(next(Holding::Member(4), "c"), Move::Missed);
    }

    #[test]
    fn a_member_that_begins_is_told_of_all() {
        assert_eq!(
            initial_cluster(&list(), 3, "node-c"),
            "a=http://a:2380,b=http://b:2380,node-c=http://c:2380"
        );
    }

    #[test]
    fn clients_are_sent_to_members_that_vote() {
        let expected = ["http://b:2379", "http://a:2379"];
        assert_eq!(endpoints(&list(), Some("http://b:2379")), expected);
        assert_eq!(endpoints(&list(), None).len(), 2);
    }
}
