//! The command line of `cargo xtask bench`.

use super::fio::{JOBS, Job};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
cargo xtask bench [--quick] [--seconds N] [--runs N] [--gib N] [--losses N] [--only DEVICES]
                  [--jobs JOBS] [--tls] [--binary FILE] [--dir DIR] [--publish]
cargo xtask bench --peer ceph [--quick] [--seconds N] [--runs N] [--gib N] [--dir DIR] [--publish]
cargo xtask bench --csi [--quick] [--seconds N] [--runs N] [--gib N] [--volumes N] [--binary FILE] [--dir DIR] [--publish]
cargo xtask bench --repair [--shrink N] [--disk-mibs N] [--seconds N] [--runs N] [--gib N] [--tls] [--binary FILE] [--dir DIR] [--publish]
cargo xtask bench --manage [--quick] [--runs N] [--binary FILE] [--dir DIR] [--publish]
cargo xtask bench --encryption [--quick] [--seconds N] [--runs N] [--gib N] [--binary FILE] [--dir DIR] [--publish]
cargo xtask bench --publish
  --quick         under 12 minutes in all: short jobs, 1 GiB, one loss of each kind, fewer rows for RF1, the
                  ceiling and the engine; with --peer under 12 minutes more
  --seconds N     length of one job (5; quick 3); the sustained one takes four times as long (quick: twice)
  --runs N        runs of each job, of which the median counts (3)
  --gib N         bytes of each volume that are filled and used (2; with --quick or --csi 1)
  --losses N      how often a replica and an owner are killed at each size (3; quick 1)
  --only DEVICES  some of raw,nbdkit,rf1,rf2,rf3 and rf2-remote, rf2-owner and the like, comma-separated
  --jobs JOBS     some of read-1, read-32, read-seq, write-1, burst, sustained, flush, write-seq, comma-separated
  --tls           encrypt all connections but NBD, with certificates on both sides
  --binary FILE   measure this azekura instead of building one
  --dir DIR       where files and disks are (target/bench/data); the results are in target/bench/
  --peer ceph     the same jobs on a three-OSD Ceph cluster instead, and on the raw disk beside it
  --csi           latency of the CSI driver and cost of attached volumes instead, under 4 minutes; needs root
  --volumes N     volumes that are attached at once with --csi (100; quick 20)
  --repair        loss of a node with --gib N (8) of data, its return with a blank disk, and a loss under load
                  instead, under 10 minutes
  --shrink N      with --repair, data that is compressed to an Nth (1), for disks with less room than --gib N needs
  --disk-mibs N   with --repair, each node reads and writes at most N MiB a second, as from and to a disk of its own;
                  needs root
  --manage        API, metrics and pages with 1,000 and 10,000 volumes instead (quick: 1,000), under 10 minutes; needs Node.js
  --encryption    what encrypted connections cost instead: a plain and an encrypted cluster in turns, under 6 minutes
  --publish       write the results of the last runs, or of this one, into docs/performance.md";

/// Options without a value.
const FLAGS: [&str; 7] = [
    "--quick",
    "--publish",
    "--csi",
    "--repair",
    "--manage",
    "--tls",
    "--encryption",
];

/// What is asked for.
pub struct Request {
    /// The short form.
    pub quick: bool,
    /// Length of one job.
    pub seconds: u64,
    /// Runs of each job.
    pub runs: usize,
    /// Bytes of each device that are used.
    pub bytes: u64,
    /// Losses of each kind at each size.
    pub losses: usize,
    /// Devices; empty: all.
    pub only: Vec<String>,
    /// Keys of jobs; empty: all.
    pub jobs: Vec<String>,
    /// An `azekura` that is built already.
    pub binary: Option<PathBuf>,
    /// Where disks and logs are.
    pub folder: PathBuf,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// Whether the CSI driver is measured instead.
    pub csi: bool,
    /// Whether losses of nodes are measured instead.
    pub repair: bool,
    /// Bytes that each node may read and write in a second then.
    pub disk_rate: Option<u64>,
    /// To which part of it the data is compressed then.
    pub shrink: u64,
    /// Whether the management plane is measured instead.
    pub manage: bool,
    /// Whether encrypted connections are compared with plain ones instead.
    pub encryption: bool,
    /// Volumes that are attached at once.
    pub volumes: usize,
    /// Whether another storage system is measured instead.
    pub peer: bool,
    /// Whether docs/performance.md is written.
    pub publish: bool,
    /// Whether anything is measured.
    pub measure: bool,
}

