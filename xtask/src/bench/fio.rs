//! fio: the jobs, how one is run, and what is read from its JSON output.

use crate::process::find_program;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Job {
    /// Name on the command line.
    pub key: &'static str,
    /// Name in the results.
    pub name: &'static str,
    /// fio's `rw`.
    pub pattern: &'static str,
    pub block_kib: u64,
    pub depth: u32,
    pub jobs: u32,
    /// Whether every write is followed by a flush.
    pub flush: bool,
    /// Multiple of the seconds asked for.
    pub length: u64,
    /// Whether the time until everything is drained counts.
    pub until_drained: bool,
    /// RF2 / raw and RF3 / raw that the design asks for.
    pub targets: (f64, f64),
    /// RF2 / raw and RF3 / raw below which the architecture has failed.
    pub floors: Option<(f64, f64)>,
    /// The same without NBD.
    pub floors_engine: Option<(f64, f64)>,
}

impl Job {
    /// Whether the job writes.
    pub fn writes(&self) -> bool {
        self.pattern.contains("write")
    }
}

const fn write_4k(key: &'static str, name: &'static str, depth: u32, targets: (f64, f64)) -> Job {
    Job {
        key,
        name,
        pattern: "randwrite",
        block_kib: 4,
        depth,
        jobs: 1,
        flush: false,
        length: 1,
        until_drained: false,
        targets,
        floors: None,
        floors_engine: None,
    }
}

/// The jobs of architecture.md's table of targets: reads first, while the volumes are as the fill left them.
pub const JOBS: [Job; 8] = [
    Job {
        pattern: "randread",
        ..write_4k("read-1", "4 KiB random read, depth 1", 1, (0.65, 0.65))
    },
    Job {
        pattern: "randread",
        floors: Some((0.25, 0.25)),
        floors_engine: Some((0.35, 0.35)),
        ..write_4k("read-32", "4 KiB random read, depth 32", 32, (0.5, 0.5))
    },
    Job {
        pattern: "read",
        block_kib: 1024,
        ..write_4k("read-seq", "1 MiB sequential read, depth 8", 8, (0.5, 0.5))
    },
    write_4k("write-1", "4 KiB random write, depth 1", 1, (0.6, 0.5)),
    Job {
        floors: Some((0.35, 0.25)),
        ..write_4k(
            "burst",
            "4 KiB random write, depth 32, burst",
            32,
            (0.7, 0.5),
        )
    },
    Job {
        length: 4,
        until_drained: true,
        floors: Some((0.2, 0.15)),
        ..write_4k(
            "sustained",
            "4 KiB random write, depth 32, sustained",
            32,
            (0.45, 0.3),
        )
    },
    Job {
        jobs: 16,
        flush: true,
        ..write_4k("flush", "4 KiB write + flush, 16 jobs", 1, (0.7, 0.6))
    },
    Job {
        pattern: "write",
        block_kib: 1024,
        ..write_4k(
            "write-seq",
            "1 MiB sequential write, depth 8",
            8,
            (0.25, 0.17),
        )
    },
];

/// What fio works on.
#[derive(Clone)]
pub enum Device {
    /// A file, with O_DIRECT.
    File(PathBuf),
    /// An NBD export.
    Nbd(String),
    /// An image in a Ceph pool, without librbd's cache.
    Rbd {
        configuration: PathBuf,
        pool: String,
        image: String,
    },
}

/// What one run measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub operations: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Measured {
    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds.max(1e-9)
    }
}

/// The engine for files: io_uring where it is allowed.
fn file_engine() -> &'static str {
    let forbidden = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let forbidden = forbidden.is_ok_and(|text| text.trim() == "2");
    if forbidden { "libaio" } else { "io_uring" }
}

/// Runs a job for `seconds` on the first `bytes` of a device.
pub fn run(job: &Job, device: &Device, bytes: u64, seconds: u64) -> Result<Measured> {
    run_at(job, device, bytes, seconds, None)
}

