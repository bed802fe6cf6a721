//! The API server: HTTP in, [`Operation`]s out.
//!
//! Runs on an ordinary tokio runtime beside the shards and reaches them only through a [`Backend`].
//!
//! Invariants
//! - Every answer below `/api/v1` is JSON; every error is `{"kind", "message"}` with the status that
//!   `api::http::status_code` gives, also for unknown paths, wrong methods and unreadable bodies.
//! - A request body is at most `api::http::BODY_BYTES_MAX`, a report of Kubernetes `api::kubernetes::REPORT_BYTES_MAX`; at most [`REQUESTS_MAX`] requests are with
//!   the backend at once, the next ones are refused; none is waited for longer than
//!   [`ANSWER_SECONDS_MAX`].
//! - Requests that change something must say `Content-Type: application/json`, which a web page of
//!   another origin cannot send without being asked for permission first.
//!
//! - With [`Auth::Tokens`] nothing but `/healthz` and joining is answered without a token that is known or a certificate,
//!   and nothing is carried out that its scope does not allow.
//!
//! Without credentials it does not encrypt: listen on a loopback or management address only.
//!
//! Read next: `routes.rs`, `auth.rs`, `openapi.rs`, `metrics.rs`, `server.rs`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the API server runs on tokio beside the core"
)]

mod audit;
mod auth;
mod conditions;
mod first;
mod headers;
mod idempotency;
mod limits;
mod metrics;
mod openapi;
mod pages;
mod password;
mod reply;
mod request_id;
mod routes;
mod server;
mod stream;
mod throttle;

#[cfg(test)]
mod tests;

use api::{Answer, Asker, Operation, OperationError};
pub(crate) use auth::make_secret;
pub use auth::{Auth, Digest, Transport, make_token};
pub use first::{FirstUser, make_first_user};
pub use futures_util::future::BoxFuture;
pub use openapi::api_document;
pub use password::make_password;
pub use routes::{ANSWER_SECONDS_MAX, REQUESTS_MAX, router};
pub use server::{Certificates, STOP_SECONDS_MAX, serve};

/// Carries operations out.
pub trait Backend: Send + Sync + 'static {
    /// Carries `operation` out. The future may be dropped when the client goes away or loses patience;
    /// the operation must go on or not have begun.
    fn call(&self, operation: Operation) -> BoxFuture<'static, Result<Answer, OperationError>>;

    /// As [`Backend::call`], on somebody's behalf.
    fn call_for(
        &self,
        asker: Asker,
        operation: Operation,
    ) -> BoxFuture<'static, Result<Answer, OperationError>> {
        let _ = asker;
        self.call(operation)
    }
}
