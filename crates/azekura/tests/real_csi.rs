//! The CSI driver on a real node: its two processes, called over their sockets as an orchestrator would. What makes devices
//! and mounts needs root, /dev/fuse and loop devices, and says so when it is left out.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests of the binary use the operating system"
)]

mod support;

use csi::v1::controller_client::ControllerClient;
use csi::v1::identity_client::IdentityClient;
use csi::v1::node_client::NodeClient;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use csi::v1::volume_content_source::{SnapshotSource, Type as SourceType};
use csi::v1::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::process::Process;
use support::{AZEKURA, Directory, Node, three_stores};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const MIB: i64 = 1 << 20;

/// A node of the cluster with both processes of the driver.
struct Driver {
    runtime: Runtime,
    directory: Directory,
    node: Node,
    _controller: Process,
    plugin: Option<Process>,
}

fn start(directory: &Directory, kind: &str, api: &str) -> (Process, PathBuf) {
    let socket = directory.path(&format!("{kind}.sock"));
    let mut options = std::fs::File::options();
    let log = options.create(true).append(true);
    let log = log.open(directory.path(&format!("{kind}.log"))).unwrap();
    let mut command = Command::new(AZEKURA);
    command
        .args(["csi", kind, "--api", api, "--endpoint"])
        .arg(&socket);
    if kind == "node" {
        command.args(["--node-id", "worker", "--launch", "here"]);
        command.arg("--run-dir").arg(directory.path("run"));
        command.arg("--work-dir").arg(directory.path("work"));
    }
    let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
    let process = Process::new(child);
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "the {kind} does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    (process, socket)
}

impl Driver {
    fn new(test: &str) -> Self {
        let directory = Directory::new(test);
        let config = three_stores(test).replace("512 MiB", "3 GiB");
        let node = Node::start(&directory.write("node.toml", config));
        let (controller, _) = start(&directory, "controller", &node.api);
        let (plugin, _) = start(&directory, "node", &node.api);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Self {
            runtime: builder.enable_all().build().unwrap(),
            directory,
            node,
            _controller: controller,
            plugin: Some(plugin),
        }
    }

    fn channel(&self, kind: &str) -> Channel {
        let socket = self.directory.path(&format!("{kind}.sock"));
        let address = format!("unix://{}", socket.display());
        let endpoint = Endpoint::from_shared(address).unwrap();
        self.runtime.block_on(endpoint.connect()).unwrap()
    }

    fn control<T>(
        &self,
        ask: impl AsyncFnOnce(ControllerClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let client = ControllerClient::new(self.channel("controller"));
        self.runtime
            .block_on(ask(client))
            .map(tonic::Response::into_inner)
    }

    fn on_node<T>(
        &self,
        ask: impl AsyncFnOnce(NodeClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let client = NodeClient::new(self.channel("node"));
        self.runtime
            .block_on(ask(client))
            .map(tonic::Response::into_inner)
    }

    /// Kills the node's plugin as a lost container would be, and starts another.
    fn restart_plugin(&mut self) {
        self.plugin.take().unwrap().kill();
        self.plugin = Some(start(&self.directory, "node", &self.node.api).0);
    }

    fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        let created = self.control(async |mut client| client.create_volume(request).await);
        created.map(|created| created.volume.unwrap())
    }

    fn delete(&self, volume: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest {
            volume_id: volume.to_owned(),
            ..Default::default()
        };
        self.control(async |mut client| client.delete_volume(request).await)
            .map(drop)
    }

    fn node_id(&self) -> String {
        let info =
            self.on_node(async |mut client| client.node_get_info(NodeGetInfoRequest {}).await);
        info.unwrap().node_id
    }

    fn publish(
        &self,
        volume: &str,
        node: &str,
        readonly: bool,
    ) -> Result<HashMap<String, String>, Status> {
        let request = ControllerPublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            volume_capability: Some(mount("ext4")),
            readonly,
            ..Default::default()
        };
        let answer =
            self.control(async |mut client| client.controller_publish_volume(request).await);
        answer.map(|answer| answer.publish_context)
    }

