//! Who has changed what: collected here, written to the catalog in batches.
//!
//! An entry is made when the operation is answered and is in the catalog a moment later; nothing waits for that. A node that
//! dies in between loses it; the node's log has the same lines. What cannot be written is tried again for a while, and
//! dropped, counted, when more than [`ENTRIES_MAX`] wait.
//!
//! Invariants
//! - No secret, no hash of one, and no password comes into an entry.
//! - Looking at something makes no entry, unless it was forbidden.
//!
//! Read next: `audit/states.rs`, what was there before and what is there after.

mod states;

pub(crate) use self::states::{before, look};

use crate::Backend;
use crate::auth::Access;
use crate::request_id;
use api::{Answer, AuditEntry, ErrorKind, KubernetesOperation, Operation, OperationError, Scope};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Entries that wait at most, of people and of drivers each, of about 500 bytes, and 9 KiB at most.
const ENTRIES_MAX: usize = 1024;
/// Entries written at once, as `Operation::AuditRecord` takes them.
const BATCH_MAX: usize = 48;
/// Tries to write a batch, and the pause between two.
const TRIES: u32 = 30;
const PAUSE: Duration = Duration::from_secs(2);
/// How long it is asked what was there before a change: it waits for that.
pub(crate) const LOOK_MAX: Duration = Duration::from_secs(1);
/// How long a reader of the log waits for what is not written yet.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Names of fields that hold secrets or hashes of them, and of those that are told apart anyhow.
const LEFT_OUT: [&str; 9] = [
    "operation",
    "alert",
    // The address of a target of alerts often has a key in it.
    "url",
    // Certificates, which say little and are long.
    "ca",
    "hash",
    "password",
    "request",
    "secret",
    "pause",
];

#[derive(Default)]
struct Queue {
    entries: VecDeque<AuditEntry>,
    /// Of people, and of drivers.
    dropped: [u64; 2],
    writing: bool,
}

/// The entries that wait to be written.
#[derive(Clone)]
pub(crate) struct Audit {
    queue: Arc<Mutex<Queue>>,
    written: Arc<Notify>,
    backend: Arc<dyn Backend>,
}

/// Whether the audit log says it also when it was allowed: it changes something, or takes a copy of everything away.
pub(crate) fn is_told(operation: &Operation) -> bool {
    match operation.bare() {
        Operation::CatalogBackup => true,
        Operation::AuditRecord { .. } => false,
        // One driver sends a thousand a day, and nothing depends on them.
        Operation::Kubernetes(KubernetesOperation::Report { .. }) => false,
        Operation::LogReport { .. } => false,
        other => !other.looks(),
    }
}

/// What an operation asks for, without secrets; and what it is about.
fn told(operation: &Operation) -> (String, Map<String, Value>) {
    let mut fields = match serde_json::to_value(operation.bare()) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    if let Operation::Kubernetes(_) | Operation::LogReport { .. } = operation {
        // Up to half a MiB, and what is told apart anyhow.
        fields.retain(|name, _| !["kubernetes", "report"].contains(&name.as_str()));
    }
    fields.retain(|name, value| !LEFT_OUT.contains(&name.as_str()) && !value.is_null());
    if let Operation::UserSet { hash: Some(_), .. } = operation.bare() {
        fields.insert("password".to_owned(), Value::from("changed"));
    }
    let subject = ["volume", "name", "user", "id", "store"]
        .iter()
        .find_map(|name| {
            let value = fields.get(*name)?;
            Some(
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned),
            )
        });
    (subject.unwrap_or_default(), fields)
}

