//! Who may do what: every operation of the document times everybody who may come, so that none can be left out.

use super::accounts::{self, log_in_as};
use super::openapi::{document, operation_of};
use super::tokens::{
    ADMIN, ANNS, CLIENT, CSI, LIMITED, OLGAS, OPERATOR, OTHERS, PROD, VERAS, VIEWER, client_may,
    csi_may, is_for_no_personal_token, limited_may, operator_may, viewer_may,
};
use super::{Fake, ROUTES, Server};
use crate::{Auth, Certificates, Digest, serve};
use api::{Operation, UserRole};
use identity::{Authority, Credentials, KeyRequest, NODE_NAME};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use world::{Caller, Limits, Role};

/// Somebody who comes to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comer {
    /// With nothing.
    Nobody,
    /// With something that lets nobody in.
    Stranger(&'static str),
    /// With a token of this scope.
    Token(&'static str, &'static str),
    /// Logged in.
    User(UserRole),
    /// With a personal token of a user of this role.
    Personal(UserRole, &'static str),
    /// With a token for the driver that is limited to a container or a Kubernetes cluster.
    Limited(&'static str),
    /// With a certificate of the cluster.
    Certificate(Role),
    /// With one for the driver that is limited to the container `gold`.
    LimitedCertificate,
}

use Comer::{Certificate, Limited, LimitedCertificate, Nobody, Personal, Stranger, Token, User};

/// Those whose answers to what is not like the others are written by hand.
const COMERS: [Comer; 11] = [
    Nobody,
    Stranger("azk_unknown"),
    Stranger("no-token"),
    Token("admin", ADMIN),
    Token("operator", OPERATOR),
    Token("viewer", VIEWER),
    Token("csi", CSI),
    Token("client", CLIENT),
    User(UserRole::Viewer),
    User(UserRole::Operator),
    User(UserRole::Admin),
];

/// Those who are answered as one of [`COMERS`] is, but for what they are limited to.
const LIKE: [(Comer, Comer); 11] = [
    (Personal(UserRole::Viewer, VERAS), Token("viewer", VIEWER)),
    (
        Personal(UserRole::Operator, OLGAS),
        Token("operator", OPERATOR),
    ),
    (Personal(UserRole::Admin, ANNS), Token("admin", ADMIN)),
    (Limited(LIMITED), Token("csi", CSI)),
    (Limited(PROD), Token("csi", CSI)),
    (Certificate(Role::Admin), Token("admin", ADMIN)),
    (Certificate(Role::Viewer), Token("viewer", VIEWER)),
    // Nodes change things by calls among themselves.
    (Certificate(Role::Node), Token("viewer", VIEWER)),
    (Certificate(Role::Csi), Token("csi", CSI)),
    (Certificate(Role::Client), Token("client", CLIENT)),
    (LimitedCertificate, Token("csi", CSI)),
];

/// What an operation that is not like the others answers to each of [`COMERS`], and the scopes that the document names.
struct Apart {
    request: &'static str,
    body: &'static str,
    scopes: &'static [&'static str],
    statuses: [u16; 11],
}

const fn apart(
    request: &'static str,
    body: &'static str,
    scopes: &'static [&'static str],
    statuses: [u16; 11],
) -> Apart {
    Apart {
        request,
        body,
        scopes,
        statuses,
    }
}

const OPERATING: &[&str] = &["admin", "operator"];
const USERS: &[&str] = &["admin", "operator", "viewer"];
/// Everybody who may look.
const LOOKING: [u16; 11] = [401, 401, 401, 200, 200, 200, 403, 403, 200, 200, 200];
/// Everybody.
const OPEN: [u16; 11] = [200; 11];
/// Everybody is heard, and has said nothing that makes sense.
const HEARD: [u16; 11] = [400; 11];

/// Everybody who has logged in, about his own; with anything else administrators alone, about anybody's.
const OWN: [u16; 11] = [401, 401, 401, 200, 403, 403, 403, 403, 200, 200, 200];

