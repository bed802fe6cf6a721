//! Connections to the members of an etcd cluster: which one to use, when to try another, what errors mean.
//!
//! One member is in use at a time; a failed call moves on to the next. Dead peers are noticed by the call's
//! timeout, and by HTTP/2 pings while a watch is open.

use super::EtcdOptions;
use catalog::kv::KvError;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
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

struct Member {
    address: String,
    channel: Channel,
}

/// See the head of this file.
pub(super) struct Connections {
    members: Vec<Member>,
    /// Counts failures; modulo the members, the one in use.
    current: AtomicUsize,
    namespace: String,
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

fn endpoint(text: &str, timeout: Duration) -> Result<(String, Endpoint), KvError> {
    if text.starts_with("https:") {
        let reason = format!("etcd endpoint {text}: TLS is not supported yet, use http://");
        return Err(KvError::Unavailable(reason));
    }
    let address = if text.starts_with("http://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let invalid = |reason: String| {
        KvError::Unavailable(format!(
            "etcd endpoint {text:?} is not an address such as http://10.0.0.1:2379: {reason}"
        ))
    };
    let endpoint =
        Endpoint::from_shared(address.clone()).map_err(|error| invalid(error.to_string()))?;
    if endpoint.uri().host().is_none_or(str::is_empty) {
        return Err(invalid("it names no host".to_owned()));
    }
    let endpoint = endpoint
        .connect_timeout(timeout.min(CONNECT_TIMEOUT_MAX))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false);
    Ok((address, endpoint))
}

fn member(text: &str, timeout: Duration) -> Result<Member, KvError> {
    let (address, endpoint) = endpoint(text, timeout)?;
    let channel = endpoint.connect_lazy();
    Ok(Member { address, channel })
}

/// A connection to a member at the address that it tells others; must run inside the runtime.
pub(super) fn channel_to(address: &str, timeout: Duration) -> Result<Channel, KvError> {
    member(address, timeout).map(|member| member.channel)
}

impl Connections {
    /// Prepares connections; must run inside the runtime that will serve them.
    pub(super) fn new(options: EtcdOptions) -> Result<Self, KvError> {
        if options.endpoints.is_empty() {
            return Err(KvError::Unavailable("no etcd endpoint is given".to_owned()));
        }
        let timeout = options.timeout.max(TIMEOUT_MIN);
        let members = options.endpoints.iter().map(|text| member(text, timeout));
        Ok(Self {
            members: members.collect::<Result<_, _>>()?,
            current: AtomicUsize::new(0),
            namespace: options.namespace,
            timeout,
        })
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

    /// Every configured connection.
    pub(super) fn channels(&self) -> Vec<Channel> {
        self.members
            .iter()
            .map(|member| member.channel.clone())
            .collect()
    }

    /// The connection in use, and its turn for [`Connections::leave`].
    pub(super) fn current(&self) -> (Channel, usize) {
        let turn = self.current.load(Ordering::Relaxed);
        (self.member(turn).channel.clone(), turn)
    }

    fn member(&self, turn: usize) -> &Member {
        &self.members[turn % self.members.len()]
    }

    /// Moves on to the next member, unless another call has done so since `turn`.
    pub(super) fn leave(&self, turn: usize) {
        let next = turn.wrapping_add(1);
        let _moved =
            self.current
                .compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed);
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
        let tries_max = self.members.len().max(2);
        let share = match tries {
            Tries::Repeat => self.timeout / u32::try_from(tries_max).unwrap_or(u32::MAX),
            Tries::Once => self.timeout,
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (channel, turn) = self.current();
            let until = deadline.min(Instant::now() + share.max(TIMEOUT_MIN));
            let status = match tokio::time::timeout_at(until, ask(channel, until)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_elapsed) => Status::deadline_exceeded("no answer in time"),
            };
            let address = &self.member(turn).address;
            let error = error_of(address, &status);
            if !matches!(error, KvError::Unavailable(_)) {
                return Err(error);
            }
            self.leave(turn);
            let again = tries == Tries::Repeat || never_left(&status);
            if !again || attempt >= tries_max || Instant::now() >= deadline {
                return Err(error);
            }
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
