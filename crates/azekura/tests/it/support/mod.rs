//! Real `azekura` processes for tests: a node on files in a directory of its own, and the command line.

pub mod attached;
pub mod cluster;
pub mod kubernetes;
pub mod nbd;
pub mod process;
pub mod schema;

use process::Process;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The binary under test.
pub const AZEKURA: &str = env!("CARGO_BIN_EXE_azekura");

/// A directory that is removed with everything in it.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new(test: &str) -> Self {
        let name = format!("{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// An empty (sparse) file.
    pub fn blank(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path)
            .unwrap()
            .set_len(bytes)
            .unwrap();
        path
    }
}

/// How much of a node's log a failed test shows.
const LOG_LINES: usize = 80;

impl Directory {
    /// Prints how the logs of its nodes end: they are gone with it.
    fn show_logs(&self) {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        for path in logs {
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("{} ends with:\n{}", path.display(), end.join("\n"));
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A configuration with three stores of one file each and the embedded catalog.
pub fn three_stores(cluster: &str) -> String {
    let mut text = format!(
        "cluster = \"{cluster}\"\nnode = \"one\"\nlisten = \"127.0.0.1:0\"\nnbd = \"127.0.0.1:0\"\n\
         api = \"127.0.0.1:0\"\n\n[catalog]\nembedded = \"catalog.redb\"\n"
    );
    for id in 1..=3 {
        text += &format!(
            "\n[[store]]\nid = {id}\njournal = \"32 MiB\"\n\n[[store.disk]]\npath = \"disk-{id}\"\n\
             create = \"512 MiB\"\n"
        );
    }
    text
}

/// How long a node may take until it serves, on a busy machine.
const READY_SECONDS_MAX: u64 = 60;

/// A node that was started and may not serve yet.
pub struct Starting {
    process: Process,
    log: PathBuf,
    first_line: mpsc::Receiver<String>,
}

impl Starting {
    /// Waits until it serves; the error is what it wrote to standard error.
    pub fn ready(mut self) -> Result<Node, String> {
        let patience = Duration::from_secs(READY_SECONDS_MAX);
        let line = self.first_line.recv_timeout(patience).unwrap_or_default();
        let field = |name: &str| {
            let words = line.split_whitespace();
            let mut values = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            values.next().map(str::to_owned)
        };
        match (line.starts_with("ready "), field("api"), field("nbd")) {
            (true, Some(api), Some(nbd)) => Ok(Node {
                process: self.process,
                api,
                nbd,
                credentials: None,
            }),
            _ => {
                // Without a line it has ended, or takes too long.
                let ended = self.process.ended_within(Duration::from_secs(5));
                let log = std::fs::read_to_string(&self.log).unwrap();
                let ended = ended.map_or("not ready in time".to_owned(), |ended| ended.to_string());
                Err(format!("{ended}: {log}"))
            }
        }
    }
}

/// A running node.
pub struct Node {
    process: Process,
    pub api: String,
    pub nbd: String,
    /// What verbs show, in a cluster with certificates.
    pub credentials: Option<PathBuf>,
}

impl Node {
    /// Starts a node. What it logs is appended to a file beside its configuration.
    pub fn launch(config: &Path) -> Starting {
        Self::launch_with(config, &[])
    }

    /// As [`Node::launch`], with more arguments.
    pub fn launch_with(config: &Path, arguments: &[&str]) -> Starting {
        let log = config.with_extension("log");
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(&log).unwrap();
        let child = Command::new(AZEKURA)
            .args(["node", "--config"])
            .arg(config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut process = Process::new(child);
        let mut out = BufReader::new(process.child().stdout.take().unwrap());
        let (sender, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = out.read_line(&mut line);
            let _ = sender.send(line);
        });
        Starting {
            process,
            log,
            first_line,
        }
    }

    /// Starts a node and waits until it serves; the error is what it wrote to standard error.
    pub fn try_start(config: &Path) -> Result<Self, String> {
        Self::launch(config).ready()
    }

    pub fn start(config: &Path) -> Self {
        Self::try_start(config).expect("the node starts")
    }

    /// The URL of a volume's NBD export.
    pub fn export(&self, volume: &str) -> String {
        format!("nbd://{}/{volume}", self.nbd)
    }

    /// Ends it as a power cut of the process would.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Asks it to stop, and expects that it does so cleanly.
    pub fn stop(mut self) {
        self.process.signal("TERM");
        let status = self.process.wait();
        assert!(status.success(), "{status}");
    }

    /// A container `c` with two copies, and in it a volume `v`.
    pub fn make_volume(&self, size: &str) {
        self.ask(&["container", "create", "c", "--rf", "2"]);
        self.ask(&["volume", "create", "v", "--container", "c", "--size", size]);
    }

    /// Runs a verb; standard output as JSON.
    pub fn ask(&self, words: &[&str]) -> Value {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {errors}");
        serde_json::from_slice(&output.stdout).expect("-o json gives JSON")
    }

    /// Runs a verb that may fail; its answer, if there is one.
    pub fn try_ask(&self, words: &[&str]) -> Option<Value> {
        self.attempt(words).ok()
    }

    /// Runs a verb that may fail; its answer, or what it wrote to standard error.
    pub fn attempt(&self, words: &[&str]) -> Result<Value, String> {
        let output = self.run(words);
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).expect("-o json gives JSON")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Runs a verb that must fail; its error.
    pub fn refuse(&self, words: &[&str]) -> Value {
        let output = self.run(words);
        assert!(matches!(output.status.code(), Some(1..=8)), "{words:?}");
        assert!(output.stdout.is_empty());
        let said: Value = serde_json::from_slice(&output.stderr).expect("errors are JSON");
        assert_eq!(said["code"], said["kind"], "{words:?}: {said}");
        assert!(said["remedy"].is_string(), "{words:?}: {said}");
        said
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(AZEKURA);
        command.args(words).args(["-o", "json", "--api", &self.api]);
        if let Some(folder) = &self.credentials {
            command.env("AZEKURA_CREDENTIALS", folder);
        }
        command.output().unwrap()
    }
}

/// Runs the binary without a node.
pub fn azekura(words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(AZEKURA).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Runs a program of a Debian package.
pub fn program(name: &str, package: &str, words: &[&str]) -> String {
    let output = match Command::new(name).args(words).output() {
        Ok(output) => output,
        Err(error) => panic!("{name}: {error}: install Debian package {package}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Copies with nbdcopy and flushes at the end.
pub fn nbdcopy(from: &str, to: &str) {
    program("nbdcopy", "libnbd-bin", &["--flush", from, to]);
}

/// Bytes that differ everywhere and for every seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}
