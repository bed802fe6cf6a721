//! A remote device on simulated nodes: takeovers, partitions, refusals, sizes.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "everything here is a test"
)]

mod cluster;
mod requests;
mod takeover;

use blockdev::BlockError;
use bytes::Bytes;
use client::{ClientError, ClientOptions, RemoteDevice};
use cluster::{Cluster, address};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use vocab::{AttachmentGeneration, BLOCK_SIZE};
use world::Duration;
use world_sim::{Options, Simulation};

pub const SECOND: Duration = Duration::from_secs(1);
pub const FOREVER: Duration = Duration::MAX;

pub fn options(cluster: &Cluster, patience: Duration) -> ClientOptions {
    ClientOptions {
        cluster: "test".into(),
        nodes: (0..cluster.hosts.len() as u32).map(address).collect(),
        volume: "v".into(),
        client: 0,
        attachment: AttachmentGeneration(0),
        read_only: false,
        levels: vocab::Levels::OWN,
        patience,
        doubt_after: client::DOUBT_AFTER,
    }
}

pub type Pending<T> = Rc<RefCell<Option<T>>>;

/// Starts a task on the client.
pub fn start<T: 'static>(cluster: &Cluster, task: impl Future<Output = T> + 'static) -> Pending<T> {
    let result: Pending<T> = Rc::default();
    let sink = result.clone();
    cluster.client.spawn(async move {
        let value = task.await;
        *sink.borrow_mut() = Some(value);
    });
    result
}

pub fn finish<T>(cluster: &Cluster, result: &Pending<T>, limit: Duration) -> T {
    let seen = result.clone();
    assert!(
        cluster.sim.run_until(|| seen.borrow().is_some(), limit),
        "seed {}: not done in time",
        cluster.sim.seed()
    );
    result.borrow_mut().take().unwrap()
}

pub fn run<T: 'static>(cluster: &Cluster, task: impl Future<Output = T> + 'static) -> T {
    finish(cluster, &start(cluster, task), 120 * SECOND)
}

pub fn try_open(cluster: &Cluster, options: ClientOptions) -> Result<RemoteDevice, ClientError> {
    run(cluster, RemoteDevice::open(cluster.client.world(), options))
}

pub fn open(cluster: &Cluster, patience: Duration) -> RemoteDevice {
    try_open(cluster, options(cluster, patience)).unwrap()
}

pub fn setup(seed: u64, blocks: u64) -> Cluster {
    Cluster::new(&Simulation::new(seed, Options::default()), 3, blocks)
}

pub fn filled(fill: u8, blocks: usize) -> Bytes {
    Bytes::from(vec![fill; blocks * BLOCK_SIZE])
}
