//! Alerts of a real process reach a webhook over TLS, a mail server that asks for STARTTLS and a password, and an Alertmanager.

mod receivers;

use crate::support::cluster::wait_until;
use crate::support::{Directory, Node, azekura, three_stores};
use receivers::{Certificates, Post, mail_server, web_server};
use ring::hmac;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

const KEY: &str = "a key of a webhook that is long enough";
const PASSWORD: &str = "open-sesame-42";

type Posts = Arc<Mutex<Vec<Post>>>;

fn bodies(posts: &Posts) -> Vec<Value> {
    let posts = posts.lock().unwrap();
    let parse = |post: &Post| serde_json::from_str(&post.body).unwrap();
    posts.iter().map(parse).collect()
}

fn header<'a>(post: &'a Post, name: &str) -> &'a str {
    let mut lines = post.head.lines();
    let line = lines.find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    line.unwrap_or_else(|| panic!("no {name} in {}", post.head))
}

fn assert_signed(post: &Post) {
    let hex = header(post, "x-azekura-signature")
        .strip_prefix("sha256=")
        .unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    hmac::verify(&key, post.body.as_bytes(), &bytes).unwrap();
}

/// An alert of this kind that is open.
fn open_alert(node: &Node, kind: &str) -> Option<Value> {
    let answer = node.ask(&["alert", "list", "--kind", kind]);
    answer["alerts"].as_array().unwrap().first().cloned()
}

