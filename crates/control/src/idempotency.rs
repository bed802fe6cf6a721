//! Changes under an idempotency key: asked for again, they are answered and not done twice.
//!
//! Invariants
//! - A key belongs to who asks: nobody gets the answer to somebody else's request.
//! - What was begun ends although the client has hung up, and its answer is kept.
//! - Only success is kept. What failed may be asked for again under the same key, and is carried out then.
//! - No answer with a secret in it is kept: such changes take no key.
//!
//! Source: IETF draft-ietf-httpapi-idempotency-key-header-07.

use crate::auth::Access;
use crate::reply::Reply;
use api::{ErrorKind, OnceStep, Operation, OperationError};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::cell::Cell;

/// Where a key is sent.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key.
pub(crate) const KEY_BYTES_MAX: usize = 128;
/// Longest answer that is kept, in JSON: those of changes have 1 to 2 KiB.
const ANSWER_BYTES_MAX: usize = 16 << 10;

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

/// The answer to the request that is being served is an earlier one's.
pub(crate) fn note_replayed() {
    let _ = CURRENT.try_with(|current| current.replayed.set(true));
}

/// A change that is to be done once: digests of who asks under which key, and of what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) digest: String,
    pub(crate) request: String,
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

    /// The step that begins it.
    pub(crate) fn begin(&self) -> Operation {
        Operation::Once(OnceStep::Begin {
            digest: self.digest.clone(),
            request: self.request.clone(),
        })
    }

    /// The step that ends it with what came of it.
    pub(crate) fn end(&self, result: &Result<api::Answer, OperationError>) -> Operation {
        let answer = result.as_ref().ok();
        let answer = answer.and_then(|answer| serde_json::to_value(answer).ok());
        Operation::Once(OnceStep::End {
            digest: self.digest.clone(),
            request: self.request.clone(),
            answer: answer.filter(|answer| answer.to_string().len() <= ANSWER_BYTES_MAX),
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
        operation,
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
pub(crate) fn refusal(stands: &api::OnceAnswer) -> OperationError {
    match stands {
        api::OnceAnswer::Other => OperationError::bad_request(
            "this `idempotency-key` was used for another request: take a new key for every change",
        ),
        api::OnceAnswer::Crowded => OperationError::new(
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
