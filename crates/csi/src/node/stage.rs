//! NodeStageVolume and NodeUnstageVolume: device, file system, mount at the staging path; and back.

use super::{Machine, path_of, refusal, trouble};
use crate::attachment::{Device, Wanted};
use crate::blank::{Contents, look};
use crate::call::Call;
use crate::capability::{Access, FileSystem, Usage};
use crate::controller::{CONTEXT_FILE_SYSTEM, CONTEXT_GENERATION, CONTEXT_READ_ONLY};
use crate::filesystem;
use crate::handle::{require, volume_address};
use crate::mounts::{self, Mount, Users};
use crate::v1::*;
use api::http::path as api_path;
use api::{VolumeAnswer, VolumeChange};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tonic::Status;

/// Label of a volume whose formatting was begun. It is kept with the volume, not on this machine: whoever stages the
/// volume next knows that what is on it is half a file system of ours and nobody's data.
const FORMATTING_LABEL: &str = "csi.azekura.dev/formatting";

/// A volume that is being staged.
struct Staging<'a> {
    machine: &'a Machine,
    call: &'a Call,
    number: u64,
    handle: &'a str,
    point: &'a Path,
    generation: u64,
    read_only: bool,
}

/// `NodeStageVolume`.
pub(super) fn stage(
    machine: &Machine,
    call: &Call,
    request: NodeStageVolumeRequest,
) -> Result<NodeStageVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let point = path_of("staging_target_path", &request.staging_target_path)?;
    let access = Access::parse(request.volume_capability.as_ref())?;
    let number = machine.volume_of(call, &request.volume_id)?;
    let staging = Staging {
        machine,
        call,
        number,
        handle: &request.volume_id,
        point,
        generation: generation_of(&request.publish_context)?,
        read_only: reads_only(&request.publish_context) || access.read_only(),
    };
    let address = api_path(&["volumes", &volume_address(number)]);
    let volume: VolumeAnswer = machine.cluster.ask(call).get(&address)?;
    let device = staging.device(&volume)?;
    if let Usage::Mount {
        wanted,
        flags,
        group,
    } = &access.usage
    {
        let class = request.volume_context.get(CONTEXT_FILE_SYSTEM);
        let wanted = wanted.or_else(|| FileSystem::parse(class?));
        staging.directory()?;
        let kind = staging.mount(&device, wanted, flags, &volume)?;
        staging.finish(&device, kind, *group)?;
    } else {
        staging.forget_formatting(&volume)?;
    }
    Ok(NodeStageVolumeResponse {})
}

fn generation_of(context: &HashMap<String, String>) -> Result<u64, Status> {
    let text = context.get(CONTEXT_GENERATION);
    let generation = text.and_then(|text| text.parse().ok());
    generation.ok_or_else(|| {
        Status::invalid_argument(format!(
            "publish_context has no {CONTEXT_GENERATION}: it must be what ControllerPublishVolume returned"
        ))
    })
}

fn reads_only(context: &HashMap<String, String>) -> bool {
    let value = context.get(CONTEXT_READ_ONLY);
    value.is_some_and(|value| value == "true")
}

