//! The recent lines of real nodes: one search follows a volume's deletion, also when it is gone, and at every node.

use crate::support::cluster::wait_until;
use crate::support::{Directory, Node, three_stores};
use serde_json::Value;

fn lines(node: &Node, words: &[&str]) -> Vec<Value> {
    let mut all = vec!["logs", "--limit", "2000"];
    all.extend(words);
    let answer = node.ask(&all);
    assert_eq!(answer["silent"], serde_json::json!([]), "{answer}");
    answer["lines"].as_array().expect("a list").clone()
}

fn has(lines: &[Value], message: &str) -> bool {
    let said = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|said| said.contains(message))
    };
    lines.iter().any(said)
}

#[test]
fn real_logs_follow_a_deletion_from_the_request_to_the_space() {
    let directory = Directory::new("logs");
    let text = three_stores("logs") + "\n[tuning]\ncollect-interval = \"1s\"\ngroups = 8\n";
    let config = directory.write("node.toml", text);
    let node = Node::start(&config);
    node.make_volume("16MiB");
    let other = [
        "volume",
        "create",
        "other",
        "--container",
        "c",
        "--size",
        "16MiB",
    ];
    node.ask(&other);
    let deleted = node.ask(&["volume", "delete", "v"]);
    let task = deleted["task"].as_u64().expect("a task").to_string();
    wait_until("the deletion is over", || {
        node.ask(&["task", "show", &task])["status"] == "succeeded"
    });
    // By the name of what is gone, and by its task.
    for words in [["--volume", "v"], ["--task", &task]] {
        let found = lines(&node, &words);
        for message in ["deleted; its space comes back", "task begun", "task ended"] {
            assert!(has(&found, message), "{words:?} {message}: {found:?}");
        }
        let about_other = |line: &&Value| line["fields"]["volume"] == "other";
        assert_eq!(found.iter().find(about_other), None);
    }
    let whole = lines(&node, &["--volume", "v"]);
    let is_creation = |line: &Value| line["fields"]["operation"] == "volume-create";
    assert!(whole.iter().any(is_creation), "its whole life: {whole:?}");
    assert!(has(&whole, "collected"), "its lineage, too: {whole:?}");
    // What the request did is found by the name that the audit log has for it.
    let request = node.ask(&["task", "show", &task])["request"].clone();
    let request = request.as_str().expect("text");
    let found = lines(&node, &["--request", request]);
    assert!(
        has(&found, "operation done") && has(&found, "task begun"),
        "{found:?}"
    );
    // Order, levels and text.
    let times: Vec<u64> = found
        .iter()
        .filter_map(|line| line["at_ms"].as_u64())
        .collect();
    assert!(times.is_sorted() && times.len() == found.len());
    let warned = lines(&node, &["--level", "warn"]);
    assert!(has(&warned, "connections are not encrypted"), "{warned:?}");
    assert!(
        warned
            .iter()
            .all(|line| line["level"] == "warn" || line["level"] == "error")
    );
    assert!(lines(&node, &["--text", "no line says this"]).is_empty());
    assert_eq!(
        node.refuse(&["logs", "--node", "nobody"])["kind"],
        "not-found"
    );
    assert_eq!(node.refuse(&["logs", "--task", "999"])["kind"], "not-found");
}
