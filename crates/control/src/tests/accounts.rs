//! Logging in, sessions, what pages of others cannot do, the audit log, the pages themselves.

use super::Server;
use crate::{Auth, Digest};
use api::{
    Answer, AuditEntry, ErrorKind, OpenSessionAnswer, Operation, OperationError, Scope,
    SessionAnswer, UserAnswer, UserCredential, UserRole,
};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const JSON: &str = "Content-Type: application/json\r\nx-azekura-request: 1\r\n";
const RIGHT: &str = "right horse";

/// A catalog with three users and their sessions.
#[derive(Default)]
pub(super) struct Accounts {
    hashes: Mutex<BTreeMap<String, (UserRole, String)>>,
    sessions: Mutex<BTreeMap<String, String>>,
}

impl Accounts {
    /// Adds a user with [`RIGHT`] as password.
    fn add(&self, name: &str, role: UserRole) {
        // Hashed once: that takes long.
        static HASH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let hash = HASH.get_or_init(|| crate::password::hash(RIGHT).unwrap());
        let row = (role, hash.clone());
        self.hashes.lock().unwrap().insert(name.to_owned(), row);
    }

    fn session(&self, user: &str) -> Result<Answer, OperationError> {
        let (role, _) = self.hashes.lock().unwrap()[user].clone();
        Ok(Answer::Session(SessionAnswer {
            who: Some(format!("user {user}")),
            user: Some(user.to_owned()),
            scope: Some(role.scope()),
            expires_ms: Some(crate::audit::now_ms() + 3_600_000),
        }))
    }

    pub(super) fn answer(&self, operation: &Operation) -> Option<Result<Answer, OperationError>> {
        let mut sessions = self.sessions.lock().unwrap();
        Some(match operation {
            Operation::UserFind { name } => match self.hashes.lock().unwrap().get(name) {
                Some((role, hash)) => Ok(Answer::Credential(UserCredential {
                    name: name.clone(),
                    role: *role,
                    password: hash.clone(),
                })),
                None => Err(OperationError::not_found("there is no such user")),
            },
            Operation::SessionCreate { user, hash, .. } => {
                sessions.insert(hash.clone(), user.clone());
                self.session(user)
            }
            Operation::SessionFind { hash } => match sessions.get(hash) {
                Some(user) => self.session(user),
                None => Err(OperationError::new(
                    ErrorKind::Unauthenticated,
                    "the session has ended",
                )),
            },
            Operation::SessionDelete { hash } => {
                sessions.remove(hash);
                Ok(Answer::Done)
            }
            Operation::SessionList { user } => {
                let wanted = |of: &str| user.as_deref().is_none_or(|user| user == of);
                let open = sessions.iter().filter(|(_, of)| wanted(of));
                let describe = |(hash, of): (&String, &String)| OpenSessionAnswer {
                    id: hash[..16].to_owned(),
                    user: of.clone(),
                    ..OpenSessionAnswer::default()
                };
                Ok(Answer::Sessions(open.map(describe).collect()))
            }
            Operation::SessionEnd { id, user } => {
                let count = sessions.len();
                let fits = |of: &str| user.as_deref().is_none_or(|user| user == of);
                sessions.retain(|hash, of| !(hash.starts_with(id) && fits(of)));
                match sessions.len() < count {
                    true => Ok(Answer::Done),
                    false if user.is_none() => Ok(Answer::Done),
                    false => Err(OperationError::not_found("there is no such session")),
                }
            }
            Operation::UserCreate { name, role, .. } => Ok(Answer::User(UserAnswer {
                name: name.clone(),
                role: *role,
                created_ms: 1,
                sessions: 0,
                version: None,
            })),
            Operation::AuditList(_) => Ok(Answer::Audit(Vec::new())),
            _ => return None,
        })
    }
}

pub(super) async fn start() -> Server {
    let admin = Some(Digest::of("azk_administrator"));
    let server = Server::start_with(Auth::Tokens { admin }).await;
    for role in UserRole::ALL {
        server.fake.accounts.add(&role.to_string(), role);
    }
    server
}

/// The answer's head and body.
async fn whole(server: &Server, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    server.whole(request, headers, body.as_bytes()).await
}

