//! A claim's way from nothing to a mounted file system and back, each step the call that Kubernetes makes.
//!
//! ```text
//! provisioner  CreateVolume              attacher  ControllerPublishVolume    kubelet  NodeStage-, NodePublishVolume
//! snapshotter  CreateSnapshot            resizer   ControllerExpandVolume     kubelet  NodeExpandVolume
//! kubelet      NodeUnpublish-, NodeUnstageVolume   attacher  ControllerUnpublishVolume   provisioner  DeleteVolume
//! ```

use super::Driver;
use super::calls::{Controller, Node};
use super::clean::output;
use anyhow::{Context, Result, ensure};
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use csi::v1::volume_content_source::{SnapshotSource, Type as Source};
use csi::v1::*;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Namespace of all claims.
const NAMESPACE: &str = "default";

/// What a claim asks for: `volumeMode` and `fsType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file system, ext4.
    Ext4,
    /// A file system, xfs.
    Xfs,
    /// The block device itself.
    Block,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Block => "block",
        }
    }

    fn capability(self) -> VolumeCapability {
        let access = match self {
            Self::Block => AccessType::Block(BlockVolume {}),
            Self::Ext4 | Self::Xfs => AccessType::Mount(MountVolume {
                fs_type: self.name().to_owned(),
                ..MountVolume::default()
            }),
        };
        let mode = AccessMode {
            mode: Mode::SingleNodeWriter.into(),
        };
        VolumeCapability {
            access_type: Some(access),
            access_mode: Some(mode),
        }
    }
}

/// A snapshot that is there.
pub struct Snapshot {
    id: String,
}

/// A claim and its volume.
pub struct Claim {
    /// Name of the claim.
    pub name: String,
    /// Name of the volume: `pvc-<uid>`.
    pub volume: String,
    /// What is asked for.
    pub kind: Kind,
    /// Where the workload has its file system or device, while it is published.
    pub target: PathBuf,
    /// Where it is mounted for all pods of this machine.
    pub staging: PathBuf,
    bytes: u64,
    /// The volume's handle, once it is provisioned.
    handle: String,
    volume_context: HashMap<String, String>,
    publish_context: HashMap<String, String>,
}

fn uid() -> Result<String> {
    let uid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uid.trim().to_owned())
}

fn range(bytes: u64) -> Result<Option<CapacityRange>> {
    Ok(Some(CapacityRange {
        required_bytes: i64::try_from(bytes)?,
        limit_bytes: 0,
    }))
}

fn strings<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    pairs.map(owned).into()
}

impl Claim {
    /// A claim nothing has been made for yet.
    pub fn new(driver: &Driver, name: &str, kind: Kind, bytes: u64) -> Result<Self> {
        let volume = format!("pvc-{}", uid()?);
        Ok(Self {
            target: driver.folder().join(name),
            staging: driver.folder().join("staging").join(&volume),
            name: name.to_owned(),
            volume,
            kind,
            bytes,
            handle: String::new(),
            volume_context: HashMap::new(),
            publish_context: HashMap::new(),
        })
    }