    fn unpublish(&self, volume: &str, node: &str) -> Result<(), Status> {
        let request = ControllerUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            ..Default::default()
        };
        self.control(async |mut client| client.controller_unpublish_volume(request).await)
            .map(drop)
    }

    fn path(&self, name: &str) -> String {
        self.directory.path(name).to_str().unwrap().to_owned()
    }

    fn stage(
        &self,
        volume: &str,
        context: &HashMap<String, String>,
        capability: VolumeCapability,
    ) -> Result<(), Status> {
        let staging = self.path("staging");
        std::fs::create_dir_all(&staging).unwrap();
        let request = NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            publish_context: context.clone(),
            staging_target_path: staging,
            volume_capability: Some(capability),
            ..Default::default()
        };
        self.on_node(async |mut client| client.node_stage_volume(request).await)
            .map(drop)
    }

    fn unstage(&self, volume: &str) -> Result<(), Status> {
        let request = NodeUnstageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.path("staging"),
        };
        self.on_node(async |mut client| client.node_unstage_volume(request).await)
            .map(drop)
    }

    fn target(
        &self,
        volume: &str,
        target: &str,
        capability: VolumeCapability,
        readonly: bool,
    ) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.path("staging"),
            target_path: self.path(target),
            volume_capability: Some(capability),
            readonly,
            ..Default::default()
        };
        self.on_node(async |mut client| client.node_publish_volume(request).await)
            .map(drop)
    }

    fn untarget(&self, volume: &str, target: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            target_path: self.path(target),
        };
        self.on_node(async |mut client| client.node_unpublish_volume(request).await)
            .map(drop)
    }

    /// Nothing of any volume is left on this machine.
    fn assert_clean(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let here = self.directory.0.to_str().unwrap();
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(here)).collect();
        assert_eq!(left, Vec::<&str>::new());
        for entry in std::fs::read_dir("/sys/block").unwrap() {
            let backing = entry.unwrap().path().join("loop/backing_file");
            let backing = std::fs::read_to_string(backing).unwrap_or_default();
            assert!(!backing.contains(here), "{backing}");
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for name in ["node", "controller"] {
            let log = std::fs::read_to_string(self.directory.path(&format!("{name}.log")));
            eprintln!("--- {name}\n{}", log.unwrap_or_default());
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let here = self.directory.0.to_str().unwrap();
        let ours = mounts.lines().filter(|line| line.contains(here));
        let points: Vec<&str> = ours.filter_map(|line| line.split(' ').nth(1)).collect();
        for point in points.iter().rev().filter(|point| !point.contains("/run/")) {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
        for entry in std::fs::read_dir(self.directory.path("run"))
            .into_iter()
            .flatten()
        {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix(".json") else {
                continue;
            };
            let state = std::fs::read(self.directory.path(&format!("run/{name}.json"))).unwrap();
            let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
            let pid = state["pid"].to_string();
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
            std::thread::sleep(Duration::from_millis(100));
            support::azekura(&[
                "detach",
                name,
                "--run-dir",
                &self.path("run"),
                "--api",
                "http://127.0.0.1:1",
            ]);
        }
    }
}

fn capability(mode: Mode, access: AccessType) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(access),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

fn mount(fs_type: &str) -> VolumeCapability {
    let mount = MountVolume {
        fs_type: fs_type.to_owned(),
        ..Default::default()
    };
    capability(Mode::SingleNodeWriter, AccessType::Mount(mount))
}

/// Labels a volume, through the API.
fn label(api: &str, volume: &str, key: &str, value: &str) {
    use std::io::{Read, Write};
    let address = api.strip_prefix("http://").expect("a URL");
    let body = serde_json::json!({"labels": {key: value}}).to_string();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!(
        "PATCH /api/v1/volumes/{volume} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn block() -> VolumeCapability {
    capability(Mode::SingleNodeWriter, AccessType::Block(BlockVolume {}))
}

fn wanted(name: &str, mebibytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange {
            required_bytes: mebibytes * MIB,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![mount("ext4")],
        ..Default::default()
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Code {
    outcome.expect_err("it is refused").code()
}

/// Whether this root may grow a mounted ext4, which takes CAP_SYS_RESOURCE (bit 24); says so when not.
fn can_grow_ext4() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = u64::from_str_radix(bits.unwrap().trim(), 16).unwrap();
    let able = bits & 1 << 24 != 0;
    if !able {
        eprintln!("SKIPPED: growing a mounted ext4 needs CAP_SYS_RESOURCE");
    }
    able
}

/// Whether devices and mounts can be made here; says so when not.
fn can_attach() -> bool {
    let root = std::fs::read_to_string("/proc/self/status").unwrap();
    let root = root
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    let able = root && Path::new("/dev/fuse").exists() && Path::new("/dev/loop-control").exists();
    if !able {
        eprintln!("SKIPPED: devices and mounts need root, /dev/fuse and loop devices");
    }
    able
}

#[test]
fn real_csi_volumes_and_snapshots_are_created_once_and_deleted_for_good() {
    let driver = Driver::new("csi-control");
    let client = IdentityClient::new(driver.channel("controller"));
    let info = driver.runtime.block_on(async move {
        let mut client = client;
        client.get_plugin_info(GetPluginInfoRequest {}).await
    });
    assert_eq!(info.unwrap().into_inner().name, "csi.azekura.dev");
    let created = driver.create(wanted("pvc-1", 64)).unwrap();
    assert_eq!(created.capacity_bytes, 64 * MIB);
    assert_eq!(driver.create(wanted("pvc-1", 64)).unwrap(), created);
    assert_eq!(
        code(driver.create(wanted("pvc-1", 65))),
        Code::AlreadyExists
    );
    assert_eq!(code(driver.create(wanted("", 64))), Code::InvalidArgument);
    assert_eq!(
        code(driver.create(wanted(&"x".repeat(254), 64))),
        Code::InvalidArgument
    );
    for name in ["том-Ω", "volume-7", "a/b", &"y".repeat(253)] {
        let volume = driver.create(wanted(name, 8)).unwrap();
        assert_eq!(
            driver.create(wanted(name, 8)).unwrap().volume_id,
            volume.volume_id
        );
        driver.delete(&volume.volume_id).unwrap();
    }
    let mut odd = wanted("odd", 64);
    odd.parameters
        .insert("flashMode".to_owned(), "ENABLED".to_owned());
    assert_eq!(code(driver.create(odd)), Code::InvalidArgument);
    let snapshot = CreateSnapshotRequest {
        source_volume_id: created.volume_id.clone(),
        name: "snap".to_owned(),
        ..Default::default()
    };
    let take = || {
        let request = snapshot.clone();
        let taken = driver.control(async |mut client| client.create_snapshot(request).await);
        taken.unwrap().snapshot.unwrap()
    };
    let taken = take();
    assert_eq!(take(), taken);
    let mut clone = wanted("clone", 64);
    clone.volume_content_source = Some(VolumeContentSource {
        r#type: Some(SourceType::Snapshot(SnapshotSource {
            snapshot_id: taken.snapshot_id.clone(),
        })),
    });
    let cloned = driver.create(clone.clone()).unwrap();
    assert_eq!(driver.create(clone.clone()).unwrap(), cloned);
    clone.name = "small".to_owned();
    clone.capacity_range.as_mut().unwrap().required_bytes = 32 * MIB;
    assert_eq!(code(driver.create(clone)), Code::OutOfRange);
    let list = ListVolumesRequest {
        max_entries: 1,
        starting_token: String::new(),
    };
    let page = driver
        .control(async |mut client| client.list_volumes(list).await)
        .unwrap();
    assert_eq!((page.entries.len(), page.next_token.is_empty()), (1, false));
    let delete = DeleteSnapshotRequest {
        snapshot_id: taken.snapshot_id,
        ..Default::default()
    };
    for _ in 0..2 {
        let delete = delete.clone();
        driver
            .control(async |mut client| client.delete_snapshot(delete).await)
            .unwrap();
    }
    for volume in [
        &cloned.volume_id,
        &created.volume_id,
        &created.volume_id,
        "elsewhere-v1",
    ] {
        driver.delete(volume).unwrap();
    }
}

