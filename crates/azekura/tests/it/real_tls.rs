//! A cluster with certificates: three processes and a real etcd, which join with tokens, serve through the death of an
//! owner, and change their authority under load.

use crate::support::cluster::{Cluster, azekura_ok, wait_until};
use crate::support::{AZEKURA, azekura, nbdcopy, noise};
use client::{ClientError, ClientOptions, RemoteDevice};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// The row of a node in a status.
fn row(status: &Value, name: &str) -> Value {
    let nodes = status["nodes"].as_array().unwrap().iter();
    let found = nodes.clone().find(|row| row["name"] == name);
    found
        .cloned()
        .unwrap_or_else(|| panic!("{name} in {status}"))
}

fn stores(status: &Value) -> usize {
    status["stores"].as_array().unwrap().len()
}

/// Runs a verb at a URL with credentials, or with none; whether it succeeds, and what it says.
fn ask_as(folder: Option<&Path>, api: &str, words: &[&str]) -> (bool, String) {
    let mut command = Command::new(AZEKURA);
    command.args(words).args(["-o", "json", "--api", api]);
    if let Some(folder) = folder {
        command.arg("--credentials").arg(folder);
    }
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn credentials(cluster: &Cluster, role: &str) -> std::path::PathBuf {
    let out = cluster.directory.path(&format!("{role}-credentials"));
    azekura_ok(
        &credentials_words(cluster, role, &out)
            .each_ref()
            .map(|word| &word[..]),
    );
    out
}

/// The verb that makes credentials of a role.
fn credentials_words(cluster: &Cluster, role: &str, out: &Path) -> [String; 8] {
    let authority = cluster.directory.path("init/authority.pem");
    let authority = format!("--authority={}", authority.display());
    let out = format!("--out={}", out.display());
    let words = ["cluster", "credentials", "create", role, "--role", role];
    let words = words.into_iter().chain([&*authority, &*out]);
    let words: Vec<String> = words.map(str::to_owned).collect();
    words.try_into().unwrap()
}

fn approve(cluster: &Cluster, index: usize) {
    let before = stores(&cluster.node(0).ask(&["status"]));
    cluster
        .node(0)
        .ask(&["node", "approve", &format!("node-{index}")]);
    wait_until("the approved node announces its store", || {
        stores(&cluster.node(0).ask(&["status"])) > before
    });
}

fn three_nodes(name: &str) -> Cluster {
    let mut cluster = Cluster::init(name);
    for index in [1, 2] {
        cluster.join(index);
        approve(&cluster, index);
    }
    cluster
}

#[test]
fn nodes_join_with_tokens_and_take_part_when_they_are_approved() {
    let mut cluster = Cluster::init("tls-join");
    let first = cluster.node(0);
    assert!(first.api.starts_with("https://"), "{}", first.api);
    assert_eq!(first.ask(&["status"])["encrypted"], true);
    first.ask(&["container", "create", "c", "--rf", "1"]);

    // A token lets one node join, and no other.
    let token = first.ask(&["node", "token", "create", "--ttl", "10m"])["token"].clone();
    let token = token.as_str().unwrap();
    cluster.join_with(1, token).unwrap();
    let again = cluster.join_with(2, token).unwrap_err();
    assert!(again.contains("it was used, or its time is up"), "{again}");
    assert!(!cluster.directory.path("node-2.toml").exists());
    // One for another cluster is found out before anything is sent.
    let mut other = token.to_owned();
    other.replace_range(5..9, "0000");
    let refused = cluster.join_with(2, &other).unwrap_err();
    assert!(refused.contains("belongs to another cluster"), "{refused}");

    cluster.start_nodes(&[1]);
    let status = cluster.node(0).ask(&["status"]);
    assert_eq!(row(&status, "node-1")["candidate"], true);
    assert_eq!(stores(&status), 1, "a candidate brings no store yet");
    // It serves nothing itself, and passes on what it is asked.
    let words = [
        "volume",
        "create",
        "v",
        "--container",
        "c",
        "--size",
        "64 MiB",
    ];
    cluster.node(1).ask(&words);
    cluster.node(1).ask(&["volume", "drain", "v"]);
    assert_eq!(cluster.owner("v", 0), Some(0));
    // Also after a restart.
    cluster.kill_nodes(&[1]);
    cluster.start_nodes(&[1]);
    assert_eq!(stores(&cluster.node(0).ask(&["status"])), 1);

    approve(&cluster, 1);
    let status = cluster.node(0).ask(&["status"]);
    assert_eq!(row(&status, "node-1")["candidate"], false);
    wait_until("groups move to the new store", || {
        let status = cluster.node(0).ask(&["status"]);
        let stores = status["stores"].as_array().unwrap().clone();
        stores
            .iter()
            .all(|store| store["groups"].as_u64() > Some(0))
    });
}

#[test]
fn nobody_gets_in_without_a_certificate_or_with_one_of_another_role() {
    let cluster = Cluster::init("tls-roles");
    let first = cluster.node(0);
    first.ask(&["container", "create", "c", "--rf", "1"]);
    let (client, viewer) = (
        credentials(&cluster, "client"),
        credentials(&cluster, "viewer"),
    );
    let create = [
        "volume",
        "create",
        "v",
        "--container",
        "c",
        "--size",
        "64 MiB",
    ];
    first.ask(&create);

    let plain = first.api.replace("https", "http");
    for api in [&plain, &first.api] {
        let (done, said) = ask_as(None, api, &["status"]);
        assert!(!done, "{said}");
    }
    // Somebody of another cluster of the same name.
    let other = cluster.directory.path("other");
    let (status, ..) = azekura(&[
        "cluster",
        "init",
        "--cluster",
        "real",
        "--node",
        "node-0",
        "--dir",
        other.to_str().unwrap(),
    ]);
    assert_eq!(status, Some(0));
    let (done, said) = ask_as(Some(&other.join("admin")), &first.api, &["status"]);
    assert!(!done && said.contains("UnknownIssuer"), "{said}");

    assert!(ask_as(Some(&viewer), &first.api, &["status"]).0);
    let (done, said) = ask_as(Some(&viewer), &first.api, &["volume", "delete", "v"]);
    assert!(!done && said.contains("forbidden"), "{said}");
    let (done, said) = ask_as(Some(&client), &first.api, &create);
    assert!(!done && said.contains("scope client"), "{said}");
    // What attaching does, without a device: a right from the API, a session with the owner.
    let bench = [
        "bench",
        "--volume",
        "v",
        "--through",
        "remote",
        "--job",
        "randwrite",
        "--seconds",
        "1",
        "--span",
        "16 MiB",
    ];
    let (done, said) = ask_as(Some(&client), &first.api, &bench);
    assert!(done, "{said}");
    let (done, _) = ask_as(Some(&viewer), &first.api, &bench);
    assert!(!done);
}

#[test]
fn a_volume_survives_its_owner_and_a_change_of_the_authority_under_load() {
    let mut cluster = three_nodes("tls-load");
    cluster
        .node(0)
        .ask(&["container", "create", "c", "--rf", "3"]);
    cluster.node(0).ask(&[
        "volume",
        "create",
        "v",
        "--container",
        "c",
        "--size",
        "64 MiB",
    ]);
    let data = noise(7, 64 << 20);
    let file = cluster.directory.write("data", &data);
    let file = file.to_str().unwrap().to_owned();
    nbdcopy(&file, &cluster.node(1).export("v"));
    let owner = cluster.owner("v", 1).unwrap();
    let survivor = (0..3).find(|&index| index != owner).unwrap();
    cluster.kill_nodes(&[owner]);
    let back = cluster.directory.path("back");
    nbdcopy(&cluster.node(survivor).export("v"), back.to_str().unwrap());
    assert!(
        std::fs::read(&back).unwrap() == data,
        "what was acknowledged is there"
    );
    cluster.start_nodes(&[owner]);

    // Load: the whole volume, again and again, through a gateway that is not the owner.
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU32::new(0));
    let (stopping, done) = (stop.clone(), rounds.clone());
    let gateway = cluster.node(survivor).export("v");
    let source = file.clone();
    let load = std::thread::spawn(move || {
        while !stopping.load(Ordering::Relaxed) {
            nbdcopy(&source, &gateway);
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    let client = credentials(&cluster, "client");
    let before = rounds.load(Ordering::Relaxed);
    let rotated = cluster.node(0).ask(&["cluster", "ca", "rotate"]);
    assert_eq!(rotated["believed"], 2);
    let nodes = rotated["nodes"].as_array().unwrap();
    assert!(
        nodes.len() == 3 && nodes.iter().all(|node| node["current"] == true),
        "{rotated}"
    );
    // Old credentials go on to be believed until the end, and believe the nodes' new certificates.
    let (done, said) = ask_as(Some(&client), &cluster.node(1).api, &["status"]);
    assert!(done, "{said}");
    // A process that starts now has only its new certificate.
    cluster.kill_nodes(&[owner]);
    cluster.start_nodes(&[owner]);
    let admin = cluster.directory.path("init/admin");
    let authority = cluster.directory.path("init/authority.pem");
    azekura_ok(&[
        "cluster",
        "credentials",
        "create",
        "admin",
        "--role",
        "admin",
        "--authority",
        authority.to_str().unwrap(),
        "--out",
        admin.to_str().unwrap(),
    ]);
    let retired = cluster.node(0).ask(&["cluster", "ca", "retire"]);
    assert_eq!(retired["believed"], 1);
    wait_until("the old authority's certificates are refused", || {
        (0..3).all(|index| !ask_as(Some(&client), &cluster.node(index).api, &["status"]).0)
    });
    assert_eq!(cluster.node(2).ask(&["status"])["encrypted"], true);
    // Connections among nodes are made anew, too.
    cluster.kill_nodes(&[owner]);
    cluster.start_nodes(&[owner]);
    wait_until("the load goes on", || {
        rounds.load(Ordering::Relaxed) > before + 2
    });
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    let back = cluster.directory.path("again");
    nbdcopy(&cluster.node(survivor).export("v"), back.to_str().unwrap());
    assert!(std::fs::read(&back).unwrap() == data);
}

/// What a client that believes this authority alone is answered when it asks an address for a name.
fn get_as(address: &str, name: &'static str, authority: &str) -> Result<String, String> {
    use identity::rustls;
    let mut roots = rustls::RootCertStore::empty();
    for root in identity::split("an authority", authority).unwrap() {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = rustls::pki_types::ServerName::try_from(name).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(client), server).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // The server may close without saying so in TLS.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).to_lowercase())
}

#[test]
fn credentials_of_a_driver_reach_the_volumes_they_name() {
    let cluster = Cluster::init("tls-limits");
    let first = cluster.node(0);
    for (container, volume) in [("gold", "g"), ("silver", "s")] {
        first.ask(&["container", "create", container, "--rf", "1"]);
        let create = ["volume", "create", volume, "--size", "64 MiB"];
        first.ask(&[&create[..], &["--container", container]].concat());
    }
    let out = cluster.directory.path("driver");
    let words = credentials_words(&cluster, "csi", &out);
    let words = words.each_ref().map(|word| &word[..]);
    let (status, _, complaint) = azekura(&words);
    assert_ne!(status, Some(0));
    assert!(complaint.contains("--all-containers"), "{complaint}");
    assert!(!out.exists(), "nothing was said of its limits");
    azekura_ok(&[&words[..], &["--container", "gold"]].concat());
    let ask = |words: &[&str]| ask_as(Some(&out), &first.api, words);
    let (done, said) = ask(&["volume", "show", "g"]);
    assert!(done, "{said}");
    let (done, said) = ask(&["volume", "show", "s"]);
    assert!(
        !done && said.contains("limited to the containers gold"),
        "{said}"
    );
    let (done, said) = ask(&["volume", "list"]);
    assert!(
        done && said.contains("\"g\"") && !said.contains("\"s\""),
        "{said}"
    );
    // The data port does not rely on the API: a session without a right, of a volume that nobody has attached.
    let status = first.ask(&["status"]);
    let address = status["nodes"][0]["address"].as_str().unwrap();
    assert_eq!(open_session(&out, address, "g"), Ok(()));
    // Once located, and once when it is served here already.
    for _ in 0..2 {
        let refused = open_session(&out, address, "s").unwrap_err();
        assert!(
            matches!(&refused, ClientError::Refused { reason, .. } if reason.contains("limited to the containers gold")),
            "{refused}"
        );
        let admin = cluster.directory.path("init/admin");
        assert_eq!(open_session(&admin, address, "s"), Ok(()));
    }
}

/// Opens a volume at a node's data port with credentials, and closes it again.
fn open_session(folder: &Path, address: &str, volume: &str) -> Result<(), ClientError> {
    let options = ClientOptions {
        cluster: "real".to_owned(),
        nodes: vec![world::Address(address.to_owned())],
        volume: volume.to_owned(),
        client: 0,
        attachment: vocab::AttachmentGeneration(0),
        read_only: true,
        levels: vocab::Levels::OWN,
        patience: Duration::from_secs(30),
        doubt_after: client::DOUBT_AFTER,
    };
    let credentials = identity::Credentials::read(folder).unwrap();
    let opened = world_linux::run(world_linux::ShardOptions::default(), move |world, _| {
        Box::pin(async move {
            let world = world_linux::tls::encrypt(&world, credentials);
            RemoteDevice::open(world, options).await?.close().await;
            Ok(())
        }) as world::LocalBoxFuture<'static, Result<(), ClientError>>
    });
    opened.unwrap()
}

#[test]
fn browsers_are_shown_the_operators_certificate_and_everybody_else_the_clusters() {
    const HOST: &str = "storage.example.org";
    let mut cluster = Cluster::init("tls-public");
    let web = identity::Authority::make("web").unwrap();
    let key = identity::KeyRequest::make_for(&[HOST.to_owned()]).unwrap();
    let caller = world::Caller::new(world::Role::Node, "web".to_owned());
    let signed = web.sign(&key.request, &caller, 90).unwrap();
    let folder = cluster.directory.path("web");
    key.store(&folder, &signed, web.certificate()).unwrap();
    let file = cluster.directory.path("node-0.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let public = "\n[tls]\ncertificate = \"web/identity.pem\"\nkey = \"web/identity.pem\"\n";
    std::fs::write(&file, text.replace("\n[tls]\n", public)).unwrap();
    cluster.kill_nodes(&[0]);
    cluster.start_nodes(&[0]);

    let address = cluster.node(0).api.replace("https://", "");
    let answer = get_as(&address, HOST, web.certificate()).unwrap();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(
        answer.contains("strict-transport-security: max-age="),
        "{answer}"
    );
    let own = cluster.directory.path("init/admin/ca.pem");
    let own = std::fs::read_to_string(own).unwrap();
    let answer = get_as(&address, identity::NODE_NAME, &own).unwrap();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(!answer.contains("strict-transport-security"), "{answer}");
    // The command line asks for the cluster's name.
    assert_eq!(cluster.node(0).ask(&["status"])["encrypted"], true);
    assert!(get_as(&address, HOST, &own).is_err());
}