/// Logs in; the header with the session.
pub(super) async fn log_in(server: &Server, user: &str) -> String {
    let body = format!(r#"{{"user":"{user}","password":"{RIGHT}"}}"#);
    let (status, head, answer) = whole(server, "POST /api/v1/session", JSON, &body).await;
    assert_eq!(status, 200, "{answer}");
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "));
    let line = line.expect("a cookie is set");
    assert!(line.ends_with("; HttpOnly; SameSite=Strict"), "{line}");
    let pair = line.split(';').next().unwrap();
    format!("Cookie: theme=dark; {pair}\r\n")
}

/// A session as if somebody of this role had logged in: the headers with it.
pub(super) fn log_in_as(server: &Server, role: UserRole) -> String {
    let secret = format!("{role}-0af9");
    let hash = Digest::of(&secret).to_hex();
    let mut sessions = server.fake.accounts.sessions.lock().unwrap();
    sessions.insert(hash, role.to_string());
    format!("x-azekura-request: 1\r\nCookie: azekura-session={secret}\r\n")
}

#[tokio::test]
async fn a_session_ends_with_the_log_out_and_tells_who_asks() {
    let server = start().await;
    let cookie = log_in(&server, "operator").await;
    let (_, answer) = server.send("GET /api/v1/session", &cookie, b"").await;
    let session: SessionAnswer = serde_json::from_str(&answer).unwrap();
    assert_eq!(session.user.as_deref(), Some("operator"));
    assert_eq!(session.scope, Some(Scope::Operator));
    let headers = format!("{JSON}{cookie}");
    let (status, head, _) = whole(&server, "DELETE /api/v1/session", &headers, "").await;
    assert_eq!(status, 200);
    assert!(
        head.contains("set-cookie: azekura-session=; Path=/; Max-Age=0"),
        "{head}"
    );
    let (status, answer) = server.send("GET /api/v1/volumes", &cookie, b"").await;
    assert_eq!(status, 401, "{answer}");
    // Who has nothing to show is told so, and may log in.
    let (status, answer) = server.send("GET /api/v1/session", &cookie, b"").await;
    let session: SessionAnswer = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, session), (200, SessionAnswer::default()));
    log_in(&server, "operator").await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_the_same_and_slowed_down() {
    let server = start().await;
    let mut said = Vec::new();
    for user in ["admin", "nobody"] {
        let body = format!(r#"{{"user":"{user}","password":"wrong horse"}}"#);
        let (status, answer) = server
            .send("POST /api/v1/session", JSON, body.as_bytes())
            .await;
        assert_eq!(status, 401);
        said.push(answer);
    }
    assert_eq!(said[0], said[1]);
    let body = r#"{"user":"admin","password":"wrong horse"}"#;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let (status, _) = server
            .send("POST /api/v1/session", JSON, body.as_bytes())
            .await;
        statuses.push(status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 429]);
    // The right password has to wait, too.
    let body = format!(r#"{{"user":"admin","password":"{RIGHT}"}}"#);
    let (status, answer) = server
        .send("POST /api/v1/session", JSON, body.as_bytes())
        .await;
    assert_eq!(status, 429, "{answer}");
    assert!(answer.contains("try again in"), "{answer}");
    let entries = audited(&server).await;
    let of = |outcome: &str| {
        entries
            .iter()
            .filter(|entry| entry.outcome == outcome)
            .count()
    };
    assert_eq!(
        of("unauthenticated"),
        5,
        "of the user who exists: {entries:?}"
    );
    assert_eq!(of("throttled"), 1, "once for each wait: {entries:?}");
}

async fn sessions(server: &Server, headers: &str, query: &str) -> (u16, Vec<OpenSessionAnswer>) {
    let request = format!("GET /api/v1/sessions{query}");
    let (status, answer) = server.send(&request, headers, b"").await;
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

#[tokio::test]
async fn everybody_sees_and_ends_own_sessions_and_an_administrator_those_of_all() {
    let server = start().await;
    let first = log_in(&server, "viewer").await;
    let second = log_in(&server, "viewer").await;
    let admin = log_in(&server, "admin").await;
    let (_, own) = sessions(&server, &first, "").await;
    assert_eq!(own.len(), 2, "and not the administrator's");
    assert_eq!(own.iter().filter(|session| session.own).count(), 1);
    assert_eq!(sessions(&server, &admin, "").await.1.len(), 3);
    assert_eq!(sessions(&server, &admin, "?user=admin").await.1.len(), 1);
    assert_eq!(sessions(&server, &first, "?user=admin").await.0, 403);
    let admins = sessions(&server, &admin, "?user=admin").await.1.remove(0);
    let end = |id: &str| format!("DELETE /api/v1/sessions/{id}");
    let headers = |cookie: &str| format!("{JSON}{cookie}");
    let (status, _) = server.send(&end(&admins.id), &headers(&first), b"").await;
    assert_eq!(
        status, 404,
        "that of somebody else is not there for a viewer"
    );
    let other = own.iter().find(|session| !session.own).unwrap();
    let (status, answer) = server.send(&end(&other.id), &headers(&first), b"").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(sessions(&server, &second, "").await.0, 401);
    let mine = own.iter().find(|session| session.own).unwrap();
    let (status, _) = server.send(&end(&mine.id), &headers(&admin), b"").await;
    assert_eq!(status, 200);
    assert_eq!(sessions(&server, &first, "").await.0, 401);
    // A token has no sessions; an administrator's sees those of others.
    let token = "Authorization: Bearer azk_viewer\r\n";
    assert_eq!(sessions(&server, token, "").await.0, 403);
    let token = "Authorization: Bearer azk_administrator\r\n";
    assert_eq!(sessions(&server, token, "").await.1.len(), 1);
    let told = audited(&server).await;
    let ended = told.iter().filter(|entry| entry.operation == "session-end");
    let ended: Vec<&str> = ended.map(|entry| &*entry.outcome).collect();
    assert_eq!(ended, ["done", "done"], "{told:?}");
    let refused = |entry: &&AuditEntry| entry.outcome == "forbidden";
    let refused = told.iter().filter(refused).map(|entry| &*entry.operation);
    // Of somebody else, and with a token that has none.
    assert_eq!(
        refused.collect::<Vec<_>>(),
        ["session-list", "session-list"]
    );
}

#[tokio::test]
async fn a_session_is_ended_once_under_a_key() {
    let server = start().await;
    let cookie = log_in(&server, "viewer").await;
    log_in(&server, "viewer").await;
    let (_, own) = sessions(&server, &cookie, "").await;
    let other = own.iter().find(|session| !session.own).unwrap();
    let end = format!("DELETE /api/v1/sessions/{}", other.id);
    let headers = format!("{JSON}{cookie}Idempotency-Key: k\r\n");
    for replayed in [false, true] {
        let (status, head, body) = whole(&server, &end, &headers, "").await;
        assert_eq!(status, 200, "{body}");
        let said = head.to_lowercase().contains("idempotency-replayed: true");
        assert_eq!(said, replayed, "{head}");
    }
}

#[tokio::test]
async fn a_wrong_password_where_one_is_changed_is_told() {
    let server = start().await;
    let cookie = log_in(&server, "viewer").await;
    let headers = format!("{JSON}{cookie}");
    let body = r#"{"current":"wrong horse","password":"correct staple"}"#;
    let request = "POST /api/v1/session/password";
    let (status, answer) = server.send(request, &headers, body.as_bytes()).await;
    assert_eq!(status, 401, "{answer}");
    let entries = audited(&server).await;
    let told =
        |entry: &&AuditEntry| entry.operation == "user-set" && entry.outcome == "unauthenticated";
    assert_eq!(entries.iter().filter(told).count(), 1, "{entries:?}");
}

async fn audited(server: &Server) -> Vec<AuditEntry> {
    let admin = "Authorization: Bearer azk_administrator\r\n";
    let (status, _) = server.send("GET /api/v1/audit", admin, b"").await;
    assert_eq!(status, 200);
    server.fake.audited.lock().unwrap().clone()
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let server = start().await;
    let cookie = log_in(&server, "admin").await;
    let own = format!("Origin: http://{}\r\n", "test");
    let other = "Origin: http://evil.example\r\n";
    let plain = "Content-Type: application/json\r\n";
    let cases = [
        (format!("{plain}{cookie}"), 403, "x-azekura-request"),
        (format!("{JSON}{cookie}{other}"), 403, "evil.example"),
        (format!("{JSON}{cookie}Origin: null\r\n"), 403, "null"),
        (format!("{JSON}{cookie}{own}"), 200, "{}"),
        (format!("{JSON}{cookie}"), 200, "{}"),
    ];
    for (headers, expected, words) in cases {
        let (status, answer) = server.send("DELETE /api/v1/volumes/v", &headers, b"").await;
        assert_eq!(status, expected, "{headers}: {answer}");
        assert!(answer.contains(words), "{answer}");
    }
    let open = Server::start().await;
    let headers = format!("{JSON}{other}");
    let (status, _) = open.send("DELETE /api/v1/volumes/v", &headers, b"").await;
    assert_eq!(status, 403, "not where nobody is asked who he is, either");
    let body = format!(r#"{{"user":"admin","password":"{RIGHT}"}}"#);
    let (status, _) = server
        .send("POST /api/v1/session", &headers, body.as_bytes())
        .await;
    assert_eq!(status, 403, "nobody is logged in by others");
}

#[tokio::test]
async fn changes_and_refusals_are_in_the_audit_log() {
    let server = start().await;
    let cookie = log_in(&server, "viewer").await;
    let headers = format!("{JSON}{cookie}x-request-id: r-1\r\n");
    let (status, _) = server.send("DELETE /api/v1/volumes/v", &headers, b"").await;
    assert_eq!(status, 403);
    let admin = "Authorization: Bearer azk_administrator\r\nContent-Type: application/json\r\n";
    let spec = r#"{"name":"u","role":"viewer","password":"long enough"}"#;
    server
        .send("POST /api/v1/users", admin, spec.as_bytes())
        .await;
    for looked_at in ["volumes", "disks", "space", "events", "stores", "status"] {
        let request = format!("GET /api/v1/{looked_at}");
        server.send(&request, admin, b"").await;
    }
    server
        .send("POST /api/v1/volumes/v/resize", admin, br#"{"size":8192}"#)
        .await;
    let entries = audited(&server).await;
    let told: Vec<(&str, &str, &str, &str)> = entries
        .iter()
        .map(|entry| {
            (
                entry.who.as_str(),
                entry.operation.as_str(),
                entry.subject.as_str(),
                entry.outcome.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("user viewer", "session-create", "viewer", "done"),
            ("user viewer", "volume-delete", "v", "forbidden"),
            ("the node's own token", "user-create", "u", "done"),
            ("the node's own token", "volume-resize", "v", "done"),
        ]
    );
    assert_eq!(entries[1].request, "r-1");
    assert_eq!(entries[1].from, "127.0.0.1");
    let before = entries[3].before.as_ref().unwrap();
    assert_eq!(before["size"], 0, "what it was");
    assert_eq!(entries[3].after.as_ref().unwrap()["size"], 8192);
    let all = serde_json::to_string(&entries).unwrap();
    assert!(
        !all.contains("argon2") && !all.contains("long enough"),
        "{all}"
    );
}

#[tokio::test]
async fn a_new_password_is_hashed_before_it_goes_anywhere() {
    let server = start().await;
    let admin = "Authorization: Bearer azk_administrator\r\nContent-Type: application/json\r\n";
    let short = br#"{"name":"u","role":"viewer","password":"short"}"#;
    let (status, answer) = server.send("POST /api/v1/users", admin, short).await;
    assert_eq!(status, 400, "{answer}");
    let spec = br#"{"name":"u","role":"viewer","password":"long enough"}"#;
    let (status, answer) = server.send("POST /api/v1/users", admin, spec).await;
    assert_eq!(status, 200, "{answer}");
    let Some(Operation::UserCreate { hash, .. }) = server.asked() else {
        panic!("a user was to be made");
    };
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let own = format!("{JSON}{}", log_in(&server, "viewer").await);
    let wrong = br#"{"current":"wrong horse","password":"another one"}"#;
    let (status, _) = server
        .send("POST /api/v1/session/password", &own, wrong)
        .await;
    assert_eq!(status, 401);
    let right = format!(r#"{{"current":"{RIGHT}","password":"another one"}}"#);
    let (status, _) = server
        .send("POST /api/v1/session/password", &own, right.as_bytes())
        .await;
    assert_eq!(status, 200);
    let (status, _) = server
        .send("POST /api/v1/session/password", admin, right.as_bytes())
        .await;
    assert_eq!(status, 403, "a token has no password");
}

#[tokio::test]
async fn pages_are_shown_to_everybody_and_nothing_else_is() {
    let server = start().await;
    for path in ["/", "/volumes", "/volumes/db"] {
        let (status, head, body) = whole(&server, &format!("GET {path}"), "", "").await;
        assert_eq!(status, 200, "{path}");
        assert!(head.contains("content-type: text/html"), "{head}");
        assert!(body.contains("Azekura"), "{body}");
        assert!(head.contains("frame-ancestors 'none'"), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    }
    for (path, expected) in [
        ("/assets/none.js", 404),
        ("/api/v2/volumes", 401),
        ("/metrics", 401),
    ] {
        let (status, ..) = whole(&server, &format!("GET {path}"), "", "").await;
        assert_eq!(status, expected, "{path}");
    }
}

#[tokio::test]
async fn who_is_let_in_unasked_must_name_this_machine() {
    let ask = async |server: &Server, host: &str| {
        let mut stream = tokio::net::TcpStream::connect(&server.address)
            .await
            .unwrap();
        let request =
            format!("GET /api/v1/status HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let here = [
        "127.0.0.1:7400",
        "[::1]:7400",
        "localhost",
        "LOCALHOST:1",
        "10.1.2.3",
    ];
    let elsewhere = [
        "evil.test:7400",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "[evil]",
        "",
    ];
    let local = Server::start_with(Auth::Local).await;
    let open = Server::start_with(Auth::Open).await;
    for host in here {
        assert_eq!(ask(&local, host).await, "200", "{host}");
    }
    for host in elsewhere {
        assert_eq!(ask(&local, host).await, "403", "{host}");
        assert_eq!(ask(&open, host).await, "200", "{host}");
    }
}
