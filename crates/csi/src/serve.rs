//! The two processes of the driver: a unix socket and the services on it.

use crate::attachment::Attach;
use crate::call::Pending;
use crate::cluster::{ApiOptions, Cluster};
use crate::controller::ControllerService;
use crate::group::GroupService;
use crate::identity::IdentityService;
pub use crate::metadata::BlockStyle;
use crate::metadata::MetadataService;
use crate::node::{Machine, NodeService};
use crate::v1::controller_server::ControllerServer;
use crate::v1::group_controller_server::GroupControllerServer;
use crate::v1::identity_server::IdentityServer;
use crate::v1::node_server::NodeServer;
use crate::v1::snapshot_metadata_server::SnapshotMetadataServer;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// The socket.
    pub socket: PathBuf,
    /// The cluster.
    pub api: ApiOptions,
    /// How snapshot metadata are told.
    pub blocks: BlockStyle,
    /// Name of the Kubernetes cluster, as a label of every volume; nothing: volumes get no such label.
    pub kubernetes: Option<String>,
}

/// How the node runs.
pub struct NodeOptions {
    /// The socket.
    pub socket: PathBuf,
    /// The cluster.
    pub api: ApiOptions,
    /// Name of this machine, unique in the cluster.
    pub node: String,
    /// A folder for mounts that exist for a moment.
    pub work_dir: PathBuf,
    /// How volumes become devices.
    pub attach: Box<dyn Attach>,
}

/// Why a process of the driver does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket.
    #[error("cannot {action} the socket {socket}: {source}", socket = socket.display())]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The socket.
        socket: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// Another process serves there.
    #[error("another process serves on {socket}: stop it, or use another socket", socket = .0.display())]
    Taken(PathBuf),
    /// Serving ended.
    #[error("serving failed: {0}")]
    Failed(#[from] tonic::transport::Error),
}

/// Takes the socket. One that a killed process left behind is replaced.
fn listen(socket: &Path) -> Result<UnixListener, ServeError> {
    let failed = |action| {
        move |source| ServeError::Socket {
            action,
            socket: socket.to_owned(),
            source,
        }
    };
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    }
    let is_socket =
        std::fs::symlink_metadata(socket).is_ok_and(|about| about.file_type().is_socket());
    if is_socket {
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return Err(ServeError::Taken(socket.to_owned()));
        }
        std::fs::remove_file(socket).map_err(failed("replace"))?;
    }
    let listener = UnixListener::bind(socket).map_err(failed("listen on"))?;
    // Who may talk to it may mount anything: root alone.
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(socket, mode).map_err(failed("protect"))?;
    Ok(listener)
}

/// Serves the controller until `stop` is done; requests that run are ended first.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_controller(
    options: ControllerOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = listen(&options.socket)?;
    let cluster = Cluster::new(options.api).for_kubernetes(options.kubernetes);
    let cluster = Arc::new(cluster);
    let pending = Arc::new(Pending::default());
    let identity = IdentityService {
        cluster: cluster.clone(),
        pending: pending.clone(),
        on_node: false,
    };
    let group = GroupService {
        cluster: cluster.clone(),
        pending: pending.clone(),
    };
    let metadata = MetadataService {
        cluster: cluster.clone(),
        style: options.blocks,
    };
    let controller = ControllerService { cluster, pending };
    let server = Server::builder()
        .add_service(IdentityServer::new(identity))
        .add_service(ControllerServer::new(controller))
        .add_service(GroupControllerServer::new(group))
        .add_service(SnapshotMetadataServer::new(metadata));
    let incoming = UnixListenerStream::new(listener);
    Ok(server.serve_with_incoming_shutdown(incoming, stop).await?)
}

/// Serves the node until `stop` is done; requests that run are ended first. What is mounted stays.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_node(
    options: NodeOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = listen(&options.socket)?;
    let cluster = Arc::new(Cluster::new(options.api));
    let pending = Arc::new(Pending::default());
    let identity = IdentityService {
        cluster: cluster.clone(),
        pending: pending.clone(),
        on_node: true,
    };
    let machine = Arc::new(Machine {
        cluster,
        attach: options.attach,
        node: options.node,
        work_dir: options.work_dir,
    });
    let node = NodeService { machine, pending };
    let server = Server::builder()
        .add_service(IdentityServer::new(identity))
        .add_service(NodeServer::new(node));
    let incoming = UnixListenerStream::new(listener);
    Ok(server.serve_with_incoming_shutdown(incoming, stop).await?)
}
