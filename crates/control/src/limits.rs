//! What a token that is limited to containers may touch.

use crate::Backend;
use crate::auth::Access;
use api::{Answer, ErrorKind, GroupSnapshotAnswer, Operation, OperationError};

/// Checks the containers that an operation touches, and narrows lists to the token's own.
///
/// # Errors
/// [`ErrorKind::Forbidden`]; what looking up the volumes meets, [`ErrorKind::NotFound`] among it.
pub(crate) async fn apply(
    backend: &dyn Backend,
    access: &Access,
    operation: Operation,
) -> Result<Operation, OperationError> {
    if access.containers.is_empty() {
        return Ok(operation);
    }
    match operation {
        Operation::VolumeList(mut query) => {
            query.containers.clone_from(&access.containers);
            Ok(Operation::VolumeList(query))
        }
        Operation::SnapshotList(mut query) => {
            query.containers.clone_from(&access.containers);
            Ok(Operation::SnapshotList(query))
        }
        other => {
            for container in containers_of(&other) {
                admit(access, container)?;
            }
            for volume in volumes_of(backend, &other).await? {
                admit(access, &container_of(backend, volume).await?)?;
            }
            Ok(other)
        }
    }
}

fn admit(access: &Access, container: &str) -> Result<(), OperationError> {
    if access.containers.iter().any(|name| name == container) {
        return Ok(());
    }
    let message = format!(
        "this token is limited to the containers {}, and {container} is not one of them",
        access.containers.join(", ")
    );
    Err(OperationError::new(ErrorKind::Forbidden, message))
}

/// Containers that the operation names itself.
fn containers_of(operation: &Operation) -> Vec<&str> {
    match operation {
        Operation::ContainerCreate(spec) => vec![&spec.name],
        Operation::VolumeCreate(spec) => spec.container.as_deref().into_iter().collect(),
        Operation::Capacity { container, .. } => container.as_deref().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Volumes whose data the operation touches.
async fn volumes_of(
    backend: &dyn Backend,
    operation: &Operation,
) -> Result<Vec<String>, OperationError> {
    Ok(match operation {
        Operation::VolumeCreate(spec) => {
            let from = spec.from.as_ref().map(|from| from.volume.clone());
            from.into_iter().collect()
        }
        Operation::GroupSnapshotCreate(spec) => spec.volumes.clone(),
        Operation::GroupSnapshotShow { id } | Operation::GroupSnapshotDelete { id } => {
            let show = Operation::GroupSnapshotShow { id: id.clone() };
            match backend.call(show).await? {
                Answer::GroupSnapshot(group) => members_of(&group),
                _ => return Err(odd()),
            }
        }
        Operation::SnapshotShow { id } => {
            match backend.call(Operation::SnapshotShow { id: *id }).await? {
                Answer::Snapshot(snapshot) => vec![format!("volume-{}", snapshot.volume_id)],
                _ => return Err(odd()),
            }
        }
        // Members of groups of other containers would show.
        Operation::GroupSnapshotList => {
            let message = "a token that is limited to containers lists no group snapshots";
            return Err(OperationError::new(ErrorKind::Forbidden, message));
        }
        other => other.subject().map(str::to_owned).into_iter().collect(),
    })
}

fn members_of(group: &GroupSnapshotAnswer) -> Vec<String> {
    let volume = |snapshot: &api::SnapshotAnswer| format!("volume-{}", snapshot.volume_id);
    group.snapshots.iter().map(volume).collect()
}

async fn container_of(backend: &dyn Backend, name: String) -> Result<String, OperationError> {
    match backend.call(Operation::VolumeShow { name }).await? {
        Answer::Volume(volume) => Ok(volume.container),
        _ => Err(odd()),
    }
}

fn odd() -> OperationError {
    OperationError::failed("a look-up was answered by something else")
}
