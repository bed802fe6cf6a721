//! A cluster of real processes on loopback: etcd, `azekura node` processes, their disks as files in one folder.
//!
//! A cluster that goes out of scope takes its processes with it, unless it was told to stay.

pub mod network;

use crate::process::{cargo, find_program, target_directory};
use crate::rest::{self, Api};
use anyhow::{Context, Result, bail, ensure};
use network::Network;
use serde_json::json;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a process to answer: formatting, recovery and a busy machine fit in it several times.
const READY_MAX: Duration = Duration::from_secs(60);
/// In a folder that this made, and required before one is deleted: the ids of the processes, one per line.
const MARKER: &str = ".azekura-cluster";
/// Where everything is, unless nodes have a network.
const LOOPBACK: &str = "127.0.0.1";
/// Cluster id in configuration and on disk.
const CLUSTER: &str = "demo";

/// What to start.
pub struct Plan {
    /// Holds everything; must be absent, or made by an earlier run.
    pub folder: PathBuf,
    /// One process per node; one node gets all the disks.
    pub nodes: usize,
    /// Disks in all, one store each.
    pub disks: usize,
    /// Size of each disk's file.
    pub disk_bytes: u64,
    /// Whether the catalog is in etcd; otherwise in a file of the one node.
    pub etcd: bool,
    /// Whether disk files are written in full before they are formatted: a benchmark must not measure the file
    /// system finding space.
    pub prewritten: bool,
    /// Whether disk files have their size and no space yet: much larger ones than there is room for, for what writes little.
    pub sparse: bool,
    /// Whether nodes run the jobs of `azekura bench --through owner`.
    pub bench: bool,
    /// Whether the API asks for a token; the administrator's is then in [`Cluster::admin_token`].
    pub tokens: bool,
    /// Whether connections are encrypted, with certificates on both sides.
    pub tls: bool,
    /// Whether the processes are meant to outlive this one, and so must not end with its terminal.
    pub detached: bool,
    /// The disks, blank, when they are not files of the folder.
    pub given_disks: Vec<PathBuf>,
    /// Where nodes are, when they do not share this process's network.
    pub network: Option<Network>,
}

/// A running cluster.
pub struct Cluster {
    /// Where everything is.
    pub folder: PathBuf,
    /// By position.
    pub nodes: Vec<Node>,
    /// The catalog's process.
    pub etcd: Option<Child>,
    /// Where it serves clients and members.
    etcd_addresses: Vec<String>,
    /// Holds the administrator's token, when the API asks for one.
    pub admin_token: Option<PathBuf>,
    /// Where nodes are, when they do not share this process's network.
    pub network: Option<Network>,
    binary: PathBuf,
    detached: bool,
    keep: bool,
}

/// One `azekura node` process.
pub struct Node {
    /// Its name in the catalog.
    pub name: String,
    /// Its API.
    pub api: Api,
    /// Address of the NBD gateway.
    pub nbd: String,
    /// Its disks' files.
    pub disks: Vec<PathBuf>,
    /// Where it takes the benchmark's jobs.
    pub bench: Option<PathBuf>,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// Its program from the next start on, when it is not the cluster's.
    pub program: Option<PathBuf>,
}

impl Node {
    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

/// The binary at `given`, or else the one that operators get, built now.
pub fn binary(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path
            .canonicalize()
            .with_context(|| format!("there is no {}", path.display()));
    }
    let status = cargo()
        .args(["build", "--release", "--package", "azekura"])
        .status()?;
    ensure!(
        status.success(),
        "the release build failed: see its messages above"
    );
    Ok(target_directory()?.join("release/azekura"))
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit(':').next()?.parse().ok()
}

/// Ports nobody listens on now. Another process could take one before it is used; then starting fails.
fn free_addresses(count: usize) -> Result<Vec<String>> {
    free_addresses_of(LOOPBACK, count)
}

fn free_addresses_of(host: &str, count: usize) -> Result<Vec<String>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((host, 0)))
        .collect::<std::io::Result<_>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.to_string()))
        .collect()
}

/// Makes the folder, after ending and clearing what an earlier run left.
pub fn prepare(folder: &Path) -> Result<()> {
    if end_noted(folder)? {
        fs::remove_dir_all(folder)?;
    }
    let empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    ensure!(
        empty,
        "{} has files in it: name another folder with --dir",
        folder.display()
    );
    fs::create_dir_all(folder)?;
    fs::write(folder.join(MARKER), "")?;
    Ok(())
}

