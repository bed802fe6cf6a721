//! One process with its catalog in a file becomes three nodes with etcd.

use crate::support::cluster::{Etcd, lasting_address, wait_until};
use crate::support::{Directory, Node};
use crate::{MIB, catalog, check_all, text, write};
use std::collections::BTreeSet;

fn configuration(name: &str, catalog: &str, stores: std::ops::Range<u32>) -> String {
    let listen = lasting_address();
    let mut text = format!(
        "cluster = \"grows\"\nnode = \"{name}\"\nlisten = \"{listen}\"\nnbd = \"127.0.0.1:0\"\n\
         api = \"127.0.0.1:0\"\n\n[catalog]\n{catalog}\n"
    );
    for id in stores {
        text += &format!(
            "\n[[store]]\nid = {id}\njournal = \"32 MiB\"\n\n[[store.disk]]\npath = \"disk-{id}\"\ncreate = \"1 GiB\"\n"
        );
    }
    text
}

/// Whether every group has members on as many nodes as it has copies, and nothing is on its way.
fn is_spread(node: &Node) -> bool {
    let resiliency = node.ask(&["resiliency"]);
    let status = node.ask(&["status"]);
    let text = resiliency.to_string() + &status.to_string();
    !text.is_empty() && resiliency["can_lose_a_node"].as_bool().unwrap_or(true)
}

#[test]
fn real_single_process_becomes_three_nodes_with_etcd() {
    let directory = Directory::new("catalog-move");
    let etcd = Etcd::new(&directory);
    let config = directory.write(
        "one.toml",
        configuration("one", "embedded = \"catalog.redb\"", 1..4),
    );
    let node = Node::start(&config);
    node.ask(&["container", "create", "c", "--rf", "2"]);
    node.ask(&["volume", "create", "a", "--container", "c", "--size", "32MiB"]);
    let old = write(&directory, &node, "a", 1, 9 * MIB);
    node.ask(&["snapshot", "create", "a", "s"]);
    node.ask(&["clone", "a", "s", "b"]);
    let a = write(&directory, &node, "a", 2, 9 * MIB);
    let url = etcd.url();
    let words = ["move", "--config", &text(&config), "--to", &url];
    let refused = catalog(&words).unwrap_err();
    assert!(refused.contains("catalog.redb"), "in use: {refused}");
    node.kill();
    let moved = catalog(&words).unwrap();
    assert!(moved["rows"].as_u64().unwrap() > 5, "{moved}");
    let refused = Node::try_start(&config).err().expect("the file has moved");
    assert!(refused.contains("has moved to") && refused.contains(&url), "{refused}");
    let again = catalog(&words).unwrap_err();
    assert!(again.contains("not empty"), "{again}");
    let in_etcd = format!("etcd = [\"{url}\"]");
    let one = directory.write("one.toml", configuration("one", &in_etcd, 1..4));
    let two = directory.write("two.toml", configuration("two", &in_etcd, 4..5));
    let three = directory.write("three.toml", configuration("three", &in_etcd, 5..6));
    let contents = vec![("a".to_owned(), a), ("b".to_owned(), old)];
    let node = Node::start(&one);
    check_all(&directory, &node, &contents);
    let (second, third) = (Node::start(&two), Node::start(&three));
    wait_until("the groups are spread over the nodes", || is_spread(&node));
    check_all(&directory, &third, &contents);
    // The first machine dies for good: what it had is on the others.
    node.kill();
    check_all(&directory, &second, &contents);
    let _ = BTreeSet::<u8>::new();
}
