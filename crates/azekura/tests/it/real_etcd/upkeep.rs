//! What else happens to members in their life: no space, another address, a node that drains.

use super::scene::Scene;
use crate::support::cluster::{lasting_address, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The least that a configuration may say.
const QUOTA: &str = "16 MiB";
/// Bytes of one value; etcd takes requests of up to 1.5 MiB.
const VALUE_BYTES: usize = 960 << 10;

/// Puts a value under one key over and over, until etcd refuses it for want of space; how often it was taken.
fn fill(client: &str) -> usize {
    // Base64 of zeros; the key is `noise`.
    let body = format!(
        "{{\"key\":\"bm9pc2U=\",\"value\":\"{}\"}}",
        "A".repeat(VALUE_BYTES / 3 * 4)
    );
    for taken in 0..64 {
        let mut stream = TcpStream::connect(client).unwrap();
        let head = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: {client}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        if !answer.starts_with("HTTP/1.1 200") {
            assert!(answer.contains("database space exceeded"), "{answer}");
            return taken;
        }
    }
    panic!("64 values of {VALUE_BYTES} bytes fit into {QUOTA}");
}

/// Longest wait for a change: etcd forgets its history once a minute at most, and files are made smaller after that, each time after
/// a longer pause.
const PATIENCE: Duration = Duration::from_secs(150);

/// Creates a container as soon as the catalog takes it.
fn wait_for_room(scene: &Scene, name: &str) {
    let deadline = Instant::now() + PATIENCE;
    let words = ["container", "create", name, "--rf", "1"];
    while let Err(reason) = scene.node(0).attempt(&words) {
        assert!(
            Instant::now() < deadline,
            "etcd has no room within {PATIENCE:?}: {reason}; {:?}",
            scene.node(0).attempt(&["catalog", "status"])
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn alarms(status: &Value) -> usize {
    let members = status["members"].as_array().unwrap().iter();
    let alarms = members.filter_map(|member| member["alarms"].as_array());
    alarms.map(Vec::len).sum()
}

#[test]
fn real_supervised_etcd_without_space_forgets_its_history_and_takes_writes_again() {
    let mut scene = Scene::begin("etcd-full");
    scene.set_seat(0, &format!("quota = \"{QUOTA}\"\n"));
    scene.found();
    scene.wait_for_members(0, &[0]);
    scene.node(0).make_volume("8MiB");
    let taken = fill(&scene.places[0].client);
    assert!(taken > 4, "it was full after {taken} values");
    wait_for_room(&scene, "later");
    wait_until("nothing warns any more", || {
        let status = scene.node(0).try_ask(&["catalog", "status"]);
        status.is_some_and(|status| alarms(&status) == 0)
    });
    wait_until("it is told", || {
        let told = scene.node(0).ask(&["events"]);
        let events = told["events"].as_array().unwrap();
        let said = |kind: &str| events.iter().any(|event| event["kind"] == kind);
        said("catalog-full") && said("catalog-room")
    });
    // And again: what it forgot is room, not a file that grows.
    assert!(fill(&scene.places[0].client) > 4);
    wait_for_room(&scene, "last");
}

#[test]
fn real_supervised_member_moves_to_another_address_and_off_a_node_that_drains() {
    let mut scene = Scene::begin("etcd-upkeep");
    scene.node(0).make_volume("8MiB");
    scene.found();
    for store in 4..7 {
        scene.join(store);
    }
    scene.wait_for_members(0, &[0, 1, 2]);

    // Both addresses of one member change: its node says so, and the others find it.
    scene.kill(1);
    let (client, peer) = (lasting_address(), lasting_address());
    scene.set_addresses(1, &client, &peer);
    scene.start(&[1]);
    scene.wait_for_members(0, &[0, 1, 2]);
    wait_until("it is listed at its new addresses", || {
        let status = scene.node(0).try_ask(&["catalog", "status"]);
        status.is_some_and(|status| {
            let row = |list: &str, key: &str| {
                let rows = status[list].as_array().unwrap().iter();
                let mut own = rows.filter(|row| row[key] == "node-1");
                own.next().map(Value::to_string).unwrap_or_default()
            };
            row("members", "name").contains(&client) && row("seats", "node").contains(&peer)
        })
    });

    // A node that drains gives its member to the one that has a seat free, and can be removed then.
    scene.node(0).ask(&["node", "drain", "node-2", "--wait"]);
    scene.wait_for_members(0, &[0, 1, 3]);
    scene.kill(2);
    wait_until("it is removed", || {
        let words = ["node", "remove", "node-2"];
        scene.node(0).try_ask(&words).is_some()
    });
    // Any of the three may be lost now, the one that has moved among them.
    scene.kill(1);
    wait_until("the catalog is changed without it", || {
        let words = ["container", "create", "later", "--rf", "1"];
        scene.node(3).try_ask(&words).is_some()
    });
}
