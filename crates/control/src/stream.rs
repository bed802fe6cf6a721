//! `GET /api/v1/stream`: server-sent events of what changes, so that no page asks again and again.
//!
//! One task asks the node for changes while somebody listens, and hands them to everybody who does. An event's id is the
//! revision of the catalog: a browser that comes again says in `Last-Event-ID` which it saw last, here or on another node, and is
//! told what it missed, or `reset` when that is too much.
//!
//! Invariants
//! - At most [`LISTENERS_MAX`] listen; each ends after [`LIFE_MAX`], and with the server: who comes again is asked who he is.
//! - Who may not look any more is told nothing more: he is looked up again every [`PULSE`].
//! - One that does not read is not waited for: it misses events, and is told to read everything again.

pub(crate) mod logs;

use crate::Backend;
use crate::auth::{self, Asker};
use crate::reply::Reply;
use crate::routes::Shared;
use api::stream::ChangesAnswer;
use api::{Answer, ErrorKind, Operation, OperationError};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

/// Who listens at most: each is a connection and a few KiB.
const LISTENERS_MAX: usize = 128;
/// Who follows lines of logs at most: each has all nodes search their windows once a second.
const FOLLOWERS_MAX: usize = 16;
/// How long one listens at most.
const LIFE_MAX: Duration = Duration::from_secs(300);
/// Something is sent at least so often, so that a dead connection is noticed.
const PULSE: Duration = match cfg!(test) {
    false => Duration::from_secs(15),
    true => Duration::from_millis(300),
};
/// Events that a listener may be behind.
const BEHIND_MAX: usize = 64;
/// Pause after the node did not say what changed.
const PAUSE: Duration = Duration::from_secs(1);
/// How soon a browser comes again, in milliseconds.
const COME_AGAIN_MS: u32 = 1000;

/// Hands changes to everybody who listens.
#[derive(Clone)]
pub(crate) struct Hub {
    sender: broadcast::Sender<Arc<ChangesAnswer>>,
    running: Arc<AtomicBool>,
    places: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
    backend: Arc<dyn Backend>,
}

async fn ask(
    backend: &dyn Backend,
    after: Option<u64>,
    mood: String,
) -> Result<ChangesAnswer, OperationError> {
    match backend.call(Operation::Changes { after, mood }).await? {
        Answer::Changes(answer) => Ok(answer),
        _ => Err(OperationError::failed(
            "a question for changes was answered by something else",
        )),
    }
}

impl Hub {
    pub(crate) fn new(backend: Arc<dyn Backend>, closing: watch::Receiver<bool>) -> Self {
        Self {
            sender: broadcast::Sender::new(BEHIND_MAX),
            running: Arc::default(),
            places: Arc::new(Semaphore::new(LISTENERS_MAX)),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            closing,
            backend,
        }
    }