const JOIN: &str = r#"{"secret":"s","name":"n","request":"r","stores":1}"#;

/// Operations on oneself, those that are open to everybody, those whose answer does not end, and the drain, which waits in the
/// backend of these tests until it is let go.
const APART: &[Apart] = &[
    apart(
        "POST /api/v1/volumes/v/drain",
        "",
        OPERATING,
        [401, 401, 401, 200, 200, 403, 403, 403, 403, 200, 200],
    ),
    apart("GET /healthz", "", &[], OPEN),
    apart("POST /api/v1/join", JOIN, &[], OPEN),
    apart("GET /api/v1/session", "", &[], OPEN),
    apart("POST /api/v1/session", "{}", &[], HEARD),
    apart("DELETE /api/v1/session", "", &[], OPEN),
    apart(
        "POST /api/v1/session/password",
        "{}",
        USERS,
        [401, 401, 401, 403, 403, 403, 403, 403, 400, 400, 400],
    ),
    apart("GET /api/v1/sessions", "", USERS, OWN),
    apart("GET /api/v1/tokens", "", USERS, OWN),
    apart("GET /api/v1/tokens/t", "", USERS, OWN),
    apart("DELETE /api/v1/tokens/t", "", USERS, OWN),
    // Those that stand for themselves are in the list of others.
    apart(
        "POST /api/v1/tokens",
        r#"{"name":"t","scope":"viewer","personal":true}"#,
        USERS,
        [401, 401, 401, 403, 403, 403, 403, 403, 200, 200, 200],
    ),
    // Nobody has this session: who may end those of others is told that it is gone, the others that they have none such.
    apart(
        "DELETE /api/v1/sessions/1",
        "",
        USERS,
        [401, 401, 401, 200, 403, 403, 403, 403, 404, 404, 200],
    ),
    apart("GET /api/v1/stream", "", USERS, LOOKING),
    apart("GET /api/v1/logs/follow", "", USERS, LOOKING),
];

/// Whether somebody may do what is like the others; nothing: he is not known.
fn may(comer: Comer, request: &str, body: &str) -> Option<bool> {
    match comer {
        Nobody | Stranger(_) => None,
        Personal(..) if is_for_no_personal_token(request) => Some(false),
        Token("admin", _) | User(UserRole::Admin) | Personal(UserRole::Admin, _) => Some(true),
        Token("operator", _) | User(UserRole::Operator) | Personal(UserRole::Operator, _) => {
            Some(operator_may(request))
        }
        Token("viewer", _) | User(UserRole::Viewer) | Personal(UserRole::Viewer, _) => {
            Some(viewer_may(request))
        }
        Token("csi", _) | Certificate(Role::Csi) => Some(csi_may(request, body)),
        Token(..) | Certificate(Role::Client) => Some(client_may(request)),
        Limited(token) => Some(limited_may(token, request, body)),
        LimitedCertificate => Some(limited_may(LIMITED, request, body)),
        Certificate(Role::Admin) => Some(true),
        Certificate(Role::Viewer | Role::Node) => Some(viewer_may(request)),
    }
}

/// What somebody of [`LIKE`] is answered.
fn expected_of(comer: Comer, like: Comer, case: Case) -> u16 {
    let (request, body, statuses) = case;
    if matches!(comer, Personal(..)) && is_for_no_personal_token(request) {
        return 403;
    }
    if APART.iter().any(|one| one.request == request) {
        let place = COMERS.iter().position(|one| *one == like);
        return statuses[place.expect("it is one of them")];
    }
    match may(comer, request, body) {
        Some(false) => 403,
        _ => 200,
    }
}

/// A request, its body, and what each of [`COMERS`] is answered.
type Case = (&'static str, &'static str, [u16; 11]);

