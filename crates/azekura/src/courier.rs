//! Brings alerts to webhooks, mail servers and Alertmanagers: see docs/operating/alerts.md for what each gets.
//!
//! Each delivery has a thread of its own, so that neither the shard nor the pool that packs data waits for somebody else's network; there
//! is at most one to each target, and each ends within [`PATIENCE`] and what it takes to look a name up.
//!
//! Invariants
//! - A certificate is verified, with the authorities that the target names or those of the system.
//! - No secret is part of an error, or of a line of the log.

mod alertmanager;
mod mail;
mod message;
mod smtp;
mod webhook;

use ::node::{Courier, Parcel};
use catalog::{AlertTargetRow, Delivery};
use identity::rustls::pki_types::CertificateDer;
use identity::rustls::{ClientConfig, RootCertStore, crypto};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use world::LocalBoxFuture;

/// How long a delivery may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// So much of an answer is read, to let the connection end well.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Delivers in threads.
#[derive(Debug)]
pub struct Threads;

impl Courier for Threads {
    fn deliver(
        &self,
        target: &AlertTargetRow,
        parcel: Parcel,
    ) -> LocalBoxFuture<'static, Result<(), String>> {
        let (done, waiting) = tokio::sync::oneshot::channel();
        let delivery = target.delivery.clone();
        let thread = std::thread::Builder::new().name("courier".to_owned());
        let started = thread.spawn(move || {
            // Nobody waits any more: it took too long.
            let _ = done.send(deliver(&delivery, &parcel));
        });
        Box::pin(async move {
            started.map_err(|cause| format!("cannot start a thread: {cause}"))?;
            let ended = |_| "the delivery ended without a result".to_owned();
            waiting.await.map_err(ended)?
        })
    }
}

fn deliver(delivery: &Delivery, parcel: &Parcel) -> Result<(), String> {
    match delivery {
        Delivery::Webhook { url, ca, secret } => {
            let key = secret.as_ref().map(|secret| secret.0.as_bytes());
            webhook::deliver(url, ca.as_deref(), key, parcel)
        }
        Delivery::Alertmanager {
            url,
            ca,
            user,
            password,
        } => {
            let login = user.as_deref().zip(password.as_ref());
            let login = login.map(|(user, password)| (user, password.0.as_str()));
            alertmanager::deliver(url, ca.as_deref(), login, parcel)
        }
        Delivery::Mail { .. } => mail::deliver(delivery, parcel),
    }
}

/// Whom to believe: these certificates, or those of the system.
fn authorities(ca: Option<&str>) -> Result<Vec<CertificateDer<'static>>, String> {
    if let Some(pem) = ca {
        let found = identity::split("the target's authorities", pem);
        return found.map_err(|error| error.to_string());
    }
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(
            "this system believes no authority: install ca-certificates, or give the target its own".to_owned(),
        );
    }
    Ok(found.certs)
}

/// How to encrypt what is no HTTP.
fn encryption(ca: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // One of the system's that cannot be read is none of ours.
    let (added, _) = roots.add_parsable_certificates(authorities(ca)?);
    if added == 0 {
        return Err("none of the authorities' certificates can be used".to_owned());
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

/// A client for one request.
fn agent(url: &str, ca: Option<&str>) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_MAX))
        .timeout_global(Some(PATIENCE))
        .user_agent(crate::remote::PROGRAM);
    if url.starts_with("https://") {
        let certificates = authorities(ca)?;
        let certificates = certificates
            .iter()
            .map(|der| Certificate::from_der(der).to_owned());
        let roots = RootCerts::Specific(Arc::new(certificates.collect()));
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(Arc::new(crypto::ring::default_provider()));
        config = config.tls_config(tls.build());
    }
    Ok(config.build().new_agent())
}

/// Sends a body of JSON; whoever takes it answers with a status of 2xx.
fn post(url: &str, ca: Option<&str>, headers: &[(&str, String)], body: &str) -> Result<(), String> {
    let agent = agent(url, ca)?;
    let mut request = Request::post(url).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    // The address may be a secret: what is wrong with it is not said in its words.
    let request = request
        .body(body.to_owned())
        .map_err(|_| "its address cannot be used".to_owned())?;
    let mut answer = agent.run(request).map_err(|error| match error {
        ureq::Error::BadUri(_) => "its address cannot be used".to_owned(),
        other => format!("it does not answer: {other}"),
    })?;
    let status = answer.status();
    let read = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
    // What it says beside its status is of no interest, but lets the connection end well.
    let _ = read.read_to_vec();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("it answered with status {}", status.as_u16())),
    }
}

/// Bits in groups of six as letters (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(match place <= three.len() {
                true => char::from(letter),
                false => '=',
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in cases {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn an_address_that_nobody_serves_is_an_error_without_the_address() {
        let error = post("http://127.0.0.1:1/hush", None, &[], "{}").unwrap_err();
        assert!(error.starts_with("it does not answer"), "{error}");
        assert!(!error.contains("hush"), "{error}");
        let error = post(
            "https://127.0.0.1:1/hush",
            Some("no certificate"),
            &[],
            "{}",
        );
        assert!(!error.unwrap_err().contains("hush"));
    }
}
