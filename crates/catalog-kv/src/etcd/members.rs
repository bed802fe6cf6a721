//! Which members the etcd cluster has, and which of them answer.
//!
//! The list comes from any member, without a majority. Each configured endpoint is asked who it is; members that are none
//! of them are asked at the addresses that they tell others.

use super::connection::{Connections, channel_to, error_of};
use super::proto;
use catalog::kv::{KvError, KvMember, KvMembers};
use futures_util::future::join_all;
use proto::cluster_client::ClusterClient;
use proto::maintenance_client::MaintenanceClient;
use std::collections::BTreeMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use world::Duration;

/// Patience with one member: a verdict waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Members that are asked; etcd advises against more than 7.
const MEMBERS_MAX: usize = 32;

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

async fn list(channel: Channel) -> Result<Vec<proto::Member>, Status> {
    let request = plain(proto::MemberListRequest {
        linearizable: false,
    });
    let mut client = ClusterClient::new(channel);
    Ok(within(client.member_list(request)).await?.members)
}

/// Who is at the other end, and what is wrong with it.
async fn ask(channel: Channel) -> Result<(u64, Option<String>), Status> {
    let mut client = MaintenanceClient::new(channel);
    let status = within(client.status(plain(proto::StatusRequest {}))).await?;
    let member = status.header.map_or(0, |header| header.member_id);
    let problem = (status.leader == 0).then(|| "it knows no leader".to_owned());
    Ok((member, problem))
}

/// See the head of this file.
pub(super) async fn members(connections: &Connections) -> Result<KvMembers, KvError> {
    let channels = connections.channels();
    let lists = join_all(channels.iter().cloned().map(list));
    let asked = join_all(channels.iter().cloned().map(ask));
    let (lists, asked) = futures_util::future::join(lists, asked).await;
    let mut refused = Status::unavailable("no etcd endpoint is given");
    let mut listed = None;
    for list in lists {
        match list {
            // Of several that differ, one lags behind: the longest is the safe one to judge by.
            Ok(list) => listed = longer(listed, list),
            Err(status) => refused = status,
        }
    }
    let listed = listed.ok_or_else(|| error_of("every endpoint", &refused))?;
    let known: BTreeMap<u64, Option<String>> = asked.into_iter().flatten().collect();
    let voters = listed.into_iter().filter(|member| !member.is_learner);
    let members = voters.take(MEMBERS_MAX).map(|member| judge(member, &known));
    Ok(KvMembers {
        embedded: false,
        members: join_all(members).await,
    })
}

fn longer(
    known: Option<Vec<proto::Member>>,
    list: Vec<proto::Member>,
) -> Option<Vec<proto::Member>> {
    match known {
        Some(known) if known.len() >= list.len() => Some(known),
        _ => Some(list),
    }
}

async fn judge(member: proto::Member, known: &BTreeMap<u64, Option<String>>) -> KvMember {
    let problem = match known.get(&member.id) {
        Some(problem) => problem.clone(),
        None => reach(&member).await,
    };
    let name = match member.name.is_empty() {
        true => format!("{:x}", member.id),
        false => member.name,
    };
    KvMember { name, problem }
}

/// Asks a member at the addresses that it tells others; what is wrong with it.
async fn reach(member: &proto::Member) -> Option<String> {
    let mut problem = "it has not started yet".to_owned();
    for address in &member.client_ur_ls {
        let answer = match channel_to(address, PATIENCE) {
            Ok(channel) => ask(channel).await,
            Err(error) => {
                problem = error.to_string();
                continue;
            }
        };
        match answer {
            Ok((id, problem)) if id == member.id => return problem,
            Ok(_) => problem = format!("another member answers at {address}"),
            Err(status) => {
                problem = format!("it does not answer at {address}: {}", status.message())
            }
        }
    }
    Some(problem)
}
