//! `GET /api/v1/logs/follow`: lines of the nodes' logs as they come, as server-sent events `lines`.
//!
//! An event's id is the time of the newest line that was told. Who comes again says it in `Last-Event-ID` and is told what came
//! since, and some seconds before it once more: clocks of nodes differ. A line is the same as another if node, number and time are.

use super::{COME_AGAIN_MS, Events, FOLLOWERS_MAX, Guest, LIFE_MAX, PULSE, last_event};
use crate::Backend;
use crate::audit::now_ms;
use crate::auth::{self, Asker};
use crate::limits;
use crate::reply::Reply;
use crate::routes::{Shared, bad};
use api::{
    Answer, ErrorKind, LOGS_LIMIT_MAX, LogQuery, LogsAnswer, LogsSeen, Operation, OperationError,
    Scope,
};
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Pause between two looks at the nodes' windows.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// One who follows.
struct Follower {
    backend: Arc<dyn Backend>,
    query: LogQuery,
    seen: LogsSeen,
    silent: Vec<String>,
    closing: watch::Receiver<bool>,
    until: Instant,
    first: Option<Bytes>,
    guest: Guest,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// What came since the last look, or that other nodes than before did not answer.
    async fn look(&mut self) -> Result<Option<Bytes>, OperationError> {
        let query = LogQuery {
            from: Some(self.seen.from_ms()),
            limit: Some(LOGS_LIMIT_MAX),
            ..self.query.clone()
        };
        let Answer::Logs(mut answer) = self.backend.call(Operation::Logs(query)).await? else {
            let reason = "a question for lines was answered by something else";
            return Err(OperationError::failed(reason));
        };
        let asked = answer.lines.len();
        answer.lines = self.seen.new_ones(answer.lines);
        // Older ones that were told already are not missing.
        answer.more &= answer.lines.len() == asked;
        if answer.lines.is_empty() && answer.silent == self.silent {
            return Ok(None);
        }
        self.silent.clone_from(&answer.silent);
        Ok(Some(event(self.seen.newest_ms(), &answer)))
    }
}

impl Events for Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let pulse = Instant::now() + PULSE;
        loop {
            if Instant::now() >= self.until {
                return None;
            }
            let closing = async {
                // Without a sender the server never says that it closes.
                if self.closing.wait_for(|closing| *closing).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = closing => return None,
            }
            if self.guest.must_go().await {
                return None;
            }
            // A node that did not answer is asked again.
            if let Ok(Some(event)) = self.look().await {
                return Some(event);
            }
            if Instant::now() >= pulse {
                return Some(Bytes::from_static(b": nothing\n\n"));
            }
        }
    }
}

fn event(id: u64, answer: &LogsAnswer) -> Bytes {
    let data = serde_json::to_string(answer).expect("plain data with text keys");
    Bytes::from(format!("id: {id}\nevent: lines\ndata: {data}\n\n"))
}

fn problem(query: &LogQuery) -> Option<&'static str> {
    let bounded = query.to.is_some() || query.limit.is_some();
    bounded.then_some("lines that are followed have no `to` and no `limit`")
}

/// Serves the lines.
pub(crate) async fn serve(
    State(shared): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Response {
    let refuse = |error: OperationError| Reply::from(error).into_response();
    let query = match query {
        Ok(Query(query)) => query,
        Err(cause) => return refuse(bad(&cause)),
    };
    let access = auth::current();
    let query = limits::of_logs(&access, query);
    let operation = Operation::Logs(query.clone());
    if let Err(error) = auth::check(&access, &operation) {
        return refuse(error);
    }
    if access.scope == Some(Scope::Csi) {
        // The places are few: drivers would take those of people.
        let message =
            "a driver follows no logs: it reads the lines that it told with GET /api/v1/logs";
        return refuse(OperationError::new(ErrorKind::Forbidden, message));
    }
    if let Some(problem) = problem(&query) {
        return refuse(OperationError::bad_request(problem));
    }
    let hub = &shared.hub;
    let Ok(place) = hub.followers.clone().try_acquire_owned() else {
        let reason = format!("{FOLLOWERS_MAX} follow logs at this node already: close some pages");
        return refuse(OperationError::new(ErrorKind::Unavailable, reason));
    };
    let seen = match last_event(&headers) {
        Some(newest) => LogsSeen::until(newest),
        None => LogsSeen::from(query.from.unwrap_or_else(now_ms)),
    };
    let mut follower = Follower {
        backend: hub.backend.clone(),
        query,
        seen,
        silent: Vec::new(),
        closing: hub.closing.clone(),
        until: Instant::now() + LIFE_MAX,
        first: None,
        guest: Guest::new(asker, operation),
        _place: place,
    };
    let began = match follower.look().await {
        Ok(began) => began.unwrap_or_default(),
        Err(error) => return refuse(error),
    };
    let hello = format!("retry: {COME_AGAIN_MS}\n\n");
    follower.first = Some(Bytes::from([hello.as_bytes(), &began].concat()));
    super::answer_with(follower)
}
