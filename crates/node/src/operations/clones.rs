//! Clones of a volume as it is now: an internal snapshot, a clone of that, and the snapshot deleted again.
//!
//! Invariants
//! - The snapshot carries [`INTERNAL_LABEL`], so that lists do not show it.
//! - Whatever a crash leaves is an internal snapshot, which the next sweep deletes once it is older than
//!   [`ORPHAN_MS_MIN`]: nobody starts a clone from it then, for the operation has long been given up.

use super::{Result, catalog_error};
use crate::host::Host;
use api::query::INTERNAL_LABEL;
use api::{Answer, CloneAnswer, ErrorKind, ListQuery, Operation, OperationError, VolumeSpec};
use catalog::{CatalogError, Origin, SnapshotRow, Versioned, VolumeRow};
use std::collections::BTreeMap;
use std::rc::Rc;
use vocab::{SnapshotId, VolumeId};

/// Age at which an internal snapshot is left over: several times the longest operation.
const ORPHAN_MS_MIN: u64 = 600_000;

impl Host {
    /// Volumes that were started from others.
    pub(super) async fn list_clones(self: &Rc<Self>, query: &ListQuery) -> Result<Answer> {
        if let Some(problem) = query.problem() {
            return Err(OperationError::bad_request(problem));
        }
        let wanted = match &query.volume {
            Some(name) => Some(self.volume_id(name).await?),
            None => None,
        };
        let inside = self.places_of(query).await?;
        let state = query.state.as_deref();
        let is_wanted = |origin: Origin| wanted.is_none_or(|wanted| origin.volume == wanted);
        let fits = |row: &VolumeRow| {
            row.origin.is_some_and(is_wanted)
                && inside(row.container)
                && state.is_none_or(|state| state == super::volumes::state_of(row).0)
                && query.is_of_kubernetes(&row.labels)
                && query.wants(&row.name, &row.labels)
        };
        let key = |id| VolumeRow::key_of(VolumeId(id));
        let rows = self.page_of(query, key, fits).await?;
        let names = self.names_for(&rows).await?;
        let lineages = rows.iter().map(|found| found.row.lineage).collect();
        let usages = self.usages_of(&lineages).await;
        let describe = |Versioned { row, .. }: Versioned<VolumeRow>| {
            let origin = row.origin?;
            let container = names.containers.get(&row.container);
            let usage = usages.get(&row.id.0);
            Some(CloneAnswer {
                id: row.id.0,
                name: row.name,
                container: container.map_or_else(String::new, |found| found.name.clone()),
                size: row.size.0,
                created_ms: row.created_ms,
                volume_id: origin.volume.0,
                volume: names.volumes.get(&origin.volume).cloned(),
                snapshot_id: origin.snapshot.0,
                snapshot: names.snapshots.get(&origin.snapshot).cloned(),
                shared: usage.map(|usage| usage.shared),
                exclusive: usage.map(|usage| usage.exclusive),
            })
        };
        Ok(Answer::Clones(
            rows.into_iter().filter_map(describe).collect(),
        ))
    }

    /// Creates `spec` from `volume` as it is now.
    pub(super) async fn clone_now(
        self: &Rc<Self>,
        spec: VolumeSpec,
        volume: &str,
    ) -> Result<Answer> {
        match self.catalog.volume_named(&spec.name).await {
            Ok(_) => {
                let taken = format!("volume {} already exists", spec.name);
                return Err(OperationError::new(ErrorKind::Exists, taken));
            }
            Err(CatalogError::NotFound { .. }) => {}
            Err(error) => return Err(catalog_error(error)),
        }
        let container = match &spec.container {
            Some(name) => self.catalog.container_named(name).await,
            None => {
                let id = self.volume_id(volume).await?;
                let row = self.catalog.volume(id).await.map_err(catalog_error)?.row;
                self.catalog.container(row.container).await
            }
        };
        self.check_space(&container.map_err(catalog_error)?.row)?;
        let name = format!("clone-{:016x}", self.world.rng.next_u64());
        let snapshot = Operation::SnapshotCreate {
            volume: volume.to_owned(),
            name: name.clone(),
            labels: BTreeMap::from([(INTERNAL_LABEL.to_owned(), "clone".to_owned())]),
            group: None,
        };
        // Nobody is told of it, so the disks need not be before its clone is there.
        let Answer::Snapshot(taken) = Box::pin(self.at_owner(volume, &snapshot)).await? else {
            let reason = "the volume's owner answered something else to a snapshot; this is a bug";
            return Err(OperationError::failed(reason));
        };
        let id = SnapshotId(taken.id);
        let origin = self.catalog.snapshot(id).await.map_err(catalog_error)?.row;
        let created = self.create_volume_from(spec, Some(origin)).await;
        let host = self.clone();
        // What fails here the sweep does.
        self.spawn(async move { drop(host.delete_settled(id).await) });
        created
    }

    /// Deletes internal snapshots, and members of group snapshots that were given up.
    pub(crate) async fn sweep_internal_snapshots(self: &Rc<Self>) -> Result<()> {
        let rows = self.catalog.list::<SnapshotRow>().await;
        let now_ms = self.world.clock.unix_ms();
        let left_over = |row: &SnapshotRow| {
            row.labels.contains_key(INTERNAL_LABEL)
                && row.created_ms.saturating_add(ORPHAN_MS_MIN) < now_ms
        };
        for found in rows.map_err(catalog_error)? {
            let row = &found.row;
            if left_over(row) || self.is_stray_member(row).await? {
                self.delete_settled(found.row.id).await?;
            }
        }
        Ok(())
    }
}
