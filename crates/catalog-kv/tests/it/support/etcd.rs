//! Real etcd processes on free ports of this machine, in a temporary directory.

use super::TempDir;
use catalog_kv::etcd::{EtcdKv, EtcdOptions};
use std::process::{Child, Command, Stdio};
use world::{Duration, World};

/// A member: a process, started and killed at will.
pub struct Member {
    name: String,
    client_url: String,
    peer_url: String,
    cluster: String,
    /// Whether the cluster is there already.
    joins: bool,
    /// Folder with its certificate.
    credentials: Option<std::path::PathBuf>,
    directory: std::path::PathBuf,
    child: Option<Child>,
}

/// A cluster of one or more members. Ends with the test.
pub struct Etcd {
    pub members: Vec<Member>,
    directory: TempDir,
}

/// Ports nobody listened on a moment ago: etcd cannot choose its own, its address is part of the cluster's
/// configuration.
fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<_> = (0..count).map(bind).collect();
    let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
    listeners.iter().map(port).collect()
}

impl Etcd {
    /// Starts a cluster.
    pub fn start(test: &str, members: usize) -> Self {
        Self::start_with(test, members, None)
    }

    /// As [`Etcd::start`], with the certificate in a folder.
    pub fn start_with(test: &str, members: usize, credentials: Option<&std::path::Path>) -> Self {
        let directory = TempDir::new(test);
        let scheme = if credentials.is_some() {
            "https"
        } else {
            "http"
        };
        let url = |port: u16| format!("{scheme}://127.0.0.1:{port}");
        let urls: Vec<String> = free_ports(members * 2).into_iter().map(url).collect();
        let (client_urls, peer_urls) = urls.split_at(members);
        let pairs = peer_urls.iter().enumerate();
        let pairs: Vec<String> = pairs
            .map(|(index, url)| format!("m{index}={url}"))
            .collect();
        let member = |index: usize| Member {
            name: format!("m{index}"),
            client_url: client_urls[index].clone(),
            peer_url: peer_urls[index].clone(),
            cluster: pairs.join(","),
            joins: false,
            credentials: credentials.map(std::path::Path::to_owned),
            directory: directory.0.join(format!("m{index}")),
            child: None,
        };
        let mut members: Vec<Member> = (0..members).map(member).collect();
        members.iter_mut().for_each(Member::start);
        Self { members, directory }
    }

    /// A member that is to join, not started yet; its address for the others.
    pub fn prepare(&mut self, name: &str) -> String {
        let urls: Vec<String> = free_ports(2)
            .iter()
            .map(|port| format!("http://127.0.0.1:{port}"))
            .collect();
        let peer = urls[1].clone();
        let known = &self.members[0].cluster;
        self.members.push(Member {
            name: name.to_owned(),
            client_url: urls[0].clone(),
            peer_url: peer.clone(),
            cluster: format!("{known},{name}={peer}"),
            joins: true,
            credentials: None,
            directory: self.directory.0.join(name),
            child: None,
        });
        peer
    }

    /// The members' client addresses.
    pub fn endpoints(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client_url.clone())
            .collect()
    }

    /// A client that has seen a leader.
    pub async fn connect(&self, world: &World) -> EtcdKv {
        let kv = connect(self.endpoints());
        wait_for_leader(&kv, world).await;
        kv
    }
}

/// A client in the namespace `test/`, patient enough for a busy machine.
pub fn connect(endpoints: Vec<String>) -> EtcdKv {
    connect_within(endpoints, Duration::from_secs(15))
}

/// A client whose calls fail after `timeout`.
pub fn connect_within(endpoints: Vec<String>, timeout: Duration) -> EtcdKv {
    let options = EtcdOptions {
        endpoints,
        namespace: "test/".to_owned(),
        timeout,
        tls: None,
    };
    EtcdKv::connect(options).expect("a good address")
}

/// Waits until reads work.
pub async fn wait_for_leader(kv: &EtcdKv, world: &World) {
    use catalog::kv::Kv;
    for _ in 0..300 {
        if kv.get("any").await.is_ok() {
            return;
        }
        world.sleep(Duration::from_millis(100)).await;
    }
    panic!("etcd has no leader after 30 seconds");
}

impl Member {
    /// Starts the process, on what an earlier one has left.
    pub fn start(&mut self) {
        std::fs::create_dir_all(&self.directory).unwrap();
        let log = self.directory.join("log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut command = Command::new("etcd");
        if let Some(folder) = &self.credentials {
            for side in ["", "peer-"] {
                let identity = folder.join("identity.pem");
                command.arg(format!("--{side}cert-file")).arg(&identity);
                command.arg(format!("--{side}key-file")).arg(&identity);
                command
                    .arg(format!("--{side}trusted-ca-file"))
                    .arg(folder.join("ca.pem"));
                command.arg(format!("--{side}client-cert-auth"));
            }
            command.args(["--client-cert-allowed-hostname", "node.azekura.internal"]);
            command.args(["--peer-cert-allowed-hostname", "node.azekura.internal"]);
        }
        let state = if self.joins { "existing" } else { "new" };
        let child = command
            .args(["--initial-cluster-state", state])
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .args(["--listen-client-urls", &self.client_url])
            .args(["--advertise-client-urls", &self.client_url])
            .args(["--listen-peer-urls", &self.peer_url])
            .args(["--initial-advertise-peer-urls", &self.peer_url])
            .args(["--initial-cluster", &self.cluster])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("cannot run etcd: install Debian package etcd-server"));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops or continues the process, as a hung machine does.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("started");
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
