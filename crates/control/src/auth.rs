//! Who asks, and whether they may: tokens, sessions, certificates, scopes.
//!
//! Invariants
//! - What a scope allows is one pure function of the operation, [`allows`]; routes know nothing of it.
//! - Secrets are hashed as they come in; they reach neither the backend nor a log.
//! - A token that is deleted is refused from the next request on, by every node: the catalog is asked each time. A session is
//!   looked up in what the node follows of the catalog.
//! - A token counts before a session, and that before a certificate: who sends one wants its rights.
//! - A personal token makes nothing that lets somebody in ([`lets_in`]): one that was stolen does not multiply.
//!
//! Tokens have 256 bits of the kernel's randomness, so a fast hash suffices (there is nothing to guess), and comparing
//! hashes tells nothing about a token by the time it takes.
//!
//! Read next: `limits.rs`, what a limited token may touch.

use crate::reply::Reply;
use crate::server::Peer;
use crate::{Backend, headers};
use api::http::PREFIX;
use api::token::TOKEN_PREFIX;
use api::{
    Answer, ErrorKind, KubernetesOperation, Operation, OperationError, Scope, SessionAnswer,
};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, Uri};
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
    /// Everybody on this machine may do everything: for a loopback address. A browser here is also everybody whose pages it
    /// shows, so what is asked for under a name that somebody else may have pointed here is refused.
    Local,
    /// Everybody may do everything, as somebody wrote down.
    Open,
    /// A token is needed, or a certificate of the cluster. Tokens are in the catalog.
    Tokens {
        /// Hash of the token in the node's own file, which may do everything. The comparison takes the same time for all
        /// inputs.
        admin: Option<Digest>,
    },
}

/// Hexadecimal digits of the mark of who tells lines: 128 bits, which nobody finds a second time.
const TELLER_DIGITS: usize = 32;

/// Name of the cookie of a session; under TLS it begins with `__Host-`, so that nobody else can set it.
const COOKIE_NAME: &str = "azekura-session";

/// Whether the API's own connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Anybody on the way can read and change what is said.
    Plain,
    /// TLS.
    Encrypted,
}

impl Transport {
    /// Name of the cookie of a session.
    pub(crate) fn cookie_name(self) -> String {
        match self {
            Self::Plain => COOKIE_NAME.to_owned(),
            Self::Encrypted => format!("__Host-{COOKIE_NAME}"),
        }
    }
}

/// Values of the cookie of a session, of either name.
fn session_cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).into_iter();
    let texts = lines.filter_map(|line| line.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| name.strip_prefix("__Host-").unwrap_or(name) == COOKIE_NAME)
}

/// Whether a request shows a session, known or not.
pub(crate) fn has_session_cookie(headers: &HeaderMap) -> bool {
    session_cookies(headers).next().is_some()
}

/// What a request shows of who asks.
#[derive(Clone)]
struct Shown {
    token: Option<String>,
    session: Option<String>,
    peer: Option<Peer>,
    from: String,
}

impl Shown {
    fn by(request: &Request, transport: Transport) -> Self {
        let headers = request.headers();
        let token = headers.get(AUTHORIZATION);
        let name = transport.cookie_name();
        let mut cookies = session_cookies(headers).filter(|(cookie, _)| *cookie == name);
        let peer = request.extensions().get::<ConnectInfo<Peer>>();
        Self {
            // One that is no text is no token, and is not as if there were none.
            token: token.map(|value| value.to_str().unwrap_or_default().to_owned()),
            session: cookies.next().map(|(_, secret)| secret.to_owned()),
            peer: peer.map(|ConnectInfo(peer)| peer.clone()),
            from: peer.map_or_else(String::new, |ConnectInfo(peer)| peer.from.to_string()),
        }
    }
}

