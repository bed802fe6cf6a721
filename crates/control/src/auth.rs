//! Who asks, and whether they may: certificates, tokens, scopes.
//!
//! Invariants
//! - What a scope allows is one pure function of the operation, [`allows`]; routes know nothing of it.
//! - Secrets are hashed as they come in; they reach neither the backend nor a log.
//! - A token that is deleted is refused from the next request on, by every node: the catalog is asked each time.
//!
//! Tokens have 256 bits of the kernel's randomness, so a fast hash suffices (there is nothing to guess), and comparing
//! hashes tells nothing about a token by the time it takes.
//!
//! Read next: `limits.rs`, what a token limited to containers may touch.

use crate::Backend;
use crate::reply::Reply;
use crate::server::Peer;
use api::token::TOKEN_PREFIX;
use api::{Answer, ErrorKind, Operation, OperationError, Scope};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use world::{Caller, Role};

tokio::task_local! {
    static ACCESS: Access;
}

/// Hash of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(blake3::Hash);

impl Digest {
    /// Of a token as its owner sends it.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    /// In hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.to_hex().to_string()
    }
}

/// Whether and how requests are authenticated.
#[derive(Clone, Copy)]
pub enum Auth {
    /// Everybody may do everything: for a loopback address.
    Open,
    /// A token is needed, or a certificate of the cluster. Tokens are in the catalog.
    Tokens {
        /// Hash of the token in the node's own file, which may do everything. The comparison takes the same time for all
        /// inputs.
        admin: Option<Digest>,
    },
}

impl Auth {
    async fn access(
        self,
        backend: &dyn Backend,
        caller: Option<&Caller>,
        header: Option<&str>,
    ) -> Result<Access, OperationError> {
        let Self::Tokens { admin } = self else {
            return Ok(Access::all());
        };
        // Who sends a token wants its rights: it may be limited to containers, a certificate is not.
        if let (Some(caller), None) = (caller, header) {
            return Ok(Access::of(caller.role));
        }
        let digest = Digest::of(bearer(header)?);
        if Some(digest) == admin {
            return Ok(Access::all());
        }
        let hash = digest.to_hex();
        match backend.call(Operation::TokenFind { hash }).await? {
            Answer::Token(token) => Ok(Access {
                scope: token.scope,
                containers: token.containers,
            }),
            _ => Err(OperationError::failed(
                "a search for a token was answered by something else",
            )),
        }
    }
}

/// What requests are authenticated with.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) auth: Auth,
    pub(crate) backend: Arc<dyn Backend>,
}

/// Finds out who asks, before anything else is looked at.
pub(crate) async fn layer(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let header = request.headers().get(AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let caller = peer.and_then(|ConnectInfo(Peer(caller))| caller.clone());
    let access = gate.auth.access(&*gate.backend, caller.as_ref(), header);
    match access.await {
        Ok(access) => ACCESS.scope(access, next.run(request)).await,
        Err(error) => Reply::from(error).into_response(),
    }
}

/// What the request that is being served may do.
pub(crate) fn current() -> Access {
    // Every route is below the layer; one that is not must not pass for an administrator's.
    ACCESS
        .try_with(Clone::clone)
        .expect("operations are called from behind `layer` only")
}

/// A new token, and its hash.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn make_token() -> std::io::Result<(String, Digest)> {
    let digits = make_secret()?;
    let token = format!("{TOKEN_PREFIX}{digits}");
    let digest = Digest::of(&token);
    Ok((token, digest))
}

