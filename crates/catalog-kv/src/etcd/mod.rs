//! The catalog in an etcd cluster: a thin client of etcd's v3 protocol (3.4 and later).
//!
//! State: none but connections. Calls run on one background thread with a tokio runtime; futures of the
//! shards only wait for its replies.
//!
//! Invariants
//! - Reads and renewals are tried again on another endpoint within the timeout. Transactions, grants and
//!   revocations are tried again only if they certainly never left this process.
//! - What may or may not have happened is [`KvError::Unavailable`].
//! - A watch outlives connections, servers and clean ends of its stream: it resumes after the last revision
//!   it has delivered (`watch.rs`).
//! - Every key is stored behind the namespace and comes back without it.
//!
//! It does not compact etcd's history by itself: run etcd with `--auto-compaction-retention=1h` or call
//! [`EtcdKv::compact`], or its database grows without bound. It knows certificates, no passwords.
//!
//! Read next: `connection.rs`, `watch.rs`, `members.rs`, `tls.rs`, proto/etcd.proto.

mod connection;
mod members;
mod tls;
mod watch;

pub use tls::{EtcdTls, Shown};

mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("etcdserverpb");
}

use crate::limits::{check_txn, ttl_seconds};
use crate::reply;
use catalog::kv::{
    Change, Compare, Entry, Kv, KvError, KvFuture, KvMembers, LeaseId, Op, Outcome, Page, Revision,
    Watch,
};
use connection::{Connections, Tries};
use futures_util::future::BoxFuture;
use proto::kv_client::KvClient;
use proto::lease_client::LeaseClient;
use proto::maintenance_client::MaintenanceClient;
use std::sync::Arc;
use world::{Duration, LocalBoxFuture};

/// Where the catalog is.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The members' client addresses, such as `http://10.0.0.1:2379`. `http://` may be left out; `https://` needs `tls`.
    pub endpoints: Vec<String>,
    /// Put before every key, so that several clusters can share an etcd.
    pub namespace: String,
    /// How long a call may take, over all endpoints tried. At least 1 s.
    pub timeout: Duration,
    /// What to show and believe at `https://` addresses.
    pub tls: Option<EtcdTls>,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            namespace: "azekura/".to_owned(),
            timeout: Duration::from_secs(5),
            tls: None,
        }
    }
}

/// What a member says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStatus {
    /// Its version, such as `3.4.23`.
    pub version: String,
    /// Bytes of its database file.
    pub database_bytes: u64,
    /// Its member id.
    pub member: u64,
    /// The leader's member id; 0 when there is none.
    pub leader: u64,
    /// The store's revision.
    pub revision: Revision,
}

/// A change of etcd's members, or of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdChange {
    /// A member without a vote, whom the others reach there.
    Add {
        /// Its address for other members.
        peer: String,
    },
    /// A learner votes.
    Promote {
        /// Its id.
        member: u64,
    },
    /// A member is none any more.
    Remove {
        /// Its id.
        member: u64,
    },
    /// The others reach a member there.
    Readdress {
        /// Its id.
        member: u64,
        /// Its address for other members.
        peer: String,
    },
    /// A member gives back the space that it does not use. It answers nobody meanwhile.
    Defragment {
        /// Its address for clients.
        client: String,
    },
    /// A member that warned of too little space takes writes again.
    Disarm {
        /// Its id.
        member: u64,
    },
}

/// A client of an etcd cluster. Clones share its connections, also across threads; they are closed when the
/// last clone and watch is dropped, and calls under way fail then.
#[derive(Clone)]
pub struct EtcdKv(Arc<Inner>);

struct Inner {
    connections: Arc<Connections>,
    runtime: tokio::runtime::Handle,
    /// Dropped to stop the thread.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its own message.
            let _ended = thread.join();
        }
    }
}

fn closed() -> KvError {
    KvError::Unavailable("the etcd client was closed during the call".to_owned())
}