/// Ends the processes that [`note`] has noted in a folder that [`prepare`] made; whether it is one.
pub fn end_noted(folder: &Path) -> Result<bool> {
    let Ok(pids) = fs::read_to_string(folder.join(MARKER)) else {
        return Ok(false);
    };
    let folder = folder.canonicalize()?;
    for pid in pids.lines().filter_map(|line| line.parse().ok()) {
        end_leftover(pid, &folder)?;
    }
    Ok(true)
}

/// Ends a process of an earlier run, if the id still belongs to one that was started on this folder.
fn end_leftover(pid: u32, folder: &Path) -> Result<()> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&line).contains(&*folder.to_string_lossy()) {
        println!("    ending process {pid} of an earlier run");
        Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status()?;
    }
    Ok(())
}

impl Cluster {
    /// Starts everything and waits until every node answers.
    pub fn start(binary: PathBuf, mut plan: Plan) -> Result<Self> {
        prepare(&plan.folder)?;
        let folder = plan.folder.canonicalize()?;
        let detached = plan.detached;
        let admin_token = match plan.tokens {
            true => Some(make_token(&folder)?),
            false => None,
        };
        let mut cluster = Self {
            folder,
            nodes: Vec::new(),
            etcd: None,
            etcd_addresses: Vec::new(),
            admin_token,
            network: plan.network.take(),
            binary,
            detached,
            keep: false,
        };
        let plan = &plan;
        let catalog = if plan.etcd {
            let host = cluster.network.as_ref().map(Network::own);
            cluster.etcd_addresses = free_addresses_of(host.as_deref().unwrap_or(LOOPBACK), 2)?;
            Some(cluster.start_etcd()?)
        } else {
            None
        };
        for index in 0..plan.nodes {
            let node = cluster.configure(index, plan, catalog.as_deref())?;
            if plan.tls {
                cluster.make_credentials(&node.name)?;
            }
            cluster.nodes.push(node);
            cluster.start_node(index)?;
        }
        for index in 0..plan.nodes {
            cluster.wait_ready(index)?;
        }
        Ok(cluster)
    }

    fn start_etcd(&mut self) -> Result<String> {
        let program = find_program("etcd").context("etcd is missing: install etcd-server")?;
        let addresses = self.etcd_addresses.clone();
        let client = format!("http://{}", addresses[0]);
        let peer = format!("http://{}", addresses[1]);
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(self.folder.join("etcd"));
        command.args(["--name", "one", "--logger", "zap", "--log-level", "warn"]);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args(["--initial-cluster", &format!("one={peer}")]);
        // The architecture etcd was built for is supported or warned about; never a reason to stop here.
        command.env(
            "ETCD_UNSUPPORTED_ARCH",
            std::env::consts::ARCH.replace("aarch64", "arm64"),
        );
        self.etcd = Some(self.spawn(&mut command, &self.folder.join("etcd.log"))?);
        wait_port(&addresses[0], "etcd", &self.folder.join("etcd.log"))?;
        Ok(client)
    }

