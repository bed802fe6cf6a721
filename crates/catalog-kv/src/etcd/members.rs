//! Which members the etcd cluster has, which of them answer, and how they are changed.
//!
//! The list comes from any member, without a majority; that of the leader counts most. Each endpoint is asked who it is;
//! members that are none of them are asked at the addresses that they tell others.

use super::connection::{Connections, Member, Tries, error_of, request};
use super::{EtcdChange, proto};
use catalog::kv::{KvError, KvMember, KvMembers};
use futures_util::future::{join, join_all};
use proto::cluster_client::ClusterClient;
use proto::maintenance_client::MaintenanceClient;
use std::collections::{BTreeMap, BTreeSet};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use world::Duration;

/// Patience with one member: a verdict waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Members that are asked; etcd advises against more than 7.
const MEMBERS_MAX: usize = 32;
/// Patience with a defragmentation: a file of 8 GiB is copied.
const DEFRAGMENT_PATIENCE: Duration = Duration::from_secs(120);

/// A message that is answered also by a member that has no leader.
fn plain<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_elapsed) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

/// A list of members, of which cluster, and who says so.
struct List {
    by: u64,
    cluster: u64,
    members: Vec<proto::Member>,
}

async fn list(channel: Channel) -> Result<List, Status> {
    let request = plain(proto::MemberListRequest {
        linearizable: false,
    });
    let mut client = ClusterClient::new(channel);
    let answer = within(client.member_list(request)).await?;
    let header = answer.header.unwrap_or_default();
    Ok(List {
        by: header.member_id,
        cluster: header.cluster_id,
        members: answer.members,
    })
}

/// What the one at the other end says of itself.
async fn ask(channel: Channel) -> Result<proto::StatusResponse, Status> {
    let mut client = MaintenanceClient::new(channel);
    within(client.status(plain(proto::StatusRequest {}))).await
}

/// What it warns of, also of others.
async fn alarms(channel: Channel) -> Vec<proto::AlarmMember> {
    let mut client = MaintenanceClient::new(channel);
    let get = plain(proto::AlarmRequest::default());
    let said = within(client.alarm(get)).await;
    said.map(|said| said.alarms).unwrap_or_default()
}

/// Clusters whose members answer and know a leader.
pub(super) async fn clusters(connections: &Connections) -> Vec<u64> {
    let members = connections.members();
    let asked = join_all(members.iter().map(|member| ask(member.channel.clone()))).await;
    let led = asked.into_iter().flatten().filter(|said| said.leader != 0);
    let mut clusters: Vec<u64> = led
        .filter_map(|said| Some(said.header?.cluster_id))
        .collect();
    clusters.sort_unstable();
    clusters.dedup();
    clusters
}

/// See the head of this file.
pub(super) async fn members(connections: &Connections) -> Result<KvMembers, KvError> {
    let channels = || {
        let members = connections.members();
        members.into_iter().map(|member| member.channel.clone())
    };
    let lists = join_all(channels().map(list));
    let asked = join_all(channels().map(ask));
    let ((lists, asked), alarms) = join(join(lists, asked), join_all(channels().map(alarms))).await;
    let mut refused = Status::unavailable("no etcd endpoint is given");
    let known: BTreeMap<u64, proto::StatusResponse> = asked
        .into_iter()
        .flatten()
        .filter_map(|said| Some((said.header.as_ref()?.member_id, said)))
        .collect();
    let leads = |list: &List| {
        known
            .get(&list.by)
            .is_some_and(|said| said.leader == list.by)
    };
    let mut best: Option<List> = None;
    for list in lists {
        match list {
            Ok(list) => {
                // Of several that differ, one lags behind: the leader knows best, then the longest is the safe one to
                // judge by.
                let weight = |list: &List| (leads(list), list.members.len());
                if best
                    .as_ref()
                    .is_none_or(|best| weight(&list) > weight(best))
                {
                    best = Some(list);
                }
            }
            Err(status) => refused = status,
        }
    }
    let list = best.ok_or_else(|| error_of("every endpoint", &refused))?;
    let alarms: Vec<proto::AlarmMember> = alarms.into_iter().flatten().collect();
    let strays = strays(&list.members, &alarms);
    let members = list.members.into_iter().take(MEMBERS_MAX);
    let judged = members.map(|member| async {
        let learns = member.is_learner;
        (
            learns,
            judge(connections, member, list.cluster, &known, &alarms).await,
        )
    });
    let (learners, voters): (Vec<_>, Vec<_>) = join_all(judged)
        .await
        .into_iter()
        .partition(|(learns, _)| *learns);
    let only = |all: Vec<(bool, KvMember)>| all.into_iter().map(|(_, member)| member).collect();
    Ok(KvMembers {
        embedded: false,
        cluster: list.cluster,
        members: only(voters),
        learners: only(learners),
        strays,
    })
}