    /// Begins to listen, and has somebody ask the node.
    fn subscribe(&self) -> broadcast::Receiver<Arc<ChangesAnswer>> {
        let receiver = self.sender.subscribe();
        if !self.running.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().pump());
        }
        receiver
    }

    /// Asks the node for as long as somebody listens.
    async fn pump(self) {
        let (mut after, mut mood) = (None, String::new());
        loop {
            while self.sender.receiver_count() > 0 {
                match ask(&*self.backend, after, mood.clone()).await {
                    Ok(answer) => {
                        after = Some(answer.revision);
                        mood.clone_from(&answer.mood);
                        // Nobody listening any more is what the loop looks at.
                        let _ = self.sender.send(Arc::new(answer));
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
            self.running.store(false, Ordering::SeqCst);
            // Somebody may have come in between, and found it running.
            let came = self.sender.receiver_count() > 0;
            if !came || self.running.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// One who listens.
struct Listener {
    receiver: broadcast::Receiver<Arc<ChangesAnswer>>,
    closing: watch::Receiver<bool>,
    seen: u64,
    first: Option<Bytes>,
    until: Instant,
    guest: Guest,
    _place: OwnedSemaphorePermit,
}

fn event(name: &str, answer: &ChangesAnswer) -> Bytes {
    let data = serde_json::to_string(answer).expect("plain data with text keys");
    Bytes::from(format!(
        "id: {}\nevent: {name}\ndata: {data}\n\n",
        answer.revision
    ))
}

/// As an event: a `reset`, or the changes; nothing when there are none.
fn told(answer: &ChangesAnswer) -> Option<Bytes> {
    match (answer.reset, answer.changes.is_empty()) {
        (true, _) => Some(event("reset", answer)),
        (false, false) => Some(event("changes", answer)),
        (false, true) => None,
    }
}

/// Who is looked up again from time to time.
struct Guest {
    asker: Asker,
    looks_at: Operation,
    /// When it was last known that he may.
    known: Instant,
}

impl Guest {
    fn new(asker: Asker, looks_at: Operation) -> Self {
        Self {
            asker,
            looks_at,
            known: Instant::now(),
        }
    }

    /// When to look next.
    fn due(&self) -> tokio::time::Instant {
        (self.known + PULSE).into()
    }

    /// Looks, when it is time; whether he must go.
    async fn must_go(&mut self) -> bool {
        if self.known.elapsed() < PULSE {
            return false;
        }
        self.known = Instant::now();
        self.asker.is_gone(&self.looks_at).await
    }
}

/// Who is sent events, one after the other, until there are no more.
trait Events: Send + 'static {
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The answer to somebody who listens.
fn answer_with(events: impl Events) -> Response {
    let stream = futures_util::stream::unfold(events, async |mut events| {
        let event = events.next().await?;
        Some((Ok::<_, std::convert::Infallible>(event), events))
    });
    let fixed = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    (fixed, Body::from_stream(stream)).into_response()
}

impl Events for Listener {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            if Instant::now() >= self.until || *self.closing.borrow() {
                return None;
            }
            let closing = async {
                // Without a sender the server never says that it closes.
                if self.closing.wait_for(|closing| *closing).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let received = tokio::select! {
                received = self.receiver.recv() => received,
                () = tokio::time::sleep_until(self.guest.due()) => {
                    if self.guest.must_go().await {
                        return None;
                    }
                    return Some(Bytes::from_static(b": nothing\n\n"));
                }
                () = closing => return None,
            };
            if self.guest.must_go().await {
                return None;
            }
            match received {
                Ok(answer) if answer.revision <= self.seen && !is_beside_the_catalog(&answer) => {}
                Ok(answer) => {
                    self.seen = self.seen.max(answer.revision);
                    if let Some(event) = told(&answer) {
                        return Some(event);
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    let lost = ChangesAnswer {
                        revision: self.seen,
                        reset: true,
                        ..ChangesAnswer::default()
                    };
                    return Some(event("reset", &lost));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Whether it tells of what has no revision.
fn is_beside_the_catalog(answer: &ChangesAnswer) -> bool {
    let beside = |kind: &str| matches!(kind, "health" | "metrics");
    answer.reset || answer.changes.iter().any(|change| beside(&change.kind))
}

/// Where a browser that comes again was.
fn last_event(headers: &HeaderMap) -> Option<u64> {
    let id = headers.get("last-event-id")?;
    id.to_str().ok()?.parse().ok()
}

/// Serves the stream.
pub(crate) async fn serve(
    State(shared): State<Shared>,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
) -> Response {
    let operation = Operation::Changes {
        after: None,
        mood: String::new(),
    };
    if let Err(error) = auth::check(&auth::current(), &operation) {
        return Reply::from(error).into_response();
    }
    let hub = &shared.hub;
    let Ok(place) = hub.places.clone().try_acquire_owned() else {
        let reason = format!("{LISTENERS_MAX} listen already: close some pages");
        return Reply::from(OperationError::new(ErrorKind::Unavailable, reason)).into_response();
    };
    // First the subscription, then the question: what happens in between is told twice rather than never.
    let receiver = hub.subscribe();
    let began = match last_event(&headers) {
        // A mood that is nobody's: health is told with the first event.
        Some(after) => ask(&*hub.backend, Some(after), String::new()).await,
        None => ask(&*hub.backend, None, String::new()).await,
    };
    let began = match began {
        Ok(began) => began,
        Err(error) => return Reply::from(error).into_response(),
    };
    let name = if began.reset { "reset" } else { "changes" };
    let hello = format!("retry: {COME_AGAIN_MS}\n");
    let first = [hello.as_bytes(), &event(name, &began)].concat();
    let listener = Listener {
        receiver,
        closing: hub.closing.clone(),
        seen: began.revision,
        first: Some(Bytes::from(first)),
        until: Instant::now() + LIFE_MAX,
        guest: Guest::new(asker, operation),
        _place: place,
    };
    answer_with(listener)
}
