//! One request: its id, its deadline, its exclusive use of a volume, and its line in the log.
//!
//! The work of a request runs in a thread of its own and is not stopped when the caller goes away: what it
//! has begun it ends, holding its keys until then. A caller that repeats the request meanwhile gets ABORTED, as
//! the specification has it, and the answer of the first one afterwards.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

/// Time for a request whose caller does not say how long he waits.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time, whatever the caller says: a request that hangs longer holds its volume for nothing.
const PATIENCE_MAX: Duration = Duration::from_secs(300);
/// How much before the caller's deadline the answer is sent.
const ANSWER_AHEAD: Duration = Duration::from_millis(50);

/// What a request knows of itself.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Names it in the logs of plugin and cluster.
    pub id: String,
    /// When its caller stops waiting.
    pub deadline: Instant,
}

impl Call {
    fn new<T>(request: &Request<T>) -> Self {
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.and_then(|value| parse_timeout(value.to_str().ok()?));
        let patience = timeout.unwrap_or(PATIENCE).min(PATIENCE_MAX);
        Self {
            id: request_id(),
            deadline: Instant::now() + patience.saturating_sub(ANSWER_AHEAD),
        }
    }

    /// Something that this process does unasked.
    pub fn own(patience: Duration) -> Self {
        Self {
            id: request_id(),
            deadline: Instant::now() + patience,
        }
    }

    /// What is left until the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// DEADLINE_EXCEEDED once the time is up: asked before a step that would only be begun.
    pub fn check(&self, step: &str) -> Result<(), Status> {
        match self.left().is_zero() {
            false => Ok(()),
            true => Err(Status::deadline_exceeded(format!(
                "the time of this request is up before {step}; repeat it: it goes on from there"
            ))),
        }
    }
}

/// Unique among the requests of this process and, with its start, of others.
fn request_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let start = START.get_or_init(|| {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let seed = (since.as_nanos(), std::process::id());
        xxhash_rust::xxh3::xxh3_64(format!("{seed:?}").as_bytes())
    });
    format!("csi-{start:016x}-{}", COUNT.fetch_add(1, Relaxed))
}

/// The header `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What is being worked on: volumes by handle, things to be created by name.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<BTreeSet<String>>);

impl Pending {
    /// Takes all keys or none.
    fn begin(self: &Arc<Self>, keys: &[String]) -> Result<Held, Status> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(busy) = keys.iter().find(|key| pending.contains(*key)) {
            return Err(Status::aborted(format!(
                "an operation on {busy} is under way; repeat the request when it has ended"
            )));
        }
        pending.extend(keys.iter().cloned());
        Ok(Held {
            pending: self.clone(),
            keys: keys.to_vec(),
        })
    }
}

/// Keys in use until dropped.
struct Held {
    pending: Arc<Pending>,
    keys: Vec<String>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut pending = self
            .pending
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            pending.remove(key);
        }
    }
}

/// Carries a request out: `work` runs in a thread that may block, alone on `keys`.
///
/// # Errors
/// ABORTED while another request is at one of the keys; DEADLINE_EXCEEDED when `work` takes longer than the caller waits
/// (it goes on); what `work` returns.
pub(crate) async fn run<Q, T, W>(
    pending: &Arc<Pending>,
    operation: &'static str,
    keys: Vec<String>,
    request: Request<Q>,
    work: W,
) -> Result<Response<T>, Status>
where
    Q: Send + 'static,
    T: Send + 'static,
    W: FnOnce(&Call, Q) -> Result<T, Status> + Send + 'static,
{
    let call = Call::new(&request);
    let began = Instant::now();
    let about = keys.join(" ");
    let held = match pending.begin(&keys) {
        Ok(held) => held,
        Err(refusal) => {
            log(operation, &about, &call, began, Err(&refusal));
            return Err(refusal);
        }
    };
    let (inside, body) = (call.clone(), request.into_inner());
    let worker = tokio::task::spawn_blocking(move || {
        let outcome = work(&inside, body);
        drop(held);
        log(
            operation,
            &about,
            &inside,
            began,
            outcome.as_ref().map(drop),
        );
        outcome
    });
    match tokio::time::timeout(call.left(), worker).await {
        Ok(Ok(outcome)) => outcome.map(Response::new),
        Ok(Err(panicked)) => Err(Status::internal(format!(
            "{operation} failed in the plugin ({panicked}); its log says where: please report it"
        ))),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "{operation} takes longer than its caller waits and goes on; repeat the request later"
        ))),
    }
}

