//! Undrained data is bounded over all volumes of a node, and writers are slowed fairly.

use crate::support::{Cluster, LIMIT, MIB};
use blockdev::{BlockDevice, WriteMode};
use bytes::Bytes;
use std::cell::Cell;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, Lba};
use world::Duration;

const ROOM: u64 = 8 * MIB;
/// Blocks of one write: below the bypass, so that all of it is undrained.
const BLOCKS: u64 = 16;
/// Each volume writes so many MiB: four times the room, all together.
const WRITTEN: u64 = 8 * MIB;

/// Writes as fast as it is let, 16 requests at a time.
fn write_all(cluster: &Cluster, device: &Rc<dyn BlockDevice>, written: &Rc<Cell<u64>>) {
    let next = Rc::new(Cell::new(0));
    for _ in 0..16 {
        let (device, next, written) = (device.clone(), next.clone(), written.clone());
        cluster.machines[0].host.spawn(async move {
            let bytes = BLOCKS * BLOCK_SIZE as u64;
            while next.get() * bytes < WRITTEN {
                let lba = Lba(next.replace(next.get() + 1) * BLOCKS);
                let data = vec![Bytes::from(vec![7; bytes as usize])];
                let done = device.write(lba, data, WriteMode::Buffered).await;
                done.unwrap_or_else(|error| panic!("writing {lba:?}: {error}"));
                written.set(written.get() + bytes);
            }
        });
    }
}

#[test]
fn volumes_share_the_room_of_their_node_fairly() {
    let cluster = Cluster::new(11, 2);
    cluster.create_container("c", 2);
    cluster.crash(0);
    cluster.machines[0].host.restart();
    let mut options = cluster.options_of(0);
    options.volume.undrained_node_bytes_max = ROOM;
    // Its own bound alone would let every volume fill the room.
    options.volume.undrained_bytes_max = ROOM;
    options.volume.drain_bytes = ROOM / 2;
    let node = cluster
        .try_start(0, options)
        .unwrap_or_else(|error| panic!("{error}"));
    let written: Vec<Rc<Cell<u64>>> = ["v", "w", "x", "y"]
        .map(|name| {
            cluster.create_volume(0, name, 64 * MIB);
            let (device, written) = (cluster.device(0, name), Rc::default());
            write_all(&cluster, &device, &written);
            written
        })
        .into();
    let most = Cell::new(0);
    let undrained = || {
        let volumes = node.volumes();
        volumes
            .iter()
            .map(|volume| volume.status().undrained.0)
            .sum::<u64>()
    };
    let done = |written: &Rc<Cell<u64>>| written.get() >= WRITTEN;
    let step = Duration::from_micros(500);
    let mut left = LIMIT.as_micros() / step.as_micros();
    while !written.iter().any(done) && left > 0 {
        cluster.sim.run_for(step);
        most.set(most.get().max(undrained()));
        left -= 1;
    }
    let least = written.iter().map(|written| written.get()).min();
    assert!(
        least >= Some(WRITTEN / 2),
        "one writer got {least:?} of {WRITTEN} bytes"
    );
    assert!(
        cluster.sim.run_until(|| written.iter().all(done), LIMIT),
        "writers stand still"
    );
    // Heads of records count in what volumes report, but are not known when a request is let in.
    let bound = ROOM + ROOM / 50;
    assert!(
        (ROOM / 2..=bound).contains(&most.get()),
        "{} bytes were undrained",
        most.get()
    );
}