impl Auth {
    async fn access(self, backend: &dyn Backend, shown: Shown) -> Result<Access, OperationError> {
        let Self::Tokens { admin } = self else {
            return Ok(Access::all("anybody", shown.from));
        };
        let caller = shown.peer.as_ref().and_then(Peer::caller);
        if let Some(token) = &shown.token {
            return by_token(backend, admin, bearer(Some(token))?, shown.from).await;
        }
        if let Some(secret) = &shown.session {
            let hash = Digest::of(secret).to_hex();
            let found = backend.call(Operation::SessionFind { hash: hash.clone() });
            match (found.await, &caller) {
                (Ok(Answer::Session(session)), _) => {
                    return Ok(Access::of_session(session, hash, shown.from));
                }
                (Ok(_), _) => return Err(odd_search("session")),
                (Err(error), Some(_)) if error.kind == ErrorKind::Unauthenticated => {}
                (Err(error), _) => return Err(error),
            }
        }
        match caller {
            Some(caller) => {
                let peer = shown.peer.as_ref();
                let certificate = peer.map_or_else(String::new, Peer::certificate);
                Ok(Access::of(&caller, certificate, shown.from))
            }
            None => Err(nobody_known()),
        }
    }
}

fn odd_search(what: &str) -> OperationError {
    OperationError::failed(format!(
        "a search for a {what} was answered by something else"
    ))
}

async fn by_token(
    backend: &dyn Backend,
    admin: Option<Digest>,
    token: &str,
    from: String,
) -> Result<Access, OperationError> {
    let digest = Digest::of(token);
    if Some(digest) == admin {
        return Ok(Access::all("the node's own token", from));
    }
    let hash = digest.to_hex();
    let find = Operation::TokenFind { hash: hash.clone() };
    match backend.call(find).await? {
        Answer::Token(token) => Ok(Access {
            scope: Some(token.scope),
            containers: token.containers,
            kubernetes: token.kubernetes,
            who: match &token.user {
                Some(user) => format!("user {user}, token {}", token.name),
                None => format!("token {}", token.name),
            },
            credential: hash,
            from,
            session: None,
            personal: token.user.is_some(),
        }),
        _ => Err(odd_search("token")),
    }
}

/// What requests are authenticated with.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) auth: Auth,
    pub(crate) transport: Transport,
    pub(crate) backend: Arc<dyn Backend>,
}

/// Somebody whose request is answered for as long as he listens.
#[derive(Clone)]
pub(crate) struct Asker {
    gate: Gate,
    shown: Shown,
}

impl Asker {
    /// Whether he is known to be nobody any more who may ask for this: his session, his token or his user is gone, or may less.
    /// Who cannot be looked up is not known to be.
    pub(crate) async fn is_gone(&self, operation: &Operation) -> bool {
        let found = self
            .gate
            .auth
            .access(&*self.gate.backend, self.shown.clone());
        let allowed = found.await.and_then(|access| check(&access, operation));
        let ends = [ErrorKind::Unauthenticated, ErrorKind::Forbidden];
        allowed.is_err_and(|error| ends.contains(&error.kind))
    }
}

/// Whether something at this path is shown to everybody: the files of the pages, which know nothing.
fn is_page(uri: &Uri) -> bool {
    let path = uri.path();
    !path.starts_with("/api") && path != "/metrics"
}

/// Whether this is where one logs in, which those do who have nothing to show yet.
fn is_session(uri: &Uri) -> bool {
    uri.path().strip_prefix(PREFIX) == Some("/session")
}

/// Finds out who asks, before anything else is looked at.
pub(crate) async fn layer(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    if let Err(error) = headers::check_host(&request, gate.auth) {
        return Reply::from(error).into_response();
    }
    if is_page(request.uri()) {
        return next.run(request).await;
    }
    if let Err(error) = headers::check(&request) {
        return Reply::from(error).into_response();
    }
    let shown = Shown::by(&request, gate.transport);
    let from = shown.from.clone();
    request.extensions_mut().insert(Asker {
        gate: gate.clone(),
        shown: shown.clone(),
    });
    match gate.auth.access(&*gate.backend, shown).await {
        Ok(access) => ACCESS.scope(access, next.run(request)).await,
        Err(error) if error.kind == ErrorKind::Unauthenticated && is_session(request.uri()) => {
            let nobody = Access::nobody(from);
            ACCESS.scope(nobody, next.run(request)).await
        }
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

/// `work` on behalf of the request that is being served, in another task.
pub(crate) fn inherit<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    ACCESS.scope(current(), work)
}

/// Who sends the request that is being served, as the audit log names them; nobody, where that is not asked.
pub(crate) fn who() -> String {
    let who = ACCESS.try_with(|access| access.who.clone());
    who.unwrap_or_default()
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

/// A session that a request shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Hash of its secret.
    pub(crate) hash: String,
    pub(crate) user: String,
    pub(crate) expires_ms: Option<u64>,
}

/// What the sender of a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Nothing: nobody has said who he is.
    pub(crate) scope: Option<Scope>,
    /// Containers that it is limited to; empty: all.
    pub(crate) containers: Vec<String>,
    /// Kubernetes clusters that it is limited to; empty: all.
    pub(crate) kubernetes: Vec<String>,
    /// Who, for people and for the audit log.
    pub(crate) who: String,
    /// What tells the token or certificate from another one of its name; empty: it needs nothing.
    pub(crate) credential: String,
    /// The address that the request came from.
    pub(crate) from: String,
    pub(crate) session: Option<Session>,
    /// Whether a personal token is shown.
    pub(crate) personal: bool,
}

