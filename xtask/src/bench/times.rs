//! Times of operations, and how long writes stand still when a process is killed.

use crate::cluster::Cluster;
use crate::image::Sequence;
use crate::nbd::Client;
use crate::{rest, stall};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Volume sizes: the design promises that they make no difference.
const SIZES: [u64; 2] = [1 << 30, 64 << 30];
/// Written into each volume before it is measured.
const WRITTEN_BYTES: u64 = 64 << 20;
/// Repetitions of operations that take milliseconds.
const REPEATS: usize = 9;
/// Longest wait for one write.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for a cluster to be whole again.
const WHOLE_MAX: Duration = Duration::from_secs(120);

/// Milliseconds at one volume size; medians.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    pub volume_bytes: u64,
    pub create_ms: f64,
    pub snapshot_ms: f64,
    pub clone_ms: f64,
    pub replica_loss_ms: f64,
    pub owner_loss_ms: f64,
}

/// Measures everything at each size. `losses` is how often each kind of process is killed.
pub fn measure(cluster: &mut Cluster, losses: usize) -> Result<Vec<Times>> {
    SIZES
        .iter()
        .map(|bytes| at_size(cluster, *bytes, losses))
        .collect()
}

fn at_size(cluster: &mut Cluster, bytes: u64, losses: usize) -> Result<Times> {
    let name = format!("times-{}", bytes >> 30);
    let api = cluster.any_api().context("no node runs")?.to_owned();
    let create = repeat(|turn| {
        let body = json!({"name": format!("{name}-{turn}"), "container": "rf2", "size": bytes});
        rest::post(&api, "/volumes", &body)
    })?;
    let volume = format!("{name}-0");
    fill(cluster, &volume)?;
    let snapshot = repeat(|turn| {
        let body = json!({"name": format!("s{turn}")});
        rest::post(&api, &format!("/volumes/{volume}/snapshots"), &body)
    })?;
    let clone = repeat(|turn| {
        let from = json!({"volume": volume, "snapshot": format!("s{turn}")});
        rest::post(
            &api,
            "/volumes",
            &json!({"name": format!("{name}-clone-{turn}"), "from": from}),
        )
    })?;
    let mut replica_loss = Vec::new();
    let mut owner_loss = Vec::new();
    for _ in 0..losses {
        replica_loss.push(lose_replica(cluster, &volume)?);
        owner_loss.push(lose_owner(cluster, &volume)?);
    }
    let times = Times {
        volume_bytes: bytes,
        create_ms: create,
        snapshot_ms: snapshot,
        clone_ms: clone,
        replica_loss_ms: median(&mut replica_loss),
        owner_loss_ms: median(&mut owner_loss),
    };
    println!(
        "    {} GiB: create {create:.1} ms, snapshot {snapshot:.1} ms, clone {clone:.1} ms, replica lost \
         {:.0} ms, owner lost {:.0} ms",
        bytes >> 30,
        times.replica_loss_ms,
        times.owner_loss_ms
    );
    Ok(times)
}

/// Median milliseconds of an operation.
fn repeat(mut operation: impl FnMut(usize) -> Result<Value>) -> Result<f64> {
    let mut times = Vec::new();
    for turn in 0..REPEATS {
        let started = Instant::now();
        operation(turn)?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&mut times))
}

/// The middle one; of an even number the upper.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn fill(cluster: &Cluster, volume: &str) -> Result<()> {
    let node = cluster.nodes.first().context("no nodes")?;
    let mut client = Client::connect(&node.nbd, volume, PATIENCE)?;
    let data: Vec<u8> = (0..256_u32 << 10)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for offset in (0..WRITTEN_BYTES).step_by(data.len()) {
        client.write(offset, &data)?;
    }
    client.flush()
}

/// Kills a node that holds a copy of the volume's log and does not own it; writes go through the owner's gateway.
fn lose_replica(cluster: &mut Cluster, volume: &str) -> Result<f64> {
    let owner = cluster.owner_of(volume)?;
    let victim = replica_of(cluster, volume, owner)?;
    lose(cluster, volume, owner, victim)
}

/// Kills the owner; writes go through another node's gateway.
fn lose_owner(cluster: &mut Cluster, volume: &str) -> Result<f64> {
    let owner = cluster.owner_of(volume)?;
    let gateway = (owner + 1) % cluster.nodes.len();
    lose(cluster, volume, gateway, owner)
}

fn lose(cluster: &mut Cluster, volume: &str, gateway: usize, victim: usize) -> Result<f64> {
    let client = Client::connect(&cluster.nodes[gateway].nbd, volume, PATIENCE)?;
    let mut sequence = Sequence(gateway as u64);
    let data = vec![0x5a; 4096];
    let mut next = move || {
        (
            sequence.draw() % (WRITTEN_BYTES / 4096) * 4096,
            data.clone(),
        )
    };
    let second = Duration::from_secs(1);
    let stall = stall::measure(client, &mut next, second, 5 * second, || {
        cluster.kill_node(victim)
    })?;
    cluster.start_node(victim)?;
    cluster.wait_ready(victim)?;
    wait_whole(cluster)?;
    Ok(stall.longest.as_secs_f64() * 1000.0)
}

/// Position of a node, not `owner`, with a copy of the volume's open log segment.
fn replica_of(cluster: &Cluster, volume: &str, owner: usize) -> Result<usize> {
    let api = cluster.any_api().context("no node runs")?;
    let shown = rest::get(api, &format!("/volumes/{volume}"))?;
    let status = rest::get(api, "/status")?;
    let replicas = shown["log"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let list = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    for replica in replicas {
        let store = list("stores")
            .into_iter()
            .find(|store| store["id"] == replica["store"]);
        let node = store.map(|store| store["node"].clone()).unwrap_or_default();
        let row = list("nodes")
            .into_iter()
            .find(|row| row["id"] == node)
            .unwrap_or_default();
        let found = cluster
            .nodes
            .iter()
            .position(|node| row["name"] == node.name.as_str());
        if let Some(found) = found.filter(|found| *found != owner) {
            return Ok(found);
        }
    }
    anyhow::bail!("{volume} has no copy of its log outside its owner: {shown}")
}

/// Waits until every node lives and every store is ready.
fn wait_whole(cluster: &Cluster) -> Result<()> {
    let deadline = Instant::now() + WHOLE_MAX;
    loop {
        let api = cluster.any_api().context("no node runs")?;
        let status = rest::get(api, "/status")?;
        let all = |name: &str, fine: &dyn Fn(&Value) -> bool| {
            status[name]
                .as_array()
                .is_some_and(|rows| rows.iter().all(fine))
        };
        let alive = all("nodes", &|node| node["alive"] == true);
        if alive && all("stores", &|store| store["state"] == "ready") {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "the cluster is not whole after 120 s: {status}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
