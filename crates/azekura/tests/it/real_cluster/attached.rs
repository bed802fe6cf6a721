//! Attached devices under fio while nodes and etcd fail. Needs root, /dev/fuse and loop devices.

use super::fio::{Fio, Task};
use super::scene::Scene;
use crate::support::attached::Attached;
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
        let scene = Scene::start(test, &["disk"]);
        let directory = &scene.cluster.directory;
        let node = scene.cluster.node(scene.gateway);
        let attached = ["disk-2", "disk-3"].map(|name| Attached::attach(directory, node, name));
        let fio = |attached: &Attached| {
            let (name, device) = (attached.volume, &attached.device);
            Fio::on_device(&directory.0, name, device, Task::WriteAndVerify)
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
