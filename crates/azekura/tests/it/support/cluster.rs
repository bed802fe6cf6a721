//! Three node processes with a store each and a real etcd, on loopback, in one directory.

use super::process::{Process, find_program};
use super::{Directory, Node, Starting, azekura};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long anything is waited for on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Size of a node's disk.
const DISK: &str = "2 GiB";
/// Nodes of the cluster.
pub const NODES: usize = 3;

/// An address that stays the same over restarts. It lies below the ports that the kernel gives to outgoing
/// connections: they could take it, or even connect to themselves, while its process is down.
pub fn lasting_address() -> String {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let text = range.unwrap_or_default();
    let first = text.split_whitespace().next();
    let end: u32 = first.and_then(|port| port.parse().ok()).unwrap_or(32_768);
    let span = end.saturating_sub(10_000).max(1_000);
    // Other processes begin their search elsewhere.
    static START: OnceLock<u32> = OnceLock::new();
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let random = std::process::id().wrapping_mul(97) ^ clock.subsec_nanos();
    let start = START.get_or_init(|| random % span);
    let mut tries = (0..1000).map(|_| 10_000 + (start + TRIED.fetch_add(7, Relaxed)) % span);
    let free = tries.find_map(|port| {
        let address = format!("127.0.0.1:{port}");
        TcpListener::bind(&address).is_ok().then_some(address)
    });
    free.expect("a port below the outgoing ones is free")
}

/// A process of the catalog.
struct Member {
    name: String,
    process: Process,
    data: PathBuf,
    client: String,
    peer: String,
}

/// The catalog: one process, or several.
pub struct Etcd {
    members: Vec<Member>,
}

impl Etcd {
    pub fn new(directory: &Directory) -> Self {
        Self::with_members(directory, 1)
    }

    pub fn with_members(directory: &Directory, count: usize) -> Self {
        let names = ["one", "two", "three"];
        let peers: Vec<String> = (0..count).map(|_| lasting_address()).collect();
        let cluster: Vec<String> = names
            .iter()
            .zip(&peers)
            .map(|(name, peer)| format!("{name}=http://{peer}"))
            .collect();
        let cluster = cluster.join(",");
        let member = |(name, peer): (&&str, &String)| {
            let client = lasting_address();
            let data = match count {
                1 => directory.path("etcd"),
                _ => directory.path(&format!("etcd-{name}")),
            };
            let process = spawn(name, &data, &client, peer, &cluster);
            Member {
                name: (*name).to_owned(),
                process,
                data,
                client,
                peer: peer.clone(),
            }
        };
        let members: Vec<Member> = names.iter().zip(&peers).map(member).collect();
        for member in &members {
            wait_until("etcd listens", || {
                TcpStream::connect(&member.client).is_ok()
            });
        }
        Self { members }
    }

    pub fn kill(&mut self) {
        for member in &mut self.members {
            member.process.kill();
        }
    }

    /// Kills one of several.
    pub fn kill_member(&mut self, index: usize) {
        self.members[index].process.kill();
    }

    /// Kills it, and all of its data is gone.
    pub fn lose(&mut self) {
        self.kill();
        for member in &self.members {
            std::fs::remove_dir_all(&member.data).unwrap();
        }
    }

    /// Its URL for clients: that of the first member.
    pub fn url(&self) -> String {
        format!("http://{}", self.members[0].client)
    }

    /// All URLs, as the configuration of a node lists them.
    fn endpoints(&self) -> String {
        let url = |member: &Member| format!("\"http://{}\"", member.client);
        let urls: Vec<String> = self.members.iter().map(url).collect();
        urls.join(", ")
    }

    /// After [`Etcd::kill`].
    pub fn restart(&mut self) {
        for index in 0..self.members.len() {
            self.restart_member(index);
        }
    }

    /// After [`Etcd::kill_member`].
    pub fn restart_member(&mut self, index: usize) {
        let named = |member: &Member| format!("{}=http://{}", member.name, member.peer);
        let cluster: Vec<String> = self.members.iter().map(named).collect();
        let member = &mut self.members[index];
        let (name, client, peer) = (&member.name, &member.client, &member.peer);
        member.process = spawn(name, &member.data, client, peer, &cluster.join(","));
        wait_until("etcd listens", || {
            TcpStream::connect(&member.client).is_ok()
        });
    }
}