/// 256 bits of the kernel's randomness in hexadecimal digits.
///
/// # Errors
/// When the kernel gives no randomness.
pub(crate) fn make_secret() -> std::io::Result<String> {
    use std::io::Read;
    let mut secret = [0_u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    Ok(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What the sender of a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) scope: Scope,
    /// Containers that it is limited to; empty: all.
    pub(crate) containers: Vec<String>,
}

impl Access {
    /// What a certificate allows.
    fn of(role: Role) -> Self {
        Self {
            scope: match role {
                Role::Admin => Scope::Admin,
                // Nodes change things by calls among themselves.
                Role::Viewer | Role::Node => Scope::Viewer,
                Role::Csi => Scope::Csi,
                Role::Client => Scope::Client,
            },
            containers: Vec::new(),
        }
    }

    pub(crate) fn all() -> Self {
        Self {
            scope: Scope::Admin,
            containers: Vec::new(),
        }
    }
}

/// Refuses what the scope does not allow.
pub(crate) fn check(access: &Access, operation: &Operation) -> Result<(), OperationError> {
    if allows(access.scope, operation) {
        return Ok(());
    }
    let message = format!(
        "scope {} does not allow {}: use a token or credentials that do (`azekura token create`, `azekura cluster \
         credentials create`)",
        access.scope,
        operation.name()
    );
    Err(OperationError::new(ErrorKind::Forbidden, message))
}

/// Whether a scope allows an operation. Pure.
pub(crate) fn allows(scope: Scope, operation: &Operation) -> bool {
    match scope {
        // Steps of other operations, never asked for from outside.
        Scope::Admin => !matches!(
            operation,
            Operation::TokenFind { .. }
                | Operation::NodeJoin { .. }
                | Operation::CertificateRenew { .. }
                | Operation::VolumePause { .. }
                | Operation::VolumeResume { .. }
        ),
        Scope::Viewer => matches!(
            operation,
            Operation::Status
                | Operation::AuthorityShow
                | Operation::Resiliency
                | Operation::Space { .. }
                | Operation::Events(_)
                | Operation::NodeShow { .. }
                | Operation::StoreShow { .. }
                | Operation::Cluster
                | Operation::Capacity { .. }
                | Operation::ContainerList
                | Operation::VolumeList(_)
                | Operation::VolumeShow { .. }
                | Operation::SnapshotList(_)
                | Operation::SnapshotShow { .. }
                | Operation::SnapshotDiff { .. }
                | Operation::GroupSnapshotList
                | Operation::GroupSnapshotShow { .. }
        ),
        Scope::Client => matches!(
            operation,
            Operation::Status
                | Operation::Cluster
                | Operation::VolumeShow { .. }
                | Operation::Attach { .. }
                | Operation::Detach { .. }
        ),
        Scope::Csi => match operation {
            Operation::ContainerCreate(spec) => spec.name.starts_with("csi-"),
            Operation::Cluster
            | Operation::Capacity { .. }
            | Operation::ContainerList
            | Operation::VolumeCreate(_)
            | Operation::VolumeList(_)
            | Operation::VolumeShow { .. }
            | Operation::VolumeSet { .. }
            | Operation::VolumeDelete { .. }
            | Operation::VolumeResize { .. }
            | Operation::SnapshotCreate { .. }
            | Operation::SnapshotList(_)
            | Operation::SnapshotShow { .. }
            | Operation::SnapshotDelete { .. }
            | Operation::SnapshotDiff { .. }
            | Operation::GroupSnapshotCreate(_)
            | Operation::GroupSnapshotList
            | Operation::GroupSnapshotShow { .. }
            | Operation::GroupSnapshotDelete { .. }
            | Operation::Attach { .. }
            | Operation::Detach { .. } => true,
            _ => false,
        },
    }
}

/// The token that a request carries.
pub(crate) fn bearer(header: Option<&str>) -> Result<&str, OperationError> {
    let token = header.and_then(|text| text.strip_prefix("Bearer "));
    token
        .filter(|token| token.starts_with(TOKEN_PREFIX))
        .ok_or_else(|| {
            OperationError::new(
                ErrorKind::Unauthenticated,
                "this API needs a token or a certificate: send `Authorization: Bearer azk_...`, or name a file that \
                 holds one with --token-file or AZEKURA_TOKEN_FILE, or a folder of credentials with --credentials or \
                 AZEKURA_CREDENTIALS",
            )
        })
}
