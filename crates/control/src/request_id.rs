//! The id of a request: taken from `x-request-id` or made, sent back, and in every log line of its operation.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Where it travels.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over; UUIDs have 36 bytes.
const ID_BYTES_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that is being served by this task.
pub(crate) fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// `work` of the request that is being served, in another task.
pub(crate) fn inherit<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(current(), work)
}

/// Whether a client's id may go into logs and back.
fn is_plain(text: &&str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// Not a secret: every `RandomState` has keys of its own.
fn make() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Gives the request its id.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let given = request.headers().get(HEADER);
    let given = given.and_then(|value| value.to_str().ok());
    let id = given.filter(is_plain).map_or_else(make, str::to_owned);
    let value = HeaderValue::from_str(&id).expect("letters, digits and -_. are a header value");
    let mut response = CURRENT.scope(id, next.run(request)).await;
    response.headers_mut().insert(HEADER, value);
    response
}
