//! The way of a claim into a workload's directory: staged, published, grown, measured, and back.

use super::driver::Driver;
use super::requests::*;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_usage::Unit;
use csi::v1::*;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use tonic::Code;

/// Every step is done several times at once, the plugin killed, the step repeated, and the next one done.
#[test]
fn real_csi_claim_is_mounted_though_the_plugin_dies_between_all_steps() {
    if !can_attach() {
        return;
    }
    for fs_type in ["ext4", "xfs"] {
        let mut driver = Driver::new(&format!("csi-mount-{fs_type}"));
        let volume = driver.volume("pvc", 400);
        let node = driver.node_id();
        let context = driver.publish(&volume, &node, false).unwrap();
        let client = driver.plugin();
        driver.at_once(|| {
            let request = driver.stage_request(&volume, &context, mount(fs_type));
            let mut client = client.clone();
            async move { client.node_stage_volume(request).await }
        });
        driver.restart_plugin();
        driver.stage(&volume, &context, mount(fs_type)).unwrap();
        driver.restart_plugin();
        let client = driver.plugin();
        driver.at_once(|| {
            let request = driver.target_request(&volume, "target", mount(fs_type));
            let mut client = client.clone();
            async move { client.node_publish_volume(request).await }
        });
        driver.restart_plugin();
        driver.target(&volume, "target", mount(fs_type)).unwrap();
        let second = driver.target(&volume, "second", mount(fs_type));
        assert_refused(
            second,
            Code::FailedPrecondition,
            &["target", "one workload"],
        );
        std::fs::write(driver.directory.path("target/file"), "kept").unwrap();
        assert_eq!(code(driver.unstage(&volume)), Code::FailedPrecondition);
        if fs_type == "xfs" || can_grow_ext4() {
            grow(&mut driver, &volume);
        }
        for _ in 0..2 {
            driver.untarget(&volume, "target").unwrap();
            driver.restart_plugin();
        }
        read_only(&driver, &volume, &context, fs_type);
        for _ in 0..2 {
            driver.unstage(&volume).unwrap();
            driver.restart_plugin();
        }
        for _ in 0..2 {
            driver.unpublish(&volume, &node).unwrap();
            driver.restart_controller();
        }
        driver.assert_clean();
        driver.delete(&volume).unwrap();
    }
}

fn grow(driver: &mut Driver, volume: &str) {
    let bytes = 600 * MIB;
    let early = driver.expand_on_node(volume, "target", bytes);
    assert_refused(early, Code::OutOfRange, &["controller first"]);
    assert_eq!(driver.expand(volume, bytes).unwrap(), bytes);
    driver.restart_plugin();
    for _ in 0..2 {
        assert_eq!(
            driver.expand_on_node(volume, "target", bytes).unwrap(),
            bytes
        );
        driver.restart_plugin();
    }
    let stats = driver.stats(volume, "target").unwrap();
    assert!(stats.usage[0].total > 450 * MIB, "{stats:?}");
    assert!(!stats.volume_condition.unwrap().abnormal);
}

