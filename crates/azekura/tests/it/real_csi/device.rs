//! Block devices, and what may not be formatted.

use super::driver::{Driver, Way};
use super::requests::*;
use crate::support::program;
use csi::v1::volume_usage::Unit;
use csi::v1::*;
use std::fs::File;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tonic::Code;

/// `O_EXCL`: of a block device it is the right to use it alone, which mkfs and mount take.
const ALONE: i32 = 0o200;
/// The label that says that a formatting was begun.
const FORMATTING: &str = "csi.azekura.dev/formatting";

/// Labels a volume, through the API.
fn label(api: &str, volume: &str, key: &str, value: &str) {
    use std::io::{Read, Write};
    let address = api.strip_prefix("http://").expect("a URL");
    let body = serde_json::json!({"labels": {key: value}}).to_string();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request = format!(
        "PATCH /api/v1/volumes/{volume} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn real_csi_block_volume_with_data_is_not_formatted() {
    if !can_attach() {
        return;
    }
    let driver = Driver::new("csi-block");
    let volume = driver.create(wanted_block("pvc", 64)).unwrap().volume_id;
    let node = driver.node_id();
    let context = driver.publish(&volume, &node, false).unwrap();
    // As a formatting that was interrupted leaves it: what is written to the block device must survive that, too.
    label(&driver.node.api, "pvc", FORMATTING, "ext4");
    driver.stage(&volume, &context, block()).unwrap();
    std::fs::create_dir(driver.directory.path("folder")).unwrap();
    let on_folder = driver.target(&volume, "folder", block());
    assert_refused(on_folder, Code::InvalidArgument, &["directory"]);
    let reading = driver.target_read_only(&volume, "device", block());
    assert_refused(reading, Code::InvalidArgument, &["ReadOnlyMany"]);
    for _ in 0..2 {
        driver.target(&volume, "device", block()).unwrap();
    }
    let device = driver.directory.path("device");
    let kind = std::fs::metadata(&device).unwrap().file_type();
    assert!(kind.is_block_device());
    let file = File::options().write(true).open(&device).unwrap();
    file.write_all_at(&[7; 4096], 0).unwrap();
    file.sync_all().unwrap();
    // In use by a workload: a block device has no mount to be busy.
    assert_eq!(code(driver.unstage(&volume)), Code::FailedPrecondition);
    drop(file);
    grow_and_measure(&driver, &volume);
    driver.untarget(&volume, "device").unwrap();
    let refused = driver.stage(&volume, &context, mount("ext4"));
    assert_refused(
        refused,
        Code::FailedPrecondition,
        &["not formatted", "byte 0"],
    );
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    driver.assert_clean();
    driver.delete(&volume).unwrap();
}

fn grow_and_measure(driver: &Driver, volume: &str) {
    driver.expand(volume, 128 * MIB).unwrap();
    // By the path of the workload, and by that of the staging.
    for path in ["device", "staging"] {
        let request = NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: driver.path(path),
            staging_target_path: driver.path("staging"),
            volume_capability: Some(block()),
            ..Default::default()
        };
        let grown = driver.wait(driver.plugin().node_expand_volume(request));
        assert_eq!(grown.unwrap().capacity_bytes, 128 * MIB);
    }
    let stats = driver.stats(volume, "device").unwrap();
    let usage = &stats.usage[0];
    assert_eq!((usage.total, usage.unit), (128 * MIB, Unit::Bytes.into()));
    assert!(!stats.volume_condition.unwrap().abnormal);
}

/// A volume that was published to this node, and nothing else.
fn published(driver: &Driver) -> (String, Context) {
    let volume = driver.volume("pvc", 64);
    let context = driver.publish(&volume, &driver.node_id(), false).unwrap();
    (volume, context)
}

#[test]
fn real_csi_device_with_the_data_of_somebody_is_never_formatted() {
    if !can_attach() {
        return;
    }
    let driver = Driver::new("csi-data");
    let (volume, context) = published(&driver);
    driver.stage(&volume, &context, block()).unwrap();
    let device = File::options()
        .read(true)
        .write(true)
        .open(driver.device())
        .unwrap();
    let size = u64::try_from(64 * MIB).unwrap();
    // At the start, at the end, where backups of a superblock lie.
    for offset in [0, 4096 * 3, size - 512, 8193 << 10] {
        device.write_all_at(b"somebody's", offset).unwrap();
        let refused = driver.stage(&volume, &context, mount("ext4"));
        assert_refused(refused, Code::FailedPrecondition, &["not formatted"]);
        let mut kept = [0; 10];
        device.read_exact_at(&mut kept, offset).unwrap();
        assert_eq!(&kept, b"somebody's");
        device.write_all_at(&[0; 10], offset).unwrap();
    }
    let path = driver.device().to_str().unwrap().to_owned();
    for (tool, package, words, kind) in [
        ("mkswap", "util-linux", &[][..], "swap"),
        ("mkfs.xfs", "xfsprogs", &["-q", "-f", "-K"], "xfs"),
    ] {
        if tool == "mkfs.xfs" {
            driver.expand(&volume, 320 * MIB).unwrap();
            driver.expand_block(&volume);
        }
        program(tool, package, &[words, &[&path]].concat());
        let refused = driver.stage(&volume, &context, mount("ext4"));
        assert_refused(refused, Code::FailedPrecondition, &["not formatted", kind]);
    }
    drop(device);
    // It is used as it is when nothing else is asked for.
    driver.stage(&volume, &context, mount("")).unwrap();
    let ext4 = driver.stage(&volume, &context, mount("ext4"));
    assert_refused(ext4, Code::AlreadyExists, &["xfs"]);
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, "").unwrap();
    driver.assert_clean();
}

