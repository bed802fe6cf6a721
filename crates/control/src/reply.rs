//! Answers and errors as HTTP responses, and request bodies as values.

use crate::conditions;
use api::{Answer, ErrorKind, OperationError, Problem, http};
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

/// What a route returns.
pub(crate) enum Reply {
    /// 200 with the answer's value.
    Answer(Box<Answer>),
    /// The error with its status.
    Error(OperationError),
}

impl From<Result<Answer, OperationError>> for Reply {
    fn from(result: Result<Answer, OperationError>) -> Self {
        match result {
            Ok(answer) => Self::Answer(Box::new(answer)),
            Err(error) => Self::Error(error),
        }
    }
}

impl From<OperationError> for Reply {
    fn from(error: OperationError) -> Self {
        Self::Error(error)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Answer(answer) => match answer.to_value() {
                Ok(value) => {
                    let mut response = json(StatusCode::OK, value.to_string());
                    if let Some(version) = answer.version() {
                        let tag = conditions::tag(version);
                        response.headers_mut().insert(header::ETAG, tag);
                    }
                    response
                }
                Err(cause) => error(&OperationError::failed(format!(
                    "the answer cannot be written as JSON: {cause}"
                ))),
            },
            Self::Error(reason) => error(&reason),
        }
    }
}

fn error(reason: &OperationError) -> Response {
    let status = StatusCode::from_u16(http::status_code(reason.kind))
        .expect("every kind has a valid status");
    with_status(status, reason)
}

/// An error with a status of HTTP's own (404 for a path, 405 for a method).
pub(crate) fn with_status(status: StatusCode, reason: &OperationError) -> Response {
    let problem = Problem::new(reason, status.as_u16());
    let body = serde_json::to_string(&problem).expect("texts and a number are JSON");
    with_media(status, http::PROBLEM_MEDIA, body)
}

fn json(status: StatusCode, body: String) -> Response {
    with_media(status, "application/json", body)
}

fn with_media(status: StatusCode, media: &'static str, body: String) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, media),
            (header::CACHE_CONTROL, "no-store"),
        ],
        body,
    )
        .into_response()
}

/// The request's body as a `T`.
pub(crate) fn parse<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, OperationError> {
    require_json(headers)?;
    serde_json::from_slice(body).map_err(|cause| {
        OperationError::bad_request(format!("the request body is not what is expected: {cause}"))
    })
}

/// As [`parse`], but nothing at all stands for the default.
pub(crate) fn parse_or_default<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, OperationError> {
    if body.is_empty() {
        require_json(headers)?;
        return Ok(T::default());
    }
    parse(headers, body)
}

/// Refuses a request that a web page of another origin could have sent unasked.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), OperationError> {
    let value = headers.get(header::CONTENT_TYPE);
    let given = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let media = given.split(';').next().unwrap_or("").trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(OperationError::bad_request(
        "requests that change something must say `Content-Type: application/json`",
    ))
}

/// The error for a path that is not in the API.
pub(crate) async fn no_such_path(uri: axum::http::Uri) -> Response {
    let message = format!(
        "there is nothing at {}; the API is below {}",
        uri.path(),
        http::PREFIX
    );
    with_status(StatusCode::NOT_FOUND, &OperationError::not_found(message))
}

/// The error for a method that a path does not have.
pub(crate) async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        &OperationError::new(ErrorKind::BadRequest, message),
    )
}
