//! Nodes come and go at random while a client on a node without stores writes and reads: nothing
//! acknowledged may be lost, and everything goes on in the end.

use crate::support::{Cluster, MIB};
use blockdev::{BlockDevice, WriteMode};
use bytes::Bytes;
use catalog_kv::memory::Outage;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use vocab::{BLOCK_SIZE, Lba};
use world::{Duration, Rng};

const BLOCKS: u64 = 200;

/// What a block may hold: the last acknowledged fill, or one whose write is under way.
#[derive(Default)]
struct Model {
    acknowledged: Vec<u8>,
    writes: u64,
}

async fn work(
    device: Rc<dyn BlockDevice>,
    rng: impl Rng + 'static,
    model: Rc<RefCell<Model>>,
    stop: Rc<Cell<bool>>,
) {
    model.borrow_mut().acknowledged = vec![0; BLOCKS as usize];
    while !stop.get() {
        let lba = rng.next_u64() % BLOCKS;
        if rng.next_u64().is_multiple_of(3) {
            let read = device.read(Lba(lba), 1).await;
            let data = read
                .unwrap_or_else(|error| panic!("reading block {lba}: {error}"))
                .concat();
            let expected = model.borrow().acknowledged[lba as usize];
            assert_eq!(data, vec![expected; BLOCK_SIZE], "block {lba}");
            continue;
        }
        let fill = (rng.next_u64() % 255) as u8 + 1;
        let data = vec![Bytes::from(vec![fill; BLOCK_SIZE])];
        let mode = WriteMode::Fua;
        let written = device.write(Lba(lba), data, mode).await;
        written.unwrap_or_else(|error| panic!("writing block {lba}: {error}"));
        let mut model = model.borrow_mut();
        model.acknowledged[lba as usize] = fill;
        model.writes += 1;
    }
}

/// One fault, and its end.
fn strike(cluster: &Cluster, rng: &impl Rng) {
    let victim = (rng.next_u64() % 3) as usize;
    let machine = &cluster.machines[victim];
    let pause = Duration::from_millis(rng.next_u64() % 8000);
    match rng.next_u64() % 5 {
        0 => {
            cluster.crash(victim);
            cluster.sim.run_for(pause);
            cluster.restart(victim);
        }
        1 => {
            machine.host.power_loss();
            cluster.crash(victim);
            cluster.sim.run_for(pause);
            cluster.restart(victim);
        }
        2 => {
            cluster.sim.isolate(&machine.host);
            cluster.set_outage_of(victim, Outage::Before);
            cluster.sim.run_for(pause);
            cluster.sim.heal_all();
            cluster.set_outage_of(victim, Outage::None);
        }
        3 => {
            machine.host.pause();
            cluster.sim.run_for(pause);
            machine.host.resume();
        }
        _ => {
            for index in 0..3 {
                cluster.machines[index].host.power_loss();
                cluster.crash(index);
            }
            cluster.sim.run_for(pause);
            for index in 0..3 {
                cluster.restart(index);
            }
        }
    }
}

fn storm(seed: u64) {
    let cluster = Cluster::with_gateway(seed, 3);
    cluster.create_container("c", 3);
    cluster.create_volume(3, "v", 16 * MIB);
    let device = cluster.device(0, "v");
    drop(device);
    let device = cluster.device(3, "v");
    let (model, stop) = (
        Rc::new(RefCell::new(Model::default())),
        Rc::new(Cell::new(false)),
    );
    let rng = cluster.sim.rng();
    let task = work(
        device.clone(),
        cluster.sim.rng(),
        model.clone(),
        stop.clone(),
    );
    cluster.machines[3].host.spawn(task);
    for _ in 0..6 {
        cluster
            .sim
            .run_for(Duration::from_millis(rng.next_u64() % 5000));
        strike(&cluster, &rng);
    }
    let before = model.borrow().writes;
    let goes_on = || model.borrow().writes > before + 100;
    assert!(
        cluster.sim.run_until(goes_on, Duration::from_secs(60)),
        "seed {seed}: no progress"
    );
    stop.set(true);
    cluster.sim.run_for(Duration::from_secs(5));
    for lba in 0..BLOCKS {
        let expected = model.borrow().acknowledged[lba as usize];
        assert_eq!(
            cluster.read(3, &device, lba),
            expected,
            "seed {seed}: block {lba}"
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_storms() {
    let first: u64 = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(100);
    let count: u64 = std::env::var("SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4);
    for seed in first..first + count {
        storm(seed);
    }
}
