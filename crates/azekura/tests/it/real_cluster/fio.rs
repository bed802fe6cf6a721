//! fio: writes every block of a volume once in random order, then reads all of it back and checks the CRC32C
//! that each block carries.

use crate::support::process::{Process, find_program};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What is written and verified.
const SIZE: &str = "--size=24m";
/// Writes per second: 24 MiB take almost eight seconds, long enough to be struck in the middle.
const RATE: &str = "--rate_iops=,800";
const SLOW_RATE: &str = "--rate_iops=,200";
/// Longest time fio may take, stalls included.
const PATIENCE: Duration = Duration::from_secs(75);

/// Whether fio writes and verifies, or verifies what an earlier run has written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Task {
    WriteAndVerify,
    /// Four times as slowly.
    WriteSlowlyAndVerify,
    Verify,
}

/// A running fio.
pub struct Fio {
    process: Process,
    report: PathBuf,
    log: PathBuf,
    name: String,
    task: Task,
}

impl Fio {
    /// Through an NBD gateway.
    pub fn over_nbd(directory: &Path, name: &str, uri: &str, task: Task) -> Self {
        let target = ["--ioengine=nbd".to_owned(), format!("--uri={uri}")];
        Self::start(directory, name, &target, task)
    }

    /// On a block device.
    pub fn on_device(directory: &Path, name: &str, device: &str, task: Task) -> Self {
        let engine = "--ioengine=libaio".to_owned();
        let target = [engine, "--direct=1".into(), format!("--filename={device}")];
        Self::start(directory, name, &target, task)
    }

    fn start(directory: &Path, name: &str, target: &[String], task: Task) -> Self {
        let report = directory.join(format!("fio-{name}.json"));
        let log = directory.join(format!("fio-{name}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let slow = task == Task::WriteSlowlyAndVerify;
        let rate = if slow { SLOW_RATE } else { RATE };
        let mut command = Command::new(find_program("fio", "fio"));
        command
            .current_dir(directory)
            .arg(format!("--name={name}"))
            .args(["--rw=randwrite", "--bs=4k", "--iodepth=16", "--fsync=64"])
            .args([SIZE, rate, "--randseed=20", "--end_fsync=1"])
            .args(["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"])
            .args(["--verify_state_save=0", "--output-format=json"])
            .arg(format!("--output={}", report.display()))
            .args(target);
        if task == Task::Verify {
            command.arg("--verify_only=1");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            process: Process::new(child),
            report,
            log,
            name: name.to_owned(),
            task,
        }
    }

    /// Fails when it has ended: what comes next must hit it while it works.
    pub fn assert_running(&mut self) {
        let running = self.process.is_running();
        assert!(running, "fio ended early: {}", self.said());
    }

    fn said(&self) -> String {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let report = read(&self.report);
        let start = report.chars().take(400).collect::<String>();
        format!("{}\n{}\n{start}", self.name, read(&self.log))
    }

    /// Waits for its end without a single error; the longest time that one of its writes took, of which there
    /// are none when it only verified.
    pub fn finish(mut self) -> Option<Duration> {
        let ended = self.process.ended_within(PATIENCE);
        let ended = ended.unwrap_or_else(|| panic!("fio does not end: {}", self.said()));
        assert!(ended.success(), "{ended}: {}", self.said());
        let text = std::fs::read_to_string(&self.report).unwrap();
        // Warnings may stand before the report.
        let start = text.find('{').unwrap_or_else(|| panic!("{}", self.said()));
        let report: Value = serde_json::from_str(&text[start..]).unwrap();
        let job = &report["jobs"][0];
        assert_eq!(job["error"], 0, "{}", self.said());
        let verified = job["read"]["io_bytes"].as_u64();
        assert!(verified.is_some_and(|bytes| bytes > 0), "{}", self.said());
        let longest = job["write"]["clat_ns"]["max"].as_u64();
        longest
            .filter(|_| self.task != Task::Verify)
            .map(Duration::from_nanos)
    }
}