impl Staging<'_> {
    /// The device of this attachment. One that is dead, or of an older attachment and so fenced, is taken away
    /// with its mounts: it fails all requests anyway.
    fn device(&self, volume: &VolumeAnswer) -> Result<PathBuf, Status> {
        let attach = &self.machine.attach;
        if let Some(present) = attach.find(self.number).map_err(refusal)? {
            wait_for(&present, self.handle)?;
            let same = present.alive && present.generation == self.generation;
            if present.alive && present.generation > self.generation {
                return Err(Status::failed_precondition(format!(
                    "volume {} was published again since (generation {} is here, {} was asked for): stage it \
                     with the newer publish_context",
                    self.handle, present.generation, self.generation
                )));
            }
            if same && present.read_only != self.read_only {
                let mode = if present.read_only {
                    "reading"
                } else {
                    "writing"
                };
                return Err(Status::already_exists(format!(
                    "volume {} is staged here already, for {mode}: unstage it first",
                    self.handle
                )));
            }
            match present.path {
                Some(path) if same => return Ok(path),
                Some(path) => self.abandon(&path)?,
                None => {}
            }
            attach.detach(self.number).map_err(refusal)?;
        }
        self.call.check("the device is made")?;
        self.attach(volume)
    }

    fn attach(&self, volume: &VolumeAnswer) -> Result<PathBuf, Status> {
        let overview = self.machine.cluster.ask(self.call).overview()?;
        let mut nodes = overview.nodes;
        nodes.sort_by_key(|node| !node.alive);
        let wanted = Wanted {
            volume: self.number,
            name: volume.name.clone(),
            client: self.machine.node.clone(),
            generation: self.generation,
            read_only: self.read_only,
            cluster: overview.name,
            nodes: nodes.into_iter().map(|node| node.address).collect(),
            deadline: self.call.deadline,
        };
        self.machine.attach.attach(&wanted).map_err(refusal)
    }

    /// Removes the mounts of a device that answers no request any more.
    fn abandon(&self, device: &Path) -> Result<(), Status> {
        if !device.exists() {
            return Ok(());
        }
        for mount in mounts_of(device)? {
            tracing::warn!(
                volume = crate::call::volume_in(self.handle),
                handle = self.handle,
                request = self.call.id,
                "removing the mount at {}, whose device is dead",
                mount.point.display()
            );
            mounts::unmount(&mount.point, Users::Ignore)
                .map_err(|cause| trouble("unmount", &mount.point, &cause))?;
        }
        Ok(())
    }

    /// The staging path is a directory that the orchestrator makes.
    fn directory(&self) -> Result<(), Status> {
        match std::fs::metadata(self.point) {
            Ok(about) if about.is_dir() => Ok(()),
            Ok(_) => Err(Status::invalid_argument(format!(
                "staging_target_path {} is not a directory",
                self.point.display()
            ))),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(self.point)
                    .map_err(|cause| trouble("make the directory", self.point, &cause))
            }
            Err(cause) => Err(trouble("look at", self.point, &cause)),
        }
    }

    /// Mounts the volume, formatting it first if it is proven blank.
    fn mount(
        &self,
        device: &Path,
        wanted: Option<FileSystem>,
        flags: &[String],
        volume: &VolumeAnswer,
    ) -> Result<FileSystem, Status> {
        if let Some(kind) = self.mounted(device, wanted)? {
            return Ok(kind);
        }
        self.alone(device)?;
        let kind = self.prepare(device, wanted, volume)?;
        if !self.read_only {
            filesystem::check(device, kind)?;
        }
        self.call.check("the file system is mounted")?;
        filesystem::mount(device, self.point, kind, flags, self.read_only)?;
        Ok(kind)
    }

    /// Makes sure that nothing else has the device for itself: a mount elsewhere, or a program that a killed plugin
    /// has left behind. A second `mkfs` beside the first one would destroy what either makes.
    fn alone(&self, device: &Path) -> Result<(), Status> {
        let claimed = filesystem::claim(device);
        let Err(cause) = claimed else {
            return Ok(());
        };
        if cause.kind() != std::io::ErrorKind::ResourceBusy {
            return Err(trouble("open", device, &cause));
        }
        match mounts_of(device)?.first() {
            Some(other) => Err(Status::failed_precondition(format!(
                "volume {} is mounted at {}: unstage it there first",
                self.handle,
                other.point.display()
            ))),
            None => Err(Status::aborted(format!(
                "another program works on {}, which an earlier request may have started; repeat the request when it \
                 has ended (`fuser {}` says which)",
                device.display(),
                device.display()
            ))),
        }
    }

    /// The file system of this device at the staging path, if it is mounted already.
    fn mounted(
        &self,
        device: &Path,
        wanted: Option<FileSystem>,
    ) -> Result<Option<FileSystem>, Status> {
        let unreadable = |cause| trouble("read the mounts of", self.point, &cause);
        let Some(found) = mounts::at(self.point).map_err(unreadable)? else {
            return Ok(None);
        };
        let number = mounts::number_of(device).map_err(unreadable)?;
        if !found.is_of(&number) {
            return Err(Status::failed_precondition(format!(
                "{} is mounted at {}: unmount it, the path is for volume {}",
                found.source,
                self.point.display(),
                self.handle
            )));
        }
        match FileSystem::parse(&found.kind) {
            Some(kind) if wanted.is_none_or(|wanted| wanted == kind) => Ok(Some(kind)),
            _ => Err(Status::already_exists(format!(
                "volume {} is staged with {} already",
                self.handle, found.kind
            ))),
        }
    }

    /// Makes sure that there is a file system that may be mounted.
    fn prepare(
        &self,
        device: &Path,
        wanted: Option<FileSystem>,
        volume: &VolumeAnswer,
    ) -> Result<FileSystem, Status> {
        let begun = volume.labels.get(FORMATTING_LABEL);
        if let Some(kind) = begun.and_then(|name| FileSystem::parse(name)) {
            // The label goes away before the first mount: nobody has written to it.
            return self.format(device, wanted.unwrap_or(kind));
        }
        let refuse = |holds: &str| {
            Status::failed_precondition(format!(
                "volume {} holds {holds}, and {} was asked for. It is not formatted: use it as it is, or delete \
                 what is on it by hand",
                self.handle,
                wanted.map_or("a file system", FileSystem::name)
            ))
        };
        match look(device)? {
            Contents::Known(name) => match FileSystem::parse(&name) {
                Some(kind) if wanted.is_none_or(|wanted| wanted == kind) => Ok(kind),
                _ => Err(refuse(&name)),
            },
            Contents::Unknown(what) => Err(refuse(&what)),
            Contents::Blank if self.read_only => Err(Status::failed_precondition(format!(
                "volume {} is blank and may only be read: mount it for writing once, which formats it",
                self.handle
            ))),
            Contents::Blank => self.format(device, wanted.unwrap_or(FileSystem::Ext4)),
        }
    }

    /// Formats between two marks at the volume.
    fn format(&self, device: &Path, kind: FileSystem) -> Result<FileSystem, Status> {
        self.call.check("the volume is formatted")?;
        self.mark(Some(kind.name().to_owned()))?;
        filesystem::make(device, kind)?;
        self.mark(None)?;
        Ok(kind)
    }

    /// A raw block device takes somebody's data: an interrupted `mkfs` of before is no reason to format it later.
    fn forget_formatting(&self, volume: &VolumeAnswer) -> Result<(), Status> {
        match volume.labels.contains_key(FORMATTING_LABEL) && !self.read_only {
            true => self.mark(None),
            false => Ok(()),
        }
    }

    fn mark(&self, value: Option<String>) -> Result<(), Status> {
        let change = VolumeChange {
            labels: BTreeMap::from([(FORMATTING_LABEL.to_owned(), value)]),
            ..VolumeChange::default()
        };
        let address = api_path(&["volumes", &volume_address(self.number)]);
        let cluster = self.machine.cluster.ask(self.call);
        let _: VolumeAnswer = cluster.patch(&address, &change)?;
        Ok(())
    }

    /// What a mounted file system still needs: the size of its device, and its group.
    fn finish(&self, device: &Path, kind: FileSystem, group: Option<u32>) -> Result<(), Status> {
        if self.read_only {
            return Ok(());
        }
        filesystem::grow(device, self.point, kind)?;
        give(self.point, group)
    }
}

