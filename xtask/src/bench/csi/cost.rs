//! What attached volumes cost while nothing happens, and what their devices do.

use super::CONTAINER;
use super::results::Rate;
use crate::bench::fio::{self, Device, Job};
use crate::bench::request::Request;
use crate::bench::times::median;
use crate::bench::usage::{Usage, proportional_bytes};
use crate::cluster::Cluster;
use crate::driver::{Claim, Driver, Kind};
use crate::nbd::Client;
use crate::rest;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Pause before watching: file systems have written back, leases and drains are over.
const SETTLE: Duration = Duration::from_secs(10);
/// Longest wait for one connection.
const PATIENCE: Duration = Duration::from_secs(60);
/// The volume that is measured through NBD.
const NBD_VOLUME: &str = "through-nbd";

/// What both ways are asked to do.
const JOBS: [Job; 2] = [
    job("read-16", "4 KiB random read, depth 16", "randread"),
    job("write-16", "4 KiB random write, depth 16", "randwrite"),
];

const fn job(key: &'static str, name: &'static str, pattern: &'static str) -> Job {
    Job {
        key,
        name,
        pattern,
        block_kib: 4,
        depth: 16,
        jobs: 1,
        flush: false,
        length: 1,
        until_drained: false,
        targets: (0.0, 0.0),
        floors: None,
        floors_engine: None,
    }
}

/// Figures of attached volumes nobody uses.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// How many.
    pub volumes: usize,
    /// MiB resident in the process of a volume: the mean, and the largest.
    pub resident_mib: (f64, f64),
    /// MiB that the machine would have back without it: pages of the program are shared by all.
    pub own_mib: f64,
    /// Percent of a core, all of these processes together.
    pub cpu_percent: f64,
    /// Percent of a core and MiB resident of both processes of the driver together.
    pub driver: (f64, f64),
    /// Percent of a core of each storage node, the mean and the largest.
    pub nodes_cpu_percent: (f64, f64),
}

/// Watches for `time`.
pub fn watch(cluster: &Cluster, driver: &Driver, claims: &[Claim], time: Duration) -> Result<Cost> {
    let processes = claims.iter().map(|claim| process_of(driver, claim));
    let processes: Vec<u32> = processes.collect::<Result<_>>()?;
    let nodes = cluster.pids();
    std::thread::sleep(SETTLE);
    let plugins = driver.pids();
    let look = || {
        let each = nodes.iter().map(|pid| Usage::of(&[*pid])).collect();
        (Usage::of(&processes), Usage::of(&plugins), each)
    };
    let before: (Usage, Usage, Vec<Usage>) = look();
    std::thread::sleep(time);
    let after = look();
    let percent =
        |now: &Usage, then: &Usage| now.since(then).cpu_us as f64 / time.as_micros() as f64 * 100.0;
    let each_node = after.2.iter().zip(&before.2);
    let each_node: Vec<f64> = each_node.map(|(now, then)| percent(now, then)).collect();
    let resident = processes
        .iter()
        .map(|pid| mib(Usage::of(&[*pid]).resident_bytes));
    let own: u64 = processes.iter().map(|pid| proportional_bytes(*pid)).sum();
    let count = processes.len() as f64;
    let cost = Cost {
        volumes: processes.len(),
        resident_mib: (
            mib(after.0.resident_bytes) / count,
            resident.fold(0.0, f64::max),
        ),
        own_mib: mib(own) / count,
        cpu_percent: percent(&after.0, &before.0),
        driver: (percent(&after.1, &before.1), mib(after.1.resident_bytes)),
        nodes_cpu_percent: (
            each_node.iter().sum::<f64>() / each_node.len().max(1) as f64,
            each_node.iter().copied().fold(0.0, f64::max),
        ),
    };
    println!(
        "    {} idle volumes: {:.1} MiB each, {:.2} % of a core for all",
        cost.volumes, cost.resident_mib.0, cost.cpu_percent
    );
    Ok(cost)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The process that serves a claim's device, from its record.
fn process_of(driver: &Driver, claim: &Claim) -> Result<u32> {
    let name = format!("{}.json", claim.attachment()?);
    let path = driver.attachments().join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let state: Value = serde_json::from_str(&text)?;
    let pid = state["pid"]
        .as_u64()
        .context("the record names no process")?;
    Ok(u32::try_from(pid)?)
}

/// Both jobs on a published block device and on another volume through the NBD gateway of its owner, in turns; and MiB
/// resident in the device's process after them.
pub fn rates(cluster: &Cluster, driver: &Driver, request: &Request) -> Result<(Vec<Rate>, f64)> {
    let mut claim = Claim::new(driver, "device", Kind::Block, request.bytes)?;
    claim.provision(driver, CONTAINER, None)?;
    claim.publish(driver)?;
    claim.stage(driver)?;
    claim.mount(driver)?;
    let nbd = through_nbd(cluster, request.bytes)?;
    let ways = [
        (Device::File(claim.target.clone()), claim.volume.as_str()),
        (nbd, NBD_VOLUME),
    ];
    let api = cluster.any_api().context("no node runs")?;
    let drain = |volume: &str| rest::post(api, &format!("/volumes/{volume}/drain"), &json!({}));
    for (device, volume) in &ways {
        fio::fill(device, request.bytes)?;
        drain(volume)?;
    }
    let mut rates = Vec::new();
    for job in &JOBS {
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..request.runs {
            for ((device, volume), runs) in ways.iter().zip(&mut runs) {
                let measured = fio::run(job, device, request.bytes, request.seconds)?;
                runs.push(measured.rate());
                drain(volume)?;
            }
        }
        let [device, nbd] = runs.clone().map(|mut runs| median(&mut runs));
        println!("    {}: device {device:.0} /s, NBD {nbd:.0} /s", job.name);
        rates.push(Rate {
            job: job.name.to_owned(),
            device,
            nbd,
            runs,
        });
    }
    let busy = Usage::of(&[process_of(driver, &claim)?]).resident_bytes;
    claim.unmount(driver)?;
    claim.unstage(driver)?;
    claim.unpublish(driver)?;
    claim.delete(driver)?;
    Ok((rates, mib(busy)))
}

fn through_nbd(cluster: &Cluster, bytes: u64) -> Result<Device> {
    let first = cluster.nodes.first().context("no nodes")?;
    let body = json!({"name": NBD_VOLUME, "container": CONTAINER, "size": bytes});
    rest::post(&first.api, "/volumes", &body)?;
    // The first use settles who owns it.
    Client::connect(&first.nbd, NBD_VOLUME, PATIENCE)?.write(0, &[0; 4096])?;
    let owner = &cluster.nodes[cluster.owner_of(NBD_VOLUME)?];
    Ok(Device::Nbd(format!("nbd://{}/{NBD_VOLUME}", owner.nbd)))
}
