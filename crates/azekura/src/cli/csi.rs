//! `azekura csi`: the processes of the driver.

use super::RUN_DIR;
use crate::config::parse_name;
use crate::quantity::parse_duration;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Processes of the CSI driver.
#[derive(Clone, Debug, Subcommand)]
pub enum CsiVerb {
    /// Serve the controller: one for the cluster
    Controller(CsiControllerArgs),
    /// Serve the node: one on each machine
    Node(CsiNodeArgs),
    /// Become the process of an attachment that outlives the one that starts it
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// What both processes need.
#[derive(Clone, Debug, Args)]
pub struct CsiArgs {
    /// The unix socket, as a path or as unix:PATH.
    #[arg(long, env = "CSI_ENDPOINT", value_name = "SOCKET", value_parser = parse_socket)]
    pub endpoint: PathBuf,
    /// Further URLs of the cluster's API, asked when the one of `--api` does not answer.
    #[arg(long = "also-api", value_name = "URL", value_delimiter = ',')]
    pub also: Vec<String>,
    /// Log JSON objects instead of lines for people.
    #[arg(long)]
    pub log_json: bool,
}

/// Arguments of `csi controller`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("asks_kubernetes").multiple(true).args(["follow_pods", "report_claims"])))]
pub struct CsiControllerArgs {
    /// What both processes need.
    #[command(flatten)]
    pub shared: CsiArgs,
    /// How changed blocks of snapshots are told.
    #[arg(long, value_enum, default_value_t = Blocks::Variable)]
    pub metadata_blocks: Blocks,
    /// Name of the Kubernetes cluster: a label of every volume made for it.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub kubernetes_cluster: Option<String>,
    /// Tell the storage cluster about claims, and the pods that use them.
    #[arg(long, requires = "kubernetes_cluster")]
    pub report_claims: bool,
    /// How to reach Kubernetes; without it, as the pod that this process is.
    #[arg(long, value_name = "FILE", requires = "asks_kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// Let the pods of a Kubernetes node that is lost run elsewhere.
    #[command(flatten)]
    pub follow: FollowArgs,
}

/// Arguments of `csi controller` about pods that follow their volumes.
#[derive(Clone, Debug, Args)]
pub struct FollowArgs {
    /// When a Kubernetes node is lost, fence its volumes, mark it out of service, and let its pods run elsewhere.
    #[arg(long)]
    pub follow_pods: bool,
    /// How long a lost node has not renewed its lease.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "25s")]
    pub lost_after: Duration,
    /// How long no volume has heard a lost node; at least 11s.
    #[arg(long, value_name = "DURATION", value_parser = parse_silence, default_value = "15s")]
    pub silent_after: Duration,
    /// How long a node that was lost must be heard and ready again before it is back in service.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "30s")]
    pub return_after: Duration,
}

/// A silence that a client which lives does not keep.
fn parse_silence(text: &str) -> Result<Duration, String> {
    let silence = parse_duration(text)?;
    let least = ::csi::follow::SILENT_AFTER_MIN;
    match silence >= least {
        true => Ok(silence),
        false => Err(format!(
            "{text} is too short: a client that has nothing to do is heard every 5 s; say at least {} s",
            least.as_secs()
        )),
    }
}

/// How changed blocks of snapshots are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Blocks {
    /// As ranges of any length.
    Variable,
    /// As blocks of one length.
    Fixed,
}

/// Arguments of `csi node`.
#[derive(Clone, Debug, Args)]
pub struct CsiNodeArgs {
    /// What both processes need.
    #[command(flatten)]
    pub shared: CsiArgs,
    /// Name of this machine, unique in the cluster.
    #[arg(long, env = "NODE_NAME", value_name = "NAME", value_parser = parse_node)]
    pub node_id: String,
    /// Where attachments of this machine are recorded and mounted.
    #[arg(long, value_name = "DIRECTORY", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// For mounts that exist for a moment.
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/azekura/csi")]
    pub work_dir: PathBuf,
    /// Where the processes of attachments live.
    #[arg(long, value_enum, default_value_t = Home::Auto)]
    pub launch: Home,
    /// Where this container has the host's files; nothing: through process 1.
    #[arg(long, value_name = "DIRECTORY", default_value = "/proc/1/root")]
    pub host_root: PathBuf,
    /// Folder of the host for the program that attachments run.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/azekura/bin")]
    pub host_bin: PathBuf,
}

/// Where the processes of attachments live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Home {
    /// On the host when this process is in a container, else beside it.
    Auto,
    /// In the host's namespaces: needs the host's process ids and privileges.
    Host,
    /// In the namespaces of this process.
    Here,
}

/// Arguments of `csi launch`.
#[derive(Clone, Debug, Args)]
pub struct LaunchArgs {
    /// Name of the control group.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub name: String,
    /// Enter the namespaces of process 1 first.
    #[arg(long)]
    pub host: bool,
    /// The program and its arguments.
    #[arg(required = true, last = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// Names of Kubernetes nodes are longer than those of nodes of the cluster.
pub(super) fn parse_node(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match (1..=253).contains(&text.len()) && text.bytes().all(good) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is not a name: use 1 to 253 letters, digits, `-`, `_` and `.`"
        )),
    }
}

fn parse_socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    let path = path.strip_prefix("//").unwrap_or(path);
    match path.starts_with('/') {
        true => Ok(PathBuf::from(path)),
        false => Err(format!(
            "`{text}` is not a socket: write /absolute/path or unix:///absolute/path"
        )),
    }
}
