//! CreateSnapshot, DeleteSnapshot, ListSnapshots and GetSnapshot.

use super::list::read_rows;
use super::view::{NAME_LABEL, keep_name, page_size, token_of, view_snapshot};
use crate::call::Call;
use crate::cluster::{Asking, Cluster};
use crate::handle::{require, snapshot_address, volume_address};
use crate::v1::list_snapshots_response::Entry;
use crate::v1::*;
use api::http::{SnapshotName, encode, path};
use api::{ErrorKind, SnapshotAnswer};
use std::collections::{BTreeMap, HashMap};
use tonic::Status;

/// Reads the parameters of a snapshot: names that the snapshotter passes, which become labels.
///
/// # Errors
/// INVALID_ARGUMENT for every other one.
pub(crate) fn labels_of(
    parameters: &HashMap<String, String>,
) -> Result<BTreeMap<String, String>, Status> {
    let known = [
        "volumesnapshot/name",
        "volumesnapshot/namespace",
        "volumesnapshotcontent/name",
        "volumegroupsnapshot/name",
        "volumegroupsnapshot/namespace",
        "volumegroupsnapshotcontent/name",
    ];
    let is_known = |key: &str| {
        key.strip_prefix("csi.storage.k8s.io/")
            .is_some_and(|rest| known.contains(&rest) || rest.contains("snapshotter-"))
    };
    let odd = parameters.keys().filter(|key| !is_known(key)).min();
    if let Some(key) = odd {
        return Err(Status::invalid_argument(format!(
            "parameter {key} is not known: snapshots of this driver take no parameters"
        )));
    }
    let labels = parameters
        .iter()
        .filter(|(key, _)| !key.contains("-secret-"));
    Ok(labels
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect())
}

/// Snapshots that have a name, in any volume.
fn named(cluster: Asking<'_>, name: &str) -> Result<Vec<SnapshotAnswer>, Status> {
    let mut query = format!("{}?name=", path(&["snapshots"]));
    encode(name, &mut query);
    Ok(cluster.get(&query)?)
}

/// `CreateSnapshot`. A name belongs to one snapshot of the whole cluster here, as the specification has it, and to one
/// of each volume in the API.
pub(super) fn create(
    cluster: &Cluster,
    call: &Call,
    request: CreateSnapshotRequest,
) -> Result<CreateSnapshotResponse, Status> {
    let kept = keep_name(&request.name)?;
    require("source_volume_id", &request.source_volume_id)?;
    let mut labels = labels_of(&request.parameters)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let number = handles.volume_of(&request.source_volume_id)?;
    labels.extend(kept.given.map(|given| (NAME_LABEL.to_owned(), given)));
    let answer = |snapshot: &SnapshotAnswer| CreateSnapshotResponse {
        snapshot: Some(view_snapshot(snapshot, &handles)),
    };
    let body = SnapshotName {
        name: kept.name.clone(),
        labels,
    };
    // Twice: another plugin may take the snapshot between the look and the attempt.
    for _ in 0..2 {
        let found = named(cluster, &kept.name)?;
        if let Some(other) = found
            .iter()
            .find(|one| one.volume_id != number || one.group.is_some())
        {
            return Err(Status::already_exists(format!(
                "snapshot {} exists, of volume {}",
                request.name,
                handles.volume(other.volume_id)
            )));
        }
        if let Some(found) = found.first() {
            return Ok(answer(found));
        }
        let place = path(&["volumes", &volume_address(number), "snapshots"]);
        match cluster.post(&place, &body) {
            Ok(created) => return Ok(answer(&created)),
            Err(error) if error.kind() == Some(ErrorKind::Exists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Status::aborted(format!(
        "a snapshot named {} comes and goes: something else is at it; repeat the request",
        request.name
    )))
}

/// The snapshot of a number, if it is there.
fn find(cluster: Asking<'_>, number: u64) -> Result<Option<SnapshotAnswer>, Status> {
    match cluster.get(&path(&["snapshots", &number.to_string()])) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(error) if error.kind() == Some(ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `DeleteSnapshot`. Clones do not need it any more: they have the data.
pub(super) fn delete(
    cluster: &Cluster,
    call: &Call,
    request: DeleteSnapshotRequest,
) -> Result<DeleteSnapshotResponse, Status> {
    let handle = require("snapshot_id", &request.snapshot_id)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let done = Ok(DeleteSnapshotResponse {});
    let Some(number) = handles.parse_snapshot(handle) else {
        return done;
    };
    let Some(snapshot) = find(cluster, number)? else {
        return done;
    };
    if let Some(group) = &snapshot.group {
        return Err(Status::invalid_argument(format!(
            "snapshot {handle} belongs to group snapshot {}: delete that",
            handles.group(group)
        )));
    }
    let volume = volume_address(snapshot.volume_id);
    let place = path(&["volumes", &volume, "snapshots", &snapshot_address(number)]);
    match cluster.delete(&place) {
        Err(error) if error.kind() != Some(ErrorKind::NotFound) => Err(error.into()),
        _ => done,
    }
}

/// `ListSnapshots`: by number.
pub(super) fn list(
    cluster: &Cluster,
    call: &Call,
    request: ListSnapshotsRequest,
) -> Result<ListSnapshotsResponse, Status> {
    let size = page_size(request.max_entries)?;
    let after = token_of(&request.starting_token)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let entry = |snapshot: &SnapshotAnswer| Entry {
        snapshot: Some(view_snapshot(snapshot, &handles)),
    };
    let source = match request.source_volume_id.as_str() {
        "" => None,
        // A volume that cannot be here has no snapshots.
        handle => match handles.parse_volume(handle) {
            Some(number) => Some(number),
            None => return Ok(ListSnapshotsResponse::default()),
        },
    };
    if !request.snapshot_id.is_empty() {
        let number = handles.parse_snapshot(&request.snapshot_id);
        let found = number.map(|number| find(cluster, number)).transpose()?;
        let of_source = |one: &SnapshotAnswer| source.is_none_or(|source| one.volume_id == source);
        let found = found.flatten().filter(of_source);
        return Ok(ListSnapshotsResponse {
            entries: found.iter().map(entry).collect(),
            next_token: String::new(),
        });
    }
    let mut base = path(&["snapshots"]);
    if let Some(number) = source {
        base = format!("{base}?volume={}", volume_address(number));
    }
    let rows = read_rows(cluster, &base, after, size, |row: &SnapshotAnswer| row.id);
    let (snapshots, more) = match rows {
        Err(error) if source.is_some() && error.kind() == Some(ErrorKind::NotFound) => {
            (Vec::new(), false)
        }
        rows => rows?,
    };
    let next = snapshots.last().filter(|_| more);
    Ok(ListSnapshotsResponse {
        next_token: next.map(|row| row.id.to_string()).unwrap_or_default(),
        entries: snapshots.iter().map(entry).collect(),
    })
}

/// `GetSnapshot`.
pub(super) fn get(
    cluster: &Cluster,
    call: &Call,
    request: GetSnapshotRequest,
) -> Result<GetSnapshotResponse, Status> {
    require("snapshot_id", &request.snapshot_id)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let number = handles.snapshot_of("snapshot_id", &request.snapshot_id)?;
    match find(cluster, number)? {
        Some(snapshot) => Ok(GetSnapshotResponse {
            snapshot: Some(view_snapshot(&snapshot, &handles)),
        }),
        None => Err(Status::not_found(format!(
            "snapshot {} does not exist",
            request.snapshot_id
        ))),
    }
}
