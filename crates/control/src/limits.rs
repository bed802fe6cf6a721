//! What a token that is limited to containers or Kubernetes clusters may touch.
//!
//! A volume is of the Kubernetes cluster that its label names, which such a token neither leaves out nor changes. A snapshot is of
//! that of its volume; one whose volume is gone is of none.

use crate::Backend;
use crate::auth::Access;
use api::{
    Answer, ErrorKind, GroupSnapshotAnswer, KUBERNETES_LABEL, KubernetesOperation, Operation,
    OperationError, VolumeAnswer,
};

/// Checks what an operation touches, and narrows lists to the token's own.
///
/// # Errors
/// [`ErrorKind::Forbidden`]; what looking up the volumes meets, [`ErrorKind::NotFound`] among it.
pub(crate) async fn apply(
    backend: &dyn Backend,
    access: &Access,
    operation: Operation,
) -> Result<Operation, OperationError> {
    if access.containers.is_empty() && access.kubernetes.is_empty() {
        return Ok(operation);
    }
    match operation {
        Operation::VolumeList(mut query) => {
            query.containers.clone_from(&access.containers);
            query.kubernetes.clone_from(&access.kubernetes);
            Ok(Operation::VolumeList(query))
        }
        Operation::SnapshotList(mut query) => {
            query.containers.clone_from(&access.containers);
            query.kubernetes.clone_from(&access.kubernetes);
            Ok(Operation::SnapshotList(query))
        }
        Operation::Kubernetes(operation) => apply_kubernetes(access, operation),
        other => {
            for container in containers_of(&other) {
                admit_container(access, container)?;
            }
            if let Operation::VolumeCreate(spec) = &other {
                let label = spec.labels.get(KUBERNETES_LABEL);
                admit_label(access, &spec.name, label)?;
            }
            for name in volumes_of(backend, &other).await? {
                let volume = volume_of(backend, name).await?;
                admit_container(access, &volume.container)?;
                let label = volume.labels.get(KUBERNETES_LABEL);
                admit_label(access, &volume.name, label)?;
                check_change(access, &other, label)?;
            }
            Ok(other)
        }
    }
}

fn forbidden(message: String) -> OperationError {
    OperationError::new(ErrorKind::Forbidden, message)
}

fn admit_container(access: &Access, container: &str) -> Result<(), OperationError> {
    let containers = &access.containers;
    if containers.is_empty() || containers.iter().any(|name| name == container) {
        return Ok(());
    }
    Err(forbidden(format!(
        "this token is limited to the containers {}, and {container} is not one of them",
        containers.join(", ")
    )))
}

fn admit_cluster(access: &Access, cluster: &str) -> Result<(), OperationError> {
    let clusters = &access.kubernetes;
    if clusters.is_empty() || clusters.iter().any(|name| name == cluster) {
        return Ok(());
    }
    Err(forbidden(format!(
        "this token is limited to the Kubernetes clusters {}, and {cluster} is not one of them",
        clusters.join(", ")
    )))
}

fn admit_label(
    access: &Access,
    volume: &str,
    label: Option<&String>,
) -> Result<(), OperationError> {
    match label {
        Some(cluster) => admit_cluster(access, cluster),
        None if access.kubernetes.is_empty() => Ok(()),
        None => Err(forbidden(format!(
            "this token is limited to the Kubernetes clusters {}, and volume {volume} does not have the label {KUBERNETES_LABEL} \
             with the name of one of them (`azekura csi controller --kubernetes-cluster` sets it)",
            access.kubernetes.join(", ")
        ))),
    }
}

/// Refuses another label than a volume has.
fn check_change(
    access: &Access,
    operation: &Operation,
    label: Option<&String>,
) -> Result<(), OperationError> {
    let Operation::VolumeSet { change, .. } = operation else {
        return Ok(());
    };
    match change.labels.get(KUBERNETES_LABEL) {
        Some(wanted) if !access.kubernetes.is_empty() && wanted.as_ref() != label => {
            Err(forbidden(format!(
                "this token is limited to Kubernetes clusters, so it may not change the label {KUBERNETES_LABEL}"
            )))
        }
        _ => Ok(()),
    }
}

/// One of its own, with the volumes of its own containers.
fn apply_kubernetes(
    access: &Access,
    mut operation: KubernetesOperation,
) -> Result<Operation, OperationError> {
    if let Some(cluster) = operation.cluster() {
        admit_cluster(access, cluster)?;
    }
    if let KubernetesOperation::Claims { query, .. } = &mut operation {
        query.containers.clone_from(&access.containers);
    }
    Ok(Operation::Kubernetes(operation))
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
        // Members of groups of others would show.
        Operation::GroupSnapshotList => {
            return Err(forbidden(
                "a token that is limited to containers or Kubernetes clusters lists no group snapshots"
                    .to_owned(),
            ));
        }
        other => other.subject().map(str::to_owned).into_iter().collect(),
    })
}

fn members_of(group: &GroupSnapshotAnswer) -> Vec<String> {
    let volume = |snapshot: &api::SnapshotAnswer| format!("volume-{}", snapshot.volume_id);
    group.snapshots.iter().map(volume).collect()
}

async fn volume_of(backend: &dyn Backend, name: String) -> Result<VolumeAnswer, OperationError> {
    match backend.call(Operation::VolumeShow { name }).await? {
        Answer::Volume(volume) => Ok(volume),
        _ => Err(odd()),
    }
}

fn odd() -> OperationError {
    OperationError::failed("a look-up was answered by something else")
}
