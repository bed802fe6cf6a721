//! Snapshots of several volumes at one point of time.

use super::driver::{Driver, Way, connect, start};
use super::requests::*;
use crate::support::cluster::{Cluster, NODES, wait_until};
use crate::support::nbd::Client;
use csi::v1::controller_client::ControllerClient;
use csi::v1::group_controller_client::GroupControllerClient;
use csi::v1::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Patience with one write.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// How long a group snapshot may hold back writes, and what a busy machine adds.
const PAUSE_MAX: Duration = Duration::from_millis(2000 + 1500);

fn group(name: &str, volumes: &[String]) -> CreateVolumeGroupSnapshotRequest {
    CreateVolumeGroupSnapshotRequest {
        name: name.to_owned(),
        source_volume_ids: volumes.to_vec(),
        secrets: secrets(),
        ..Default::default()
    }
}

impl Driver {
    fn group(&self, name: &str, volumes: &[String]) -> Result<VolumeGroupSnapshot, Status> {
        let mut client = self.groups();
        let taken = self.wait(client.create_volume_group_snapshot(group(name, volumes)));
        taken.map(|taken| taken.group_snapshot.expect("a group snapshot"))
    }

    fn delete_group(&self, id: &str, snapshots: &[String]) -> Result<(), Status> {
        let request = DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: id.to_owned(),
            snapshot_ids: snapshots.to_vec(),
            secrets: secrets(),
        };
        let mut client = self.groups();
        self.wait(client.delete_volume_group_snapshot(request))
            .map(drop)
    }

    fn get_group(&self, id: &str, snapshots: &[String]) -> Result<VolumeGroupSnapshot, Status> {
        let request = GetVolumeGroupSnapshotRequest {
            group_snapshot_id: id.to_owned(),
            snapshot_ids: snapshots.to_vec(),
            secrets: secrets(),
        };
        let mut client = self.groups();
        let found = self.wait(client.get_volume_group_snapshot(request));
        found.map(|found| found.group_snapshot.expect("a group snapshot"))
    }

    fn snapshots(&self) -> Vec<ListedSnapshot> {
        let listed = self.controller().list_snapshots_of(self);
        listed
            .into_iter()
            .map(|one| (one.snapshot_id, one.group_snapshot_id))
            .collect()
    }
}

/// Its handle and its group's.
type ListedSnapshot = (String, String);

trait Listed {
    fn list_snapshots_of(self, driver: &Driver) -> Vec<Snapshot>;
}

impl Listed for csi::v1::controller_client::ControllerClient<Channel> {
    fn list_snapshots_of(mut self, driver: &Driver) -> Vec<Snapshot> {
        let asked = self.list_snapshots(ListSnapshotsRequest::default());
        let entries = driver.wait(asked).unwrap().entries;
        entries
            .into_iter()
            .filter_map(|entry| entry.snapshot)
            .collect()
    }
}