impl Driver {
    fn expand_block(&self, volume: &str) {
        let request = NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: self.path("staging"),
            staging_target_path: self.path("staging"),
            ..Default::default()
        };
        self.wait(self.plugin().node_expand_volume(request))
            .unwrap();
    }

    /// A folder with an `mkfs.ext4` of the test's own.
    pub fn programs(&self, mkfs: &str) -> PathBuf {
        let folder = self.directory.path("programs");
        std::fs::create_dir_all(&folder).unwrap();
        let script = folder.join("mkfs.ext4");
        std::fs::write(&script, format!("#!/bin/sh\n{mkfs}\n")).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        folder
    }
}

/// Waits for what a program is going to do.
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Half a file system, its first superblock already there, is what a kill in the middle leaves.
#[test]
fn real_csi_formatting_that_is_killed_is_done_again() {
    if !can_attach() {
        return;
    }
    let mut driver = Driver::new("csi-half");
    let (volume, context) = published(&driver);
    let real = program(
        "sh",
        "dash",
        &["-c", "command -v mkfs.ext4 || echo /sbin/mkfs.ext4"],
    );
    let half = format!(
        "{} \"$@\" && for last; do :; done\n\
         dd if=/dev/zero of=\"$last\" bs=4096 seek=1 count=64 conv=fsync,notrunc status=none\n\
         echo $$ > {}\nexec sleep 600",
        real.trim(),
        driver.path("formatting")
    );
    let programs = driver.programs(&half);
    driver.kill_plugin();
    driver.start_plugin(Way {
        programs: Some(&programs),
        ..Way::default()
    });
    let request = driver.stage_request(&volume, &context, mount("ext4"));
    let mut client = driver.plugin();
    let marker = driver.directory.path("formatting");
    driver.block_on(async {
        let asked = tokio::spawn(async move { client.node_stage_volume(request).await });
        tokio::task::spawn_blocking(move || wait_for("formatting", || marker.exists()))
            .await
            .unwrap();
        asked.abort();
    });
    driver.kill_plugin();
    let pid = std::fs::read_to_string(driver.directory.path("formatting")).unwrap();
    crate::support::process::signal(pid.trim().parse().unwrap(), "KILL");
    let shown = driver.node.ask(&["volume", "show", "pvc"]);
    assert_eq!(shown["labels"][FORMATTING], "ext4");
    driver.start_plugin(Way::default());
    driver.stage(&volume, &context, mount("ext4")).unwrap();
    std::fs::write(driver.directory.path("staging/file"), "kept").unwrap();
    let shown = driver.node.ask(&["volume", "show", "pvc"]);
    assert!(shown["labels"].get(FORMATTING).is_none(), "{shown}");
    driver.unstage(&volume).unwrap();
    // It was formatted once more, and not ever since.
    driver.stage(&volume, &context, mount("ext4")).unwrap();
    let kept = std::fs::read_to_string(driver.directory.path("staging/file"));
    assert_eq!(kept.unwrap(), "kept");
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, "").unwrap();
    driver.assert_clean();
}

/// A program of a plugin that was killed may go on: two at once would destroy each other's work.
#[test]
fn real_csi_device_that_a_program_still_works_on_is_waited_for() {
    if !can_attach() {
        return;
    }
    let mut driver = Driver::new("csi-orphan");
    let (volume, context) = published(&driver);
    let programs = driver.programs("echo it fails >&2; exit 1");
    driver.kill_plugin();
    driver.start_plugin(Way {
        programs: Some(&programs),
        ..Way::default()
    });
    let failed = driver.stage(&volume, &context, mount("ext4"));
    assert_refused(failed, Code::Internal, &["mkfs.ext4", "it fails"]);
    driver.restart_plugin();
    let mut options = File::options();
    let held = options.read(true).write(true).custom_flags(ALONE);
    let held = held.open(driver.device()).unwrap();
    let busy = driver.stage(&volume, &context, mount("ext4"));
    assert_refused(busy, Code::Aborted, &["another program"]);
    drop(held);
    driver.stage(&volume, &context, mount("ext4")).unwrap();
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, "").unwrap();
    driver.assert_clean();
}
