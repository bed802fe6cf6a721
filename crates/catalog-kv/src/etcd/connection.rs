//! Connections to the members of an etcd cluster: which one to use, when to try another, what errors mean.
//!
//! One member is in use at a time; a failed call moves on to the next. Dead peers are noticed by the call's
//! timeout, and by HTTP/2 pings while a watch is open.
//!
//! Invariants
//! - Once a cluster's id is expected, no call reaches a member of another cluster.
//! - Members that stay when the endpoints change keep their connections.

use super::tls::EtcdTls;
use super::{EtcdOptions, proto};
use catalog::kv::KvError;
use proto::maintenance_client::MaintenanceClient;
use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use world::Duration;

/// A page of 500 rows of 1 MiB, and a watch's backlog of 1,000 revisions of 1 MiB, fit.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Pings of an idle connection with an open watch. etcd ends connections that ping more often than every
/// 5 s (`--grpc-keepalive-min-time`), or at all without a stream.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(2);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Whether a call that may have happened may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tries {
    /// Once is the same as twice.
    Repeat,
    /// Only calls that never left are tried again.
    Once,
}

pub(super) struct Member {
    pub(super) address: String,
    pub(super) channel: Channel,
    /// The cluster that it said it is of; 0: not asked yet.
    cluster: AtomicU64,
}

/// See the head of this file.
pub(super) struct Connections {
    members: RwLock<Vec<Arc<Member>>>,
    /// Counts failures; modulo the members, the one in use.
    current: AtomicUsize,
    /// The cluster that alone is talked to; 0: any.
    expected: AtomicU64,
    namespace: String,
    tls: Option<EtcdTls>,
    pub(super) timeout: Duration,
}

/// A request that etcd gives up at `deadline`, and refuses at a member that has lost its leader instead
/// of letting it hang.
pub(super) fn request<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = leader_request(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}

/// As [`request`], for streams that stay open.
pub(super) fn leader_request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = tonic::metadata::MetadataValue::from_static("true");
    request.metadata_mut().insert("hasleader", value);
    request
}

/// The address that is connected to, without its scheme, and whether it is to be encrypted.
fn endpoint(text: &str, timeout: Duration) -> Result<(Endpoint, bool), KvError> {
    let invalid = |reason: String| {
        KvError::Unavailable(format!(
            "etcd endpoint {text:?} is not an address such as http://10.0.0.1:2379: {reason}"
        ))
    };
    let (encrypted, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://").unwrap_or(text)),
    };
    // The scheme is not sent: encryption lies below.
    let endpoint = Endpoint::from_shared(format!("http://{rest}"))
        .map_err(|error| invalid(error.to_string()))?;
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(invalid("it names no host".to_owned()));
    }
    let endpoint = endpoint
        .connect_timeout(timeout.min(CONNECT_TIMEOUT_MAX))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false);
    Ok((endpoint, encrypted))
}

impl Connections {
    /// Prepares connections; must run inside the runtime that will serve them.
    pub(super) fn new(options: EtcdOptions) -> Result<Self, KvError> {
        let timeout = options.timeout.max(TIMEOUT_MIN);
        let connections = Self {
            members: RwLock::default(),
            current: AtomicUsize::new(0),
            expected: AtomicU64::new(0),
            namespace: options.namespace,
            tls: options.tls,
            timeout,
        };
        connections.set_endpoints(&options.endpoints)?;
        Ok(connections)
    }

    /// A connection to a member; must run inside the runtime.
    pub(super) fn member_at(&self, text: &str, timeout: Duration) -> Result<Member, KvError> {
        let (endpoint, encrypted) = endpoint(text, timeout)?;
        let channel = match (&self.tls, encrypted) {
            (Some(tls), true) => endpoint.connect_with_connector_lazy(tls.connector()),
            (None, true) => {
                let reason =
                    "it wants TLS, and this node has no certificate (`tls` in its configuration)";
                return Err(KvError::Unavailable(format!(
                    "etcd endpoint {text}: {reason}"
                )));
            }
            (_, false) => endpoint.connect_lazy(),
        };
        Ok(Member {
            address: text.to_owned(),
            channel,
            cluster: AtomicU64::new(0),
        })
    }

    /// Uses these members from now on; must run inside the runtime.
    pub(super) fn set_endpoints(&self, endpoints: &[String]) -> Result<(), KvError> {
        if endpoints.is_empty() {
            return Err(KvError::Unavailable("no etcd endpoint is given".to_owned()));
        }
        let known = self.members();
        let member = |text: &String| {
            let kept = known.iter().find(|member| member.address == *text);
            match kept {
                Some(kept) => Ok(kept.clone()),
                None => self.member_at(text, self.timeout).map(Arc::new),
            }
        };
        let members = endpoints.iter().map(member).collect::<Result<_, _>>()?;
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members;
        Ok(())
    }

    /// Talks to members of this cluster only; 0: of any.
    pub(super) fn expect_cluster(&self, cluster: u64) {
        self.expected.store(cluster, Ordering::Relaxed);
    }

    /// A key as etcd knows it.
    pub(super) fn full_key(&self, key: &str) -> Vec<u8> {
        [self.namespace.as_bytes(), key.as_bytes()].concat()
    }

