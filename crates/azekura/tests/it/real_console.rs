//! People: the first user, sessions on all nodes of a cluster, roles, the audit log, the stream of changes.

use crate::support::cluster::{Cluster, wait_until};
use crate::support::{Directory, Node, three_stores};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const TABLE: &str = "[api_auth]\nmode = \"token\"\nadmin_token_file = \"admin-token\"\n\n[catalog]";

/// Asks a node as a browser would; status, the cookie that was set, and the answer.
fn ask(
    api: &str,
    request: &str,
    cookie: &str,
    body: Option<Value>,
) -> (u16, Option<String>, Value) {
    let address = api.strip_prefix("http://").unwrap_or(api);
    let mut stream = TcpStream::connect(address).unwrap();
    let body = body.map_or_else(String::new, |body| body.to_string());
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nx-azekura-request: 1\r\nCookie: {cookie}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut lines = head.lines();
    let set = lines.find_map(|line| line.strip_prefix("set-cookie: "));
    let pair = set.map(|line| line.split(';').next().unwrap().to_owned());
    (status, pair, serde_json::from_str(body).unwrap())
}

fn log_in(api: &str, user: &str, password: &str) -> Result<String, Value> {
    let body = json!({"user": user, "password": password});
    match ask(api, "POST /api/v1/session", "", Some(body)) {
        (200, Some(cookie), _) => Ok(cookie),
        (_, _, answer) => Err(answer),
    }
}

/// The password that the nodes printed: one of them, once.
fn printed(cluster: &Cluster) -> String {
    let logs = || {
        let log = |index| cluster.directory.path(&format!("node-{index}.log"));
        (0..3)
            .map(|index| std::fs::read_to_string(log(index)).unwrap_or_default())
            .collect::<String>()
    };
    let mark = "azekura: the user admin was made, with the password ";
    wait_until("the first user is made", || logs().contains(mark));
    let logs = logs();
    assert_eq!(logs.matches(mark).count(), 1, "{logs}");
    let after = logs.split(mark).nth(1).unwrap();
    after.lines().next().unwrap().to_owned()
}

/// Lines of the stream, from a thread of its own.
fn listen(api: &str, cookie: &str, last: Option<&str>) -> BufReader<TcpStream> {
    let address = api.strip_prefix("http://").unwrap_or(api);
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let last = last.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
    let head =
        format!("GET /api/v1/stream HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n{last}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    BufReader::new(stream)
}

/// The id of the next event that tells of this kind.
fn told(stream: &mut BufReader<TcpStream>, kind: &str) -> String {
    let mut id = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        if let Some(text) = line.strip_prefix("id: ") {
            text.trim().clone_into(&mut id);
        }
        if line.starts_with("data: ") && line.contains(&format!("\"kind\":\"{kind}\"")) {
            return id;
        }
    }
}

