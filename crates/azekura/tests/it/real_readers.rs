//! Several nodes read one volume through the CSI driver, each with an attachment of its own. Needs root, /dev/fuse and loop
//! devices, and says so when it is left out.

use crate::support::process::{Process, signal};
use crate::support::{AZEKURA, Directory, Node, azekura, noise, three_stores};
use csi::v1::controller_client::ControllerClient;
use csi::v1::node_client::NodeClient;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use csi::v1::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

type Context = HashMap<String, String>;

/// A process of the driver and its socket.
struct Plugin {
    _process: Process,
    socket: PathBuf,
}

impl Plugin {
    fn start(directory: &Directory, api: &str, words: &[&str]) -> Self {
        let name = words.last().unwrap();
        let socket = directory.path(&format!("{name}.sock"));
        let log = std::fs::File::create(directory.path(&format!("{name}.log"))).unwrap();
        let mut command = Command::new(AZEKURA);
        command.arg("csi").args(words).args(["--api", api]);
        command.arg("--endpoint").arg(&socket);
        if words[0] == "node" {
            command.args(["--launch", "here", "--run-dir"]);
            command.arg(directory.path(&format!("run-{name}")));
            command.arg("--work-dir").arg(directory.path("work"));
        }
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let _process = Process::new(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "{words:?} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { _process, socket }
    }
}

/// One storage node, the controller, and the plugins of two machines that are one.
struct Scene {
    runtime: Runtime,
    controller: Plugin,
    plugins: [Plugin; 2],
    ids: [String; 2],
    /// Before the directory, which it writes to.
    _node: Node,
    directory: Directory,
}

const NAMES: [&str; 2] = ["first", "second"];

impl Scene {
    fn new(test: &str) -> Self {
        let directory = Directory::new(test);
        let node = Node::start(&directory.write("node.toml", three_stores(test)));
        let controller = Plugin::start(&directory, &node.api, &["controller"]);
        let plugin =
            |name: &str| Plugin::start(&directory, &node.api, &["node", "--node-id", name]);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let mut scene = Self {
            runtime: builder.enable_all().build().unwrap(),
            controller,
            plugins: NAMES.map(plugin),
            ids: Default::default(),
            _node: node,
            directory,
        };
        scene.ids = [0, 1].map(|at| {
            let info = scene.on(at, async |mut node| {
                node.node_get_info(NodeGetInfoRequest {}).await
            });
            info.unwrap().node_id
        });
        scene
    }

    fn channel(&self, plugin: &Plugin) -> Channel {
        let endpoint = Endpoint::from_shared(format!("unix://{}", plugin.socket.display()));
        self.runtime.block_on(endpoint.unwrap().connect()).unwrap()
    }

    fn control<T>(
        &self,
        ask: impl AsyncFnOnce(ControllerClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let client = ControllerClient::new(self.channel(&self.controller));
        self.runtime.block_on(ask(client)).map(Response::into_inner)
    }

    fn on<T>(
        &self,
        at: usize,
        ask: impl AsyncFnOnce(NodeClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let client = NodeClient::new(self.channel(&self.plugins[at]));
        self.runtime.block_on(ask(client)).map(Response::into_inner)
    }

    fn create(&self) -> String {
        let request = CreateVolumeRequest {
            name: "shared".to_owned(),
            capacity_range: Some(CapacityRange {
                required_bytes: 64 << 20,
                limit_bytes: 0,
            }),
            volume_capabilities: vec![
                capability(Mode::SingleNodeWriter),
                capability(Mode::MultiNodeReaderOnly),
            ],
            ..Default::default()
        };
        let created = self.control(async |mut driver| driver.create_volume(request).await);
        created.unwrap().volume.unwrap().volume_id
    }

    fn publish(&self, volume: &str, at: usize, mode: Mode) -> Result<Context, Status> {
        let request = ControllerPublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: self.ids[at].clone(),
            volume_capability: Some(capability(mode)),
            ..Default::default()
        };
        let answer =
            self.control(async |mut driver| driver.controller_publish_volume(request).await);
        answer.map(|answer| answer.publish_context)
    }

    fn unpublish(&self, volume: &str, at: usize) {
        let request = ControllerUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: self.ids[at].clone(),
            ..Default::default()
        };
        self.control(async |mut driver| driver.controller_unpublish_volume(request).await)
            .unwrap();
    }

    fn staging(&self, at: usize) -> PathBuf {
        let path = self.directory.path(&format!("staging-{}", NAMES[at]));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn stage(&self, volume: &str, at: usize, mode: Mode, context: &Context) -> Result<(), Status> {
        let request = NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            publish_context: context.clone(),
            staging_target_path: self.staging(at).to_str().unwrap().to_owned(),
            volume_capability: Some(capability(mode)),
            ..Default::default()
        };
        self.on(at, async |mut node| node.node_stage_volume(request).await)
            .map(drop)
    }

    fn unstage(&self, volume: &str, at: usize) {
        let request = NodeUnstageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.staging(at).to_str().unwrap().to_owned(),
        };
        self.on(at, async |mut node| node.node_unstage_volume(request).await)
            .unwrap();
    }

