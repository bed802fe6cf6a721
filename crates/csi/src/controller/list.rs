//! ListVolumes, ControllerGetVolume and GetCapacity.

use super::create::find_container;
use super::topology::is_ours;
use super::view::{PAGE_ROWS, bytes, page_size, token_of, view_condition, view_nodes, view_volume};
use crate::call::Call;
use crate::capability::Access;
use crate::cluster::{ApiError, Asking, Cluster};
use crate::handle::volume_address;
use crate::parameters::Parameters;
use crate::v1::controller_get_volume_response::VolumeStatus as OneStatus;
use crate::v1::list_volumes_response::{Entry, VolumeStatus};
use crate::v1::*;
use api::http::{encode, path};
use api::{CapacityAnswer, VolumeAnswer};
use serde::de::DeserializeOwned;
use tonic::Status;

/// Pages of one listing: with 500 rows each, a million rows. More than that must be asked for in pages.
const PAGES_MAX: usize = 2000;

/// Reads one page more than asked for by one row, which tells whether there is another page; without a size, all pages.
pub(crate) fn read_rows<T: DeserializeOwned>(
    cluster: Asking<'_>,
    base: &str,
    after: u64,
    size: Option<usize>,
    id: fn(&T) -> u64,
) -> Result<(Vec<T>, bool), ApiError> {
    let join = if base.contains('?') { '&' } else { '?' };
    let page = |after: u64, limit: usize| -> Result<Vec<T>, ApiError> {
        cluster.get(&format!("{base}{join}limit={limit}&after={after}"))
    };
    if let Some(size) = size {
        let mut rows = page(after, size + 1)?;
        let more = rows.len() > size;
        rows.truncate(size);
        return Ok((rows, more));
    }
    let (mut all, mut after) = (Vec::new(), after);
    for _ in 0..PAGES_MAX {
        let rows = page(after, PAGE_ROWS)?;
        let full = rows.len() == PAGE_ROWS;
        after = rows.last().map_or(after, id);
        all.extend(rows);
        if !full {
            return Ok((all, false));
        }
    }
    Ok((all, true))
}

/// `ListVolumes`: by number, so that pages stay right while volumes come and go.
pub(super) fn list(
    cluster: &Cluster,
    call: &Call,
    request: ListVolumesRequest,
) -> Result<ListVolumesResponse, Status> {
    let size = page_size(request.max_entries)?;
    let after = token_of(&request.starting_token)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let base = path(&["volumes"]);
    let (volumes, more) = read_rows(cluster, &base, after, size, |row: &VolumeAnswer| row.id)?;
    let next = volumes.last().filter(|_| more);
    let next_token = next.map(|row| row.id.to_string()).unwrap_or_default();
    let entries = volumes.iter().map(|volume| Entry {
        volume: Some(view_volume(volume, &handles)),
        status: Some(VolumeStatus {
            published_node_ids: view_nodes(volume, &handles),
            volume_condition: Some(view_condition(volume)),
        }),
    });
    Ok(ListVolumesResponse {
        entries: entries.collect(),
        next_token,
    })
}

/// `ControllerGetVolume`.
pub(super) fn get(
    cluster: &Cluster,
    call: &Call,
    request: ControllerGetVolumeRequest,
) -> Result<ControllerGetVolumeResponse, Status> {
    crate::handle::require("volume_id", &request.volume_id)?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let number = handles.volume_of(&request.volume_id)?;
    let volume: VolumeAnswer = cluster.get(&path(&["volumes", &volume_address(number)]))?;
    Ok(ControllerGetVolumeResponse {
        volume: Some(view_volume(&volume, &handles)),
        status: Some(OneStatus {
            published_node_ids: view_nodes(&volume, &handles),
            volume_condition: Some(view_condition(&volume)),
        }),
    })
}

/// `GetCapacity`: what volumes with these parameters can still write, there.
pub(super) fn capacity(
    cluster: &Cluster,
    call: &Call,
    request: GetCapacityRequest,
) -> Result<GetCapacityResponse, Status> {
    if !request.volume_capabilities.is_empty() {
        Access::parse_all(&request.volume_capabilities)?;
    }
    let parameters = Parameters::parse(&request.parameters, &[].into())?;
    let cluster = cluster.ask(call);
    let handles = cluster.handles()?;
    let elsewhere = request.accessible_topology.as_ref();
    if elsewhere.is_some_and(|topology| !is_ours(topology, &handles)) {
        return Ok(GetCapacityResponse::default());
    }
    let container = match &parameters.container {
        Some(named) => Some(named.clone()),
        None => {
            let ours = parameters.container_of_policies();
            find_container(cluster, &ours)?.map(|container| container.name)
        }
    };
    let query = match container {
        Some(name) => {
            let mut query = "container=".to_owned();
            encode(&name, &mut query);
            query
        }
        // Our container is made with the first volume in it.
        None => format!("rf={}", parameters.rf.unwrap_or(2)),
    };
    let capacity: CapacityAnswer = cluster.get(&format!("{}?{query}", path(&["capacity"])))?;
    Ok(GetCapacityResponse {
        available_capacity: bytes(capacity.available),
        maximum_volume_size: Some(bytes(capacity.volume_bytes_max)),
        minimum_volume_size: None,
    })
}
