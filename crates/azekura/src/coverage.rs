//! Every operation of the API has a verb: the document that the API serves, held to the command line.
//!
//! Each verb below is carried out against a server that writes down what it is asked and refuses it; the request must be that of the
//! operation. What a list can be filtered, sorted and cut by in the API are options of the verb, by the same names.

use crate::cli::Cli;
use crate::watch::Watched;
use clap::{CommandFactory, Parser};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Operations and a verb of each, as it is typed.
const VERBS: &[(&str, &str)] = &[
    ("status", "status"),
    ("cluster", "cluster show"),
    ("capacity", "capacity --rf 2"),
    ("openapi", "cluster api"),
    ("resiliency", "resiliency"),
    ("space", "space"),
    ("events", "events"),
    ("metrics-query", "metrics query cluster iops"),
    ("busiest", "metrics busiest"),
    ("metrics", "metrics export"),
    ("logs", "logs"),
    ("task-list", "task list"),
    ("task-show", "task show 7"),
    ("task-cancel", "task cancel 7"),
    ("alert-list", "alert list"),
    ("alert-show", "alert show 7"),
    ("alert-acknowledge", "alert acknowledge 7"),
    ("alert-resolve", "alert resolve 7"),
    ("alert-target-list", "alert target list"),
    (
        "alert-target-add",
        "alert target add webhook t --url http://t",
    ),
    ("alert-target-show", "alert target show t"),
    ("alert-target-delete", "alert target delete t"),
    ("alert-target-test", "alert target test t"),
    ("kubernetes-list", "kubernetes list"),
    ("kubernetes-show", "kubernetes show prod"),
    ("kubernetes-claims", "kubernetes claims prod"),
    ("kubernetes-forget", "kubernetes forget prod"),
    ("node-show", "node show n"),
    ("node-set", "node drain n"),
    ("node-remove", "node remove n"),
    ("store-list", "store list"),
    ("store-show", "store show 3"),
    ("store-set", "store drain 3"),
    ("store-remove", "store remove 3"),
    ("store-scrub", "store scrub 3"),
    ("setting-list", "cluster settings"),
    ("catalog-show", "catalog status"),
    ("catalog-backup", "catalog backup /nowhere/at/all"),
    ("catalog-move", "catalog move --supervised"),
    ("group-list", "group list"),
    ("group-show", "group show 7"),
    ("clone-list", "clone list"),
    ("disk-list", "disk list"),
    ("disk-add", "disk add --node n /dev/x"),
    ("disk-replace", "disk replace 3 /dev/x"),
    ("disk-locate", "disk locate 3"),
    ("container-list", "container list"),
    ("container-create", "container create c"),
    ("container-show", "container show c"),
    ("container-set", "container set c --rf 3"),
    ("container-delete", "container delete c"),
    ("volume-list", "volume list"),
    ("volume-create", "volume create v --container c --size 1GiB"),
    ("volume-show", "volume show v"),
    ("volume-set", "volume set v --iops-limit 5"),
    ("volume-delete", "volume delete v"),
    ("volume-resize", "volume resize v 1GiB"),
    ("volume-restore", "volume restore v s"),
    ("volume-drain", "volume drain v"),
    ("volume-release", "volume release v"),
    ("detach", "detach v --all"),
    ("volume-snapshot-list", "snapshot list v"),
    ("snapshot-create", "snapshot create v s"),
    ("snapshot-delete", "snapshot delete v s"),
    ("snapshot-diff", "snapshot diff v"),
    ("snapshot-list", "snapshot list"),
    ("snapshot-show", "snapshot show 34"),
    ("group-snapshot-list", "group-snapshot list"),
    ("group-snapshot-create", "group-snapshot create g v"),
    ("group-snapshot-show", "group-snapshot show 5"),
    ("group-snapshot-delete", "group-snapshot delete 5"),
    ("token-list", "token list"),
    (
        "token-create",
        "token create t --scope csi --all-containers",
    ),
    ("token-show", "token show t"),
    ("token-delete", "token delete t"),
    ("user-list", "user list"),
    ("user-create", "user create u --role viewer"),
    ("user-show", "user show u"),
    ("user-set", "user set-role u viewer"),
    ("user-delete", "user delete u"),
    ("session-show", "session show"),
    (
        "session-create",
        "session create u --password-file Cargo.toml --out /nowhere/at/all",
    ),
    ("session-delete", "session delete"),
    ("session-list", "session list"),
    ("session-end", "session end 0af9"),
    (
        "session-password",
        "session password --current-file Cargo.toml",
    ),
    ("audit-list", "audit list"),
    ("join-token-create", "node token create"),
    ("authority-show", "cluster ca show"),
    ("authority-rotate", "cluster ca rotate"),
    ("authority-retire", "cluster ca retire"),
];

/// Operations without a row above, and why.
const WITHOUT: &[(&str, &str)] = &[
    (
        "attach",
        "`azekura attach` asks for it between steps on this machine: tests of attaching do it for real",
    ),
    (
        "node-join",
        "`azekura node join` makes a key first and asks whom its token names: tests of certificates do it for real",
    ),
    (
        "kubernetes-report",
        "the driver's own: a person has nothing to report",
    ),
    (
        "log-report",
        "the driver's own: a person has no log to tell of",
    ),
    (
        "stream",
        "not asked for by itself: `--watch` of every verb that looks listens to it",
    ),
    (
        "log-follow",
        "for browsers: `logs --follow` asks for the same lines once a second",
    ),
    (
        "healthz",
        "beside the API, for load balancers and probes: `azekura status` says more",
    ),
];

