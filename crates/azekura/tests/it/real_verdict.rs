//! The verdict of real processes: a lost node, a lost member of etcd, a pool that fills up; and that it ends.

use crate::support::cluster::{Cluster, wait_until};
use crate::support::{Directory, Node, azekura, noise, three_stores};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a verdict may take to follow what happened.
const PROMPT: Duration = Duration::from_secs(10);

fn part<'a>(answer: &'a Value, component: &str, domain: &str) -> &'a Value {
    let parts = answer["components"].as_array().unwrap();
    let found = parts
        .iter()
        .find(|part| part["component"] == component && part["domain"] == domain);
    found.unwrap_or_else(|| panic!("no {component} by {domain}: {answer}"))
}

/// Until the verdict holds; it must within `limit`.
fn verdict(node: &Node, what: &str, limit: Duration, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let answer = node.ask(&["resiliency"]);
        if holds(&answer) {
            return answer;
        }
        assert!(
            began.elapsed() < limit,
            "{what} not within {limit:?}: {answer:#}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A line of `/metrics` of one of these nodes: what is one for the cluster is said by the one that leads.
fn metric(nodes: &[&Node], name: &str) -> String {
    let texts: Vec<String> = nodes.iter().map(|node| scrape(node)).collect();
    let mut lines = texts.iter().flat_map(|text| text.lines());
    let line = lines.find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {texts:?}"))
        .to_owned()
}

fn scrape(node: &Node) -> String {
    let address = node.api.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn real_verdict_sees_the_loss_of_a_node_and_of_an_etcd_member_and_their_return() {
    let mut cluster = Cluster::start_small("verdict", 3, "1 GiB");
    cluster
        .node(0)
        .ask(&["container", "create", "c", "--rf", "2"]);
    let quiet = |answer: &Value| {
        answer["verdict"] == "ok" && part(answer, "data", "node")["tolerates"] == 1
    };
    let minute = Duration::from_secs(60);
    let answer = verdict(cluster.node(0), "a quiet cluster", minute, quiet);
    assert_eq!(part(&answer, "catalog", "member")["tolerates"], 1);
    assert_eq!(part(&answer, "capacity", "node")["tolerates"], 1);
    let tolerated = "azekura_component_tolerates{component=\"catalog\",domain=\"member\",rf=\"\"}";
    let all = [0, 1, 2].map(|index| cluster.node(index));
    assert_eq!(metric(&all, tolerated), format!("{tolerated} 1"));

    cluster.etcd.kill_member(2);
    let answer = verdict(cluster.node(0), "the loss of a member", PROMPT, |answer| {
        part(answer, "catalog", "member")["state"] == "degraded"
    });
    let catalog = part(&answer, "catalog", "member");
    assert_eq!(
        (&catalog["tolerates"], &answer["verdict"]),
        (&0.into(), &"degraded".into())
    );
    assert!(
        catalog["reason"].as_str().unwrap().contains("three"),
        "{catalog}"
    );
    assert!(catalog["remedy"].is_string());
    cluster.etcd.restart_member(2);
    verdict(cluster.node(0), "the return of the member", PROMPT, quiet);

    cluster.kill_nodes(&[2]);
    let answer = verdict(cluster.node(0), "the loss of a node", PROMPT, |answer| {
        part(answer, "data", "node")["state"] == "critical"
    });
    assert_eq!(answer["verdict"], "critical");
    let data = part(&answer, "data", "node");
    assert_eq!(data["tolerates"], 0);
    assert!(
        data["reason"].is_string() && data["remedy"].is_string(),
        "{data}"
    );
    let (_, table, _) = azekura(&["resiliency", "--api", &cluster.node(0).api]);
    assert!(
        table.contains("MAY LOSE") && table.contains("critical"),
        "{table}"
    );
    let has = |cluster: &Cluster, kind: &str| {
        let told = cluster.node(1).ask(&["events"]);
        let mut events = told["events"].as_array().unwrap().iter();
        events.any(|event| event["kind"] == kind && event["entity"] == "node/node-2")
    };
    wait_until("the loss is told", || has(&cluster, "node-lost"));
    cluster.start_nodes(&[2]);
    verdict(cluster.node(0), "the return of the node", minute, quiet);
    wait_until("the return is told", || has(&cluster, "node-returned"));
    let told = cluster
        .node(1)
        .ask(&["events", "--after", "1", "--limit", "1"]);
    assert_eq!(
        (&told["events"][0]["id"], &told["next"]),
        (&2.into(), &2.into())
    );
}

/// Copies a file onto a volume; whether all of it was taken.
fn fill(file: &str, export: &str) -> bool {
    let copied = Command::new("nbdcopy").args([file, export]).output();
    copied
        .expect("nbdcopy of Debian package libnbd-bin")
        .status
        .success()
}

#[test]
fn real_pool_is_protected_before_it_is_full_and_recovers() {
    let directory = Directory::new("protected");
    let config = three_stores("protected").replace("512 MiB", "192 MiB");
    let node = Node::start(&directory.write("node.toml", config));
    node.ask(&["container", "create", "c", "--rf", "2"]);
    let create = |name| {
        node.ask(&[
            "volume",
            "create",
            name,
            "--container",
            "c",
            "--size",
            "512 MiB",
        ])
    };
    create("big");
    create("small");
    let file = directory.write("in", noise(3, 300 << 20));
    assert!(
        !fill(file.to_str().unwrap(), &node.export("big")),
        "300 MiB twice do not fit"
    );
    let protected = |answer: &Value| answer["space"][0]["state"] == "protected";
    verdict(&node, "a full pool", Duration::from_secs(180), protected);
    let container = node.ask(&["container", "list"]);
    assert_eq!(container[0]["space"], "protected");
    assert_eq!(
        metric(&[&node], "azekura_space_protected"),
        "azekura_space_protected{rf=\"2\"} 1"
    );
    let refused = node.refuse(&[
        "volume",
        "create",
        "more",
        "--container",
        "c",
        "--size",
        "1 MiB",
    ]);
    assert_eq!(refused["kind"], "no-space", "{refused}");
    let little = directory.write("little", noise(4, 1 << 20));
    assert!(
        !fill(little.to_str().unwrap(), &node.export("small")),
        "new data is refused"
    );

    wait_until("the space adds up", || {
        let report = node.ask(&["space"]);
        let physical = &report["physical"];
        let big = report["volumes"].as_array().unwrap().iter();
        let big = big.clone().find(|volume| volume["name"] == "big");
        let big = big.map_or(0, |volume| volume["usage"]["frees"].as_u64().unwrap());
        physical["other"] == 0 && physical["data"] == physical["used"] && big > 200 << 20
    });
    let shown = node.ask(&["volume", "show", "big"]);
    assert_eq!(shown["usage"]["exclusive"], shown["mapped"], "{shown}");
    node.ask(&["volume", "delete", "big"]);
    wait_until("protection ends", || {
        node.ask(&["resiliency"])["space"][0]["state"] == "ok"
    });
    assert!(
        fill(little.to_str().unwrap(), &node.export("small")),
        "new data is taken again"
    );
}