#[test]
fn real_csi_group_snapshot_is_taken_once_and_deleted_as_a_whole() {
    let driver = Driver::new("csi-group");
    let volumes = ["one", "two"].map(|name| driver.volume(name, 8));
    let client = driver.groups();
    let taken = driver.at_once(|| {
        let mut client: GroupControllerClient<Channel> = client.clone();
        let request = group("g", &volumes);
        async move { client.create_volume_group_snapshot(request).await }
    });
    let taken = taken.group_snapshot.unwrap();
    assert!(taken.ready_to_use && taken.creation_time.is_some());
    let id = &taken.group_snapshot_id;
    let sources = taken
        .snapshots
        .iter()
        .map(|one| one.source_volume_id.clone());
    assert_eq!(sources.collect::<Vec<_>>(), volumes);
    assert!(
        taken
            .snapshots
            .iter()
            .all(|one| one.group_snapshot_id == *id)
    );
    let turned = [volumes[1].clone(), volumes[0].clone()];
    assert_eq!(driver.group("g", &turned).unwrap().group_snapshot_id, *id);
    let members: Vec<String> = taken
        .snapshots
        .iter()
        .map(|one| one.snapshot_id.clone())
        .collect();
    assert_eq!(driver.get_group(id, &members).unwrap(), taken);

    let single = &volumes[..1];
    assert_refused(driver.group("g", single), Code::AlreadyExists, &["g"]);
    let twice = [volumes[0].clone(), volumes[0].clone()];
    assert_refused(driver.group("h", &twice), Code::InvalidArgument, &["twice"]);
    assert_eq!(code(driver.group("h", &[])), Code::InvalidArgument);
    assert_eq!(code(driver.group("", &volumes)), Code::InvalidArgument);
    let foreign = [volumes[0].clone(), "elsewhere-v1".to_owned()];
    assert_refused(
        driver.group("h", &foreign),
        Code::NotFound,
        &["elsewhere-v1"],
    );
    let missing = [volumes[0].clone(), volumes[0].replace("-v", "-v9")];
    assert_eq!(code(driver.group("h", &missing)), Code::NotFound);
    let many = vec![volumes[0].clone(); 65];
    assert_refused(driver.group("h", &many), Code::InvalidArgument, &["64"]);
    // A member's name is taken: nothing is left of the group.
    driver.snapshot(&volumes[1], "taken").unwrap();
    assert_eq!(code(driver.group("taken", &volumes)), Code::AlreadyExists);

    let member = driver.delete_snapshot(&members[0]);
    assert_refused(member, Code::InvalidArgument, &[id]);
    let torn = &members[..1];
    assert_refused(
        driver.delete_group(id, torn),
        Code::InvalidArgument,
        &[&members[1]],
    );
    assert_refused(
        driver.get_group(id, torn),
        Code::InvalidArgument,
        &[&members[1]],
    );
    assert_eq!(driver.snapshots().len(), 3);
    driver.at_once(|| {
        let mut client: GroupControllerClient<Channel> = client.clone();
        let request = DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: id.clone(),
            snapshot_ids: members.clone(),
            secrets: secrets(),
        };
        async move { client.delete_volume_group_snapshot(request).await }
    });
    driver.delete_group(id, &members).unwrap();
    driver.delete_group("elsewhere-g1", &[]).unwrap();
    assert_eq!(code(driver.delete_group("", &[])), Code::InvalidArgument);
    for handle in [id, "elsewhere-g1"] {
        assert_eq!(code(driver.get_group(handle, &[])), Code::NotFound);
    }
    let left = driver.snapshots();
    assert!(left.len() == 1 && left[0].1.is_empty(), "{left:?}");
    driver.assert_clean();
}

/// Writes one block and makes it durable; how long that took.
fn write(client: &mut Client, number: u64) -> Duration {
    let began = Instant::now();
    let block: Vec<u8> = number.to_le_bytes().repeat(512);
    client.send_write(0, &block).unwrap();
    client.receive().unwrap().outcome.unwrap();
    client.send_flush().unwrap();
    client.receive().unwrap().outcome.unwrap();
    began.elapsed()
}

fn read(nbd: &str, volume: &str) -> u64 {
    let mut client = Client::connect(nbd, volume, WRITE_MAX).unwrap();
    client.send_read(0, 4096).unwrap();
    let block = client.receive().unwrap().outcome.unwrap();
    u64::from_le_bytes(block[..8].try_into().unwrap())
}