    /// Writes a node's configuration; docs/operating/configuration.md describes the keys.
    fn configure(&self, index: usize, plan: &Plan, etcd: Option<&str>) -> Result<Node> {
        let name = format!("node-{}", index + 1);
        let [listen, nbd, api] = self.addresses_of(index)?;
        let catalog = match etcd {
            Some(url) => format!("etcd = [\"{url}\"]"),
            None => "embedded = \"catalog.redb\"".to_owned(),
        };
        let mut text = format!(
            "cluster = \"{CLUSTER}\"\nnode = \"{name}\"\nlisten = \"{listen}\"\nnbd = \"{nbd}\"\n\
             api = \"{api}\"\n\n[catalog]\n{catalog}\n"
        );
        if let Some(file) = &self.admin_token {
            text.push_str(&format!(
                "\n[api_auth]\nmode = \"token\"\nadmin_token_file = \"{}\"\n",
                file.display()
            ));
        }
        if plan.tls {
            text.push_str(&self.tls_table(index, &name));
        } else if self.network.is_some() {
            // On addresses of a network a node is plain only when that is said.
            text.push_str("\n[tls]\nmode = \"off\"\n");
        }
        let mut disks = Vec::new();
        for number in (1..=plan.disks).filter(|number| (number - 1) % plan.nodes == index) {
            let own = self.folder.join(format!("disk-{number}"));
            let given = plan.given_disks.get(number - 1).cloned();
            let path = given.clone().unwrap_or(own);
            if plan.prewritten {
                write_zeros(&File::create(&path)?, plan.disk_bytes)?;
            }
            if plan.sparse {
                File::create(&path)?.set_len(plan.disk_bytes)?;
            }
            if plan.prewritten || plan.sparse || given.is_some() {
                self.format_disk(number, &path)?;
            }
            let size = match given.is_some() || plan.sparse {
                true => String::new(),
                false => format!("create = \"{}\"\n", plan.disk_bytes),
            };
            text.push_str(&format!(
                "\n[[store]]\nid = {number}\n\n[[store.disk]]\npath = \"{}\"\n{size}",
                path.display()
            ));
            disks.push(path);
        }
        let config = self.folder.join(format!("{name}.toml"));
        fs::write(&config, text)?;
        let log = self.folder.join(format!("{name}.log"));
        let bench = plan
            .bench
            .then(|| self.folder.join(format!("{name}.bench")));
        let api = Api {
            address: api,
            token_file: self.admin_token.clone(),
            credentials: plan.tls.then(|| self.folder.join("tls/admin")),
        };
        Ok(Node {
            name,
            api,
            nbd,
            disks,
            bench,
            config,
            log,
            child: None,
            program: None,
        })
    }

    /// Where a node serves nodes and clients, NBD, and the API. A network of its own has all ports free.
    fn addresses_of(&self, index: usize) -> Result<[String; 3]> {
        let Some(network) = &self.network else {
            return Ok(free_addresses(3)?.try_into().expect("three were asked for"));
        };
        let host = network.host(index);
        Ok([7401, 10809, 7400].map(|port| format!("{host}:{port}")))
    }

    /// Port of etcd for its clients.
    pub fn etcd_port(&self) -> Option<u16> {
        port_of(self.etcd_addresses.first()?)
    }

    fn tls_table(&self, index: usize, node: &str) -> String {
        let mut text = format!(
            "\n[tls]\ncredentials = \"{}\"\n",
            self.credentials_of(node).display()
        );
        if index == 0 {
            // It lets others join.
            let authority = self.folder.join("tls/authority.pem");
            text.push_str(&format!("authority = \"{}\"\n", authority.display()));
        }
        text
    }

    /// The first node's with the authority, the others' with it.
    fn make_credentials(&self, node: &str) -> Result<()> {
        let authority = self.folder.join("tls/authority.pem");
        let mut command = Command::new(&self.binary);
        command.arg("cluster");
        match authority.exists() {
            false => command
                .args(["init", "--cluster", CLUSTER, "--node", node, "--dir"])
                .arg(self.folder.join("tls")),
            true => command
                .args([
                    "credentials",
                    "create",
                    node,
                    "--role",
                    "node",
                    "--authority",
                ])
                .arg(&authority)
                .arg("--out")
                .arg(self.credentials_of(node)),
        };
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no credentials for {node}: {said}");
        Ok(())
    }

    fn credentials_of(&self, node: &str) -> PathBuf {
        let name = if node == "node-1" { "node" } else { node };
        self.folder.join("tls").join(name)
    }

