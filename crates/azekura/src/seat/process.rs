//! The process of a member: started, watched, started again, ended.
//!
//! Invariants
//! - At most one process has a data folder: a lock on a file beside it is the process's standard input, so it is held until
//!   the last of this process and that one has ended.
//! - It ends with this process: the kernel sees to that (`world_linux::spawn_bound`).
//! - A process is started on an empty folder once, when it is said to be fresh, and never again: a member that has lost its
//!   data must not speak for it.

use anyhow::{Context, bail};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pauses before it is started again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After so long it counts as having run.
const STEADY: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Patience with its end when it is asked to.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Patience with a process of before that still has the folder.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// So many short lives after each other are a problem.
const SHORT_LIVES_MAX: u32 = 3;

/// Version of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// How it is started.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub version: Version,
    pub data: PathBuf,
    pub name: String,
    /// URLs.
    pub client: String,
    pub peer: String,
    pub bind: Option<IpAddr>,
    pub quota: u64,
    /// Files of certificate with key, and of the authorities.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Every member with its address, as etcd wants it.
    pub initial: String,
    pub existing: bool,
    pub token: String,
}

/// The version that a program says it has.
pub fn version_of(program: &Path) -> anyhow::Result<Version> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let output = output.with_context(|| {
        format!(
            "cannot run {}: install etcd (Debian package etcd-server), or say where it is with `program` in [etcd]",
            program.display()
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = parse_version(&text);
    match version {
        Some(version) if version >= Version(3, 4) => Ok(version),
        Some(Version(major, minor)) => bail!(
            "{} is etcd {major}.{minor}: 3.4 or later is needed",
            program.display()
        ),
        None => bail!("{} does not say that it is an etcd", program.display()),
    }
}

fn parse_version(text: &str) -> Option<Version> {
    let rest = text.split("etcd Version: ").nth(1)?;
    let mut numbers = rest
        .split(['.', '\n', '-'])
        .map(|part| part.trim().parse().ok());
    Some(Version(numbers.next()??, numbers.next()??))
}

/// Whether a folder holds a member's data.
pub fn has_data(data: &Path) -> bool {
    let log = std::fs::read_dir(data.join("member/wal"));
    log.is_ok_and(|mut files| files.next().is_some())
}

impl Launch {
    fn listens(&self, url: &str) -> String {
        let Some(bind) = self.bind else {
            return url.to_owned();
        };
        let port = url.rsplit_once(':').map_or("0", |(_, port)| port);
        let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme);
        match bind {
            IpAddr::V4(bind) => format!("{scheme}://{bind}:{port}"),
            IpAddr::V6(bind) => format!("{scheme}://[{bind}]:{port}"),
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let state = if self.existing { "existing" } else { "new" };
        let mut words: Vec<OsString> = vec!["--data-dir".into(), self.data.clone().into()];
        let pairs = [
            ("--name", self.name.clone()),
            ("--listen-client-urls", self.listens(&self.client)),
            ("--advertise-client-urls", self.client.clone()),
            ("--listen-peer-urls", self.listens(&self.peer)),
            ("--initial-advertise-peer-urls", self.peer.clone()),
            ("--initial-cluster", self.initial.clone()),
            ("--initial-cluster-state", state.to_owned()),
            ("--initial-cluster-token", self.token.clone()),
            ("--auto-compaction-mode", "periodic".to_owned()),
            ("--auto-compaction-retention", "1h".to_owned()),
            ("--quota-backend-bytes", self.quota.to_string()),
            ("--logger", "zap".to_owned()),
            ("--log-outputs", "stderr".to_owned()),
            ("--log-level", "error".to_owned()),
        ];
        for (key, value) in pairs {
            words.push(key.into());
            words.push(value.into());
        }
        if let Some((identity, authorities)) = &self.tls {
            for side in ["", "peer-"] {
                let key = |name: &str| OsString::from(format!("--{side}{name}"));
                words.extend([key("cert-file"), identity.clone().into()]);
                words.extend([key("key-file"), identity.clone().into()]);
                words.extend([key("trusted-ca-file"), authorities.clone().into()]);
                words.push(key("client-cert-auth"));
            }
            // Only nodes' certificates carry that name: others of the cluster are kept out.
            for side in ["client", "peer"] {
                words.push(format!("--{side}-cert-allowed-hostname").into());
                words.push(identity::NODE_NAME.into());
            }
            // A machine may call from another of its addresses than the one in its certificate.
            let experimental = if self.version < Version(3, 6) {
                "experimental-"
            } else {
                ""
            };
            words.push(format!("--{experimental}peer-skip-client-san-verification").into());
        }
        words
    }
}

enum Order {
    /// It is ended and started again.
    Restart,
    /// It is ended.
    Stop,
}

/// What is wrong, for others to look at.
#[derive(Default)]
struct State {
    problem: Mutex<Option<String>>,
}

impl State {
    fn set(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// A process that is kept running. Ended when dropped.
pub struct Process {
    orders: Sender<Order>,
    state: Arc<State>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Keeps a process running. `fresh`: the folder is empty, and may be for this once.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(launch: Launch, fresh: bool) -> anyhow::Result<Self> {
        let (orders, receiver) = mpsc::channel();
        let state = Arc::new(State::default());
        let told = state.clone();
        // The kernel ends the child with this thread, which lives until it has ended it itself.
        let thread = std::thread::Builder::new()
            .name("etcd-member".to_owned())
            .spawn(move || keep_running(&launch, fresh, &receiver, &told))
            .context("cannot start a thread")?;
        Ok(Self {
            orders,
            state,
            thread: Some(thread),
        })
    }

    /// Why it does not run, when it does not for long.
    pub fn problem(&self) -> Option<String> {
        let problem = self.state.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it read its files again.
    pub fn restart(&self) {
        // A thread that is gone has nothing to restart.
        let _gone = self.orders.send(Order::Restart);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by its own message; the kernel has ended the child.
            let _ended = thread.join();
        }
    }
}

/// How a life of the process ended.
enum End {
    Stopped,
    Restart,
    ByItself(String),
}

fn keep_running(launch: &Launch, mut fresh: bool, orders: &Receiver<Order>, state: &State) {
    let (mut pause, mut short_lives) = (PAUSE_MIN, 0);
    loop {
        let began = Instant::now();
        let end = live(launch, fresh, orders, state);
        fresh = false;
        let reason = match end {
            Ok(End::Stopped) => return,
            Ok(End::Restart) => continue,
            Ok(End::ByItself(reason)) => reason,
            Err(error) => format!("{error:#}"),
        };
        if began.elapsed() >= STEADY {
            (pause, short_lives) = (PAUSE_MIN, 0);
        }
        short_lives += 1;
        tracing::warn!(reason, data = %launch.data.display(), "etcd has ended; it is started again");
        if short_lives >= SHORT_LIVES_MAX {
            state.set(Some(reason));
        }
        match orders.recv_timeout(pause) {
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Order::Restart) | Err(RecvTimeoutError::Timeout) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits for the lock of a data folder.
fn lock(data: &Path) -> anyhow::Result<File> {
    if let Some(parent) = data.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut path = data.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(LOOK);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                "another process uses {}: a node with the same configuration, or an etcd that outlived its node. End it",
                data.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// One life of the process.
fn live(
    launch: &Launch,
    fresh: bool,
    orders: &Receiver<Order>,
    state: &State,
) -> anyhow::Result<End> {
    let lock = lock(&launch.data)?;
    if !fresh && !has_data(&launch.data) {
        bail!("its data in {} is gone", launch.data.display());
    }
    let mut command = Command::new(&launch.program);
    let command = command
        .args(launch.arguments())
        .stdin(Stdio::from(lock))
        .stdout(Stdio::null());
    let mut child = world_linux::spawn_bound(command)
        .with_context(|| format!("cannot start {}", launch.program.display()))?;
    let began = Instant::now();
    loop {
        match orders.recv_timeout(LOOK) {
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                end(&mut child);
                return Ok(End::Stopped);
            }
            Ok(Order::Restart) => {
                end(&mut child);
                return Ok(End::Restart);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(status) = child.try_wait().context("cannot look at it")? {
            return Ok(End::ByItself(format!("{status}; its own log says why")));
        }
        if began.elapsed() >= STEADY {
            state.set(None);
        }
    }
}

/// Asks it to end, then ends it.
fn end(child: &mut Child) {
    let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    // It may have ended already; then it is only waited for.
    let _ended = kill_process(id, Signal::TERM);
    let deadline = Instant::now() + END_PATIENCE;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(LOOK / 4);
    }
    let _ended = child.kill();
    let _status = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(tls: bool, bind: Option<&str>) -> Launch {
        Launch {
            program: PathBuf::from("etcd"),
            version: Version(3, 4),
            data: PathBuf::from("/d"),
            name: "n".to_owned(),
            client: "https://10.0.0.1:2379".to_owned(),
            peer: "https://10.0.0.1:2380".to_owned(),
            bind: bind.map(|bind| bind.parse().unwrap()),
            quota: 7,
            tls: tls.then(|| (PathBuf::from("/i"), PathBuf::from("/a"))),
            initial: "n=https://10.0.0.1:2380".to_owned(),
            existing: true,
            token: "t".to_owned(),
        }
    }

    fn said(launch: &Launch) -> String {
        let words = launch.arguments();
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn only_nodes_get_in_where_there_are_certificates() {
        let plain = said(&launch(false, None));
        assert!(!plain.contains("cert"), "{plain}");
        assert!(
            plain.contains("--listen-client-urls https://10.0.0.1:2379"),
            "{plain}"
        );
        assert!(plain.contains("--auto-compaction-retention 1h"), "{plain}");
        let secured = said(&launch(true, Some("0.0.0.0")));
        for part in [
            "--client-cert-auth",
            "--peer-client-cert-auth",
            "--client-cert-allowed-hostname node.azekura.internal",
            "--peer-cert-allowed-hostname node.azekura.internal",
            "--trusted-ca-file /a",
            "--peer-trusted-ca-file /a",
            "--listen-peer-urls https://0.0.0.0:2380",
            "--initial-advertise-peer-urls https://10.0.0.1:2380",
            "--experimental-peer-skip-client-san-verification",
        ] {
            assert!(secured.contains(part), "{part}: {secured}");
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(
            parse_version("etcd Version: 3.4.23\nGit SHA: x"),
            Some(Version(3, 4))
        );
        assert_eq!(
            parse_version("etcd Version: 3.10.0-rc.1\n"),
            Some(Version(3, 10))
        );
        assert_eq!(parse_version("cat 9.1"), None);
        let missing = version_of(Path::new("/nowhere/etcd")).unwrap_err();
        assert!(
            format!("{missing:#}").contains("etcd-server"),
            "{missing:#}"
        );
    }

    #[test]
    fn a_folder_has_one_process() {
        let folder = std::env::temp_dir().join(format!("etcd-lock-{}", std::process::id()));
        let data = folder.join("etcd");
        let held = lock(&data).unwrap();
        let mut other = Command::new("cat");
        other.stdin(Stdio::from(held)).stdout(Stdio::null());
        let ended = other.status().unwrap();
        assert!(ended.success());
        // It holds the lock for as long as it could be started again.
        drop(other);
        let again = lock(&data);
        assert!(again.is_ok(), "the last that held it has ended");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
