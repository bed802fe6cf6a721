//! What a token or a certificate that is limited to containers or Kubernetes clusters may touch.
//!
//! A volume is of the Kubernetes cluster that its label names, which such a token neither leaves out nor changes. A snapshot is of
//! that of its volume, and once that is gone of the one that its own label names: the node has copied it. Which container it was in
//! nothing says then, so that a token that is limited to containers is refused; it is never told that there is no such snapshot.

use crate::Backend;
use crate::auth::Access;
use api::{
    Answer, ErrorKind, GroupSnapshotAnswer, KUBERNETES_LABEL, KubernetesOperation, LogQuery,
    Operation, OperationError, Scope, SnapshotAnswer, SnapshotRef,
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
    if let Operation::Logs(query) = operation {
        return Ok(Operation::Logs(of_logs(access, query)));
    }
    if access.containers.is_empty() && access.kubernetes.is_empty() {
        return Ok(operation);
    }
    match operation {
        Operation::VolumeList(mut query) => {
            query.containers.clone_from(&access.containers);
            query.kubernetes.clone_from(&access.kubernetes);
            Ok(Operation::VolumeList(query))
        }
        Operation::CloneList(mut query) => {
            query.containers.clone_from(&access.containers);
            query.kubernetes.clone_from(&access.kubernetes);
            Ok(Operation::CloneList(query))
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
            for touched in volumes_of(backend, &other).await? {
                admit(backend, access, &other, touched).await?;
            }
            Ok(other)
        }
    }
}

/// A driver sees the lines that it has told itself, and no others: those of nodes are about everybody's volumes.
pub(crate) fn of_logs(access: &Access, query: LogQuery) -> LogQuery {
    let is_driver = access.scope == Some(Scope::Csi);
    LogQuery {
        by: is_driver.then(|| access.teller()),
        ..query
    }
}

/// Leaves out of a list what is none of the token's.
pub(crate) fn narrow(access: &Access, mut answer: Answer) -> Answer {
    if let Answer::Containers(containers) = &mut answer
        && !access.containers.is_empty()
    {
        containers.retain(|container| access.containers.contains(&container.name));
    }
    answer
}

/// A volume whose data an operation touches.
struct Touched {
    volume: String,
    /// The snapshot by which it does, where that is named by its id.
    snapshot: Option<u64>,
}

impl Touched {
    fn volume(name: &str) -> Self {
        Self {
            volume: name.to_owned(),
            snapshot: None,
        }
    }

    fn snapshot(volume: &str, name: &str) -> Self {
        let number = name.strip_prefix("snapshot-");
        Self {
            volume: volume.to_owned(),
            snapshot: number.and_then(|number| number.parse().ok()),
        }
    }

    fn of(snapshot: &SnapshotAnswer) -> Self {
        Self {
            volume: format!("volume-{}", snapshot.volume_id),
            snapshot: Some(snapshot.id),
        }
    }
}

async fn admit(
    backend: &dyn Backend,
    access: &Access,
    operation: &Operation,
    touched: Touched,
) -> Result<(), OperationError> {
    let show = Operation::VolumeShow {
        name: touched.volume.clone(),
    };
    let volume = match (backend.call(show).await, touched.snapshot) {
        (Ok(Answer::Volume(volume)), _) => volume,
        (Ok(_), _) => return Err(odd()),
        (Err(error), Some(id)) if error.kind == ErrorKind::NotFound => {
            let snapshot = snapshot_of(backend, id).await?;
            return match format!("volume-{}", snapshot.volume_id) == touched.volume {
                true => admit_orphan(access, &snapshot),
                false => Err(error),
            };
        }
        (Err(error), _) => return Err(error),
    };
    admit_container(access, &volume.container)?;
    let label = volume.labels.get(KUBERNETES_LABEL);
    admit_label(access, &volume.name, label)?;
    check_change(access, operation, label)
}

