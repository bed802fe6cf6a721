//! Nodes that serve nothing get volumes again, without a client noticing more than a moment.

use crate::support::{Client, Cluster, MIB};
use api::{MemberChange, Operation};
use catalog_kv::memory::Outage;
use node::{EvenOptions, HostOptions};
use world::Duration;

const VOLUMES: usize = 6;

/// Longer than everything that these tests wait for but moves.
const SETTLED: Duration = Duration::from_secs(60);

fn even(options: &mut HostOptions) {
    options.even_owners = Some(EvenOptions {
        settle: Duration::from_secs(5),
        interval: Duration::from_secs(2),
        move_pause: Duration::from_secs(1),
    });
}

fn name_of(volume: usize) -> String {
    format!("v{volume}")
}

/// Three nodes, and volumes with a written block that the first serves.
fn crowded(seed: u64, change: fn(&mut HostOptions)) -> Cluster {
    let cluster = Cluster::with_options(seed, 3, change);
    cluster.create_container("c", 2);
    for volume in 0..VOLUMES {
        let name = name_of(volume);
        cluster.create_volume(0, &name, 4 * MIB);
        let device = cluster.device(0, &name);
        cluster.write(0, &device, 0, volume as u8 + 1);
    }
    cluster
}

/// How many volumes each node serves, as they say themselves.
fn served(cluster: &Cluster) -> [usize; 3] {
    [0, 1, 2].map(|index| cluster.node(index).volumes().len())
}

#[test]
fn volumes_go_to_nodes_that_serve_none_and_keep_what_was_written() {
    let cluster = crowded(61, even);
    let device = cluster.device(0, "v0");
    let done = cluster
        .sim
        .run_until(|| served(&cluster) == [2, 2, 2], Duration::from_secs(120));
    assert!(done, "{:?}", served(&cluster));
    for volume in 0..VOLUMES {
        let device = cluster.device(1, &name_of(volume));
        assert_eq!(cluster.read(1, &device, 0), volume as u8 + 1);
    }
    // A device that was open all the while goes on.
    cluster.write(0, &device, 1, 77);
    assert_eq!(cluster.read(0, &device, 1), 77);
    cluster.sim.run_for(SETTLED);
    assert_eq!(served(&cluster), [2, 2, 2], "and there they stay");
}

#[test]
fn a_client_reads_and_writes_while_its_volume_moves() {
    let cluster = crowded(62, even);
    let client = Client::open(&cluster, 1, "v3", 0).expect("nobody else has it");
    let mut owners = Vec::new();
    for fill in 1..60 {
        client.write(fill).expect("it waits for the next owner");
        assert_eq!(client.read(), Ok(fill));
        cluster.sim.run_for(Duration::from_secs(1));
        // Between two owners it has none.
        owners.extend(cluster.show(0, "v3").owner);
    }
    owners.dedup();
    assert!(owners.len() <= 2, "it moved more than once: {owners:?}");
    assert_eq!(served(&cluster), [2, 2, 2]);
}

#[test]
fn a_catalog_that_fails_while_a_volume_is_drained_keeps_it_where_it_is() {
    let quiet = crowded(64, even);
    let begin = quiet.sim.now();
    let first = || quiet.node(0).volumes().len() < VOLUMES;
    assert!(quiet.sim.run_until(first, Duration::from_secs(120)));
    let moved = quiet.sim.now().since(begin);
    drop(quiet);
    for before_us in [100, 500, 2000, 10_000] {
        let cluster = crowded(64, even);
        cluster
            .sim
            .run_for(moved.saturating_sub(Duration::from_micros(before_us)));
        assert_eq!(cluster.node(0).volumes().len(), VOLUMES);
        cluster.set_outage_of(0, Outage::Before);
        cluster.sim.run_for(Duration::from_millis(1200));
        let stays = cluster.node(0).volumes().len();
        assert_eq!(stays, VOLUMES, "{before_us} us before the move");
        cluster.set_outage_of(0, Outage::None);
        let done = cluster
            .sim
            .run_until(|| served(&cluster) == [2, 2, 2], Duration::from_secs(120));
        assert!(done, "{:?}", served(&cluster));
    }
}

#[test]
fn nothing_moves_while_a_node_is_in_maintenance_or_away() {
    let cluster = crowded(63, even);
    let excuse = |minutes| Operation::NodeSet {
        name: "c".to_owned(),
        change: MemberChange {
            maintenance_minutes: Some(minutes),
            ..MemberChange::default()
        },
    };
    cluster.operate(0, excuse(60));
    cluster.crash(2);
    cluster.sim.run_for(SETTLED);
    let two = [0, 1].map(|index| cluster.node(index).volumes().len());
    assert_eq!(two, [VOLUMES, 0], "a node is away");
    cluster.restart(2);
    cluster.sim.run_for(SETTLED);
    assert_eq!(served(&cluster), [VOLUMES, 0, 0], "it is in maintenance");
    cluster.operate(0, excuse(0));
    let done = cluster
        .sim
        .run_until(|| served(&cluster) == [2, 2, 2], Duration::from_secs(120));
    assert!(done, "{:?}", served(&cluster));
}
