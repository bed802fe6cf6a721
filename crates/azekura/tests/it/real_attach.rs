//! `azekura attach` on a real node: a block device that survives the node's death. Needs root, /dev/fuse and
//! loop devices.

use crate::support::attached::Attached;
use crate::support::process::signal;
use crate::support::{AZEKURA, Directory, Node, azekura, nbdcopy, noise, program, three_stores};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a guard may take on a busy machine.
const CLEANED: Duration = Duration::from_secs(30);

/// A configuration whose addresses stay the same over restarts.
fn config_with_ports(cluster: &str) -> String {
    let mut text = three_stores(cluster);
    for key in ["listen", "nbd", "api"] {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let line = format!("{key} = \"127.0.0.1:0\"");
        text = text.replace(
            &line,
            &format!("{key} = \"{}\"", free.local_addr().unwrap()),
        );
    }
    text
}

fn read_by_nbd(directory: &Directory, node: &Node, bytes: usize) -> Vec<u8> {
    let file = directory.path("nbd");
    let _ = std::fs::remove_file(&file);
    nbdcopy(&node.export("v"), file.to_str().unwrap());
    let mut content = std::fs::read(file).unwrap();
    content.truncate(bytes);
    content
}

#[test]
fn real_attached_device_survives_the_node_and_is_released() {
    let directory = Directory::new("attach");
    let config = directory.write("node.toml", config_with_ports("attach"));
    let node = Node::start(&config);
    node.make_volume("64MiB");
    let attached = Attached::attach(&directory, &node, "v");
    assert!(attached.device.starts_with("/dev/loop"));
    let content = noise(7, 16 << 20);
    attached.write(&content);
    assert_eq!(attached.read(16 << 20), content);
    let shown = node.ask(&["volume", "show", "v"]);
    assert_eq!(shown["attachment"]["clients"][0], "host");

    let run_dir = directory.path("run");
    let again = [
        "attach",
        "v",
        "--client",
        "host",
        "--run-dir",
        run_dir.to_str().unwrap(),
    ];
    let error = node.refuse(&again);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("is attached already"),
        "{error}"
    );
    let error = node.refuse(&["volume", "delete", "v"]);
    assert_eq!(error["kind"], "refused", "{error}");

    node.kill();
    let node = Node::start(&config);
    assert_eq!(attached.read(16 << 20), content);
    let second = noise(8, 16 << 20);
    attached.write(&second);

    attached.detach(&node);
    assert!(attached.has_ended());
    assert!(!directory.path("run/v.json").exists());
    let shown = node.ask(&["volume", "show", "v"]);
    assert_eq!(shown["attachment"]["clients"], serde_json::json!([]));
    assert_eq!(read_by_nbd(&directory, &node, 16 << 20), second);
    node.stop();
}

/// A log on a full file system, or a pipe that nobody reads: the lines are lost, and the device is not.
#[test]
fn real_attachment_whose_log_cannot_be_written_goes_on() {
    let directory = Directory::new("mute");
    let config = directory.write("node.toml", config_with_ports("mute"));
    let node = Node::start(&config);
    node.make_volume("64MiB");
    let full = std::fs::File::options().write(true).open("/dev/full");
    let run_dir = directory.path("run");
    let mut attach = Command::new(AZEKURA)
        .args([
            "attach",
            "v",
            "--foreground",
            "--client",
            "host",
            "-o",
            "json",
        ])
        .args(["--api", &node.api, "--run-dir", run_dir.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(full.unwrap())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = BufReader::new(attach.stdout.take().unwrap());
    out.read_line(&mut said).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let device = said["device"].as_str().unwrap();
    // Its session is lost with the node, which is worth a line.
    node.kill();
    let node = Node::start(&config);
    let input = format!("if={device}");
    let words = [&*input, "of=/dev/null", "bs=1M", "count=4", "iflag=direct"];
    program("dd", "coreutils", &words);
    assert!(attach.try_wait().unwrap().is_none(), "it has ended");
    signal(u64::from(attach.id()), "TERM");
    assert!(attach.wait().unwrap().success());
    node.stop();
}

#[test]
fn real_volume_of_another_client_is_refused_until_it_is_taken_by_force() {
    let directory = Directory::new("force");
    let node = Node::start(&directory.write("node.toml", config_with_ports("force")));
    node.make_volume("64MiB");
    let attached = Attached::attach(&directory, &node, "v");
    let elsewhere = directory.path("elsewhere");
    let other = [
        "attach",
        "v",
        "--client",
        "other",
        "--run-dir",
        elsewhere.to_str().unwrap(),
    ];
    let error = node.refuse(&other);
    assert!(
        error["message"].as_str().unwrap().contains("host"),
        "{error}"
    );
    let run_dir = elsewhere.to_str().unwrap();
    node.ask(&["detach", "v", "--all", "--run-dir", run_dir]);
    let shown = node.ask(&["volume", "show", "v"]);
    assert_eq!(shown["attachment"]["clients"], serde_json::json!([]));
    // The first client's device is fenced: it fails, and can be taken down.
    let input = format!("if={}", attached.device);
    let words = [
        &input,
        "of=/dev/null",
        "bs=4096",
        "count=1",
        "iflag=direct",
        "status=none",
    ];
    let read = std::process::Command::new("dd")
        .args(words)
        .output()
        .unwrap();
    assert!(!read.status.success());
    let run_dir = directory.path("run");
    let words = [
        "detach",
        "v",
        "--client",
        "host",
        "--run-dir",
        run_dir.to_str().unwrap(),
    ];
    azekura(&[&words[..], &["--api", &node.api]].concat());
    assert!(attached.has_ended());
    node.stop();
}

#[test]
fn real_attachment_that_is_killed_leaves_no_mount_and_no_device() {
    let directory = Directory::new("attach-killed");
    let node = Node::start(&directory.write("node.toml", config_with_ports("killed")));
    node.make_volume("64MiB");
    let attached = Attached::attach(&directory, &node, "v");
    let content = noise(9, 4 << 20);
    attached.write(&content);
    let name = attached.device.rsplit('/').next().unwrap().to_owned();
    let backing = format!("/sys/block/{name}/loop/backing_file");
    let run_dir = directory.path("run");
    let mount = run_dir.join("v.mount");
    let ours = || {
        let file = std::fs::read_to_string(&backing).unwrap_or_default();
        file.contains(mount.to_str().unwrap())
    };
    assert!(ours());
    attached.kill();
    let deadline = Instant::now() + CLEANED;
    while run_dir.join("v.json").exists() {
        assert!(Instant::now() < deadline, "nobody cleans up");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!ours() && !mount.exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(mount.to_str().unwrap()));
    // The right is the cluster's to keep: the same client attaches again, and finds what it wrote.
    let again = Attached::attach(&directory, &node, "v");
    assert_eq!(again.read(4 << 20), content);
    again.detach(&node);
    node.stop();
}