/// Who warns of too little space and is not in the list, each once.
fn strays(list: &[proto::Member], alarms: &[proto::AlarmMember]) -> Vec<u64> {
    let listed = |id: u64| list.iter().any(|member| member.id == id);
    let full = alarms
        .iter()
        .filter(|alarm| alarm.alarm() == proto::AlarmType::Nospace);
    let ids = full.map(|alarm| alarm.member_id).filter(|id| !listed(*id));
    ids.collect::<BTreeSet<u64>>().into_iter().collect()
}

async fn judge(
    connections: &Connections,
    member: proto::Member,
    cluster: u64,
    known: &BTreeMap<u64, proto::StatusResponse>,
    alarms: &[proto::AlarmMember],
) -> KvMember {
    let said = match known.get(&member.id) {
        Some(said) => Ok(said.clone()),
        None => reach(connections, &member).await,
    };
    let judged = listed(member, alarms);
    match said {
        Err(problem) => KvMember {
            problem: Some(problem),
            ..judged
        },
        Ok(said) => describe(judged, said, cluster),
    }
}

/// A member as the list has it, with what is warned of.
fn listed(member: proto::Member, alarms: &[proto::AlarmMember]) -> KvMember {
    let name = match member.name.is_empty() {
        true => format!("{:x}", member.id),
        false => member.name.clone(),
    };
    let own = alarms.iter().filter(|alarm| alarm.member_id == member.id);
    let mut alarms: Vec<String> = own
        .map(|alarm| alarm.alarm().as_str_name().to_owned())
        .collect();
    alarms.sort();
    alarms.dedup();
    KvMember {
        name,
        id: member.id,
        started: !member.name.is_empty(),
        peers: member.peer_ur_ls,
        clients: member.client_ur_ls,
        alarms,
        ..KvMember::default()
    }
}

fn describe(member: KvMember, said: proto::StatusResponse, cluster: u64) -> KvMember {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let of = said.header.as_ref().map_or(0, |header| header.cluster_id);
    let problem = if of != cluster {
        Some("it belongs to another etcd".to_owned())
    } else {
        (said.leader == 0).then(|| "it knows no leader".to_owned())
    };
    KvMember {
        problem,
        leads: said.leader == member.id,
        version: said.version,
        applied: said.raft_applied_index,
        bytes: count(said.db_size),
        bytes_used: count(said.db_size_in_use),
        ..member
    }
}

/// Asks a member at the addresses that it tells others; what is wrong with it.
async fn reach(
    connections: &Connections,
    member: &proto::Member,
) -> Result<proto::StatusResponse, String> {
    let mut problem = "it has not started yet".to_owned();
    for address in &member.client_ur_ls {
        let answer = match connections.member_at(address, PATIENCE) {
            Ok(Member { channel, .. }) => ask(channel).await,
            Err(error) => {
                problem = error.to_string();
                continue;
            }
        };
        match answer {
            Ok(said) if said.header.as_ref().map(|header| header.member_id) == Some(member.id) => {
                return Ok(said);
            }
            Ok(_) => problem = format!("another member answers at {address}"),
            Err(status) => {
                problem = format!("it does not answer at {address}: {}", status.message())
            }
        }
    }
    Err(problem)
}

/// Makes one change. Those that were made already count as done, as far as that can be told.
pub(super) async fn change(connections: &Connections, change: EtcdChange) -> Result<(), KvError> {
    let member = |status: Result<(), KvError>, done: &str| match status {
        Err(KvError::Unavailable(reason)) if reason.contains(done) => Ok(()),
        other => other,
    };
    match change {
        EtcdChange::Add { peer } => {
            let message = proto::MemberAddRequest {
                peer_ur_ls: vec![peer],
                is_learner: true,
            };
            let ask = |channel, until| {
                let request = request(message.clone(), until);
                async move { ClusterClient::new(channel).member_add(request).await }
            };
            let added = connections.call(Tries::Once, ask).await;
            // Within a second of the first time it is told apart by its id, later by its address.
            member(
                member(added.map(drop), "Peer URLs already exists"),
                "member ID already exist",
            )
        }
        EtcdChange::Promote { member: id } => {
            let ask = |channel, until| async move {
                let request = request(proto::MemberPromoteRequest { id }, until);
                ClusterClient::new(channel).member_promote(request).await
            };
            let promoted = connections.call(Tries::Once, ask).await;
            member(promoted.map(drop), "can only promote a learner member (")
        }
        EtcdChange::Remove { member: id } => {
            let ask = |channel, until| async move {
                let request = request(proto::MemberRemoveRequest { id }, until);
                ClusterClient::new(channel).member_remove(request).await
            };
            let removed = connections.call(Tries::Repeat, ask).await;
            member(removed.map(drop), "member not found")
        }
        EtcdChange::Readdress { member, peer } => {
            let message = proto::MemberUpdateRequest {
                id: member,
                peer_ur_ls: vec![peer],
            };
            let ask = |channel, until| {
                let request = request(message.clone(), until);
                async move { ClusterClient::new(channel).member_update(request).await }
            };
            connections.call(Tries::Repeat, ask).await.map(drop)
        }
        EtcdChange::Defragment { client } => defragment(connections, &client).await,
        EtcdChange::Disarm { member } => {
            let message = proto::AlarmRequest {
                action: proto::alarm_request::AlarmAction::Deactivate.into(),
                member_id: member,
                alarm: proto::AlarmType::Nospace.into(),
            };
            let ask = |channel, until| async move {
                MaintenanceClient::new(channel)
                    .alarm(request(message, until))
                    .await
            };
            connections.call(Tries::Repeat, ask).await.map(drop)
        }
    }
}

