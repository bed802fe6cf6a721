//! The stream: what changes is told, in order, also to those who come again; and not to everybody.

use super::Server;
use crate::{Auth, BoxFuture, Digest};
use api::stream::{ChangeAnswer, ChangesAnswer};
use api::{Answer, LogLevel, LogLineAnswer, LogQuery, LogsAnswer, Operation, OperationError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A node whose volume 7 changes with each revision.
#[derive(Clone)]
pub(super) struct Changes(Arc<watch::Sender<u64>>);

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(10)))
    }
}

impl Changes {
    pub(super) fn answer(
        &self,
        after: Option<u64>,
    ) -> BoxFuture<'static, Result<Answer, OperationError>> {
        let mut revision = self.0.subscribe();
        Box::pin(async move {
            let from = after.unwrap_or(0);
            let newest = *revision
                .wait_for(|revision| *revision > from || from > 1000)
                .await
                .unwrap();
            let reset = from > 1000;
            let changes = match after {
                Some(_) if !reset => vec![ChangeAnswer {
                    kind: "volume".to_owned(),
                    id: 7,
                    gone: false,
                }],
                _ => Vec::new(),
            };
            Ok(Answer::Changes(ChangesAnswer {
                revision: newest,
                reset,
                changes,
                mood: String::new(),
            }))
        })
    }
}

/// Nodes that write one line between two looks; each answer has the one before it, too.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<AtomicU64>);

impl Lines {
    pub(super) fn answer(&self, query: &LogQuery) -> Result<Answer, OperationError> {
        if query.node.as_deref() == Some("nobody") {
            return Err(OperationError::not_found("there is no node nobody"));
        }
        let newest = self.0.fetch_add(1, Ordering::SeqCst) + 10;
        let line = |number| LogLineAnswer {
            node: "a".to_owned(),
            number,
            at_ms: number * 1000,
            level: LogLevel::Info,
            target: "node".to_owned(),
            message: format!("line {number}"),
            fields: [("from".to_owned(), format!("{:?}", query.from))].into(),
            origin: None,
        };
        Ok(Answer::Logs(LogsAnswer {
            lines: vec![line(newest - 1), line(newest)],
            ..LogsAnswer::default()
        }))
    }
}

struct Listener(BufReader<TcpStream>);

impl Listener {
    async fn begin(server: &Server, headers: &str) -> Self {
        Self::begin_at(server, "/stream", headers).await
    }

    async fn begin_at(server: &Server, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        let head = format!("GET /api/v1{path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await.unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Id and name of the next event; nothing at the end.
    async fn event(&mut self) -> Option<(u64, String)> {
        loop {
            if let Some(id) = self.line().await?.strip_prefix("id: ") {
                let id = id.parse().unwrap();
                let name = self.line().await?;
                return Some((id, name.strip_prefix("event: ").unwrap().to_owned()));
            }
        }
    }
}

#[tokio::test]
async fn changes_are_told_in_order_and_to_those_who_come_again() {
    let server = Server::start().await;
    let mut one = Listener::begin(&server, "").await;
    assert_eq!(one.line().await.unwrap(), "HTTP/1.1 200 OK");
    let name = |name: &str| name.to_owned();
    assert_eq!(one.event().await, Some((10, name("changes"))));
    server.fake.changes.0.send_replace(11);
    assert_eq!(one.event().await, Some((11, name("changes"))));
    server.fake.changes.0.send_replace(12);
    assert_eq!(one.event().await, Some((12, name("changes"))));
    drop(one);
    let mut again = Listener::begin(&server, "Last-Event-ID: 11\r\n").await;
    assert_eq!(again.event().await, Some((12, name("changes"))));
    server.fake.changes.0.send_replace(13);
    assert_eq!(again.event().await, Some((13, name("changes"))));
    let mut lost = Listener::begin(&server, "Last-Event-ID: 2000\r\n").await;
    assert_eq!(lost.event().await, Some((13, name("reset"))));
}

#[tokio::test]
async fn lines_are_told_once_from_where_one_stopped() {
    let mut server = Server::start().await;
    let mut one = Listener::begin_at(&server, "/logs/follow?from=9000&level=info", "").await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let (id, name) = one.event().await.unwrap();
        assert_eq!(name, "lines");
        let data = one.line().await.unwrap();
        let data = data.strip_prefix("data: ").unwrap().to_owned();
        let answer: LogsAnswer = serde_json::from_str(&data).unwrap();
        assert_eq!(answer.lines.last().unwrap().at_ms, id);
        told.extend(answer.lines.iter().map(|line| line.number));
    }
    assert_eq!(told, [9, 10, 11]);
    // Nobody is asked for all that there ever was.
    let asked = server.fake.asked.lock().unwrap().clone();
    let from = |operation: &Operation| match operation {
        Operation::Logs(query) => query.from,
        _ => None,
    };
    assert_eq!(asked.iter().find_map(from), Some(9_000));
    let mut again = Listener::begin_at(
        &server,
        "/logs/follow?from=9000",
        "Last-Event-ID: 60000\r\n",
    )
    .await;
    assert!(again.event().await.is_some());
    let asked = server.fake.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().rev().find_map(from), Some(55_000));
    drop(server.stop.take());
    while one.event().await.is_some() {}
    assert!((&mut server.served).await.unwrap().is_ok());
}

