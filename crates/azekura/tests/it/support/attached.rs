//! A volume attached as a block device of this machine. Needs root, /dev/fuse and loop devices.

use super::process::signal;
use super::{Directory, Node, azekura, program};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Name under which the tests' machine attaches.
const CLIENT: &str = "host";

/// An attached volume; what is left of it is removed when it is dropped.
pub struct Attached {
    directory: PathBuf,
    client: &'static str,
    pub volume: &'static str,
    pub device: String,
    pub pid: u64,
}

impl Attached {
    pub fn attach(directory: &Directory, node: &Node, volume: &'static str) -> Self {
        Self::attach_as(CLIENT, directory, node, volume)
    }

    /// As another machine than [`CLIENT`].
    pub fn attach_as(
        client: &'static str,
        directory: &Directory,
        node: &Node,
        volume: &'static str,
    ) -> Self {
        require_kernel();
        let directory = directory.0.clone();
        let run_dir = run_dir(&directory);
        let words = ["attach", volume, "--client", client, "--run-dir", &run_dir];
        let report = node.ask(&words);
        Self {
            directory,
            client,
            volume,
            device: report["device"].as_str().unwrap().to_owned(),
            pid: report["pid"].as_u64().unwrap(),
        }
    }

    /// Whether the process is gone, or dead and waiting for its new parent to notice.
    pub fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.map_or(true, |stat| stat.contains(") Z "))
    }

    /// Kills the process as the kernel does when memory runs out.
    pub fn kill(&self) {
        signal(self.pid, "KILL");
    }

    pub fn detach(&self, node: &Node) -> Value {
        let run_dir = run_dir(&self.directory);
        let words = ["detach", self.volume, "--client", self.client];
        node.ask(&[&words[..], &["--run-dir", &run_dir]].concat())
    }

    /// Copies `content` to the start of the device, past the page cache.
    pub fn write(&self, content: &[u8]) {
        let file = self.directory.join("in");
        std::fs::write(&file, content).unwrap();
        let input = format!("if={}", file.display());
        let output = format!("of={}", self.device);
        let words = ["bs=1M", "oflag=direct", "conv=fsync", "status=none"];
        let words = [&[&*input, &*output][..], &words[..]].concat();
        program("dd", "coreutils", &words);
    }

    pub fn read(&self, bytes: usize) -> Vec<u8> {
        let file = self.directory.join("out");
        let input = format!("if={}", self.device);
        let output = format!("of={}", file.display());
        let count = format!("count={}", bytes >> 20);
        let words = [&*input, &*output, "bs=1M", "iflag=direct", &count];
        program("dd", "coreutils", &words);
        std::fs::read(file).unwrap()
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let state = format!("run/{}.json", self.volume);
        if !self.directory.join(&state).exists() {
            return;
        }
        // The test failed: a clean detach would wait for a cluster that may be gone.
        if !self.has_ended() {
            signal(self.pid, "KILL");
        }
        azekura(&[
            "detach",
            self.volume,
            "--run-dir",
            &run_dir(&self.directory),
        ]);
    }
}

fn run_dir(directory: &Path) -> String {
    directory.join("run").to_str().unwrap().to_owned()
}

/// Says what is missing before anything fails for the lack of it.
fn require_kernel() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let user = status.lines().find(|line| line.starts_with("Uid:"));
    let root = user.and_then(|line| line.split_whitespace().nth(2)) == Some("0");
    assert!(root, "attaching needs root: run the real_ tests as root");
    for (device, module) in [("/dev/fuse", "fuse"), ("/dev/loop-control", "loop")] {
        let advice = format!("run `modprobe {module}`, or let the container use {device}");
        assert!(
            Path::new(device).exists(),
            "attaching needs {device}: {advice}"
        );
    }
}
