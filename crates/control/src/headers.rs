//! What every answer tells browsers, and what a browser must say to change something.
//!
//! Invariants
//! - Nothing is shown inside a page of somebody else, and no page runs a script that is not a file of this server.
//! - A request that changes something and comes from a page of another origin is refused, whatever it shows: a cookie, a
//!   certificate, or nothing where nothing is asked for.
//! - Where nobody is asked who he is, a page of another site gets nothing by having its own name point here (DNS rebinding): the
//!   request must name an address or `localhost`.
//! - One that shows a cookie also carries `x-azekura-request`, which no page of another origin can send unasked.

use crate::Auth;
use crate::auth::has_session_cookie;
use crate::server::Peer;
use api::{ErrorKind, OperationError};
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, HOST, ORIGIN};
use axum::http::header::{
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

/// What a page says with each request that shows a cookie.
pub(crate) const ASKED_BY_PAGE: HeaderName = HeaderName::from_static("x-azekura-request");

/// The pages' styles are partly made by scripts, so they are allowed inline; scripts never are.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For a day, where browsers believe the certificate: they ignore it elsewhere (RFC 6797, 8.1). It counts for all ports of the host, and
/// for as long nobody can go on past a certificate that is not believed any more.
const STRICT: &str = "max-age=86400";

/// Adds them to an answer.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let public = peer.is_some_and(|peer| peer.0.public);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if public {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(STRICT));
    }
    response
}

/// Refuses a name that may be anybody's, where everybody of this machine is let in.
pub(crate) fn check_host(request: &Request, auth: Auth) -> Result<(), OperationError> {
    let header = request.headers().get(HOST);
    let header = header.map(|value| value.to_str().unwrap_or("?"));
    // Whoever says none is no browser.
    let Some(said) = request.uri().host().or(header) else {
        return Ok(());
    };
    if !matches!(auth, Auth::Local) || is_here(said) {
        return Ok(());
    }
    Err(OperationError::new(
        ErrorKind::Forbidden,
        format!(
            "{said} is asked for, and this API lets everybody in who uses its address: open it at its address or at \
             localhost, or write `[api_auth]` or `[tls]` into the node's configuration"
        ),
    ))
}

/// Whether a host, with or without a port, is an address or `localhost`.
fn is_here(said: &str) -> bool {
    let host = match said.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => said.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok()
}

/// Refuses changes that a page of another origin asks for.
pub(crate) fn check(request: &Request) -> Result<(), OperationError> {
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
        return Ok(());
    }
    let text = |name: &HeaderName| {
        let value = request.headers().get(name);
        value.map(|value| value.to_str().unwrap_or_default())
    };
    let refuse = |reason: String| Err(OperationError::new(ErrorKind::Forbidden, reason));
    // A token is sent by a program that was given it; browsers send none by themselves.
    if text(&AUTHORIZATION).is_some() {
        return Ok(());
    }
    if let Some(origin) = text(&ORIGIN) {
        let host = text(&HOST).unwrap_or_default();
        let from = origin.split_once("://").map_or("", |(_, host)| host);
        if !from.eq_ignore_ascii_case(host) {
            return refuse(format!(
                "a page of {origin} asks {host} for a change: open the pages at the address they are served at; a proxy \
                 must pass the header Host on"
            ));
        }
    }
    if has_session_cookie(request.headers()) && text(&ASKED_BY_PAGE).is_none() {
        return refuse(format!(
            "a request that changes something and shows a session must carry the header {ASKED_BY_PAGE}"
        ));
    }
    Ok(())
}
