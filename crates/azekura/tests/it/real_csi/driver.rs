//! A node of a cluster and both processes of the driver, called over their sockets as an orchestrator would.

use super::requests::SECRET;
use crate::support::process::Process;
use crate::support::{AZEKURA, Directory, Node, azekura, three_stores};
use csi::v1::controller_client::ControllerClient;
use csi::v1::group_controller_client::GroupControllerClient;
use csi::v1::identity_client::IdentityClient;
use csi::v1::node_client::NodeClient;
use csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long a process of the driver may take to listen, on a busy machine.
const LISTEN_MAX: Duration = Duration::from_secs(30);

/// Everything ends when it is dropped; what a failed test leaves on the machine is removed.
pub struct Driver {
    runtime: Runtime,
    pub directory: Directory,
    pub node: Node,
    controller: Option<Process>,
    plugin: Option<Process>,
}

/// How a process of the driver is started.
#[derive(Clone, Copy, Default)]
pub struct Way<'a> {
    /// A folder whose programs are found first.
    pub programs: Option<&'a Path>,
    /// Words before the program's own: a command that executes it somewhere else.
    pub inside: &'a [String],
    /// Attachments live on the host, whose programs are kept in this folder.
    pub host_programs: Option<&'a Path>,
}

fn open_log(directory: &Directory, kind: &str) -> std::fs::File {
    let mut options = std::fs::File::options();
    let log = options.create(true).append(true);
    log.open(directory.path(&format!("{kind}.log"))).unwrap()
}

