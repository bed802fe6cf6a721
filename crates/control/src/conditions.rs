//! Requests that depend on a version: `If-Match` on what changes something, `If-None-Match` on what looks.
//!
//! Invariants
//! - A condition is part of the operation from here on: whoever carries that out compares, in the transaction that makes the change.
//! - A condition of a request that changes something is kept or refused, never ignored. One that looks is answered whatever its
//!   `If-Match` says.
//!
//! What it does not do: compare. A version that is read here first, and compared with, would be another one a moment later.
//!
//! Source: RFC 9110, 13.1.1 and 13.1.2.

use crate::reply::Reply;
use api::http::PREFIX;
use api::{Operation, OperationError};
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What a change is on top of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// Of whatever there is, if there is something.
    Something,
    /// Of this version.
    Version(u64),
}

tokio::task_local! {
    /// The condition of the request, or what is wrong with it: whether there is such a request at all is said before.
    static CURRENT: Result<Given, OperationError>;
}

/// The tag of a version.
pub(crate) fn tag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes are a header value")
}

/// The version of a strong tag.
fn version_in(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    let version: u64 = digits.parse().ok()?;
    // Only as it was sent: no sign, no zeros before it.
    (version.to_string() == digits).then_some(version)
}

/// The condition of a request that changes something.
fn given(headers: &HeaderMap) -> Result<Option<Given>, OperationError> {
    let odd = |reason: &str| Err(OperationError::bad_request(format!("`if-match` {reason}")));
    if headers.contains_key(IF_NONE_MATCH) {
        return Err(OperationError::bad_request(
            "`if-none-match` is for requests that look: a change takes `if-match`",
        ));
    }
    let mut values = headers.get_all(IF_MATCH).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" && values.next().is_none() {
        return Ok(Some(Given::Something));
    }
    if text.starts_with("W/") {
        return odd(
            "has a weak tag, which no change can be on top of: send the `etag` of an answer as it is",
        );
    }
    if text.contains(',') || values.next().is_some() {
        return odd("has several tags: a change is on top of one version");
    }
    match version_in(text) {
        Some(version) => Ok(Some(Given::Version(version))),
        None => odd("is `*` or the `etag` of an answer, such as \"17\": a number in quotes"),
    }
}

/// Whether something that was sent before is still as it was.
fn is_known(headers: &HeaderMap, now: &HeaderValue) -> bool {
    let Ok(now) = now.to_str() else {
        return false;
    };
    let values = headers.get_all(IF_NONE_MATCH).into_iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == now)
}

/// Notes the condition of a request, and sends nothing again that its client has.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        let headers = request.headers().clone();
        let response = next.run(request).await;
        return match response.headers().get(ETAG) {
            Some(now) if response.status() == StatusCode::OK && is_known(&headers, now) => {
                not_modified(now.clone())
            }
            _ => response,
        };
    }
    let given = match given(request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(given)) => Ok(given),
        Err(error) => Err(error),
    };
    // What logs in and out, and what joins, is no operation that could be refused later.
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or("");
    if path.starts_with("/session") || path == "/join" {
        let error = given.err().unwrap_or_else(|| cannot("this"));
        return Reply::from(error).into_response();
    }
    CURRENT.scope(given, next.run(request)).await
}

fn not_modified(tag: HeaderValue) -> Response {
    let headers = [
        (ETAG, tag),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (StatusCode::NOT_MODIFIED, headers).into_response()
}

fn cannot(what: &str) -> OperationError {
    OperationError::bad_request(format!(
        "{what} cannot depend on a version: leave `if-match` out; the description of the API says which requests take it"
    ))
}

/// The operation with the condition of the request that is being served.
pub(crate) fn apply(operation: Operation) -> Result<Operation, OperationError> {
    let Ok(given) = CURRENT.try_with(Clone::clone) else {
        return Ok(operation);
    };
    if operation.looks() {
        return Ok(operation);
    }
    match given? {
        _ if !operation.takes_condition() => Err(cannot(operation.name())),
        Given::Something => Ok(operation),
        Given::Version(version) => Ok(operation.on_top_of(Some(version))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let value = |value: &&str| (IF_MATCH, HeaderValue::from_str(value).expect("a value"));
        values.iter().map(value).collect()
    }

    #[test]
    fn a_condition_is_one_strong_tag_or_a_star() {
        assert_eq!(given(&headers(&[])), Ok(None));
        assert_eq!(given(&headers(&["*"])), Ok(Some(Given::Something)));
        assert_eq!(given(&headers(&["\"0\""])), Ok(Some(Given::Version(0))));
        let largest = format!("\"{}\"", u64::MAX);
        let found = given(&headers(&[&largest]));
        assert_eq!(found, Ok(Some(Given::Version(u64::MAX))));
        assert_eq!(tag(u64::MAX), largest.as_str());
        for odd in [
            "",
            "7",
            "\"\"",
            "\"07\"",
            "\"+7\"",
            "\"a\"",
            "\"7",
            "W/\"7\"",
            "\"7\", \"8\"",
            "\"18446744073709551616\"",
            "*, \"7\"",
        ] {
            assert!(given(&headers(&[odd])).is_err(), "{odd}");
        }
        assert!(given(&headers(&["\"7\"", "\"7\""])).is_err());
        assert!(given(&headers(&["*", "*"])).is_err());
        let weak = given(&headers(&["W/\"7\""])).expect_err("a weak one");
        assert!(weak.message.contains("weak"), "{weak}");
    }

    #[test]
    fn what_is_known_is_any_of_the_tags() {
        let known = |values: &[&str]| {
            let value = |value: &&str| (IF_NONE_MATCH, HeaderValue::from_str(value).expect("one"));
            is_known(&values.iter().map(value).collect(), &tag(7))
        };
        assert!(known(&["\"7\""]) && known(&["*"]) && known(&["W/\"7\""]));
        assert!(known(&["\"6\", \"7\""]) && known(&["\"6\"", "\"7\""]));
        assert!(!known(&[]) && !known(&["\"6\""]) && !known(&["7"]) && !known(&[""]));
    }
}
