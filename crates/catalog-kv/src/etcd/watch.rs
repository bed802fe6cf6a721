//! A watch of etcd that never gives up: streams end, members go, the watch resumes after the last
//! revision it has handed over.
//!
//! etcd sends the events of one revision in one message (`fragment` is off), so a revision is handed over
//! as a whole or again. Progress notifications move an idle watch past revisions of other keys, so that
//! compaction does not end it.

use super::connection::{Connections, MESSAGE_BYTES_MAX, leader_request};
use super::proto::watch_client::WatchClient;
use super::proto::watch_request::RequestUnion;
use super::{prefix_end, proto, range_start, signed};
use catalog::kv::{Change, Entry, Revision};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tonic::Streaming;

/// Deliveries that wait for a slow watcher; then etcd's stream is left to wait.
pub(super) const DELIVERIES_MAX: usize = 16;
const RECONNECT_WAIT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(2);

type Deliveries = Sender<Result<Vec<Change>, Revision>>;

/// Why a stream ended.
enum End {
    /// Nothing is wrong with the watch: open it again.
    Lost,
    /// The history is gone; the watch is over.
    Compacted,
    /// Nobody listens any more.
    Dropped,
}

struct Task {
    connections: Arc<Connections>,
    prefix: String,
    /// Everything up to here has been handed over.
    through: Revision,
    deliveries: Deliveries,
}

/// Delivers changes under `prefix` after revision `after` until the receiver is dropped.
pub(super) async fn run(
    connections: Arc<Connections>,
    prefix: String,
    after: Revision,
    deliveries: Deliveries,
) {
    let listener = deliveries.clone();
    let task = Task {
        connections,
        prefix,
        through: after,
        deliveries,
    };
    let dropped = std::pin::pin!(listener.closed());
    futures_util::future::select(std::pin::pin!(task.follow()), dropped).await;
}

fn revision_of(change: &Change) -> Revision {
    match change {
        Change::Put(entry) => entry.version,
        Change::Deleted { revision, .. } => *revision,
    }
}

impl Task {
    async fn follow(mut self) {
        let mut wait = RECONNECT_WAIT_MIN;
        loop {
            let before = self.through;
            let (member, turn) = self.connections.current();
            let until = Instant::now() + self.connections.timeout;
            let checked = self.connections.check_cluster(&member, until).await;
            let mut client = WatchClient::new(member.channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            let opened = async {
                checked?;
                client.watch(leader_request(self.requests())).await
            };
            let opened = tokio::time::timeout_at(until, opened).await;
            let end = match opened {
                Ok(Ok(stream)) => self.read(stream.into_inner()).await,
                Ok(Err(_)) | Err(_) => End::Lost,
            };
            match end {
                End::Lost => self.connections.leave(turn),
                End::Dropped => return,
                End::Compacted => {
                    // A receiver that is gone needs no farewell.
                    let _gone = self.deliveries.send(Err(self.through)).await;
                    return;
                }
            }
            wait = if self.through > before {
                RECONNECT_WAIT_MIN
            } else {
                (wait * 2).min(RECONNECT_WAIT_MAX)
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One request, on a stream that stays open: etcd ends the watch when the client's side ends.
    fn requests(&self) -> impl futures_util::Stream<Item = proto::WatchRequest> + Send + 'static {
        let key = self.connections.full_key(&self.prefix);
        let create = proto::WatchCreateRequest {
            range_end: prefix_end(&key),
            key: range_start(key),
            start_revision: signed(self.through.saturating_add(1)),
            progress_notify: true,
        };
        let request = proto::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        futures_util::stream::iter([request]).chain(futures_util::stream::pending())
    }

    async fn read(&mut self, mut stream: Streaming<proto::WatchResponse>) -> End {
        // The first message confirms the watch and comes at once; the others may take forever, and pings
        // tell whether the peer is alive.
        let timeout = self.connections.timeout;
        let mut message = match tokio::time::timeout(timeout, stream.message()).await {
            Ok(message) => message,
            Err(_elapsed) => return End::Lost,
        };
        loop {
            let Ok(Some(response)) = message else {
                return End::Lost;
            };
            if response.compact_revision > 0 {
                return End::Compacted;
            }
            if response.canceled {
                return End::Lost;
            }
            if !self.deliver(response).await {
                return End::Dropped;
            }
            message = stream.message().await;
        }
    }

    /// Hands one message over; false when nobody listens.
    async fn deliver(&mut self, response: proto::WatchResponse) -> bool {
        if response.events.is_empty() {
            // A confirmation says nothing about events that are still to come; a progress notification
            // says that there are none up to its revision.
            let revision = response.header.map_or(0, |header| header.revision);
            if let (false, Ok(revision)) = (response.created, Revision::try_from(revision)) {
                self.through = self.through.max(revision);
            }
            return true;
        }
        let changes = response.events.into_iter();
        let changes: Vec<Change> = changes.filter_map(|event| self.change(event)).collect();
        let Some(last) = changes.last().map(revision_of) else {
            return true;
        };
        if self.deliveries.send(Ok(changes)).await.is_err() {
            return false;
        }
        self.through = self.through.max(last);
        true
    }

    /// A change as the catalog sees it; `None` for keys that are not text and thus not the catalog's.
    fn change(&self, event: proto::Event) -> Option<Change> {
        let deleted = event.r#type() == proto::event::EventType::Delete;
        let row = event.kv?;
        let key = self.connections.short_key(&row.key)?;
        let revision = Revision::try_from(row.mod_revision).ok()?;
        Some(if deleted {
            Change::Deleted { key, revision }
        } else {
            Change::Put(Entry {
                key,
                value: row.value,
                version: revision,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::{EtcdKv, EtcdOptions};
    use proptest::prelude::*;
    use prost::Message;

    #[test]
    fn fuzz_any_watch_message_is_delivered_or_passed_over() {
        let client = EtcdKv::connect(EtcdOptions::default()).expect("nothing is connected yet");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let event = |kind: i32, revision| proto::Event {
            r#type: kind,
            kv: Some(proto::KeyValue {
                key: b"azekura/volume/1".to_vec(),
                mod_revision: revision,
                ..proto::KeyValue::default()
            }),
        };
        let good = proto::WatchResponse {
            header: Some(proto::ResponseHeader {
                revision: 9,
                ..proto::ResponseHeader::default()
            }),
            events: vec![event(0, 8), event(1, 9)],
            ..proto::WatchResponse::default()
        };
        let decode = |bytes: &[u8]| {
            let Ok(response) = proto::WatchResponse::decode(bytes) else {
                return;
            };
            let (deliveries, mut receiver) = tokio::sync::mpsc::channel(DELIVERIES_MAX);
            let mut task = Task {
                connections: client.0.connections.clone(),
                prefix: "volume/".to_owned(),
                through: 5,
                deliveries,
            };
            assert!(runtime.block_on(task.deliver(response)));
            assert!(task.through >= 5, "a watch never goes back");
            if let Ok(Ok(changes)) = receiver.try_recv() {
                assert!(!changes.is_empty());
            }
        };
        let target = fuzz::target!("etcd-watch");
        let committed = target.sample("events", &good.encode_to_vec());
        assert_eq!(
            proto::WatchResponse::decode(&committed[..]).as_ref(),
            Ok(&good)
        );
        target.play(decode);
        let good = good.encode_to_vec();
        let changes =
            proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..5);
        proptest!(|(changes in changes, other in proptest::collection::vec(any::<u8>(), 0..100), whole: bool)| {
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
}