    /// `azekura disk format` of a blank disk.
    pub fn format_disk(&self, number: usize, path: &Path) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args([
            "disk",
            "format",
            "--cluster",
            CLUSTER,
            "--store",
            &number.to_string(),
        ]);
        let output = command.arg(path).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "azekura disk format failed: {said}"
        );
        Ok(())
    }

    /// Starts a node's process, the first time or again.
    pub fn start_node(&mut self, index: usize) -> Result<()> {
        let node = &self.nodes[index];
        let program = node.program.as_ref().unwrap_or(&self.binary);
        let mut command = match &self.network {
            Some(network) => network.inside(index, program)?,
            None => Command::new(program),
        };
        command.args(["node", "--config"]).arg(&node.config);
        if let Some(socket) = &node.bench {
            command.arg("--bench-socket").arg(socket);
        }
        let child = self.spawn(&mut command, &node.log)?;
        self.nodes[index].child = Some(child);
        Ok(())
    }

    /// Starts a process and notes its id.
    fn spawn(&self, command: &mut Command, log: &Path) -> Result<Child> {
        if self.detached {
            command.process_group(0);
        }
        let child = spawn(command, log)?;
        note(&self.folder, child.id())?;
        Ok(child)
    }

    /// Waits until a node answers a status request.
    pub fn wait_ready(&mut self, index: usize) -> Result<()> {
        let deadline = Instant::now() + READY_MAX;
        let node = &mut self.nodes[index];
        loop {
            let child = node.child.as_mut().context("the node was not started")?;
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}:\n{}", node.name, tail(&node.log));
            }
            if rest::get(&node.api, "/status").is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not answer within 60 s:\n{}",
                    node.name,
                    tail(&node.log)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// One more node joins a cluster with certificates, as an operator has it join, and waits to be approved.
    pub fn join_node(&mut self, disk_bytes: u64) -> Result<()> {
        let api = self.any_api().context("no node runs")?;
        let made = rest::post(api, "/join-tokens", &json!({}))?;
        let token = made["token"].as_str().context("there is no token")?;
        let number = self.nodes.len() + 1;
        let name = format!("node-{number}");
        let [listen, nbd, served]: [String; 3] =
            free_addresses(3)?.try_into().expect("three were asked for");
        let config = self.folder.join(format!("{name}.toml"));
        let disk = self.folder.join(format!("disk-{number}"));
        let mut command = Command::new(&self.binary);
        command.args(["node", "join", "--token", token, "--name", &name]);
        command.args(["--listen", &listen, "--nbd", &nbd, "--serve-api", &served]);
        command.arg("--config").arg(&config);
        command.arg("--out").arg(self.credentials_of(&name));
        command.arg("--disk").arg(&disk);
        command.args(["--create", &disk_bytes.to_string(), "--no-etcd"]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} cannot join: {said}");
        self.nodes.push(Node {
            api: Api {
                address: served,
                // It asks for certificates alone.
                token_file: None,
                credentials: Some(self.folder.join("tls/admin")),
            },
            nbd,
            disks: vec![disk],
            bench: None,
            config,
            log: self.folder.join(format!("{name}.log")),
            name,
            child: None,
            program: None,
        });
        self.start_node(number - 1)?;
        self.wait_ready(number - 1)
    }

    /// SIGKILL: the process gets no chance to write anything down.
    pub fn kill_node(&mut self, index: usize) -> Result<()> {
        let child = self.nodes[index].child.take();
        let mut child = child.context("the node does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal to a node's process.
    pub fn signal_node(&self, index: usize, signal: &str) -> Result<()> {
        let pid = self.nodes[index].pid().context("the node does not run")?;
        let status = Command::new("kill")
            .args(["-s", signal, &pid.to_string()])
            .status()?;
        ensure!(status.success(), "cannot send SIG{signal} to {pid}");
        Ok(())
    }

    /// Ends a node as an operator does, and waits until it has.
    pub fn end_node(&mut self, index: usize) -> Result<()> {
        self.signal_node(index, "TERM")?;
        let child = self.nodes[index].child.take();
        let status = child.context("the node does not run")?.wait()?;
        ensure!(
            status.success(),
            "{} ended with {status}",
            self.nodes[index].name
        );
        Ok(())
    }

    /// SIGKILL of etcd.
    pub fn kill_etcd(&mut self) -> Result<()> {
        let mut child = self.etcd.take().context("etcd does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts etcd again on what it left.
    pub fn restart_etcd(&mut self) -> Result<()> {
        self.start_etcd().map(drop)
    }

    /// Everything that etcd knew is gone while nothing runs; the catalog is made anew from the disks, and everything starts.
    pub fn rebuild_catalog(&mut self) -> Result<()> {
        for index in 0..self.nodes.len() {
            self.kill_node(index)?;
        }
        self.kill_etcd()?;
        fs::remove_dir_all(self.folder.join("etcd"))?;
        self.restart_etcd()?;
        let mut command = Command::new(&self.binary);
        command.args(["catalog", "rebuild"]);
        for node in &self.nodes {
            command.arg("--config").arg(&node.config);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "the catalog cannot be rebuilt: {said}"
        );
        for index in 0..self.nodes.len() {
            self.start_node(index)?;
        }
        (0..self.nodes.len()).try_for_each(|index| self.wait_ready(index))
    }

    /// The command line, for this cluster.
    pub fn azekura(&self) -> Result<Command> {
        let api = self.any_api().context("no node runs")?;
        let mut command = Command::new(&self.binary);
        command.args(["--api", &api.url()]);
        if let Some(folder) = &api.credentials {
            command.env("AZEKURA_CREDENTIALS", folder);
        }
        Ok(command)
    }

    /// Waits until `azekura resiliency` would say this.
    pub fn wait_verdict(&self, wanted: &str, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut last = "no node runs".to_owned();
        while begun.elapsed() < patience {
            match self.any_api().map(|api| rest::get(api, "/resiliency")) {
                Some(Ok(answer)) if answer["verdict"] == wanted => return Ok(()),
                Some(Ok(answer)) => last = answer["reasons"].to_string(),
                Some(Err(error)) => last = format!("{error:#}"),
                None => {}
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        bail!("the verdict is not {wanted} within {patience:?}: {last}")
    }

    /// Position of the node that owns a volume now.
    pub fn owner_of(&self, volume: &str) -> Result<usize> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            if let Some(owner) = self.try_owner(volume) {
                return Ok(owner);
            }
            ensure!(Instant::now() < deadline, "nobody owns {volume} after 60 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_owner(&self, volume: &str) -> Option<usize> {
        let api = self.any_api()?;
        let answer = rest::get(api, &format!("/volumes/{volume}")).ok()?;
        let owner = answer["owner"].as_u64()?;
        let status = rest::get(api, "/status").ok()?;
        let nodes = status["nodes"].as_array()?;
        let row = nodes
            .iter()
            .find(|node| node["id"].as_u64() == Some(owner))?;
        let running = |node: &Node| node.child.is_some() && row["name"] == node.name.as_str();
        self.nodes.iter().position(running)
    }

    /// API of a node that runs.
    pub fn any_api(&self) -> Option<&Api> {
        self.nodes
            .iter()
            .find(|node| node.child.is_some())
            .map(|node| &node.api)
    }

    /// Process ids of the nodes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Node::pid).collect()
    }

    /// Leaves everything running when this goes out of scope.
    pub fn keep_running(&mut self) {
        self.keep = true;
    }

    /// Ends all processes and deletes the folder.
    pub fn remove(mut self) -> Result<()> {
        self.end_processes();
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    fn end_processes(&mut self) {
        let nodes = self.nodes.iter_mut().filter_map(|node| node.child.take());
        for mut child in nodes.chain(self.etcd.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.keep && self.folder.exists() {
            self.end_processes();
            eprintln!(
                "    all processes ended; logs and disks stay in {}",
                self.folder.display()
            );
        }
    }
}

/// Makes the administrator's token, which all nodes are given: 244 random bits, readable for root alone.
fn make_token(folder: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::OpenOptionsExt;
    let random = || fs::read_to_string("/proc/sys/kernel/random/uuid");
    let digits = format!("{}{}", random()?, random()?).replace(['-', '\n'], "");
    let path = folder.join("admin-token");
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    writeln!(file, "azk_{digits}")?;
    Ok(path)
}

/// Notes a process in a folder that [`prepare`] made, so that a later run can end it if this one cannot.
pub fn note(folder: &Path, pid: u32) -> Result<()> {
    let mut marker = File::options().append(true).open(folder.join(MARKER))?;
    writeln!(marker, "{pid}")?;
    Ok(())
}

/// Starts a process with its output in a file.
pub fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let file = File::options().create(true).append(true).open(log)?;
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    command
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))
}

/// Waits until something listens.
pub fn wait_port(address: &str, name: &str, log: &Path) -> Result<()> {
    let deadline = Instant::now() + READY_MAX;
    while std::net::TcpStream::connect(address).is_err() {
        ensure!(
            Instant::now() < deadline,
            "{name} does not listen within 60 s:\n{}",
            tail(log)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// An address nobody listens on now.
pub fn free_address() -> Result<String> {
    Ok(free_addresses(1)?.remove(0))
}

/// Fills a file with zeros from its start and makes them durable.
pub fn write_zeros(mut file: &File, bytes: u64) -> Result<()> {
    let zeros = vec![0; 4 << 20];
    let mut left = bytes;
    while left > 0 {
        let chunk = left.min(zeros.len() as u64);
        file.write_all(&zeros[..chunk as usize])?;
        left -= chunk;
    }
    file.sync_all()?;
    Ok(())
}

/// The end of a log, for messages.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