/// Refuses to go on beside a process that is making the device: it ends, or has made it, in a moment.
fn wait_for(device: &Device, handle: &str) -> Result<(), Status> {
    match device.alive && device.path.is_none() {
        false => Ok(()),
        true => Err(Status::aborted(format!(
            "the device of volume {handle} is being made for an earlier request; repeat the request"
        ))),
    }
}

/// Gives a mounted volume to a group.
pub(super) fn give(point: &Path, group: Option<u32>) -> Result<(), Status> {
    let Some(group) = group else {
        return Ok(());
    };
    filesystem::give_to_group(point, group)
        .map_err(|cause| trouble(&format!("give group {group} the files in"), point, &cause))
}

/// Every mount of a device's contents or node, newest first.
pub(super) fn mounts_of(device: &Path) -> Result<Vec<Mount>, Status> {
    let unreadable = |cause| trouble("read the mounts of", device, &cause);
    let number = mounts::number_of(device).map_err(unreadable)?;
    let mut found = mounts::read().map_err(unreadable)?;
    found.retain(|mount| mount.is_of(&number) || mount.is_node_of(device));
    found.reverse();
    Ok(found)
}

/// `NodeUnstageVolume`.
pub(super) fn unstage(
    machine: &Machine,
    call: &Call,
    request: NodeUnstageVolumeRequest,
) -> Result<NodeUnstageVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let point = path_of("staging_target_path", &request.staging_target_path)?;
    let number = machine.volume_of(call, &request.volume_id)?;
    let Some(device) = machine.attach.find(number).map_err(refusal)? else {
        // A mount of a device that is gone altogether fails all requests.
        unmount(point, Users::Ignore)?;
        return Ok(NodeUnstageVolumeResponse {});
    };
    wait_for(&device, &request.volume_id)?;
    let mounted = mounts_if_there(device.path.as_deref())?;
    let elsewhere =
        |mount: &&Mount| mount.point != point && !mount.point.starts_with(&machine.work_dir);
    if let Some(other) = mounted.iter().find(elsewhere).filter(|_| device.alive) {
        return Err(Status::failed_precondition(format!(
            "volume {} is still published at {}: unpublish it there first",
            request.volume_id,
            other.point.display()
        )));
    }
    let users = match device.alive {
        true => Users::Respect,
        false => Users::Ignore,
    };
    for mount in mounted.iter().filter(|mount| mount.point != point) {
        unmount(&mount.point, Users::Ignore)?;
    }
    unmount(point, users)?;
    machine.attach.detach(number).map_err(refusal)?;
    Ok(NodeUnstageVolumeResponse {})
}

fn mounts_if_there(device: Option<&Path>) -> Result<Vec<Mount>, Status> {
    match device.filter(|device| device.exists()) {
        Some(device) => mounts_of(device),
        None => Ok(Vec::new()),
    }
}

fn unmount(point: &Path, users: Users) -> Result<(), Status> {
    mounts::unmount(point, users).map_err(|cause| trouble("unmount", point, &cause))
}
