//! The catalog of a running node is backed up, and moves to etcd while a volume is written to.

use super::moving::{Writing, configuration, is_spread, write_on};
use super::{MIB, catalog, check_all, text, write};
use crate::support::attached::Attached;
use crate::support::cluster::{Etcd, lasting_address, wait_until};
use crate::support::{Directory, Node, program};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

fn volumes(node: &Node) -> usize {
    node.ask(&["volume", "list"]).as_array().unwrap().len()
}

#[test]
fn real_running_process_becomes_three_nodes_with_etcd() {
    let directory = Directory::new("catalog-online");
    let etcd = Etcd::new(&directory);
    let url = etcd.url();
    let listen = lasting_address();
    let embedded = "embedded = \"catalog.redb\"";
    let one = directory.write("one.toml", configuration("one", &listen, embedded, 1..4));
    let node = Node::start(&one);
    node.ask(&["container", "create", "c", "--rf", "2"]);
    for (name, size) in [("a", "32MiB"), ("busy", "64MiB")] {
        node.ask(&["volume", "create", name, "--container", "c", "--size", size]);
    }
    let old = write(&directory, &node, "a", 1, 9 * MIB);
    node.ask(&["snapshot", "create", "a", "s"]);
    node.ask(&["clone", "a", "s", "b"]);
    let a = write(&directory, &node, "a", 2, 9 * MIB);
    let attached = Attached::attach(&directory, &node, "busy");
    let writing = Arc::new(Writing::default());
    let (device, told) = (attached.device.clone(), writing.clone());
    let writer = std::thread::spawn(move || write_on(&device, &told));

    let backup = directory.path("backup").display().to_string();
    let made = node.ask(&["catalog", "backup", &backup]);
    assert!(made["rows"].as_u64() > Some(5), "{made}");
    let again = node.refuse(&["catalog", "backup", &backup]);
    assert!(
        again["message"]
            .as_str()
            .unwrap()
            .contains("something is there"),
        "{again}"
    );
    // Nobody is there: nothing has changed, and the node goes on.
    let nobody = format!("http://{}", lasting_address());
    let refused = node.refuse(&["catalog", "move", "--to", &nobody]);
    assert!(
        refused["message"].as_str().unwrap().contains(&nobody),
        "{refused}"
    );
    node.ask(&[
        "volume",
        "create",
        "c1",
        "--container",
        "c",
        "--size",
        "4MiB",
    ]);

    let before = writing.take_longest();
    let moved = node.ask(&["catalog", "move", "--to", &url]);
    assert!(moved["rows"].as_u64() > Some(5), "{moved}");
    let meanwhile = writing.take_longest();
    println!(
        "longest write before the move {before:.1} ms, while the catalog moved {meanwhile:.1} ms"
    );
    let again = node.refuse(&["catalog", "move", "--to", &url]);
    assert!(
        again["message"].as_str().unwrap().contains("moved already"),
        "{again}"
    );
    assert_eq!(volumes(&node), 4);
    node.ask(&[
        "volume",
        "create",
        "c2",
        "--container",
        "c",
        "--size",
        "4MiB",
    ]);
    node.ask(&["volume", "delete", "c1"]);
    node.ask(&["snapshot", "create", "busy", "moved"]);

    let in_etcd = format!("etcd = [\"{url}\"]");
    let start = |name: &str, store: u32| {
        let text = configuration(name, &lasting_address(), &in_etcd, store..store + 1);
        Node::start(&directory.write(&format!("{name}.toml"), text))
    };
    let contents = vec![("a".to_owned(), a), ("b".to_owned(), old)];
    let (second, third) = (start("two", 4), start("three", 5));
    wait_until("the copies are spread over the nodes", || {
        is_spread(&node, &["a", "busy"])
    });
    check_all(&directory, &third, &contents);
    // Its configuration still names the file: what it keeps says where the catalog is.
    node.kill();
    let node = Node::start(&one);
    assert_eq!(volumes(&node), 4);
    check_all(&directory, &node, &contents);
    writing.stop.store(true, Relaxed);
    let written = writer.join().unwrap();
    super::moving::compare(&attached, written);
    attached.detach(&node);
    node.kill();
    check_all(&directory, &second, &contents);
}

#[test]
fn real_interrupted_move_is_finished_or_undone_by_the_next_start() {
    let directory = Directory::new("catalog-interrupted");
    let etcd = Etcd::new(&directory);
    let url = etcd.url();
    let listen = lasting_address();
    let embedded = "embedded = \"catalog.redb\"";
    let config = directory.write("one.toml", configuration("one", &listen, embedded, 1..3));
    let node = Node::start(&config);
    node.ask(&["container", "create", "c", "--rf", "1"]);
    node.ask(&[
        "volume",
        "create",
        "v",
        "--container",
        "c",
        "--size",
        "4MiB",
    ]);
    node.stop();
    let kept = directory.path("one.state");
    std::fs::create_dir_all(&kept).unwrap();
    let begun = json!({
        "version": 1, "from": directory.path("catalog.redb"), "endpoints": [url], "prefix": "/azekura/", "done": false,
    });
    let keep = || std::fs::write(kept.join("catalog.json"), begun.to_string()).unwrap();
    // Before the file was marked it counts.
    keep();
    let node = Node::start(&config);
    assert_eq!(volumes(&node), 1);
    node.ask(&[
        "volume",
        "create",
        "w",
        "--container",
        "c",
        "--size",
        "4MiB",
    ]);
    node.stop();
    assert!(!kept.join("catalog.json").exists());
    // Marked, and the other one not finished: it is made again.
    catalog(&["move", "--config", &text(&config), "--to", &url]).unwrap();
    let unfinished =
        json!({"id": "", "name": "(a catalog that is being made)", "version": 1, "era": 0});
    let endpoint = format!("--endpoints={url}");
    let words = [
        &endpoint,
        "put",
        "/azekura/cluster",
        &unfinished.to_string(),
    ];
    program("etcdctl", "etcd-client", &words);
    keep();
    let node = Node::start(&config);
    assert_eq!(volumes(&node), 2);
    node.ask(&[
        "volume",
        "create",
        "x",
        "--container",
        "c",
        "--size",
        "4MiB",
    ]);
    node.kill();
    // Finished, and not noted as such.
    keep();
    let node = Node::start(&config);
    assert_eq!(volumes(&node), 3);
    node.stop();
}
