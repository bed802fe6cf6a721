//! Requests as an orchestrator makes them, and the short way to send them.

use super::driver::Driver;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use csi::v1::volume_content_source::{SnapshotSource, Type as SourceType, VolumeSource};
use csi::v1::*;
use std::collections::HashMap;
use std::path::Path;
use tonic::{Code, Status};

pub const MIB: i64 = 1 << 20;
/// Passed with every request that takes secrets; must not be found in any log.
pub const SECRET: &str = "correct-horse-battery-staple";

pub fn secrets() -> HashMap<String, String> {
    [("password".to_owned(), SECRET.to_owned())].into()
}

pub fn capability(mode: Mode, access: AccessType) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(access),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

/// A file system for one workload; empty: any.
pub fn mount(fs_type: &str) -> VolumeCapability {
    mount_as(Mode::SingleNodeWriter, fs_type)
}

pub fn mount_as(mode: Mode, fs_type: &str) -> VolumeCapability {
    let mount = MountVolume {
        fs_type: fs_type.to_owned(),
        ..Default::default()
    };
    capability(mode, AccessType::Mount(mount))
}

pub fn mount_with(flags: &[&str], group: &str) -> VolumeCapability {
    let mount = MountVolume {
        fs_type: "ext4".to_owned(),
        mount_flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        volume_mount_group: group.to_owned(),
    };
    capability(Mode::SingleNodeWriter, AccessType::Mount(mount))
}

pub fn block() -> VolumeCapability {
    capability(Mode::SingleNodeWriter, AccessType::Block(BlockVolume {}))
}

pub fn at_least(bytes: i64) -> Option<CapacityRange> {
    Some(CapacityRange {
        required_bytes: bytes,
        limit_bytes: 0,
    })
}

pub fn wanted(name: &str, mebibytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: at_least(mebibytes * MIB),
        volume_capabilities: vec![mount("ext4")],
        secrets: secrets(),
        ..Default::default()
    }
}

pub fn wanted_block(name: &str, mebibytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        volume_capabilities: vec![block()],
        ..wanted(name, mebibytes)
    }
}

pub fn from_snapshot(snapshot: &str) -> Option<VolumeContentSource> {
    let source = SnapshotSource {
        snapshot_id: snapshot.to_owned(),
    };
    Some(VolumeContentSource {
        r#type: Some(SourceType::Snapshot(source)),
    })
}

pub fn from_volume(volume: &str) -> Option<VolumeContentSource> {
    let source = VolumeSource {
        volume_id: volume.to_owned(),
    };
    Some(VolumeContentSource {
        r#type: Some(SourceType::Volume(source)),
    })
}

/// The code of a refusal.
pub fn code<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Code {
    outcome.expect_err("it is refused").code()
}

/// That a request is refused with a code and words that help.
pub fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, words: &[&str]) {
    let refusal = outcome.expect_err("it is refused");
    assert_eq!(refusal.code(), code, "{refusal}");
    for word in words {
        let has = refusal.message().contains(word);
        assert!(has, "{word:?} is not in: {refusal}");
    }
}

pub type Context = HashMap<String, String>;

impl Driver {
    pub fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Status> {
        let created = self.wait(self.controller().create_volume(request));
        created.map(|created| created.volume.expect("a volume"))
    }

    /// A volume of this name that must be there afterwards; its handle.
    pub fn volume(&self, name: &str, mebibytes: i64) -> String {
        let created = self.create(wanted(name, mebibytes));
        created.expect("it is created").volume_id
    }

    pub fn delete(&self, volume: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest {
            volume_id: volume.to_owned(),
            secrets: secrets(),
        };
        self.wait(self.controller().delete_volume(request))
            .map(drop)
    }

    pub fn snapshot(&self, volume: &str, name: &str) -> Result<Snapshot, Status> {
        let request = CreateSnapshotRequest {
            source_volume_id: volume.to_owned(),
            name: name.to_owned(),
            secrets: secrets(),
            ..Default::default()
        };
        let taken = self.wait(self.controller().create_snapshot(request));
        taken.map(|taken| taken.snapshot.expect("a snapshot"))
    }

    pub fn delete_snapshot(&self, snapshot: &str) -> Result<(), Status> {
        let request = DeleteSnapshotRequest {
            snapshot_id: snapshot.to_owned(),
            secrets: secrets(),
        };
        self.wait(self.controller().delete_snapshot(request))
            .map(drop)
    }

    pub fn node_id(&self) -> String {
        let info = self.wait(self.plugin().node_get_info(NodeGetInfoRequest {}));
        info.expect("the node knows itself").node_id
    }