    /// The device that is mounted where a volume is staged.
    fn device(&self, at: usize) -> String {
        let staging = self.staging(at);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let mut mounts = mounts.lines().map(words);
        let found = mounts.find(|mount| Path::new(&mount[1]) == staging);
        found.expect("it is staged")[0].clone()
    }

    /// Reads from a node's device, past all caches.
    fn reads(&self, device: &str) -> bool {
        let input = format!("if={device}");
        let words = [&*input, "of=/dev/null", "bs=1M", "count=1", "iflag=direct"];
        let mut dd = Command::new("dd");
        let dd = dd.args(words).args(["status=none"]).stderr(Stdio::null());
        dd.status().unwrap().success()
    }
}

impl Drop for Scene {
    /// What a failed test leaves behind.
    fn drop(&mut self) {
        for at in [0, 1] {
            let _ = Command::new("umount")
                .arg("-l")
                .arg(self.staging(at))
                .stderr(Stdio::null())
                .status();
            let run = self.directory.path(&format!("run-{}", NAMES[at]));
            for entry in std::fs::read_dir(&run).into_iter().flatten() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let Some(name) = name.strip_suffix(".json") else {
                    continue;
                };
                let state = std::fs::read(run.join(format!("{name}.json"))).unwrap();
                let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
                if Path::new(&format!("/proc/{}", state["pid"])).exists() {
                    signal(state["pid"].as_u64().unwrap(), "KILL");
                    std::thread::sleep(Duration::from_millis(200));
                }
                let run = run.to_str().unwrap();
                let nobody = ["--api", "http://127.0.0.1:1"];
                azekura(&[&["detach", name, "--run-dir", run][..], &nobody].concat());
            }
        }
    }
}

fn capability(mode: Mode) -> VolumeCapability {
    let mount = MountVolume {
        fs_type: "ext4".to_owned(),
        ..Default::default()
    };
    VolumeCapability {
        access_type: Some(AccessType::Mount(mount)),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// Whether devices and mounts can be made here; says so when not.
fn can_attach() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let user = status.lines().find(|line| line.starts_with("Uid:"));
    let root = user.and_then(|line| line.split_whitespace().nth(2)) == Some("0");
    let able = root && Path::new("/dev/fuse").exists() && Path::new("/dev/loop-control").exists();
    if !able {
        eprintln!("SKIPPED: devices and mounts need root, /dev/fuse and loop devices");
    }
    able
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.expect_err("it is refused");
    (status.code(), status.message().to_owned())
}

#[test]
fn real_readers_of_many_nodes_are_let_in_and_fenced_one_by_one() {
    if !can_attach() {
        return;
    }
    let scene = Scene::new("readers");
    let (writer, reader) = (Mode::SingleNodeWriter, Mode::MultiNodeReaderOnly);
    let volume = scene.create();
    let context = scene.publish(&volume, 0, writer).unwrap();
    scene.stage(&volume, 0, writer, &context).unwrap();
    let content = noise(5, 8 << 20);
    std::fs::write(scene.staging(0).join("file"), &content).unwrap();
    scene.unstage(&volume, 0);
    let (code, message) = refusal(scene.publish(&volume, 1, reader));
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains("for writing"), "{message}");
    scene.unpublish(&volume, 0);

    let contexts = [0, 1].map(|at| scene.publish(&volume, at, reader).unwrap());
    assert_eq!(contexts[0], scene.publish(&volume, 0, reader).unwrap());
    assert_ne!(contexts[0]["generation"], contexts[1]["generation"]);
    for mode in [writer, Mode::SingleNodeReaderOnly] {
        assert_eq!(
            refusal(scene.publish(&volume, 0, mode)).0,
            Code::AlreadyExists
        );
    }
    for at in [0, 1] {
        scene.stage(&volume, at, reader, &contexts[at]).unwrap();
        let staging = scene.staging(at);
        assert_eq!(std::fs::read(staging.join("file")).unwrap(), content);
        assert!(std::fs::write(staging.join("other"), "x").is_err());
    }

    // The first node is fenced although it has it staged, as one that is lost would be.
    let devices = [0, 1].map(|at| scene.device(at));
    assert!(scene.reads(&devices[0]) && scene.reads(&devices[1]));
    scene.unpublish(&volume, 0);
    assert!(!scene.reads(&devices[0]), "it was sent away");
    assert!(scene.reads(&devices[1]), "it stays");

    // It comes back with a generation of its own, in place of the dead device.
    let again = scene.publish(&volume, 0, reader).unwrap();
    assert_ne!(again["generation"], contexts[0]["generation"]);
    scene.stage(&volume, 0, reader, &again).unwrap();
    assert!(scene.reads(&scene.device(0)) && scene.reads(&devices[1]));
    for at in [0, 1] {
        scene.unstage(&volume, at);
        scene.unpublish(&volume, at);
    }
    let context = scene.publish(&volume, 1, writer).unwrap();
    scene.stage(&volume, 1, writer, &context).unwrap();
    std::fs::write(scene.staging(1).join("other"), "x").unwrap();
    scene.unstage(&volume, 1);
    scene.unpublish(&volume, 1);
    let request = DeleteVolumeRequest {
        volume_id: volume,
        ..Default::default()
    };
    let deleted = scene.control(async |mut driver| driver.delete_volume(request).await);
    deleted.unwrap();
}
