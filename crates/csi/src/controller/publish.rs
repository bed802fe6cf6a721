//! ControllerPublishVolume and ControllerUnpublishVolume: the attachment of a volume.
//!
//! The cluster decides: it gives a volume to one client for writing, to one or to many for reading, and takes it away
//! by fencing, from each client apart. A look at the volume beforehand only finds the better error.

use super::view::view_nodes;
use crate::call::Call;
use crate::capability::Access;
use crate::cluster::Cluster;
use crate::handle::{require, volume_address};
use crate::v1::*;
use api::http::{Attach, Detach, path};
use api::{AttachmentAnswer, ErrorKind, VolumeAnswer};
use tonic::Status;

/// Keys of the publish context.
pub(crate) const CONTEXT_GENERATION: &str = "generation";
pub(crate) const CONTEXT_READ_ONLY: &str = "readOnly";

/// What a volume is published for, in words.
fn purpose((read_only, shared): (bool, bool)) -> &'static str {
    match (read_only, shared) {
        (false, _) => "writing",
        (true, false) => "reading by one node",
        (true, true) => "reading by many nodes",
    }
}

/// `ControllerPublishVolume`.
pub(super) fn publish(
    cluster: &Cluster,
    call: &Call,
    request: ControllerPublishVolumeRequest,
) -> Result<ControllerPublishVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    require("node_id", &request.node_id)?;
    let access = Access::parse(request.volume_capability.as_ref())?;
    let read_only = request.readonly || access.read_only();
    let shared = access.many_nodes();
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let address = volume_address(handles.volume_of(&request.volume_id)?);
    let node = handles.parse_node(&request.node_id).ok_or_else(|| {
        Status::not_found(format!(
            "node {} does not belong to this cluster: a node of it is called {}",
            request.node_id,
            handles.node("NAME")
        ))
    })?;
    let volume: VolumeAnswer = cluster.get(&path(&["volumes", &address]))?;
    let held = &volume.attachment;
    let present = (held.read_only, held.shared);
    if held.clients.iter().any(|client| client == node) && present != (read_only, shared) {
        return Err(Status::already_exists(format!(
            "volume {} is published to node {} for {} already, and asked for is {}: unpublish it first",
            request.volume_id,
            request.node_id,
            purpose(present),
            purpose((read_only, shared))
        )));
    }
    let body = Attach {
        client: node.to_owned(),
        read_only,
        shared,
    };
    let granted = cluster.post(&path(&["volumes", &address, "attach"]), &body);
    let granted: AttachmentAnswer = granted.map_err(|error| match error.kind() {
        Some(ErrorKind::InUse) => Status::failed_precondition(format!(
            "volume {} is published to {} for {}: until it is unpublished there, it cannot be published for {}",
            request.volume_id,
            view_nodes(&volume, &handles).join(", "),
            purpose(present),
            purpose((read_only, shared))
        )),
        _ => error.into(),
    })?;
    let context = [
        (CONTEXT_GENERATION, granted.generation_of(node).to_string()),
        (CONTEXT_READ_ONLY, read_only.to_string()),
    ];
    let context = context.map(|(key, value)| (key.to_owned(), value));
    Ok(ControllerPublishVolumeResponse {
        publish_context: context.into(),
    })
}

/// `ControllerUnpublishVolume`: returns once the node's sessions are fenced, whether the node lives or not.
pub(super) fn unpublish(
    cluster: &Cluster,
    call: &Call,
    request: ControllerUnpublishVolumeRequest,
) -> Result<ControllerUnpublishVolumeResponse, Status> {
    require("volume_id", &request.volume_id)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let done = Ok(ControllerUnpublishVolumeResponse {});
    // What cannot be a volume or a node of this cluster was not published by it.
    let Some(number) = handles.parse_volume(&request.volume_id) else {
        return done;
    };
    let client = match request.node_id.as_str() {
        "" => None,
        node => match handles.parse_node(node) {
            Some(name) => Some(name.to_owned()),
            None => return done,
        },
    };
    let address = volume_address(number);
    let detached = cluster.post(&path(&["volumes", &address, "detach"]), &Detach { client });
    match detached {
        Ok::<AttachmentAnswer, _>(_) => done,
        Err(error) if error.kind() == Some(ErrorKind::NotFound) => done,
        Err(error) => Err(error.into()),
    }
}
