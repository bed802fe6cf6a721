//! Tasks of a real node: a deletion until its space is back, a drain that outlives a SIGKILL, one that is cancelled.

use crate::support::cluster::wait_until;
use crate::support::nbd::Client;
use crate::support::{Directory, Node, azekura, noise, three_stores};
use serde_json::Value;
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
    assert_eq!(status, Some(1));
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