/// Every request that is tried, by operation.
fn cases() -> BTreeMap<(String, String), Vec<Case>> {
    let mut cases = BTreeMap::<_, Vec<Case>>::new();
    let usual = ROUTES.iter().chain(OTHERS);
    let usual = usual.map(|&(request, body, _)| {
        let status = |comer| match may(comer, request, body) {
            None => 401,
            Some(true) => 200,
            Some(false) => 403,
        };
        (request, body, COMERS.map(status))
    });
    let apart = APART.iter();
    for case in usual.chain(apart.map(|one| (one.request, one.body, one.statuses))) {
        cases.entry(operation_of(case.0)).or_default().push(case);
    }
    cases
}

/// Every operation of the document with the scopes that it names.
fn documented() -> Vec<((String, String), BTreeSet<String>)> {
    let document = document();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needs = operation["security"].as_array().unwrap().iter();
            let scopes = needs.filter_map(|need| Some(need["token"][0].as_str()?.to_owned()));
            all.push(((method.clone(), path.clone()), scopes.collect()));
        }
    }
    all
}

/// A cluster with an authority, whose server is encrypted, and certificates of everybody.
struct Certified {
    folder: PathBuf,
    authority: Authority,
    server: Server,
}

impl Drop for Certified {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Certified {
    async fn start(test: &str) -> Self {
        let name = format!("azekura-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let authority = Authority::make("test").unwrap();
        let own = credentials(&authority, &folder, &Caller::new(Role::Node, "n"));
        let fake = Arc::new(Fake::new());
        fake.gate.add_permits(usize::MAX >> 4);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let auth = Auth::Tokens {
            admin: Some(Digest::of(ADMIN)),
        };
        let certificates = Some(Certificates { own, public: None });
        let served = serve(listener, fake.clone(), auth, certificates, async move {
            let _ = stopped.await;
        });
        let server = Server {
            address,
            fake,
            stop: Some(stop),
            served: tokio::spawn(served),
        };
        Self {
            folder,
            authority,
            server,
        }
    }

    /// What somebody calls with.
    fn connector(&self, comer: Comer) -> TlsConnector {
        let caller = match comer {
            Certificate(role) => Caller::new(role, format!("a-{role}")),
            _ => Caller {
                limits: Arc::new(Limits {
                    containers: vec!["gold".to_owned()],
                    kubernetes: Vec::new(),
                }),
                ..Caller::new(Role::Csi, "limited")
            },
        };
        let credentials = credentials(&self.authority, &self.folder, &caller);
        credentials.current().client.clone().into()
    }

    async fn status(&self, connector: &TlsConnector, request: &str, body: &str) -> u16 {
        let stream = TcpStream::connect(&self.server.address).await.unwrap();
        let name = ServerName::try_from(NODE_NAME).unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        status_over(stream, request, "", body).await
    }
}

fn credentials(
    authority: &Authority,
    folder: &std::path::Path,
    caller: &Caller,
) -> Arc<Credentials> {
    let key = KeyRequest::make().unwrap();
    let signed = authority.sign(&key.request, caller, 1).unwrap();
    let folder = folder.join(&caller.name);
    key.store(&folder, &signed, authority.certificate())
        .unwrap();
    Credentials::read(&folder).unwrap()
}

pub(super) async fn status(server: &Server, request: &str, headers: &str, body: &str) -> u16 {
    let stream = TcpStream::connect(&server.address).await.unwrap();
    status_over(stream, request, headers, body).await
}

/// Status of the answer: the rest of it is not waited for, as it may have no end.
async fn status_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    headers: &str,
    body: &str,
) -> u16 {
    let message = format!(
        "{request} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(message.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    let head = std::str::from_utf8(&head).unwrap();
    head.strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

#[tokio::test]
async fn every_operation_of_the_document_is_open_to_those_it_is_meant_for() {
    let server = accounts::start().await;
    server.fake.gate.add_permits(usize::MAX >> 4);
    let cases = cases();
    for (operation, _) in documented() {
        let tried = cases.get(&operation);
        let tried = tried.unwrap_or_else(|| {
            panic!(
                "no request of the tests is for {operation:?}: add one to ROUTES, OTHERS or APART"
            )
        });
        for (request, body, statuses) in tried {
            for (comer, &expected) in COMERS.into_iter().zip(statuses) {
                let headers = match comer {
                    Nobody => String::new(),
                    Stranger(token) | Token(_, token) => {
                        format!("Authorization: Bearer {token}\r\n")
                    }
                    // Anew each time: one of the requests ends it.
                    User(role) => log_in_as(&server, role),
                    other => unreachable!("{other:?} is not one of these"),
                };
                let status = status(&server, request, &headers, body).await;
                check(request, comer, status, expected);
            }
        }
    }
}

fn check(request: &str, comer: Comer, status: u16, expected: u16) {
    // The backend of this test makes no tokens: that it was asked is enough, and shows in another error than a lack of rights.
    let made = request.starts_with("POST /api/v1/tokens")
        && expected == 200
        && ![401, 403].contains(&status);
    assert!(
        status == expected || made,
        "{request} as {comer:?}: {status}, and not {expected}"
    );
}

#[tokio::test]
async fn certificates_and_limited_tokens_open_what_they_are_meant_for_and_no_more() {
    let server = accounts::start().await;
    server.fake.gate.add_permits(usize::MAX >> 4);
    let certified = Certified::start("matrix").await;
    let cases = cases();
    let mut refused = BTreeMap::<String, usize>::new();
    for (comer, like) in LIKE {
        let connector = match comer {
            Limited(_) | Personal(..) => None,
            _ => Some(certified.connector(comer)),
        };
        for case in cases.values().flatten() {
            let (request, body, _) = *case;
            let status = match (comer, &connector) {
                (Limited(token) | Personal(_, token), _) => {
                    let headers = format!("Authorization: Bearer {token}\r\n");
                    status(&server, request, &headers, body).await
                }
                (_, Some(connector)) => certified.status(connector, request, body).await,
                (_, None) => unreachable!("it was made above"),
            };
            let expected = expected_of(comer, like, *case);
            check(request, comer, status, expected);
            *refused.entry(format!("{comer:?}")).or_default() += usize::from(status == 403);
        }
    }
    let own = refused["Certificate(Admin)"];
    assert_eq!(own, 2, "a password and tokens of its own alone");
    let limited = refused["LimitedCertificate"];
    assert!(
        limited > refused["Certificate(Csi)"] && limited < cases.len(),
        "{refused:?}"
    );
}

#[test]
fn the_document_names_the_scopes_of_every_operation() {
    let apart: BTreeMap<_, _> = APART
        .iter()
        .map(|one| (operation_of(one.request), one.scopes))
        .collect();
    let cases = cases();
    let documented = documented();
    for (operation, named) in &documented {
        let allowed: BTreeSet<String> = match apart.get(operation) {
            Some(scopes) => scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            None => {
                let tried = cases.get(operation).into_iter().flatten();
                let allowed = tried.flat_map(|(request, body, _)| {
                    let scope = move |comer| match comer {
                        Token(scope, _) if may(comer, request, body) == Some(true) => Some(scope),
                        _ => None,
                    };
                    COMERS.into_iter().filter_map(scope).map(str::to_owned)
                });
                allowed.collect()
            }
        };
        assert_eq!(named, &allowed, "{operation:?}");
    }
    assert_eq!(documented.len(), cases.len(), "no request is for nothing");
}

#[tokio::test]
async fn two_certificates_of_a_name_tell_lines_as_two() {
    let cluster = Certified::start("tellers").await;
    let told = r#"{"host":"w","component":"csi-node","lines":[]}"#;
    let mut tellers = BTreeSet::new();
    for _ in 0..2 {
        // Another key, and so another certificate, each time.
        let connector = cluster.connector(Certificate(Role::Csi));
        let status = cluster.status(&connector, "POST /api/v1/logs", told);
        assert_eq!(status.await, 200);
        let Some(Operation::LogReport { by, .. }) = cluster.server.asked() else {
            panic!("lines were told");
        };
        assert!(by.starts_with("certificate csi a-csi #"), "{by}");
        tellers.insert(by);
    }
    assert_eq!(tellers.len(), 2);
}
