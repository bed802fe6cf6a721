//! What nodes use while nothing happens, without volumes and with many that are attached.

use super::usage::Usage;
use crate::cluster::Cluster;
use crate::nbd::Client;
use crate::rest;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// Volumes attached at once in the design's target.
const VOLUMES: usize = 100;
/// Size of each; the data of an idle volume does not matter.
const VOLUME_BYTES: u64 = 1 << 30;
/// Pause before watching: leases, drains and the first round of background work are over.
const SETTLE: Duration = Duration::from_secs(3);
/// Until what follows their making is over, too: logs are drained, new lineages were walked.
const QUIET: Duration = Duration::from_secs(60);
/// Longest wait for one connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// Figures of nodes that do nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Idle {
    /// When, in words.
    pub when: String,
    /// MiB resident, the mean of the nodes and the largest.
    pub resident_mib: (f64, f64),
    /// Percent of a core, the mean of the nodes and the largest.
    pub cpu_percent: (f64, f64),
}

/// Watches every node for `time`.
pub fn watch(cluster: &Cluster, when: &str, time: Duration) -> Idle {
    std::thread::sleep(SETTLE);
    let pids = cluster.pids();
    let before: Vec<Usage> = pids.iter().map(|pid| Usage::of(&[*pid])).collect();
    std::thread::sleep(time);
    let used: Vec<Usage> = pids
        .iter()
        .zip(&before)
        .map(|(pid, before)| Usage::of(&[*pid]).since(before))
        .collect();
    let mib = |used: &Usage| used.resident_bytes as f64 / f64::from(1 << 20);
    let percent = |used: &Usage| used.cpu_us as f64 / time.as_micros() as f64 * 100.0;
    let idle = Idle {
        when: when.to_owned(),
        resident_mib: mean_and_max(used.iter().map(mib)),
        cpu_percent: mean_and_max(used.iter().map(percent)),
    };
    println!(
        "    {when}: {:.0} MiB resident, {:.2} % of a core per node",
        idle.resident_mib.0, idle.cpu_percent.0
    );
    idle
}

/// Watches the nodes while [`VOLUMES`] volumes are attached, a client connection each, spread over the gateways: as soon as
/// they are there, which shows what making them leaves to be done, and when that is over.
pub fn watch_attached(cluster: &Cluster, time: Duration) -> Result<[Idle; 2]> {
    let api = cluster.any_api().context("no node runs")?;
    let mut clients = Vec::new();
    for index in 0..VOLUMES {
        let name = format!("idle-{index}");
        let body = json!({"name": name, "container": "rf2", "size": VOLUME_BYTES});
        rest::post(api, "/volumes", &body)?;
        let node = &cluster.nodes[index % cluster.nodes.len()];
        let mut client = Client::connect(&node.nbd, &name, PATIENCE)?;
        // A volume is idle after it was in use, with a log that is open.
        client.write(0, &[1; 4096])?;
        client.flush()?;
        clients.push(client);
    }
    let when = format!("{VOLUMES} idle volumes, just made and attached");
    let made = watch(cluster, &when, time);
    std::thread::sleep(QUIET);
    let when = format!("{VOLUMES} idle volumes attached");
    Ok([made, watch(cluster, &when, time)])
}

fn mean_and_max(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let max = values.clone().fold(0.0, f64::max);
    (values.sum::<f64>() / count, max)
}