/// Vera logs in with verbs, sees her sessions, ends one, and changes her password.
fn own_session(node: &Node, directory: &Directory, admin: &[&str]) {
    let kept = directory.path("session");
    let kept = kept.to_str().unwrap();
    let given = directory.path("vera");
    let given = given.to_str().unwrap();
    let login = ["session", "create", "vera", "--password-file", given];
    let begun = node.ask(&[&login[..], &["--out", kept]].concat());
    assert_eq!(begun["user"], "vera", "{begun}");
    let own = ["--token-file", kept];
    let shown = node.ask(&[&["session", "show"][..], &own].concat());
    assert_eq!(shown["scope"], "viewer", "{shown}");
    let listed = node.ask(&[&["session", "list"][..], &own].concat());
    let sessions = listed.as_array().unwrap();
    assert_eq!(
        sessions.len(),
        2,
        "the other one was begun before: {listed}"
    );
    let ids = |own: bool| {
        let found = sessions.iter().find(|session| session["own"] == own);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    node.ask(&[&["session", "end", &ids(false)][..], &own].concat());
    let all = node.ask(&[&["session", "list", "--user", "vera"][..], admin].concat());
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    let change = ["session", "password", "--current-file", given];
    let made = node.ask(&[&change[..], &own].concat());
    let ended = node.refuse(&[&["volume", "list"][..], &own].concat());
    assert_eq!(ended["kind"], "unauthenticated", "{ended}");
    std::fs::write(given, made["password"].as_str().unwrap()).unwrap();
    let again = ["session", "password", "--user", "vera"];
    let files = ["--current-file", given];
    let made = node.ask(&[&again[..], &files].concat());
    assert!(made["password"].is_string(), "{made}");
}

#[test]
fn real_sessions_count_on_every_node_until_they_are_ended() {
    let mut cluster = Cluster::start_with("console", |text| text.replace("[catalog]", TABLE));
    let apis: Vec<String> = (0..3)
        .map(|index| cluster.node(index).api.clone())
        .collect();
    let password = printed(&cluster);
    let admin = log_in(&apis[0], "admin", &password).unwrap();
    // It counts everywhere at once.
    for api in &apis {
        let (status, _, answer) = ask(api, "GET /api/v1/session", &admin, None);
        assert_eq!((status, &answer["user"]), (200, &json!("admin")));
    }
    let operator = json!({"name": "olga", "role": "operator", "password": "a long password"});
    let (status, _, answer) = ask(&apis[1], "POST /api/v1/users", &admin, Some(operator));
    assert_eq!(status, 200, "{answer}");
    let olga = log_in(&apis[2], "olga", "a long password").unwrap();
    let container = json!({"name": "c", "rf": 2});
    let (status, ..) = ask(&apis[0], "POST /api/v1/containers", &olga, Some(container));
    assert_eq!(status, 200);
    let (status, ..) = ask(&apis[0], "GET /api/v1/users", &olga, None);
    assert_eq!(status, 403);
    // The stream tells of it on another node, and goes on where it was.
    let mut stream = listen(&apis[1], &olga, None);
    let volume = json!({"name": "v", "container": "c", "size": 1 << 20});
    let (status, ..) = ask(&apis[0], "POST /api/v1/volumes", &olga, Some(volume));
    assert_eq!(status, 200);
    let id = told(&mut stream, "volume");
    drop(stream);
    let snapshot = json!({"name": "s"});
    ask(
        &apis[0],
        "POST /api/v1/volumes/v/snapshots",
        &olga,
        Some(snapshot),
    );
    let mut again = listen(&apis[2], &olga, Some(&id));
    told(&mut again, "snapshot");
    // A node that starts again knows the sessions that were.
    cluster.kill_nodes(&[2]);
    cluster.start_nodes(&[2]);
    let api = cluster.node(2).api.clone();
    let (status, ..) = ask(&api, "GET /api/v1/volumes", &olga, None);
    assert_eq!(status, 200);
    // Another password ends all sessions of the user, on every node, and no other.
    let change = json!({"password": "another password"});
    let (status, ..) = ask(&apis[0], "PATCH /api/v1/users/olga", &admin, Some(change));
    assert_eq!(status, 200);
    for api in [&apis[0], &apis[1], &api] {
        wait_until("the session has ended here, too", || {
            ask(api, "GET /api/v1/volumes", &olga, None).0 == 401
        });
        assert_eq!(ask(api, "GET /api/v1/volumes", &admin, None).0, 200);
    }
    let (status, ..) = ask(&apis[1], "DELETE /api/v1/session", &admin, None);
    assert_eq!(status, 200);
    for api in [&apis[0], &apis[1], &api] {
        wait_until("the session has ended here, too", || {
            ask(api, "GET /api/v1/volumes", &admin, None).0 == 401
        });
    }
}

#[test]
fn real_first_user_has_the_password_of_the_file_and_the_log_has_no_secret() {
    let directory = Directory::new("first-user");
    let table = format!("[login]\nadmin_password_file = \"admin-password\"\n\n{TABLE}");
    let text = three_stores("first").replace("[catalog]", &table);
    let config = directory.write("node.toml", text);
    let node = Node::start(&config);
    let file = directory.path("admin-password");
    wait_until("the password is made", || file.exists());
    let mode = std::fs::metadata(&file).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
    let password = std::fs::read_to_string(&file).unwrap();
    let password = password.trim();
    let mut cookie = None;
    wait_until("the user is made", || {
        cookie = log_in(&node.api, "admin", password).ok();
        cookie.is_some()
    });
    let cookie = cookie.unwrap();
    // Verbs, with the node's own token.
    let token = directory.path("admin-token");
    let token = ["--token-file", token.to_str().unwrap()];
    let with = |words: &[&'static str]| {
        let words: Vec<&str> = words.to_vec();
        [words, token.to_vec()].concat()
    };
    let made = node.ask(&with(&["user", "create", "vera", "--role", "viewer"]));
    let first = made["password"].as_str().unwrap().to_owned();
    let vera = log_in(&node.api, "vera", &first).unwrap();
    assert_eq!(
        ask(&node.api, "DELETE /api/v1/volumes/v", &vera, None).0,
        403
    );
    let listed = node.ask(&with(&["user", "list"]));
    assert_eq!(listed[1]["name"], "vera");
    assert_eq!(listed[1]["sessions"], 1);
    let given = directory.write("vera", "one that was given\n");
    let given = given.to_str().unwrap();
    let given = ["user", "passwd", "vera", "--password-file", given];
    node.ask(&[&given[..], &token].concat());
    assert!(log_in(&node.api, "vera", &first).is_err());
    log_in(&node.api, "vera", "one that was given").unwrap();
    own_session(&node, &directory, &token);
    node.ask(&with(&["user", "set-role", "vera", "operator"]));
    let refused = node.refuse(&with(&["user", "delete", "admin"]));
    assert_eq!(refused["kind"], "refused", "{refused}");
    node.ask(&with(&["user", "delete", "vera"]));
    let audit = node.ask(&with(&["audit", "list", "--limit", "50"]));
    let entries = audit.as_array().unwrap();
    let has = |operation: &str, who: &str, outcome: &str| {
        let is = |entry: &&Value| {
            entry["operation"] == operation && entry["who"] == who && entry["outcome"] == outcome
        };
        assert!(
            entries.iter().any(|entry| is(&entry)),
            "{operation}: {audit}"
        );
    };
    has("user-create", "the node's own token", "done");
    has("session-create", "nobody", "unauthenticated");
    has("volume-delete", "user vera", "forbidden");
    has("user-delete", "the node's own token", "done");
    let older = node.ask(&with(&["audit", "list", "--limit", "1", "--before", "3"]));
    assert_eq!(older[0]["id"], 2);
    node.stop();
    // Users and sessions are the catalog's.
    let node = Node::start(&config);
    assert_eq!(ask(&node.api, "GET /api/v1/volumes", &cookie, None).0, 200);
    node.stop();
    let log = std::fs::read_to_string(directory.path("node.log")).unwrap();
    for secret in [password, &first, "one that was given", "argon2"] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}
