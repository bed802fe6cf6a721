//! Tasks of a real node: a deletion until its space is back, a drain that outlives a SIGKILL, one that is cancelled.

use crate::support::cluster::wait_until;
use crate::support::nbd::Client;
use crate::support::{AZEKURA, Directory, Node, azekura, noise, three_stores};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const BLOCK: usize = 4096;

fn fill(node: &Node, volume: &str) {
    let mut client = Client::connect(&node.nbd, volume, Duration::from_secs(60)).unwrap();
    for block in 0..256 {
        let data = noise(block + 1, BLOCK);
        client.send_write(block * BLOCK as u64, &data).unwrap();
        client.receive().unwrap().outcome.expect("no write fails");
    }
    client.send_flush().unwrap();
    client.receive().unwrap().outcome.expect("no flush fails");
}

fn watch(node: &Node, id: u64) -> (Option<i32>, String, String) {
    azekura(&["task", "watch", &id.to_string(), "--api", &node.api])
}

/// Documents of a verb with `-o json --watch`, one after the other.
fn documents(out: &str) -> Vec<Value> {
    let lines = out.lines();
    let document = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    lines.map(document).collect()
}

#[test]
fn real_verbs_are_watched_until_their_tasks_have_ended() {
    let directory = Directory::new("watch");
    let text = three_stores("watch") + "\n[tuning]\ncollect-interval = \"1s\"\ngroups = 8\n";
    let node = Node::start(&directory.write("node.toml", text));
    node.make_volume("16MiB");
    fill(&node, "v");
    node.ask(&["volume", "drain", "v"]);
    // What looks is shown again when it changes, as soon as the node tells.
    let mut child = Command::new(AZEKURA)
        .args([
            "volume",
            "list",
            "-o",
            "json",
            "--watch",
            "--watch-interval",
            "10m",
        ])
        .args(["--api", &node.api])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut names = || {
        let line = lines.next().unwrap().unwrap();
        let list: Vec<Value> = serde_json::from_str(&line).unwrap();
        let name = |volume: &Value| volume["name"].as_str().unwrap().to_owned();
        list.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["v"]);
    node.ask(&[
        "volume",
        "create",
        "w",
        "--container",
        "c",
        "--size",
        "1MiB",
    ]);
    while names() != ["v", "w"] {}
    child.kill().unwrap();
    child.wait().unwrap();
    // What changes something is followed to its end.
    let delete = ["volume", "delete", "v", "--watch", "--api", &node.api];
    let (status, out, complaint) = azekura(&[&delete[..], &["-o", "json"]].concat());
    assert_eq!(status, Some(0), "{complaint}");
    let said = documents(&out);
    assert!(
        said.iter().any(|one| one["done"] == "deleted volume v"),
        "{out}"
    );
    let last = said.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["status"]),
        (&"volume-delete".into(), &"succeeded".into()),
        "{out}"
    );
    // For people, where nothing can be drawn: lines on standard error.
    fill(&node, "w");
    node.ask(&["snapshot", "create", "w", "s"]);
    let delete = [
        "snapshot", "delete", "w", "s", "--watch", "--api", &node.api,
    ];
    let (status, out, complaint) = azekura(&delete);
    assert_eq!(status, Some(0), "{complaint}");
    assert!(out.starts_with("deleted snapshot s of volume w"), "{out}");
    assert!(
        complaint.contains("(snapshot-delete of snapshot/w@s)"),
        "{complaint}"
    );
    assert!(complaint.contains("succeeded"), "{complaint}");
    let (status, _, complaint) = azekura(&["events", "--watch", "--api", &node.api]);
    assert_eq!(status, Some(2));
    assert!(complaint.contains("it has --follow"), "{complaint}");
    let (status, _, complaint) = azekura(&["volume", "show", "none", "--api", &node.api]);
    assert_eq!(status, Some(3), "{complaint}");
    let audit = node.ask(&["audit", "list"]);
    let entries = audit.as_array().unwrap();
    let of = |operation: &str| {
        entries
            .iter()
            .find(|one| one["operation"] == operation)
            .unwrap()
    };
    assert_eq!(of("volume-delete")["before"]["name"], "v", "{audit}");
    assert_eq!(of("snapshot-delete")["before"]["name"], "s", "{audit}");
    assert!(of("volume-create")["after"]["id"].is_u64(), "{audit}");
    let id = of("volume-delete")["id"].to_string();
    let (_, table, _) = azekura(&["audit", "show", &id, "--api", &node.api]);
    assert!(
        table.contains("BEFORE") && table.contains("ASKED FOR"),
        "{table}"
    );
    node.stop();
}

fn task(answer: &Value) -> u64 {
    answer["task"]
        .as_u64()
        .unwrap_or_else(|| panic!("no task: {answer}"))
}

#[test]
fn real_tasks_are_watched_cancelled_and_outlive_their_node() {
    let directory = Directory::new("tasks");
    let text = three_stores("tasks") + "\n[tuning]\ncollect-interval = \"1s\"\ngroups = 8\n";
    let config = directory.write("node.toml", text);
    let node = Node::start(&config);
    node.make_volume("16MiB");
    fill(&node, "v");
    node.ask(&["volume", "drain", "v"]);
    let deleted = node.ask(&["volume", "delete", "v"]);
    assert_eq!(deleted["done"], "deleted volume v", "{deleted}");
    let deletion = task(&deleted);
    let (status, out, complaint) = watch(&node, deletion);
    assert_eq!(status, Some(0), "{out} {complaint}");
    assert!(
        out.ends_with("volume-delete volume/v  succeeded  its space is free again\n"),
        "{out}"
    );
    let shown = node.ask(&["task", "show", &deletion.to_string()]);
    assert_eq!(
        (&shown["status"], &shown["who"]),
        (&"succeeded".into(), &"anybody".into())
    );
    assert!(
        shown["ended_ms"].as_u64() >= shown["queued_ms"].as_u64(),
        "{shown}"
    );

    // A drain goes on after its node was killed, and so does its task.
    node.ask(&[
        "volume",
        "create",
        "w",
        "--container",
        "c",
        "--size",
        "16MiB",
    ]);
    fill(&node, "w");
    let drain = task(&node.ask(&["store", "drain", "1"]));
    node.kill();
    let node = Node::start(&config);
    let (status, out, complaint) = watch(&node, drain);
    assert_eq!(status, Some(0), "{out} {complaint}");
    assert!(out.contains("it is empty and can be removed"), "{out}");
    let open = node.ask(&["task", "list", "--status", "open", "--kind", "store-drain"]);
    assert_eq!(open["tasks"].as_array().unwrap().len(), 0, "{open}");

    // Undraining it is balance at most; draining another one is refused or cancelled, never both.
    node.ask(&["store", "undrain", "1"]);
    let other = task(&node.ask(&["store", "drain", "2"]));
    node.ask(&["task", "cancel", &other.to_string()]);
    wait_until("it is cancelled", || {
        node.ask(&["task", "show", &other.to_string()])["status"] == "cancelled"
    });
    let (status, _, complaint) = watch(&node, other);
    assert_eq!(status, Some(8), "{complaint}");
    assert!(complaint.contains("cancelled"), "{complaint}");
    let refused = node.refuse(&["task", "cancel", &other.to_string()]);
    assert_eq!(refused["kind"], "refused", "{refused}");
    let (status, table, _) = azekura(&["task", "list", "--api", &node.api]);
    assert_eq!(status, Some(0));
    assert!(
        table.contains("PROGRESS") && table.contains("store/2"),
        "{table}"
    );
    node.stop();
}