/// Waits until somebody listens.
pub fn wait_for_socket(socket: &Path) {
    let deadline = Instant::now() + LISTEN_MAX;
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        let name = socket.display();
        assert!(Instant::now() < deadline, "nobody listens on {name}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts the driver's `controller` or `node`, whose socket and log have that name.
pub fn start(directory: &Directory, kind: &str, api: &str, way: Way<'_>) -> Process {
    let socket = directory.path(&format!("{kind}.sock"));
    let before = way.inside.iter().map(String::as_str);
    let mut words = before.chain([AZEKURA, "csi", kind, "--api", api]);
    let mut command = Command::new(words.next().expect("the program itself"));
    command.args(words).arg("--endpoint").arg(&socket);
    if kind == "node" {
        command.args(["--node-id", "worker"]);
        match way.host_programs {
            Some(folder) => command.args(["--launch", "host", "--host-bin"]).arg(folder),
            None => command.args(["--launch", "here"]),
        };
        command.arg("--run-dir").arg(directory.path("run"));
        command.arg("--work-dir").arg(directory.path("work"));
    }
    if let Some(folder) = way.programs {
        let others = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{others}", folder.display()));
    }
    command.env("RUST_LOG", "info");
    command
        .stdin(Stdio::null())
        .stderr(open_log(directory, kind));
    let process = Process::new(command.spawn().unwrap());
    wait_for_socket(&socket);
    process
}

impl Driver {
    /// A cluster of one node with three stores, and the driver.
    pub fn new(test: &str) -> Self {
        let directory = Directory::new(test);
        let config = three_stores(test).replace("512 MiB", "3 GiB");
        let node = Node::start(&directory.write("storage.toml", config));
        Self::of(directory, node)
    }

    /// The driver of a cluster that runs.
    pub fn of(directory: Directory, node: Node) -> Self {
        let controller = start(&directory, "controller", &node.api, Way::default());
        let plugin = start(&directory, "node", &node.api, Way::default());
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Self {
            runtime: builder.enable_all().build().unwrap(),
            directory,
            node,
            controller: Some(controller),
            plugin: Some(plugin),
        }
    }

    fn channel(&self, kind: &str) -> Channel {
        connect(&self.runtime, &self.directory.path(&format!("{kind}.sock")))
    }

    pub fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel("controller"))
    }

    pub fn groups(&self) -> GroupControllerClient<Channel> {
        GroupControllerClient::new(self.channel("controller"))
    }

    pub fn metadata(&self) -> SnapshotMetadataClient<Channel> {
        SnapshotMetadataClient::new(self.channel("controller"))
    }

    pub fn identity(&self, kind: &str) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel(kind))
    }

    pub fn plugin(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel("node"))
    }

    /// Waits for anything.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Waits for an answer.
    pub fn wait<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(answer).map(Response::into_inner)
    }

    /// Asks the same several times at once. Each is answered, or told that another one is at it; those that are
    /// answered are answered alike.
    pub fn at_once<T, F>(&self, ask: impl Fn() -> F) -> T
    where
        T: Send + PartialEq + std::fmt::Debug + 'static,
        F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        let outcomes = self.runtime.block_on(async {
            let mut asked = JoinSet::new();
            for _ in 0..DUPLICATES {
                asked.spawn(ask());
            }
            asked.join_all().await
        });
        let mut answers = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(answer) => answers.push(answer.into_inner()),
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
            }
        }
        let first = answers.pop().expect("one of them is answered");
        for other in answers {
            assert_eq!(other, first);
        }
        first
    }

    /// Kills the node's process as a lost container would be.
    pub fn kill_plugin(&mut self) {
        self.plugin.take().expect("it runs").kill();
        // It may have run below another process, whose end is not its own.
        let socket = self.directory.path("node.sock");
        let deadline = Instant::now() + LISTEN_MAX;
        while std::os::unix::net::UnixStream::connect(&socket).is_ok() {
            assert!(Instant::now() < deadline, "the plugin does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts the node's process, after [`Driver::kill_plugin`].
    pub fn start_plugin(&mut self, way: Way<'_>) {
        assert!(self.plugin.is_none(), "it does not run");
        self.plugin = Some(start(&self.directory, "node", &self.node.api, way));
    }

    /// Kills the node's process and starts another.
    pub fn restart_plugin(&mut self) {
        self.kill_plugin();
        self.start_plugin(Way::default());
    }

    /// Kills the controller and starts another.
    pub fn restart_controller(&mut self) {
        self.controller.take().expect("it runs").kill();
        let started = start(
            &self.directory,
            "controller",
            &self.node.api,
            Way::default(),
        );
        self.controller = Some(started);
    }

    /// A path in this test's folder.
    pub fn path(&self, name: &str) -> String {
        self.directory.path(name).to_str().unwrap().to_owned()
    }

    /// The block device of the only volume that is attached.
    pub fn device(&self) -> PathBuf {
        let (_, state) = states(&self.directory.path("run")).pop().expect("attached");
        PathBuf::from(state["device"].as_str().expect("it was made"))
    }

    /// Nothing of any volume is left on this machine, and no secret in the logs.
    pub fn assert_clean(&self) {
        assert_nothing_left(&self.directory);
        for kind in ["node", "controller"] {
            let log = std::fs::read_to_string(self.directory.path(&format!("{kind}.log")));
            assert!(!log.unwrap().contains(SECRET), "the {kind} logs secrets");
        }
    }
}

/// How often [`Driver::at_once`] asks.
const DUPLICATES: usize = 4;

/// Connects to a socket.
pub fn connect(runtime: &Runtime, socket: &Path) -> Channel {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    runtime.block_on(endpoint.connect()).unwrap()
}

/// No mount, no loop device, no record of an attachment of this test is left.
pub fn assert_nothing_left(directory: &Directory) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let here = directory.0.to_str().unwrap();
    let left: Vec<&str> = mounts.lines().filter(|line| line.contains(here)).collect();
    assert_eq!(left, Vec::<&str>::new());
    for entry in std::fs::read_dir("/sys/block").unwrap() {
        let backing = entry.unwrap().path().join("loop/backing_file");
        let backing = std::fs::read_to_string(backing).unwrap_or_default();
        assert!(!backing.contains(here), "{backing}");
    }
    let recorded = states(&directory.path("run"));
    assert!(recorded.is_empty(), "{recorded:?}");
}

/// What a run directory says is attached: names and records.
pub fn states(run_dir: &Path) -> Vec<(String, serde_json::Value)> {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let records = paths.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read(&path).unwrap();
        (name, serde_json::from_slice(&text).unwrap())
    };
    records.map(read).collect()
}

/// Removes what a failed test leaves, so that it does not fail those after it.
pub fn clean_up(directory: &Directory) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let here = directory.0.to_str().unwrap();
    let ours = mounts.lines().filter(|line| line.contains(here));
    let points: Vec<&str> = ours.filter_map(|line| line.split(' ').nth(1)).collect();
    for point in points.iter().rev().filter(|point| !point.contains("/run/")) {
        let _ = Command::new("umount").args(["-l", point]).status();
    }
    let run_dir = directory.path("run");
    for (name, state) in states(&run_dir) {
        let pid = state["pid"].to_string();
        let _ = Command::new("kill").args(["-KILL", &pid]).status();
        std::thread::sleep(Duration::from_millis(100));
        let run_dir = run_dir.to_str().unwrap();
        let nowhere = ["--api", "http://127.0.0.1:1"];
        let words = ["detach", &name, "--run-dir", run_dir];
        azekura(&[&words[..], &nowhere[..]].concat());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for name in ["storage", "node", "controller"] {
            let log = std::fs::read_to_string(self.directory.path(&format!("{name}.log")));
            eprintln!("--- {name}\n{}", log.unwrap_or_default());
        }
        clean_up(&self.directory);
    }
}
