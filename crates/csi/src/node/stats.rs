//! NodeGetVolumeStats.

use super::{Machine, given_path, trouble};
use crate::call::Call;
use crate::filesystem::device_bytes;
use crate::handle::require;
use crate::mounts::{self, Mount};
use crate::v1::volume_usage::Unit;
use crate::v1::*;
use std::path::Path;
use tonic::Status;

/// `NodeGetVolumeStats`.
pub(super) fn stats(
    machine: &Machine,
    call: &Call,
    request: NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let point = given_path("volume_path", &request.volume_path)?;
    let number = machine.volume_of(call, &request.volume_id)?;
    let missing = || {
        Status::not_found(format!(
            "volume {} is not at {}",
            request.volume_id,
            point.display()
        ))
    };
    let (path, device) = machine.device_of(number)?.ok_or_else(missing)?;
    let unreadable = |cause| trouble("look at", point, &cause);
    let number = mounts::number_of(&path).map_err(unreadable)?;
    let mount = mounts::at(point).map_err(unreadable)?.ok_or_else(missing)?;
    let usage = if mount.is_node_of(&path) {
        let total = device_bytes(&path).map_err(|cause| trouble("size", &path, &cause))?;
        vec![usage(total, 0, 0, Unit::Bytes)]
    } else if !mount.is_of(&number) {
        return Err(missing());
    } else if device.alive {
        measure(point)?
    } else {
        // A dead device may hang whoever asks its file system.
        Vec::new()
    };
    Ok(NodeGetVolumeStatsResponse {
        usage,
        volume_condition: Some(condition(device.alive, &mount, device.read_only)),
    })
}

fn measure(point: &Path) -> Result<Vec<VolumeUsage>, Status> {
    let seen = rustix::fs::statvfs(point);
    let seen = seen.map_err(|errno| trouble("measure", point, &errno.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(seen.f_frsize);
    let used = seen.f_blocks.saturating_sub(seen.f_bfree);
    let inodes = seen.f_files.saturating_sub(seen.f_ffree);
    let free = bytes(seen.f_bavail);
    Ok(vec![
        usage(bytes(seen.f_blocks), bytes(used), free, Unit::Bytes),
        usage(seen.f_files, inodes, seen.f_favail, Unit::Inodes),
    ])
}

fn usage(total: u64, used: u64, available: u64, unit: Unit) -> VolumeUsage {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    VolumeUsage {
        available: number(available),
        total: number(total),
        used: number(used),
        unit: unit.into(),
    }
}

/// What can be seen from here. What the cluster knows of the volume, the controller tells.
fn condition(alive: bool, mount: &Mount, read_only: bool) -> VolumeCondition {
    let has_ro = |options: &[String]| options.iter().any(|option| option == "ro");
    let stopped = has_ro(&mount.inner) && !has_ro(&mount.options) && !read_only;
    let message = if !alive {
        Some(
            "the process that serves the device is gone: all requests fail until the volume is staged again",
        )
    } else if stopped {
        Some(
            "the file system refuses writes after an error: end the pods that use it; it is checked at the next mount",
        )
    } else {
        None
    };
    VolumeCondition {
        abnormal: message.is_some(),
        message: message.unwrap_or("the device is served").to_owned(),
    }
}