#[test]
fn real_csi_group_snapshot_is_one_point_of_writes_that_depend_on_each_other() {
    let driver = Driver::new("csi-point");
    let volumes = ["one", "two"].map(|name| driver.volume(name, 8));
    let stop = AtomicBool::new(false);
    let mut clients = ["one", "two"]
        .map(|name| Client::connect(&driver.node.nbd, name, WRITE_MAX).expect("an export"));
    let groups = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Relaxed) {
                number += 1;
                // The second is written when the first is durable.
                for client in &mut clients {
                    write(client, number);
                }
            }
            number
        });
        let groups: Vec<VolumeGroupSnapshot> = (0..6)
            .map(|round| driver.group(&format!("g{round}"), &volumes).unwrap())
            .collect();
        stop.store(true, Relaxed);
        assert!(writer.join().unwrap() > 6, "it wrote meanwhile");
        groups
    });
    let mut before = 0;
    for (round, taken) in groups.iter().enumerate() {
        let mut seen = [0, 0];
        for (index, snapshot) in taken.snapshots.iter().enumerate() {
            let name = format!("clone-{round}-{index}");
            let mut clone = wanted(&name, 0);
            clone.volume_content_source = from_snapshot(&snapshot.snapshot_id);
            driver.create(clone).unwrap();
            seen[index] = read(&driver.node.nbd, &name);
        }
        let [first, second] = seen;
        assert!(second <= first && first <= second + 1, "{seen:?}");
        assert!(before <= second, "{before} {seen:?}");
        before = first;
    }
}

/// The owner of one volume of the group stands still, so that the group cannot be taken; the other volume, whose writes
/// are held back already, must be let go by itself.
#[test]
fn real_csi_group_snapshot_that_cannot_be_taken_fails_and_holds_writes_back_two_seconds() {
    let cluster = Cluster::start("csi-pause");
    let through = cluster.node(0);
    through.ask(&["container", "create", "c", "--rf", "2"]);
    // The node that serves the first client of a volume owns it.
    let open = |index: usize, name: &str| {
        let words = ["volume", "create", name, "--container", "c"];
        through.ask(&[&words[..], &["--size", "8MiB"]].concat());
        let mut client = Client::connect(&cluster.node(index).nbd, name, WRITE_MAX).unwrap();
        write(&mut client, 1);
        assert_eq!(cluster.owner(name, 1), Some(index));
        client
    };
    let mut held = open(0, "held");
    let holders = cluster.log_nodes("held", 0);
    let apart = (0..NODES).find(|node| *node != 0 && !holders.contains(node));
    let apart = apart.expect("two of three nodes hold the log");
    open(apart, "still");

    let socket = cluster.directory.path("controller.sock");
    let api = &cluster.node(0).api;
    let _controller = start(&cluster.directory, "controller", api, Way::default());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    let channel = connect(&runtime, &socket);
    let mut client = ControllerClient::new(channel.clone());
    let listed = client.list_volumes(ListVolumesRequest::default());
    let entries = runtime.block_on(listed).unwrap().into_inner().entries;
    let volumes: Vec<String> = entries
        .into_iter()
        .map(|entry| entry.volume.unwrap().volume_id)
        .collect();
    let take = || {
        let mut request = Request::new(group("g", &volumes));
        request.set_timeout(Duration::from_secs(5));
        let mut client = GroupControllerClient::new(channel.clone());
        runtime.block_on(client.create_volume_group_snapshot(request))
    };
    cluster.node(apart).signal("STOP");
    let stop = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !stop.load(Relaxed) {
                longest = longest.max(write(&mut held, 2));
            }
            longest
        });
        let refused = take().expect_err("it cannot be taken");
        let late = [Code::Unavailable, Code::DeadlineExceeded].contains(&refused.code());
        assert!(late, "{refused}");
        stop.store(true, Relaxed);
        writer.join().unwrap()
    });
    println!("writes were held back {} ms at most", longest.as_millis());
    assert!(
        longest > Duration::from_millis(500),
        "they were held back: {longest:?}"
    );
    assert!(longest < PAUSE_MAX, "{longest:?}");
    cluster.node(apart).signal("CONT");
    wait_until("the group snapshot is taken", || take().is_ok());
    let listed = client.list_snapshots(ListSnapshotsRequest::default());
    let listed = runtime.block_on(listed).unwrap().into_inner().entries;
    assert_eq!(
        listed.len(),
        2,
        "nothing is left of those that failed: {listed:?}"
    );
}
