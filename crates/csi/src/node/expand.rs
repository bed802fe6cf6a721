//! NodeExpandVolume: device and file system follow a volume that grew, while they are in use.

use super::stage::mounts_of;
use super::{Machine, given_path, refusal, trouble};
use crate::call::Call;
use crate::capability::FileSystem;
use crate::filesystem::{self, device_bytes};
use crate::handle::{require, volume_address};
use crate::v1::*;
use api::VolumeAnswer;
use api::http::path as api_path;
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::Status;

/// How long a device may take to follow: it asks the volume's owner once.
const FOLLOW_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// `NodeExpandVolume`.
pub(super) fn expand(
    machine: &Machine,
    call: &Call,
    request: NodeExpandVolumeRequest,
) -> Result<NodeExpandVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let point = given_path("volume_path", &request.volume_path)?;
    let number = machine.volume_of(call, &request.volume_id)?;
    let missing = || {
        Status::not_found(format!(
            "volume {} is not at {} on this node",
            request.volume_id,
            point.display()
        ))
    };
    let (path, device) = machine.device_of(number)?.ok_or_else(missing)?;
    let mounted = mounts_of(&path)?;
    let staging = Path::new(&request.staging_target_path);
    // The staging path of a block device is not mounted.
    let known = |place: &Path| mounted.iter().any(|mount| mount.point == place);
    let is_staging = point.is_absolute() && point == staging;
    if !known(point) && !known(staging) && !is_staging {
        return Err(missing());
    }
    let address = api_path(&["volumes", &volume_address(number)]);
    let volume: VolumeAnswer = machine.cluster.ask(call).get(&address)?;
    let range = request.capacity_range.unwrap_or_default();
    let required = u64::try_from(range.required_bytes).unwrap_or_default();
    if volume.size < required {
        return Err(Status::out_of_range(format!(
            "volume {} has {} bytes, {required} are asked for: expand it at the controller first",
            request.volume_id, volume.size
        )));
    }
    follow(machine, call, number, &path, volume.size)?;
    let file_system = mounted
        .iter()
        .find_map(|mount| Some((FileSystem::parse(&mount.kind)?, &mount.point)));
    if let Some((kind, place)) = file_system.filter(|_| !device.read_only) {
        filesystem::grow(&path, place, kind)?;
    }
    Ok(NodeExpandVolumeResponse {
        capacity_bytes: i64::try_from(volume.size).unwrap_or(i64::MAX),
    })
}

/// Waits until the device has the volume's size.
fn follow(
    machine: &Machine,
    call: &Call,
    number: u64,
    path: &Path,
    size: u64,
) -> Result<(), Status> {
    let deadline = call.deadline.min(Instant::now() + FOLLOW_MAX);
    let seen = || device_bytes(path).map_err(|cause| trouble("size", path, &cause));
    if seen()? >= size {
        return Ok(());
    }
    machine.attach.refresh(number).map_err(refusal)?;
    while seen()? < size {
        if Instant::now() >= deadline {
            return Err(Status::unavailable(format!(
                "{} has not grown to {size} bytes yet: is the volume's owner away? Repeat the request",
                path.display()
            )));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
