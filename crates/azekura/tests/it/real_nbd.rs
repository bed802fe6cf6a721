//! What NBD clients ask beside reads and writes, of a volume with two copies: trims, zeros, block status, copies by the tools
//! that people use, before and after what they wrote is drained.

use crate::support::nbd::Client;
use crate::support::process::Process;
use crate::support::{Directory, Node, nbdcopy, noise, program, three_stores};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// How long a server may take until its socket is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node with a volume `v` of 64 MiB.
fn start(name: &str) -> (Directory, Node) {
    let directory = Directory::new(name);
    let node = Node::start(&directory.write("node.toml", three_stores(name)));
    node.make_volume("64MiB");
    (directory, node)
}

fn qemu_io(uri: &str, commands: &[&str]) {
    let mut words = vec!["-f", "raw", "-d", "unmap"];
    commands.iter().for_each(|one| words.extend(["-c", *one]));
    words.push(uri);
    let out = program("qemu-io", "qemu-utils", &words);
    let failed = ["rror", "failed", "Pattern verification"];
    assert!(!failed.iter().any(|word| out.contains(word)), "{out}");
}

/// Where an export has data, in whole MiB, as its block status says.
fn data(uri: &str) -> Vec<(u64, u64)> {
    let map = program("nbdinfo", "libnbd-bin", &["--map", "--json", uri]);
    let map: Value = serde_json::from_str(&map).expect("nbdinfo --json gives JSON");
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for run in map.as_array().expect("a list of runs") {
        let number = |name: &str| run[name].as_u64().expect("a number");
        let (offset, length, kind) = (number("offset"), number("length"), number("type"));
        // Bit 0: a hole; bit 1: it reads as zeros. Both or none, on a thin volume.
        assert!(kind == 0 || kind == 3, "{run}");
        match runs.last_mut() {
            _ if kind == 3 => {}
            Some((_, end)) if *end == offset => *end += length,
            _ => runs.push((offset, offset + length)),
        }
    }
    let in_mib = runs.into_iter().map(|(from, to)| (from / MIB, to / MIB));
    in_mib.collect()
}

#[test]
fn real_nbd_trims_and_zeros_of_a_volume_give_space_back_and_read_as_zeros() {
    let (_directory, node) = start("nbd-trim");
    let uri = node.export("v");
    assert_eq!(data(&uri), [], "a new volume is empty");
    qemu_io(
        &uri,
        &["write -P 0x5a 0 8M", "write -P 0x11 20M 2M", "flush"],
    );
    assert_eq!(data(&uri), [(0, 8), (20, 22)]);
    let holes = ["discard 2M 2M", "write -z -u 6M 1M", "flush"];
    let checks = [
        "read -P 0x5a 0 2M",
        "read -P 0 2M 2M",
        "read -P 0x5a 4M 2M",
        "read -P 0 6M 1M",
        "read -P 0x5a 7M 1M",
        "read -P 0x11 20M 2M",
    ];
    // What is in the log only, then over extents, then over what is drained.
    for drained in [false, true, true] {
        qemu_io(&uri, &holes);
        qemu_io(&uri, &checks);
        assert_eq!(data(&uri), [(0, 2), (4, 6), (7, 8), (20, 22)]);
        if drained {
            node.ask(&["volume", "drain", "v"]);
            let shown = node.ask(&["volume", "show", "v"]);
            assert_eq!(shown["mapped"], 7 * MIB, "{shown}");
        }
    }
    // Parts of blocks: what lies around stays.
    qemu_io(&uri, &["discard 512 512", "write -z 21505k 3k", "flush"]);
    qemu_io(
        &uri,
        &[
            "read -P 0x5a 1k 511k",
            "read -P 0x11 20M 1M",
            "read -P 0 21505k 3k",
            "read -P 0x11 21508k 1020k",
        ],
    );
    qemu_io(&uri, &["discard 0 64M", "flush"]);
    assert_eq!(data(&uri), []);
    node.ask(&["volume", "drain", "v"]);
    assert_eq!(node.ask(&["volume", "show", "v"])["mapped"], 0);
    node.stop();
}