fn read_only(driver: &Driver, volume: &str, context: &Context, fs_type: &str) {
    driver.stage(volume, context, mount(fs_type)).unwrap();
    for _ in 0..2 {
        driver
            .target_read_only(volume, "readonly", mount(fs_type))
            .unwrap();
    }
    let writable = driver.target(volume, "readonly", mount(fs_type));
    assert_refused(writable, Code::AlreadyExists, &["another way"]);
    let file = driver.directory.path("readonly/file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    assert!(std::fs::write(&file, "x").is_err());
    driver.untarget(volume, "readonly").unwrap();
    assert!(!driver.directory.path("readonly").exists());
}

/// A claim that is staged.
struct Staged {
    driver: Driver,
    volume: String,
    node: String,
    context: Context,
}

impl Staged {
    fn new(test: &str, capability: VolumeCapability) -> Self {
        let driver = Driver::new(test);
        let volume = driver.volume("pvc", 64);
        let node = driver.node_id();
        let context = driver.publish(&volume, &node, false).unwrap();
        driver.stage(&volume, &context, capability).unwrap();
        Self {
            driver,
            volume,
            node,
            context,
        }
    }

    /// Takes everything back and looks whether anything is left.
    fn finish(self) {
        self.driver.unstage(&self.volume).unwrap();
        self.driver.unpublish(&self.volume, &self.node).unwrap();
        self.driver.delete(&self.volume).unwrap();
        self.driver.assert_clean();
    }
}

#[test]
fn real_csi_workloads_of_one_node_share_a_volume_when_the_mode_says_so() {
    if !can_attach() {
        return;
    }
    let shared = mount_as(Mode::SingleNodeMultiWriter, "ext4");
    let staged = Staged::new("csi-shared", shared.clone());
    let (driver, volume) = (&staged.driver, &staged.volume);
    for target in ["a", "b"] {
        driver.target(volume, target, shared.clone()).unwrap();
    }
    driver.target_read_only(volume, "c", shared).unwrap();
    std::fs::write(driver.directory.path("a/file"), "seen").unwrap();
    for target in ["b", "c"] {
        let seen = std::fs::read_to_string(driver.directory.path(target).join("file"));
        assert_eq!(seen.unwrap(), "seen");
    }
    for target in ["a", "b", "c"] {
        driver.untarget(volume, target).unwrap();
    }
    staged.finish();
}

#[test]
fn real_csi_volume_for_readers_is_read_by_all_and_written_by_none() {
    if !can_attach() {
        return;
    }
    let driver = Driver::new("csi-read");
    let volume = driver.volume("pvc", 64);
    let node = driver.node_id();
    let readers = mount_as(Mode::MultiNodeReaderOnly, "ext4");
    // Blank: there is nothing to read, and nobody may format it.
    let context = driver.publish(&volume, &node, true).unwrap();
    let blank = driver.stage(&volume, &context, readers.clone());
    assert_refused(blank, Code::FailedPrecondition, &["blank", "writing once"]);
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();

    let context = driver.publish(&volume, &node, false).unwrap();
    driver.stage(&volume, &context, mount("ext4")).unwrap();
    std::fs::write(driver.directory.path("staging/file"), "read me").unwrap();
    let reading = [
        ("generation", &*context["generation"]),
        ("readOnly", "true"),
    ];
    let reading = reading
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let other = driver.stage(&volume, &reading, readers.clone());
    assert_refused(other, Code::AlreadyExists, &["writing", "unstage"]);
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();

    let context = driver.publish(&volume, &node, true).unwrap();
    driver.stage(&volume, &context, readers.clone()).unwrap();
    for target in ["a", "b"] {
        driver.target(&volume, target, readers.clone()).unwrap();
        let file = driver.directory.path(target).join("file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "read me");
        assert!(std::fs::write(&file, "x").is_err());
    }
    let device = std::fs::File::options().write(true).open(driver.device());
    let written = device.and_then(|device| device.write_all_at(&[1; 4096], 0));
    assert!(written.is_err(), "the device may not be written either");
    for target in ["a", "b"] {
        driver.untarget(&volume, target).unwrap();
    }
    driver.unstage(&volume).unwrap();
    driver.unpublish(&volume, &node).unwrap();
    driver.assert_clean();
}

#[test]
fn real_csi_volume_is_given_to_the_group_of_the_workload() {
    if !can_attach() {
        return;
    }
    let with_group = |group: &str| mount_with(&["noatime"], group);
    let staged = Staged::new("csi-group-id", with_group("4242"));
    let (driver, volume) = (&staged.driver, &staged.volume);
    driver.target(volume, "target", with_group("4242")).unwrap();
    let target = driver.directory.path("target");
    let about = std::fs::metadata(&target).unwrap();
    assert_eq!((about.gid(), about.mode() & 0o2070), (4242, 0o2070));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|line| line.contains(&driver.path("target")));
    assert!(line.unwrap().contains("noatime"), "{line:?}");
    // What others own is given too, a link is not followed, and nothing is lost.
    let (file, link) = (target.join("file"), target.join("link"));
    std::fs::write(&file, "kept").unwrap();
    chown(&file, Some(7), Some(7)).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let outside = driver.directory.write("outside", "mine");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    driver.untarget(volume, "target").unwrap();
    driver.unstage(volume).unwrap();
    driver
        .stage(volume, &staged.context, with_group("4343"))
        .unwrap();
    driver.target(volume, "target", with_group("4343")).unwrap();
    let about = std::fs::metadata(&file).unwrap();
    assert_eq!(
        (about.uid(), about.gid(), about.mode() & 0o777),
        (7, 4343, 0o660)
    );
    assert_ne!(std::fs::metadata(outside).unwrap().gid(), 4343);
    let odd = driver.stage(volume, &staged.context, with_group("staff"));
    assert_refused(odd, Code::InvalidArgument, &["volume_mount_group", "staff"]);
    driver.untarget(volume, "target").unwrap();
    staged.finish();
}

#[test]
fn real_csi_busy_mount_stays_and_foreign_paths_are_left_alone() {
    if !can_attach() {
        return;
    }
    let staged = Staged::new("csi-busy", mount("ext4"));
    let (driver, volume) = (&staged.driver, &staged.volume);
    driver.directory.write("file", "somebody's");
    let on_file = driver.target(volume, "file", mount("ext4"));
    assert_refused(on_file, Code::InvalidArgument, &["target_path", "file"]);
    let off_file = driver.untarget(volume, "file");
    assert_refused(off_file, Code::FailedPrecondition, &["left alone"]);
    assert_eq!(
        std::fs::read_to_string(driver.directory.path("file")).unwrap(),
        "somebody's"
    );
    driver.target(volume, "target", mount("ext4")).unwrap();
    let held = std::fs::File::create(driver.directory.path("target/held")).unwrap();
    let busy = driver.untarget(volume, "target");
    assert_refused(busy, Code::FailedPrecondition, &["target", "uses it"]);
    assert!(driver.directory.path("target/held").exists());
    drop(held);
    driver.untarget(volume, "target").unwrap();
    assert!(!driver.directory.path("target").exists());
    driver.untarget(volume, "target").unwrap();
    let held = std::fs::File::open(driver.directory.path("staging/held")).unwrap();
    let busy = driver.unstage(volume);
    assert_refused(busy, Code::FailedPrecondition, &["staging"]);
    driver.target(volume, "target", mount("ext4")).unwrap();
    drop(held);
    driver.untarget(volume, "target").unwrap();

    let missing = NodePublishVolumeRequest {
        staging_target_path: String::new(),
        ..driver.target_request(volume, "target", mount("ext4"))
    };
    let missing = driver.wait(driver.plugin().node_publish_volume(missing));
    assert_refused(missing, Code::FailedPrecondition, &["stage"]);
    let block = driver.target_read_only(volume, "target", block());
    assert_refused(block, Code::InvalidArgument, &["block device"]);
    staged.finish();
}

#[test]
fn real_csi_node_answers_for_what_is_not_there_with_the_right_code() {
    if !can_attach() {
        return;
    }
    let staged = Staged::new("csi-absent", mount("ext4"));
    let (driver, volume, context) = (&staged.driver, &staged.volume, &staged.context);
    driver.target(volume, "target", mount("ext4")).unwrap();
    let stats = driver.stats(volume, "target").unwrap();
    let units: Vec<i32> = stats.usage.iter().map(|usage| usage.unit).collect();
    assert_eq!(units, [i32::from(Unit::Bytes), i32::from(Unit::Inodes)]);
    for usage in &stats.usage {
        assert!(usage.used > 0 && usage.available > 0 && usage.total > usage.used);
    }
    for (handle, path, expected) in [
        (volume.as_str(), "nowhere", Code::NotFound),
        ("elsewhere-v1", "target", Code::NotFound),
        ("", "target", Code::InvalidArgument),
    ] {
        assert_eq!(code(driver.stats(handle, path)), expected);
        assert_eq!(code(driver.expand_on_node(handle, path, 0)), expected);
    }
    let never = volume.replace("-v1", "-v99");
    assert_eq!(
        code(driver.stage(&never, context, mount("ext4"))),
        Code::NotFound
    );
    assert_eq!(
        code(driver.target(&never, "t", mount("ext4"))),
        Code::NotFound
    );
    let other = driver.volume("other", 8);
    assert_eq!(code(driver.stats(&other, "target")), Code::NotFound);
    let early = driver.target(&other, "t", mount("ext4"));
    assert_refused(early, Code::FailedPrecondition, &["stage it first"]);
    // Nothing of it is here: there is nothing to do.
    driver.unstage(&other).unwrap();
    driver.untarget(&other, "t").unwrap();
    for foreign in ["elsewhere-v1", "nonsense"] {
        assert_eq!(code(driver.unstage(foreign)), Code::NotFound);
        assert_eq!(code(driver.untarget(foreign, "t")), Code::NotFound);
        let staging = driver.stage(foreign, context, mount("ext4"));
        assert_eq!(code(staging), Code::NotFound);
    }
    let unpublished = driver.stage(volume, &Context::new(), mount("ext4"));
    assert_refused(unpublished, Code::InvalidArgument, &["publish_context"]);
    let odd = driver.stage(volume, context, mount_with(&["loop=/dev/sda"], ""));
    assert_refused(odd, Code::InvalidArgument, &["loop"]);
    driver.untarget(volume, "target").unwrap();
    staged.finish();
}
