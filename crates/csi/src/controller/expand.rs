//! ControllerExpandVolume and ControllerModifyVolume.

use super::create::Range;
use super::view::bytes;
use crate::call::Call;
use crate::capability::Access;
use crate::cluster::Cluster;
use crate::handle::{require, volume_address};
use crate::parameters::Mutable;
use crate::v1::*;
use api::http::{Resize, path};
use api::{VolumeAnswer, VolumeChange};
use tonic::Status;

/// `ControllerExpandVolume`: while the volume is in use, too.
pub(super) fn expand(
    cluster: &Cluster,
    call: &Call,
    request: ControllerExpandVolumeRequest,
) -> Result<ControllerExpandVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let range = Range::parse(request.capacity_range.as_ref())?;
    if range == Range::default() {
        return Err(Status::invalid_argument("capacity_range is missing"));
    }
    if request.volume_capability.is_some() {
        Access::parse(request.volume_capability.as_ref())?;
    }
    let cluster = cluster.ask(call);
    let number = cluster.handles()?.volume_of(&request.volume_id)?;
    let address = volume_address(number);
    let volume: VolumeAnswer = cluster.get(&path(&["volumes", &address]))?;
    // The device and the file system of a volume that is as large already may still be smaller.
    let answer = |size| ControllerExpandVolumeResponse {
        capacity_bytes: bytes(size),
        node_expansion_required: true,
    };
    if volume.size >= range.required {
        if range.limit != 0 && volume.size > range.limit {
            return Err(Status::out_of_range(format!(
                "volume {} has {} bytes, more than capacity_range.limit_bytes {}: volumes do not shrink",
                request.volume_id, volume.size, range.limit
            )));
        }
        return Ok(answer(volume.size));
    }
    let size = range.size(volume.size)?;
    let resize = path(&["volumes", &address, "resize"]);
    let grown: VolumeAnswer = cluster.post(&resize, &Resize { size })?;
    Ok(answer(grown.size))
}

/// `ControllerModifyVolume`: all parameters or none.
pub(super) fn modify(
    cluster: &Cluster,
    call: &Call,
    request: ControllerModifyVolumeRequest,
) -> Result<ControllerModifyVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let changes = Mutable::parse(&request.mutable_parameters)?;
    let cluster = cluster.ask(call);
    let number = cluster.handles()?.volume_of(&request.volume_id)?;
    let change = VolumeChange {
        description: changes.description,
        iops_limit: changes.iops_limit,
        bandwidth_limit: changes.bandwidth_limit,
        ..VolumeChange::default()
    };
    let _: VolumeAnswer = cluster.patch(&path(&["volumes", &volume_address(number)]), &change)?;
    Ok(ControllerModifyVolumeResponse {})
}