/// Parameters that are no options of the verb of the same name, and why.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("logs", "from", "--last says it as a span until now"),
    (
        "metrics-query",
        "from",
        "--last says it as a span until now",
    ),
    (
        "snapshot-list",
        "volume",
        "it is the first argument: `snapshot list VOLUME`",
    ),
    ("volume-snapshot-list", "volume", "it is in the path"),
];

struct Described {
    method: String,
    path: String,
    parameters: Vec<String>,
}

/// What the API says of itself, by operation.
fn described() -> BTreeMap<String, Described> {
    let document = control::api_document();
    let mut all = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let parameters = parameters.filter(|one| one["in"] == "query");
            let name = |value: &Value| value.as_str().unwrap().to_owned();
            let described = Described {
                method: method.to_uppercase(),
                path: path.clone(),
                parameters: parameters.map(|one| name(&one["name"])).collect(),
            };
            all.insert(name(&operation["operationId"]), described);
        }
    }
    all
}

/// A server that refuses everything, and what it was asked: method and path without the query.
struct Recorder {
    url: String,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

fn refuse(mut stream: TcpStream, asked: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut first, mut length) = (String::new(), String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
        let lower = line.to_lowercase();
        if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let path = target.split('?').next().unwrap().to_owned();
    asked.lock().unwrap().push((method, path));
    let body = r#"{"kind":"refused","message":"no"}"#;
    let head = format!(
        "HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + body).as_bytes());
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<_>>> = Arc::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                refuse(stream.unwrap(), &noted);
            }
        });
        Self { url, asked }
    }

    /// What a verb asks first.
    fn asked_by(&self, verb: &str) -> (String, String) {
        self.asked.lock().unwrap().clear();
        let words = ["azekura", "--api", &self.url];
        let words = words.into_iter().chain(verb.split(' '));
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{verb}: {error}"));
        let result = crate::run(cli);
        let asked = self.asked.lock().unwrap();
        let first = asked.first().cloned();
        first.unwrap_or_else(|| panic!("{verb} asks nothing: {result:?}"))
    }
}

/// Whether a path is one of a pattern with `{parts}`.
fn fits(pattern: &str, path: &str) -> bool {
    let (want, have): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    let same = |(want, have): (&&str, &&str)| want.starts_with('{') || want == have;
    want.len() == have.len() && want.iter().zip(&have).all(same)
}

#[test]
fn every_operation_has_a_verb_that_asks_for_it() {
    let described = described();
    let verbs: BTreeMap<&str, &str> = VERBS.iter().copied().collect();
    let without: BTreeMap<&str, &str> = WITHOUT.iter().copied().collect();
    for id in described.keys() {
        let known = verbs.contains_key(id.as_str()) != without.contains_key(id.as_str());
        assert!(
            known,
            "{id} has no verb: add one to the command line and to VERBS, or a reason to WITHOUT"
        );
    }
    assert_eq!(
        verbs.len() + without.len(),
        described.len(),
        "no row is of nothing"
    );
    let recorder = Recorder::start();
    for (id, verb) in verbs {
        let wanted = &described[id];
        let (method, path) = recorder.asked_by(verb);
        assert!(
            method == wanted.method && fits(&wanted.path, &path),
            "`azekura {verb}` is to ask for {id}, {} {}, and asks {method} {path}",
            wanted.method,
            wanted.path
        );
    }
}

#[test]
fn what_looks_is_shown_again_and_what_changes_is_followed() {
    let described = described();
    for (id, verb) in VERBS {
        let words = ["azekura"].into_iter().chain(verb.split(' '));
        let cli = Cli::try_parse_from(words.chain(["--watch"])).unwrap();
        let looks = described[*id].method == "GET";
        match crate::watch::watched(&cli.verb) {
            Watched::Looks => assert!(looks, "`azekura {verb}` changes something"),
            Watched::Changes => assert!(!looks, "`azekura {verb}` only looks"),
            Watched::Not(_) => {
                let known = ["events", "logs", "catalog-backup", "detach"];
                assert!(known.contains(id), "`azekura {verb}` can be watched");
            }
        }
    }
}

/// The command that the words of a verb lead to.
fn command_of(verb: &str) -> clap::Command {
    let mut command = Cli::command();
    for word in verb.split(' ') {
        match command.find_subcommand(word) {
            Some(found) => command = found.clone(),
            None => break,
        }
    }
    command
}

#[test]
fn what_the_api_takes_in_a_query_is_an_option_of_the_same_name() {
    let described = described();
    for (id, verb) in VERBS {
        let command = command_of(verb);
        for parameter in &described[*id].parameters {
            let otherwise = OTHERWISE.iter();
            let mut otherwise = otherwise.filter(|(of, name, _)| of == id && name == parameter);
            let named = |argument: &clap::Arg| {
                let long = argument.get_long() == Some(&parameter.replace('_', "-"));
                long || argument.is_positional() && argument.get_id() == parameter.as_str()
            };
            assert!(
                command.get_arguments().any(named) || otherwise.next().is_some(),
                "`azekura {verb}` has no --{parameter}, which {id} takes"
            );
        }
    }
}
