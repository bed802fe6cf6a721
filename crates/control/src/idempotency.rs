//! Changes under an idempotency key: asked for again, they are answered and not done twice.
//!
//! Invariants
//! - A key belongs to who asks: nobody gets the answer to somebody else's request.
//! - What was begun ends although the client has hung up, and its answer is kept.
//! - Only success is kept. What failed may be asked for again under the same key, and is carried out then.
//! - No answer with a secret in it is kept: such changes take no key.
//!
//! Source: IETF draft-ietf-httpapi-idempotency-key-header-07.

use crate::Backend;
use crate::auth::Access;
use crate::reply::Reply;
use api::{Answer, ErrorKind, OnceAnswer, OnceStep, Operation, OperationError};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::cell::Cell;
use std::time::Duration;

/// Where a key is sent.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key.
pub(crate) const KEY_BYTES_MAX: usize = 128;
/// Longest answer that is kept, in JSON: those of changes have 1 to 2 KiB, a group snapshot of 64 volumes some 20 KiB. Of a longer one
/// it is kept that there was one, as `null`.
const ANSWER_BYTES_MAX: usize = 32 << 10;
/// Longest wait for the catalog; with the change itself less than the time that a key counts as running for.
const CATALOG_MAX: Duration = Duration::from_secs(20);
/// Tries to keep an answer, and the pause between two.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The key of the request that is being served.
struct Current {
    key: String,
    replayed: Cell<bool>,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// The key of a request, if it has one.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, OperationError> {
    let mut values = headers.get_all(HEADER).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let text = value.to_str().unwrap_or_default().trim();
    // A string of RFC 9651, or the same without quotes.
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    let fits = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(plain);
    if !fits || values.next().is_some() {
        return Err(OperationError::bad_request(format!(
            "`idempotency-key` is one text of 1 to {KEY_BYTES_MAX} letters, digits, `-`, `_`, `.` and `:`; a UUID does well"
        )));
    }
    Ok(Some(key.to_owned()))
}

/// Notes the key of the request, and says of its answer when it is an earlier one's.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let key = match key_of(request.headers()) {
        Ok(Some(key)) => key,
        Ok(None) => return next.run(request).await,
        Err(error) => return Reply::from(error).into_response(),
    };
    let replayed = Cell::new(false);
    let answered = async {
        let mut response = next.run(request).await;
        if CURRENT.with(|current| current.replayed.get()) {
            let value = HeaderValue::from_static("true");
            response.headers_mut().insert(REPLAYED, value);
        }
        response
    };
    CURRENT.scope(Current { key, replayed }, answered).await
}

/// An answer that was kept: that to the request which is being served.
fn replayed(kept: Value) -> Result<Answer, OperationError> {
    let _ = CURRENT.try_with(|current| current.replayed.set(true));
    if kept.is_null() {
        return Err(OperationError::new(
            ErrorKind::Refused,
            "the first request with this `idempotency-key` was carried out, and its answer was too long to be kept: look at what it \
             has made",
        ));
    }
    serde_json::from_value(kept).map_err(|cause| {
        OperationError::failed(format!("the answer that was kept is damaged: {cause}"))
    })
}

/// A change that is to be done once: digests of who asks under which key, and of what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    digest: String,
    request: String,
}

impl Ticket {
    fn new(who: &str, key: &str, operation: &Operation) -> Result<Self, OperationError> {
        let asked = serde_json::to_vec(operation).map_err(|cause| {
            OperationError::failed(format!("the request cannot be written down: {cause}"))
        })?;
        let mut digest = blake3::Hasher::new();
        digest.update(who.as_bytes());
        // Neither has a zero byte in it.
        digest.update(&[0]);
        digest.update(key.as_bytes());
        Ok(Self {
            digest: digest.finalize().to_hex().to_string(),
            request: blake3::hash(&asked).to_hex().to_string(),
        })
    }

    /// Begins it: `None` when it is to be carried out, or the answer that it had.
    pub(crate) async fn claim(
        &self,
        backend: &dyn Backend,
    ) -> Result<Option<Answer>, OperationError> {
        let begun = tokio::time::timeout(CATALOG_MAX, backend.call(self.begin())).await;
        let late = |_| OperationError::unavailable("the catalog does not answer");
        match begun.map_err(late)?? {
            Answer::Once(OnceAnswer::Begun) => Ok(None),
            Answer::Once(OnceAnswer::Answered(answer)) => replayed(answer).map(Some),
            Answer::Once(stands) => Err(refusal(&stands)),
            _ => Err(OperationError::failed(
                "a question for an earlier answer was answered by something else",
            )),
        }
    }

