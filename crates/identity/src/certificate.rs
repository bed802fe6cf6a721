//! What a certificate says.

use crate::{IdentityError, NODE_NAME};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::IpAddr;
use std::sync::Arc;
use world::{Caller, Limits, Role};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How a role and a name are written in a certificate: a URI among its alternative names (RFC 5280, 4.2.1.6).
const SCHEME: &str = "azekura:";
/// How each container and each Kubernetes cluster is written that its owner is limited to: further URIs. None: no limit.
const LIMIT_SCHEME: &str = "azekura-limit:";
const CONTAINER: &str = "container";
const KUBERNETES: &str = "kubernetes";

/// The facts of a certificate that are decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is; nothing for an authority's.
    pub caller: Option<Caller>,
    /// From when on it holds, Unix seconds.
    pub from: i64,
    /// Until when, Unix seconds.
    pub until: i64,
    /// Who has signed it, by name.
    pub issuer: String,
    /// Whose it is, by name.
    pub subject: String,
    /// Addresses and host names at which it may be shown, beside the name of all nodes.
    pub hosts: Vec<String>,
}

pub(crate) fn uri_of(caller: &Caller) -> String {
    format!("{SCHEME}{}:{}", caller.role, caller.name)
}

/// One for each limit.
pub(crate) fn limit_uris(limits: &Limits) -> impl Iterator<Item = String> {
    let uris = |kind: &'static str, names: &[String]| {
        let uri = |name| format!("{LIMIT_SCHEME}{kind}:{name}");
        names.iter().map(uri).collect::<Vec<_>>()
    };
    let containers = uris(CONTAINER, &limits.containers);
    containers
        .into_iter()
        .chain(uris(KUBERNETES, &limits.kubernetes))
}

fn parse_uri(uri: &str) -> Option<Caller> {
    let (role, name) = uri.strip_prefix(SCHEME)?.split_once(':')?;
    let role: Role = role.parse().ok()?;
    (!name.is_empty()).then(|| Caller::new(role, name))
}

/// Whose a certificate with these URIs is: nobody's, unless they name one and no limit that this release does not know.
pub(crate) fn caller_in(uris: &[&str]) -> Option<Caller> {
    let mut callers = uris.iter().filter_map(|uri| parse_uri(uri));
    let (first, second) = (callers.next(), callers.next());
    let caller = first.filter(|_| second.is_none())?;
    let mut limits = Limits::default();
    for limit in uris.iter().filter_map(|uri| uri.strip_prefix(LIMIT_SCHEME)) {
        let (kind, name) = limit.split_once(':').filter(|(_, name)| !name.is_empty())?;
        match kind {
            CONTAINER => limits.containers.push(name.to_owned()),
            KUBERNETES => limits.kubernetes.push(name.to_owned()),
            _ => return None,
        }
    }
    Some(Caller {
        limits: Arc::new(limits),
        ..caller
    })
}

fn host_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) if *name != NODE_NAME => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}

impl Certificate {
    /// Reads a certificate that may come from anybody.
    ///
    /// # Errors
    /// [`IdentityError::Odd`] when it is none.
    pub fn parse(der: &[u8]) -> Result<Self, IdentityError> {
        let odd = |problem: String| IdentityError::odd("a certificate", problem);
        let (_, found) = X509Certificate::from_der(der)
            .map_err(|error| odd(format!("it cannot be read ({error})")))?;
        let names = found.subject_alternative_name();
        let names = names.map_err(|error| odd(format!("its names cannot be read ({error})")))?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let hosts = names.clone().filter_map(host_of).collect();
        let uris = names.filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let uris: Vec<&str> = uris.collect();
        Ok(Self {
            caller: caller_in(&uris),
            from: found.validity().not_before.timestamp(),
            until: found.validity().not_after.timestamp(),
            issuer: found.issuer().to_string(),
            subject: found.subject().to_string(),
            hosts,
        })
    }
}

/// Whose the first certificate of a chain is. The chain must have been verified.
///
/// # Errors
/// [`IdentityError::Odd`] when it names nobody.
pub fn caller_of(chain: &[CertificateDer<'_>]) -> Result<Caller, IdentityError> {
    let first = chain
        .first()
        .ok_or_else(|| IdentityError::odd("the other side", "it has shown no certificate"))?;
    Certificate::parse(first)?.caller.ok_or_else(|| {
        IdentityError::odd(
            "the certificate of the other side",
            "it does not say one role and name",
        )
    })
}

/// The certificates of a PEM text, in order.
///
/// # Errors
/// [`IdentityError::Odd`] when there is none, or one is damaged.
pub fn split(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| IdentityError::odd(what, error))?;
    match found.is_empty() {
        true => Err(IdentityError::odd(what, "there is no certificate in it")),
        false => Ok(found),
    }
}

/// SHA-256 of a certificate, in hexadecimal digits.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    let hash = sha256(der);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(der: &[u8]) -> Vec<u8> {
    use rustls::crypto::hash::Hash;
    // The provider's SHA-256, so that there is one implementation of it.
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash: &dyn Hash = suite
        .tls13()
        .expect("a suite of TLS 1.3")
        .common
        .hash_provider;
    hash.hash(der).as_ref().to_vec()
}

/// Whether two certificates are for the same key, as an authority's own and its cross certificate are.
#[must_use]
pub fn same_key(one: &[u8], other: &[u8]) -> bool {
    let key = |der: &[u8]| {
        let (_, found) = X509Certificate::from_der(der).ok()?;
        Some(found.public_key().raw.to_vec())
    };
    key(one).is_some_and(|one| key(other) == Some(one))
}
