//! Attached devices under fio while nodes and etcd fail. Needs root, /dev/fuse and loop devices.

use super::fio::{Fio, Task};
use super::scene::Scene;
use crate::support::Node;
use crate::support::attached::Attached;
use crate::support::cluster::{NODES, wait_until};
use std::time::Duration;

/// Time between two events, in which fio writes.
const PAUSE: Duration = Duration::from_secs(2);

/// A scene with two attached volumes under fio. Fields end in this order: fio before its device.
struct Devices {
    fios: Vec<Fio>,
    attached: Vec<Attached>,
    scene: Scene,
    test: &'static str,
}

impl Devices {
    fn start(test: &'static str) -> Self {
        Self::start_with(test, Task::WriteAndVerify)
    }

    fn start_with(test: &'static str, task: Task) -> Self {
        let scene = Scene::start(test, &["disk"]);
        let directory = &scene.cluster.directory;
        let node = scene.cluster.node(scene.gateway);
        let attached = ["disk-2", "disk-3"].map(|name| Attached::attach(directory, node, name));
        let fio = |attached: &Attached| {
            let (name, device) = (attached.volume, &attached.device);
            Fio::on_device(&directory.0, name, device, task)
        };
        let fios = attached.iter().map(fio).collect();
        let mut devices = Self {
            fios,
            attached: attached.into(),
            scene,
            test,
        };
        devices.pause();
        devices
    }

    /// Lets fio write for a while.
    fn pause(&mut self) {
        std::thread::sleep(PAUSE);
        self.fios.iter_mut().for_each(Fio::assert_running);
    }

    /// Waits until fio has verified every byte, and detaches.
    fn finish(mut self) {
        for (fio, rf) in self.fios.drain(..).zip([2, 3]) {
            let longest = fio.finish().expect("it wrote").as_secs_f64() * 1000.0;
            println!(
                "{}: attached RF{rf} volume verified; longest write {longest:.0} ms",
                self.test
            );
        }
        let node = self.scene.cluster.node(self.scene.gateway);
        for attached in &self.attached {
            attached.detach(node);
            assert!(attached.has_ended());
        }
    }
}

#[test]
fn real_attached_devices_go_on_when_a_replica_is_killed_and_comes_back() {
    let mut devices = Devices::start("attached-replica-killed");
    let replica = devices.scene.replica;
    devices.scene.cluster.kill_nodes(&[replica]);
    devices.pause();
    devices.scene.cluster.start_nodes(&[replica]);
    devices.finish();
}

#[test]
fn real_attached_devices_go_on_when_the_owner_is_killed_and_comes_back() {
    let mut devices = Devices::start("attached-owner-killed");
    let owner = devices.scene.owner;
    devices.scene.cluster.kill_nodes(&[owner]);
    devices.pause();
    devices.scene.wait_for_takeover("disk-2");
    devices.scene.cluster.start_nodes(&[owner]);
    devices.finish();
}

#[test]
fn real_attached_devices_go_on_while_etcd_is_dead_and_after_its_restart() {
    let mut devices = Devices::start("attached-etcd-killed");
    devices.scene.cluster.etcd.kill();
    devices.pause();
    devices.scene.cluster.etcd.restart();
    devices.finish();
}

#[test]
fn real_attached_devices_wait_for_nodes_that_were_all_killed() {
    let mut devices = Devices::start("attached-all-killed");
    devices.scene.cluster.kill_nodes(&[0, 1, 2]);
    devices.pause();
    devices.scene.cluster.start_nodes(&[0, 1, 2]);
    devices.finish();
}

#[test]
fn real_attached_devices_go_on_when_a_replica_and_then_the_owner_are_stopped() {
    let mut devices = Devices::start("attached-stopped");
    let (replica, owner) = (devices.scene.replica, devices.scene.owner);
    devices.scene.cluster.node(replica).signal("STOP");
    devices.pause();
    devices.scene.cluster.node(replica).signal("CONT");
    devices.pause();
    devices.scene.cluster.node(owner).signal("STOP");
    devices.pause();
    devices.scene.wait_for_takeover("disk-2");
    devices.scene.cluster.node(owner).signal("CONT");
    devices.finish();
}

/// The cluster's level, and how many of its nodes know level 2.
fn levels(node: &Node) -> (u64, usize) {
    let cluster = node.ask(&["cluster", "show"]);
    let nodes = cluster["nodes"].as_array().unwrap().iter();
    let upgraded = nodes.filter(|node| node["level"] == 2).count();
    (cluster["level"].as_u64().unwrap(), upgraded)
}

#[test]
fn real_attached_devices_go_on_while_all_nodes_are_upgraded_one_after_the_other() {
    let mut devices = Devices::start_with("attached-upgrade", Task::WriteSlowlyAndVerify);
    for index in 0..NODES {
        let cluster = &mut devices.scene.cluster;
        let upgraded = cluster.upgrade_node(index, "1-2", |cluster| {
            std::thread::sleep(PAUSE);
            let other = cluster.node((index + 1) % NODES);
            assert_eq!(levels(other), (1, index), "nodes of two releases");
        });
        upgraded.expect("it starts as the next release");
        wait_until("everything has its copies again", || {
            let status = devices.scene.cluster.node(index).try_ask(&["status"]);
            status.is_some_and(|status| status["verdict"] == "ok")
        });
        devices.pause();
    }
    wait_until("the cluster is at the new level", || {
        (0..NODES).all(|index| levels(devices.scene.cluster.node(index)) == (2, NODES))
    });
    let cluster = &mut devices.scene.cluster;
    // The first release cannot come back.
    let refused = cluster.upgrade_node(0, "1", |_| ()).unwrap_err();
    assert!(refused.contains("the cluster is at level 2"), "{refused}");
    cluster.start_nodes_as(&[0], &["--levels", "1-2"]);
    devices.finish();
}
