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
    // The key is `noise`.
    fill_keys(client, VALUE_BYTES, |_| "bm9pc2U=".to_owned())
}

/// Has etcd warn that a member with this id has no space.
fn warn_of(client: &str, member: u64) {
    // 1: it is raised; and of the kinds of warnings the one of space.
    let body = format!("{{\"action\":1,\"memberID\":\"{member}\",\"alarm\":1}}");
    let answer = post(client, "/v3/maintenance/alarm", &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A request to etcd's gateway; its answer.
fn post(client: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(client).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {client}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The same with values of so many bytes, each time under the key that `key_of` says, in base64.
fn fill_keys(client: &str, value_bytes: usize, key_of: impl Fn(usize) -> String) -> usize {
    // Base64 of zeros.
    let value = "A".repeat(value_bytes / 3 * 4);
    for taken in 0..64 * VALUE_BYTES / value_bytes {
        let key = key_of(taken);
        let body = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}");
        let answer = post(client, "/v3/kv/put", &body);
        if !answer.starts_with("HTTP/1.1 200") {
            assert!(answer.contains("database space exceeded"), "{answer}");
            return taken;
        }
    }
    panic!("64 times {VALUE_BYTES} bytes fit into {QUOTA}");
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
fn real_supervised_etcd_that_is_full_of_rows_takes_writes_again_with_a_greater_quota() {
    let mut scene = Scene::begin("etcd-full-of-rows");
    scene.set_seat(0, &format!("quota = \"{QUOTA}\"\n"));
    scene.found();
    scene.wait_for_members(0, &[0]);
    // Keys of eight letters are base64 as they are: each value lives, and no history is to be forgotten.
    let letter = |digit: usize| char::from(b'a' + u8::try_from(digit % 26).unwrap());
    let key = |taken: usize| format!("noise{}{}a", letter(taken / 26), letter(taken));
    // Small ones leave no holes: what the file has is nearly all in use.
    let taken = fill_keys(&scene.places[0].client, VALUE_BYTES / 20, key);
    assert!(taken > 100, "it was full after {taken} values");
    let refused = scene
        .node(0)
        .attempt(&["container", "create", "c", "--rf", "1"]);
    assert!(refused.is_err(), "there was room left");
    // Not a row can be written that says so: the node that starts its member with more ends the alarm.
    scene.replace_in_config(0, &format!("quota = \"{QUOTA}\""), "quota = \"128 MiB\"");
    wait_for_room(&scene, "later");
    wait_until("nothing warns any more", || {
        let status = scene.node(0).try_ask(&["catalog", "status"]);
        status.is_some_and(|status| alarms(&status) == 0)
    });
}

#[test]
fn real_supervised_etcd_takes_writes_again_whoever_that_was_removed_has_no_space() {
    let mut scene = Scene::begin("etcd-stray");
    scene.found();
    scene.wait_for_members(0, &[0]);
    // While the node runs: only its upkeep can end it.
    warn_of(&scene.places[0].client, 77);
    wait_for_room(&scene, "first");
    wait_until("it is told whose warning it was", || {
        let told = scene.node(0).ask(&["events"]);
        let events = told["events"].as_array().unwrap();
        let message = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
        events
            .iter()
            .any(|event| message(event).contains("4d, which was removed"))
    });
    // And before it runs: the warning is in etcd's data when both start.
    let client = scene.places[0].client.clone();
    warn_of(&client, 78);
    scene.kill(0);
    scene.start(&[0]);
    wait_for_room(&scene, "second");
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
