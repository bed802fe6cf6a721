//! Certificates of a cluster: who is who, and the TLS configurations that follow from it.
//!
//! A cluster has one authority ([`Authority`]). It signs certificates that say a role and a name
//! ([`world::Caller`]). Whoever belongs to the cluster has a folder with two files ([`Credentials`]).
//! Decision 26 has the reasons, docs/operating/security.md the commands.
//!
//! Invariants
//! - TLS 1.3 alone; no resumption, so every connection has looked at both certificates.
//! - A server is one only with the role `node`: clients ask for its name [`NODE_NAME`], which the authority writes into
//!   certificates of nodes and of nobody else.
//! - Private keys are made where they are used and are in files that only their owner can read.
//! - A certificate that says no role, or more than one, or a limit of an unknown kind, is nobody's.
//!
//! It does not: open connections (`world_linux::tls`), or know what a role may do (`control`, `node`).
//!
//! Read next: `authority.rs`, `credentials.rs`, `certificate.rs`, `public.rs`, `token.rs`.
#![allow(
    clippy::disallowed_methods,
    reason = "keys and certificates are files, and their validity is wall-clock time"
)]

mod authority;
mod certificate;
mod credentials;
mod files;
#[cfg(feature = "ureq")]
pub mod http;
mod public;
mod shown;
#[cfg(test)]
mod tests;
mod token;

pub use authority::{Authority, CLIENT_DAYS, NODE_DAYS};
pub use certificate::{Certificate, caller_of, fingerprint, same_key, split};
pub use credentials::{
    AUTHORITIES_FILE, Credentials, IDENTITY_FILE, KeyRequest, Loaded, pinned_client,
};
pub use files::{write_private, write_public};
pub use public::PublicCertificate;
pub use rustls;
pub use shown::Shown;
pub use token::JoinToken;

/// The name in every node's certificate, which clients ask for whatever address they call.
pub const NODE_NAME: &str = "node.azekura.internal";

/// Why a certificate, a key or a file of them cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A private key that others can read.
    #[error(
        "{path} holds a private key and everybody on this machine can read it: chmod 600 {path}"
    )]
    Readable {
        /// Which.
        path: String,
    },
    /// Something that is not what it should be.
    #[error("{what}: {problem}")]
    Odd {
        /// What was looked at.
        what: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl IdentityError {
    pub(crate) fn odd(what: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::Odd {
            what: what.into(),
            problem: problem.to_string(),
        }
    }
}

/// The one implementation of the cryptography.
pub(crate) fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    use std::sync::{Arc, OnceLock};
    static PROVIDER: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    let made = PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()));
    made.clone()
}