impl Request {
    /// Reads the arguments; `None` when help was asked for.
    pub fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        if has("--help") || has("-h") {
            return Ok(None);
        }
        let (quick, csi, repair) = (has("--quick"), has("--csi"), has("--repair"));
        let mut request = Self {
            quick,
            seconds: if quick { 3 } else { 5 },
            runs: 3,
            bytes: match (repair, quick || csi) {
                (true, _) => 8 << 30,
                (false, true) => 1 << 30,
                (false, false) => 2 << 30,
            },
            losses: if quick { 1 } else { 3 },
            only: Vec::new(),
            jobs: Vec::new(),
            binary: None,
            folder: PathBuf::from("target/bench/data"),
            tls: has("--tls"),
            csi,
            repair,
            disk_rate: None,
            shrink: 1,
            manage: has("--manage"),
            encryption: has("--encryption"),
            volumes: if quick { 20 } else { 100 },
            peer: false,
            publish: has("--publish"),
            measure: arguments.iter().any(|argument| argument != "--publish"),
        };
        let mut left = arguments.iter();
        while let Some(name) = left.next() {
            if FLAGS.contains(&name.as_str()) {
                continue;
            }
            let value = left
                .next()
                .with_context(|| format!("{name} needs a value.\n{USAGE}"))?;
            request.set(name, value)?;
        }
        ensure!(
            request.repair || request.disk_rate.is_none(),
            "--disk-mibs goes with --repair.\n{USAGE}"
        );
        ensure!(
            request.repair || request.shrink == 1,
            "--shrink goes with --repair.\n{USAGE}"
        );
        Ok(Some(request))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let number = || {
            value
                .parse::<u64>()
                .with_context(|| format!("{name} needs a number"))
        };
        match name {
            "--seconds" => self.seconds = number()?.max(1),
            "--runs" => self.runs = usize::try_from(number()?)?.max(1),
            "--volumes" => self.volumes = usize::try_from(number()?)?.clamp(1, 1000),
            "--gib" => self.bytes = number()?.clamp(1, 1 << 20) << 30,
            "--disk-mibs" => self.disk_rate = Some(number()?.clamp(1, 1 << 20) << 20),
            "--shrink" => self.shrink = number()?.clamp(1, 8),
            "--losses" => self.losses = usize::try_from(number()?)?,
            "--only" => self.only = value.split(',').map(str::to_owned).collect(),
            "--jobs" => {
                self.jobs = value.split(',').map(str::to_owned).collect();
                let known = |key: &String| JOBS.iter().any(|job| job.key == key);
                let unknown = self.jobs.iter().find(|key| !known(key));
                ensure!(unknown.is_none(), "there is no job {unknown:?}.\n{USAGE}");
            }
            "--binary" => self.binary = Some(value.into()),
            "--dir" => self.folder = value.into(),
            "--peer" => {
                ensure!(value == "ceph", "`{value}` is no peer; there is `ceph`");
                self.peer = true;
            }
            _ => bail!("`cargo xtask bench` does not know `{name}`.\n{USAGE}"),
        }
        Ok(())
    }

    /// Whether a device is to be measured.
    pub fn wants(&self, device: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == device)
    }

    /// Whether a job is to be run.
    pub fn wants_job(&self, job: &Job) -> bool {
        self.jobs.is_empty() || self.jobs.iter().any(|key| key == job.key)
    }

    /// Seconds of a job that is `length` times as long as a usual one.
    pub fn seconds_of(&self, length: u64) -> u64 {
        let length = if self.quick { length.min(2) } else { length };
        self.seconds * length
    }

    /// How long an idle cluster is watched.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(if self.quick { 5 } else { 10 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Request>> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Request::parse(&words)
    }

    #[test]
    fn quick_is_a_start_that_other_options_change() {
        let request = parse("--seconds 1 --quick --only raw,rf2").expect("it is right");
        let request = request.expect("no help was asked for");
        assert_eq!((request.seconds, request.bytes), (1, 1 << 30));
        assert!(request.wants("rf2") && !request.wants("rf3") && request.measure);
        assert_eq!(request.seconds_of(4), 2);
    }

    #[test]
    fn the_driver_is_measured_when_it_is_asked_for() {
        let request = parse("--csi --volumes 7 --publish").expect("it is right");
        let request = request.expect("no help was asked for");
        assert!(request.csi && request.measure && request.publish);
        assert_eq!((request.volumes, request.bytes), (7, 1 << 30));
    }

    #[test]
    fn publishing_alone_measures_nothing() {
        let request = parse("--publish").expect("it is right").expect("no help");
        assert!(request.publish && !request.measure);
    }

    #[test]
    fn wrong_options_are_refused() {
        for line in [
            "--fast",
            "--jobs nap",
            "--disk-mibs 400",
            "--seconds",
            "--seconds x",
            "--peer gluster",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--runs 2 --help").expect("it is right").is_none());
    }
}