#[test]
fn real_csi_volume_is_published_to_one_node() {
    let driver = Driver::new("csi-publish");
    let volume = driver.create(wanted("pvc", 64)).unwrap().volume_id;
    let node = driver.node_id();
    let other = node.replace("worker", "other");
    let context = driver.publish(&volume, &node, false).unwrap();
    assert_eq!(driver.publish(&volume, &node, false).unwrap(), context);
    assert_eq!(
        code(driver.publish(&volume, &node, true)),
        Code::AlreadyExists
    );
    let refusal = driver.publish(&volume, &other, false).unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains(&node), "{refusal}");
    assert_eq!(
        code(driver.publish(&volume, "nobody", false)),
        Code::NotFound
    );
    assert_eq!(
        code(driver.publish("elsewhere-v1", &node, false)),
        Code::NotFound
    );
    assert_eq!(code(driver.delete(&volume)), Code::FailedPrecondition);
    driver.unpublish(&volume, &node).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    let again = driver.publish(&volume, &other, false).unwrap();
    assert_ne!(again, context);
    driver.unpublish(&volume, "").unwrap();
    driver.delete(&volume).unwrap();
}

/// Every step is done, the plugin killed, the step repeated, and the next one done.
#[test]
fn real_csi_claim_is_mounted_though_the_plugin_dies_between_all_steps() {
    if !can_attach() {
        return;
    }
    for fs_type in ["ext4", "xfs"] {
        let mut driver = Driver::new(&format!("csi-mount-{fs_type}"));
        let volume = driver.create(wanted("pvc", 400)).unwrap().volume_id;
        let node = driver.node_id();
        let context = driver.publish(&volume, &node, false).unwrap();
        for _ in 0..2 {
            driver.stage(&volume, &context, mount(fs_type)).unwrap();
            driver.restart_plugin();
        }
        for _ in 0..2 {
            driver
                .target(&volume, "target", mount(fs_type), false)
                .unwrap();
            driver.restart_plugin();
        }
        assert_eq!(
            code(driver.target(&volume, "second", mount(fs_type), false)),
            Code::FailedPrecondition
        );
        std::fs::write(driver.directory.path("target/file"), "kept").unwrap();
        assert_eq!(code(driver.unstage(&volume)), Code::FailedPrecondition);
        if fs_type == "xfs" || can_grow_ext4() {
            grow(&driver, &volume);
        }
        for _ in 0..2 {
            driver.untarget(&volume, "target").unwrap();
            driver.restart_plugin();
        }
        driver.stage(&volume, &context, mount(fs_type)).unwrap();
        driver
            .target(&volume, "readonly", mount(fs_type), true)
            .unwrap();
        let kept = std::fs::read_to_string(driver.directory.path("readonly/file"));
        assert_eq!(kept.unwrap(), "kept");
        assert!(std::fs::write(driver.directory.path("readonly/file"), "x").is_err());
        driver.untarget(&volume, "readonly").unwrap();
        for _ in 0..2 {
            driver.unstage(&volume).unwrap();
            driver.restart_plugin();
        }
        driver.unpublish(&volume, &node).unwrap();
        driver.assert_clean();
        driver.delete(&volume).unwrap();
    }
}

