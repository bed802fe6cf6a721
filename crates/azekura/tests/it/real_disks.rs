//! Disks of a running node are added, drained, removed and replaced while a volume is written to.

use crate::support::cluster::wait_until;
use crate::support::nbd::Client;
use crate::support::{Directory, Node, azekura, noise, program, three_stores};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Blocks that are written again and again.
const BLOCKS: u64 = 2048;
const BLOCK: usize = 4096;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The block that the write with this number writes.
fn content(number: u64) -> Vec<u8> {
    noise(number + 1, BLOCK)
}

/// Writes until told to stop, every block flushed now and then, and reads back what it wrote; how many. Any error fails
/// the test.
fn write_on(nbd: &str, stop: &AtomicBool) -> u64 {
    let mut client = Client::connect(nbd, "v", PATIENCE).unwrap();
    let mut written = 0_u64;
    while !stop.load(Relaxed) {
        let at = written % BLOCKS * BLOCK as u64;
        client.send_write(at, &content(written)).unwrap();
        client.receive().unwrap().outcome.expect("no write fails");
        if written.is_multiple_of(16) {
            client.send_flush().unwrap();
            client.receive().unwrap().outcome.expect("no flush fails");
        }
        if written.is_multiple_of(7) {
            client.send_read(at, BLOCK as u32).unwrap();
            let read = client.receive().unwrap().outcome.expect("no read fails");
            assert!(
                read == content(written),
                "write {written} reads as something else"
            );
        }
        written += 1;
    }
    client.send_flush().unwrap();
    client.receive().unwrap().outcome.expect("no flush fails");
    written
}

/// Every block is what was written there last.
fn compare(nbd: &str, written: u64) {
    let mut client = Client::connect(nbd, "v", PATIENCE).unwrap();
    for index in 0..written.min(BLOCKS) {
        let last = index + (written - 1 - index) / BLOCKS * BLOCKS;
        client
            .send_read(index * BLOCK as u64, BLOCK as u32)
            .unwrap();
        let read = client.receive().unwrap().outcome.expect("no read fails");
        assert!(read == content(last), "block {index}");
    }
}

fn disks(node: &Node) -> Vec<Value> {
    node.ask(&["disk", "list"]).as_array().unwrap().clone()
}

fn disk_of(node: &Node, store: u64) -> Option<Value> {
    disks(node).into_iter().find(|disk| disk["store"] == store)
}

fn is_whole(node: &Node) -> bool {
    let found = node.ask(&["resiliency"]);
    let whole = |one: &Value| one["degraded"] == 0;
    found["repair"]["filling"] == 0 && found["data"].as_array().unwrap().iter().all(whole)
}

fn has_groups(node: &Node, store: u64) -> bool {
    disk_of(node, store).is_some_and(|disk| disk["groups"].as_u64() > Some(0))
}