#[tokio::test]
async fn lines_that_make_no_sense_are_refused() {
    let server = Server::start_with(Auth::Tokens { admin: None }).await;
    for (token, query, status) in [
        ("azk_client", "", "403"),
        ("azk_viewer", "?limit=5", "400"),
        ("azk_viewer", "?to=5", "400"),
        ("azk_viewer", "?level=loud", "400"),
        ("azk_viewer", "?node=nobody", "404"),
        ("azk_viewer", "?node=a", "200"),
    ] {
        let header = format!("Authorization: Bearer {token}\r\n");
        let path = format!("/logs/follow{query}");
        let mut listener = Listener::begin_at(&server, &path, &header).await;
        let line = listener.line().await.unwrap();
        assert_eq!(line.split(' ').nth(1), Some(status), "{query}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_server() {
    let mut server = Server::start().await;
    let mut one = Listener::begin(&server, "").await;
    assert!(one.event().await.is_some());
    let began = std::time::Instant::now();
    drop(server.stop.take());
    assert_eq!(one.event().await, None);
    let ended = (&mut server.served).await.unwrap();
    assert!(ended.is_ok());
    assert!(began.elapsed().as_secs() < crate::STOP_SECONDS_MAX);
}

#[tokio::test]
async fn who_may_not_look_is_not_told() {
    let admin = Some(Digest::of("azk_administrator"));
    let server = Server::start_with(Auth::Tokens { admin }).await;
    for (token, status) in [
        ("azk_none", "401"),
        ("azk_csi", "403"),
        ("azk_client", "403"),
        ("azk_viewer", "200"),
        ("azk_administrator", "200"),
    ] {
        let header = format!("Authorization: Bearer {token}\r\n");
        let mut listener = Listener::begin(&server, &header).await;
        let line = listener.line().await.unwrap();
        assert_eq!(line.split(' ').nth(1), Some(status), "{token}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_session_that_opened_it() {
    for path in ["/stream", "/logs/follow"] {
        let server = super::accounts::start().await;
        let session = super::accounts::log_in(&server, "operator").await + "Connection: close\r\n";
        let mut stays = Listener::begin_at(&server, path, &session).await;
        let other = super::accounts::log_in(&server, "operator").await + "Connection: close\r\n";
        let mut ends = Listener::begin_at(&server, path, &other).await;
        assert!(stays.event().await.is_some() && ends.event().await.is_some());
        let headers = format!("{other}x-azekura-request: 1\r\n");
        let (status, answer) = server.send("DELETE /api/v1/session", &headers, b"").await;
        assert_eq!(status, 200, "{answer}");
        while ends.line().await.is_some() {}
        for _ in 0..3 {
            assert!(stays.line().await.is_some());
        }
    }
}
