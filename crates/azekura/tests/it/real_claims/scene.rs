//! A storage node, an API of Kubernetes, and controllers between them.

use crate::real_csi::driver::{connect, wait_for_socket};
use crate::support::kubernetes::Kubernetes;
use crate::support::process::Process;
use crate::support::{AZEKURA, Directory, Node, three_stores};
use api::client::{Ask, Client, ClientError, Method};
use api::{ClaimAnswer, ClaimsAnswer, ErrorKind, KubernetesAnswer};
use csi::v1::controller_client::ControllerClient;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use csi::v1::{CapacityRange, CreateVolumeRequest, VolumeCapability};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The uid of the Kubernetes cluster's system namespace.
pub const UID: &str = "uid-of-the-cluster";

/// Everything.
pub struct Scene {
    pub kubernetes: Kubernetes,
    client: Client,
    /// Before the directory, which it writes to.
    pub node: Node,
    directory: Directory,
}

/// A controller that reports.
pub struct Controller {
    pub process: Process,
    log: PathBuf,
}

impl Controller {
    /// Lines of its log with these words.
    pub fn lines(&self, words: &str) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let lines = log.lines().filter(|line| line.contains(words));
        lines.map(str::to_owned).collect()
    }
}

/// An API of Kubernetes with two classes of the driver and one of another.
pub fn kubernetes(uid: &str) -> Kubernetes {
    let kubernetes = Kubernetes::start(String::new);
    kubernetes.add(
        "namespaces",
        "kube-system",
        json!({"metadata": {"uid": uid}}),
    );
    for (name, provisioner, binding) in [
        ("fast", "csi.azekura.dev", "Immediate"),
        ("late", "csi.azekura.dev", "WaitForFirstConsumer"),
        ("foreign", "other.driver", "Immediate"),
    ] {
        let class = json!({"provisioner": provisioner, "volumeBindingMode": binding, "reclaimPolicy": "Delete"});
        kubernetes.add("storageclasses", name, class);
    }
    kubernetes
}

/// A claim without a volume.
pub fn claim(name: &str, class: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "uid": format!("uid-of-{name}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    })
}

/// A pod that runs and uses a claim.
pub fn pod(name: &str, claim: &str, node: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "uid": format!("uid-of-{name}-on-{node}")},
        "spec": {"nodeName": node, "containers": [],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": "Running"},
    })
}

impl Scene {
    pub fn start(test: &str) -> Self {
        let directory = Directory::new(test);
        let node = Node::start(&directory.write("node.toml", three_stores(test)));
        Self {
            kubernetes: kubernetes(UID),
            client: Client::new("test", Duration::from_secs(5)),
            node,
            directory,
        }
    }

    /// Starts a controller that reports claims under the name of a cluster.
    pub fn report(&self, name: &str, cluster: &str, kubernetes: &Kubernetes) -> Controller {
        let path = |ending: &str| self.directory.path(&format!("{name}.{ending}"));
        let (log, socket) = (path("log"), path("sock"));
        std::fs::write(path("kubeconfig"), kubernetes.kubeconfig()).unwrap();
        let child = Command::new(AZEKURA)
            .args([
                "csi",
                "controller",
                "--api",
                &self.node.api,
                "--report-claims",
            ])
            .args(["--kubernetes-cluster", cluster, "--endpoint"])
            .arg(&socket)
            .arg("--kubeconfig")
            .arg(path("kubeconfig"))
            .env("RUST_LOG", "info,csi::claims=debug")
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn();
        let process = Process::new(child.unwrap());
        wait_for_socket(&socket);
        Controller { process, log }
    }

    /// Creates a volume as the provisioner does; its handle.
    pub fn create_volume(&self, controller: &str, name: &str, claim: &str) -> String {
        let parameters = [
            ("csi.storage.k8s.io/pvc/name", claim),
            ("csi.storage.k8s.io/pvc/namespace", "shop"),
            ("csi.storage.k8s.io/pv/name", name),
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange {
                required_bytes: 64 << 20,
                limit_bytes: 0,
            }),
            volume_capabilities: vec![VolumeCapability {
                access_mode: Some(AccessMode {
                    mode: Mode::SingleNodeWriter.into(),
                }),
                access_type: Some(AccessType::Mount(MountVolume::default())),
            }],
            parameters: parameters.map(owned).into(),
            ..CreateVolumeRequest::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let socket = self.directory.path(&format!("{controller}.sock"));
        let channel = connect(&runtime, &socket);
        let mut client = ControllerClient::new(channel);
        let created = runtime.block_on(client.create_volume(request));
        let created = created.unwrap().into_inner();
        created.volume.unwrap().volume_id
    }

    /// A claim with a persistent volume.
    pub fn add_bound(&self, name: &str, volume: &str, handle: &str) {
        let spec = json!({"persistentVolumeReclaimPolicy": "Delete", "csi": {"driver": "csi.azekura.dev", "volumeHandle": handle}});
        self.kubernetes
            .add("persistentvolumes", volume, json!({"spec": spec}));
        let mut bound = claim(name, "fast");
        bound["spec"]["volumeName"] = json!(volume);
        bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
        self.kubernetes.add("persistentvolumeclaims", name, bound);
    }

    /// A volume attachment.
    pub fn attach(&self, volume: &str, node: &str) {
        let spec = json!({"attacher": "csi.azekura.dev", "nodeName": node, "source": {"persistentVolumeName": volume}});
        let name = format!("{volume}-{node}");
        self.kubernetes
            .add("volumeattachments", &name, json!({"spec": spec}));
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.client.ask(&Ask {
            server: &format!("http://{}", self.node.api.trim_start_matches("http://")),
            method: &Method::GET,
            path,
            body: None,
            token: None,
            request_id: None,
            patience: Duration::from_secs(10),
        })
    }

    /// What the storage knows of a Kubernetes cluster.
    pub fn shown(&self, cluster: &str) -> Option<KubernetesAnswer> {
        match self.get(&format!("/api/v1/kubernetes/{cluster}")) {
            Err(ClientError::Refused(error)) if error.kind == ErrorKind::NotFound => None,
            shown => Some(shown.unwrap()),
        }
    }

    /// The claims that the storage knows of a Kubernetes cluster, read in pages; none while it knows no such cluster.
    pub fn claims(&self, cluster: &str) -> Vec<ClaimAnswer> {
        let (mut all, mut after) = (Vec::new(), String::new());
        if self.shown(cluster).is_none() {
            return all;
        }
        loop {
            let path = format!("/api/v1/kubernetes/{cluster}/claims?limit=100{after}");
            let page: ClaimsAnswer = self.get(&path).unwrap();
            all.extend(page.items);
            match page.next {
                Some(next) => after = format!("&after={}", next.replace('/', "%2F")),
                None => return all,
            }
        }
    }
}
