//! With certificates: nodes join with a token, are approved, and become members.

use super::scene::{Place, Scene};
use crate::support::cluster::{azekura_ok, lasting_address, wait_until};
use crate::support::{Directory, Node, azekura};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A node joins with a token of the first one, is started and approved.
fn join(scene: &mut Scene, index: usize) {
    let made = scene.node(0).ask(&["node", "token", "create"]);
    let token = made["token"].as_str().unwrap().to_owned();
    let path = |name: String| scene.directory.path(&name).display().to_string();
    let (name, config) = (format!("node-{index}"), path(format!("node-{index}.toml")));
    let (out, disk) = (
        path(format!("credentials-{index}")),
        path(format!("joined-{index}")),
    );
    let (listen, client, peer) = (lasting_address(), lasting_address(), lasting_address());
    azekura_ok(&[
        "node",
        "join",
        "--token",
        &token,
        "--config",
        &config,
        "--name",
        &name,
        "--out",
        &out,
        "--listen",
        &listen,
        "--serve-api",
        "127.0.0.1:0",
        "--disk",
        &disk,
        "--create",
        "384 MiB",
        "--journal",
        "32 MiB",
        "--etcd-client",
        &client,
        "--etcd-peer",
        &peer,
    ]);
    let config = std::path::PathBuf::from(config);
    let mut node = Node::start(&config);
    node.credentials.clone_from(&scene.node(0).credentials);
    scene.node(0).ask(&["node", "approve", &name]);
    let data = scene.directory.path(&format!("node-{index}.state/etcd"));
    scene.places.push(Place {
        config,
        node: Some(node),
        data,
        client,
    });
}

#[test]
fn real_supervised_etcd_with_certificates_grows_with_nodes_that_join() {
    let directory = Directory::new("etcd-secured");
    let dir = directory.path("init");
    azekura_ok(&[
        "cluster",
        "init",
        "--cluster",
        "real",
        "--node",
        "node-0",
        "--dir",
        dir.to_str().unwrap(),
    ]);
    let mut scene = Scene {
        places: Vec::new(),
        directory,
    };
    let tls = "\n[tls]\ncredentials = \"init/node\"\nauthority = \"init/authority.pem\"\n";
    scene.add("embedded = \"catalog.redb\"", 1..2, tls);
    scene.places[0].node.as_mut().unwrap().credentials = Some(dir.join("admin"));
    scene.found();
    scene.wait_for_members(0, &[0]);
    join(&mut scene, 1);
    join(&mut scene, 2);
    scene.wait_for_members(0, &[0, 1, 2]);
    let status = scene.status(1);
    let address = status["members"][0]["address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("https://"), "{status}");
    // Without a certificate nobody hears anything.
    let mut plain = TcpStream::connect(address.trim_start_matches("https://")).unwrap();
    plain
        .write_all(b"GET /v3/cluster HTTP/1.1\r\nHost: e\r\n\r\n")
        .unwrap();
    let mut heard = String::new();
    let _ended = plain.read_to_string(&mut heard);
    assert!(!heard.contains("200 OK"), "{heard}");
    // The first node goes, the others go on, and it comes back.
    scene.kill(0);
    wait_until("the others go on", || {
        let node = scene.node(1);
        let folder = node.credentials.as_ref().unwrap().to_str().unwrap();
        let words = ["catalog", "status", "-o", "json", "--api", &node.api];
        let (_, said, _) = azekura(&[&words[..], &["--credentials", folder]].concat());
        let status: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        status["tolerates"] == 0
    });
    scene.start(&[0]);
    scene.places[0].node.as_mut().unwrap().credentials = Some(dir.join("admin"));
    scene.wait_for_members(0, &[0, 1, 2]);
}