#[test]
fn real_disks_come_and_go_while_a_volume_is_written_to() {
    let directory = Directory::new("disks");
    let text = three_stores("disks") + "\n[tuning]\nrepair-delay = \"2s\"\n";
    let config = directory.write("node.toml", text);
    let node = Node::start(&config);
    node.ask(&["container", "create", "c", "--rf", "2"]);
    node.ask(&[
        "volume",
        "create",
        "v",
        "--container",
        "c",
        "--size",
        "16MiB",
    ]);
    let stop = Arc::new(AtomicBool::new(false));
    let (nbd, told) = (node.nbd.clone(), stop.clone());
    let writer = std::thread::spawn(move || write_on(&nbd, &told));

    let listed = disks(&node);
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert_eq!(listed[0]["size"], 512 << 20);
    // What is not blank is refused, with the words that it takes.
    let used = directory.blank("used", 512 << 20);
    program(
        "mkfs.ext4",
        "e2fsprogs",
        &["-q", "-F", used.to_str().unwrap()],
    );
    let used = used.display().to_string();
    let journal = ["--journal-size", "32MiB"];
    let add = |path: &str, more: &[&str]| -> Vec<String> {
        let words = [&["disk", "add", "--node", "one", path][..], &journal, more].concat();
        words.into_iter().map(str::to_owned).collect()
    };
    let words = |words: &[String]| -> Value {
        node.ask(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let refused = node.refuse(&["disk", "add", "--node", "one", &used]);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("--override 'erase {used}'")),
        "{message}"
    );
    let relative = node.refuse(&["disk", "add", "--node", "one", "disk-9"]);
    assert!(relative["message"].as_str().unwrap().contains("absolute"));
    let erase = format!("erase {used}");
    let added = words(&add(&used, &["--override", &erase]));
    let fourth = added[0]["store"].as_u64().unwrap();
    assert!(fourth > 3, "{added}");
    let fresh = directory.path("fresh").display().to_string();
    // What is refused leaves no file behind that the next request would find.
    for (size, journal) in [("10MiB", "32MiB"), ("512MiB", "1MiB")] {
        let small = ["disk", "add", "--node", "one", &fresh, "--create", size];
        node.refuse(&[&small[..], &["--journal-size", journal]].concat());
        assert!(!directory.path("fresh").exists(), "{size}");
    }
    let added = words(&add(&fresh, &["--create", "512MiB"]));
    let fifth = added[0]["store"].as_u64().unwrap();
    wait_until("the new stores get groups", || {
        has_groups(&node, fourth) && has_groups(&node, fifth) && is_whole(&node)
    });

    // One of the configuration goes.
    let early = node.refuse(&["disk", "remove", "1"]);
    assert_eq!(early["kind"], "refused", "{early}");
    let first = format!("one:{}", directory.path("disk-1").display());
    node.ask(&["disk", "drain", "1", "--wait"]);
    node.ask(&["disk", "remove", "1"]);
    assert_eq!(disk_of(&node, 1), None);
    let gone = node.refuse(&["disk", "drain", &first]);
    assert_eq!(gone["kind"], "not-found", "{gone}");
    // A drained one gets another disk.
    let other = directory.path("other").display().to_string();
    let early = node.refuse(&["disk", "replace", "2", &other, "--create", "512MiB"]);
    assert!(
        early["message"]
            .as_str()
            .unwrap()
            .contains("drain it first"),
        "{early}"
    );
    node.ask(&["disk", "drain", "2", "--wait"]);
    let place = format!("one:{}", directory.path("disk-2").display());
    node.ask(&[
        "disk",
        "replace",
        &place,
        &other,
        "--create",
        "512MiB",
        "--journal-size",
        "32MiB",
    ]);
    wait_until("it is filled again", || {
        has_groups(&node, 2) && is_whole(&node)
    });
    stop.store(true, Relaxed);
    let written = writer.join().unwrap();
    compare(&node.nbd, written);
    node.kill();

    // All of that holds after a restart, also when a disk has died meanwhile.
    std::fs::remove_file(&fresh).unwrap();
    let node = Node::start(&config);
    compare(&node.nbd, written);
    let stores: Vec<u64> = disks(&node)
        .iter()
        .map(|disk| disk["store"].as_u64().unwrap())
        .collect();
    assert_eq!(stores, [2, 3, fourth, fifth]);
    assert_eq!(disk_of(&node, 2).unwrap()["path"], other);
    let dead = disk_of(&node, fifth).unwrap();
    assert_eq!(dead["state"], "failed", "{dead}");
    assert!(
        dead["reason"].as_str().unwrap().contains("does not exist"),
        "{dead}"
    );
    let id = fifth.to_string();
    let newest = directory.path("newest").display().to_string();
    let replaced = node.ask(&[
        "disk",
        "replace",
        &id,
        &newest,
        "--create",
        "512MiB",
        "--journal-size",
        "32MiB",
    ]);
    assert_eq!(replaced[0]["path"], newest);
    wait_until("it is filled again", || {
        has_groups(&node, fifth)
            && is_whole(&node)
            && disk_of(&node, fifth).unwrap()["state"] == "ready"
    });
    compare(&node.nbd, written);
    node.stop();
    let (code, out, errors) = azekura(&["disk", "show", &newest, "-o", "json"]);
    assert_eq!(code, Some(0), "{errors}");
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown[0]["store"], fifth);
}

#[test]
fn real_dead_disks_of_a_first_start_are_an_error() {
    let directory = Directory::new("disks-first");
    let text = three_stores("first").replacen("create = \"512 MiB\"\n", "", 1);
    let config = directory.write("node.toml", text);
    let error = Node::try_start(&config).err().unwrap();
    assert!(
        error.contains("store 1 of the configuration cannot be opened"),
        "{error}"
    );
    assert!(error.contains("disk-1 does not exist"), "{error}");
}