fn metrics(node: &Node) -> String {
    let address = node.api.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Where everything is sent, and what came.
struct Scene {
    directory: Directory,
    certificates: Certificates,
    hooks: Posts,
    monitoring: Posts,
    mails: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn add_targets(&self, node: &Node, hook: u16, monitoring: u16, mail: u16) {
        let directory = &self.directory;
        let file = |name: &str, text: &str| {
            let path = directory.write(name, format!("{text}\n"));
            path.to_str().unwrap().to_owned()
        };
        let address = file("address", &format!("https://127.0.0.1:{hook}/in/hush-hush"));
        let (key, password) = (file("key", KEY), file("password", PASSWORD));
        let ca = self.certificates.ca.to_str().unwrap();
        let start = ["alert", "target", "add", "webhook", "pager", "--ca", ca];
        let hook = ["--url-file", &address, "--secret-file", &key];
        let added = node.ask(&[&start[..], &hook].concat());
        assert_eq!(
            (&added["signed"], &added["own_ca"]),
            (&true.into(), &true.into())
        );
        let server = format!("127.0.0.1:{mail}");
        let start = [
            "alert", "target", "add", "mail", "ops", "--ca", ca, "--server", &server,
        ];
        let login = ["--user", "azekura", "--password-file", &password];
        let ends = ["--from", "azekura@mail.test", "--to", "ops@mail.test"];
        node.ask(&[&start[..], &login, &ends].concat());
        let url = format!("http://127.0.0.1:{monitoring}/");
        let start = ["alert", "target", "add", "alertmanager", "monitoring"];
        node.ask(&[&start[..], &["--url", &url]].concat());
    }

    fn assert_tests_arrived(&self) {
        let bodies = bodies(&self.hooks);
        assert_eq!(bodies.len(), 1);
        assert_eq!(
            (&bodies[0]["event"], &bodies[0]["alert"]),
            (&"test".into(), &Value::Null)
        );
        assert!(self.mails.lock().unwrap()[0].contains("Auto-Submitted: auto-generated"));
        let posts = self.monitoring.lock().unwrap();
        assert!(
            posts[0].head.starts_with("POST /api/v2/alerts "),
            "{}",
            posts[0].head
        );
        assert!(posts[0].body.contains("AzekuraTest"));
    }

    /// Nothing that was said in confidence is shown, logged or noted.
    fn assert_secrets_are_kept(&self, node: &Node) {
        let shown = [
            node.ask(&["alert", "target", "list"]).to_string(),
            node.ask(&["audit", "list", "--limit", "1000"]).to_string(),
            std::fs::read_to_string(self.directory.path("node.log")).unwrap(),
        ];
        for text in shown {
            for secret in [KEY, PASSWORD, "hush-hush"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

#[test]
fn real_alerts_reach_a_webhook_a_mail_server_and_an_alertmanager() {
    let directory = Directory::new("alerts");
    let certificates = Certificates::make(&directory.path("certificates"));
    let (hook, hooks) = web_server(Some(certificates.server.clone()));
    let (monitoring, posts) = web_server(None);
    let (mail, mails) = mail_server(certificates.server.clone(), "azekura", PASSWORD);
    let config = directory.write("node.toml", three_stores("alerts"));
    let scene = Scene {
        directory,
        certificates,
        hooks,
        monitoring: posts,
        mails,
    };
    let node = Node::start(&config);
    assert_eq!(node.ask(&["status"])["alerts"]["critical"], 0);
    scene.add_targets(&node, hook, monitoring, mail);
    wait_until("the node leads", || {
        let text = metrics(&node);
        text.lines()
            .any(|line| line.starts_with("azekura_leader") && line.ends_with(" 1"))
    });
    for target in ["pager", "ops", "monitoring"] {
        node.ask(&["alert", "target", "test", target]);
    }
    scene.assert_tests_arrived();
    // One that is not believed, for it has other authorities to believe, is refused with the reason.
    let url = format!("https://127.0.0.1:{hook}/");
    node.ask(&[
        "alert", "target", "add", "webhook", "stranger", "--url", &url,
    ]);
    let refused = node.refuse(&["alert", "target", "test", "stranger"]);
    assert_eq!(refused["kind"], "refused");
    node.ask(&["alert", "target", "delete", "stranger"]);

    let quota = [
        "container",
        "create",
        "c",
        "--rf",
        "1",
        "--quota",
        "100 MiB",
    ];
    node.ask(&quota);
    node.ask(&[
        "volume",
        "create",
        "v",
        "--container",
        "c",
        "--size",
        "95 MiB",
    ]);
    // A leader looks at all volumes when it begins: targets, and how far they were told, outlive the process.
    node.stop();
    let node = Node::start(&config);
    wait_until("the quota is an alert", || {
        open_alert(&node, "quota-nearly-used").is_some()
    });
    let alert = open_alert(&node, "quota-nearly-used").unwrap();
    assert_eq!(
        (&alert["severity"], &alert["entity"]),
        (&"warning".into(), &"container/c".into())
    );
    let told = |event: &str| {
        let all = bodies(&scene.hooks);
        all.iter()
            .any(|body| body["event"] == event && body["alert"]["kind"] == "quota-nearly-used")
    };
    wait_until("the webhook is told", || told("raised"));
    wait_until("mail and Alertmanager are told", || {
        let mails = scene.mails.lock().unwrap();
        let posts = scene.monitoring.lock().unwrap();
        mails.iter().any(|mail| mail.contains("References:"))
            && posts
                .iter()
                .any(|post| post.body.contains("AzekuraQuotaNearlyUsed"))
    });
    scene.hooks.lock().unwrap().iter().for_each(assert_signed);

    let id = alert["id"].to_string();
    let seen = node.ask(&[
        "alert",
        "acknowledge",
        &id,
        "--note",
        "more disks are on their way",
    ]);
    assert_eq!(seen["state"], "acknowledged");
    wait_until("the webhook is told of that", || told("acknowledged"));
    let refused = node.refuse(&["alert", "resolve", &id]);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("ends by itself"),
        "{refused}"
    );
    assert_eq!(node.ask(&["status"])["alerts"]["warning"], 1);
    let (_, table, _) = azekura(&["status", "--api", &node.api]);
    assert!(table.contains("open alerts: 1 warning"), "{table}");
    let (_, table, _) = azekura(&["alert", "show", &id, "--api", &node.api]);
    assert!(table.contains("more disks are on their way"), "{table}");
    let line = "azekura_alerts{severity=\"warning\",kind=\"quota-nearly-used\"} 1";
    wait_until("the metrics count it", || metrics(&node).contains(line));
    let ids: Vec<Value> = bodies(&scene.hooks)
        .iter()
        .map(|body| body["id"].clone())
        .collect();
    let distinct: std::collections::BTreeSet<String> = ids.iter().map(Value::to_string).collect();
    assert_eq!(ids.len(), distinct.len(), "each change once: {ids:?}");
    scene.assert_secrets_are_kept(&node);
}