fn grow(driver: &Driver, volume: &str) {
    let range = Some(CapacityRange {
        required_bytes: 600 * MIB,
        limit_bytes: 0,
    });
    let request = ControllerExpandVolumeRequest {
        volume_id: volume.to_owned(),
        capacity_range: range,
        ..Default::default()
    };
    let grown = driver.control(async |mut client| client.controller_expand_volume(request).await);
    assert!(grown.unwrap().node_expansion_required);
    let request = NodeExpandVolumeRequest {
        volume_id: volume.to_owned(),
        volume_path: driver.path("target"),
        capacity_range: range,
        ..Default::default()
    };
    driver
        .on_node(async |mut client| client.node_expand_volume(request).await)
        .unwrap();
    let request = NodeGetVolumeStatsRequest {
        volume_id: volume.to_owned(),
        volume_path: driver.path("target"),
        staging_target_path: String::new(),
    };
    let stats = driver.on_node(async |mut client| client.node_get_volume_stats(request).await);
    let stats = stats.unwrap();
    assert!(stats.usage[0].total > 450 * MIB, "{stats:?}");
    assert!(!stats.volume_condition.unwrap().abnormal);
}

#[test]
fn real_csi_block_volume_with_data_is_not_formatted() {
    if !can_attach() {
        return;
    }
    let driver = Driver::new("csi-block");
    let mut request = wanted("pvc", 64);
    request.volume_capabilities = vec![block()];
    let volume = driver.create(request).unwrap().volume_id;
    let node = driver.node_id();
    let context = driver.publish(&volume, &node, false).unwrap();
    // As a formatting that was interrupted leaves it: what is written to the block device must survive that, too.
    label(
        &driver.node.api,
        "pvc",
        "csi.azekura.dev/formatting",
        "ext4",
    );
    driver.stage(&volume, &context, block()).unwrap();
    std::fs::create_dir(driver.directory.path("folder")).unwrap();
    assert_eq!(
        code(driver.target(&volume, "folder", block(), false)),
        Code::InvalidArgument
    );
    assert_eq!(
        code(driver.target(&volume, "device", block(), true)),
        Code::InvalidArgument
    );
    driver.target(&volume, "device", block(), false).unwrap();
    driver.target(&volume, "device", block(), false).unwrap();
    let output = format!("of={}", driver.path("device"));
    let words = [
        "if=/dev/urandom",
        &output,
        "bs=4096",
        "count=1",
        "conv=fsync,notrunc",
        "status=none",
    ];
    support::program("dd", "coreutils", &words);
    driver.untarget(&volume, "device").unwrap();
    let refusal = driver.stage(&volume, &context, mount("ext4")).unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal}");
    assert!(refusal.message().contains("not formatted"), "{refusal}");
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    driver.assert_clean();
    driver.delete(&volume).unwrap();
}