/// Has one member give back what it does not use. It answers nobody meanwhile.
async fn defragment(connections: &Connections, client: &str) -> Result<(), KvError> {
    let member = connections.member_at(client, PATIENCE)?;
    let mut request = Request::new(proto::DefragmentRequest {});
    request.set_timeout(DEFRAGMENT_PATIENCE);
    let mut client = MaintenanceClient::new(member.channel);
    let done = tokio::time::timeout(DEFRAGMENT_PATIENCE, client.defragment(request)).await;
    match done {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(error_of(&member.address, &status)),
        Err(_elapsed) => Err(error_of(
            &member.address,
            &Status::deadline_exceeded("it is still being defragmented"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn header() -> Option<proto::ResponseHeader> {
        Some(proto::ResponseHeader {
            cluster_id: 3,
            member_id: 5,
            revision: 7,
        })
    }

    fn status() -> proto::StatusResponse {
        proto::StatusResponse {
            header: header(),
            version: "3.4.23".to_owned(),
            db_size: 20_480,
            leader: 5,
            raft_applied_index: 99,
            db_size_in_use: -1,
        }
    }

    fn list() -> proto::MemberListResponse {
        let member = proto::Member {
            id: 5,
            name: "n1".to_owned(),
            peer_ur_ls: vec!["http://10.0.0.1:2380".to_owned()],
            client_ur_ls: vec!["http://10.0.0.1:2379".to_owned()],
            is_learner: true,
        };
        proto::MemberListResponse {
            header: header(),
            members: vec![member, proto::Member::default()],
        }
    }

    fn warned() -> proto::AlarmResponse {
        let alarm = |alarm| proto::AlarmMember {
            member_id: 5,
            alarm,
        };
        proto::AlarmResponse {
            header: header(),
            alarms: vec![alarm(proto::AlarmType::Nospace.into()), alarm(77)],
        }
    }

    /// All that is done with what members say of themselves and of each other.
    fn judge_all(bytes: &[u8]) {
        let alarms = proto::AlarmResponse::decode(bytes).map(|said| said.alarms);
        let alarms = alarms.unwrap_or_else(|_| warned().alarms);
        let members = proto::MemberListResponse::decode(bytes).map(|said| said.members);
        let members = members.unwrap_or_else(|_| list().members);
        let away = strays(&members, &alarms);
        assert!(members.iter().all(|member| !away.contains(&member.id)));
        for member in members {
            let judged = listed(member, &alarms);
            if let Ok(said) = proto::StatusResponse::decode(bytes) {
                let of = said.header.as_ref().map(|header| header.cluster_id);
                let leader = said.leader;
                let described = describe(judged, said, 3);
                let well = of == Some(3) && leader != 0;
                assert_eq!(described.problem.is_none(), well);
            }
        }
    }

    #[test]
    fn fuzz_corpus_of_what_members_say() {
        let target = fuzz::target!("etcd-members");
        let committed = target.sample("status", &status().encode_to_vec());
        assert_eq!(proto::StatusResponse::decode(&committed[..]), Ok(status()));
        let committed = target.sample("list", &list().encode_to_vec());
        assert_eq!(
            proto::MemberListResponse::decode(&committed[..]),
            Ok(list())
        );
        let committed = target.sample("alarms", &warned().encode_to_vec());
        assert_eq!(proto::AlarmResponse::decode(&committed[..]), Ok(warned()));
        target.play(judge_all);
    }

    #[test]
    fn a_warning_of_a_member_that_was_removed_is_a_strays() {
        let warned = |member_id, alarm: proto::AlarmType| proto::AlarmMember {
            member_id,
            alarm: alarm.into(),
        };
        let alarms = [
            warned(9, proto::AlarmType::Nospace),
            warned(5, proto::AlarmType::Nospace),
            warned(9, proto::AlarmType::Nospace),
            warned(7, proto::AlarmType::Corrupt),
        ];
        assert_eq!(strays(&list().members, &alarms), [9]);
    }

    #[test]
    fn odd_numbers_of_a_member_are_none() {
        let judged = describe(
            listed(list().members.remove(0), &warned().alarms),
            status(),
            3,
        );
        assert_eq!((judged.bytes, judged.bytes_used), (20_480, 0));
        assert!(judged.leads && judged.problem.is_none(), "{judged:?}");
        assert_eq!(judged.alarms, ["NONE", "NOSPACE"]);
        let elsewhere = describe(listed(list().members.remove(0), &[]), status(), 4);
        assert!(elsewhere.problem.is_some());
    }
}