#[test]
fn real_nbd_tools_copy_a_volume_in_and_out() {
    let (directory, node) = start("nbd-tools");
    let uri = node.export("v");
    let mut content = noise(5, 48 << 20);
    content[10 << 20..30 << 20].fill(0);
    content.resize(64 << 20, 0);
    let source = directory.write("source", &content);
    let source = source.to_str().unwrap();
    let raw = ["convert", "-f", "raw", "-O", "raw", "-n", source, &uri];
    program("qemu-img", "qemu-utils", &raw);
    let compare = ["compare", "-f", "raw", "-F", "raw", source, &uri];
    program("qemu-img", "qemu-utils", &compare);
    assert_eq!(data(&uri), [(0, 10), (30, 48)], "zeros take no space");
    node.ask(&["volume", "drain", "v"]);
    program("qemu-img", "qemu-utils", &compare);

    // Served on by qemu-nbd, which is a client of ours, and grown meanwhile.
    let socket = directory.path("qemu.sock");
    let path = socket.to_str().unwrap();
    let child = Command::new("qemu-nbd")
        .args(["-f", "raw", "-t", "-k", path, &uri])
        .spawn()
        .expect("qemu-nbd of Debian package qemu-utils");
    let mut server = Process::new(child);
    let begun = Instant::now();
    while !socket.exists() {
        assert!(server.is_running(), "qemu-nbd ends by itself");
        assert!(begun.elapsed() < PATIENCE, "qemu-nbd does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let through = format!("nbd+unix:///?socket={path}");
    let back = directory.path("back");
    nbdcopy(&through, back.to_str().unwrap());
    assert!(
        std::fs::read(&back).unwrap() == content,
        "read through qemu-nbd"
    );
    node.ask(&["volume", "resize", "v", "96MiB"]);
    qemu_io(
        &through,
        &["write -P 7 63M 1M", "flush", "read -P 7 63M 1M"],
    );
    server.signal("TERM");
    server.wait();
    let size = program("nbdinfo", "libnbd-bin", &["--size", &uri]);
    assert_eq!(size.trim(), (96 * MIB).to_string());
    qemu_io(&uri, &["read -P 7 63M 1M", "read -P 0 64M 32M"]);
    node.stop();
}

/// Sends nothing before the answer is there.
fn ask(client: &mut Client, send: impl FnOnce(&mut Client) -> std::io::Result<u64>) -> Vec<u8> {
    let cookie = send(client).expect("sent");
    let reply = client.receive().expect("answered");
    assert_eq!(reply.cookie, cookie);
    reply.outcome.expect("granted")
}

#[test]
fn real_nbd_a_flush_of_one_connection_is_for_all_and_fua_needs_none() {
    let (directory, node) = start("nbd-connections");
    let uri = node.export("v");
    // Its exit status is the answer.
    for ability in ["multi-conn", "fua"] {
        program("nbdinfo", "libnbd-bin", &["--can", ability, &uri]);
    }
    let connect = || Client::connect(&node.nbd, "v", PATIENCE).expect("connected");
    let (mut one, mut other) = (connect(), connect());
    let content = noise(9, 1 << 20);
    ask(&mut one, |client| client.send_write(5 << 20, &content));
    ask(&mut other, Client::send_flush);
    let read = ask(&mut other, |client| client.send_read(5 << 20, 1 << 20));
    assert!(
        read == content,
        "one connection sees what another one wrote"
    );
    qemu_io(&uri, &["write -f -P 0x77 30M 64k"]);
    // Grown: connections that were there before use what is new.
    node.ask(&["volume", "resize", "v", "96MiB"]);
    ask(&mut one, |client| client.send_write(80 << 20, &content));
    ask(&mut other, Client::send_flush);
    drop((one, other));
    node.kill();
    let node = Node::start(&directory.path("node.toml"));
    qemu_io(&node.export("v"), &["read -P 0x77 30M 64k"]);
    let mut again = Client::connect(&node.nbd, "v", PATIENCE).expect("connected");
    for at in [5 << 20, 80 << 20] {
        let read = ask(&mut again, |client| client.send_read(at, 1 << 20));
        assert!(read == content, "flushed before the node was killed");
    }
    node.stop();
}