impl Access {
    /// What a certificate with this fingerprint allows.
    pub(crate) fn of(caller: &Caller, certificate: String, from: String) -> Self {
        let scope = match caller.role {
            Role::Admin => Scope::Admin,
            // Nodes change things by calls among themselves.
            Role::Viewer | Role::Node => Scope::Viewer,
            Role::Csi => Scope::Csi,
            Role::Client => Scope::Client,
        };
        Self {
            scope: Some(scope),
            containers: caller.limits.containers.clone(),
            kubernetes: caller.limits.kubernetes.clone(),
            who: format!("certificate {caller}"),
            credential: certificate,
            ..Self::nobody(from)
        }
    }

    fn of_session(session: SessionAnswer, hash: String, from: String) -> Self {
        let user = session.user.unwrap_or_default();
        Self {
            scope: session.scope,
            who: format!("user {user}"),
            session: Some(Session {
                hash,
                user,
                expires_ms: session.expires_ms,
            }),
            ..Self::nobody(from)
        }
    }

    /// Everything.
    pub(crate) fn all(who: &str, from: String) -> Self {
        Self {
            scope: Some(Scope::Admin),
            who: who.to_owned(),
            ..Self::nobody(from)
        }
    }

    /// Nothing but to log in.
    pub(crate) fn nobody(from: String) -> Self {
        Self {
            scope: None,
            containers: Vec::new(),
            kubernetes: Vec::new(),
            who: "nobody".to_owned(),
            credential: String::new(),
            from,
            session: None,
            personal: false,
        }
    }

    /// As whom it tells lines of a log, and sees those: this token or certificate, and no other one that has or had its name.
    pub(crate) fn teller(&self) -> String {
        let known = format!("{:?}", (&self.who, &self.credential));
        let mut mark = blake3::hash(known.as_bytes()).to_hex().to_string();
        mark.truncate(TELLER_DIGITS);
        api::teller(&self.who, &mark)
    }
}

/// Refuses what the scope does not allow.
pub(crate) fn check(access: &Access, operation: &Operation) -> Result<(), OperationError> {
    let Some(scope) = access.scope else {
        return Err(nobody_known());
    };
    if access.personal && lets_in(operation.bare()) {
        let message = format!(
            "a personal token does not allow {}, which lets somebody in, so that one that was stolen makes no others: log in \
             (`azekura session create`), or use a token that an administrator made for this",
            operation.name()
        );
        return Err(OperationError::new(ErrorKind::Forbidden, message));
    }
    if allows(scope, operation) {
        return Ok(());
    }
    let message = format!(
        "scope {scope} does not allow {}: log in as a user who may, or use a token or credentials that do (`azekura token \
         create`, `azekura cluster credentials create`)",
        operation.name()
    );
    Err(OperationError::new(ErrorKind::Forbidden, message))
}

