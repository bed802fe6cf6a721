//! One real node with three stores on files, driven by the command line and NBD clients.

use crate::support::{Directory, Node, azekura, nbdcopy, noise, program, three_stores};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// Writes `content` to the start of a volume.
fn fill(directory: &Directory, node: &Node, volume: &str, content: &[u8]) {
    let file = directory.write("in", content);
    nbdcopy(file.to_str().unwrap(), &node.export(volume));
}

/// The whole content of a volume.
fn read(directory: &Directory, node: &Node, volume: &str) -> Vec<u8> {
    let file = directory.path("out");
    let _ = std::fs::remove_file(&file);
    nbdcopy(&node.export(volume), file.to_str().unwrap());
    std::fs::read(file).unwrap()
}

fn create_container(node: &Node, name: &str, rf: &str) -> Value {
    node.ask(&["container", "create", name, "--rf", rf])
}

fn create_volume(node: &Node, name: &str, container: &str, size: &str) -> Value {
    node.ask(&[
        "volume",
        "create",
        name,
        "--container",
        container,
        "--size",
        size,
    ])
}

#[test]
fn real_volume_is_written_snapshotted_cloned_grown_and_deleted() {
    let directory = Directory::new("life");
    let node = Node::start(&directory.write("node.toml", three_stores("life")));
    let container = create_container(&node, "fast", "2");
    assert_eq!(
        (&container["rf"], &container["min_copies"]),
        (&json!(2), &json!(1))
    );
    let volume = create_volume(&node, "db", "fast", "32MiB");
    assert_eq!(volume["size"], json!(32 * MIB));

    let first = noise(1, 32 << 20);
    fill(&directory, &node, "db", &first);
    assert_eq!(read(&directory, &node, "db"), first);
    let snapshot = node.ask(&["snapshot", "create", "db", "monday"]);
    assert_eq!(snapshot["volume"], "db");

    let mut second = first.clone();
    second[5 << 20..6 << 20].copy_from_slice(&noise(2, 1 << 20));
    fill(&directory, &node, "db", &second);
    node.ask(&["snapshot", "create", "db", "tuesday"]);
    let clone = node.ask(&["clone", "db", "monday", "old"]);
    assert_eq!(clone["origin"]["snapshot"], "monday");
    assert_eq!(read(&directory, &node, "old"), first);
    assert_eq!(read(&directory, &node, "db"), second);

    let shown = node.ask(&["volume", "drain", "db"]);
    assert_eq!(shown["name"], "db");
    let listed = node.ask(&["snapshot", "list", "db"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let diff = node.ask(&[
        "snapshot", "diff", "db", "--from", "monday", "--to", "tuesday",
    ]);
    assert!(covers(&diff, 5 * MIB, 6 * MIB), "{diff}");
    let whole = node.ask(&["snapshot", "diff", "db", "--to", "monday"]);
    assert!(covers(&whole, 0, 32 * MIB), "{whole}");

    let grown = node.ask(&["volume", "resize", "db", "48MiB"]);
    assert_eq!(grown["size"], json!(48 * MIB));
    let size = program("nbdinfo", "libnbd-bin", &["--size", &node.export("db")]);
    assert_eq!(size.trim(), (48 * MIB).to_string());
    let after = read(&directory, &node, "db");
    assert_eq!(after[..32 << 20], second[..]);
    assert!(after[32 << 20..].iter().all(|byte| *byte == 0));

    refused_deletions(&node);
    node.ask(&["volume", "delete", "old"]);
    node.ask(&["snapshot", "delete", "db", "monday"]);
    node.ask(&["snapshot", "delete", "db", "tuesday"]);
    node.ask(&["volume", "delete", "db"]);
    assert_eq!(node.ask(&["volume", "list"]), json!([]));
    node.ask(&["container", "delete", "fast"]);
    node.stop();
}

fn refused_deletions(node: &Node) {
    let error = node.refuse(&["container", "delete", "fast"]);
    assert_eq!(error["kind"], "refused", "{error}");
    let error = node.refuse(&["volume", "resize", "db", "16MiB"]);
    assert!(
        ["refused", "bad-request"].contains(&error["kind"].as_str().unwrap()),
        "{error}"
    );
    let error = node.refuse(&["volume", "show", "nothing"]);
    assert_eq!(error["kind"], "not-found", "{error}");
    let error = node.refuse(&["snapshot", "create", "db", "monday"]);
    assert_eq!(error["kind"], "exists", "{error}");
    let words = [
        "volume",
        "create",
        "db",
        "--container",
        "fast",
        "--size",
        "1GiB",
    ];
    let error = node.refuse(&words);
    assert_eq!(error["kind"], "exists", "{error}");
}

/// Whether the diff's runs cover all of `from..to`.
fn covers(diff: &Value, from: u64, to: u64) -> bool {
    let mut at = from;
    for run in diff["runs"].as_array().unwrap() {
        let (offset, length) = (
            run["offset"].as_u64().unwrap(),
            run["length"].as_u64().unwrap(),
        );
        if offset <= at && at < offset + length {
            at = offset + length;
        }
    }
    at >= to
}

#[test]
fn real_restart_and_kill_lose_nothing_that_was_flushed() {
    let directory = Directory::new("restart");
    let config = directory.write("node.toml", three_stores("restart"));
    let mut content = noise(3, 24 << 20);
    let node = Node::start(&config);
    create_container(&node, "safe", "3");
    create_volume(&node, "v", "safe", "24MiB");
    fill(&directory, &node, "v", &content);
    node.stop();

    let node = Node::start(&config);
    assert_eq!(read(&directory, &node, "v"), content);
    node.ask(&["snapshot", "create", "v", "before"]);
    content[..8 << 20].copy_from_slice(&noise(4, 8 << 20));
    fill(&directory, &node, "v", &content);
    node.kill();

    let node = Node::start(&config);
    assert_eq!(read(&directory, &node, "v"), content);
    node.kill();
    // Killed again right after the start: recovery itself must be repeatable.
    let node = Node::start(&config);
    assert_eq!(read(&directory, &node, "v"), content);
    node.ask(&["volume", "restore", "v", "before"]);
    assert_eq!(read(&directory, &node, "v"), noise(3, 24 << 20));
    node.stop();
}

#[test]
fn real_status_shows_nodes_stores_and_volumes_as_table_and_json() {
    let directory = Directory::new("status");
    let node = Node::start(&directory.write("node.toml", three_stores("status")));
    create_container(&node, "c", "2");
    create_volume(&node, "v", "c", "1GiB");
    let status = node.ask(&["status"]);
    assert_eq!(status["cluster"], "status");
    assert_eq!(status["nodes"][0]["name"], "one");
    assert_eq!(status["nodes"][0]["api"], Value::from(node.api.clone()));
    let stores = status["stores"].as_array().unwrap();
    let ids: Vec<u64> = stores
        .iter()
        .map(|store| store["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(
        stores.iter().all(|store| store["state"] == "ready"),
        "{status}"
    );
    assert_eq!(status["volumes"][0]["name"], "v");
    let (code, table, _) = azekura(&["status", "--api", &node.api]);
    assert_eq!(code, Some(0));
    assert!(
        table.contains("127.0.0.1:") && table.contains("1 GiB"),
        "{table}"
    );
    bundle_is_made(&directory, &node);
    node.stop();
}

/// What a helper gets, while the node runs: nothing is missing, and no file is written over.
fn bundle_is_made(directory: &Directory, node: &Node) {
    let plant = "hush-4711";
    let note = format!("admin_password: {plant}, see https://eve:{plant}@hook.test/a?b={plant}");
    node.ask(&["volume", "set", "v", "--description", &note]);
    let label = format!("token={plant}");
    node.ask(&["volume", "set", "v", "--label", &label]);
    let url = format!("https://eve:{plant}@hook.test/a?key={plant}");
    // Whether it is taken or refused.
    let _said = azekura(&[
        "alert", "target", "add", "webhook", "hook", "--url", &url, "--api", &node.api,
    ]);
    let config = directory.path("node.toml");
    let out = directory.path("bundle.tar.gz");
    let words = [
        "support-bundle",
        "--out",
        out.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
        "--api",
        &node.api,
    ];
    let (code, said, complaint) = azekura(&words);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{said}");
    let list = program("tar", "tar", &["tzf", out.to_str().unwrap()]);
    let all = program("tar", "tar", &["xzOf", out.to_str().unwrap()]);
    assert!(
        all.contains("<removed>") && !all.contains(plant),
        "a secret is in it"
    );
    for name in [
        "api/status.json",
        "api/audit.json",
        "machine/preflight.json",
        "config/1-node.toml",
        "README.txt",
    ] {
        assert!(list.contains(name), "{name} is not in\n{list}");
    }
    let (code, _, complaint) = azekura(&words);
    assert!(code == Some(1) && complaint.contains("is there already"));
    let checks = azekura(&["preflight", "--config", config.to_str().unwrap()]);
    assert_eq!(checks.0, Some(0), "{checks:?}");
    assert!(checks.1.contains("io_uring"), "{checks:?}");
}

#[test]
fn real_container_policies_are_set_and_quota_is_kept() {
    let directory = Directory::new("policies");
    let node = Node::start(&directory.write("node.toml", three_stores("policies")));
    create_container(&node, "small", "1");
    let words = [
        "container",
        "set",
        "small",
        "--quota",
        "64MiB",
        "--compression",
        "off",
    ];
    let container = node.ask(&words);
    assert_eq!(container["quota"], json!(64 * MIB));
    assert_eq!(container["compression"], "off");
    create_volume(&node, "a", "small", "48MiB");
    let words = [
        "volume",
        "create",
        "b",
        "--container",
        "small",
        "--size",
        "32MiB",
    ];
    let error = node.refuse(&words);
    assert_eq!(error["kind"], "no-space", "{error}");
    let container = node.ask(&[
        "container",
        "set",
        "small",
        "--quota",
        "0",
        "--sync",
        "always",
    ]);
    assert_eq!(
        (&container["quota"], &container["sync"]),
        (&Value::Null, &json!("always"))
    );
    create_volume(&node, "b", "small", "32MiB");
    let containers = node.ask(&["container", "list"]);
    assert_eq!(containers[0]["volumes"], json!(2));
    assert_eq!(containers[0]["provisioned"], json!(80 * MIB));
    node.stop();
}

#[test]
fn real_strict_container_wants_as_many_copies_as_it_writes() {
    let directory = Directory::new("strict");
    let node = Node::start(&directory.write("node.toml", three_stores("strict")));
    let created = ["container", "create", "c", "--rf", "2"];
    let container = node.ask(&[&created[..], &["--min-copies", "strict"]].concat());
    let copies = |container: &Value| (container["min_copies"].clone(), container["strict"].clone());
    assert_eq!(copies(&container), (json!(2), json!(true)));
    let container = node.ask(&["container", "set", "c", "--rf", "3"]);
    assert_eq!(copies(&container), (json!(3), json!(true)));
    let container = node.ask(&["container", "set", "c", "--min-copies", "2"]);
    assert_eq!(copies(&container), (json!(2), json!(false)));
    let container = node.ask(&["container", "set", "c", "--rf", "2"]);
    assert_eq!(copies(&container), (json!(2), json!(false)));
    let error = node.refuse(&["container", "set", "c", "--min-copies", "3"]);
    assert_eq!(error["kind"], "bad-request", "{error}");
    node.stop();
}

#[test]
fn real_volume_gets_and_loses_labels_limits_and_its_description() {
    let directory = Directory::new("set");
    let node = Node::start(&directory.write("node.toml", three_stores("set")));
    create_container(&node, "c", "2");
    create_volume(&node, "v", "c", "16MiB");
    let words = [
        "volume",
        "set",
        "v",
        "--label",
        "app=db",
        "--label",
        "tier=gold",
    ];
    let more = ["--description", "of people", "--iops-limit", "500"];
    let volume = node.ask(&[&words[..], &more].concat());
    assert_eq!(volume["labels"], json!({"app": "db", "tier": "gold"}));
    assert_eq!(volume["description"], "of people");
    assert_eq!(volume["iops_limit"], json!(500));
    let words = [
        "volume",
        "set",
        "v",
        "--remove-label",
        "app",
        "--bandwidth-limit",
        "10MiB",
    ];
    let volume = node.ask(&[&words[..], &["--iops-limit", "0", "--description", ""]].concat());
    assert_eq!(volume["labels"], json!({"tier": "gold"}));
    assert_eq!(volume["bandwidth_limit"], json!(10 * MIB));
    assert_eq!(
        (&volume["iops_limit"], &volume["description"]),
        (&Value::Null, &Value::Null)
    );
    let (_, table, _) = azekura(&["volume", "show", "v", "--api", &node.api]);
    assert!(
        table.contains("10 MiB/s") && table.contains("tier=gold"),
        "{table}"
    );
    node.stop();
}

#[test]
fn real_group_snapshot_capacity_and_cluster_have_their_verbs() {
    let directory = Directory::new("verbs");
    let node = Node::start(&directory.write("node.toml", three_stores("verbs")));
    create_container(&node, "c", "2");
    create_volume(&node, "v", "c", "16MiB");
    create_volume(&node, "w", "c", "16MiB");
    let group = node.ask(&[
        "group-snapshot",
        "create",
        "g",
        "v",
        "w",
        "--label",
        "why=nightly",
    ]);
    assert_eq!(
        (&group["name"], &group["ready"]),
        (&json!("g"), &json!(true))
    );
    let id = group["id"].as_str().unwrap();
    let member = &group["snapshots"][1];
    assert_eq!(
        (&member["volume"], &member["group"]),
        (&json!("w"), &json!(id))
    );
    // Members become ready one by one.
    let shown = node.ask(&["group-snapshot", "show", id]);
    assert_eq!(
        (&shown["id"], &shown["name"]),
        (&group["id"], &group["name"])
    );
    let listed = node.ask(&["group-snapshot", "list"]);
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["id"]),
        (1, &group["id"])
    );
    let shown = node.ask(&["snapshot", "show", &member["id"].to_string()]);
    assert_eq!(shown["labels"], json!({"why": "nightly"}));
    let (_, table, _) = azekura(&["group-snapshot", "show", id, "--api", &node.api]);
    assert!(table.contains("ready") && table.contains("w "), "{table}");
    node.ask(&["group-snapshot", "delete", id]);
    let gone = node.refuse(&["group-snapshot", "show", id]);
    assert_eq!(gone["kind"], "not-found");
    let labelled = node.ask(&["snapshot", "create", "v", "s", "--label", "app=db"]);
    assert_eq!(labelled["labels"], json!({"app": "db"}));

    let one = node.ask(&["capacity", "--rf", "1"]);
    let two = node.ask(&["capacity", "--container", "c"]);
    let available = |capacity: &Value| capacity["available"].as_u64().unwrap();
    assert!(
        available(&one) > available(&two) && available(&two) > 0,
        "{one} {two}"
    );
    let cluster = node.ask(&["cluster", "show"]);
    assert_eq!(cluster["name"], "verbs");
    let id = cluster["id"].as_str().unwrap();
    assert!(
        id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    let (_, table, _) = azekura(&["cluster", "show", "--api", &node.api]);
    assert!(
        table.contains(id) && table.contains("127.0.0.1:"),
        "{table}"
    );
    node.stop();
    // It is the catalog's, so it is there after a restart.
    let node = Node::start(&directory.path("node.toml"));
    assert_eq!(node.ask(&["cluster", "show"])["id"], id);
    node.stop();
}

#[test]
fn real_token_allows_what_its_scope_says_until_it_is_deleted() {
    let directory = Directory::new("tokens");
    let table = "[api_auth]\nmode = \"token\"\nadmin_token_file = \"admin-token\"\n\n[catalog]";
    let text = three_stores("tokens").replace("[catalog]", table);
    let node = Node::start(&directory.write("node.toml", text));
    let admin = directory.path("admin-token");
    let metadata = std::fs::metadata(&admin).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    assert_eq!(mode & 0o777, 0o600);
    let admin = admin.to_str().unwrap();
    let refused = node.refuse(&["volume", "list"]);
    assert_eq!(refused["kind"], "unauthenticated");
    let made = ["token", "create", "driver", "--scope", "csi"];
    let refused = node.refuse(&[&made[..], &["--token-file", admin]].concat());
    assert_eq!(refused["kind"], "bad-request", "no limits: {refused}");
    let made = [&made[..], &["--all-containers"]].concat();
    let made = node.ask(&[&made[..], &["--token-file", admin]].concat());
    let file = directory.write("driver-token", made["token"].as_str().unwrap());
    let driver = ["--token-file", file.to_str().unwrap()];
    node.ask(&[&["container", "create", "csi-rf2"][..], &driver].concat());
    node.ask(&[&["volume", "list"][..], &driver].concat());
    let refused = node.refuse(&[&["status"][..], &driver].concat());
    assert_eq!(refused["kind"], "forbidden");
    let listed = node.ask(&["token", "list", "--token-file", admin]);
    assert_eq!(listed[0]["name"], "driver");
    assert!(listed[0].get("token").is_none(), "{listed}");
    node.ask(&["token", "delete", "driver", "--token-file", admin]);
    let refused = node.refuse(&[&["volume", "list"][..], &driver].concat());
    assert_eq!(refused["kind"], "unauthenticated");
    let log = std::fs::read_to_string(directory.path("node.log")).unwrap();
    assert!(!log.contains("azk_"), "a secret is in the log");
    node.stop();
}

#[test]
fn real_node_does_not_open_its_api_to_others_unasked() {
    let directory = Directory::new("open-api");
    let text = three_stores("open").replace("api = \"127.0.0.1:0\"", "api = \"0.0.0.0:0\"");
    let refused = |text: &str| {
        let refused = Node::try_start(&directory.write("node.toml", text));
        refused.err().expect("nothing says that this is meant")
    };
    let reason = refused(&text);
    assert!(reason.contains("azekura cluster init"), "{reason}");
    assert!(reason.contains("azekura node join"), "{reason}");
    // Plain as somebody wants it; who may use the API is another question.
    let off = text.replace("[catalog]", "[tls]\nmode = \"off\"\n\n[catalog]");
    let reason = refused(&off);
    assert!(reason.contains("[api_auth]"), "{reason}");
}