    /// Provisioner: creates an empty volume in a container, or one that starts from a snapshot.
    pub fn provision(
        &mut self,
        driver: &Driver,
        container: &str,
        from: Option<&Snapshot>,
    ) -> Result<()> {
        let source = from.map(|snapshot| VolumeContentSource {
            r#type: Some(Source::Snapshot(SnapshotSource {
                snapshot_id: snapshot.id.clone(),
            })),
        });
        let reachable: Vec<Topology> = driver.about.accessible_topology.iter().cloned().collect();
        let body = CreateVolumeRequest {
            name: self.volume.clone(),
            capacity_range: range(self.bytes)?,
            volume_capabilities: vec![self.kind.capability()],
            parameters: strings([
                ("storageContainer", container),
                ("csi.storage.k8s.io/pvc/name", &self.name),
                ("csi.storage.k8s.io/pvc/namespace", NAMESPACE),
                ("csi.storage.k8s.io/pv/name", &self.volume),
            ]),
            volume_content_source: source,
            accessibility_requirements: Some(TopologyRequirement {
                requisite: reachable.clone(),
                preferred: reachable,
            }),
            ..CreateVolumeRequest::default()
        };
        let created = driver.control("CreateVolume", body, async |mut controller, ask| {
            controller.create_volume(ask).await
        })?;
        let volume = created.volume.context("CreateVolume answers no volume")?;
        ensure!(
            volume.capacity_bytes >= i64::try_from(self.bytes)?,
            "the volume of {} has {} bytes",
            self.name,
            volume.capacity_bytes
        );
        self.handle = volume.volume_id;
        self.volume_context = volume.volume_context;
        Ok(())
    }

    /// Attacher: gives the volume to this machine.
    pub fn publish(&mut self, driver: &Driver) -> Result<()> {
        let body = ControllerPublishVolumeRequest {
            volume_id: self.handle.clone(),
            node_id: driver.about.node_id.clone(),
            volume_capability: Some(self.kind.capability()),
            volume_context: self.volume_context.clone(),
            ..ControllerPublishVolumeRequest::default()
        };
        let published = driver.control(
            "ControllerPublishVolume",
            body,
            async |mut controller, ask| controller.controller_publish_volume(ask).await,
        )?;
        self.publish_context = published.publish_context;
        Ok(())
    }

    /// Kubelet: device, file system if there is none, and a mount for all pods of this machine.
    pub fn stage(&self, driver: &Driver) -> Result<()> {
        fs::create_dir_all(&self.staging)?;
        let body = NodeStageVolumeRequest {
            volume_id: self.handle.clone(),
            publish_context: self.publish_context.clone(),
            staging_target_path: text(&self.staging)?,
            volume_capability: Some(self.kind.capability()),
            volume_context: self.volume_context.clone(),
            ..NodeStageVolumeRequest::default()
        };
        let call = async |mut node: Node, ask| node.node_stage_volume(ask).await;
        driver.on_node("NodeStageVolume", body, call).map(drop)
    }

    /// Kubelet: into the pod.
    pub fn mount(&self, driver: &Driver) -> Result<()> {
        let body = NodePublishVolumeRequest {
            volume_id: self.handle.clone(),
            publish_context: self.publish_context.clone(),
            staging_target_path: text(&self.staging)?,
            target_path: text(&self.target)?,
            volume_capability: Some(self.kind.capability()),
            volume_context: self.volume_context.clone(),
            ..NodePublishVolumeRequest::default()
        };
        let call = async |mut node: Node, ask| node.node_publish_volume(ask).await;
        driver.on_node("NodePublishVolume", body, call).map(drop)
    }

    /// Kubelet: out of the pod.
    pub fn unmount(&self, driver: &Driver) -> Result<()> {
        let body = NodeUnpublishVolumeRequest {
            volume_id: self.handle.clone(),
            target_path: text(&self.target)?,
        };
        let call = async |mut node: Node, ask| node.node_unpublish_volume(ask).await;
        driver.on_node("NodeUnpublishVolume", body, call).map(drop)
    }

    /// Kubelet: no pod of this machine needs it.
    pub fn unstage(&self, driver: &Driver) -> Result<()> {
        let body = NodeUnstageVolumeRequest {
            volume_id: self.handle.clone(),
            staging_target_path: text(&self.staging)?,
        };
        let call = async |mut node: Node, ask| node.node_unstage_volume(ask).await;
        driver.on_node("NodeUnstageVolume", body, call)?;
        fs::remove_dir(&self.staging).context("the staging path is not empty")
    }

    /// Attacher: takes the volume back.
    pub fn unpublish(&self, driver: &Driver) -> Result<()> {
        let body = ControllerUnpublishVolumeRequest {
            volume_id: self.handle.clone(),
            node_id: driver.about.node_id.clone(),
            ..ControllerUnpublishVolumeRequest::default()
        };
        let call = async |mut controller: Controller, ask| {
            controller.controller_unpublish_volume(ask).await
        };
        let answer = driver.control("ControllerUnpublishVolume", body, call);
        answer.map(drop)
    }

    /// Provisioner: deletes the volume.
    pub fn delete(&self, driver: &Driver) -> Result<()> {
        let body = DeleteVolumeRequest {
            volume_id: self.handle.clone(),
            ..DeleteVolumeRequest::default()
        };
        let call = async |mut controller: Controller, ask| controller.delete_volume(ask).await;
        driver.control("DeleteVolume", body, call).map(drop)
    }

    /// Snapshotter: a snapshot of the volume as it is now.
    pub fn snapshot(&self, driver: &Driver, name: &str) -> Result<Snapshot> {
        let uid = uid()?;
        let body = CreateSnapshotRequest {
            source_volume_id: self.handle.clone(),
            name: format!("snapshot-{uid}"),
            parameters: strings([
                ("csi.storage.k8s.io/volumesnapshot/name", name),
                ("csi.storage.k8s.io/volumesnapshot/namespace", NAMESPACE),
                (
                    "csi.storage.k8s.io/volumesnapshotcontent/name",
                    &format!("snapcontent-{uid}"),
                ),
            ]),
            ..CreateSnapshotRequest::default()
        };
        let call = async |mut controller: Controller, ask| controller.create_snapshot(ask).await;
        let taken = driver.control("CreateSnapshot", body, call)?;
        let snapshot = taken.snapshot.context("CreateSnapshot answers none")?;
        ensure!(
            snapshot.ready_to_use,
            "the snapshot {name} is not ready when CreateSnapshot returns"
        );
        let id = snapshot.snapshot_id;
        Ok(Snapshot { id })
    }

    /// Resizer: the volume grows.
    pub fn expand(&mut self, driver: &Driver, bytes: u64) -> Result<()> {
        let body = ControllerExpandVolumeRequest {
            volume_id: self.handle.clone(),
            capacity_range: range(bytes)?,
            volume_capability: Some(self.kind.capability()),
            ..ControllerExpandVolumeRequest::default()
        };
        let call =
            async |mut controller: Controller, ask| controller.controller_expand_volume(ask).await;
        let grown = driver.control("ControllerExpandVolume", body, call)?;
        ensure!(
            grown.node_expansion_required,
            "the node is not asked to follow"
        );
        self.bytes = bytes;
        Ok(())
    }

    /// Kubelet: device and file system follow, while they are in use.
    pub fn follow(&self, driver: &Driver) -> Result<()> {
        let body = NodeExpandVolumeRequest {
            volume_id: self.handle.clone(),
            volume_path: text(&self.target)?,
            capacity_range: range(self.bytes)?,
            staging_target_path: text(&self.staging)?,
            volume_capability: Some(self.kind.capability()),
            ..NodeExpandVolumeRequest::default()
        };
        let call = async |mut node: Node, ask| node.node_expand_volume(ask).await;
        driver.on_node("NodeExpandVolume", body, call).map(drop)
    }

    /// The name of the attachment on this machine, and so of its record.
    pub fn attachment(&self) -> Result<String> {
        let number = self.handle.rsplit_once("-v").map(|(_, number)| number);
        let number = number.with_context(|| format!("{} is no handle", self.handle))?;
        Ok(format!("volume-{number}"))
    }

    /// Bytes of the mounted file system.
    pub fn file_system_bytes(&self) -> Result<u64> {
        let mut df = Command::new("df");
        df.args(["--block-size=1", "--output=size"]);
        let text = output(df.arg(&self.target))?;
        let size = text
            .lines()
            .nth(1)
            .and_then(|line| line.trim().parse().ok());
        size.context("df names no size")
    }
}

impl Snapshot {
    /// Snapshotter: deletes it.
    pub fn delete(&self, driver: &Driver) -> Result<()> {
        let body = DeleteSnapshotRequest {
            snapshot_id: self.id.clone(),
            ..DeleteSnapshotRequest::default()
        };
        let call = async |mut controller: Controller, ask| controller.delete_snapshot(ask).await;
        driver.control("DeleteSnapshot", body, call).map(drop)
    }
}

fn text(path: &Path) -> Result<String> {
    let text = path.to_str().context("a path of ours is UTF-8")?;
    Ok(text.to_owned())
}