    pub fn publish_request(&self, volume: &str, node: &str) -> ControllerPublishVolumeRequest {
        ControllerPublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            volume_capability: Some(mount("ext4")),
            secrets: secrets(),
            ..Default::default()
        }
    }

    pub fn publish(&self, volume: &str, node: &str, readonly: bool) -> Result<Context, Status> {
        let request = ControllerPublishVolumeRequest {
            readonly,
            ..self.publish_request(volume, node)
        };
        let answer = self.wait(self.controller().controller_publish_volume(request));
        answer.map(|answer| answer.publish_context)
    }

    pub fn unpublish(&self, volume: &str, node: &str) -> Result<(), Status> {
        let request = ControllerUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            node_id: node.to_owned(),
            secrets: secrets(),
        };
        let answer = self.wait(self.controller().controller_unpublish_volume(request));
        answer.map(drop)
    }

    pub fn stage_request(
        &self,
        volume: &str,
        context: &Context,
        capability: VolumeCapability,
    ) -> NodeStageVolumeRequest {
        let staging = self.path("staging");
        std::fs::create_dir_all(&staging).unwrap();
        NodeStageVolumeRequest {
            volume_id: volume.to_owned(),
            publish_context: context.clone(),
            staging_target_path: staging,
            volume_capability: Some(capability),
            secrets: secrets(),
            ..Default::default()
        }
    }

    pub fn stage(
        &self,
        volume: &str,
        context: &Context,
        capability: VolumeCapability,
    ) -> Result<(), Status> {
        let request = self.stage_request(volume, context, capability);
        self.wait(self.plugin().node_stage_volume(request))
            .map(drop)
    }

    pub fn unstage(&self, volume: &str) -> Result<(), Status> {
        let request = NodeUnstageVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.path("staging"),
        };
        self.wait(self.plugin().node_unstage_volume(request))
            .map(drop)
    }

    pub fn target_request(
        &self,
        volume: &str,
        target: &str,
        capability: VolumeCapability,
    ) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: volume.to_owned(),
            staging_target_path: self.path("staging"),
            target_path: self.path(target),
            volume_capability: Some(capability),
            secrets: secrets(),
            ..Default::default()
        }
    }

    pub fn target(
        &self,
        volume: &str,
        target: &str,
        capability: VolumeCapability,
    ) -> Result<(), Status> {
        let request = self.target_request(volume, target, capability);
        self.wait(self.plugin().node_publish_volume(request))
            .map(drop)
    }

    pub fn target_read_only(
        &self,
        volume: &str,
        target: &str,
        capability: VolumeCapability,
    ) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            readonly: true,
            ..self.target_request(volume, target, capability)
        };
        self.wait(self.plugin().node_publish_volume(request))
            .map(drop)
    }

    pub fn untarget(&self, volume: &str, target: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume.to_owned(),
            target_path: self.path(target),
        };
        self.wait(self.plugin().node_unpublish_volume(request))
            .map(drop)
    }

    pub fn stats(&self, volume: &str, target: &str) -> Result<NodeGetVolumeStatsResponse, Status> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume.to_owned(),
            volume_path: self.path(target),
            staging_target_path: String::new(),
        };
        self.wait(self.plugin().node_get_volume_stats(request))
    }

    pub fn expand(&self, volume: &str, bytes: i64) -> Result<i64, Status> {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume.to_owned(),
            capacity_range: at_least(bytes),
            secrets: secrets(),
            ..Default::default()
        };
        let grown = self.wait(self.controller().controller_expand_volume(request))?;
        assert!(grown.node_expansion_required);
        Ok(grown.capacity_bytes)
    }

    pub fn expand_on_node(&self, volume: &str, target: &str, bytes: i64) -> Result<i64, Status> {
        let request = NodeExpandVolumeRequest {
            volume_id: volume.to_owned(),
            volume_path: self.path(target),
            capacity_range: at_least(bytes),
            secrets: secrets(),
            ..Default::default()
        };
        let grown = self.wait(self.plugin().node_expand_volume(request));
        grown.map(|grown| grown.capacity_bytes)
    }
}

/// Whether this process has a capability of the kernel, by its bit.
fn has_capability(bit: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = u64::from_str_radix(bits.unwrap().trim(), 16).unwrap();
    bits & 1 << bit != 0
}

/// Whether this root may grow a mounted ext4, which takes CAP_SYS_RESOURCE (bit 24); says so when not.
pub fn can_grow_ext4() -> bool {
    let able = has_capability(24);
    if !able {
        eprintln!("SKIPPED: growing a mounted ext4 needs CAP_SYS_RESOURCE");
    }
    able
}

/// Whether devices and mounts can be made here; says so when not.
pub fn can_attach() -> bool {
    // CAP_SYS_ADMIN
    let root = has_capability(21);
    let able = root && Path::new("/dev/fuse").exists() && Path::new("/dev/loop-control").exists();
    if !able {
        eprintln!("SKIPPED: devices and mounts need root, /dev/fuse and loop devices");
    }
    able
}
