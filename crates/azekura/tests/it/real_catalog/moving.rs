//! One process with its catalog in a file becomes three nodes with etcd.

use super::{MIB, catalog, check_all, text, write};
use crate::support::attached::Attached;
use crate::support::cluster::{Etcd, lasting_address, wait_until};
use crate::support::{Directory, Node, noise};
use serde_json::Value;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

pub fn configuration(name: &str, listen: &str, catalog: &str, stores: Range<u32>) -> String {
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

/// Whether all copies are on distinct nodes, of data at rest and of logs.
pub fn is_spread(node: &Node, volumes: &[&str]) -> bool {
    let resiliency = node.ask(&["resiliency"]);
    let data = resiliency["data"].as_array().unwrap();
    let spread = |one: &Value| {
        one["domain"] == "node" && one["degraded"] == 0 && one["tolerates"].as_u64() >= Some(1)
    };
    let on_two_nodes = |volume: &&str| {
        let shown = node.ask(&["volume", "show", volume]);
        let stores = shown["log"].as_array().unwrap().iter();
        let of_first = stores.filter(|one| one["store"].as_u64() < Some(4));
        of_first.count() < 2 && shown["segments"] == 1
    };
    resiliency["repair"]["filling"] == 0
        && !data.is_empty()
        && data.iter().all(spread)
        && volumes.iter().all(on_two_nodes)
}

/// Blocks that are written again and again.
const BLOCKS: u64 = 2048;

/// How a writer is told to stop, and what it tells.
#[derive(Default)]
pub struct Writing {
    pub stop: AtomicBool,
    /// The longest write since somebody took it, in microseconds.
    longest: AtomicU64,
}

impl Writing {
    /// The longest write since this was asked last, in milliseconds.
    pub fn take_longest(&self) -> f64 {
        self.longest.swap(0, Relaxed) as f64 / 1000.0
    }
}

/// Writes blocks one after the other, each flushed, until it is told to stop; how many. Any error fails the test.
pub fn write_on(device: &str, writing: &Writing) -> u64 {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(device)
        .unwrap();
    let mut written = 0_u64;
    while !writing.stop.load(Relaxed) {
        let begun = Instant::now();
        let block = noise(written + 1, 4096);
        let at = written % BLOCKS * 4096;
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&block).expect("clients see no error");
        file.sync_data().expect("clients see no error");
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap();
        writing.longest.fetch_max(took, Relaxed);
        written += 1;
    }
    written
}

/// Every block is what was written there last.
pub fn compare(attached: &Attached, written: u64) {
    let count = written.min(BLOCKS);
    let found = attached.read(usize::try_from(count).unwrap() * 4096);
    for (index, block) in (0..count).zip(found.chunks(4096)) {
        let last = index + (written - 1 - index) / BLOCKS * BLOCKS;
        assert!(block == noise(last + 1, 4096), "block {index} of busy");
    }
}

#[test]
fn real_single_process_becomes_three_nodes_with_etcd() {
    let directory = Directory::new("catalog-move");
    let etcd = Etcd::new(&directory);
    let listen = lasting_address();
    let config = directory.write(
        "one.toml",
        configuration("one", &listen, "embedded = \"catalog.redb\"", 1..4),
    );
    let node = Node::start(&config);
    node.ask(&["container", "create", "c", "--rf", "2"]);
    node.ask(&[
        "volume",
        "create",
        "a",
        "--container",
        "c",
        "--size",
        "32MiB",
    ]);
    let old = write(&directory, &node, "a", 1, 9 * MIB);
    node.ask(&["snapshot", "create", "a", "s"]);
    node.ask(&["clone", "a", "s", "b"]);
    let a = write(&directory, &node, "a", 2, 9 * MIB);
    node.ask(&[
        "volume",
        "create",
        "busy",
        "--container",
        "c",
        "--size",
        "64MiB",
    ]);
    let attached = Attached::attach(&directory, &node, "busy");
    let writing = Arc::new(Writing::default());
    let (device, told) = (attached.device.clone(), writing.clone());
    let writer = std::thread::spawn(move || write_on(&device, &told));
    let url = etcd.url();
    let words = ["move", "--config", &text(&config), "--to", &url];
    let refused = catalog(&words).unwrap_err();
    assert!(refused.contains("catalog.redb"), "in use: {refused}");
    node.kill();
    let moved = catalog(&words).unwrap();
    assert!(moved["rows"].as_u64().unwrap() > 5, "{moved}");
    let refused = Node::try_start(&config).err().expect("the file has moved");
    assert!(
        refused.contains("has moved to") && refused.contains(&url),
        "{refused}"
    );
    let again = catalog(&words).unwrap_err();
    assert!(again.contains("not empty"), "{again}");
    let in_etcd = format!("etcd = [\"{url}\"]");
    let one = directory.write("one.toml", configuration("one", &listen, &in_etcd, 1..4));
    let two = directory.write(
        "two.toml",
        configuration("two", &lasting_address(), &in_etcd, 4..5),
    );
    let three = directory.write(
        "three.toml",
        configuration("three", &lasting_address(), &in_etcd, 5..6),
    );
    let contents = vec![("a".to_owned(), a), ("b".to_owned(), old)];
    let node = Node::start(&one);
    check_all(&directory, &node, &contents);
    let (second, third) = (Node::start(&two), Node::start(&three));
    wait_until("the copies are spread over the nodes", || {
        is_spread(&node, &["a", "b", "busy"])
    });
    check_all(&directory, &third, &contents);
    writing.stop.store(true, Relaxed);
    let written = writer.join().unwrap();
    assert!(written > 0);
    compare(&attached, written);
    attached.detach(&node);
    // The first machine dies for good: what it had is on the others.
    node.kill();
    check_all(&directory, &second, &contents);
}
