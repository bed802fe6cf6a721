//! Containers.

use super::{Result, catalog_error};
use crate::host::Host;
use crate::membership::{self, Part};
use api::{
    Answer, CompressionName, ContainerAnswer, ContainerChange, ContainerSpec, MinCopies,
    OperationError, SyncName,
};
use catalog::{
    CatalogError, Compression, ContainerRow, SpaceState, SyncPolicy, Versioned, VolumeRow,
};
use vocab::{ByteCount, ContainerId};

fn sync_of(name: SyncName) -> SyncPolicy {
    match name {
        SyncName::Flush => SyncPolicy::Flush,
        SyncName::Always => SyncPolicy::Always,
    }
}

fn compression_of(name: CompressionName) -> Compression {
    match name {
        CompressionName::Lz4 => Compression::Lz4,
        CompressionName::Off => Compression::Off,
    }
}

/// A container for people; the volumes are those of the cluster.
pub(super) fn describe<'a>(
    row: &ContainerRow,
    space: SpaceState,
    volumes: impl Iterator<Item = &'a VolumeRow>,
) -> ContainerAnswer {
    let (mut count, mut provisioned) = (0, 0);
    for volume in volumes.filter(|volume| volume.container == row.id) {
        count += 1;
        provisioned += volume.size.0;
    }
    ContainerAnswer {
        id: row.id.0,
        name: row.name.clone(),
        rf: row.replication_factor,
        min_copies: row.copies_min,
        strict: row.strict,
        sync: match row.sync {
            SyncPolicy::Flush => "flush".to_owned(),
            SyncPolicy::Always => "always".to_owned(),
        },
        compression: match row.compression {
            Compression::Lz4 => "lz4".to_owned(),
            Compression::Off => "off".to_owned(),
        },
        quota: row.quota.map(|quota| quota.0),
        volumes: count,
        provisioned,
        space: space.name().to_owned(),
        version: None,
    }
}

impl Host {
    pub(super) async fn create_container(&self, spec: ContainerSpec) -> Result<Answer> {
        let row = ContainerRow {
            id: ContainerId(0),
            name: spec.name.clone(),
            replication_factor: spec.rf,
            copies_min: spec.copies_min(),
            strict: spec.min_copies == Some(MinCopies::Strict),
            sync: sync_of(spec.sync),
            compression: compression_of(spec.compression),
            quota: spec.quota.filter(|&quota| quota > 0).map(ByteCount),
        };
        let row = self
            .catalog
            .create_container(row)
            .await
            .map_err(catalog_error)?;
        // Without enough stores the container waits for them; the upkeep plans its groups then.
        let planned = self.ensure_groups(row.replication_factor).await;
        if let Err(error) = planned {
            tracing::warn!(container = %row.name, %error, "no placement groups yet");
        }
        let seen = membership::refresh(self, &[Part::Groups, Part::Containers]).await;
        if let Err(error) = seen {
            tracing::warn!(%error, "the catalog could not be read again");
        }
        let space = self.space_state(row.replication_factor);
        Ok(Answer::Container(ContainerAnswer {
            version: self.catalog.version_if_still(&row).await,
            ..describe(&row, space, std::iter::empty())
        }))
    }

    pub(super) async fn list_containers(&self) -> Result<Answer> {
        let rows = self
            .catalog
            .list::<ContainerRow>()
            .await
            .map_err(catalog_error)?;
        let volumes = self
            .catalog
            .list::<VolumeRow>()
            .await
            .map_err(catalog_error)?;
        let answer = |found: &Versioned<ContainerRow>| {
            let space = self.space_state(found.row.replication_factor);
            ContainerAnswer {
                version: Some(self.catalog.version_of(found)),
                ..describe(&found.row, space, volumes.iter().map(|found| &found.row))
            }
        };
        let mut answers: Vec<ContainerAnswer> = rows.iter().map(answer).collect();
        answers.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Answer::Containers(answers))
    }

    pub(super) async fn show_container(&self, name: &str) -> Result<Answer> {
        let found = self.catalog.container_named(name).await;
        let found = found.map_err(catalog_error)?;
        let volumes = self.catalog.list::<VolumeRow>().await;
        let volumes = volumes.map_err(catalog_error)?;
        let space = self.space_state(found.row.replication_factor);
        Ok(Answer::Container(ContainerAnswer {
            version: Some(self.catalog.version_of(&found)),
            ..describe(&found.row, space, volumes.iter().map(|found| &found.row))
        }))
    }

    pub(super) async fn set_container(
        &self,
        name: &str,
        change: &ContainerChange,
    ) -> Result<Answer> {
        if change.rf.is_some_and(|rf| !(1..=3).contains(&rf)) {
            return Err(OperationError::bad_request(
                "the replication factor is 1, 2 or 3",
            ));
        }
        let apply = |row: &mut ContainerRow| {
            row.replication_factor = change.rf.unwrap_or(row.replication_factor);
            match change.min_copies {
                Some(MinCopies::Strict) => row.strict = true,
                Some(MinCopies::Count(count)) => (row.strict, row.copies_min) = (false, count),
                None => {}
            }
            if row.strict {
                row.copies_min = row.replication_factor;
            }
            row.sync = change.sync.map_or(row.sync, sync_of);
            row.compression = change.compression.map_or(row.compression, compression_of);
            match change.quota {
                Some(0) => row.quota = None,
                Some(quota) => row.quota = Some(ByteCount(quota)),
                None => {}
            }
        };
        let row = self
            .catalog
            .set_container(name, apply)
            .await
            .map_err(catalog_error)?;
        let _ = self.ensure_groups(row.replication_factor).await;
        let _ = membership::refresh(self, &[Part::Groups, Part::Containers]).await;
        let volumes = self
            .catalog
            .list::<VolumeRow>()
            .await
            .map_err(catalog_error)?;
        let volumes = volumes.iter().map(|found| &found.row);
        let space = self.space_state(row.replication_factor);
        Ok(Answer::Container(ContainerAnswer {
            version: self.catalog.version_if_still(&row).await,
            ..describe(&row, space, volumes)
        }))
    }

    pub(super) async fn delete_container(&self, name: &str) -> Result<Answer> {
        // A volume created or deleted meanwhile makes one round fail; the next one sees it.
        for _ in 0..8 {
            match self.catalog.delete_container(name).await {
                Err(CatalogError::Contended) => {}
                Err(error) => return Err(catalog_error(error)),
                Ok(()) => return Ok(Answer::Done),
            }
        }
        Err(catalog_error(CatalogError::Contended))
    }
}