/// A snapshot whose volume is gone.
fn admit_orphan(access: &Access, snapshot: &SnapshotAnswer) -> Result<(), OperationError> {
    let id = snapshot.id;
    if !access.containers.is_empty() {
        return Err(forbidden(format!(
            "this token or certificate is limited to containers, and the volume of snapshot {id} is gone, so nothing says in which one that was: use a \
             token without --container, such as an administrator's"
        )));
    }
    match snapshot.labels.get(KUBERNETES_LABEL) {
        Some(cluster) => admit_cluster(access, cluster),
        None => Err(forbidden(format!(
            "this token or certificate is limited to the Kubernetes clusters {}, and snapshot {id} was not taken of a volume of one of them",
            access.kubernetes.join(", ")
        ))),
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
        "this token or certificate is limited to the containers {}, and {container} is not one of them",
        containers.join(", ")
    )))
}

fn admit_cluster(access: &Access, cluster: &str) -> Result<(), OperationError> {
    let clusters = &access.kubernetes;
    if clusters.is_empty() || clusters.iter().any(|name| name == cluster) {
        return Ok(());
    }
    Err(forbidden(format!(
        "this token or certificate is limited to the Kubernetes clusters {}, and {cluster} is not one of them",
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
            "this token or certificate is limited to the Kubernetes clusters {}, and volume {volume} does not have the label {KUBERNETES_LABEL} \
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
                "this token or certificate is limited to Kubernetes clusters, so it may not change the label {KUBERNETES_LABEL}"
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
        Operation::ContainerShow { name } => vec![name.as_str()],
        Operation::VolumeCreate(spec) => spec.container.as_deref().into_iter().collect(),
        Operation::Capacity { container, .. } => container.as_deref().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Volumes whose data the operation touches.
async fn volumes_of(
    backend: &dyn Backend,
    operation: &Operation,
) -> Result<Vec<Touched>, OperationError> {
    Ok(match operation {
        Operation::VolumeCreate(spec) => {
            let from = spec.from.iter();
            let touched = |from: &SnapshotRef| match &from.snapshot {
                Some(snapshot) => Touched::snapshot(&from.volume, snapshot),
                None => Touched::volume(&from.volume),
            };
            from.map(touched).collect()
        }
        Operation::SnapshotDelete { volume, name } => vec![Touched::snapshot(volume, name)],
        Operation::GroupSnapshotCreate(spec) => {
            let volumes = spec.volumes.iter();
            volumes.map(|name| Touched::volume(name)).collect()
        }
        Operation::GroupSnapshotShow { id } | Operation::GroupSnapshotDelete { id } => {
            let show = Operation::GroupSnapshotShow { id: id.clone() };
            match backend.call(show).await? {
                Answer::GroupSnapshot(group) => members_of(&group)?,
                _ => return Err(odd()),
            }
        }
        Operation::SnapshotShow { id } => vec![Touched::of(&snapshot_of(backend, *id).await?)],
        // Members of groups of others would show.
        Operation::GroupSnapshotList => {
            return Err(forbidden(
                "a token or certificate that is limited to containers or Kubernetes clusters lists no group snapshots"
                    .to_owned(),
            ));
        }
        other => other.subject().map(Touched::volume).into_iter().collect(),
    })
}

fn members_of(group: &GroupSnapshotAnswer) -> Result<Vec<Touched>, OperationError> {
    if group.snapshots.is_empty() {
        return Err(forbidden(format!(
            "this token or certificate is limited, and group snapshot {} has no member that says whose it is: it is being taken, or they were deleted one \
             by one; use a token without limits, such as an administrator's",
            group.name
        )));
    }
    Ok(group.snapshots.iter().map(Touched::of).collect())
}

async fn snapshot_of(backend: &dyn Backend, id: u64) -> Result<SnapshotAnswer, OperationError> {
    match backend.call(Operation::SnapshotShow { id }).await? {
        Answer::Snapshot(snapshot) => Ok(snapshot),
        _ => Err(odd()),
    }
}

fn odd() -> OperationError {
    OperationError::failed("a look-up was answered by something else")
}