/// Messages of a stream that wait for their receiver.
const MESSAGES_WAITING_MAX: usize = 4;

/// Carries a request out whose answer is a stream: `work` sends messages from a thread that may block, until sending
/// says that nobody listens.
///
/// # Errors
/// None: what `work` returns ends the stream.
pub(crate) async fn stream<Q, T, W>(
    operation: &'static str,
    request: Request<Q>,
    work: W,
) -> Result<Response<ReceiverStream<Result<T, Status>>>, Status>
where
    Q: Send + 'static,
    T: Send + 'static,
    W: FnOnce(&Call, Q, &mut dyn FnMut(T) -> bool) -> Result<(), Status> + Send + 'static,
{
    let call = Call::new(&request);
    let body = request.into_inner();
    let began = Instant::now();
    let (sender, receiver) = tokio::sync::mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        let mut send = |message| sender.blocking_send(Ok(message)).is_ok();
        let outcome = work(&call, body, &mut send);
        log(operation, "", &call, began, outcome.as_ref().map(drop));
        if let Err(status) = outcome {
            // Nobody listens: then nobody is told.
            let _ = sender.blocking_send(Err(status));
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// What the cluster calls the volume of a key, so that a search by volume finds the line: `volume-12`, or the name of one that is to
/// be. Empty: it is about something else.
pub(crate) fn volume_in(key: &str) -> String {
    if let Some(name) = key.strip_prefix("volume named ") {
        return name.to_owned();
    }
    // Of a snapshot or a group, whose name may look like a handle.
    if key.contains(" named ") {
        return String::new();
    }
    let number = key.rsplit_once("-v").map(|(_, number)| number);
    match number.and_then(|number| number.parse().ok()) {
        Some(number) => crate::handle::volume_address(number),
        None => String::new(),
    }
}

/// One line for each request; what only asks for capabilities is of no interest to most.
fn log(operation: &str, handle: &str, call: &Call, began: Instant, outcome: Result<(), &Status>) {
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let about = volume_in(handle);
    let request = call.id.as_str();
    match outcome {
        Ok(()) => {
            tracing::info!(
                operation,
                volume = about,
                handle,
                request,
                milliseconds,
                "done"
            );
        }
        Err(status) if status.code() == Code::Internal => {
            let code = status.code().description();
            let message = status.message();
            tracing::error!(
                operation,
                volume = about,
                handle,
                request,
                milliseconds,
                code,
                "{message}"
            );
        }
        Err(status) => {
            let code = status.code().description();
            let message = status.message();
            tracing::warn!(
                operation,
                volume = about,
                handle,
                request,
                milliseconds,
                code,
                "{message}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit_and_nonsense_is_not() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("14999m", Duration::from_millis(14_999)),
            ("7u", Duration::from_micros(7)),
            ("8n", Duration::from_nanos(8)),
        ] {
            assert_eq!(parse_timeout(text), Some(expected), "{text}");
        }
        for text in ["", "S", "-1S", "123456789S", "5", "5x", "5ä"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    #[test]
    fn lines_name_volumes_as_the_cluster_does() {
        for (key, expected) in [
            ("c0ffee-v12", "volume-12"),
            ("volume named pvc-v3", "pvc-v3"),
            ("c0ffee-s7", ""),
            ("snapshot named pvc-vx", ""),
            ("snapshot named daily-v12", ""),
            ("group snapshot named daily-v12", ""),
            ("volume named daily-v12", "daily-v12"),
            ("", ""),
        ] {
            assert_eq!(volume_in(key), expected, "{key}");
        }
    }

    #[test]
    fn a_key_is_held_once_and_a_refused_request_holds_nothing() {
        let pending = Arc::new(Pending::default());
        let first = pending.begin(&["a".to_owned()]).expect("free");
        let both = ["b".to_owned(), "a".to_owned()];
        let refused = pending.begin(&both).err().map(|status| status.code());
        assert_eq!(refused, Some(Code::Aborted));
        drop(
            pending
                .begin(&["b".to_owned()])
                .expect("not held by the refused one"),
        );
        drop(first);
        drop(pending.begin(&both).expect("free again"));
    }
}
