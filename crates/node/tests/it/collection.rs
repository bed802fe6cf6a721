//! Garbage collection has a share of the disks while clients go on, and no more.

use crate::support::{Cluster, MIB, container_spec};
use api::{CompressionName, ContainerSpec, Operation};
use blockdev::{BlockDevice, WriteMode};
use bytes::Bytes;
use node::HostOptions;
use std::cell::Cell;
use std::rc::Rc;
use vocab::{BLOCK_SIZE, Lba};
use world::Duration;

/// Extents that become garbage for the most part. Each is one write past the journal.
const EXTENTS: u64 = 500;
/// Blocks of each, and of those that are overwritten.
const BLOCKS: u64 = 16;
const OVERWRITTEN: u64 = 10;
/// How long it is measured: ten collections, each with a tenth of the time.
const WINDOW: Duration = Duration::from_secs(100);
/// Pause of clients between two requests.
const THINK: Duration = Duration::from_millis(20);
/// Pause of the collection after each rewrite.
const PACE: Duration = Duration::from_millis(100);
const PERCENT: u32 = 10;

fn collects(options: &mut HostOptions, interval: Duration, percent: u32) {
    options.volume.bypass_bytes = BLOCKS as usize * BLOCK_SIZE;
    options.scrub.interval = Duration::from_secs(100_000);
    options.collect.interval = interval;
    options.collect.duty_percent = percent;
    options.collect.limits.pace = PACE;
    options.collect.limits.rewrite_for = Duration::from_secs(1);
}

fn never(options: &mut HostOptions) {
    collects(options, Duration::from_secs(100_000), PERCENT);
}

fn in_its_share(options: &mut HostOptions) {
    collects(options, Duration::from_secs(1), PERCENT);
}

fn without_a_share(options: &mut HostOptions) {
    collects(options, Duration::from_secs(1), 100);
}

async fn fill(device: &Rc<dyn BlockDevice>, lba: u64, blocks: u64) {
    let data = vec![Bytes::from(vec![7; blocks as usize * BLOCK_SIZE])];
    let done = device.write(Lba(lba), data, WriteMode::Buffered).await;
    done.unwrap_or_else(|error| panic!("writing {lba}: {error}"));
}

/// What happened in the window.
#[derive(Debug)]
struct Measured {
    /// Bytes that each disk moved.
    moved: Vec<u64>,
    /// Requests of the client.
    requests: u64,
}

fn measure(change: fn(&mut HostOptions)) -> Measured {
    let cluster = Cluster::with_options(17, 2, change);
    let spec = ContainerSpec {
        rf: 2,
        compression: CompressionName::Off,
        ..container_spec("c")
    };
    cluster.operate(0, Operation::ContainerCreate(spec));
    cluster.create_volume(0, "v", 128 * MIB);
    let device = cluster.device(0, "v");
    let filled = device.clone();
    cluster.run(0, async move {
        for extent in 0..EXTENTS {
            fill(&filled, extent * BLOCKS, BLOCKS).await;
        }
        for extent in 0..EXTENTS {
            fill(&filled, extent * BLOCKS, OVERWRITTEN).await;
        }
    });
    let name = || "v".to_owned();
    cluster.operate(0, Operation::VolumeDrain { name: name() });
    let (requests, world) = (Rc::new(Cell::new(0)), cluster.machines[0].host.world());
    let done = requests.clone();
    cluster.machines[0].host.spawn(async move {
        loop {
            let lba = EXTENTS * BLOCKS + done.get() % 64;
            fill(&device, lba, 1).await;
            let read = device.read(Lba(done.get() % EXTENTS * BLOCKS), BLOCKS as u32);
            read.await
                .unwrap_or_else(|error| panic!("reading: {error}"));
            done.set(done.get() + 1);
            world.sleep(THINK).await;
        }
    });
    let moved = || { cluster.machines.iter() }.map(|machine| machine.moved.get());
    let (before, already) = (moved().collect::<Vec<_>>(), requests.get());
    cluster.sim.run_for(WINDOW);
    let moved = moved().zip(before).map(|(now, before)| now - before);
    Measured {
        moved: moved.collect(),
        requests: requests.get() - already,
    }
}

#[test]
fn collection_has_its_share_of_the_disks_and_no_more() {
    let [without, bounded, unbounded] = [never, in_its_share, without_a_share].map(measure);
    // One rewrite reads an extent and writes what is left of it, with a head each and a batch of the journal.
    let bytes = (BLOCKS + (BLOCKS - OVERWRITTEN) + 8) * BLOCK_SIZE as u64;
    let rewrites = WINDOW.as_millis() * u128::from(PERCENT) / 100 / PACE.as_millis();
    let share = rewrites as u64 * bytes;
    let taken = |measured: &Measured| -> Vec<u64> {
        let pairs = measured.moved.iter().zip(&without.moved);
        pairs
            .map(|(with, without)| with.saturating_sub(*without))
            .collect()
    };
    for (index, taken) in taken(&bounded).into_iter().enumerate() {
        assert!(
            (share / 4..=share).contains(&taken),
            "disk {index}: collection moved {taken} bytes of {share}"
        );
        assert!(
            taken < without.moved[index] / 4,
            "disk {index}: {taken} bytes beside {} of clients",
            without.moved[index]
        );
    }
    assert!(
        taken(&unbounded).iter().all(|taken| *taken > share * 2),
        "there is garbage for more: {unbounded:?} and {without:?}"
    );
    // Clients do not notice.
    let least = without.requests - without.requests / 50;
    assert!(bounded.requests >= least, "{bounded:?} and {without:?}");
}
