//! Processes of the driver that are killed in the middle of a request, and requests whose time is up.

use super::driver::{Driver, Way};
use super::requests::*;
use crate::support::program;
use csi::v1::*;
use std::time::{Duration, Instant};
use tonic::{Code, Request, Response, Status};

/// How long a request may be repeated until it is carried out: a process that a killed plugin has started must end first.
const SETTLE_MAX: Duration = Duration::from_secs(20);

impl Driver {
    /// Sends a request and a little later, whatever became of it, kills a process of the driver and starts another
    /// (`restart`); then repeats the request until it is carried out.
    fn interrupt<T, F>(
        &mut self,
        delay: Duration,
        restart: fn(&mut Driver),
        ask: impl Fn(&Driver) -> F,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<Response<T>, Status>> + Send + 'static,
    {
        let asked = ask(self);
        self.block_on(async {
            let asked = tokio::spawn(asked);
            tokio::time::sleep(delay).await;
            drop(asked);
        });
        restart(self);
        self.repeat(ask);
    }

    /// Repeats a request until it is carried out.
    fn repeat<T, F>(&self, ask: impl Fn(&Driver) -> F)
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + SETTLE_MAX;
        while let Err(status) = self.wait(ask(self)) {
            assert!(Instant::now() < deadline, "it does not succeed: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn real_csi_plugin_that_is_killed_at_any_moment_leaves_nothing_behind() {
    if !can_attach() {
        return;
    }
    let mut driver = Driver::new("csi-killed");
    let node = driver.node_id();
    for milliseconds in [0, 4, 10, 25, 60, 120] {
        let delay = Duration::from_millis(milliseconds);
        let volume = driver.volume(&format!("pvc-{milliseconds}"), 64);
        let context = driver.publish(&volume, &node, false).unwrap();
        driver.interrupt(delay, Driver::restart_plugin, |driver| {
            let request = driver.stage_request(&volume, &context, mount("ext4"));
            let mut plugin = driver.plugin();
            async move { plugin.node_stage_volume(request).await }
        });
        driver.interrupt(delay, Driver::restart_plugin, |driver| {
            let mut request = driver.target_request(&volume, "target", mount("ext4"));
            // The way of most steps.
            request.readonly = true;
            let mut plugin = driver.plugin();
            async move { plugin.node_publish_volume(request).await }
        });
        assert!(std::fs::write(driver.directory.path("target/file"), "x").is_err());
        driver.interrupt(delay / 4, Driver::restart_plugin, |driver| {
            let request = NodeUnpublishVolumeRequest {
                volume_id: volume.clone(),
                target_path: driver.path("target"),
            };
            let mut plugin = driver.plugin();
            async move { plugin.node_unpublish_volume(request).await }
        });
        driver.interrupt(delay, Driver::restart_plugin, |driver| {
            let request = NodeUnstageVolumeRequest {
                volume_id: volume.clone(),
                staging_target_path: driver.path("staging"),
            };
            let mut plugin = driver.plugin();
            async move { plugin.node_unstage_volume(request).await }
        });
        driver.assert_clean();
        driver.unpublish(&volume, &node).unwrap();
        driver.delete(&volume).unwrap();
    }
}

#[test]
fn real_csi_controller_that_is_killed_at_any_moment_has_done_a_thing_once() {
    let mut driver = Driver::new("csi-killed-controller");
    let node = driver.node_id();
    for milliseconds in [0, 2, 5, 10] {
        let delay = Duration::from_millis(milliseconds);
        let name = format!("pvc-{milliseconds}");
        let create = |driver: &Driver| {
            let (mut client, request) = (driver.controller(), wanted(&name, 8));
            async move { client.create_volume(request).await }
        };
        driver.interrupt(delay, Driver::restart_controller, create);
        let volume = driver.volume(&name, 8);
        driver.interrupt(delay, Driver::restart_controller, |driver| {
            let request = driver.publish_request(&volume, &node);
            let mut client = driver.controller();
            async move { client.controller_publish_volume(request).await }
        });
        driver.interrupt(delay, Driver::restart_controller, |driver| {
            let request = CreateSnapshotRequest {
                source_volume_id: volume.clone(),
                name: name.clone(),
                ..Default::default()
            };
            let mut client = driver.controller();
            async move { client.create_snapshot(request).await }
        });
        driver.unpublish(&volume, &node).unwrap();
        let snapshot = driver.snapshot(&volume, &name).unwrap().snapshot_id;
        driver.delete_snapshot(&snapshot).unwrap();
        driver.interrupt(delay, Driver::restart_controller, |driver| {
            let request = DeleteVolumeRequest {
                volume_id: volume.clone(),
                ..Default::default()
            };
            let mut client = driver.controller();
            async move { client.delete_volume(request).await }
        });
    }
    let listed = driver.wait(
        driver
            .controller()
            .list_volumes(ListVolumesRequest::default()),
    );
    assert_eq!(listed.unwrap().entries, []);
    let listed = driver.wait(
        driver
            .controller()
            .list_snapshots(ListSnapshotsRequest::default()),
    );
    assert_eq!(listed.unwrap().entries, []);
}

/// A request with a deadline.
fn within<T>(milliseconds: u64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(milliseconds));
    request
}

#[test]
fn real_csi_request_whose_time_is_up_goes_on_and_is_picked_up() {
    if !can_attach() {
        return;
    }
    let mut driver = Driver::new("csi-late");
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    let context = driver.publish(&volume, &node, false).unwrap();
    let real = program(
        "sh",
        "dash",
        &["-c", "command -v mkfs.ext4 || echo /sbin/mkfs.ext4"],
    );
    let go = driver.path("go");
    let slow = format!(
        "while [ ! -e {go} ]; do sleep 0.01; done\nexec {} \"$@\"",
        real.trim()
    );
    let programs = driver.programs(&slow);
    driver.kill_plugin();
    driver.start_plugin(Way {
        programs: Some(&programs),
        ..Way::default()
    });
    let request = driver.stage_request(&volume, &context, mount("ext4"));
    let began = Instant::now();
    let late = within(700, request.clone());
    let late = driver.wait(driver.plugin().node_stage_volume(late));
    assert_refused(late, Code::DeadlineExceeded, &["goes on"]);
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    // Nothing else may happen to the volume meanwhile.
    assert_refused(
        driver.stage(&volume, &context, mount("ext4")),
        Code::Aborted,
        &[&volume],
    );
    assert_refused(driver.unstage(&volume), Code::Aborted, &[&volume]);
    std::fs::write(&go, "").unwrap();
    driver.repeat(|driver| {
        let (mut plugin, request) = (driver.plugin(), request.clone());
        async move { plugin.node_stage_volume(request).await }
    });
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    driver.assert_clean();
}

#[test]
fn real_csi_cluster_that_stands_still_is_answered_for_in_time_and_nothing_is_done_twice() {
    if !can_attach() {
        return;
    }
    let driver = Driver::new("csi-still");
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    let context = driver.publish(&volume, &node, false).unwrap();
    driver.node.signal("STOP");
    let began = Instant::now();
    let create = driver.wait(
        driver
            .controller()
            .create_volume(within(600, wanted("late", 8))),
    );
    assert_eq!(code(create), Code::DeadlineExceeded);
    let request = within(600, driver.stage_request(&volume, &context, mount("ext4")));
    let stage = driver.wait(driver.plugin().node_stage_volume(request));
    assert_eq!(code(stage), Code::DeadlineExceeded);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    driver.node.signal("CONT");
    driver.repeat(|driver| {
        let mut client = driver.controller();
        async move { client.create_volume(wanted("late", 8)).await }
    });
    let listed = driver.wait(
        driver
            .controller()
            .list_volumes(ListVolumesRequest::default()),
    );
    assert_eq!(listed.unwrap().entries.len(), 2);
    driver.repeat(|driver| {
        let request = driver.stage_request(&volume, &context, mount("ext4"));
        let mut plugin = driver.plugin();
        async move { plugin.node_stage_volume(request).await }
    });
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    driver.assert_clean();
}