/// Runs a job with at most so many operations a second.
pub fn run_at(
    job: &Job,
    device: &Device,
    bytes: u64,
    seconds: u64,
    rate: Option<u64>,
) -> Result<Measured> {
    let mut command = base(device, bytes)?;
    command.args(rate.map(|rate| format!("--rate_iops={rate}")));
    command.arg(format!("--rw={}", job.pattern));
    command.arg(format!("--bs={}k", job.block_kib));
    command.arg(format!("--iodepth={}", job.depth));
    command.arg(format!("--numjobs={}", job.jobs));
    command.args(["--time_based=1", "--norandommap=1", "--randrepeat=0"]);
    command.arg(format!("--runtime={seconds}"));
    if job.flush {
        command.arg("--fsync=1");
    }
    let direction = if job.writes() { "write" } else { "read" };
    let measured = parse(&output(&mut command)?, direction)?;
    ensure!(measured.operations > 0, "fio did nothing in `{}`", job.name);
    Ok(measured)
}

/// Writes the first `bytes` of a device once.
pub fn fill(device: &Device, bytes: u64) -> Result<()> {
    fill_with(device, bytes, 1)
}

/// Writes the first `bytes` of a device once, each block with data that can be compressed to a `shrink`th.
pub fn fill_with(device: &Device, bytes: u64, shrink: u64) -> Result<()> {
    let mut command = base(device, bytes)?;
    command.args(["--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1"]);
    if shrink > 1 {
        command.arg(format!(
            "--buffer_compress_percentage={}",
            100 - 100 / shrink
        ));
        command.args(["--buffer_compress_chunk=4096", "--refill_buffers"]);
    }
    output(&mut command).map(|_| ())
}

fn base(device: &Device, bytes: u64) -> Result<Command> {
    let program = find_program("fio").context("fio is missing: install Debian package fio")?;
    let mut command = Command::new(program);
    command.args([
        "--name=job",
        "--output-format=json",
        "--group_reporting=1",
        "--direct=1",
    ]);
    command.arg(format!("--size={bytes}"));
    match device {
        Device::File(path) => {
            command.arg(format!("--ioengine={}", file_engine()));
            command.arg("--filename").arg(path);
        }
        Device::Nbd(uri) => {
            command.args(["--ioengine=nbd", "--uri", uri]);
        }
        Device::Rbd {
            configuration,
            pool,
            image,
        } => {
            command.args(["--ioengine=rbd", "--clientname=admin"]);
            command.arg(format!("--pool={pool}"));
            command.arg(format!("--rbdname={image}"));
            command.env("CEPH_CONF", configuration);
        }
    }
    Ok(command)
}

fn output(command: &mut Command) -> Result<Value> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot run fio")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "fio failed with {}: {errors}{text}",
        output.status
    );
    // Some engines print a line before the JSON.
    let start = text
        .find('{')
        .with_context(|| format!("fio printed no JSON: {text}{errors}"))?;
    serde_json::from_str(&text[start..]).context("fio printed broken JSON")
}

fn parse(json: &Value, direction: &str) -> Result<Measured> {
    let job = &json["jobs"][0][direction];
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let latency = &job["clat_ns"]["percentile"];
    Ok(Measured {
        operations: job["total_ios"]
            .as_u64()
            .context("fio's output has no total_ios")?,
        bytes: job["io_bytes"]
            .as_u64()
            .context("fio's output has no io_bytes")?,
        seconds: number(&job["runtime"]) / 1000.0,
        p50_us: number(&latency["50.000000"]) / 1000.0,
        p99_us: number(&latency["99.000000"]) / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fio_output_is_read() {
        let json = serde_json::json!({"jobs": [{"write": {
            "total_ios": 500, "io_bytes": 2_048_000, "runtime": 250,
            "clat_ns": {"percentile": {"50.000000": 12_000, "99.000000": 99_000}}}}]});
        let measured = parse(&json, "write").expect("all fields are there");
        assert_eq!(measured.rate(), 2000.0);
        assert_eq!((measured.p50_us, measured.p99_us), (12.0, 99.0));
        assert!(parse(&json, "read").is_err());
    }

    #[test]
    fn real_fio_runs_a_job_on_a_file() {
        assert!(find_program("fio").is_some(), "install Debian package fio");
        // Beside the test's binary: a temporary folder may be in memory, where O_DIRECT is refused.
        let path = std::env::current_exe()
            .expect("a test has a binary")
            .with_extension("fio");
        let device = Device::File(path.clone());
        fill(&device, 4 << 20).expect("fio fills the file");
        let measured = run(&JOBS[3], &device, 4 << 20, 1).expect("fio writes");
        std::fs::remove_file(path).expect("fio made the file");
        assert!(measured.seconds > 0.5 && measured.bytes == measured.operations * 4096);
    }
}