    /// Keeps what came of it.
    pub(crate) async fn keep(
        &self,
        backend: &dyn Backend,
        result: &Result<Answer, OperationError>,
    ) {
        for left in (0..TRIES).rev() {
            let kept = tokio::time::timeout(CATALOG_MAX, backend.call(self.end(result)));
            match kept.await {
                Ok(Ok(_)) => return,
                Ok(Err(error)) if left == 0 => {
                    tracing::warn!(%error, "the answer of a change under a key is not kept; it may be carried out again");
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The step that begins it.
    fn begin(&self) -> Operation {
        Operation::Once(OnceStep::Begin {
            digest: self.digest.clone(),
            request: self.request.clone(),
        })
    }

    /// The step that ends it with what came of it.
    fn end(&self, result: &Result<Answer, OperationError>) -> Operation {
        let answer = result.as_ref().ok().map(|answer| {
            let value = serde_json::to_value(answer).unwrap_or_default();
            match value.to_string().len() {
                0..=ANSWER_BYTES_MAX => value,
                _ => Value::Null,
            }
        });
        Operation::Once(OnceStep::End {
            digest: self.digest.clone(),
            request: self.request.clone(),
            answer,
        })
    }
}

/// The ticket of an operation, when the request that is being served has a key and the operation changes something.
pub(crate) fn ticket(
    access: &Access,
    operation: &Operation,
) -> Result<Option<Ticket>, OperationError> {
    if operation.looks() {
        return Ok(None);
    }
    let Ok(key) = CURRENT.try_with(|current| current.key.clone()) else {
        return Ok(None);
    };
    if has_secret(operation) {
        return Err(OperationError::bad_request(format!(
            "{} takes no `idempotency-key`: a secret is in it or in its answer, and is not kept",
            operation.name()
        )));
    }
    Ticket::new(&access.who, &key, operation).map(Some)
}

/// Whether a secret, or a hash that is another one every time, is in an operation or in its answer.
fn has_secret(operation: &Operation) -> bool {
    matches!(
        operation.bare(),
        Operation::TokenCreate { .. }
            | Operation::JoinTokenCreate { .. }
            | Operation::NodeJoin { .. }
            | Operation::CertificateRenew { .. }
            | Operation::UserCreate { .. }
            | Operation::UserSet { .. }
            | Operation::SessionCreate { .. }
            | Operation::SessionDelete { .. }
    )
}

/// Why a request under a key is not carried out now.
fn refusal(stands: &OnceAnswer) -> OperationError {
    match stands {
        OnceAnswer::Other => OperationError::bad_request(
            "this `idempotency-key` was used for another request: take a new key for every change",
        ),
        OnceAnswer::Crowded => OperationError::new(
            ErrorKind::Throttled,
            "too many changes were asked for with an `idempotency-key` in the last ten minutes: send this one a little later",
        ),
        _ => OperationError::unavailable(
            "the first request with this `idempotency-key` has no answer yet: ask again in a moment",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let value = |value: &&str| {
            (
                HEADER,
                HeaderValue::from_str(value).expect("a header value"),
            )
        };
        values.iter().map(value).collect()
    }

    #[test]
    fn a_key_is_read_with_and_without_quotes() {
        assert_eq!(key_of(&headers(&[])), Ok(None));
        let key = || Ok(Some("8e03978e-40d5".to_owned()));
        assert_eq!(key_of(&headers(&["8e03978e-40d5"])), key());
        assert_eq!(key_of(&headers(&["\"8e03978e-40d5\""])), key());
        for odd in ["", "\"\"", "a b", "\"a", &"x".repeat(129)] {
            assert!(key_of(&headers(&[odd])).is_err(), "{odd}");
        }
        assert!(key_of(&headers(&["a", "b"])).is_err());
    }

    #[test]
    fn of_a_long_answer_it_is_kept_that_there_was_one() {
        let operation = Operation::Status;
        let ticket = Ticket::new("a", "k", &operation).expect("a ticket");
        let kept = |name: String| {
            let volume = api::VolumeAnswer {
                name,
                ..api::VolumeAnswer::default()
            };
            match ticket.end(&Ok(Answer::Volume(volume))) {
                Operation::Once(OnceStep::End { answer, .. }) => answer.expect("it is kept"),
                other => panic!("no end: {other:?}"),
            }
        };
        assert!(matches!(
            replayed(kept("v".to_owned())),
            Ok(Answer::Volume(_))
        ));
        let long = replayed(kept("v".repeat(ANSWER_BYTES_MAX)));
        assert_eq!(long.expect_err("too long").kind, ErrorKind::Refused);
        let failed = ticket.end(&Err(OperationError::failed("no")));
        assert!(matches!(
            failed,
            Operation::Once(OnceStep::End { answer: None, .. })
        ));
    }

    #[test]
    fn tickets_differ_by_asker_key_and_request() {
        let delete = |name: &str| Operation::VolumeDelete {
            name: name.to_owned(),
        };
        let ticket = |who, key, name| Ticket::new(who, key, &delete(name)).expect("a ticket");
        let first = ticket("user a", "k", "v");
        assert_eq!(first, ticket("user a", "k", "v"));
        assert_ne!(first.digest, ticket("user b", "k", "v").digest);
        assert_ne!(first.digest, ticket("user a", "l", "v").digest);
        let other = ticket("user a", "k", "w");
        assert!(first.digest == other.digest && first.request != other.request);
    }
}
