//! NodePublishVolume and NodeUnpublishVolume: bind mounts at the paths of workloads.

use super::stage::{give, mounts_of};
use super::{Machine, path_of, trouble};
use crate::call::Call;
use crate::capability::{Access, Usage};
use crate::handle::{require, volume_address};
use crate::mounts::{self, Users};
use crate::v1::*;
use api::VolumeAnswer;
use api::http::path as api_path;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tonic::Status;

/// A staged volume that is handed to a workload.
struct Publishing<'a> {
    machine: &'a Machine,
    number: u64,
    handle: &'a str,
    device: PathBuf,
    staging: &'a Path,
    target: &'a Path,
    access: Access,
    read_only: bool,
}

/// `NodePublishVolume`.
pub(super) fn publish(
    machine: &Machine,
    call: &Call,
    request: NodePublishVolumeRequest,
) -> Result<NodePublishVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let target = path_of("target_path", &request.target_path)?;
    let access = Access::parse(request.volume_capability.as_ref())?;
    if request.staging_target_path.is_empty() {
        return Err(Status::failed_precondition(
            "staging_target_path is missing: stage the volume first and say where",
        ));
    }
    let staging = path_of("staging_target_path", &request.staging_target_path)?;
    let number = machine.volume_of(call, &request.volume_id)?;
    let found = machine.device_of(number)?;
    let Some((path, device)) = found.filter(|(_, device)| device.alive) else {
        // The specification tells a volume that does not exist from one that is not staged.
        let address = api_path(&["volumes", &volume_address(number)]);
        let _: VolumeAnswer = machine.cluster.ask(call).get(&address)?;
        return Err(Status::failed_precondition(format!(
            "volume {} has no living device on this node: stage it first",
            request.volume_id
        )));
    };
    let read_only = request.readonly || access.read_only();
    if read_only && !device.read_only && access.usage == Usage::Block {
        return Err(Status::invalid_argument(
            "a block device that may be written cannot be published for reading only: use an access mode that \
             only reads, such as ReadOnlyMany",
        ));
    }
    let publishing = Publishing {
        machine,
        number,
        handle: &request.volume_id,
        device: path,
        staging,
        target,
        access,
        read_only,
    };
    publishing.carry_out()?;
    Ok(NodePublishVolumeResponse {})
}