/// An entry of an operation that was answered. Nothing when it need not be there: reading, and what certainly changed nothing
/// for another reason than a lack of rights.
pub(crate) fn entry(
    access: &Access,
    operation: &Operation,
    before: Option<Value>,
    result: &Result<Answer, OperationError>,
) -> Option<AuditEntry> {
    let error = result.as_ref().err();
    let worth = match error.map(|error| error.kind) {
        None | Some(ErrorKind::Unavailable | ErrorKind::Failed) => is_told(operation),
        Some(ErrorKind::Forbidden) => true,
        // A password that was wrong, or one too many.
        Some(ErrorKind::Unauthenticated | ErrorKind::Throttled) => matches!(
            operation,
            Operation::SessionCreate { .. } | Operation::UserSet { .. }
        ),
        Some(_) => false,
    };
    if !worth {
        return None;
    }
    let (subject, mut after) = told(operation);
    if let Some(version) = operation.version() {
        after.insert("if_version".to_owned(), json!(version));
    }
    if let Some(now) = result.as_ref().ok().and_then(states::state) {
        after.extend(now);
    }
    Some(AuditEntry {
        id: 0,
        driver: access.scope == Some(Scope::Csi),
        at_ms: now_ms(),
        who: access.who.clone(),
        from: access.from.clone(),
        operation: operation.name().to_owned(),
        subject,
        request: request_id::current(),
        outcome: error.map_or("done", |error| error.kind.name()).to_owned(),
        reason: error.map(|error| error.message.clone()),
        before,
        after: Some(states::bounded(after)),
    })
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

impl Audit {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            queue: Arc::default(),
            written: Arc::default(),
            backend,
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an entry written.
    pub(crate) fn record(&self, entry: AuditEntry) {
        let mut queue = self.queue();
        let alike = queue.entries.iter();
        let alike = alike.filter(|waiting| waiting.driver == entry.driver);
        if alike.count() >= ENTRIES_MAX {
            queue.dropped[usize::from(entry.driver)] += 1;
            return;
        }
        queue.entries.push_back(entry);
        if !std::mem::replace(&mut queue.writing, true) {
            tokio::spawn(self.clone().write());
        }
    }

    /// The first entries, all of one log: a batch is written as a whole, or once more.
    fn next_batch(&self) -> Vec<AuditEntry> {
        let mut queue = self.queue();
        let driver = queue.entries.front().is_some_and(|entry| entry.driver);
        let (mut batch, mut rest) = (Vec::new(), VecDeque::new());
        for entry in queue.entries.drain(..) {
            match entry.driver == driver && batch.len() < BATCH_MAX {
                true => batch.push(entry),
                false => rest.push_back(entry),
            }
        }
        queue.entries = rest;
        let dropped = match batch.is_empty() {
            true => 0,
            false => std::mem::take(&mut queue.dropped[usize::from(driver)]),
        };
        if let Some(last) = batch.last_mut().filter(|_| dropped > 0) {
            let lost = format!("{dropped} entries before this one were lost: too many waited");
            last.reason.get_or_insert_default().push_str(&lost);
        }
        queue.writing = !batch.is_empty();
        batch
    }

    async fn write(self) {
        loop {
            let entries = self.next_batch();
            if entries.is_empty() {
                self.written.notify_waiters();
                return;
            }
            self.write_batch(entries).await;
        }
    }

    async fn write_batch(&self, entries: Vec<AuditEntry>) {
        for _ in 0..TRIES {
            let record = Operation::AuditRecord {
                entries: entries.clone(),
            };
            match self.backend.call(record).await {
                Ok(_) => return,
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, count = entries.len(), "entries of the audit log are lost");
                    return;
                }
            }
        }
        tracing::error!(
            count = entries.len(),
            "entries of the audit log are lost: the catalog does not answer"
        );
    }

    /// Waits, for a while, until what was recorded so far is written.
    pub(crate) async fn settle(&self) {
        let written = self.written.notified();
        if self.queue().writing {
            let _in_time = tokio::time::timeout(SETTLE_MAX, written).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_told() {
        let create = Operation::UserCreate {
            name: "alice".to_owned(),
            role: api::UserRole::Operator,
            hash: "$argon2id$...".to_owned(),
        };
        let (subject, told_of) = told(&create);
        assert_eq!(subject, "alice");
        assert_eq!(
            Value::Object(told_of),
            json!({"name": "alice", "role": "operator"})
        );
        let mut target = api::AlertTargetSpec::new("pager", api::TargetKind::Webhook);
        target.url = Some("https://pager.test/hush".to_owned());
        target.secret = Some("hush".to_owned());
        let add = Operation::Alert(api::AlertOperation::TargetAdd(target));
        let (subject, told_of) = told(&add);
        assert_eq!(subject, "pager");
        assert_eq!(
            Value::Object(told_of),
            json!({"name": "pager", "kind": "webhook"})
        );
        let forget = Operation::Kubernetes(KubernetesOperation::Forget {
            name: "prod".to_owned(),
        });
        let name = [("name".to_owned(), json!("prod"))];
        let told_of = ("prod".to_owned(), name.into_iter().collect());
        assert_eq!((told(&forget), is_told(&forget)), (told_of.clone(), true));
        let report = Operation::Kubernetes(KubernetesOperation::Report {
            name: "prod".to_owned(),
            report: api::KubernetesReport::default(),
        });
        assert_eq!((told(&report), is_told(&report)), (told_of, false));
        let session = Operation::SessionCreate {
            user: "alice".to_owned(),
            password: "p".to_owned(),
            hash: "h".to_owned(),
        };
        assert_eq!(Value::Object(told(&session).1), json!({"user": "alice"}));
    }
}