fn spawn(name: &str, data: &PathBuf, client: &str, peer: &str, cluster: &str) -> Process {
    let program = find_program("etcd", "etcd-server");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(data.with_extension("log"))
        .unwrap();
    let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
    let child = Command::new(program)
        .args(["--name", name, "--logger", "zap", "--log-level", "warn"])
        .arg("--data-dir")
        .arg(data)
        .args(["--listen-client-urls", &client_url])
        .args(["--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url])
        .args(["--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", cluster])
        // An architecture that etcd warns about is no reason to fail.
        .env(
            "ETCD_UNSUPPORTED_ARCH",
            std::env::consts::ARCH.replace("aarch64", "arm64"),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Process::new(child)
}

/// Waits for a condition that may take a while, and fails when it takes too long.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything ends when it is dropped.
pub struct Cluster {
    /// By position; none: killed.
    nodes: Vec<Option<Node>>,
    /// The administrator's, in a cluster with certificates.
    credentials: Option<PathBuf>,
    pub etcd: Etcd,
    /// Last, so that it is removed when nothing uses it any more.
    pub directory: Directory,
}

impl Cluster {
    pub fn start(name: &str) -> Self {
        Self::start_as(name, 1, |text| text)
    }

    /// As [`Cluster::start`], with other configurations.
    pub fn start_with(name: &str, change: impl Fn(String) -> String) -> Self {
        Self::start_as(name, 1, change)
    }

    /// As [`Cluster::start`], with so many members of etcd, and disks of this size.
    pub fn start_small(name: &str, members: usize, disk: &str) -> Self {
        Self::start_as(name, members, |text| text.replace(DISK, disk))
    }

    fn start_as(name: &str, members: usize, change: impl Fn(String) -> String) -> Self {
        let directory = Directory::new(name);
        let etcd = Etcd::with_members(&directory, members);
        for index in 0..NODES {
            let text = change(configuration(index, &etcd.endpoints()));
            directory.write(&format!("node-{index}.toml"), text);
        }
        let mut cluster = Self {
            nodes: (0..NODES).map(|_| None).collect(),
            credentials: None,
            etcd,
            directory,
        };
        cluster.start_nodes(&[0, 1, 2]);
        cluster
    }

    /// The first node of a cluster with certificates, made by `cluster init`. [`Cluster::join`] adds the others.
    pub fn init(name: &str) -> Self {
        let directory = Directory::new(name);
        let etcd = Etcd::new(&directory);
        let dir = directory.path("init");
        let words = [
            "cluster",
            "init",
            "--cluster",
            "real",
            "--node",
            "node-0",
            "--dir",
        ];
        azekura_ok(&[&words[..], &[dir.to_str().unwrap()]].concat());
        let text = configuration(0, &etcd.endpoints()).replace(
            "\n[catalog]",
            "\n[tls]\ncredentials = \"init/node\"\nauthority = \"init/authority.pem\"\n\n[catalog]",
        );
        directory.write("node-0.toml", text);
        let mut cluster = Self {
            nodes: (0..NODES).map(|_| None).collect(),
            credentials: Some(dir.join("admin")),
            etcd,
            directory,
        };
        cluster.start_nodes(&[0]);
        cluster
    }

    /// A node joins with a token of the first one, starts, and waits to be approved.
    pub fn join(&mut self, index: usize) {
        let made = self.node(0).ask(&["node", "token", "create"]);
        self.join_with(index, made["token"].as_str().unwrap())
            .unwrap();
        self.start_nodes(&[index]);
    }

    /// `node join` with a token; what it complains of.
    pub fn join_with(&self, index: usize, token: &str) -> Result<(), String> {
        let path = |name: &str| self.directory.path(name).display().to_string();
        let (name, listen) = (format!("node-{index}"), lasting_address());
        let (config, out) = (
            path(&format!("{name}.toml")),
            path(&format!("credentials-{index}")),
        );
        let disk = path(&format!("disk-{index}"));
        let (status, _, complaint) = azekura(&[
            "node",
            "join",
            "--token",
            token,
            "--config",
            &config,
            "--name",
            &name,
            "--out",
            &out,
            "--listen",
            &listen,
            "--serve-api",
            "127.0.0.1:0",
            "--nbd",
            "127.0.0.1:0",
            "--disk",
            &disk,
            "--create",
            DISK,
            "--journal",
            "64 MiB",
        ]);
        match status {
            Some(0) => Ok(()),
            _ => Err(complaint),
        }
    }

    /// Starts nodes, the first time or again, all at once.
    pub fn start_nodes(&mut self, indices: &[usize]) {
        self.start_nodes_as(indices, &[]);
    }

    /// [`Cluster::start_nodes`] with more arguments.
    pub fn start_nodes_as(&mut self, indices: &[usize], arguments: &[&str]) {
        let config = |index: &usize| self.directory.path(&format!("node-{index}.toml"));
        let starting: Vec<Starting> = indices
            .iter()
            .map(|index| Node::launch_with(&config(index), arguments))
            .collect();
        for (index, starting) in indices.iter().zip(starting) {
            let node = starting.ready();
            let mut node = node.expect("the node starts");
            node.credentials.clone_from(&self.credentials);
            self.nodes[*index] = Some(node);
        }
    }

    /// Stops a node cleanly and starts it again as a release that knows these levels.
    pub fn upgrade_node(
        &mut self,
        index: usize,
        levels: &str,
        meanwhile: impl FnOnce(&Self),
    ) -> Result<(), String> {
        let node = self.nodes[index].take().expect("the node runs");
        node.stop();
        meanwhile(self);
        let config = self.directory.path(&format!("node-{index}.toml"));
        let mut node = Node::launch_with(&config, &["--levels", levels]).ready()?;
        node.credentials.clone_from(&self.credentials);
        self.nodes[index] = Some(node);
        Ok(())
    }

    pub fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("the node runs")
    }

    pub fn kill_nodes(&mut self, indices: &[usize]) {
        for index in indices {
            // Only the signal is sent here, so that all of them die at the same moment.
            self.node(*index).signal("KILL");
        }
        for index in indices {
            self.nodes[*index] = None;
        }
    }

    /// Position of the node with an id of the catalog.
    fn position(&self, id: u64, through: &Node) -> Option<usize> {
        let status = through.ask(&["status"]);
        let nodes = status["nodes"].as_array()?.clone();
        let row = nodes.iter().find(|row| row["id"].as_u64() == Some(id))?;
        let name = row["name"].as_str()?.strip_prefix("node-")?;
        name.parse().ok()
    }

    /// Position of a volume's owner, as a node sees it.
    pub fn owner(&self, volume: &str, through: usize) -> Option<usize> {
        let through = self.node(through);
        let shown = through.ask(&["volume", "show", volume]);
        self.position(shown["owner"].as_u64()?, through)
    }

    /// Positions of the nodes whose stores hold the open segment of a volume's log. The stores are numbered
    /// like the nodes, from 1.
    pub fn log_nodes(&self, volume: &str, through: usize) -> Vec<usize> {
        let shown = self.node(through).ask(&["volume", "show", volume]);
        let replicas = shown["log"].as_array().unwrap().iter();
        let store = |replica: &serde_json::Value| replica["store"].as_u64().unwrap();
        replicas
            .map(|replica| usize::try_from(store(replica)).unwrap() - 1)
            .collect()
    }
}

/// Runs a verb without a node; it must succeed.
pub fn azekura_ok(words: &[&str]) -> String {
    let (status, out, complaint) = azekura(words);
    assert_eq!(status, Some(0), "{words:?}: {complaint}");
    out
}

fn configuration(index: usize, etcd: &str) -> String {
    let listen = lasting_address();
    format!(
        "cluster = \"real\"\nnode = \"node-{index}\"\nlisten = \"{listen}\"\n\
         nbd = \"127.0.0.1:0\"\napi = \"127.0.0.1:0\"\n\n\
         [catalog]\netcd = [{etcd}]\n\n\
         [[store]]\nid = {}\njournal = \"64 MiB\"\n\n\
         [[store.disk]]\npath = \"disk-{index}\"\ncreate = \"{DISK}\"\n",
        index + 1
    )
}