impl Publishing<'_> {
    fn carry_out(&self) -> Result<(), Status> {
        if self.published()? {
            return Ok(());
        }
        self.alone()?;
        let from = match &self.access.usage {
            Usage::Block => {
                self.target_file()?;
                &self.device
            }
            Usage::Mount { group, .. } => {
                let protected = self.staged()?;
                self.target_directory()?;
                if self.read_only && !protected {
                    return self.bind_read_only();
                }
                if !self.read_only {
                    give(self.staging, *group)?;
                }
                self.staging
            }
        };
        mounts::bind(from, self.target).map_err(|cause| trouble("bind", self.target, &cause))
    }

    /// Whether it is there already, the same way.
    fn published(&self) -> Result<bool, Status> {
        let unreadable = |cause| trouble("read the mounts of", self.target, &cause);
        let Some(found) = mounts::at(self.target).map_err(unreadable)? else {
            return Ok(false);
        };
        let number = mounts::number_of(&self.device).map_err(unreadable)?;
        let (node, contents) = (found.is_node_of(&self.device), found.is_of(&number));
        let as_asked = match self.access.usage {
            Usage::Block => node,
            Usage::Mount { .. } => contents && found.read_only() == self.read_only,
        };
        if as_asked {
            return Ok(true);
        }
        if node || contents {
            return Err(Status::already_exists(format!(
                "volume {} is published at {} already, in another way: unpublish it there first",
                self.handle,
                self.target.display()
            )));
        }
        Err(Status::failed_precondition(format!(
            "{} is mounted at target_path {} already: unmount it first",
            found.source,
            self.target.display()
        )))
    }

    /// Refuses a second target where the access mode allows one.
    fn alone(&self) -> Result<(), Status> {
        if self.access.many_targets() {
            return Ok(());
        }
        let others = mounts_of(&self.device)?;
        let mut others = others.iter().filter(|mount| {
            mount.point != self.staging && !mount.point.starts_with(&self.machine.work_dir)
        });
        match others.next() {
            None => Ok(()),
            Some(other) => Err(Status::failed_precondition(format!(
                "volume {} is published at {} and its access mode allows one workload",
                self.handle,
                other.point.display()
            ))),
        }
    }

    /// Makes sure that the volume is mounted at the staging path; returns whether that mount refuses writes.
    fn staged(&self) -> Result<bool, Status> {
        let unreadable = |cause| trouble("read the mounts of", self.staging, &cause);
        let found = mounts::at(self.staging).map_err(unreadable)?;
        let number = mounts::number_of(&self.device).map_err(unreadable)?;
        match found.filter(|mount| mount.is_of(&number)) {
            Some(mount) => Ok(mount.options.iter().any(|option| option == "ro")),
            None => Err(Status::failed_precondition(format!(
                "volume {} is not mounted at staging_target_path {}: stage it first",
                self.handle,
                self.staging.display()
            ))),
        }
    }

    /// A bind mount has the flags of the mount it is taken from: it is taken from one that refuses writes already, so
    /// that there is no moment at which the workload's path could be written to, and no half-made state to tell
    /// from a whole one.
    fn bind_read_only(&self) -> Result<(), Status> {
        let name = format!("{}.read-only", volume_address(self.number));
        let between = &self.machine.work_dir.join(name);
        let failed = |action| move |cause: std::io::Error| trouble(action, between, &cause);
        fs::create_dir_all(between).map_err(failed("make the directory"))?;
        mounts::unmount(between, Users::Ignore).map_err(failed("unmount"))?;
        mounts::bind(self.staging, between).map_err(failed("bind"))?;
        mounts::make_read_only(between).map_err(failed("protect"))?;
        mounts::bind(between, self.target).map_err(|cause| trouble("bind", self.target, &cause))?;
        mounts::unmount(between, Users::Ignore).map_err(failed("unmount"))?;
        fs::remove_dir(between).map_err(failed("remove the directory"))
    }

    fn target_directory(&self) -> Result<(), Status> {
        match fs::create_dir_all(self.target) {
            Ok(()) => Ok(()),
            Err(_) if self.target.exists() && !self.target.is_dir() => {
                Err(Status::invalid_argument(format!(
                    "target_path {} is a file, and the volume is to be mounted as a directory",
                    self.target.display()
                )))
            }
            Err(cause) => Err(trouble("make the directory", self.target, &cause)),
        }
    }

    fn target_file(&self) -> Result<(), Status> {
        if self.target.is_dir() {
            return Err(Status::invalid_argument(format!(
                "target_path {} is a directory, and the volume is to be published as a block device",
                self.target.display()
            )));
        }
        if let Some(parent) = self.target.parent() {
            fs::create_dir_all(parent)
                .map_err(|cause| trouble("make the directory", parent, &cause))?;
        }
        let mut options = fs::OpenOptions::new();
        let made = options.create(true).append(true).open(self.target);
        made.map(drop)
            .map_err(|cause| trouble("make the file", self.target, &cause))
    }
}

/// `NodeUnpublishVolume`.
pub(super) fn unpublish(
    machine: &Machine,
    call: &Call,
    request: NodeUnpublishVolumeRequest,
) -> Result<NodeUnpublishVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let target = path_of("target_path", &request.target_path)?;
    let number = machine.volume_of(call, &request.volume_id)?;
    let device = machine.device_of(number)?;
    let users = match device.is_some_and(|(_, device)| device.alive) {
        true => Users::Respect,
        false => Users::Ignore,
    };
    mounts::unmount(target, users).map_err(|cause| trouble("unmount", target, &cause))?;
    remove(target)?;
    Ok(NodeUnpublishVolumeResponse {})
}

/// Removes the place of a mount: an empty directory or an empty file. Anything else is somebody's.
fn remove(target: &Path) -> Result<(), Status> {
    let about = match fs::symlink_metadata(target) {
        Ok(about) => about,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(trouble("look at", target, &cause)),
    };
    let foreign = |what: &str| {
        Status::failed_precondition(format!(
            "{} {what}: that is not of the volume and is left alone; move it away by hand",
            target.display()
        ))
    };
    let removed = if about.is_dir() {
        fs::remove_dir(target)
    } else if about.is_file() && about.len() == 0 {
        fs::remove_file(target)
    } else {
        return Err(foreign("is a file with something in it"));
    };
    removed.map_err(|cause| match cause.kind() {
        ErrorKind::DirectoryNotEmpty => foreign("is a directory with something in it"),
        _ => trouble("remove", target, &cause),
    })
}