impl EtcdKv {
    /// A client of the cluster at `options.endpoints`. Connects when first used, so the cluster need not
    /// run yet; [`EtcdKv::status`] asks whether it does.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] when there is no endpoint, one is not an address, or no thread can start.
    pub fn connect(options: EtcdOptions) -> Result<Self, KvError> {
        let cannot = |error: std::io::Error| {
            KvError::Unavailable(format!("cannot start the etcd client's thread: {error}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(cannot)?;
        let handle = runtime.handle().clone();
        let connections = {
            // Lazy channels spawn their worker at once.
            let _inside = handle.enter();
            Connections::new(options)?
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("etcd".to_owned())
            .spawn(move || {
                // An error is the other half being dropped: what stopping means.
                let _stopped = runtime.block_on(stopped);
            })
            .map_err(cannot)?;
        Ok(Self(Arc::new(Inner {
            connections: Arc::new(connections),
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
        })))
    }

    /// What the member in use says about itself.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] when none answers in time.
    #[must_use]
    pub fn status(&self) -> KvFuture<EtcdStatus> {
        self.call(|connections| {
            Box::pin(async move {
                let ask = |channel, deadline| async move {
                    let mut client = MaintenanceClient::new(channel);
                    let request = connection::request(proto::StatusRequest {}, deadline);
                    client.status(request).await
                };
                let reply = connections.call(Tries::Repeat, ask).await?;
                Ok(EtcdStatus {
                    version: reply.version,
                    database_bytes: u64::try_from(reply.db_size).unwrap_or(0),
                    member: reply.header.as_ref().map_or(0, |header| header.member_id),
                    leader: reply.leader,
                    revision: revision_in(reply.header)?,
                })
            })
        })
    }

    /// Uses the members at these addresses from now on. Connections to those that stay, stay.
    ///
    /// # Errors
    /// [`KvError::Unavailable`] when there is none, or one is not an address; nothing has changed then.
    pub fn set_endpoints(&self, endpoints: &[String]) -> Result<(), KvError> {
        let _inside = self.0.runtime.enter();
        self.0.connections.set_endpoints(endpoints)
    }

    /// The addresses in use.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let members = self.0.connections.members().into_iter();
        members.map(|member| member.address.clone()).collect()
    }

    /// Ids of the clusters whose members answer at the endpoints and know a leader: more than one where old ones were left.
    ///
    /// # Errors
    /// None; who does not answer is passed over.
    #[must_use]
    pub fn clusters(&self) -> KvFuture<Vec<u64>> {
        self.call(|connections| Box::pin(async move { Ok(members::clusters(&connections).await) }))
    }

    /// Talks to members of the cluster with this id only; 0: of any.
    pub fn expect_cluster(&self, cluster: u64) {
        self.0.connections.expect_cluster(cluster);
    }

    /// Changes the cluster. etcd itself refuses what would take its majority away, and a promotion that is too early.
    ///
    /// # Errors
    /// [`KvError::Unavailable`]: refused, or nobody knows. A retry is safe.
    #[must_use]
    pub fn change(&self, change: EtcdChange) -> KvFuture<()> {
        self.call(move |connections| {
            Box::pin(async move { members::change(&connections, change).await })
        })
    }

    /// Forgets the history before revision `before`; for all users of that etcd. Watches that lag behind
    /// it fail with [`KvError::Compacted`].
    ///
    /// # Errors
    /// [`KvError::Unavailable`] when no member answers in time, or `before` is still to come.
    #[must_use]
    pub fn compact(&self, before: Revision) -> KvFuture<()> {
        self.call(move |connections| {
            Box::pin(async move {
                let request = proto::CompactionRequest {
                    revision: signed(before),
                };
                let ask = |channel, deadline| async move {
                    let mut client = KvClient::new(channel);
                    client.compact(connection::request(request, deadline)).await
                };
                match connections.call(Tries::Repeat, ask).await {
                    Ok(_) | Err(KvError::Compacted(_)) => Ok(()),
                    Err(error) => Err(error),
                }
            })
        })
    }

    /// Runs a call on the background thread.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Connections>) -> BoxFuture<'static, Result<T, KvError>> + 'static,
    ) -> KvFuture<T> {
        let inner = self.0.clone();
        Box::pin(async move {
            let (sender, receiver) = reply::channel();
            let work = work(inner.connections.clone());
            inner.runtime.spawn(async move { sender.send(work.await) });
            // `inner` is kept until the reply: the thread must not end before.
            let result = receiver.await.unwrap_or_else(|| Err(closed()));
            drop(inner);
            result
        })
    }
}

fn revision_in(header: Option<proto::ResponseHeader>) -> Result<Revision, KvError> {
    let revision = header.map_or(0, |header| header.revision);
    match Revision::try_from(revision) {
        Ok(revision @ 1..) => Ok(revision),
        _ => Err(KvError::Unavailable(format!(
            "the endpoint answers with revision {revision}: is it really an etcd?"
        ))),
    }
}

/// The least key behind all keys that start with `prefix`; etcd's "no end" when there is none.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// etcd takes no empty key; `\0` is the least.
fn range_start(key: Vec<u8>) -> Vec<u8> {
    if key.is_empty() { vec![0] } else { key }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn compare_of(connections: &Connections, compare: &Compare) -> proto::Compare {
    use proto::compare::{CompareResult, CompareTarget, TargetUnion};
    let (key, target, union) = match compare {
        Compare::Version(key, version) => (
            key,
            CompareTarget::Mod,
            TargetUnion::ModRevision(signed(*version)),
        ),
        Compare::Absent(key) => (key, CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    proto::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: connections.full_key(key),
        target_union: Some(union),
    }
}

fn op_of(connections: &Connections, op: Op) -> proto::RequestOp {
    use proto::request_op::Request;
    let put = |key: String, value, lease: i64| {
        Request::RequestPut(proto::PutRequest {
            key: connections.full_key(&key),
            value,
            lease,
        })
    };
    let request = match op {
        Op::Put(key, value) => put(key, value, 0),
        Op::PutLeased(key, value, lease) => put(key, value, signed(lease.0)),
        Op::Delete(key) => Request::RequestDeleteRange(proto::DeleteRangeRequest {
            key: connections.full_key(&key),
        }),
    };
    proto::RequestOp {
        request: Some(request),
    }
}

fn entry_of(connections: &Connections, row: proto::KeyValue) -> Result<Entry, KvError> {
    let Some(key) = connections.short_key(&row.key) else {
        return Err(KvError::Damaged(format!(
            "etcd key {} is not one of ours: who else writes into this namespace?",
            row.key.escape_ascii()
        )));
    };
    Ok(Entry {
        key,
        value: row.value,
        version: Revision::try_from(row.mod_revision).unwrap_or(0),
    })
}

async fn range(
    connections: &Connections,
    request: proto::RangeRequest,
) -> Result<proto::RangeResponse, KvError> {
    let ask = |channel, deadline| {
        let request = connection::request(request.clone(), deadline);
        async move {
            let mut client =
                KvClient::new(channel).max_decoding_message_size(connection::MESSAGE_BYTES_MAX);
            client.range(request).await
        }
    };
    connections.call(Tries::Repeat, ask).await
}

/// Rows read by one call of a snapshot.
const SNAPSHOT_ROWS: usize = 500;

/// All rows as they were at the revision of the first page.
async fn snapshot(connections: &Connections, prefix: &str) -> Result<Page, KvError> {
    let mut whole = page(connections, prefix, None, SNAPSHOT_ROWS, 0).await?;
    while whole.more {
        let last = whole.entries.last().map(|entry| entry.key.clone());
        let at = whole.revision;
        let next = page(connections, prefix, last.as_deref(), SNAPSHOT_ROWS, at).await?;
        whole.more = next.more && !next.entries.is_empty();
        whole.entries.extend(next.entries);
    }
    Ok(whole)
}

/// A page as of `revision`; 0: as of now.
async fn page(
    connections: &Connections,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    revision: Revision,
) -> Result<Page, KvError> {
    let mut start = connections.full_key(prefix);
    let range_end = prefix_end(&start);
    if let Some(after) = after.filter(|after| *after >= prefix) {
        start = connections.full_key(after);
        start.push(0);
    }
    let request = proto::RangeRequest {
        key: range_start(start),
        range_end,
        // etcd takes 0 for "no limit".
        limit: i64::try_from(limit.max(1)).unwrap_or(i64::MAX),
        revision: signed(revision),
    };
    let reply = range(connections, request).await?;
    let more = reply.more || reply.kvs.len() > limit;
    let rows = reply.kvs.into_iter().take(limit);
    let entries = rows.map(|row| entry_of(connections, row));
    Ok(Page {
        entries: entries.collect::<Result<_, _>>()?,
        more,
        revision: revision_in(reply.header)?,
    })
}

async fn txn(
    connections: &Connections,
    compares: Vec<Compare>,
    changes: Vec<Op>,
) -> Result<Outcome, KvError> {
    let compare = compares.iter();
    let compare = compare.map(|compare| compare_of(connections, compare));
    let success = changes.into_iter().map(|op| op_of(connections, op));
    let request = proto::TxnRequest {
        compare: compare.collect(),
        success: success.collect(),
    };
    let ask = |channel, deadline| {
        let request = connection::request(request.clone(), deadline);
        async move { KvClient::new(channel).txn(request).await }
    };
    let reply = connections.call(Tries::Once, ask).await?;
    if !reply.succeeded {
        return Ok(Outcome::Conflict);
    }
    revision_in(reply.header).map(Outcome::Committed)
}

async fn renew(connections: &Connections, lease: LeaseId) -> Result<(), KvError> {
    let ask = |channel, deadline| async move {
        let once = proto::LeaseKeepAliveRequest {
            id: signed(lease.0),
        };
        let once = futures_util::stream::iter([once]);
        let mut client = LeaseClient::new(channel);
        let reply = client.lease_keep_alive(connection::request(once, deadline));
        let mut replies = reply.await?.into_inner();
        let none = || tonic::Status::unavailable("the stream ended without a reply");
        let reply = replies.message().await?.ok_or_else(none)?;
        Ok(tonic::Response::new(reply))
    };
    let reply = connections.call(Tries::Repeat, ask).await?;
    if reply.ttl <= 0 {
        return Err(KvError::LeaseEnded);
    }
    Ok(())
}

async fn grant(connections: &Connections, ttl: Duration) -> Result<LeaseId, KvError> {
    let request = proto::LeaseGrantRequest {
        ttl: signed(ttl_seconds(ttl)),
    };
    let ask = |channel, deadline| async move {
        let mut client = LeaseClient::new(channel);
        client
            .lease_grant(connection::request(request, deadline))
            .await
    };
    let reply = connections.call(Tries::Once, ask).await?;
    match u64::try_from(reply.id) {
        Ok(id @ 1..) if reply.error.is_empty() => Ok(LeaseId(id)),
        _ => Err(KvError::Unavailable(format!(
            "etcd grants no lease: {}",
            reply.error
        ))),
    }
}

async fn revoke(connections: &Connections, lease: LeaseId) -> Result<(), KvError> {
    let request = proto::LeaseRevokeRequest {
        id: signed(lease.0),
    };
    let ask = |channel, deadline| async move {
        let mut client = LeaseClient::new(channel);
        client
            .lease_revoke(connection::request(request, deadline))
            .await
    };
    match connections.call(Tries::Repeat, ask).await {
        Ok(_) | Err(KvError::LeaseEnded) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Kv for EtcdKv {
    fn get(&self, key: &str) -> KvFuture<Option<Entry>> {
        let key = key.to_owned();
        self.call(move |connections| {
            Box::pin(async move {
                let request = proto::RangeRequest {
                    key: range_start(connections.full_key(&key)),
                    range_end: Vec::new(),
                    limit: 1,
                    ..proto::RangeRequest::default()
                };
                let row = range(&connections, request).await?.kvs.pop();
                row.map(|row| entry_of(&connections, row)).transpose()
            })
        })
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> KvFuture<Page> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.call(move |connections| {
            Box::pin(async move { page(&connections, &prefix, after.as_deref(), limit, 0).await })
        })
    }

    fn snapshot(&self, prefix: &str) -> KvFuture<Page> {
        let prefix = prefix.to_owned();
        self.call(move |connections| Box::pin(async move { snapshot(&connections, &prefix).await }))
    }

    fn txn(&self, compares: Vec<Compare>, changes: Vec<Op>) -> KvFuture<Outcome> {
        if let Err(error) = check_txn(&compares, &changes) {
            return Box::pin(std::future::ready(Err(error)));
        }
        self.call(move |connections| {
            Box::pin(async move { txn(&connections, compares, changes).await })
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Box<dyn Watch> {
        let connections = self.0.connections.clone();
        let (sender, receiver) = tokio::sync::mpsc::channel(watch::DELIVERIES_MAX);
        let task = watch::run(connections, prefix.to_owned(), after, sender);
        self.0.runtime.spawn(task);
        Box::new(EtcdWatch {
            inner: self.0.clone(),
            receiver,
            compacted: None,
        })
    }

    fn grant(&self, ttl: Duration) -> KvFuture<LeaseId> {
        self.call(move |connections| Box::pin(async move { grant(&connections, ttl).await }))
    }

    fn renew(&self, lease: LeaseId) -> KvFuture<()> {
        self.call(move |connections| Box::pin(async move { renew(&connections, lease).await }))
    }

    fn revoke(&self, lease: LeaseId) -> KvFuture<()> {
        self.call(move |connections| Box::pin(async move { revoke(&connections, lease).await }))
    }

    fn members(&self) -> KvFuture<KvMembers> {
        self.call(|connections| Box::pin(async move { members::members(&connections).await }))
    }
}

struct EtcdWatch {
    /// Keeps the thread of `receiver`'s other half.
    #[expect(dead_code, reason = "held, not used")]
    inner: Arc<Inner>,
    receiver: tokio::sync::mpsc::Receiver<Result<Vec<Change>, Revision>>,
    compacted: Option<Revision>,
}

impl Watch for EtcdWatch {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Vec<Change>, KvError>> {
        Box::pin(async move {
            if let Some(revision) = self.compacted {
                return Err(KvError::Compacted(revision));
            }
            match self.receiver.recv().await {
                Some(Ok(changes)) => Ok(changes),
                Some(Err(revision)) => {
                    self.compacted = Some(revision);
                    Err(KvError::Compacted(revision))
                }
                None => Err(KvError::Damaged(
                    "the watch's task has ended, which is a bug: restart the process and report it"
                        .to_owned(),
                )),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_that_does_not_start_with_it() {
        assert_eq!(prefix_end(b"a/"), b"a0");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
        assert_eq!(range_start(Vec::new()), b"\0");
    }

    fn client() -> EtcdKv {
        EtcdKv::connect(EtcdOptions::default()).expect("nothing is connected yet")
    }

    #[test]
    fn fuzz_any_reply_is_rows_or_an_error() {
        use prost::Message;
        let client = client();
        let connections = &client.0.connections;
        let row = |key: &[u8], mod_revision| proto::KeyValue {
            key: key.to_vec(),
            mod_revision,
            value: b"{}".to_vec(),
        };
        let header = Some(proto::ResponseHeader {
            revision: 7,
            ..proto::ResponseHeader::default()
        });
        let good = proto::RangeResponse {
            header,
            kvs: vec![row(b"azekura/volume/1", 5), row(b"azekura/\xff", -1)],
            more: true,
        };
        let decode = |bytes: &[u8]| {
            if let Ok(reply) = proto::RangeResponse::decode(bytes) {
                let _ = revision_in(reply.header);
                for row in reply.kvs {
                    let _ = entry_of(connections, row);
                }
            }
            let _ = proto::TxnResponse::decode(bytes).map(|reply| revision_in(reply.header));
            let _ = proto::LeaseGrantResponse::decode(bytes);
            let _ = proto::WatchResponse::decode(bytes);
        };
        let target = fuzz::target!("etcd-reply");
        let committed = target.sample("range", &good.encode_to_vec());
        assert_eq!(
            proto::RangeResponse::decode(&committed[..]).as_ref(),
            Ok(&good)
        );
        let change = proto::TxnResponse {
            header,
            succeeded: true,
        };
        let committed = target.sample("transaction", &change.encode_to_vec());
        assert_eq!(proto::TxnResponse::decode(&committed[..]), Ok(change));
        target.play(decode);
        let good = good.encode_to_vec();
        let changes =
            proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..5);
        let cases = (
            changes,
            proptest::collection::vec(any::<u8>(), 0..100),
            any::<bool>(),
        );
        proptest!(|((changes, other, whole) in cases)| {
            let mut bytes = if whole { good.clone() } else { other };
            for (at, value) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            decode(&bytes);
        });
    }

    #[test]
    fn unusable_endpoints_are_refused() {
        let connect = |endpoints: &[&str]| {
            let endpoints = endpoints.iter().map(|text| (*text).to_owned()).collect();
            let options = EtcdOptions {
                endpoints,
                ..EtcdOptions::default()
            };
            EtcdKv::connect(options).map(drop)
        };
        assert_eq!(connect(&["127.0.0.1:2379", "http://[::1]:2379"]), Ok(()));
        for (endpoints, reason) in [
            (&[][..], "no etcd endpoint"),
            (&["https://127.0.0.1:2379"][..], "has no certificate"),
            (&["http://spa ces:1"][..], "spa ces"),
            (&[""][..], "is not an address"),
        ] {
            let Err(KvError::Unavailable(text)) = connect(endpoints) else {
                panic!("{endpoints:?} was accepted");
            };
            assert!(text.contains(reason), "{text}");
        }
    }
}