    /// A key as the catalog knows it.
    pub(super) fn short_key(&self, key: &[u8]) -> Option<String> {
        let short = key.strip_prefix(self.namespace.as_bytes())?;
        String::from_utf8(short.to_vec()).ok()
    }

    /// Every member that is known.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        members.clone()
    }

    /// The member in use, and its turn for [`Connections::leave`].
    pub(super) fn current(&self) -> (Arc<Member>, usize) {
        let turn = self.current.load(Ordering::Relaxed);
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        (members[turn % members.len()].clone(), turn)
    }

    /// Moves on to the next member, unless another call has done so since `turn`.
    pub(super) fn leave(&self, turn: usize) {
        let next = turn.wrapping_add(1);
        let _moved =
            self.current
                .compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes sure that a member is of the expected cluster.
    pub(super) async fn check_cluster(
        &self,
        member: &Member,
        until: Instant,
    ) -> Result<(), Status> {
        let expected = self.expected.load(Ordering::Relaxed);
        if expected == 0 || member.cluster.load(Ordering::Relaxed) == expected {
            return Ok(());
        }
        let mut client = MaintenanceClient::new(member.channel.clone());
        let asked = client.status(request(proto::StatusRequest {}, until));
        let said = tokio::time::timeout_at(until, asked).await;
        let said = said.map_err(|_| Status::deadline_exceeded("no answer in time"))??;
        let cluster = said
            .into_inner()
            .header
            .map_or(0, |header| header.cluster_id);
        member.cluster.store(cluster, Ordering::Relaxed);
        match cluster == expected {
            true => Ok(()),
            false => Err(Status::unavailable(format!(
                "another etcd answers there: cluster {cluster:x}, not {expected:x}"
            ))),
        }
    }

    /// Makes a call, at up to all members, within the timeout. Each try is given an equal share of the
    /// time, so that a silent member leaves some for the others.
    pub(super) async fn call<T, F>(
        &self,
        tries: Tries,
        ask: impl Fn(Channel, Instant) -> F,
    ) -> Result<T, KvError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + self.timeout;
        // A single member gets a second chance: the first may be lost with a connection from before.
        let tries_max = self.members().len().max(2);
        let share = match tries {
            Tries::Repeat => self.timeout / u32::try_from(tries_max).unwrap_or(u32::MAX),
            Tries::Once => self.timeout,
        };
        let mut attempt = 0;
        let mut told = None;
        loop {
            attempt += 1;
            let (member, turn) = self.current();
            let until = deadline.min(Instant::now() + share.max(TIMEOUT_MIN));
            let checked = self.check_cluster(&member, until).await;
            let asked = checked.is_ok();
            let outcome = match checked {
                Ok(()) => tokio::time::timeout_at(until, ask(member.channel.clone(), until)).await,
                Err(status) => Ok(Err(status)),
            };
            let status = match outcome {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_elapsed) => Status::deadline_exceeded("no answer in time"),
            };
            let error = error_of(&member.address, &status);
            if !matches!(error, KvError::Unavailable(_)) {
                return Err(error);
            }
            if is_answer(&status) {
                return Err(error);
            }
            self.leave(turn);
            // What a member said tells more than that another one does not listen.
            let error = match told {
                Some(told) if never_left(&status) => told,
                _ => error,
            };
            let again = tries == Tries::Repeat || !asked || never_left(&status);
            if !again || attempt >= tries_max || Instant::now() >= deadline {
                return Err(error);
            }
            told = Some(error);
        }
    }
}

/// Whether the request was certainly not sent: there was no connection.
fn never_left(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the cluster has decided: there is no such lease or member. A second try at another would hide this behind what is
/// wrong with that one.
fn is_answer(status: &Status) -> bool {
    status.code() == Code::NotFound
}

/// What a failure means for the catalog. Anything that is not plainly an answer leaves open what happened.
pub(super) fn error_of(address: &str, status: &Status) -> KvError {
    let text = status.message();
    match status.code() {
        Code::NotFound if text.contains("lease not found") => KvError::LeaseEnded,
        Code::OutOfRange if text.contains("has been compacted") => KvError::Compacted(0),
        Code::DataLoss => KvError::Damaged(format!("etcd at {address}: {text}")),
        code => {
            let mut reason = format!("etcd at {address}: {text} ({code:?})");
            let mut cause = std::error::Error::source(status);
            while let Some(error) = cause {
                let error_text = error.to_string();
                if !reason.contains(&error_text) {
                    reason = format!("{reason}: {error_text}");
                }
                cause = error.source();
            }
            KvError::Unavailable(reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_answers_are_definite_errors() {
        let error = |code, text: &str| error_of("http://a:1", &Status::new(code, text));
        let ended = error(Code::NotFound, "etcdserver: requested lease not found");
        assert_eq!(ended, KvError::LeaseEnded);
        let damaged = error(Code::DataLoss, "etcdserver: corrupt cluster");
        assert!(matches!(damaged, KvError::Damaged(_)));
        let text = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(error(Code::OutOfRange, text), KvError::Compacted(0));
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown] {
            let KvError::Unavailable(text) = error(code, "why") else {
                panic!("{code:?} says nothing definite");
            };
            assert!(
                text.contains("http://a:1") && text.contains("why"),
                "{text}"
            );
        }
    }
}
