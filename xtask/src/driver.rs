//! The processes of the CSI driver, run and called as Kubernetes would: `azekura csi controller`, `azekura csi node`.
//!
//! Each is a process of its own on a unix socket, with the token of an operator for it (scope `csi`) and the addresses of
//! all storage nodes. Calls are in `calls.rs`; `claim.rs` says in which order sidecars and kubelet make them.

mod calls;
mod claim;
mod clean;

pub use claim::{Claim, Kind, Snapshot};
pub use clean::{clean, output};

use crate::cluster::{self, Cluster};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

/// Name of this machine as a node of Kubernetes.
const NODE: &str = "this-machine";
/// Longest wait for a process to listen.
const READY_MAX: Duration = Duration::from_secs(30);

/// One process of the driver.
struct Plugin {
    child: Child,
    channel: Channel,
}

/// Both processes.
pub struct Driver {
    runtime: Runtime,
    controller: Plugin,
    node: Plugin,
    settings: Settings,
    /// What `NodeGetInfo` says of this machine.
    about: csi::v1::NodeGetInfoResponse,
    keep: bool,
}

/// What the processes are started with.
struct Settings {
    binary: PathBuf,
    /// Sockets, attachments and mounts: short, as sockets ask for.
    folder: PathBuf,
    /// Logs, and the list of processes to end; made by `cluster::prepare`.
    cluster: PathBuf,
    /// URLs of the API, all of them.
    urls: Vec<String>,
    token_file: PathBuf,
    detached: bool,
}

impl Driver {
    /// Makes a token, starts both processes and waits until they serve. `folder` holds sockets, attachments and
    /// mounts; `detached`: the processes are meant to outlive this one.
    pub fn start(binary: &Path, cluster: &Cluster, folder: &Path, detached: bool) -> Result<Self> {
        let urls = cluster
            .nodes
            .iter()
            .map(|node| format!("http://{}", node.api));
        let settings = Settings {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            cluster: cluster.folder.clone(),
            urls: urls.collect(),
            token_file: cluster.folder.join("csi-token"),
            detached,
        };
        settings.make_token(cluster)?;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build()?;
        let controller = settings.start(&runtime, "controller")?;
        let node = settings.start(&runtime, "node")?;
        let mut driver = Self {
            runtime,
            controller,
            node,
            settings,
            about: csi::v1::NodeGetInfoResponse::default(),
            keep: false,
        };
        driver.about = driver.node_info()?;
        Ok(driver)
    }

    /// Where sockets, attachments and mounts are.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// Where attachments are recorded.
    pub fn attachments(&self) -> PathBuf {
        attachments(&self.settings.folder)
    }

    /// Name of this machine for the storage cluster, which holds the attachments.
    pub fn client(&self) -> &'static str {
        NODE
    }

    /// SIGKILL to the process of this machine, and another one in its place, as the kubelet would start it.
    pub fn restart_node(&mut self) -> Result<()> {
        self.node.child.kill()?;
        self.node.child.wait()?;
        self.node = self.settings.start(&self.runtime, "node")?;
        Ok(())
    }

    /// Process ids of controller and node.
    pub fn pids(&self) -> [u32; 2] {
        [self.controller.child.id(), self.node.child.id()]
    }

    /// Leaves both running when this goes out of scope.
    pub fn keep_running(&mut self) {
        self.keep = true;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        for plugin in [&mut self.controller, &mut self.node] {
            let _ = plugin.child.kill();
            let _ = plugin.child.wait();
        }
    }
}

/// Where the attachments of a folder are recorded.
pub fn attachments(folder: &Path) -> PathBuf {
    folder.join("attach")
}

impl Settings {
    /// What an operator does before the driver is installed.
    fn make_token(&self, cluster: &Cluster) -> Result<()> {
        let admin = cluster.admin_token.as_ref();
        let admin = admin.context("the driver needs a cluster that asks for tokens")?;
        let mut command = Command::new(&self.binary);
        command.args(["--api", &self.urls[0], "--token-file"]);
        command.arg(admin);
        let secret = output(command.args([
            "token",
            "create",
            "csi",
            "--scope",
            "csi",
            "--all-containers",
        ]))?;
        fs::write(&self.token_file, secret).context("cannot write the driver's token")
    }

    fn start(&self, runtime: &Runtime, kind: &str) -> Result<Plugin> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let socket = self.folder.join(format!("csi-{kind}.sock"));
        let log = self.cluster.join(format!("csi-{kind}.log"));
        let mut command = self.command(kind, &socket);
        if self.detached {
            command.process_group(0);
        }
        let mut child = cluster::spawn(&mut command, &log)?;
        cluster::note(&self.cluster, child.id())?;
        wait_for(&socket, &mut child, kind, &log)?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        let channel = runtime.block_on(endpoint.connect());
        let channel = channel.with_context(|| format!("no gRPC at {}", socket.display()))?;
        Ok(Plugin { child, channel })
    }

    fn command(&self, kind: &str, socket: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--api", &self.urls.join(","), "--token-file"]);
        command.arg(&self.token_file);
        command.args(["csi", kind, "--endpoint"]).arg(socket);
        if kind == "node" {
            // Attachments live beside this process, not in a host around it.
            command.args(["--node-id", NODE, "--launch", "here"]);
            command.arg("--run-dir").arg(attachments(&self.folder));
            command.arg("--work-dir").arg(self.folder.join("work"));
        }
        command.stdin(Stdio::null());
        command
    }
}

fn wait_for(socket: &Path, child: &mut Child, kind: &str, log: &Path) -> Result<()> {
    let deadline = Instant::now() + READY_MAX;
    while UnixStream::connect(socket).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!(
                "azekura csi {kind} ended with {status}: see {}",
                log.display()
            );
        }
        ensure!(
            Instant::now() < deadline,
            "azekura csi {kind} does not listen within 30 s: see {}",
            log.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