/// Whether a scope allows an operation. Pure.
pub(crate) fn allows(scope: Scope, operation: &Operation) -> bool {
    let operation = operation.bare();
    if is_step(operation) {
        return false;
    }
    match scope {
        Scope::Admin => true,
        Scope::Operator => !is_for_administrators(operation),
        Scope::Viewer => is_open(operation),
        Scope::Client => matches!(
            operation,
            Operation::Status
                | Operation::Figures
                | Operation::Cluster
                | Operation::VolumeShow { .. }
                | Operation::Attach { .. }
                | Operation::Detach { .. }
        ),
        Scope::Csi => match operation {
            Operation::ContainerCreate(spec) => spec.name.starts_with("csi-"),
            Operation::Kubernetes(operation) => is_for_drivers(operation),
            // Of lines it sees its own: see `limits::of_logs`.
            Operation::Logs(_) | Operation::LogReport { .. } => true,
            Operation::Cluster
            | Operation::Capacity { .. }
            | Operation::ContainerList
            | Operation::ContainerShow { .. }
            | Operation::VolumeCreate(_)
            | Operation::VolumeList(_)
            | Operation::CloneList(_)
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

/// Whether it is about one Kubernetes cluster, which a driver reports of, and forgets nothing.
fn is_for_drivers(operation: &KubernetesOperation) -> bool {
    use KubernetesOperation as O;
    match operation {
        O::Show { .. } | O::Claims { .. } | O::Report { .. } => true,
        O::List | O::Forget { .. } => false,
    }
}

/// Whether it makes something that somebody can come in with: a token, a user, another password or role. A backup of the catalog has
/// everybody's hashes, and where the catalog is moved to somebody may write rows of his own.
fn lets_in(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::TokenCreate { .. }
            | Operation::JoinTokenCreate { .. }
            | Operation::UserCreate { .. }
            | Operation::UserSet { .. }
            | Operation::CatalogBackup
            | Operation::CatalogMove(_)
    )
}

/// Whether it decides who may come in, or gives something up for good: what is on a disk, for one.
fn is_for_administrators(operation: &Operation) -> bool {
    if let Operation::DiskAdd(spec) = operation {
        return !spec.overrides.is_empty();
    }
    if let Operation::Alert(operation) = operation {
        return operation.is_for_administrators();
    }
    matches!(
        operation,
        Operation::UserCreate { .. }
            | Operation::UserList
            | Operation::UserShow { .. }
            | Operation::UserSet { .. }
            | Operation::UserDelete { .. }
            | Operation::TokenCreate { .. }
            | Operation::TokenList
            | Operation::TokenShow { .. }
            | Operation::TokenDelete { .. }
            | Operation::JoinTokenCreate { .. }
            | Operation::AuthorityRotate
            | Operation::AuthorityRetire(_)
            | Operation::NodeRemove { .. }
            | Operation::StoreRemove { .. }
            | Operation::DiskReplace { .. }
            | Operation::CatalogBackup
            | Operation::CatalogMove(_)
    )
}

/// Whether it looks at something that everybody may see who may look at all.
fn is_open(operation: &Operation) -> bool {
    let kept = is_for_administrators(operation) || matches!(operation, Operation::AuditList(_));
    operation.looks() && !kept
}

/// Whether it is a step of other operations, never asked for from outside.
fn is_step(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::TokenFind { .. }
            | Operation::UserFind { .. }
            | Operation::SessionCreate { .. }
            | Operation::SessionFind { .. }
            | Operation::SessionDelete { .. }
            | Operation::SessionList { .. }
            | Operation::SessionEnd { .. }
            | Operation::AuditRecord { .. }
            | Operation::Once(_)
            | Operation::NodeJoin { .. }
            | Operation::CertificateRenew { .. }
            | Operation::VolumePause { .. }
            | Operation::VolumeResume { .. }
            | Operation::MetricsPart { .. }
            | Operation::Glance { .. }
            | Operation::LogsPart(_)
    )
}

fn nobody_known() -> OperationError {
    OperationError::new(
        ErrorKind::Unauthenticated,
        "this API needs a session, a token or a certificate: log in, send `Authorization: Bearer azk_...`, or name a file \
         that holds a token with --token-file or AZEKURA_TOKEN_FILE, or a folder of credentials with --credentials or \
         AZEKURA_CREDENTIALS",
    )
}

/// The token that a request carries.
pub(crate) fn bearer(header: Option<&str>) -> Result<&str, OperationError> {
    let token = header.and_then(|text| text.strip_prefix("Bearer "));
    token
        .filter(|token| token.starts_with(TOKEN_PREFIX))
        .ok_or_else(nobody_known)
}
